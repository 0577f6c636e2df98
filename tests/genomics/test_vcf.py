"""VCF text: records read, malformed lines, values written into a copy."""

from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from Bio import bgzf
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import InputError, InputTypeError, VariantWarning
from enformer_features.genomics.variants import count_variants, variant_table
from enformer_features.genomics.vcf import (
    InfoField,
    annotate_vcf,
    check_annotation,
    read_vcf,
    write_vcf,
)

COLUMNS = ["chrom", "pos", "id", "ref", "alt", "record", "allele", "reason"]
HEADER = "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
FIELDS = [InfoField("SAD", "score"), InfoField("why", "text", "String")]


def write(folder: Path, *records: str, header: str = HEADER, name: str = "in.vcf"):
    """Write records whose columns are parted by blanks, for easier reading."""
    path = folder / name
    lines = "".join("\t".join(record.split()) + "\n" for record in records)
    path.write_bytes((header + lines).encode())
    return path


def refused(folder: Path, text: str) -> str:
    path = folder / "bad.vcf"
    path.write_bytes(text.encode())
    with pytest.raises(InputError) as error:
        read_vcf(path)
    return str(error.value)


# --- reading


def test_every_alternative_allele_is_a_row_in_the_order_of_the_file(tmp_path):
    path = write(
        tmp_path,
        "chr2 7 rs1;rs2 a C,TT . . AC=1",
        "chr1 5 . G A . PASS . GT 0/1 1/1",
        "chr1 5 rs3 gT g . PASS .",
    )
    table = read_vcf(path)
    assert list(table.columns) == COLUMNS
    assert table.drop(columns="reason").to_numpy().tolist() == [
        ["chr2", 7, "rs1;rs2", "A", "C", 0, 1],
        ["chr2", 7, "rs1;rs2", "A", "TT", 0, 2],
        ["chr1", 5, ".", "G", "A", 1, 1],
        ["chr1", 5, "rs3", "GT", "G", 2, 1],
    ]
    assert [table[name].dtype for name in ("pos", "record", "allele")] == [np.int64] * 3
    assert (table["reason"] == "").all()


def test_files_are_unpacked_by_their_first_bytes_whatever_their_name(tmp_path):
    plain = write(tmp_path, "chr1 5 . G A . . .")
    content = plain.read_bytes()
    (tmp_path / "gzip.vcf").write_bytes(gzip.compress(content))
    with bgzf.BgzfWriter(str(tmp_path / "bgzip.txt")) as file:
        file.write(content)
    (tmp_path / "plain.gz").write_bytes(content)
    for name in ("gzip.vcf", "bgzip.txt", "plain.gz"):
        pd.testing.assert_frame_equal(read_vcf(tmp_path / name), read_vcf(plain))


def test_crlf_blank_lines_comments_a_byte_order_mark_and_five_columns_are_fine(
    tmp_path,
):
    path = tmp_path / "windows.vcf"
    text = "##fileformat=VCFv4.2\r\n\r\n#CHROM\tPOS\tID\tREF\tALT\r\n"
    text += "1\t3\t.\tA\tG\r\n# remark\r\n1\t2\t\tA\tT\r\n\r\n \n"
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = read_vcf(path)
    assert table["alt"].tolist() == ["G", "T"]
    assert table["id"].tolist() == [".", "."]
    assert table["record"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("ref", "alt", "reason"),
    [
        ("A", "<DEL>", "symbolic: ALT '<DEL>' names a kind of change"),
        ("A", "<ins:ME:ALU>", "symbolic: ALT '<ins:ME:ALU>' names a kind"),
        ("A", "G]chr17:198982]", r"breakend: 'G\]chr17:198982\]' joins two places"),
        ("A", ".TC", "breakend: '.TC' joins two places"),
        ("A", "*", "overlapping deletion: "),
        ("A", ".", "missing allele: "),
        (".", "A", "missing allele: "),
        ("A", "ANT", "other letters: 'ANT' holds more than A, C, G and T"),
        ("N", "A", "other letters: 'N' holds more"),
        ("AC", "-", "other letters: '-' .* write the base before a deletion"),
        ("A", "a", "no change: REF and ALT are both 'A'"),
    ],
)
def test_alleles_that_cannot_be_scored_stay_with_a_reason(tmp_path, ref, alt, reason):
    path = write(tmp_path, f"chr1 5 . {ref} {alt} . . .", "chr1 6 . A C . . .")
    table = read_vcf(path)
    assert re.match(reason, table.loc[0, "reason"])
    assert table.loc[1, "reason"] == ""
    label = re.escape(f"1 of 2 alleles cannot be scored (strict=True):\n  {path}:3: ")
    with pytest.raises(InputError, match=label + reason):
        read_vcf(path, strict=True)


