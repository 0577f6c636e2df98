"""Pooled features of windows: what is new is computed, once, and the rest reused."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import n_fraction
from enformer_features.inference.devices import resolve_batch_size
from enformer_features.inference.engine import Engine, Work
from enformer_features.inference.layout import Layout
from enformer_features.inference.pooling import Integers
from enformer_features.inference.precision import Precision
from enformer_features.inference.prepared import prepared_once
from enformer_features.inference.reads import View
from enformer_features.inference.recipe import PreparedForward, Recipe
from enformer_features.model.registry import LoadedModel

Floats = npt.NDArray[np.float32]
KEY_SCHEMA = "enformer_features row 1"

# Seconds per sequence of the last run in this process, for plans.
_SECONDS: dict[tuple[str, str, str], float] = {}


class RowCache(Protocol):
    """Keeps rows by key."""

    def get(self, key: str) -> Floats | None:
        """Return a row, or None."""
        ...

    def put(
        self, key: str, row: Floats, about: Mapping[str, Any] | None = None
    ) -> None:
        """Keep a row, and what people may want to know about it."""
        ...

    def refresh(self) -> None:
        """Look for rows that others have kept."""
        ...

    def flush(self) -> None:
        """Make sure that the rows that were put are kept."""
        ...


@dataclass(frozen=True)
class Backend:
    """Where and how the network runs.

    Parameters
    ----------
    device : torch.device
    precision : Precision
    batch_size : int or "auto"
    on_error : {"raise", "nan"}
    verbose : bool or None
    """

    device: torch.device
    precision: Precision
    batch_size: int | Literal["auto"] = "auto"
    on_error: Literal["raise", "nan"] = "raise"
    verbose: bool | None = None


@dataclass(frozen=True)
class Scan:
    """What the sequences of a layout are, read once before any weights.

    Parameters
    ----------
    layout : Layout
        With reasons for rows that could not be read.
    digests : dict of int to bytes
        sha256 of the sequences of each row that was read, as they are read.
    n_fraction : ndarray of float64, shape (n_rows,)
        Fraction of N in the first view; NaN for bad rows.
    """

    layout: Layout
    digests: dict[int, bytes]
    n_fraction: npt.NDArray[np.float64]


@dataclass(frozen=True)
class Features:
    """Computed rows.

    Parameters
    ----------
    values : ndarray of float32, shape (n_rows, n_features)
        C-contiguous; NaN where there is a reason.
    reasons : ndarray of str, shape (n_rows,)
        Why a row is NaN, or "".
    n_computed : int
        Rows for which the network ran.
    batch_size : int
        Sequences per forward, after any halving; 0 when nothing ran.
    """

    values: Floats
    reasons: npt.NDArray[np.object_]
    n_computed: int
    batch_size: int


def scan(layout: Layout, *, raising: bool = True) -> Scan:
    """Read every window once: what cannot be read is found before any weights.

    Parameters
    ----------
    layout : Layout
    raising : bool, default=True
        Raise one error about all windows that cannot be read; otherwise they get a
        reason.
    """
    digests: dict[int, bytes] = {}
    unreadable: dict[int, str] = {}
    fractions = np.full(len(layout), np.nan)
    for row in map(int, layout.good_rows):
        try:
            views = layout.reads.views(row)
        except InputError as error:
            unreadable[row] = str(error)
            continue
        digests[row] = _digest(views)
        fractions[row] = n_fraction(views[0].codes)
    return Scan(layout.with_reasons(unreadable, raising=raising), digests, fractions)


def _digest(views: Sequence[View]) -> bytes:
    digest = hashlib.sha256()
    for view in views:
        digest.update(b"-" if view.flip else b"+")
        digest.update(view.codes.tobytes())
    return digest.digest()


def row_keys(
    scanned: Scan,
    recipe: Recipe,
    bins: Sequence[Integers],
    *,
    weights_digest: str,
    precision: Precision,
) -> dict[int, str]:
    """Return a key per good row: equal keys, equal values.

    The key covers the sequences as they are read, the weights, the recipe, the bins
    that are pooled, the precision, and whether towers may be shared (which decides the
    last bits); never a path, a coordinate or a batch size.
    """
    shared = "shared" if scanned.layout.reads.shares else "alone"
    parts = (KEY_SCHEMA, weights_digest, recipe.identity, precision.name, shared)
    base = hashlib.sha256("\0".join(parts).encode())
    keys = {}
    for row in map(int, scanned.layout.good_rows):
        digest = base.copy()
        digest.update(scanned.digests[row])
        for of_pool in bins:
            digest.update(of_pool[row].tobytes())
        keys[row] = digest.hexdigest()
    return keys


def compute(
    scanned: Scan,
    recipe: Recipe,
    bins: Sequence[Integers],
    keys: dict[int, str],
    backend: Backend,
    load: Callable[[], LoadedModel],
    cache: RowCache | None,
) -> Features:
    """Fetch rows from the cache and compute the others, each different one once.

    Parameters
    ----------
    scanned : Scan
    recipe : Recipe
    bins : sequence of ndarray of int64, each of shape (n_rows, 2) or (n_rows, 3)
        Kept bins per pool.
    keys : dict of int to str
        From :func:`row_keys`.
    backend : Backend
    load : callable
        Loads the network; called only when something must be computed.
    cache : RowCache or None

    Returns
    -------
    Features
        Row *i* is row *i* of the layout.
    """
    n_rows = len(scanned.layout)
    values = np.full((n_rows, recipe.n_features), np.nan, dtype=np.float32)
    reasons = scanned.layout.table["reason"].to_numpy(dtype=object, copy=True)
    same = _rows_by_key(keys)
    missing = _fill_known(values, same, cache)
    if not missing:
        return Features(values, reasons, 0, 0)
    reads = scanned.layout.reads
    span = recipe.span(bins, flips=reads.flips)
    engine = _engine(recipe, backend, load(), span)
    wanted = [same[key][0] for key in missing]
    reads.plan(wanted)
    wanted = reads.order(wanted)
    shifted_bins = [of_pool.copy() for of_pool in bins]
    for of_pool in shifted_bins:
        of_pool[:, :2] -= span[0]
    work = Work(reads, wanted, scanned.layout.labels, recipe.pools, shifted_bins)
    began = time.perf_counter()
    about = {"device": backend.device.type, "precision": backend.precision.name}
    try:
        for row, vector in engine.run(work):
            rows = same[keys[row]]
            if row in engine.failures:
                reasons[rows] = engine.failures[row]
                continue
            values[rows] = vector
            if cache is not None:
                cache.put(keys[row], vector, about)
    finally:  # what is done is kept, also when the rest is interrupted
        if cache is not None:
            cache.flush()
    _remember_speed(recipe, backend, began, len(wanted) * reads.n_views)
    return Features(values, reasons, len(wanted), engine.batch_size)


def _rows_by_key(keys: dict[int, str]) -> dict[str, list[int]]:
    same: dict[str, list[int]] = {}
    for row, key in keys.items():
        same.setdefault(key, []).append(row)
    return same


def _fill_known(
    values: Floats, same: dict[str, list[int]], cache: RowCache | None
) -> list[str]:
    """Put the rows that are known into place; return the keys that are not."""
    missing = []
    if cache is not None:
        cache.refresh()
    for key, rows in same.items():
        vector = None if cache is None else cache.get(key)
        if vector is None:
            missing.append(key)
        else:
            values[rows] = vector
    return missing


def _engine(
    recipe: Recipe, backend: Backend, loaded: LoadedModel, span: tuple[int, int]
) -> Engine:
    prepared = prepared_once(loaded.module, backend.precision)
    return Engine(
        forward=PreparedForward(recipe, prepared, span),
        device=backend.device,
        batch_size=resolve_batch_size(
            backend.batch_size,
            backend.device,
            recipe.config,
            recipe.geometry.sequence_length,
        ),
        precision=backend.precision,
        on_error=backend.on_error,
        verbose=backend.verbose,
    )


def _speed_key(recipe: Recipe, backend: Backend) -> tuple[str, str, str]:
    size = f"{recipe.config.to_json()} {recipe.geometry.sequence_length}"
    return size, str(backend.device), backend.precision.name


def _remember_speed(
    recipe: Recipe, backend: Backend, began: float, n_sequences: int
) -> None:
    seconds = (time.perf_counter() - began) / n_sequences
    _SECONDS[_speed_key(recipe, backend)] = seconds


def seconds_per_sequence(recipe: Recipe, backend: Backend) -> float | None:
    """Return how long a forward took when it last ran in this process, if it did."""
    return _SECONDS.get(_speed_key(recipe, backend))
