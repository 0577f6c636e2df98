"""Where on the genome a figure is, from whatever says so."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.genomics.regions import raise_bad_rows, region_table
from enformer_features.genomics.windows import Geometry

KINDS = (
    "('chr1', 0, 1024), 0-based and half-open; 'chr1:1-1024', 1-based and inclusive; "
    "or a row of EnformerEmbedder.windows(X)"
)


@dataclass(frozen=True)
class Place:
    """A stretch of the genome, and in which direction it was read.

    Parameters
    ----------
    chrom : str
    start, end : int
        0-based and half-open; ``start`` is below 0 where a window leaves its contig.
    is_window : bool, default=False
        It is the window of a network, of which the middle bins are kept.
    backward : bool, default=False
        Bins are counted from ``end``: the reverse complement was read.
    """

    chrom: str
    start: int
    end: int
    is_window: bool = False
    backward: bool = False

    def __post_init__(self) -> None:
        if self.end <= self.start:
            msg = f"the window {self.chrom}:{self.start}-{self.end} has no length"
            raise InputError(msg)


def place_of(window: Any) -> Place:
    """Return the place that a tuple, a text, or a row of windows names.

    Raises
    ------
    InputError, InputTypeError
        When it names none.

    Examples
    --------
    >>> place_of("chr1:101-200")
    Place(chrom='chr1', start=100, end=200, is_window=False, backward=False)
    """
    if isinstance(window, Place):
        return window
    if isinstance(window, str):
        table = region_table([window])
        raise_bad_rows(table)
        row = table.iloc[0]
        return Place(str(row["chrom"]), int(row["start"]), int(row["end"]))
    if isinstance(window, pd.DataFrame) and len(window) == 1:
        window = window.iloc[0]
    if isinstance(window, pd.Series | Mapping):
        return _of_row(window)
    if isinstance(window, tuple) and len(window) == 3:
        return Place(str(window[0]), int(window[1]), int(window[2]))
    msg = f"window={window!r:.80} is no place; give {KINDS}"
    raise InputTypeError(msg)


def _of_row(row: Any) -> Place:
    if missing := [k for k in ("chrom", "window_start", "window_end") if k not in row]:
        msg = f"the row of the window has no {', '.join(missing)}; give {KINDS}"
        raise InputError(msg)
    start, end = int(row["window_start"]), int(row["window_end"])
    backward = row.get("read_strand", "+") == "-"
    return Place(str(row["chrom"]), start, end, is_window=True, backward=backward)


def edges_of_bins(place: Place, n_bins: int) -> npt.NDArray[np.int64]:
    """Return the borders of so many bins, in the direction of the genome.

    The kept bins are the middle of a network's window; other stretches are divided.

    Returns
    -------
    ndarray of int64, shape (n_bins + 1,)
        0-based positions, ascending.

    Raises
    ------
    InputError
        When the stretch cannot be divided into so many bins.

    Examples
    --------
    >>> edges_of_bins(Place("chr1", 1000, 1512), 4).tolist()
    [1000, 1128, 1256, 1384, 1512]
    """
    length = place.end - place.start
    if place.is_window:
        geometry = Geometry(length, n_bins)
        if geometry.n_bins != n_bins:
            msg = f"{n_bins} bins are more than the {geometry.n_bins} of {length} bp"
            raise InputError(msg)
        first = place.start + geometry.crop_bins * geometry.bin_size
        return first + geometry.bin_size * np.arange(n_bins + 1, dtype=np.int64)
    if length % n_bins:
        msg = (
            f"{place.chrom}:{place.start}-{place.end} ({length} bp) cannot be divided "
            f"into {n_bins} bins; values have one row per bin, and the window is what "
            "these bins cover"
        )
        raise InputError(msg)
    return place.start + length // n_bins * np.arange(n_bins + 1, dtype=np.int64)
