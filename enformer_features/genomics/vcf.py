r"""VCF text: read the variants of a file, and write values into a copy of it.

Plain, gzip and bgzip files, told apart by their first bytes; no package beyond those
of the core is needed. Positions in the text are 1-based, as the format says.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError
from enformer_features.genomics._alleles import note_alleles
from enformer_features.genomics._columns import (
    SHOWN_ROWS,
    Texts,
    bad_rows_text,
    no_reasons,
)
from enformer_features.genomics._text import as_path, open_text

HEADER = ("#CHROM", "POS", "ID", "REF", "ALT")
MAX_DIGITS = 12  # of a position; far beyond any chromosome


def read_vcf(path: str | os.PathLike[str], *, strict: bool = False) -> pd.DataFrame:
    r"""Read the variants of a VCF file, one row for each alternative allele.

    Parameters
    ----------
    path : str or PathLike
        VCF, plain, gzip or bgzip, whatever its name. Of each record only CHROM, POS,
        ID, REF and ALT are read, so that files with genotypes are fine.
    strict : bool, default=False
        Raise when the file holds alleles that cannot be scored, instead of giving
        them a reason. Records of several alleles are split either way.

    Returns
    -------
    DataFrame, shape (n_alleles, 8)
        In the order of the file, with a new RangeIndex; nothing is dropped. Columns:
        ``chrom`` (str), ``pos`` (int64, **1-based**, as in the file), ``id`` (str,
        "." = none), ``ref`` and ``alt`` (str, sequences in capitals), ``record``
        (int64, number of the record in the file, from 0), ``allele`` (int64, number
        of the ALT in its record, from 1) and ``reason`` (str, "" = can be scored).
        A reason begins with its class: ``symbolic`` (``<DEL>``), ``breakend``,
        ``overlapping deletion`` (``*``), ``missing allele`` (``.``), ``other
        letters`` (N and the like) or ``no change`` (REF is ALT);
        `count_variants` counts them.

    Raises
    ------
    InputError
        If the file cannot be read, has no ``#CHROM`` line or no records; if lines
        are malformed (fewer than five columns, spaces for tabs, a POS that is 0 or
        no whole number, an empty REF or ALT): their number, and ``file:line`` and
        fault of the first five; or, if `strict`, for alleles with a reason.

    See Also
    --------
    enformer_features.genomics.variants.prepare_variants : Compare with the genome.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vcf = pathlib.Path(folder, "toy.vcf")
    ...     _ = vcf.write_text(
    ...         "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\n"
    ...         "chr1\t10\trs1\ta\tC,<DEL>\n"
    ...     )
    ...     table = read_vcf(vcf)
    >>> print(table[["pos", "id", "ref", "alt", "record", "allele"]].to_string())
       pos   id ref    alt  record  allele
    0   10  rs1   A      C       0       1
    1   10  rs1   A  <DEL>       0       2
    """
    file = as_path(path)
    with open_text(file) as text:
        records = _read_records(file, text)
    reasons = no_reasons(len(records.chrom))
    ref, alt = note_alleles(
        np.array(records.ref, dtype=object),
        np.array(records.alt, dtype=object),
        reasons,
    )
    if strict:
        _refuse_reasons(file, records, reasons)
    return pd.DataFrame(
        {
            "chrom": np.array(records.chrom, dtype=object),
            "pos": np.array(records.pos, dtype=np.int64),
            "id": np.array(records.id, dtype=object),
            "ref": ref,
            "alt": alt,
            "record": np.array(records.record, dtype=np.int64),
            "allele": np.array(records.allele, dtype=np.int64),
            "reason": reasons,
        }
    )


@dataclass
class _Records:
    """Columns of a variant table while it is read, and the line of each row."""

    chrom: list[str] = field(default_factory=list)
    pos: list[int] = field(default_factory=list)
    id: list[str] = field(default_factory=list)
    ref: list[str] = field(default_factory=list)
    alt: list[str] = field(default_factory=list)
    record: list[int] = field(default_factory=list)
    allele: list[int] = field(default_factory=list)
    line: list[int] = field(default_factory=list)

    def add(self, fields: list[str], pos: int, record: int, line: int) -> None:
        chrom, _, name, ref, alts = fields[:5]
        for allele, alt in enumerate(alts.split(","), 1):
            self.chrom.append(chrom)
            self.pos.append(pos)
            self.id.append(name or ".")
            self.ref.append(ref)
            self.alt.append(alt)
            self.record.append(record)
            self.allele.append(allele)
            self.line.append(line)


def _read_records(file: Path, text: TextIO) -> _Records:
    lines = enumerate(text, 1)
    _skip_header(file, lines)
    records = _Records()
    names: dict[str, str] = {}  # so that equal names share their memory
    n_records = n_bad = 0
    faults: list[tuple[str, str]] = []
    for number, line in lines:
        if line.startswith("#") or line.isspace():
            continue
        fields = line.split("\t", 5)
        fields[-1] = fields[-1].rstrip("\n")
        if fault := _record_fault(fields):
            n_bad += 1
            faults += [(f"{file}:{number}", fault)] if n_bad <= SHOWN_ROWS else []
        else:
            fields[0] = names.setdefault(fields[0], fields[0])
            records.add(fields, int(fields[1]), n_records, number)
        n_records += 1
    if n_bad:
        labels, reasons = zip(*faults, strict=True)
        more = f"\n  ... ({n_bad} in all)" if n_bad > SHOWN_ROWS else ""
        msg = f"{n_bad} of {n_records} records are malformed:\n"
        raise InputError(msg + bad_rows_text(labels, reasons) + more)
    if not n_records:
        msg = f"{file} holds 0 variants, expected records after the #CHROM line"
        raise InputError(msg)
    return records


def _skip_header(file: Path, lines: Iterator[tuple[int, str]]) -> None:
    """Read up to the #CHROM line, and check it."""
    for number, line in lines:
        if line.startswith("##") or line.isspace():
            continue
        names = tuple(line.rstrip("\n").split("\t"))
        if names[: len(HEADER)] == HEADER:
            return
        found = f"{file}:{number}: {line.rstrip()[:60]!r}"
        if line.startswith("#CHROM"):
            msg = (
                f"{found} is no VCF header line; expected {' '.join(HEADER)}, "
                "separated by tabs"
            )
        else:
            msg = (
                f"{found} comes before any #CHROM line; expected VCF, with its header "
                "(variants in a table: variant_table)"
            )
        raise InputError(msg)
    msg = f"{file} has no #CHROM line; expected VCF, with its header"
    raise InputError(msg)


