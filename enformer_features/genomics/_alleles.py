"""Alleles: which can be scored, and their one normal form.

A reason why an allele cannot be scored begins with its class and a colon, so that
reasons can be counted by class.
"""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.genomics._columns import Texts, no_reasons, note, show

BAD_ROW = "bad row"
_LETTERS = re.compile(r"[ACGTacgt]+")
_BREAKEND = re.compile(r".*[\[\]].*|\.[A-Za-z]+|[A-Za-z]+\.")


def allele_fault(allele: str) -> str:
    """Say why an allele is no plain sequence; "" when it is one.

    Examples
    --------
    >>> [allele_fault(text).partition(":")[0] for text in ("ac", "<DEL>", "*", ".")]
    ['', 'symbolic', 'overlapping deletion', 'missing allele']
    """
    if _LETTERS.fullmatch(allele):
        return ""
    if allele in ("", "."):
        return "missing allele: there is no second sequence"
    if allele == "*":
        return "overlapping deletion: * stands for a deletion of another record"
    if allele.startswith("<"):
        return f"symbolic: {show(allele)} names a kind of change, not its letters"
    if _BREAKEND.fullmatch(allele):
        return f"breakend: {show(allele)} joins two places of the genome"
    if "," in allele:
        return f"several alleles: {show(allele)} needs one row for each"
    hint = "; write the base before a deletion in REF and ALT" if allele == "-" else ""
    return f"other letters: {show(allele)} holds more than A, C, G and T{hint}"


def note_alleles(ref: Texts, alt: Texts, reasons: Texts) -> tuple[Texts, Texts]:
    """Write sequences in capitals, and why a pair of alleles cannot be scored.

    Returns
    -------
    ref, alt : ndarray of str, shape (n,)
        Symbolic alleles and other texts stay as they are.
    """
    columns = []
    for name, alleles in (("ALT", alt), ("REF", ref)):
        codes, uniques = pd.factorize(alleles)
        faults = np.array([allele_fault(text) for text in uniques], dtype=object)
        shown = np.array(
            [
                text if fault else text.upper()
                for text, fault in zip(uniques, faults, strict=True)
            ],
            dtype=object,
        )
        columns.append(shown[codes])
        found = faults[codes]
        _note_faults(reasons, found, name)
    alt, ref = columns
    note(
        reasons,
        ref == alt,
        lambda row: f"no change: REF and ALT are both {show(ref[row])}",
    )
    return ref, alt


def _note_faults(reasons: Texts, faults: Texts, column: str) -> None:
    def text(row: int) -> str:
        kind, _, rest = faults[row].partition(":")
        return f"{kind}: {column}{rest}" if kind == "symbolic" else str(faults[row])

    note(reasons, faults != "", text)


def trim(start: int, ref: str, alt: str) -> tuple[int, str, str]:
    """Cut what two alleles share at their ends, and keep one letter of each.

    Examples
    --------
    >>> trim(10, "CTAG", "CTG")
    (11, 'TA', 'T')
    """
    spare = min(len(ref), len(alt)) - 1
    end = 0
    while end < spare and ref[-1 - end] == alt[-1 - end]:
        end += 1
    first = 0
    while first < spare - end and ref[first] == alt[first]:
        first += 1
    return start + first, ref[first : len(ref) - end], alt[first : len(alt) - end]


def left_align(
    start: int, ref: str, alt: str, letter: Callable[[int], str]
) -> tuple[int, str, str]:
    """Give an insertion or deletion its normal form: trimmed, as far left as it goes.

    Parameters
    ----------
    start : int
        Position of the first letter of `ref`, 0-based.
    ref, alt : str
        Alleles that differ, neither empty; `ref` is what the genome has.
    letter : callable
        The genome's letter at a position.

    Returns
    -------
    start : int
    ref, alt : str
        Not empty: where they would be, the base before stands in both, as in VCF. At
        the first base of a contig, or behind an N, nothing moves further.

    References
    ----------
    Tan, Abecasis and Kang 2015, Bioinformatics 31:2202, algorithm 1.

    Examples
    --------
    >>> left_align(6, "ACA", "A", "GGGCACACAT".__getitem__)
    (2, 'GCA', 'G')
    """
    while ref[-1] == alt[-1]:
        if min(len(ref), len(alt)) == 1:
            before = letter(start - 1) if start else "N"
            if before == "N":
                break
            ref, alt, start = before + ref, before + alt, start - 1
        ref, alt = ref[:-1], alt[:-1]
    return trim(start, ref, alt)


def normal_forms(
    start: NDArray[np.int64],
    ref: Texts,
    alt: Texts,
    rows: NDArray[np.int64],
    letters: Callable[[int], Callable[[int], str] | None],
) -> tuple[NDArray[np.int64], Texts, Texts]:
    """Trim the alleles of some rows, and align their indels.

    Parameters
    ----------
    start : ndarray of int64, shape (n,)
    ref, alt : ndarray of str, shape (n,)
    rows : ndarray of int64
        The rows whose alleles are sequences; the others get empty alleles.
    letters : callable
        For a row, what gives the letters of its contig; None where its REF is not
        the genome's, so that there is nothing to align it with.
    """
    first, norm_ref, norm_alt = start.copy(), no_reasons(len(ref)), no_reasons(len(alt))
    norm_ref[rows], norm_alt[rows] = ref[rows], alt[rows]
    longer = np.fromiter(
        (len(ref[row]) + len(alt[row]) > 2 for row in rows), np.bool_, len(rows)
    )
    for row in rows[longer].tolist():
        letter = letters(row) if len(ref[row]) != len(alt[row]) else None
        form = (int(start[row]), ref[row], alt[row])
        moved = left_align(*form, letter) if letter else trim(*form)
        first[row], norm_ref[row], norm_alt[row] = moved
    return first, norm_ref, norm_alt
