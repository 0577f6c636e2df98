"""Time and memory of gradient x input of one window, against the plain forward.

``python benchmarks/gradients.py`` runs the plain network on one published window, in
inference mode, and gradient x input of the same window, in turn; then gradient x input
in a process of its own, whose peak of memory is read. Random weights: neither time nor
memory depends on them.
"""

from __future__ import annotations

import argparse
import datetime
import json
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from _measure import Row, interleaved, machine, median, memory_of, show, table
from torch import Tensor

from enformer_features import EnformerEmbedder, Target, attention, gradient_x_input
from enformer_features.exceptions import EnformerFeaturesWarning
from enformer_features.model import Enformer
from enformer_features.model.recompute import one_hot
from enformer_features.model.registry import load_weights

MOST_FORWARDS = 4.0
MOST_GB = 8.0


class Lab:
    """A network with random weights, and a window of random letters."""

    def __init__(self, *, quick: bool) -> None:
        weights = "untrained-tiny" if quick else "untrained"
        self.network: Enformer = load_weights(weights).module
        self.length_bp = 16_384 if quick else self.network.config.sequence_length
        self.embedder = EnformerEmbedder(
            weights, sequence_length=self.length_bp, output="tracks", cache=None
        )
        generator = np.random.default_rng(1)
        self.codes = generator.integers(0, 4, (1, self.length_bp)).astype(np.uint8)
        self.target = Target(tracks=[0, 1])

    def forward(self) -> Tensor:
        """Run the plain network: every kept bin's tracks."""
        with torch.inference_mode():
            return self.network(one_hot(torch.from_numpy(self.codes)), output="tracks")

    def gradient(self) -> Any:
        """Score every base of the window."""
        return gradient_x_input(self.embedder, self.codes, self.target)

    def attention(self) -> Any:
        """Average the attention of the TSS bins."""
        return attention(self.embedder, self.codes)


def time_row(lab: Lab, rounds: int) -> tuple[list[Row], float]:
    """Time everything in turn; return the lines and the ratio."""
    lab.gradient()  # what is made once in a process
    lab.attention()
    jobs = {
        "forward": lab.forward,
        "gradient": lab.gradient,
        "attention": lab.attention,
    }
    samples, _ = interleaved(jobs, rounds)
    plain = median(samples["forward"])
    rows = []
    for name, what, most in (
        ("gradient", "gradient x input, forwards of the plain network", MOST_FORWARDS),
        ("attention", "attention of the TSS bins, the same", None),
    ):
        ours = median(samples[name])
        rows.append(
            Row(
                what,
                show(plain.wall),
                show(ours.wall),
                ours.wall / plain.wall,
                None,
                most,
                None if most is None else 3.0,
                fewer=True,
            )
        )
    return rows, rows[0].gain


def memory(*, quick: bool, threads: int) -> dict[str, float]:
    """Measure the memory of one gradient in a process of its own, in GB."""
    words = [sys.executable, __file__, "--child", "--threads", str(threads)]
    found = subprocess.run(
        words + ["--quick"] * quick, check=True, capture_output=True, text=True
    )
    figures: dict[str, float] = json.loads(found.stdout.splitlines()[-1])
    return figures


def report_memory(*, quick: bool) -> None:
    """Print resident memory and the peak above it, as JSON."""
    lab = Lab(quick=quick)
    resident, peak = memory_of(lab.gradient)
    print(json.dumps({"resident": resident, "peak": resident + peak}))


def report(lab: Lab, rows: list[Row], rounds: int) -> str:
    """Write the results as Markdown."""
    size = "published size" if lab.length_bp > 100_000 else "**a tiny network**"
    parts = [
        "# Gradients",
        "",
        "Written by `make bench-gradients`; see [README](README.md).",
        "",
        f"- {datetime.date.today().isoformat()}",
        f"- {machine()}; torch {torch.__version__}",
        f"- {size}, random weights, float32, one window of {lab.length_bp:,} bp; "
        f"median of {rounds} rounds, in turn",
        "- port: the plain network's forward to all tracks, in inference mode; memory: "
        "the whole process at its peak, the network included",
        "",
        table(rows),
    ]
    return "\n".join([*parts, ""])


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--child", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", EnformerFeaturesWarning)
    if options.child:
        report_memory(quick=options.quick)
        return
    figures = memory(quick=options.quick, threads=options.threads)
    lab = Lab(quick=options.quick)
    rows, _ = time_row(lab, options.rounds)
    resident = f"{figures['resident']:.2f} GB resident before"
    rows.append(
        Row(
            "gradient x input, peak of memory in GB",
            "",
            f"{figures['peak']:.2f} GB",
            figures["peak"],
            None,
            MOST_GB,
            6.0,
            resident,
            fewer=True,
        )
    )
    text = report(lab, rows, options.rounds)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
