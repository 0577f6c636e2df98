"""The harness of gradients runs, on a tiny network. Its figures mean nothing there."""

from __future__ import annotations

import importlib
import sys

import torch

from tests.conftest import REPOSITORY


def test_gradients_are_timed_and_their_memory_is_read(monkeypatch, tmp_path):
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("gradients", "_measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    benchmark = importlib.import_module("gradients")
    out, threads = tmp_path / "GRADIENTS.md", torch.get_num_threads()
    words = ["--quick", "--threads", "1", "--rounds", "1", "--out", str(out)]
    monkeypatch.setattr(sys, "argv", ["gradients", *words])
    try:
        benchmark.main()
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert "**a tiny network**" in text
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + 3
    assert "GB resident before" in lines[-1]
    assert str(REPOSITORY) not in text
