"""Ridge regression with held-out groups, correlations, and their uncertainty.

Uncertainty comes from drawing whole groups (windows, regions) again, since what lies
side by side is alike: ``draw_groups`` of the package. Every score below is an array of
``1 + rounds``, of the data and of its draws; two scores of one draw are paired, and
:func:`estimate` reads them.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from sklearn.model_selection import BaseCrossValidator, LeaveOneGroupOut

from enformer_features.estimators.correlations import interval, spearman

Floats = npt.NDArray[np.float64]
Groups = npt.NDArray[np.int_]

ALPHAS = np.logspace(0, 6, 13)


@dataclass(frozen=True)
class Estimate:
    """A figure and the 5th and 95th percentile of its draws."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def estimate(scores: Floats) -> Estimate:
    """Return the score of the data, and between what its draws lie.

    Parameters
    ----------
    scores : ndarray, shape (1 + rounds,)
        Of the data, then of the draws; draws that have no score are NaN.
    """
    return Estimate(float(scores[0]), *interval(scores))


# Correlations


def pearson_across_bins(observed: Floats, predicted: Floats, draws: Floats) -> Floats:
    """Correlate every track with its prediction, over all bins of all windows.

    Parameters
    ----------
    observed, predicted : ndarray, shape (n_windows, n_bins, n_tracks)
        Finite values.
    draws : ndarray, shape (1 + rounds, n_windows)

    Returns
    -------
    ndarray of float64, shape (1 + rounds, n_tracks)
        NaN where a track or its prediction is constant.
    """
    a = observed - observed.mean(axis=(0, 1))  # near zero: sums of squares stay exact
    b = predicted - predicted.mean(axis=(0, 1))
    n = draws.sum(axis=1, keepdims=True) * a.shape[1]
    sums = (a, b, a * a, b * b, a * b)
    a1, b1, aa, bb, ab = (draws @ part.sum(axis=1) / n for part in sums)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: Floats = (ab - a1 * b1) / np.sqrt((aa - a1**2) * (bb - b1**2))
    return r


def spearman_across_genes(observed: Floats, predicted: Floats, draws: Floats) -> Floats:
    """Correlate the ranks of every column with those of its prediction, over genes.

    Parameters
    ----------
    observed : ndarray, shape (n_genes, n_columns)
        Genes whose value is missing are left out, column by column.
    predicted : ndarray, shape (n_genes, n_columns)
    draws : ndarray, shape (1 + rounds, n_genes)
        How often each gene occurs.

    Returns
    -------
    ndarray of float64, shape (1 + rounds, n_columns)
        NaN where a column or its prediction is constant.
    """
    columns = []
    for truth, guess in zip(observed.T, predicted.T, strict=True):
        known = np.isfinite(truth)
        columns.append(spearman(truth[known], guess[known], draws[:, known]))
    return np.stack(columns, axis=1)


# Ridge regression


def ridge(X: Floats, y: Floats, X_new: Floats) -> Floats:
    """Fit on standardised features with every one of ``ALPHAS``, and predict new rows.

    Parameters
    ----------
    X : ndarray, shape (n_rows, n_features)
    y : ndarray, shape (n_rows, n_targets)
    X_new : ndarray, shape (n_new, n_features)

    Returns
    -------
    ndarray of float64, shape (n_alphas, n_new, n_targets)
    """
    mean, deviation = X.mean(axis=0), X.std(axis=0)
    deviation[deviation == 0] = 1
    Z, Z_new = (X - mean) / deviation, (X_new - mean) / deviation
    values, vectors = np.linalg.eigh(Z.T @ Z)
    projected = vectors.T @ (Z.T @ (y - y.mean(axis=0)))
    basis = Z_new @ vectors
    fits = [basis / (values + alpha) @ projected for alpha in ALPHAS]
    predicted: Floats = np.stack(fits) + y.mean(axis=0)
    return predicted


def tuned_ridge(
    X: Floats, y: Floats, X_new: Floats, groups: Groups, folds: BaseCrossValidator
) -> Floats:
    """Predict new rows, each target with the penalty of least error on held-out groups.

    Parameters
    ----------
    X : ndarray, shape (n_rows, n_features)
    y : ndarray, shape (n_rows, n_targets)
    X_new : ndarray, shape (n_new, n_features)
    groups : ndarray of int, shape (n_rows,)
        Rows of one group are held out together.
    folds : cross-validator
        Of scikit-learn, one that splits by groups.

    Returns
    -------
    ndarray of float64, shape (n_new, n_targets)
    """
    errors = np.zeros((len(ALPHAS), y.shape[1]))
    for train, test in folds.split(X, groups=groups):
        missed = ridge(X[train], y[train], X[test]) - y[test]
        errors += np.square(missed).sum(axis=1)
    best = errors.argmin(axis=0)[None, None]  # (1, 1, n_targets)
    predicted: Floats = np.take_along_axis(ridge(X, y, X_new), best, axis=0)[0]
    return predicted


def predict_held_out(X: Floats, y: Floats, groups: Groups) -> Floats:
    """Predict every group from the others; penalties are chosen among the others.

    Parameters
    ----------
    X : ndarray, shape (n_rows, n_features)
    y : ndarray, shape (n_rows, n_targets)
        Missing values are filled with the median of the rows that are fitted.
    groups : ndarray of int, shape (n_rows,)
        At least three different ones.

    Returns
    -------
    ndarray of float64, shape (n_rows, n_targets)
    """
    folds = LeaveOneGroupOut()
    predicted = np.empty(y.shape)
    for train, test in folds.split(X, groups=groups):
        known = np.where(np.isnan(y[train]), np.nanmedian(y[train], axis=0), y[train])
        predicted[test] = tuned_ridge(X[train], known, X[test], groups[train], folds)
    return predicted


def mean_of_z_scores(*predictions: Floats) -> Floats:
    """Average predictions after bringing every column to mean 0 and variance 1."""
    scaled = []
    for predicted in predictions:
        deviation = predicted.std(axis=0)
        deviation[deviation == 0] = 1
        scaled.append((predicted - predicted.mean(axis=0)) / deviation)
    mean: Floats = np.mean(scaled, axis=0)
    return mean
