"""EnformerEmbedder: the network as a scikit-learn transformer."""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, overload

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils import Tags

from enformer_features import __version__
from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import Job, embed, lay_out, prepare, resolve
from enformer_features.estimators.parameters import (
    cache_of,
    check_parameters,
    recipe_of,
    window_length,
)
from enformer_features.estimators.streaming import (
    BINS_KEY,
    changed,
    make_output,
    row_shape,
    skeleton,
    stream,
)
from enformer_features.estimators.targets import check_targets
from enformer_features.exceptions import (
    InputError,
)
from enformer_features.genomics.genome import (
    Genome,
    open_genome,
)
from enformer_features.genomics.windows import (
    Center,
    Edge,
    Strand,
)
from enformer_features.inference.devices import resolve_device
from enformer_features.inference.features import (
    Features,
    seconds_per_sequence,
)
from enformer_features.inference.pooling import POOLS, Pool
from enformer_features.inference.precision import resolve_precision
from enformer_features.inference.tracks import TrackSelection
from enformer_features.model.registry import (
    ModelHandle,
    known_digest,
    weights_digest,
)
from enformer_features.storage.cache import MemoryCache
from enformer_features.storage.disk_cache import DiskCache

if TYPE_CHECKING:
    from anndata import AnnData

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Plan:
    """What a call would cost; see :meth:`EnformerEmbedder.plan`.

    Parameters
    ----------
    n_rows : int
        Rows of the input.
    n_unique : int
        Different rows among those that can be computed.
    n_cached : int
        Different rows that are known already.
    n_passes : int
        Sequences that the network would read: directions and shifts count.
    n_features : int
    output_bytes : int
    seconds : float or None
        From the last run with these settings in this process; None before it.
    tower_share : float
        Letters that the network's tower reads, over those without shared stretches.
    """

    n_rows: int
    n_unique: int
    n_cached: int
    n_passes: int
    n_features: int
    output_bytes: int
    seconds: float | None
    tower_share: float


