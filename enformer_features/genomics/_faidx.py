"""The index of a FASTA file: checked before it is believed, or built and published.

An index that lies about its file gives wrong bases without a sound. So a ``.fai``
(and, for BGZF, a ``.gzi``) is used only if the file bears it out: each contig
begins right behind a header line with its name, its lines are as long as stated,
and headers and contigs together account for every byte. Otherwise the file is read
once, and the new index is put in place in one step, so that no other process ever
sees half of it.

A ``.fai`` has a line per contig: name, length, offset of the first base, bases per
line and bytes per line, separated by tabs.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import logging
import os
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from enformer_features.exceptions import GenomeError, first_few
from enformer_features.folders import user_cache_folder
from enformer_features.genomics._bgzf import (
    BadIndexError,
    BgzfText,
    format_gzi,
    is_bgzf,
    read_gzi,
    scan_blocks,
)

logger = logging.getLogger(__name__)

CHUNK_BYTES = 1 << 23
PROBE_BYTES = 1 << 16
TERMINATORS = {0: b"", 1: b"\n", 2: b"\r\n"}


class Contig(NamedTuple):
    """One line of a ``.fai``: where the bases of a contig lie in the text."""

    name: str
    length: int
    offset: int
    line_bases: int
    line_bytes: int

    @property
    def n_lines(self) -> int:
        """Number of lines that hold bases."""
        return -(-self.length // self.line_bases) if self.length else 0

    @property
    def terminator_bytes(self) -> int:
        """Bytes that end a line: 1, 2 for CRLF, 0 for a lone line at the end."""
        return self.line_bytes - self.line_bases

    @property
    def end(self) -> int:
        """Offset behind the terminator of the last line."""
        return self.offset + self.length + self.n_lines * self.terminator_bytes


@dataclass(frozen=True, eq=False)
class FastaIndex:
    """Where contigs lie in the text, and blocks in the file.

    Attributes
    ----------
    contigs : tuple of Contig
        In the order of the file.
    blocks : ndarray of int64, shape (n_blocks, 2), or None
        Compressed and uncompressed start of each BGZF block; None for plain text.
    """

    contigs: tuple[Contig, ...]
    blocks: NDArray[np.int64] | None = None

    def write(self, fai: Path, gzi: Path, mtime_ns: int) -> None:
        """Write both files, neither of them older than the FASTA file."""
        if self.blocks is not None:
            write_at_once(gzi, format_gzi(self.blocks), mtime_ns)
        lines = ["\t".join(map(str, contig)) + "\n" for contig in self.contigs]
        write_at_once(fai, "".join(lines).encode(), mtime_ns)


class FileState(NamedTuple):
    """What tells that a file is still the same."""

    size: int
    mtime_ns: int


def file_state(path: Path) -> FileState:
    """Return size and time of a FASTA file.

    Raises
    ------
    GenomeError
        If there is no such file, or it is a folder, special or empty.
    """
    try:
        status = path.stat()
    except OSError as error:
        msg = f"cannot open the genome {path}: {error.strerror}"
        raise GenomeError(msg) from error
    if not path.is_file():
        kind = "a directory" if path.is_dir() else "not a regular file"
        msg = f"the genome {path} is {kind}; expected a FASTA file"
        raise GenomeError(msg)
    if not status.st_size:
        msg = f"the genome {path} is empty (0 bytes); expected a FASTA file"
        raise GenomeError(msg)
    return FileState(status.st_size, status.st_mtime_ns)


def load_index(path: Path) -> FastaIndex:
    """Return an index of a FASTA file that is known to be right.

    Looks beside the file, then in the user's cache folder, then reads the whole
    file. A new index is kept beside the file if none lies there yet and the folder
    can be written, else in the cache folder, else in memory only.

    Parameters
    ----------
    path : Path
        FASTA, plain or BGZF.

    Returns
    -------
    FastaIndex
        Contigs in the order of the file.

    Raises
    ------
    GenomeError
        If the file is missing, empty, damaged, otherwise compressed, not FASTA, or
        FASTA that cannot be indexed (uneven lines, repeated names).
    """
    state = file_state(path)
    places = _places(path, state)
    try:
        compressed = is_bgzf(path)
        for fai, gzi in places:
            index = _existing_index(path, fai, gzi if compressed else None)
            if index is not None:
                return index
        index = build_index(path, compressed)
    except OSError as error:
        msg = f"cannot read the genome {path}: {error}"
        raise GenomeError(msg) from error
    if file_state(path) != state:
        msg = f"the genome {path} changed while it was read; is it still being written?"
        raise GenomeError(msg)
    _publish(index, places, state)
    return index


def build_index(path: Path, compressed: bool) -> FastaIndex:
    """Read a whole FASTA file and return its index.

    Raises
    ------
    GenomeError
        If the file is damaged, not FASTA, or FASTA that cannot be indexed.
    OSError
        If reading fails.
    """
    logger.info("reading %s to index it", path)
    blocks = scan_blocks(path)[0] if compressed else None
    scanner = _Scanner(path)
    with gzip.open(path) if compressed else path.open("rb") as file:
        try:
            for lines in _whole_lines(_chunks(file)):
                scanner.feed(lines)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            msg = f"the genome {path} is damaged: {error}; copy or download it again"
            raise GenomeError(msg) from error
    return FastaIndex(scanner.finish(), blocks)


def write_at_once(path: Path, content: bytes, mtime_ns: int) -> None:
    """Write a file under another name, then put it in place in one step.

    Parameters
    ----------
    path : Path
        Where the file shall be; an existing one is replaced.
    content : bytes
        All of it.
    mtime_ns : int
        The file's time is set to this if it lies in the future.
    """
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        temporary.write_bytes(content)
        moment = max(time.time_ns(), mtime_ns)
        os.utime(temporary, ns=(moment, moment))
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


# Where indices are kept


def _places(path: Path, state: FileState) -> list[tuple[Path, Path]]:
    """Return the (.fai, .gzi) beside the file, and those in the cache folder."""
    places = [path]
    with contextlib.suppress(RuntimeError):
        key = hashlib.sha256("\0".join(map(str, (path, *state))).encode()).hexdigest()
        places.append(user_cache_folder() / "faidx" / key[:32])
    return [
        (place.with_name(f"{place.name}.fai"), place.with_name(f"{place.name}.gzi"))
        for place in places
    ]


def _publish(
    index: FastaIndex, places: list[tuple[Path, Path]], state: FileState
) -> None:
    """Keep a new index in the first place that takes it.

    What lies beside the file is the user's: it is never replaced.
    """
    beside = places[0]
    for fai, gzi in places:
        if (fai, gzi) == beside and (fai.exists() or gzi.exists()):
            continue
        with contextlib.suppress(OSError):
            if (fai, gzi) != beside:
                fai.parent.mkdir(parents=True, exist_ok=True)
            index.write(fai, gzi, state.mtime_ns)
            return
    logger.info("no place to keep %s: the file is read again next time", beside[0])


# Checking an index that exists


class _Text(Protocol):
    size: int

    def read(self, offset: int, size: int) -> bytes: ...


class PlainText:
    """The bytes of a plain file, at any offset."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("rb")
        self.size = path.stat().st_size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        self._file.seek(offset)
        return self._file.read(size)

    def close(self) -> None:
        """Give the handle back."""
        self._file.close()


