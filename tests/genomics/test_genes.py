"""Gene tables from GTF, GFF3 and TSV, and the join with measurements."""

from __future__ import annotations

import gzip
import warnings
from pathlib import Path

import pandas as pd
import pytest

from enformer_features.exceptions import InputError, InputTypeError, UnmatchedWarning
from enformer_features.genomics.genes import align, read_genes
from enformer_features.genomics.regions import raise_bad_rows, region_table

COLUMNS = ["chrom", "start", "end", "strand", "tss", "gene_name", "gene_type"]


def line(feature: str, first: int, last: int, strand: str, attributes: str) -> str:
    return f"chr1\tx\t{feature}\t{first}\t{last}\t.\t{strand}\t.\t{attributes}\n"


GENCODE = (
    "##format: gtf\n"
    + line("gene", 101, 200, "+", 'gene_id "G1.2"; gene_type "lncRNA"; gene_name "A";')
    + line("transcript", 121, 200, "+", 'gene_id "G1.2"; tag "basic";')
    + line("transcript", 111, 150, "+", 'gene_id "G1.2"; tag "Ensembl_canonical";')
    + line("exon", 131, 150, "+", 'gene_id "G1.2"; tag "Ensembl_canonical";')
    + "\n"
    + line(
        "gene", 301, 400, "-", 'gene_id "G2"; gene_biotype "protein_coding"; level 2'
    )
    + line("transcript", 311, 370, "-", 'gene_id "G2"; tag "basic"; tag "MANE_Select";')
    + line("gene", 501, 600, ".", 'gene_id "G3";')
)
GFF3 = (
    "##gff-version 3\n"
    + line("gene", 101, 200, "+", "ID=gene:G1;Name=A%2CB;biotype=x;gene_id=G1")
    + line("mRNA", 111, 200, "+", "ID=t1;Parent=gene:G1;tag=basic,Ensembl_canonical")
    + line("exon", 121, 200, "+", "Parent=t1;tag=basic,Ensembl_canonical")
    + line("ncRNA_gene", 301, 400, "-", "ID=gene:G2")
    + line("lnc_RNA", 301, 390, "-", "ID=t2;Parent=gene:G2;tag=MANE Select")
    + line("pseudogene", 1, 9, "-", "ID=t3;Parent=gene:G2")
    + "##FASTA\n>chr1\nACGT\n"
)


def write(folder: Path, text: str, name: str) -> Path:
    path = folder / name
    path.write_text(text)
    return path


# --- GTF and GFF3


def test_gtf_genes_are_zero_based_with_the_tss_at_their_5_prime_end(tmp_path):
    genes = read_genes(write(tmp_path, GENCODE, "a.gtf"))
    assert genes.index.name == "gene_id"
    assert genes.index.tolist() == ["G1.2", "G2", "G3"]
    assert genes.columns.tolist() == COLUMNS
    assert genes.values.tolist() == [
        ["chr1", 100, 200, "+", 100, "A", "lncRNA"],
        ["chr1", 300, 400, "-", 399, "", "protein_coding"],
        ["chr1", 500, 600, "+", 500, "", ""],
    ]
    assert genes[["start", "end", "tss"]].dtypes.eq("int64").all()


def test_the_canonical_tss_is_that_of_the_tagged_transcript(tmp_path):
    path = write(tmp_path, GENCODE, "a.gtf")
    genes = read_genes(path, tss="canonical", missing_tss="gene")
    assert genes["tss"].tolist() == [110, 369, 500]
    assert genes["start"].tolist() == [100, 300, 500]
    dropped = read_genes(path, tss="canonical", missing_tss="drop")
    pd.testing.assert_frame_equal(dropped, genes.iloc[:2])


def test_genes_without_a_canonical_transcript_are_listed(tmp_path):
    path = write(tmp_path, GENCODE, "a.gtf")
    expected = (
        r'1 of 3 genes have no canonical transcript; missing_tss="drop" leaves them '
        r'out, missing_tss="gene" takes the start of the gene instead:\n'
        r".*a\.gtf:9: gene G3 has no canonical transcript"
    )
    with pytest.raises(InputError, match=expected):
        read_genes(path, tss="canonical")


