"""Kills, flipped bytes, full disks and races, for stores."""

from __future__ import annotations

import contextlib
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from enformer_features.exceptions import PlanMismatchError, StoreError
from enformer_features.storage.store import (
    Store,
    StorePlan,
    create_store,
    open_store,
)
from enformer_features.storage.store.diff import diff
from tests.faults.children import (
    Children,
    SmallDisk,
    flip_a_bit,
    run,
    short_and_full,
    small_disk,
)

Figure = Callable[[str], None]

UNIT_ROWS, N_FEATURES = 32, 1_024
SECONDS = 0.02  # of computing a unit
FAILED = 7


def create(path: Path | str, n_units: int, name: str = "a", **options: Any) -> Store:
    n_rows = n_units * UNIT_ROWS - 5
    units = tuple(f"unit {unit}" for unit in range(n_units))
    plan = StorePlan(
        *("X", n_rows, (N_FEATURES,), "float32", UNIT_ROWS, units), {"name": name}
    )
    obs = pd.DataFrame({"start": np.arange(n_rows)}, index=range(n_rows)).rename(str)
    var = pd.DataFrame(index=[f"f{feature}" for feature in range(N_FEATURES)])
    return create_store(path, plan, obs, var, {}, **options)


def values_of(store: Store, unit: int) -> np.ndarray:
    """Return what a unit holds; other stores hold something else."""
    rows = store.unit_rows(unit)
    seed = [unit, *store.plan.settings["name"].encode()]
    shape = rows.stop - rows.start, N_FEATURES
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def fill(store: Store, units: list[int]) -> None:
    for unit in units:
        store.write_unit(unit, values_of(store, unit))


def work(path: str, order: str) -> None:
    """Fill a store unit by unit, forwards or backwards, and tell of each step."""
    store = open_store(path)
    print("ready", flush=True)
    for unit in store.pending()[:: int(order)]:
        if not store.is_done(unit):
            print("begun", unit, flush=True)
            store.begin_unit(unit)
            time.sleep(SECONDS)
            store.write_unit(unit, values_of(store, unit))
            print("done", unit, flush=True)


def steps(worker: subprocess.Popen[str]) -> dict[str, list[int]]:
    """Return the units that a worker told of; it has ended."""
    assert worker.stdout is not None
    told: dict[str, list[int]] = {"begun": [], "done": []}
    for line in worker.stdout:
        what, unit = line.split()
        told[what].append(int(unit))
    return told


