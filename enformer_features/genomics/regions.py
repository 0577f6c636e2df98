"""Region tables: parse, check all rows at once, name.

A *region* is an interval ``[start, end)`` of one contig, 0-based and half-open, with
a strand and, where it has one, a *tss*: the 0-based position that a window is
centred on. Only region text such as ``"chr1:101-200(+)"`` is 1-based and inclusive,
as genome browsers write it.

Rows are never dropped or reordered. What is wrong with a row stands in the column
``reason``, so that one error can report every bad row, or a caller can go on
without them. What is wrong with the table as a whole raises at once.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import (
    GenomeError,
    InputError,
    InputTypeError,
    first_few,
)
from enformer_features.genomics._columns import (
    ALIASES,
    Texts,
    bad_rows_text,
    chromosomes,
    find_columns,
    integers,
    names,
    no_reasons,
    note,
    refuse_missing_column,
    show,
    strands,
)
from enformer_features.genomics._text import as_path, open_text
from enformer_features.genomics.genome import (
    CONTIG_STYLES,
    fitting_style,
    rename_contigs,
)

Regions: TypeAlias = "pd.DataFrame | pd.Series[Any] | pd.Index[Any] | Sequence[str]"

_REGION_TEXT = re.compile(r"(\S+):([0-9]{1,15})-([0-9]{1,15})(?:\(([-+.])\))?")
_BED_HEADER = re.compile(r"#|(?:track|browser)(?:\s|$)")
_UNKNOWN_CONTIG = "unknown contig"
_OTHER_ASSEMBLY = "is the genome of another assembly?"


def region_table(X: Regions) -> pd.DataFrame:
    """Bring regions into one form, and note what is wrong with which row.

    Parameters
    ----------
    X : DataFrame, or list, tuple, array, Index or Series of str
        Regions, one per row. A DataFrame has a chromosome and either start and end
        or a tss, 0-based and half-open. Accepted names, in any letter case:
        ``chrom``, ``chr``, ``chromosome``, ``contig``, ``seqnames``, ``#chrom``;
        ``start``, ``chromStart``, ``chrom_start``; ``end``, ``chromEnd``,
        ``chrom_end``, ``stop``; ``strand``; ``tss``; ``name``, ``gene_id``, ``id``
        (the index serves when it bears such a name). Texts are
        ``"chrom:start-end"`` or ``"chrom:start-end(strand)"``, **1-based and
        inclusive**, without thousands separators.

    Returns
    -------
    DataFrame, shape (n_regions, 7)
        One row per row of `X`, in its order and with its index. Columns:
        ``chrom`` (str), ``start`` and ``end`` (int64, bp), ``strand`` ("+" or "-"),
        ``tss`` (int64, -1 = none), ``name`` (str, "" = none) and ``reason`` (str,
        "" = the row is fine). A bad row's other values are placeholders. With a tss
        alone, the interval is ``[tss, tss + 1)``. In a table that has start, end
        and tss, a tss of -1 means none; an empty one makes the row bad, because a
        window would otherwise silently be centred elsewhere.

    Raises
    ------
    InputTypeError
        If `X` is a single text, a path or another kind of object, if an item of a
        list is not text, or if coordinates are booleans.
    InputError
        If there are no rows, a required column is missing, or two columns stand
        for the same thing.

    Notes
    -----
    Coordinates are whole numbers: 100.0 and ``"100"`` are taken as 100, whereas
    100.5, ``"1e6"`` and ``"1,000"`` make the row bad. A strand that is missing or
    "." is "+"; 1 and -1 are "+" and "-".

    Examples
    --------
    >>> table = region_table(["chr1:101-200(-)", "chrX:5"])
    >>> print(*table.loc[0, ["chrom", "start", "end", "strand"]])
    chr1 100 200 -
    >>> table.loc[1, "reason"]  # doctest: +ELLIPSIS
    "'chrX:5' is not a region; expected chrom:start-end ..."
    """
    if isinstance(X, pd.DataFrame):
        _refuse_empty(len(X))
        return _from_frame(X)
    texts = _as_texts(X)
    _refuse_empty(len(texts))
    return _from_texts(texts)


def check_bounds(
    table: pd.DataFrame, contigs: Mapping[str, int], source: str | os.PathLike[str]
) -> pd.DataFrame:
    """Note the regions that do not lie on the genome's contigs.

    Parameters
    ----------
    table : DataFrame, shape (n_regions, 7)
        What :func:`region_table` returns.
    contigs : mapping of str to int
        Name and length in bp of each contig.
    source
        Where the contigs come from, for messages: the FASTA file.

    Returns
    -------
    DataFrame, shape (n_regions, 7)
        A copy of `table`, with more reasons.

    Raises
    ------
    GenomeError
        If no region's contig is known, but other contig names (``1`` for ``chr1``)
        would be.

    Examples
    --------
    >>> table = region_table(["chr1:1-100", "chr1:90-120", "chr9:1-5"])
    >>> for reason in check_bounds(table, {"chr1": 100}, "toy.fa")["reason"]:
    ...     print(reason or "fine")
    fine
    end 120 is 20 bp past the end of chr1 (100 bp in toy.fa); \
