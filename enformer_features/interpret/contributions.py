"""Contributions of bases: arrays in genome coordinates, and the files they go to."""

from __future__ import annotations

import gzip
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import (
    InputError,
    MissingDependencyError,
    check_choice,
)
from enformer_features.genomics.encoding import ALPHABET, N_CODE, one_hot
from enformer_features.genomics.windows import BIN_SIZE
from enformer_features.storage.files import atomic_write, check_output

Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]
BIN_STATISTICS = ("sum", "mean", "absolute")


@dataclass(frozen=True)
class Contributions:
    """What every base of every window adds to a prediction.

    From :func:`gradient_x_input` or :func:`integrated_gradients`. Everything is in the
    genome's own direction and coordinates, whatever strand was read.

    Parameters
    ----------
    table : DataFrame
        One row per region, in order: ``chrom``, ``window_start``, ``window_end``
        (0-based half-open), ``read_strand``, ``name``, ``tss_bin``, the bases that are
        explained (``pool_start``, ``pool_end``), and ``reason``: why a row is NaN, or
        "".
        For sequences ``chrom`` is their name, and the window begins at 0.
    codes : ndarray of uint8, shape (n, length)
        Letters: A C G T N = 0 .. 4.
    gradient : ndarray of float32, shape (n, length, 4)
        Of the prediction, for A, C, G, T; its mean over the path for integrated ones.
    prediction : ndarray of float64, shape (n,)
        What is explained.
    baseline : ndarray of uint8, shape (n, length), optional
        Letters that contributions are relative to; None is N, that is zeros.
    baseline_prediction : ndarray of float64, shape (n,), optional
        The prediction for the baseline.
    delta : ndarray of float64, shape (n,), optional
        Of integrated gradients: the sum of the scores over
        ``prediction - baseline_prediction``, less 1.
    error : ndarray of float64, shape (n,), optional
        The same as a difference: the sum of the scores, less the change of the
        prediction, in the prediction's units.
    contigs : mapping of str to int
        Lengths of the contigs in bp.
    about : dict
        What the values depend on, as plain types.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": ["chr1"], "window_start": [100],
    ...                       "window_end": [104], "read_strand": ["+"], "name": ["a"]})
    >>> gradient = np.arange(16, dtype=np.float32).reshape(1, 4, 4)
    >>> found = Contributions(table, np.array([[0, 3, 4, 1]], np.uint8), gradient,
    ...                       np.array([2.0]))
    >>> found.scores
    array([[ 0.,  7.,  0., 13.]], dtype=float32)
    >>> found.region(0, 101, 103)
    array([7., 0.], dtype=float32)
    """

    table: pd.DataFrame
    codes: Codes
    gradient: Floats
    prediction: Doubles
    baseline: Codes | None = None
    baseline_prediction: Doubles | None = None
    delta: Doubles | None = None
    error: Doubles | None = None
    contigs: Mapping[str, int] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.table)

    @property
    def length(self) -> int:
        """Bases of a window."""
        return int(self.codes.shape[1])

    @property
    def scores(self) -> Floats:
        """The letter that is there: (n, length); 0 at N, less the baseline's letter.

        Rows that have a ``reason`` are NaN.
        """
        scores = _at(self.gradient, self.codes)
        return (
            scores if self.baseline is None else np.asarray(scores - self._at_baseline)
        )

    @property
    def hypothetical(self) -> Floats:
        """Each letter if it were there: (n, length, 4), less the baseline's letter."""
        if self.baseline is None:
            return self.gradient
        return self.gradient - self._at_baseline[:, :, None]

    @property
    def _at_baseline(self) -> Floats:
        assert self.baseline is not None
        return _at(self.gradient, self.baseline)

    def per_bin(self, statistic: str = "sum") -> Floats:
        """Summarise the scores in bins of 128 bp.

        Parameters
        ----------
        statistic : {"sum", "mean", "absolute"}, default="sum"
            ``"absolute"`` is the mean of the absolute scores, which the paper shows.

        Returns
        -------
        ndarray of float32, shape (n, length / 128)
            Bins in the genome's direction, from ``window_start``.

        References
        ----------
        Avsec et al. 2021, Nature Methods 18:1196, Figure 2.
        """
        check_choice("statistic", statistic, BIN_STATISTICS)
        bins = self.scores.reshape(len(self), -1, BIN_SIZE)
        if statistic == "absolute":
            bins = np.abs(bins)
        return np.asarray(
            bins.sum(axis=2) if statistic == "sum" else bins.mean(axis=2),
            dtype=np.float32,
        )

    def region(self, row: int, start: int, end: int) -> Floats:
        """Return the scores of an interval of the genome.

        Parameters
        ----------
        row : int
            Number of the region, from 0.
        start, end : int
            0-based half-open, within the row's window.

        Returns
        -------
        ndarray of float32, shape (end - start,)

        Raises
        ------
        InputError
            When the interval reaches past the window: what lies there has no score.
        """
        part = self._part(row, start, end)
        gradient = self.gradient[None, row, part]
        scores: Floats = _at(gradient, self.codes[None, row, part])[0]
        if self.baseline is not None:
            scores -= _at(gradient, self.baseline[None, row, part])[0]
        return scores

    def _part(self, row: int, start: int, end: int) -> slice:
        if not 0 <= row < len(self):
            msg = f"row={row} is not there; rows are 0 to {len(self) - 1}"
            raise InputError(msg)
        chrom, first, last = self._window(row)
        if not first <= start < end <= last:
            msg = (
                f"{start}-{end} does not lie within row {row}'s window "
                f"{chrom}:{first}-{last}; bases beyond it have no score"
            )
            raise InputError(msg)
        return slice(start - first, end - first)

    def _window(self, row: int) -> tuple[str, int, int]:
        of_row = self.table.iloc[row]
        return (
            str(of_row["chrom"]),
            int(of_row["window_start"]),
            int(of_row["window_end"]),
        )

    def within_contig(self, row: int) -> tuple[int, int]:
        """Return start and end of the part of a row's window that its contig has.

        Parameters
        ----------
        row : int

        Returns
        -------
        start, end : int
            0-based half-open; of a contig whose length nobody knows, from its start.
        """
        chrom, start, end = self._window(row)
        return max(start, 0), min(end, self.contigs.get(chrom, end))

    def to_frame(
        self, row: int, start: int | None = None, end: int | None = None
    ) -> pd.DataFrame:
        """Return one row per base of a region.

        Parameters
        ----------
        row : int
        start, end : int, optional
            0-based half-open; the whole window by default.

        Returns
        -------
        DataFrame
            ``chrom``, ``start`` (0-based), ``letter``, ``score``, and what each of
            ``A``, ``C``, ``G``, ``T`` would add.
        """
        chrom, first, last = self._window(row)
        start, end = first if start is None else start, last if end is None else end
        part = self._part(row, start, end)
        letters = np.array(list(f"{ALPHABET}N"))[self.codes[row, part]]
        frame = pd.DataFrame(
            {
                "chrom": chrom,
                "start": np.arange(start, end),
                "letter": letters,
                "score": self.region(row, start, end),
            }
        )
        hypothetical = self.gradient[row, part]
        if self.baseline is not None:
            at_baseline = _at(hypothetical[None], self.baseline[None, row, part])
            hypothetical = hypothetical - at_baseline[0, :, None]
        return frame.assign(
            **{letter: hypothetical[:, i] for i, letter in enumerate(ALPHABET)}
        )

    def arrays(self, *, channels_first: bool = True) -> tuple[Floats, Floats]:
        """Return one-hot letters and contributions, as motif tools read them.

        Parameters
        ----------
        channels_first : bool, default=True
            (n, 4, length), as TF-MoDISco and tangermeme read; else (n, length, 4).

        Returns
        -------
        one_hot, hypothetical : ndarray of float32
            TF-MoDISco takes both; tangermeme's ``X_attr`` is their product.
        """
        letters, scores = one_hot(self.codes), self.hypothetical
        if not channels_first:
            return letters, np.ascontiguousarray(scores)
        first = [np.ascontiguousarray(a.swapaxes(1, 2)) for a in (letters, scores)]
        return first[0], first[1]

    def write_bedgraph(
        self,
        path: str | PathLike[str],
        rows: Sequence[int] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write the scores as bedGraph, base by base; zeros are left out.

        Parameters
        ----------
        path : path
            Compressed when it ends in ``.gz``.
        rows : sequence of int, optional
            Which regions; all by default.
        overwrite : bool, default=False

        Returns
        -------
        Path

        Raises
        ------
        InputError
            When windows overlap (write their rows to files of their own), or the file
            is there already.
        StoreError
            When it cannot be written.
        """
        stretches = self._stretches(rows)
        target = check_output(path, overwrite=overwrite)
        is_packed = target.suffix == ".gz"
        with (
            atomic_write(target) as partial,
            gzip.open(partial, "wt") if is_packed else partial.open("w") as file,
        ):
            for chrom, first, scores in stretches:
                for at in np.flatnonzero(scores).tolist():
                    start = first + at
                    file.write(f"{chrom}\t{start}\t{start + 1}\t{scores[at]:.6g}\n")
        return target

    def write_bigwig(
        self,
        path: str | PathLike[str],
        rows: Sequence[int] | None = None,
        *,
        overwrite: bool = False,
    ) -> Path:
        """Write the scores as bigWig; needs pyBigWig, of the extra ``train``.

        Parameters
        ----------
        path : path
        rows : sequence of int, optional
            Which regions; all by default.
        overwrite : bool, default=False

        Returns
        -------
        Path

        Raises
        ------
        InputError, StoreError
            As :meth:`write_bedgraph` does.
        MissingDependencyError
            When pyBigWig is not installed.
        """
        stretches = self._stretches(rows)
        target = check_output(path, overwrite=overwrite)
        try:
            import pyBigWig
        except ImportError as error:
            msg = (
                "writing bigWig files needs pyBigWig, which is not installed; install "
                "it with pip install 'enformer-features[train]', or write bedGraph"
            )
            raise MissingDependencyError(msg) from error
        header = [(str(chrom), int(length)) for chrom, length in self.contigs.items()]
        with atomic_write(target) as partial:
            with pyBigWig.open(str(partial), "w") as file:
                file.addHeader(header)
                for chrom, first, scores in stretches:
                    values = scores.astype(np.float64)
                    file.addEntries(chrom, first, values=values, span=1, step=1)
        return target

    def _stretches(self, rows: Sequence[int] | None) -> list[tuple[str, int, Floats]]:
        """Return the chosen rows' scores, cut to their contigs and in their order."""
        chosen = range(len(self)) if rows is None else rows
        order = {chrom: number for number, chrom in enumerate(self.contigs)}
        stretches = []
        for row in chosen:
            chrom = self._window(row)[0]
            if not np.isfinite(self.prediction[row]):
                continue
            low, high = self.within_contig(row)
            stretches.append((chrom, low, self.region(row, low, high)))
        stretches.sort(key=lambda one: (order.get(one[0], len(order)), one[1]))
        self._refuse_overlaps(stretches)
        return stretches

    def _refuse_overlaps(self, stretches: list[tuple[str, int, Floats]]) -> None:
        for before, after in itertools.pairwise(stretches):
            if before[0] == after[0] and before[1] + len(before[2]) > after[1]:
                msg = (
                    f"windows overlap at {after[0]}:{after[1]}, and a base can have "
                    "one score only; write rows to files of their own: rows=[0]"
                )
                raise InputError(msg)


def _at(gradient: Floats, codes: Codes) -> Floats:
    """Pick the value of each letter: (n, length, 4) and (n, length).

    It is 0 at N, where the gradient is finite: a row that failed has no scores.
    """
    index = np.minimum(codes, N_CODE - 1).astype(np.int64)[:, :, None]
    found: Floats = np.take_along_axis(gradient, index, axis=2)[:, :, 0]
    is_zero = (codes == N_CODE) & np.isfinite(gradient).all(axis=2)
    return np.where(is_zero, np.float32(0), found)