@pytest.mark.parametrize("strict", [False, True])
def test_alleles_of_a_record_share_its_id_and_are_numbered_also_when_strict(
    tmp_path, strict
):
    path = write(tmp_path, "1 5 rs1 A C,G,AT . . .", "1 6 rs2 A C . . .")
    table = read_vcf(path, strict=strict)
    assert table["id"].tolist() == ["rs1", "rs1", "rs1", "rs2"]
    assert table["record"].tolist() == [0, 0, 0, 1]
    assert table["allele"].tolist() == [1, 2, 3, 1]
    assert (table["reason"] == "").all()


def test_skipped_alleles_are_counted_by_class_and_the_counts_add_up(tmp_path):
    path = write(tmp_path, "1 5 . A C,<DEL>,<DUP>,*,AT . . .", "1 6 . A . . . .")
    table = read_vcf(path)
    assert count_variants(table) == {
        "substitution": 1,
        "indel": 1,
        "skipped: symbolic": 2,
        "skipped: overlapping deletion": 1,
        "skipped: missing allele": 1,
    }
    assert table["alt"].tolist()[1:4] == ["<DEL>", "<DUP>", "*"]


@pytest.mark.parametrize(
    ("record", "fault"),
    [
        ("chr1\t5\t.\tA", r"4 column\(s\), expected at least 5$"),
        ("chr1 5 . A C . . .", r"1 column\(s\).*separated by tabs, not by spaces"),
        ("chr1\t0\t.\tA\tC", "POS is 0, but positions in VCF count from 1"),
        ("chr1\t1e6\t.\tA\tC", "POS '1e6' is not a whole number"),
        ("chr1\t-4\t.\tA\tC", "POS '-4' is not a whole number"),
        ("chr1\t٣\t.\tA\tC", "POS '٣' is not a whole number"),
        ("chr1\t" + "9" * 30 + "\t.\tA\tC", "POS '9{30}' is not a whole number"),
        ("\t5\t.\tA\tC", "CHROM '' is empty or holds blanks"),
        ("chr1\t5\t.\t\tC", "REF '' is empty or holds blanks"),
        ("chr1\t5\t.\tA\tC,,T", "ALT 'C,,T' has an empty allele"),
        ("chr1\t5\t.\tA\tC T", "ALT 'C T' is empty or holds blanks"),
    ],
)
def test_malformed_records_are_refused_by_file_and_line(tmp_path, record, fault):
    message = refused(tmp_path, f"{HEADER}chr1\t5\t.\tA\tC\n{record}\n")
    assert message.startswith("1 of 2 records are malformed:\n")
    assert re.search(rf"bad\.vcf:4: {fault}", message)


def test_many_malformed_records_are_counted_and_five_are_shown(tmp_path):
    message = refused(tmp_path, HEADER + "chr1\t0\t.\tA\tC\n" * 7)
    assert message.startswith("7 of 7 records are malformed:")
    assert message.count("bad.vcf:") == 5
    assert message.endswith("... (7 in all)")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "has no #CHROM line"),
        ("##fileformat=VCFv4.3\n", "has no #CHROM line"),
        ("chr1\t5\t.\tA\tC\n", r"bad\.vcf:1: 'chr1.*stands where the #CHROM line"),
        ("#CHROM POS ID REF ALT\n", r"bad\.vcf:1: .* separated by tabs"),
        ("#CHROM\tPOS\tREF\tALT\n", r"bad\.vcf:1: .* expected #CHROM POS ID REF ALT"),
        (HEADER, "holds 0 variants"),
        ("track name=x\nchr1\t5\t6\n", "bad.vcf:1: 'track name=x' stands where"),
    ],
)
def test_a_file_without_header_or_records_is_refused(tmp_path, text, fault):
    assert re.search(fault, refused(tmp_path, text))


