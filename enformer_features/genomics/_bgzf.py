"""BGZF files: where their blocks are, checked, and their text at any offset.

BGZF is gzip in blocks of at most 64 kB that can be unpacked one by one. A ``.gzi``
holds the number of blocks but one, then the compressed and the uncompressed start
of each block but the first, as little-endian 64-bit integers.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import shlex
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from Bio import bgzf
from numpy.typing import NDArray

from enformer_features.exceptions import GenomeError

MAX_BLOCK = 1 << 16
MIN_BLOCK = 28  # the empty block that ends a file
SAMPLED_BLOCKS = 4096  # all of 256 MB of text


class BadIndexError(Exception):
    """An index that does not describe its file; users never see it."""


class BgzfText:
    """The uncompressed bytes of a BGZF file, at any offset."""

    def __init__(self, path: Path, blocks: NDArray[np.int64], size: int) -> None:
        self._reader: Any
        with contextlib.ExitStack() as on_failure:
            file = on_failure.enter_context(path.open("rb"))
            self._reader = bgzf.BgzfReader(fileobj=file, mode="rb")  # type: ignore[no-untyped-call]
            on_failure.pop_all()
        self._blocks = blocks
        self.size = size

    def read(self, offset: int, size: int) -> bytes:
        """Return up to `size` bytes from `offset`."""
        if offset >= self.size:
            return b""
        block = np.searchsorted(self._blocks[:, 1], offset, side="right") - 1
        start, text_start = self._blocks[block].tolist()
        self._reader.seek(start << 16 | offset - text_start)
        return bytes(self._reader.read(size))

    def close(self) -> None:
        """Give the handle back."""
        self._reader.close()


def is_bgzf(path: Path) -> bool:
    """Tell BGZF from plain text, and refuse what is neither.

    Raises
    ------
    GenomeError
        For gzip without blocks, and for a name that contradicts the content.
    """
    with path.open("rb", buffering=0) as file:
        gzipped = file.read(2) == b"\x1f\x8b"
        blocked = _block_bytes(file, 0) is not None
    if gzipped and not blocked:
        recoded = path.with_name(path.name.removesuffix(".gz") + ".bgz")
        msg = (
            f"the genome {path} is plain gzip, which cannot be read from the middle; "
            f"recode it: gunzip -c {shlex.quote(str(path))} | bgzip > "
            f"{shlex.quote(str(recoded))}"
        )
        raise GenomeError(msg)
    if blocked != (path.suffix.lower() in {".gz", ".bgz"}):
        content = "compressed (BGZF)" if blocked else "not compressed"
        msg = (
            f"the genome {path} is {content}, but its name says otherwise; rename it "
            "(.gz or .bgz for BGZF, .fa for plain text)"
        )
        raise GenomeError(msg)
    return blocked


def scan_blocks(path: Path) -> tuple[NDArray[np.int64], int]:
    """Hop through a whole file from block to block, unpacking none.

    Returns
    -------
    blocks : ndarray of int64, shape (n_blocks, 2)
        Compressed and uncompressed start of each block, without the empty last.
    size : int
        Uncompressed bytes.

    Raises
    ------
    GenomeError
        If the chain of blocks is broken, has no end, or holds nothing.
    """
    advice = "the file is damaged or cut short; copy or download it again"
    with path.open("rb", buffering=0) as file:
        try:
            walked = np.array(list(_walk(file)), np.int64)
        except BadIndexError as error:
            msg = f"the genome {path} cannot be read: {error}; {advice}"
            raise GenomeError(msg) from error
    if walked[-1, 2]:
        msg = f"the genome {path} lacks the BGZF end marker; {advice}"
        raise GenomeError(msg)
    filled = np.flatnonzero(walked[:, 2])
    if not filled.size:
        msg = f"the genome {path} is empty; expected a FASTA file"
        raise GenomeError(msg)
    return walked[: filled[-1] + 1, :2], int(walked[:, 2].sum())


def read_gzi(gzi: Path, path: Path) -> tuple[NDArray[np.int64], int]:
    """Return what `scan_blocks` would, from a ``.gzi`` that the file bears out.

    Raises
    ------
    BadIndexError
        If the ``.gzi`` is damaged or describes another file.
    """
    content = gzi.read_bytes()
    count = int.from_bytes(content[:8], "little")
    if len(content) != 8 + 16 * count:
        msg = f"{gzi} is truncated"
        raise BadIndexError(msg)
    entries = np.frombuffer(content, "<i8", offset=8).reshape(-1, 2)
    blocks = np.vstack([np.zeros((1, 2), np.int64), entries])
    steps = np.diff(blocks, axis=0)
    if not ((steps >= [MIN_BLOCK, 0]) & (steps <= MAX_BLOCK)).all():
        msg = f"{gzi} is not in order"
        raise BadIndexError(msg)
    with path.open("rb", buffering=0) as file:
        for first in _doubtful(steps[:, 1]):
            walked = itertools.islice(_walk(file, *blocks[first].tolist()), 2)
            if [[*step[:2]] for step in walked] != blocks[first : first + 2].tolist():
                msg = f"{gzi} is wrong about block {first}"
                raise BadIndexError(msg)
        tail = list(itertools.islice(_walk(file, *blocks[-1].tolist()), 3))
    if len(tail) != 2 or tail[1][2]:
        msg = f"{gzi} does not end where the file ends"
        raise BadIndexError(msg)
    return blocks, tail[1][1]


def format_gzi(blocks: NDArray[np.int64]) -> bytes:
    """Return the content of the ``.gzi`` for a table of blocks."""
    return struct.pack("<Q", len(blocks) - 1) + blocks[1:].astype("<i8").tobytes()


def _doubtful(text_sizes: NDArray[np.int64]) -> list[int]:
    """Choose the blocks to look up: those of unusual size, and an even sample.

    A writer fills all blocks alike, so a wrong text start makes its neighbours
    unusual. A wrong compressed start that the sample misses points at no block, so
    that reading there fails.
    """
    if not text_sizes.size:
        return []
    sizes, counts = np.unique(text_sizes, return_counts=True)
    unusual = np.flatnonzero(text_sizes != sizes[counts.argmax()])
    sample = np.linspace(0, text_sizes.size - 1, SAMPLED_BLOCKS).astype(np.int64)
    return [int(block) for block in np.union1d(unusual, sample)]


def _walk(
    file: BinaryIO, start: int = 0, text_start: int = 0
) -> Iterator[tuple[int, int, int]]:
    """Hop from block to block: compressed start, text start, text size."""
    file_bytes = os.fstat(file.fileno()).st_size
    while start < file_bytes:
        block_bytes = _block_bytes(file, start)
        if block_bytes is None or start + block_bytes > file_bytes:
            msg = f"there is no whole BGZF block at byte {start}"
            raise BadIndexError(msg)
        file.seek(start + block_bytes - 4)
        text_size = int.from_bytes(file.read(4), "little")
        yield start, text_start, text_size
        start, text_start = start + block_bytes, text_start + text_size


def _block_bytes(file: BinaryIO, start: int) -> int | None:
    """Return the compressed size of the block at `start`; None if there is none."""
    file.seek(start)
    head = file.read(12)
    if len(head) < 12 or head[:3] != b"\x1f\x8b\x08" or not head[3] & 4:
        return None
    extra = file.read(int.from_bytes(head[10:], "little"))
    while len(extra) >= 6:
        size = int.from_bytes(extra[2:4], "little")
        if extra[:2] == b"BC" and size == 2:
            block_bytes = int.from_bytes(extra[4:6], "little") + 1
            return block_bytes if block_bytes >= MIN_BLOCK else None
        extra = extra[4 + size :]
    return None