@short_and_full("kills", 2, 20)
def test_killed_workers_lose_no_unit_and_the_end_is_the_same(
    kills: int, tmp_path: Path, children: Children, figure: Figure
) -> None:
    rng = random.Random(11)
    store = create(tmp_path / "killed.zarr", 20 * kills)
    acknowledged: set[int] = set()
    redone = 0
    for _ in range(kills):
        workers = [children.start(work, store.path, order) for order in ("1", "-1")]
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        children.kill_after(rng.uniform(0, 0.3), *workers)
        for worker in workers:
            told = steps(worker)
            assert not acknowledged & {*told["begun"]}
            assert len(told["begun"]) - len(told["done"]) <= 1
            assert all(store.is_done(unit) for unit in told["done"])
            redone += len(told["begun"]) - len(told["done"])
        acknowledged |= {unit for unit in range(store.n_units) if store.is_done(unit)}
        assert store.verify().damaged == []
    assert store.pending(), "every kill was in the middle of the work"
    assert run(work, store.path, "1").returncode == 0
    store.finalize()

    calm = create(tmp_path / "calm.zarr", 20 * kills)
    fill(calm, calm.pending())
    calm.finalize()
    assert diff(store, calm) == []
    assert contents(store.path / "X") == contents(calm.path / "X")
    assert store.verify().damaged == []
    figure(
        f"{kills} kills of 2 workers, {store.n_units} units: bit-identical, 0 "
        f"mismatches, {redone} units redone, at most 1 for each worker and kill"
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def replace(path: str, name: str) -> None:
    """Make a store and let it take the place of another."""
    import anndata  # noqa: F401  which takes a second: no time to be killed in

    print("ready", flush=True)
    store = create(path, 3, name, overwrite=True)
    fill(store, store.pending())
    store.finalize(overwrite=True)


@short_and_full("kills", 2, 20)
def test_kills_while_a_store_is_replaced_leave_the_old_or_the_new(
    kills: int, tmp_path: Path, children: Children, figure: Figure
) -> None:
    rng = random.Random(12)
    path = tmp_path / "out.zarr"
    replace(str(path), "0")
    calm = seconds_to_replace(path, children)
    found = []
    for number in range(1, kills + 1):
        before = open_store(path).plan.settings["name"]
        child = started(children, path, number)
        children.kill_after(rng.uniform(0, 1.2 * calm), child)
        store = open_store(path)
        assert store.plan.settings["name"] in (before, str(number))
        expected = [values_of(store, unit) for unit in range(store.n_units)]
        np.testing.assert_array_equal(store.read(), np.concatenate(expected))
        assert store.verify().damaged == []
        found.append("old" if store.plan.settings["name"] == before else "new")
        assert run(replace, path, number).returncode == 0
        assert sorted(entry.name for entry in tmp_path.glob("[!.]*")) == ["out.zarr"]
    old = found.count("old")
    figure(f"{kills} kills: {kills} readable, {old} old and {kills - old} new")


def started(children: Children, path: Path, name: object) -> subprocess.Popen[str]:
    child = children.start(replace, path, name)
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def seconds_to_replace(path: Path, children: Children) -> float:
    child = started(children, path, "calm")
    begin = time.monotonic()
    assert child.wait() == 0
    return time.monotonic() - begin


@contextlib.contextmanager
def flipped(path: Path, rng: random.Random) -> Iterator[None]:
    """Flip a bit of a file, and give it back afterwards."""
    before = path.read_bytes()
    flip_a_bit(path, rng.randrange(len(before)), rng)
    yield
    path.write_bytes(before)


@short_and_full("flips", 50, 1_000)
def test_flipped_bits_are_found_and_never_read_as_values(
    flips: int, tmp_path: Path, figure: Figure
) -> None:
    rng = random.Random(13)
    store = create(tmp_path / "out.zarr", 3, extra_arrays={"codes": np.arange(99)})
    values = np.concatenate([values_of(store, unit) for unit in range(3)])
    fill(store, [0, 1, 2])
    store.finalize()
    obs = store.obs()
    kinds = {
        "values": [*store.path.glob("X/c.*")],
        "headers": [*store.path.rglob("zarr.json")],
        "markers": [*store.path.glob("enformer_features/units/*")],
        "plan, manifest": [*store.path.glob("enformer_features/*.json")],
        "tables": [*store.path.glob("obs/*/c/*"), *store.path.glob("var/*/c/*")],
    }
    refused = 0
    for number in range(flips):
        files = [*kinds.values()][number % len(kinds)]
        path = rng.choice(sorted(files))
        with flipped(path, rng):
            assert finds_damage(store.path), f"{path} is damaged"
            try:
                again = open_store(store.path)
                np.testing.assert_array_equal(again.read(), values)
                pd.testing.assert_frame_equal(again.obs(), obs)
                assert again.extra_array("codes")[-1] == 98
            except StoreError:
                refused += 1
    assert not finds_damage(store.path)
    figure(
        f"{flips} bits in {', '.join(kinds)}: {flips} found, 0 wrong values read, "
        f"{refused} reads refused"
    )


def finds_damage(path: Path) -> bool:
    try:
        return bool(open_store(path).verify().damaged)
    except StoreError as error:
        return "plan.json is damaged" in str(error)


def work_or_tell(path: str) -> None:
    """Fill a store; where that fails say why, and end in order."""
    try:
        work(path, "1")
    except StoreError as error:
        print("StoreError:", error)
        sys.exit(FAILED)


def create_or_tell(path: str, n_units: str) -> None:
    try:
        create(path, int(n_units))
    except StoreError as error:
        print("StoreError:", error)
        sys.exit(FAILED)


def test_a_full_disk_stops_a_run_which_goes_on_when_there_is_room(
    tmp_path: Path, figure: Figure
) -> None:
    with small_disk(tmp_path / "disk", 1 << 20) as disk:
        disk.make_room()
        store = create(disk.folder / "out.zarr", 5)
        fill(store, [0])
        before = disk.content()
        full = SmallDisk(
            disk.folder, 100_000, is_mounted=disk.folder.is_mount()
        )  # less than a unit
        child = full.run(work_or_tell, store.path)
        assert child.returncode == FAILED, child.stderr
        assert f"StoreError: {store.folder}/X/c.1.0" in child.stdout
        assert "bytes are needed" in child.stdout
        begun = "out.zarr.partial/enformer_features/units/1.begun"
        assert disk.content() == sorted([*before, begun])
        assert store.verify().damaged == []

        full.make_room()
        child = full.run(work_or_tell, store.path)
        assert child.returncode == 0, child.stderr
        store.finalize()
        for unit in range(5):
            rows = store.unit_rows(unit)
            np.testing.assert_array_equal(store.read(rows), values_of(store, unit))


def test_a_disk_that_is_full_at_once_keeps_nothing_of_a_store(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1_000) as disk:
        child = disk.run(create_or_tell, disk.folder / "out.zarr", "1")
        assert child.returncode == FAILED, child.stderr
        assert "StoreError" in child.stdout
        assert "bytes are needed" in child.stdout
        assert disk.content() == []
        disk.make_room()
        child = disk.run(create_or_tell, disk.folder / "out.zarr", "1")
        assert child.returncode == 0, child.stderr


def create_with_others(folder: str, rounds: str, name: str) -> None:
    """Create a store in every round, when it is told to; say how it ended."""
    for number in range(int(rounds)):
        print("ready", flush=True)
        while not Path(folder, f"go-{number}").exists():
            time.sleep(0.001)
        try:
            store = create(Path(folder, f"{number}.zarr"), 3, name)
            print(store.plan.settings["name"], flush=True)
        except PlanMismatchError as error:
            print("refused" if "settings.name" in str(error) else error, flush=True)


@short_and_full("rounds", 2, 20)
def test_creators_at_once_share_a_plan_and_refuse_another(
    rounds: int, tmp_path: Path, children: Children, figure: Figure
) -> None:
    names = ["a", "a", "b"]
    creators = [
        children.start(create_with_others, tmp_path, rounds, name) for name in names
    ]
    for number in range(rounds):
        for creator in creators:
            assert creator.stdout is not None
            assert creator.stdout.readline() == "ready\n"
        Path(tmp_path, f"go-{number}").touch()
        ends = [creator.stdout.readline().strip() for creator in creators]  # type: ignore[union-attr]
        store = open_store(tmp_path / f"{number}.zarr")
        winner = store.plan.settings["name"]
        assert ends == [name if name == winner else "refused" for name in names]
        assert store.verify().damaged == []
    assert not [*tmp_path.glob(".*")]
    figure(f"{rounds} rounds of 3 creators: one store each, other plans refused")
