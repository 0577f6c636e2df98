"""What the values of a unit must be before they are kept."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import InputError, StoreError, first_few
from enformer_features.storage.store.plan import StorePlan


def checked_values(
    plan: StorePlan, unit: int, values: npt.ArrayLike, reasons: dict[int, str]
) -> npt.NDArray[np.floating]:
    """Return the values of a unit as they are kept.

    Parameters
    ----------
    plan : StorePlan
    unit : int
    values : array of floats, shape ``(rows of the unit, *row_shape)``
    reasons : dict of int to str
        Why rows are NaN, by their numbers in the store.

    Returns
    -------
    ndarray of plan.dtype
        C-contiguous and little-endian.

    Raises
    ------
    InputError
        If the shape is another, a reason is for a row of another unit, or a row is
        not finite and has none.
    StoreError
        If a value is beyond the range of float16.

    Examples
    --------
    >>> plan = StorePlan("X", 2, (1,), "float16", 2, ("a",))
    >>> checked_values(plan, 0, [[1.0], [1e6]], {})
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.StoreError: unit 0: rows 1 have values beyond the \
range of float16 (65,504); plan the store with dtype='float32'
    """
    span = plan.rows_of(unit)
    given = np.asarray(values)
    shape = (span.stop - span.start, *plan.row_shape)
    if given.shape != shape or given.dtype.kind != "f":
        msg = (
            f"unit {unit} has {given.dtype} values of shape {given.shape}, expected "
            f"floats of shape {shape}"
        )
        raise InputError(msg)
    finite = _finite_rows(given)
    _check_reasons(unit, span, finite, reasons)
    with np.errstate(over="ignore"):
        kept = np.ascontiguousarray(given, np.dtype(plan.dtype).newbyteorder("<"))
    lost = np.flatnonzero(finite & ~_finite_rows(kept)) + span.start
    if lost.size:
        largest = float(np.finfo(plan.dtype).max)
        msg = (
            f"unit {unit}: rows {first_few(lost.tolist())} have values beyond the "
            f"range of {plan.dtype} ({largest:,.0f}); plan the store with "
            "dtype='float32'"
        )
        raise StoreError(msg)
    return kept


def _check_reasons(
    unit: int, span: slice, finite: npt.NDArray[np.bool_], reasons: dict[int, str]
) -> None:
    own = range(span.start, span.stop)
    if outside := [row for row in reasons if row not in own]:
        msg = (
            f"unit {unit} has reasons for rows {first_few(outside)}; its own are "
            f"{span.start} to {span.stop - 1}, counted in the store"
        )
        raise InputError(msg)
    wrong = [
        row
        for row, is_finite in zip(own, finite.tolist(), strict=True)
        if not is_finite and row not in reasons
    ]
    if wrong:
        msg = (
            f"unit {unit}: rows {first_few(wrong)} have values that are not finite, "
            "and no reason"
        )
        raise InputError(msg)


def _finite_rows(values: npt.NDArray[np.floating]) -> npt.NDArray[np.bool_]:
    # row by row: a unit may be large
    return np.array([np.isfinite(row).all() for row in values], dtype=bool)
