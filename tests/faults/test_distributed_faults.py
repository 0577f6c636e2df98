"""Workers, drivers and units that die; only processes started here are killed."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
from pathlib import Path

import numpy as np
import psutil
import pytest

from enformer_features import EnformerEmbedder
from enformer_features.distributed import embed, local_client
from enformer_features.estimators.embedding_store import (
    EmbeddingStore,
    open_embedding_store,
    plan_store,
)
from enformer_features.exceptions import FailedUnitsWarning
from tests.faults.children import short_and_full
from tests.units import poison

distributed = pytest.importorskip("distributed")
pytestmark = [
    pytest.mark.skipif(sys.platform == "win32", reason="kills as Unix does"),
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
]

N_UNITS = 16


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """Values of a run that nobody disturbed."""
    store = plan(tmp_path_factory.mktemp("whole") / "out.zarr")
    store.run()
    return store.store.read()


def plan(path: Path) -> EmbeddingStore:
    """Plan units of one row each, which takes some hundredths of a second."""
    letters = np.random.default_rng(0).choice(list("ACGT"), (N_UNITS, 1024))
    embedder = EnformerEmbedder(
        "untrained-tiny", sequence_length=1024, shifts=tuple(range(8)), cache=None
    )
    sequences = ["".join(row) for row in letters]
    return plan_store(embedder, sequences, path, unit_rows=1)


def n_done(store: EmbeddingStore) -> int:
    return N_UNITS - len(open_embedding_store(store.path).store.pending())


def wait_until(store: EmbeddingStore, n_units: int) -> None:
    deadline = time.monotonic() + 60
    while n_done(store) < n_units:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def drive(path: str, n_workers: str) -> None:
    """Be the driver."""
    with local_client(int(n_workers), threads=1) as client:
        embed(path, client, verbose=False)


def attempts(store: EmbeddingStore) -> int:
    return open_embedding_store(store.path).status().attempts


@short_and_full("n_rounds", 1, 10)
def test_a_worker_that_is_killed_at_a_quarter_costs_its_unit_only(
    tmp_path, expected, figure, n_rounds
):
    redone = []
    for number in range(n_rounds):
        store = plan(tmp_path / f"{number}.zarr")
        with local_client(2, threads=1) as client:
            victim = random.Random(number).choice([*client.run(os.getpid).values()])
            killed = kill_when(store, victim, N_UNITS // 4)
            report = embed(store, client, verbose=False)
            killed.join()
        assert (report.n_known + report.n_computed, report.failed) == (N_UNITS, {})
        np.testing.assert_array_equal(store.store.read(), expected)
        assert not store.verify().damaged
        redone.append(attempts(store) - N_UNITS)
    assert max(redone) <= 1
    figure(f"{n_rounds} of {n_rounds} runs complete; units redone: {redone}")


def kill_when(store: EmbeddingStore, pid: int, n_units: int) -> threading.Thread:
    """Kill a worker of ours once so many units are done."""

    def kill() -> None:
        wait_until(store, n_units)
        os.kill(pid, signal.SIGKILL)

    thread = threading.Thread(target=kill, daemon=True)
    thread.start()
    return thread


@short_and_full("rounds_and_workers", (1, 1), (10, 2))
def test_a_driver_that_is_killed_leaves_no_process_and_is_gone_on_from(
    tmp_path, expected, figure, children, rounds_and_workers
):
    n_rounds, n_workers = rounds_and_workers
    redone, seconds = [], []
    for number in range(n_rounds):
        store = plan(tmp_path / f"{number}.zarr")
        driver = children.start(drive, store.path, n_workers)
        wait_until(store, N_UNITS // 4)
        workers = psutil.Process(driver.pid).children(recursive=True)
        children.kill(driver)
        began = time.monotonic()
        assert psutil.wait_procs(workers, timeout=60)[1] == []
        seconds.append(round(time.monotonic() - began, 1))
        n_known = n_done(store)
        with local_client(n_workers, threads=1) as client:
            report = embed(store, client, verbose=False)
        assert (report.n_known, report.n_computed) == (n_known, N_UNITS - n_known)
        np.testing.assert_array_equal(store.store.read(), expected)
        redone.append(attempts(store) - N_UNITS)
    assert max(redone) <= n_workers
    figure(
        f"{n_rounds} of {n_rounds} resumed; units redone: {redone}; the workers were "
        f"gone after {max(seconds)} s"
    )


class Poisoned(distributed.WorkerPlugin):
    """A worker, and each that takes its place, that a unit kills."""

    def __init__(self, unit: int) -> None:
        self.unit = unit

    def setup(self, worker: object) -> None:
        poison(self.unit)


@pytest.mark.faults
@pytest.mark.timeout(3600)
def test_full_a_unit_that_always_kills_its_worker_is_the_only_one_reported(
    tmp_path, expected, figure
):
    """In short, without a store: tests/test_distributed.py."""
    units = (0, 5, 11, N_UNITS - 1)
    for unit in units:
        store = plan(tmp_path / f"{unit}.zarr")
        with local_client(2, threads=1) as client:
            client.register_plugin(Poisoned(unit))
            with pytest.warns(FailedUnitsWarning, match=rf"units {unit}: every worker"):
                report = embed(store, client, verbose=False)
        assert list(report.failed) == [unit]
        assert store.store.pending() == [unit]
        assert embed_here(store) == 1
        np.testing.assert_array_equal(store.store.read(), expected)
    figure(f"{len(units)} of {len(units)} times that unit alone was reported")


def embed_here(store: EmbeddingStore) -> int:
    """Compute what is left, where nobody is killed."""
    return open_embedding_store(store.path).run(verbose=False)
