"""What the network reads for each row: one or several views of a window."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.genomics.encoding import N_CODE, reverse_complement
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.windows import Stretch, plan_stretches, shifted

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
    place: Place | None = None


@dataclass(frozen=True)
class Place:
    """Where a view lies in a stretch that it shares with others.

    Parameters
    ----------
    stretch : int
        Number of the stretch.
    offset : int
        Of the view's first letter, in bp, in the direction that is read.
    """

    stretch: int
    offset: int


class Reads(Protocol):
    """Rows that can be read, whatever they come from."""

    n_views: int
    flips: bool  # whether some views are turned around
    shares: bool  # whether rows may share a tower

    def plan(self, rows: Sequence[int]) -> float:
        """Find the stretches that these rows share.

        Returns the letters that towers will read, over those without any sharing.
        """
        ...

    def stretch(self, number: int) -> Codes:
        """Return the letters of a shared stretch, in the direction that is read."""
        ...

    def order(self, rows: Sequence[int]) -> list[int]:
        """Return rows in the order in which they share most."""
        ...

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
    share : bool, default=False
        Find the stretches that unshifted windows on one grid share.
    """

    def __init__(
        self,
        genome: Genome,
        windows: pd.DataFrame,
        shifts: tuple[int, ...] = (0,),
        *,
        share: bool = False,
    ) -> None:
        self._genome = genome
        self._chrom = windows["chrom"].to_numpy(object)
        self._read_strand = windows["read_strand"].to_numpy(object)
        self._bounds = [shifted(windows, shift) for shift in shifts]
        both = len(windows) > 0 and self._read_strand[0] == "+/-"
        self.n_views = len(shifts) * (2 if both else 1)
        self.flips = both
        self.shares = share and tuple(shifts) == (0,)
        self._stretches: list[_GenomeStretch] = []
        self._places: dict[tuple[int, bool], Place] = {}

    def __len__(self) -> int:
        """Return the number of windows."""
        return len(self._chrom)

    def stretch(self, number: int) -> Codes:
        """Fetch the letters of a shared stretch."""
        stretch = self._stretches[number]
        codes = self._genome.fetch(stretch.chrom, stretch.start, stretch.end)
        return reverse_complement(codes) if stretch.backward else codes

    def order(self, rows: Sequence[int]) -> list[int]:
        """Return rows by stretch and place; those that share nothing come first."""

        def place(row: int) -> tuple[int, int, int]:
            forward = self._places.get((row, False))
            found = forward or self._places.get((row, True))
            return (found.stretch, found.offset, row) if found else (-1, 0, row)

        return sorted(rows, key=place)

    def plan(self, rows: Sequence[int]) -> float:
        """Group the windows of each contig and direction into stretches."""
        self._stretches, self._places = [], {}
        if not self.shares or not len(rows):
            return 1.0
        start, end = self._bounds[0]
        length = int(end[rows[0]] - start[rows[0]])
        table = pd.DataFrame({"chrom": self._chrom, "read": self._read_strand})
        groups = table.iloc[list(rows)].groupby(["chrom", "read"], sort=False)
        for (chrom, read), group in groups:
            members = group.index.to_numpy()
            for stretch in plan_stretches(start[members].tolist(), length):
                if len(stretch.members) > 1:
                    within = members[list(stretch.members)].tolist()
                    self._share(str(chrom), str(read), stretch, within)
        shared = sum(stretch.end - stretch.start for stretch in self._stretches)
        alone = len(rows) * self.n_views * length
        return (alone - len(self._places) * length + shared) / alone

    def _share(self, chrom: str, read: str, stretch: Stretch, rows: list[int]) -> None:
        start, end = self._bounds[0]
        for backward in (False, True):
            if read != "+/-" and backward != (read == "-"):
                continue
            number = len(self._stretches)
            self._stretches.append(
                _GenomeStretch(chrom, stretch.start, stretch.end, backward)
            )
            for row in rows:
                from_left = int(start[row]) - stretch.start
                from_right = stretch.end - int(end[row])
                offset = from_right if backward else from_left
                self._places[row, backward] = Place(number, offset)

    def views(self, row: int) -> list[View]:
        """Fetch a window in all its shifts and directions."""
        views = []
        for start, end in self._bounds:
            codes = self._genome.fetch(self._chrom[row], int(start[row]), int(end[row]))
            views += _directions(codes, self._read_strand[row])
        if not self._places:
            return views
        directions = (self._read_strand[row] == "-",) if len(views) == 1 else (0, 1)
        return [
            replace(view, place=self._places.get((row, bool(backward))))
            for view, backward in zip(views, directions, strict=True)
        ]


@dataclass(frozen=True)
class _GenomeStretch:
    chrom: str
    start: int
    end: int
    backward: bool


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
        self.flips = both_strands
        self.shares = False

    def __len__(self) -> int:
        """Return the number of sequences."""
        return len(self._sequences)

    def plan(self, rows: Sequence[int]) -> float:
        """Return 1: every sequence has a tower of its own."""
        return 1.0

    def stretch(self, number: int) -> Codes:
        """Sequences share nothing."""
        raise IndexError(number)

    def order(self, rows: Sequence[int]) -> list[int]:
        """Return the rows as they are."""
        return list(rows)

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
