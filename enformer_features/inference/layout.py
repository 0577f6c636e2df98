"""From regions or sequences to windows that can be read, all rows checked."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.genomics.genome import Genome
from enformer_features.genomics.regions import (
    check_bounds,
    raise_bad_rows,
    region_names,
)
from enformer_features.genomics.windows import (
    Center,
    Edge,
    Geometry,
    Strand,
    bases_of_bins,
    bases_past_ends,
    place_windows,
    region_bins,
    shifted,
    tss_bins_of_windows,
)
from enformer_features.inference.pooling import Integers, Pool
from enformer_features.inference.reads import (
    Codes,
    GenomeReads,
    Reads,
    SequenceReads,
)


@dataclass(frozen=True)
class Layout:
    """One window per row, and how to read it.

    Parameters
    ----------
    table : DataFrame
        One row per sample with ``name`` and ``reason`` (why it cannot be computed,
        or ""); for regions also ``chrom``, ``window_start``, ``window_end``,
        ``read_strand`` and ``off_edge``.
    reads : Reads
    center : str
        Where the centred base stands.
    regions : DataFrame or None
        The region table; None for sequences.
    """

    table: pd.DataFrame
    reads: Reads
    center: Center = "base"
    regions: pd.DataFrame | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.table)

    @property
    def labels(self) -> list[str]:
        """Name of every row, for errors."""
        return [
            f"row {label} ({name})" if str(label) != name else f"row {label}"
            for label, name in zip(self.table.index, self.table["name"], strict=True)
        ]

    @property
    def good_rows(self) -> npt.NDArray[np.intp]:
        """Rows that can be computed."""
        return np.flatnonzero((self.table["reason"] == "").to_numpy())

    def with_reasons(self, reasons: dict[int, str], *, raising: bool) -> Layout:
        """Add reasons to rows that have none yet, or raise one error about them."""
        column = self.table["reason"].to_numpy(dtype=object, copy=True)
        new = {row: reason for row, reason in reasons.items() if not column[row]}
        if raising:
            column[:] = ""
        column[list(new)] = list(new.values())
        table = self.table.assign(reason=column)
        if raising:
            what = "sequences" if self.regions is None else "regions"
            raise_bad_rows(table, what)
            return self
        return replace(self, table=table)

    def region_bins(self, geometry: Geometry) -> Integers | None:
        """Return the kept bins of each region; None for sequences."""
        if self.regions is None:
            return None
        return region_bins(self.regions, self.table, geometry)

    def _backward(self) -> npt.NDArray[np.bool_] | None:
        """Tell which transcripts run against the direction that is read."""
        if self.regions is None:
            return None
        is_minus = (self.regions["strand"] == "-").to_numpy()
        backward: npt.NDArray[np.bool_] = (
            is_minus & (self.table["read_strand"] != "-").to_numpy()
        )
        return backward

    def pool_bins(
        self, pools: Sequence[Pool], geometry: Geometry, *, raising: bool
    ) -> tuple[Layout, list[Integers]]:
        """Return the kept bins that each row reads, for every pool.

        Rows whose region reaches past the kept bins get a reason.
        """
        regions = self.region_bins(geometry)
        backward = self._backward()
        bins = [pool.resolve(geometry, len(self), regions, backward) for pool in pools]
        past: dict[int, str] = {}
        for of_pool in bins:
            outside = (of_pool[:, 0] < 0) | (of_pool[:, 1] > geometry.n_bins)
            past |= {
                int(row): _past_bins(of_pool[row], geometry)
                for row in np.flatnonzero(outside)
            }
        return self.with_reasons(past, raising=raising), bins

    def describe(
        self, pools: Sequence[Pool], bins: Sequence[Integers], geometry: Geometry
    ) -> pd.DataFrame:
        """Return the table with the TSS bin and the bases that each pool covers."""
        table = self.table.copy()
        if self.regions is None:
            return table.assign(tss_bin=geometry.tss_bin(self.center))
        table["tss_bin"] = tss_bins_of_windows(
            self.regions, table, geometry, self.center
        )
        for pool, of_pool in zip(pools, bins, strict=True):
            prefix = f"{pool.name}_" if len(pools) > 1 else "pool_"
            start, end = bases_of_bins(table, of_pool, geometry)
            table[f"{prefix}start"], table[f"{prefix}end"] = start, end
        return table


def lay_out_regions(
    regions: pd.DataFrame,
    genome: Genome,
    *,
    sequence_length: int,
    center: Center = "base",
    strand: Strand = "match",
    edge: Edge = "pad",
    shifts: tuple[int, ...] = (0,),
    snap: bool = False,
    raising: bool = True,
) -> Layout:
    """Check every region against the genome and centre a window on it.

    Parameters
    ----------
    regions : DataFrame
        From :func:`~enformer_features.genomics.regions.region_table`.
    genome : Genome
    sequence_length, center, strand, edge, shifts, snap
        As in :class:`~enformer_features.EnformerEmbedder`.
    raising : bool, default=True
        Raise one error about all bad rows; otherwise they get a reason.

    Returns
    -------
    Layout
        Same rows, order and index as ``regions``.
    """
    regions = check_bounds(regions, genome.contigs, str(genome.path))
    windows = place_windows(
        regions, sequence_length, center=center, strand=strand, snap=snap
    )
    past = bases_past_ends(windows, genome.contigs, shifts)
    windows["off_edge"] = (past > 0) & (regions["reason"] == "").to_numpy()
    wholly_off = windows["off_edge"] & (past >= sequence_length)
    windows["name"] = region_names(regions)
    windows["reason"] = ""
    reads = GenomeReads(genome, windows, shifts, share=snap)
    layout = Layout(windows, reads, center, regions)
    told = wholly_off | (windows["off_edge"] & (edge != "pad"))
    off_edge = {
        row: _off_edge(windows.iloc[[row]], shifts, genome)
        for row in np.flatnonzero(told).tolist()
    }
    is_bad = wholly_off.to_numpy() | (edge == "error")
    bad = {row: reason for row, reason in off_edge.items() if is_bad[row]}
    layout = layout.with_reasons(_reasons(regions["reason"]) | bad, raising=raising)
    return layout.with_reasons(off_edge, raising=False)


def lay_out_sequences(
    sequences: Sequence[Codes],
    index: pd.Index,
    reasons: Sequence[str],
    *,
    strand: Strand = "match",
    shifts: tuple[int, ...] = (0,),
    raising: bool = True,
) -> Layout:
    """Lay out sequences that are windows already; they have no strand of their own.

    Parameters
    ----------
    sequences : sequence of ndarray of uint8
        Letter codes, each of the window's length; anything where there is a reason.
    index : Index
    reasons : sequence of str
        What is wrong with each, or "".
    strand : {"match", "ignore", "average"}, default="match"
        "average" reads every sequence both ways; the others read it as it is.
    shifts, raising
        As in :func:`lay_out_regions`.

    Returns
    -------
    Layout
    """
    names = [str(label) for label in index]
    table = pd.DataFrame({"name": names, "reason": ""}, index=index)
    reads = SequenceReads(sequences, both_strands=strand == "average", shifts=shifts)
    return Layout(table, reads).with_reasons(_reasons(reasons), raising=raising)


def _reasons(column: Iterable[str]) -> dict[int, str]:
    return {row: reason for row, reason in enumerate(column) if reason}


def _off_edge(window: pd.DataFrame, shifts: tuple[int, ...], genome: Genome) -> str:
    """Describe the shift of one window that reaches farthest off its contig."""
    chrom = str(window["chrom"].iloc[0])
    length = genome.contigs[chrom]
    bounds = [(int(s[0]), int(e[0])) for s, e in (shifted(window, x) for x in shifts)]
    start, end = max(bounds, key=lambda b: max(-b[0], 0) + max(b[1] - length, 0))
    if end <= 0 or start >= length:
        return (
            f"its window {chrom}:{start}-{end} lies wholly off {chrom} ({length} bp); "
            "use smaller shifts"
        )
    sides = [
        f"{n_past} bp {side}"
        for n_past, side in (
            (-start, "before the start"),
            (end - length, "past the end"),
        )
        if n_past > 0
    ]
    return (
        f"its window {chrom}:{start}-{end} reaches {' and '.join(sides)} of {chrom} "
        f"({length} bp); use edge='pad' to fill up with N"
    )


def _past_bins(bins: Integers, geometry: Geometry) -> str:
    return (
        f"the region spans bins {bins[0]} to {bins[1] - 1} of its window, but only "
        f"bins 0 to {geometry.n_bins - 1} are kept; use a shorter region, or "
        "pooling='mean'"
    )