def test_paths_are_checked(tmp_path):
    with pytest.raises(InputTypeError, match="path is int"):
        read_vcf(3)
    with pytest.raises(InputError, match="does not exist"):
        read_vcf(tmp_path / "none.vcf")
    with pytest.raises(InputError, match="is a directory"):
        read_vcf(tmp_path)
    cut = tmp_path / "cut.vcf.gz"
    cut.write_bytes(gzip.compress(HEADER.encode() * 99)[:-20])
    with pytest.raises(InputError, match="damaged or truncated gzip"):
        read_vcf(cut)


CELLS = st.one_of(
    st.text(max_size=6),
    st.sampled_from(
        ["chr1", "1", "0", "12", "A", "acgt", "N", "A,T", "<DEL>", "*", ".", "", "A["]
    ),
)
LINES = st.lists(CELLS, max_size=9).map("\t".join)


@settings(max_examples=300, deadline=None)
@given(st.lists(LINES, max_size=4))
def test_any_lines_give_a_table_or_a_clear_error(tmp_path_factory, lines):
    path = tmp_path_factory.getbasetemp() / "fuzz.vcf"
    path.write_bytes((HEADER + "\n".join(lines)).encode("utf-8", "replace"))
    try:
        table, fault = read_vcf(path), ""
    except InputError as error:
        table, fault = pd.DataFrame(), str(error)
    if table.empty:
        assert re.search(r"fuzz\.vcf(:\d+: | holds 0 variants)", fault)
        return
    assert list(table.columns) == COLUMNS
    assert (table["pos"] > 0).all()
    usable = table[table["reason"] == ""]
    assert usable["ref"].str.fullmatch("[ACGT]+").all()
    assert usable["alt"].str.fullmatch("[ACGT]+").all()
    assert sum(count_variants(table).values()) == len(table)
    pd.testing.assert_frame_equal(variant_table(table), table)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.lists(CELLS, min_size=3, max_size=6).map("\t".join), max_size=4))
def test_a_copy_of_any_readable_file_reads_the_same(tmp_path_factory, lines):
    path, out = (tmp_path_factory.getbasetemp() / f"{name}.vcf" for name in "ab")
    text = "\n".join(f"chr1\t7\t{line}\t.\t.\tA=1\t" for line in lines)
    path.write_bytes((HEADER + text).encode("utf-8", "replace"))
    try:
        table = read_vcf(path)
    except InputError:
        return
    keys = table[["record", "allele"]].itertuples(index=False)
    annotate_vcf(path, out, FIELDS[:1], ((*key, {"SAD": 0.5}) for key in keys))
    pd.testing.assert_frame_equal(read_vcf(out), table)
    is_alone = ~table["record"].duplicated(keep=False)
    holds_values = table[~(is_alone & (table["alt"] == "."))]
    assert out.read_bytes().count(b"SAD=0.5") == holds_values["record"].nunique()


# --- writing values into a copy


def test_records_and_header_stay_byte_for_byte_and_only_info_grows(tmp_path):
    header = HEADER.replace("\n#CHROM", "\n##INFO=<ID=AC,Number=A>\n#CHROM")
    source = tmp_path / "in.vcf"
    records = (
        "chr1\t5\trs1\ta\tC,<DEL>,G\t.\tPASS\tAC=1,2;DB\tGT\t0/1\n"
        "\n# remark\nchr1\t6\t.\tA\tC\t1e0\t.\t.\r\nchr1\t7\t\tA\tT\t.\t.\t\n"
        "chr1\t8\t.\tA\tT\t.\tq\tX=ä"
    )
    source.write_bytes((header + records).encode())
    values = [
        (0, 1, {"SAD": np.float32(0.1), "why": None}),
        (0, 2, {"why": "no letters; <DEL>=x, y"}),
        (1, 1, {"SAD": float("nan")}),
        (2, 1, {"SAD": 3}),
    ]
    out = tmp_path / "out.vcf"
    annotate_vcf(
        source,
        out,
        FIELDS,
        values,
        caution=["not for\ndiagnosis"],
        provenance={"v": "1"},
    )
    top, bottom = header.rsplit("#CHROM", 1)
    added = (
        '##INFO=<ID=SAD,Number=A,Type=Float,Description="score">\n'
        '##INFO=<ID=why,Number=A,Type=String,Description="text">\n'
        "##enformer_features_caution=not for diagnosis\n##enformer_features_v=1\n"
    )
    why = ".,no%20letters%3B%20<DEL>%3Dx%2C%20y,."
    expected = records.replace("2;DB", f"2;DB;SAD=0.1,.,.;why={why}")
    expected = expected.replace("T\t.\t.\t\n", "T\t.\t.\tSAD=3.0\n")
    assert out.read_bytes() == f"{top}{added}#CHROM{bottom}{expected}".encode()