@pytest.mark.parametrize("missing_tss", ["error", "gene", "drop"])
def test_an_annotation_without_canonical_tags_is_refused(tmp_path, missing_tss):
    text = line("gene", 1, 9, "+", 'gene_id "G1";')
    with pytest.raises(InputError, match="tags no transcript as Ensembl_canonical or"):
        read_genes(
            write(tmp_path, text, "a.gtf"), tss="canonical", missing_tss=missing_tss
        )


@pytest.mark.parametrize("name", ["a.gff3", "a.gff", "given_as.gtf"])
def test_gff3_is_read_whatever_the_file_is_called(tmp_path, name):
    path = write(tmp_path, GFF3, name)
    genes = read_genes(path)
    assert genes.index.tolist() == ["G1", "G2"]
    assert genes["tss"].tolist() == [100, 399]
    assert genes["gene_name"].tolist() == ["A,B", ""]
    assert genes["gene_type"].tolist() == ["x", ""]
    assert read_genes(path, tss="canonical")["tss"].tolist() == [110, 389]


def test_a_gzipped_annotation_is_read(tmp_path):
    path = tmp_path / "v1.a.gtf.gz"
    path.write_bytes(gzip.compress(GENCODE.encode()))
    assert len(read_genes(str(path))) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (line("gene", 1, 9, "+", 'gene_name "A";'), "a gene without gene_id"),
        (line("gene", 1, 9, "+", 'gene_id "";'), "a gene without gene_id"),
        (line("gene", 0, 9, "+", 'gene_id "G";'), "start 0 and end 9 must be 1-based"),
        (line("gene", 9, 1, "+", 'gene_id "G";'), "start 9 and end 1 must be 1-based"),
        (
            line("gene", "1e3", 9, "+", 'gene_id "G";'),
            "start '1e3' and end '9' must be",
        ),
        (line("gene", 1, "9" * 5000, "+", 'gene_id "G";'), "start '1' and end '999"),
        (line("gene", 1, 9, "x", 'gene_id "G";'), "strand 'x' is not one of"),
        (
            line("gene", 1, 9, "+", 'gene_id "H";').replace("chr1", "", 1),
            "the first column, the chromosome, is empty",
        ),
        ("chr1 x gene 1 9\n", r"1 tab-separated column\(s\), expected 9"),
        ("chr1\tx\tgene\t1\t9\n", r"5 tab-separated column\(s\), expected 9"),
    ],
)
def test_a_bad_annotation_line_is_named_by_file_and_line(tmp_path, text, expected):
    path = write(tmp_path, GENCODE + text, "a.gtf")
    with pytest.raises(InputError, match=rf"a\.gtf:10: {expected}"):
        read_genes(path)


def test_an_annotation_without_gene_lines_says_what_it_has(tmp_path):
    text = line("exon", 1, 9, "+", 'gene_id "G";') * 3 + line("CDS", 1, 9, "+", "")
    expected = (
        r"has no gene lines \(it has 3 exon, 1 CDS\); genes need lines whose third"
    )
    with pytest.raises(InputError, match=expected):
        read_genes(write(tmp_path, text, "a.gtf"))
    with pytest.raises(InputError, match="it has no lines at all"):
        read_genes(write(tmp_path, "", "b.gtf"))


def test_gene_ids_must_be_unique(tmp_path):
    text = line("gene", 1, 9, "+", 'gene_id "G";') * 2
    expected = r"gene_id must be unique, but these occur again: G \(.*a\.gtf:2\)"
    with pytest.raises(InputError, match=expected):
        read_genes(write(tmp_path, text, "a.gtf"))
    table = "gene_id\tchrom\ttss\tstrand\nG\t1\t5\t+\nG\t1\t7\t+\n"
    with pytest.raises(InputError, match=r"occur again: G \(.*a\.tsv:3\)"):
        read_genes(write(tmp_path, table, "a.tsv"))


