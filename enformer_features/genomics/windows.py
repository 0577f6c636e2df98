"""The geometry of windows and bins: the only place with bin arithmetic.

All coordinates are 0-based and half-open. ``docs/coordinates.md`` states the rules
in prose; DNA is *read* forward or as the reverse complement, and everything here
that counts bins counts them in the direction that is read.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError

SEQUENCE_LENGTH = 196_608
BIN_SIZE = 128
TARGET_LENGTH = 896

Center = Literal["base", "bin", "basenji"]
Strand = Literal["ignore", "match", "average"]
Edge = Literal["pad", "error", "nan"]

# Where the centred base stands in the window that is read, relative to its middle.
CENTERS = {"base": 0, "bin": BIN_SIZE // 2, "basenji": -1}
STRANDS = ("ignore", "match", "average")
EDGES = ("pad", "error", "nan")

ENDLESS = 2**62  # longer than any contig, and safe to subtract

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Geometry:
    """Which bins of a window a network keeps, and which of them hold the centre.

    Parameters
    ----------
    sequence_length : int, default=196_608
        Length of a window in bp; a multiple of ``bin_size``.
    target_length : int, default=896
        Bins that are kept in the middle; all when there are fewer, or for -1.
    bin_size : int, default=128
        Base pairs per bin.

    Raises
    ------
    InputError
        When the length is no multiple of the bin, or cannot be cropped evenly.

    Examples
    --------
    >>> geometry = Geometry()
    >>> geometry.n_bins, geometry.crop_bins, geometry.tss_bins
    (896, 320, (447, 450))
    """

    sequence_length: int = SEQUENCE_LENGTH
    target_length: int = TARGET_LENGTH
    bin_size: int = BIN_SIZE

    def __post_init__(self) -> None:
        check_sequence_length(self.sequence_length, self.bin_size)
        surplus = self.n_positions - self.n_bins
        if surplus % 2:
            nearest = [(self.n_positions + d) * self.bin_size for d in (-1, 1)]
            msg = (
                f"sequence_length={self.sequence_length} gives {self.n_positions} "
                f"bins, which cannot be cropped evenly to {self.n_bins}; the nearest "
                f"lengths that can are {nearest[0]} and {nearest[1]}"
            )
            raise InputError(msg)

    @property
    def n_positions(self) -> int:
        """Bins of the whole window."""
        return self.sequence_length // self.bin_size

    @property
    def n_bins(self) -> int:
        """Bins that are kept."""
        if self.target_length == -1:
            return self.n_positions
        return min(self.target_length, self.n_positions)

    @property
    def crop_bins(self) -> int:
        """Bins that are dropped at each end."""
        return (self.n_positions - self.n_bins) // 2

    @property
    def center_bin(self) -> int:
        """The kept bin of index ``sequence_length / 2``, n // 2.

        It is that bin's first base; its middle base when ``n_positions`` is odd.
        """
        return self.n_bins // 2

    @property
    def tss_bins(self) -> tuple[int, int]:
        """The TSS bin and its two neighbours, half-open."""
        return self.center_bin - 1, self.center_bin + 2

    @property
    def center_bins(self) -> tuple[int, int]:
        """The bins that touch the middle of the window: two, or one of an odd number.

        Half-open.
        """
        return (self.n_bins - 1) // 2, self.n_bins // 2 + 1

    def tss_bin(self, center: Center = "base") -> int:
        """Return the kept bin that holds the base a window is centred on."""
        index = self.sequence_length // 2 + CENTERS[center]
        return index // self.bin_size - self.crop_bins


def check_sequence_length(sequence_length: object, bin_size: int = BIN_SIZE) -> None:
    """Refuse a window length that is no positive multiple of the bin."""
    is_whole = isinstance(sequence_length, int | np.integer)
    if isinstance(sequence_length, bool) or not is_whole:
        msg = f"sequence_length={sequence_length!r} must be a whole number of bp"
        raise InputError(msg)
    length = int(sequence_length)  # type: ignore[call-overload]
    if length < bin_size or length % bin_size:
        below = max(length // bin_size, 1) * bin_size
        msg = (
            f"sequence_length={length} must be a positive multiple of {bin_size}; "
            f"the nearest are {below} and {below + bin_size}"
        )
        raise InputError(msg)


def place_windows(
    regions: pd.DataFrame,
    sequence_length: int = SEQUENCE_LENGTH,
    *,
    center: Center = "base",
    strand: Strand = "match",
    snap: bool = False,
) -> pd.DataFrame:
    """Centre a window on every region.

    A point *p* (a ``tss``, or the middle base of an odd interval) stands at index
    ``L / 2`` *in the orientation that is read*: forward the window is
    ``[p - L/2, p + L/2)``, read as reverse complement ``[p + 1 - L/2, p + 1 + L/2)``.
    The midpoint border of an even interval is the window's midpoint. An interval of
    full length is the window, whatever ``center`` is.

    Parameters
    ----------
    regions : DataFrame
        From :func:`~enformer_features.genomics.regions.region_table`.
    sequence_length : int, default=196_608
        Length of the windows in bp, even.
    center : {"base", "bin", "basenji"}, default="base"
        Index of the centre: ``L / 2``, ``L / 2 + 64`` (the middle of a bin), or
        ``L / 2 - 1``.
    strand : {"match", "ignore", "average"}, default="match"
        Read minus-strand regions as reverse complement; read the genome as it is;
        or read every window both ways.
    snap : bool, default=False
        Move every window by at most 64 bp, so that it begins on a multiple of 128 bp.

    Returns
    -------
    DataFrame
        One row per region, same order and index: ``chrom``, ``window_start``,
        ``window_end`` (0-based half-open; may reach past the contig),
        ``read_strand`` ("+", "-", or "+/-" for both), and with ``snap`` also
        ``snapped_bp``, how far the window was moved to the right.

    Examples
    --------
    >>> import pandas as pd
    >>> from enformer_features.genomics.regions import region_table
    >>> genes = pd.DataFrame({"chrom": ["1", "1"], "tss": [999, 999],
    ...                       "strand": ["+", "-"]})
    >>> place_windows(region_table(genes), 256)
      chrom  window_start  window_end read_strand
    0     1           871        1127           +
    1     1           872        1128           -
    """
    half = sequence_length // 2
    start = regions["start"].to_numpy(np.int64)
    end = regions["end"].to_numpy(np.int64)
    tss = regions["tss"].to_numpy(np.int64)
    backward = (regions["strand"] == "-").to_numpy() & (strand == "match")

    doubled_middle = np.where(tss >= 0, 2 * tss + 1, start + end)
    is_base = doubled_middle % 2 == 1
    border = doubled_middle // 2 + (is_base & backward)
    offset = _center_offsets(regions, sequence_length, center)
    window_start = border - half - np.where(backward, -offset, offset)
    snapped = snap_to_grid(window_start) if snap else window_start
    read = np.where(backward, "-", "+") if strand != "average" else "+/-"
    windows = pd.DataFrame(
        {
            "chrom": regions["chrom"],
            "window_start": snapped,
            "window_end": snapped + sequence_length,
            "read_strand": read,
        },
        index=regions.index,
    )
    return windows.assign(snapped_bp=snapped - window_start) if snap else windows


def _center_offsets(
    regions: pd.DataFrame, sequence_length: int, center: Center
) -> Integers:
    """Return where each centre stands relative to the middle of its unsnapped window.

    An interval of full length is its own window, whatever ``center`` is.
    """
    lengths = (regions["end"] - regions["start"]).to_numpy(np.int64)
    is_whole = (regions["tss"].to_numpy() < 0) & (lengths == sequence_length)
    return np.where(is_whole, 0, CENTERS[center])


def tss_bins_of_windows(
    regions: pd.DataFrame, windows: pd.DataFrame, geometry: Geometry, center: Center
) -> Integers:
    """Return the kept bin that holds the base each window is centred on.

    Parameters
    ----------
    regions, windows : DataFrame
        The windows are those of :func:`place_windows` for these regions.
    geometry : Geometry
    center : {"base", "bin", "basenji"}

    Returns
    -------
    ndarray of int64, shape (n_windows,)
    """
    index = geometry.sequence_length // 2 + _center_offsets(
        regions, geometry.sequence_length, center
    )
    if "snapped_bp" in windows:
        moved = windows["snapped_bp"].to_numpy(np.int64)
        index = index + np.where(windows["read_strand"] == "-", moved, -moved)
    return index // geometry.bin_size - geometry.crop_bins


def snap_to_grid(starts: Integers, bin_size: int = BIN_SIZE) -> Integers:
    """Return the nearest multiples of the bin; halfway goes right.

    Examples
    --------
    >>> snap_to_grid(np.array([-65, -64, 0, 63, 64, 200])).tolist()
    [-128, 0, 0, 0, 128, 256]
    """
    return (starts + bin_size // 2) // bin_size * bin_size


@dataclass(frozen=True)
class Stretch:
    """A stretch of a contig that several windows share, on one grid of bins.

    Parameters
    ----------
    start, end : int
        0-based half-open.
    members : tuple of int
        Which windows lie in it.
    """

    start: int
    end: int
    members: tuple[int, ...]


def plan_stretches(
    starts: Sequence[int],
    sequence_length: int,
    *,
    bin_size: int = BIN_SIZE,
    max_length: int = 4_194_304,
) -> list[Stretch]:
    """Group windows of one contig and direction that can share a tower.

    Windows share when they overlap and their starts differ by whole bins.

    Parameters
    ----------
    starts : sequence of int
        In the order of the windows.
    sequence_length : int
        Of every window.
    bin_size : int, default=128
    max_length : int, default=4_194_304
        Longest stretch, to bound memory.

    Returns
    -------
    list of Stretch
        Every window in exactly one.

    Examples
    --------
    >>> [s.members for s in plan_stretches([0, 256, 300, 5000], 1024)]
    [(0, 1), (2,), (3,)]
    """
    order = sorted(range(len(starts)), key=lambda i: (starts[i] % bin_size, starts[i]))
    groups: list[list[int]] = []
    for i in order:
        if groups and _shares(
            starts[groups[-1][0]],
            starts[groups[-1][-1]],
            starts[i],
            sequence_length,
            bin_size,
            max_length,
        ):
            groups[-1].append(i)
        else:
            groups.append([i])
    return [
        Stretch(starts[group[0]], starts[group[-1]] + sequence_length, tuple(group))
        for group in sorted(groups, key=min)
    ]


def _shares(
    first: int, last: int, start: int, length: int, bin_size: int, max_length: int
) -> bool:
    on_grid = (start - last) % bin_size == 0
    return on_grid and start < last + length and start + length - first <= max_length


def bases_past_ends(
    windows: pd.DataFrame,
    contigs: Mapping[str, int],
    shifts: tuple[int, ...] = (0,),
) -> Integers:
    """Count the bases of each window, in all its shifts, that lie off its contig.

    Parameters
    ----------
    windows : DataFrame
        From :func:`place_windows`.
    contigs : mapping of str to int
        Lengths in bp. A contig that is not in it has no end.
    shifts : tuple of int, default=(0,)
        Shifts in bp, in the direction that is read.

    Returns
    -------
    ndarray of int64, shape (n_windows,)
        The most over the shifts.
    """
    length = windows["chrom"].map(dict(contigs)).fillna(-1).to_numpy(np.int64)
    length = np.where(length < 0, ENDLESS, length)
    past = np.zeros(len(windows), dtype=np.int64)
    for shift in shifts:
        start, end = shifted(windows, shift)
        outside = np.maximum(-start, 0) + np.maximum(end - length, 0)
        past = np.maximum(past, outside)
    return past


def shifted(windows: pd.DataFrame, shift: int) -> tuple[Integers, Integers]:
    """Move windows by ``shift`` bp in the direction that they are read."""
    step = np.where(windows["read_strand"] == "-", -shift, shift)
    start = windows["window_start"].to_numpy(np.int64) + step
    end = windows["window_end"].to_numpy(np.int64) + step
    return start, end


def region_bins(
    regions: pd.DataFrame, windows: pd.DataFrame, geometry: Geometry
) -> Integers:
    """Return the kept bins that each region overlaps, in the direction read.

    Returns
    -------
    ndarray of int64, shape (n_regions, 2)
        First bin and one past the last. Bins outside ``[0, n_bins)`` mean that the
        region reaches past what the network keeps.

    Examples
    --------
    >>> from enformer_features.genomics.regions import region_table
    >>> regions = region_table(["chr1:5001-5300"])
    >>> geometry = Geometry(1024)
    >>> region_bins(regions, place_windows(regions, 1024), geometry)
    array([[2, 6]])
    """
    return bins_of_intervals(
        regions["start"].to_numpy(np.int64),
        regions["end"].to_numpy(np.int64),
        windows["window_start"].to_numpy(np.int64),
        windows["window_end"].to_numpy(np.int64),
        (windows["read_strand"] == "-").to_numpy(),
        geometry,
    )


def bins_of_intervals(
    start: Integers,
    end: Integers,
    window_start: Integers,
    window_end: Integers,
    backward: npt.NDArray[np.bool_],
    geometry: Geometry,
) -> Integers:
    """Return the kept bins that intervals overlap, in the direction read.

    Parameters
    ----------
    start, end, window_start, window_end : ndarray of int64, shape (n,)
        0-based half-open, in bp of the genome.
    backward : ndarray of bool, shape (n,)
        Windows that are read as reverse complement.
    geometry : Geometry

    Returns
    -------
    ndarray of int64, shape (n, 2)
        As :func:`region_bins` does.
    """
    first = np.where(backward, window_end - end, start - window_start)
    last = np.where(backward, window_end - start, end - window_start)
    bins = np.stack([first // geometry.bin_size, -(-last // geometry.bin_size)], axis=1)
    return bins - geometry.crop_bins


def bases_of_bins(
    windows: pd.DataFrame, bins: Integers, geometry: Geometry
) -> tuple[Integers, Integers]:
    """Return the genome's bases that kept bins ``[lo, hi)`` of each window cover.

    Parameters
    ----------
    windows : DataFrame
        From :func:`place_windows`.
    bins : ndarray of int64, shape (n_windows, 2)
        First bin and one past the last, in the direction that is read.
    geometry : Geometry

    Returns
    -------
    start, end : ndarray of int64, shape (n_windows,)
        0-based half-open.
    """
    offsets = (bins + geometry.crop_bins) * geometry.bin_size
    left = windows["window_start"].to_numpy(np.int64)
    right = windows["window_end"].to_numpy(np.int64)
    backward = (windows["read_strand"] == "-").to_numpy()
    start = np.where(backward, right - offsets[:, 1], left + offsets[:, 0])
    end = np.where(backward, right - offsets[:, 0], left + offsets[:, 1])
    return start, end
