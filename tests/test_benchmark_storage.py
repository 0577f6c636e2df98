"""benchmarks/storage.py runs; its figures need size and an idle disk."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch):
    """Import the benchmark as its own folder sees it, and forget it afterwards."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("storage", "_measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("storage")


def test_all_figures_are_measured_and_written(benchmark, monkeypatch, tmp_path):
    out = tmp_path / "STORAGE.md"
    words = ["--quick", "--rounds", "1", "--out", str(out), "--folder", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    benchmark.main()
    lines = out.read_text().splitlines()
    figures = [line for line in lines if line.startswith(("| cache", "| store"))]
    assert len(figures) == 9
    assert sum(line.endswith(("| yes |", "| **no** |")) for line in figures) == 3


def test_goals_are_bounds_from_below_or_above(benchmark):
    slow = benchmark.Figure("rows", 9_999, "rows/s", 10_000)
    late = benchmark.Figure("opening", 5.1, "s", 5.0, fewer=True)
    free = benchmark.Figure("disk", 0.1, "MB/s")
    assert [one.is_reached for one in (slow, late, free)] == [False, False, True]
    assert "| rows | 9,999 rows/s | >= 10,000 rows/s | **no** |" in benchmark.table(
        [slow]
    )