def _existing_index(path: Path, fai: Path, gzi: Path | None) -> FastaIndex | None:
    """Return the index at one place, or None if there is none to be believed."""
    try:
        return _checked_index(path, fai, gzi)
    except FileNotFoundError:
        return None
    except (BadIndexError, OSError, ValueError, RuntimeError, zlib.error) as error:
        logger.warning("%s is not used for %s: %s", fai, path, error)
        return None


def _checked_index(path: Path, fai: Path, gzi: Path | None) -> FastaIndex:
    contigs = _parse_fai(fai.read_bytes())
    _check_age(path, fai)
    if gzi is None:
        with contextlib.closing(PlainText(path)) as plain:
            _check_contigs(plain, contigs)
        return FastaIndex(contigs)
    _check_age(path, gzi)
    blocks, size = read_gzi(gzi, path)
    with contextlib.closing(BgzfText(path, blocks, size)) as text:
        _check_contigs(text, contigs)
    return FastaIndex(contigs, blocks)


def _check_age(path: Path, index: Path) -> None:
    if index.stat().st_mtime_ns < path.stat().st_mtime_ns:
        msg = f"{index.name} is older than the file"
        raise BadIndexError(msg)


def _parse_fai(content: bytes) -> tuple[Contig, ...]:
    contigs = []
    for number, line in enumerate(content.decode().splitlines(), 1):
        name, *fields = line.split("\t")
        if len(fields) != 4 or not all(map(str.isdecimal, fields)):
            msg = f"line {number} is not that of a .fai: {line!r}"
            raise BadIndexError(msg)
        contigs.append(Contig(name, *map(int, fields)))
    if len({contig.name for contig in contigs}) != len(contigs) or not contigs:
        msg = "it names no contig, or one of them twice"
        raise BadIndexError(msg)
    return tuple(contigs)


