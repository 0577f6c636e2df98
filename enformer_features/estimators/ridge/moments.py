"""Sums over rows from which a ridge regression follows exactly; they add.

Rows are brought near zero by a shift before they are summed, so that the sums of
squares stay exact, and weighted. Two forms with the same methods: :class:`Gram` holds
sums alone, for many rows; :class:`Rows` the rows themselves, for fewer rows than
features, where a matrix of rows by rows is the smaller one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from scipy.linalg import eigh

Floats = npt.NDArray[np.float64]

_ROUNDING = 1e-12  # a variance below this share of the mean square is none


@dataclass(frozen=True)
class RidgePath:
    r"""The ridge regressions of every penalty, from one eigendecomposition.

    With penalty :math:`\alpha` the coefficients are
    :math:`B \, (\Lambda + \alpha)^{-1} P`.

    Parameters
    ----------
    centre : ndarray of float64, shape (n_features,)
        Subtracted from the features.
    y_centre : ndarray of float64, shape (n_targets,)
        Added to the predictions.
    basis : ndarray of float64, shape (n_features, n_values)
        B, in units of the features.
    values : ndarray of float64, shape (n_values,)
        The eigenvalues, not negative.
    projected : ndarray of float64, shape (n_values, n_targets)
        P.
    """

    centre: Floats
    y_centre: Floats
    basis: Floats
    values: Floats
    projected: Floats

    def coefficients(self, alpha: float | Floats) -> Floats:
        """Return the coefficients of one penalty, or of one per target.

        Parameters
        ----------
        alpha : float or ndarray, shape (n_targets,)
            Greater than 0.

        Returns
        -------
        ndarray of float64, shape (n_features, n_targets)
        """
        coefficients: Floats = self.basis @ (
            self.projected / (self.values[:, None] + alpha)
        )
        return coefficients


class Gram:
    """Weighted sums of products of features and targets.

    Parameters
    ----------
    n_features, n_targets : int

    Notes
    -----
    ``8 * n_features ** 2`` bytes: 75 MB for 3,072 features.

    Examples
    --------
    >>> rows, y, weights = np.array([[-1.0], [1.0]]), np.array([[-2.0], [2.0]]), [1, 1]
    >>> sums = Gram(1, 1)
    >>> sums.add(rows, y, np.array(weights))
    >>> path = sums.path(scale=True, centred=True)
    >>> path.coefficients(2.0).tolist(), sums.squared_errors(path, [2.0]).tolist()
    ([[1.0]], [[2.0]])
    """

    def __init__(self, n_features: int, n_targets: int) -> None:
        self.weight = 0.0
        self.x = np.zeros(n_features)
        self.y = np.zeros(n_targets)
        self.xx = np.zeros((n_features, n_features))
        self.xy = np.zeros((n_features, n_targets))
        self.yy = np.zeros(n_targets)

    def add(self, rows: Floats, y: Floats, weights: Floats) -> None:
        """Add rows.

        Parameters
        ----------
        rows : ndarray of float64, shape (n_rows, n_features)
        y : ndarray of float64, shape (n_rows, n_targets)
        weights : ndarray of float64, shape (n_rows,)
        """
        root = np.sqrt(weights)[:, None]
        rows, y = rows * root, y * root
        self.weight += float(weights.sum())
        self.x += root[:, 0] @ rows
        self.y += root[:, 0] @ y
        self.xx += rows.T @ rows
        self.xy += rows.T @ y
        self.yy += (y * y).sum(axis=0)

    @classmethod
    def total(cls, blocks: Sequence[Any]) -> Self:
        """Return the sums of the rows of all blocks."""
        total = cls(len(blocks[0].x), len(blocks[0].y))
        for block in blocks:
            total.weight += block.weight
            for name in ("x", "y", "xx", "xy", "yy"):
                getattr(total, name)[...] += getattr(block, name)
        return total

    def of_targets(self, targets: npt.NDArray[np.int_]) -> Gram:
        """Return a copy with some of the targets."""
        part = Gram(len(self.x), len(targets))
        part.weight, part.x, part.xx = self.weight, self.x.copy(), self.xx.copy()
        part.y, part.yy = self.y[targets], self.yy[targets]
        part.xy = self.xy[:, targets]
        return part

    def path(self, *, scale: bool, centred: bool) -> RidgePath:
        """Solve for every penalty.

        Parameters
        ----------
        scale : bool
            Whether the penalty is on features of variance 1; constant ones get no
            coefficient.
        centred : bool
            Whether there is an intercept.
        """
        mean, mean_square = self.x / self.weight, np.diag(self.xx) / self.weight
        inverse = _inverse_deviation(mean_square - mean**2, mean_square, scale)
        centre, y_centre = _centres(mean, self.y / self.weight, centred)
        xx = self.xx - np.outer(self.weight * centre, centre)
        xx *= inverse[:, None]
        xx *= inverse
        values, vectors = eigh(xx, overwrite_a=True, check_finite=False, driver="evd")
        xy = self.xy - np.outer(self.weight * centre, y_centre)
        return RidgePath(
            centre=centre,
            y_centre=y_centre,
            projected=vectors.T @ (inverse[:, None] * xy),
            values=values.clip(0),
            basis=np.multiply(vectors, inverse[:, None], out=vectors),
        )

    def squared_errors(self, path: RidgePath, alphas: Sequence[float]) -> Floats:
        """Sum the squared errors of predictions for these rows.

        Parameters
        ----------
        path : RidgePath
            Fitted on other rows, with the same shift.
        alphas : sequence of float

        Returns
        -------
        ndarray of float64, shape (n_alphas, n_targets)
        """
        c, d = path.centre, path.y_centre
        yy = self.yy - 2 * d * self.y + self.weight * d**2
        xy = self.xy - np.outer(self.x, d) - np.outer(c, self.y - self.weight * d)
        errors = np.empty((len(alphas), len(d)))
        for number, alpha in enumerate(alphas):
            b = path.coefficients(alpha)
            bb = (b * (self.xx @ b)).sum(axis=0)
            bb -= 2 * (self.x @ b) * (c @ b) - self.weight * (c @ b) ** 2
            errors[number] = yy - 2 * (b * xy).sum(axis=0) + bb
        return errors.clip(0)


class Rows:
    """The rows themselves.

    Parameters
    ----------
    n_features, n_targets : int
    """

    def __init__(self, n_features: int, n_targets: int) -> None:
        self.rows = np.empty((0, n_features))
        self.targets = np.empty((0, n_targets))
        self.weights = np.empty(0)

    @property
    def weight(self) -> float:
        """Sum of the weights."""
        return float(self.weights.sum())

    def add(self, rows: Floats, y: Floats, weights: Floats) -> None:
        """Add rows; see :meth:`Gram.add`."""
        self.rows = np.concatenate([self.rows, rows])
        self.targets = np.concatenate([self.targets, y])
        self.weights = np.concatenate([self.weights, weights])

    @classmethod
    def total(cls, blocks: Sequence[Any]) -> Self:
        """Return the rows of all blocks."""
        total = cls(blocks[0].rows.shape[1], blocks[0].targets.shape[1])
        total.rows = np.concatenate([block.rows for block in blocks])
        total.targets = np.concatenate([block.targets for block in blocks])
        total.weights = np.concatenate([block.weights for block in blocks])
        return total

    def path(self, *, scale: bool, centred: bool) -> RidgePath:
        """Solve for every penalty; see :meth:`Gram.path`."""
        share = self.weights / self.weight
        mean = share @ self.rows
        variance = share @ (self.rows - mean) ** 2
        inverse = _inverse_deviation(variance, share @ self.rows**2, scale)
        centre, y_centre = _centres(mean, share @ self.targets, centred)
        root = np.sqrt(self.weights)[:, None]
        scaled = root * (self.rows - centre) * inverse
        values, vectors = eigh(scaled @ scaled.T, overwrite_a=True, driver="evd")
        return RidgePath(
            centre=centre,
            y_centre=y_centre,
            basis=inverse[:, None] * (scaled.T @ vectors),
            values=values.clip(0),
            projected=vectors.T @ (root * (self.targets - y_centre)),
        )

    def squared_errors(self, path: RidgePath, alphas: Sequence[float]) -> Floats:
        """Sum the squared errors of predictions; see :meth:`Gram.squared_errors`."""
        rows, wanted = self.rows - path.centre, self.targets - path.y_centre
        missed = (wanted - rows @ path.coefficients(alpha) for alpha in alphas)
        errors: Floats = np.stack([self.weights @ error**2 for error in missed])
        return errors


def _inverse_deviation(variance: Floats, mean_square: Floats, scale: bool) -> Floats:
    """Return 1 / deviation, and 0 for constant features; or ones."""
    if not scale:
        return np.ones(len(variance))
    varies = variance > _ROUNDING * mean_square
    inverse: Floats = np.zeros(len(variance))
    inverse[varies] = variance[varies] ** -0.5
    return inverse


def _centres(mean: Floats, y_mean: Floats, centred: bool) -> tuple[Floats, Floats]:
    if centred:
        return mean, y_mean
    return np.zeros(len(mean)), np.zeros(len(y_mean))


Block = Gram | Rows
