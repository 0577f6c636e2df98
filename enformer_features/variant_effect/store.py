"""Scores of many variants on disk: by the unit, resumable, and read in any order.

Rows lie in the order in which they share reference windows; :class:`ScoreStore` gives
them back in the order of the table. What has been computed is never computed again.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import socket
import time
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.streaming import progress
from enformer_features.exceptions import (
    InputError,
    PlanMismatchError,
    StoreError,
    first_few,
)
from enformer_features.storage.environment import environment
from enformer_features.storage.export import (
    UNS_KEY,
    clean_obs,
    clean_var,
    provenance_entry,
)
from enformer_features.storage.files import OLD, hidden_sibling, rename
from enformer_features.storage.store import Store, create_store, open_store
from enformer_features.storage.store.plan import StorePlan
from enformer_features.variant_effect.caution import caution_lines

Floats = npt.NDArray[np.float32]
Rows = npt.NDArray[np.int64]

# In the provenance of what is written: which scores it holds.
IDENTITY_KEY = "scores_identity"
INPUTS_KEY = "inputs"  # the files that were read: name and sha256 of each
# A unit is what is lost when a process is killed, and what is held in memory.
UNIT_ROWS = 256
UNIT_BYTES = 32_000_000
# What is written out at a time, and kept of what was read.
CHUNK_ROWS = 16_384
CHUNK_BYTES = 32_000_000
KEPT_BYTES = 128_000_000
MOST_LETTERS = 80  # of a value in a message
_PROVENANCE = "provenance"


class ScoringJob(Protocol):
    """What computes scores, as :meth:`VariantEffect.job` gives it."""

    @property
    def table(self) -> pd.DataFrame:
        """The variant table; ``reason`` is "" where a row can be scored."""

    @property
    def names(self) -> list[str]:
        """The columns: every score with every target, score by score."""

    @property
    def scores(self) -> tuple[str, ...]:
        """Names of the scores."""

    @property
    def targets(self) -> list[str]:
        """What is scored: tracks, or outputs of a head."""

    def __len__(self) -> int:
        """Return the number of rows."""

    def order(self) -> Rows:
        """Return all rows, those that share references beside each other."""

    def compute(self, rows: Rows) -> tuple[Floats, npt.NDArray[np.object_]]:
        """Return scores and, for each row, why they are NaN, or ""."""

    def provenance(self) -> dict[str, Any]:
        """Return what the values depend on, as plain values."""

    def identity(self) -> str:
        """Return a digest of all that decides a value."""


class Scores(Protocol):
    """Scores in the order of their table, on disk or in memory."""

    def reasons(self) -> npt.NDArray[np.object_]:
        """Return why rows are NaN, or ""."""

    def iterate(self) -> Iterator[tuple[slice, Floats]]:
        """Yield rows and their scores, from the first to the last."""


class ScoreArray:
    """Scores in memory.

    Parameters
    ----------
    values : array, shape (n_rows, n_names)
    reasons : array of str, shape (n_rows,)
        Why a row is NaN, or "".

    Examples
    --------
    >>> scores = ScoreArray(np.ones((3, 2)), np.array(["", "", "deleted"]))
    >>> [(rows, values.shape) for rows, values in scores.iterate()]
    [(slice(0, 3, None), (3, 2))]
    """

    def __init__(self, values: npt.ArrayLike, reasons: npt.ArrayLike) -> None:
        self.values = np.asarray(values, dtype=np.float32)
        self._reasons = np.asarray(reasons, dtype=object)

    def reasons(self) -> npt.NDArray[np.object_]:
        """Return why rows are NaN, or ""."""
        return self._reasons.copy()

    def iterate(self) -> Iterator[tuple[slice, Floats]]:
        """Yield rows and their scores, from the first to the last."""
        for rows in chunks_of(*self.values.shape):
            yield rows, self.values[rows]


class ScoreStore:
    """Scores on disk, from :func:`score_variants` or :func:`open_scores`.

    Parameters
    ----------
    store : Store

    Attributes
    ----------
    store : Store
    names : list of str
        The columns: every score with every target, score by score.
    scores, targets : list of str
    identity : str
        Of the job.
    provenance : dict
        Of the job, with its identity.

    Raises
    ------
    StoreError
        If it is a store of something else.
    """

    def __init__(self, store: Store) -> None:
        if not has_scores(store):
            msg = f"{store.path} is a store, but not one of variant scores"
            raise StoreError(msg)
        settings = store.plan.settings
        self.store = store
        self.scores: list[str] = settings["scores"]
        self.targets: list[str] = settings["targets"]
        self.names: list[str] = settings["names"]
        self.identity: str = settings["identity"]
        provenance = store.plan.info[_PROVENANCE]
        self.provenance: dict[str, Any] = {**provenance, IDENTITY_KEY: self.identity}
        self._order = store.extra_array("order").astype(np.int64)
        self._places = np.argsort(self._order)
        self._kept: OrderedDict[int, Floats] = OrderedDict()

    def __len__(self) -> int:
        """Return the number of rows."""
        return self.store.plan.n_rows

    def __repr__(self) -> str:
        return f"ScoreStore({str(self.path)!r}, {len(self)} rows)"

    @property
    def path(self) -> Path:
        """The folder."""
        return self.store.path

    def table(self) -> pd.DataFrame:
        """Read the variant table, in its own order.

        Returns
        -------
        DataFrame
            With ``reason`` as known at the end; rows are numbered from 0.
        """
        table = self.store.obs().iloc[self._places].reset_index(drop=True)
        for name in table.columns[table.dtypes == "category"]:
            table[name] = table[name].astype(object)
        return table.assign(reason=self.reasons())

    def reasons(self) -> npt.NDArray[np.object_]:
        """Return why rows are NaN, or "", in the order of the table."""
        found = np.full(len(self), "", dtype=object)
        for marker in self.store.markers()[0].values():
            for place, text in marker["reasons"].items():
                found[self._order[int(place)]] = text
        return found

    def read(
        self, rows: slice | npt.ArrayLike = slice(None), columns: slice = slice(None)
    ) -> Floats:
        """Read some rows; every checksum is checked.

        Parameters
        ----------
        rows : slice or array of int
            Rows of the table.
        columns : slice, optional
            Of the names; all by default.

        Returns
        -------
        ndarray of float32, shape (len(rows), number of columns)
            NaN where there is a reason.

        Raises
        ------
        StoreError
            If a unit is missing or damaged.
        """
        wanted = rows if isinstance(rows, slice) else np.asarray(rows, dtype=np.int64)
        places = self._places[wanted]
        units = places // self.store.plan.unit_rows
        n_columns = len(range(len(self.names))[columns])
        found = np.empty((len(places), n_columns), dtype=np.float32)
        for unit in np.unique(units).tolist():
            here = np.flatnonzero(units == unit)
            first = self.store.unit_rows(unit).start
            found[here] = self._unit(unit)[places[here] - first, columns]
        return found

    def iterate(self) -> Iterator[tuple[slice, Floats]]:
        """Yield rows and their scores, from the first to the last.

        Memory is flat. A table in genomic order is read once; one that is shuffled,
        and larger than 128 MB of scores, is read again for every chunk.
        """
        for rows in chunks_of(len(self), len(self.names)):
            yield rows, self.read(rows)

    def remove(self) -> None:
        """Delete the store; killed meanwhile, it leaves none that is damaged."""
        aside = hidden_sibling(self.path, OLD)
        rename(self.store.folder, aside)
        shutil.rmtree(aside, ignore_errors=True)

    def _unit(self, unit: int) -> Floats:
        if unit not in self._kept:
            values = self.store.read(self.store.unit_rows(unit))
            self._kept[unit] = values
            unit_bytes = 4 * self.store.plan.unit_rows * len(self.names)
            while len(self._kept) > max(1, KEPT_BYTES // unit_bytes):
                self._kept.popitem(last=False)
        self._kept.move_to_end(unit)
        return self._kept[unit]


def partial_store(out: str | PathLike[str]) -> Path:
    """Return where scores are kept until an output file is complete.

    Examples
    --------
    >>> partial_store("scores.vcf.gz").name
    'scores.vcf.gz.partial.zarr'
    """
    path = Path(out)
    return path.with_name(f"{path.name}.partial.zarr")


def score_variants(
    job: ScoringJob,
    path: str | PathLike[str],
    *,
    inputs: Mapping[str, Any] | None = None,
    unit_rows: int | Literal["auto"] = "auto",
    overwrite: bool = False,
    verbose: bool | None = None,
) -> ScoreStore:
    """Score all rows of a job into a store, or go on with what was interrupted.

    Parameters
    ----------
    job : VariantJob
    path : path
        Ends in ``.zarr``; ``.zarr.partial`` until all rows are there.
    inputs : mapping, optional
        Files that were read, for the provenance; see :func:`provenance_of`.
    unit_rows : int or "auto", default="auto"
        Rows that are computed and written together: 256, or fewer where rows are
        large.
    overwrite : bool, default=False
        Whether a store of other settings is replaced. An unfinished one is removed at
        once, with the scores in it.
    verbose : bool, optional
        Progress bar; None shows one on a terminal.

    Returns
    -------
    ScoreStore

    Raises
    ------
    InputError
        If there are no rows, or ``unit_rows`` or the path cannot be used.
    PlanMismatchError
        If a store of other settings is there; the message says what differs.
    StoreError
        If it cannot be written. What is finished is kept.
    """
    store = _planned(job, path, inputs, unit_rows, overwrite=overwrite)
    order = store.extra_array("order")
    _replace_damaged(store, job, order)
    pending = store.pending()
    rows = [store.unit_rows(unit) for unit in pending]
    with progress(sum(span.stop - span.start for span in rows), verbose) as bar:
        for unit, span in zip(pending, rows, strict=True):
            if not store.is_done(unit):  # perhaps by another process
                _compute_unit(store, job, order, unit)
            bar.update(span.stop - span.start)
    store.finalize(overwrite=overwrite)
    return ScoreStore(store)


def open_scores(path: str | PathLike[str]) -> ScoreStore:
    """Open a store of :func:`score_variants` again.

    Raises
    ------
    InputError, StoreError
        If there is none.
    """
    return ScoreStore(open_store(path))


def provenance_of(
    job: ScoringJob, inputs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return what the values of a job depend on, and which files they came from.

    Parameters
    ----------
    job : VariantJob
    inputs : mapping of str to dict, optional
        ``{"vcf": {"name": "a.vcf", "sha256": "..."}}``, say; kept as it is.

    Returns
    -------
    dict
    """
    return {**job.provenance(), **({INPUTS_KEY: dict(inputs)} if inputs else {})}