def _check_contigs(text: _Text, contigs: tuple[Contig, ...]) -> None:
    """Check that headers and contigs follow each other and fill the text."""
    end = 0
    for contig in contigs:
        _check_header(text, end, contig)
        _check_lines(text, contig)
        end = contig.end
    # the last terminator may be missing
    rest = text.size - end
    if not -contigs[-1].terminator_bytes <= rest <= PROBE_BYTES:
        msg = f"contig {contigs[-1].name} does not end where the file ends"
        raise BadIndexError(msg)
    if rest > 0 and text.read(end, rest).strip(b"\r\n"):
        msg = f"there is more in the file behind contig {contigs[-1].name}"
        raise BadIndexError(msg)


def _check_header(text: _Text, end: int, contig: Contig) -> None:
    """Check that just one header line lies between two contigs."""
    if not 0 < contig.offset - end <= PROBE_BYTES or contig.offset > text.size:
        msg = f"contig {contig.name} does not follow the one before it"
        raise BadIndexError(msg)
    header = text.read(end, contig.offset - end).lstrip(b"\r\n")
    name = header[1:].split(maxsplit=1)[:1]
    one_line = header.count(b"\n") == 1 and header.endswith(b"\n")
    if header[:1] != b">" or not one_line or name != [contig.name.encode()]:
        msg = f"contig {contig.name} is not where the index says"
        raise BadIndexError(msg)


