"""Whether a store is as it was written."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from enformer_features.exceptions import StoreError
from enformer_features.storage.store.arrays import unit_file
from enformer_features.storage.store.manifest import (
    MANIFEST,
    PLAN,
    UNITS,
    damaged_files,
    read_plan,
)
from enformer_features.storage.store.markers import Markers
from enformer_features.storage.store.plan import StorePlan
from enformer_features.storage.store.records import file_digest


@dataclass(frozen=True)
class StoreReport:
    """What was found damaged in a store.

    Parameters
    ----------
    path : Path
        The folder that was read.
    n_units : int
    n_checked : int
        Units that are, or in a finished store should be, there.
    damaged : list of str
        ``"unit 3: values"``, ``"unit 4: marker"``, or a file beside the values.
    units : list of int
        Damaged units: they are computed again once they are dropped.
    files : list of str
        Damaged files beside the values: planning the store again restores them.
    missing : list of int
        Units of an unfinished store that are still to be computed.

    Examples
    --------
    >>> StoreReport(Path("out.zarr"), n_units=3, n_checked=3).damaged
    []
    """

    path: Path
    n_units: int
    n_checked: int
    damaged: list[str] = field(default_factory=list)
    units: list[int] = field(default_factory=list)
    files: list[str] = field(default_factory=list)
    missing: list[int] = field(default_factory=list)


def verify(folder: Path, plan: StorePlan, *, is_finished: bool) -> StoreReport:
    """Compare every file of a store with its digest.

    Parameters
    ----------
    folder : Path
    plan : StorePlan
    is_finished : bool
        Whether every unit must be there.
    """
    markers = Markers(folder / UNITS, plan)
    every = range(plan.n_units)
    expected = every if is_finished else sorted(markers.done())
    wrong = {unit: _unit_damage(folder, markers, unit) for unit in expected}
    units = {unit: what for unit, what in wrong.items() if what}
    files = list(_file_damage(folder, is_finished=is_finished))
    return StoreReport(
        path=folder,
        n_units=plan.n_units,
        n_checked=len(expected),
        damaged=[f"unit {unit}: {what}" for unit, what in units.items()] + files,
        units=list(units),
        files=files,
        missing=sorted({*every} - {*expected}),
    )


def _unit_damage(folder: Path, markers: Markers, unit: int) -> str:
    try:
        marker = markers.read(unit)
    except OSError:  # absent, or damaged
        return "marker"
    path = folder / unit_file(markers.plan, unit)
    if not path.is_file() or file_digest(path) != marker["file_sha256"]:
        return "values"
    return ""


def _file_damage(folder: Path, *, is_finished: bool) -> Iterator[str]:
    try:
        yield from damaged_files(folder, is_finished=is_finished)
    except StoreError:
        yield MANIFEST
        try:
            read_plan(folder)
        except StoreError:
            yield PLAN