def test_a_record_without_an_alternative_gets_no_value_per_alternative(tmp_path):
    source = write(tmp_path, "1 5 . A . . . DP=3", "1 6 . A C . . .")
    out = tmp_path / "out.vcf"
    values = [(0, 1, {"why": "missing allele"}), (1, 1, {"SAD": 1.0})]
    annotate_vcf(source, out, FIELDS, values)
    infos = [line.split("\t")[7] for line in out.read_text().splitlines()[-2:]]
    assert infos == ["DP=3", "SAD=1.0"]


def test_a_compressed_copy_is_bgzip_and_reads_as_the_plain_one(tmp_path):
    source = write(tmp_path, *[f"1 {pos} . A C . . ." for pos in range(1, 3000)])
    values = [(record, 1, {"SAD": record / 7}) for record in range(2999)]
    plain, packed = tmp_path / "out.vcf", tmp_path / "out.vcf.gz"
    for out in (plain, packed):
        annotate_vcf(source, out, FIELDS, values)
    assert gzip.decompress(packed.read_bytes()) == plain.read_bytes()
    assert packed.read_bytes().endswith(bytes.fromhex("1b0003000000000000000000"))
    lines = plain.read_text().splitlines()
    read = [float(line.rsplit("=", 1)[1]) for line in lines if line[0] != "#"]
    assert np.array_equal(np.float32(read), np.float32(np.arange(2999) / 7))


def test_a_key_that_is_there_is_refused_unless_it_may_be_replaced(tmp_path):
    source = write(tmp_path, "1 5 . A C . . DP=3", "1 6 . A C . . .")
    first, second = tmp_path / "first.vcf", tmp_path / "second.vcf"
    values = [(0, 1, {"SAD": 1.0}), (1, 1, {"SAD": 2.0})]
    annotate_vcf(source, first, FIELDS, values, caution=["c"])
    with pytest.raises(InputError, match="has SAD, why already; annotate the original"):
        check_annotation(first, FIELDS)
    with pytest.raises(InputError, match="overwrite=True to replace"):
        annotate_vcf(first, second, FIELDS, values)
    assert not second.exists()
    check_annotation(first, FIELDS, overwrite=True)
    annotate_vcf(first, second, FIELDS, values[:1], caution=["c"], overwrite=True)
    expected = first.read_text().replace("\tSAD=2.0\n", "\t.\n")
    assert sorted(second.read_text().splitlines()) == sorted(expected.splitlines())
    assert read_vcf(second)["pos"].tolist() == [5, 6]


@pytest.mark.parametrize(
    ("values", "fault"),
    [
        ([(1, 1, {}), (0, 1, {})], "in the order of the file.*record 0, allele 1 come"),
        ([(0, 1, {}), (0, 1, {})], "each allele once.*record 0, allele 1 come after"),
        ([(0, 2, {})], r"in\.vcf:3: values for allele 2 of 1"),
        ([(0, 0, {})], r"in\.vcf:3: values for allele 0 of 1"),
        ([(2, 1, {})], "values for record 2, but .* holds 2 records"),
        ([(0, 1, {"SAR": 1.0})], "record 0 has values of SAR: no field"),
    ],
)
def test_values_that_do_not_fit_the_file_are_refused(tmp_path, values, fault):
    source = write(tmp_path, "1 5 . A C . . .", "1 6 . A C . . .")
    with pytest.raises(InputError, match=fault):
        annotate_vcf(source, tmp_path / "out.vcf", FIELDS, values)
    if "SAR" not in fault:
        with pytest.raises(InputError, match=fault):
            check_annotation(source, FIELDS, [row[:2] for row in values])


def test_files_that_cannot_be_annotated_are_refused_before_anything(tmp_path):
    five = "#CHROM\tPOS\tID\tREF\tALT\n"
    source = write(tmp_path, "1 5 . A C", header=five)
    with pytest.raises(InputError, match=r"in\.vcf:1: the #CHROM line has no INFO"):
        check_annotation(source, FIELDS)
    short = write(tmp_path, "1 5 . A C .")
    with pytest.raises(
        InputError, match=r"in\.vcf:3: 6 column\(s\), expected at least"
    ):
        annotate_vcf(short, tmp_path / "out.vcf", FIELDS, [(0, 1, {"SAD": 1})])
    with pytest.raises(InputError, match=r"in\.vcf:3: 6 column\(s\)"):
        check_annotation(short, FIELDS, [(0, 1)])
    with pytest.raises(InputError, match="is the file that is read"):
        annotate_vcf(short, short, FIELDS, [])
    with pytest.raises(InputError, match="there are two of SAD"):
        check_annotation(short, FIELDS[:1] * 2)