class EnformerEmbedder(TransformerMixin, BaseEstimator):
    """Turn regions, genes or sequences into Enformer features, one row each.

    Every row of ``X`` is centred in a window of DNA, the window is read by the
    Enformer network, and the bins around the middle are pooled into one vector.
    Stateless: ``fit`` checks its input and learns nothing.

    Parameters
    ----------
    weights : str, path or ModelHandle, default="enformer"
        ``"enformer"`` (the official release, from the Hugging Face hub), a folder or
        file, a hub id, a network in memory, or, when asked for by name, the random
        ``"untrained"`` and ``"untrained-tiny"``.
    genome : str, path or Genome, default=None
        FASTA file, plain or BGZF. Needed for regions, not for sequences.
    output : str, default="embedding"
        ``"embedding"`` (3,072 numbers per bin), ``"tracks"`` (5,313 human or 1,643
        mouse), or a layer: ``"tower"``, ``"block_0"`` ...
    organism : str, default="human"
        The head, for tracks.
    tracks : None, int, sequence of int, str or TrackSelection, default=None
        Tracks to keep: all, by index, an assay such as ``"CAGE"``, or what
        :func:`~enformer_features.select_tracks` returns.
    pooling : str, Pool or tuple of them, default="tss"
        ``"tss"``: mean of the bin with the TSS and its two neighbours; ``"center"``:
        of the bins in the middle; ``"mean"`` and ``"max"`` over all kept bins;
        ``"flatten"``: all of them; ``"region"``: mean over the bins of the region's
        own interval. Several are put side by side.
    sequence_length : int or None, default=None
        Length of the window in bp, a multiple of 128; None is the length that the
        network was trained on: 196,608 for the published weights.
    center : {"base", "bin", "basenji"}, default="base"
        Index of the centred base in the window: ``L/2``, ``L/2 + 64``, ``L/2 - 1``.
    strand : {"match", "ignore", "average"}, default="match"
        Read minus-strand regions as reverse complement; read the genome as it is; or
        average both directions, bins of the second turned around, before pooling.
    edge : {"pad", "error", "nan"}, default="pad"
        Windows that leave the chromosome: fill with N, refuse, or return NaN.
    shifts : tuple of int, default=(0,)
        Average over windows moved by so many bp in the direction that is read.
    snap : bool, default=False
        Move every window by at most 64 bp, to begin on a multiple of 128 bp, so that
        overlapping windows share most of their computation; ``windows(X)`` says by how
        much. Rows then agree with unshared ones within the precision's error.
    resize : {"error", "pad", "crop"}, default="error"
        Sequences of another length: refuse, fill with N on both sides, or cut.
    ambiguous : {"error", "N"}, default="error"
        Letters other than A, C, G, T, N: refuse, or read as N.
    contig_style : {None, "ucsc", "ensembl"}, default=None
        Rename the regions' chromosomes to ``chr1`` or ``1`` before looking them up.
    max_n_fraction : float, default=0.5
        Warn about windows with a larger fraction of N.
    on_error : {"raise", "nan"}, default="raise"
        Rows that cannot be computed: one error about all, or NaN and a warning.
    device : str, default="auto"
        ``"auto"`` (CUDA, else the CPU), ``"cpu"``, ``"cuda"``, ``"cuda:1"``, ``"mps"``.
    precision : str, default="auto"
        float32 on the CPU and TF32 operands on CUDA, unless something is named:
        ``"float32"``, ``"float32-exact"`` (direct convolution), ``"bfloat16"``; on CUDA
        also ``"tf32"`` and ``"float16"``. Only operands of products are rounded.
        ``"float64"`` rounds nothing to speak of, slowly; rows come out as float32.
    batch_size : int or "auto", default="auto"
        Sequences per forward: 1 on the CPU; on CUDA from the device's total memory.
    cache : {"memory", None, True}, path, MemoryCache or DiskCache, default="memory"
        Keep pooled rows, so that each window is embedded once: in this process (1 GB);
        not at all; in the user's cache folder; in a folder, for any number of processes
        and runs. A folder that cannot be used is a warning, not an error.
    verbose : bool or None, default=None
        Progress bar; None shows one on a terminal.

    Notes
    -----
    Row *i* of the result is row *i* of ``X``. On one device a row's value is the same
    bits whatever its neighbours, order or duplicates, unless ``snap=True`` lets rows
    share work: then they agree within the precision's error.

    ``X`` is a DataFrame (``chrom, start, end[, strand, name]`` or ``chrom, tss,
    strand``; 0-based half-open), an AnnData whose *obs* is such a table, a list or
    Series of region strings (``"chr1:101-200"``, 1-based inclusive) or of DNA
    strings, uint8 letter codes ``(n, L)``, or one-hot ``(n, L, 4)``.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196.

    Examples
    --------
    >>> import warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> embedder = EnformerEmbedder(weights="untrained-tiny", sequence_length=1024)
    >>> features = embedder.transform(["ACGT" * 256, "GATTACA" * 146 + "GA"])
    >>> features.shape
    (2, 192)
    """

    def __init__(
        self,
        weights: str | PathLike[str] | ModelHandle = "enformer",
        *,
        genome: str | PathLike[str] | Genome | None = None,
        output: str = "embedding",
        organism: str = "human",
        tracks: int | list[int] | tuple[int, ...] | str | TrackSelection | None = None,
        pooling: str | Pool | tuple[str | Pool, ...] = "tss",
        sequence_length: int | None = None,
        center: Center = "base",
        strand: Strand = "match",
        edge: Edge = "pad",
        shifts: tuple[int, ...] = (0,),
        snap: bool = False,
        resize: Literal["error", "pad", "crop"] = "error",
        ambiguous: Literal["error", "N"] = "error",
        contig_style: Literal["ucsc", "ensembl"] | None = None,
        max_n_fraction: float = 0.5,
        on_error: Literal["raise", "nan"] = "raise",
        device: str = "auto",
        precision: str = "auto",
        batch_size: int | Literal["auto"] = "auto",
        cache: bool | str | PathLike[str] | MemoryCache | DiskCache | None = "memory",
        verbose: bool | None = None,
    ) -> None:
        self.weights = weights
        self.genome = genome
        self.output = output
        self.organism = organism
        self.tracks = tracks
        self.pooling = pooling
        self.sequence_length = sequence_length
        self.center = center
        self.strand = strand
        self.edge = edge
        self.shifts = shifts
        self.snap = snap
        self.resize = resize
        self.ambiguous = ambiguous
        self.contig_style = contig_style
        self.max_n_fraction = max_n_fraction
        self.on_error = on_error
        self.device = device
        self.precision = precision
        self.batch_size = batch_size
        self.cache = cache
        self.verbose = verbose

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check parameters, rows and targets; no weights are read.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
            See the notes of the class.
        y : array-like, shape (n_rows,) or (n_rows, n_targets), optional
            Only its length, labels and values are checked.

        Returns
        -------
        EnformerEmbedder
            Itself.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter, any row, or the targets cannot be used; all bad rows are
            reported together.
        """
        samples = self._resolve(X, reset=True)
        if y is not None:
            check_targets(X, y, len(samples))
        lay_out(self, samples)
        return self

    def transform(self, X: Any) -> Floats:
        """Compute the features.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
            See the notes of the class.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_features)
            C-contiguous; row *i* is row *i* of ``X``.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter or any row cannot be used, before any weights are read.
        WeightsError
            When the weights are missing or damaged.
        DeviceMemoryError
            When not even one window fits into the device's memory.
        InferenceError
            When the network fails, or returns values that are not finite.
        """
        return self._embed(X)[1].values

    def warm(self, X: Any) -> int:
        """Compute and keep the rows that the cache does not have yet.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows

        Returns
        -------
        int
            Rows for which the network ran.

        Raises
        ------
        InputError
            When nothing is kept: ``cache=None``.
        InputError, InputTypeError, GenomeError, WeightsError
            As :meth:`transform` does.
        """
        if self.cache is None:
            msg = "cache=None keeps nothing that could be warmed; name a folder"
            raise InputError(msg)
        return self._embed(X)[1].n_computed

    @overload
    def embed_bins(self, X: Any) -> Floats: ...

    @overload
    def embed_bins(
        self,
        X: Any,
        *,
        out: str | PathLike[str],
        overwrite: bool = False,
        dtype: str = "float32",
    ) -> Path: ...

    def embed_bins(
        self,
        X: Any,
        *,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
        dtype: str = "float32",
    ) -> Floats | Path:
        """Compute every kept bin, unpooled; nothing is cached.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
        out : path, optional
            ``*.zarr`` or ``*.h5ad``: write the bins there, some rows at a time, as
            ``obsm["X_enformer_bins"]`` of an AnnData. A ``.zarr`` that was
            interrupted is gone on with by the same call; a ``.h5ad`` begins again.
        overwrite : bool, default=False
            Whether an ``out`` of other content may be replaced.
        dtype : {"float32", "float16"}, default="float32"
            Of the values in ``out``.

        Returns
        -------
        ndarray of float32, shape (n_rows, n_bins, n_bin_features), or Path
            11 MB per row for the published embedding. With ``out``, its path.

        Raises
        ------
        InputError, InputTypeError, GenomeError, WeightsError
            As :meth:`transform` does.
        PlanMismatchError, StoreError
            When ``out`` holds something else, or cannot be written.
        """
        if out is not None:
            return stream(
                self,
                self._resolve(X),
                out,
                bins=True,
                overwrite=overwrite,
                dtype=dtype,
            )
        _refuse_dtype(dtype)
        every_bin = changed(self, pooling=POOLS["flatten"], cache=None)
        job = prepare(every_bin, self._resolve(X))
        features = embed(job, None)
        return features.values.reshape(len(job), *row_shape(job, bins=True))

    def windows(self, X: Any) -> pd.DataFrame:
        r"""Show what would be read and pooled for every row; runs nothing.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows

        Returns
        -------
        DataFrame
            One row per row of ``X``, in its order and with its index. For regions
            ``chrom``, ``window_start``, ``window_end`` (0-based half-open),
            ``read_strand``, ``off_edge``, and the bases that are pooled, ``pool_start``
            and ``pool_end`` (or ``<pool>_start`` ... for several). For all
            ``tss_bin`` (kept bin of the centred base), ``name``, ``n_fraction`` and
            ``reason``: why the row cannot be computed, or "".

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter or any row cannot be used.

        Examples
        --------
        >>> import pathlib, tempfile
        >>> from enformer_features import EnformerEmbedder
        >>> folder = tempfile.TemporaryDirectory()
        >>> fasta = pathlib.Path(folder.name, "toy.fa")
        >>> _ = fasta.write_text(">chr1\n" + "ACGT" * 500 + "\n")
        >>> embedder = EnformerEmbedder(
        ...     "untrained-tiny", genome=fasta, sequence_length=1024
        ... )
        >>> windows = embedder.windows(["chr1:1001-1001(-)"])
        >>> windows[["window_start", "window_end", "read_strand", "tss_bin"]]
           window_start  window_end read_strand  tss_bin
        0           489        1513           -        4
        >>> folder.cleanup()
        """
        return prepare(self, self._resolve(X)).describe()

    def plan(self, X: Any) -> Plan:
        """Say what ``transform(X)`` would cost; runs nothing.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows

        Returns
        -------
        Plan

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter or any row cannot be used.
        """
        job = prepare(self, self._resolve(X))
        cache = cache_of(self)
        if cache is not None:
            cache.refresh()
        # Without anything to look up, the weights need not even be there; and no row
        # is known of weights that were never loaded.
        may_know = cache is not None and len(cache) > 0
        digest = known_digest(self.weights) if may_know else None
        rows = {key: row for row, key in job.keys(digest or "").items()}
        missing = [row for key, row in rows.items() if not (cache and key in cache)]
        n_passes = len(missing) * job.layout.reads.n_views
        seconds = seconds_per_sequence(job.recipe, job.backend)
        n_rows, n_features = len(job), job.recipe.n_features
        return Plan(
            n_rows=n_rows,
            n_unique=len(rows),
            n_cached=len(rows) - len(missing),
            n_passes=n_passes,
            n_features=n_features,
            output_bytes=4 * n_rows * n_features,
            seconds=None if seconds is None else seconds * n_passes,
            tower_share=job.layout.reads.plan(missing),
        )

    @overload
    def to_anndata(
        self, X: Any, *, make_unique: bool = False, bins: bool = False
    ) -> AnnData: ...

    @overload
    def to_anndata(
        self,
        X: Any,
        *,
        make_unique: bool = False,
        bins: bool = False,
        out: str | PathLike[str],
        overwrite: bool = False,
        dtype: str = "float32",
    ) -> Path: ...

    def to_anndata(
        self,
        X: Any,
        *,
        make_unique: bool = False,
        bins: bool = False,
        out: str | PathLike[str] | None = None,
        overwrite: bool = False,
        dtype: str = "float32",
    ) -> AnnData | Path:
        """Compute the features and put them into an AnnData with its provenance.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
        make_unique : bool, default=False
            Number repeated row names instead of refusing them.
        bins : bool, default=False
            Keep every bin, in ``obsm["X_enformer_bins"]``, instead of pooled rows.
        out : path, optional
            ``*.zarr`` or ``*.h5ad``: write there, some rows at a time; nothing is
            cached. A ``.zarr`` that was interrupted is gone on with by the same call;
            a ``.h5ad`` begins again.
        overwrite : bool, default=False
            Whether an ``out`` of other content may be replaced.
        dtype : {"float32", "float16"}, default="float32"
            Of the values in ``out``.

        Returns
        -------
        AnnData, n_rows x n_features, or Path
            ``X`` the features, *obs* the regions and windows, *var* the features,
            ``uns["enformer_features"]`` weights, genome, settings and version. With
            ``out``, its path.

        Raises
        ------
        InputError, InputTypeError, GenomeError, WeightsError
            As :meth:`transform` does; also for names or columns that AnnData cannot
            keep, before anything is computed.
        PlanMismatchError, StoreError
            When ``out`` holds something else, or cannot be written.
        """
        from enformer_features.storage.export import check_obs, to_anndata

        samples = self._resolve(X)
        if out is not None:
            return stream(
                self,
                samples,
                out,
                bins=bins,
                overwrite=overwrite,
                dtype=dtype,
                make_unique=make_unique,
            )
        _refuse_dtype(dtype)
        if bins:
            output = make_output(self, samples, bins=True, make_unique=make_unique)
            features = embed(output.job, None)
            adata = skeleton(output, features.reasons)
            shape = len(output), *output.row_shape
            adata.obsm[BINS_KEY] = features.values.reshape(shape)
            return adata
        names = samples.names
        check_obs(pd.DataFrame(index=names), make_unique=make_unique)
        job = prepare(self, samples)
        obs = job.obs().set_axis(names)
        check_obs(obs, make_unique=make_unique)
        provenance = self.provenance()  # as it is now: files may change meanwhile
        features = embed(job, cache_of(self))
        provenance["batch_size_used"] = features.batch_size
        return to_anndata(
            features.values,
            obs.assign(reason=features.reasons),
            job.recipe.feature_names,
            provenance=provenance,
            make_unique=make_unique,
        )

    def provenance(self) -> dict[str, Any]:
        """Return what the values depend on, as plain types; identifies the weights.

        Returns
        -------
        dict
            Version, weights and their digest, genome and its digest, and every
            parameter that decides a value.

        Raises
        ------
        InputError, GenomeError, WeightsError
            When a parameter, the genome or the weights cannot be used.
        """
        check_parameters(self)
        recipe = recipe_of(self)
        tracks = recipe.tracks
        device = resolve_device(self.device)
        policy = resolve_precision(self.precision, device)
        genome = None if self.genome is None else open_genome(self.genome)
        return {
            "enformer_features_version": __version__,
            "weights": str(self.weights),
            "weights_digest": weights_digest(self.weights),
            "config": recipe.config.to_json(),
            "genome": None if genome is None else str(genome.path),
            "genome_digest": None if genome is None else genome.digest,
            "output": self.output,
            "organism": self.organism,
            "tracks": None if tracks is None else list(tracks.names),
            "track_indices": None if tracks is None else list(tracks.indices),
            "pooling": [repr(pool) for pool in recipe.pools],
            "sequence_length": window_length(self),
            "center": self.center,
            "strand": self.strand,
            "edge": self.edge,
            "shifts": [int(shift) for shift in self.shifts],
            "snap": self.snap,
            "resize": self.resize,
            "ambiguous": self.ambiguous,
            "contig_style": self.contig_style,
            "device": device.type,
            "precision": policy.name,
            "precision_rms_error": policy.rms_error,
        }

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Name the columns: ``enformer_0000`` ..., or the tracks' identifiers.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (n_features,)
            ``pool__name`` when there are several pools.
        """
        check_parameters(self)
        return np.array(recipe_of(self).feature_names, dtype=object)

    def __sklearn_is_fitted__(self) -> bool:
        """Return True: there is nothing to learn."""
        return True

    def __sklearn_tags__(self) -> Tags:
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.target_tags.required = False
        tags.transformer_tags.preserves_dtype = []
        tags.requires_fit = False
        return tags

    def _resolve_input(self, X: Any, *, reset: bool) -> Samples:
        """Bring ``X`` into one form; the one place that a subclass may override."""
        return resolve(self, X)

    def _resolve(self, X: Any, *, reset: bool = False) -> Samples:
        check_parameters(self)
        return self._resolve_input(X, reset=reset)

    def _embed(self, X: Any) -> tuple[Job, Features]:
        job = prepare(self, self._resolve(X))
        return job, embed(job, cache_of(self))


def _refuse_dtype(dtype: str) -> None:
    if dtype != "float32":
        msg = f"dtype={dtype!r} is for values that are written: give out='bins.zarr'"
        raise InputError(msg)
