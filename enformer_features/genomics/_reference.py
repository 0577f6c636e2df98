"""Variants against the genome: on which contig, inside it, and the same letters."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import (
    GenomeError,
    InputError,
    VariantWarning,
    first_few,
    warn,
)
from enformer_features.genomics._columns import (
    SHOWN_ROWS,
    Texts,
    bad_rows_text,
    no_reasons,
    note,
    show,
)
from enformer_features.genomics.encoding import decode, encode
from enformer_features.genomics.genome import Genome, fitting_style

UNKNOWN_CONTIG = "unknown contig"
OUTSIDE = "outside the contig"
MISMATCH = "REF mismatch"
EXPECTED_MATCHES = 0.95  # fewer, and the variants are of another genome build,
FEWEST_COMPARED = 20  # if it is so many variants that say so

_BLOCK = 1 << 20  # bp that are read at once
_GAP = 1 << 15  # bp without a variant that are not read
_STRETCH = 1024  # bp


def text_lengths(texts: Texts) -> NDArray[np.int64]:
    """Count the letters of each text."""
    return np.fromiter(map(len, texts), np.int64, len(texts))


def note_places(
    genome: Genome, chrom: Texts, start: NDArray[np.int64], ref: Texts, reasons: Texts
) -> None:
    """Note variants that do not lie on the genome's contigs."""
    usable = reasons == ""
    lengths = pd.Series(chrom).map(genome.contigs).fillna(-1).to_numpy(np.int64)
    known = lengths >= 0
    if usable.any() and not (usable & known).any():
        _refuse_contigs(genome, list(dict.fromkeys(chrom[usable])), int(usable.sum()))
    has = f"in {genome.path}, which has {first_few(list(genome.contigs))}"
    note(
        reasons,
        usable & ~known,
        lambda row: f"{UNKNOWN_CONTIG}: no {chrom[row]!r} {has}",
    )
    end = start + text_lengths(ref)
    note(
        reasons,
        usable & known & (end > lengths),
        lambda row: (
            f"{OUTSIDE}: the last base of REF is {end[row]} (1-based), but "
            f"{chrom[row]} has {lengths[row]} bp"
        ),
    )


def _refuse_contigs(genome: Genome, chroms: list[str], n_variants: int) -> None:
    styles = {fitting_style([chrom], genome.contigs) for chrom in chroms} - {None}
    hint = f"; contig_style={styles.pop()!r} would match them" if styles else ""
    msg = (
        f"none of the {n_variants} variants lies on a contig of {genome.path}: they "
        f"have {first_few(chroms)}, the genome has "
        f"{first_few(list(genome.contigs))}{hint}"
    )
    raise GenomeError(msg)


def differing_ref(
    genome: Genome,
    chrom: Texts,
    start: NDArray[np.int64],
    ref: Texts,
    rows: NDArray[np.int64],
) -> Texts:
    """Give the genome's letters where they are not REF; "" in all other rows."""
    differs = no_reasons(len(ref))
    size = text_lengths(ref)
    for block in _blocks(chrom, start, size, rows):
        first, last = int(start[block[0]]), int((start[block] + size[block]).max())
        codes = genome.fetch(chrom[block[0]], first, last)
        wanted = encode("".join(ref[block]))
        begins = np.cumsum(size[block]) - size[block]  # in `wanted`
        places = np.repeat(start[block] - first - begins, size[block])
        wrong = codes[places + np.arange(len(wanted))] != wanted
        for row in block[np.logical_or.reduceat(wrong, begins)].tolist():
            begin = int(start[row]) - first
            differs[row] = decode(codes[begin : begin + int(size[row])])
    return differs


def _blocks(
    chrom: Texts,
    start: NDArray[np.int64],
    size: NDArray[np.int64],
    rows: NDArray[np.int64],
) -> Iterator[NDArray[np.int64]]:
    """Part rows into neighbours on a contig, sorted by start, to be read together."""
    if not len(rows):
        return
    contigs = pd.factorize(chrom[rows])[0]
    order = np.lexsort((start[rows], contigs))
    rows, contigs = rows[order], contigs[order]
    begin = start[rows]
    apart = (
        (np.diff(contigs) != 0)
        | (np.diff(begin // _BLOCK) != 0)
        | (begin[1:] - (begin + size[rows])[:-1] > _GAP)
    )
    yield from np.split(rows, np.flatnonzero(apart) + 1)


class Letters:
    """Single letters of a genome, read a stretch at a time to the left."""

    def __init__(self, genome: Genome) -> None:
        self._genome = genome
        self._place = ("", 0)
        self._text = ""

    def of(self, chrom: str) -> Callable[[int], str]:
        """Return what gives the letter at a position of a contig."""

        def letter(position: int) -> str:
            known, first = self._place
            if known != chrom or not first <= position < first + len(self._text):
                first, last = max(position - _STRETCH, 0), position + _STRETCH
                self._text = decode(self._genome.fetch(chrom, first, last))
                self._place = (chrom, first)
            return self._text[position - first]

        return letter


def judge_mismatches(
    table: pd.DataFrame, differs: Texts, reasons: Texts, path: Path, on_mismatch: str
) -> None:
    """Raise, note or let pass the rows whose REF differs from the genome.

    Parameters
    ----------
    table : DataFrame
        The variant table, with the genome's names of contigs.
    differs : ndarray of str
        What `differing_ref` returns.
    reasons : ndarray of str
        One for each row; under "skip" more are written.
    path : Path
        The genome, for messages.
    on_mismatch : {"error", "skip", "flag"}
    """
    bad = np.flatnonzero(differs != "").tolist()
    n_outside = sum(reason.startswith(OUTSIDE) for reason in reasons)
    n_compared = int((reasons == "").sum()) + n_outside
    share = 1 - (len(bad) + n_outside) / max(n_compared, 1)
    few_match = share < EXPECTED_MATCHES
    other_build = few_match and n_compared >= FEWEST_COMPARED
    hint = (
        f"only {share:.1%} of {n_compared} variants fit {path}, expected at least "
        f"{EXPECTED_MATCHES:.0%}: they are probably of another genome build (such as "
        "hg19 for hg38)"
    )
    plain = (
        f"{len(bad) + n_outside} of {n_compared} variants do not fit {path}: their REF "
        "is not what the genome has, or they lie outside the contig"
    )
    columns = [table[name].tolist() for name in ("record", "chrom", "pos", "ref")]
    record, chrom, pos, ref = columns

    def why(row: int) -> str:
        genomic = show(differs[row])
        return f"REF is {show(ref[row])}, the genome has {genomic}"

    if on_mismatch == "error" and bad:
        shown = bad[:SHOWN_ROWS]
        labels = [f"record {record[row]} ({chrom[row]}:{pos[row]})" for row in shown]
        more = f"\n  ... ({len(bad)} in all)" if len(bad) > SHOWN_ROWS else ""
        msg = (
            f"{len(bad)} of {n_compared} REF alleles differ from {path}:\n"
            f"{bad_rows_text(labels, [why(row) for row in shown])}{more}\n"
            'on_mismatch="skip" leaves them out, "flag" scores them as they are'
        )
        if other_build:
            msg += f"; but {hint}"
            raise GenomeError(msg)
        raise InputError(msg)
    if on_mismatch == "skip":
        note(reasons, differs != "", lambda row: f"{MISMATCH}: {why(row)}")
    if few_match:
        warn(hint if other_build else plain, VariantWarning, stacklevel=4)
