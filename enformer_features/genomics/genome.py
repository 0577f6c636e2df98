"""Reference sequence from FASTA: any interval of any contig, as codes.

The only caller of pyfaidx, which does the reading. What it leaves open is settled
here: positions outside a contig are N, forked and pickled genomes open their own
handle, and the index is one that has been checked against the file.
"""

from __future__ import annotations

import functools
import hashlib
import os
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Collection
from os import PathLike
from pathlib import Path
from types import TracebackType

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from pyfaidx import BgzfBlock, Faidx

from enformer_features.exceptions import (
    GenomeError,
    InputError,
    InputTypeError,
    first_few,
)
from enformer_features.folders import file_identity
from enformer_features.genomics._faidx import FastaIndex, file_state, load_index
from enformer_features.genomics.encoding import N_CODE, check_ambiguous, encode

CONTIG_STYLES = ("ucsc", "ensembl")

# What pyfaidx, Biopython and zlib raise for a file that is damaged or gone
_READ_FAULTS = (
    OSError,
    ValueError,
    RuntimeError,
    IndexError,
    EOFError,
    struct.error,
    zlib.error,
)

# chr1, chr2L, chrX, chrIV, chrM: the names that differ by "chr" and by M or MT alone
_CHROMOSOME = re.compile(r"(?:chr)?(?P<stem>\d+[LR]?|[IVX]+|[WXYZ]|MT?)")


class Genome:
    r"""A FASTA file, plain or BGZF, that is read by interval.

    Safe to share between threads, to carry over a fork and to pickle: each process
    reads through a handle of its own.

    Parameters
    ----------
    path : str or PathLike
        FASTA (``.fa``, or BGZF as ``.fa.gz`` or ``.fa.bgz``); ``~`` is expanded. An
        index beside it is used if it proves right, else one is made, which takes
        some seconds for a human genome, once.
    ambiguous : {"error", "N"}, default="error"
        Letters other than A, C, G, T and N are an error where they are read, or
        are read as N. Lower case means the same as upper case.

    Attributes
    ----------
    path : Path
        Absolute path of the file.
    contigs : dict of str to int
        Length of each contig in bases, in the order of the file.
    digest : str
        ``"sha256:..."`` of the contig names and lengths, whatever their order. It
        tells assemblies apart, not the letters in them.

    Raises
    ------
    InputTypeError
        If `path` is no path.
    GenomeError
        If the file is missing, empty, damaged, plain gzip, or not proper FASTA.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "toy.fa")
    >>> _ = path.write_text(">chr1\nACGTACGT\nAC\n")
    >>> with Genome(path) as genome:
    ...     genome.contigs, genome.fetch("chr1", 8, 12)
    ({'chr1': 10}, array([0, 1, 4, 4], dtype=uint8))
    >>> folder.cleanup()
    """

    path: Path
    ambiguous: str
    contigs: dict[str, int]
    digest: str

    def __init__(self, path: str | PathLike[str], *, ambiguous: str = "error") -> None:
        check_ambiguous(ambiguous)
        self.path = _absolute(path)
        self.ambiguous = ambiguous
        self._state = file_state(self.path)
        self._index = load_index(self.path)
        self.contigs = {contig.name: contig.length for contig in self._index.contigs}
        self.digest = _digest(self.contigs)
        self._reader = _Reader(self.path, self._index)

    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.uint8]:
        """Return the bases of an interval; what lies outside the contig is N.

        Parameters
        ----------
        chrom : str
            Name of a contig, as in the file.
        start, end : int
            Interval in bases, 0-based and half-open. It may begin below 0 and end
            beyond the contig.

        Returns
        -------
        ndarray of uint8, shape (end - start,)
            A, C, G, T, N as 0, 1, 2, 3, 4, on the forward strand.

        Raises
        ------
        GenomeError
            If there is no such contig, or the file changed or cannot be read.
        InputTypeError
            If `chrom` is not text, or a position not a whole number.
        InputError
            If `start` is beyond `end`, or the interval holds another letter and
            `ambiguous` is ``"error"``.
        """
        length = self._length(chrom)
        for name, position in (("start", start), ("end", end)):
            is_whole = isinstance(position, (int, np.integer))
            if not is_whole or isinstance(position, bool):
                msg = f"{name}={position!r} is no whole number of bases"
                raise InputTypeError(msg)
        if start > end:
            msg = f"interval {chrom}:{start}-{end} ends before it starts"
            raise InputError(msg)
        codes = np.full(end - start, N_CODE, np.uint8)
        first, last = max(start, 0), min(end, length)
        if first < last:
            codes[first - start : last - start] = self._read(chrom, first, last)
        return codes

    def close(self) -> None:
        """Give the file handle back; the next `fetch` opens another."""
        self._own_reader().close()

    def _length(self, chrom: object) -> int:
        if not isinstance(chrom, str):
            msg = f"chrom={chrom!r} is {type(chrom).__name__}, expected text"
            raise InputTypeError(msg)
        try:
            return self.contigs[chrom]
        except KeyError:
            msg = (
                f"no contig {chrom!r} in {self.path}; it has "
                f"{first_few(list(self.contigs))}"
            )
            style = fitting_style([chrom], self.contigs)
            if style:
                msg += f'; pass contig_style="{style}" to rename'
            raise GenomeError(msg) from None

    def _read(self, chrom: str, start: int, end: int) -> NDArray[np.uint8]:
        if file_state(self.path) != self._state:
            msg = f"the genome {self.path} changed since it was opened; open it again"
            raise GenomeError(msg)
        place = f"{chrom}:{start}-{end} of {self.path}"
        try:
            letters = self._own_reader().read(chrom, start, end)
        except _READ_FAULTS as error:
            msg = (
                f"cannot read {place}: {error}; delete its .gzi if there is one, or, "
                "if the file itself is damaged, copy or download it again"
            )
            raise GenomeError(msg) from error
        if len(letters) != end - start or ">" in letters:
            msg = (
                f"{place} is not plain letters in even lines; rewrap the file, for "
                "example with: seqkit seq -w 60"
            )
            raise GenomeError(msg)
        return encode(
            letters, ambiguous=self.ambiguous, label=place, first_position=start
        )

    def _own_reader(self) -> _Reader:
        reader = self._reader
        if reader.process != os.getpid():
            # The handle shares its position with the parent's, and its locks may be
            # held by threads that stayed there: it is left alone, never closed.
            _INHERITED.append(reader)
            reader = self._reader = _Reader(self.path, self._index)
        return reader

    def __enter__(self) -> Genome:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def __getstate__(self) -> dict[str, str]:
        return {"path": str(self.path), "ambiguous": self.ambiguous}

    def __setstate__(self, state: dict[str, str]) -> None:
        Genome.__init__(self, state["path"], ambiguous=state["ambiguous"])

    def __repr__(self) -> str:
        return f"Genome({str(self.path)!r}, ambiguous={self.ambiguous!r})"


