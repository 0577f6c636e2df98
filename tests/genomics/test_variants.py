"""Variant tables: parsed, compared with the genome, counted and applied."""

from __future__ import annotations

import gzip
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import (
    GenomeError,
    InputError,
    InputTypeError,
    VariantWarning,
)
from enformer_features.genomics._alleles import left_align
from enformer_features.genomics.encoding import decode, encode
from enformer_features.genomics.genome import Genome, open_genome
from enformer_features.genomics.variants import (
    count_variants,
    describe_counts,
    haplotype_window,
    prepare_variants,
    variant_table,
)
from enformer_features.genomics.vcf import read_vcf
from tests.genomics.fasta import write_fasta

CONTIGS = {"chr1": "GGGCACACATTTNNACGTacgtRACGT", "chr2": "ACGT" * 10}


@pytest.fixture(scope="module")
def genome(tmp_path_factory) -> Genome:
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    return open_genome(write_fasta(path, CONTIGS))


def frame(*rows: tuple[object, ...], **columns: object) -> pd.DataFrame:
    """Make a table of (chrom, pos, ref, alt)."""
    table = pd.DataFrame(rows, columns=["chrom", "pos", "ref", "alt"])
    return table.assign(**columns)


def reasons(*rows: tuple[object, ...], **columns: object) -> list[str]:
    return variant_table(frame(*rows, **columns))["reason"].tolist()


# --- variant_table


def test_a_table_has_its_columns_dtypes_order_and_index_whatever_comes_in():
    X = pd.DataFrame(
        {"#CHROM": [7, 1], "POS": ["5", "3"], "rsID": ["rs1", None], "x": 0},
        index=["b", "a"],
    )
    X = X.assign(Ref=["a", "Ct"], ALT=["g", "C"])
    table = variant_table(X)
    columns = ["chrom", "pos", "id", "ref", "alt", "record", "allele", "reason"]
    assert list(table.columns) == columns
    assert table.loc["b"].tolist() == ["7", 5, "rs1", "A", "G", 0, 1, ""]
    assert table.loc["a"].tolist() == ["1", 3, ".", "CT", "C", 1, 1, ""]
    assert [table[name].dtype for name in ("pos", "record", "allele")] == [np.int64] * 3


def test_columns_of_genes_are_carried_along():
    X = frame(("1", 5, "A", "C"), tss=9, strand="-", gene_id="G1", distance=5)
    table = variant_table(X)
    assert table.iloc[0, -4:].to_dict() == {
        "gene": "G1",
        "tss": 9,
        "strand": "-",
        "distance": 5,
    }
    pd.testing.assert_frame_equal(variant_table(table), table)


def test_rows_of_a_table_keep_their_records_and_reasons(genome):
    rows = ("chr1", 1, "A", "C"), ("chr1", 2, "G", "*"), ("chr1", 3, "G", "C")
    with pytest.warns(VariantWarning, match="1 of 2 variants do not fit"):
        prepared = prepare_variants(frame(*rows), genome, on_mismatch="skip")
    table = variant_table(prepared.iloc[[2, 0, 1]])
    assert table["record"].tolist() == [2, 0, 1]
    assert [text.partition(":")[0] for text in table["reason"]] == [
        "",
        "REF mismatch",
        "overlapping deletion",
    ]


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        (
            ("1", 0, "A", "C"),
            "bad row: pos is 0, but positions count from 1, as in VCF",
        ),
        (("1", None, "A", "C"), "bad row: pos is missing"),
        (("1", 2.5, "A", "C"), "bad row: pos 2.5 is not a whole number"),
        (("1", "1,000", "A", "C"), "bad row: pos '1,000' is not a whole number"),
        ((None, 5, "A", "C"), "bad row: chrom is missing"),
        (("1", 5, 3, "C"), "bad row: ref 3 is int, expected text"),
        (("1", 5, "A", b"C"), "bad row: alt b'C' is bytes, expected text"),
        (("1", 5, "A", None), "missing allele: there is no second sequence"),
        (("1", 5, np.nan, "C"), "missing allele: there is no second sequence"),
        (("1", 5, "A", "C,T"), "several alleles: 'C,T' needs one row for each"),
        (("1", 5, "A", "R"), "other letters: 'R' holds more than A, C, G and T"),
        (("1", 5, "A", "a"), "no change: REF and ALT are both 'A'"),
    ],
)
def test_a_bad_row_has_a_reason_and_its_neighbour_none(row, reason):
    found = reasons(row, ("1", 5, "A", "C"))
    assert found[0].startswith(reason)
    assert found[1] == ""


