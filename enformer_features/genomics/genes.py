"""Gene tables: which genes, which start of transcription, and whose measurements.

The *tss* of a gene is one 0-based position, the first transcribed base: the 5' end
of the gene, of its canonical transcript, or a measured one (CAGE) from a column.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    UnmatchedWarning,
    first_few,
    warn,
)
from enformer_features.genomics._columns import (
    Texts,
    bad_rows_text,
    refuse_missing_column,
)
from enformer_features.genomics._gene_table import (
    ACCEPTED,
    MISSING,
    find_gene_columns,
    free_name,
    read_text_table,
)
from enformer_features.genomics._gtf import Gene, read_annotation
from enformer_features.genomics._text import as_path
from enformer_features.genomics.regions import region_table

MissingTss = Literal["error", "gene", "drop"]
Targets = TypeVar("Targets", pd.DataFrame, "pd.Series[Any]")

ANNOTATION_SUFFIXES = frozenset({".gtf", ".gff", ".gff3"})
TABLE_SUFFIXES = frozenset({".tsv", ".txt", ".csv"})
_VERSION = r"^(ENS[A-Z]*\d{11})\.\d+(?=$|_PAR_Y$)"


def read_genes(
    path: str | os.PathLike[str],
    *,
    tss: str = "gene",
    chrom: str | None = None,
    missing_tss: MissingTss = "error",
) -> pd.DataFrame:
    r"""Read genes and their transcription start sites, one row per gene.

    Parameters
    ----------
    path
        An annotation, ``.gtf``, ``.gff3`` or ``.gff`` (Ensembl, GENCODE, RefSeq), of
        which the gene lines are read; or a table, ``.tsv``, ``.txt`` (tabs) or
        ``.csv``, with a header line and the columns ``gene_id``, a chromosome,
        ``strand`` and ``tss`` or ``tss0`` or ``start`` and ``end``. Each may be
        gzipped (``.gz``). Positions in a table are **0-based half-open**; those of
        an annotation are 1-based, as its format says, and are converted.
    tss : "gene", "canonical" or the name of a column, default "gene"
        Which start: "gene" is the 5' end of the gene (in a table: its ``tss`` or
        ``tss0``, or else the 5' end of start to end); "canonical" that of the
        transcript tagged ``Ensembl_canonical`` or ``MANE_Select`` (annotations); any
        other text names a column of a table, such as one of CAGE peaks.
    chrom : str, optional
        The table's column of chromosome names. By default the first in the file
        whose name a region table accepts (``chrom``, ``chr``, ``contig``, ...).
    missing_tss : {"error", "gene", "drop"}, default "error"
        What to do with genes that lack the start asked for: raise, take the one of
        "gene", or leave them out.

    Returns
    -------
    DataFrame, shape (n_genes, 7 or more)
        Indexed by ``gene_id`` (str, unique), in file order. Columns: ``chrom``
        (str), ``start`` and ``end`` of the gene (int64, 0-based half-open; with a
        tss alone ``tss`` and ``tss + 1``), ``strand`` ("+" or "-"), ``tss`` (int64),
        ``gene_name`` and ``gene_type`` (str, "" = none). A table's further columns
        follow as text, with ``_in_file`` appended where a name is taken.

    Raises
    ------
    InputError
        If the file cannot be read or is not of a known kind; if it has no genes, or
        a gene without an id (``file:line``); if ids are not unique; if a column is
        missing or a value cannot be used; if starts are missing (see `missing_tss`)
        or `tss` names none.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     table = pathlib.Path(folder, "genes.tsv")
    ...     _ = table.write_text("gene_id\tchrom\ttss\tstrand\nG1\tchr1\t50\t-\n")
    ...     genes = read_genes(table)
    >>> print(*genes.loc["G1", ["chrom", "tss", "strand"]])
    chr1 50 -
    """
    if missing_tss not in get_args(MissingTss):
        choices = ", ".join(get_args(MissingTss))
        msg = f"missing_tss is {missing_tss!r}, expected one of {choices}"
        raise InputError(msg)
    for name, value in (("tss", tss), ("chrom", chrom)):
        if not isinstance(value, str) and not (name == "chrom" and value is None):
            msg = f"{name}={value!r} is {type(value).__name__}, expected text"
            raise InputTypeError(msg)
    file = as_path(path)
    suffix = _suffix(file)
    if suffix in ANNOTATION_SUFFIXES:
        if chrom is not None:
            msg = f"chrom={chrom!r} names a column of a table, but {file} is none"
            raise InputError(msg)
        return _from_annotation(file, tss, missing_tss)
    if suffix in TABLE_SUFFIXES:
        return _from_table(file, tss, chrom, missing_tss)
    known = ", ".join(sorted(ANNOTATION_SUFFIXES | TABLE_SUFFIXES))
    msg = f"{file} is of an unknown kind, expected one of {known}, each also with .gz"
    raise InputError(msg)


def align(
    genes: pd.DataFrame, targets: Targets, *, strip_version: bool = False
) -> tuple[pd.DataFrame, Targets]:
    """Join genes with their measurements by id.

    Parameters
    ----------
    genes : DataFrame, shape (n_genes, n_columns)
        Genes, indexed by id, such as :func:`read_genes` returns.
    targets : DataFrame, shape (n_measured, n_targets), or Series
        Measurements, indexed by id.
    strip_version : bool, default False
        Compare Ensembl ids without their version, ``ENSG00000139618.15`` as
        ``ENSG00000139618``; the result is indexed by the shorter ids.

    Returns
    -------
    genes : DataFrame, shape (n_matched, n_columns)
        The genes that were measured, in the order of `genes`, indexed by id (str).
    targets : DataFrame, shape (n_matched, n_targets), or Series
        Their measurements, with the same index; values and gaps stay as they are.

    Raises
    ------
    InputTypeError
        If `genes` or `targets` is not of pandas, so that it has no ids.
    InputError
        If an id is missing or occurs twice, or no id occurs on both sides.

    Warns
    -----
    UnmatchedWarning
        If ids of either side have no partner: how many, and which.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"tss": [5, 9]}, index=["G1", "G2"])
    >>> rna = pd.DataFrame({"liver": [0.1, 0.2]}, index=["G2", "G1"])
    >>> genes, rna = align(genes, rna)
    >>> rna["liver"].tolist()
    [0.2, 0.1]
    """
    gene_ids = _ids(genes, "genes", strip_version)
    target_ids = _ids(targets, "targets", strip_version)
    places = target_ids.get_indexer(gene_ids)
    matched = places >= 0
    hint = "" if strip_version else _version_hint(gene_ids, target_ids)
    if not matched.any():
        msg = (
            f"no id occurs both in genes ({first_few(list(gene_ids))}) and in targets "
            f"({first_few(list(target_ids))}); both must be indexed by the same kind "
            f"of id{hint}"
        )
        raise InputError(msg)
    genes_alone = gene_ids[~matched]
    targets_alone = target_ids[~target_ids.isin(gene_ids)]
    if len(genes_alone) or len(targets_alone):
        warn(
            f"{int(matched.sum())} ids matched; without a partner are "
            f"{_count(genes_alone, gene_ids, 'genes')} and "
            f"{_count(targets_alone, target_ids, 'targets')}{hint}",
            UnmatchedWarning,
        )
    index = gene_ids[matched]
    return (
        genes.loc[matched].set_axis(index, axis=0),
        targets.iloc[places[matched]].set_axis(index, axis=0),
    )


def _suffix(file: Path) -> str:
    """Give the last suffix in lower case, without one that says how it is packed."""
    suffixes = [suffix.lower() for suffix in file.suffixes]
    if suffixes and suffixes[-1] in (".gz", ".bgz"):
        suffixes.pop()
    return suffixes[-1] if suffixes else ""


def _five_prime(table: pd.DataFrame) -> NDArray[np.int64]:
    forward = (table["strand"] == "+").to_numpy()
    return np.where(forward, table["start"], table["end"] - 1).astype(np.int64)


def _from_annotation(file: Path, tss: str, missing_tss: MissingTss) -> pd.DataFrame:
    if tss not in ("gene", "canonical"):
        msg = f'tss is {tss!r}, expected "gene" or "canonical" for an annotation'
        raise InputError(msg)
    annotation = read_annotation(file)
    genes = pd.DataFrame(annotation.genes, columns=list(Gene._fields))
    labels = np.array([f"{file}:{line}" for line in annotation.lines], dtype=object)
    _refuse_duplicates(genes["gene_id"], labels)
    genes.insert(5, "tss", _five_prime(genes))
    if tss == "canonical":
        if not annotation.canonical:
            msg = (
                f"{file} tags no transcript as Ensembl_canonical or MANE_Select; take "
                'an annotation that does (Ensembl since 104), or tss="gene"'
            )
            raise InputError(msg)
        canonical = pd.Series(annotation.keys).map(annotation.canonical)
        missing = canonical.isna().to_numpy()
        source = "canonical transcript"
        _refuse_missing(missing, missing_tss, genes["gene_id"], labels, source, tss)
        genes["tss"] = canonical.fillna(genes["tss"]).astype(np.int64)
        if missing_tss == "drop":
            genes = genes[~missing]
    return genes.set_index("gene_id")


def _from_table(
    file: Path, tss: str, chrom: str | None, missing_tss: MissingTss
) -> pd.DataFrame:
    text = read_text_table(file, separator="," if _suffix(file) == ".csv" else "\t")
    column = find_gene_columns(file, text.columns, chrom)
    labels = text.index.to_numpy(dtype=object)
    _refuse_empty_ids(text[column["gene_id"]], labels)
    _refuse_duplicates(text[column["gene_id"]], labels)
    source = _tss_column(file, text.columns, column, tss)
    if source is not None:
        missing = text[source].isin(MISSING).to_numpy()
        gene_id = text[column["gene_id"]]
        _refuse_missing(missing, missing_tss, gene_id, labels, source, tss)
        text = text[~missing] if missing_tss == "drop" else text
    genes = _check_table(text, column, source)
    for name in ("gene_name", "gene_type"):
        genes[name] = text[column[name]] if name in column else ""
    used = {name for key, name in column.items() if key != "tss"} | {source}
    further = text[[name for name in text.columns if name not in used]]
    genes = pd.concat([genes, further.rename(columns=free_name)], axis=1)
    return genes.set_axis(pd.Index(text[column["gene_id"]], name="gene_id"))


def _tss_column(
    file: Path, header: pd.Index[Any], column: dict[str, str], tss: str
) -> str | None:
    """Name the column that `tss` asks for; None for the 5' end of start to end."""
    if tss == "gene":
        if "tss" not in column and "start" not in column:
            hint = " (or give start and end)"
            refuse_missing_column(str(file), "tss", header, ACCEPTED["tss"], hint)
        return column.get("tss")
    if tss not in header:
        names = first_few([str(name) for name in header], limit=20)
        hint = '; "canonical" needs a GTF or GFF3 file' if tss == "canonical" else ""
        msg = f'tss is {tss!r}, expected "gene" or a column of {file}: {names}{hint}'
        raise InputError(msg)
    return tss


