from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from unittest.mock import Mock

import anndata
import numpy as np
import pytest

from enformer_features.exceptions import StoreError
from enformer_features.storage.store import Store, open_store
from enformer_features.storage.store import create as create_module
from tests.storage.store.test_create import BINS, create, fill, plan, values_of

OURS = "enformer_features"
Filled = Callable[..., Store]


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def clear(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


harm = pytest.mark.parametrize("harm", [remove, cut, clear, flip])
finished_or_not = pytest.mark.parametrize("is_finished", [True, False])


@pytest.fixture(scope="module")
def templates(tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """Make an unfinished and a finished store, once."""
    folder = tmp_path_factory.mktemp("templates")
    store = planned(folder / "out.zarr")
    fill(store)
    shutil.copytree(store.folder, folder / "unfinished")
    return {False: folder / "unfinished", True: store.finalize()}


@pytest.fixture
def filled(templates: dict[bool, Path], tmp_path: Path) -> Filled:
    def copy(is_finished: bool = True) -> Store:
        name = "out.zarr" if is_finished else "out.zarr.partial"
        shutil.copytree(templates[is_finished], tmp_path / name)
        return open_store(tmp_path / "out.zarr")

    return copy


def planned(path: Path) -> Store:
    return create(path, extra_arrays={"codes": np.arange(11)})


@finished_or_not
def test_a_store_that_was_left_alone_is_whole(
    is_finished: bool, filled: Filled
) -> None:
    report = filled(is_finished).verify()
    assert (report.n_units, report.n_checked, report.damaged) == (3, 3, [])


def test_units_that_are_missing_are_told_apart_from_whole_ones(tmp_path: Path) -> None:
    store = planned(tmp_path / "out.zarr")
    store.write_unit(1, values_of(store, 1))
    report = store.verify()
    assert (report.n_units, report.n_checked, report.missing) == (3, 1, [0, 2])
    assert report.damaged == []


@harm
@finished_or_not
def test_damaged_values_are_found_never_read_and_replaced_in_place(
    is_finished: bool, harm: Callable[[Path], None], filled: Filled
) -> None:
    store = filled(is_finished)
    values = store.read()
    harm(store.folder / "X/c.1.0")
    with pytest.raises(StoreError, match=r"unit 1 is damaged; .* --repair"):
        store.read(slice(2, 6))
    np.testing.assert_array_equal(store.read(slice(4)), values[:4])
    report = store.verify()
    assert (report.damaged, report.units) == (["unit 1: values"], [1])
    store.write_unit(1, values_of(store, 1))
    assert store.verify().units == [1]
    store.write_unit(1, values_of(store, 1), replace=True)
    store.record_repair()
    assert store.is_finished == is_finished
    store.finalize()
    np.testing.assert_array_equal(store.read(), values)
    np.testing.assert_array_equal(anndata.read_zarr(store.path).X, values)
    assert store.verify().damaged == []


@harm
def test_damaged_shards_of_bins_are_never_read(
    harm: Callable[[Path], None], tmp_path: Path
) -> None:
    store = create(tmp_path / "out.zarr", plan(*BINS))
    values = fill(store)
    store.finalize()
    harm(store.path / "obsm/X_enformer_bins/c.1.0.0")
    with pytest.raises(StoreError, match="unit 1 is damaged"):
        store.read()
    assert store.verify().damaged == ["unit 1: values"]
    store.write_unit(1, values_of(store, 1), replace=True)
    np.testing.assert_array_equal(store.read(), values)


@harm
def test_damaged_markers_are_found_and_their_units_replaced(
    harm: Callable[[Path], None], filled: Filled
) -> None:
    store = filled()
    values = store.read()
    harm(store.folder / OURS / "units/2.json")
    report = store.verify()
    assert report.damaged == ["unit 2: marker"]
    store.write_unit(2, values_of(store, 2), replace=True)
    store.record_repair()
    assert (store.is_finished, store.verify().damaged) == (True, [])
    np.testing.assert_array_equal(store.read(), values)


def test_a_finished_store_records_the_reasons_of_a_replaced_unit(
    filled: Filled,
) -> None:
    store = filled()
    values = values_of(store, 2)
    values[0] = np.nan
    about = {"reasons": {8: "the network failed"}}
    store.write_unit(2, values, about, replace=True)
    store.record_repair()
    assert store.verify().damaged == []
    assert store.obs()["reason"].tolist() == [""] * 8 + ["the network failed", "", ""]
    assert store.manifest()["run"]["rows_with_reasons"] == 1


def test_a_damaged_marker_keeps_an_unfinished_store_from_its_name(
    filled: Filled,
) -> None:
    store = filled(False)
    flip(store.folder / OURS / "units/2.json")
    assert store.status().damaged_markers == [2]
    with pytest.raises(StoreError, match=r"units 2 are damaged; .*--repair"):
        store.finalize()


def test_a_marker_of_another_unit_is_no_marker(filled: Filled) -> None:
    store = filled()
    units = store.folder / OURS / "units"
    (units / "0.json").write_bytes((units / "1.json").read_bytes())
    assert store.verify().damaged == ["unit 0: marker"]


def test_values_of_another_unit_are_found(filled: Filled) -> None:
    store = filled()
    (store.path / "X/c.0.0").write_bytes((store.path / "X/c.1.0").read_bytes())
    assert store.verify().damaged == ["unit 0: values"]


@pytest.mark.parametrize(
    ("name", "harm", "is_finished"),
    [
        ("X/zarr.json", flip, True),
        ("X/zarr.json", remove, False),
        ("zarr.json", clear, True),
        ("obs/start/c/0", flip, False),
        (f"{OURS}/plan.json", cut, True),
        (f"{OURS}/plan.json", remove, False),
        (f"{OURS}/manifest.json", flip, True),
        (f"{OURS}/manifest.json", remove, False),
        (f"{OURS}/arrays/codes/c.0", clear, True),
    ],
)
def test_other_damaged_files_are_found_and_restored_by_planning_again(
    name: str, is_finished: bool, harm: Callable[[Path], None], filled: Filled
) -> None:
    store = filled(is_finished)
    values = store.read()
    harm(store.folder / name)
    assert name in store.verify().damaged
    assert store.pending() == []
    again = planned(store.path)
    again.finalize()
    assert again.verify().damaged == []
    np.testing.assert_array_equal(open_store(again.path).read(), values)
    np.testing.assert_array_equal(again.extra_array("codes"), np.arange(11))
    assert anndata.read_zarr(again.path).obs["start"].tolist() == list(range(11))


def test_a_finished_store_that_is_being_restored_has_no_name(
    filled: Filled, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its reasons are put back when it is finished again."""
    store = filled()
    (store.path / "var/zarr.json").unlink()
    monkeypatch.setattr(create_module, "_restore", Mock(side_effect=KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        planned(store.path)
    assert not open_store(store.path).is_finished


def test_what_is_damaged_is_not_read(filled: Filled) -> None:
    store = filled()
    for name in ("X/zarr.json", "obs/start/c/0", f"{OURS}/arrays/codes/c.0"):
        flip(store.path / name)
    store = open_store(store.path)
    with pytest.raises(StoreError, match=r"X/zarr\.json are damaged; plan it again"):
        store.read()
    with pytest.raises(StoreError, match="obs/start/c/0 are damaged; plan it again"):
        store.obs()
    with pytest.raises(StoreError, match="codes is damaged; plan it again"):
        store.extra_array("codes")
    flip(store.path / OURS / "plan.json")
    with pytest.raises(StoreError, match=r"plan\.json is damaged.*; plan it again"):
        open_store(store.path)


def test_a_store_whose_plan_and_manifest_are_damaged_is_refused(
    tmp_path: Path, filled: Filled
) -> None:
    store = filled()
    for name in ("plan.json", "manifest.json"):
        flip(store.path / OURS / name)
    with pytest.raises(StoreError, match=r"plan\.json is damaged"):
        create(tmp_path / "out.zarr")
