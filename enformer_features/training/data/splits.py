"""Regions divided into training, validation and test, so that no window is in two."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    check_choice,
    first_few,
)
from enformer_features.genomics.intervals import covered_bases
from enformer_features.genomics.regions import raise_bad_rows, region_table
from enformer_features.genomics.windows import (
    SEQUENCE_LENGTH,
    check_sequence_length,
    place_windows,
)

OVERLAPS = ("error", "drop")

Flags = npt.NDArray[np.bool_]


def split_regions(
    regions: pd.DataFrame,
    *,
    valid: Sequence[str] | pd.DataFrame,
    test: Sequence[str] | pd.DataFrame,
    sequence_length: int = SEQUENCE_LENGTH,
    overlaps: str = "error",
) -> dict[str, pd.DataFrame]:
    """Divide regions by chromosomes, or by other regions that they touch.

    Whole chromosomes are the safe choice. Splits that lie side by side on one
    chromosome share the letters, and mostly the targets, of the windows at their
    border: such windows are refused, or dropped if that is asked for.

    Parameters
    ----------
    regions : DataFrame
        See :func:`~enformer_features.read_regions`.
    valid, test : sequence of str, or DataFrame
        Names of chromosomes, or regions such as the folds of a published network; a
        region belongs to the split that it shares a base with.
    sequence_length : int, default=196_608
        Letters per window, in bp.
    overlaps : {"error", "drop"}, default="error"
        What happens when windows of two splits share a base: an error; or those of
        training, and those of validation that share one with test, are left out.

    Returns
    -------
    dict of str to DataFrame
        ``"train"``, ``"valid"`` and ``"test"``: rows of ``regions``, in their order,
        with their index.

    Raises
    ------
    InputError
        When a chromosome has no regions, a region belongs to both, a split is empty,
        or windows overlap.

    Examples
    --------
    >>> regions = pd.DataFrame({"chrom": ["chr1", "chr8", "chr9"], "start": [0, 0, 5],
    ...                         "end": [9, 9, 9]})
    >>> splits = split_regions(regions, valid=["chr8"], test=["chr9"])
    >>> {name: rows["chrom"].tolist() for name, rows in splits.items()}
    {'train': ['chr1'], 'valid': ['chr8'], 'test': ['chr9']}
    """
    check_choice("overlaps", overlaps, OVERLAPS)
    check_sequence_length(sequence_length)
    table = region_table(regions)
    raise_bad_rows(table)
    in_valid = _members(table, valid, "valid")
    in_test = _members(table, test, "test")
    if (in_valid & in_test).any():
        rows = _labels(table, in_valid & in_test)
        msg = f"regions belong to valid as well as to test: rows {rows}"
        raise InputError(msg)
    held_out = in_valid | in_test

    placed = place_windows(table, sequence_length, strand="ignore")
    windows = placed.rename(columns={"window_start": "start", "window_end": "end"})
    shared = ~held_out & _touch(windows, windows[held_out])
    shared |= in_valid & _touch(windows, windows[in_test])
    if overlaps == "error" and shared.any():
        msg = (
            f"{shared.sum()} of {len(table)} windows of {sequence_length} bp share "
            f"bases with one of another split: rows {_labels(table, shared)}; leave "
            "them out with overlaps='drop', or divide by chromosomes"
        )
        raise InputError(msg)
    splits = {
        "train": regions[~held_out & ~shared],
        "valid": regions[in_valid & ~shared],
        "test": regions[in_test],
    }
    empty = [name for name, rows in splits.items() if not len(rows)]
    if empty:
        msg = f"no regions are left for {', '.join(empty)}"
        raise InputError(msg)
    return splits


def _members(
    table: pd.DataFrame, wanted: Sequence[str] | pd.DataFrame, name: str
) -> Flags:
    """Tell which regions belong to a split."""
    if isinstance(wanted, pd.DataFrame):
        others = region_table(wanted)
        raise_bad_rows(others, f"regions of {name}")
        return _touch(table, others)
    if isinstance(wanted, str):
        msg = f"{name}={wanted!r} is a single text; wrap it in a list"
        raise InputTypeError(msg)
    known = list(dict.fromkeys(table["chrom"]))
    absent = [chrom for chrom in wanted if chrom not in known]
    if absent:
        msg = (
            f"{name}: no regions lie on {first_few(absent)}; they lie on "
            f"{first_few(known)}"
        )
        raise InputError(msg)
    return table["chrom"].isin(list(wanted)).to_numpy()


def _touch(table: pd.DataFrame, others: pd.DataFrame) -> Flags:
    """Tell which rows share a base with any of the others."""
    touch: Flags = covered_bases(table, others) > 0
    return touch


def _labels(table: pd.DataFrame, rows: Flags) -> str:
    return first_few(table.index[rows].tolist())
