"""One store, two workers in processes of their own."""

from __future__ import annotations

import os
import sys
import time
from unittest.mock import Mock

import numpy as np
import pandas as pd
import psutil
import pytest

from enformer_features import (
    EnformerEmbedder,
    InputError,
    InputTypeError,
    StoreError,
)
from enformer_features import distributed as module
from enformer_features.distributed import embed, local_client
from enformer_features.estimators.embedding_store import plan_store
from enformer_features.exceptions import FailedUnitsWarning, MissingDependencyError
from tests.estimators.toy import random_letters, write_fasta
from tests.units import Work

distributed = pytest.importorskip("distributed")
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
        embed(one, Mock(distributed.Client), verbose=False)
    embed(store, Mock(distributed.Client), genome="other.fa", verbose=False)
    assert names[0] == names[1]
    assert len({*names}) == 3


def test_weights_other_than_planned_are_refused_by_every_worker(client, store):
    with pytest.raises(StoreError, match=r"6 of 6 units failed\. units 0, 1") as told:
        embed(store, client, weights="mini", verbose=False)
    assert str(told.value).count("PlanMismatchError") == 1
    assert "weights_digest" in str(told.value)


def test_a_call_after_one_that_failed_is_told_nothing_old(client, tmp_path):
    genome = write_fasta(tmp_path / "toy.fa", chr1=random_letters(9000))
    embedder = EnformerEmbedder("untrained-tiny", sequence_length=1024, genome=genome)
    rows = [("chr1", start, start + 1) for start in (5000, 6000, 7000)]
    regions = pd.DataFrame(rows, columns=["chrom", "start", "end"])
    store = plan_store(embedder, regions, tmp_path / "out.zarr", unit_rows=1)
    away = genome.rename(tmp_path / "away.fa")
    with pytest.raises(StoreError, match=r"3 of 3 units failed\. .*Genome"):
        embed(store, client, verbose=False)
    away.rename(genome)
    assert embed(store, client, verbose=False).n_computed == 3


@pytest.mark.parametrize(
    ("failed", "told"),
    [
        ({1: "why"}, "1 of 3 units failed, all others are done. units 1: why"),
        (dict.fromkeys(range(3), "x"), "3 of 3 units failed. units 0, 1, 2: x"),
    ],
)
def test_others_are_told_of_where_there_are_any(failed, told):
    assert module._summary(failed, 3) == told


def test_several_reasons_are_a_warning_and_a_report(client, store, monkeypatch):
    failed = {unit: f"reason {unit}" for unit in range(6)}
    monkeypatch.setattr(module, "_compute", lambda *_, **__: failed)
    with pytest.warns(FailedUnitsWarning, match="6 of 6 units failed"):
        assert embed(store, client).failed == failed


def test_a_number_of_workers_is_no_client(store):
    with pytest.raises(InputTypeError, match=r"client is int, .* `with local_client"):
        embed(store, 4)


def test_a_store_must_be_there(client, tmp_path):
    with pytest.raises(StoreError, match="there is no store"):
        embed(tmp_path / "absent.zarr", client)


def test_a_unit_that_raises_fails_alone(client):
    failed = compute(client, Work(raising=(3,)), 8, "raising")
    assert failed == {3: "ValueError: unit 3 is bad"}


def test_errors_of_tasks_are_forgotten_before_others_have_their_names(client):
    for _ in range(3):
        failed = compute(client, Work(raising=(0, 1, 2)), 3, "again")
        assert list(failed) == [0, 1, 2]
        assert compute(client, Work(), 3, "again") == {}


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
