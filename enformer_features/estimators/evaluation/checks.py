"""What heads will refuse in a fold, told before any feature is computed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline

from enformer_features.estimators.evaluation.fits import Rows
from enformer_features.estimators.ridge.estimator import GroupedRidgeCV
from enformer_features.estimators.splits.splitter import Fold
from enformer_features.estimators.target_transforms import CompleteTargets
from enformer_features.exceptions import InputError, LeakageWarning, first_few, warn

_WRAPPED = ("estimator", "regressor", "model")  # what a meta-estimator is put around
_REFUSING = ("sklearn", "xgboost")  # packages whose regressors want every target


def check_missing(
    models: Mapping[str, BaseEstimator],
    rows: Rows,
    folds: Mapping[str, Sequence[Fold]],
) -> None:
    """Refuse missing targets in training rows, where a head takes none.

    Parameters
    ----------
    models : mapping of str to estimator
    rows : Rows
    folds : mapping of str to list of (train, test)
        By split.

    Raises
    ------
    InputError
        With the names of models and rows.
    """
    trained = np.unique(
        np.concatenate([train for of_split in folds.values() for train, _ in of_split])
    )
    observed = rows.observed.iloc[trained]
    lacking = observed.index[observed.isna().any(axis=1)].tolist()
    refusing = [name for name, model in models.items() if refuses_missing(model)]
    if lacking and refusing:
        msg = (
            f"{len(lacking)} of {len(observed)} rows to train on lack a target: "
            f"{first_few(lacking)}; these models take no missing values: "
            f"{first_few(refusing)}; fill_missing=True, or --fill-missing, fits on the "
            "median of the training rows; or leave the rows out, or take ridge_head"
        )
        raise InputError(msg)


def refuses_missing(model: BaseEstimator) -> bool:
    """Tell whether a model cannot be fitted on targets with gaps, as far as is known.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    bool

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> refuses_missing(Ridge()), refuses_missing(GroupedRidgeCV())
    (True, False)
    """
    if isinstance(model, Pipeline):
        steps = [step for _, step in model.steps]
        marked = any(isinstance(step, CompleteTargets) for step in steps)
        return marked or refuses_missing(steps[-1])
    inner = next((getattr(model, name) for name in _WRAPPED if hasattr(model, name)), 0)
    if isinstance(inner, BaseEstimator):
        return refuses_missing(inner)
    return type(model).__module__.partition(".")[0] in _REFUSING


def check_group_folds(
    models: Mapping[str, BaseEstimator],
    rows: Rows,
    folds: Mapping[str, Sequence[Fold]],
) -> None:
    """Refuse heads that hold out more groups than a fold trains on.

    Parameters
    ----------
    models : mapping of str to estimator
    rows : Rows
    folds : mapping of str to list of (train, test)
        By split.

    Raises
    ------
    InputError
        With model, split and fold, and the largest number of folds that fits all.
    """
    wanted = {name: group_folds(model) for name, model in models.items()}
    needed = max(wanted, key=lambda name: wanted[name])
    if not wanted[needed]:
        return
    if rows.groups is None:
        msg = (
            f"{needed!r} chooses its penalty on held-out groups, and there are none: "
            "give groups, such as groups=genes['chrom'], a single penalty, or cv='rows'"
        )
        raise InputError(msg)
    trained = [
        (split, number, pd.unique(rows.groups[train]).tolist())
        for split, of_split in folds.items()
        for number, (train, _) in enumerate(of_split)
    ]
    split, number, labels = min(trained, key=lambda fold: len(fold[2]))
    if len(labels) < wanted[needed]:
        fitting = (
            f"cv={len(labels)} is the largest that fits all folds"
            if len(labels) > 1
            else "no cv of groups fits: give a single penalty, or cv='rows'"
        )
        msg = (
            f"{needed!r} has cv={wanted[needed]}, folds of whole groups within the "
            f"training rows, which are of {len(labels)} groups in fold {number} of "
            f"split {split!r}: {first_few(labels)}; {fitting}"
        )
        raise InputError(msg)


def warn_about_single_rows(n_chroms: int) -> None:
    """Warn when penalties that are chosen on chromosomes must be chosen on rows.

    Parameters
    ----------
    n_chroms : int
        The fewest that any fold trains on.

    Warns
    -----
    LeakageWarning
    """
    if n_chroms < 2:
        message = (
            "a fold trains on rows of one chromosome: penalties are chosen on held-out "
            "rows, whose windows may overlap, not on held-out chromosomes"
        )
        warn(message, LeakageWarning)


def group_folds(model: BaseEstimator) -> int:
    """Return the most folds of whole groups that a part of a model asks for, or 0.

    Parameters
    ----------
    model : estimator

    Returns
    -------
    int

    Examples
    --------
    >>> group_folds(GroupedRidgeCV(cv=3)), group_folds(GroupedRidgeCV(1.0, cv=3))
    (3, 0)
    """
    parts = {"": model, **model.get_params(deep=True)}
    found = [_folds_of_groups(part) for part in parts.values()]
    return max(found, default=0)


def _folds_of_groups(part: Any) -> int:
    if isinstance(part, GroupKFold):
        return int(part.n_splits)
    if not isinstance(part, GroupedRidgeCV) or np.size(part.alphas) < 2:
        return 0
    is_number = isinstance(part.cv, int | np.integer)
    return int(part.cv) if is_number else 0
