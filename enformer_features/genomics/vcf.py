r"""VCF text: read the variants of a file, and write values into a copy of it.

Plain, gzip and bgzip files, told apart by their first bytes; no package beyond those
of the core is needed. Positions in the text are 1-based, as the format says.
"""

from __future__ import annotations

import itertools
import os
import re
from collections.abc import (
    Callable,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from Bio import bgzf

from enformer_features.exceptions import InputError, VariantWarning, first_few, warn
from enformer_features.genomics._alleles import note_alleles
from enformer_features.genomics._annotation import (
    Values,
    annotated,
    check_keys,
    new_header,
)
from enformer_features.genomics._columns import (
    SHOWN_ROWS,
    Texts,
    bad_rows_text,
    no_reasons,
)
from enformer_features.genomics._info import (
    InfoField,
    Value,
    header_lines,
    info_text,
)
from enformer_features.genomics._text import as_path
from enformer_features.genomics._vcf_text import (
    is_record,
    raw_lines,
    read_header,
    record_fault,
    record_fields,
)

__all__ = ["InfoField", "annotate_vcf", "check_annotation", "read_vcf", "write_vcf"]

_WRITABLE_REF = re.compile(r"[ACGTN]+")
_UNWRITABLE_ALT = re.compile(r"[\s,-]|^$")


def read_vcf(path: str | os.PathLike[str], *, strict: bool = False) -> pd.DataFrame:
    r"""Read the variants of a VCF file, one row for each alternative allele.

    Parameters
    ----------
    path : str or PathLike
        VCF, plain, gzip or bgzip, whatever its name. Of each record only CHROM, POS,
        ID, REF and ALT are read, so that files with genotypes are fine.
    strict : bool, default=False
        Raise when the file holds alleles that cannot be scored, instead of giving
        them a reason. Records of several alleles are split either way, and that they
        are is never refused.

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
    records = _read_records(file)
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

    def add(self, fields: list[str], record: int, line: int) -> None:
        chrom, pos, name, ref, alts = fields
        for allele, alt in enumerate(alts.split(","), 1):
            self.chrom.append(chrom)
            self.pos.append(int(pos))
            self.id.append(name or ".")
            self.ref.append(ref)
            self.alt.append(alt)
            self.record.append(record)
            self.allele.append(allele)
            self.line.append(line)


def _read_records(file: Path) -> _Records:
    lines = raw_lines(file)
    n_header = len(read_header(file, lines))
    records = _Records()
    names: dict[str, str] = {}  # so that equal names share their memory
    n_records = n_bad = 0
    faults: list[tuple[str, str]] = []
    for number, line in enumerate(lines, n_header + 1):
        if not is_record(line):
            continue
        fields = record_fields(line)
        if fault := record_fault(fields):
            n_bad += 1
            faults += [(f"{file}:{number}", fault)] if n_bad <= SHOWN_ROWS else []
        else:
            fields[0] = names.setdefault(fields[0], fields[0])
            records.add(fields, n_records, number)
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


def _refuse_reasons(file: Path, records: _Records, reasons: Texts) -> None:
    rows = np.flatnonzero(reasons != "").tolist()
    if rows:
        labels = [f"{file}:{records.line[row]}" for row in rows]
        msg = f"{len(rows)} of {len(reasons)} alleles cannot be scored (strict=True):\n"
        raise InputError(msg + bad_rows_text(labels, reasons[rows].tolist()))


def annotate_vcf(
    source: str | os.PathLike[str],
    out: str | os.PathLike[str],
    fields: Sequence[InfoField],
    values: Iterable[tuple[int, int, Mapping[str, Value]]],
    *,
    caution: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    overwrite: bool = False,
    compress: bool | None = None,
) -> None:
    r"""Copy a VCF file, with values added to the INFO of its records.

    Every header line, record and column of `source` stays byte for byte; only INFO
    grows. A few records are in memory at a time.

    Parameters
    ----------
    source : str or PathLike
        The file that was read, plain, gzip or bgzip.
    out : str or PathLike
        Where to write, another file. It is not made atomically: give the path of a
        temporary file that is renamed when all is written.
    fields : sequence of InfoField
        The keys. They are declared in the header, before the ``#CHROM`` line.
    values : iterable of (int, int, mapping)
        ``record`` and ``allele``, as in the table of `read_vcf`, and a value for
        each key, in the order of the file. Alleles and keys may be absent: a key has
        ``.`` for them, and a record without any value stays as it is, as does one
        whose ALT is ``.``. None and NaN are no value. Texts are percent-encoded as
        VCF 4.3 says.
    caution : sequence of str
        Lines of text, each written as ``##enformer_features_caution=...``.
    provenance : mapping of str to str, optional
        Written as ``##enformer_features_<key>=...``.
    overwrite : bool, default=False
        Replace keys that the file has already, instead of raising.
    compress : bool, optional
        Write bgzip. By default, if the name of `out` ends in ``.gz`` or ``.bgz``.

    Raises
    ------
    InputError
        If `source` cannot be read, has no INFO column, or has one of the keys (see
        `check_annotation`, which tells before anything is computed); or if values
        are not in order, or for records, alleles or keys that are not there.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> source = pathlib.Path(folder.name, "in.vcf")
    >>> out = source.with_name("out.vcf")
    >>> _ = source.write_text(
    ...     "##fileformat=VCFv4.3\n#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO\n"
    ...     "chr1\t10\trs1\tA\tC,<DEL>\t.\t.\tAC=1\n"
    ... )
    >>> annotate_vcf(source, out, [InfoField("SAD", "score")], [(0, 1, {"SAD": 0.5})])
    >>> out.read_text().splitlines()[-1].split("\t")[-1]
    'AC=1;SAD=0.5,.'
    >>> folder.cleanup()
    """
    file, target = as_path(source), as_path(out)
    if target.exists() and file.exists() and target.samefile(file):
        msg = f"{out} is the file that is read; write to another one"
        raise InputError(msg)
    lines = raw_lines(file)
    header = read_header(file, lines)
    replaced = check_keys(file, header, fields, overwrite)
    with _written(target, compress) as write:
        added = header_lines(fields, caution, provenance)
        for line in new_header(header, added, replaced):
            write(line)
        below = enumerate(lines, len(header) + 1)
        for line in _annotated_lines(file, below, fields, values, replaced):
            write(line)


def _annotated_lines(
    file: Path,
    lines: Iterable[tuple[int, bytes]],
    fields: Sequence[InfoField],
    values: Iterable[tuple[int, int, Mapping[str, Value]]],
    replaced: list[bytes],
) -> Iterator[bytes]:
    """Yield the numbered lines below a header, records with their values."""
    waiting = Values(values, frozenset(field.id for field in fields))
    record = -1
    for number, line in lines:
        if not is_record(line):
            yield line
            continue
        record += 1
        alleles = waiting.take(record)
        if alleles or replaced:
            yield annotated(line, fields, alleles, replaced, f"{file}:{number}")
        else:
            yield line
    waiting.refuse_rest(file, record + 1)


def check_annotation(
    source: str | os.PathLike[str],
    fields: Sequence[InfoField],
    rows: Iterable[tuple[int, int]] | None = None,
    *,
    overwrite: bool = False,
) -> None:
    """Raise what `annotate_vcf` would about a file and its rows; write nothing.

    Parameters
    ----------
    source : str or PathLike
        The VCF file that would be copied.
    fields : sequence of InfoField
        The keys that would be added.
    rows : iterable of (int, int), optional
        ``record`` and ``allele`` of the values, in their order; only the header is
        checked without them, and the whole file is read with them.
    overwrite : bool, default=False
        Whether keys may be replaced.

    Raises
    ------
    InputError
        If the file cannot be read, has no INFO column, or has one of the keys; or if
        a record has too few columns, or rows are not in the order of the file or for
        records or alleles that are not there.
    """
    file = as_path(source)
    lines = raw_lines(file)
    header = read_header(file, lines)
    replaced = check_keys(file, header, fields, overwrite)
    if rows is not None:
        none: dict[str, Value] = {}
        values = ((*row, none) for row in rows)
        below = enumerate(lines, len(header) + 1)
        for _ in _annotated_lines(file, below, fields, values, replaced):
            pass


def write_vcf(
    path: str | os.PathLike[str],
    table: pd.DataFrame,
    fields: Sequence[InfoField] = (),
    values: Iterable[Mapping[str, Value]] | None = None,
    *,
    contigs: Mapping[str, int] | None = None,
    caution: Sequence[str] = (),
    provenance: Mapping[str, str] | None = None,
    compress: bool | None = None,
) -> None:
    r"""Write a variant table as a VCF file of its own, one record for each row.

    Parameters
    ----------
    path : str or PathLike
        Where to write; not made atomically, as in `annotate_vcf`.
    table : DataFrame
        A variant table. Its order is kept.
    fields : sequence of InfoField
        Keys of INFO.
    values : iterable of mappings, optional
        Key to value, one mapping for each row of `table`.
    contigs : mapping of str to int, optional
        Name and length in bp of each contig, for the header.
    caution, provenance, compress
        As in `annotate_vcf`.

    Raises
    ------
    InputError
        If there are more or fewer values than rows.

    Warns
    -----
    VariantWarning
        If rows cannot be written in VCF and are left out: those without a position,
        and alleles such as "-" or ".".

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> from enformer_features.genomics.variants import variant_table
    >>> X = pd.DataFrame({"chrom": ["chr1"], "pos": [10], "ref": ["A"], "alt": ["C"]})
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     vcf = pathlib.Path(folder, "out.vcf")
    ...     write_vcf(vcf, variant_table(X), [InfoField("SAD", "score")], [{"SAD": 2}])
    ...     vcf.read_text().splitlines()[-1]
    'chr1\t10\t.\tA\tC\t.\t.\tSAD=2.0'
    """
    columns = ["chrom", "pos", "id", "ref", "alt"]
    rows = zip(*(table[name].tolist() for name in columns), strict=True)
    given = itertools.repeat({}, len(table)) if values is None else values
    known = (
        f"##contig=<ID={name},length={bp}>" for name, bp in (contigs or {}).items()
    )
    header = ["##fileformat=VCFv4.3", *known]
    header += header_lines(fields, caution, provenance)
    header += [
        "\t".join(["#CHROM", "POS", "ID", "REF", "ALT", "QUAL", "FILTER", "INFO"])
    ]
    left_out = []
    with _written(as_path(path), compress) as write:
        write("".join(f"{line}\n" for line in header).encode())
        for place, (row, entries) in enumerate(itertools.zip_longest(rows, given)):
            if row is None or entries is None:
                msg = f"values must hold one mapping for each of the {len(table)} rows"
                raise InputError(msg)
            if _is_writable(*row):
                write(_own_record(row, info_text(fields, [entries])))
            else:
                left_out.append(table.index[place])
    if left_out:
        msg = (
            f"{len(left_out)} of {len(table)} rows cannot be written in VCF and are "
            f"not in {path}: {first_few(left_out)}; a table (.tsv) holds them all"
        )
        warn(msg, VariantWarning)


def _own_record(row: tuple[str, int, str, str, str], info: str) -> bytes:
    chrom, pos, name, ref, alt = row
    name = re.sub(r"[\s;]+", "_", name)
    return f"{chrom}\t{pos}\t{name}\t{ref}\t{alt}\t.\t.\t{info or '.'}\n".encode()


def _is_writable(chrom: str, pos: int, name: str, ref: str, alt: str) -> bool:
    has_place = pos > 0 and chrom.split() == [chrom]
    letters = _WRITABLE_REF.fullmatch(ref) and not _UNWRITABLE_ALT.search(alt)
    return has_place and bool(letters) and alt != "."


@contextmanager
def _written(path: Path, compress: bool | None) -> Iterator[Callable[[bytes], object]]:
    """Open a file, plain or as bgzip, and yield what writes bytes into it."""
    if compress is None:
        compress = path.suffix.lower() in {".gz", ".bgz"}
    with path.open("wb") as file:
        if not compress:
            yield file.write
            return
        blocks: Any = bgzf.BgzfWriter(fileobj=file)  # type: ignore[no-untyped-call]
        yield blocks.write
        blocks.close()
