"""Whether a fitted head is affine, and its exact coefficients if it is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import InputError

Doubles = npt.NDArray[np.float64]
Predict = Callable[[Doubles], Doubles]

STEP = 1024.0  # from 0 along each feature: far, so that a difference keeps its digits
CHUNK = 512  # features at once
SCALES = (0.1, 1.0, 10.0, 1000.0)  # of the points at which it is checked
POINTS = 8  # of each scale
TOLERANCE = 1e-6


def affine_coefficients(
    predict: Predict, n_features: int, *, what: str = "the head"
) -> tuple[Doubles, float]:
    """Find weights and offset of a function of features by trying it.

    It is asked at 0, along every feature, and at random points, in float64.

    Parameters
    ----------
    predict : callable
        From features, (n, n_features), to one number each, (n,).
    n_features : int
    what : str, default="the head"
        What it is called in an error.

    Returns
    -------
    weights : ndarray of float64, shape (n_features,)
    offset : float

    Raises
    ------
    InputError
        When it is not affine to a relative 1e-6.

    Examples
    --------
    >>> weights, offset = affine_coefficients(lambda x: x @ [2.0, -1.0] + 3.0, 2)
    >>> weights.tolist(), offset
    ([2.0, -1.0], 3.0)
    """
    offset = float(predict(np.zeros((1, n_features)))[0])
    weights = np.empty(n_features)
    for start in range(0, n_features, CHUNK):
        stop = min(start + CHUNK, n_features)
        steps = np.zeros((stop - start, n_features))
        steps[np.arange(stop - start), np.arange(start, stop)] = STEP
        weights[start:stop] = (predict(steps) - offset) / STEP
    _check(predict, weights, offset, what)
    return weights, offset


def _tried(predict: Predict, points: Doubles) -> Doubles:
    """Predict, or return NaN where a step such as a logarithm takes no such points."""
    try:
        with np.errstate(all="ignore"):
            return predict(points)
    except (ValueError, ArithmeticError):
        return np.full(len(points), np.nan)


def _check(predict: Predict, weights: Doubles, offset: float, what: str) -> None:
    """Compare the function with its coefficients, at points of several sizes."""
    generator = np.random.default_rng(0)
    for scale in SCALES:
        points = scale * generator.standard_normal((POINTS, len(weights)))
        expected = points @ weights + offset
        found = _tried(predict, points)
        terms = np.sqrt((points**2) @ (weights**2))
        allowed = TOLERANCE * (np.abs(found) + terms + abs(offset)) + 1e-300
        if not (np.abs(found - expected) <= allowed).all():
            msg = (
                f"{what} has no exact gradient: its predictions are not an affine "
                "function of the features, as those of linear models behind scalers "
                "and PCA are. Use saturation_mutagenesis or element_ism, which need no "
                "gradient; of a TransformedTargetRegressor explain its regressor_, in "
                "the units that it was fitted in"
            )
            raise InputError(msg)
