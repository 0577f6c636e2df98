"""Exact recomputation: sequences that differ in a few bases, windows that overlap.

A base reaches a few rows of every level of the tower, and five or six bins in the end.
So an edited window needs a narrow stretch of the tower and the transformer, not the
whole network; and windows that overlap on one 128-bp grid share a tower but for three
bins at their own ends.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode, encode
from enformer_features.inference.difference import ReferenceStates, reference_states
from enformer_features.inference.prepared import HALO, STEM_HALO, Prepared

Codes = npt.NDArray[np.uint8]
LOCAL_RANGES = 8  # whose reference rows are kept: neighbouring variants share them
WIDEST_SHARE = 0.5  # of a window's bins, recomputed locally; else the whole tower
EDGE_BINS = 3  # of a window's tower, at each end, that depend on where the window ends
CHUNK_BINS = 1_536  # of a shared stretch, computed at once


@dataclass(frozen=True)
class Edit:
    """A substitution in a window, in the direction that is read.

    Parameters
    ----------
    position : int
        0-based index of the first base in the window.
    ref, alt : str
        What stands there and what shall; of equal length.
    """

    position: int
    ref: str
    alt: str

    @property
    def end(self) -> int:
        """One past the last base."""
        return self.position + len(self.ref)


def apply_edits(codes: Codes, edits: Sequence[Edit]) -> Codes:
    """Return an edited copy of a window.

    Raises
    ------
    InputError
        When an edit changes the length, leaves the window, does not find its
        reference, or overlaps another.

    Examples
    --------
    >>> decode(apply_edits(encode("ACGTACGT"), [Edit(2, "GT", "NA")]))
    'ACNAACGT'
    """
    if not edits:
        msg = "there are 0 edits; an edited window needs at least one"
        raise InputError(msg)
    ordered = sorted(edits, key=lambda edit: edit.position)
    for edit in ordered:
        _check_edit(edit, codes)
    for one, other in itertools.pairwise(ordered):
        if one.end > other.position:
            msg = f"{one} and {other} overlap; make one edit of them"
            raise InputError(msg)
    edited = codes.copy()
    for edit in ordered:
        edited[edit.position : edit.end] = encode(edit.alt, label=f"alt of {edit}")
    return edited


def _check_edit(edit: Edit, codes: Codes) -> None:
    if len(edit.ref) != len(edit.alt) or not edit.ref:
        msg = (
            f"{edit} changes the length of the window; only substitutions are "
            "recomputed locally"
        )
        raise InputError(msg)
    if edit.position < 0 or edit.end > len(codes):
        msg = f"{edit} is not within the window of {len(codes)} bp"
        raise InputError(msg)
    found = decode(codes[edit.position : edit.end])
    if found != edit.ref.upper():
        msg = f"{edit}: the window has {found!r} there, not {edit.ref!r}"
        raise InputError(msg)


def affected_bins(
    first: int, last: int, n_levels: int, sequence_length: int
) -> tuple[int, int]:
    """Return the bins of the tower that bases ``first .. last`` reach.

    Parameters
    ----------
    first, last : int
        0-based, both included.
    n_levels : int
        Levels of the tower, the stem's included: 7.
    sequence_length : int

    Returns
    -------
    low, high : int
        Half-open.

    Examples
    --------
    >>> affected_bins(98_304, 98_304, 7, 196_608)
    (765, 771)
    """
    low, high = _reached(np.array([first, last]), n_levels, sequence_length)
    return int(low[0]), int(high[1])


def _reached(
    positions: npt.NDArray[np.int64], n_levels: int, sequence_length: int
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the first bin that each position reaches, and one past the last."""
    first = last = positions
    halo, length = STEM_HALO, sequence_length
    for _ in range(n_levels):
        length //= 2
        first = np.maximum((first - halo) // 2, 0)
        last = np.minimum((last + halo) // 2, length - 1)
        halo = HALO
    return first, last + 1


def affected_ranges(
    positions: Sequence[int] | npt.NDArray[np.intp],
    n_levels: int,
    sequence_length: int,
) -> list[tuple[int, int]]:
    """Return the bins that any of the positions reaches, as separate ranges."""
    ordered = np.sort(np.asarray(positions, dtype=np.int64))
    if not len(ordered):
        return []
    low, high = _reached(ordered, n_levels, sequence_length)  # neither ever falls
    begins = np.flatnonzero(np.r_[True, low[1:] > high[:-1]])
    ends = np.r_[begins[1:], len(ordered)] - 1
    return list(zip(low[begins].tolist(), high[ends].tolist(), strict=True))


class ReferenceWindow:
    """A window whose tower is kept, for edited copies of it.

    Parameters
    ----------
    prepared : Prepared
        In float32: the tower's changes and the reference itself come from it.
    codes : ndarray of uint8, shape (length,)
    low : Prepared, optional
        Often of lower precision: ``alt - ref`` travels through its transformer, and
        nothing but the difference is rounded. Without it each allele takes
        ``prepared``'s.

    Examples
    --------
    >>> from enformer_features.inference.precision import POLICIES
    >>> from enformer_features.inference.prepared import prepare
    >>> from enformer_features.model import Enformer, EnformerConfig
    >>> tiny = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    >>> prepared = prepare(Enformer(tiny).eval(), POLICIES["float32"])
    >>> window = ReferenceWindow(prepared, encode("ACGT" * 512))
    >>> change = window.effect([[Edit(1000, "A", "C")]])
    >>> change.shape
    torch.Size([1, 16, 96])
    """

    def __init__(
        self, prepared: Prepared, codes: Codes, *, low: Prepared | None = None
    ) -> None:
        self.prepared = prepared
        self.codes = codes
        self._low = low
        with torch.inference_mode():
            self.tower = prepared.tower(self._letters(codes))
        self._local: dict[tuple[int, int], Tensor] = {}
        self._embeddings: dict[tuple[tuple[int, int], int], Tensor] = {}
        self._states: dict[tuple[int, int], ReferenceStates] = {}

    def _letters(self, codes: Codes) -> Tensor:
        return torch.from_numpy(codes[None]).to(self.prepared.device)

    def tower_difference(self, edited: Codes) -> tuple[Tensor, list[tuple[int, int]]]:
        """Return what an edited copy changes in the tower, and where.

        Both alleles take the same path and shapes, so rounding is never an effect.

        Parameters
        ----------
        edited : ndarray of uint8, shape (length,)

        Returns
        -------
        difference : Tensor, shape (1, n, C)
            Zero outside the affected bins.
        ranges : list of (int, int)
        """
        if len(edited) != len(self.codes):
            msg = (
                f"the edited copy has {len(edited)} bp, its window {len(self.codes)} "
                "bp; cut it, or fill it up"
            )
            raise InputError(msg)
        positions = np.flatnonzero(edited != self.codes)
        ranges = affected_ranges(positions, self.prepared.n_levels, len(self.codes))
        difference = torch.zeros_like(self.tower)
        letters = self._letters(edited)
        if self._is_wide(ranges):
            alt = self.prepared.tower(letters)
            for low, high in ranges:
                difference[:, low:high] = (alt - self.tower)[:, low:high]
            return difference, ranges
        for low, high in ranges:
            alt = self.prepared.tower_rows(letters, low, high)
            difference[:, low:high] = alt - self._local_reference(low, high)
        return difference, ranges

    def _local_reference(self, low: int, high: int) -> Tensor:
        """Return the reference's bins by the path that its edited copies take."""
        if (low, high) not in self._local:
            if len(self._local) >= LOCAL_RANGES:
                del self._local[next(iter(self._local))]
            letters = self._letters(self.codes)
            self._local[low, high] = self.prepared.tower_rows(letters, low, high)
        return self._local[low, high]

    @torch.inference_mode()
    def embedding(self, bins: tuple[int, int] | None = None) -> Tensor:
        """Return the reference's own embedding, (1, bins, 2 C); kept."""
        if self._low is not None:
            return self._states_of(self._low, self._wanted(bins)).embedding()
        return self._copies(self._wanted(bins), 1)

    def _states_of(self, low: Prepared, bins: tuple[int, int]) -> ReferenceStates:
        if bins not in self._states:
            self._states = {bins: reference_states(low, self.tower, bins)}
        return self._states[bins]

    def _copies(self, bins: tuple[int, int], n: int) -> Tensor:
        """Return the embedding of n copies of the reference, run as one batch.

        The size of a batch decides how products are rounded, so a batch of alleles is
        compared to a batch of its own size.
        """
        if (bins, n) not in self._embeddings:
            tower = self.tower.expand(n, -1, -1).contiguous()
            x = self.prepared.transform(tower, bins=bins)
            self._embeddings[bins, n] = self.prepared.embed(x)
        return self._embeddings[bins, n]

    @torch.inference_mode()
    def effect(
        self,
        alleles: Sequence[Sequence[Edit]],
        bins: tuple[int, int] | None = None,
        batch_size: int = 1,
    ) -> Tensor:
        """Return ``embedding(alt) - embedding(ref)`` for several edited copies.

        Parameters
        ----------
        alleles : sequence of sequence of Edit
            The edits of each copy.
        bins : (int, int), optional
            Bins of the whole window, not only the kept ones; all kept by default.
        batch_size : int, default=1
            Copies per pass of the transformer.

        Returns
        -------
        Tensor, shape (n_alleles, bins, 2 C), float32
        """
        edited = [apply_edits(self.codes, edits) for edits in alleles]
        return torch.cat(list(self.effects(edited, bins, batch_size)))

    @torch.inference_mode()
    def effects(
        self,
        edited: Iterable[Codes],
        bins: tuple[int, int] | None = None,
        batch_size: int = 1,
    ) -> Iterator[Tensor]:
        """Yield ``embedding(copy) - embedding(ref)`` for edited copies of the window.

        Where more than half of the bins are affected, as behind an insertion, the whole
        tower is run, and both alleles take ``prepared``'s transformer: a difference so
        large is no better than its terms. The last batch is filled up, so that a copy's
        effect does not depend on the others.

        Parameters
        ----------
        edited : iterable of ndarray of uint8, each of shape (length,)
        bins : (int, int), optional
            Bins of the whole window, not only the kept ones; all kept by default.
        batch_size : int, default=1
            Copies per pass of the transformer.

        Yields
        ------
        Tensor, shape (up to batch_size, bins, 2 C), in the type of results
        """
        copies = iter(edited)
        while batch := list(itertools.islice(copies, batch_size)):
            changes = [self.tower_difference(copy) for copy in batch]
            is_wide = [self._is_wide(ranges) for _, ranges in changes]
            found: dict[int, Tensor] = {}
            for wide in dict.fromkeys(is_wide):
                places = [i for i, w in enumerate(is_wide) if w == wide]
                alike = [changes[i][0] for i in places]
                alike += alike[-1:] * (batch_size - len(alike))
                low = None if wide else self._low
                effects = self._effect_of(torch.cat(alike), self._wanted(bins), low)
                found |= dict(zip(places, effects[: len(places)], strict=True))
            yield torch.stack([found[i] for i in range(len(batch))])

    def _is_wide(self, ranges: Sequence[tuple[int, int]]) -> bool:
        """Tell whether so much is affected that nothing is gained by differences."""
        n_affected = sum(high - low for low, high in ranges)
        return n_affected > WIDEST_SHARE * self.tower.shape[1]

    def _effect_of(
        self, changes: Tensor, bins: tuple[int, int], low: Prepared | None
    ) -> Tensor:
        if low is not None:
            return self._states_of(low, bins).propagate(changes)
        x = self.prepared.transform(self.tower + changes, bins=bins)
        return self.prepared.embed(x) - self._copies(bins, len(changes))

    def _wanted(self, bins: tuple[int, int] | None) -> tuple[int, int]:
        return bins or self.prepared.kept_bins(self.tower.shape[1])


# Windows that overlap


class SharedTower:
    """The tower of a stretch, computed once, and the windows cut from it.

    Parameters
    ----------
    prepared : Prepared
    codes : ndarray of uint8
        Letters of the stretch; its length is a multiple of the bin.
    """

    def __init__(self, prepared: Prepared, codes: Codes) -> None:
        size = prepared.config.bin_size
        if len(codes) % size:
            msg = f"a stretch of {len(codes)} bp is no multiple of {size} bp"
            raise InputError(msg)
        self.prepared = prepared
        self.codes = codes
        letters = torch.from_numpy(codes[None]).to(prepared.device)
        n_bins = len(codes) // size
        with torch.inference_mode():
            parts = [
                prepared.tower_rows(letters, low, min(low + CHUNK_BINS, n_bins))
                for low in range(0, n_bins, CHUNK_BINS)
            ]
            self._rows = torch.cat(parts, dim=1)

    @torch.inference_mode()
    def window(self, offset: int, sequence_length: int) -> Tensor:
        """Return the tower of a window that begins ``offset`` bp into the stretch.

        The three bins at each end, which depend on where the window ends, are computed
        anew.

        Returns
        -------
        Tensor, shape (1, n, C)
        """
        size = self.prepared.config.bin_size
        off_grid = offset % size or sequence_length % size
        if off_grid or not 0 <= offset <= len(self.codes) - sequence_length:
            msg = (
                f"a window of {sequence_length} bp at {offset} bp does not lie on the "
                f"{size}-bp grid of a stretch of {len(self.codes)} bp"
            )
            raise InputError(msg)
        first, n = offset // size, sequence_length // size
        rows = self._rows[:, first : first + n].clone()
        cut = self.codes[offset : offset + sequence_length]
        letters = torch.from_numpy(cut[None]).to(self.prepared.device)
        edge = min(EDGE_BINS, n)
        if offset > 0:
            rows[:, :edge] = self.prepared.tower_rows(letters, 0, edge)
        if offset + sequence_length < len(self.codes):
            rows[:, n - edge :] = self.prepared.tower_rows(letters, n - edge, n)
        return rows
