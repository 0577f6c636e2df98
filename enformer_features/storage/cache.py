"""Keeps pooled rows, so that cross-validation embeds a window once."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from enformer_features.locks import ThreadLock

Floats = npt.NDArray[np.float32]
MEMORY_LIMIT_BYTES = 1_000_000_000


class MemoryCache:
    """Rows by key, in this process; the least recently used make room.

    Parameters
    ----------
    max_bytes : int, default=1_000_000_000
        Most bytes of values to keep.

    Examples
    --------
    >>> cache = MemoryCache(max_bytes=8)
    >>> cache.put("a", np.zeros(1, dtype=np.float32))
    >>> cache.put("b", np.ones(2, dtype=np.float32))
    >>> cache.get("a") is None, cache.get("b")
    (True, array([1., 1.], dtype=float32))
    """

    def __init__(self, max_bytes: int = MEMORY_LIMIT_BYTES) -> None:
        self.max_bytes = max_bytes
        self._rows: OrderedDict[str, Floats] = OrderedDict()
        self._n_bytes = 0
        self._lock = ThreadLock()

    def __deepcopy__(self, memo: object) -> MemoryCache:
        """Return itself: scikit-learn's clones of an embedder share its rows."""
        return self

    def __reduce__(self) -> tuple[type[MemoryCache], tuple[int]]:
        """Pickle as an empty cache: the rows belong to this process."""
        return MemoryCache, (self.max_bytes,)

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def __contains__(self, key: str) -> bool:
        """Tell whether a row is there, without touching its age."""
        return key in self._rows

    def get(self, key: str) -> Floats | None:
        """Return the row of a key, read-only, or None."""
        with self._lock:
            row = self._rows.get(key)
            if row is not None:
                self._rows.move_to_end(key)
            return row

    def put(
        self, key: str, row: Floats, about: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a copy of a row; rows larger than the whole cache are not kept."""
        if row.nbytes > self.max_bytes:
            return
        kept = row.copy()
        kept.flags.writeable = False
        with self._lock:
            self._drop(key)
            self._rows[key] = kept
            self._n_bytes += kept.nbytes
            while self._n_bytes > self.max_bytes:
                self._drop(next(iter(self._rows)))

    def refresh(self) -> None:
        """Do nothing: nobody else writes here."""

    def flush(self) -> None:
        """Do nothing: what was put is kept already."""

    def clear(self) -> None:
        """Forget every row."""
        with self._lock:
            self._rows.clear()
            self._n_bytes = 0

    def _drop(self, key: str) -> None:
        row = self._rows.pop(key, None)
        if row is not None:
            self._n_bytes -= row.nbytes


SHARED = MemoryCache()
