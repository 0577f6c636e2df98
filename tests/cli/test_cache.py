"""``enformer-features cache``."""

from __future__ import annotations

import json

import numpy as np
import pytest

from enformer_features.storage.disk_cache import DiskCache


@pytest.fixture
def folder(tmp_path):
    for number in range(3):
        cache = DiskCache(tmp_path / "rows")
        cache.put(f"{number:064x}", np.ones(4, dtype=np.float32))
        cache.flush()
    return tmp_path / "rows"


def counts(done):
    told = json.loads(done.out)
    return told["segments"], told["rows"], len(told["damaged"])


@pytest.mark.parametrize(
    ("action", "expected"),
    [
        (["info"], (3, 3, 0)),
        (["verify"], (3, 3, 0)),
        (["compact"], (1, 3, 0)),
        (["prune", "--max-size", "1GB"], (3, 3, 0)),
        (["prune", "--max-size", "0"], (0, 0, 0)),
    ],
)
def test_actions_say_what_is_there(cli, folder, action, expected):
    done = cli("cache", *action, "--path", folder, "--json")
    assert (done.code, counts(done)) == (0, expected)


def test_damage_is_found_and_is_exit_code_1(cli, folder):
    file = sorted(folder.iterdir())[0]
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    done = cli("cache", "verify", "--path", folder, "--json")
    assert (done.code, counts(done)) == (1, (3, 3, 1))


@pytest.mark.parametrize("action", [["info"], ["verify"], ["prune", "--max-size=0"]])
@pytest.mark.parametrize(
    ("place", "reason"),
    [
        ("nope", "there is no such folder"),
        ("file", "it is a file"),
        ("other", "none of its files ends in .seg"),
    ],
)
def test_a_path_without_a_cache_is_refused(cli, tmp_path, action, place, reason):
    (tmp_path / "file").write_text("mine")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "notes.txt").write_text("mine")
    done = cli("cache", *action, "--path", tmp_path / place)
    assert done.code == 2
    assert f"there is no cache in {tmp_path / place}: {reason}" in done.err


def test_nothing_in_the_default_place_is_no_error(cli, tmp_path, monkeypatch):
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(tmp_path / "new"))
    done = cli("cache", "info", "--json")
    assert (done.code, counts(done)) == (0, (0, 0, 0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["prune"], "belongs to prune, which needs it"),
        (["info", "--max-size", "1GB"], "belongs to prune, which needs it"),
        (["prune", "--max-size", "lots"], "is no size such as 10GB"),
    ],
)
def test_sizes_that_make_no_sense(cli, folder, options, message):
    done = cli("cache", *options, "--path", folder)
    assert done.code == 2
    assert message in done.err
