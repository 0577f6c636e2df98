"""Scores on disk: resumed, put back in order, and found damaged.

Processes are killed in tests/faults.
"""

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, PlanMismatchError, StoreError
from enformer_features.storage.store import StorePlan, create_store, open_store
from enformer_features.variant_effect import store as module
from enformer_features.variant_effect.estimator import VariantEffect
from enformer_features.variant_effect.store import (
    ScoreArray,
    open_scores,
    partial_store,
    score_variants,
)
from tests.estimators.toy import embedder, random_letters, write_fasta
from tests.variant_effect.jobs import REASON, KnownJob, variants


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr("os.fsync", lambda _: None)


def together(scores):
    return np.concatenate([values for _, values in scores.iterate()])


def test_scores_come_back_in_the_order_of_the_table(tmp_path):
    job = KnownJob(variants(), failing=(5,))
    scores = score_variants(job, tmp_path / "s.zarr", unit_rows=2)
    np.testing.assert_array_equal(scores.read(), job.expected())
    np.testing.assert_array_equal(scores.read([6, 0, 6]), job.expected()[[6, 0, 6]])
    np.testing.assert_array_equal(scores.read(slice(2, 5)), job.expected()[2:5])
    some = scores.read([6, 0], slice(1, 3))
    np.testing.assert_array_equal(some, job.expected()[[6, 0], 1:3])
    assert scores.reasons().tolist() == ["", "", REASON, "", "", "not finite", ""]
    assert (len(scores), scores.names) == (7, job.names)


def test_units_are_computed_in_the_order_in_which_rows_share_references(tmp_path):
    job = KnownJob(variants())
    score_variants(job, tmp_path / "s.zarr", unit_rows=3)
    order = [row for row in job.order().tolist() if row != 2]  # row 2 is skipped
    assert [row for rows in job.asked for row in rows] == order


@pytest.mark.parametrize("n_finished", [0, 1, 3])
def test_what_was_finished_is_not_computed_again(tmp_path, n_finished):
    path = tmp_path / "s.zarr"
    first = KnownJob(variants(), stops_after=n_finished)
    with pytest.raises(KeyboardInterrupt):
        score_variants(first, path, unit_rows=2)
    second = KnownJob(variants())
    scores = score_variants(second, path, unit_rows=2)
    asked = [row for rows in first.asked + second.asked for row in rows]
    assert sorted(asked) == [0, 1, 3, 4, 5, 6]
    np.testing.assert_array_equal(scores.read(), second.expected())
    third = KnownJob(variants(), stops_after=0)
    np.testing.assert_array_equal(
        score_variants(third, path, unit_rows=2).read(), second.expected()
    )


def test_a_store_can_be_opened_without_the_job(tmp_path):
    job = KnownJob(variants(gene=["A", "B"] * 3 + [""]))
    score_variants(job, tmp_path / "s.zarr", unit_rows=3)
    scores = open_scores(tmp_path / "s.zarr")
    pd.testing.assert_frame_equal(scores.table(), job.table, check_dtype=False)
    assert (scores.scores, scores.targets) == (["SAD", "max_bin"], job.targets)
    about = {**job.provenance(), "scores_identity": job.identity()}
    assert (scores.identity, scores.provenance) == (job.identity(), about)


def test_a_store_is_an_anndata_with_caution_and_provenance(tmp_path):
    job = KnownJob(variants(), weights="untrained-tiny")
    path = score_variants(job, tmp_path / "s.zarr").path
    adata = anndata.read_zarr(path)
    assert "mean nothing" in adata.uns["caution"][0]
    assert adata.uns["enformer_features"]["weights"] == "untrained-tiny"
    assert list(adata.var_names) == job.names


def test_memory_is_bounded_by_chunks_and_kept_units(tmp_path, monkeypatch):
    job = KnownJob(variants(23))
    scores = score_variants(job, tmp_path / "s.zarr", unit_rows=2)
    monkeypatch.setattr(module, "CHUNK_ROWS", 5)
    monkeypatch.setattr(module, "KEPT_BYTES", 2 * 2 * 6 * 4)
    sizes = []
    for rows, values in scores.iterate():
        sizes.append(len(values))
        np.testing.assert_array_equal(values, job.expected()[rows])
        assert len(scores._kept) <= 2
    assert sizes == [5, 5, 5, 5, 3]


