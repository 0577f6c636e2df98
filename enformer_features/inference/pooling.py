"""Pools: from the bins of a window to one vector, on the device."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    WindowWarning,
    check_choice,
    warn,
)
from enformer_features.genomics.windows import BIN_SIZE, Geometry
from enformer_features.inference.kernels import BIN_BP, DECAYS, Kernels

if TYPE_CHECKING:
    from torch import Tensor

Integers = npt.NDArray[np.int64]
Booleans = npt.NDArray[np.bool_]
REDUCTIONS = ("mean", "sum", "max", "flatten")
FEWEST_KERNEL_BINS = 10  # on either side of the TSS
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
        ``flatten`` puts the bins one behind the other. The text of :class:`Kernels`,
        which :func:`expecto_kernels` writes, makes weighted sums by side and distance.

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
    reduction: str = "mean"

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            msg = f"a pool's name must be a word, not {self.name!r}"
            raise InputTypeError(msg)
        if self.kernels is None:
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
        if self.bins == "region" and (self.reduction == "flatten" or self.kernels):
            msg = (
                f"pool {self.name!r} cannot flatten the region's bins, or weigh them "
                "by distance: their number differs between regions; use mean, sum or "
                "max"
            )
            raise InputError(msg)

    @property
    def kernels(self) -> Kernels | None:
        """The kernels of a pool that has a direction: that of the transcript."""
        is_text = isinstance(self.reduction, str)
        return Kernels.parse(self.reduction) if is_text else None

    def resolve(
        self,
        geometry: Geometry,
        n_rows: int,
        region_bins: Integers | None,
        backward: Booleans | None = None,
    ) -> Integers:
        """Return the kept bins that each row reads.

        Parameters
        ----------
        geometry : Geometry
        n_rows : int
        region_bins : ndarray of int64, shape (n_rows, 2), or None
            From :func:`~enformer_features.genomics.windows.region_bins`; None for
            sequences, which have no interval.
        backward : ndarray of bool, shape (n_rows,), optional
            Rows whose transcript runs against the direction that is read; None for
            sequences, which have no strand.

        Returns
        -------
        ndarray of int64, shape (n_rows, 2), or (n_rows, 3) for kernels
            First bin, one past the last and, for kernels, 1 where the bins are to be
            turned around.

        Raises
        ------
        InputError
            When the bins are not among the kept ones, there is no interval, or
            kernels do not have the TSS in their middle.

        Warns
        -----
        WindowWarning
            When kernels read fewer than 10 bins on either side of the TSS.
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
        bins = np.tile(np.array([[low, high]], dtype=np.int64), (n_rows, 1))
        if self.kernels is None:
            return bins
        self._check_middle(low, high, geometry)
        self._warn_if_few(high - low, self.kernels)
        turned = np.zeros(n_rows, np.int64) if backward is None else backward
        return np.column_stack([bins, turned]).astype(np.int64)

    def _warn_if_few(self, n_bins: int, kernels: Kernels) -> None:
        """Warn of bins so few that the kernels on a side are much the same sum."""
        if n_bins >= 2 * FEWEST_KERNEL_BINS:
            return
        weights = kernels.weights(n_bins)[: len(kernels.decays)]
        n_different = len(np.unique(weights, axis=0))
        message = (
            f"pool {self.name!r} reads {n_bins} bins; with fewer than "
            f"{FEWEST_KERNEL_BINS} on either side of the TSS its "
            f"{len(kernels.decays)} kernels a side are nearly the same sum "
            f"({n_different} different): use a longer window, or pooling='tss'"
        )
        warn(message, WindowWarning, stacklevel=6)

    def _check_middle(self, low: int, high: int, geometry: Geometry) -> None:
        if low + high != geometry.n_bins:
            reach = f"(-n, n{' + 1' if geometry.n_bins % 2 else ''})"
            msg = (
                f"bins={self.bins!r} of pool {self.name!r} must have the TSS in their "
                f"middle: 'all', 'center', or {reach}"
            )
            raise InputError(msg)
        if geometry.bin_size != BIN_SIZE:
            msg = (
                f"pool {self.name!r} measures distances in bins of {BIN_SIZE} bp; this "
                f"network has bins of {geometry.bin_size} bp"
            )
            raise InputError(msg)

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

    def read(self, bins: Tensor, of_row: Integers) -> Tensor:
        """Make one vector of the bins of a row.

        Parameters
        ----------
        bins : Tensor, shape (n_bins, n_features)
        of_row : ndarray of int64, shape (2,) or (3,)
            A row of :meth:`resolve`.

        Returns
        -------
        Tensor, shape (n_outputs,)
        """
        low, high, *turned = of_row.tolist()
        wanted = bins[low:high]
        return self.reduce(wanted.flip(0) if turned == [1] else wanted)

    def reduce(self, bins: Tensor) -> Tensor:  # (bins, features) -> (outputs,)
        """Make one vector of the bins that were read."""
        if self.kernels is not None:
            weights = self.kernels.weights(len(bins)).tolist()
            return (bins.new_tensor(weights) @ bins).flatten()
        if self.reduction == "mean":
            return bins.mean(dim=0)
        if self.reduction == "sum":
            return bins.sum(dim=0)
        if self.reduction == "max":
            return bins.amax(dim=0)
        return bins.flatten()

    def n_outputs(self, n_features: int, geometry: Geometry) -> int:
        """Return the length of the vector, given the features of one bin."""
        if self.kernels is not None:
            return len(self.kernels) * n_features
        if self.reduction != "flatten":
            return n_features
        low, high = self._fixed_bins(geometry)
        return (high - low) * n_features

    def feature_names(self, names: Sequence[str], geometry: Geometry) -> list[str]:
        """Name the outputs, given the names of the network's features."""
        if self.kernels is not None:
            return self.kernels.names(names)
        if self.reduction != "flatten":
            return list(names)
        low, high = self._fixed_bins(geometry)
        return [f"bin{b:03d}_{name}" for b in range(low, high) for name in names]


