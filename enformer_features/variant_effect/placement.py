"""Where variants lie: their windows, the bins that are scored, their alleles."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.parameters import window_length
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.regions import region_table
from enformer_features.genomics.variants import haplotype_window
from enformer_features.genomics.windows import (
    BIN_SIZE,
    Geometry,
    bins_of_intervals,
    shifted,
)
from enformer_features.inference.alleles import Copy
from enformer_features.inference.layout import Layout, lay_out_regions
from enformer_features.inference.pooling import Integers
from enformer_features.inference.reads import Codes, View

Indels = Literal["left", "center", "aligned"]
INDELS = ("left", "center", "aligned")
_FRAMES = {"left": ("left",), "center": ("center",), "aligned": ("left", "right")}


def lay_out_variants(
    table: pd.DataFrame,
    genome: Genome,
    embedder: EnformerEmbedder,
    *,
    snap_bp: int = 0,
) -> Layout:
    """Centre a window on every variant, or on the gene that it is paired with.

    Parameters
    ----------
    table : DataFrame
        Rows of a prepared variant table that can be scored.
    genome : Genome
    embedder : EnformerEmbedder
        Its ``sequence_length``, ``center``, ``strand``, ``edge``, ``shifts`` and
        ``snap`` hold.
    snap_bp : int, default=0
        Centre windows on the nearest multiple instead, so that neighbours share them.

    Returns
    -------
    Layout
        Same rows and order. The interval of a row is its variant's first base with
        128 bp on either side: three bins.
    """
    contigs = genome.contigs
    length = table["chrom"].map(dict(contigs)).to_numpy(np.int64)
    start = table["start"].to_numpy(np.int64)
    middle = start
    if snap_bp:
        snapped = (start + snap_bp // 2) // snap_bp * snap_bp
        middle = np.minimum(snapped, length - 1)
    strand = np.full(len(table), "+", dtype=object)
    if "tss" in table:
        has_gene = table["tss"].to_numpy() >= 0
        middle = np.where(has_gene, table["tss"], middle)
        strand = np.where(has_gene, table["strand"], "+")
    regions = pd.DataFrame(
        {
            "chrom": table["chrom"],
            "start": np.maximum(start - BIN_SIZE, 0),
            "end": np.minimum(start + BIN_SIZE + 1, length),
            "tss": middle,
            "strand": strand,
            "name": variant_names(table),
        },
        index=table.index,
    )
    return lay_out_regions(
        region_table(regions),
        genome,
        sequence_length=window_length(embedder),
        center=embedder.center,
        strand=embedder.strand,
        edge=embedder.edge,
        shifts=tuple(embedder.shifts),
        snap=embedder.snap,
        raising=False,
    )


def variant_names(table: pd.DataFrame) -> list[str]:
    """Name each variant ``chrom:pos:ref>alt``, with its gene if it has one.

    Examples
    --------
    >>> variant_names(pd.DataFrame({"chrom": ["chr1"], "pos": [7], "ref": ["A"],
    ...                             "alt": ["G"]}))
    ['chr1:7:A>G']
    """
    columns = [table[name].tolist() for name in ("chrom", "pos", "ref", "alt")]
    names = [f"{c}:{p}:{r}>{a}" for c, p, r, a in zip(*columns, strict=True)]
    if "gene" not in table:
        return names
    genes = table["gene"].tolist()
    return [f"{n}:{g}" if g else n for n, g in zip(names, genes, strict=True)]


def bins_of_variants(
    table: pd.DataFrame, windows: pd.DataFrame, geometry: Geometry
) -> Integers:
    """Return the kept bins that each variant's reference allele overlaps.

    In the direction that is read; (n, 2), half-open; outside the kept ones as they are.
    """
    start = table["start"].to_numpy(np.int64)
    return bins_of_intervals(
        start,
        start + np.array([len(ref) for ref in table["norm_ref"]], dtype=np.int64),
        windows["window_start"].to_numpy(np.int64),
        windows["window_end"].to_numpy(np.int64),
        (windows["read_strand"] == "-").to_numpy(),
        geometry,
    )


def number_windows(table: pd.DataFrame, windows: pd.DataFrame) -> Integers:
    """Count the reference windows off: rows with the same number share its passes.

    A reference allele that the genome does not have makes a window of its own.
    """
    own = np.where(table["ref_matches"], -1, np.arange(len(table)))
    keys = [windows[name] for name in ("chrom", "window_start", "read_strand")]
    numbers = pd.DataFrame(dict(enumerate([*keys, own]))).groupby([0, 1, 2, 3])
    return np.asarray(numbers.ngroup(), dtype=np.int64)


class VariantReads:
    """Windows of variants, and what their alleles make of them.

    Parameters
    ----------
    genome : Genome
    table : DataFrame
        Rows of a prepared variant table that can be scored.
    windows : DataFrame
        From :func:`lay_out_variants`.
    numbers : ndarray of int64, shape (n_rows,)
        From :func:`number_windows`.
    shifts : tuple of int
    indels : {"left", "center", "aligned"}
    geometry : Geometry
    """

    def __init__(
        self,
        genome: Genome,
        table: pd.DataFrame,
        windows: pd.DataFrame,
        numbers: Integers,
        *,
        shifts: tuple[int, ...],
        indels: Indels,
        geometry: Geometry,
    ) -> None:
        self._genome = genome
        self._geometry = geometry
        self._frames = _FRAMES[indels]
        columns = ("chrom", "start", "norm_ref", "norm_alt", "kind", "ref_matches")
        self._of = {name: table[name].to_numpy() for name in columns}
        self._read = windows["read_strand"].to_numpy(object)
        self._bounds = [shifted(windows, shift) for shift in shifts]
        self._first = np.unique(numbers, return_index=True)[1]

    @property
    def flips(self) -> bool:
        """Whether every window is read both ways."""
        return len(self._read) > 0 and self._read[0] == "+/-"

    @property
    def n_views(self) -> int:
        """Sequences that are read for a window."""
        return len(self._bounds) * (2 if self.flips else 1)

    @property
    def n_copies_of_indels(self) -> int:
        """Sequences that are read for the alternative of an indel, in one view."""
        return len(self._frames)

    def reference(self, window: int) -> list[View]:
        """Return the views of a window."""
        row = int(self._first[window])
        ref = str(self._of["norm_ref"][row])
        matches = bool(self._of["ref_matches"][row])
        views = []
        for shift in range(len(self._bounds)):
            codes = self._fetch(row, shift) if matches else self._put(row, shift, ref)
            views += [
                View(reverse_complement(codes) if backward else codes, flip)
                for backward, flip in self._directions(row)
            ]
        return views

    def alternatives(self, row: int, view: int) -> list[Copy]:
        """Return an allele's copies of one view; several are joined by weights."""
        directions = self._directions(row)
        shift, direction = divmod(view, len(directions))
        backward, _ = directions[direction]
        is_indel = self._of["kind"][row] == "indel"
        frames = self._frames if is_indel else ("left",)
        alt = str(self._of["norm_alt"][row])
        codes = [self._put(row, shift, alt, frame) for frame in frames]
        if backward:
            codes = [reverse_complement(copy) for copy in codes]
        if len(codes) == 1:
            return [Copy(codes[0])]
        before, behind = self._weights(row, shift, backward=backward)
        return [Copy(codes[backward], before), Copy(codes[not backward], behind)]

    def _directions(self, row: int) -> list[tuple[bool, bool]]:
        """Return (read backward, turn the bins around) for each direction."""
        if self.flips:
            return [(False, False), (True, True)]
        return [(self._read[row] == "-", False)]

    def _fetch(self, row: int, shift: int) -> Codes:
        start, end = self._bounds[shift]
        chrom = str(self._of["chrom"][row])
        return self._genome.fetch(chrom, int(start[row]), int(end[row]))

    def _put(self, row: int, shift: int, allele: str, fixed: Any = "left") -> Codes:
        """Return a window, in the genome's direction, with an allele put in."""
        return haplotype_window(
            self._genome,
            str(self._of["chrom"][row]),
            int(self._bounds[shift][0][row]),
            self._geometry.sequence_length,
            int(self._of["start"][row]),
            str(self._of["norm_ref"][row]),
            allele,
            fixed=fixed,
        )

    def _weights(
        self, row: int, shift: int, *, backward: bool
    ) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
        """Return what bins count when the first base read stays, and when the last.

        Bins before the variant lie as in the reference when the first base stays, those
        behind it when the last one does; bins of the variant itself are half of each.
        """
        low, high = self._bins_of(row, shift, backward=backward)
        before = np.zeros(self._geometry.n_bins, dtype=np.float32)
        before[: max(low, 0)] = 1
        before[max(low, 0) : max(high, 0)] = 0.5
        return before, 1 - before

    def _bins_of(self, row: int, shift: int, *, backward: bool) -> tuple[int, int]:
        start = np.array([self._of["start"][row]], dtype=np.int64)
        left, right = (bound[row : row + 1] for bound in self._bounds[shift])
        end = start + len(self._of["norm_ref"][row])
        bins = bins_of_intervals(
            start, end, left, right, np.array([backward]), self._geometry
        )
        return int(bins[0, 0]), int(bins[0, 1])
