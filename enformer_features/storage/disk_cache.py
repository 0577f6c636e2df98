"""Rows on disk, for any number of processes and runs.

A folder of immutable segment files and nothing else: no index to lose, no lock to take.
Two writers write two segments; a reader sees whole ones or none. What is damaged is
found by checksums, counted, and computed again.
"""

from __future__ import annotations

import os
import time
import uuid
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import (
    CacheWarning,
    InputError,
    StoreError,
    first_few,
    warn,
)
from enformer_features.folders import user_cache_folder
from enformer_features.locks import ThreadLock
from enformer_features.storage.segments import (
    SUFFIX,
    DamagedSegment,
    Segment,
    read_segment,
    write_segment,
)

Floats = npt.NDArray[np.float32]

FOLDER = "rows"
BUFFER_BYTES = 16 << 20  # written as one segment
BUFFER_SECONDS = 60.0  # rows are never older than this before they are on disk
_TOUCH_SECONDS = 3600.0
_STALE_SECONDS = 24 * 3600.0  # of temporary files that a killed writer left


@dataclass(frozen=True)
class CacheReport:
    """What a folder of cached rows holds.

    Parameters
    ----------
    path : Path
    n_segments, n_rows, n_bytes : int
        Rows that several segments hold are counted once.
    damaged : list of str
        Files, or rows of files, that are damaged.
    leftovers : list of str
        Temporary files of writers that were killed.
    """

    path: Path
    n_segments: int
    n_rows: int
    n_bytes: int
    damaged: list[str] = field(default_factory=list)
    leftovers: list[str] = field(default_factory=list)


