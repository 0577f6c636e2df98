"""Segment files: rows with their keys, written once and never changed.

Layout of ``<name>.seg``, all numbers little-endian: eight bytes that say what it is;
uint32 length and uint32 crc32c of the description; the description, JSON; one key of
32 bytes per row; one uint32 crc32c of the values per row; uint32 crc32c of these keys
and checksums; the values, float32, row by row. A file names its rows itself, so that
there is no index to lose.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import google_crc32c
import numpy as np
import numpy.typing as npt

from enformer_features.storage.files import atomic_write

Floats = npt.NDArray[np.float32]

SUFFIX = ".seg"
SCHEMA = 1
KEY_BYTES = 32
_MAGIC = b"EFrows\x00\x01"
_PREFIX = struct.Struct("<8sII")
_MAX_DESCRIPTION = 1 << 20
_CHECKSUM = np.dtype("<u4")
_VALUES = np.dtype("<f4")


class DamagedSegment(Exception):
    """A file that is no segment, or no longer one; the message says why."""


@dataclass(frozen=True)
class Segment:
    """The head of a segment file.

    Parameters
    ----------
    path : Path
    keys : tuple of bytes
        Of each row, 32 bytes.
    checksums : ndarray of uint32, shape (n_rows,)
    width : int
        Numbers per row.
    begin : int
        Where the values begin in the file.
    about : dict
        What the writer said of all rows, such as the kind of device.
    """

    path: Path
    keys: tuple[bytes, ...]
    checksums: npt.NDArray[np.uint32]
    width: int
    begin: int
    about: dict[str, Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return self.width * _VALUES.itemsize

    @property
    def n_bytes(self) -> int:
        """Bytes of the file."""
        return self.begin + len(self.keys) * self.row_bytes

    def decode(self, row: int, raw: bytes) -> Floats | None:
        """Turn the bytes of a row into its values; None if they are not those."""
        if len(raw) != self.row_bytes:
            return None
        if google_crc32c.value(raw) != self.checksums[row]:
            return None
        return np.frombuffer(raw, _VALUES).astype(np.float32, copy=False)


def write_segment(
    path: Path, keys: list[bytes], rows: list[Floats], about: dict[str, Any]
) -> Segment:
    """Write rows of one width, flushed to the disk before the file has its name.

    Parameters
    ----------
    path : Path
        A new name.
    keys : list of bytes
        32 bytes each.
    rows : list of ndarray of float32
        All of one length.
    about : dict
        Plain values.

    Returns
    -------
    Segment

    Raises
    ------
    StoreError
        When it cannot be written.
    """
    values = [np.ascontiguousarray(row, _VALUES) for row in rows]
    sums = np.array([google_crc32c.value(row.tobytes()) for row in values], _CHECKSUM)
    description = {"schema": SCHEMA, "rows": len(rows), "width": len(rows[0]), **about}
    text = json.dumps(description, sort_keys=True).encode()
    table = b"".join(keys) + sums.tobytes()
    head = _PREFIX.pack(_MAGIC, len(text), google_crc32c.value(text)) + text
    head += table + struct.pack("<I", google_crc32c.value(table))
    n_bytes = len(head) + sum(row.nbytes for row in values)
    with atomic_write(path, bytes_needed=n_bytes) as temporary:
        with temporary.open("wb") as file:
            file.write(head)
            for row in values:
                file.write(row.data)
    return Segment(path, tuple(keys), sums, len(rows[0]), len(head), about)


def read_segment(path: Path) -> Segment:
    """Read the head of a segment and check it; values are checked when they are read.

    Raises
    ------
    DamagedSegment
        When the file is too short or too long, or a checksum is wrong.
    OSError
        When it cannot be read.
    """
    with path.open("rb") as file:
        magic, n_text, text_sum = _PREFIX.unpack(_exactly(file, _PREFIX.size))
        if magic != _MAGIC or n_text > _MAX_DESCRIPTION:
            msg = "it does not begin as a segment does"
            raise DamagedSegment(msg)
        text = _exactly(file, n_text)
        if google_crc32c.value(text) != text_sum:
            msg = "its description is damaged"
            raise DamagedSegment(msg)
        about = _description(text)
        n_rows, width = about.pop("rows"), about.pop("width")
        begin = _PREFIX.size + n_text + n_rows * (KEY_BYTES + 4) + 4
        size = os.fstat(file.fileno()).st_size
        if size != begin + n_rows * width * _VALUES.itemsize:
            msg = f"it has {size} bytes, which is not what its description says"
            raise DamagedSegment(msg)
        table = _exactly(file, n_rows * (KEY_BYTES + 4))
        (table_sum,) = struct.unpack("<I", _exactly(file, 4))
    if google_crc32c.value(table) != table_sum:
        msg = "its list of rows is damaged"
        raise DamagedSegment(msg)
    ends = range(KEY_BYTES, n_rows * KEY_BYTES + 1, KEY_BYTES)
    keys = tuple(table[end - KEY_BYTES : end] for end in ends)
    sums = np.frombuffer(table, _CHECKSUM, offset=n_rows * KEY_BYTES)
    return Segment(path, keys, sums, width, begin, about)


def _description(text: bytes) -> dict[str, Any]:
    """Return what the writer said, with how many rows there are and how wide."""
    try:
        about = json.loads(text)
        is_known = about.pop("schema") == SCHEMA
        is_sized = all(type(about[name]) is int for name in ("rows", "width"))
    except (ValueError, KeyError, TypeError, AttributeError):
        is_known = False
    if not is_known or not is_sized or min(about["rows"], about["width"]) < 0:
        msg = "it is of another schema"
        raise DamagedSegment(msg)
    return dict(about)


def _exactly(file: BinaryIO, n_bytes: int) -> bytes:
    found = file.read(n_bytes)
    if len(found) < n_bytes:
        msg = "it is cut short"
        raise DamagedSegment(msg)
    return found