def test_tables_that_are_none_are_refused():
    with pytest.raises(InputTypeError, match=r"read a file first: read_vcf\(path\)"):
        variant_table("in.vcf")
    with pytest.raises(InputTypeError, match="X is list, expected a DataFrame"):
        variant_table([("1", 5, "A", "C")])
    with pytest.raises(InputError, match="X holds 0 variants"):
        variant_table(frame())
    with pytest.raises(InputError, match="no column for alt: found chrom, pos, ref;"):
        variant_table(frame(("1", 5, "A", "C")).drop(columns="alt"))
    with pytest.raises(InputError, match="columns chrom and chr all stand for chrom"):
        variant_table(frame(("1", 5, "A", "C"), chr="1"))
    with pytest.raises(InputTypeError, match="column pos holds booleans"):
        variant_table(frame(("1", True, "A", "C")))


# --- prepare_variants


def test_variants_are_compared_with_the_genome_whatever_the_letter_case(genome):
    rows = ("chr1", 1, "g", "a"), ("chr1", 19, "acG", "AcT"), ("chr2", 5, "A", "AC")
    prepared = prepare_variants(frame(*rows), genome)
    columns = ["start", "norm_ref", "norm_alt", "kind", "ref_matches", "reason"]
    assert prepared[columns].to_numpy().tolist() == [
        [0, "G", "A", "substitution", True, ""],
        [20, "G", "T", "substitution", True, ""],
        [4, "A", "AC", "indel", True, ""],
    ]
    assert prepared["start"].dtype == np.int64
    assert prepared["ref_matches"].dtype == bool


def test_other_letters_beside_a_variant_do_not_matter(genome):
    rows = ("chr1", 22, "T", "C"), ("chr1", 24, "A", "C"), ("chr1", 23, "A", "C")
    prepared = prepare_variants(frame(*rows[:2]), genome)
    assert prepared["ref_matches"].all()
    with pytest.raises(InputError, match="REF is 'A', the genome has 'N'"):
        prepare_variants(frame(rows[2]), genome)


def test_a_ref_that_differs_is_an_error_by_record_and_place(genome):
    good = [("chr2", 1 + 4 * number, "A", "C") for number in range(10)] * 20
    bad = [("chr1", 4, "G", "C"), ("chr1", 1, "GGT", "G")] * 3
    with pytest.raises(InputError) as error:
        prepare_variants(frame(*good, *bad), genome)
    message = str(error.value)
    assert message.startswith(f"6 of 206 REF alleles differ from {genome.path}:\n")
    assert "  record 200 (chr1:4): REF is 'G', the genome has 'C'\n" in message
    assert "  record 201 (chr1:1): REF is 'GGT', the genome has 'GGG'\n" in message
    assert message.count("record") == 5
    assert "... (6 in all)" in message
    assert 'on_mismatch="skip" leaves them out, "flag" scores them' in message


def test_skip_gives_a_reason_and_flag_keeps_what_the_file_says(genome):
    good = [("chr2", 1 + 4 * number, "A", "C") for number in range(10)] * 3
    table = frame(*good, ("chr1", 4, "GA", "G"))
    skipped = prepare_variants(table, genome, on_mismatch="skip").iloc[-1]
    assert skipped["reason"] == "REF mismatch: REF is 'GA', the genome has 'CA'"
    assert skipped[["kind", "norm_ref", "norm_alt"]].tolist() == ["", "", ""]
    prepared = prepare_variants(table, genome, on_mismatch="flag")
    flagged = prepared.iloc[-1]
    columns = ["reason", "kind", "start", "norm_ref", "norm_alt", "ref_matches"]
    assert flagged[columns].tolist() == ["", "indel", 3, "GA", "G", False]
    assert count_variants(prepared) == {"substitution": 30, "indel": 0, "flagged": 1}
    assert describe_counts(prepared).endswith("30 substitution, 0 indel, 1 flagged")