def _check_table(
    text: pd.DataFrame, column: dict[str, str], source: str | None
) -> pd.DataFrame:
    """Parse the located columns; an empty tss becomes the one of "gene"."""
    place = {key: text[column[key]] for key in ("chrom", "strand")}
    bodies = None
    if "start" in column:
        ends = {key: text[column[key]] for key in ("start", "end")}
        bodies = _parse(pd.DataFrame(place | ends))
    if "tss" in column:
        of_gene = text[column["tss"]]
    elif bodies is not None:
        of_gene = pd.Series(_five_prime(bodies), text.index).astype(str)
    else:
        of_gene = pd.Series("", text.index)
    tss = of_gene if source is None else text[source]
    tss = tss.mask(tss.isin(MISSING), of_gene)
    points = _parse(pd.DataFrame(place | {"tss": tss}))
    genes = points if bodies is None else bodies.assign(tss=points["tss"])
    return genes[["chrom", "start", "end", "strand", "tss"]].copy()


def _parse(raw: pd.DataFrame) -> pd.DataFrame:
    """Make a region table of rows that are labelled by their place in a file."""
    regions = region_table(raw)
    bad = regions[regions["reason"] != ""]
    if len(bad):
        msg = f"{len(bad)} of {len(raw)} genes cannot be used:\n"
        raise InputError(
            msg + bad_rows_text(bad.index.tolist(), bad["reason"].tolist())
        )
    return regions


