"""Work for the workers of tests; what they import must be light."""

from __future__ import annotations

import os
import signal
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """A task that does nothing, or what it should not.

    Parameters
    ----------
    killing, raising : tuple of int
        Units that kill their worker, or raise.
    seconds : float
        That each unit takes.
    """

    killing: tuple[int, ...] = ()
    raising: tuple[int, ...] = ()
    seconds: float = 0.02

    def __call__(self, unit: int) -> None:
        time.sleep(self.seconds)
        if unit in self.killing:
            os.kill(os.getpid(), signal.SIGKILL)
        if unit in self.raising:
            msg = f"unit {unit} is bad"
            raise ValueError(msg)


def poison(unit: int) -> None:
    """Let this process die whenever it begins to embed a unit of a store."""
    from enformer_features.estimators.embedding_store import EmbeddingStore

    embed_unit = EmbeddingStore.embed_unit

    def embed_or_die(store: EmbeddingStore, number: int) -> bool:
        if number == unit:
            os.kill(os.getpid(), signal.SIGKILL)
        return embed_unit(store, number)

    EmbeddingStore.embed_unit = embed_or_die  # type: ignore[method-assign]
