"""Processes, workers, threads and forks that share a genome, a cache and a network."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from enformer_features.storage.disk_cache import DiskCache
from tests.faults.children import environment, run, short_and_full
from tests.genomics.fasta import fasta_text, read_plainly, write_bgzf

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning",
    "ignore::enformer_features.exceptions.WindowWarning",
)
FORK = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
CONTIGS = {"chr1": 30_001, "chr2": 17_003, "chr3": 5_003}


class CountingCache(DiskCache):
    """Leaves a byte in a file for every row that was computed, by any process."""

    def __reduce__(self) -> tuple[type[CountingCache], tuple[str]]:
        return CountingCache, (str(self.path),)

    def put(
        self, key: str, row: np.ndarray, about: Mapping[str, Any] | None = None
    ) -> None:
        with open(f"{self.path}.computed", "ab", buffering=0) as file:
            file.write(b".")
        super().put(key, row, about)

    def n_computed(self) -> int:
        return Path(f"{self.path}.computed").stat().st_size


def embedder(**parameters: Any) -> Any:
    from tests.estimators.toy import embedder  # not imported where no child needs it

    return embedder(**parameters)


def write_genome(path: Path, seed: int = 0) -> Path:
    rng = random.Random(seed)
    contigs = {
        name: "".join(rng.choices("ACGTacgtN", k=n)) for name, n in CONTIGS.items()
    }
    text = fasta_text(contigs)
    if path.suffix == ".gz":
        return write_bgzf(path, text)
    path.write_text(text)
    return path


def regions(n: int = 12, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    chrom = rng.choice(list(CONTIGS), n)
    return pd.DataFrame(
        {
            "chrom": chrom,
            "tss": [int(rng.integers(0, CONTIGS[name])) for name in chrom],
            "strand": rng.choice(["+", "-"], n),
        }
    )


# Processes that start together


def embed_when_told() -> None:
    """For every folder that is named on standard input: read bases, embed, tell."""
    from enformer_features.genomics.encoding import encode
    from enformer_features.genomics.genome import open_genome

    rng = random.Random(os.getpid())
    embedder().transform(["ACGT" * 256])  # the network is loaded
    print("ready", flush=True)
    for line in sys.stdin:
        path = Path(line.strip())
        expected = read_plainly(path)
        genome = open_genome(path)
        n_wrong = int(list(genome.contigs) != list(expected))
        for name, letters in expected.items():
            for _ in range(20):
                start = rng.randrange(len(letters))
                end = min(start + rng.randrange(1, 2_000), len(letters))
                found = genome.fetch(name, start, end)
                n_wrong += int((found != encode(letters[start:end])).sum())
        rows = embedder(genome=path, cache=path.parent / "rows").transform(regions())
        digest = hashlib.sha256(rows.tobytes()).hexdigest()
        print(json.dumps({"wrong": n_wrong, "digest": digest}), flush=True)


@short_and_full("sizes", (2, 2), (4, 20))
def test_processes_that_start_together_without_index_and_cache_all_agree(
    tmp_path, children, figure, sizes
):
    n, rounds = sizes
    started = [children.start(embed_when_told, stdin=subprocess.PIPE) for _ in range(n)]
    for child in started:
        assert child.stdout.readline() == "ready\n", child.stderr.read()
    told = []
    for number in range(rounds):
        folder = tmp_path / str(number)
        folder.mkdir()
        path = write_genome(folder / ("toy.fa.gz" if number % 2 else "toy.fa"), number)
        for child in started:
            child.stdin.write(f"{path}\n")
            child.stdin.flush()
        for child in started:
            line = child.stdout.readline()
            assert line, child.stderr.read()
            told.append(json.loads(line))
        rows = embedder(genome=path).transform(regions())
        expected = hashlib.sha256(rows.tobytes()).hexdigest()
        assert [one["digest"] for one in told[-n:]] == [expected] * n
        report = DiskCache(folder / "rows").verify()
        assert (report.damaged, report.leftovers) == ([], [])
        assert report.n_rows == len(regions())
        assert not list(folder.glob(".*.tmp"))
    wrong = sum(one["wrong"] for one in told)
    assert wrong == 0
    figure(f"{len(told)} processes in {rounds} rounds: 0 failed, {wrong} wrong bases")


# Cross-validation, workers and threads


@pytest.mark.parametrize("n_jobs", [1, 2])
def test_a_grid_search_after_warming_embeds_no_window_again(tmp_path, figure, n_jobs):
    from sklearn.linear_model import Ridge
    from sklearn.model_selection import GridSearchCV
    from sklearn.pipeline import make_pipeline

    genome = write_genome(tmp_path / "toy.fa")
    X = pd.concat([regions(9), regions(9)[:3]], ignore_index=True)
    cache = CountingCache(tmp_path / "rows")
    model = make_pipeline(embedder(genome=genome, cache=cache), Ridge())
    assert model[0].warm(X) == 9
    search = GridSearchCV(model, {"ridge__alpha": [1, 10, 100]}, cv=3, n_jobs=n_jobs)
    search.fit(X, np.arange(12.0))
    assert cache.n_computed() == 9
    uncached = make_pipeline(embedder(genome=genome), Ridge())
    alone = GridSearchCV(uncached, {"ridge__alpha": [1, 10, 100]}, cv=3)
    alone.fit(X, np.arange(12.0))
    np.testing.assert_array_equal(
        search.cv_results_["mean_test_score"], alone.cv_results_["mean_test_score"]
    )


@pytest.mark.parametrize("kind", ["processes", "threads"])
def test_workers_give_the_bits_of_one_process(tmp_path, kind):
    from joblib import Parallel, delayed

    from enformer_features.genomics.genome import Genome

    with Genome(write_genome(tmp_path / "toy.fa")) as genome:
        model, X = embedder(genome=genome, cache=tmp_path / "rows"), regions(24)
        parts = [X[i : i + 4] for i in range(0, 24, 4)]
        with Parallel(n_jobs=3 if kind == "threads" else 2, prefer=kind) as workers:
            found = workers(delayed(model.transform)(part) for part in parts)
        expected = embedder(genome=genome).transform(X)
    np.testing.assert_array_equal(np.concatenate(found), expected)
    assert DiskCache(tmp_path / "rows").verify().n_rows == 24


def embed_part(genome: str, rows: str, seed: str) -> None:
    model, X = embedder(genome=genome, cache=Path(rows)), regions(20)
    order = np.random.default_rng(int(seed)).permutation(20)[:15]
    equal = (
        model.transform(X.iloc[order]) == embedder(genome=genome).transform(X)[order]
    )
    print(bool(equal.all()), flush=True)


def test_runs_that_share_a_cache_share_their_rows(tmp_path, children):
    genome = write_genome(tmp_path / "toy.fa")
    runs = [
        children.start(embed_part, genome, tmp_path / "rows", seed) for seed in (1, 2)
    ]
    for child in runs:
        assert child.communicate(timeout=120)[0] == "True\n"
    known = embedder(genome=genome, cache=tmp_path / "rows").plan(regions(20)).n_cached
    assert 15 <= known <= 20
    assert embedder(genome=genome, cache=tmp_path / "rows").warm(regions(20)) == (
        20 - known
    )


# Forks


def embed_before_and_after_a_fork(seconds: str) -> None:
    """Use torch's threads, fork, embed in the child; tell how the child ended."""
    import torch

    matrix = torch.ones(1_500, 1_500)
    torch.nn.functional.gelu(matrix @ matrix)
    rows = ["ACGT" * 256]
    before = embedder().transform(rows)
    print(torch.get_num_threads(), flush=True)
    child = os.fork()
    if not child:
        torch.nn.functional.gelu(matrix @ matrix)  # on the parent's threads: for ever
        after = embedder().transform(rows)
        os._exit(0 if np.allclose(after, before, atol=1e-5) else 3)
    until = time.monotonic() + float(seconds)
    while time.monotonic() < until:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            print(os.waitstatus_to_exitcode(status))
            return
        time.sleep(0.05)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    print("hung")


@FORK
def test_a_child_that_was_forked_after_torch_used_its_threads_embeds():
    two_threads = {**environment(), "OMP_NUM_THREADS": "2"}
    done = run(embed_before_and_after_a_fork, 30, env=two_threads)
    assert done.stdout.split() == ["2", "0"], done.stderr


@FORK
@pytest.mark.filterwarnings("ignore:.*multi-threaded:DeprecationWarning")
def test_a_child_that_was_forked_while_a_thread_holds_every_lock_embeds(tmp_path):
    from enformer_features.inference import prepared
    from enformer_features.model import registry

    rows, held, done = ["ACGT" * 256], threading.Event(), threading.Event()
    model = embedder(cache=DiskCache(tmp_path / "rows"))
    expected = embedder().transform(rows)

    def hold() -> None:
        with registry._LOCK, prepared._LOCK, model.cache._lock:
            held.set()
            done.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    child = os.fork()
    if not child:
        signal.alarm(30)  # hanging ends it, and fails the test
        os._exit(0 if (model.transform(rows) == expected).all() else 3)
    status = os.waitpid(child, 0)[1]
    done.set()
    thread.join()
    assert status == 0