def test_fewer_matches_than_95_percent_hint_at_another_build(genome):
    table = frame(*[("chr2", 1, "A", "C")] * 18, *[("chr2", 1, "G", "C")] * 2)
    hint = r"only 90.0% of 20 variants fit .*toy\.fa, expected at least 95%: .* build"
    with pytest.raises(GenomeError, match=r"(?s)2 of 20 REF alleles differ.*" + hint):
        prepare_variants(table, genome)
    for choice in ("skip", "flag"):
        with pytest.warns(VariantWarning, match=hint) as caught:
            prepare_variants(table, genome, on_mismatch=choice)
        assert caught[0].filename == __file__


def test_a_few_variants_are_no_evidence_of_another_build(genome):
    table = frame(*[("chr2", 1, "A", "C")] * 18, ("chr2", 1, "G", "C"))
    for few in (table.iloc[-6:], table.iloc[-1:]):
        with pytest.raises(InputError, match=r"1 of \d REF alleles differ") as error:
            prepare_variants(few, genome)
        assert "build" not in str(error.value)
    outside = table.iloc[-6:].assign(pos=[1] * 4 + [99, 99], ref="A")
    for choice in ("error", "skip", "flag"):
        with pytest.warns(VariantWarning, match="2 of 6 variants do not") as caught:
            prepare_variants(outside, genome, on_mismatch=choice)
        assert "build" not in str(caught[0].message)


def test_a_file_of_a_shifted_build_is_told(tmp_path):
    letters = np.random.default_rng(1).integers(0, 4, 3000).astype(np.uint8)
    path = write_fasta(tmp_path / "g.fa", {"z": decode(letters)})
    pos = np.arange(100, 2900, 100)
    rows = [f"z\t{at + 7}\t.\t{decode(letters[at - 1 : at])}\tN" for at in pos]
    head = "##fileformat=VCFv4.2\n#CHROM\tPOS\tID\tREF\tALT\n"
    (tmp_path / "old.vcf").write_text(head + "\n".join(rows).replace("\tN", "\tACG"))
    with pytest.raises(GenomeError, match=r"(?s)of 28 REF .* another genome build"):
        prepare_variants(read_vcf(tmp_path / "old.vcf"), path)


def test_places_off_the_genome_are_reasons(genome):
    rows = ("chr9", 5, "A", "C"), ("chr2", 40, "TA", "T"), ("chr2", 99, "A", "C")
    many = [("chr2", 1, "A", "C")] * 60
    found = prepare_variants(frame(*rows, *many), genome)["reason"].tolist()
    assert re.match(
        r"unknown contig: no 'chr9' in .*toy.fa, which has chr1, chr2", found[0]
    )
    assert found[1] == (
        "outside the contig: the last base of REF is 41 (1-based), but chr2 has 40 bp"
    )
    assert found[2].startswith("outside the contig: the last base of REF is 99")
    assert found[3:] == [""] * 60


def test_variants_of_no_contig_are_refused_with_the_style_that_would_do(genome):
    table = frame(("2", 1, "A", "C"), ("X", 1, "A", "C"))
    with pytest.raises(
        GenomeError, match=r"none of the 2 variants .*; contig_style='ucsc'"
    ):
        prepare_variants(table, genome)
    prepared = prepare_variants(table, genome, contig_style="ucsc")
    assert prepared["chrom"].tolist() == ["chr2", "chrX"]
    assert prepared["kind"].tolist() == ["substitution", ""]
    with pytest.raises(GenomeError, match="they have scaffold, the genome has chr1"):
        prepare_variants(frame(("scaffold", 1, "A", "C")), genome)


def test_a_wrong_choice_is_named(genome):
    with pytest.raises(InputError, match="on_mismatch='flip' is not one of"):
        prepare_variants(frame(("chr2", 1, "A", "C")), genome, on_mismatch="flip")


def test_a_table_without_any_usable_row_stays_as_it_is(genome):
    prepared = prepare_variants(frame(("chr1", 0, "A", "C")), genome)
    assert prepared.loc[0, ["start", "kind", "ref_matches"]].tolist() == [-1, "", False]
    assert count_variants(prepared)["skipped: bad row"] == 1


