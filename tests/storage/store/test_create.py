from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    PlanMismatchError,
    StoreError,
)
from enformer_features.storage import files
from enformer_features.storage.store import (
    Store,
    StorePlan,
    create_store,
    folder,
    open_store,
)

N_ROWS, N_BINS, N_FEATURES, UNIT_ROWS = 11, 5, 3, 4
POOLED = ("X", (N_FEATURES,))
BINS = ("obsm/X_enformer_bins", (N_BINS, N_FEATURES))
both_shapes = pytest.mark.parametrize(("array", "row_shape"), [POOLED, BINS])


def plan(array: str = "X", row_shape: Any = (N_FEATURES,), **changes: Any) -> StorePlan:
    fields: dict[str, Any] = {
        "array": array,
        "n_rows": N_ROWS,
        "row_shape": row_shape,
        "dtype": "float32",
        "unit_rows": UNIT_ROWS,
        "unit_digests": ("u0", "u1", "u2"),
        "settings": {"precision": "float32", "embedder": {"edge": "pad"}},
        "info": {"host": "here"},
    }
    return StorePlan(**fields | changes)


def tables() -> tuple[pd.DataFrame, pd.DataFrame, dict[str, Any]]:
    obs = pd.DataFrame(
        {"chrom": ["chr1", "chr2"] * 5 + ["chr1"], "start": np.arange(N_ROWS)},
        index=[f"r{row}" for row in range(N_ROWS)],
    )
    var = pd.DataFrame(index=["a", "b", "c"])
    return obs, var, {"enformer_features": {"weights_digest": "00ff"}}


def create(path: Path, of: StorePlan | None = None, **options: Any) -> Store:
    return create_store(path, of or plan(), *tables(), **options)


def values_of(store: Store, unit: int) -> np.ndarray:
    rows = store.unit_rows(unit)
    shape = (rows.stop - rows.start, *store.plan.row_shape)
    return np.random.default_rng(unit).normal(size=shape).astype(np.float32)


def fill(store: Store) -> np.ndarray:
    for unit in store.pending():
        store.write_unit(unit, values_of(store, unit), {"seconds": 0.5, "host": "h"})
    return np.concatenate([values_of(store, unit) for unit in range(store.n_units)])


@both_shapes
def test_a_filled_store_is_an_anndata_with_the_values_as_they_were_given(
    array: str, row_shape: tuple[int, ...], tmp_path: Path
) -> None:
    store = create(tmp_path / "out.zarr", plan(array, row_shape))
    values = fill(store)
    assert store.finalize() == tmp_path / "out.zarr"
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]

    obs, var, _ = tables()
    adata = anndata.read_zarr(tmp_path / "out.zarr")
    kept = adata.X if array == "X" else adata.obsm["X_enformer_bins"]
    np.testing.assert_array_equal(kept, values)
    pd.testing.assert_frame_equal(
        adata.obs, obs.assign(reason=""), check_categorical=False, check_dtype=False
    )
    assert list(adata.var_names) == list(var.index)
    assert adata.uns["enformer_features"]["weights_digest"] == "00ff"
    np.testing.assert_array_equal(store.read(), values)
    np.testing.assert_array_equal(
        open_store(tmp_path / "out.zarr").read(slice(3, 9)), values[3:9]
    )


@both_shapes
def test_an_unfinished_store_opens_as_an_anndata_with_holes(
    array: str, row_shape: tuple[int, ...], tmp_path: Path
) -> None:
    store = create(tmp_path / "out.zarr", plan(array, row_shape))
    store.write_unit(1, values_of(store, 1))
    adata = anndata.read_zarr(store.folder)
    kept = adata.X if array == "X" else adata.obsm["X_enformer_bins"]
    np.testing.assert_array_equal(kept[4:8], values_of(store, 1))
    assert np.isnan(np.delete(kept, slice(4, 8), axis=0)).all()


