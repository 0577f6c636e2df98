"""Time GroupedRidgeCV at the size it is for: ``python benchmarks/ridge.py``.

Features and targets are random numbers with a linear part. scikit-learn runs on a
smaller size, in the same run, in turns: `RidgeCV`, which leaves out one row at a time
and so gives other penalties, and a `GridSearchCV` of `Ridge` over the same folds of
groups, which gives one penalty for all targets.
"""

from __future__ import annotations

import argparse
import datetime
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from _measure import (
    Seconds,
    interleaved,
    machine,
    median,
    memory_of,
    show,
    timed,
)
from sklearn.linear_model import Ridge, RidgeCV
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.estimators.ridge.estimator import ALPHAS, GroupedRidgeCV

N_GROUPS = 22
N_FOLDS = 5
LONGEST_S, MOST_GB = 300, 3.0


@dataclass(frozen=True)
class Size:
    """How many rows, features and targets."""

    n_rows: int
    n_features: int
    n_targets: int

    def __str__(self) -> str:
        return f"{self.n_rows:,} x {self.n_features:,} -> {self.n_targets}"


@dataclass(frozen=True)
class Data:
    """What a head is fitted on."""

    X: npt.NDArray[np.float32]
    y: npt.NDArray[np.float32]
    groups: npt.NDArray[np.int_]


FULL, SMALL = Size(20_000, 3_072, 218), Size(4_000, 768, 20)
QUICK = Size(60, 8, 2)


def draw(size: Size) -> Data:
    """Draw rows in groups of about equal size, from a fixed seed."""
    random = np.random.default_rng(0)
    X = random.standard_normal((size.n_rows, size.n_features), dtype=np.float32)
    weights = random.standard_normal((size.n_features, size.n_targets))
    y = X @ (weights / np.sqrt(size.n_features)).astype(np.float32)
    y += random.standard_normal(y.shape, dtype=np.float32)
    return Data(X, y, random.integers(0, N_GROUPS, size.n_rows))


def ours(data: Data) -> GroupedRidgeCV:
    """Fit, with a penalty per target by groups."""
    return GroupedRidgeCV(ALPHAS, cv=N_FOLDS).fit(data.X, data.y, groups=data.groups)


def by_row(data: Data) -> RidgeCV:
    """Fit scikit-learn's, with a penalty per target by single rows, in float64."""
    head = RidgeCV(alphas=ALPHAS, alpha_per_target=True)
    return make_pipeline(StandardScaler(), head).fit(data.X.astype(float), data.y)


def by_grid(data: Data) -> GridSearchCV:
    """Fit every fold with every penalty, in float64."""
    model = make_pipeline(StandardScaler(), Ridge())
    grid = {"ridge__alpha": ALPHAS}
    search = GridSearchCV(model, grid, cv=GroupKFold(N_FOLDS))
    return search.fit(data.X.astype(float), data.y, groups=data.groups)


def difference(data: Data) -> float:
    """Return the largest difference to Ridge at a fixed penalty, over the deviation."""
    here = GroupedRidgeCV(100.0).fit(data.X, data.y).predict(data.X)
    model = make_pipeline(StandardScaler(), Ridge(100.0))
    there = model.fit(data.X.astype(float), data.y.astype(float))
    predicted = there.predict(data.X.astype(float))
    return float(np.abs(here - predicted).max() / predicted.std())


def compare(theirs: Seconds, own: Seconds) -> str:
    """Write a time, and how many times ours it is, by the clock and the processor."""
    return (
        f"{show(theirs.wall)}, {theirs.cpu:.1f} CPU-s: {theirs.wall / own.wall:.1f} "
        f"times ours, {theirs.cpu / own.cpu:.1f} times in CPU-s"
    )


def report(full: Size, small: Size, rounds: int) -> tuple[str, bool]:
    """Measure; return the page, and whether the goals are reached."""
    busy, data = os.getloadavg()[0], draw(full)
    seconds, _ = timed(lambda: ours(data))
    before, peak = memory_of(lambda: ours(data))
    n_bytes, gigabytes = data.X.nbytes + data.y.nbytes, before + peak
    data = draw(small)
    jobs = {"ours": ours, "RidgeCV": by_row, "GridSearchCV": by_grid}
    calls = {name: lambda job=job: job(data) for name, job in jobs.items()}
    samples, _ = interleaved(calls, rounds)
    times = {name: median(sample) for name, sample in samples.items()}
    is_reached = seconds.wall < LONGEST_S and gigabytes < MOST_GB
    date = datetime.datetime.now(tz=datetime.UTC).date()
    lines = [
        "# GroupedRidgeCV, measured",
        "",
        "Written by `make bench-ridge`; see [README](README.md). "
        f"{len(ALPHAS)} penalties, {N_FOLDS} folds of",
        f"{N_GROUPS} groups, features scaled within each fold, no missing targets.",
        "",
        f"- {date}: {machine()}; load average at the beginning {busy:.1f}",
        "",
        "| what | figure | goal |",
        "| --- | --- | --- |",
        f"| {full}, fit | {show(seconds.wall)} | < {LONGEST_S / 60:.0f} min |",
        f"| the same, memory of the process at its peak | {gigabytes:.2f} GB, of which "
        f"{n_bytes / 1e9:.2f} GB features and targets | < {MOST_GB:g} GB |",
        f"| {small}, fit, a penalty per target by groups | {show(times['ours'].wall)}, "
        f"{times['ours'].cpu:.1f} CPU-s | |",
        "| `RidgeCV`: a penalty per target by single rows | "
        f"{compare(times['RidgeCV'], times['ours'])} | |",
        "| `GridSearchCV` of `Ridge`: one penalty by the same groups | "
        f"{compare(times['GridSearchCV'], times['ours'])} | |",
        f"| {small}, fixed penalty: largest difference to `Ridge` in float64, over "
        f"the deviation of predictions | {difference(data):.0e} | < 1e-06 |",
        "",
        f"Times of the smaller size are medians of {rounds} rounds in turns.",
        "",
    ]
    return "\n".join(lines), is_reached


def main() -> None:
    """Measure, print, and write where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="try it; no figures")
    parser.add_argument("--out", type=Path, help="write the page here")
    args = parser.parse_args()
    full, small = (QUICK, QUICK) if args.quick else (FULL, SMALL)
    page, is_reached = report(full, small, args.rounds)
    print(page)
    if args.out:
        args.out.write_text(page)
    if not args.quick and not is_reached:
        msg = "a goal was missed"
        raise SystemExit(msg)


if __name__ == "__main__":
    main()
