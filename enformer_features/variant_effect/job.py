"""Variants that are checked and placed, and all that scoring them needs."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.fitted import Head
from enformer_features.exceptions import InferenceError, WeightsError
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.variants import count_variants
from enformer_features.inference.alleles import AlleleForward
from enformer_features.inference.devices import resolve_batch_size
from enformer_features.inference.features import Backend
from enformer_features.inference.pooling import Integers, Pool
from enformer_features.inference.precision import POLICIES
from enformer_features.inference.prepared import prepared_once
from enformer_features.inference.recipe import Recipe
from enformer_features.model.registry import load_weights, weights_digest
from enformer_features.variant_effect.placement import VariantReads
from enformer_features.variant_effect.scores import score_bins

Floats = npt.NDArray[np.float32]
Reasons = npt.NDArray[np.object_]
SCHEMA = "enformer_features variant scores 1"
DIFFERENCE_PASSES = {
    "float32": POLICIES["float32-exact"],
    "bfloat16": POLICIES["bfloat16"],
}
PREDICTED_ROWS = 256  # pooled features of so many rows are held for a head


@dataclass(frozen=True)
class VariantPlan:
    """What scoring would cost; see :meth:`VariantJob.plan`.

    Parameters
    ----------
    n_rows : int
    n_scored : int
        Rows that will get a score.
    n_windows : int
        Different reference windows.
    n_full_passes : int
        Sequences that the whole network reads: references, and indels.
    n_short_passes : int
        Substitutions, which need the transformer and a narrow stretch of the tower.
    n_scores : int
        Numbers per row.
    output_bytes : int
    """

    n_rows: int
    n_scored: int
    n_windows: int
    n_full_passes: int
    n_short_passes: int
    n_scores: int
    output_bytes: int


@dataclass(frozen=True)
class VariantJob:
    """Variants that can be scored; made by :meth:`VariantEffect.job`.

    Parameters
    ----------
    table : DataFrame
        The prepared variant table, every row in its order, with ``window_start``,
        ``window_end``, ``read_strand``, ``bin`` (kept bin of the variant's first base,
        -1 = none) and ``reason``.
    rows : ndarray of int64
        Rows that can be scored; ``reads``, ``numbers`` and ``bins`` are of these.
    reads : VariantReads
    numbers : ndarray of int64
        Reference window of each.
    bins : list of ndarray of int64
        Kept bins per pool.
    recipe : Recipe
    head : Head or None
    scores : tuple of str
        With companions.
    targets : list of str
    aggregate : {"mean", "sum"}
    difference_pass : str or None
    embedder : EnformerEmbedder
    backend : Backend
    settings : dict
        Parameters of the transformer, for the record.
    genome : Genome
    """

    table: pd.DataFrame
    rows: Integers
    reads: VariantReads
    numbers: Integers
    bins: list[Integers]
    recipe: Recipe
    head: Head | None
    scores: tuple[str, ...]
    targets: list[str]
    aggregate: str
    difference_pass: str | None
    embedder: EnformerEmbedder
    backend: Backend
    settings: dict[str, Any]
    genome: Genome

    def __len__(self) -> int:
        """Return the number of rows, scored or not."""
        return len(self.table)

    @property
    def names(self) -> list[str]:
        """Columns: the targets, or ``score__target`` when there are several scores."""
        if len(self.scores) == 1:
            return list(self.targets)
        return [
            f"{score}__{target}" for score in self.scores for target in self.targets
        ]

    @property
    def counts(self) -> dict[str, int]:
        """Rows by class: scored and skipped; they add up to all."""
        return count_variants(self.table)

    def plan(self) -> VariantPlan:
        """Return what scoring would cost; runs nothing."""
        is_indel = (self.table["kind"].iloc[self.rows] == "indel").to_numpy()
        n_windows, n_views = len(np.unique(self.numbers)), self.reads.n_views
        n_copies = self.reads.n_copies_of_indels
        n_full = n_windows + n_copies * int(is_indel.sum())
        return VariantPlan(
            n_rows=len(self),
            n_scored=len(self.rows),
            n_windows=n_windows,
            n_full_passes=n_full * n_views,
            n_short_passes=int((~is_indel).sum()) * n_views,
            n_scores=len(self.names),
            output_bytes=len(self) * len(self.names) * 4,
        )

    def order(self) -> Integers:
        """Return all rows in the order in which they share most; others come last."""
        by_window = np.argsort(self.numbers, kind="stable")
        scored = self.rows[by_window]
        others = np.setdiff1d(np.arange(len(self)), scored)
        return np.concatenate([scored, others]).astype(np.int64)

    def compute(self, rows: Sequence[int] | Integers) -> tuple[Floats, Reasons]:
        """Score some rows; a row's score does not depend on the others.

        Parameters
        ----------
        rows : sequence of int
            Of the table.

        Returns
        -------
        values : ndarray of float32, shape (len(rows), len(names))
            NaN where there is a reason.
        reasons : ndarray of str, shape (len(rows),)

        Raises
        ------
        InferenceError
            When a score is not finite, unless ``on_error="nan"``.
        """
        asked = np.asarray(rows, dtype=np.int64)
        values = np.full((len(asked), len(self.names)), np.nan, dtype=np.float32)
        reasons = self.table["reason"].to_numpy(object)[asked]
        member_of = np.full(len(self), -1, dtype=np.int64)
        member_of[self.rows] = self.firsts[self.same]
        members = member_of[asked]
        good = np.flatnonzero(members >= 0)
        if len(good):
            places: dict[int, list[int]] = {}
            for place in good.tolist():
                places.setdefault(int(members[place]), []).append(place)
            for member, scores in self._scores(list(places)):
                values[places[member]] = scores
            self._check(values, reasons, asked, good)
        return values, reasons

    @functools.cached_property
    def same(self) -> Integers:
        """Number of each member's allele in its window; equal for equal rows."""
        alleles = self.table.iloc[self.rows][["start", "norm_ref", "norm_alt"]]
        groups = alleles.assign(window=self.numbers).groupby(
            ["window", "start", "norm_ref", "norm_alt"], sort=False
        )
        return np.asarray(groups.ngroup(), dtype=np.int64)

    @functools.cached_property
    def firsts(self) -> Integers:
        """First member that has each number of :attr:`same`."""
        return np.unique(self.same, return_index=True)[1].astype(np.int64)

    def _check(
        self, values: Floats, reasons: Reasons, rows: Integers, good: Integers
    ) -> None:
        bad = good[~np.isfinite(values[good]).all(axis=1)]
        if not len(bad):
            return
        reason = "not finite: the network or the head returned no number"
        if self.backend.on_error == "raise":
            label = self.table.index[rows[bad[0]]]
            msg = f"{len(bad)} rows, first row {label}: {reason}"
            raise InferenceError(msg)
        values[bad] = np.nan
        reasons[bad] = reason

    def _scores(self, members: list[int]) -> Iterator[tuple[int, Floats]]:
        """Yield the scores of members of ``rows``; a window is run once."""
        first = self.span[0]
        waiting: list[tuple[int, Any]] = []
        for member, ref, d in self.alleles(members):
            read = self._read(member, ref, d, first)
            if self.head is None:
                yield member, read
                continue
            waiting.append((member, read))
            if len(waiting) == PREDICTED_ROWS:
                yield from self._predict(waiting)
                waiting = []
        if waiting:
            yield from self._predict(waiting)

    @property
    def span(self) -> tuple[int, int]:
        """The kept bins that are computed, half-open."""
        return self.recipe.span(self.bins, flips=self.reads.flips)

    def alleles(
        self, members: Sequence[int] | Integers
    ) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the bins of some members of ``rows``, window by window.

        Yields
        ------
        member : int
        reference, difference : Tensor, shape (bins, features)
            Bins of the span; ``alt`` is their sum.
        """
        forward = self._forward()
        of_window: dict[int, list[int]] = {}
        for member in dict.fromkeys(map(int, members)):
            of_window.setdefault(int(self.numbers[member]), []).append(member)
        for window, of_this in of_window.items():
            yield from forward.run(self.reads, window, of_this)

    @property
    def shares(self) -> bool:
        """Whether windows are such as several variants have: by the settings alone."""
        return "tss" in self.table or bool(self.settings["variant_snap_bp"])

    def _forward(self) -> AlleleForward:
        digest = weights_digest(self.embedder.weights)
        loaded = load_weights(self.embedder.weights, str(self.backend.device))
        if loaded.digest != digest:
            msg = f"weights={self.embedder.weights!r} were exchanged; repeat the call"
            raise WeightsError(msg)
        module, backend = loaded.module, self.backend
        policy = DIFFERENCE_PASSES.get(self.difference_pass or "")
        batch_size = 1
        if self.shares:  # else a batch would be filled up with copies of one allele
            batch_size = resolve_batch_size(
                backend.batch_size,
                backend.device,
                self.recipe.config,
                self.recipe.geometry.sequence_length,
            )
        return AlleleForward(
            self.recipe,
            prepared_once(module, backend.precision),
            self.span,
            batch_size=batch_size,
            low=None if policy is None else prepared_once(module, policy),
        )

    def _read(self, member: int, ref: Tensor, d: Tensor, first: int) -> Any:
        """Return the scores of an allele; for a head the features of both alleles."""
        of_pools = [bins[member] for bins in self.bins]
        if self.head is None:
            low, high = of_pools[0].tolist()
            part = slice(low - first, high - first)
            found = score_bins(ref[part], d[part], self.scores, self.aggregate, low)
            return found.flatten().float().cpu().numpy()
        ref, d = ref.double(), d.double()
        shifted = [np.array([*bins[:2] - first, *bins[2:]]) for bins in of_pools]
        pools = list(zip(self.recipe.pools, shifted, strict=True))
        before = torch.cat([pool.read(ref, bins) for pool, bins in pools])
        after = torch.cat([_pool_alternative(*pool, ref, d) for pool in pools])
        return before.cpu().numpy(), after.cpu().numpy()

    def _predict(self, rows: list[tuple[int, Any]]) -> Iterator[tuple[int, Floats]]:
        """Compare the predictions of both alleles' features."""
        assert self.head is not None
        before = self.head.predict(np.stack([read[0] for _, read in rows]))
        after = self.head.predict(np.stack([read[1] for _, read in rows]))
        parts = {"SAD": after - before, "REF": before, "ALT": after}
        scores = np.concatenate([parts[score] for score in self.scores], axis=1)
        for (member, _), of_row in zip(rows, scores.astype(np.float32), strict=True):
            yield member, of_row

    def provenance(self) -> dict[str, Any]:
        """Return what the scores depend on, as plain types; identifies the weights."""
        head = None if self.head is None else " ".join(repr(self.head.steps).split())
        return {
            **self.embedder.provenance(),
            "precision": self.backend.precision.name,
            "precision_rms_error": self.backend.precision.rms_error,
            **self.settings,
            "head": head,
            "head_digest": None if self.head is None else self.head.digest,
            "counts": self.counts,
        }

    def identity(self) -> str:
        """Return a digest of all that decides a value, and of what rows are called.

        Rows, the letters of their windows, weights, head and settings.
        """
        digest = hashlib.sha256(SCHEMA.encode())
        digest.update(self.table.to_csv().encode())
        digest.update(self._letters())
        for bins in self.bins:
            digest.update(np.ascontiguousarray(bins).tobytes())
        decisive = {
            "weights": weights_digest(self.embedder.weights),
            "recipe": self.recipe.identity,
            "precision": self.backend.precision.name,
            "head": None if self.head is None else self.head.digest,
            "shifts": list(self.embedder.shifts),
            "scores": self.scores,
            **self.settings,
        }
        digest.update(json.dumps(decisive, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def _letters(self) -> bytes:
        """Return a digest of the letters that windows, and longer alleles, read."""
        scored = self.table.iloc[self.rows]
        lengths = [scored[name].str.len().max() for name in ("norm_ref", "norm_alt")]
        reach = int(max(lengths)) + max(abs(shift) for shift in self.embedder.shifts)
        spans = scored[["chrom", "window_start", "window_end"]].drop_duplicates()
        digest = hashlib.sha256(self.genome.digest.encode())
        for chrom, windows in spans.sort_values("window_start").groupby("chrom"):
            done = -1 << 62
            for start, end in zip(
                windows["window_start"], windows["window_end"], strict=True
            ):
                low, high = max(int(start) - reach, done), int(end) + reach
                if low < high:
                    digest.update(self.genome.fetch(str(chrom), low, high).tobytes())
                done = max(done, high)
        return digest.digest()


def _pool_alternative(pool: Pool, bins: Integers, ref: Tensor, d: Tensor) -> Tensor:
    """Pool the alternative's bins; by its difference where that is exact."""
    if pool.reduction == "max":
        return pool.read(ref + d, bins)
    return pool.read(ref, bins) + pool.read(d, bins)
