import runpy
import sys

import numpy as np
import pandas as pd
import pytest

from enformer_features import EnformerEmbedder
from enformer_features.variant_effect.mutagenesis import Mutagenesis
from tests.conftest import REPOSITORY

EXAMPLE = str(REPOSITORY / "examples" / "rs11644125.py")
VARIANT = "chr21_25M:749360:C>G"  # a real one, 370 bp downstream of the start of GABPA


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(EXAMPLE)


@pytest.fixture
def run(shared, example, monkeypatch):
    human = shared / "data" / "human"
    given = ["--genome", human / "regions.fa.gz", "--weights", "mini"]

    def call(*options):
        options = [*given, "--around", "3", "--tracks", "0,7", *options]
        monkeypatch.setattr(sys, "argv", ["example", *map(str, options)])
        example["main"]()

    return call


def test_a_real_variant_beside_a_real_gene(shared, run, capsys, tmp_path):
    genes, out = shared / "data" / "human" / "genes.tsv", tmp_path / "all.tsv"
    run("--variant", VARIANT, "--genes", genes, "--gene", "GABPA", "--out", out)
    printed = capsys.readouterr().out
    assert f"{VARIANT}, 370 bp downstream of the start of GABPA" in printed
    assert "track 0 (human_0000): " in printed
    assert "in size of 21 substitutions within 3 bp" in printed
    assert "749360   C" in printed
    assert "The network is the small bundled one" in printed
    table = pd.read_csv(out, sep="\t")
    assert table["pos"].tolist() == sorted(3 * list(range(749357, 749364)))


def test_the_variants_effect_is_one_of_the_substitutions(shared, example):
    human = shared / "data" / "human"
    embedder = EnformerEmbedder(
        "mini", genome=human / "regions.fa.gz", output="tracks", tracks=[0, 7]
    )
    variant = example["read_variant"](VARIANT)
    pair = variant.assign(gene="GABPA", tss=748_989, strand="+")
    found = example["effect_on_gene"](embedder, pair)
    ism = example["saturation_mutagenesis"](
        embedder, "chr21_25M:749360-749360", tss=748_989
    )
    change = (found["ALT"] - found["REF"]).to_numpy()
    np.testing.assert_allclose(ism.effects[0, 2], change, atol=1e-5)
    rank, n = example["rank_of"](ism, variant.iloc[0], 0)
    assert n == 3
    assert rank == 1 + (np.abs(ism.effects[0, :, 0]) > abs(ism.effects[0, 2, 0])).sum()


def test_the_height_of_a_letter_is_what_its_substitutions_take_away(example):
    effects = np.array([[[0.0], [-3.0], [-6.0], [0.0]]], dtype=np.float32)
    table = example["letters_of"](Mutagenesis("chr1", 41, "A", effects, ["x"]), 0)
    assert table.loc[0, ["pos", "ref", "height"]].tolist() == [42, "A", 3.0]
    assert table.loc[0, ["to C", "to G"]].tolist() == [-3, -6]


def test_the_published_case_is_the_default(example, monkeypatch):
    variant = example["read_variant"](example["VARIANT"]).iloc[0]
    assert variant.tolist() == ["chr16", 57_025_062, "C", "T"]
    assert example["TRACKS"] == "4767,2280"
    chrom, tss, strand = example["NLRC5_TSS"]
    assert (chrom, strand, variant["pos"] - 1 - tss) == ("chr16", "+", 35_577)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--variant", "chr1:5:AC>A"), "is no substitution; expected chrom:pos"),
        (("--variant", VARIANT), "NLRC5 is on chr16, the variant on chr21_25M"),
        (("--variant", VARIANT, "--gene", "GABPA"), "--gene GABPA needs --genes"),
    ],
)
def test_mistakes_are_one_line(run, options, message):
    with pytest.raises(SystemExit, match=f"^error: .*{message}"):
        run(*options)


def test_an_unknown_gene_is_one_line(shared, run):
    genes = shared / "data" / "human" / "genes.tsv"
    with pytest.raises(SystemExit, match="has 0 genes called NLRC5; expected one"):
        run("--variant", VARIANT, "--genes", genes)


def test_a_variant_that_is_not_the_genomes_is_one_line(shared, run):
    genes = ("--genes", shared / "data" / "human" / "genes.tsv", "--gene", "GABPA")
    with pytest.raises(SystemExit, match="error: 1 of 1 REF alleles differ"):
        run("--variant", VARIANT.replace("C>", "A>"), *genes)
