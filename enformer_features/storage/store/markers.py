"""Which units of a store are done: a small record for each, written last."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from enformer_features.exceptions import StoreError
from enformer_features.storage.store.plan import StorePlan
from enformer_features.storage.store.records import read_record, write_record

_DONE, _BEGUN = ".json", ".begun"


@dataclass(frozen=True)
class StoreStatus:
    """How far a store is.

    Parameters
    ----------
    path : Path
        Where it is, or will be when it is finished.
    is_finished : bool
    n_units, n_done : int
    n_rows, n_rows_done : int
    n_bytes : int
        Of the values that are there.
    attempts : int
        How often a unit was begun, over all units.
    seconds : float
        That the units took, as far as their makers said.
    reasons : int
        Rows of NaN with a reason.
    begun : dict of int to int
        Units that were begun and are not done, and how often they were begun.
    damaged_markers : list of int
        Units whose marker cannot be read. Values are not looked at; see
        :meth:`Store.verify`.
    """

    path: Path
    is_finished: bool
    n_units: int
    n_done: int
    n_rows: int
    n_rows_done: int
    n_bytes: int
    attempts: int
    seconds: float
    reasons: int
    begun: dict[int, int] = field(default_factory=dict)
    damaged_markers: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Markers:
    """The markers in a folder.

    Parameters
    ----------
    folder : Path
    plan : StorePlan
        Of the store; the markers of another are refused.
    """

    folder: Path
    plan: StorePlan

    def path(self, unit: int) -> Path:
        """Return the file that says that a unit is done."""
        return self.folder / f"{unit}{_DONE}"

    def begin(self, unit: int) -> int:
        """Note that a unit is about to be computed, and return how often it was.

        Raises
        ------
        StoreError
            If the folder cannot be written.
        """
        path = self._begun_path(unit)
        try:
            with path.open("ab") as file:  # a byte for each time, whoever writes
                file.write(b".")
            return path.stat().st_size
        except OSError as error:
            msg = f"{path} could not be written: {error.strerror or error}"
            raise StoreError(msg) from error

    def write(self, unit: int, content: dict[str, Any]) -> None:
        """Say that a unit is done; its values are on the disk already."""
        begun = self._begun_path(unit)
        attempts = begun.stat().st_size if begun.exists() else 1
        own = {"unit": unit, "plan": self.plan.digest, "attempts": attempts}
        write_record(self.path(unit), content | own)

    def read(self, unit: int) -> dict[str, Any]:
        """Return what is known of a unit that is done.

        Raises
        ------
        FileNotFoundError
            If it is not done.
        StoreError
            If its marker is damaged.
        """
        found = read_record(self.path(unit))
        if found["unit"] != unit or found["plan"] != self.plan.digest:
            msg = f"{self.path(unit)} is the marker of another unit or store"
            raise StoreError(msg)
        return found

    def read_all(self) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """Return the markers by unit, and the units whose markers are damaged."""
        found, damaged = {}, []
        for unit in sorted(self.done()):
            try:
                found[unit] = self.read(unit)
            except StoreError:
                damaged.append(unit)
            except FileNotFoundError:  # dropped meanwhile
                continue
        return found, damaged

    def done(self) -> set[int]:
        """Return the units that have a marker; it is not read."""
        return {self._unit(name, _DONE) for name in self._names(_DONE)}

    def begun(self) -> dict[int, int]:
        """Return how often units were begun."""
        found = {}
        for name in self._names(_BEGUN):
            unit = self._unit(name, _BEGUN)
            found[unit] = self._begun_path(unit).stat().st_size
        return found

    def _begun_path(self, unit: int) -> Path:
        return self.folder / f"{unit}{_BEGUN}"

    def _names(self, suffix: str) -> list[str]:
        with os.scandir(self.folder) as entries:
            names = [entry.name for entry in entries]
        # what a killed writer left begins with a dot
        return [name for name in names if name.endswith(suffix) and name[0] != "."]

    @staticmethod
    def _unit(name: str, suffix: str) -> int:
        return int(name.removesuffix(suffix))


def status_of(path: Path, markers: Markers, *, is_finished: bool) -> StoreStatus:
    """Count what is there, from the markers.

    Parameters
    ----------
    path : Path
        Where the store is when it is finished.
    markers : Markers
    is_finished : bool
    """
    done, damaged = markers.read_all()
    begun = {
        unit: times
        for unit, times in sorted(markers.begun().items())
        if unit not in done
    }
    total = summary(done.values())
    return StoreStatus(
        path=path,
        is_finished=is_finished,
        n_units=markers.plan.n_units,
        n_done=len(done),
        n_rows=markers.plan.n_rows,
        n_rows_done=sum(marker["n_rows"] for marker in done.values()),
        n_bytes=sum(marker["n_bytes"] for marker in done.values()),
        attempts=total["attempts"] + sum(begun.values()),
        seconds=total["seconds"],
        reasons=total["rows_with_reasons"],
        begun=begun,
        damaged_markers=damaged,
    )


def summary(markers: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """Return what markers say together, as the manifest keeps it."""
    found = list(markers)
    return {
        "units": [marker["sha256"] for marker in found],
        "attempts": sum(marker["attempts"] for marker in found),
        "seconds": float(sum(marker["about"].get("seconds", 0) for marker in found)),
        "rows_with_reasons": sum(len(marker["reasons"]) for marker in found),
        "devices": _said(found, "device"),
        "hosts": _said(found, "host"),
    }


def _said(markers: list[dict[str, Any]], key: str) -> list[str]:
    return sorted({str(marker["about"].get(key, "unknown")) for marker in markers})
