"""Time the two stores on this disk: ``python benchmarks/storage.py``.

Rows are written as runs write them, flushed to the disk; what is read was written just
before, so that it comes from memory where that is large enough.
"""

from __future__ import annotations

import argparse
import datetime
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from _measure import machine

from enformer_features.storage.disk_cache import DiskCache
from enformer_features.storage.store import StorePlan, create_store, open_store

WIDTH = 3_072  # of the published embedding
NARROW = 8
BINS = 896
MEGABYTE = 1e6


@dataclass(frozen=True)
class Sizes:
    """How much is written.

    Parameters
    ----------
    n_rows : int
        Rows of 3,072 numbers in the cache.
    n_narrow : int
        Rows of 8 numbers in the cache that is opened.
    n_pooled : int
        Rows of 3,072 numbers in a store.
    n_windows : int
        Windows of 896 bins of 3,072 numbers in a store.
    """

    n_rows: int = 20_000
    n_narrow: int = 1_000_000
    n_pooled: int = 50_000
    n_windows: int = 40


QUICK = Sizes(n_rows=50, n_narrow=200, n_pooled=40, n_windows=1)


@dataclass(frozen=True)
class Figure:
    """A line of the table; a goal of None is none."""

    what: str
    value: float
    unit: str
    goal: float | None = None
    fewer: bool = False

    @property
    def is_reached(self) -> bool:
        """Whether the goal is, if there is one."""
        if self.goal is None:
            return True
        return self.value <= self.goal if self.fewer else self.value >= self.goal


def key(number: int) -> str:
    """Return a key of 64 hexadecimal digits that looks random."""
    return (
        f"{number * 0x9E3779B97F4A7C15F39CC0605CEDC8341082276BF3A27251 % 2**256:064x}"
    )


@contextmanager
def clock(seconds: list[float]) -> Iterator[None]:
    """Append the seconds that a block takes."""
    began = time.perf_counter()
    yield
    seconds.append(time.perf_counter() - began)


def some_rows(n: int, width: int) -> np.ndarray:
    """Draw rows, from a fixed seed."""
    return np.random.default_rng(0).standard_normal((n, width)).astype(np.float32)


def time_disk(folder: Path, n_bytes: int) -> Figure:
    """Write a plain file and flush it: what the disk can do."""
    content, seconds = os.urandom(n_bytes), list[float]()
    with clock(seconds), open(folder / "plain", "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return Figure(
        "the disk: one plain file, flushed", n_bytes / MEGABYTE / seconds[0], "MB/s"
    )


def time_cache(folder: Path, n_rows: int) -> list[Figure]:
    """Write rows into the cache and read them in a new one."""
    rows, keys = some_rows(min(n_rows, 1_000), WIDTH), [key(i) for i in range(n_rows)]
    cache, seconds = DiskCache(folder / "wide"), list[float]()
    with clock(seconds):
        for number, name in enumerate(keys):
            cache.put(name, rows[number % len(rows)])
        cache.flush()
    with clock(seconds):
        reader = DiskCache(folder / "wide")
        reader.refresh()
        found = [reader.get(name) is not None for name in keys]
    assert all(found)
    what = f"cache: rows of {WIDTH:,} float32"
    return [
        Figure(f"{what}, written", n_rows / seconds[0], "rows/s", 10_000),
        Figure(f"{what}, read", n_rows / seconds[1], "rows/s", 30_000),
    ]


def time_opening(folder: Path, n_rows: int) -> Figure:
    """Open a cache that holds many small rows, in files of a thousand rows each."""
    (row,) = some_rows(1, NARROW)
    cache, seconds = DiskCache(folder / "narrow"), list[float]()
    for number in range(n_rows):
        cache.put(key(number), row)
        if number % 1_000 == 999:
            cache.flush()
    cache.flush()
    with clock(seconds):
        reader = DiskCache(folder / "narrow")
        reader.refresh()
    assert len(reader) == n_rows
    what = f"cache: an index of {n_rows:,} rows x {NARROW} in "
    what += f"{reader.info().n_segments:,} files, opened"
    return Figure(what, seconds[0], "s", 5.0, fewer=True)


