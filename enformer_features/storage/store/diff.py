"""How two stores differ, by content."""

from __future__ import annotations

from collections.abc import Iterator
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import first_few
from enformer_features.storage.store.create import open_store
from enformer_features.storage.store.folder import Store

Mask = npt.NDArray[np.bool_]
Markers = dict[int, dict[str, Any]]


def diff(a: Store | str | PathLike[str], b: Store | str | PathLike[str]) -> list[str]:
    """Say how two stores differ: plans, tables of rows, values, reasons.

    Parameters
    ----------
    a, b : Store or path
        Finished or not; rows that neither has are not compared.

    Returns
    -------
    list of str
        A line for each difference, with units and rows, and one on the values where
        these are equal; empty when all that is there is equal, bit by bit. Every byte
        is compared with its digest first: units that are damaged are named, and not
        compared.

    Raises
    ------
    StoreError
        If a store is absent, or its plan or tables are damaged.

    Examples
    --------
    >>> import tempfile
    >>> from enformer_features.storage.store import StorePlan, create_store
    >>> tables = pd.DataFrame(index=["r0"]), pd.DataFrame(index=["f0"])
    >>> stores = []
    >>> for name, value in {"a": 1.0, "b": 1.5}.items():
    ...     plan = StorePlan("X", 1, (1,), "float32", 1, ("u",), {"name": name})
    ...     path = f"{tempfile.mkdtemp()}/{name}.zarr"
    ...     stores.append(create_store(path, plan, *tables, {}))
    ...     stores[-1].write_unit(0, [[value]])
    >>> for line in diff(*stores):
    ...     print(line)
    plan: settings.name: 'a' != 'b'
    values: 1 of 1 rows differ, by up to 0.5: rows 0, in units 0
    """
    one, two = (x if isinstance(x, Store) else open_store(x) for x in (a, b))
    reports = one.verify(), two.verify()
    found = [
        f"the {what} is damaged: {first_few(report.damaged)}"
        for what, report in zip(("first", "second"), reports, strict=True)
        if report.damaged
    ]
    found += [f"plan: {_explained(x)}" for x in one.plan.differences(two.plan)]
    found += _table_differences(one.obs(), two.obs())
    if (one.plan.n_rows, one.plan.row_shape) == (two.plan.n_rows, two.plan.row_shape):
        whole, others = (
            _markers_of(store, report.units)
            for store, report in zip((one, two), reports, strict=True)
        )
        found += _row_differences(one, two, whole, others, is_equal=not found)
    return found


def _explained(line: str) -> str:
    is_cut = line.startswith("unit_rows:")
    return f"{line} (the same rows, cut differently)" if is_cut else line


def _markers_of(store: Store, damaged: list[int]) -> Markers:
    markers, _ = store.markers()
    return {unit: marker for unit, marker in markers.items() if unit not in damaged}


def _table_differences(one: pd.DataFrame, two: pd.DataFrame) -> Iterator[str]:
    if len(one) != len(two):
        return  # the plan says so
    for what, ours, theirs in (("the first", one, two), ("the second", two, one)):
        only = [name for name in ours.columns if name not in theirs.columns]
        if only:
            yield f"obs: columns only in {what}: {first_few(only)}"
    names = {"names": (one.index.to_series(), two.index.to_series())}
    shared = [name for name in one.columns if name in two.columns]
    # reasons of an unfinished store are not in its table yet; its markers have them
    columns = {name: (one[name], two[name]) for name in shared if name != "reason"}
    for name, (left, right) in (names | columns).items():
        rows = _unequal(left, right)
        if rows:
            yield f"obs: {name} of {len(rows)} rows differ: rows {first_few(rows)}"


def _unequal(one: pd.Series[Any], two: pd.Series[Any]) -> list[int]:
    ours, theirs = (x.astype(object).to_numpy() for x in (one, two))
    both_absent = pd.isna(ours) & pd.isna(theirs)
    pairs = zip(ours, theirs, both_absent, strict=True)
    return [
        row
        for row, (left, right, absent) in enumerate(pairs)
        if not absent and (left is pd.NA or right is pd.NA or left != right)
    ]


def _row_differences(
    one: Store, two: Store, ours: Markers, theirs: Markers, *, is_equal: bool
) -> Iterator[str]:
    """Tell how rows differ, and if they do not, that, unless all else is equal."""
    have, others = _rows_of(one, ours), _rows_of(two, theirs)
    for what, only in (("first", have & ~others), ("second", others & ~have)):
        if only.any():
            rows = np.flatnonzero(only).tolist()
            yield f"values: {len(rows)} rows are only in the {what}: {first_few(rows)}"
    both = have & others
    changed, largest = _changed_rows(one, two, both)
    if changed:
        units = sorted({row // one.plan.unit_rows for row in changed})
        yield (
            f"values: {len(changed)} of {int(both.sum())} rows differ, by up to "
            f"{largest:.3g}: rows {first_few(changed)}, in units {first_few(units)}"
        )
    elif not is_equal and both.any():
        yield f"values: the {int(both.sum())} rows that both have are equal"
    yield from _reason_differences(ours, theirs, both)


def _rows_of(store: Store, markers: Markers) -> Mask:
    """Tell of each row whether it is there."""
    mask = np.zeros(store.plan.n_rows, dtype=bool)
    for unit in markers:
        mask[store.unit_rows(unit)] = True
    return mask


def _changed_rows(one: Store, two: Store, both: Mask) -> tuple[list[int], float]:
    """Return the rows that are not bit-equal, and the largest difference."""
    changed: list[int] = []
    gaps: list[float] = []
    for unit in range(one.n_units):
        span = one.unit_rows(unit)
        rows = np.flatnonzero(both[span]) + span.start
        if not rows.size or _is_known_equal(one, two, unit):
            continue
        for run in np.split(rows, np.flatnonzero(np.diff(rows) > 1) + 1):
            stretch = slice(int(run[0]), int(run[-1]) + 1)
            ours, theirs = one.read(stretch), two.read(stretch)
            for row, left, right in zip(run.tolist(), ours, theirs, strict=True):
                if not _is_equal(left, right):
                    changed.append(row)
                    gap = np.abs(left.astype(np.float64) - right)
                    gaps.append(float(gap[np.isfinite(gap)].max(initial=0.0)))
    return changed, max(gaps, default=0.0)


def _is_equal(one: npt.NDArray[Any], two: npt.NDArray[Any]) -> bool:
    if one.dtype == two.dtype:
        return one.tobytes() == two.tobytes()
    return np.array_equal(one, two, equal_nan=True)


def _is_known_equal(one: Store, two: Store, unit: int) -> bool:
    """Compare digests, where units are of the same rows."""
    if (one.plan.unit_rows, one.plan.dtype) != (two.plan.unit_rows, two.plan.dtype):
        return False
    return bool(one.marker(unit)["sha256"] == two.marker(unit)["sha256"])


def _reason_differences(ours: Markers, theirs: Markers, both: Mask) -> Iterator[str]:
    one: dict[int, str] = {}
    two: dict[int, str] = {}
    for found, markers in ((one, ours), (two, theirs)):
        for marker in markers.values():
            found |= {int(row): text for row, text in marker["reasons"].items()}
    for row in sorted(one.keys() | two.keys()):
        if both[row] and one.get(row, "") != two.get(row, ""):
            yield f"reason of row {row}: {one.get(row, '')!r} != {two.get(row, '')!r}"
