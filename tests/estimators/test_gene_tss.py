"""One row per gene out of the rows of its TSSs."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import logsumexp
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from enformer_features.estimators.gene_tss import GeneTSSAggregator, aggregate
from enformer_features.exceptions import InputError, InputTypeError
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

TSS = pd.DataFrame(
    {
        "gene_id": ["G2", "G1", "G3", "G1", "G2", "G1"],
        "chrom": "a",
        "tss": [900, 1000, 1100, 1200, 1300, 1400],
        "strand": list("+-+-++"),
        "peak": [1.0, 2, 0, 0, 3, 6],
    }
)
GENES = pd.DataFrame(index=["G1", "G2"])


def columns(table):
    return np.stack([table["tss"], -table["tss"]], axis=1).astype(np.float32)


def aggregator(**parameters):
    return GeneTSSAggregator(FunctionTransformer(columns), TSS, **parameters)


@pytest.mark.parametrize(
    ("parameters", "expected"),
    [
        ({}, [[1200, -1200], [1100, -1100]]),
        ({"how": "max"}, [[1400, -1000], [1300, -900]]),
        ({"weights": "peak"}, [[1300, -1300], [1200, -1200]]),
    ],
)
def test_rows_by_hand(parameters, expected):
    found = aggregator(**parameters).fit_transform(GENES)
    assert found.dtype == np.float32
    assert_allclose(found, expected)


def test_the_log_of_sums_is_that_of_scipy_and_does_not_overflow():
    features = np.array([[1000.0, 1.0], [1001.0, -2.0], [5.0, 3.0]])
    found = aggregate(features, np.array([1, 1, 0]), how="logsumexp")
    assert_allclose(found, [features[2], logsumexp(features[:2], axis=0)])


def test_rows_are_those_of_the_genes_in_their_order():
    model = aggregator().fit(GENES)
    asked = ["G3", "G1", "G3"]
    found = model.transform(asked)
    assert_array_equal(found[0], found[2])
    assert_array_equal(found[:2], [[1100, -1100], [1200, -1200]])
    assert_array_equal(model.transform(pd.Series(asked)), found)
    one_each = TSS.drop_duplicates("gene_id")
    alone = GeneTSSAggregator(FunctionTransformer(columns), one_each)
    assert_array_equal(alone.fit_transform(one_each["gene_id"]), columns(one_each))


def test_only_the_tss_that_are_wanted_are_embedded():
    seen = []

    def remember(table):
        seen.append(list(table["tss"]))
        return columns(table)

    GeneTSSAggregator(FunctionTransformer(remember), TSS).fit_transform(["G2"])
    assert seen == [[900, 1300]]


@pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning"
)
def test_in_a_pipeline_rows_of_folds_are_genes(tmp_path):
    genome = write_fasta(tmp_path / "genome.fa", a=random_letters(3 * LENGTH))
    step = GeneTSSAggregator(embedder(genome=genome), TSS)
    genes = pd.DataFrame(index=["G1", "G2", "G3"])
    model = make_pipeline(step, Ridge())
    predicted = cross_val_predict(model, genes, [1.0, 2.0, 3.0], cv=KFold(3))
    assert predicted.shape == (3,)
    table = step.set_output(transform="pandas").fit_transform(genes)
    assert list(table.index) == list(genes.index)
    assert table.columns[0] == "enformer_0000"


def test_genes_and_columns_that_are_absent_are_refused():
    with pytest.raises(
        InputError, match="without a TSS in column 'gene_id' of tss: G9"
    ):
        aggregator().fit(["G1", "G9"])
    with pytest.raises(InputError, match="gene='gene' is no column of tss; it has"):
        aggregator(gene="gene").fit(GENES)
    with pytest.raises(InputError, match="weights='cage' is no column of tss"):
        aggregator(weights="cage").fit(GENES)
    with pytest.raises(InputTypeError, match="its index is numbers"):
        aggregator().fit(GENES.reset_index(drop=True))
    with pytest.raises(InputError, match="X has 0 genes"):
        aggregator().fit([])
    with pytest.raises(InputTypeError, match="tss is a list, expected a DataFrame"):
        GeneTSSAggregator(FunctionTransformer(columns), []).fit(GENES)


def test_weights_that_are_none_are_refused():
    with pytest.raises(InputError, match="are all 0 for genes G3"):
        aggregator(weights="peak").fit(["G3"])
    with pytest.raises(InputError, match="no weights: row 0"):
        GeneTSSAggregator(
            FunctionTransformer(columns), TSS.replace({"peak": {1: -1}}), weights="peak"
        ).fit(GENES)
    with pytest.raises(InputError, match="needs how='mean'; it is 'max'"):
        aggregator(how="max", weights="peak").fit(GENES)
    with pytest.raises(InputError, match="how='median' is not one of"):
        aggregator(how="median").fit(GENES)
