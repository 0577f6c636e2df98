"""Correlations of vectors in the data and in draws of the data: functions of arrays.

A draw is a vector of weights, how often each value occurs. The first row of weights is
all ones, the data themselves; so every score below is an array of ``1 + n_boot``, and
two scores of the same draws are paired.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

LOW, HIGH = 0.05, 0.95  # quantiles of the draws that bound an interval
MOST = 0.5  # share of draws that may lack a score
_ROUNDING = 1e-12  # values that differ by less than this share of them are one


def draw_groups(n_groups: int, n_boot: int, seed: int = 0) -> Floats:
    """Draw as many groups as there are, with replacement, again and again.

    Parameters
    ----------
    n_groups : int
    n_boot : int
    seed : int, default=0

    Returns
    -------
    ndarray of float64, shape (1 + n_boot, n_groups)
        How often each occurs; once each in the first row.

    Examples
    --------
    >>> draw_groups(4, n_boot=1)
    array([[1., 1., 1., 1.],
           [1., 0., 0., 3.]])
    """
    random = np.random.default_rng(seed)
    drawn = random.multinomial(n_groups, np.full(n_groups, 1 / n_groups), n_boot)
    return np.vstack([np.ones(n_groups), drawn])


def interval(scores: Floats) -> tuple[float, float]:
    """Return the 5th and 95th percentile of the draws.

    Parameters
    ----------
    scores : ndarray, shape (1 + n_boot,)
        Of the data, then of the draws; draws that have no score are NaN.

    Returns
    -------
    low, high : float
        NaN when fewer than half of the draws have a score.

    Examples
    --------
    >>> interval(np.array([7.0, *np.arange(101.0)]))
    (5.0, 95.0)
    """
    if np.isnan(scores[1:]).mean() > MOST:
        return np.nan, np.nan
    low, high = np.nanquantile(scores[1:], (LOW, HIGH))
    return float(low), float(high)


def pearson(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Correlate two vectors in every draw.

    Parameters
    ----------
    a, b : ndarray, shape (n,) or (n_draws, n)
        Finite.
    weights : ndarray, shape (n_draws, n)
        How often each value occurs.

    Returns
    -------
    ndarray of float64, shape (n_draws,)
        NaN where one of them does not vary.

    Examples
    --------
    >>> once = np.ones((1, 3))
    >>> pearson(np.array([1.0, 2, 3]), np.array([1.0, 2, 4]), once).round(3)
    array([0.982])
    """
    varies = _varies(a, weights) & _varies(b, weights)
    share = weights / weights.sum(axis=1, keepdims=True)
    a = a - (share * a).sum(axis=1, keepdims=True)
    b = b - (share * b).sum(axis=1, keepdims=True)
    of_a, of_b = (share * a * a).sum(axis=1), (share * b * b).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = (share * a * b).sum(axis=1) / np.sqrt(of_a) / np.sqrt(of_b)
    return np.where(varies, np.clip(r, -1.0, 1.0), np.nan)


def spearman(a: Floats, b: Floats, weights: Floats) -> Floats:
    """Correlate the ranks of two vectors in every draw; ties share their mean rank.

    Parameters
    ----------
    a, b : ndarray, shape (n,)
        Finite.
    weights : ndarray, shape (n_draws, n)
        How often each value occurs.

    Returns
    -------
    ndarray of float64, shape (n_draws,)
        NaN where one of them does not vary.

    Examples
    --------
    >>> weights = np.array([[1.0, 1, 1, 1], [2, 1, 1, 0]])
    >>> spearman(np.array([1.0, 2, 3, 4]), np.array([1.0, 2, 4, 3]), weights)
    array([0.8, 1. ])
    """
    return pearson(_ranks(a, weights), _ranks(b, weights), weights)


def r2(observed: Floats, predicted: Floats, weights: Floats) -> Floats:
    """Return the share of the variance that is explained, in every draw.

    Parameters
    ----------
    observed, predicted : ndarray, shape (n,)
        Finite.
    weights : ndarray, shape (n_draws, n)
        How often each value occurs.

    Returns
    -------
    ndarray of float64, shape (n_draws,)
        NaN where the measurements do not vary.

    Examples
    --------
    >>> once = np.ones((1, 3))
    >>> r2(np.array([1.0, 2, 3]), np.array([1.0, 2, 2]), once)
    array([0.5])
    """
    share = weights / weights.sum(axis=1, keepdims=True)
    around = observed - (share * observed).sum(axis=1, keepdims=True)
    variance = (share * around * around).sum(axis=1)
    error = (share * np.square(observed - predicted)).sum(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        explained: Floats = 1 - error / variance
    return np.where(_varies(observed, weights), explained, np.nan)


METRICS: dict[str, Callable[[Floats, Floats, Floats], Floats]] = {
    "pearson": pearson,
    "spearman": spearman,
    "r2": r2,
}


def _varies(values: Floats, weights: Floats) -> npt.NDArray[np.bool_]:
    """Tell in which draws there are values that differ by more than rounding."""
    drawn = weights > 0
    high = np.where(drawn, values, -np.inf).max(axis=1)
    low = np.where(drawn, values, np.inf).min(axis=1)
    varies: npt.NDArray[np.bool_] = high - low > _ROUNDING * np.abs([high, low]).max(0)
    return varies


def _ranks(values: Floats, weights: Floats) -> Floats:
    """Return mid-ranks among values that occur so often: (n_draws, n)."""
    _, codes = np.unique(values, return_inverse=True)
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    of_value = np.add.reduceat(weights[:, order], first, axis=1)  # (draws, values)
    middle = np.cumsum(of_value, axis=1) - of_value / 2
    ranks: Floats = middle[:, codes]
    return ranks