class DiskCache:
    """Rows by key, in files that outlive the process.

    Parameters
    ----------
    path : path, optional
        A folder; made when the first row is written. By default ``rows`` in the
        user's cache folder; see ``enformer-features info``.

    Notes
    -----
    Rows are acknowledged, and then survive a crash, once :meth:`flush` returns.
    Nothing here raises because of a disk: what cannot be written is not kept, what
    cannot be read is not there, and one warning says so. A folder that could not be
    written is left alone for the rest of the process; what it holds is still read.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     cache = DiskCache(folder)
    ...     cache.put("00" * 32, np.ones(3, dtype=np.float32))
    ...     cache.flush()
    ...     later = open_cache(folder)
    ...     later.refresh()
    ...     print(later.get("00" * 32))
    [1. 1. 1.]
    """

    def __init__(self, path: str | os.PathLike[str] | None = None) -> None:
        chosen = user_cache_folder() / FOLDER if path is None else Path(path)
        self.path = chosen.expanduser().absolute()
        self._reset()

    def _reset(self) -> None:
        self._segments: dict[Path, Segment | None] = {}  # None is a damaged one
        self._places: dict[bytes, tuple[Segment, int]] = {}
        self._waiting: dict[bytes, Floats] = {}
        self._about: dict[str, Any] = {}
        self._since = 0.0
        self._touched: dict[Path, float] = {}
        self._unreadable: set[Path] = set()  # perhaps readable later
        self._is_off = False
        self._has_warned = False
        self._lock = ThreadLock()

    def __deepcopy__(self, memo: object) -> DiskCache:
        """Return itself: scikit-learn's clones of an embedder share it."""
        return self

    def __reduce__(self) -> tuple[type[DiskCache], tuple[str]]:
        """Pickle as the name of the folder."""
        return DiskCache, (str(self.path),)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DiskCache) and other.path == self.path

    def __hash__(self) -> int:
        return hash(self.path)

    def __repr__(self) -> str:
        return f"DiskCache({str(self.path)!r})"

    def __len__(self) -> int:
        """Return the number of rows that were found so far."""
        return len(self._places) + len(self._waiting)

    def __contains__(self, key: str) -> bool:
        """Tell whether a row is there; its values are not checked."""
        raw = bytes.fromhex(key)
        return raw in self._places or raw in self._waiting

    def check_place(self) -> None:
        """Warn, before there are rows to keep, of a file where the folder should be."""
        with self._lock:
            places = (self.path, *self.path.parents)
            file = next((place for place in places if os.path.isfile(place)), None)
            if file is not None:
                self._switch_off(f"{file} is a file, not a folder")

    def refresh(self) -> None:
        """Look for segments that were written since; only their heads are read."""
        with self._lock:
            found = set(self._segment_files())
            for path in self._segments.keys() - found:
                self._drop(path)
            self._unreadable &= found
            wrong = [
                problem
                for path in sorted(found - self._segments.keys())
                if (problem := self._open(path))
            ]
        if wrong:
            msg = (
                f"files in {self.path} that are not used, their rows are computed "
                f"again: {first_few(wrong)}"
            )
            warn(msg, CacheWarning, stacklevel=5)

    def get(self, key: str) -> Floats | None:
        """Return the row of a key, read-only, or None.

        A row whose checksum is wrong is not there, unless another segment has it.
        """
        raw = bytes.fromhex(key)
        with self._lock:
            waiting = self._waiting.get(raw)
            place = self._places.get(raw)
            if waiting is not None or place is None:
                return waiting
            row = self._values(*place)
            return self._elsewhere(raw) if row is None else row

    def put(
        self, key: str, row: Floats, about: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a row; it is written with others, at the latest by :meth:`flush`.

        Parameters
        ----------
        key : str
            64 hexadecimal digits.
        row : ndarray of float32, shape (n_features,)
        about : dict, optional
            What is the same for all rows of a call, plain values: it is kept in the
            segment's description, for people.
        """
        raw = bytes.fromhex(key)
        with self._lock:
            if self._is_off or raw in self._places:
                return
            first = next(iter(self._waiting.values()), None)
            about = dict(about or {})
            if first is not None and (len(first) != len(row) or about != self._about):
                self.flush()
            kept = row.copy()
            kept.flags.writeable = False
            if not self._waiting:
                self._since, self._about = time.monotonic(), about
            self._waiting[raw] = kept
            is_full = len(self._waiting) * kept.nbytes >= BUFFER_BYTES
            if is_full or time.monotonic() - self._since > BUFFER_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Write the rows that wait; they are safe when this returns."""
        with self._lock:
            if not self._waiting or self._is_off:
                return
            path = self.path / f"{uuid.uuid4().hex}{SUFFIX}"
            try:
                self.path.mkdir(parents=True, exist_ok=True)
                keys, rows = list(self._waiting), list(self._waiting.values())
                segment = write_segment(path, keys, rows, self._about)
            except OSError as error:  # also our own
                self._switch_off(error.strerror or str(error))
                return
            self._segments[path] = segment
            self._add(segment)
            self._waiting.clear()

    def verify(self) -> CacheReport:
        """Check every row of every segment.

        Returns
        -------
        CacheReport
            With all that is damaged: ``file`` or ``file row 3``.
        """
        with self._lock:
            self.refresh()
            damaged = self._unusable()
            for path, segment in sorted(self._segments.items()):
                if segment is None:
                    continue
                damaged += [
                    f"{path.name} row {row}" for row in self._damaged_rows(segment)
                ]
        return self._report(damaged)

    def info(self) -> CacheReport:
        """Count what is there; damage to values is not looked for."""
        self.refresh()
        return self._report(self._unusable())

    def prune(self, max_bytes: int) -> CacheReport:
        """Remove segments, those first that were not used for longest.

        Damaged segments and what killed writers left go in any case.

        Parameters
        ----------
        max_bytes : int
            Most that may be left.

        Returns
        -------
        CacheReport
            What is left.
        """
        if max_bytes < 0:
            msg = f"max_bytes={max_bytes} must not be negative"
            raise InputError(msg)
        with self._lock:
            self.refresh()
            for path in [*self._leftovers(), *self._broken()]:
                _remove(path)
            ages = sorted((_used(path), path) for path in self._segment_files())
            total = sum(_size(path) for _, path in ages)
            for _, path in ages:
                if total <= max_bytes:
                    break
                total -= _size(path)
                _remove(path)
            self.refresh()
        return self.info()

    def compact(self) -> CacheReport:
        """Merge small segments into large ones, and remove what is damaged.

        Others may read and write meanwhile: an old segment goes only when the rows
        that it held are on disk again.

        Returns
        -------
        CacheReport
            What is there afterwards.
        """
        with self._lock:
            self.refresh()
            for path in self._broken():
                _remove(path)
            kinds: dict[tuple[int, str], list[Segment]] = {}
            damaged = set()
            for segment in filter(None, self._segments.values()):
                kind = segment.width, repr(sorted(segment.about.items()))
                if self._damaged_rows(segment):
                    damaged.add(kind)
                elif segment.n_bytes >= BUFFER_BYTES:
                    continue
                kinds.setdefault(kind, []).append(segment)
            for kind, segments in kinds.items():
                if len(segments) > 1 or kind in damaged:
                    self._merge(segments)
        return self.info()

    def _merge(self, segments: list[Segment]) -> None:
        """Write what segments hold into new ones, then remove them.

        Rows that others hold too are written nevertheless: another process may be
        about to remove those.
        """
        old, merged = [], set[bytes]()
        for segment in segments:
            rows = [
                (key, self._bytes(segment, i)) for i, key in enumerate(segment.keys)
            ]
            if any(raw is None for _, raw in rows):  # perhaps readable later
                continue
            old.append(segment.path)
            for i, (key, raw) in enumerate(rows):
                values = segment.decode(i, raw or b"")
                if values is not None and key not in merged:
                    merged.add(key)
                    self._places.pop(key, None)
                    self.put(key.hex(), values, segment.about)
        self.flush()
        if self._is_off:
            msg = f"{self.path} could not be written; nothing was removed"
            raise StoreError(msg)
        for path in old:
            _remove(path)
        self.refresh()

    def _segment_files(self) -> list[Path]:
        try:
            with os.scandir(self.path) as entries:
                return [
                    self.path / entry.name
                    for entry in entries
                    if entry.name.endswith(SUFFIX)
                ]
        except FileNotFoundError:
            return []
        except OSError as error:
            self._switch_off(error.strerror or str(error))
            return []

    def _open(self, path: Path) -> str | None:
        """Read the head of a segment; return why it is not used, if it is not."""
        try:
            segment = read_segment(path)
        except FileNotFoundError:  # merged or removed by another process just now
            return None
        except DamagedSegment as error:
            self._segments[path] = None
            return f"{path.name} ({error})"
        except OSError as error:
            is_new = path not in self._unreadable
            self._unreadable.add(path)
            return f"{path.name} ({error.strerror})" if is_new else None
        self._unreadable.discard(path)
        self._segments[path] = segment
        self._add(segment)
        return None

    def _add(self, segment: Segment) -> None:
        for row, key in enumerate(segment.keys):
            self._places[key] = segment, row

    def _drop(self, path: Path) -> None:
        segment = self._segments.pop(path)
        for key in segment.keys if segment else ():
            if self._places.get(key, (None, 0))[0] is segment:
                del self._places[key]

    def _values(self, segment: Segment, row: int) -> Floats | None:
        raw = self._bytes(segment, row)
        if raw is None:
            return None
        self._touch(segment.path)
        return segment.decode(row, raw)

    def _damaged_rows(self, segment: Segment) -> list[int]:
        """Return the rows with wrong checksums; to look at them is not to use them."""
        rows = [
            row
            for row in range(len(segment.keys))
            if segment.decode(row, self._bytes(segment, row) or b"") is None
        ]
        return rows if segment.path.exists() else []  # removed by somebody else

    def _bytes(self, segment: Segment, row: int) -> bytes | None:
        """Return what stands in the place of a row; None where nothing can be read."""
        try:
            with segment.path.open("rb", buffering=0) as file:
                file.seek(segment.begin + row * segment.row_bytes)
                return file.read(segment.row_bytes)
        except OSError:  # removed by somebody else, or unreadable
            return None

    def _elsewhere(self, key: bytes) -> Floats | None:
        """Look for a row in all segments, as it is damaged or gone where it was."""
        place, _ = self._places.pop(key)
        if place.path.exists():
            self._tell_of_damage(place.path)
        else:  # merged or removed by another process, and others with it
            self.refresh()
        for segment in filter(None, self._segments.values()):
            if key in segment.keys:
                row = segment.keys.index(key)
                values = self._values(segment, row)
                if values is not None:
                    self._places[key] = segment, row
                    return values
        return None

    def _tell_of_damage(self, path: Path) -> None:
        if not self._has_warned:
            self._has_warned = True
            msg = (
                f"{path} holds damaged rows, which are computed again; to see all: "
                f"enformer-features cache verify --path {self.path}"
            )
            warn(msg, CacheWarning, stacklevel=6)

    def _touch(self, path: Path) -> None:
        """Mark a segment as used, at most once an hour, by its time of change."""
        now = time.time()
        if now - self._touched.get(path, 0.0) > _TOUCH_SECONDS:
            self._touched[path] = now
            with suppress(OSError):
                os.utime(path)

    def _switch_off(self, reason: str) -> None:
        if not self._is_off:
            self._is_off = True
            msg = (
                f"the cache in {self.path} cannot be used ({reason}); rows are "
                "computed and not kept"
            )
            warn(msg, CacheWarning, stacklevel=6)
        self._waiting.clear()

    def _broken(self) -> list[Path]:
        return [path for path, segment in self._segments.items() if segment is None]

    def _unusable(self) -> list[str]:
        return sorted(path.name for path in {*self._broken(), *self._unreadable})

    def _leftovers(self) -> Iterator[Path]:
        for path in self.path.glob(f".*{SUFFIX}.*.partial"):
            if time.time() - _used(path) > _STALE_SECONDS:
                yield path

    def _report(self, damaged: list[str]) -> CacheReport:
        whole = [segment for segment in self._segments.values() if segment is not None]
        return CacheReport(
            self.path,
            len(whole),
            len({key for segment in whole for key in segment.keys}),
            sum(segment.n_bytes for segment in whole),
            damaged,
            sorted(path.name for path in self.path.glob(f".*{SUFFIX}.*.partial")),
        )


_OPEN: dict[Path, DiskCache] = {}


def open_cache(path: str | os.PathLike[str] | None = None) -> DiskCache:
    """Return this process's cache of a folder, the same object every time.

    Parameters
    ----------
    path : path, optional
        As for :class:`DiskCache`.
    """
    cache = DiskCache(path)
    return _OPEN.setdefault(cache.path, cache)


def _remove(path: Path) -> None:
    """Remove a file, unless it is gone, or in use where that forbids it (Windows)."""
    with suppress(FileNotFoundError, PermissionError):
        path.unlink()


def _used(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:  # another process has removed it
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