class _Reader:
    """One process's handle on a genome, opened when it is first read."""

    def __init__(self, path: Path, index: FastaIndex) -> None:
        self.process = os.getpid()
        self._path = path
        self._index = index
        self._numbers = {
            contig.name: str(number) for number, contig in enumerate(index.contigs)
        }
        self._lock = threading.Lock()
        self._faidx: Faidx | None = None

    def read(self, chrom: str, start: int, end: int) -> str:
        """Return the letters of an interval that lies within the contig."""
        with self._lock:
            self._faidx = self._faidx or _open_faidx(self._path, self._index)
            try:
                return str(self._faidx.fetch(self._numbers[chrom], start + 1, end))
            except BaseException:
                # After a failure or a Ctrl-C amidst a block, Biopython takes the
                # block before for it: such a handle must not be read again.
                self._faidx.close()
                self._faidx = None
                raise

    def close(self) -> None:
        with self._lock:
            if self._faidx is not None:
                self._faidx.close()
                self._faidx = None


_INHERITED: list[_Reader] = []


class _Block(BgzfBlock):  # type: ignore[misc]
    """A block that also comes before the position of its own first byte.

    pyfaidx takes the last block before a position. For a position where a block
    begins that is the end of the preceding block, which cannot be expressed if that
    block holds 64 kB, as those that Biopython writes do.
    """

    __slots__ = ()

    def __lt__(self, position: int) -> bool:
        return bool(self.ustart <= position)


def _open_faidx(path: Path, index: FastaIndex) -> Faidx:
    """Open pyfaidx on an index of its own, which no other process can touch.

    It calls contigs by their number, since pyfaidx reads names by the locale.
    """
    numbered = FastaIndex(
        tuple(
            contig._replace(name=str(number))
            for number, contig in enumerate(index.contigs)
        ),
        index.blocks,
    )
    with tempfile.TemporaryDirectory(prefix="enformer_features_") as folder:
        fai, gzi = Path(folder, "fai"), Path(folder, "gzi")
        numbered.write(fai, gzi, file_state(path).mtime_ns)
        faidx = Faidx(
            path, indexname=fai, gzi_indexname=gzi, as_raw=True, rebuild=False
        )
    if index.blocks is not None:
        faidx.gzi_index = [_Block(*block) for block in faidx.gzi_index]
    return faidx


