"""The strongest short segments of a window: where a prediction's letters stand."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.splits.splitter import check_count
from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode, reverse_complement
from enformer_features.interpret.contributions import Contributions

Floats = npt.NDArray[np.float64]
RAISES, LOWERS = "raises", "lowers"


def strongest_segments(
    contributions: Contributions,
    row: int | None = None,
    n: int = 10,
    *,
    width_bp: int = 20,
    gap_bp: int = 0,
    flank_bp: int = 10,
    tss: int | None = None,
) -> pd.DataFrame:
    """Find the segments whose letters matter most, and say where and what they are.

    Parameters
    ----------
    contributions : Contributions
    row : int, optional
        Number of the region, from 0; by default all that have scores.
    n : int, default=10
        Segments of each region. Fewer are returned when there are no more.
    width_bp : int, default=20
        Length of a segment: about that of a motif and what is beside it.
    gap_bp : int, default=0
        Least distance between segments of a region.
    flank_bp : int, default=10
        Letters of `context` on either side.
    tss : int, optional
        0-based position that distances are from, of a single row; by default the TSS
        in ``contributions.table``, or else the middle of the window.

    Returns
    -------
    DataFrame
        One row per segment, the strongest of each region first: ``name`` (of the
        region), ``rank`` (from 1), ``chrom``, ``start``, ``end`` (0-based half-open),
        ``strand`` (of the gene), ``sequence`` (as it reads on that strand),
        ``context`` (the same with its flanks, in lower case), ``distance_bp`` (from
        the TSS to the segment's middle, negative upstream), ``direction`` ("raises" or
        "lowers" the prediction), ``sum`` (of the scores), ``share`` (of the window's
        absolute scores), ``peak`` (0-based position of the strongest base).

    Raises
    ------
    InputError
        When the named row is not there or has no scores, or lengths do not fit the
        window.

    Notes
    -----
    Strength is the absolute value of the sum: letters that work against each other
    cancel out. A segment is a hypothesis; to test it, replace it:
    :func:`~enformer_features.interpret.elements.element_ism`.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": ["chr1"], "window_start": [500],
    ...     "window_end": [508], "read_strand": ["-"], "name": ["gene"], "tss": [503]})
    >>> gradient = np.zeros((1, 8, 4), dtype=np.float32)
    >>> gradient[0, 5:7] = -3
    >>> codes = np.array([[0, 1, 2, 3, 0, 1, 2, 3]], dtype=np.uint8)  # ACGTACGT
    >>> found = Contributions(table, codes, gradient, np.array([1.0]))
    >>> segments = strongest_segments(found, n=1, width_bp=2, flank_bp=1)
    >>> segments[["start", "strand", "sequence", "context", "distance_bp", "direction"]]
       start strand sequence context  distance_bp direction
    0    505      -       CG    aCGt           -2    lowers
    """
    for name, value, least in (
        ("n", n, 1),
        ("width_bp", width_bp, 1),
        ("gap_bp", gap_bp, 0),
        ("flank_bp", flank_bp, 0),
    ):
        check_count(name, value, least)
    if width_bp > contributions.length:
        msg = f"width_bp={width_bp} is wider than the window, {contributions.length} bp"
        raise InputError(msg)
    if tss is not None and row is None and len(contributions) > 1:
        msg = "tss is of a single region; name it with row=, or give the TSS as regions"
        raise InputError(msg)
    rows = range(len(contributions)) if row is None else [row]
    found = []
    for number in rows:
        window = _Window(contributions, number, tss)
        if row is None and window.reason:
            continue
        window.check()
        for rank, place in enumerate(window.strongest(n, width_bp, gap_bp), 1):
            found.append(window.describe(rank, place, width_bp, flank_bp))
    return pd.DataFrame(found, columns=list(_Window.COLUMNS))


def _places(scores: Floats, n: int, width: int, gap: int) -> list[int]:
    """Return where the strongest segments begin, with the gap between them."""
    sums = np.abs(np.lib.stride_tricks.sliding_window_view(scores, width).sum(axis=1))
    places: list[int] = []
    while len(places) < n:
        place = int(np.argmax(sums))
        if not sums[place] > 0:
            break
        places.append(place)
        sums[max(place - width - gap + 1, 0) : place + width + gap] = 0
    return places


class _Window:
    """A region's window: its scores, letters and TSS."""

    COLUMNS = (
        *("name", "rank", "chrom", "start", "end", "strand", "sequence", "context"),
        *("distance_bp", "direction", "sum", "share", "peak"),
    )

    def __init__(self, found: Contributions, row: int, tss: int | None) -> None:
        if not 0 <= row < len(found):
            msg = f"row={row} is not there; rows are 0 to {len(found) - 1}"
            raise InputError(msg)
        of_row = found.table.iloc[row]
        self.name, self.chrom = str(of_row["name"]), str(of_row["chrom"])
        self.start = int(of_row["window_start"])
        self.scores: Floats = found.region(
            row, self.start, int(of_row["window_end"])
        ).astype(np.float64)
        self.row, self.reason = row, str(of_row.get("reason", ""))
        if not self.reason and not np.isfinite(self.scores).all():
            self.reason = "they are not finite"
        self.codes = found.codes[row]
        self.strand = _strand(of_row)
        self.tss = self._tss(of_row) if tss is None else int(tss)

    def check(self) -> None:
        """Refuse a region without scores."""
        if self.reason:
            msg = f"row {self.row}, {self.name}, has no scores: {self.reason}"
            raise InputError(msg)

    def _tss(self, of_row: pd.Series) -> int:
        """Return the TSS that is known, or the base that is read as the middle."""
        known = int(of_row.get("tss", -1))
        if known >= 0:
            return known
        length = len(self.scores)
        middle = length // 2
        backward = of_row["read_strand"] == "-"
        return self.start + (length - 1 - middle if backward else middle)

    def strongest(self, n: int, width: int, gap: int) -> list[int]:
        """Return where segments begin; of equals, the first on the gene's strand."""
        if self.strand == "+":
            return _places(self.scores, n, width, gap)
        last = len(self.scores) - width
        return [last - place for place in _places(self.scores[::-1], n, width, gap)]

    def describe(self, rank: int, place: int, width: int, flank: int) -> dict[str, Any]:
        """Return what is said of a segment."""
        scores = self.scores[place : place + width]
        start = self.start + place
        backward = self.strand == "-"
        middle = start + (width - 1 - width // 2 if backward else width // 2)
        total = float(scores.sum())
        letters = self._letters(place, place + width)
        before = self._letters(max(place - flank, 0), place).lower()
        behind = self._letters(place + width, place + width + flank).lower()
        first, last = (behind, before) if backward else (before, behind)
        values = (
            *(self.name, rank, self.chrom, start, start + width, self.strand),
            *(letters, first + letters + last),
            self.tss - middle if backward else middle - self.tss,
            RAISES if total > 0 else LOWERS,
            total,
            float(np.abs(scores).sum() / np.abs(self.scores).sum()),
            start + int(np.argmax(np.abs(scores))),
        )
        return dict(zip(self.COLUMNS, values, strict=True))

    def _letters(self, low: int, high: int) -> str:
        """Return letters of the window as they read on the gene's strand."""
        codes = self.codes[low:high]
        return decode(reverse_complement(codes) if self.strand == "-" else codes)


def _strand(of_row: pd.Series) -> str:
    """Return the gene's strand; windows that are read both ways have it beside."""
    read = str(of_row["read_strand"])
    given = str(of_row.get("strand", "")) if read != "-" else read
    return "-" if given == "-" else "+"
