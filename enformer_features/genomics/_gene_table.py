"""Gene tables as text files: their cells, and which column is which."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics._columns import ALIASES, refuse_missing_column
from enformer_features.genomics._text import open_text

ACCEPTED: dict[str, tuple[str, ...]] = {
    "gene_id": ("gene_id",),
    "chrom": ALIASES["chrom"],
    "start": ALIASES["start"],
    "end": ALIASES["end"],
    "strand": ALIASES["strand"],
    "tss": ("tss", "tss0"),
    "gene_name": ("gene_name", "name", "symbol"),
    "gene_type": ("gene_type", "gene_biotype", "biotype"),
}
RESULT_COLUMNS = ("chrom", "start", "end", "strand", "tss", "gene_name", "gene_type")
MISSING = ("", ".", "NA", "NaN", "nan", "None")
# Names that a region table reads; further columns of a file must not bear them.
_RESERVED = {alias.lower() for aliases in ALIASES.values() for alias in aliases}


class _PlainTabs(csv.excel_tab):
    """Tabs without quoting: a quote is part of a name, as in 5'-3'."""

    quoting = csv.QUOTE_NONE


def read_text_table(file: Path, separator: str) -> pd.DataFrame:
    """Read all cells as text; the index says ``file:line``."""
    dialect = "excel" if separator == "," else _PlainTabs
    with open_text(file) as lines:
        reader = csv.reader(lines, dialect)
        try:
            numbered = [(reader.line_num, row) for row in reader if row]
        except csv.Error as error:
            msg = f"{file}:{reader.line_num}: {error}"
            raise InputError(msg) from error
    header, rows = (numbered[0][1] if numbered else []), numbered[1:]
    for line, row in rows:
        if len(row) != len(header):
            msg = f"{file}:{line}: {len(row)} column(s), the header has {len(header)}"
            raise InputError(msg)
    if not rows:
        msg = f"{file} holds 0 genes, expected a header line and one line per gene"
        raise InputError(msg)
    labels = [f"{file}:{line}" for line, _ in rows]
    cells = [row for _, row in rows]
    return pd.DataFrame(cells, columns=header, index=labels, dtype=object)


def find_gene_columns(
    file: Path, header: Iterable[object], chrom: str | None
) -> dict[str, str]:
    """Map what a gene has to the name of its column in the file."""
    names = [str(name) for name in header]
    repeated = sorted({name for name in names if names.count(name) > 1})
    if repeated:
        msg = f"{file} has columns of the same name: {first_few(repeated)}"
        raise InputError(msg)
    column = {}
    for wanted, accepted in ACCEPTED.items():
        known = {alias.lower() for alias in accepted}
        bearing = [name for name in names if name.lower() in known]
        if bearing:
            column[wanted] = bearing[0]
    if chrom is not None:
        if chrom not in names:
            refuse_missing_column(str(file), "chrom", names, [chrom])
        column["chrom"] = chrom
    for wanted in ("gene_id", "chrom", "strand"):
        if wanted not in column:
            refuse_missing_column(str(file), wanted, names, ACCEPTED[wanted])
    if not {"start", "end"} <= column.keys():
        column.pop("start", None)
        column.pop("end", None)
    return column


def free_name(name: str) -> str:
    """Rename a further column that would be taken for one of the result."""
    taken = name in RESULT_COLUMNS or name.lower() in _RESERVED
    return f"{name}_in_file" if taken else name
