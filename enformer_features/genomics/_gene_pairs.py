"""Which genes lie near which variants."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics.regions import raise_bad_rows, region_table


def check_genes(genes: pd.DataFrame) -> pd.DataFrame:
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


def neighbours(
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
