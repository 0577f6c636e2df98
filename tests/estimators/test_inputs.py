"""What X and y may be: our errors or one row each, and never another exception."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from enformer_features.estimators.inputs import resolve_samples
from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    InputTypeError,
)

LENGTH = 128

# --- X

cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.binary(max_size=5),
    st.text(max_size=9),
    st.from_regex(r"chr[12]:[0-9]{1,20}-[0-9]{1,20}", fullmatch=True),
    st.text("ACGTNacgtnR", min_size=LENGTH - 1, max_size=LENGTH + 1),
    st.lists(st.integers(0, 5), max_size=3),
)
columns = st.sampled_from(["chrom", "start", "end", "tss", "strand", "name", "x", 7])
tables = st.lists(columns, max_size=5).flatmap(
    lambda names: st.lists(
        st.tuples(*[cells for _ in names]), min_size=0, max_size=3
    ).map(lambda rows: pd.DataFrame(rows, columns=names, dtype=object))
)
arrays = hnp.arrays(
    st.one_of(hnp.scalar_dtypes(), hnp.array_dtypes(max_size=2)),
    hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4),
)
codes = hnp.arrays(
    st.sampled_from(["u1", "i1", "i8", "f4", "?"]),
    st.sampled_from([(2, LENGTH), (1, LENGTH, 4), (4, 4, LENGTH), (0, LENGTH)]),
    elements=st.integers(0, 1),
)
lists = st.lists(cells, max_size=4)
anything = st.one_of(
    cells,
    lists,
    tables,
    arrays,
    codes,
    lists.map(tuple),
    lists.map(lambda items: pd.Series(items, dtype=object)),
    lists.map(lambda items: pd.Index(items, dtype=object)),
    st.dictionaries(st.text(max_size=3), cells, max_size=2),
    codes.map(torch.from_numpy),
)


@settings(max_examples=400, deadline=None)
@given(anything, st.sampled_from(["error", "pad", "crop"]))
def test_whatever_x_is_there_is_one_row_each_or_an_error_of_ours(X, resize):
    try:
        samples = resolve_samples(X, sequence_length=LENGTH, resize=resize)
    except EnformerFeaturesError:
        return
    assert len(samples) == len(X)
    assert len(samples.names) == len(X)


@pytest.mark.parametrize(
    ("X", "kind", "message"),
    [
        (torch.zeros((2, LENGTH, 4), requires_grad=True), InputTypeError, "detached"),
        (torch.zeros((2, LENGTH), device="meta"), InputTypeError, "torch.Tensor that"),
        (torch.zeros((2, LENGTH)).to_sparse(), InputTypeError, "and dense, as uint8"),
        (
            np.ma.masked_array(np.zeros((1, LENGTH), int), mask=True),
            InputError,
            "masked values; fill them with N",
        ),
        (np.array("chr1:1-5"), InputTypeError, "a single value, chr1:1-5; wrap it"),
        (np.array(3), InputTypeError, "a single value, 3; wrap it in a list"),
        (np.array([]), InputError, "X has 0 rows"),
        (np.zeros(0, "U7"), InputError, "X has 0 rows"),
        (np.zeros((0, LENGTH, 4)), InputError, "X has 0 rows"),
        (pd.Series([], dtype=object), InputError, "X has 0 rows"),
        (np.zeros((2, 2), [("chrom", "U4")]), InputError, r"of shape \(2, 2\) and"),
        (np.zeros(2, [("start", "i8", 3)]), InputError, "one value per field"),
        (np.zeros((1, 2, LENGTH, 4)), InputError, r"array of shape \(1, 2, 128, 4\)"),
        (np.zeros((4, 4, LENGTH)), InputError, r"channels last: pass array.swapaxes"),
        (np.full((1, LENGTH), -1, np.int8), InputError, "0 to 4 .* found -1"),
        (["chr1:1-5", pd.NA], InputTypeError, "item 1 is NAType"),
        (pd.MultiIndex.from_tuples([("chr1", 1)]), InputTypeError, "item 0 is tuple"),
    ],
)
def test_what_resembles_a_kind_of_x_says_what_is_wrong(X, kind, message):
    with pytest.raises(kind, match=message):
        resolve_samples(X, sequence_length=LENGTH)


def test_tensors_are_arrays_like_those_of_numpy():
    codes = np.arange(2 * LENGTH).reshape(2, LENGTH) % 5
    samples = resolve_samples(torch.from_numpy(codes), sequence_length=LENGTH)
    np.testing.assert_array_equal(samples.sequences, codes)
