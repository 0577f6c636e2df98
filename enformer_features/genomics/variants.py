"""Variant tables: parse, compare with the genome, count, apply to a window.

A *variant* is one alternative allele of one record. Its table has one row for each,
in the order of the file, and rows are never dropped: what cannot be scored has a
``reason``. The column ``pos`` is **1-based**, as in VCF; ``start`` and ``tss`` are
0-based like everything else in this package. ``docs/coordinates.md`` has the rules.
"""

from __future__ import annotations

import os
from typing import Any, Literal, Protocol

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import InputError, InputTypeError, check_choice
from enformer_features.genomics._alleles import BAD_ROW, normal_forms, note_alleles
from enformer_features.genomics._columns import (
    ALIASES,
    Texts,
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
from enformer_features.genomics._reference import (
    Letters,
    differing_ref,
    judge_mismatches,
    note_places,
    text_lengths,
)
from enformer_features.genomics.encoding import encode
from enformer_features.genomics.genome import Genome, open_genome, rename_contigs

OnMismatch = Literal["error", "skip", "flag"]
Fixed = Literal["left", "center", "right"]
ON_MISMATCH = ("error", "skip", "flag")
FIXED = ("left", "center", "right")

SUBSTITUTION, INDEL, FLAGGED = "substitution", "indel", "flagged"

_ALIASES = {
    "chrom": ALIASES["chrom"],
    "pos": ("pos", "position"),
    "id": ("id", "snp", "rsid"),
    "ref": ("ref", "ref_allele", "reference"),
    "alt": ("alt", "alt_allele", "alternate"),
    "gene": ("gene", "gene_id"),
    "tss": ("tss",),
    "strand": ("strand",),
    "distance": ("distance",),
    "record": ("record",),
    "allele": ("allele",),
    "reason": ("reason",),
}
_REQUIRED = ("chrom", "pos", "ref", "alt")


class Bases(Protocol):
    """What gives the bases of an interval: a `Genome`, or a part held in memory."""

    def fetch(self, chrom: str, start: int, end: int) -> NDArray[np.uint8]:
        """Return the codes of ``[start, end)``; what lies off the contig is N."""


def variant_table(X: pd.DataFrame) -> pd.DataFrame:
    """Bring a table of variants into one form, and note what is wrong with which row.

    Parameters
    ----------
    X : DataFrame
        One row for each alternative allele. Columns, in any letter case: ``chrom``,
        ``chr``, ``#CHROM`` and the other names of a region table's chromosome;
        ``pos``, **1-based** as in VCF; ``ref``; ``alt``; and, where there are,
        ``id``, ``snp`` or ``rsid``; ``gene`` or ``gene_id``; ``tss`` (0-based);
        ``strand``; ``distance``. What this function, `read_vcf`, `prepare_variants`
        or `pair_with_genes` returned, or some of its rows, is accepted, too.

    Returns
    -------
    DataFrame, shape (n_variants, 8 or more)
        One row per row of `X`, in its order and with its index. Columns: ``chrom``
        (str), ``pos`` (int64, 1-based), ``id`` (str, "." = none), ``ref``, ``alt``
        (str, sequences in capitals), ``record`` (int64, the number of the row unless
        `X` has one), ``allele`` (int64, likewise 1), ``reason`` (str, "" = fine),
        and, where `X` has them, ``gene`` (str), ``tss`` (int64, 0-based, -1 = none),
        ``strand`` ("+" or "-") and ``distance`` (int64, bp from the tss to the
        variant in the direction of the transcript). A bad row's other values are
        placeholders. Further columns are left out.

    Raises
    ------
    InputTypeError
        If `X` is no DataFrame, or positions are booleans.
    InputError
        If there are no rows, a required column is missing, or two columns stand for
        the same thing.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"chr": ["1", "1"], "pos": [10, 0], "ref": "a", "alt": "G"})
    >>> table = variant_table(X)
    >>> print(*table.loc[0, ["chrom", "pos", "id", "ref", "alt"]])
    1 10 . A G
    >>> table.loc[1, "reason"]
    'bad row: pos is 0, but positions count from 1, as in VCF'
    """
    _check_kind(X)
    places = find_columns(X.columns, _ALIASES)
    for column in _REQUIRED:
        if column not in places:
            refuse_missing_column("X", column, X.columns, _ALIASES[column])
    given = {column: X.iloc[:, place] for column, place in places.items()}
    faults = no_reasons(len(X))
    columns: dict[str, Any] = {
        "chrom": chromosomes(given["chrom"], faults),
        "pos": _positions(given["pos"], faults),
        "id": _ids(given.get("id"), len(X)),
        "ref": _alleles(given["ref"], "ref", faults),
        "alt": _alleles(given["alt"], "alt", faults),
        "record": np.arange(len(X)),
        "allele": np.ones(len(X), np.int64),
        "reason": no_reasons(len(X)),
    }
    for column in ("record", "allele"):
        if column in given:
            columns[column] = integers(given[column], column, faults)
    if "gene" in given:
        columns["gene"] = names(given["gene"])
    if "tss" in given:
        columns["tss"] = integers(given["tss"], "tss", faults)
    if "strand" in given:
        columns["strand"] = strands(given["strand"], faults)
    if "distance" in given:
        columns["distance"] = integers(given["distance"], "distance", faults)
    reasons = names(given["reason"]) if "reason" in given else columns["reason"]
    note(reasons, faults != "", lambda row: f"{BAD_ROW}: {faults[row]}")
    ref, alt = note_alleles(columns["ref"], columns["alt"], reasons)
    columns |= {"ref": ref, "alt": alt, "reason": reasons}
    return pd.DataFrame(columns, index=X.index)


def _check_kind(X: object) -> None:
    if isinstance(X, (str, os.PathLike)):
        msg = f"X is {X!r}, expected a DataFrame; read a file first: read_vcf(path)"
        raise InputTypeError(msg)
    if not isinstance(X, pd.DataFrame):
        msg = (
            f"X is {type(X).__name__}, expected a DataFrame with the columns "
            f"{', '.join(_REQUIRED)}, or what read_vcf(path) returns"
        )
        raise InputTypeError(msg)
    if X.empty:
        msg = "X holds 0 variants, expected at least one row"
        raise InputError(msg)


def _positions(values: pd.Series[Any], faults: Texts) -> NDArray[np.int64]:
    pos = integers(values, "pos", faults)
    note(
        faults,
        pos < 1,
        lambda row: f"pos is {pos[row]}, but positions count from 1, as in VCF",
    )
    return pos


def _ids(values: pd.Series[Any] | None, n_rows: int) -> Texts:
    if values is None:
        return np.full(n_rows, ".", dtype=object)
    ids = names(values)
    ids[ids == ""] = "."
    return ids


def _alleles(values: pd.Series[Any], column: str, faults: Texts) -> Texts:
    """Take alleles as text; what is missing is ".", as in VCF."""
    items = values.to_numpy(dtype=object)
    is_text = np.fromiter((isinstance(item, str) for item in items), bool, len(items))
    bad = ~is_text & ~np.asarray(pd.isna(values))
    note(
        faults,
        bad,
        lambda row: (
            f"{column} {show(items[row])} is {type(items[row]).__name__}, expected text"
        ),
    )
    return np.where(is_text, items, ".")


def prepare_variants(
    table: pd.DataFrame,
    genome: str | os.PathLike[str] | Genome,
    *,
    on_mismatch: OnMismatch = "error",
    contig_style: str | None = None,
) -> pd.DataFrame:
    r"""Compare variants with the genome, and bring their alleles into normal form.

    Parameters
    ----------
    table : DataFrame
        Variants, as `read_vcf` or `variant_table` return them, or what the latter
        accepts.
    genome : str, PathLike or Genome
        FASTA file, plain or BGZF.
    on_mismatch : {"error", "skip", "flag"}, default="error"
        What to do about REF alleles that are not what the genome has there (letter
        case does not matter): raise; give the rows a reason; or keep them, with
        ``ref_matches`` False, to be scored as the file says: REF against ALT.
    contig_style : {"ucsc", "ensembl"}, optional
        Rename the variants' contigs first (``1`` to ``chr1``, or back).

    Returns
    -------
    DataFrame, shape (n_variants, 13 or more)
        The variant table, its index and order kept, with ``chrom`` as the genome
        calls it, more reasons (classes ``unknown contig``, ``outside the contig``,
        ``REF mismatch``), and the columns ``start`` (int64, 0-based first base of
        ``norm_ref``), ``norm_ref``, ``norm_alt`` (str, trimmed and left-aligned,
        never empty in a row that can be scored), ``kind`` ("substitution" for
        alleles of equal length, "indel", or "" with a reason) and ``ref_matches``
        (bool; False also in rows that were not compared, so that mismatches are the
        False ones among rows whose ``reason`` is ""). Alleles whose REF does not
        match are trimmed but not moved.

    Raises
    ------
    InputError
        If REF alleles differ and `on_mismatch` is "error": how many, and the first
        five with their record.
    GenomeError
        If none of the contigs is in the genome; the message proposes a
        `contig_style` that would help. Under "error" also instead of the former
        when fewer than 95 % of at least 20 variants match, because then the build is
        probably another.

    Warns
    -----
    VariantWarning
        Under "skip" and "flag", when fewer than 95 % match; what lies outside its
        contig counts as a mismatch.

    References
    ----------
    Tan, Abecasis and Kang 2015, Bioinformatics 31:2202: the normal form.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> import pandas as pd
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\nGGCACACAT\n")
    >>> X = pd.DataFrame({"chrom": "chr1", "pos": [1, 6], "ref": ["G", "ACA"]})
    >>> prepared = prepare_variants(X.assign(alt=["T", "A"]), fasta)
    >>> print(prepared[["start", "norm_ref", "norm_alt", "kind"]].to_string())
       start norm_ref norm_alt          kind
    0      0        G        T  substitution
    1      1      GCA        G         indel
    >>> folder.cleanup()
    """
    check_choice("on_mismatch", on_mismatch, ON_MISMATCH)
    table = variant_table(table)
    genome = open_genome(genome)
    chrom = rename_contigs(table["chrom"], contig_style)
    reasons = table["reason"].to_numpy(dtype=object, copy=True)
    ref, alt = (table[name].to_numpy(dtype=object) for name in ("ref", "alt"))
    start = np.maximum(table["pos"].to_numpy() - 1, -1)
    note_places(genome, chrom, start, ref, reasons)
    # Letters beside a variant must not fail it: its own are compared, whatever others.
    letters = open_genome(genome.path, ambiguous="N")
    rows = np.flatnonzero(reasons == "")
    differs = differing_ref(letters, chrom, start, ref, rows)
    table = table.assign(chrom=chrom)
    judge_mismatches(table, differs, reasons, genome.path, on_mismatch)
    matches = np.zeros(len(table), dtype=bool)
    matches[rows] = differs[rows] == ""
    rows = np.flatnonzero(reasons == "")
    near = Letters(letters)
    first, norm_ref, norm_alt = normal_forms(
        start, ref, alt, rows, lambda row: near.of(chrom[row]) if matches[row] else None
    )
    return table.assign(
        reason=reasons,
        start=first,
        norm_ref=norm_ref,
        norm_alt=norm_alt,
        kind=_kinds(norm_ref, norm_alt, reasons),
        ref_matches=matches,
    )


def _kinds(ref: Texts, alt: Texts, reasons: Texts) -> Texts:
    kinds = np.where(text_lengths(ref) == text_lengths(alt), SUBSTITUTION, INDEL)
    return np.where(reasons == "", kinds.astype(object), "")


def count_variants(table: pd.DataFrame) -> dict[str, int]:
    """Count the variants of each class; the counts add up to the rows of the table.

    Parameters
    ----------
    table : DataFrame
        A variant table, best a prepared one.

    Returns
    -------
    dict of str to int
        ``"substitution"`` and ``"indel"``, which can be scored; ``"flagged"``, which
        will be although their REF is not the genome's (`prepare_variants`); then
        ``"skipped: ..."`` for each class of reasons, the most frequent first.

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"chrom": "1", "pos": 5, "ref": "A", "alt": ["C", "AT", "*"]})
    >>> count_variants(variant_table(X))
    {'substitution': 1, 'indel': 1, 'skipped: overlapping deletion': 1}
    """
    reasons = table["reason"].to_numpy(dtype=object)
    if "kind" in table:
        kinds = table["kind"].to_numpy(dtype=object).copy()
        kinds[(reasons == "") & ~table["ref_matches"].to_numpy(dtype=bool)] = FLAGGED
    else:
        ref, alt = (table[name].to_numpy(dtype=object) for name in ("ref", "alt"))
        kinds = _kinds(ref, alt, reasons)
    usable = pd.Series(kinds[reasons == ""]).value_counts()
    counts = {kind: int(usable.get(kind, 0)) for kind in (SUBSTITUTION, INDEL)}
    if FLAGGED in usable:
        counts[FLAGGED] = int(usable[FLAGGED])
    classes = [reason.partition(":")[0] for reason in reasons[reasons != ""]]
    skipped = pd.Series(classes, dtype=object).value_counts()
    return counts | {f"skipped: {name}": int(n) for name, n in skipped.items()}


def describe_counts(table: pd.DataFrame) -> str:
    """Say in a line how many variants of which class there are.

    Parameters
    ----------
    table : DataFrame
        A variant table, best a prepared one.

    Returns
    -------
    str

    Examples
    --------
    >>> import pandas as pd
    >>> X = pd.DataFrame({"chrom": "1", "pos": 5, "ref": "A", "alt": ["C", "*"]})
    >>> describe_counts(variant_table(X))
    '2 variants: 1 substitution, 0 indel, 1 skipped (overlapping deletion)'
    """
    parts = []
    for name, count in count_variants(table).items():
        kind, _, why = name.partition(": ")
        parts.append(f"{count:,} {kind} ({why})" if why else f"{count:,} {kind}")
    return f"{len(table):,} variants: {', '.join(parts)}"


def haplotype_window(
    genome: Bases,
    chrom: str,
    window_start: int,
    sequence_length: int,
    start: int,
    ref: str,
    alt: str,
    *,
    fixed: Fixed = "left",
) -> NDArray[np.uint8]:
    r"""Read a window of the sequence that has ALT in place of REF.

    Parameters
    ----------
    genome : Genome
        Where the sequence comes from (or anything with its ``fetch``). It is not
        compared with `ref`.
    chrom : str
        Contig.
    window_start : int
        First base of the reference window, 0-based; it may be below 0.
    sequence_length : int
        Length of the window in bp, for both alleles.
    start : int
        First base of `ref`, 0-based.
    ref, alt : str
        Alleles, of any lengths; ``ref`` for both gives the window in which the
        genome's letters are those of the file.
    fixed : {"left", "center", "right"}, default="left"
        Which end stays when the alleles differ in length, by ``d = len(alt) -
        len(ref)``: "left" keeps the first base, and the right end loses or gains d
        bases (as basenji and the published scores do); "right" keeps the last base;
        "center" takes ``floor(d / 2)`` of them on the left and the rest on the right.

    Returns
    -------
    ndarray of uint8, shape (sequence_length,)
        A, C, G, T, N as 0 to 4, in the direction of the genome; N off the contig.

    Notes
    -----
    A variant that reaches over an edge of the window is clipped there: base i of ALT
    takes the place of base i of REF, and what either has in excess follows its last.
    A variant outside of the window changes nothing.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> from enformer_features.genomics.encoding import decode
    >>> from enformer_features.genomics.genome import open_genome
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\nAAACCGGGTTT\n")
    >>> genome = open_genome(fasta)
    >>> for fixed in ("left", "center", "right"):
    ...     window = haplotype_window(genome, "chr1", 2, 6, 4, "C", "CTA", fixed=fixed)
    ...     print(decode(window))
    ACCTAG
    CCTAGG
    CTAGGG
    >>> folder.cleanup()
    """
    check_choice("fixed", fixed, FIXED)
    growth = len(alt) - len(ref)

    def on_haplotype(border: int) -> int:
        """Move a border between two bases from the genome to the haplotype."""
        if border <= start:
            return border
        if border >= start + len(ref):
            return border + growth
        return start + min(border - start, len(alt))

    left = on_haplotype(window_start)
    right = on_haplotype(window_start + sequence_length) - sequence_length
    first = {"left": left, "right": right, "center": left + (right - left) // 2}[fixed]
    last = first + sequence_length
    alt_end = start + len(alt)
    pieces = []
    if first < start:
        pieces.append(genome.fetch(chrom, first, min(last, start)))
    if first < alt_end and last > start:
        pieces.append(encode(alt[max(first - start, 0) : last - start]))
    if last > alt_end:
        pieces.append(genome.fetch(chrom, max(first, alt_end) - growth, last - growth))
    return np.concatenate(pieces)
