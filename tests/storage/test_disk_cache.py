"""storage/disk_cache.py and storage/segments.py."""

from __future__ import annotations

import copy
import json
import os
import pickle
import shutil
import struct
import subprocess
import sys
import warnings
from pathlib import Path

import google_crc32c
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import CacheWarning, InputError
from enformer_features.storage import disk_cache
from enformer_features.storage.disk_cache import DiskCache
from enformer_features.storage.segments import SUFFIX, Segment
from tests.conftest import REPOSITORY


def key(number: int) -> str:
    return f"{number:064x}"


def row(number: int, width: int = 5) -> np.ndarray:
    return np.arange(width, dtype=np.float32) + number


def filled(folder: Path, numbers: range, width: int = 5) -> DiskCache:
    cache = DiskCache(folder)
    for number in numbers:
        cache.put(key(number), row(number, width), {"device": "cpu"})
    cache.flush()
    return cache


def reopened(folder: Path) -> DiskCache:
    cache = DiskCache(folder)
    cache.refresh()
    return cache


def segments(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{SUFFIX}"))


def test_rows_outlive_the_cache_that_wrote_them(tmp_path):
    filled(tmp_path, range(3))
    filled(tmp_path, range(3, 5), width=7)
    cache = reopened(tmp_path)
    assert len(cache) == 5
    for number, width in ((0, 5), (2, 5), (4, 7)):
        np.testing.assert_array_equal(cache.get(key(number)), row(number, width))
    assert cache.get(key(9)) is None
    assert key(1) in cache
    assert key(9) not in cache


def test_rows_that_wait_are_there_and_unwritten(tmp_path):
    cache = DiskCache(tmp_path / "rows")
    cache.put(key(1), row(1))
    assert cache.get(key(1)) is not None
    assert not (tmp_path / "rows").exists()


def test_a_row_given_out_cannot_be_changed(tmp_path):
    cache = filled(tmp_path, range(1))
    with pytest.raises(ValueError, match="read-only"):
        cache.get(key(0))[0] = 5


def test_a_full_buffer_is_written_without_being_asked(tmp_path, monkeypatch):
    monkeypatch.setattr(disk_cache, "BUFFER_BYTES", 60)
    cache = DiskCache(tmp_path)
    for number in range(7):
        cache.put(key(number), row(number))
    assert len(segments(tmp_path)) == 2
    assert len(reopened(tmp_path)) == 6


def test_copies_and_pickles_are_of_the_same_folder(tmp_path):
    cache = filled(tmp_path, range(2))
    assert copy.deepcopy(cache) is cache
    again = pickle.loads(pickle.dumps(cache))
    again.refresh()
    assert again == cache
    np.testing.assert_array_equal(again.get(key(1)), row(1))


def test_others_rows_are_seen_after_a_refresh(tmp_path):
    reader = reopened(tmp_path)
    filled(tmp_path, range(1))
    assert reader.get(key(0)) is None
    reader.refresh()
    np.testing.assert_array_equal(reader.get(key(0)), row(0))


def test_removed_segments_are_misses_and_no_errors(tmp_path):
    cache = reopened(filled(tmp_path, range(2)).path)
    shutil.rmtree(tmp_path)
    assert cache.get(key(0)) is None


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_flipped_bytes_are_found_and_never_give_a_wrong_row(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("flipped")
    filled(folder, range(4))
    (file,) = segments(folder)
    content = bytearray(file.read_bytes())
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= 1 << data.draw(st.integers(0, 7))
    file.write_bytes(content)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        cache = reopened(folder)
        assert cache.verify().damaged
        for number in range(4):
            found = cache.get(key(number))
            assert found is None or (found == row(number)).all()


@pytest.mark.parametrize("size", [0, 5, 40, 100])
def test_cut_segments_are_not_used_and_told(tmp_path, size):
    filled(tmp_path, range(3))
    (file,) = segments(tmp_path)
    file.write_bytes(file.read_bytes()[:size])
    with pytest.warns(CacheWarning, match=r"not used.*\.seg \("):
        assert len(reopened(tmp_path)) == 0


def flip_last_byte(file: Path) -> None:
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


def test_many_damaged_files_are_one_warning(tmp_path):
    for number in range(7):
        filled(tmp_path, range(number, number + 1))
    for file in segments(tmp_path):
        file.write_bytes(b"no segment")
    with pytest.warns(CacheWarning, match=r"it is cut short.*\(7 in all\)") as told:
        cache = reopened(tmp_path)
    cache.refresh()  # says nothing more
    assert len(told) == 1


def test_damaged_rows_are_one_warning_and_found_in_another_segment(tmp_path):
    caches = [DiskCache(tmp_path) for _ in range(2)]
    for cache in caches:
        for number in range(3):
            cache.put(key(number), row(number))
        cache.flush()
    cache = reopened(tmp_path)
    flip_last_byte(cache._places[bytes.fromhex(key(2))][0].path)
    with pytest.warns(CacheWarning, match=r"damaged rows.*cache verify"):
        found = cache.get(key(2))
    np.testing.assert_array_equal(found, row(2))
    np.testing.assert_array_equal(cache.get(key(2)), row(2))  # says nothing more


def test_a_damaged_row_that_is_computed_again_is_kept(tmp_path):
    cache = filled(tmp_path, range(2))
    flip_last_byte(segments(tmp_path)[0])
    with pytest.warns(CacheWarning, match="damaged rows"):
        assert cache.get(key(1)) is None
    cache.put(key(1), row(1))
    cache.flush()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CacheWarning)
        np.testing.assert_array_equal(reopened(tmp_path).get(key(1)), row(1))


def test_a_segment_of_another_schema_is_not_used(tmp_path):
    filled(tmp_path, range(1))
    for about in ({"schema": 2}, {"schema": 1, "rows": "1", "width": 5}, [1]):
        text = json.dumps(about).encode()
        head = struct.pack("<8sII", b"EFrows\0\1", len(text), google_crc32c.value(text))
        segments(tmp_path)[0].write_bytes(head + text)
        with pytest.warns(CacheWarning, match="it is of another schema"):
            assert len(reopened(tmp_path)) == 0


def test_a_segment_that_vanishes_while_it_is_opened_is_no_matter(tmp_path, monkeypatch):
    cache = filled(tmp_path, range(1))
    monkeypatch.setattr(
        cache, "_segment_files", lambda: [tmp_path / f"gone{SUFFIX}", *cache._segments]
    )
    cache.refresh()
    assert len(cache) == 1


def test_an_unreadable_segment_is_told_once_kept_and_read_later(tmp_path, monkeypatch):
    filled(tmp_path, range(2))
    cache = DiskCache(tmp_path)

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    with monkeypatch.context() as patched:
        patched.setattr(disk_cache, "read_segment", refuse)
        with pytest.warns(CacheWarning, match=r"\.seg \(Permission denied\)"):
            cache.refresh()
        cache.refresh()
        assert cache.verify().damaged == [segments(tmp_path)[0].name]
        cache.prune(10**9)
    cache.refresh()
    assert len(cache) == 2
    assert not cache.verify().damaged


@pytest.mark.parametrize("is_file", [True, False])
def test_a_folder_that_cannot_be_used_is_one_warning(tmp_path, is_file):
    place = tmp_path / "rows"
    if is_file:
        place.write_text("mine")
    elif not os.path.isdir("/proc/self"):
        pytest.skip("needs a folder where nobody may write")
    cache = DiskCache(place if is_file else Path("/proc/none/rows"))
    cache.put(key(0), row(0))
    with pytest.warns(CacheWarning, match="cannot be used"):
        cache.flush()
    cache.put(key(1), row(1))
    cache.flush()  # says nothing more
    assert cache.get(key(0)) is None
    assert not is_file or place.read_text() == "mine"


@pytest.mark.parametrize("below", ["", "below"])
def test_a_file_in_place_of_the_folder_is_told_before_there_are_rows(tmp_path, below):
    place = tmp_path / "rows"
    place.write_text("mine")
    cache = DiskCache(place / below)
    with pytest.warns(CacheWarning, match="rows is a file, not a folder") as told:
        cache.check_place()
    cache.put(key(0), row(0))
    cache.flush()  # says nothing more
    assert "Errno" not in str(told[0].message)


def test_a_folder_that_is_yet_to_be_made_is_no_warning(tmp_path):
    DiskCache(tmp_path / "new" / "rows").check_place()


def test_pruning_removes_what_was_not_used_for_longest(tmp_path):
    for part in range(3):
        filled(tmp_path, range(3 * part, 3 * part + 3))
    files = segments(tmp_path)
    cache = reopened(tmp_path)
    owner = {path: next(iter(of.keys)) for path, of in cache._segments.items()}
    for age, path in enumerate(files):
        os.utime(path, (1_000 - age, 1_000 - age))
    left = cache.prune(2 * files[0].stat().st_size)
    assert left.n_segments == 2
    assert not files[-1].exists()
    assert cache.get(owner[files[-1]].hex()) is None
    with pytest.raises(InputError, match="max_bytes=-1 must not be negative"):
        cache.prune(-1)


def test_looking_for_damage_is_no_use(tmp_path):
    (file,) = segments(filled(tmp_path, range(3)).path)
    os.utime(file, (1_000, 1_000))
    assert reopened(tmp_path).verify().damaged == []
    assert file.stat().st_mtime == 1_000
    reopened(tmp_path).get(key(0))
    assert file.stat().st_mtime > 1_000


def test_rows_that_another_process_has_merged_are_found(tmp_path):
    for part in range(3):
        filled(tmp_path, range(3 * part, 3 * part + 3))
    reader = reopened(tmp_path)
    reopened(tmp_path).compact()
    for number in range(9):
        np.testing.assert_array_equal(reader.get(key(number)), row(number))


def test_a_segment_that_is_removed_during_a_check_is_not_damaged(tmp_path):
    filled(tmp_path, range(3))
    cache = reopened(tmp_path)
    (segment,) = cache._segments.values()
    segment.path.unlink()
    assert cache._damaged_rows(segment) == []


def test_compacting_merges_segments_and_keeps_every_row(tmp_path):
    for part in range(4):
        filled(tmp_path, range(2 * part, 2 * part + 3))  # with overlaps
    report = reopened(tmp_path).compact()
    assert (report.n_segments, report.n_rows) == (1, 9)
    cache = reopened(tmp_path)
    for number in range(9):
        np.testing.assert_array_equal(cache.get(key(number)), row(number))


def test_compacting_keeps_a_row_that_another_process_might_remove(tmp_path):
    filled(tmp_path, range(3))
    filled(tmp_path, range(3, 6))
    other = DiskCache(tmp_path)
    for number in range(6):  # the same rows, told to be of another device
        other.put(key(number), row(number), {"device": "cuda"})
    other.flush()
    reopened(tmp_path).compact()
    for path, of in reopened(tmp_path)._segments.items():
        if of.about["device"] == "cuda":
            path.unlink()
    cache = reopened(tmp_path)
    for number in range(6):
        np.testing.assert_array_equal(cache.get(key(number)), row(number))


def test_compacting_leaves_a_segment_that_cannot_be_read_now(tmp_path, monkeypatch):
    for number in range(3):
        filled(tmp_path, range(number, number + 1))
    cache, asked = reopened(tmp_path), segments(tmp_path)[0]
    read = cache._bytes

    def refuse(segment: Segment, number: int) -> bytes | None:
        return None if segment.path == asked else read(segment, number)

    monkeypatch.setattr(cache, "_bytes", refuse)
    assert cache.compact().n_segments == 2
    assert asked in segments(tmp_path)
    assert len(reopened(tmp_path)) == 3


@pytest.mark.skipif(os.name == "nt", reason="quotes are no part of names there")
@pytest.mark.parametrize("name", ["two words", "'ünï ☃'", "n" * 200, "~tilde"])
def test_unusual_names_of_folders_work(tmp_path, name):
    filled(tmp_path / name, range(2))
    assert len(reopened(tmp_path / name)) == 2


def test_a_relative_folder_stays_where_it_was_and_links_are_followed(
    tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "elsewhere").mkdir()
    cache = DiskCache("rows")
    monkeypatch.chdir(tmp_path / "elsewhere")
    cache.put(key(1), row(1))
    cache.flush()
    (tmp_path / "link").symlink_to(tmp_path / "rows")
    for path in (tmp_path / "link", Path("../rows"), Path("~/rows")):
        assert len(reopened(path)) == 1


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts in /proc")
def test_reading_many_segments_leaves_no_file_open(tmp_path):
    for number in range(40):
        filled(tmp_path, range(number, number + 1))
    cache = reopened(tmp_path)
    before = len(os.listdir("/proc/self/fd"))
    assert all(cache.get(key(number)) is not None for number in range(40))
    assert len(os.listdir("/proc/self/fd")) == before


WRITER = """
import sys
from tests.storage.test_disk_cache import DiskCache, key, row
cache = DiskCache(sys.argv[1])
for number in range(int(sys.argv[2]), 100_000):
    cache.put(key(number), row(number))
    if number % 5 == 0:
        cache.flush()
        print(number, flush=True)
"""


def test_killed_writers_lose_no_row_that_was_flushed(tmp_path):
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    command = [sys.executable, "-c", WRITER, str(tmp_path)]
    writers = [
        subprocess.Popen([*command, begin], env=environment, stdout=subprocess.PIPE)
        for begin in ("0", "40")
    ]
    acknowledged = []
    for writer in writers:
        assert writer.stdout is not None
        lines = [int(writer.stdout.readline()) for _ in range(6)]
        acknowledged.append(range(lines[0], lines[-1] + 1))
    for writer in writers:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    cache = reopened(tmp_path)
    for number in {*acknowledged[0], *acknowledged[1]}:
        np.testing.assert_array_equal(cache.get(key(number)), row(number))
    assert not cache.verify().damaged
