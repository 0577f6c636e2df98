"""Child processes that may be killed, disks that are full, and bytes that flip.

A child runs a function of a test module by its name, as a process of its own. Only
children that were started here are killed, each through its own handle.
"""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY

_RUN = """
import importlib, sys
module, name, *arguments = sys.argv[1:]
getattr(importlib.import_module(module), name)(*arguments)
"""


def short_and_full(name: str, short: object, full: object) -> pytest.MarkDecorator:
    """Run a test with one value always, and with another by ``make test-faults``."""
    marks = [pytest.mark.faults, pytest.mark.timeout(3600)]
    values = [
        pytest.param(short, id="short"),
        pytest.param(full, id="full", marks=marks),
    ]
    return pytest.mark.parametrize(name, values)


class Children:
    """Processes that were started here; those that are left are killed at the end."""

    def __init__(self) -> None:
        self._started: list[subprocess.Popen[str]] = []

    def start(
        self, function: Callable[..., Any], *arguments: object, **options: Any
    ) -> subprocess.Popen[str]:
        """Start a function of a module with text as arguments; output is piped."""
        child = subprocess.Popen(
            _command(function, arguments),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **{"env": environment(), **options},
        )
        self._started.append(child)
        return child

    def kill(self, child: subprocess.Popen[str]) -> None:
        """Kill a child at once, as ``kill -9`` does, and wait until it is gone."""
        assert child in self._started
        child.kill()
        child.wait()

    def kill_after(self, seconds: float, *children: subprocess.Popen[str]) -> None:
        """Let children run for some time, then kill them."""
        time.sleep(seconds)
        for child in children:
            self.kill(child)

    def close(self) -> None:
        """Kill what still runs, and close the pipes."""
        for child in self._started:
            if child.poll() is None:
                self.kill(child)
            for pipe in (child.stdin, child.stdout, child.stderr):
                if pipe is not None:
                    pipe.close()


def environment(**more: str) -> dict[str, str]:
    """Return the environment of a child: one thread, and these tests to import."""
    paths = [str(REPOSITORY), os.environ.get("PYTHONPATH", "")]
    named = {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return {**os.environ, **named, "OMP_NUM_THREADS": "1", **more}


def run(
    function: Callable[..., Any], *arguments: object, **options: Any
) -> subprocess.CompletedProcess[str]:
    """Run a function of a module in a child to its end; do not judge how it ended."""
    return subprocess.run(
        _command(function, arguments),
        capture_output=True,
        text=True,
        check=False,
        **{"env": environment(), "timeout": 120, **options},
    )


def _command(function: Callable[..., Any], arguments: tuple[object, ...]) -> list[str]:
    name = function.__module__, function.__qualname__
    return [sys.executable, "-c", _RUN, *name, *map(str, arguments)]


class SmallDisk:
    """A folder on a disk that is nearly full, until it is given room.

    Where no disk can be mounted, files that children write are limited in size.

    Parameters
    ----------
    folder : Path
    room : int
        Bytes that can be written.
    is_mounted : bool
    """

    def __init__(self, folder: Path, room: int, *, is_mounted: bool) -> None:
        self.folder = folder
        self.is_mounted = is_mounted
        self._limit = None if is_mounted else room
        self._ballast = folder / "ballast"
        if is_mounted:
            self.fill(room)

    def fill(self, room: int = 0) -> None:
        """Fill a mounted disk up to so many bytes."""
        self._ballast.unlink(missing_ok=True)
        free = os.statvfs(self.folder).f_bavail * os.statvfs(self.folder).f_frsize
        self._ballast.write_bytes(b"\0" * (free - room))

    def make_room(self) -> None:
        """Let more be written from now on."""
        self._limit = None
        self._ballast.unlink(missing_ok=True)

    def run(
        self, function: Callable[..., Any], *arguments: object, **options: Any
    ) -> subprocess.CompletedProcess[str]:
        """Run a function of a module in a child that finds this disk full."""
        if self._limit is not None:
            options["preexec_fn"] = self._limit_file_sizes
        return run(function, *arguments, **options)

    def content(self) -> list[str]:
        """Return the paths of all files, hidden ones too, in order."""
        found = (path for path in self.folder.rglob("*") if path.is_file())
        shown = [path for path in found if path != self._ballast]
        return sorted(path.relative_to(self.folder).as_posix() for path in shown)

    def _limit_file_sizes(self) -> None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (self._limit, self._limit))


@contextmanager
def small_disk(folder: Path, room: int, size: int = 64 << 20) -> Iterator[SmallDisk]:
    """Give a disk that has room for so many bytes, of a size once it is given room."""
    folder.mkdir()
    if not sys.platform.startswith("linux"):
        pytest.skip("small disks are made on Linux only")
    options = ["-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if not _succeeds("mount", *options):
        yield SmallDisk(folder, room, is_mounted=False)
        return
    try:
        yield SmallDisk(folder, room, is_mounted=True)
    finally:
        _succeeds("umount", "-l", str(folder))


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:  # there is no such command
        return False


def flip_a_bit(path: Path, place: int, rng: random.Random) -> None:
    """Change one bit of the byte at a place of a file."""
    with path.open("rb+") as file:
        file.seek(place)
        (byte,) = file.read(1)
        file.seek(place)
        file.write(bytes([byte ^ 1 << rng.randrange(8)]))
