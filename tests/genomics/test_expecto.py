"""Files of the form that ExPecto published, with invented genes."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.genomics.expecto import read_expecto
from enformer_features.genomics.regions import region_table

ANNO = """\
id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type
ENSG01,ONE,chr8,+,1000,1010,protein_coding
ENSG02,TWO,chrX,-,2000,1990,lincRNA
ENSG03,RIB,chr1,+,3000,3000,rRNA
ENSG04,FOUR,chr1,-,4000,4000,protein_coding
"""
EXP = "Adipose,K562 cells\n0.5,1\n0,2.5\n9,9\n7,\n"


def write(folder: Path, anno: str = ANNO, exp: str = EXP) -> tuple[Path, Path]:
    files = folder / "geneanno.csv", folder / "geneanno.exp.csv"
    for file, text in zip(files, (anno, exp), strict=True):
        file.write_text(text)
    return files


def test_genes_and_expression_are_read_without_rrna(tmp_path: Path) -> None:
    genes, expression = read_expecto(*write(tmp_path))
    assert list(genes.index) == ["ENSG01", "ENSG02", "ENSG04"]
    assert genes["tss"].tolist() == [1009, 1989, 3999]
    assert genes["chrom"].tolist() == ["chr8", "chrX", "chr1"]
    assert genes["gene_name"].tolist() == ["ONE", "TWO", "FOUR"]
    expected = pd.DataFrame(
        {"Adipose": [0.5, 0, 7], "K562 cells": [1, 2.5, np.nan]}, genes.index
    )
    pd.testing.assert_frame_equal(expression, expected)
    assert (region_table(genes)["reason"] == "").all()


def test_annotated_starts_and_gzipped_files_are_read(tmp_path: Path) -> None:
    anno, exp = write(tmp_path)
    packed = tmp_path / "geneanno.exp.csv.gz"
    packed.write_bytes(gzip.compress(exp.read_bytes()))
    genes, _ = read_expecto(anno, packed, tss="annotated")
    assert genes["tss"].tolist() == [999, 1999, 3999]


def test_ids_beside_the_expression_are_compared(tmp_path: Path) -> None:
    ids = ["ENSG01", "ENSG02", "ENSG03", "ENSG04"]
    lines = EXP.splitlines()
    named = [f"id,{lines[0]}", *map(",".join, zip(ids, lines[1:], strict=True))]
    files = write(tmp_path, exp="\n".join(named))
    plain = read_expecto(*write(tmp_path))[1]
    files[1].write_text("\n".join(named))
    pd.testing.assert_frame_equal(read_expecto(*files)[1], plain)
    files[1].write_text("\n".join([*named[:2], named[3], named[2], named[4]]))
    with pytest.raises(InputError, match=r"exp.csv:3: the id is ENSG03, and ENSG02 in"):
        read_expecto(*files)


@pytest.mark.parametrize(
    ("old", "new", "match"),
    [
        ("CAGE_rep", "cage_rep", "no column for CAGE_representative_TSS"),
        (",1010,", ",far,", "csv:2: CAGE_representative_TSS 'far' is not a whole"),
        (",1010,", ",0,", "csv:2: CAGE_representative_TSS is below 1"),
        (",1010,", ",,", "csv:2: CAGE_representative_TSS is missing"),
        ("ENSG04", "ENSG01", "csv:5: id ENSG01 occurs a second time"),
        ("ENSG04", "", "csv:5: id is empty"),
        (",-,2000", ",~,2000", "csv:3: strand '~' is not one of"),
        ("chr8", "", "csv:2: chrom is missing"),
    ],
)
def test_genes_that_cannot_be_used_are_named_by_line(
    tmp_path: Path, old: str, new: str, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        read_expecto(*write(tmp_path, ANNO.replace(old, new)))


@pytest.mark.parametrize(
    ("exp", "match"),
    [
        (EXP + "1,1\n", "has 5 rows, .*geneanno.csv has 4"),
        (EXP.replace("2.5", "much"), "columns K562 cells that are not numbers"),
        (EXP.replace("2.5", "inf"), "columns K562 cells that are not numbers"),
        ("", "is no comma separated table"),
    ],
)
def test_expression_that_cannot_be_used_is_refused(
    tmp_path: Path, exp: str, match: str
) -> None:
    with pytest.raises(InputError, match=match):
        read_expecto(*write(tmp_path, exp=exp))


def test_another_tss_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="tss='cag' is not one of"):
        read_expecto(*write(tmp_path), tss="cag")  # type: ignore[arg-type]
