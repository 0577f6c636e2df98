"""Rows that are explained: their letters in the genome's direction, and as read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import Job, prepare, resolve
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.genome import open_genome
from enformer_features.inference.reads import Codes, shift_codes

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reading:
    """One way to read a window: a direction and a shift.

    Parameters
    ----------
    codes : ndarray of uint8, shape (length,)
        As they are read.
    backward : bool
        Whether the genome is read as its reverse complement.
    flip : bool
        Whether the bins are turned around afterwards.
    offset : int
        Bases of the genome from the row's window to the one that is read.
    """

    codes: Codes
    backward: bool
    flip: bool
    offset: int

    def of_window(self, codes: Codes) -> Codes:
        """Return other letters of the row's window as this reading would read them.

        What lies beyond the window is N.
        """
        moved = shift_codes(codes, self.offset)
        return reverse_complement(moved) if self.backward else moved

    def to_window(self, values: Floats) -> Floats:
        """Put values of letters, (length, 4), where they are in the row's window."""
        turned = values[::-1, ::-1] if self.backward else values
        if not self.offset:
            return turned
        moved = np.zeros_like(turned)
        if self.offset > 0:
            moved[self.offset :] = turned[: -self.offset]
        else:
            moved[: self.offset] = turned[-self.offset :]
        return moved


class Rows:
    """Rows of ``X`` that are checked and placed; opens no weights.

    Parameters
    ----------
    embedder : EnformerEmbedder
    X : table or sequence of regions or sequences, n_rows
    """

    def __init__(self, embedder: EnformerEmbedder, X: Any) -> None:
        self._samples: Samples = resolve(embedder, X)
        self._embedder = embedder
        self.job: Job = prepare(embedder, self._samples)
        self.table = _table(self.job)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.job)

    @property
    def contigs(self) -> dict[str, int]:
        """Lengths of contigs; sequences are contigs of their own."""
        if self._embedder.genome is None or self._samples.regions is None:
            ends = self.table["window_end"].tolist()
            return dict(zip(self.table["chrom"], ends, strict=True))
        return dict(open_genome(self._embedder.genome).contigs)

    def codes(self, row: int) -> Codes:
        """Return the letters of a row's window, in the genome's direction."""
        if self._samples.regions is None:
            assert self._samples.sequences is not None
            return self._samples.sequences[row]
        assert self._embedder.genome is not None
        of_row = self.table.iloc[row]
        genome = open_genome(self._embedder.genome, ambiguous=self._embedder.ambiguous)
        start, end = int(of_row["window_start"]), int(of_row["window_end"])
        return genome.fetch(str(of_row["chrom"]), start, end)

    def readings(self, row: int) -> list[Reading]:
        """Return every way in which a row is read."""
        views = self.job.layout.reads.views(row)
        is_backward = self.table["read_strand"].iloc[row] == "-"
        shifts = tuple(self._embedder.shifts)
        n_directions = len(views) // len(shifts)
        readings = []
        for number, view in enumerate(views):
            shift = int(shifts[number // n_directions])
            offset = -shift if is_backward else shift
            backward = bool(is_backward or view.flip)
            readings.append(Reading(view.codes, backward, view.flip, offset))
        return readings


def _table(job: Job) -> pd.DataFrame:
    """Describe windows; those of sequences get the columns of regions."""
    table = job.obs()
    if job.layout.regions is not None:
        return table
    read = "+/-" if job.layout.reads.flips else "+"
    places = {
        "chrom": table["name"],
        "window_start": 0,
        "window_end": job.recipe.geometry.sequence_length,
        "read_strand": read,
    }
    return pd.concat([pd.DataFrame(places, index=table.index), table], axis=1)
