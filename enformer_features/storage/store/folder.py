"""The folder of a store: units go in, rows come out, and it gets its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, StoreError, first_few
from enformer_features.storage.files import (
    atomic_write,
    flush_folder,
    remove_replaced,
    take_place,
)
from enformer_features.storage.store.arrays import (
    EXTRA,
    HEADER,
    REASONS,
    encode,
    open_values,
    read_table,
    unit_file,
)
from enformer_features.storage.store.check import StoreReport, verify
from enformer_features.storage.store.manifest import (
    PLAN,
    PLAN_AGAIN,
    REASONS_FILE,
    UNITS,
    check_files,
    read_manifest,
    read_plan,
    write_manifest,
)
from enformer_features.storage.store.markers import (
    Markers,
    StoreStatus,
    status_of,
    summary,
)
from enformer_features.storage.store.values import checked_values

PARTIAL = ".partial"


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
    path : Path
    plan : StorePlan

    Raises
    ------
    StoreError
        If the folder is no store, or its plan is damaged.
    """

    def __init__(self, path: Path, folder: Path) -> None:
        self.path = path
        self.plan = read_plan(folder)
        self._folder = folder
        self._header: bytes | None = None

    def __repr__(self) -> str:
        done = len(self._markers.done())
        return f"Store({str(self.path)!r}, {done} of {self.n_units} units)"

    @property
    def folder(self) -> Path:
        """Where the store is now; others may have finished it meanwhile."""
        if not self._folder.is_dir():
            self._folder = self._found_again()
        return self._folder

    def _found_again(self) -> Path:
        for folder in (self.path, partial_folder(self.path)):
            if self._is_here(folder):
                return folder
        msg = f"{self._folder} is gone: it was removed meanwhile"
        raise StoreError(msg)

    @property
    def is_finished(self) -> bool:
        """Whether :meth:`finalize` has given the store its name."""
        return self.folder == self.path

    @property
    def n_units(self) -> int:
        """Number of units."""
        return self.plan.n_units

    @property
    def _markers(self) -> Markers:
        return Markers(self.folder / UNITS, self.plan)

    def unit_rows(self, unit: int) -> slice:
        """Return the rows of a unit."""
        return self.plan.rows_of(unit)

    def is_done(self, unit: int) -> bool:
        """Tell whether a unit is on the disk."""
        self.plan.rows_of(unit)
        return self._markers.path(unit).exists()

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
        first, step = (1, 1) if part is None else part
        if not 1 <= first <= step:
            msg = f"part {first} of {step}: parts are counted from 1 to {max(step, 1)}"
            raise InputError(msg)
        done = self._markers.done()
        units = range(first - 1, self.n_units, step)
        return [unit for unit in units if unit not in done]

    def begin_unit(self, unit: int) -> int:
        """Note that a unit is about to be computed, and return how often it was.

        Raises
        ------
        StoreError
            If the store cannot be written.
        """
        self.plan.rows_of(unit)
        return self._markers.begin(unit)

    def write_unit(
        self,
        unit: int,
        values: npt.ArrayLike,
        about: Mapping[str, Any] | None = None,
        *,
        replace: bool = False,
    ) -> None:
        """Put a unit on the disk; it survives a crash once this returns.

        Parameters
        ----------
        unit : int
        values : array, shape ``(rows of the unit, *row_shape)``
            Finite; rows of NaN need a reason.
        about : mapping, optional
            Plain values that are kept with the unit, such as ``seconds``, ``device``
            and ``host``; ``reasons`` maps the store's row numbers to why a row is
            NaN.
        replace : bool, default=False
            Whether a unit that is done, but damaged, is replaced; otherwise one that
            is done is left as it is. Call :meth:`record_repair` after the last.

        Raises
        ------
        InputError
            If shape, reasons or values do not fit.
        StoreError
            If values do not fit into float16, the disk is full, or the store was
            removed meanwhile.
        """
        about = dict(about or {})
        reasons = {int(row): text for row, text in about.pop("reasons", {}).items()}
        rows = checked_values(self.plan, unit, values, reasons)
        if self.is_done(unit) and not replace:
            return
        content = encode(self._checked_header(), self.plan.rows_of(unit), rows)
        self._write(unit_file(self.plan, unit), content)
        marker = {
            "n_rows": len(rows),
            "sha256": hashlib.sha256(rows.data).hexdigest(),
            "file_sha256": hashlib.sha256(content).hexdigest(),
            "n_bytes": content.nbytes,
            "reasons": {str(row): reasons[row] for row in sorted(reasons)},
            "about": about,
        }
        self._markers.write(unit, marker)

    def _write(self, name: str, content: memoryview) -> None:
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
        ndarray, shape ``(rows, *row_shape)``
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
        units = _units_with(first, stop, self.plan.unit_rows)
        if missing := sorted({*units} - self._markers.done()):
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

    def obs(self) -> pd.DataFrame:
        """Read the table of the rows, checked; ``reason`` is filled at the end."""
        check_files(
            self.folder,
            is_finished=self.is_finished,
            is_wanted=lambda name: name.startswith("obs/"),
        )
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
        part = f"{EXTRA}/{name}/"
        files = [file for file in self.manifest()["files"] if file.startswith(part)]
        if not files:
            msg = f"{self.path} has no extra array {name!r}"
            raise InputError(msg)
        check_files(
            self.folder,
            is_finished=self.is_finished,
            is_wanted=lambda file: file == part + HEADER,
        )
        try:
            for file in files:  # one that is absent would be read as zeros
                (self.folder / file).stat()
            return np.asarray(open_values(self.folder / part)[rows])
        except Exception as error:  # whatever damaged bytes do to a decoder
            msg = f"{self.folder / part} is damaged; {PLAN_AGAIN}"
            raise StoreError(msg) from error

    def marker(self, unit: int) -> dict[str, Any]:
        """Return what is known of a unit that is done.

        Raises
        ------
        FileNotFoundError
            If it is not done.
        StoreError
            If its marker is damaged.
        """
        return self._markers.read(unit)

    def markers(self) -> tuple[dict[int, dict[str, Any]], list[int]]:
        """Return the markers by unit, and the units whose markers are damaged."""
        return self._markers.read_all()

    def manifest(self) -> dict[str, Any]:
        """Return the record of all files beside the values, and of the run.

        Raises
        ------
        StoreError
            If it is damaged or absent.
        """
        return read_manifest(self.folder)

    def status(self) -> StoreStatus:
        """Count what is there, from the markers."""
        return status_of(self.path, self._markers, is_finished=self.is_finished)

    def verify(self) -> StoreReport:
        """Compare every byte with what was written.

        Returns
        -------
        StoreReport
            Damaged units are replaced by :meth:`write_unit`; other files are restored
            by :func:`create_store`.
        """
        return verify(self.folder, self.plan, is_finished=self.is_finished)

    def record_repair(self) -> None:
        """Bring reasons and manifest of a finished store up to date with its units.

        Raises
        ------
        StoreError
            If a unit is missing or damaged, or the store cannot be written.
        """
        if self.is_finished:
            self._write_summary(self._complete_markers())

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
        try:
            if not self.is_finished:
                self._finish(overwrite=overwrite)
        except OSError:  # the folder is gone when another process has finished it
            if not self._is_here(self.path):
                raise
        return self.path

    def _finish(self, *, overwrite: bool) -> None:
        self._check_place(overwrite=overwrite)
        markers = self._complete_markers()
        check_files(self.folder, is_finished=False)
        self._remove_leftovers()
        self._write_summary(markers)
        self._publish()

    def _write_summary(self, markers: list[dict[str, Any]]) -> None:
        self._write_reasons(markers)
        files = [*self.manifest()["files"], REASONS_FILE]
        write_manifest(self.folder, self.plan, files, summary(markers))

    def _check_place(self, *, overwrite: bool) -> None:
        if not os.path.lexists(self.path) or self._is_here(self.path):
            return
        if not overwrite:
            msg = f"{self.path} exists; remove it, or replace it (overwrite=True)"
            raise StoreError(msg)
        if not (self.path / PLAN).exists():
            msg = f"{self.path} is no store of this package; move it away by hand"
            raise StoreError(msg)

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
                f"{self._repair()}"
            )
            raise StoreError(msg)
        return [markers[unit] for unit in range(self.n_units)]

    def _has_size(self, unit: int, marker: dict[str, Any]) -> bool:
        path = self.folder / unit_file(self.plan, unit)
        return path.is_file() and path.stat().st_size == marker["n_bytes"]

    def _write_reasons(self, markers: list[dict[str, Any]]) -> None:
        reasons = np.full(self.plan.n_rows, "", dtype=object)
        for marker in markers:
            for row, text in marker["reasons"].items():
                reasons[int(row)] = text
        header = (self.folder / REASONS / HEADER).read_bytes()
        (self.folder / REASONS_FILE).parent.mkdir(exist_ok=True)
        self._write(REASONS_FILE, encode(header, slice(0, len(reasons)), reasons))

    def _remove_leftovers(self) -> None:
        """Remove what killed writers left; all units are done."""
        for name in (self.plan.array, UNITS):
            for path in (self.folder / name).glob(f".*{PARTIAL}"):
                path.unlink(missing_ok=True)

    def _publish(self) -> None:
        """Rename; an old store goes only when the new one has its place."""
        if not self._is_here(self.path):  # another process may have finished it
            take_place(partial_folder(self.path), self.path)
        self._folder = self.path
        flush_folder(self.path.parent)
        # our own was moved by a process that lost a race, and will put it back
        remove_replaced(self.path, is_kept=self._is_here)

    def _is_here(self, folder: Path) -> bool:
        """Tell whether a folder is this very store, and not one of another plan."""
        try:
            return read_plan(folder).digest == self.plan.digest
        except StoreError:
            return False

    def _checked_header(self) -> bytes:
        """Return the array's header, which decides how every value is read."""
        if self._header is None:
            name = f"{self.plan.array}/{HEADER}"
            check_files(
                self.folder,
                is_finished=self.is_finished,
                is_wanted=lambda file: file in (name, PLAN),
            )
            self._header = (self.folder / name).read_bytes()
        return self._header

    def _repair(self) -> str:
        return f"run `enformer-features store verify --repair {self.path}`"


def partial_folder(path: Path) -> Path:
    """Return where a store is until it is finished."""
    return path.with_name(path.name + PARTIAL)


def _units_with(first: int, stop: int, unit_rows: int) -> range:
    """Return the units that have rows from `first` up to `stop`."""
    if first >= stop:
        return range(0)
    return range(first // unit_rows, -(-stop // unit_rows))
