"""The folder of a store: units, their markers, and all that says what they are."""

from __future__ import annotations

import hashlib
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, StoreError, first_few
from enformer_features.storage.files import atomic_write, flush_folder
from enformer_features.storage.store_arrays import (
    EXTRA,
    HEADER,
    OURS,
    REASONS,
    encode,
    open_values,
    read_table,
    unit_file,
)
from enformer_features.storage.store_plan import StorePlan
from enformer_features.storage.store_records import (
    file_digest,
    read_record,
    write_record,
)
from enformer_features.storage.store_values import checked_values

SCHEMA = 1
PARTIAL = ".partial"
PLAN = f"{OURS}/plan.json"
MANIFEST = f"{OURS}/manifest.json"
UNITS = f"{OURS}/units"
PLAN_AGAIN = "plan it again with the same rows and settings, which restores what it is"

_REASONS_FILE = f"{REASONS}/c/0"


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
    damaged : list of str
        Markers that cannot be read.
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
    damaged: list[str] = field(default_factory=list)


class Store:
    """Rows of a plan on disk, as :func:`create_store` and :func:`open_store` give it.

    Parameters
    ----------
    path : Path
        Where the store is when it is finished.
    folder : Path
        Where it is now.

    Attributes
    ----------
    path, folder : Path
    plan : StorePlan

    Raises
    ------
    StoreError
        If the folder is no store, or its plan is damaged.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.folder = folder
        self.plan = read_plan(folder)
        self._header: bytes | None = None

    def __repr__(self) -> str:
        return f"Store({str(self.path)!r}, {len(self._done())} of {self.n_units} units)"

    @property
    def is_finished(self) -> bool:
        """Whether :meth:`finalize` has given the store its name."""
        return self.folder == self.path

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.plan.n_units

    def unit_rows(self, unit: int) -> slice:
        """Return the rows of a unit."""
        return self.plan.rows_of(unit)

    def is_done(self, unit: int) -> bool:
        """Tell whether a unit is on the disk."""
        self.plan.rows_of(unit)
        return self.marker_path(unit).exists()

    def pending(self, part: tuple[int, int] | None = None) -> list[int]:
        """Return the units that are still to be computed.

        Parameters
        ----------
        part : (int, int), optional
            ``(i, n)``, i from 1 to n: only every n-th unit, beginning with the i-th.

        Returns
        -------
        list of int
            In ascending order.
        """
        done = self._done()
        units = range(self.n_units) if part is None else self._units_of(*part)
        return [unit for unit in units if unit not in done]

    def _units_of(self, i: int, n: int) -> range:
        if not 1 <= i <= n:
            msg = f"part {i} of {n}: parts are counted from 1 to {max(n, 1)}"
            raise InputError(msg)
        return range(i - 1, self.n_units, n)

    def begin_unit(self, unit: int) -> int:
        """Note that a unit is about to be computed, and return how often it was.

        Raises
        ------
        StoreError
            If the store cannot be written.
        """
        self.plan.rows_of(unit)
        path = self.marker_path(unit).with_suffix(".begun")
        try:
            with path.open("ab") as file:
                file.write(b".")
            return path.stat().st_size
        except OSError as error:
            raise self._unwritable(error) from error

    def write_unit(
        self,
        unit: int,
        values: npt.ArrayLike,
        about: Mapping[str, Any] | None = None,
    ) -> None:
        """Put a unit on the disk; it survives a crash once this returns.

        A unit that is done already is left as it is.

        Parameters
        ----------
        unit : int
        values : array, shape (rows of the unit, *row_shape)
            Finite; rows of NaN need a reason.
        about : mapping, optional
            Plain values that are kept with the unit, such as ``seconds``, ``device``
            and ``host``; ``reasons`` maps the store's row numbers to why a row is
            NaN.

        Raises
        ------
        InputError
            If shape, reasons or values do not fit.
        StoreError
            If values do not fit into float16, the disk is full, or the store was
            finished or removed meanwhile.
        """
        about = dict(about or {})
        reasons = {int(row): text for row, text in about.pop("reasons", {}).items()}
        rows = checked_values(self.plan, unit, values, reasons)
        if self.is_done(unit):
            return
        content = encode(self._checked_header(), self.plan.rows_of(unit), rows)
        self._write(unit_file(self.plan, unit), content)
        begun = self.marker_path(unit).with_suffix(".begun")
        marker = {
            "unit": unit,
            "plan": self.plan.digest,
            "n_rows": len(rows),
            "sha256": hashlib.sha256(rows.data).hexdigest(),
            "file_sha256": hashlib.sha256(content).hexdigest(),
            "n_bytes": content.nbytes,
            "attempts": begun.stat().st_size if begun.exists() else 1,
            "reasons": {str(row): reasons[row] for row in sorted(reasons)},
            "about": about,
        }
        write_record(self.marker_path(unit), marker)

    def _write(self, name: str, content: memoryview) -> None:
        if not (self.folder / PLAN).exists():
            msg = f"{self.folder} is gone: it was finished or removed meanwhile"
            raise StoreError(msg)
        path = self.folder / name
        with atomic_write(path, bytes_needed=content.nbytes) as temporary:
            temporary.write_bytes(content)

    def read(self, rows: slice = slice(None)) -> npt.NDArray[Any]:
        """Read rows whose units are done; every checksum is checked.

        Parameters
        ----------
        rows : slice
            Of step 1.

        Returns
        -------
        ndarray, shape (rows, *row_shape)
            NaN where there is a reason.

        Raises
        ------
        InputError
            If the slice has another step.
        StoreError
            If a unit is not done or damaged; the message names it.
        """
        first, stop, step = rows.indices(self.plan.n_rows)
        if step != 1:
            msg = f"rows are read with step 1, not {step}"
            raise InputError(msg)
        units = self._units_with(first, stop)
        if missing := sorted(set(units) - self._done()):
            msg = f"{self.path}: units {first_few(missing)} are not computed yet"
            raise StoreError(msg)
        self._checked_header()
        array = open_values(self.folder / self.plan.array)
        found = np.empty((max(stop - first, 0), *self.plan.row_shape), self.plan.dtype)
        for unit in units:
            span = self.plan.rows_of(unit)
            begin, end = max(first, span.start), min(stop, span.stop)
            try:
                # a file that is absent would be read as NaN
                (self.folder / unit_file(self.plan, unit)).stat()
                found[begin - first : end - first] = array[begin:end]
            except Exception as error:  # whatever damaged bytes do to a decoder
                msg = f"{self.path}: unit {unit} is damaged; {self._repair()}"
                raise StoreError(msg) from error
        return found

    def _units_with(self, first: int, stop: int) -> range:
        if first >= stop:
            return range(0)
        return range(first // self.plan.unit_rows, -(-stop // self.plan.unit_rows))

    def obs(self) -> pd.DataFrame:
        """Read the table of the rows, checked; ``reason`` is filled at the end."""
        self._check_files(lambda name: name.startswith("obs/"))
        return read_table(self.folder, "obs")

    def extra_array(self, name: str, rows: slice = slice(None)) -> npt.NDArray[Any]:
        """Read rows of an array that was given to :func:`create_store`, checked.

        Raises
        ------
        InputError
            If there is none of this name.
        StoreError
            If it is damaged.
        """
        folder = self.folder / EXTRA / name
        if not (folder / HEADER).exists():
            msg = f"{self.path} has no extra array {name!r}"
            raise InputError(msg)
        self._check_files(lambda file: file == f"{EXTRA}/{name}/{HEADER}")
        try:
            return np.asarray(open_values(folder)[rows])
        except Exception as error:  # whatever damaged bytes do to a decoder
            msg = f"{folder} is damaged; {PLAN_AGAIN}"
            raise StoreError(msg) from error

    def marker_path(self, unit: int) -> Path:
        """Return the file that says that a unit is done."""
        return self.folder / UNITS / f"{unit}.json"

    def marker(self, unit: int) -> dict[str, Any]:
        """Return what is known of a unit that is done.

        Raises
        ------
        FileNotFoundError
            If it is not done.
        StoreError
            If its marker is damaged.
        """
        found = read_record(self.marker_path(unit))
        if found["unit"] != unit or found["plan"] != self.plan.digest:
            msg = f"{self.marker_path(unit)} is the marker of another unit or store"
            raise StoreError(msg)
        return found

    def _done(self) -> set[int]:
        with os.scandir(self.folder / UNITS) as entries:
            names = [entry.name for entry in entries]
        return {
            int(name.removesuffix(".json"))
            for name in names
            if name.endswith(".json") and not name.startswith(".")
        }

    def _begun(self) -> dict[int, int]:
        with os.scandir(self.folder / UNITS) as entries:
            return {
                int(entry.name.removesuffix(".begun")): entry.stat().st_size
                for entry in entries
                if entry.name.endswith(".begun")
            }

    def markers(self) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """Return the markers by unit, and the units whose markers are damaged."""
        found, damaged = {}, []
        for unit in sorted(self._done()):
            try:
                found[unit] = self.marker(unit)
            except FileNotFoundError:  # dropped meanwhile
                continue
            except StoreError:
                damaged.append(unit)
        return found, damaged

    def status(self) -> StoreStatus:
        """Count what is there, from the markers."""
        markers, damaged = self.markers()
        begun = self._begun()
        return StoreStatus(
            path=self.path,
            is_finished=self.is_finished,
            n_units=self.n_units,
            n_done=len(markers),
            n_rows=self.plan.n_rows,
            n_rows_done=sum(marker["n_rows"] for marker in markers.values()),
            n_bytes=sum(marker["n_bytes"] for marker in markers.values()),
            attempts=sum(marker["attempts"] for marker in markers.values())
            + sum(begun[unit] for unit in begun.keys() - markers.keys()),
            seconds=_seconds(markers.values()),
            reasons=sum(len(marker["reasons"]) for marker in markers.values()),
            begun={unit: begun[unit] for unit in sorted(begun.keys() - markers.keys())},
            damaged=[f"unit {unit}: marker" for unit in damaged],
        )

    def finalize(self, *, overwrite: bool = False) -> Path:
        """Give the store its name, when all units are done; may be repeated.

        Parameters
        ----------
        overwrite : bool
            Whether a finished store of another plan may be replaced.

        Returns
        -------
        Path
            The finished store, an AnnData in zarr format.

        Raises
        ------
        StoreError
            If units are missing or anything is damaged, or the disk is full; the
            store can be gone on with.
        """
        if self.is_finished:
            return self.path
        markers = self._complete_markers()
        self._check_files()
        self._check_target(overwrite)
        reasons = np.full(self.plan.n_rows, "", dtype=object)
        for marker in markers:
            for row, text in marker["reasons"].items():
                reasons[int(row)] = text
        header = (self.folder / REASONS / HEADER).read_bytes()
        (self.folder / _REASONS_FILE).parent.mkdir(exist_ok=True)
        self._write(_REASONS_FILE, encode(header, slice(0, len(reasons)), reasons))
        self._remove_leftovers()
        files = [*self.manifest()["files"], _REASONS_FILE]
        write_manifest(self.folder, self.plan, files, _summary(markers))
        self._rename()
        return self.path

    def _complete_markers(self) -> list[dict[str, Any]]:
        """Return all markers, having seen that the files have the right size."""
        if missing := self.pending():
            msg = (
                f"{self.path}: {len(missing)} of {self.n_units} units are missing: "
                f"{first_few(missing)}; run `enformer-features store run {self.path}`"
            )
            raise StoreError(msg)
        markers, damaged = self.markers()
        damaged += [
            unit for unit, marker in markers.items() if not self._has_size(unit, marker)
        ]
        if damaged:
            msg = (
                f"{self.path}: units {first_few(sorted(damaged))} are damaged; "
                f"{self._repair()}, then `store run`"
            )
            raise StoreError(msg)
        return [markers[unit] for unit in range(self.n_units)]

    def _has_size(self, unit: int, marker: dict[str, Any]) -> bool:
        path = self.folder / unit_file(self.plan, unit)
        return path.is_file() and path.stat().st_size == marker["n_bytes"]

    def _check_target(self, overwrite: bool) -> None:
        if os.path.lexists(self.path) and not overwrite:
            msg = f"{self.path} exists; remove it, or replace it (overwrite=True)"
            raise StoreError(msg)

    def _remove_leftovers(self) -> None:
        """Remove what killed writers left; all units are done."""
        for name in (self.plan.array, UNITS):
            for path in (self.folder / name).glob(f".*{PARTIAL}"):
                path.unlink(missing_ok=True)

    def _rename(self) -> None:
        old = None
        try:
            if os.path.lexists(self.path):
                old = hidden_sibling(self.path)
                self.path.rename(old)
            self.folder.rename(self.path)
        except OSError as error:
            raise self._unwritable(error) from error
        flush_folder(self.path.parent)
        self.folder = self.path
        if old is not None:
            shutil.rmtree(old, ignore_errors=True)

    def manifest(self) -> dict[str, Any]:
        """Return the record of all files beside the values, and of the run.

        Raises
        ------
        StoreError
            If it is damaged or absent.
        """
        path = self.folder / MANIFEST
        try:
            return read_record(path)
        except FileNotFoundError as error:
            msg = f"{path} is missing; {PLAN_AGAIN}"
            raise StoreError(msg) from error

    def damaged_files(
        self, is_wanted: Callable[[str], bool] = lambda name: True
    ) -> list[str]:
        """Return the files beside the values that are not as they were written.

        Parameters
        ----------
        is_wanted : callable
            Whether a file, named from the store's folder, is looked at.
        """
        damaged = []
        for name, digest in self.manifest()["files"].items():
            # filled by finalize, which may have been interrupted
            is_open = name == _REASONS_FILE and not self.is_finished
            if not is_wanted(name) or is_open:
                continue
            path = self.folder / name
            if not path.is_file() or file_digest(path) != digest:
                damaged.append(name)
        return damaged

    def _check_files(
        self, is_wanted: Callable[[str], bool] = lambda name: True
    ) -> None:
        if damaged := self.damaged_files(is_wanted):
            msg = f"{self.path}: {first_few(damaged)} are damaged; {PLAN_AGAIN}"
            raise StoreError(msg)

    def _checked_header(self) -> bytes:
        """Return the array's header, which decides how every value is read."""
        if self._header is None:
            name = f"{self.plan.array}/{HEADER}"
            self._check_files(lambda file: file in (name, PLAN))
            self._header = (self.folder / name).read_bytes()
        return self._header

    def _repair(self) -> str:
        return f"run `enformer-features store verify --repair {self.path}`"

    def _unwritable(self, error: OSError) -> StoreError:
        reason = os.strerror(error.errno) if error.errno else str(error)
        return StoreError(f"{self.folder} cannot be written: {reason}")


