"""Stores that are filled through the network: workers are killed, memory is counted."""

from __future__ import annotations

import random
import sys
import time
from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import psutil
import pytest

from enformer_features import (
    EnformerEmbedder,
    open_embedding_store,
    plan_store,
)
from enformer_features.estimators import streaming
from enformer_features.storage.store.diff import diff
from tests.estimators.toy import random_letters, write_fasta
from tests.faults.children import run, short_and_full

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)

CONTIG_BP = 400_000


def regions(n_rows: int, margin_bp: int) -> pd.DataFrame:
    starts = np.linspace(margin_bp, CONTIG_BP - margin_bp, n_rows).astype(int)
    strands = ["+" if row % 2 else "-" for row in range(n_rows)]
    return pd.DataFrame(
        {"chrom": "chr1", "start": starts, "end": starts + 1, "strand": strands},
        index=[f"row_{row}" for row in range(n_rows)],
    )


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    return write_fasta(folder / "toy.fa", chr1=random_letters(CONTIG_BP, 1))


# Kills


def work(path: str, part: str) -> None:
    """Compute every other unit, the second half from the end."""
    store = open_embedding_store(path)
    units = store.store.pending((int(part), 2))
    for unit in units if part == "1" else units[::-1]:
        store.embed_unit(unit)


def wait_for(store, n_units: int, workers) -> None:
    """Wait until so many units are done."""
    while store.status().n_done < n_units:
        assert any(worker.poll() is None for worker in workers), "all have ended"
        time.sleep(0.01)


@short_and_full("n_kills", 2, 20)
def test_killed_workers_cost_a_unit_each_and_no_bit(
    tmp_path, monkeypatch, genome, children, figure, n_kills
):
    embedder = EnformerEmbedder("mini", genome=genome, sequence_length=1024)
    rows = regions(48 * n_kills, 1000)
    with monkeypatch.context() as patch:
        patch.setattr("os.fsync", lambda _: None)
        straight = plan_store(embedder, rows, tmp_path / "straight.zarr", unit_rows=2)
        straight.run()
    store = plan_store(embedder, rows, tmp_path / "killed.zarr", unit_rows=2)
    rng, n_done = random.Random(0), 0
    for _ in range(n_kills):
        workers = [children.start(work, store.path, part) for part in (1, 2)]
        wait_for(store, n_done + rng.randrange(1, 10), workers)
        children.kill_after(rng.uniform(0, 0.03), *workers)
        assert not store.verify().damaged
        n_done = store.status().n_done
    assert n_done < store.plan.n_units, "the kills came too late"
    store.run()
    redone = store.status().attempts - store.plan.n_units
    assert redone <= 2 * n_kills
    assert diff(store.path, straight.path) == []
    ours, theirs = (anndata.read_zarr(s.finalize()).X for s in (store, straight))
    assert ours.tobytes() == theirs.tobytes()
    figure(
        f"{n_kills} kills of 2 workers, {store.plan.n_units} units: bit-identical, "
        f"0 damaged, {redone} units redone (at most {2 * n_kills})"
    )


# Memory


def export(out: str, genome: str, n_rows: str, unit_bytes: str) -> None:
    """Print by how much exporting bins exceeds the network that has computed one."""
    streaming.UNIT_BYTES = int(unit_bytes)
    embedder = EnformerEmbedder(
        "untrained-tiny",
        genome=genome,
        sequence_length=16_384,
        output="tracks",
        cache=None,
    )
    rows = regions(int(n_rows), 9000)
    embedder.transform(rows[:1])
    before = psutil.Process().memory_info().rss
    embedder.embed_bins(rows, out=out)
    print(peak_bytes() - before)


def peak_bytes() -> int:
    """Return the most memory that this process had, and not what its parent had."""
    status = Path("/proc/self/status").read_text().splitlines()
    (peak,) = (line.split()[1] for line in status if line.startswith("VmHWM:"))
    return int(peak) * 1024


@pytest.mark.skipif(sys.platform != "linux", reason="counts memory as Linux does")
@short_and_full("rows_unit_limit", (40, 3_000_000, 90), (740, 32_000_000, 300))
@pytest.mark.parametrize("name", ["bins.zarr", "bins.h5ad"])
def test_bins_are_exported_without_being_held(
    tmp_path, genome, figure, name, rows_unit_limit
):
    n_rows, unit_bytes, limit_mb = rows_unit_limit
    out = tmp_path / name
    done = run(export, out, genome, n_rows, unit_bytes, timeout=1800)
    assert done.returncode == 0, done.stderr
    written = sum(file.stat().st_size for file in _files(out))
    values = n_rows * 128 * 5313 * 4
    assert written > values > limit_mb * 1e6
    growth = int(done.stdout) / 1e6
    assert growth < limit_mb
    figure(
        f"{values / 1e9:.2f} GB of bins to {out.suffix}: {growth:.0f} MB above the "
        "network"
    )


def _files(path: Path) -> list[Path]:
    return [path] if path.is_file() else [f for f in path.rglob("*") if f.is_file()]
