"""Small JSON files that carry a digest of what they say.

Plans, markers and manifests of a store are such records: a flipped byte anywhere in
one is found when it is read, and one is wholly there or not at all.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from enformer_features.exceptions import InputError, StoreError
from enformer_features.storage.files import atomic_write


def record_digest(content: dict[str, Any]) -> str:
    """Return the sha256 of plain values, whatever the order of their keys.

    Raises
    ------
    InputError
        If a value is no JSON.

    Examples
    --------
    >>> record_digest({"a": 1, "b": 2}) == record_digest({"b": 2, "a": 1})
    True
    """
    try:
        text = json.dumps(content, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError) as error:
        msg = f"a record can keep plain JSON values only: {error}"
        raise InputError(msg) from error
    return hashlib.sha256(text.encode()).hexdigest()


def file_digest(path: Path) -> str:
    """Return the sha256 of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_record(path: Path, content: dict[str, Any]) -> None:
    """Write a record; it is on the disk before it has its name.

    Raises
    ------
    InputError
        If a value is no JSON.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "record.json")
    >>> write_record(path, {"n_rows": 7})
    >>> read_record(path)
    {'n_rows': 7}
    """
    text = _as_text(content, record_digest(content))
    with atomic_write(path, bytes_needed=len(text)) as temporary:
        temporary.write_bytes(text)


def read_record(path: Path) -> dict[str, Any]:
    """Read a record and check it.

    Raises
    ------
    FileNotFoundError
        If there is none.
    StoreError
        If a byte of it is not as it was written.
    """
    raw = path.read_bytes()
    try:
        found = json.loads(raw)
        content: dict[str, Any] = found["content"]
        is_whole = raw == _as_text(content, record_digest(content))
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        msg = f"{path} is damaged: it is not what was written there"
        raise StoreError(msg)
    return content


def _as_text(content: dict[str, Any], digest: str) -> bytes:
    record = {"content": content, "sha256": digest}
    return json.dumps(record, sort_keys=True, indent=1).encode() + b"\n"
