"""Killed writers, damage and full disks: the cache loses nothing and is never wrong."""

from __future__ import annotations

import json
import random
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from enformer_features.exceptions import CacheWarning
from enformer_features.storage.disk_cache import DiskCache
from enformer_features.storage.segments import SUFFIX
from tests.faults.children import flip_a_bit, run, short_and_full, small_disk

if TYPE_CHECKING:
    from enformer_features import EnformerEmbedder

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning"
)
N_KEYS = 5_000
WIDTH = 96


def key(number: int) -> str:
    return f"{number:064x}"


def row(number: int, width: int = WIDTH) -> np.ndarray:
    return np.arange(width, dtype=np.float32) + number


def fill(folder: Path, numbers: range, width: int = WIDTH) -> None:
    cache = DiskCache(folder)
    for number in numbers:
        cache.put(key(number), row(number, width))
    cache.flush()


def letters(n_rows: int) -> list[str]:
    from tests.estimators.toy import LENGTH, random_letters

    return [random_letters(LENGTH, seed) for seed in range(n_rows)]


def embedder(cache: DiskCache | Path | None = None) -> EnformerEmbedder:
    from tests.estimators.toy import embedder  # children that need no network are quick

    return embedder(cache=cache)


def opened(folder: Path) -> DiskCache:
    cache = DiskCache(folder)
    cache.refresh()
    return cache


# Killed writers


def write_rows(folder: str, seed: str) -> None:
    """Write rows for ever, and tell which are safe; merge segments now and then."""
    rng = np.random.default_rng(int(seed))
    cache = opened(Path(folder))
    for turn in range(100_000):
        numbers = rng.integers(0, N_KEYS, 10).tolist()
        for number in numbers:
            if cache.get(key(number)) is None:
                cache.put(key(number), row(number))
        cache.flush()
        print(*numbers, flush=True)
        if turn % 25 == 24:
            cache.compact()
        cache.refresh()


@short_and_full("rounds", 2, 12)
def test_killed_writers_of_the_same_keys_lose_no_row_that_was_flushed(
    tmp_path, children, figure, rounds
):
    rng, acknowledged = random.Random(rounds), set()
    for number in range(rounds):
        writers = [children.start(write_rows, tmp_path, 2 * number + i) for i in (0, 1)]
        lines = [writer.stdout.readline() for writer in writers]
        for writer in writers:
            children.kill_after(rng.uniform(0, 0.4), writer)
            lines += writer.stdout.read().splitlines(keepends=True)
        told = [line for line in lines if line.endswith("\n")]  # not cut by the kill
        acknowledged |= {int(word) for line in told for word in line.split()}
        cache = opened(tmp_path)
        found = {number: cache.get(key(number)) for number in acknowledged}
        lost = [number for number, values in found.items() if values is None]
        assert not lost
        for number, values in found.items():
            np.testing.assert_array_equal(values, row(number))
        assert not cache.verify().damaged
    n_cut = len(opened(tmp_path).info().leftovers)
    figure(
        f"{2 * rounds} writers killed, {n_cut} amidst writing, "
        f"{len(acknowledged):,} rows acknowledged, 0 lost, 0 wrong"
    )


# Damage


def cut(file: Path, rng: random.Random) -> None:
    content = file.read_bytes()
    file.write_bytes(content[: rng.randrange(len(content))])


def blank(file: Path, rng: random.Random) -> None:
    content = bytearray(file.read_bytes())
    begin = rng.randrange(len(content) - 64)
    content[begin : begin + 64] = bytes(64) if any(content[begin:][:64]) else b"1" * 64
    file.write_bytes(content)


def flip(file: Path, rng: random.Random) -> None:
    flip_a_bit(file, rng.randrange(file.stat().st_size), rng)


def wrong_rows(cache: DiskCache, widths: dict[int, int]) -> tuple[list[int], list[int]]:
    """Return the numbers of rows that are not there, and of rows that are wrong."""
    found = {number: cache.get(key(number)) for number in widths}
    missing = [number for number, values in found.items() if values is None]
    wrong = [
        number
        for number, values in found.items()
        if values is not None
        and not np.array_equal(values, row(number, widths[number]))
    ]
    return missing, wrong


@pytest.mark.parametrize("damage", [flip, cut, blank])
@short_and_full("rounds", 10, 50)
def test_all_damage_is_found_and_computed_again_and_no_wrong_row_returned(
    tmp_path, figure, rounds, damage: Callable[[Path, random.Random], None]
):
    rng, widths = random.Random(rounds), {}
    for part, width in enumerate((1, 7, WIDTH)):
        numbers = range(20 * part, 20 * part + 20)
        fill(tmp_path, numbers, width)
        widths |= dict.fromkeys(numbers, width)
    n_missing = 0
    for _ in range(rounds):
        file = rng.choice(sorted(tmp_path.glob(f"*{SUFFIX}")))
        damage(file, rng)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CacheWarning)
            cache = opened(tmp_path)
            assert any(file.name in told for told in cache.verify().damaged)
            missing, wrong = wrong_rows(cache, widths)
            assert not wrong
            n_missing += len(missing)
            for number in missing:
                cache.put(key(number), row(number, widths[number]))
            cache.flush()
            cache.compact()
        assert wrong_rows(opened(tmp_path), widths) == ([], [])
        assert not opened(tmp_path).verify().damaged
    figure(f"{rounds} found of {rounds}, 0 wrong rows, {n_missing} rows written again")


