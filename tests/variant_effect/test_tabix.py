import gzip

import pandas as pd
import pytest

from enformer_features.exceptions import InputError, StoreError, VariantWarning
from enformer_features.variant_effect.tabix import (
    index,
    index_of,
    is_sorted,
    read_text,
    text_output,
)

TEXT = "##one\n##two=2\n#chrom\tpos\tid\tscore\n1\t5\tNA\t0.1\n1\t7\t.\tNaN\n"


def write_text(path, text=TEXT):
    with text_output(path) as write:
        write(text)
    return path


@pytest.mark.parametrize("name", ["a.tsv", "a.tsv.gz"])
def test_tables_are_read_as_they_were_written(tmp_path, name):
    path = write_text(tmp_path / name)
    comments, table = read_text(path)
    assert comments == ["##one", "##two=2"]
    assert table["id"].tolist() == ["NA", "."]
    assert table["score"].fillna(-1).tolist() == [0.1, -1]
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == (path.suffix == ".gz")


def test_a_file_in_blocks_ends_as_bgzip_does(tmp_path):
    content = write_text(tmp_path / "a.tsv.gz").read_bytes()
    assert content[-28:-2].startswith(b"\x1f\x8b\x08\x04")
    assert gzip.decompress(content).decode() == TEXT


def test_a_failure_leaves_the_old_file_and_its_index(tmp_path):
    path = write_text(tmp_path / "a.tsv.gz")
    index_of(path).write_text("index")

    def write_half():
        with text_output(path, overwrite=True) as write:
            write("half")
            raise StoreError

    with pytest.raises(StoreError):
        write_half()
    assert gzip.decompress(path.read_bytes()).decode() == TEXT
    assert index_of(path).exists()


def test_an_old_index_goes_with_its_file(tmp_path):
    path = write_text(tmp_path / "a.tsv.gz")
    index_of(path).write_text("index")
    with text_output(path, overwrite=True) as write:
        write(TEXT)
    assert not index_of(path).exists()


def test_rows_are_found_by_position(tmp_path):
    pysam = pytest.importorskip("pysam")
    path = write_text(tmp_path / "a.tsv.gz")
    assert index(path, read_text(path)[1])
    with pysam.TabixFile(str(path)) as file:
        assert list(file.fetch("1", 6, 7)) == ["1\t7\t.\tNaN"]
        assert list(file.header) == TEXT.splitlines()[:3]


@pytest.mark.parametrize(
    ("rows", "reason"),
    [
        ({"chrom": ["1", "1"], "pos": [7, 5]}, "rows are not sorted"),
        ({"chrom": ["1", "2", "1"], "pos": [1, 1, 2]}, "rows are not sorted"),
        ({"chrom": ["1"], "pos": [2**29]}, "ends at position 536,870,912"),
    ],
)
def test_tables_that_cannot_be_indexed_say_why(tmp_path, rows, reason):
    path = write_text(tmp_path / "a.tsv.gz")
    with pytest.warns(VariantWarning, match=f"has no index: .*{reason}"):
        assert not index(path, pd.DataFrame(rows))
    assert not index_of(path).exists()


def test_without_pysam_the_extra_is_named(tmp_path, monkeypatch):
    path = write_text(tmp_path / "a.tsv.gz")
    monkeypatch.setitem(__import__("sys").modules, "pysam", None)
    with pytest.warns(VariantWarning, match=r"enformer-features\[vcf\]"):
        index(path, read_text(path)[1])


def test_a_file_that_tabix_refuses_says_so(tmp_path):
    pytest.importorskip("pysam")
    text = "#chrom\tpos\n1\t7\n1\t5\n"
    path = write_text(tmp_path / "a.tsv.gz", text)
    with pytest.warns(VariantWarning, match="has no index"):
        index(path, pd.DataFrame({"chrom": ["1"], "pos": [7]}))
    assert not index_of(path).exists()


def test_contigs_may_come_in_any_order():
    assert is_sorted(pd.DataFrame({"chrom": ["b", "b", "a"], "pos": [5, 5, 1]}))
    assert is_sorted(pd.DataFrame({"chrom": [], "pos": []}))


@pytest.mark.parametrize("content", [b"", b"\x1f\x8bno", b"#a\tb\n1\t2\t3\t4\n1\t\xff"])
def test_what_is_no_table_is_refused(tmp_path, content):
    path = tmp_path / ("a.gz" if content[:1] == b"\x1f" else "a.tsv")
    path.write_bytes(content)
    with pytest.raises(InputError, match="cannot be read as a table of variants"):
        read_text(path)
