"""One store, two workers in processes of their own."""

from __future__ import annotations

import os
import sys
import time
from unittest.mock import Mock

import numpy as np
import psutil
import pytest

from enformer_features import (
    EnformerEmbedder,
    InputError,
    StoreError,
)
from enformer_features import distributed as module
from enformer_features.distributed import embed, local_client
from enformer_features.estimators.embedding_store import plan_store
from enformer_features.exceptions import FailedUnitsWarning, MissingDependencyError
from tests.units import Work

pytest.importorskip("distributed")
pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture(scope="module")
def client():
    with local_client(2, threads=1) as client:
        yield client


@pytest.fixture(scope="module")
def sequences():
    letters = np.random.default_rng(0).choice(list("ACGT"), (11, 1024))
    return ["".join(row) for row in letters]


@pytest.fixture
def embedder():
    return EnformerEmbedder("untrained-tiny", sequence_length=1024, cache=None)


@pytest.fixture
def store(embedder, sequences, tmp_path):
    return plan_store(embedder, sequences, tmp_path / "out.zarr", unit_rows=2)


def compute(client, task, n_units, name):
    return module._compute(client, task, range(n_units), {}, name=name, verbose=False)


def test_the_workers_rows_are_those_of_the_embedder(client, store, embedder, sequences):
    report = embed(store, client, verbose=False)
    assert (report.n_units, report.n_known, report.n_computed) == (6, 0, 6)
    assert report.failed == {}
    values = store.store.read(slice(0, 11))
    np.testing.assert_array_equal(values, embedder.transform(sequences))
    assert store.finalize().name == "out.zarr"


def test_what_is_there_is_not_computed_again(client, store):
    store.embed_unit(4)
    for n_known, n_computed in ((1, 5), (6, 0)):
        report = embed(str(store.path), client, verbose=False)
        assert (report.n_known, report.n_computed) == (n_known, n_computed)


def test_a_unit_that_is_forgotten_is_computed_under_its_old_name(client, store):
    embed(store, client, verbose=False)
    (marker,) = store.store.folder.rglob("units/3.json")
    marker.unlink()
    assert embed(store, client, verbose=False).n_computed == 1


def test_a_planned_store_that_took_the_place_of_another_is_told_from_it(
    client, store, embedder, sequences, tmp_path
):
    embed(store, client, verbose=False)
    store.store.folder.rename(tmp_path / "old.zarr.partial")
    other = plan_store(embedder, sequences[::-1], tmp_path / "out.zarr", unit_rows=2)
    assert embed(other, client, verbose=False).n_computed == 6
    values = other.store.read(slice(0, 11))
    np.testing.assert_array_equal(values, embedder.transform(sequences[::-1]))


def test_a_store_that_is_to_replace_a_finished_one_is_computed(
    client, store, embedder, sequences
):
    store.run(verbose=False)
    store.finalize()
    other = plan_store(embedder, sequences[:3], store.path, overwrite=True)
    assert embed(other, client, verbose=False).n_computed == 1
    assert other.store.pending() == []


def test_tasks_have_the_names_of_their_store(
    store, embedder, sequences, tmp_path, monkeypatch
):
    other = plan_store(embedder, sequences, tmp_path / "other.zarr", unit_rows=2)
    assert other.plan.digest == store.plan.digest
    names = []
    monkeypatch.setattr(
        module, "_compute", lambda *_, name, **__: names.append(name) or {}
    )
    for one in (store, store, other):
        embed(one, Mock(), verbose=False)
    assert names[0] == names[1] != names[2]


def test_weights_other_than_planned_are_refused_by_every_worker(client, store):
    with pytest.warns(FailedUnitsWarning, match="6 of 6 units failed") as told:
        report = embed(store, client, weights="mini", verbose=False)
    assert list(report.failed) == list(range(6))
    assert "PlanMismatchError" in report.failed[0]
    assert "weights_digest" in report.failed[0]
    assert str(told[0].message).count("PlanMismatchError") == 1


def test_a_store_must_be_there(client, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        embed(tmp_path / "absent.zarr", client)


def test_a_unit_that_raises_fails_alone(client):
    failed = compute(client, Work(raising=(3,)), 8, "raising")
    assert failed == {3: "ValueError: unit 3 is bad"}


def test_a_unit_that_kills_its_workers_fails_alone(client):
    failed = compute(client, Work(killing=(5,)), 12, "killing")
    assert failed == {5: module._DIED}


def test_innocent_units_are_tried_once_more(client):
    """As where the cluster allows no failures."""
    client.run_on_scheduler(allow_failures, 0)
    try:
        failed = compute(client, Work(killing=(5,)), 12, "innocent")
    finally:
        client.run_on_scheduler(allow_failures, 3)
    assert list(failed) == [5]


def test_a_unit_is_done_also_when_its_worker_dies_right_after(monkeypatch):
    """Dask then takes it for one that is to be done again."""
    lost, bar = Mock(status="pending", **{"exception.return_value": None}), Mock()
    monkeypatch.setattr("distributed.as_completed", iter)
    assert module._failures(Mock(), {lost: 3}, bar) == {}
    bar.update.assert_called_once_with()


def allow_failures(number, dask_scheduler):
    dask_scheduler.allowed_failures = number


def test_ctrl_c_takes_back_the_units_that_are_not_begun(client, monkeypatch):
    class Interrupting:
        def __init__(self, **options):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *error):
            return None

        def update(self):
            raise KeyboardInterrupt

    monkeypatch.setattr(module, "tqdm", Interrupting)
    with pytest.raises(KeyboardInterrupt):
        compute(client, Work(seconds=0.2), 50, "interrupted")
    deadline = time.monotonic() + 10
    while client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)):
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_nothing_listens_beyond_this_machine(client):
    me = psutil.Process()
    listening = [
        connection.laddr.ip
        for process in (me, *me.children(recursive=True))
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    ]
    assert len(listening) >= 3
    assert set(listening) == {"127.0.0.1"}
    assert client.dashboard_link.startswith("http://127.0.0.1:")


def test_every_gpu_has_a_worker_that_sees_no_other():
    before = dict(os.environ)
    with local_client(gpus=(0, "MIG-1"), threads=3) as client:
        names = ("CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS")
        seen = client.run(lambda: [os.environ[name] for name in names])
    assert sorted(seen.values()) == [["0", "3"], ["MIG-1", "3"]]
    assert dict(os.environ) == before


@pytest.mark.parametrize(("n_workers", "gpus"), [(0, ()), (3, (0, 1))])
def test_workers_are_as_many_as_gpus(n_workers, gpus):
    with pytest.raises(InputError, match="must be at least 1, and as many as gpus"):
        local_client(n_workers, gpus=gpus).__enter__()


def test_a_missing_package_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(MissingDependencyError, match=r"features\[distributed\]"):
        local_client().__enter__()