def test_arguments_that_do_not_fit_are_refused(tmp_path):
    path = write(tmp_path, GENCODE, "a.gtf")
    with pytest.raises(InputError, match='tss is \'cage\', expected "gene" or "canon'):
        read_genes(path, tss="cage")
    with pytest.raises(InputError, match="chrom='contig' names a column of a table"):
        read_genes(path, chrom="contig")
    with pytest.raises(InputTypeError, match=r"tss=\['tss'\] is list, expected text"):
        read_genes(path, tss=["tss"])
    with pytest.raises(InputTypeError, match="chrom=5 is int, expected text"):
        read_genes(path, chrom=5)
    with pytest.raises(
        InputError, match="missing_tss is 'fill', expected one of error"
    ):
        read_genes(path, missing_tss="fill")
    with pytest.raises(InputError, match=r"a\.bam is of an unknown kind, expected one"):
        read_genes(tmp_path / "a.bam")
    with pytest.raises(InputError, match=r"none\.gtf does not exist"):
        read_genes(tmp_path / "none.gtf")
    with pytest.raises(InputTypeError, match="path is int, expected a str or"):
        read_genes(5)


# --- tables

TABLE = (
    "Gene_ID\tcontig\ttss0\tstrand\tcage\tchrom\tgene_name\n"
    "G1\tc1\t11\t+\t13\tchr7\tA\n"
    "\n"
    "G2\tc1\t17\t-\t\tchr7\t5'\"x\n"
    "G3\tc2\t19\t-1\t23.0\tchr7\tNA\n"
)


def test_a_table_gives_genes_and_keeps_its_further_columns_as_text(tmp_path):
    genes = read_genes(write(tmp_path, TABLE, "a.tsv"))
    assert genes.index.tolist() == ["G1", "G2", "G3"]
    assert genes.index.name == "gene_id"
    assert genes.columns.tolist() == [*COLUMNS, "cage", "chrom_in_file"]
    assert genes.loc["G2"].tolist() == ["c1", 17, 18, "-", 17, "5'\"x", "", "", "chr7"]
    assert genes.loc["G3", "gene_name"] == "NA"


def test_genes_of_a_table_are_regions(tmp_path):
    table = region_table(read_genes(write(tmp_path, TABLE, "a.tsv")))
    raise_bad_rows(table)
    assert table["name"].tolist() == ["G1", "G2", "G3"]
    assert table["tss"].tolist() == [11, 17, 19]


def test_the_column_of_chromosomes_may_be_named(tmp_path):
    genes = read_genes(write(tmp_path, TABLE, "a.tsv"), chrom="chrom")
    assert genes["chrom"].tolist() == ["chr7"] * 3
    assert genes["contig_in_file"].tolist() == ["c1", "c1", "c2"]


def test_a_column_of_starts_may_be_named_and_its_gaps_are_listed(tmp_path):
    path = write(tmp_path, TABLE, "a.tsv")
    expected = r"1 of 3 genes have no cage; .*\n.*a\.tsv:4: gene G2 has no cage$"
    with pytest.raises(InputError, match=expected):
        read_genes(path, tss="cage")
    filled = read_genes(path, tss="cage", missing_tss="gene")
    assert filled["tss"].tolist() == [13, 17, 23]
    assert filled["start"].tolist() == [13, 17, 23]
    assert filled["tss0"].tolist() == ["11", "17", "19"]
    dropped = read_genes(path, tss="cage", missing_tss="drop")
    pd.testing.assert_frame_equal(dropped, filled.iloc[[0, 2]])


def test_a_table_of_gene_bodies_has_its_tss_at_the_5_prime_end(tmp_path):
    text = "gene_id,chr,start,end,strand,peak\nG1,1,5,9,+,\nG2,1,5,9,-,7\n"
    path = write(tmp_path, text, "a.csv")
    assert read_genes(path)["tss"].tolist() == [5, 8]
    genes = read_genes(path, tss="peak", missing_tss="gene")
    assert genes[["start", "end", "tss"]].values.tolist() == [[5, 9, 5], [5, 9, 7]]


