"""Folds as blocks of rows: rows that play the same part in every fold."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupKFold

from enformer_features.exceptions import InputError, InputTypeError, first_few

OUT, TRAIN, TEST = 0, 1, 2
ROW_FOLDS = 5
Ints = npt.NDArray[np.int_]


@dataclass(frozen=True)
class Folds:
    """Which block every row is in, and what a block is in every fold.

    Parameters
    ----------
    block : ndarray of int, shape (n_rows,)
    parts : ndarray of int, shape (n_blocks, n_folds)
        ``OUT``, ``TRAIN`` or ``TEST``.
    """

    block: Ints
    parts: Ints


def undivided(n_rows: int) -> Folds:
    """Return one block and no fold."""
    return Folds(np.zeros(n_rows, dtype=int), np.empty((1, 0), dtype=int))


def each_tested_once(n_folds: int) -> Ints:
    """Return the parts of blocks of which every fold tests one.

    Examples
    --------
    >>> each_tested_once(2).tolist()
    [[2, 1], [1, 2]]
    """
    return np.where(np.eye(n_folds, dtype=bool), TEST, TRAIN)


def check_cv(cv: Any) -> None:
    """Refuse what does not describe folds.

    Parameters
    ----------
    cv : int, "rows", splitter or iterable of (train, test)

    Raises
    ------
    InputError, InputTypeError
    """
    if isinstance(cv, str) and cv == "rows":
        return
    if isinstance(cv, (int, np.integer)) and not isinstance(cv, bool):
        if cv < 2:
            msg = f"cv={cv} must be at least 2 folds"
            raise InputError(msg)
        return
    if isinstance(cv, (str, bool)) or not (
        hasattr(cv, "split") or isinstance(cv, Iterable)
    ):
        msg = (
            f"cv={cv!r} must be a number of folds of whole groups, 'rows', a splitter "
            "of scikit-learn, or an iterable of (train, test) row numbers"
        )
        raise InputTypeError(msg)


def make_folds(cv: Any, y: Any, groups: Any, n_rows: int) -> Folds:
    """Lay out the folds of rows that are all known.

    Parameters
    ----------
    cv : int, "rows", splitter or iterable of (train, test)
        A number means folds of whole groups, of about as many rows each.
    y : ndarray, shape (n_rows, n_targets)
        For the splitter.
    groups : array-like, shape (n_rows,), or None
    n_rows : int

    Returns
    -------
    Folds

    Raises
    ------
    InputError
        If groups are missing or too few, a fold is empty, or tests rows it trains on.
    """
    if isinstance(cv, str):
        return Folds(row_folds(0, n_rows), each_tested_once(min(ROW_FOLDS, n_rows)))
    if isinstance(cv, (int, np.integer)):
        codes, labels = group_codes(groups, n_rows)
        check_enough_groups(int(cv), labels)
        splits: Iterable[tuple[Any, Any]] = GroupKFold(int(cv)).split(
            codes, groups=codes
        )
    elif hasattr(cv, "split"):
        splits = cv.split(np.zeros((n_rows, 1)), y, groups)
    else:
        splits = iter(cv)
    parts = [_parts(number, *fold, n_rows) for number, fold in enumerate(splits)]
    if not parts:
        msg = f"cv={cv!r} has no folds"
        raise InputError(msg)
    blocks, block = np.unique(np.stack(parts, axis=1), axis=0, return_inverse=True)
    return Folds(block.reshape(-1), blocks)


def row_folds(first: int, n_rows: int) -> Ints:
    """Return the fold of every row when rows are dealt out in turn."""
    return (first + np.arange(n_rows)) % ROW_FOLDS


def group_codes(groups: Any, n_rows: int) -> tuple[Ints, list[Any]]:
    """Give every group a number.

    Parameters
    ----------
    groups : array-like, shape (n_rows,), or None
    n_rows : int

    Returns
    -------
    codes : ndarray of int, shape (n_rows,)
    labels : list
        By code.

    Raises
    ------
    InputError
        If there are none, another number of them than rows, or missing ones.
    """
    if groups is None:
        msg = (
            "GroupedRidgeCV chooses its penalty on whole groups of rows that are held "
            'out, and was given no groups: fit(X, y, groups=genes["chrom"]), in a '
            "Pipeline with groupedridgecv__groups=... or metadata routing; "
            'cv="rows" takes folds of rows, which leak where windows overlap'
        )
        raise InputError(msg)
    values = pd.Series(np.asarray(groups, dtype=object).ravel())
    if len(values) != n_rows:
        msg = f"groups has {len(values)} entries, X has {n_rows} rows; give one per row"
        raise InputError(msg)
    codes, labels = pd.factorize(values)
    missing = np.flatnonzero(codes < 0)
    if missing.size:
        rows = first_few(missing.tolist())
        msg = f"groups are missing in rows {rows}; every row needs one"
        raise InputError(msg)
    return np.asarray(codes, dtype=int), list(labels)


def check_enough_groups(n_folds: int, labels: list[Any]) -> None:
    """Refuse more folds than there are groups."""
    if len(labels) < n_folds:
        msg = (
            f"cv={n_folds} folds of whole groups need as many groups, and there are "
            f"{len(labels)}: {first_few(labels)}; give a smaller cv or finer groups"
        )
        raise InputError(msg)


def _parts(number: int, train: Any, test: Any, n_rows: int) -> Ints:
    """Return what every row is in a fold."""
    parts = np.full(n_rows, OUT)
    parts[train] = TRAIN
    if (parts[test] == TRAIN).any():
        msg = f"fold {number} of cv tests rows that it trains on"
        raise InputError(msg)
    parts[test] = TEST
    for what, part in (("trains on", TRAIN), ("tests", TEST)):
        if not (parts == part).any():
            msg = f"fold {number} of cv {what} no row"
            raise InputError(msg)
    return parts
