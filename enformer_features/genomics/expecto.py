"""The gene table and the expression matrix that were published with ExPecto."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError, check_choice, first_few
from enformer_features.genomics._columns import (
    Texts,
    bad_rows_text,
    chromosomes,
    integers,
    no_reasons,
    note,
    refuse_missing_column,
    strands,
)
from enformer_features.genomics._gene_table import read_text_table
from enformer_features.genomics._text import as_path, open_text

TSS_COLUMNS = {"cage": "CAGE_representative_TSS", "annotated": "TSS"}
DROPPED_TYPE = "rRNA"


def read_expecto(
    geneanno: str | os.PathLike[str],
    expression: str | os.PathLike[str],
    *,
    tss: Literal["cage", "annotated"] = "cage",
) -> tuple[pd.DataFrame, pd.DataFrame]:
    r"""Read ExPecto's ``geneanno.csv`` and ``geneanno.exp.csv``, one row per gene.

    Genes of type rRNA are left out, as ExPecto does [1]_. All chromosomes are kept:
    which are fitted and which are tested is for a split to say.

    Parameters
    ----------
    geneanno : path
        Comma separated, with the columns ``id``, ``symbol``, ``seqnames``, ``strand``,
        ``TSS``, ``CAGE_representative_TSS`` and ``type``; positions are 1-based, of
        hg19. May be gzipped.
    expression : path
        Comma separated, with a header line: a column per tissue, and rows in the order
        of ``geneanno``; or with the ids in the first column, which must be the same.
        May be gzipped.
    tss : {"cage", "annotated"}, default="cage"
        The strongest CAGE peak, which ExPecto uses, or the annotated start.

    Returns
    -------
    genes : DataFrame, shape (n_genes, 7)
        Indexed by ``gene_id``, in file order: ``chrom``, ``start``, ``end``,
        ``strand``, ``tss`` (0-based), ``gene_name``, ``gene_type``, as
        :func:`~enformer_features.read_genes` returns them.
    expression : DataFrame of float64, shape (n_genes, n_tissues)
        With the same index; RPKM as published, not logarithms. Values may be missing.

    Raises
    ------
    InputError
        If a file cannot be read, a column is missing, rows cannot be used or ids
        repeat, the numbers of rows or the ids differ, or a value is no number.

    References
    ----------
    .. [1] Zhou et al. 2018, Nat. Genet. 50:1171; resources of FunctionLab/ExPecto,
       for academic use and not to be passed on: none come with this package.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> names = ["geneanno.csv", "geneanno.exp.csv"]
    >>> anno, exp = (pathlib.Path(folder.name, name) for name in names)
    >>> _ = anno.write_text(
    ...     "id,symbol,seqnames,strand,TSS,CAGE_representative_TSS,type\n"
    ...     "ENSG00000000001,ONE,chr8,-,1000,1010,protein_coding\n"
    ... )
    >>> _ = exp.write_text("Liver,Spleen\n0.5,2.0\n")
    >>> genes, expression = read_expecto(anno, exp)
    >>> genes[["chrom", "tss", "strand"]].to_numpy().tolist()
    [['chr8', 1009, '-']]
    >>> expression.loc["ENSG00000000001", "Spleen"]
    np.float64(2.0)
    >>> folder.cleanup()
    """
    check_choice("tss", tss, tuple(TSS_COLUMNS))
    anno, matrix = as_path(geneanno), as_path(expression)
    text = read_text_table(anno, separator=",")
    needed = ("id", "symbol", "seqnames", "strand", TSS_COLUMNS[tss], "type")
    for column in needed:
        if column not in text:
            refuse_missing_column(str(anno), column, text.columns, [column])
    genes = _genes(text, TSS_COLUMNS[tss])
    values = _values(matrix, genes.index, anno)
    is_kept = (genes["gene_type"] != DROPPED_TYPE).to_numpy()
    return genes[is_kept], values[is_kept]


def _genes(text: pd.DataFrame, tss_column: str) -> pd.DataFrame:
    reasons = no_reasons(len(text))
    position = integers(text[tss_column], tss_column, reasons)
    note(reasons, position < 1, lambda row: f"{tss_column} is below 1, the first base")
    genes = pd.DataFrame(
        {
            "chrom": chromosomes(text["seqnames"], reasons),
            "start": position - 1,
            "end": position,
            "strand": strands(text["strand"], reasons),
            "tss": position - 1,
            "gene_name": text["symbol"],
            "gene_type": text["type"],
        }
    )
    _note_ids(text["id"], reasons)
    bad = reasons != ""
    if bad.any():
        labels = [str(label) for label in text.index[bad]]
        msg = f"genes that cannot be used:\n{bad_rows_text(labels, reasons[bad])}"
        raise InputError(msg)
    return genes.set_axis(pd.Index(text["id"], name="gene_id"), axis=0)


def _note_ids(ids: pd.Series[str], reasons: Texts) -> None:
    note(reasons, (ids == "").to_numpy(), lambda row: "id is empty")
    repeated = ids.duplicated().to_numpy()
    note(reasons, repeated, lambda row: f"id {ids.iloc[row]} occurs a second time")


def _values(file: Path, ids: pd.Index[str], anno: Path) -> pd.DataFrame:
    with open_text(file) as lines:
        try:
            table = pd.read_csv(lines, index_col=False)
        except (pd.errors.ParserError, pd.errors.EmptyDataError) as error:
            msg = f"{file} is no comma separated table: {error}"
            raise InputError(msg) from error
    if len(table) != len(ids):
        msg = (
            f"{file} has {len(table)} rows, {anno} has {len(ids)}; they must be the "
            "same genes in the same order"
        )
        raise InputError(msg)
    if len(table.columns) and not pd.api.types.is_numeric_dtype(table.iloc[:, 0]):
        table = _without_ids(table, ids, file, anno)
    wrong = [
        str(name)
        for name in table
        if not pd.api.types.is_numeric_dtype(table[name]) or np.isinf(table[name]).any()
    ]
    if wrong or not len(table.columns):
        what = f"columns {first_few(wrong)}" if wrong else "no columns"
        msg = f"{file} has {what} that are not numbers; expected one per tissue"
        raise InputError(msg)
    return table.astype(np.float64).set_axis(ids, axis=0)


def _without_ids(
    table: pd.DataFrame, ids: pd.Index[str], file: Path, anno: Path
) -> pd.DataFrame:
    given = table.iloc[:, 0].astype(str)
    differ = np.flatnonzero(given.to_numpy() != ids.to_numpy())
    if len(differ):
        row = int(differ[0])
        msg = (
            f"{file}:{row + 2}: the id is {given.iloc[row]}, and {ids[row]} in {anno}; "
            "they must be the same genes in the same order"
        )
        raise InputError(msg)
    return table.iloc[:, 1:]
