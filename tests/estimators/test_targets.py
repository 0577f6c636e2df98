"""Targets: what no head could fit is told before anything is computed."""

from __future__ import annotations

import warnings

import anndata
import numpy as np
import pandas as pd
import polars
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse

from enformer_features.estimators.targets import check_targets
from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    InputTypeError,
    TargetWarning,
)

X = ["chr1:1-5", "chr1:2-5", "chr1:3-5"]
PAIRS = pd.DataFrame([[1, 2.0], [3, 4.0], [5, 6.0]], columns=["a", "a"])


@pytest.mark.parametrize(
    "y",
    [
        [1, 2.5, 3],
        np.arange(6).reshape(3, 2),
        np.array([1, 2.5, 3], object),
        np.arange(3, dtype=np.float16),
        pd.Series(pd.array([1, 2, 3], "Int64")),
        pd.DataFrame({"a": [1, 2, 3], "b": [True, False, True]}),
        PAIRS,
        [True, False, True],
        ["on", "off", "on"],
        pd.Series(["on", "off", "on"], dtype="category"),
        polars.Series([1, 2, 3]),
        torch.arange(3),
    ],
)
def test_numbers_and_labels_pass_without_a_word(y):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(X, y, 3)


@pytest.mark.parametrize(
    ("y", "kind", "message"),
    [
        (3, InputTypeError, r"y is a int of shape \(\)"),
        ("abc", InputTypeError, r"y is a str of shape \(\)"),
        ([[1], [2, 3], [4]], InputTypeError, "y is a list that cannot become a numpy"),
        (np.zeros((3, 2, 2)), InputTypeError, r"shape \(3, 2, 2\)"),
        (sparse.csr_matrix(np.eye(3)), InputTypeError, "y is a csr_matrix"),
        (torch.zeros(3, requires_grad=True), InputTypeError, "y is a Tensor that"),
        (np.array([1j, 2, 3]), InputTypeError, "dtype complex128; expected numbers"),
        (np.array([b"a", b"b", b"c"]), InputTypeError, "expected numbers, or labels"),
        (
            pd.Series(pd.date_range("2020", periods=3), list("abc"), name="day"),
            InputTypeError,
            "y, target 'day', holds Timestamp, 2020-01-01 00:00:00 in row a; expected",
        ),
        (np.zeros((3, 0)), InputError, r"no targets: its shape is \(3, 0\)"),
        ([], InputError, "y has 0 rows, X has 3"),
        ([1, "NA", 3], InputError, "holds numbers and text: 'NA' in row 1; make it"),
        (
            pd.DataFrame({"rna": [1, 2, 3], "gene": ["A", "B", "C"]}),
            InputError,
            r"text beside those of numbers: 'gene'; leave .*select_dtypes\('number'\)",
        ),
        (
            pd.DataFrame({"a": pd.array([1, None, 3], "Int64"), "b": [1, np.inf, 2]}),
            InputError,
            "infinite values: row 1, target 'b'; a log of 0",
        ),
        (np.array([1, -np.inf, 3], object), InputError, "infinite values: row 1; a"),
        (PAIRS.replace(4.0, np.inf), InputError, "infinite values: row 1, target 'a';"),
        (
            np.ma.masked_array([1.0, 2, 3], mask=[0, 1, 0]),
            InputError,
            "y is a masked array, of which heads do not see the mask; fill in NaN",
        ),
    ],
)
def test_what_no_head_could_fit_is_refused(y, kind, message):
    with pytest.raises(kind, match=message):
        check_targets(X, y, 3)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (
            pd.Series([1, None, 3], list("abc")),
            r"in 1 of 3 rows \(b\); ridge_head and Gr",
        ),
        (np.array([1, None, 3], object), r"missing values in 1 of 3 rows \(1\)"),
        (pd.Series(pd.array([True, None, False], "boolean")), r"1 of 3 rows \(1\)"),
        ([np.nan] * 3, r"missing values in 3 of 3 rows"),
        (["on"] * 3, "constant targets, nothing can be learnt from them: 0"),
        (PAIRS.assign(b=True), "constant targets.*: b"),
        (["1", "2", "3.5"], r"numbers written as text.*: 0; y.astype\(float\)"),
    ],
)
def test_what_most_heads_refuse_or_learn_nothing_from_is_warned_about(y, message):
    with pytest.warns(TargetWarning, match=message):
        check_targets(X, y, 3)


LABELLED = pd.DataFrame({"chrom": "chr1", "tss": [1, 2, 3]}, index=list("abc"))


@pytest.mark.parametrize(
    "labelled",
    [LABELLED, LABELLED["tss"], anndata.AnnData(np.zeros((3, 1)), obs=LABELLED)],
)
def test_the_same_labels_in_another_order_are_refused(labelled):
    y = pd.Series([1, 2, 3], index=["a", "c", "b"])
    expected = r"row 1 is 'b' in X and 'c' in y; use y.loc\[X.index\], or align\(X, y\)"
    with pytest.raises(InputError, match=expected):
        check_targets(labelled, y, 3)
    check_targets(labelled, y.loc[list("abc")], 3)


def test_labels_that_differ_in_their_type_alone_are_in_the_same_order():
    numbered = LABELLED.set_axis([0, 1, 2])
    check_targets(numbered, pd.Series([1, 2, 3], index=["0", "1", "2"]), 3)


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=3),
    st.dates(),
)


@settings(max_examples=300, deadline=None)
@given(
    st.one_of(
        cells,
        st.lists(cells, max_size=4),
        st.lists(st.lists(cells, max_size=3), max_size=4),
        st.lists(st.tuples(cells, cells), max_size=4).map(
            lambda rows: pd.DataFrame(rows, columns=["a", "a"], dtype=object)
        ),
    )
)
@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.TargetWarning")
def test_whatever_y_is_it_passes_or_there_is_an_error_of_ours(y):
    try:
        check_targets(X, y, 3)
    except EnformerFeaturesError:
        return
    assert len(y) == 3


def test_rows_that_are_called_otherwise_are_warned_about():
    genes = pd.DataFrame({"chrom": "1", "tss": [1, 2]}, index=["g1", "g2"])
    with pytest.warns(TargetWarning, match="row 1 is 'g2' in X and 'g9' in y"):
        check_targets(genes, pd.Series([1.0, 2.0], index=["g1", "g9"]), 2)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_targets(genes, pd.Series([1.0, 2.0]), 2)
