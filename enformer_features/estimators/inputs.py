"""Resolves what a user hands over as ``X``; the one place that guesses."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    first_few,
)
from enformer_features.genomics.encoding import (
    check_codes,
    codes_from_one_hot,
    encode,
    resize_codes,
)
from enformer_features.genomics.regions import region_names, region_table

Codes = npt.NDArray[np.uint8]
SHORTEST_DNA = 128


@dataclass(frozen=True)
class Samples:
    """Resolved input: regions of a genome, or sequences; one of the two.

    Parameters
    ----------
    index : Index
        Labels of the rows.
    regions : DataFrame or None
        From :func:`~enformer_features.genomics.regions.region_table`.
    sequences : list of ndarray of uint8 or None
        Letter codes, each of the window's length.
    reasons : ndarray of str, shape (n_rows,)
        What is wrong with a sequence; empty texts for those that are fine.
    """

    index: pd.Index
    regions: pd.DataFrame | None = None
    sequences: list[Codes] | None = None
    reasons: npt.NDArray[np.object_] | None = None

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.index)

    @property
    def names(self) -> pd.Index:
        """The labels, if they are text; else what the regions are called."""
        if all(isinstance(label, str) for label in self.index):
            return self.index
        if self.regions is None:
            return self.index.astype(str)
        return pd.Index(region_names(self.regions))

    def part(self, rows: slice) -> Samples:
        """Return some of the rows, with their labels."""
        return Samples(
            self.index[rows],
            None if self.regions is None else self.regions.iloc[rows],
            None if self.sequences is None else self.sequences[rows],
            None if self.reasons is None else self.reasons[rows],
        )


def resolve_samples(
    X: Any,
    *,
    sequence_length: int,
    resize: str = "error",
    ambiguous: str = "error",
) -> Samples:
    """Find out what ``X`` is, and bring it into one of two forms.

    Parameters
    ----------
    X : DataFrame, AnnData, sequence of str, Series, ndarray
        One row per sample. A table with ``chrom`` and ``start``, ``end`` or ``tss``;
        an AnnData whose *obs* is such a table; region strings (every item has a
        ``:``); DNA strings (none has); uint8 letter codes ``(n, L)``; or one-hot
        ``(n, L, 4)``.
    sequence_length : int
        Length of the windows in bp.
    resize : {"error", "pad", "crop"}, default="error"
        What becomes of sequences of another length.
    ambiguous : {"error", "N"}, default="error"
        What becomes of letters other than A, C, G, T and N.

    Returns
    -------
    Samples
        Rows in the order of ``X``.

    Raises
    ------
    InputError, InputTypeError
        When ``X`` is none of these; the message says what to call.
    """
    if isinstance(X, (str, bytes, os.PathLike)):
        msg = (
            f"X is a single {type(X).__name__}, {str(X)[:40]!r}; for one sequence or "
            "region wrap it in a list, for a file call read_regions(path) or "
            "read_genes(path) first"
        )
        raise InputTypeError(msg)
    if _is_anndata(X):
        X = _regions_of_anndata(X)
    elif is_table(X):
        X = as_pandas(X)
    if isinstance(X, pd.DataFrame):
        table = region_table(X)
        return Samples(table.index, regions=table)
    if _is_array(X):
        X = _as_array(X)
    if isinstance(X, np.ndarray) and X.dtype.kind in "iufb":
        codes = _codes_of_array(X)
        rows: list[Any] = list(codes)
        index = pd.RangeIndex(len(rows))
        return _sequences(rows, index, lambda row, _: row, sequence_length, resize)
    return _resolve_strings(X, sequence_length, resize, ambiguous)


def _is_anndata(X: object) -> bool:
    return all(hasattr(X, name) for name in ("obs", "var", "obs_names"))


def _regions_of_anndata(adata: Any) -> pd.DataFrame:
    obs, var = pd.DataFrame(adata.obs), pd.DataFrame(adata.var)
    names = {str(name).lower() for name in var.columns}
    if "chrom" not in {str(name).lower() for name in obs.columns} and "chrom" in names:
        msg = (
            "X is an AnnData with its regions in var, but rows of X must be regions: "
            "pass adata.var, or adata.T"
        )
        raise InputError(msg)
    return obs


def is_table(X: object) -> bool:
    """Tell whether an object has named columns: of pandas, polars or records."""
    is_record_array = isinstance(X, np.ndarray) and X.dtype.names is not None
    return is_record_array or (hasattr(X, "columns") and hasattr(X, "to_dict"))


def as_pandas(X: Any) -> pd.DataFrame:
    """Bring what :func:`is_table` accepts to pandas."""
    if isinstance(X, pd.DataFrame):
        return X
    if isinstance(X, np.ndarray):
        if X.ndim != 1 or any(X.dtype[name].shape for name in X.dtype.names or ()):
            msg = (
                f"X is an array of records, of shape {X.shape} and {X.dtype}; expected "
                "one record per region, with one value per field"
            )
            raise InputError(msg)
        return pd.DataFrame.from_records(X)
    return pd.DataFrame({str(name): X[name].to_list() for name in X.columns})


def _is_array(X: object) -> bool:
    is_list_like = isinstance(X, (pd.Series, pd.Index)) or hasattr(X, "to_list")
    return hasattr(X, "__array__") and not is_list_like


def _as_array(X: Any) -> npt.NDArray[Any]:
    """Return an array of numpy; what other libraries refuse is told as ours."""
    try:
        array = np.asarray(X)
    except (TypeError, ValueError, RuntimeError, NotImplementedError) as error:
        kind = f"{type(X).__module__}.{type(X).__name__}"
        msg = (
            f"X is a {kind} that cannot become a numpy array: {error}; bring it to "
            "the CPU, detached and dense, as uint8 or float32"
        )
        raise InputTypeError(msg) from error
    if np.ma.is_masked(X):
        msg = "X is a masked array with masked values; fill them with N: code 4, zeros"
        raise InputError(msg)
    if array.ndim == 0:
        msg = f"X is an array of a single value, {array}; wrap it in a list"
        raise InputTypeError(msg)
    return array


def _codes_of_array(array: npt.NDArray[Any]) -> Codes:
    _refuse_empty(len(array))
    if array.ndim == 3:
        return codes_from_one_hot(array)
    if array.ndim == 2:
        return check_codes(array)
    msg = (
        f"X is an array of shape {array.shape}; expected letter codes (n, length) or "
        "one-hot (n, length, 4)"
    )
    raise InputError(msg)


def _resolve_strings(
    X: Any, sequence_length: int, resize: str, ambiguous: str
) -> Samples:
    if not isinstance(X, (list, tuple, pd.Series, pd.Index, np.ndarray)) and not (
        hasattr(X, "to_list") and hasattr(X, "dtype")
    ):
        msg = (
            f"X is of type {type(X).__name__}; expected a DataFrame of regions, an "
            "AnnData, a list of region strings or DNA strings, or an array of letter "
            "codes or one-hot"
        )
        raise InputTypeError(msg)
    is_pandas = isinstance(X, (pd.Series, pd.Index))
    items = list(X)
    _check_strings(items)
    n_regions = sum(":" in item for item in items)
    if n_regions == len(items):
        table = region_table(X if is_pandas else items)
        return Samples(table.index, regions=table)
    if n_regions:
        odd = next(i for i, item in enumerate(items) if ":" not in item)
        msg = (
            f"X mixes regions and sequences: {n_regions} of {len(items)} items have a "
            f"':', item {odd} ({items[odd][:20]!r}) has none; pass one kind"
        )
        raise InputError(msg)
    _check_dna_lengths(items, sequence_length, resize)
    index = X.index if isinstance(X, pd.Series) else pd.RangeIndex(len(items))
    return _sequences(
        items,
        index,
        lambda item, label: encode(item, ambiguous=ambiguous, label=label),
        sequence_length,
        resize,
    )


def _refuse_empty(n_rows: int) -> None:
    if not n_rows:
        msg = "X has 0 rows: there are 0 windows to embed; pass at least one"
        raise InputError(msg)


def _check_strings(items: Sequence[object]) -> None:
    _refuse_empty(len(items))
    wrong = [i for i, item in enumerate(items) if not isinstance(item, str)]
    if wrong:
        kinds = [f"item {i} is {type(items[i]).__name__}" for i in wrong]
        msg = (
            f"X must hold strings only: {first_few(kinds)}; decode bytes and drop or "
            "fill missing values first"
        )
        raise InputTypeError(msg)


def _check_dna_lengths(items: list[str], sequence_length: int, resize: str) -> None:
    short = [i for i, item in enumerate(items) if len(item) < SHORTEST_DNA]
    if short:
        shown = [f"item {i} ({items[i][:20]!r})" for i in short]
        msg = (
            f"DNA of fewer than {SHORTEST_DNA} letters: {first_few(shown)}; regions "
            "are written 'chr1:1000-2000', genes are read with read_genes(path)"
        )
        raise InputError(msg)
    lengths = Counter(len(item) for item in items)
    if resize == "error" and set(lengths) != {sequence_length}:
        shown = [f"{n} of {length:,} bp" for length, n in lengths.most_common()]
        msg = (
            f"sequences must have {sequence_length:,} bp, the window's length; there "
            f"are {first_few(shown)}; use resize='pad' or 'crop', or another "
            "sequence_length"
        )
        raise InputError(msg)


def _sequences(
    items: list[Any],
    index: pd.Index,
    to_codes: Callable[[Any, str], Codes],
    sequence_length: int,
    resize: str,
) -> Samples:
    """Encode and resize each item; note what is wrong with which."""
    reasons = np.full(len(items), "", dtype=object)
    sequences = []
    for row, (item, label) in enumerate(zip(items, index, strict=True)):
        name = f"sequence {label}"
        try:
            codes = to_codes(item, name)
            codes = resize_codes(codes, sequence_length, resize=resize, label=name)
        except InputError as error:
            reasons[row] = str(error)
            codes = np.zeros(0, dtype=np.uint8)
        sequences.append(codes)
    return Samples(index, sequences=sequences, reasons=reasons)