is the genome of another assembly?
    unknown contig 'chr9' in toy.fa, which has chr1
    """
    reasons = table["reason"].to_numpy(dtype=object, copy=True)
    chrom = table["chrom"].to_numpy(dtype=object)
    start, end, tss = (table[column].to_numpy() for column in ("start", "end", "tss"))
    lengths = table["chrom"].map(dict(contigs)).fillna(-1).to_numpy(dtype=np.int64)
    known = lengths >= 0
    unknown = ~known & (chrom != "")
    if not known.any():
        _suggest_contig_style(chrom, contigs, source)
    has = f"in {source}, which has {first_few(list(contigs)) or 'no contigs'}"
    styles = {
        name: fitting_style([name], contigs) for name in dict.fromkeys(chrom[unknown])
    }

    def not_there(row: int) -> str:
        style = styles[chrom[row]]
        hint = f"; contig_style={style!r} would find it" if style else ""
        return f"{_UNKNOWN_CONTIG} {chrom[row]!r} {has}{hint}"

    note(reasons, unknown, not_there)

    def past_end(what: str, position: int, row: int) -> str:
        length = int(lengths[row])
        return (
            f"{what} {position} is {position - length} bp past the end of "
            f"{chrom[row]} ({length} bp in {source}); {_OTHER_ASSEMBLY}"
        )

    def beyond(what: str, position: int, row: int) -> str:
        return (
            f"{what} {position} is not on {chrom[row]} ({lengths[row]} bp in {source}, "
            f"so the last base is {lengths[row] - 1}); {_OTHER_ASSEMBLY}"
        )

    note(reasons, known & (tss >= lengths), lambda row: beyond("tss", tss[row], row))
    note(
        reasons,
        known & (start >= lengths),
        lambda row: beyond("start", start[row], row),
    )
    note(reasons, known & (end > lengths), lambda row: past_end("end", end[row], row))
    return table.assign(reason=reasons)


def raise_bad_rows(table: pd.DataFrame, what: str = "regions") -> None:
    """Raise one error about all rows that have a reason; do nothing without any.

    Parameters
    ----------
    table : DataFrame, shape (n_regions, 7)
        What :func:`region_table` or :func:`check_bounds` returns; only the index and
        the column ``reason`` are read.
    what : str, default="regions"
        What the rows are called.

    Raises
    ------
    GenomeError
        If every bad row names a contig that the genome does not have.
    InputError
        If rows are bad for another reason. Both count the bad rows and give label
        and reason of the first five.

    Examples
    --------
    >>> raise_bad_rows(region_table(["chr1:1-100", "chr1:200-100"]))
    Traceback (most recent call last):
        ...
    enformer_features.exceptions.InputError: 1 of 2 regions cannot be used:
      row 1: 'chr1:200-100' ends before it starts; are start and end swapped?
    """
    rows = np.flatnonzero(table["reason"] != "").tolist()
    if not rows:
        return
    reasons = table["reason"].iloc[rows].tolist()
    labels = [f"row {table.index[row]}" for row in rows]
    if not table.index.is_unique:
        pairs = zip(labels, rows, strict=True)
        labels = [f"{label} (position {row})" for label, row in pairs]
    msg = (
        f"{len(rows)} of {len(table)} {what} cannot be used:\n"
        f"{bad_rows_text(labels, reasons)}"
    )
    only_contigs = all(reason.startswith(_UNKNOWN_CONTIG) for reason in reasons)
    raise GenomeError(msg) if only_contigs else InputError(msg)


def region_names(table: pd.DataFrame) -> NDArray[np.object_]:
    """Name each region: its own name, or ``chrom:start-end(strand)``.

    Parameters
    ----------
    table : DataFrame, shape (n_regions, 7)
        What :func:`region_table` returns.

    Returns
    -------
    ndarray of str, shape (n_regions,)
        Names in row order; they need not be unique. The coordinates in a name are
        those of the table, **0-based and half-open**, as bedtools writes them: not
        the 1-based text that :func:`region_table` reads.

    Examples
    --------
    >>> region_names(region_table(["chr1:101-200(-)"])).tolist()
    ['chr1:100-200(-)']
    """
    columns = [
        table[column].tolist() for column in ("name", "chrom", "start", "end", "strand")
    ]
    named = [
        name or f"{chrom}:{start}-{end}({strand})"
        for name, chrom, start, end, strand in zip(*columns, strict=True)
    ]
    return np.array(named, dtype=object)


def read_regions(path: str | os.PathLike[str]) -> pd.DataFrame:
    r"""Read regions from a BED file, plain or gzipped.

    Parameters
    ----------
    path
        A file with at least three columns: chrom, start, end, 0-based half-open;
        then name, score and strand, if given. Further columns are ignored. Lines
        that begin with ``#``, ``track`` or ``browser`` and blank lines are skipped.
        Columns are separated by tabs, or by spaces in a line without tabs.

    Returns
    -------
    DataFrame, shape (n_regions, 5)
        Columns ``chrom``, ``start``, ``end``, ``strand`` ("+" where the file has
        none or ".") and ``name`` ("" where it has none or "."), in file order with
        a new RangeIndex.

    Raises
    ------
    InputError
        If the file cannot be read, holds no regions, or has bad lines: their
        number, and for the first five ``file:line`` and what is wrong.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bed = pathlib.Path(folder, "peaks.bed")
    ...     _ = bed.write_text("chr1\t100\t200\tpeak_1\t0\t-\n")
    ...     regions = read_regions(bed)
    >>> print(*regions.loc[0])
    chr1 100 200 - peak_1
    """
    file = as_path(path)
    with open_text(file) as lines:
        rows = [
            (number, *_bed_fields(line))
            for number, line in enumerate(lines, 1)
            if line.strip() and not _BED_HEADER.match(line)
        ]
    if not rows:
        msg = f"{file} holds 0 regions, expected lines of chrom, start and end (BED)"
        raise InputError(msg)
    columns = ["line", "n_fields", "chrom", "start", "end", "name", "strand"]
    bed = pd.DataFrame(rows, columns=columns)
    table = _from_frame(bed)
    reasons = table["reason"].to_numpy(dtype=object)
    short = bed["n_fields"].to_numpy() < 3
    reasons[short] = [
        f"{n_fields} column(s), expected at least 3 (chrom, start, end) separated by "
        "tabs, or by spaces in a line without tabs"
        for n_fields in bed["n_fields"].to_numpy()[short]
    ]
    bad = np.flatnonzero(reasons != "")
    if len(bad):
        labels = [f"{file}:{line}" for line in bed["line"].to_numpy()[bad]]
        msg = f"{len(bad)} of {len(bed)} lines cannot be used:\n"
        raise InputError(msg + bad_rows_text(labels, reasons[bad].tolist()))
    return table[["chrom", "start", "end", "strand", "name"]]


def _bed_fields(line: str) -> tuple[int, str, str, str, str, str]:
    """Split a line into the number of its columns and those that are used."""
    fields = line.rstrip("\n").split("\t") if "\t" in line else line.split()
    chrom, start, end, name, _, strand = (*fields, "", "", "", "", "", "")[:6]
    return len(fields), chrom, start, end, "" if name == "." else name, strand


def _refuse_empty(n_regions: int) -> None:
    if n_regions == 0:
        msg = "X holds 0 regions, expected at least one row"
        raise InputError(msg)


def _from_frame(X: pd.DataFrame) -> pd.DataFrame:
    places = _find_region_columns(X)
    columns = {column: X.iloc[:, place] for column, place in places.items()}
    reasons = no_reasons(len(X))
    chrom = chromosomes(columns["chrom"], reasons)
    numbers = {
        column: integers(columns[column], column, reasons)
        for column in ("start", "end", "tss")
        if column in columns
    }
    has_interval = "start" in numbers
    tss = numbers.get("tss", np.full(len(X), -1, dtype=np.int64))
    start = numbers["start"] if has_interval else tss
    end = numbers["end"] if has_interval else tss + 1
    lowest_tss = -1 if has_interval else 0
    note(reasons, tss < lowest_tss, lambda row: _negative("tss", tss[row]))
    _note_bad_intervals(start, end, reasons)
    if "strand" in columns:
        strand = strands(columns["strand"], reasons)
    else:
        strand = np.full(len(X), "+", dtype=object)
    return _assemble(X.index, chrom, start, end, strand, tss, _names(X), reasons)


def _find_region_columns(X: pd.DataFrame) -> dict[str, int]:
    located = {column: ALIASES[column] for column in ALIASES if column != "name"}
    places = find_columns(X.columns, located)
    required = ["chrom"]
    if "tss" not in places or "start" in places or "end" in places:
        required += ["start", "end"]
    for column in required:
        if column not in places:
            hint = "" if column == "chrom" else " (or give a point as tss alone)"
            refuse_missing_column("X", column, X.columns, ALIASES[column], hint)
    return places


def _names(X: pd.DataFrame) -> Texts:
    """Take names from the first column, or else the index, that is called so."""
    spelled = [str(label).lower() for label in X.columns]
    for alias in ALIASES["name"]:
        if alias in spelled:
            return names(X.iloc[:, spelled.index(alias)])
    if str(X.index.name).lower() in ALIASES["name"]:
        return names(X.index)
    return no_reasons(len(X))


def _note_bad_intervals(
    start: NDArray[np.int64], end: NDArray[np.int64], reasons: Texts
) -> None:
    note(reasons, start < 0, lambda row: _negative("start", start[row]))
    note(
        reasons,
        start == end,
        lambda row: (
            f"start and end are both {start[row]}, an interval of 0 bp; "
            "give a point as tss"
        ),
    )
    note(
        reasons,
        start > end,
        lambda row: (
            f"start {start[row]} is greater than end {end[row]}; "
            "are the columns swapped?"
        ),
    )


def _negative(what: str, position: int) -> str:
    return f"{what} {position} is negative; positions count from 0"


def _as_texts(X: object) -> pd.Series[Any]:
    """Take a list, array, Index or Series of region texts, or say what is wrong."""
    if isinstance(X, (str, bytes, os.PathLike)):
        msg = (
            f"X is a single {type(X).__name__}, {show(X)}; wrap one region in a list, "
            "or read a file first with read_regions(path)"
        )
        raise InputTypeError(msg)
    if isinstance(X, pd.Series):
        texts = X
    elif isinstance(X, (list, tuple, pd.Index, np.ndarray)):
        texts = pd.Series(list(X), dtype=object)
    else:
        msg = (
            f"X is {type(X).__name__}, expected a DataFrame or a list, array or Series "
            'of texts such as "chr1:101-200(+)"'
        )
        raise InputTypeError(msg)
    wrong = [
        f"item {place} is {type(text).__name__}"
        for place, text in enumerate(texts)
        if not isinstance(text, str)
    ]
    if wrong:
        msg = (
            f'X must hold texts such as "chr1:101-200(+)": {first_few(wrong)}; '
            "decode bytes, remove missing values, and put tables into a DataFrame"
        )
        raise InputTypeError(msg)
    return texts


def _from_texts(texts: pd.Series[Any]) -> pd.DataFrame:
    reasons = no_reasons(len(texts))
    values = texts.tolist()
    matches = [_REGION_TEXT.fullmatch(text) for text in values]
    fields = [
        ("", "0", "0", "+") if match is None else match.groups() for match in matches
    ]
    chrom, first, last, strand = (
        np.array(column, dtype=object) for column in zip(*fields, strict=True)
    )
    start = first.astype(np.int64) - 1
    end = last.astype(np.int64)
    note(
        reasons,
        np.array([match is None for match in matches]),
        lambda row: (
            f"{show(values[row])} is not a region; expected chrom:start-end or "
            "chrom:start-end(strand), 1-based and inclusive, digits only"
        ),
    )
    note(
        reasons,
        start < 0,
        lambda row: f"{show(values[row])} starts at 0, but region text counts from 1",
    )
    note(
        reasons,
        end <= start,
        lambda row: (
            f"{show(values[row])} ends before it starts; are start and end swapped?"
        ),
    )
    tss = np.full(len(texts), -1, dtype=np.int64)
    strand = np.where(strand == "-", "-", "+").astype(object)
    nameless = no_reasons(len(texts))
    return _assemble(texts.index, chrom, start, end, strand, tss, nameless, reasons)


def _assemble(
    index: pd.Index[Any],
    chrom: Texts,
    start: NDArray[np.int64],
    end: NDArray[np.int64],
    strand: Texts,
    tss: NDArray[np.int64],
    name: Texts,
    reason: Texts,
) -> pd.DataFrame:
    columns = {
        "chrom": chrom,
        "start": start,
        "end": end,
        "strand": strand,
        "tss": tss,
        "name": name,
        "reason": reason,
    }
    return pd.DataFrame(columns, index=index)


def _suggest_contig_style(
    chrom: Texts, contigs: Mapping[str, int], source: str | os.PathLike[str]
) -> None:
    """Raise when another naming style would find contigs that are now unknown."""
    for style in CONTIG_STYLES:
        renamed = rename_contigs(chrom, style)
        n_found = int(pd.Series(renamed).isin(list(contigs)).sum())
        if n_found:
            msg = (
                f"none of the {len(chrom)} regions names a contig of {source}: regions "
                f"have {first_few(list(dict.fromkeys(chrom)))}, the genome has "
                f"{first_few(list(contigs))}; contig_style={style!r} would match "
                f"{n_found} of them"
            )
            raise GenomeError(msg)
