"""Time the package against enformer-pytorch on CUDA: ``python benchmarks/gpu.py``.

Prints, for every policy of arithmetic and for the peer: milliseconds per window, the
ratio to the peer, the added peak of memory, the error, and the share of the
arithmetic's own floor. Needs a CUDA device and the extra ``bench``.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from _measure import error
from _peer import (
    TINY,
    one_hot_of,
    random_network,
    the_port,
    the_ports_embedding,
    versions,
)
from torch import Tensor

from enformer_features.inference import prepared as prepared_module
from enformer_features.inference.precision import POLICIES, arithmetic
from enformer_features.inference.prepared import Affine, Prepared, prepare
from enformer_features.model import EnformerConfig

GFLOP = 3_293  # of one forward to the embedding and both heads, counted naively
LENGTH_BP = 196_608
# Dense TFLOP/s of NVIDIA's data sheets: 16-bit, TF32, float32.
PEAKS = {
    "H200": (989, 494, 67),
    "H100 PCIe": (756, 378, 51),
    "H100": (989, 494, 67),
    "A100": (312, 156, 19.5),
}
KINDS = "16-bit", "TF32", "float32"
POLICY_KINDS = {
    "float32-exact": "float32",
    "tf32": "TF32",
    "float16": "16-bit",
    "bfloat16": "16-bit",
}


@dataclass(frozen=True)
class Run:
    """One way to embed a window.

    Parameters
    ----------
    name : str
    kind : str
        What its products run in.
    job : callable
        Returns (B, bins, 2 C).
    """

    name: str
    kind: str
    job: Callable[[], Tensor]


def milliseconds(job: Callable[[], Tensor], repeats: int) -> float:
    """Return the median of a job's times on the device, after two runs to warm up."""
    taken = []
    for i in range(repeats + 2):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        job()
        ended.record()
        torch.cuda.synchronize()
        if i >= 2:
            taken.append(began.elapsed_time(ended))
    return statistics.median(taken)


def added_memory(job: Callable[[], Tensor]) -> float:
    """Return the peak of memory above what is held before, in GB."""
    torch.cuda.synchronize()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    job()
    torch.cuda.synchronize()
    return (torch.cuda.max_memory_allocated() - before) / 1e9


def peak_of(name: str, given: list[float] | None) -> dict[str, float]:
    """Return the TFLOP/s of a device, by kind of arithmetic.

    Raises
    ------
    SystemExit
        For a device that is not in the list, when none are given.
    """
    if given:
        return dict(zip(KINDS, given, strict=True))
    for known, peaks in PEAKS.items():
        if all(word in name for word in known.split()):
            return dict(zip(KINDS, peaks, strict=True))
    msg = (
        f"the peak of {name!r} is not known; give its dense TFLOP/s in {KINDS}, "
        "as --peak 312 156 19.5"
    )
    raise SystemExit(msg)


@torch.inference_mode()
def embed(policy: str, prepared: Prepared, codes: Tensor) -> Tensor:
    """Embed windows with ours."""
    with arithmetic(POLICIES[policy]):
        tower = prepared.tower(codes)
        bins = prepared.kept_bins(tower.shape[1])
        return prepared.embed(prepared.transform(tower, bins=bins))


@contextlib.contextmanager
def the_ports_settings(tf32_products: bool) -> Iterator[None]:
    """Let convolutions use TF32, as PyTorch does by default, and products or not."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32, cudnn.allow_tf32 = tf32_products, True
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


def the_ports_runs(port: torch.nn.Module, one_hot: Tensor) -> list[Run]:
    """List the ways to run the port."""

    def default() -> Tensor:
        with the_ports_settings(tf32_products=False):
            return the_ports_embedding(port, one_hot)

    def autocast(dtype: torch.dtype) -> Tensor:
        with torch.autocast("cuda", dtype=dtype):
            return default().float()

    return [
        Run("port, default", "TF32", default),
        Run(
            "port, autocast bfloat16",
            "16-bit",
            functools.partial(autocast, torch.bfloat16),
        ),
        Run(
            "port, autocast float16",
            "16-bit",
            functools.partial(autocast, torch.float16),
        ),
    ]


@torch.inference_mode()
def exact(port: torch.nn.Module, one_hot: Tensor) -> Tensor:
    """Embed with the port in float32 throughout."""
    with arithmetic(POLICIES["float32-exact"]):
        return the_ports_embedding(port, one_hot)


def time_all(
    runs: list[Run],
    truth: Tensor,
    n_windows: int,
    peaks: dict[str, float],
    repeats: int,
) -> None:
    """Time runs and print a line for each; the first one is the base of ratios."""
    print(
        "| run | ms per window | over the port | added GB | rms error | max error "
        "| share of the floor |\n|" + " --- |" * 7
    )
    base = None
    for run in runs:
        result = run.job()
        rms, largest = error(result, truth)
        memory = added_memory(run.job)
        taken = milliseconds(run.job, repeats) / n_windows
        base = base or taken
        floor = GFLOP / peaks[run.kind]  # GFLOP over TFLOP/s is ms
        print(
            f"| {run.name} | {taken:.2f} | {base / taken:.2f}x | {memory:.2f} "
            f"| {rms:.1e} | {largest:.1e} | {floor / taken:.0%} |",
            flush=True,
        )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--batch", type=int, default=1, help="windows per forward")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--policies", nargs="+", choices=POLICY_KINDS, metavar="NAME")
    parser.add_argument(
        "--tile-rows",
        type=int,
        nargs="+",
        default=[prepared_module.TILE_ROWS, 16_384, LENGTH_BP],
        help="rows convolved at once; each is tried",
    )
    parser.add_argument(
        "--compile", action="store_true", help="compile norms and GELUs of the tower"
    )
    parser.add_argument("--peak", type=float, nargs=3, metavar=KINDS)
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    return parser.parse_args()


def main() -> None:
    """Time the port and every policy."""
    options = arguments()
    if not torch.cuda.is_available():
        msg = "no CUDA device: benchmarks/run.py measures on the CPU"
        raise SystemExit(msg)
    device = torch.device("cuda")
    name = torch.cuda.get_device_name(device)
    peaks = peak_of(name, options.peak)
    network = random_network(TINY if options.quick else EnformerConfig())
    port = the_port(network).to(device)
    network = network.to(device)
    length = 16_384 if options.quick else LENGTH_BP
    codes = torch.randint(4, (options.batch, length), dtype=torch.uint8, device=device)
    one_hot = one_hot_of(codes)
    known = ", ".join(f"{key} {value}" for key, value in versions().items())
    print(f"{name}; {known}; {options.batch} window(s) of {length:,} bp\n")
    truth = exact(port, one_hot)
    print(f"arithmetic: {GFLOP:,} GFLOP per window; TFLOP/s {peaks}\n")
    time_all(
        the_ports_runs(port, one_hot), truth, options.batch, peaks, options.repeats
    )
    if options.compile:
        Affine.silu = torch.compile(Affine.silu, dynamic=True)  # type: ignore[method-assign]
    for tile_rows in options.tile_rows:
        prepared_module.TILE_ROWS = tile_rows
        print(f"\n{tile_rows:,} rows at once, compiled: {options.compile}\n")
        runs = [the_ports_runs(port, one_hot)[0]]
        for policy in options.policies or POLICY_KINDS:
            prepared = prepare(network, POLICIES[policy])
            job = functools.partial(embed, policy, prepared, codes)
            runs.append(Run(policy, POLICY_KINDS[policy], job))
        time_all(runs, truth, options.batch, peaks, options.repeats)


if __name__ == "__main__":
    main()
