"""The harness of variants runs, on a tiny network, and its errors are small."""

from __future__ import annotations

import pytest

from tests.test_benchmarks import call, module  # noqa: F401


@pytest.mark.filterwarnings("ignore::Warning:transformers")
def test_variants_are_timed_and_compared(module, monkeypatch, tmp_path, shared):  # noqa: F811
    out = tmp_path / "VARIANTS.md"
    benchmark = module("variants")
    words = ("--quick", "--threads", 1, "--numbers", 3, "--compare", 1)
    call(benchmark, monkeypatch, *words, "--data", shared / "data", "--out", out)
    lines = out.read_text().splitlines()
    assert "**a tiny network**" in "\n".join(lines)
    compared = [line for line in lines if " near | " in line or " far | " in line]
    assert len(compared) == 2
    near, far = (float(line.split(" | ")[2]) for line in compared)
    assert near <= 2e-5
    assert far <= 5e-4
