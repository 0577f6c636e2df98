"""Correlations in the data and in draws, against SciPy and scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats
from sklearn.metrics import r2_score

from enformer_features.estimators.correlations import (
    METRICS,
    draw_groups,
    interval,
    pearson,
    r2,
    spearman,
)


@st.composite
def pairs(draw: st.DrawFn) -> tuple[np.ndarray, np.ndarray]:
    """Two vectors with or without ties, at any offset, neither constant."""
    n = draw(st.integers(3, 37))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    observed = random.integers(0, draw(st.integers(2, 50)), n).astype(float)
    predicted = observed * draw(st.integers(-3, 3)) + random.normal(size=n)
    observed[:2] = 0, 1
    return observed + draw(st.sampled_from([0.0, 1e4])), predicted


@given(pairs())
@settings(max_examples=100, deadline=None)
def test_of_the_data_they_are_those_of_scipy_and_scikit_learn(
    pair: tuple[np.ndarray, np.ndarray],
) -> None:
    observed, predicted = pair
    once = np.ones((1, len(observed)))
    close = {"rtol": 1e-12, "atol": 1e-12}
    expected = stats.pearsonr(observed, predicted)[0]
    assert_allclose(pearson(observed, predicted, once), [expected], **close)
    expected = stats.spearmanr(observed, predicted)[0]
    assert_allclose(spearman(observed, predicted, once), [expected], **close)
    expected = r2_score(observed, predicted)
    assert_allclose(r2(observed, predicted, once), [expected], rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("metric", METRICS)
def test_of_a_draw_they_are_those_of_the_repeated_values(metric: str) -> None:
    random = np.random.default_rng(7)
    observed = random.integers(0, 5, 13).astype(float)
    predicted = random.normal(size=13).round(1)
    drawn = random.integers(0, 13, (5, 13))
    weights = np.stack([np.bincount(row, minlength=13) for row in drawn]).astype(float)
    found = METRICS[metric](observed, predicted, weights)
    once = np.ones((1, 13))
    expected = [METRICS[metric](observed[d], predicted[d], once)[0] for d in drawn]
    assert_allclose(found, expected)


@pytest.mark.parametrize("metric", METRICS)
def test_a_draw_without_variation_has_no_score(metric: str) -> None:
    weights = np.array([[1.0, 1, 1, 1], [3, 0, 0, 1]])
    values = np.array([0.1, 0.2, 0.3, 0.1])
    found = METRICS[metric](values, np.arange(4.0), weights)
    assert_array_equal(np.isnan(found), [False, True])


def test_every_draw_has_as_many_groups_and_the_first_has_each_once() -> None:
    draws = draw_groups(5, n_boot=20)
    assert draws.shape == (21, 5)
    assert (draws[0] == 1).all()
    assert (draws.sum(axis=1) == 5).all()
    assert (draws[1:] != 1).any()
    assert_array_equal(draws, draw_groups(5, n_boot=20))


def test_an_interval_leaves_draws_without_a_score_out() -> None:
    assert interval(np.array([7.0, *np.arange(101.0), np.nan])) == (5.0, 95.0)
    assert np.isnan(interval(np.array([7.0, np.nan]))).all()


def test_there_is_no_interval_when_most_draws_have_no_score() -> None:
    few = np.array([7.0, 1.0, 1.0, np.nan, np.nan, np.nan])
    assert np.isnan(interval(few)).all()
    assert interval(few[:5]) == (1.0, 1.0)


@pytest.mark.parametrize("score", [pearson, spearman])
def test_what_is_constant_has_no_score_in_any_draw(score):
    """Also where the mean of equal values is not that value, to the last bit."""
    weights = draw_groups(53, 200)
    varied = np.random.default_rng(0).normal(size=53)
    assert np.isnan(score(np.full(53, 0.1234567), varied, weights)).all()
