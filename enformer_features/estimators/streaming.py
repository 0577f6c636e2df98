"""Values of many rows, computed and written part by part; never all in memory."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import Job, prepare, resolve
from enformer_features.estimators.parameters import check_parameters
from enformer_features.exceptions import (
    DeviceMemoryError,
    FailedWindowsWarning,
    InputError,
    StoreError,
    check_choice,
    first_few,
    warn,
)
from enformer_features.inference.devices import resolve_batch_size
from enformer_features.inference.features import seconds_per_sequence
from enformer_features.inference.pooling import POOLS
from enformer_features.model.registry import weights_digest

if TYPE_CHECKING:
    from anndata import AnnData

    from enformer_features.estimators.embedder import EnformerEmbedder

Floats = npt.NDArray[np.floating[Any]]
DTYPES = ("float32", "float16")
SUFFIXES = (".zarr", ".h5ad")
BINS_KEY = "X_enformer_bins"
_ARRAY = {"encoding-type": "array", "encoding-version": "0.2.0"}

# A unit is what is lost when a worker dies, and what is held in memory.
UNIT_ROWS = 64
UNIT_BYTES = 32_000_000


@dataclass(frozen=True)
class Output:
    """Rows that are checked and read, and the form of what will be written.

    Parameters
    ----------
    embedder : EnformerEmbedder
        That computes the rows as they are written, with a number as its batch size.
    samples : Samples
    job : Job
        Of all rows.
    bins : bool
        Whether every bin is written, or pooled rows.
    dtype : {"float32", "float16"}
    unit_rows : int
        Rows that are computed together.
    obs : DataFrame, n_rows
        Windows and regions, with the names of the rows.
    unique : bool
        Whether repeated names are numbered.
    provenance : dict
        What the values depend on.
    verbose : bool or None
        Progress bar; None shows one on a terminal.
    """

    embedder: EnformerEmbedder
    samples: Samples
    job: Job
    bins: bool
    dtype: str
    unit_rows: int
    obs: pd.DataFrame
    unique: bool
    provenance: dict[str, Any]
    verbose: bool | None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.samples)

    @property
    def array(self) -> str:
        """Where the values go in an AnnData."""
        return f"obsm/{BINS_KEY}" if self.bins else "X"

    @property
    def row_shape(self) -> tuple[int, ...]:
        """Shape of the values of a row."""
        return row_shape(self.job, bins=self.bins)

    @property
    def feature_names(self) -> list[str]:
        """Names along the last axis."""
        recipe = self.job.recipe
        return recipe.bin_names if self.bins else recipe.feature_names

    @property
    def n_bytes(self) -> int:
        """Bytes of all values."""
        size = np.dtype(self.dtype).itemsize
        return len(self) * int(np.prod(self.row_shape)) * size

    def parts(self) -> Iterator[tuple[slice, Job]]:
        """Yield the rows of each unit, and what computes them."""
        with progress(len(self), self.verbose) as bar:
            for start in range(0, len(self), self.unit_rows):
                rows = slice(start, min(start + self.unit_rows, len(self)))
                yield rows, prepare(self.embedder, self.samples.part(rows))
                bar.update(rows.stop - start)


def make_output(
    embedder: EnformerEmbedder,
    samples: Samples,
    *,
    bins: bool,
    unit_rows: int | Literal["auto"] = "auto",
    dtype: str = "float32",
    make_unique: bool = False,
) -> Output:
    """Check everything that can be wrong with rows and names; reads no weights.

    The weights are identified, for which those of the hub are fetched.

    Raises
    ------
    InputError, InputTypeError, GenomeError, WeightsError
        As :meth:`~enformer_features.EnformerEmbedder.to_anndata` does; also for a
        size of units that is none.
    """
    from enformer_features.storage.export import check_obs

    check_choice("dtype", dtype, DTYPES)
    _check_unit_rows(unit_rows)
    names = samples.names
    check_obs(pd.DataFrame(index=names), make_unique=make_unique)
    pooling = POOLS["flatten"] if bins else embedder.pooling
    verbose = embedder.verbose
    genome = None if samples.regions is None else embedder.genome  # not read then
    embedder = changed(
        embedder, pooling=pooling, genome=genome, cache=None, verbose=False
    )
    job = prepare(embedder, samples)
    obs = job.obs().set_axis(names).assign(reason=job.reasons)
    check_obs(obs, make_unique=make_unique)
    batch_size, unit_rows = _settled(job, unit_rows)
    embedder = changed(embedder, batch_size=batch_size)
    provenance = {**embedder.provenance(), "batch_size_used": batch_size}
    return Output(
        embedder=embedder,
        samples=samples,
        job=job,
        bins=bins,
        dtype=dtype,
        unit_rows=unit_rows,
        obs=obs,
        unique=make_unique,
        provenance=provenance,
        verbose=verbose,
    )


def cost_of(
    embedder: EnformerEmbedder,
    X: Any,
    *,
    bins: bool,
    unit_rows: int | Literal["auto"],
    dtype: str,
) -> dict[str, Any]:
    """Say what a store of rows would cost, with all rows checked; reads no weights."""
    check_choice("dtype", dtype, DTYPES)
    _check_unit_rows(unit_rows)
    check_parameters(embedder)
    pooling = POOLS["flatten"] if bins else embedder.pooling
    embedder = changed(embedder, pooling=pooling, cache=None)
    job = prepare(embedder, resolve(embedder, X))
    _, unit_rows = _settled(job, unit_rows)
    n_passes = len(job.layout.good_rows) * job.layout.reads.n_views
    seconds = seconds_per_sequence(job.recipe, job.backend)
    return {
        "n_rows": len(job),
        "n_units": -(-len(job) // unit_rows),
        "unit_rows": unit_rows,
        "n_passes": n_passes,
        "row_shape": list(row_shape(job, bins=bins)),
        "output_bytes": len(job) * job.recipe.n_features * np.dtype(dtype).itemsize,
        "seconds": None if seconds is None else seconds * n_passes,
    }


def _settled(job: Job, unit_rows: int | Literal["auto"]) -> tuple[int, int]:
    """Return batch size and rows of a unit, as numbers."""
    backend, recipe = job.backend, job.recipe
    batch_size = resolve_batch_size(
        backend.batch_size,
        backend.device,
        recipe.config,
        recipe.geometry.sequence_length,
    )
    if unit_rows == "auto":
        unit_rows = auto_unit_rows(4 * recipe.n_features, batch_size)
    return batch_size, unit_rows


def row_shape(job: Job, *, bins: bool) -> tuple[int, ...]:
    """Return the shape of the values of one row."""
    recipe = job.recipe
    if bins:
        return recipe.geometry.n_bins, recipe.n_bin_features
    return (recipe.n_features,)


def changed(embedder: EnformerEmbedder, **parameters: Any) -> EnformerEmbedder:
    """Return an embedder with other parameters, of the same class."""
    return type(embedder)(**{**embedder.get_params(deep=False), **parameters})


def auto_unit_rows(row_bytes: int, batch_size: int) -> int:
    """Return a number of rows that is worth losing, fits, and fills its batches.

    Examples
    --------
    >>> auto_unit_rows(4 * 3072, 1), auto_unit_rows(4 * 896 * 3072, 1)
    (64, 2)
    >>> auto_unit_rows(4 * 896 * 3072, 8)
    8
    """
    n_rows = max(1, min(UNIT_ROWS, UNIT_BYTES // row_bytes))
    return max(n_rows // batch_size, 1) * batch_size


def compute_part(
    job: Job, digest: str, shape: tuple[int, ...]
) -> tuple[npt.NDArray[np.float32], dict[int, str]]:
    r"""Compute some rows, all of them in batches of the size that was settled.

    Parameters
    ----------
    job : Job
    digest : str
        Of the weights.
    shape : tuple of int
        Of a row.

    Returns
    -------
    values : ndarray of float32, shape (n_rows, \\*shape)
    reasons : dict of int to str
        Rows that are NaN, and why.

    Raises
    ------
    DeviceMemoryError
        When the batch does not fit: with a smaller one, other bits would come out.
    """
    features, batch_size = job.compute(digest, None), job.backend.batch_size
    if features.n_computed and features.batch_size != batch_size:
        msg = (
            f"batch_size={batch_size} does not fit into the memory of "
            f"{job.backend.device}, and rows of other batches would differ in their "
            "last bits; begin again with a smaller batch_size"
        )
        raise DeviceMemoryError(msg)
    bad = np.flatnonzero(features.reasons != "")
    reasons = {int(row): str(features.reasons[row]) for row in bad}
    return features.values.reshape(len(job), *shape), reasons


def skeleton(output: Output, reasons: npt.NDArray[np.object_]) -> AnnData:
    """Return an AnnData without values.

    Parameters
    ----------
    output : Output
    reasons : ndarray of str, shape (n_rows,), optional
        Why a row is NaN, or ""; by default what was known before computing.
    """
    from anndata import AnnData

    from enformer_features.storage.export import (
        UNS_KEY,
        clean_obs,
        clean_var,
        provenance_entry,
    )

    names = output.feature_names
    return AnnData(
        obs=clean_obs(
            output.obs.assign(reason=reasons), len(output), make_unique=output.unique
        ),
        var=clean_var(names, None, len(names)),
        uns={UNS_KEY: provenance_entry(output.provenance)},
    )


def stream_h5ad(output: Output, path: Path) -> npt.NDArray[np.object_]:
    """Compute rows into an h5ad file that is whole or, on failure, as it was.

    Parameters
    ----------
    output : Output
    path : Path
        As :func:`~enformer_features.storage.files.check_output` returned it.

    Returns
    -------
    ndarray of str, shape (n_rows,)
        Why a row is NaN, or "".

    Raises
    ------
    StoreError
        When writing fails, or a value does not fit into float16.
    """
    import h5py
    from anndata.io import write_elem

    from enformer_features.storage.files import atomic_write

    digest = weights_digest(output.embedder.weights)
    reasons = output.job.reasons
    with atomic_write(path, bytes_needed=output.n_bytes) as temporary:
        skeleton(output, reasons).write_h5ad(temporary)
        with h5py.File(temporary, "r+") as file:
            array = file.create_dataset(
                output.array,
                shape=(len(output), *output.row_shape),
                dtype=output.dtype,
                chunks=(1, *output.row_shape) if output.bins else None,
            )
            array.attrs.update(_ARRAY)
            for rows, job in output.parts():
                values, failed = compute_part(job, digest, output.row_shape)
                array[rows] = as_dtype(values, output.dtype, job.layout.labels)
                for row, reason in failed.items():
                    reasons[rows.start + row] = reason
            write_elem(file, "obs/reason", reasons)
    return reasons


def stream(
    embedder: EnformerEmbedder,
    samples: Samples,
    out: str | PathLike[str],
    *,
    bins: bool,
    dtype: str = "float32",
    make_unique: bool = False,
    overwrite: bool = False,
) -> Path:
    """Compute rows into a ``.zarr`` store or an ``.h5ad`` file, unit by unit.

    Parameters
    ----------
    embedder : EnformerEmbedder
    samples : Samples
    out : path
        A store that was interrupted is gone on with; a file begins again.
    bins : bool
        Every bin, or pooled rows.
    dtype, make_unique, overwrite
        As for :meth:`~enformer_features.EnformerEmbedder.to_anndata`.

    Returns
    -------
    Path
        What was written.
    """
    from enformer_features.estimators.embedding_store import check_place, store_of
    from enformer_features.storage.files import check_output

    suffix = Path(out).suffix
    if suffix not in SUFFIXES:
        msg = f"out={str(out)!r} needs the suffix {' or '.join(SUFFIXES)}"
        raise InputError(msg)
    target = Path(out)
    if suffix == ".zarr":
        check_place(out)
    else:
        target = check_output(out, overwrite=overwrite)
    output = make_output(
        embedder, samples, bins=bins, dtype=dtype, make_unique=make_unique
    )
    output.job.warn_about_windows()
    if suffix != ".zarr":
        reasons = stream_h5ad(output, target)
        bad = np.flatnonzero(reasons != "").tolist()
        failed = {row: str(reasons[row]) for row in bad}
    else:
        store = store_of(output, target, overwrite=overwrite)
        store.run(verbose=output.verbose)
        failed = store.reasons()
        target = store.finalize(overwrite=overwrite)
    if failed:
        shown = [f"{output.obs.index[row]}: {text}" for row, text in failed.items()]
        warn(f"rows that became NaN: {first_few(shown)}", FailedWindowsWarning, 4)
    return target


def as_dtype(
    values: npt.NDArray[np.float32], dtype: str, labels: Sequence[str]
) -> Floats:
    """Round values to the type that is written.

    Raises
    ------
    StoreError
        When one is beyond the range of float16, which would make it infinite.
    """
    with np.errstate(over="ignore"):
        rounded: Floats = values.astype(dtype)
    lost = np.isinf(rounded).reshape(len(values), -1).any(axis=1)
    if lost.any():
        shown = first_few([labels[row] for row in np.flatnonzero(lost).tolist()])
        msg = f"{shown}: values beyond the range of float16; use dtype='float32'"
        raise StoreError(msg)
    return rounded


def _check_unit_rows(unit_rows: object) -> None:
    is_whole = isinstance(unit_rows, int) and not isinstance(unit_rows, bool)
    if unit_rows != "auto" and not (is_whole and int(str(unit_rows)) >= 1):
        msg = f"unit_rows={unit_rows!r} must be 'auto' or a whole number of at least 1"
        raise InputError(msg)


def progress(total: int, verbose: bool | None):  # type: ignore[no-untyped-def]
    """Return a progress bar of rows; None shows one on a terminal."""
    from tqdm.auto import tqdm

    shown = sys.stderr.isatty() if verbose is None else verbose
    return tqdm(total=total, unit="row", disable=not shown)