@pytest.mark.parametrize("key", ["", "a b", "1a", "a;b", "SAD=", "a-b"])
def test_keys_of_info_are_checked(key):
    with pytest.raises(InputError, match=r"cannot be a key of INFO; expected letters"):
        InfoField(key, "x")


def test_info_fields_declare_themselves_with_quotes_escaped():
    line = InfoField("a.b_1", 'x "y"\n\\z', "Integer").header_line()
    assert line == (
        '##INFO=<ID=a.b_1,Number=A,Type=Integer,Description="x \\"y\\" \\\\z">'
    )
    with pytest.raises(InputError, match="type='Flag' is not one of"):
        InfoField("a", "x", "Flag")


@pytest.mark.parametrize(
    "name",
    [
        "1000g_phase1_chr6",
        "dbsnp135_exome_chr1",
        "nist_na12878_complex",
        "platinum_na12878_chr21",
        "vep_test_chr21",
    ],
)
def test_real_files_come_back_when_the_added_entries_are_taken_out(
    tmp_path, shared, name
):
    source = shared / "data" / "variants" / f"{name}.local.vcf"
    table = read_vcf(source)
    out = tmp_path / "out.vcf"
    keys = table[["record", "allele"]].itertuples(index=False)
    annotate_vcf(source, out, FIELDS[:1], ((*key, {"SAD": key[0] / 3}) for key in keys))
    pd.testing.assert_frame_equal(read_vcf(out), table)
    text = re.sub(r";?SAD=[^;\t\n]*", "", out.read_text())
    text = re.sub(r"##INFO=<ID=SAD,.*\n", "", text)
    assert text == source.read_text()


# --- writing tables


def test_a_table_of_no_file_becomes_one_record_for_each_row(tmp_path):
    X = pd.DataFrame(
        {
            "chrom": ["2", "1", "1"],
            "pos": [9, 5, 6],
            "id": ["a b;c", None, "rs1"],
            "ref": ["A", "AC", "G"],
            "alt": ["C", "A", "<DEL>"],
        }
    )
    table = variant_table(X)
    path = tmp_path / "out.vcf"
    values = [{"SAD": 1.5}, {}, {"why": "symbolic"}]
    write_vcf(path, table, FIELDS, values, contigs={"1": 7}, caution=["c"])
    lines = path.read_text().splitlines()
    assert lines[:2] == ["##fileformat=VCFv4.3", "##contig=<ID=1,length=7>"]
    assert "##enformer_features_caution=c" in lines
    assert lines[-3:] == [
        "2\t9\ta_b_c\tA\tC\t.\t.\tSAD=1.5",
        "1\t5\t.\tAC\tA\t.\t.\t.",
        "1\t6\trs1\tG\t<DEL>\t.\t.\twhy=symbolic",
    ]
    columns = ["chrom", "pos", "ref", "alt", "record", "reason"]
    pd.testing.assert_frame_equal(read_vcf(path)[columns], table[columns])


def test_rows_that_vcf_cannot_hold_are_left_out_with_a_warning(tmp_path):
    X = pd.DataFrame(
        {"chrom": "1", "pos": [0, 5, 6, 7], "ref": "A", "alt": ["C", "-", None, "T"]}
    )
    path = tmp_path / "out.vcf"
    with pytest.warns(
        VariantWarning, match="3 of 4 rows cannot be written .*: 0, 1, 2;"
    ):
        write_vcf(path, variant_table(X))
    assert read_vcf(path)["pos"].tolist() == [7]


def test_values_must_be_as_many_as_rows(tmp_path):
    table = variant_table(
        pd.DataFrame({"chrom": ["1"], "pos": 1, "ref": "A", "alt": "C"})
    )
    for values in ([], [{}, {}]):
        with pytest.raises(InputError, match="one mapping for each of the 1 rows"):
            write_vcf(tmp_path / "out.vcf", table, FIELDS, values)