# --- normal form


@pytest.mark.parametrize(
    ("variant", "expected"),
    [
        ((6, "ACA", "A"), (2, "GCA", "G")),  # the repeat is left behind its G
        ((8, "A", "ACA"), (2, "G", "GCA")),
        ((0, "GGG", "G"), (0, "GGG", "G")),
        ((1, "GG", "G"), (0, "GG", "G")),  # not beyond the first base
        ((11, "T", "TT"), (8, "A", "AT")),
        ((14, "A", "AA"), (14, "A", "AA")),  # not into N
        ((3, "CACA", "CTCA"), (4, "A", "T")),
        ((3, "CAC", "TG"), (3, "CAC", "TG")),
    ],
)
def test_indels_move_left_and_shared_ends_go(genome, variant, expected):
    start, ref, alt = variant
    prepared = prepare_variants(frame(("chr1", start + 1, ref, alt)), genome)
    columns = ["start", "norm_ref", "norm_alt"]
    assert tuple(prepared.loc[0, columns]) == expected


def shortest_and_leftmost(sequence: str, haplotype: str) -> tuple[int, str, str]:
    """Find the normal form by trying all: shortest alleles first, then leftmost."""
    growth = len(haplotype) - len(sequence)
    for size in range(1, len(sequence) + 1):
        for start in range(len(sequence) - size + 1):
            ref, rest = sequence[start : start + size], sequence[start + size :]
            alt = haplotype[start : start + size + growth]
            if alt and sequence[:start] + alt + rest == haplotype:
                return start, ref, alt
    raise AssertionError


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_the_normal_form_is_the_shortest_and_leftmost_of_all(data):
    sequence = data.draw(st.text("AC", min_size=2, max_size=14))
    start = data.draw(st.integers(0, len(sequence) - 1))
    end = data.draw(st.integers(start + 1, len(sequence)))
    alt = data.draw(st.text("AC", min_size=1, max_size=6))
    haplotype = sequence[:start] + alt + sequence[end:]
    if haplotype == sequence:
        return
    form = left_align(start, sequence[start:end], alt, sequence.__getitem__)
    assert form == shortest_and_leftmost(sequence, haplotype)


def test_a_repeat_longer_than_what_is_read_at_once_is_crossed(tmp_path):
    path = write_fasta(tmp_path / "long.fa", {"z": "G" + "CA" * 3000 + "T"})
    prepared = prepare_variants(frame(("z", 5999, "ACA", "A")), path)
    assert tuple(prepared.loc[0, ["start", "norm_ref"]]) == (0, "GCA")


def test_rows_in_any_order_over_many_blocks_are_compared_each_with_its_place(tmp_path):
    rng = np.random.default_rng(0)
    letters = rng.integers(0, 4, 2_200_000).astype(np.uint8)
    path = write_fasta(tmp_path / "long.fa", {"z": decode(letters)}, width=100_000)
    start = rng.integers(0, len(letters) - 8, 2000)
    size = rng.integers(1, 8, 2000)
    ref = [decode(letters[a : a + n]) for a, n in zip(start, size, strict=True)]
    wrong = np.arange(0, 2000, 50)
    for row in wrong:
        ref[row] = ref[row][:-1] + "ACGT"[(int(encode(ref[row])[-1]) + 1) % 4]
    table = pd.DataFrame(
        {"chrom": "z", "pos": start + 1, "ref": ref, "alt": "ACGTACGT"}
    )
    prepared = prepare_variants(table, path, on_mismatch="flag")
    assert np.flatnonzero(~prepared["ref_matches"]).tolist() == wrong.tolist()


# --- haplotype_window