def test_features_with_a_damaged_cache_equal_those_without(tmp_path):
    rows = letters(5)
    expected = embedder().transform(rows)
    embedder(cache=DiskCache(tmp_path)).warm(rows)
    (file,) = tmp_path.glob(f"*{SUFFIX}")
    flip_a_bit(file, file.stat().st_size - 1, random.Random(0))
    damaged = embedder(cache=DiskCache(tmp_path))
    with pytest.warns(CacheWarning, match="damaged rows, which are computed again"):
        np.testing.assert_array_equal(damaged.transform(rows), expected)
    with warnings.catch_warnings():  # the damaged segment may be looked at again
        warnings.simplefilter("ignore", CacheWarning)
        assert embedder(cache=DiskCache(tmp_path)).warm(rows) == 0


# Disks and folders


def embed_on_a_disk(folder: str) -> None:
    """Embed with a cache and without; tell what was computed and what was warned."""
    rows = letters(16)
    cached = embedder(cache=Path(folder))
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        n_computed = cached.warm(rows)
        values = cached.transform(rows)
    told = [str(w.message) for w in caught if w.category is CacheWarning]
    equal = bool((values == embedder().transform(rows)).all())
    print(json.dumps({"computed": n_computed, "told": told, "equal": equal}))


def test_a_full_disk_is_one_warning_and_rows_are_kept_once_there_is_room(tmp_path):
    with small_disk(tmp_path / "disk", room=8_192) as disk:
        fill(disk.folder / "rows", range(1))
        before = disk.content()
        done = disk.run(embed_on_a_disk, disk.folder / "rows")
        assert done.returncode == 0, done.stderr
        full = json.loads(done.stdout)
        assert full["equal"]
        assert len(full["told"]) == 1
        assert "rows are computed and not kept" in full["told"][0]
        assert disk.content() == before
        assert opened(disk.folder / "rows").get(key(0)) is not None
        disk.make_room()
        roomy = json.loads(disk.run(embed_on_a_disk, disk.folder / "rows").stdout)
        assert roomy == {"computed": 16, "told": [], "equal": True}
        assert embedder(cache=disk.folder / "rows").plan(letters(16)).n_cached == 16


@pytest.mark.parametrize("place", ["a file", "below a file", "read-only"])
def test_a_folder_that_cannot_be_used_is_one_warning_and_equal_features(
    tmp_path, place
):
    folder = tmp_path / "rows"
    if place == "read-only":
        folder = Path("/proc/self/rows")  # also for the superuser
        if not folder.parent.is_dir():
            pytest.skip("needs a folder where nobody may write")
    else:
        folder.write_text("mine")
        folder = folder if place == "a file" else folder / "below"
    rows = letters(3)
    expected = embedder().transform(rows)
    cached = embedder(cache=folder)
    with pytest.warns(CacheWarning, match="cannot be used .* and not kept") as told:
        values = [cached.transform(rows), cached.transform(rows)]
    assert [warned.category for warned in told].count(CacheWarning) == 1
    for found in values:
        np.testing.assert_array_equal(found, expected)


def read_with_few_handles(folder: str, n_rows: str) -> None:
    import resource

    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    cache = opened(Path(folder))
    assert wrong_rows(cache, dict.fromkeys(range(int(n_rows)), WIDTH)) == ([], [])
    assert not cache.verify().damaged


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of handles there")
@short_and_full("n_segments", 100, 1000)
def test_many_segments_are_read_with_few_file_handles(tmp_path, n_segments):
    for number in range(n_segments):
        fill(tmp_path, range(number, number + 1))
    done = run(read_with_few_handles, tmp_path, n_segments)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="counts in /proc")
def test_many_transforms_leave_no_file_open_and_no_memory_behind(tmp_path):
    import psutil

    from tests.estimators.toy import write_fasta

    genome = write_fasta(tmp_path / "toy.fa", chr1=letters(1)[0] * 4)
    model = embedder(cache=tmp_path / "rows").set_params(genome=genome)
    rows = [f"chr1:{i}-{i}" for i in range(1_000, 1_003)]
    process, seen = psutil.Process(), []
    for number in range(150):
        model.transform(rows)
        if number in (49, 149):
            seen.append((process.num_fds(), process.memory_info().rss))
    (files, before), (files_then, after) = seen
    assert files_then == files
    assert after - before < 20e6