def test_other_settings_are_refused_and_named(tmp_path):
    path = tmp_path / "s.zarr"
    with pytest.raises(KeyboardInterrupt):
        score_variants(KnownJob(variants(), stops_after=0), path)
    other = KnownJob(variants(), weights="mini")
    with pytest.raises(PlanMismatchError, match="weights: 'mini' != 'enformer'"):
        score_variants(other, path)
    moved = KnownJob(variants().assign(pos=range(1, 8)))
    with pytest.raises(PlanMismatchError, match="same settings, for other variants"):
        score_variants(moved, path)


def test_a_refusal_begins_with_settings_and_files_and_cuts_digests(tmp_path):
    def inputs(name, digit):
        return {"vcf": {"name": name, "sha256": digit * 64}}

    class Job(KnownJob):
        def provenance(self):
            more = {"weights_digest": f"sha256:{self.weights[0] * 64}", "counts": {}}
            return super().provenance() | more | {"variant_bins": self.weights}

    path = tmp_path / "s.zarr"
    old = Job(variants(), weights="aa", stops_after=0)
    with pytest.raises(KeyboardInterrupt):
        score_variants(old, path, inputs=inputs("a.vcf", "1"))
    new = Job(variants(), weights="bb", targets=("liver",))
    with pytest.raises(PlanMismatchError) as error:
        score_variants(new, path, inputs=inputs("b.vcf", "2"))
    _, first, *others = str(error.value).splitlines()
    assert first == "  bins: 'bb' != 'aa'"
    assert "  targets: (liver) != (liver, T cell, T-cell)" in others
    files = "'b.vcf (222222222222...)' != 'a.vcf (111111111111...)'"
    assert others[-4:-1] == [
        f"  vcf: {files}",
        "  weights: 'bb' != 'aa'",
        "  weights_digest: 'sha256:bbbbbbbbbbbb...' != 'sha256:aaaaaaaaaaaa...'",
    ]


def test_a_store_names_the_files_that_were_read(tmp_path):
    inputs = {"vcf": {"name": "a.vcf", "sha256": "1" * 64}}
    scores = score_variants(KnownJob(variants()), tmp_path / "s.zarr", inputs=inputs)
    assert scores.provenance["inputs"] == inputs


def test_a_finished_store_is_replaced_when_asked(tmp_path):
    path = tmp_path / "s.zarr"
    score_variants(KnownJob(variants()), path)
    other = KnownJob(variants(3), weights="mini")
    with pytest.raises(PlanMismatchError, match="overwrite=True"):
        score_variants(other, path)
    scores = score_variants(other, path, overwrite=True)
    np.testing.assert_array_equal(scores.read(), other.expected())


@pytest.mark.parametrize("replaces", [True, False])
def test_an_unfinished_store_is_replaced_when_asked(tmp_path, replaces):
    path = tmp_path / "s.zarr"
    if replaces:
        score_variants(KnownJob(variants(4)), path)
    first = KnownJob(variants(), stops_after=1)
    with pytest.raises(KeyboardInterrupt):
        score_variants(first, path, unit_rows=2, overwrite=True)
    other = KnownJob(variants(3), weights="mini")
    with pytest.raises(PlanMismatchError, match="overwrite=True"):
        score_variants(other, path)
    scores = score_variants(other, path, overwrite=True)
    np.testing.assert_array_equal(scores.read(), other.expected())
    assert list(tmp_path.iterdir()) == [path]


def test_an_unfinished_store_of_something_else_is_never_replaced(tmp_path):
    path = tmp_path / "s.zarr"
    plan = StorePlan("X", 1, (1,), "float32", 1, ("a",))
    tables = pd.DataFrame(index=["r"]), pd.DataFrame(index=["f"])
    create_store(path, plan, *tables, {})
    with pytest.raises(PlanMismatchError, match=r"or remove .*\.partial"):
        score_variants(KnownJob(variants()), path, overwrite=True)
    assert not open_store(path).is_finished


