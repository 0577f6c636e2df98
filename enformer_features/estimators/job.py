"""Rows that are checked and read, and all that computing them needs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.inputs import Samples, resolve_samples
from enformer_features.estimators.parameters import (
    Parameters,
    backend_of,
    recipe_of,
    window_length,
)
from enformer_features.exceptions import (
    FailedWindowsWarning,
    InputError,
    WeightsError,
    WindowWarning,
    first_few,
    warn,
)
from enformer_features.genomics.genome import open_genome, rename_contigs
from enformer_features.inference.features import (
    Backend,
    Features,
    RowCache,
    Scan,
    compute,
    row_keys,
    scan,
)
from enformer_features.inference.layout import (
    Layout,
    lay_out_regions,
    lay_out_sequences,
)
from enformer_features.inference.pooling import Integers
from enformer_features.inference.recipe import Recipe
from enformer_features.model.registry import (
    LoadedModel,
    Weights,
    load_weights,
    warn_about,
    weights_digest,
)


@dataclass(frozen=True)
class Job:
    """Everything that a computation needs; made by :func:`prepare`.

    Parameters
    ----------
    scanned : Scan
        Windows and what they read.
    recipe : Recipe
    bins : list of ndarray of int64, each of shape (n_rows, 2)
        Kept bins per pool.
    backend : Backend
    weights : str, path or ModelHandle
        Not loaded yet.
    max_n_fraction : float
        Windows with a larger fraction of N are warned about.
    """

    scanned: Scan
    recipe: Recipe
    bins: list[Integers]
    backend: Backend
    weights: Weights
    max_n_fraction: float

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.layout)

    @property
    def layout(self) -> Layout:
        """The windows, one per row."""
        return self.scanned.layout

    @property
    def reasons(self) -> npt.NDArray[np.object_]:
        """Why a row cannot be computed, or ""."""
        return self.layout.table["reason"].to_numpy(object, copy=True)

    def keys(self, digest: str) -> dict[int, str]:
        """Return a key per good row, given the weights' digest."""
        return row_keys(
            self.scanned,
            self.recipe,
            self.bins,
            weights_digest=digest,
            precision=self.backend.precision,
        )

    def compute(self, digest: str, cache: RowCache | None) -> Features:
        """Compute the rows that the cache does not have.

        Parameters
        ----------
        digest : str
            Of the weights, which must still be those when they are loaded.
        cache : RowCache or None
        """
        return compute(
            self.scanned,
            self.recipe,
            self.bins,
            self.keys(digest),
            self.backend,
            lambda: self._load(digest),
            cache,
        )

    def _load(self, digest: str) -> LoadedModel:
        loaded = load_weights(self.weights, str(self.backend.device))
        if loaded.digest != digest:
            msg = f"weights={self.weights!r} were exchanged during the call; repeat it"
            raise WeightsError(msg)
        return loaded

    def warn_about_windows(self, stacklevel: int = 5) -> None:
        """Warn about windows that are filled up with N, or are mostly N."""
        warn_about_edges(self.layout, stacklevel + 1)
        labels = self.layout.labels
        n_fraction = np.nan_to_num(self.scanned.n_fraction)
        rows = np.flatnonzero(n_fraction > self.max_n_fraction)
        if len(rows):
            shown = first_few([labels[row] for row in rows])
            msg = f"windows with more than {self.max_n_fraction:.0%} N: {shown}"
            warn(msg, WindowWarning, stacklevel)

    def describe(self) -> pd.DataFrame:
        """Return what is read and pooled for every row."""
        table = self.layout.describe(self.recipe.pools, self.bins, self.recipe.geometry)
        return table.assign(n_fraction=self.scanned.n_fraction)

    def obs(self) -> pd.DataFrame:
        """Return windows and regions side by side."""
        table, regions = self.describe(), self.layout.regions
        if regions is None:
            return table
        return pd.concat([table, regions[["start", "end", "strand", "tss"]]], axis=1)


def warn_about_edges(layout: Layout, stacklevel: int = 4) -> None:
    """Warn about windows that leave their chromosome."""
    table = layout.table
    if "off_edge" not in table:
        return
    rows = np.flatnonzero(table["off_edge"] & (table["reason"] == ""))
    if len(rows):
        labels = layout.labels
        shown = first_few([labels[row] for row in rows])
        msg = f"windows that leave their chromosome, filled up with N: {shown}"
        warn(msg, WindowWarning, stacklevel)


def resolve(given: Parameters, X: Any) -> Samples:
    """Bring ``X`` into one form, as the parameters ask for, if it is not yet."""
    if isinstance(X, Samples):
        return X
    return resolve_samples(
        X,
        sequence_length=window_length(given),
        resize=given.resize,
        ambiguous=given.ambiguous,
    )


def lay_out(given: Parameters, samples: Samples) -> Layout:
    """Centre a window on every row, and check that it can be read.

    Raises
    ------
    InputError, GenomeError
        When there is no genome for regions, or rows cannot be used.
    """
    raising = given.on_error == "raise"
    if samples.regions is None:
        return lay_out_sequences(
            samples.sequences or [],
            samples.index,
            list(samples.reasons if samples.reasons is not None else []),
            strand=given.strand,
            shifts=tuple(given.shifts),
            raising=raising,
        )
    if given.genome is None:
        msg = (
            "X holds regions, which need a genome: give "
            "EnformerEmbedder(genome='hg38.fa')"
        )
        raise InputError(msg)
    chrom = rename_contigs(samples.regions["chrom"], given.contig_style)
    return lay_out_regions(
        samples.regions.assign(chrom=chrom),
        open_genome(given.genome, ambiguous=given.ambiguous),
        sequence_length=window_length(given),
        center=given.center,
        strand=given.strand,
        edge=given.edge,
        shifts=tuple(given.shifts),
        snap=given.snap,
        raising=raising,
    )


def prepare(given: Parameters, samples: Samples) -> Job:
    """Check and read everything but the weights; sizes come last.

    Parameters
    ----------
    given : Parameters
        Checked; an embedder is one.
    samples : Samples

    Raises
    ------
    InputError, GenomeError
        When rows cannot be used, all of them together.
    """
    raising = given.on_error == "raise"
    scanned = scan(lay_out(given, samples), raising=raising)
    recipe = recipe_of(given)
    layout, bins = scanned.layout.pool_bins(
        recipe.pools, recipe.geometry, raising=raising
    )
    return Job(
        scanned=replace(scanned, layout=layout),
        recipe=recipe,
        bins=bins,
        backend=backend_of(given),
        weights=given.weights,
        max_n_fraction=given.max_n_fraction,
    )


def embed(job: Job, cache: RowCache | None) -> Features:
    """Compute all rows, and warn about what the user should know.

    Warnings point at the caller of the function that calls this one.
    """
    job.warn_about_windows()
    features = job.compute(weights_digest(job.weights), cache)
    if not features.n_computed:  # loading has warned otherwise
        warn_about(job.weights)
    failed = np.flatnonzero(features.reasons != "")
    if len(failed):
        labels = job.layout.labels
        shown = [f"{labels[row]}: {features.reasons[row]}" for row in failed]
        warn(f"rows that became NaN: {first_few(shown)}", FailedWindowsWarning, 4)
    return features
