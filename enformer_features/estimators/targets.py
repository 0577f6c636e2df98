"""Checks what a user hands over as ``y``, before anything is computed."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.inputs import as_pandas, is_table
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    TargetWarning,
    first_few,
    warn,
)
from enformer_features.genomics._columns import show

Numbers = npt.NDArray[np.float64]


def check_targets(X: Any, y: Any, n_rows: int) -> None:
    """Refuse targets that cannot belong to ``X``, or that no head could fit.

    Parameters
    ----------
    X : object
        As the user gave it.
    y : array-like, shape (n_rows,) or (n_rows, n_targets)
        Numbers; or, for a classifier, labels: text or booleans.
    n_rows : int

    Raises
    ------
    InputTypeError
        For what has not one or two dimensions, and for dates, bytes and the like.
    InputError
        For another number of rows, the same labels in another order, infinite
        values, or numbers and text together.

    Warns
    -----
    TargetWarning
        For missing values and numbers written as text, which most heads refuse after
        the embedding is done, for constant targets, from which nothing can be learnt,
        and for rows that are called otherwise in ``X`` and ``y``.
    """
    targets = _as_table(y)
    if len(targets) != n_rows:
        msg = (
            f"y has {len(targets)} rows, X has {n_rows}; they must be the same samples"
        )
        raise InputError(msg)
    if not targets.shape[1]:
        msg = f"y has no targets: its shape is {targets.shape}"
        raise InputError(msg)
    _check_label_order(X, y)
    parsed = [_numbers(targets, place) for place in range(targets.shape[1])]
    _refuse_text_beside_numbers(targets, parsed)
    _refuse_infinite(targets, parsed)
    _warn_about_missing(targets)
    _warn_about_constants(targets)
    _warn_about_numbers_as_text(targets, parsed)


def _as_table(y: Any) -> pd.DataFrame:
    """Return one column per target, of whatever kind."""
    if isinstance(y, pd.Series):
        return y.to_frame()
    if isinstance(y, pd.DataFrame) or is_table(y):
        return as_pandas(y)
    try:
        array = np.asarray(y)
        if array.dtype.kind == "U":  # numpy turns numbers beside text into text
            array = np.asarray(y, dtype=object)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        msg = f"y is a {type(y).__name__} that cannot become a numpy array: {error}"
        raise InputTypeError(msg) from error
    if array.ndim not in (1, 2) or array.dtype.kind not in "biufOU":
        msg = (
            f"y is a {type(y).__name__} of shape {array.shape} and dtype "
            f"{array.dtype}; expected numbers, or labels as text, of shape (n_rows,) "
            "or (n_rows, n_targets)"
        )
        raise InputTypeError(msg)
    if np.ma.is_masked(y):
        msg = "y is a masked array, of which heads do not see the mask; fill in NaN"
        raise InputError(msg)
    return pd.DataFrame(array)


def _check_label_order(X: Any, y: Any) -> None:
    ours = getattr(X, "obs_names", getattr(X, "index", None))
    theirs = getattr(y, "index", None)
    if not isinstance(ours, pd.Index) or not isinstance(theirs, pd.Index):
        return
    pairs = enumerate(zip(map(str, ours), map(str, theirs), strict=True))
    row = next((row for row, (own, other) in pairs if own != other), None)
    if row is None:
        return
    if sorted(map(str, ours)) == sorted(map(str, theirs)):
        msg = (
            f"X and y carry the same labels in another order: row {row} is "
            f"{show(ours[row])} in X and {show(theirs[row])} in y; use "
            "y.loc[X.index], or align(X, y)"
        )
        raise InputError(msg)
    if isinstance(ours[row], str) and isinstance(theirs[row], str):
        message = (
            f"X and y carry different labels: row {row} is {show(ours[row])} in X and "
            f"{show(theirs[row])} in y; rows are paired by position: join them by "
            "label with align(X, y)"
        )
        warn(message, TargetWarning)


def _numbers(targets: pd.DataFrame, place: int) -> Numbers | None:
    """Return a target as numbers, NaN where it has none; None for labels."""
    column = targets.iloc[:, place]
    is_complex = pd.api.types.is_complex_dtype(column)
    if pd.api.types.is_numeric_dtype(column) and not is_complex:
        return column.to_numpy(np.float64, na_value=np.nan)
    values = [None if is_gap else value for value, is_gap in _cells(column)]
    kinds = [_kind(value) for value in values]
    first = next((kind for kind in kinds if kind), "label")
    for row, kind in enumerate(kinds):
        if kind not in ("", "number", "label"):
            msg = (
                f"y{_called(targets, place)} holds {kind}, {show(values[row])} in row "
                f"{targets.index[row]}; expected numbers, or labels as text"
            )
            raise InputTypeError(msg)
        if kind not in ("", first):
            msg = (
                f"y{_called(targets, place)} holds numbers and text: "
                f"{show(values[row])} in row {targets.index[row]}; make it one kind, "
                "for example with pandas.to_numeric"
            )
            raise InputError(msg)
    if first == "label":
        return None
    return np.array([_as_float(value) for value in values], dtype=np.float64)


def _cells(column: pd.Series) -> zip[tuple[Any, bool]]:
    values = column.astype(object).to_numpy()
    return zip(values, np.asarray(column.isna(), dtype=bool), strict=True)


def _kind(value: object) -> str:
    """Tell the kind of one cell; "" for a gap."""
    if value is None:
        return ""
    if isinstance(value, (str, bool, np.bool_)):
        return "label"
    is_number = isinstance(value, (int, float, np.integer, np.floating))
    return "number" if is_number else type(value).__name__


def _as_float(value: Any) -> float:
    try:
        return np.nan if value is None else float(value)
    except OverflowError:  # of an int
        return np.inf


def _called(targets: pd.DataFrame, place: int) -> str:
    """Name a target, unless there is one without a name."""
    name = targets.columns[place]
    is_plain = targets.shape[1] == 1 and not isinstance(name, str)
    return "" if is_plain else f", target {show(name)},"


def _refuse_text_beside_numbers(
    targets: pd.DataFrame, parsed: list[Numbers | None]
) -> None:
    text = [
        show(targets.columns[place])
        for place, numbers in enumerate(parsed)
        if numbers is None and not pd.api.types.is_bool_dtype(targets.iloc[:, place])
    ]
    if text and len(text) < len(parsed):
        msg = (
            f"y has targets of text beside those of numbers: {first_few(text)}; leave "
            "them out, for example with y.select_dtypes('number')"
        )
        raise InputError(msg)


def _refuse_infinite(targets: pd.DataFrame, parsed: list[Numbers | None]) -> None:
    where = [
        f"row {targets.index[row]}{_called(targets, place).rstrip(',')}"
        for place, numbers in enumerate(parsed)
        if numbers is not None
        for row in np.flatnonzero(np.isinf(numbers)).tolist()
    ]
    if where:
        msg = f"y has infinite values: {first_few(where)}; a log of 0? add a constant"
        raise InputError(msg)


def _warn_about_missing(targets: pd.DataFrame) -> None:
    missing = np.flatnonzero(targets.isna().to_numpy().any(axis=1))
    if len(missing):
        rows = list(targets.index[missing])
        message = (
            f"y has missing values in {len(rows)} of {len(targets)} rows "
            f"({first_few(rows)}); ridge_head and GroupedRidgeCV leave them out target "
            "by target, most other heads refuse them after the embedding is done: drop "
            "or impute them first"
        )
        warn(message, TargetWarning, 5)


def _warn_about_constants(targets: pd.DataFrame) -> None:
    constant = [
        name
        for place, name in enumerate(targets)
        if len(targets) > 1 and targets.iloc[:, place].nunique() == 1
    ]
    if constant:
        message = "constant targets, nothing can be learnt from them: "
        warn(message + first_few(constant), TargetWarning, 5)


def _warn_about_numbers_as_text(
    targets: pd.DataFrame, parsed: list[Numbers | None]
) -> None:
    as_text = [
        name
        for place, name in enumerate(targets)
        if parsed[place] is None and _are_numbers_as_text(targets.iloc[:, place])
    ]
    if as_text:
        message = (
            "targets of numbers written as text, which a classifier takes for names "
            f"and a regressor refuses: {first_few(as_text)}; y.astype(float) turns "
            "them into numbers"
        )
        warn(message, TargetWarning, 5)


def _are_numbers_as_text(column: pd.Series) -> bool:
    values = column.dropna()
    if values.empty or not all(isinstance(value, str) for value in values):
        return False
    return bool(pd.to_numeric(values.astype(object), errors="coerce").notna().all())
