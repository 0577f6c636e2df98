"""Real VCF files: every allele is scored, skipped or flagged, and says why."""

from __future__ import annotations

import gzip

import numpy as np
import pytest

from enformer_features import EnformerEmbedder
from enformer_features.genomics.vcf import read_vcf
from enformer_features.variant_effect.estimator import VariantEffect

LOCAL = {
    "1000g_phase1_chr6": 1_729,
    "dbsnp135_exome_chr1": 734,
    "platinum_na12878_chr21": 1_610,
    "vep_test_chr21": 132,
    "nist_na12878_complex": 917,
}
pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning",
    "ignore::enformer_features.exceptions.WindowWarning",
    "ignore::enformer_features.exceptions.VariantWarning",
)


def tiny(genome):
    return EnformerEmbedder(
        "untrained-tiny", genome=genome, sequence_length=1_024, cache=None
    )


@pytest.mark.parametrize(("name", "n_records"), LOCAL.items())
def test_every_allele_is_scored_skipped_or_flagged(shared, name, n_records):
    variants = read_vcf(shared / "data" / "variants" / f"{name}.local.vcf")
    assert variants["record"].nunique() == n_records
    genome = shared / "data" / "human" / "regions.fa.gz"
    effect = VariantEffect(
        tiny(genome), snap_bp=256, on_mismatch="flag", on_error="nan"
    )
    job = effect.job(variants)
    assert sum(job.counts.values()) == len(job) == len(variants)
    order = job.order()
    assert sorted(order) == list(range(len(job)))
    chosen = order[:: max(1, len(order) // 60)]
    values, reasons = job.compute(chosen)
    is_scored = np.isfinite(values).all(axis=1)
    np.testing.assert_array_equal(is_scored, reasons == "")
    assert is_scored.mean() > 0.9
    assert (values[is_scored] != 0).any(axis=1).mean() > 0.9


def test_a_megabase_of_the_thousand_genomes_is_parsed_checked_and_placed(
    shared, tmp_path
):
    folder = shared / "data" / "variants" / "vg_1mb1kgp"
    genome = tmp_path / "z.fa"  # the source is plain gzip, which is refused
    genome.write_bytes(gzip.decompress((folder / "z.fa.gz").read_bytes()))
    variants = read_vcf(folder / "z.vcf.gz")
    assert variants["record"].nunique() == 28_998
    embedder = EnformerEmbedder("mini", genome=genome, output="tracks", cache=None)
    job = VariantEffect(embedder).job(variants)
    assert sum(job.counts.values()) == len(job) == len(variants)
    assert job.counts["substitution"] + job.counts["indel"] == len(job.rows)
    assert job.table.loc[job.rows, "ref_matches"].all()
    middle = (job.table["window_start"] + job.table["window_end"]) // 2
    assert (middle[job.rows] == job.table["start"].iloc[job.rows]).all()
