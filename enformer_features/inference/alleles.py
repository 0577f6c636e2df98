"""Bins of a reference window, and what alternative sequences change in them.

The loop that runs a network over alleles. Each view of a window (its directions and
shifts) is a :class:`~enformer_features.inference.reuse.ReferenceWindow`, whose copies
need little more than the transformer; views are averaged bin by bin before anyone
scores them, as :mod:`~enformer_features.inference.engine` does for windows alone.
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from enformer_features.exceptions import DeviceMemoryError
from enformer_features.inference.devices import memory_report
from enformer_features.inference.difference import softplus_difference
from enformer_features.inference.engine import is_out_of_memory
from enformer_features.inference.precision import arithmetic
from enformer_features.inference.prepared import Prepared
from enformer_features.inference.reads import Codes, View
from enformer_features.inference.recipe import Recipe
from enformer_features.inference.reuse import ReferenceWindow

KEPT_WINDOWS = 12  # views of one window: 20 MB each at published size
KEPT_WITH_STATES = 2  # with the activations of a difference pass: 800 MB each
CHUNK_BYTES = 256 * 2**20  # of differences that are held at once


@dataclass(frozen=True)
class Copy:
    """One way to read an alternative allele, in one view of its window.

    Parameters
    ----------
    codes : ndarray of uint8, shape (length,)
        The alternative sequence, cut to the window's length.
    weights : ndarray of float32, shape (n_bins,), or None
        How much each kept bin counts, in the direction that is read; None is 1. Copies
        of an allele, whose bins lie in other places, have weights that add up to 1.
    """

    codes: Codes
    weights: npt.NDArray[np.float32] | None = None


class AlleleReads(Protocol):
    """Windows and their alternative alleles, whatever they come from."""

    @property
    def n_views(self) -> int:
        """Sequences that are read for a window."""
        ...

    def reference(self, window: int) -> list[View]:
        """Return the ``n_views`` views of a window."""
        ...

    def alternatives(self, row: int, view: int) -> list[Copy]:
        """Return the copies of an allele that are joined, in one view."""
        ...


@dataclass(frozen=True)
class _Reference:
    """A view of a window; ``x`` is its embedding, or the logits of its tracks."""

    window: ReferenceWindow
    x: Tensor  # (1, bins, features)


@dataclass
class AlleleForward:
    """Compute references and differences for what a recipe asks for.

    Parameters
    ----------
    recipe : Recipe
        Output "embedding" or "tracks".
    prepared : Prepared
    span : (int, int)
        Kept bins that are wanted, half-open; its own mirror image where views are
        turned around.
    batch_size : int, default=1
        Alleles per pass of the transformer; halved when memory runs out.
    low : Prepared, optional
        Carries differences in low precision.

    Examples
    --------
    See :class:`~enformer_features.VariantEffect`.
    """

    recipe: Recipe
    prepared: Prepared
    span: tuple[int, int]
    batch_size: int = 1
    low: Prepared | None = None
    _kept: OrderedDict[tuple[int, int], _Reference] = field(
        default_factory=OrderedDict, repr=False
    )

    @property
    def chunk_rows(self) -> int:
        """Alleles whose differences are held at once."""
        n_bins = self.span[1] - self.span[0]
        item = 4 if self.prepared.precision.results == torch.float32 else 8
        row_bytes = n_bins * self.recipe.n_bin_features * item
        return max(1, CHUNK_BYTES // row_bytes)

    @torch.inference_mode()
    def run(
        self, reads: AlleleReads, window: int, rows: Sequence[int]
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield each allele of a window with its reference and its difference.

        Parameters
        ----------
        reads : AlleleReads
        window : int
        rows : sequence of int
            Alleles that have this window.

        Yields
        ------
        row : int
        reference, difference : Tensor, shape (bins, features)
            Bins of the span. The reference is the same for all alleles.
        """
        views = reads.reference(window)
        references: list[Tensor] = []
        for start in range(0, len(rows), self.chunk_rows):
            chunk = rows[start : start + self.chunk_rows]
            sums: list[Tensor | None] = [None] * len(chunk)
            for v, view in enumerate(views):
                kept = self._reference(window, v, view)
                if start == 0:
                    references.append(self._bins_of(kept, view))
                differences = self._of_view(kept, reads, chunk, v, view)
                for i, difference in enumerate(differences):
                    before = sums[i]
                    sums[i] = difference if before is None else before + difference
            reference = _mean(references)
            for row, total in zip(chunk, sums, strict=True):
                assert total is not None
                yield row, reference, total / len(views) if len(views) > 1 else total

    @property
    def _bins(self) -> tuple[int, int]:
        """The span among all bins of a window."""
        crop = self.recipe.geometry.crop_bins
        return self.span[0] + crop, self.span[1] + crop

    def _reference(self, window: int, v: int, view: View) -> _Reference:
        """Return a view of a reference, one of the last few that were used."""
        kept = self._kept.pop((window, v), None) or self._read(view)
        self._kept[window, v] = kept
        most = KEPT_WINDOWS if self.low is None else KEPT_WITH_STATES
        while len(self._kept) > most:
            self._kept.popitem(last=False)
        return kept

    def _read(self, view: View) -> _Reference:
        with arithmetic(self.prepared.precision):
            window = ReferenceWindow(self.prepared, view.codes, low=self.low)
            x = window.embedding(self._bins)
            if self._head is not None:
                x = self.prepared.product(x, self._head[0]).add_(self._head[1])
        return _Reference(window, x)

    @functools.cached_property
    def _head(self) -> tuple[Tensor, Tensor] | None:
        """Weight and bias of the tracks that are asked for."""
        tracks = self.recipe.tracks
        if tracks is None:
            return None
        return self.prepared.head(self.recipe.organism, tracks.indices)

    def _bins_of(self, reference: _Reference, view: View) -> Tensor:
        """Return what the recipe asks for of a view of a reference."""
        x = reference.x[0]
        bins = x if self._head is None else F.softplus(x)
        return bins.flip(0) if view.flip else bins

    def _of_view(
        self,
        reference: _Reference,
        reads: AlleleReads,
        rows: Sequence[int],
        v: int,
        view: View,
    ) -> Iterator[Tensor]:
        """Yield the difference of each allele in one view, copies joined."""
        copies = [reads.alternatives(row, v) for row in rows]
        flat = [copy for of_row in copies for copy in of_row]
        differences = self._differences(reference, flat)
        for of_row in copies:
            total = None
            for copy in of_row:
                change = next(differences)
                if copy.weights is not None:
                    weights = change.new_tensor(copy.weights[slice(*self.span)])
                    change = change * weights[:, None]
                total = change if total is None else total + change
            assert total is not None
            yield total.flip(0) if view.flip else total

    def _differences(
        self, reference: _Reference, copies: Sequence[Copy]
    ) -> Iterator[Tensor]:
        done = 0
        while done < len(copies):
            batch = [copy.codes for copy in copies[done : done + self.batch_size]]
            changes = self._try(reference, batch)
            if changes is None:
                self._halve()
                continue
            done += len(batch)
            yield from changes

    def _try(self, reference: _Reference, batch: list[Codes]) -> Tensor | None:
        """Run one batch; None when the device ran out of memory."""
        try:
            with arithmetic(self.prepared.precision):
                effects = reference.window.effects(batch, self._bins, self.batch_size)
                effect = next(effects)
                if self._head is None:
                    return effect
                change = self.prepared.product(effect, self._head[0])
                return softplus_difference(reference.x, change)
        except Exception as error:
            if not is_out_of_memory(error):
                raise
        return None

    def _halve(self) -> None:
        device = self.prepared.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_size == 1:
            msg = (
                "there is too little memory for a single allele "
                f"({memory_report(device)}); use fewer bins, a shorter "
                "sequence_length, or a device with more memory"
            )
            raise DeviceMemoryError(msg)
        self.batch_size //= 2


def _mean(views: list[Tensor]) -> Tensor:
    total = views[0]
    for other in views[1:]:
        total = total + other
    return total / len(views) if len(views) > 1 else total
