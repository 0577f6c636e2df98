"""The embedder's parameters: what they may be, and what follows from them."""

from __future__ import annotations

import os
from numbers import Real
from os import PathLike
from typing import Any, Literal, Protocol

import numpy as np

from enformer_features.exceptions import InputError, InputTypeError, check_choice
from enformer_features.genomics.encoding import AMBIGUOUS, RESIZE
from enformer_features.genomics.genome import CONTIG_STYLES, Genome
from enformer_features.genomics.windows import (
    CENTERS,
    EDGES,
    STRANDS,
    Center,
    Edge,
    Strand,
    check_sequence_length,
)
from enformer_features.inference.devices import check_batch_size, resolve_device
from enformer_features.inference.features import Backend
from enformer_features.inference.pooling import Pool, resolve_pools
from enformer_features.inference.precision import resolve_precision
from enformer_features.inference.recipe import Recipe, check_output_name, make_recipe
from enformer_features.inference.tracks import TrackSelection
from enformer_features.model.registry import (
    ModelHandle,
    check_weights_argument,
    weights_config,
)
from enformer_features.storage.cache import SHARED, MemoryCache
from enformer_features.storage.disk_cache import DiskCache, open_cache

ON_ERROR = ("raise", "nan")
Cache = bool | str | PathLike[str] | MemoryCache | DiskCache | None


class Parameters(Protocol):
    """What an :class:`~enformer_features.EnformerEmbedder` is made of; see there."""

    weights: str | PathLike[str] | ModelHandle
    genome: str | PathLike[str] | Genome | None
    output: str
    organism: str
    tracks: int | list[int] | tuple[int, ...] | str | TrackSelection | None
    pooling: str | Pool | tuple[str | Pool, ...]
    sequence_length: int | None
    center: Center
    strand: Strand
    edge: Edge
    shifts: tuple[int, ...]
    snap: bool
    resize: Literal["error", "pad", "crop"]
    ambiguous: Literal["error", "N"]
    contig_style: Literal["ucsc", "ensembl"] | None
    max_n_fraction: float
    on_error: Literal["raise", "nan"]
    device: str
    precision: str
    batch_size: int | Literal["auto"]
    cache: Cache
    verbose: bool | None


def check_parameters(given: Parameters) -> None:
    """Refuse parameters that cannot be, before any row is looked at.

    Raises
    ------
    InputError, InputTypeError, WeightsError
        The message names the parameter and what it may be.
    """
    check_weights_argument(given.weights)
    if given.sequence_length is not None:
        check_sequence_length(given.sequence_length)
    resolve_pools(given.pooling)
    check_output_name(given.output)
    check_choice("center", given.center, tuple(CENTERS))
    check_choice("strand", given.strand, STRANDS)
    check_choice("edge", given.edge, EDGES)
    check_choice("resize", given.resize, RESIZE)
    check_choice("ambiguous", given.ambiguous, AMBIGUOUS)
    if given.contig_style is not None:
        check_choice("contig_style", given.contig_style, CONTIG_STYLES)
    check_choice("on_error", given.on_error, ON_ERROR)
    check_batch_size(given.batch_size)
    _check_snap(given.snap)
    resolve_precision(given.precision, resolve_device(given.device))
    _check_shifts(given.shifts, window_length(given))
    _check_fraction(given.max_n_fraction)
    _check_cache(given.cache)
    cache = cache_of(given)
    if isinstance(cache, DiskCache):
        cache.check_place()


def window_length(given: Parameters) -> int:
    """Return the length of the window in bp."""
    if given.sequence_length is None:
        return weights_config(given.weights).sequence_length
    return int(given.sequence_length)


def recipe_of(given: Parameters) -> Recipe:
    """Return what is computed for a window; reads no weights."""
    return make_recipe(
        weights_config(given.weights),
        sequence_length=window_length(given),
        output=given.output,
        organism=given.organism,
        tracks=given.tracks,
        pools=resolve_pools(given.pooling),
    )


def backend_of(given: Parameters) -> Backend:
    """Return where and how the network runs."""
    device = resolve_device(given.device)
    return Backend(
        device=device,
        precision=resolve_precision(given.precision, device),
        batch_size=given.batch_size,
        on_error=given.on_error,
        verbose=given.verbose,
    )


def cache_of(given: Parameters) -> MemoryCache | DiskCache | None:
    """Return what keeps rows."""
    if given.cache is None or isinstance(given.cache, MemoryCache | DiskCache):
        return given.cache
    if given.cache == "memory":
        return SHARED
    return open_cache(None if given.cache is True else str(given.cache))


def _check_shifts(shifts: Any, sequence_length: int) -> None:
    is_tuple = isinstance(shifts, tuple | list) and len(shifts) > 0
    if not is_tuple or not all(
        isinstance(shift, int | np.integer)
        and not isinstance(shift, bool)
        and abs(int(shift)) <= sequence_length // 2
        for shift in shifts
    ):
        msg = (
            f"shifts={shifts!r} must be a tuple of whole numbers of bp, none beyond "
            "half the window; (0,) for none"
        )
        raise InputError(msg)


def _check_fraction(fraction: Any) -> None:
    is_number = isinstance(fraction, Real) and not isinstance(fraction, bool)
    if not is_number or not 0 <= fraction <= 1:
        msg = f"max_n_fraction={fraction!r} must be a number from 0 to 1"
        raise InputError(msg)


def _check_snap(snap: object) -> None:
    if not isinstance(snap, bool):
        msg = f"snap={snap!r} must be True or False"
        raise InputTypeError(msg)


def names_a_folder(text: str) -> bool:
    """Tell whether a text is plainly a path: a mistyped word must not become a folder.

    Examples
    --------
    >>> names_a_folder("rows"), names_a_folder("./rows"), names_a_folder("rows/")
    (False, True, True)
    """
    return text[:1] in (".", "~") or bool(os.path.split(text)[0])


def _check_cache(cache: object) -> None:
    if cache is None or cache is True or cache == "memory":
        return
    if isinstance(cache, PathLike | MemoryCache | DiskCache):
        return
    if isinstance(cache, str) and names_a_folder(cache):
        return
    msg = (
        f"cache={cache!r} must be 'memory', None, True, a folder (./{cache}), a "
        "MemoryCache or a DiskCache"
    )
    raise InputTypeError(msg)
