"""Which outputs a command that goes on may replace."""

import pytest

from enformer_features.variant_effect.outputs import SUFFIXES, write_scores
from enformer_features.variant_effect.pc_tables import pca_tables
from enformer_features.variant_effect.store import partial_store, score_variants
from enformer_features.variant_effect.unfinished import holds_scores, waiting_identity
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


def test_only_finished_scores_of_the_same_job_wait(tmp_path):
    out = tmp_path / "s.tsv"
    job = KnownJob(variants())
    assert waiting_identity(out, job) is None
    with pytest.raises(KeyboardInterrupt):
        score_variants(KnownJob(variants(), stops_after=0), partial_store(out))
    assert waiting_identity(out, job) is None
    score_variants(job, partial_store(out))
    assert waiting_identity(out, job) == job.identity()
    assert waiting_identity(out, KnownJob(variants(3))) is None
    for file in partial_store(out).rglob("plan*"):
        file.write_text("damaged")
    assert waiting_identity(out, job) is None
