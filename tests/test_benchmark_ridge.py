"""benchmarks/ridge.py runs; its figures need size and an idle machine."""

from __future__ import annotations

import importlib
import sys

import pytest

from tests.conftest import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch):
    """Import the benchmark as its own folder sees it, and forget it afterwards."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("ridge", "_measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("ridge")


def test_all_figures_are_measured_and_written(benchmark, monkeypatch, tmp_path):
    out = tmp_path / "RIDGE.md"
    words = ["--quick", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["benchmark", *words])
    benchmark.main()
    lines = out.read_text().splitlines()
    figures = [line for line in lines if line.startswith(("| 60 x 8", "| `", "| the"))]
    assert len(figures) == 6
    assert sum("times ours" in line for line in figures) == 2


def test_at_a_fixed_penalty_the_benchmark_compares_equal_models(benchmark):
    assert benchmark.difference(benchmark.draw(benchmark.QUICK)) < 1e-6