def open_genome(
    path: str | PathLike[str] | Genome, *, ambiguous: str = "error"
) -> Genome:
    r"""Return a genome, opening each unchanged file once in a process.

    Parameters
    ----------
    path : str, PathLike or Genome
        FASTA file, plain or BGZF; a `Genome` is returned as it is.
    ambiguous : {"error", "N"}, default="error"
        As for `Genome`; of no effect on one that is open already.

    Returns
    -------
    Genome
        Shared with all callers in this process.

    Raises
    ------
    InputTypeError
        If `path` is no path.
    GenomeError
        If the file cannot be used; see `Genome`.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> path = pathlib.Path(folder.name, "toy.fa")
    >>> _ = path.write_text(">chr1\nACGT\n")
    >>> open_genome(path) is open_genome(str(path))
    True
    >>> folder.cleanup()
    """
    if isinstance(path, Genome):
        return path
    absolute = _absolute(path)
    file_state(absolute)  # raises if it is no file
    return _opened(absolute, file_identity(absolute), ambiguous)


@functools.lru_cache(maxsize=8)
def _opened(path: Path, identity: tuple[int, ...], ambiguous: str) -> Genome:
    return Genome(path, ambiguous=ambiguous)


def _absolute(path: object) -> Path:
    if not isinstance(path, str | PathLike):
        msg = f"genome={path!r} is no path; expected the path of a FASTA file"
        raise InputTypeError(msg)
    # Links are not followed: an index lies beside the name that the user gave.
    return Path(path).expanduser().absolute()


def _digest(contigs: dict[str, int]) -> str:
    table = "".join(f"{name}\t{length}\n" for name, length in sorted(contigs.items()))
    return f"sha256:{hashlib.sha256(table.encode()).hexdigest()}"


def rename_contigs(
    chroms: pd.Series[str] | NDArray[np.object_], contig_style: str | None
) -> NDArray[np.object_]:
    """Rename chromosomes from one convention to the other.

    Parameters
    ----------
    chroms : Series or ndarray of str, shape (n,)
        Chromosome names.
    contig_style : {"ucsc", "ensembl"} or None
        ``"ucsc"`` turns ``1`` into ``chr1`` and ``MT`` into ``chrM``, ``"ensembl"``
        does the reverse; None leaves the names alone.

    Returns
    -------
    ndarray of object, shape (n,)
        Names in the same order. Those of no chromosome (scaffolds, alternative
        loci), which differ by more than a prefix, stay as they are.

    Raises
    ------
    InputError
        If the style is unknown.

    Examples
    --------
    >>> rename_contigs(np.array(["1", "chrX", "MT"], dtype=object), "ucsc")
    array(['chr1', 'chrX', 'chrM'], dtype=object)
    """
    names = np.asarray(chroms, dtype=object)
    if contig_style is None:
        return names.copy()
    if contig_style not in CONTIG_STYLES:
        msg = (
            f'contig_style={contig_style!r} is unknown; choose "ucsc", "ensembl", None'
        )
        raise InputError(msg)
    rows, uniques = pd.factorize(names, use_na_sentinel=False)
    renamed = np.array([_renamed(name, contig_style) for name in uniques], dtype=object)
    return renamed[rows]


def _renamed(name: object, style: str) -> object:
    match = _CHROMOSOME.fullmatch(name) if isinstance(name, str) else None
    if match is None:
        return name
    stem = match["stem"]
    if stem in {"M", "MT"}:
        return "chrM" if style == "ucsc" else "MT"
    return f"chr{stem}" if style == "ucsc" else stem


def fitting_style(chroms: Collection[str], contigs: Collection[str]) -> str | None:
    """Return the contig style under which all of some names are contigs.

    Parameters
    ----------
    chroms : collection of str
        Chromosome names that a file does not have.
    contigs : collection of str
        Contigs of the file.

    Returns
    -------
    str or None
        A value for ``contig_style``, or None if no renaming helps.

    Examples
    --------
    >>> fitting_style(["1", "MT"], ["chr1", "chr2", "chrM"])
    'ucsc'
    """
    names = np.array(list(chroms), dtype=object)
    for style in CONTIG_STYLES:
        if set(rename_contigs(names, style)) <= set(contigs):
            return style
    return None