def test_a_column_without_any_start_is_refused_whatever_was_asked(tmp_path):
    text = "gene_id\tchrom\ttss\tstrand\tcage\nG1\t1\t5\t+\tNA\n"
    expected = "1 of 1 genes have no cage; is it the right one"
    with pytest.raises(InputError, match=expected):
        read_genes(write(tmp_path, text, "a.tsv"), tss="cage", missing_tss="drop")


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("G1\t1\t1e6\t+", "1 of 1 genes cannot be used:\n.*a.tsv:2: tss '1e6' is not"),
        ("G1\t1\t-1\t+", "a.tsv:2: tss -1 is negative"),
        ("G1\t\t5\t+", "a.tsv:2: chrom is missing"),
        ("G1\t1\t5\tx", "a.tsv:2: strand 'x' is not one of"),
        ("\t1\t5\t+", "1 of 1 genes have no gene_id: .*a.tsv:2"),
        ("G1\t1\t5", r"a.tsv:2: 3 column\(s\), the header has 4"),
        ("G1\t1\t5\t+\t", r"a.tsv:2: 5 column\(s\), the header has 4"),
        ("", "holds 0 genes, expected a header line and one line per gene"),
    ],
)
def test_a_bad_line_of_a_table_is_named(tmp_path, row, expected):
    path = write(tmp_path, f"gene_id\tchrom\ttss\tstrand\n{row}\n", "a.tsv")
    with pytest.raises(InputError, match=expected):
        read_genes(path)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("gene\tchrom\ttss\tstrand", "no column for gene_id: found gene, chrom, tss"),
        ("gene_id\tc\ttss\tstrand", "no column for chrom: found .*accepted.*contig"),
        ("gene_id\tchrom\ttss\tsign", "no column for strand: found"),
        ("gene_id\tchrom\tstart\tstrand", r"no column for tss: .*\(or give start and"),
        ("gene_id\tchrom\tx\tx", "has columns of the same name: x"),
    ],
)
def test_a_table_that_lacks_a_column_says_what_it_has(tmp_path, header, expected):
    path = write(tmp_path, f"{header}\nG1\t1\t5\t+\n", "a.tsv")
    with pytest.raises(InputError, match=expected):
        read_genes(path)


def test_a_column_that_is_not_there_lists_those_that_are(tmp_path):
    path = write(tmp_path, TABLE, "a.tsv")
    with pytest.raises(
        InputError, match="tss is 'peak', expected \"gene\" or a column"
    ):
        read_genes(path, tss="peak")
    with pytest.raises(InputError, match='"canonical" needs a GTF or GFF3 file'):
        read_genes(path, tss="canonical")
    with pytest.raises(InputError, match=r"no column for chrom: .*accepted.*: seq$"):
        read_genes(path, chrom="seq")


# --- align

GENES = pd.DataFrame({"tss": [2, 3, 5]}, index=["G1", "G2", "G3"])


def test_aligned_rows_are_in_the_order_of_genes():
    rna = pd.DataFrame({"liver": [0.5, 0.3, 0.2]}, index=["G3", "G2", "G1"])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        genes, aligned = align(GENES, rna)
    pd.testing.assert_frame_equal(genes, GENES)
    assert aligned.index.equals(genes.index)
    assert aligned["liver"].tolist() == [0.2, 0.3, 0.5]


def test_ids_without_a_partner_are_counted_on_both_sides():
    rna = pd.Series([0.7, 0.3, float("nan")], index=["G9", "G3", "G1"])
    expected = (
        r"2 ids matched; without a partner are 1 of 3 genes \(G2\) and "
        r"1 of 3 targets \(G9\)$"
    )
    with pytest.warns(UnmatchedWarning, match=expected) as caught:
        genes, aligned = align(GENES, rna)
    assert caught[0].filename == __file__
    assert genes.index.tolist() == ["G1", "G3"]
    assert aligned.isna().tolist() == [True, False]


