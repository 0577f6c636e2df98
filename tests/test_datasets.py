"""The toy genome: reproducible, and its expression readable from its sequence."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal

from enformer_features.datasets import (
    MAX_COPIES,
    PROMOTER_BP,
    ToyData,
    make_toy_genome,
    write_toy_tables,
    write_toy_variants,
)
from enformer_features.exceptions import InputError
from enformer_features.genomics.vcf import read_vcf

COMPLEMENT = str.maketrans("ACGT", "TGCA")


def contigs(path: Path) -> dict[str, str]:
    records = path.read_text().split(">")[1:]
    parts = [record.split("\n", 1) for record in records]
    return {name: letters.replace("\n", "") for name, letters in parts}


def motif_counts(toy: ToyData) -> pd.DataFrame:
    """Count each motif in every promoter, read in the gene's direction."""
    genome = contigs(toy.genome)
    half = PROMOTER_BP // 2
    counts = {}
    for gene, chrom, tss, strand in toy.genes.itertuples():
        start = tss - half if strand == "+" else tss + 1 - half
        letters = genome[chrom][start : start + PROMOTER_BP]
        if strand == "-":
            letters = letters.translate(COMPLEMENT)[::-1]
        counts[gene] = [letters.count(motif) for motif in toy.motifs["sequence"]]
    return pd.DataFrame(counts, index=toy.motifs.index).T


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyData:
    return make_toy_genome(tmp_path_factory.mktemp("toy"))


def test_sizes_are_those_asked_for(tmp_path: Path) -> None:
    toy = make_toy_genome(
        tmp_path,
        n_chromosomes=2,
        chromosome_length_bp=20_011,
        genes_per_chromosome=7,
        n_tissues=5,
    )
    genome = contigs(toy.genome)
    assert {name: len(letters) for name, letters in genome.items()} == {
        "chr1": 20_011,
        "chr2": 20_011,
    }
    assert toy.genes["chrom"].value_counts().to_dict() == {"chr1": 7, "chr2": 7}
    assert toy.expression.shape == (14, 5)
    assert toy.motifs.shape == (5, 6)


def test_tables_share_their_rows(toy: ToyData) -> None:
    assert toy.genes.index.is_unique
    assert_array_equal(toy.genes.index, toy.expression.index)


def test_log_expression_follows_from_the_motifs_in_reading_direction(
    toy: ToyData,
) -> None:
    shares = motif_counts(toy).to_numpy() / MAX_COPIES
    expected = shares @ toy.motifs[toy.expression.columns].to_numpy()
    residuals = np.log(toy.expression.to_numpy()) - expected
    assert residuals.std() == pytest.approx(0.2, rel=0.1)
    assert expected.std() > 0.6
    assert set((shares > 0).sum(axis=1)) == {0, 1}


def test_motifs_have_the_composition_of_the_background(toy: ToyData) -> None:
    letters = "".join(contigs(toy.genome).values())
    for motif in toy.motifs["sequence"]:
        for pattern in ("A", "C", "G", "T", "CG"):
            in_repeats = (motif * 100).count(pattern) / (100 * len(motif))
            in_genome = letters.count(pattern) / len(letters)
            assert in_repeats == pytest.approx(in_genome, rel=0.1)


def test_both_strands_and_a_range_of_gc_occur(toy: ToyData) -> None:
    assert set(toy.genes["strand"]) == {"+", "-"}
    letters = contigs(toy.genome)["chr1"]
    blocks = [letters[i : i + 2000] for i in range(0, len(letters), 2000)]
    gc = [(block.count("G") + block.count("C")) / len(block) for block in blocks]
    assert max(gc) - min(gc) > 0.15


def test_promoters_keep_clear_of_each_other_and_of_the_ends(tmp_path: Path) -> None:
    toy = make_toy_genome(tmp_path, chromosome_length_bp=48_000)
    for _, genes in toy.genes.groupby("chrom"):
        assert genes["tss"].diff().min() >= PROMOTER_BP
        assert genes["tss"].between(8_192, 48_000 - 8_192).all()


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    first, same, other = (
        make_toy_genome(tmp_path / name, seed=seed, genes_per_chromosome=3)
        for name, seed in [("first", 1), ("same", 1), ("other", 2)]
    )
    assert first.genome.read_bytes() == same.genome.read_bytes()
    pd.testing.assert_frame_equal(first.expression, same.expression)
    assert first.genome.read_bytes() != other.genome.read_bytes()


def test_the_same_genome_is_left_as_it_lies(tmp_path: Path) -> None:
    genome = make_toy_genome(tmp_path).genome
    before = genome.stat()
    assert make_toy_genome(tmp_path).genome.stat() == before
    assert [path.name for path in tmp_path.iterdir()] == ["genome.fa"]


def test_another_genome_is_replaced_only_when_asked(tmp_path: Path) -> None:
    genome = make_toy_genome(tmp_path).genome
    before = genome.read_bytes()
    with pytest.raises(InputError, match=r"genome\.fa exists"):
        make_toy_genome(tmp_path, seed=1)
    assert genome.read_bytes() == before
    make_toy_genome(tmp_path, seed=1, overwrite=True)
    assert genome.read_bytes() != before


def test_written_tables_read_back(toy: ToyData, tmp_path: Path) -> None:
    genes, expression = write_toy_tables(toy, tmp_path / "new")
    pd.testing.assert_frame_equal(pd.read_csv(genes, sep="\t", index_col=0), toy.genes)
    read = pd.read_csv(expression, sep="\t", index_col="gene_id")
    pd.testing.assert_frame_equal(read, toy.expression, rtol=1e-5)


def test_the_variants_have_the_letters_of_the_genome(tmp_path: Path) -> None:
    toy = make_toy_genome(tmp_path, n_chromosomes=2, genes_per_chromosome=15)
    genome = contigs(toy.genome)
    table = read_vcf(write_toy_variants(toy, tmp_path))
    assert len(table) == 2 * 3 + 1
    for chrom, pos, ref in table[["chrom", "pos", "ref"]].itertuples(index=False):
        assert genome[chrom][pos - 1] == ref
    assert (table["reason"] != "").tolist() == [False] * 6 + [True]
    starts = table["pos"].to_numpy()[:6:2] - 1
    assert starts.tolist() == toy.genes["tss"].iloc[::10].tolist()


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        ({"n_chromosomes": 0}, "n_chromosomes=0 must be at least 1"),
        ({"n_tissues": 0}, "n_tissues=0 must be at least 1"),
        ({"chromosome_length_bp": 47_103}, "must be at least 47104"),
    ],
)
def test_impossible_sizes_are_refused(
    tmp_path: Path, sizes: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        make_toy_genome(tmp_path, **sizes)
