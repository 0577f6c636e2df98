"""What the network reads for each row: one or several views of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.genomics.encoding import N_CODE, reverse_complement
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.windows import shifted

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class View:
    """One sequence that is read for a row.

    Parameters
    ----------
    codes : ndarray of uint8, shape (length,)
        Letters as the network reads them: A C G T N = 0 .. 4.
    flip : bool
        Turn the bins around afterwards, so that they fit those of the other views.
    """

    codes: Codes
    flip: bool = False


class Reads(Protocol):
    """Rows that can be read, whatever they come from."""

    n_views: int

    def __len__(self) -> int:
        """Return the number of rows."""
        ...

    def views(self, row: int) -> list[View]:
        """Return the ``n_views`` views of a row."""
        ...


class GenomeReads:
    """Windows of a genome.

    Parameters
    ----------
    genome : Genome
    windows : DataFrame
        From :func:`~enformer_features.genomics.windows.place_windows`.
    shifts : tuple of int
        Shifts in bp, in the direction that is read; every one is a view.
    """

    def __init__(
        self, genome: Genome, windows: pd.DataFrame, shifts: tuple[int, ...] = (0,)
    ) -> None:
        self._genome = genome
        self._chrom = windows["chrom"].to_numpy(object)
        self._read_strand = windows["read_strand"].to_numpy(object)
        self._bounds = [shifted(windows, shift) for shift in shifts]
        both = len(windows) > 0 and self._read_strand[0] == "+/-"
        self.n_views = len(shifts) * (2 if both else 1)

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._chrom)

    def views(self, row: int) -> list[View]:
        """Fetch a window in all its shifts and directions."""
        views = []
        for start, end in self._bounds:
            codes = self._genome.fetch(self._chrom[row], int(start[row]), int(end[row]))
            views += _directions(codes, self._read_strand[row])
        return views


class SequenceReads:
    """Sequences that were given as such; shifts fill up with N.

    Parameters
    ----------
    sequences : sequence of ndarray of uint8, each of shape (length,)
    both_strands : bool, default=False
        Read every sequence forward and as its reverse complement.
    shifts : tuple of int
        Shifts in bp; every one is a view.
    """

    def __init__(
        self,
        sequences: Sequence[Codes],
        *,
        both_strands: bool = False,
        shifts: tuple[int, ...] = (0,),
    ) -> None:
        self._sequences = sequences
        self._shifts = shifts
        self._read_strand = "+/-" if both_strands else "+"
        self.n_views = len(shifts) * (2 if both_strands else 1)

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._sequences)

    def views(self, row: int) -> list[View]:
        """Return a sequence in all its shifts and directions."""
        views = []
        for shift in self._shifts:
            codes = shift_codes(self._sequences[row], shift)
            views += _directions(codes, self._read_strand)
        return views


def _directions(codes: Codes, read_strand: str) -> list[View]:
    if read_strand == "+":
        return [View(codes)]
    backward = reverse_complement(codes)
    if read_strand == "-":
        return [View(backward)]
    return [View(codes), View(backward, flip=True)]


def shift_codes(codes: Codes, shift: int) -> Codes:
    """Move the window over a sequence by ``shift`` bp; what is unknown becomes N.

    Examples
    --------
    >>> shift_codes(np.array([0, 1, 2, 3], dtype=np.uint8), 1)
    array([1, 2, 3, 4], dtype=uint8)
    """
    if shift == 0:
        return codes
    moved = np.full_like(codes, N_CODE)
    if shift > 0:
        moved[:-shift] = codes[shift:]
    else:
        moved[-shift:] = codes[:shift]
    return moved
