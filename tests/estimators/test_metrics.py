"""Scores with their axis: what counts, what is left out, and what is refused."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import stats
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV

from enformer_features.estimators.metrics import (
    median_score,
    median_scorer,
    score_across_genes,
    score_across_tissues,
    summary,
)
from enformer_features.exceptions import InputError, TargetWarning

TISSUES = ["liver", "brain", "spleen"]


def measured(n_genes: int = 31, seed: int = 0) -> tuple[pd.DataFrame, pd.DataFrame]:
    random = np.random.default_rng(seed)
    genes = [f"gene_{i}" for i in range(n_genes)]
    observed = pd.DataFrame(random.integers(0, 5, (n_genes, 3)) * 1.0, genes, TISSUES)
    return observed, observed + random.normal(size=observed.shape)


# Across genes


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=30, deadline=None)
def test_scores_are_those_of_scipy_without_the_missing_values(seed: int) -> None:
    observed, predicted = measured(seed=seed)
    observed = observed.where(np.random.default_rng(seed).random((31, 3)) > 0.3)
    scores = score_across_genes(observed, predicted)
    for tissue in TISSUES:
        known = observed[tissue].notna()
        pair = observed.loc[known, tissue], predicted.loc[known, tissue]
        close = {"rtol": 1e-12, "atol": 1e-12}
        assert scores.loc[tissue, "n"] == known.sum()
        found = scores.loc[tissue, ["pearson", "spearman"]].to_numpy(float)
        expected = stats.pearsonr(*pair)[0], stats.spearmanr(*pair)[0]
        assert_allclose(found, expected, **close)


def test_every_row_says_its_axis() -> None:
    observed, predicted = measured()
    assert set(score_across_genes(observed, predicted)["axis"]) == {"across genes"}
    scores = score_across_genes(observed, predicted, rows="regions")
    assert set(scores["axis"]) == {"across regions"}
    assert set(score_across_tissues(observed, predicted)["axis"]) == {"across tissues"}
    assert set(summary(observed, predicted)["axis"]) == {"across genes"}


def test_constants_and_few_values_are_told_and_not_scored() -> None:
    observed = [[1, 1, 1.0, 1.0], [1, 2, 2.0, 2.0], [1, 3, np.nan, 4.0]]
    predicted = [[1, 7, 1, 1], [2, 7, 2, 2], [3, 7, 3, 3]]
    scores = score_across_genes(observed, predicted)
    expected = ["constant", "constant prediction", "fewer than 3 values", ""]
    assert scores["reason"].tolist() == expected
    assert scores["spearman"].isna().tolist() == [True, True, True, False]
    assert scores["r2"].isna().tolist() == [True, False, True, False]


def test_intervals_hold_the_score_and_depend_on_the_seed_alone() -> None:
    observed, predicted = measured()
    groups = np.arange(31) // 4
    scores = score_across_genes(observed, predicted, groups, n_boot=200)
    for metric in ("pearson", "spearman", "r2"):
        assert (scores[f"{metric}_low"] < scores[metric]).all()
        assert (scores[metric] < scores[f"{metric}_high"]).all()
    again = score_across_genes(observed, predicted, groups, n_boot=200)
    pd.testing.assert_frame_equal(scores, again)
    other = score_across_genes(observed, predicted, groups, n_boot=200, seed=1)
    assert (scores["pearson_low"] != other["pearson_low"]).all()


def test_groups_that_agree_within_make_intervals_wider_than_rows_do() -> None:
    """Every gene four times: as many values, and no more that is known."""
    observed, predicted = (pd.concat([part] * 4) for part in measured(20))
    names = observed.index
    apart = score_across_genes(observed, predicted, np.arange(80), n_boot=200)
    together = score_across_genes(observed, predicted, names, n_boot=200)
    width = together["pearson_high"] - together["pearson_low"]
    assert (width > 1.5 * (apart["pearson_high"] - apart["pearson_low"])).all()


# Across tissues


def test_across_tissues_is_across_genes_of_the_transposed() -> None:
    observed, predicted = measured()
    found = score_across_tissues(observed, predicted)
    expected = score_across_genes(observed.T, predicted.T, rows="tissues")
    pd.testing.assert_frame_equal(found, expected)


# Summaries


def test_a_summary_is_of_the_targets_that_vary_and_lists_the_others() -> None:
    observed, predicted = measured()
    observed["brain"] = 0.0
    with pytest.warns(TargetWarning, match="not scored across genes: brain"):
        found = summary(observed, predicted).loc["spearman"]
    scored = score_across_genes(observed, predicted)["spearman"].dropna()
    assert found["n_scored"] == 2
    assert found["n_constant"] == found["n_unscored"] == 1
    quantiles = found[["q25", "median", "q75"]].to_numpy(float)
    assert_allclose(quantiles, scored.quantile([0.25, 0.5, 0.75]))


@pytest.mark.parametrize("across", ["genes", "tissues"])
def test_the_interval_of_a_median_is_of_medians_of_drawn_genes(across: str) -> None:
    predicted, observed = measured(12)
    groups = np.arange(12) // 3
    found = summary(observed, predicted, groups, across=across, n_boot=60, seed=3)
    random = np.random.default_rng(3)
    medians = []
    for drawn in random.multinomial(4, [0.25] * 4, 60):
        rows = np.repeat(np.arange(12), drawn[groups])
        score = score_across_genes if across == "genes" else score_across_tissues
        scores = score(observed.iloc[rows], predicted.iloc[rows])
        medians.append(scores["pearson"].median())
    expected = np.nanquantile(medians, [0.05, 0.95])
    assert_allclose(found.loc["pearson", ["low", "high"]].to_numpy(float), expected)


def test_a_gain_over_a_baseline_is_paired() -> None:
    observed, predicted = measured()
    groups = np.arange(31) // 4
    none = summary(observed, predicted, groups, baseline=predicted, n_boot=50)
    assert (none[["median", "low", "high"]] == 0).all(axis=None)
    worse = predicted + np.random.default_rng(1).normal(0, 5, predicted.shape)
    gain = summary(observed, predicted, groups, baseline=worse, n_boot=200)
    scores = [score_across_genes(observed, p)["spearman"] for p in (predicted, worse)]
    expected = (scores[0] - scores[1]).median()
    assert gain.loc["spearman", "median"] == pytest.approx(expected)
    assert gain.loc["spearman", "low"] > 0


def test_a_median_of_nothing_is_missing() -> None:
    assert np.isnan(median_score([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]))


# scikit-learn


@pytest.mark.parametrize("across", ["genes", "tissues"])
def test_the_scorer_chooses_in_a_grid_search_and_says_what_it_is(across: str) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(40, 30))
    y = X[:, :3] + 0.1 * random.normal(size=(40, 3))
    scorer = median_scorer("spearman", across)
    search = GridSearchCV(Ridge(), {"alpha": [1e-2, 1e6]}, scoring=scorer, cv=2)
    assert search.fit(X, y).best_params_ == {"alpha": 1e-2}
    assert f"across={across}" in repr(scorer)
    assert "metric=spearman" in repr(scorer)
    again = pickle.loads(pickle.dumps(scorer))
    assert again(search, X, y) == search.score(X, y)


# Refusals


def test_other_shapes_and_other_labels_are_refused() -> None:
    with pytest.raises(InputError, match=r"observed has shape \(3, 1\), predicted"):
        score_across_genes([1, 2, 3], [1, 2])
    observed, predicted = measured()
    with pytest.raises(InputError, match="different rows: place 0 is 'gene_0' in"):
        score_across_genes(observed, predicted.iloc[::-1])
    with pytest.raises(InputError, match="different targets: place 0 is 'liver' in"):
        score_across_tissues(observed, predicted[TISSUES[::-1]])


def test_values_that_are_not_finite_are_refused() -> None:
    with pytest.raises(InputError, match=r"not finite \(rows 2\)"):
        score_across_genes([1, 2, 3], [1, 2, np.nan])
    with pytest.raises(InputError, match=r"infinite values \(rows 1\)"):
        summary([1, -np.inf, 3], [1, 2, 3])


@pytest.mark.parametrize(
    ("groups", "match"),
    [
        (["a", "b"], "groups has 2 values for 3 rows"),
        (["a", None, "b"], "groups is missing in rows 1"),
        (["chr8"] * 3, "single group 'chr8'.*at least two"),
    ],
)
def test_groups_that_give_no_draws_are_refused(groups: list[str], match: str) -> None:
    with pytest.raises(InputError, match=match):
        score_across_genes([1, 2, 3], [1, 2, 3], groups)


def test_wrong_words_and_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'tissues'"):
        summary([1, 2, 3], [1, 2, 3], across="tissue")
    with pytest.raises(InputError, match="did you mean 'spearman'"):
        median_scorer("spearmann")
    with pytest.raises(InputError, match="n_boot=0 must be a positive whole number"):
        score_across_genes([1, 2, 3], [1, 2, 3], [0, 0, 1], n_boot=0)
