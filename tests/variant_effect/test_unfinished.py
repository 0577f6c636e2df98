"""Which outputs a command that goes on may replace."""

import pandas as pd
import pytest

from enformer_features.storage.store import StorePlan, create_store
from enformer_features.variant_effect.outputs import SUFFIXES, write_scores
from enformer_features.variant_effect.pc_tables import pca_tables
from enformer_features.variant_effect.store import partial_store, score_variants
from enformer_features.variant_effect.unfinished import (
    begun_scores,
    holds_scores,
    kept_rows,
)
from tests.variant_effect.jobs import KnownJob, variants

pytest.importorskip("pysam")


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_every_output_tells_whose_scores_it_holds(tmp_path, suffix):
    job = KnownJob(variants())
    path = write_scores(job.expected(), job, tmp_path / f"s{suffix}")
    assert holds_scores(path, job.identity())
    assert not holds_scores(path, KnownJob(variants(3)).identity())


def test_tables_of_components_tell_whose_they_are(tmp_path):
    job = KnownJob(variants())
    store = score_variants(job, tmp_path / "s.zarr")
    pca_tables(store, tmp_path / "pc", n_components=1)
    assert all(
        holds_scores(path, job.identity())
        for path in (tmp_path / "pc").glob("*.tsv.gz")
    )


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_files_of_others_hold_no_scores(tmp_path, suffix):
    path = tmp_path / f"s{suffix}"
    assert not holds_scores(path, "ab")
    assert not path.exists()
    path.write_bytes(b"mine\xff\n")
    assert not holds_scores(path, "ab")


def test_scores_that_wait_are_counted_and_told_whose_they_are(tmp_path):
    out = tmp_path / "s.tsv"
    job = KnownJob(variants())
    assert begun_scores(out, job) is None
    assert kept_rows(out) is None
    stopped = KnownJob(variants(), stops_after=2)
    with pytest.raises(KeyboardInterrupt):
        score_variants(stopped, partial_store(out), unit_rows=2)
    begun = begun_scores(out, job)
    assert (begun.n_done, begun.n_rows) == kept_rows(out)
    assert begun.n_done in (4, 6)  # row 2 is skipped, and never asked for
    assert (begun.differences, begun.own_identity) == ((), None)
    score_variants(job, partial_store(out), unit_rows=2)
    assert begun_scores(out, job).own_identity == job.identity()
    other = begun_scores(out, KnownJob(variants(), weights="mini"))
    assert other.differences == ("weights: 'mini' != 'enformer'",)
    assert other.own_identity is None
    for file in partial_store(out).rglob("plan*"):
        file.write_text("damaged")
    assert begun_scores(out, job) is None


def test_stores_of_something_else_hold_no_scores_that_wait(tmp_path):
    plan = StorePlan("X", 1, (1,), "float32", 1, ("a",))
    tables = pd.DataFrame(index=["r"]), pd.DataFrame(index=["f"])
    create_store(partial_store(tmp_path / "s.tsv"), plan, *tables, {})
    assert begun_scores(tmp_path / "s.tsv", KnownJob(variants())) is None
