"""Features of many rows in a store: any number of processes, any number of runs.

``plan_store`` checks all rows and settles everything that decides a value; each unit is
then computed by whoever comes first, on this machine or another; ``finalize`` makes one
AnnData of them. A worker needs only the path: rows and parameters are in the store, and
weights and genome are compared with those that were planned.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import random
import socket
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import Job, prepare, resolve
from enformer_features.estimators.parameters import (
    check_parameters,
    recipe_of,
    window_length,
)
from enformer_features.estimators.streaming import (
    Output,
    compute_part,
    make_output,
    progress,
)
from enformer_features.exceptions import (
    PlanMismatchError,
    StoreError,
    WeightsError,
)
from enformer_features.genomics.encoding import N_CODE
from enformer_features.genomics.genome import Genome, open_genome
from enformer_features.inference.devices import resolve_device
from enformer_features.inference.pooling import Pool
from enformer_features.inference.precision import resolve_precision
from enformer_features.inference.tracks import TrackSelection
from enformer_features.model.registry import (
    BUNDLED,
    FileSource,
    ModelHandle,
    Weights,
    weights_digest,
)
from enformer_features.model.registry import (
    resolve as resolve_weights,
)
from enformer_features.storage.environment import environment
from enformer_features.storage.store import Store, create_store, open_store
from enformer_features.storage.store.plan import StorePlan

if TYPE_CHECKING:
    from enformer_features.storage.store import StoreReport, StoreStatus

# Parameters that are settled as they are given.
_AS_GIVEN = (
    *("output", "organism", "center", "strand", "edge", "snap", "resize"),
    *("ambiguous", "contig_style", "on_error"),
)
# Parameters of a machine, which a worker on another one may set.
PLACES = ("weights", "genome", "device")


class EmbeddingStore:
    """Features that are computed unit by unit; from :func:`plan_store`.

    Any number of processes may work on one store. A unit is wholly there or not at
    all, and has the same bits whoever computes it, with one number of threads on one
    kind of processor.

    Parameters
    ----------
    store : Store
    embedder : EnformerEmbedder or None
        As planned, if it is at hand; else it is made from the plan.
    places : mapping
        Where weights and genome are here, and the device.
    """

    def __init__(
        self,
        store: Store,
        embedder: EnformerEmbedder | None = None,
        places: Mapping[str, Any] | None = None,
    ) -> None:
        self.store = store
        self._embedder = embedder
        self._places = dict(places or {})
        self._rows: Samples | None = None

    @property
    def path(self) -> Path:
        """The folder: finished, or the partial one."""
        return self.store.path

    @property
    def plan(self) -> StorePlan:
        """What the store will hold."""
        return self.store.plan

    @property
    def embedder(self) -> EnformerEmbedder:
        """What computes the rows, as planned.

        Raises
        ------
        PlanMismatchError
            When weights, genome, device or precision are others here; every
            difference is named.
        WeightsError, GenomeError, InputError
            When they are not to be had.
        """
        if self._embedder is None:
            embedder = _embedder_of(self.plan, self._places, self.path)
            self._check(embedder)
            self._embedder = embedder
        return self._embedder

    def _check(self, embedder: EnformerEmbedder) -> None:
        settings = {**self.plan.settings, **_settings(embedder)}
        differences = self.plan.differences(replace(self.plan, settings=settings))
        if differences:
            listed = "; ".join(differences)
            msg = (
                f"{self.path} was planned otherwise (planned != here): {listed}. Use "
                "what it was planned with, or plan another store"
            )
            raise PlanMismatchError(msg)

    def embed_unit(self, unit: int) -> bool:
        """Compute and keep one unit, unless it is there already.

        Parameters
        ----------
        unit : int
            From 0.

        Returns
        -------
        bool
            Whether it was computed.

        Raises
        ------
        PlanMismatchError
            When the rows read here are not those that were planned.
        DeviceMemoryError, InferenceError
            As :meth:`~enformer_features.EnformerEmbedder.transform` does.
        StoreError
            When the unit cannot be written.
        """
        if self.store.is_done(unit):
            return False
        self._embed(unit)
        return True

    def _embed(self, unit: int, *, replace: bool = False) -> None:
        """Compute and keep a unit; nothing of the store changes if that fails."""
        began, embedder = time.perf_counter(), self.embedder
        self.store.begin_unit(unit)
        rows = self.store.unit_rows(unit)
        job = prepare(embedder, self._samples(unit))
        digest = str(self.plan.settings["weights_digest"])
        if _unit_digest(job, digest) != self.plan.unit_digests[unit]:
            msg = (
                f"{self.path}: rows {rows.start} to {rows.stop - 1} (unit {unit}) read "
                "other sequences here than were planned: is the genome another one, "
                f"with contigs of the same lengths? It is {embedder.genome}"
            )
            raise PlanMismatchError(msg)
        values, reasons = compute_part(job, digest, self.plan.row_shape)
        about = {
            "seconds": round(time.perf_counter() - began, 3),
            "device": str(job.backend.device),
            "host": socket.gethostname(),
            "reasons": {rows.start + row: text for row, text in reasons.items()},
        }
        self.store.write_unit(unit, values, about, replace=replace)

    def run(
        self, part: tuple[int, int] | None = None, *, verbose: bool | None = None
    ) -> int:
        """Compute the units that are missing, or one of several equal parts of them.

        Processes that run without a part at the same time share the work: each begins
        at another unit, and leaves out what others have done.

        Parameters
        ----------
        part : (int, int), optional
            ``(i, n)``: the i-th of n parts of all units, counted from 1.
        verbose : bool, optional
            Progress bar; None shows one on a terminal.

        Returns
        -------
        int
            Units that were computed.

        Raises
        ------
        PlanMismatchError, StoreError, DeviceMemoryError, InferenceError
            As :meth:`embed_unit` does; what is finished is kept, and ``run()`` goes on.
        """
        if self._places:
            _ = self.embedder  # what was given is checked, also if nothing is left
        pending = self.store.pending(part)
        if part is None and pending:
            first = random.SystemRandom().randrange(len(pending))
            pending = pending[first:] + pending[:first]
        n_computed = 0
        sizes = [self._n_rows(unit) for unit in pending]
        with progress(sum(sizes), verbose) as bar:
            for unit, size in zip(pending, sizes, strict=True):
                n_computed += self.embed_unit(unit)
                bar.update(size)
        return n_computed

    def status(self) -> StoreStatus:
        """Count what is there; neither weights nor genome are needed."""
        return self.store.status()

    def verify(self, *, repair: bool = False) -> StoreReport:
        """Compare every byte with what was written.

        Parameters
        ----------
        repair : bool, default=False
            Compute the units that are damaged again, and those alone; each stays
            until what replaces it is computed, and a finished store keeps its name.
            Damage to other files is only told: planning the store again restores
            them.

        Returns
        -------
        StoreReport
            What was damaged, also if it was repaired.

        Raises
        ------
        PlanMismatchError, StoreError, DeviceMemoryError, InferenceError
            As :meth:`embed_unit` does; units that are not replaced stay damaged.
        """
        report = self.store.verify()
        if repair and report.units and not report.files:
            for unit in report.units:
                self._embed(unit, replace=True)
            self.store.record_repair()
        return report

    def reasons(self) -> dict[int, str]:
        """Return the rows that became NaN so far, and why."""
        found: dict[int, str] = {}
        for marker in self.store.markers()[0].values():
            found |= {int(row): text for row, text in marker["reasons"].items()}
        return found

    def finalize(self, *, overwrite: bool = False) -> Path:
        """Make one AnnData of all units, under its final name.

        Parameters
        ----------
        overwrite : bool, default=False
            Whether a store of another plan may be replaced.

        Returns
        -------
        Path

        Raises
        ------
        StoreError
            When units are missing; they are named.
        """
        return self.store.finalize(overwrite=overwrite)

    def _n_rows(self, unit: int) -> int:
        rows = self.store.unit_rows(unit)
        return int(rows.stop - rows.start)

    def _samples(self, unit: int) -> Samples:
        rows = self.store.unit_rows(unit)
        if self._rows is None:
            self._rows = _read_rows(self.store)
        part = self._rows.part(rows)
        if part.regions is None:
            letters = self.store.extra_array("letters", rows)
            part = replace(part, sequences=list(letters))
        return part


def plan_store(
    embedder: EnformerEmbedder,
    X: Any,
    path: str | PathLike[str],
    *,
    bins: bool = False,
    unit_rows: int | Literal["auto"] = "auto",
    dtype: str = "float32",
    make_unique: bool = False,
    overwrite: bool = False,
) -> EmbeddingStore:
    """Check all rows, and make a store that waits for their values.

    Parameters
    ----------
    embedder : EnformerEmbedder
        Its cache is not used: a store's values do not depend on earlier runs.
    X : table or sequence of regions or sequences, n_rows
    path : path
        ``something.zarr``; ``something.zarr.partial`` until it is finished. If it is
        there already, with an equal plan, that is gone on with.
    bins : bool, default=False
        Keep every bin, in ``obsm["X_enformer_bins"]``, instead of pooled rows in ``X``.
    unit_rows : int or "auto", default="auto"
        Rows that are computed and written together: 64, or fewer where rows are large.
    dtype : {"float32", "float16"}, default="float32"
        float16 halves the size, and rounds by up to 5e-4 of a value.
    make_unique : bool, default=False
        Number repeated row names instead of refusing them.
    overwrite : bool, default=False
        Whether a finished store of another plan may be there; ``finalize`` replaces
        it.

    Returns
    -------
    EmbeddingStore

    Raises
    ------
    InputError, InputTypeError, GenomeError, WeightsError
        As :meth:`~enformer_features.EnformerEmbedder.transform` does, before anything
        is made.
    PlanMismatchError
        When ``path`` holds a store with another plan; every difference is named.
    StoreError
        When the disk is too small, or cannot be written.

    Examples
    --------
    >>> import pathlib, tempfile, warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "features.zarr")
    >>> embedder = EnformerEmbedder("untrained-tiny", sequence_length=1024)
    >>> store = plan_store(embedder, ["ACGT" * 256, "GATTACAT" * 128], path)
    >>> store.run()
    1
    >>> store.finalize().name
    'features.zarr'
    >>> folder.cleanup()
    """
    check_parameters(embedder)
    check_place(path)
    output = make_output(
        embedder,
        resolve(embedder, X),
        bins=bins,
        unit_rows=unit_rows,
        dtype=dtype,
        make_unique=make_unique,
    )
    output.job.warn_about_windows(stacklevel=4)
    return store_of(output, path, overwrite=overwrite)


def check_place(path: str | PathLike[str]) -> None:
    """Refuse a path that is none of a store, before rows are looked at.

    Raises
    ------
    InputError, InputTypeError
        When it does not end in ``.zarr``, or there is no folder for it.
    """
    with contextlib.suppress(StoreError):  # nothing there yet, or looked at later
        open_store(path)


def store_of(
    output: Output, path: str | PathLike[str], *, overwrite: bool = False
) -> EmbeddingStore:
    """Make a store for rows that are checked."""
    from enformer_features.storage.export import (
        UNS_KEY,
        clean_obs,
        clean_var,
        provenance_entry,
    )

    names = output.feature_names
    obs = clean_obs(output.obs, len(output), make_unique=output.unique)
    plan = StorePlan(
        array=output.array,
        n_rows=len(output),
        row_shape=output.row_shape,
        dtype=output.dtype,
        unit_rows=output.unit_rows,
        unit_digests=_unit_digests(output),
        settings={
            **_settings(output.embedder),
            "bins": output.bins,
            "rows": "sequences" if output.samples.regions is None else "regions",
            "obs_digest": _table_digest(obs),
        },
        info={
            **_places(output.embedder),
            "max_n_fraction": float(output.embedder.max_n_fraction),
            "provenance": output.provenance,
            "environment": environment(),
        },
    )
    store = create_store(
        path,
        plan,
        obs,
        clean_var(names, None, len(names)),
        {UNS_KEY: provenance_entry(output.provenance)},
        extra_arrays=_rows_as_arrays(output),
        overwrite=overwrite,
    )
    return EmbeddingStore(store, output.embedder)


def open_embedding_store(
    path: str | PathLike[str],
    *,
    weights: Weights | None = None,
    genome: str | PathLike[str] | Genome | None = None,
    device: str | None = None,
) -> EmbeddingStore:
    """Open a store that :func:`plan_store` made, here or on another machine.

    Parameters
    ----------
    path : path
        As it was planned; finished or not. One that is to replace a finished one is
        preferred: that is where something is left to compute.
    weights, genome, device
        Where they are elsewhere on this machine. Weights and genome are compared with
        those that were planned, before anything is computed.

    Returns
    -------
    EmbeddingStore

    Raises
    ------
    StoreError
        When there is no store, it is not one of features, or its plan is damaged.
    """
    store = open_store(path, unfinished=True)
    missing = {"weights_digest", "rows", "pooling"} - store.plan.settings.keys()
    if missing:
        msg = f"{store.path} is a store, but not one of features of an embedder"
        raise StoreError(msg)
    given = {"weights": weights, "genome": genome, "device": device}
    places = {name: value for name, value in given.items() if value is not None}
    return EmbeddingStore(store, places=places)


# The plan: from an embedder, and back


def _settings(embedder: EnformerEmbedder) -> dict[str, Any]:
    """Return what decides a value, besides the rows, as plain values."""
    device, recipe = resolve_device(embedder.device), recipe_of(embedder)
    genome = None if embedder.genome is None else open_genome(embedder.genome)
    return {
        "weights_digest": weights_digest(embedder.weights),
        "genome_digest": None if genome is None else genome.digest,
        "config": json.loads(recipe.config.to_json()),
        "device": device.type,
        "precision": resolve_precision(embedder.precision, device).name,
        "batch_size": embedder.batch_size,
        "sequence_length": window_length(embedder),
        "pooling": [asdict(pool) for pool in recipe.pools],
        "tracks": None if recipe.tracks is None else asdict(recipe.tracks),
        "shifts": [int(shift) for shift in embedder.shifts],
        **{name: getattr(embedder, name) for name in _AS_GIVEN},
    }


def _places(embedder: EnformerEmbedder) -> dict[str, str | None]:
    """Return where weights and genome are, to be found from any folder."""
    weights, genome = embedder.weights, embedder.genome
    source = resolve_weights(weights)
    named = None if isinstance(weights, ModelHandle) else str(weights)
    if isinstance(source, FileSource) and source.name not in BUNDLED:
        named = str(source.path.expanduser().resolve())
    path = None if genome is None else str(open_genome(genome).path)
    return {"weights": named, "genome": path}


def _embedder_of(
    plan: StorePlan, places: Mapping[str, Any], path: Path
) -> EnformerEmbedder:
    """Return an embedder with the parameters of a plan."""
    settings, info = plan.settings, plan.info
    weights = places.get("weights", info["weights"])
    if weights is None:
        msg = (
            f"{path} was planned with a network in the memory of another process: give "
            "weights=ModelHandle(network) here too, or save it with "
            "save_checkpoint(...) and plan a store with the folder as weights"
        )
        raise WeightsError(msg)
    tracks = settings["tracks"]
    return EnformerEmbedder(
        weights,
        genome=places.get("genome", info["genome"]),
        device=places.get("device", settings["device"]),
        precision=settings["precision"],
        batch_size=settings["batch_size"],
        sequence_length=settings["sequence_length"],
        pooling=tuple(_pool(**pool) for pool in settings["pooling"]),
        tracks=None if tracks is None else TrackSelection(**tracks),
        shifts=tuple(settings["shifts"]),
        max_n_fraction=info["max_n_fraction"],
        cache=None,
        verbose=False,
        **{name: settings[name] for name in _AS_GIVEN},
    )


def _pool(name: str, bins: str | list[int], reduction: Any) -> Pool:
    place = bins if isinstance(bins, str) else (bins[0], bins[1])
    return Pool(name, place, reduction)


# The rows: into the store, and back


def _unit_digests(output: Output) -> tuple[str, ...]:
    keys = output.job.keys(weights_digest(output.embedder.weights))
    starts = range(0, len(output), output.unit_rows)
    return tuple(
        _digest_of_keys(keys, range(start, min(start + output.unit_rows, len(output))))
        for start in starts
    )


def _unit_digest(job: Job, digest: str) -> str:
    return _digest_of_keys(job.keys(digest), range(len(job)))


def _digest_of_keys(keys: dict[int, str], rows: range) -> str:
    """Return the identity of what some rows are computed from; bad rows have no key."""
    text = "\n".join(keys.get(row, "") for row in rows)
    return hashlib.sha256(text.encode()).hexdigest()


def _table_digest(table: pd.DataFrame) -> str:
    return hashlib.sha256(table.to_csv().encode()).hexdigest()


def _rows_as_arrays(output: Output) -> dict[str, npt.NDArray[np.uint8]]:
    """Return rows as what a store keeps: JSON as bytes, and letters."""
    samples = output.samples
    labels = [
        label if isinstance(label, int) else str(label) for label in samples.index
    ]
    if samples.regions is not None:
        columns = {name: list(column) for name, column in samples.regions.items()}
        record: dict[str, Any] = {"labels": labels, "regions": columns}
        return {"rows": _as_bytes(record)}
    length = output.job.recipe.geometry.sequence_length
    codes = np.full((len(samples), length), N_CODE, dtype=np.uint8)
    for row, sequence in enumerate(samples.sequences or []):
        if len(sequence):  # those that cannot be used are empty
            codes[row] = sequence
    reasons = [] if samples.reasons is None else list(samples.reasons)
    return {
        "rows": _as_bytes({"labels": labels, "reasons": reasons}),
        "letters": codes,
    }


def _as_bytes(record: dict[str, Any]) -> npt.NDArray[np.uint8]:
    return np.frombuffer(json.dumps(record, default=int).encode(), dtype=np.uint8)


def _read_rows(store: Store) -> Samples:
    """Read all rows, but for the letters of sequences."""
    record = json.loads(store.extra_array("rows").tobytes())
    index = pd.Index(record["labels"])
    if "regions" in record:
        return Samples(index, regions=pd.DataFrame(record["regions"], index=index))
    return Samples(index, reasons=np.array(record["reasons"], dtype=object))