def _check_lines(text: _Text, contig: Contig) -> None:
    """Check the first, a middle and the last line of a contig."""
    terminator = TERMINATORS.get(contig.terminator_bytes)
    if contig.length and (not contig.line_bases or terminator is None):
        msg = f"contig {contig.name} has impossible line lengths"
        raise BadIndexError(msg)
    lines = {0, contig.n_lines // 2, contig.n_lines - 1} if contig.length else ()
    for line in lines:
        start = contig.offset + line * contig.line_bytes
        bases = min(contig.line_bases, contig.length - line * contig.line_bases)
        letters = text.read(start, min(bases, PROBE_BYTES))
        ending = text.read(start + bases, contig.terminator_bytes)
        at_end = start + bases == text.size
        whole = len(letters) == min(bases, PROBE_BYTES)
        if (
            not whole
            or _has_any(letters, b"\r\n>")
            or ending != (b"" if at_end else terminator)
        ):
            msg = f"line {line + 1} of contig {contig.name} is not as long as stated"
            raise BadIndexError(msg)


def _has_any(letters: bytes, unwanted: bytes) -> bool:
    return any(byte in letters for byte in unwanted)


# Building an index


def _chunks(file: BinaryIO | gzip.GzipFile) -> Iterator[bytes]:
    while chunk := file.read(CHUNK_BYTES):
        yield chunk


def _whole_lines(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Cut a stream behind line ends; only the last piece may lack its own."""
    pending: list[bytes] = []
    for chunk in chunks:
        cut = chunk.rfind(b"\n") + 1
        if cut:
            yield b"".join([*pending, chunk[:cut]])
            pending = []
        pending.append(chunk[cut:])
    if rest := b"".join(pending):
        yield rest


@dataclass
class _Growing:
    """A contig whose lines are still being read."""

    name: str
    offset: int
    length: int = 0
    line_bases: int = 0
    line_bytes: int = 0
    ended: bool = False  # a short or blank line has been seen: only blank may follow

    def add(self, bases: NDArray[np.int64], sizes: NDArray[np.int64]) -> int | None:
        """Take lines in; return the place of the first that does not fit."""
        if not bases.size:
            return None
        if not self.ended and not self.line_bases:
            self.line_bases, self.line_bytes = int(bases[0]), int(sizes[0])
        n_full = 0
        if not self.ended and self.line_bases:
            full = (bases == self.line_bases) & (sizes == self.line_bytes)
            n_full = len(full) if full.all() else int(full.argmin())
        self.length += int(bases.sum())
        if n_full == len(bases):
            return None
        if not self.ended and self._may_be_last(int(bases[n_full]), int(sizes[n_full])):
            n_full += 1
        self.ended = True
        surplus = np.flatnonzero(bases[n_full:])
        return n_full + int(surplus[0]) if surplus.size else None

    def _may_be_last(self, bases: int, size: int) -> bool:
        terminators = (self.line_bytes - self.line_bases, 0)  # 0: the end of the file
        return bases <= self.line_bases and (not bases or size - bases in terminators)


class _Scanner:
    """Finds contigs in runs of whole lines."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._contigs: list[_Growing] = []
        self._offset = 0
        self._n_lines = 0

    def feed(self, text: bytes) -> None:
        """Take in the next whole lines of the file."""
        data = np.frombuffer(text, np.uint8)
        ends = np.flatnonzero(data == ord("\n")) + 1
        if not ends.size or ends[-1] != len(text):
            ends = np.append(ends, len(text))
        starts = np.concatenate(([0], ends[:-1]))
        sizes = ends - starts
        newline = data[ends - 1] == ord("\n")
        carriage = newline & (sizes > 1) & (data[ends - 2] == ord("\r"))
        bases = sizes - newline - carriage
        first = 0
        for header in np.flatnonzero(data[starts] == ord(">")).tolist():
            self._add(bases[first:header], sizes[first:header], first)
            self._begin(text[starts[header] : ends[header]], header, int(ends[header]))
            first = header + 1
        self._add(bases[first:], sizes[first:], first)
        self._offset += len(text)
        self._n_lines += len(sizes)

    def finish(self) -> tuple[Contig, ...]:
        """Return what was found."""
        contigs = [
            Contig(
                seen.name, seen.length, seen.offset, seen.line_bases, seen.line_bytes
            )
            for seen in self._contigs
        ]
        if not any(contig.length for contig in contigs):
            msg = f"the genome {self._path} holds no bases; expected a FASTA file"
            raise GenomeError(msg)
        counts = Counter(contig.name for contig in contigs)
        repeated = [name for name, count in counts.items() if count > 1]
        if repeated:
            msg = (
                f"the genome {self._path} has several contigs of one name: "
                f"{first_few(repeated)}; rename or remove them"
            )
            raise GenomeError(msg)
        return tuple(contigs)

    def _begin(self, header: bytes, line: int, end: int) -> None:
        words = header[1:].split(maxsplit=1)
        try:
            name = words[0].decode()
        except (IndexError, UnicodeDecodeError) as error:
            msg = (
                f"{self._path}:{self._n_lines + line + 1}: the header {header!r} has "
                "no name that can be read; expected '>name' in UTF-8"
            )
            raise GenomeError(msg) from error
        self._contigs.append(_Growing(name, self._offset + end))

    def _add(
        self, bases: NDArray[np.int64], sizes: NDArray[np.int64], first: int
    ) -> None:
        """Give lines to the contig that is being read; `first` is their number."""
        if not self._contigs:
            if bases.any():
                msg = (
                    f"the genome {self._path} is not FASTA: it does not begin with "
                    "'>name'"
                )
                raise GenomeError(msg)
            return
        contig = self._contigs[-1]
        misfit = contig.add(bases, sizes)
        if misfit is not None:
            msg = (
                f"{self._path}:{self._n_lines + first + misfit + 1}: uneven lines: "
                f"this one has {bases[misfit]} bases, the first of contig "
                f"{contig.name} has {contig.line_bases}; all lines of a contig but the "
                "last must be alike (rewrap it, for example with: seqkit seq -w 60)"
            )
            raise GenomeError(msg)