def _refuse_empty_ids(gene_id: pd.Series[Any], labels: Texts) -> None:
    empty = labels[(gene_id == "").to_numpy()].tolist()
    if empty:
        msg = f"{len(empty)} of {len(labels)} genes have no gene_id: {first_few(empty)}"
        raise InputError(msg)


def _refuse_duplicates(gene_id: pd.Series[Any], labels: Texts) -> None:
    repeated = gene_id.duplicated().to_numpy()
    if repeated.any():
        pairs = zip(gene_id[repeated], labels[repeated], strict=True)
        shown = first_few([f"{name} ({label})" for name, label in pairs])
        msg = (
            f"gene_id must be unique, but these occur again: {shown}; keep one of each"
        )
        raise InputError(msg)


def _refuse_missing(
    missing: NDArray[np.bool_],
    missing_tss: MissingTss,
    gene_id: pd.Series[Any],
    labels: Texts,
    source: str,
    tss: str,
) -> None:
    if not missing.any() or (missing_tss != "error" and not missing.all()):
        return
    remedy = 'missing_tss="drop" leaves them out'
    if tss != "gene":
        remedy += ', missing_tss="gene" takes the start of the gene instead'
    if missing.all():
        remedy = "is it the right one?"
    reasons = [f"gene {name} has no {source}" for name in gene_id[missing]]
    msg = (
        f"{int(missing.sum())} of {len(missing)} genes have no {source}; {remedy}:\n"
        f"{bad_rows_text(labels[missing].tolist(), reasons)}"
    )
    raise InputError(msg)


