"""Pools: from the bins of a window to one vector, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import InputError, InputTypeError, check_choice
from enformer_features.genomics.windows import Geometry

if TYPE_CHECKING:
    from torch import Tensor

Integers = npt.NDArray[np.int64]
REDUCTIONS = ("mean", "sum", "max", "flatten")
BIN_WORDS = ("tss", "center", "all", "region")


@dataclass(frozen=True)
class Pool:
    """Which bins to read and how to make one vector of them.

    Parameters
    ----------
    name : str
        Prefix of the features when there are several pools.
    bins : {"tss", "center", "all", "region"} or (int, int), default="tss"
        The TSS bin and its two neighbours; the one or two bins in the middle; every
        kept bin; the bins that the region's own interval overlaps; or a half-open
        range relative to the TSS bin: ``(-1, 2)`` is ``"tss"``.
    reduction : {"mean", "sum", "max", "flatten"}, default="mean"
        ``flatten`` puts the bins one behind the other.

    Raises
    ------
    InputError, InputTypeError
        When the bins or the reduction are none of these, or the region's bins, whose
        number differs between regions, are to be flattened.

    Examples
    --------
    Sixteen bins upstream of the TSS, in transcript direction:

    >>> Pool("upstream", bins=(-16, 0))
    Pool(name='upstream', bins=(-16, 0), reduction='mean')
    """

    name: str
    bins: str | tuple[int, int] = "tss"
    reduction: Literal["mean", "sum", "max", "flatten"] = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            msg = f"a pool's name must be a word, not {self.name!r}"
            raise InputTypeError(msg)
        check_choice(f"reduction of pool {self.name!r}", self.reduction, REDUCTIONS)
        if isinstance(self.bins, str):
            check_choice(f"bins of pool {self.name!r}", self.bins, BIN_WORDS)
        elif not _is_range(self.bins):
            msg = (
                f"bins={self.bins!r} of pool {self.name!r} must be one of {BIN_WORDS} "
                "or two whole numbers (first, one past the last) relative to the TSS "
                "bin"
            )
            raise InputError(msg)
        if self.bins == "region" and self.reduction == "flatten":
            msg = (
                f"pool {self.name!r} cannot flatten the region's bins: their number "
                "differs between regions; use mean, sum or max"
            )
            raise InputError(msg)

    def resolve(
        self, geometry: Geometry, n_rows: int, region_bins: Integers | None
    ) -> Integers:
        """Return the kept bins that each row reads.

        Parameters
        ----------
        geometry : Geometry
        n_rows : int
        region_bins : ndarray of int64, shape (n_rows, 2), or None
            From :func:`~enformer_features.genomics.windows.region_bins`; None for
            sequences, which have no interval.

        Returns
        -------
        ndarray of int64, shape (n_rows, 2)
            First bin and one past the last.

        Raises
        ------
        InputError
            When the bins are not among the kept ones, or there is no interval.
        """
        if self.bins == "region":
            if region_bins is None:
                msg = (
                    f"pool {self.name!r} needs regions: sequences have no interval of "
                    "their own; use 'center' or 'mean'"
                )
                raise InputError(msg)
            return region_bins
        low, high = self._fixed_bins(geometry)
        if low < 0 or high > geometry.n_bins:
            msg = (
                f"pool {self.name!r} reads bins {low} to {high - 1}, but a window of "
                f"{geometry.sequence_length} bp keeps bins 0 to {geometry.n_bins - 1}; "
                "use a longer window or fewer bins"
            )
            raise InputError(msg)
        return np.tile(np.array([[low, high]], dtype=np.int64), (n_rows, 1))

    def _fixed_bins(self, geometry: Geometry) -> tuple[int, int]:
        if isinstance(self.bins, tuple):
            first, last = self.bins
            return geometry.center_bin + first, geometry.center_bin + last
        ranges = {
            "tss": geometry.tss_bins,
            "center": geometry.center_bins,
            "all": (0, geometry.n_bins),
        }
        return ranges[self.bins]

    def reduce(self, bins: Tensor) -> Tensor:  # (bins, features) -> (outputs,)
        """Make one vector of the bins that were read."""
        if self.reduction == "mean":
            return bins.mean(dim=0)
        if self.reduction == "sum":
            return bins.sum(dim=0)
        if self.reduction == "max":
            return bins.amax(dim=0)
        return bins.flatten()

    def n_outputs(self, n_features: int, geometry: Geometry) -> int:
        """Return the length of the vector, given the features of one bin."""
        if self.reduction != "flatten":
            return n_features
        low, high = self._fixed_bins(geometry)
        return (high - low) * n_features

    def feature_names(self, names: Sequence[str], geometry: Geometry) -> list[str]:
        """Name the outputs, given the names of the network's features."""
        if self.reduction != "flatten":
            return list(names)
        low, high = self._fixed_bins(geometry)
        return [f"bin{b:03d}_{name}" for b in range(low, high) for name in names]


POOLS = {
    "tss": Pool("tss", "tss"),
    "center": Pool("center", "center"),
    "mean": Pool("mean", "all"),
    "max": Pool("max", "all", "max"),
    "flatten": Pool("flatten", "all", "flatten"),
    "region": Pool("region", "region"),
}


def _is_range(bins: object) -> bool:
    return (
        isinstance(bins, tuple)
        and len(bins) == 2
        and all(isinstance(b, int) and not isinstance(b, bool) for b in bins)
        and bins[0] < bins[1]
    )


def resolve_pools(pooling: str | Pool | Sequence[str | Pool]) -> tuple[Pool, ...]:
    """Return the pools that a ``pooling`` parameter stands for.

    Raises
    ------
    InputError
        For an unknown name (the nearest is named), none, or two of the same name.

    Examples
    --------
    >>> [pool.name for pool in resolve_pools(("tss", "mean"))]
    ['tss', 'mean']
    """
    several = pooling if isinstance(pooling, tuple | list) else (pooling,)
    pools = tuple(_resolve_pool(pool) for pool in several)
    names = [pool.name for pool in pools]
    if not pools or len(set(names)) < len(names):
        msg = f"pooling={pooling!r} must name at least one pool, and none of them twice"
        raise InputError(msg)
    return pools


def _resolve_pool(pool: object) -> Pool:
    if isinstance(pool, Pool):
        return pool
    if not isinstance(pool, str):
        msg = (
            f"pooling={pool!r} must be one of {list(POOLS)}, a Pool, or a tuple of them"
        )
        raise InputTypeError(msg)
    check_choice("pooling", pool, tuple(POOLS))
    return POOLS[pool]


def pooled_names(
    pools: Sequence[Pool], names: Sequence[str], geometry: Geometry
) -> list[str]:
    """Name every output: plain for one pool, ``pool__name`` for several."""
    if len(pools) == 1:
        return pools[0].feature_names(names, geometry)
    return [
        f"{pool.name}__{name}"
        for pool in pools
        for name in pool.feature_names(names, geometry)
    ]
