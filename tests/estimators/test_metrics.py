import numpy as np
import pandas as pd
import pytest
from scipy import stats

from enformer_features.estimators.metrics import correlations_across_rows
from enformer_features.exceptions import InputError


def test_correlations_are_those_of_scipy_with_ties():
    rng = np.random.default_rng(0)
    observed = pd.DataFrame(rng.integers(0, 4, (31, 3)), columns=list("abc"))
    predicted = rng.normal(size=(31, 3))
    scores = correlations_across_rows(observed, predicted)
    for i, name in enumerate("abc"):
        x, y = observed[name], predicted[:, i]
        assert scores.loc[name, "pearson"] == pytest.approx(stats.pearsonr(x, y)[0])
        assert scores.loc[name, "spearman"] == pytest.approx(stats.spearmanr(x, y)[0])


def test_missing_values_are_left_out_target_by_target():
    observed = pd.DataFrame({"a": [1.0, 2, 3, np.nan], "b": [4.0, 3, 2, 1]})
    scores = correlations_across_rows(observed, [[1, 1], [2, 2], [3, 3], [0, 4]])
    assert scores.n.tolist() == [3, 4]
    assert scores.spearman.tolist() == pytest.approx([1, -1])


def test_constant_or_few_rows_have_no_correlation():
    scores = correlations_across_rows([[1, 1], [1, 2]], [[1, 1], [2, 2]])
    assert scores.spearman.isna().all()
    assert correlations_across_rows([1, 1, 1], [1, 2, 3]).pearson.isna().all()


def test_other_shapes_are_refused():
    with pytest.raises(InputError, match=r"observed has shape \(3, 1\), predicted"):
        correlations_across_rows([1, 2, 3], [1, 2])


def test_predictions_that_are_not_finite_are_refused():
    with pytest.raises(InputError, match="not finite"):
        correlations_across_rows([1, 2, 3], [1, 2, np.nan])