def chunks_of(n_rows: int, n_columns: int) -> Iterator[slice]:
    """Yield the rows that are handled together.

    Examples
    --------
    >>> [rows.stop for rows in chunks_of(9000, 2000)]
    [4000, 8000, 9000]
    """
    size = max(1, min(CHUNK_ROWS, CHUNK_BYTES // (4 * max(1, n_columns))))
    for start in range(0, n_rows, size):
        yield slice(start, min(start + size, n_rows))


def compute_rows(job: ScoringJob, rows: Rows) -> tuple[Floats, npt.NDArray[np.object_]]:
    """Compute the rows that can be scored; the others are NaN.

    Parameters
    ----------
    job : VariantJob
    rows : array of int

    Returns
    -------
    values : ndarray of float32, shape (len(rows), n_names)
    reasons : ndarray of str, shape (len(rows),)
        Why a row is NaN, or "".
    """
    values = np.full((len(rows), len(job.names)), np.nan, dtype=np.float32)
    reasons = job.table["reason"].to_numpy(dtype=object)[rows]
    usable = np.flatnonzero(reasons == "")
    if usable.size:
        values[usable], reasons[usable] = job.compute(rows[usable])
        values[reasons != ""] = np.nan
    return values, reasons


def _planned(
    job: ScoringJob,
    path: str | PathLike[str],
    inputs: Mapping[str, Any] | None,
    unit_rows: int | Literal["auto"],
    *,
    overwrite: bool,
) -> Store:
    plan, order = _plan(job, inputs, unit_rows)
    table = job.table.iloc[order].set_axis([str(row) for row in order.tolist()])
    uns = {
        UNS_KEY: provenance_entry(plan.info[_PROVENANCE]),
        "caution": caution_lines(plan.info[_PROVENANCE]),
    }
    tables = clean_obs(table, len(table)), clean_var(job.names, None, len(job.names))

    def create() -> Store:
        return create_store(
            path, plan, *tables, uns, {"order": order}, overwrite=overwrite
        )

    try:
        return create()
    except PlanMismatchError as error:
        there = open_store(path, unfinished=overwrite)
        if not has_scores(there):
            raise
        if overwrite and not there.is_finished:
            shutil.rmtree(there.folder)
            return create()
        told = "\n  ".join(differences(plan.info[_PROVENANCE], plan.settings, there))
        msg = (
            f"{there.folder} holds scores of other settings (asked for != there):\n"
            f"  {told}\ngive the settings they were begun with, or another output, or "
            "begin anew (overwrite=True)"
        )
        raise PlanMismatchError(msg) from error


def has_scores(store: Store) -> bool:
    """Tell whether a store is one of variant scores."""
    return {"identity", "scores", "targets"} <= store.plan.settings.keys()


def _plan(
    job: ScoringJob, inputs: Mapping[str, Any] | None, unit_rows: int | Literal["auto"]
) -> tuple[StorePlan, Rows]:
    n_rows, names, identity = len(job), list(job.names), job.identity()
    if not n_rows:
        msg = "there are no variants to score: the table has no rows"
        raise InputError(msg)
    size = _unit_rows(unit_rows, len(names))
    order = np.asarray(job.order(), dtype=np.int64)
    digests = [
        hashlib.sha256(identity.encode() + order[start : start + size].tobytes())
        for start in range(0, n_rows, size)
    ]
    plan = StorePlan(
        array="X",
        n_rows=n_rows,
        row_shape=(len(names),),
        dtype="float32",
        unit_rows=size,
        unit_digests=tuple(digest.hexdigest() for digest in digests),
        settings=settings_of(job, identity),
        info={
            _PROVENANCE: provenance_of(job, inputs),
            "environment": environment(),
        },
    )
    return plan, order


def settings_of(job: ScoringJob, identity: str) -> dict[str, Any]:
    """Return what a store of the job is known by."""
    return {
        "identity": identity,
        "names": list(job.names),
        "scores": list(job.scores),
        "targets": list(job.targets),
    }


def _unit_rows(unit_rows: object, n_columns: int) -> int:
    if unit_rows == "auto":
        return max(1, min(UNIT_ROWS, UNIT_BYTES // (4 * n_columns)))
    if isinstance(unit_rows, bool) or not isinstance(unit_rows, int) or unit_rows < 1:
        msg = f"unit_rows={unit_rows!r} must be 'auto' or a whole number of at least 1"
        raise InputError(msg)
    return unit_rows


def differences(
    provenance: Mapping[str, Any], settings: Mapping[str, Any], other: Store
) -> list[str]:
    """Say in words what differs from a store that is there; digests come last.

    Parameters
    ----------
    provenance : mapping
        Of what is asked for; see :func:`provenance_of`.
    settings : mapping
        See :func:`settings_of`.
    other : Store

    Returns
    -------
    list of str
        ``"name: asked for != there"``; empty when the store is of the same scores.
    """
    if settings == other.plan.settings:
        return []
    mine = _named(provenance, settings)
    theirs = _named(other.plan.info.get(_PROVENANCE, {}), other.plan.settings)
    names = [
        name
        for name in sorted(mine.keys() | theirs.keys(), key=_rank)
        if mine.get(name) != theirs.get(name)
    ]
    return [
        f"{name}: {_shown(mine.get(name))} != {_shown(theirs.get(name))}"
        for name in names
    ] or ["the same settings, for other variants"]


def _named(
    provenance: Mapping[str, Any], settings: Mapping[str, Any]
) -> dict[str, Any]:
    """Return what a user calls by a name: files, and parameters."""
    files = provenance.get(INPUTS_KEY, {})
    of_files = {name: f"{of['name']} ({of['sha256']})" for name, of in files.items()}
    others = {
        name.removeprefix("variant_"): value
        for name, value in provenance.items()
        if name != INPUTS_KEY
    }
    return {**others, "targets": settings.get("targets"), **of_files}


def _rank(name: str) -> tuple[bool, bool, str]:
    """Sort settings of variants and files first, and digests last."""
    return name.endswith("digest"), name in {"counts", "config"}, name


def _shown(value: object) -> str:
    """Render a value in a few words."""
    if isinstance(value, list | tuple):
        return f"({first_few(value)})"
    text = re.sub(r"[0-9a-f]{13,}", lambda found: f"{found[0][:12]}...", repr(value))
    return text if len(text) <= MOST_LETTERS else f"{text[:MOST_LETTERS]}..."


def _replace_damaged(store: Store, job: ScoringJob, order: Rows) -> None:
    """Compute again what is no longer as it was written."""
    damaged = store.verify().units if len(store.pending()) < store.n_units else []
    for unit in damaged:
        if store.is_done(unit) or store.is_finished:
            _compute_unit(store, job, order, unit, replace=True)
    if damaged:
        store.record_repair()


def _compute_unit(
    store: Store, job: ScoringJob, order: Rows, unit: int, *, replace: bool = False
) -> None:
    began, span = time.perf_counter(), store.unit_rows(unit)
    store.begin_unit(unit)
    values, reasons = compute_rows(job, order[span])
    bad = np.flatnonzero(reasons != "").tolist()
    about = {
        "seconds": round(time.perf_counter() - began, 3),
        "device": str(store.plan.info[_PROVENANCE].get("device", "unknown")),
        "host": socket.gethostname(),
        "reasons": {span.start + row: str(reasons[row]) for row in bad},
    }
    store.write_unit(unit, values, about, replace=replace)