def test_work_goes_on_where_it_was_left(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    store.write_unit(1, values_of(store, 1))
    again = create(tmp_path / "out.zarr", plan(info={"host": "elsewhere"}))
    assert again.pending() == [0, 2]
    assert again.is_done(1)
    assert not again.is_finished
    np.testing.assert_array_equal(again.read(slice(5, 7)), values_of(store, 1)[1:3])
    values = fill(again)
    again.finalize()
    finished = create(tmp_path / "out.zarr")
    assert finished.is_finished
    assert finished.pending() == []
    assert finished.finalize() == tmp_path / "out.zarr"
    np.testing.assert_array_equal(finished.read(), values)


def test_parts_share_the_units_between_them(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    assert [store.pending((i, 2)) for i in (1, 2)] == [[0, 2], [1]]
    assert store.pending((4, 4)) == []
    for part in [(0, 2), (3, 2), (1, 0)]:
        with pytest.raises(InputError, match="parts are counted from 1 to"):
            store.pending(part)
    with pytest.raises(InputError, match="unit 3 is none of 0 to 2"):
        store.unit_rows(3)


def test_a_unit_that_is_done_is_left_as_it_is(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    store.write_unit(0, values_of(store, 0))
    store.write_unit(0, values_of(store, 0) + 1)
    np.testing.assert_array_equal(store.read(slice(4)), values_of(store, 0))


def test_rows_that_are_not_computed_are_never_read(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    store.write_unit(1, values_of(store, 1))
    with pytest.raises(StoreError, match=r"units 0, 2 are not computed yet"):
        store.read()
    with pytest.raises(InputError, match="step 1, not 2"):
        store.read(slice(0, 4, 2))
    assert store.read(slice(4, 4)).shape == (0, N_FEATURES)


def test_what_is_missing_is_named_before_a_store_is_finished(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    store.write_unit(1, values_of(store, 1))
    with pytest.raises(StoreError, match=r"2 of 3 units are missing: 0, 2; run .*run"):
        store.finalize()
    fill(store)
    Path(store.folder, "X/c.1.0").unlink()
    with pytest.raises(StoreError, match=r"units 1 are damaged; .*--repair"):
        store.finalize()


def test_reasons_of_rows_come_into_the_table(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    values = values_of(store, 1)
    values[2] = np.nan
    with pytest.raises(InputError, match=r"unit 1: rows 6 .* no reason"):
        store.write_unit(1, values)
    with pytest.raises(InputError, match="reasons for rows 2; its own are 4 to 7"):
        store.write_unit(1, values, {"reasons": {2: "off the edge"}})
    store.write_unit(1, values, {"reasons": {6: "off the edge"}})
    fill(store)
    store.finalize()
    assert anndata.read_zarr(store.path).obs["reason"].tolist()[5:8] == [
        "",
        "off the edge",
        "",
    ]
    assert np.isnan(store.read(slice(6, 7))).all()
    assert store.status().reasons == 1


def test_float16_is_kept_and_its_range_is_checked(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr", plan(dtype="float16"))
    values = values_of(store, 1)
    values[3, 1] = 7e4
    with pytest.raises(StoreError, match=r"unit 1: rows 7 .* float16 \(65,504\)"):
        store.write_unit(1, values)
    values = fill(store)
    store.finalize()
    read = store.read()
    assert read.dtype == np.float16
    np.testing.assert_array_equal(read, values.astype(np.float16))


def test_values_of_another_shape_or_kind_are_refused(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    with pytest.raises(InputError, match=r"shape \(3, 3\), expected .* \(4, 3\)"):
        store.write_unit(0, values_of(store, 2))
    with pytest.raises(InputError, match="int64 values"):
        store.write_unit(0, np.zeros((4, 3), dtype=np.int64))


@pytest.mark.parametrize("is_finished", [False, True])
def test_another_plan_is_refused_field_by_field(
    is_finished: bool, tmp_path: Path
) -> None:
    store = create(tmp_path / "out.zarr")
    values = fill(store)
    if is_finished:
        store.finalize()
    other = plan(
        dtype="float16",
        unit_digests=("u0", "x", "u2"),
    )
    with pytest.raises(PlanMismatchError) as caught:
        create(tmp_path / "out.zarr", other)
    assert "dtype: 'float16' != 'float32'" in str(caught.value)
    assert "1 of 3 units are of other rows or sequences: 1" in str(caught.value)
    assert "edge" not in str(caught.value)
    np.testing.assert_array_equal(open_store(tmp_path / "out.zarr").read(), values)


def test_a_finished_store_is_replaced_only_when_asked(tmp_path: Path) -> None:
    old = create(tmp_path / "out.zarr")
    fill(old)
    old.finalize()
    other = plan(dtype="float16")
    new = create(tmp_path / "out.zarr", other, overwrite=True)
    assert open_store(tmp_path / "out.zarr").plan == plan()
    assert open_store(f"{tmp_path}/out.zarr.partial/").plan == other
    fill(new)
    with pytest.raises(StoreError, match="exists; remove it, or replace it"):
        new.finalize()
    new.finalize(overwrite=True)
    assert open_store(tmp_path / "out.zarr.partial").plan == other
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


@pytest.mark.parametrize("begins", ["before", "after"])
def test_a_store_that_two_processes_finish_at_once_is_kept(
    begins: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them goes all the way while the other moves the old store aside."""
    fill(create(tmp_path / "out.zarr"))
    open_store(tmp_path / "out.zarr").finalize()
    other = plan(settings={"precision": "bfloat16"})
    one, two = (create(tmp_path / "out.zarr", other, overwrite=True) for _ in "12")
    values = fill(one)
    rename = files.rename

    def rename_at_once(old: Path, new: Path) -> None:
        monkeypatch.setattr(files, "rename", rename)
        if begins == "before":
            two.finalize(overwrite=True)
        rename(old, new)
        if begins == "after":
            two.finalize(overwrite=True)

    monkeypatch.setattr(files, "rename", rename_at_once)
    assert one.finalize(overwrite=True) == tmp_path / "out.zarr"
    finished = open_store(tmp_path / "out.zarr")
    assert finished.is_finished
    np.testing.assert_array_equal(finished.read(), values)
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_who_is_overtaken_while_finishing_is_told_of_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (create(tmp_path / "out.zarr") for _ in "12")
    values = fill(one)
    monkeypatch.setattr(one, "_remove_leftovers", two.finalize)
    monkeypatch.setattr(one, "manifest", Mock(side_effect=FileNotFoundError))
    assert one.finalize() == tmp_path / "out.zarr"
    np.testing.assert_array_equal(one.read(), values)


def test_a_store_that_is_stopped_between_two_names_gets_its_own_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The old one has lost its name by then."""
    fill(create(tmp_path / "out.zarr"))
    open_store(tmp_path / "out.zarr").finalize()
    new = create(tmp_path / "out.zarr", plan(settings={"a": 1}), overwrite=True)
    values = fill(new)
    rename = files.rename

    def stop_at_the_second(old: Path, name: Path) -> None:
        if old.name != "out.zarr":  # nor is the old one put back
            raise KeyboardInterrupt
        rename(old, name)

    with monkeypatch.context() as patch:
        patch.setattr(files, "rename", stop_at_the_second)
        with pytest.raises(KeyboardInterrupt):
            new.finalize(overwrite=True)
    assert not (tmp_path / "out.zarr").exists()
    again = open_store(tmp_path / "out.zarr")
    np.testing.assert_array_equal(again.read(), values)
    again.finalize()
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


def test_a_finished_store_is_kept_while_another_process_has_moved_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = create(tmp_path / "out.zarr")
    fill(store)
    aside = files.hidden_sibling(store.path, files.OLD)
    monkeypatch.setattr(folder, "flush_folder", lambda _: store.path.rename(aside))
    store.finalize()
    assert [path.name for path in tmp_path.iterdir()] == [aside.name]


def test_what_is_no_store_is_not_replaced_when_a_store_is_finished(
    tmp_path: Path,
) -> None:
    store = create(tmp_path / "out.zarr")
    fill(store)
    (tmp_path / "out.zarr").mkdir()
    with pytest.raises(StoreError, match="no store of this package; move it away"):
        store.finalize(overwrite=True)
    assert store.pending() == []


def test_a_missing_store_is_bad_input_and_the_nearest_name_is_told(
    tmp_path: Path,
) -> None:
    create(tmp_path / "features.zarr")
    with pytest.raises(InputError, match=r"did you mean features\.zarr"):
        open_store(tmp_path / "faetures.zarr")


def test_paths_that_are_no_store_are_told(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="there is no store"):
        open_store(tmp_path / "out.zarr")
    with pytest.raises(InputError, match=r"no name of a store; .* ends in \.zarr"):
        create(tmp_path / "out.h5ad")
    with pytest.raises(InputError, match="there is no folder"):
        create(tmp_path / "absent" / "out.zarr")
    with pytest.raises(InputTypeError, match="path is int"):
        create(7)  # type: ignore[arg-type]
    anndata.AnnData(np.zeros((2, 2))).write_h5ad(tmp_path / "other.zarr")
    (tmp_path / "folder.zarr").mkdir()
    for name in ("other.zarr", "folder.zarr"):
        with pytest.raises(StoreError, match="is no store of this package"):
            create(tmp_path / name, overwrite=True)
        with pytest.raises(StoreError, match="is no store of this package"):
            open_store(tmp_path / name)


def test_tables_are_checked_before_anything_is_written(tmp_path: Path) -> None:
    obs, var, uns = tables()
    path = tmp_path / "out.zarr"
    with pytest.raises(InputError, match="obs: names that repeat: r0"):
        create_store(path, plan(), obs.set_axis(["r0"] * N_ROWS), var, uns)
    with pytest.raises(InputError, match="obs has 10 rows, the values have 11"):
        create_store(path, plan(), obs[:10], var, uns)
    with pytest.raises(InputError, match="2 feature names for 3 features"):
        create_store(path, plan(), obs, var[:2], uns)
    with pytest.raises(InputError, match=r"uns\['t'\] is a tuple"):
        create_store(path, plan(), obs, var, {"t": (1, 2)})
    with pytest.raises(InputError, match="extra_arrays: 'a/b'"):
        create_store(path, plan(), obs, var, uns, {"a/b": np.zeros(N_ROWS)})
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_is_too_small_is_told_before_anything_is_written(
    tmp_path: Path,
) -> None:
    large = plan("obsm/X_enformer_bins", (1 << 40,))
    with pytest.raises(StoreError, match=r"48,378,511,6\d\d,\d+ bytes are needed and"):
        create(tmp_path / "out.zarr", large)
    assert list(tmp_path.iterdir()) == []


def test_extra_arrays_and_the_table_are_read_back(tmp_path: Path) -> None:
    codes = np.arange(N_ROWS * 7, dtype=np.uint8).reshape(N_ROWS, 7)
    store = create(tmp_path / "out.zarr", extra_arrays={"codes": codes})
    store = open_store(tmp_path / "out.zarr")
    np.testing.assert_array_equal(store.extra_array("codes"), codes)
    np.testing.assert_array_equal(store.extra_array("codes", slice(2, 5)), codes[2:5])
    with pytest.raises(InputError, match="no extra array 'letters'"):
        store.extra_array("letters")
    assert store.obs()["start"].tolist() == list(range(N_ROWS))


def test_status_counts_rows_bytes_and_attempts(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    assert [store.begin_unit(0), store.begin_unit(0), store.begin_unit(2)] == [1, 2, 1]
    store.write_unit(0, values_of(store, 0), {"seconds": 1.5})
    status = store.status()
    assert (status.n_units, status.n_done) == (3, 1)
    assert (status.n_rows, status.n_rows_done) == (11, 4)
    assert (status.attempts, status.begun, status.seconds) == (3, {2: 1}, 1.5)
    assert status.n_bytes == Path(store.folder, "X/c.0.0").stat().st_size


def test_the_manifest_tells_how_a_store_was_made(tmp_path: Path) -> None:
    store = create(tmp_path / "out.zarr")
    fill(store)
    store.finalize()
    manifest = store.manifest()
    assert manifest["settings"] == plan().settings
    assert manifest["info"] == {"host": "here"}
    assert manifest["run"]["hosts"] == ["h"]
    assert manifest["run"]["seconds"] == 1.5
    assert len(manifest["run"]["units"]) == 3
    written = json.loads((store.path / "enformer_features/manifest.json").read_text())
    assert written["content"] == manifest


def test_a_worker_that_is_late_does_not_bring_the_folder_back(tmp_path: Path) -> None:
    store, late = (create(tmp_path / "out.zarr") for _ in range(2))
    late.read(slice(0, 0))
    fill(store)
    store.finalize()
    late.write_unit(0, values_of(late, 0))
    assert late.pending() == []
    assert late.finalize() == tmp_path / "out.zarr"
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]
    shutil.rmtree(tmp_path / "out.zarr")
    with pytest.raises(StoreError, match="is gone: it was removed meanwhile"):
        late.write_unit(0, values_of(late, 0))
