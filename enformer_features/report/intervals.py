"""Intervals of a fitted pipeline's predictions, from features of good rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.pipeline import Pipeline

Doubles = npt.NDArray[np.float64]


def as_fitted(steps: Pipeline, features: Any, names: list[str]) -> Any:
    """Return features with their names, if the first step was fitted on such.

    Parameters
    ----------
    steps : fitted Pipeline
        Behind the embedder.
    features : ndarray, shape (n_rows, n_features)
    names : list of str

    Returns
    -------
    DataFrame or ndarray
    """
    if hasattr(steps[0], "feature_names_in_"):
        return pd.DataFrame(features, columns=names)
    return np.asarray(features)


def interval_ends(steps: Pipeline, features: Any) -> Doubles:
    """Return both ends of every prediction's interval.

    Parameters
    ----------
    steps : fitted Pipeline
        Behind the embedder; the last is a ``GroupedConformal``.
    features : table or ndarray, shape (n_rows, n_features)
        As :func:`as_fitted` returns them.

    Returns
    -------
    ndarray of float64, shape (n_rows, 2, n_targets)
    """
    before = features if len(steps) == 1 else steps[:-1].transform(features)
    ends: Doubles = steps[-1].predict_interval(before).reshape(len(features), 2, -1)
    return ends