def test_versions_are_stripped_only_when_asked_and_only_from_ensembl_ids():
    genes = GENES.set_axis(["ENSG00000000003.15", "ENSG00000000005.6_PAR_Y", "AC0.1"])
    rna = pd.Series(
        [2, 3, 5], index=["ENSG00000000003", "ENSG00000000005_PAR_Y.2", "AC0.1"]
    )
    with pytest.warns(
        UnmatchedWarning, match="; strip_version=True would match 1 more"
    ):
        align(genes, rna)
    with pytest.warns(UnmatchedWarning, match="2 ids matched"):
        genes, rna = align(genes, rna, strip_version=True)
    assert genes.index.tolist() == rna.index.tolist() == ["ENSG00000000003", "AC0.1"]


def test_no_common_id_is_refused_with_a_hint_about_versions():
    ids = [f"ENSG0000000000{digit}" for digit in "357"]
    genes = GENES.set_axis([f"{name}.1" for name in ids])
    expected = (
        r"no id occurs both in genes \(.*\.1\) and in targets .*True would match 3"
    )
    with pytest.raises(InputError, match=expected):
        align(genes, pd.Series([1, 2, 3], index=ids))
    with pytest.raises(InputError, match=r"targets \(0, 1, 2\); both must be indexed"):
        align(GENES, pd.Series([1, 2, 3]))


def test_ids_that_repeat_are_refused():
    twice = GENES.set_axis(["G1", "G1", "G2"])
    with pytest.raises(InputError, match="ids of genes occur more than once: G1"):
        align(twice, GENES)
    with pytest.raises(InputError, match="ids of targets occur more than once: G1"):
        align(GENES, twice)
    versions = GENES.set_axis(["ENSG00000000003.1", "ENSG00000000003.2", "G1"])
    with pytest.raises(InputError, match="more than once once versions are stripped"):
        align(versions, GENES, strip_version=True)


def test_tables_without_ids_are_refused():
    with pytest.raises(InputTypeError, match="targets is list, expected a pandas Data"):
        align(GENES, [1, 2, 3])
    with pytest.raises(
        InputError, match="targets has rows without an id, at positions 1"
    ):
        align(GENES, pd.Series([1, 2], index=["G1", None]))
    levels = pd.MultiIndex.from_tuples([("G1", "a")], names=["gene", "sample"])
    with pytest.raises(InputError, match=r"several levels, \['gene', 'sample'\]; keep"):
        align(GENES, pd.Series([1], index=levels))


# --- real files


def test_all_yeast_genes_have_their_tss_inside_and_at_the_right_end(shared):
    genes = read_genes(shared / "data/yeast/R64-1-1.96.gtf.gz")
    assert len(genes) == 7_036
    assert genes.loc["YDL248W"].tolist()[:5] == ["IV", 1801, 2953, "+", 1801]
    minus = genes["strand"] == "-"
    assert 3_000 < minus.sum() < 4_000
    assert (genes["tss"] == genes["start"])[~minus].all()
    assert (genes["tss"] == genes["end"] - 1)[minus].all()
    raise_bad_rows(region_table(genes))


def test_human_genes_and_their_cage_starts(shared):
    path = shared / "data/human/genes.tsv"
    genes = read_genes(path)
    assert len(genes) == 490
    assert genes.loc["ENSG00000223972", ["chrom", "tss"]].tolist() == ["chr1_0M", 11868]
    with pytest.raises(InputError, match="322 of 490 genes have no cage_tss0"):
        read_genes(path, tss="cage_tss0")
    assert len(read_genes(path, tss="cage_tss0", missing_tss="drop")) == 168
    filled = read_genes(path, tss="cage_tss0", missing_tss="gene")
    assert (filled["tss"] != genes["tss"]).sum() == 164


def test_human_genes_align_with_their_expression(shared):
    folder = shared / "data/human"
    rna = pd.read_csv(folder / "expression_hpa.tsv.gz", sep="\t", index_col=0)
    with pytest.warns(UnmatchedWarning, match="178 ids matched; .* 312 of 490 genes"):
        genes, targets = align(read_genes(folder / "genes.tsv"), rna)
    assert len(genes) == len(targets) == 178
    assert (genes["in_expression"] == "1").all()
