"""The lines of a VCF file: header and records, as bytes and checked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from enformer_features.exceptions import InputError
from enformer_features.genomics._text import open_text

HEADER = (b"#CHROM", b"POS", b"ID", b"REF", b"ALT")
MAX_DIGITS = 12  # of a position; far beyond any chromosome
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_WHITE = b" \t\r\n"


def raw_lines(file: Path) -> Iterator[bytes]:
    """Yield the unpacked lines with their line ends; reading starts at the first."""
    with open_text(file) as text:
        yield from text.buffer


def is_record(line: bytes) -> bool:
    """Tell a record from a comment and from a blank line."""
    return not line.startswith(b"#") and bool(line.strip(_WHITE))


def read_header(file: Path, lines: Iterator[bytes]) -> list[bytes]:
    """Take the lines up to the #CHROM line, which is the last, and check it.

    Raises
    ------
    InputError
        If there is no such line, or another begins before it.
    """
    header: list[bytes] = []
    for line in lines:
        header.append(line)
        shown = line.removeprefix(_BYTE_ORDER_MARK) if len(header) == 1 else line
        if shown.startswith(b"##") or not shown.strip(_WHITE):
            continue
        names = tuple(shown.rstrip(b"\r\n").split(b"\t"))
        if names[: len(HEADER)] == HEADER:
            return header
        text = shown[:60].decode("utf-8", "replace").rstrip()
        found = f"{file}:{len(header)}: {text!r}"
        if shown.startswith(b"#CHROM"):
            msg = (
                f"{found} is no VCF header line; expected #CHROM POS ID REF ALT ..., "
                "separated by tabs"
            )
        else:
            msg = (
                f"{found} stands where the #CHROM line should; expected VCF, with its "
                "header (variants in a table of another form: variant_table)"
            )
        raise InputError(msg)
    msg = f"{file} has no #CHROM line; expected VCF, with its header"
    raise InputError(msg)


def record_fields(line: bytes) -> list[str]:
    """Split a record into its first five columns, or as many as there are."""
    columns = line.rstrip(b"\r\n").split(b"\t", len(HEADER))[: len(HEADER)]
    return [column.decode("utf-8", "replace") for column in columns]


def record_fault(fields: list[str]) -> str:
    """Say what is wrong with a record, or nothing; letters are looked at later."""
    if len(fields) < len(HEADER):
        spaces = len(" ".join(fields).split()) >= len(HEADER)
        hint = "; columns are separated by tabs, not by spaces" if spaces else ""
        return f"{len(fields)} column(s), expected at least {len(HEADER)}{hint}"
    chrom, pos, _, ref, alt = fields
    if not (pos.isdecimal() and pos.isascii() and len(pos) <= MAX_DIGITS):
        return f"POS {pos[:40]!r} is not a whole number written in digits only"
    if not int(pos):
        return "POS is 0, but positions in VCF count from 1"
    for name, text in (("CHROM", chrom), ("REF", ref), ("ALT", alt)):
        if text.split() != [text]:
            return f"{name} {text[:40]!r} is empty or holds blanks"
    if "" in alt.split(","):
        return f"ALT {alt[:40]!r} has an empty allele; '.' stands for none"
    return ""
