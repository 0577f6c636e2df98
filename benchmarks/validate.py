"""Time the check of 1,000,000 regions: ``python benchmarks/validate.py``.

Every region is checked before a network runs, so the check must be quick. The second
table has one bad row, the last; its error names that row.
"""

from __future__ import annotations

import time

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError
from enformer_features.genomics.regions import (
    check_bounds,
    raise_bad_rows,
    region_table,
)

N_REGIONS = 1_000_000
CONTIGS = {f"chr{number}": 200_000_000 for number in range(1, 23)}


def make_regions(n_regions: int) -> pd.DataFrame:
    """Draw regions of 100 bp on all contigs, from a fixed seed."""
    random = np.random.default_rng(0)
    start = random.integers(0, 190_000_000, n_regions)
    return pd.DataFrame(
        {
            "chrom": random.choice(np.array(list(CONTIGS), dtype=object), n_regions),
            "start": start,
            "end": start + 100,
            "strand": random.choice(np.array(["+", "-"], dtype=object), n_regions),
        }
    )


def time_check(regions: pd.DataFrame) -> tuple[float, str]:
    """Return the seconds of a check, and the error it ends in ("" without one)."""
    began = time.perf_counter()
    error = ""
    try:
        table = check_bounds(region_table(regions), CONTIGS, "a genome")
        raise_bad_rows(table)
    except InputError as caught:
        error = str(caught)
    return time.perf_counter() - began, error


def main() -> None:
    """Print both times."""
    regions = make_regions(N_REGIONS)
    seconds, error = time_check(regions)
    print(f"{N_REGIONS:,} good regions: {seconds:.2f} s {error}")
    regions.loc[N_REGIONS - 1, "end"] = 0
    seconds, error = time_check(regions)
    print(f"one of them bad:        {seconds:.2f} s, {error}")
    if f"row {N_REGIONS - 1}:" not in error:
        msg = f"the error does not name row {N_REGIONS - 1}"
        raise SystemExit(msg)


if __name__ == "__main__":
    main()
