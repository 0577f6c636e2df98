"""Clocks, memory, errors, and the table."""

from __future__ import annotations

import ctypes
import gc
import platform
import re
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Seconds:
    """What a job took: by the clock, and of the processor in all threads."""

    wall: float
    cpu: float

    def __mul__(self, factor: float) -> Seconds:
        return Seconds(self.wall * factor, self.cpu * factor)

    def __add__(self, other: Seconds) -> Seconds:
        return Seconds(self.wall + other.wall, self.cpu + other.cpu)


def median(samples: list[Seconds]) -> Seconds:
    """Return the medians of both clocks."""
    return Seconds(
        statistics.median(sample.wall for sample in samples),
        statistics.median(sample.cpu for sample in samples),
    )


def timed(job: Callable[[], Any]) -> tuple[Seconds, Any]:
    """Run a job once; return its time and what it returned."""
    wall, cpu = time.perf_counter(), time.process_time()
    result = job()
    return Seconds(time.perf_counter() - wall, time.process_time() - cpu), result


def interleaved(
    jobs: Mapping[str, Callable[[], Any]], rounds: int
) -> tuple[dict[str, list[Seconds]], dict[str, Any]]:
    """Run every job once per round, in turn, so that all see the same machine.

    Returns
    -------
    samples : dict of list of Seconds
    results : dict
        What each job returned in the first round.
    """
    samples: dict[str, list[Seconds]] = {name: [] for name in jobs}
    results: dict[str, Any] = {}
    for number in range(1, rounds + 1):
        for name, job in jobs.items():
            gc.collect()
            seconds, result = timed(job)
            samples[name].append(seconds)
            results.setdefault(name, result)
            print(
                f"  round {number}: {name} {seconds.wall:.3f} s, "
                f"{seconds.cpu:.3f} CPU-s",
                flush=True,
            )
    return samples, results


# Errors


def error(ours: Tensor, theirs: Tensor) -> tuple[float, float]:
    """Return root mean square and largest difference, over the deviation of theirs."""
    distance = (ours.double() - theirs.double()).abs()
    deviation = theirs.double().std()
    rms = distance.square().mean().sqrt()
    return float(rms / deviation), float(distance.max() / deviation)


def relative_rms(change: Tensor, reference: Tensor) -> float:
    """Return the root mean square of the difference, over that of the reference."""
    distance = (change.double() - reference.double()).square().mean().sqrt()
    return float(distance / reference.double().square().mean().sqrt())


# Memory


def memory_of(job: Callable[[], Any]) -> tuple[float, float]:
    """Return the resident memory before a job, and its peak above that, in GB (1e9).

    Reads Linux's own mark of the peak, which is put back first.

    Raises
    ------
    SystemExit
        Where there is no such mark.
    """
    mark = Path("/proc/self/clear_refs")
    if not mark.exists():
        msg = "peak memory is measured on Linux only"
        raise SystemExit(msg)
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)  # what was freed must not hide what is taken
    before = _status("VmRSS")
    mark.write_text("5")
    job()
    return before, _status("VmHWM") - before


def _status(field: str) -> float:
    text = Path("/proc/self/status").read_text()
    found = re.search(rf"{field}:\s+(\d+) kB", text)
    assert found is not None
    return int(found[1]) * 1024 / 1e9


# The table


@dataclass(frozen=True)
class Row:
    """A workload's line; a goal of None is none.

    Parameters
    ----------
    name : str
    port, ours : str
        With the unit.
    gain : float
        The ratio of times, or the figure that the goals are about.
    cpu_gain : float or None
        The ratio of processor time.
    must, stretch : float or None
    note : str
    fewer : bool
        Whether the goals are upper bounds.
    """

    name: str
    port: str
    ours: str
    gain: float
    cpu_gain: float | None
    must: float | None
    stretch: float | None
    note: str = ""
    fewer: bool = False

    @property
    def verdict(self) -> str:
        """Which goal is reached."""
        if self.must is None or self.stretch is None:
            return ""
        sign = -1 if self.fewer else 1
        if sign * self.gain >= sign * self.stretch:
            return "stretch"
        return "must" if sign * self.gain >= sign * self.must else "**missed**"


def ratio_row(
    name: str,
    port: Seconds,
    ours: Seconds,
    must: float | None = None,
    stretch: float | None = None,
    note: str = "",
) -> Row:
    """Return the line of a ratio of times."""
    return Row(
        name=name,
        port=show(port.wall),
        ours=show(ours.wall),
        gain=port.wall / ours.wall,
        cpu_gain=port.cpu / ours.cpu if ours.cpu else None,
        must=must,
        stretch=stretch,
        note=note,
    )


def show(seconds: float) -> str:
    """Write a time with its unit."""
    if seconds < 1:
        return f"{1e3 * seconds:.3g} ms"
    return f"{seconds:.1f} s" if seconds < 600 else f"{seconds / 60:.0f} min"


def table(rows: list[Row]) -> str:
    """Lay rows out as Markdown."""
    head = "workload", "port", "ours", "gain", "CPU gain", "must", "stretch", "reached"
    lines = [
        f"| {' | '.join((*head, 'notes'))} |",
        f"|{' --- |' * (len(head) + 1)}",
    ]
    for row in rows:
        fields = (
            row.name,
            row.port,
            row.ours,
            f"{row.gain:.2f}" + ("" if row.fewer else "x"),
            "" if row.cpu_gain is None else f"{row.cpu_gain:.2f}x",
            *(_goal(goal, row.fewer) for goal in (row.must, row.stretch)),
            row.verdict,
            row.note,
        )
        lines.append(f"| {' | '.join(fields)} |")
    return "\n".join(lines)


def _goal(goal: float | None, fewer: bool) -> str:
    if goal is None:
        return ""
    return f"<= {goal:g}" if fewer else f"{goal:g}x"


def machine() -> str:
    """Describe the processor, the threads and the memory."""
    model, memory = platform.processor() or platform.machine(), ""
    if Path("/proc/cpuinfo").exists():
        found = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
        model = found[1] if found else model
        total = re.search(r"MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text())
        memory = f", {int(total[1]) * 1024 / 1e9:.0f} GB of memory" if total else ""
    capability = torch.backends.cpu.get_cpu_capability()
    return (
        f"{model}, {torch.get_num_threads()} threads, {capability}{memory}, "
        f"{platform.system()}, Python {platform.python_version()}"
    )
