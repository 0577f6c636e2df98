"""The helpers of this folder."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import pytest

from tests.faults.children import SmallDisk, flip_a_bit, run, small_disk


def say(word: str) -> None:
    print(word, flush=True)


def wait(word: str) -> None:
    say(word)
    time.sleep(60)


def write(path: str, n_bytes: str) -> None:
    Path(path).write_bytes(b"\1" * int(n_bytes))


def test_a_function_runs_in_a_child():
    assert run(say, "hello").stdout == "hello\n"


def test_a_child_is_killed_and_no_other(children):
    killed, other = children.start(wait, "a"), children.start(wait, "b")
    assert killed.stdout.readline() == "a\n"
    children.kill(killed)
    assert killed.returncode != 0
    assert other.poll() is None


@pytest.mark.skipif(sys.platform == "win32", reason="limits files as Unix does")
@pytest.mark.parametrize("is_mounted", [True, False])
def test_a_small_disk_is_full_until_it_is_given_room(tmp_path, is_mounted):
    def check(disk: SmallDisk) -> None:
        for n_bytes, is_written in ((50_000, True), (200_000, False)):
            done = disk.run(write, disk.folder / "file", n_bytes)
            assert (done.returncode == 0) == is_written, done.stderr
        assert disk.content() == ["file"]
        disk.make_room()
        assert disk.run(write, disk.folder / "file", 200_000).returncode == 0

    if is_mounted:
        with small_disk(tmp_path / "disk", 100_000, size=1 << 20) as disk:
            check(disk)
    else:
        check(SmallDisk(tmp_path, 100_000, is_mounted=False))


def test_one_bit_is_flipped(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(bytes(9))
    flip_a_bit(path, 4, random.Random(0))
    content = path.read_bytes()
    assert content[:4] + content[5:] == bytes(8)
    assert content[4].bit_count() == 1