def expecto_kernels(
    name: str = "expecto",
    bins: str | tuple[int, int] = "all",
    *,
    bin_bp: int = BIN_BP,
    decays: Sequence[float] = DECAYS,
) -> Pool:
    """Make a pool of ExPecto's kernels: ten weighted sums of the bins per feature.

    Five exponential kernels upstream of the TSS, then the same five downstream, in
    transcript direction whatever ``strand`` is: with ``"average"`` and ``"ignore"`` the
    bins of minus-strand regions are turned around first. See :class:`Kernels` for the
    weights, and for what differs from ExPecto's.

    Parameters
    ----------
    name : str, default="expecto"
        Prefix of the features when there are several pools.
    bins : "all" or (int, int), default="all"
        Every kept bin, or a range with the TSS in its middle: ``(-156, 156)`` is the
        20 kb to either side that ExPecto reads.
    bin_bp : int, default=200
        Unit of distance in bp.
    decays : sequence of float, default=(0.01, 0.02, 0.05, 0.1, 0.2)
        Of each kernel, per unit.

    Returns
    -------
    Pool
        Its features are named ``up0.01_<feature>`` ... ``down0.2_<feature>``, kernel
        by kernel: ten times as many as one bin has, 30,720 for the embedding.

    Raises
    ------
    InputError
        When the bins, the unit or the decays cannot be used.

    Warns
    -----
    WindowWarning
        When used with fewer than 10 bins (1,280 bp) on either side of the TSS, where
        the kernels of a side are nearly the same sum; with four in all they are
        copies.

    References
    ----------
    Zhou et al. 2018, Nat. Genet. 50:1171.

    Examples
    --------
    >>> from enformer_features.genomics.windows import Geometry
    >>> expecto_kernels(decays=[0.01]).feature_names(["K562"], Geometry())
    ['up0.01_K562', 'down0.01_K562']
    """
    return Pool(name, bins, str(Kernels(bin_bp, tuple(decays))))


POOLS = {
    "tss": Pool("tss", "tss"),
    "center": Pool("center", "center"),
    "mean": Pool("mean", "all"),
    "max": Pool("max", "all", "max"),
    "flatten": Pool("flatten", "all", "flatten"),
    "region": Pool("region", "region"),
    "expecto": expecto_kernels(),
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


def pool_row(
    bins: Tensor,
    pools: Sequence[Pool],
    of_pools: Sequence[Integers],
    row: int,
    first: int = 0,
) -> Tensor:
    """Put the pools of one row side by side.

    Parameters
    ----------
    bins : Tensor, shape (n_bins, n_features)
        Kept bins from number ``first`` on.
    pools : sequence of Pool
    of_pools : sequence of ndarray of int64
        What :meth:`Pool.resolve` returns, for each.
    row : int
    first : int, default=0

    Returns
    -------
    Tensor, shape (n_outputs,)
    """
    import torch

    pooled = []
    for pool, of_pool in zip(pools, of_pools, strict=True):
        low, high, *turned = of_pool[row].tolist()
        here = np.array([low - first, high - first, *turned])
        pooled.append(pool.read(bins, here))
    return torch.cat(pooled)
