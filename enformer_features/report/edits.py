"""Variants and substitutions as edited copies of a region's own window.

What is scored is what is explained: the window, the directions, the bins and the head
are those of the explained prediction, whatever the pooling reads.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.streaming import changed
from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode
from enformer_features.genomics.gene_pairs import pair_with_genes
from enformer_features.genomics.genome import rename_contigs
from enformer_features.interpret.rows import Rows
from enformer_features.interpret.targets import Readout
from enformer_features.variant_effect.estimator import VariantEffect
from enformer_features.variant_effect.job import VariantJob
from enformer_features.variant_effect.mutagenesis import LETTERS, Mutagenesis
from enformer_features.variant_effect.placement import VariantReads, number_windows

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class OwnWindows:
    """Regions whose windows are edited; opens no weights.

    Parameters
    ----------
    readout : Readout
        What is explained.
    rows : Rows
        The regions, as ``readout.embedder`` reads them.
    """

    readout: Readout
    rows: Rows

    def __post_init__(self) -> None:
        if self.rows.job.layout.regions is None:
            msg = (
                "variants and substitutions are places in a genome, and X holds "
                "sequences; give regions and EnformerEmbedder(genome=...)"
            )
            raise InputError(msg)

    def pairs(self, variants: pd.DataFrame) -> pd.DataFrame:
        """Pair variants with the regions in whose windows they lie.

        Returns
        -------
        DataFrame
            As :func:`~enformer_features.pair_with_genes` makes it, with ``row``, the
            number of the region; ``distance`` is from its TSS or its middle.
        """
        windows = self.rows.table
        good = np.flatnonzero((windows["reason"] == "").to_numpy())
        places = pd.DataFrame(
            {
                "chrom": windows["chrom"].iloc[good].to_numpy(),
                "tss": self._middles[good],
                "strand": "+",
                "name": good.astype(str),
            }
        )
        embedder = self.readout.embedder
        chroms = rename_contigs(variants["chrom"], embedder.contig_style)
        length = self.rows.job.recipe.geometry.sequence_length
        pairs = pair_with_genes(
            variants.assign(chrom=chroms), places, sequence_length=length
        )
        row = pairs["gene"].astype(np.int64).to_numpy()
        regions = windows.iloc[row]
        tss = np.array([point_of(window) for _, window in regions.iterrows()], int)
        strand = regions.get("strand", pd.Series("+", regions.index)).to_numpy(object)
        start = pairs.get("start", pairs["pos"] - 1).to_numpy(np.int64)
        return pairs.assign(
            gene=regions["name"].to_numpy(object),
            tss=tss,
            strand=strand,
            distance=np.where(strand == "-", tss - start, start - tss),
            row=row,
        )

    def job(self, pairs: pd.DataFrame) -> VariantJob:
        """Check variants, and lay them into the windows of their regions.

        Parameters
        ----------
        pairs : DataFrame
            Variants, with the number of the region as ``row``.
        """
        embedder = changed(
            self.readout.embedder, center="base", strand="ignore", snap=False
        )
        of_row = pairs["row"].to_numpy(np.int64)
        # In windows that lie as the regions' do, which decide who is outside of one.
        placed = pairs.assign(tss=self._middles[of_row], strand="+")
        job = VariantEffect(embedder, bins="tss", on_error="nan").job(placed)
        own = self.rows.job
        good, of_good = job.table.iloc[job.rows], of_row[job.rows]
        windows = self.rows.table.iloc[of_good].reset_index(drop=True)
        numbers = number_windows(good, windows)
        reads = VariantReads(
            job.genome,
            good,
            windows,
            numbers,
            shifts=tuple(self.readout.embedder.shifts),
            indels="aligned",
            geometry=own.recipe.geometry,
        )
        head = self.readout.head
        names = ("tss", "strand")
        strands = self.rows.table["read_strand"].to_numpy(object)[of_row]
        return replace(
            job,
            table=job.table.assign(
                **{name: pairs[name].to_numpy() for name in names if name in pairs},
                read_strand=np.where(job.table["read_strand"] == "", "", strands),
            ),
            reads=reads,
            numbers=numbers,
            bins=[bins[of_good] for bins in own.bins],
            recipe=own.recipe,
            head=head,
            targets=own.recipe.bin_names if head is None else head.targets,
            embedder=self.readout.embedder,
        )

    def effects(self, job: VariantJob) -> tuple[Floats, npt.NDArray[np.object_]]:
        """Return what each changes in the explained number, and why if it has none."""
        values, reasons = job.compute(np.arange(len(job)))
        if self.readout.weights is None:
            return values[:, self.readout.output], reasons
        combined = values.astype(np.float64) @ self.readout.weights
        return combined.astype(np.float32), reasons

    def substitutions(self, row: int, width: int) -> tuple[int, str, pd.DataFrame]:
        """Return start and letters of the middle of a region, and all substitutions.

        Where the contig begins or ends there are fewer; of N there are none.

        Raises
        ------
        InputError
            When there is no window, or it is narrower.
        """
        window = self.rows.table.iloc[row]
        if window["reason"]:
            msg = f"{window['name']} has no window to substitute: {window['reason']}"
            raise InputError(msg)
        first, codes = int(window["window_start"]), self.rows.codes(row)
        start, end = self._clipped(window, width)
        if start < first or end > first + len(codes):
            msg = (
                f"ism_bp={width} around {window['name']} reaches past its window of "
                f"{len(codes)} bp; substitute fewer"
            )
            raise InputError(msg)
        ref = decode(codes[start - first : end - first])
        changes = [
            (start + place + 1, letter, alt)
            for place, letter in enumerate(ref)
            for alt in LETTERS
            if letter in LETTERS and alt != letter
        ]
        table = pd.DataFrame(changes, columns=["pos", "ref", "alt"])
        table.insert(0, "chrom", window["chrom"])
        return start, ref, table.assign(row=row)

    def _clipped(self, window: pd.Series[Any], width: int) -> tuple[int, int]:
        """Return the bases around a region's middle that its contig has."""
        start = point_of(window) - width // 2
        length = self.rows.contigs[str(window["chrom"])]
        return max(start, 0), min(start + width, length)

    def mutate(self, row: int, width: int) -> Mutagenesis:
        """Substitute every base around the TSS of a region, or its middle."""
        start, ref, table = self.substitutions(row, width)
        effects = np.full((len(ref), len(LETTERS), 1), np.nan, dtype=np.float32)
        if len(table):
            place = table["pos"].to_numpy() - 1 - start
            letters = np.array([LETTERS.index(alt) for alt in table["alt"]])
            effects[place] = 0
            effects[place, letters, 0], _ = self.effects(self.job(table))
        chrom = str(self.rows.table["chrom"].iloc[row])
        return Mutagenesis(chrom, start, ref, effects, [self.readout.name])

    @property
    def _middles(self) -> npt.NDArray[np.int64]:
        length = self.rows.job.recipe.geometry.sequence_length
        starts = self.rows.table["window_start"].to_numpy(np.int64)
        middles: npt.NDArray[np.int64] = starts + length // 2
        return middles


def point_of(window: pd.Series[Any]) -> int:
    """Return the TSS of a row of windows, or the middle of its region."""
    tss = int(window.get("tss", -1))
    return tss if tss >= 0 else (int(window["start"]) + int(window["end"])) // 2
