"""Kills while variants are scored and written."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from enformer_features.variant_effect.outputs import write_scores
from enformer_features.variant_effect.store import partial_store, score_variants
from tests.faults.children import Children, run, short_and_full
from tests.variant_effect.jobs import KnownJob, variants

Figure = Callable[[str], None]

UNIT_ROWS, SECONDS = 4, 0.02  # of computing a unit
N_UNITS = 30  # for each kill


class SlowJob(KnownJob):
    """Tells which rows it is about to compute, and takes its time."""

    def compute(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        print(*np.asarray(rows).tolist(), flush=True)
        time.sleep(SECONDS)
        return super().compute(rows)


def score(out: str, n_rows: str) -> None:
    """Score and write, as the command does."""
    import anndata  # noqa: F401  which takes a second: no time to be killed in

    job = SlowJob(variants(int(n_rows)))
    print("ready", flush=True)
    path = partial_store(out)
    store = score_variants(job, path, unit_rows=UNIT_ROWS, overwrite=True)
    write_scores(store, job, out, overwrite=True)
    store.remove()


@short_and_full("kills", 1, 20)
def test_killed_scoring_goes_on_and_the_table_is_the_same(
    kills: int, tmp_path: Path, children: Children, figure: Figure
) -> None:
    rng = random.Random(17)
    n_rows, out = kills * N_UNITS * UNIT_ROWS, tmp_path / "killed.tsv"
    asked: list[int] = []
    for _ in range(kills):
        worker = children.start(score, out, n_rows)
        assert worker.stdout is not None
        assert worker.stdout.readline() == "ready\n"
        children.kill_after(rng.uniform(0.05, 0.35), worker)
        asked += [int(row) for line in worker.stdout for row in line.split()]
        assert not out.exists()
    ended = run(score, out, n_rows)
    assert ended.returncode == 0, ended.stderr
    asked += [int(row) for row in ended.stdout.removeprefix("ready").split()]
    assert {*asked} == {*range(n_rows)} - {2}  # which is skipped
    again = len(asked) - len({*asked})
    assert again <= kills * UNIT_ROWS

    job = KnownJob(variants(n_rows))
    write_scores(job.expected(), job, tmp_path / "calm.tsv")
    assert out.read_bytes() == (tmp_path / "calm.tsv").read_bytes()
    left = [path.name for path in tmp_path.iterdir() if path.name[0] != "."]
    assert sorted(left) == ["calm.tsv", "killed.tsv"]
    figure(
        f"{kills} kills while {n_rows} variants were scored: the same table, {again} "
        f"rows computed twice, at most {UNIT_ROWS} for each kill"
    )