def _ids(table: object, argument: str, strip_version: bool) -> pd.Index[str]:
    if not isinstance(table, (pd.DataFrame, pd.Series)):
        msg = (
            f"{argument} is {type(table).__name__}, expected a pandas DataFrame or "
            "Series indexed by id; with rows already in order there is nothing to align"
        )
        raise InputTypeError(msg)
    if isinstance(table.index, pd.MultiIndex):
        msg = (
            f"{argument} has an index of several levels, {list(table.index.names)}; "
            "keep the one that holds the ids"
        )
        raise InputError(msg)
    if table.index.hasnans:
        places = np.flatnonzero(table.index.isna()).tolist()
        msg = f"{argument} has rows without an id, at positions {first_few(places)}"
        raise InputError(msg)
    ids = table.index.astype(str)
    if strip_version:
        ids = _strip(ids)
    repeated = ids[ids.duplicated()].unique()
    if len(repeated):
        cause = " once versions are stripped" if table.index.is_unique else ""
        shown = first_few(list(repeated))
        msg = f"ids of {argument} occur more than once{cause}: {shown}"
        raise InputError(msg)
    return ids


def _strip(ids: pd.Index[str]) -> pd.Index[str]:
    return ids.str.replace(_VERSION, r"\1", regex=True)


def _version_hint(genes: pd.Index[str], targets: pd.Index[str]) -> str:
    """Recommend `strip_version` if more ids would then match."""
    more = int(_strip(genes).isin(_strip(targets)).sum()) - int(
        genes.isin(targets).sum()
    )
    return f"; strip_version=True would match {more} more" if more > 0 else ""


def _count(alone: pd.Index[str], ids: pd.Index[str], noun: str) -> str:
    shown = f" ({first_few(list(alone))})" if len(alone) else ""
    return f"{len(alone)} of {len(ids)} {noun}{shown}"