@pytest.mark.parametrize("is_finished", [True, False])
def test_damaged_values_are_computed_again_and_only_they(tmp_path, is_finished):
    path = tmp_path / "s.zarr"
    if is_finished:
        score_variants(KnownJob(variants()), path, unit_rows=2)
    else:
        with pytest.raises(KeyboardInterrupt):
            score_variants(KnownJob(variants(), stops_after=3), path, unit_rows=2)
    file = open_store(path).folder / "X" / "c.1.0"
    content = bytearray(file.read_bytes())
    content[3] ^= 1
    file.write_bytes(content)
    job = KnownJob(variants())
    scores = score_variants(job, path, unit_rows=2)
    np.testing.assert_array_equal(scores.read(), job.expected())
    assert len(job.asked) == (1 if is_finished else 2)


def test_a_job_of_skipped_rows_only_computes_nothing(tmp_path):
    job = KnownJob(variants(5, reason="skipped: breakend"), stops_after=0)
    scores = score_variants(job, tmp_path / "s.zarr")
    assert np.isnan(scores.read()).all()
    assert set(scores.reasons()) == {"skipped: breakend"}


def test_units_are_256_rows_or_fewer_where_rows_are_large(tmp_path):
    assert module._unit_rows("auto", 100) == 256
    assert module._unit_rows("auto", 80_000) == 100
    for wrong in (0, True, 2.0, "many"):
        with pytest.raises(InputError, match=r"unit_rows=.* must be 'auto' or a"):
            score_variants(KnownJob(variants()), tmp_path / "s.zarr", unit_rows=wrong)


def test_no_rows_are_refused(tmp_path):
    with pytest.raises(InputError, match="the table has no rows"):
        score_variants(KnownJob(variants(0)), tmp_path / "s.zarr")


def test_a_store_of_something_else_is_refused(tmp_path):
    plan = StorePlan("X", 1, (1,), "float32", 1, ("a",))
    tables = pd.DataFrame(index=["r"]), pd.DataFrame(index=["f"])
    create_store(tmp_path / "s.zarr", plan, *tables, {})
    with pytest.raises(StoreError, match="not one of variant scores"):
        open_scores(tmp_path / "s.zarr")


def test_a_store_beside_an_output_can_be_removed(tmp_path):
    path = partial_store(tmp_path / "out.tsv")
    score_variants(KnownJob(variants()), path).remove()
    assert list(tmp_path.iterdir()) == []


def test_scores_in_memory_have_the_same_face():
    scores = ScoreArray(np.arange(6).reshape(3, 2), ["", "", "why"])
    assert together(scores).tolist() == [[0, 1], [2, 3], [4, 5]]
    assert scores.reasons().tolist() == ["", "", "why"]


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_scores_of_a_network_are_those_of_transform(tmp_path):
    letters = random_letters(6000, 1)
    genome = write_fasta(tmp_path / "g.fa", chr1=letters)
    pos = [3001, 1501, 3001, 4000, 1502]
    ref = [letters[place - 1] for place in pos]
    alt = ["ACGT"[("ACGT".index(base) + 1) % 4] for base in ref]
    alt[3] = ref[3] + "GAT"
    X = pd.DataFrame({"chrom": "chr1", "pos": pos, "ref": ref, "alt": alt})
    X.loc[2, "alt"] = "<DEL>"
    effect = VariantEffect(
        embedder(genome=genome, output="tracks", tracks=[1, 5]), score=("SAD", "max")
    )
    scores = score_variants(effect.job(X), tmp_path / "s.zarr", unit_rows=2)
    np.testing.assert_array_equal(scores.read(), effect.fit_transform(X))
    assert scores.reasons()[2].startswith("symbolic")
    assert "mean nothing" in anndata.read_zarr(scores.path).uns["caution"][0]
