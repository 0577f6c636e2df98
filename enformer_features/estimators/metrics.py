"""How well predictions fit measurements, each number with its axis."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError

FEWEST_ROWS = 3


def correlations_across_rows(observed: Any, predicted: Any) -> pd.DataFrame:
    """Correlate each target with its prediction, across rows (genes, regions).

    Parameters
    ----------
    observed : DataFrame or array, shape (n_rows, n_targets) or (n_rows,)
        Rows with a missing value are left out, target by target.
    predicted : DataFrame or array, of the same shape
        Same rows and targets in the same order.

    Returns
    -------
    DataFrame
        One row per target, named as the columns of ``observed``: ``n`` (rows that
        count), ``pearson``, ``spearman``. NaN for fewer than three rows or a constant
        column, for which no correlation exists.

    Raises
    ------
    InputError
        When the shapes differ, or there are predictions that are not finite.

    Notes
    -----
    Across genes is not across individuals or alleles: a high value here says nothing
    about the effect of a variant.

    Examples
    --------
    >>> observed = pd.DataFrame({"liver": [1.0, 2.0, 3.0, 9.0]})
    >>> correlations_across_rows(observed, [1.0, 2.0, 2.5, 2.6]).round(2)
           n  pearson  spearman
    liver  4      0.7       1.0
    """
    truth, guess = pd.DataFrame(observed), pd.DataFrame(predicted)
    if truth.shape != guess.shape:
        msg = (
            f"observed has shape {truth.shape}, predicted {guess.shape}; they must be "
            "the same rows and targets"
        )
        raise InputError(msg)
    if not np.isfinite(guess.to_numpy(dtype=float)).all():
        msg = "predicted holds values that are not finite; look at the model"
        raise InputError(msg)
    rows = [
        _correlate(truth.iloc[:, i], guess.iloc[:, i]) for i in range(truth.shape[1])
    ]
    return pd.DataFrame(rows, index=truth.columns)


def _correlate(observed: pd.Series, predicted: pd.Series) -> dict[str, float]:
    pairs = pd.DataFrame({"observed": observed.to_numpy(dtype=float)})
    pairs["predicted"] = predicted.to_numpy(dtype=float)
    pairs = pairs.dropna()
    scores = {"n": len(pairs), "pearson": np.nan, "spearman": np.nan}
    if len(pairs) >= FEWEST_ROWS and (pairs.nunique() > 1).all():
        for method in ("pearson", "spearman"):
            ranked = pairs.rank() if method == "spearman" else pairs
            scores[method] = float(np.corrcoef(ranked.to_numpy().T)[0, 1])
    return scores