def time_store(folder: Path, name: str, plan: StorePlan) -> list[Figure]:
    """Write a store unit by unit, read it, and check it."""
    obs = pd.DataFrame(index=[f"row {i}" for i in range(plan.n_rows)])
    n_features = plan.row_shape[0] if plan.array == "X" else 0
    var = pd.DataFrame(index=[f"feature {i}" for i in range(n_features)])
    drawn = some_rows(plan.unit_rows, int(np.prod(plan.row_shape)))
    values = drawn.reshape(plan.unit_rows, *plan.row_shape)
    seconds = list[float]()
    with clock(seconds):
        store = create_store(folder / f"{name}.zarr", plan, obs, var, {})
        for unit in store.pending():
            rows = store.unit_rows(unit)
            store.write_unit(unit, values[: rows.stop - rows.start])
        store.finalize()
    with clock(seconds):
        store = open_store(folder / f"{name}.zarr")
        for unit in range(store.n_units):
            store.read(store.unit_rows(unit))
    with clock(seconds):
        assert not store.verify().damaged
    whole = plan.n_bytes / MEGABYTE
    verbs = "written and finished", "read", "verified"
    return [
        Figure(f"store: {name}, {whole:,.0f} MB, {verb}", whole / taken, "MB/s")
        for verb, taken in zip(verbs, seconds, strict=True)
    ]


def plans(sizes: Sizes) -> dict[str, StorePlan]:
    """Return a plan of pooled rows, and one of all bins."""
    unit_rows = min(1_000, sizes.n_pooled)
    n_units = -(-sizes.n_pooled // unit_rows)
    pooled = StorePlan(
        *("X", sizes.n_pooled, (WIDTH,), "float32", unit_rows, ("",) * n_units)
    )
    bins = StorePlan(
        *("obsm/X_enformer_bins", sizes.n_windows, (BINS, WIDTH), "float32", 1),
        ("",) * sizes.n_windows,
    )
    return {"pooled rows": pooled, "all bins": bins}


def measure(folder: Path, sizes: Sizes) -> list[Figure]:
    """Measure everything once."""
    figures = [time_disk(folder, 4 * WIDTH * sizes.n_rows)]
    figures += time_cache(folder, sizes.n_rows)
    figures.append(time_opening(folder, sizes.n_narrow))
    for name, plan in plans(sizes).items():
        figures += time_store(folder, name, plan)
    return figures


def repeat(run: Callable[[Path], list[Figure]], where: Path, n: int) -> list[Figure]:
    """Measure several times, in new folders; return medians."""
    rounds = []
    for _ in range(n):
        with tempfile.TemporaryDirectory(dir=where) as folder:
            rounds.append(run(Path(folder)))
    return [
        Figure(
            one.what,
            statistics.median(figures[i].value for figures in rounds),
            *(one.unit, one.goal, one.fewer),
        )
        for i, one in enumerate(rounds[0])
    ]


def table(figures: list[Figure]) -> str:
    """Lay figures out as Markdown."""
    lines = ["| what | figure | goal | reached |", "| --- | --- | --- | --- |"]
    for one in figures:
        goal, reached = "", ""
        if one.goal is not None:
            goal = f"{'<' if one.fewer else '>='} {one.goal:,.0f} {one.unit}"
            reached = "yes" if one.is_reached else "**no**"
        value = f"{one.value:,.0f}" if one.value >= 100 else f"{one.value:.2g}"
        lines.append(f"| {one.what} | {value} {one.unit} | {goal} | {reached} |")
    return "\n".join(lines)


def report(figures: list[Figure], rounds: int) -> str:
    """Return the page that is written."""
    date = datetime.datetime.now(tz=datetime.UTC).date()
    return "\n".join(
        [
            "# The stores, measured",
            "",
            "Written by `make bench-storage`; see [README](README.md). Medians of "
            f"{rounds} rounds.",
            "What is written is flushed to the disk, by the file or unit; what is read "
            "was written just before,",
            "and comes from memory where that is large enough.",
            "",
            f"- {date}: {machine()}",
            "",
            table(figures),
            "",
        ]
    )


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path, help="on the disk to be measured")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="try it; no figures")
    parser.add_argument("--out", type=Path, help="write the page here")
    args = parser.parse_args()
    sizes = QUICK if args.quick else Sizes()
    figures = repeat(lambda folder: measure(folder, sizes), args.folder, args.rounds)
    page = report(figures, args.rounds)
    print(page)
    if args.out:
        args.out.write_text(page)
    if not args.quick and not all(one.is_reached for one in figures):
        msg = "a goal was missed"
        raise SystemExit(msg)


if __name__ == "__main__":
    main()