def _record_fault(fields: list[str]) -> str:
    """Say what is wrong with a line, or nothing; alleles are looked at later."""
    if len(fields) < len(HEADER):
        spaces = len("\t".join(fields).split()) >= len(HEADER)
        hint = "; columns are separated by tabs, not by spaces" if spaces else ""
        return f"{len(fields)} column(s), expected at least 5{hint}"
    chrom, pos, _, ref, alt = fields[:5]
    if not chrom or " " in chrom:
        return f"CHROM {chrom!r} is empty or holds a space"
    if not (pos.isdecimal() and pos.isascii() and len(pos) <= MAX_DIGITS):
        return f"POS {pos[:40]!r} is not a whole number written in digits only"
    if not int(pos):
        return "POS is 0, but positions in VCF count from 1"
    if not ref or not alt or "" in alt.split(","):
        return f"REF {ref[:40]!r} or ALT {alt[:40]!r} is empty; '.' stands for none"
    if " " in ref or " " in alt:
        return f"REF {ref[:40]!r} or ALT {alt[:40]!r} holds a space"
    return ""


def _refuse_reasons(file: Path, records: _Records, reasons: Texts) -> None:
    rows = np.flatnonzero(reasons != "").tolist()
    if rows:
        labels = [f"{file}:{records.line[row]}" for row in rows]
        msg = f"{len(rows)} of {len(reasons)} alleles cannot be scored (strict=True):\n"
        raise InputError(msg + bad_rows_text(labels, reasons[rows].tolist()))
