from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from enformer_features.exceptions import StoreError
from enformer_features.storage.store import Store, create_store
from enformer_features.storage.store.diff import diff
from tests.storage.store.test_create import fill, plan, tables, values_of


def filled(path: Path, obs_changes: Any = None, **changes: Any) -> Store:
    obs, var, uns = tables()
    store = create_store(
        path, plan(**changes), obs.assign(**obs_changes or {}), var, uns
    )
    fill(store)
    return store


def test_equal_stores_do_not_differ_finished_or_not(tmp_path: Path) -> None:
    one, two = (filled(tmp_path / f"{name}.zarr") for name in "ab")
    assert diff(one, two) == []
    one.finalize()
    assert diff(tmp_path / "a.zarr", tmp_path / "b.zarr") == []


def test_plans_are_compared_by_field(tmp_path: Path) -> None:
    one = filled(tmp_path / "a.zarr")
    two = filled(tmp_path / "b.zarr", settings={"precision": "bfloat16"})
    assert diff(one, two) == [
        "plan: settings.embedder.edge: 'pad' != (absent)",
        "plan: settings.precision: 'float32' != 'bfloat16'",
        "values: the 11 rows that both have are equal",
    ]


def test_equal_rows_that_are_cut_differently_are_told_to_be_equal(
    tmp_path: Path,
) -> None:
    one = filled(tmp_path / "a.zarr")
    other = plan(unit_rows=11, unit_digests=("all",))
    two = create_store(tmp_path / "b.zarr", other, *tables())
    two.write_unit(0, one.read())
    assert diff(one, two) == [
        "plan: unit_rows: 4 != 11 (the same rows, cut differently)",
        "values: the 11 rows that both have are equal",
    ]


def test_tables_are_compared_by_column_and_row(tmp_path: Path) -> None:
    one = filled(tmp_path / "a.zarr", {"tss": [None, *"bcdefghijk"], "more": 1})
    two = filled(tmp_path / "b.zarr", {"tss": [None, *"bcdefghijx"], "start": 7})
    assert diff(one, two) == [
        "obs: columns only in the first: more",
        "obs: start of 10 rows differ: rows 0, 1, 2, 3, 4, ... (10 in all)",
        "obs: tss of 1 rows differ: rows 10",
        "values: the 11 rows that both have are equal",
    ]


@pytest.mark.parametrize("unit_rows", [4, 3])
def test_values_and_reasons_are_compared_by_row(unit_rows: int, tmp_path: Path) -> None:
    one = filled(tmp_path / "a.zarr")
    digests = ("u0", "u1", "u2", "u3")[: -(-11 // unit_rows)]
    other = plan(unit_rows=unit_rows, unit_digests=digests)
    two = create_store(tmp_path / "b.zarr", other, *tables())
    values = one.read()
    values[5, 1] += 0.5
    values[7] = np.nan
    for unit in two.pending():
        rows = two.unit_rows(unit)
        reasons = {7: "off the edge"} if rows.start <= 7 < rows.stop else {}
        two.write_unit(unit, values[rows], {"reasons": reasons})
    assert [line for line in diff(one, two) if not line.startswith("plan")] == [
        "values: 2 of 11 rows differ, by up to 0.5: rows 5, 7, in units 1",
        "reason of row 7: '' != 'off the edge'",
    ]


def test_only_rows_that_both_have_are_compared(tmp_path: Path) -> None:
    one, two = (create_store(tmp_path / f"{x}.zarr", plan(), *tables()) for x in "ab")
    for store, units in ((one, (0, 1)), (two, (1, 2))):
        for unit in units:
            store.write_unit(unit, values_of(store, unit))
    assert diff(one, two) == [
        "values: 4 rows are only in the first: 0, 1, 2, 3",
        "values: 3 rows are only in the second: 8, 9, 10",
    ]


def test_damaged_units_are_told_not_compared(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "a.zarr"), filled(tmp_path / "b.zarr")
    two.finalize()
    values = Path(two.folder, "X/c.1.0")
    values.write_bytes(values.read_bytes()[:-9] + b"?" + values.read_bytes()[-8:])
    Path(one.folder, "enformer_features/units/2.json").write_bytes(b"")
    assert diff(one, two) == [
        "the first is damaged: unit 2: marker",
        "the second is damaged: unit 1: values",
        "values: 4 rows are only in the first: 4, 5, 6, 7",
        "values: 3 rows are only in the second: 8, 9, 10",
        "values: the 4 rows that both have are equal",
    ]


def test_damaged_tables_are_not_compared(tmp_path: Path) -> None:
    one, two = filled(tmp_path / "a.zarr"), filled(tmp_path / "b.zarr")
    Path(two.folder, "obs/start/c/0").write_bytes(b"")
    with pytest.raises(StoreError, match="obs/start/c/0 are damaged; plan it again"):
        diff(one, two)
