"""Locks that a forked child finds open.

Imports nothing of ours.
"""

from __future__ import annotations

import os
import threading
import weakref
from types import TracebackType


class ThreadLock:
    """A re-entrant lock between the threads of one process.

    A child that is forked while another thread holds a lock would wait for a thread
    that it does not have; of this kind it gets an open one.

    Examples
    --------
    >>> lock = ThreadLock()
    >>> with lock, lock:
    ...     print("inside")
    inside
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()
        _LOCKS.add(self)

    def renew(self) -> None:
        """Forget who holds it."""
        self._lock = threading.RLock()

    def __enter__(self) -> None:
        self._lock.acquire()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._lock.release()


_LOCKS: weakref.WeakSet[ThreadLock] = weakref.WeakSet()


def _renew_all() -> None:
    for lock in list(_LOCKS):
        lock.renew()


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_renew_all)
