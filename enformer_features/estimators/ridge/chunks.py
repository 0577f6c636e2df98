"""Rows of numbers a chunk at a time: arrays, memory maps, zarr, HDF5, iterables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.validation import check_array, validate_data

from enformer_features.exceptions import InputError

CHUNK_BYTES = 100e6  # of float64


class RowChunks:
    """Rows that are read a chunk at a time, as float64 and checked.

    Parameters
    ----------
    estimator : estimator
        Learns or compares the number and names of the features.
    X : array-like, stored array or iterable of arrays, (n_rows, n_features) in all
        A stored array, of zarr or h5py, has ``chunks`` and is read by slices.
    reset : bool
        Whether the estimator learns ``n_features_in_``.

    Attributes
    ----------
    n_rows : int or None
        None for an iterable, which does not tell.
    n_features : int
    is_read_once : bool
        Whether it is an iterator, which cannot begin again.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> pieces = iter([np.ones((2, 3)), np.ones((1, 3))])
    >>> chunks = RowChunks(Ridge(), pieces, reset=True)
    >>> chunks.n_features, [chunk.shape for chunk in chunks]
    (3, [(2, 3), (1, 3)])
    """

    def __init__(self, estimator: BaseEstimator, X: Any, *, reset: bool) -> None:
        self.is_read_once = isinstance(X, Iterator)
        self.n_rows: int | None = None
        self._is_chunked = _is_chunked(X)
        if self._is_chunked:
            first, X = _peek(X)
            validate_data(estimator, first, reset=reset, dtype=np.float64)
        elif _is_stored(X):
            self.n_rows = X.shape[0]
            validate_data(estimator, X[:1], reset=reset, dtype=np.float64)
        else:
            kinds = [np.float64, np.float32]
            X = validate_data(estimator, X, reset=reset, dtype=kinds)
            self.n_rows = len(X)
        self.n_features = int(estimator.n_features_in_)
        self._rows = X

    def __iter__(self) -> Iterator[npt.NDArray[np.float64]]:
        for chunk in self._rows if self._is_chunked else self._slices():
            rows = check_array(chunk, dtype=np.float64, input_name="X")
            if rows.shape[1] != self.n_features:
                msg = (
                    f"a chunk of X has {rows.shape[1]} features, the first one "
                    f"{self.n_features}; they must be pieces of one table"
                )
                raise InputError(msg)
            yield rows

    def _slices(self) -> Iterator[Any]:
        assert self.n_rows is not None
        size = max(1, int(CHUNK_BYTES / (8 * self.n_features)))
        for start in range(0, self.n_rows, size):
            yield self._rows[start : start + size]


def _is_stored(X: Any) -> bool:
    """Tell whether it is an array of zarr, h5py or dask."""
    return hasattr(X, "chunks") and len(getattr(X, "shape", ())) == 2


def _is_chunked(X: Any) -> bool:
    """Tell whether it yields two-dimensional arrays."""
    if isinstance(X, (list, tuple)):
        return bool(X) and getattr(X[0], "ndim", 0) == 2
    return isinstance(X, Iterable) and not hasattr(X, "__len__")


def _peek(X: Iterable[Any]) -> tuple[Any, Iterable[Any]]:
    """Return the first chunk, and all of them."""
    iterator = iter(X)
    try:
        first = next(iterator)
    except StopIteration:
        msg = "X is an iterable without any chunk of rows"
        raise InputError(msg) from None
    return first, chain([first], iterator) if iterator is X else X
