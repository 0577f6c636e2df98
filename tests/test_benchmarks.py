"""The harness runs, on a tiny network. What it measures there means nothing."""

from __future__ import annotations

import importlib
import sys

import pytest
import torch

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / "benchmarks"


@pytest.fixture
def module(monkeypatch):
    """Import a benchmark as its own folder sees it, and forget it afterwards."""
    pytest.importorskip("enformer_pytorch", reason="needs the extra 'bench'")
    monkeypatch.syspath_prepend(FOLDER)
    for name in ("run", "gpu", "_measure", "_peer"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def call(module, monkeypatch, *words):
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["benchmark", *map(str, words)])
    try:
        module.main()
    finally:
        torch.set_num_threads(threads)


@pytest.mark.filterwarnings("ignore::Warning:transformers")
def test_workloads_are_timed_compared_and_written(module, monkeypatch, tmp_path):
    out = tmp_path / "RESULTS.md"
    chosen = "embedding-float32", "allele-bfloat16", "mutagenesis", "letters"
    run = module("run")
    words = ("--quick", "--threads", 1, "--out", out, "--only", *chosen)
    call(run, monkeypatch, *words)
    text = out.read_text()
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    assert len(lines) == 2 + len(chosen)
    assert "**a tiny network**" in text
    assert "**over" not in text  # the error of float32
    assert str(REPOSITORY) not in text


def test_a_row_says_which_goal_is_reached(module):
    measure = module("_measure")
    port, ours = measure.Seconds(9.0, 18.0), measure.Seconds(4.0, 6.0)
    row = measure.ratio_row("job", port, ours, must=2.0, stretch=2.5)
    assert (row.gain, row.cpu_gain, row.verdict) == (2.25, 3.0, "must")
    assert measure.table([row]).splitlines()[-1] == (
        "| job | 9.0 s | 4.0 s | 2.25x | 3.00x | 2x | 2.5x | must |  |"
    )
    bound = measure.Row("memory", "", "", 0.7, None, 0.6, 0.5, fewer=True)
    assert bound.verdict == "**missed**"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_peak_of_memory_counts_what_a_job_gives_back(module):
    _, grown = module("_measure").memory_of(lambda: torch.ones(25_000_000).sum())
    assert 0.09 < grown < 0.15  # 0.1 GB


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_cuda_the_gpu_benchmark_says_so(module, monkeypatch):
    gpu = module("gpu")
    with pytest.raises(SystemExit, match="no CUDA device"):
        call(gpu, monkeypatch)


@pytest.mark.parametrize(
    ("device", "tflops"),
    [("NVIDIA H200", 989), ("NVIDIA H100 PCIe", 756), ("NVIDIA A100-SXM4-80GB", 312)],
)
def test_the_peak_of_known_devices(module, device, tflops):
    assert module("gpu").peak_of(device, None)["16-bit"] == tflops


def test_the_peak_of_an_unknown_device_is_asked_for(module):
    gpu = module("gpu")
    with pytest.raises(SystemExit, match="--peak"):
        gpu.peak_of("another", None)
    assert gpu.peak_of("another", [4.0, 2.0, 1.0])["TF32"] == 2.0
