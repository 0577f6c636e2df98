"""Saturation mutagenesis: the same as scoring every substitution by itself."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from enformer_features import EnformerEmbedder
from enformer_features.exceptions import GenomeError, InputError, InputTypeError
from enformer_features.genomics.variants import variant_table
from enformer_features.model.handle import ModelHandle
from enformer_features.variant_effect.estimator import VariantEffect
from enformer_features.variant_effect.mutagenesis import saturation_mutagenesis
from tests.inference.networks import ODD, network_of

LETTERS = "ACGTN" * 3 + "GATTACA" * 1_000


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    path.write_text(f">chr1\n{LETTERS}\n")
    return EnformerEmbedder(
        ModelHandle(network_of(ODD)),
        genome=path,
        output="tracks",
        sequence_length=3_968,
        cache=None,
    )


def test_every_substitution_has_the_effect_that_it_has_by_itself(embedder):
    ism = saturation_mutagenesis(embedder, "chr1:4001-4003", tss=4_100, strand="-")
    assert ism.effects.shape == (3, 4, 7)
    assert ism.ref == LETTERS[4_000:4_003]
    table = ism.to_frame()
    assert len(table) == 9
    pairs = variant_table(table.assign(tss=4_100, strand="-"))
    alone = VariantEffect(embedder).transform(pairs)
    np.testing.assert_array_equal(table[ism.names].to_numpy(), alone)
    at_ref = [ism.effects[i, "ACGT".index(base)] for i, base in enumerate(ism.ref)]
    assert not np.any(at_ref)
    others = [ism.effects[0, "ACGT".index(b)] for b in "ACGT" if b != ism.ref[0]]
    np.testing.assert_array_equal(others, alone[:3])


def test_without_a_tss_the_region_is_in_the_middle_and_all_bins_are_read(embedder):
    ism = saturation_mutagenesis(embedder, "chr1:4001-4003", score=("SAD", "D2"))
    centred = variant_table(ism.to_frame().assign(tss=4_001, strand="+"))
    effect = VariantEffect(embedder, score=("SAD", "D2"), bins="all")
    expected = effect.transform(centred)
    np.testing.assert_array_equal(ism.to_frame()[ism.names].to_numpy(), expected)


def test_a_region_is_read_as_it_says(embedder):
    expected = saturation_mutagenesis(embedder, "chr1:4001-4003", strand="-")
    said = saturation_mutagenesis(embedder, "chr1:4001-4003(-)")
    np.testing.assert_array_equal(said.effects, expected.effects)
    table = pd.DataFrame(
        {"chrom": ["1"], "start": 4_000, "end": 4_003, "tss": 4_100, "strand": "-"}
    )
    ucsc = clone(embedder).set_params(contig_style="ucsc")
    said = saturation_mutagenesis(ucsc, table)
    expected = saturation_mutagenesis(embedder, "chr1:4001-4003", tss=4_100, strand="-")
    np.testing.assert_array_equal(said.effects, expected.effects)


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning")
def test_unknown_bases_have_no_effect_to_tell(embedder):
    ism = saturation_mutagenesis(embedder, "chr1:4-6")
    assert ism.ref == "TNA"
    assert np.isnan(ism.effects[1]).all()
    assert np.isfinite(ism.effects[[0, 2]]).all()
    assert ism.to_frame()["pos"].tolist() == [4, 4, 4, 6, 6, 6]


def test_regions_that_cannot_be_mutated_are_refused(embedder):
    with pytest.raises(GenomeError, match="unknown contig 'chr7'"):
        saturation_mutagenesis(embedder, "chr7:1-5")
    with pytest.raises(InputTypeError, match="2 rows; mutate one at a time"):
        saturation_mutagenesis(embedder, ["chr1:1-5", "chr1:7-9"])
    with pytest.raises(InputError, match="outside its window"):
        saturation_mutagenesis(embedder, "chr1:4001-4003", tss=600)
    with pytest.raises(InputError, match="5000 bp, its window 3968 bp"):
        saturation_mutagenesis(embedder, "chr1:1001-6000")
    bare = EnformerEmbedder("untrained-tiny")
    with pytest.raises(InputError, match="needs a genome"):
        saturation_mutagenesis(bare, "chr1:1-5")


def test_contributions_are_the_reference_less_the_mean_of_the_others(embedder):
    found = saturation_mutagenesis(embedder, "chr1:4001-4003", tss=4_100)
    table = found.to_frame()
    mean = table.groupby("pos")[found.names[2]].mean()
    np.testing.assert_allclose(found.contributions(2), -mean, rtol=1e-5)
    np.testing.assert_array_equal(
        found.contributions(found.names[2]), found.contributions(2)
    )
    with pytest.raises(InputError, match="is not one of 'human_0000'"):
        found.contributions("liver")
