"""Variants with the genes near them: pairs to score at a gene's TSS."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics.regions import raise_bad_rows, region_table
from enformer_features.genomics.variants import variant_table


def pair_with_genes(
    variants: pd.DataFrame,
    genes: pd.DataFrame,
    *,
    sequence_length: int,
    kept_bp: int | None = None,
) -> pd.DataFrame:
    """Pair each variant with every gene whose window holds it.

    Parameters
    ----------
    variants : DataFrame
        Variants, as `variant_table` accepts them; of prepared ones the column
        ``start`` counts, else ``pos - 1``.
    genes : DataFrame
        Genes with their ``tss``, as `read_genes` returns them; any region table in
        which every row has a tss.
    sequence_length : int
        Length of the windows in bp: ``[tss - length / 2, tss + length / 2)``.
    kept_bp : int, optional
        Consider only so many bp in the middle of each window, for example those of
        the bins that the network keeps. By default the whole window.

    Returns
    -------
    DataFrame, shape (n_pairs, n_columns + 4)
        The columns of `variants`, and ``gene`` (str), ``tss`` (int64, 0-based),
        ``strand`` ("+" or "-") and ``distance`` (int64, bp from the tss to the first
        base of the variant, positive downstream in the direction of the transcript).
        Variants in their order, the genes of each by distance, with a new
        RangeIndex. A variant that lies in no gene's window has no row here:
        `unpaired` returns these. Variants with a reason keep it.

    Raises
    ------
    InputError
        If genes are bad rows or lack a tss, if a length is no positive, even number, or
        if variants and genes have no contig in common.

    Notes
    -----
    The window of a gene that is read as its reverse complement lies one base to the
    right, ``[tss + 1 - length / 2, tss + 1 + length / 2)``. Pairs are those of the
    forward window; only variants at its very first or last base can differ.

    Examples
    --------
    >>> import pandas as pd
    >>> variants = pd.DataFrame({"chrom": "1", "pos": [61, 500], "ref": "A"})
    >>> variants["alt"] = "C"
    >>> genes = pd.DataFrame(
    ...     {"chrom": "1", "tss": [20, 50], "strand": ["-", "+"], "name": ["X", "Y"]}
    ... )
    >>> pairs = pair_with_genes(variants, genes, sequence_length=128)
    >>> print(pairs[["pos", "gene", "tss", "strand", "distance"]].to_string())
       pos gene  tss strand  distance
    0   61    Y   50      +        10
    1   61    X   20      -       -40
    >>> len(unpaired(variants, pairs))
    1
    """
    width = _even("sequence_length", sequence_length)
    if kept_bp is not None:
        width = min(_even("kept_bp", kept_bp), width)
    table = _as_table(variants)
    starts = table.get("start", table["pos"] - 1).to_numpy(np.int64)
    near = _check_genes(genes)
    row, gene = _neighbours(table["chrom"], starts, near, width // 2)
    strand = near["strand"].to_numpy(dtype=object)[gene]
    tss = near["tss"].to_numpy()[gene]
    distance = np.where(strand == "-", tss - starts[row], starts[row] - tss)
    order = np.lexsort((gene, np.abs(distance), row))
    columns = {
        "gene": near["name"].to_numpy(dtype=object)[gene],
        "tss": tss,
        "strand": strand,
        "distance": distance,
    }
    ordered = {name: values[order] for name, values in columns.items()}
    return table.iloc[row[order]].reset_index(drop=True).assign(**ordered)


def unpaired(variants: pd.DataFrame, pairs: pd.DataFrame) -> pd.DataFrame:
    """Return the variants that `pair_with_genes` found near no gene.

    Parameters
    ----------
    variants : DataFrame
        What was given to `pair_with_genes`.
    pairs : DataFrame
        What it returned.

    Returns
    -------
    DataFrame
        The rows of the variant table without a pair, in order; their number is
        ``len`` of it. See the example of `pair_with_genes`.
    """
    table = _as_table(variants)
    key = ["chrom", "pos", "ref", "alt", "record", "allele"]
    paired = pd.MultiIndex.from_frame(pairs[key].drop_duplicates())
    return table[~pd.MultiIndex.from_frame(table[key]).isin(paired)]


def _as_table(variants: pd.DataFrame) -> pd.DataFrame:
    """Take prepared variants as they are, and bring others into one form."""
    return variants if "norm_ref" in variants else variant_table(variants)


def _even(name: str, length: int) -> int:
    is_whole = isinstance(length, (int, np.integer)) and not isinstance(length, bool)
    if not is_whole or length < 2 or length % 2:
        msg = f"{name}={length!r} must be a positive, even number of bp"
        raise InputError(msg)
    return int(length)


def _check_genes(genes: pd.DataFrame) -> pd.DataFrame:
    """Return the region table of genes that all have a tss, or raise."""
    table = region_table(genes)
    raise_bad_rows(table, "genes")
    missing = table.index[table["tss"] < 0].tolist()
    if missing:
        msg = (
            f"{len(missing)} of {len(table)} genes have no tss: rows "
            f"{first_few(missing)}; give a column tss (0-based), as read_genes does"
        )
        raise InputError(msg)
    return table


def _neighbours(
    chrom: pd.Series[Any], start: NDArray[np.int64], genes: pd.DataFrame, half: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Find the pairs (row, gene) with ``tss - half <= start < tss + half``."""
    tss = genes["tss"].to_numpy()
    contigs = genes["chrom"].to_numpy(dtype=object)
    codes, names = pd.factorize(chrom.to_numpy(dtype=object))
    pairs = []
    for code, name in enumerate(names):
        members = np.flatnonzero(contigs == name)
        if not len(members):
            continue
        rows = np.flatnonzero(codes == code)
        members = members[np.argsort(tss[members], kind="stable")]
        low, high = (
            np.searchsorted(tss[members], start[rows] + shift, side="right")
            for shift in (-half, half)
        )
        count = high - low
        steps = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        pairs.append((np.repeat(rows, count), members[np.repeat(low, count) + steps]))
    if not pairs:
        _refuse_strangers(list(names), list(dict.fromkeys(contigs)))
    rows, found = (np.concatenate(side) for side in zip(*pairs, strict=True))
    return rows, found


def _refuse_strangers(chroms: list[Any], contigs: list[Any]) -> None:
    msg = (
        f"variants and genes have no contig in common: variants have "
        f"{first_few(chroms)}, genes have {first_few(contigs)}"
    )
    raise InputError(msg)