def partial_folder(path: Path) -> Path:
    """Return where a store is until it is finished."""
    return path.with_name(path.name + PARTIAL)


def hidden_sibling(path: Path) -> Path:
    """Return a new name beside a path, cut so that long names stay legal."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{PARTIAL}")


def read_plan(folder: Path) -> StorePlan:
    """Read the plan of a store.

    Raises
    ------
    StoreError
        If the folder is no store, or the plan is damaged.
    """
    try:
        return StorePlan.from_json(read_record(folder / PLAN))
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = (
            f"{folder} is no store of this package (it has no {PLAN}); choose "
            "another path"
        )
        raise StoreError(msg) from error
    except StoreError as error:
        msg = f"{folder}: its plan is damaged; {PLAN_AGAIN}"
        raise StoreError(msg) from error


def write_manifest(
    folder: Path,
    plan: StorePlan,
    files: Iterable[str],
    run: dict[str, Any] | None = None,
) -> None:
    """Write what is in a store beside the values, with digests, and how it was made.

    Parameters
    ----------
    folder : Path
    plan : StorePlan
    files : iterable of str
        Named from the folder.
    run : dict, optional
        What the markers say together, when all units are done.
    """
    record = {
        "schema": SCHEMA,
        "plan": plan.digest,
        "settings": plan.settings,
        "info": plan.info,
        "files": {name: file_digest(folder / name) for name in sorted({*files})},
        "run": run,
    }
    write_record(folder / MANIFEST, record)


def _summary(markers: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "units": [marker["sha256"] for marker in markers],
        "attempts": sum(marker["attempts"] for marker in markers),
        "seconds": _seconds(markers),
        "rows_with_reasons": sum(len(marker["reasons"]) for marker in markers),
        "devices": _said(markers, "device"),
        "hosts": _said(markers, "host"),
    }


def _seconds(markers: Iterable[dict[str, Any]]) -> float:
    return float(sum(marker["about"].get("seconds", 0.0) for marker in markers))


def _said(markers: list[dict[str, Any]], key: str) -> list[str]:
    return sorted({str(marker["about"].get(key, "unknown")) for marker in markers})
