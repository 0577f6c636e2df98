from __future__ import annotations

from pathlib import Path

import pytest

from enformer_features.exceptions import InputError, StoreError
from enformer_features.storage.store.records import read_record, write_record

RECORD = {"rows": 7, "name": "é", "nested": {"list": [1, None, 0.5]}}


def test_a_record_is_read_as_it_was_written(tmp_path: Path) -> None:
    write_record(tmp_path / "record.json", RECORD)
    assert read_record(tmp_path / "record.json") == RECORD
    assert [path.name for path in tmp_path.iterdir()] == ["record.json"]


def test_a_flipped_bit_in_any_byte_is_found(tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    write_record(path, RECORD)
    content = path.read_bytes()
    for place in range(len(content)):
        flipped = bytearray(content)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        with pytest.raises(StoreError, match=r"record\.json is damaged"):
            read_record(path)


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b'{"content": 1}', b"[" * 9999])
def test_what_is_no_record_is_damaged(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "record.json"
    path.write_bytes(content)
    with pytest.raises(StoreError, match=r"record\.json is damaged"):
        read_record(path)


def test_only_plain_values_are_kept(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="plain JSON values only"):
        write_record(tmp_path / "record.json", {"path": tmp_path})
    assert list(tmp_path.iterdir()) == []
