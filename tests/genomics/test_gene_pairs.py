"""Variants with the genes near them."""

from __future__ import annotations

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import InputError
from enformer_features.genomics.gene_pairs import pair_with_genes, unpaired
from enformer_features.genomics.genome import Genome, open_genome
from enformer_features.genomics.variants import (
    count_variants,
    prepare_variants,
    variant_table,
)
from tests.genomics.fasta import write_fasta


@pytest.fixture(scope="module")
def genome(tmp_path_factory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    return open_genome(write_fasta(path, {"chr1": "GGGCACACATTTNNACGT"}))


def frame(*rows: tuple[object, ...]) -> pd.DataFrame:
    """Make a table of (chrom, pos, ref, alt)."""
    return pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"])


def genes(**columns: object) -> pd.DataFrame:
    table = {"chrom": "1", "tss": [20, 50, 50], "strand": ["-", "+", "-"]}
    return pd.DataFrame(
        table | columns, index=pd.Index(["X", "Y", "Z"], name="gene_id")
    )


def test_variants_are_paired_with_every_gene_whose_window_holds_them():
    variants = frame(("1", 61, "A", "C"), ("2", 5, "A", "C"), ("1", 15, "A", "C"))
    pairs = pair_with_genes(variants, genes(), sequence_length=80)
    columns = ["record", "gene", "tss", "strand", "distance"]
    assert pairs[columns].to_numpy().tolist() == [
        [0, "Y", 50, "+", 10],
        [0, "Z", 50, "-", -10],
        [2, "X", 20, "-", 6],
        [2, "Y", 50, "+", -36],
        [2, "Z", 50, "-", 36],
    ]
    assert pairs.index.tolist() == [0, 1, 2, 3, 4]
    assert unpaired(variants, pairs)["record"].tolist() == [1]
    assert list(variant_table(pairs).columns) == list(pairs.columns)


def test_the_window_is_half_open_and_can_be_narrowed_to_its_middle():
    variants = frame(*[("1", pos, "A", "C") for pos in (11, 12, 30, 31)])
    one = genes().iloc[:1]  # [20 - 10, 20 + 10) from 0, [11, 31) from 1
    pairs = pair_with_genes(variants, one, sequence_length=20)
    assert pairs["pos"].tolist() == [11, 12, 30]
    pairs = pair_with_genes(variants, one, sequence_length=1000, kept_bp=18)
    assert pairs["pos"].tolist() == [12]


def test_prepared_variants_are_paired_by_their_normal_form_and_keep_reasons(genome):
    table = frame(("chr1", 7, "ACA", "A"), ("chr1", 8, "C", "<DEL>"))
    prepared = prepare_variants(table, genome)
    near = pd.DataFrame({"chrom": ["chr1"], "tss": 2, "strand": "+", "name": "G"})
    pairs = pair_with_genes(prepared, near, sequence_length=100)
    assert pairs["distance"].tolist() == [0, 5]
    assert pairs["kind"].tolist() == ["indel", ""]
    assert count_variants(pairs) == count_variants(prepared)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("123"), st.integers(1, 99)), min_size=1),
    st.lists(st.tuples(st.sampled_from("12"), st.integers(0, 99)), min_size=1),
    st.sampled_from([2, 16, 128]),
)
def test_pairs_are_those_of_trying_all(variants, starts, length):
    table = frame(*[(chrom, pos, "A", "C") for chrom, pos in variants])
    near = pd.DataFrame(starts, columns=["chrom", "tss"])
    near = near.assign(strand="+", name=[f"g{row}" for row in range(len(near))])
    expected = [
        (record, f"g{row}")
        for record, (chrom, pos) in enumerate(variants)
        for row, (contig, tss) in enumerate(starts)
        if chrom == contig and tss - length // 2 <= pos - 1 < tss + length // 2
    ]
    if not set(table["chrom"]) & set(near["chrom"]):
        return
    pairs = pair_with_genes(table, near, sequence_length=length)
    found = list(zip(pairs["record"].tolist(), pairs["gene"].tolist(), strict=True))
    assert sorted(found) == sorted(expected)
    assert pairs["record"].is_monotonic_increasing
    n_alone = len(table) - len({record for record, _ in expected})
    assert len(unpaired(table, pairs)) == n_alone


def test_genes_that_cannot_be_paired_are_refused():
    variants = frame(("1", 61, "A", "C"))
    with pytest.raises(InputError, match=r"2 of 3 genes have no tss: rows X, Z; give"):
        pair_with_genes(
            variants,
            genes(start=1, end=9, tss=[-1, 50, -1]),
            sequence_length=80,
        )
    with pytest.raises(InputError, match="1 of 3 genes cannot be used:\n  row Y: tss"):
        pair_with_genes(variants, genes(tss=[20, None, 50]), sequence_length=80)
    with pytest.raises(InputError, match="no contig in common: variants have 1, genes"):
        pair_with_genes(variants, genes(chrom="chr1"), sequence_length=80)


@pytest.mark.parametrize("length", [0, -2, 81, 80.0, True])
def test_a_window_has_an_even_number_of_bases(length):
    variants = frame(("1", 61, "A", "C"))
    with pytest.raises(InputError, match=r"sequence_length=.* a positive, even number"):
        pair_with_genes(variants, genes(), sequence_length=length)
    with pytest.raises(InputError, match=r"kept_bp=.* a positive, even number of bp"):
        pair_with_genes(variants, genes(), sequence_length=80, kept_bp=length)