def oracle(sequence: str, first: int, length: int, variant, fixed: str) -> str:
    """Cut the window out of the whole haplotype, with N on either side."""
    start, ref, alt = variant
    pad = 200
    haplotype = sequence[:start] + alt + sequence[start + len(ref) :]
    growth = len(alt) - len(ref)
    shift = {"left": 0, "center": growth // 2, "right": growth}[fixed]
    padded = "N" * pad + haplotype + "N" * pad
    return padded[pad + first + shift : pad + first + shift + length]


@settings(max_examples=200, deadline=None)
@given(st.data())
def test_a_window_that_holds_the_variant_is_cut_from_the_haplotype(genome, data):
    sequence = CONTIGS["chr2"]
    start = data.draw(st.integers(0, 36))
    end = data.draw(st.integers(start + 1, 40))
    alt = data.draw(st.text("ACGT", min_size=1, max_size=9))
    first = data.draw(st.integers(-5, start))
    length = data.draw(st.integers(end - first, 60))
    variant = start, sequence[start:end], alt
    for fixed in ("left", "center", "right"):
        window = haplotype_window(genome, "chr2", first, length, *variant, fixed=fixed)
        assert window.dtype == np.uint8
        assert decode(window) == oracle(sequence, first, length, variant, fixed)


@pytest.mark.parametrize(
    ("first", "variant", "left", "center", "right"),
    [
        # chr2 is ACGTACGTACGT...; windows of 8
        (4, (0, "AC", "A"), "ACGTACGT", "ACGTACGT", "ACGTACGT"),  # before: nothing
        (4, (12, "A", "ATT"), "ACGTACGT", "ACGTACGT", "ACGTACGT"),  # after: nothing
        (4, (2, "GTACG", "G"), "TACGTACG", "CGTACGTA", "ACGTACGT"),  # 3 lost inside
        (4, (3, "TAC", "TTTTT"), "TTTTGTAC", "TTTGTACG", "TTGTACGT"),  # 2 gained
        (4, (10, "GTAC", "G"), "ACGTACGG", "TACGTACG", "TACGTACG"),  # over the end
    ],
)
def test_alleles_that_reach_over_an_edge_are_clipped_there(
    genome, first, variant, left, center, right
):
    windows = [
        decode(haplotype_window(genome, "chr2", first, 8, *variant, fixed=fixed))
        for fixed in ("left", "center", "right")
    ]
    assert windows == [left, center, right]


def test_a_substitution_replaces_letters_in_every_frame(genome):
    plain = genome.fetch("chr2", -3, 61)
    expected = plain.copy()
    expected[3 + 8 : 3 + 10] = encode("TT")
    for fixed in ("left", "center", "right"):
        window = haplotype_window(genome, "chr2", -3, 64, 8, "AC", "TT", fixed=fixed)
        assert np.array_equal(window, expected)
    same = haplotype_window(genome, "chr2", -3, 64, 8, "AC", "AC")
    assert np.array_equal(same, plain)


def test_frames_are_checked(genome):
    with pytest.raises(InputError, match="fixed='middle' is not one of"):
        haplotype_window(genome, "chr2", 0, 8, 4, "A", "C", fixed="middle")


# --- real files


@pytest.mark.parametrize(
    ("name", "counts"),
    [
        ("1000g_phase1_chr6", (1666, 63)),
        ("dbsnp135_exome_chr1", (731, 10)),
        ("nist_na12878_complex", (541, 384)),
        ("platinum_na12878_chr21", (1253, 374)),
        ("vep_test_chr21", (132, 0)),
    ],
)
def test_real_variants_match_the_genome_and_the_counts_add_up(shared, name, counts):
    table = read_vcf(shared / "data" / "variants" / f"{name}.local.vcf")
    fasta = shared / "data" / "human" / "regions.fa.gz"
    prepared = prepare_variants(table, fasta, on_mismatch="flag")
    assert tuple(count_variants(prepared).values()) == counts
    assert sum(counts) == len(table)
    assert prepared["ref_matches"].all()


def test_the_28998_variants_of_vg_are_all_read_and_compared(shared, tmp_path):
    folder = shared / "data" / "variants" / "vg_1mb1kgp"
    fasta = tmp_path / "z.fa"  # the file is plain gzip, which Genome refuses
    fasta.write_bytes(gzip.decompress((folder / "z.fa.gz").read_bytes()))
    table = read_vcf(folder / "z.vcf.gz")
    assert table["record"].nunique() == 28_998
    prepared = prepare_variants(table, fasta)
    assert describe_counts(prepared) == (
        "29,144 variants: 28,203 substitution, 917 indel, 24 skipped (symbolic)"
    )
