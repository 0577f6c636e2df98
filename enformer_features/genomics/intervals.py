"""Sets of intervals: which lie together, what covers what, how far apart.

Every function takes tables with ``chrom``, ``start`` and ``end``, 0-based and
half-open; positions may be negative. Two intervals *overlap* when they share a base;
those that only touch do not.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.genomics.windows import ENDLESS

Integers = npt.NDArray[np.int64]


def clusters(intervals: pd.DataFrame, gap_bp: int = 0) -> Integers:
    """Give intervals that chains of overlaps hold together one number.

    Parameters
    ----------
    intervals : DataFrame, shape (n, ...)
        ``chrom``, ``start``, ``end``.
    gap_bp : int, default=0
        Intervals with fewer bp between them belong together, too.

    Returns
    -------
    ndarray of int64, shape (n,)
        From 0, by the name of the contig and then along it; the order of the rows
        decides nothing. Between any two groups of a contig lie at least ``gap_bp``.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": ["1", "2", "1", "1"], "start": [0, 0, 9, 10],
    ...                       "end": [10, 10, 12, 20]})
    >>> clusters(table).tolist()
    [0, 1, 0, 0]
    >>> clusters(table.drop(2)).tolist(), clusters(table.drop(2), gap_bp=1).tolist()
    ([0, 2, 1], [0, 1, 0])
    """
    ordered = intervals.reset_index(drop=True).sort_values(["chrom", "start", "end"])
    furthest = ordered.groupby("chrom")["end"].cummax()
    is_first = (ordered["chrom"] != ordered["chrom"].shift()).to_numpy()
    before = furthest.shift(fill_value=-ENDLESS).to_numpy(np.int64)
    is_apart = ordered["start"].to_numpy(np.int64) - before >= gap_bp
    numbers = np.empty(len(ordered), dtype=np.int64)
    numbers[ordered.index] = np.cumsum(is_first | is_apart) - 1
    return numbers


def covered_bases(intervals: pd.DataFrame, others: pd.DataFrame) -> Integers:
    """Count the bases of each interval that lie in any of the others.

    Parameters
    ----------
    intervals : DataFrame, shape (n, ...)
        ``chrom``, ``start``, ``end``.
    others : DataFrame
        Of the same columns; may overlap each other.

    Returns
    -------
    ndarray of int64, shape (n,)
        Each base once, however many of the others hold it.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": ["1", "2"], "start": [0, 0], "end": [9, 9]})
    >>> others = pd.DataFrame({"chrom": ["1", "1"], "start": [4, 5], "end": [6, 8]})
    >>> covered_bases(table, others).tolist()
    [4, 0]
    """
    covered = np.zeros(len(intervals), dtype=np.int64)
    for rows, first, last in _contigs_of_both(intervals, others):
        total = np.concatenate([[0], np.cumsum(last - first)])
        reach = np.concatenate([[-ENDLESS], last])
        up_to = []
        for position in (rows["start"].to_numpy(), rows["end"].to_numpy()):
            n_before = np.searchsorted(first, position)
            up_to.append(total[n_before] - np.maximum(reach[n_before] - position, 0))
        covered[rows.index] = up_to[1] - up_to[0]
    return covered


def gaps(intervals: pd.DataFrame, others: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Measure how far the nearest of the others is from each interval.

    Parameters
    ----------
    intervals : DataFrame, shape (n, ...)
        ``chrom``, ``start``, ``end``.
    others : DataFrame
        Of the same columns.

    Returns
    -------
    ndarray of float64, shape (n,)
        Bases between the two; 0 where they overlap or touch, infinite where the contig
        has none of the others.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": ["1", "2"], "start": [0, 0], "end": [9, 9]})
    >>> others = pd.DataFrame({"chrom": ["1"], "start": [12], "end": [15]})
    >>> gaps(table, others).tolist()
    [3.0, inf]
    """
    nearest = np.full(len(intervals), np.inf)
    for rows, first, last in _contigs_of_both(intervals, others):
        start, end = rows["start"].to_numpy(), rows["end"].to_numpy()
        n_before = np.searchsorted(first, end)
        to_left = start - np.concatenate([[-ENDLESS], last])[n_before]
        to_right = np.concatenate([first, [ENDLESS]])[n_before] - end
        nearest[rows.index] = np.maximum(np.minimum(to_left, to_right), 0)
    return nearest


def grown(intervals: pd.DataFrame, by_bp: int) -> pd.DataFrame:
    """Return the intervals, longer by so many bp on either side."""
    start, end = intervals["start"] - by_bp, intervals["end"] + by_bp
    return intervals.assign(start=start, end=end)


def _contigs_of_both(
    intervals: pd.DataFrame, others: pd.DataFrame
) -> Iterator[tuple[pd.DataFrame, Integers, Integers]]:
    """Yield the rows of each contig, by position, and the union of its others.

    The union is disjoint stretches in their order: their starts, and their ends.
    """
    here = dict(iter(intervals.reset_index(drop=True).groupby("chrom", observed=True)))
    for chrom, group in others.groupby("chrom", observed=True):
        if chrom in here:
            stretches = group.groupby(clusters(group))
            first = stretches["start"].min().to_numpy(np.int64)
            last = stretches["end"].max().to_numpy(np.int64)
            yield here[chrom], first, last
