"""Region tables: aliases, coordinates, strands, bounds, names and BED files."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import (
    EnformerFeaturesError,
    GenomeError,
    InputError,
    InputTypeError,
)
from enformer_features.genomics.regions import (
    check_bounds,
    raise_bad_rows,
    read_regions,
    region_names,
    region_table,
)

COLUMNS = ["chrom", "start", "end", "strand", "tss", "name", "reason"]


def frame(**columns: object) -> pd.DataFrame:
    return pd.DataFrame({"chrom": "chr1", "start": 11, "end": 17} | columns, index=[5])


def reason(**columns: object) -> str:
    return str(region_table(frame(**columns)).loc[5, "reason"])


def fine(**columns: object) -> pd.Series:
    table = region_table(frame(**columns))
    raise_bad_rows(table)
    return table.loc[5]


# --- region_table: the form of the result


def test_a_table_has_its_columns_dtypes_order_and_index_whatever_comes_in():
    X = pd.DataFrame(
        {"chr": ["chr2", "chr1"], "START": [7, 3], "Stop": [11, 5], "x": [1.5, 2.5]},
        index=["b", "a"],
    )
    table = region_table(X)
    assert list(table.columns) == COLUMNS
    assert table.index.tolist() == ["b", "a"]
    assert table.loc["b"].tolist() == ["chr2", 7, 11, "+", -1, "", ""]
    assert [table[name].dtype for name in ("start", "end", "tss")] == [np.int64] * 3
    assert all(table[name].dtype == object for name in ("chrom", "strand", "name"))


@pytest.mark.parametrize(
    ("chrom", "start", "end"),
    [
        ("chrom", "start", "end"),
        ("Chromosome", "Start", "End"),
        ("seqnames", "start", "end"),
        ("#chrom", "chromStart", "chromEnd"),
        ("contig", "chrom_start", "chrom_end"),
    ],
)
def test_columns_are_found_by_alias_in_any_letter_case(chrom, start, end):
    table = region_table(pd.DataFrame({end: [13], start: [2], chrom: ["chrX"]}))
    assert table.loc[0, ["chrom", "start", "end"]].tolist() == ["chrX", 2, 13]


def test_a_region_table_of_a_region_table_is_the_same_table():
    table = region_table(["chr1:5-7(-)", "chr2:1-3"])
    pd.testing.assert_frame_equal(region_table(table), table)


def test_a_tss_alone_is_an_interval_of_one_base():
    table = region_table(pd.DataFrame({"chrom": ["chr1"], "tss": [0], "strand": ["-"]}))
    assert table.loc[0].tolist() == ["chr1", 0, 1, "-", 0, "", ""]


def test_a_tss_beside_start_and_end_leaves_the_interval_as_it_is():
    assert fine(tss=13)[["start", "end", "tss"]].tolist() == [11, 17, 13]
    assert fine(tss=-1)["tss"] == -1


def test_a_tss_that_is_empty_or_negative_makes_the_row_bad():
    assert reason(tss=np.nan) == "tss is missing"
    assert reason(tss=-2) == "tss -2 is negative; positions count from 0"
    alone = pd.DataFrame({"chrom": ["chr1"], "tss": [-1]})
    assert region_table(alone).loc[0, "reason"].startswith("tss -1 is negative")


def test_names_come_from_the_first_name_column_or_a_named_index():
    assert fine(gene_id="G", name="n")["name"] == "n"
    assert fine(id=7)["name"] == "7"
    assert fine(name=None)["name"] == ""
    X = frame().set_axis(pd.Index(["ENSG1"], name="gene_id"))
    assert region_table(X)["name"].tolist() == ["ENSG1"]
    assert region_table(X.rename_axis("row"))["name"].tolist() == [""]


def test_duplicate_rows_and_labels_are_kept():
    X = pd.concat([frame(), frame()])
    assert region_table(X)["start"].tolist() == [11, 11]


# --- region_table: what stops at once


def test_a_missing_column_lists_what_was_found_and_what_is_accepted():
    X = pd.DataFrame({"chrom": ["chr1"], "start": [1], "to": [3]})
    expected = (
        "X has no column for end: found chrom, start, to; accepted, in any letter "
        r"case: end, chromEnd, chrom_end, stop \(or give a point as tss alone\)"
    )
    with pytest.raises(InputError, match=expected):
        region_table(X)
    with pytest.raises(InputError, match="no column for chrom: found 0, 1; accepted"):
        region_table(pd.DataFrame([[1, 2]]))


def test_two_columns_for_one_thing_are_refused():
    with pytest.raises(
        InputError, match="columns chrom and contig all stand for chrom"
    ):
        region_table(frame(contig="chr1_0M"))


@pytest.mark.parametrize("X", [[], pd.DataFrame({"chrom": [], "tss": []})])
def test_no_rows_are_refused(X):
    with pytest.raises(InputError, match="X holds 0 regions, expected at least one"):
        region_table(X)


@pytest.mark.parametrize("values", [True, pd.array([True]), np.array([True], object)])
def test_boolean_coordinates_are_refused(values):
    with pytest.raises(InputTypeError, match=r"column start holds booleans \(rows 5\)"):
        region_table(frame(start=values))


@pytest.mark.parametrize("X", ["chr1:1-5", b"chr1:1-5", Path("peaks.bed")])
def test_a_single_text_or_a_path_is_refused_with_the_call_to_make(X):
    with pytest.raises(
        InputTypeError, match=r"wrap one region in a list.*read_regions"
    ):
        region_table(X)


@pytest.mark.parametrize(
    ("item", "kind"), [(None, "NoneType"), (np.nan, "float"), (b"chr1:1-5", "bytes")]
)
def test_a_list_item_that_is_not_text_is_refused_by_position(item, kind):
    with pytest.raises(InputTypeError, match=f"item 1 is {kind}; decode bytes"):
        region_table(["chr1:1-5", item])


def test_other_kinds_of_objects_are_refused():
    with pytest.raises(InputTypeError, match="X is dict, expected a DataFrame or"):
        region_table({"chrom": ["chr1"]})
    with pytest.raises(InputTypeError, match="column chrom holds values that are not"):
        region_table(frame(chrom=[["chr1"]]))


# --- region_table: coordinates, chromosomes, strands


@pytest.mark.parametrize(
    "start",
    [
        11.0,
        np.float32(11),
        np.uint32(11),
        "11",
        "11.0",
        pd.array([11], "Int32"),
        pd.array(["11"], "string"),
        pd.Categorical([11]),
        np.array([11], object),
    ],
)
def test_whole_numbers_of_any_type_are_accepted(start):
    assert fine(start=start)["start"] == 11


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        (100.5, "start 100.5 is not a whole number"),
        (np.inf, "start inf is larger than any chromosome"),
        (2**53, "start 9007199254740992 is larger than any chromosome"),
        (10**400, "start 1000"),
        ("1e6", "start '1e6' is not a whole number written in digits only"),
        ("1,000", "start '1,000' is not a whole number written in digits only"),
        ("1.000", "start '1.000' is not a whole number"),
        ("1_000", "start '1_000' is not a whole number"),
        (" 11", "start ' 11' is not a whole number"),
        ("٣", "start '٣' is not a whole number"),
        (np.nan, "start is missing"),
        (None, "start is missing"),
        (pd.NA, "start is missing"),
        ("", "start is missing"),
        (pd.Timestamp("2024-01-01"), "start 2024-01-01 00:00:00 is Timestamp, not a"),
        (1j, "start 1j is complex128, not a whole number"),
        (-3, "start -3 is negative; positions count from 0"),
        (17, "start and end are both 17, an interval of 0 bp; give a point as tss"),
        (18, "start 18 is greater than end 17; are the columns swapped?"),
    ],
)
def test_a_bad_start_says_what_it_is(start, expected):
    assert reason(start=start).startswith(expected)


def test_small_integers_do_not_wrap():
    X = pd.DataFrame({"chrom": ["chr1"], "tss": np.array([2**31 - 1], np.int32)})
    assert region_table(X).loc[0, "end"] == 2**31


def test_missing_coordinates_of_nullable_columns_are_named_by_row():
    X = pd.DataFrame(
        {"chrom": "chr1", "start": pd.array([1, None], "Int64"), "end": [5.0, np.nan]}
    )
    assert region_table(X)["reason"].tolist() == ["", "start is missing"]


@pytest.mark.parametrize(
    ("chrom", "text"), [(1, "1"), (1.0, "1"), (np.int8(1), "1"), ("chr1", "chr1")]
)
def test_chromosome_numbers_become_text(chrom, text):
    assert fine(chrom=chrom)["chrom"] == text


@pytest.mark.parametrize(
    ("chrom", "expected"),
    [
        (None, "chrom is missing"),
        (np.nan, "chrom is missing"),
        ("", "chrom is missing"),
        (True, "chrom True is bool, expected text"),
        (b"chr1", "chrom b'chr1' is bytes, expected text"),
        (1.5, "chrom 1.5 is float64, expected text"),
    ],
)
def test_a_bad_chromosome_says_what_it_is(chrom, expected):
    assert reason(chrom=chrom) == expected


@pytest.mark.parametrize(
    ("strand", "sign"),
    [
        ("+", "+"),
        (".", "+"),
        ("", "+"),
        (None, "+"),
        (np.nan, "+"),
        (1, "+"),
        ("1", "+"),
        ("-", "-"),
        (-1, "-"),
        (-1.0, "-"),
        ("-1", "-"),
    ],
)
def test_strands_are_mapped_to_signs(strand, sign):
    assert fine(strand=strand)["strand"] == sign


@pytest.mark.parametrize("strand", ["x", 2, True, "forward", b"+"])
def test_other_strands_are_bad_and_the_accepted_ones_are_listed(strand):
    assert reason(strand=strand).endswith('is not one of "+", "-", ".", 1, -1 or empty')


# --- region_table: texts


def test_region_texts_are_one_based_and_inclusive():
    table = region_table(["chr1:101-200(+)", "HLA-A*01:01:5-5(-)", "chr1:1-2(.)"])
    raise_bad_rows(table)
    assert table["chrom"].tolist() == ["chr1", "HLA-A*01:01", "chr1"]
    assert table["start"].tolist() == [100, 4, 0]
    assert table["end"].tolist() == [200, 5, 2]
    assert table["strand"].tolist() == ["+", "-", "+"]


@pytest.mark.parametrize("kind", [list, tuple, np.array, pd.Index, pd.Series])
def test_region_texts_come_in_any_sequence(kind):
    table = region_table(kind(["chr1:1-2", "chr2:3-5"]))
    assert table["end"].tolist() == [2, 5]
    assert table.index.tolist() == [0, 1]


def test_a_series_of_texts_keeps_its_index():
    table = region_table(pd.Series(["chr1:1-2"], index=["peak"]))
    assert table.index.tolist() == ["peak"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("chr1", "'chr1' is not a region; expected chrom:start-end or"),
        ("chr1:1,000-2,000", "'chr1:1,000-2,000' is not a region"),
        ("chr1:1e3-2000", "'chr1:1e3-2000' is not a region"),
        ("chr1:-5-10", "'chr1:-5-10' is not a region"),
        ("chr1:1-5(x)", "'chr1:1-5(x)' is not a region"),
        (" chr1:1-5", "' chr1:1-5' is not a region"),
        ("chr1:0-5", "'chr1:0-5' starts at 0, but region text counts from 1"),
        ("chr1:9-5", "'chr1:9-5' ends before it starts"),
    ],
)
def test_a_bad_region_text_says_what_is_wrong(text, expected):
    reasons = region_table(["chr1:1-5", text])["reason"]
    assert reasons[0] == ""
    assert reasons[1].startswith(expected)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.text(max_size=30), min_size=1, max_size=5))
def test_any_texts_give_one_row_each(texts):
    table = region_table(texts)
    assert len(table) == len(texts)
    assert (table["start"] < table["end"])[table["reason"] == ""].all()


cells = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=9),
    st.binary(max_size=5),
    st.dates(),
    st.lists(st.integers(), max_size=2),
)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells, cells), min_size=1, max_size=5))
def test_any_cells_give_rows_or_an_error_of_ours(rows):
    X = pd.DataFrame(rows, columns=["chrom", "start", "end", "strand"], dtype=object)
    try:
        table = region_table(X)
    except EnformerFeaturesError:
        return
    assert len(table) == len(rows)
    assert (table["start"] < table["end"])[table["reason"] == ""].all()


# --- check_bounds


CONTIGS = {"chr1": 100, "chr2": 50}


def bounds(X: pd.DataFrame | list[str]) -> list[str]:
    return check_bounds(region_table(X), CONTIGS, "toy.fa")["reason"].tolist()


def test_regions_up_to_both_ends_of_a_contig_are_fine():
    assert bounds(["chr1:1-100", "chr2:50-50"]) == ["", ""]


def test_regions_off_their_contig_say_how_far_and_ask_for_the_assembly():
    start, end, *_ = bounds(["chr2:51-60", "chr2:50-53"])
    assert start == (
        "start 50 is not on chr2 (50 bp in toy.fa, so the last base is 49); "
        "is the genome of another assembly?"
    )
    assert end.startswith("end 53 is 3 bp past the end of chr2 (50 bp in toy.fa); is")
    X = pd.DataFrame({"chrom": ["chr1"], "start": [3], "end": [5], "tss": [100]})
    assert bounds(X)[0].startswith("tss 100 is not on chr1 (100 bp in toy.fa")


def test_an_unknown_contig_is_named_with_the_file_and_what_it_has():
    assert bounds(["chr1:1-2", "chr9:1-2"]) == [
        "",
        "unknown contig 'chr9' in toy.fa, which has chr1, chr2",
    ]


def test_a_lone_contig_that_another_style_would_find_says_which():
    expected = (
        "unknown contig '1' in toy.fa, which has chr1, chr2; contig_style='ucsc' would "
        "find it"
    )
    assert bounds(["chr1:1-2", "1:1-2"]) == ["", expected]


def test_check_bounds_keeps_earlier_reasons_and_its_argument():
    table = region_table(["chr1:0-2", "chr2:60-70"])
    before = table.copy()
    checked = check_bounds(table, CONTIGS, "toy.fa")
    pd.testing.assert_frame_equal(table, before)
    assert checked.loc[0, "reason"] == table.loc[0, "reason"]
    assert checked.loc[1, "reason"] != ""


def test_contigs_that_only_another_style_would_find_raise_and_name_the_style():
    expected = (
        "none of the 2 regions names a contig of toy.fa: regions have 1, 2, the genome "
        "has chr1, chr2; contig_style='ucsc' would match 2 of them"
    )
    with pytest.raises(GenomeError, match=expected):
        bounds(pd.DataFrame({"chrom": [1, 2], "tss": [3, 5]}))
    with pytest.raises(GenomeError, match="contig_style='ensembl' would match 1"):
        check_bounds(region_table(["chrM:1-2"]), {"MT": 100}, "toy.fa")


def test_contigs_that_no_style_would_find_are_reasons_of_their_rows():
    assert bounds(["scaffold_7:1-2"])[0].startswith("unknown contig 'scaffold_7'")


# --- raise_bad_rows


def test_fine_rows_raise_nothing():
    assert raise_bad_rows(region_table(["chr1:1-2"])) is None


def test_all_bad_rows_are_counted_and_the_first_five_shown_by_label():
    labels = list("abcdefgh")
    X = pd.DataFrame({"chrom": "chr1", "start": [5, *[-1] * 7], "end": 9}, index=labels)
    with pytest.raises(InputError) as caught:
        raise_bad_rows(region_table(X))
    lines = str(caught.value).splitlines()
    assert lines[0] == "7 of 8 regions cannot be used:"
    assert lines[1] == "  row b: start -1 is negative; positions count from 0"
    assert lines[5].startswith("  row f: ")
    assert lines[6:] == ["  ... (7 in all)"]


def test_labels_that_repeat_get_their_position():
    X = pd.concat([frame(), frame(start=-7)])
    with pytest.raises(InputError, match=r"row 5 \(position 1\): start -7 is negative"):
        raise_bad_rows(region_table(X))


def test_unknown_contigs_alone_are_a_genome_error_and_with_others_an_input_error():
    table = region_table(["chr1:1-2", "chr9:1-2", "chr1:0-2"])
    checked = check_bounds(table, CONTIGS, "toy.fa")
    with pytest.raises(InputError, match="2 of 3 regions cannot be used"):
        raise_bad_rows(checked)
    with pytest.raises(GenomeError, match=r"row 1: unknown contig 'chr9' in toy"):
        raise_bad_rows(checked.iloc[:2])


def test_the_last_of_many_rows_is_named():
    n_rows = 20_000
    X = pd.DataFrame({"chrom": "chr1", "start": 3, "end": [5] * (n_rows - 1) + [2]})
    with pytest.raises(InputError, match="row 19999: start 3 is greater than end 2"):
        raise_bad_rows(check_bounds(region_table(X), CONTIGS, "toy.fa"))


# --- region_names


def test_regions_are_named_by_their_name_or_by_zero_based_position():
    X = pd.DataFrame({"chrom": "chr1", "start": 7, "end": 11, "name": ["n", None]})
    assert region_names(region_table(X)).tolist() == ["n", "chr1:7-11(+)"]


# --- read_regions


def write(folder: Path, text: str, name: str = "peaks.bed") -> Path:
    path = folder / name
    path.write_text(text, newline="")
    return path


def test_bed_files_are_read_in_file_order_with_headers_and_blank_lines_skipped(
    tmp_path,
):
    text = (
        "track name=x\nbrowser position chr1:1-5\n#chrom\tstart\tend\n\n"
        "chr2\t7\t11\tpeak b\t0\t-\tmore\r\n"
        "chr1 3 5\n"
        "trackless\t0\t1\t.\t0\t.\n\n  \n"
    )
    regions = read_regions(write(tmp_path, text))
    assert list(regions.columns) == ["chrom", "start", "end", "strand", "name"]
    assert regions.values.tolist() == [
        ["chr2", 7, 11, "-", "peak b"],
        ["chr1", 3, 5, "+", ""],
        ["trackless", 0, 1, "+", ""],
    ]
    assert regions.index.tolist() == [0, 1, 2]


def test_what_is_read_makes_a_region_table(tmp_path):
    table = region_table(read_regions(write(tmp_path, "1\t3\t5\tNA\n")))
    assert table.loc[0].tolist() == ["1", 3, 5, "+", -1, "NA", ""]


def test_gzipped_bed_files_are_read_whatever_their_name(tmp_path):
    path = tmp_path / "peaks.bed"
    path.write_bytes(gzip.compress(b"chr1\t3\t5\n"))
    assert read_regions(str(path))["end"].tolist() == [5]


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("chr1\t5", r"2 column\(s\), expected at least 3"),
        ("chr1,5,7", r"1 column\(s\), expected at least 3"),
        ("chr1\t1e3\t2000", "start '1e3' is not a whole number"),
        ("chr1\t\t2000", "start is missing"),
        ("chr1\t7\t7", "start and end are both 7, an interval of 0 bp"),
        ("chr1\t7\t5", "start 7 is greater than end 5"),
        ("chr1\t-1\t5", "start -1 is negative"),
        ("\t1\t5", "chrom is missing"),
        ("chr1\t1\t5\tn\t0\tx", "strand 'x' is not one of"),
    ],
)
def test_a_bad_line_is_named_by_file_and_line(tmp_path, line, expected):
    path = write(tmp_path, f"#header\nchr1\t3\t5\n{line}\n")
    with pytest.raises(InputError, match=f"1 of 2 lines.*\n.*peaks.bed:3: {expected}"):
        read_regions(path)


def test_many_bad_lines_are_counted(tmp_path):
    path = write(tmp_path, "chr1\t5\n" * 7)
    with pytest.raises(
        InputError, match=r"peaks.bed:5: 2 col.*\n  \.\.\. \(7 in all\)"
    ):
        read_regions(path)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "holds 0 regions, expected lines of chrom, start and end"),
        (b"#only\n\n", "holds 0 regions"),
        (b"chr1\t\xff\xfe\n", "is not a text file in UTF-8"),
        (gzip.compress(b"chr1\t3\t5\n" * 99)[:-9], "damaged or truncated gzip"),
        (b"\x1f\x8bnot gzip", "damaged or truncated gzip"),
    ],
)
def test_a_file_that_holds_no_regions_says_why(tmp_path, content, expected):
    path = tmp_path / "peaks.bed"
    path.write_bytes(content)
    with pytest.raises(InputError, match=expected):
        read_regions(path)


def test_paths_that_lead_to_no_file_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.bed does not exist"):
        read_regions(tmp_path / "none.bed")
    with pytest.raises(InputError, match="is a directory, expected a text file"):
        read_regions(tmp_path)
    with pytest.raises(InputTypeError, match="path is list, expected a str or"):
        read_regions([tmp_path])


def test_a_published_bed_file_is_read_whole(shared):
    regions = read_regions(shared / "data/tracks/enformer_sequences_human.bed.gz")
    assert len(regions) == 38_171
    assert regions.loc[0].tolist() == ["chr18", 928386, 1059458, "+", "train"]
    assert set(regions["end"] - regions["start"]) == {131_072}
