"""What a ridge regression keeps of its rows: sums per block of a fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils.validation import check_array

from enformer_features.estimators.ridge.chunks import RowChunks
from enformer_features.estimators.ridge.folds import Folds, group_codes, row_folds
from enformer_features.estimators.ridge.moments import Block, Floats, Gram, Rows
from enformer_features.exceptions import InputError, TargetWarning, first_few, warn

MANY_SETS = 10

Ints = npt.NDArray[np.int_]


@dataclass(frozen=True)
class RidgeTargets:
    """What is predicted; ``is_single`` when it was given in one dimension."""

    values: Floats
    names: list[str]
    is_single: bool

    @classmethod
    def of(cls, y: Any) -> RidgeTargets:
        """Check numbers of one or two dimensions; NaN is a missing one."""
        if y is None:
            msg = "GroupedRidgeCV requires y to be passed, but the target y is None"
            raise InputError(msg)
        values = check_array(
            y,
            dtype=np.float64,
            ensure_2d=False,
            ensure_all_finite="allow-nan",
            input_name="y",
        )
        if values.ndim > 2 or not values.shape[-1]:
            msg = f"y has shape {values.shape}; expected (n_rows, n_targets)"
            raise InputError(msg)
        table = values.reshape(len(values), -1)
        names = [str(name) for name in getattr(y, "columns", range(table.shape[1]))]
        return cls(table, names, is_single=values.ndim == 1)

    @property
    def count(self) -> int:
        """Number of targets."""
        return int(self.values.shape[1])

    def called(self, columns: Ints) -> list[str]:
        """Return the names of some."""
        return [self.names[column] for column in columns]

    def refuse_empty(self, n_known: Ints) -> None:
        """Refuse targets of which no row has a value."""
        empty = np.flatnonzero(np.asarray(n_known) == 0)
        if empty.size:
            msg = (
                f"targets without a value in any row: {first_few(self.called(empty))}; "
                "leave these columns out"
            )
            raise InputError(msg)


@dataclass(frozen=True)
class Sums:
    """Blocks of rows of targets that share them, brought near zero by the shifts."""

    shift: Floats
    y_shift: Floats
    blocks: Sequence[Block]


@dataclass
class Stream:
    """What `partial_fit` has seen."""

    shift: Floats
    y_shift: Floats
    targets: RidgeTargets
    sets: list[tuple[Ints, Sequence[Gram]]]
    n_known: Ints
    rows_of: Ints
    fold_of: dict[Any, int] = field(default_factory=dict)
    n_rows: int = 0

    @classmethod
    def begin(
        cls, rows: Floats, targets: RidgeTargets, n_blocks: int, centred: bool
    ) -> Stream:
        """Start with the shifts of the first rows, and no sums."""
        n_targets, n_features = targets.count, rows.shape[1]
        blocks = [Gram(n_features, n_targets) for _ in range(n_blocks)]
        return cls(
            shift=_shift(rows, centred),
            y_shift=_y_shift(targets.values, centred),
            targets=targets,
            sets=[(np.arange(n_targets), blocks)],
            n_known=np.zeros(n_targets, dtype=int),
            rows_of=np.zeros(n_blocks, dtype=int),
        )

    def blocks_of(self, cv: Any, groups: Any, n_rows: int) -> Ints:
        """Return the fold of every row; new groups join the smallest fold."""
        if isinstance(cv, str):
            return row_folds(self.n_rows, n_rows)
        codes, labels = group_codes(groups, n_rows)
        counts = np.bincount(codes)
        rows_of = self.rows_of.copy()
        for code in np.argsort(-counts, kind="stable"):
            fold = self.fold_of.setdefault(labels[code], int(rows_of.argmin()))
            rows_of[fold] += counts[code]
        folds = [self.fold_of[label] for label in labels]
        return np.asarray(folds)[codes]

    def add(self, rows: Floats, y: Floats, weights: Floats, blocks: Ints) -> None:
        """Add rows; targets that shared their rows part where these differ."""
        known = np.isfinite(y)
        rows, y = rows - self.shift, y - self.y_shift
        before, self.sets = self.sets, []
        for columns, sums in before:
            parts = same_rows(known[:, columns])
            for part in parts:
                own = sums
                if len(parts) > 1:
                    own = [block.of_targets(part) for block in sums]
                self.sets.append((columns[part], own))
        if len(self.sets) > MANY_SETS >= len(before):
            warn_about_sets(len(self.sets), stacklevel=5)
        for columns, sums in self.sets:
            _add(sums, rows, y[:, columns], weights, blocks)
        self.n_known += known.sum(axis=0)
        self.rows_of += np.bincount(blocks, minlength=len(self.rows_of))
        self.n_rows += len(rows)


def sum_up(
    chunks: RowChunks, y: Floats, weights: Floats, folds: Folds, centred: bool
) -> Sums:
    """Read all rows, and add those that have a value to the sums of their block."""
    known = np.isfinite(y[:, 0])
    kind = Rows if known.sum() <= chunks.n_features else Gram
    blocks: list[Block] = [kind(chunks.n_features, y.shape[1]) for _ in folds.parts]
    y_shift, shift, first = _y_shift(y, centred), np.empty(0), 0
    for rows in chunks:
        if not first:
            shift = _shift(rows, centred)
        place = slice(first, first + len(rows))
        first += len(rows)
        if first <= len(y):
            _add(
                blocks,
                rows - shift,
                y[place] - y_shift,
                weights[place],
                folds.block[place],
            )
    check_length("y", len(y), first)
    return Sums(shift, y_shift, blocks)


def same_rows(known: npt.NDArray[np.bool_]) -> list[Ints]:
    """Return the targets, put together where they have values in the same rows."""
    _, first, member = np.unique(known, axis=1, return_index=True, return_inverse=True)
    member = member.reshape(-1)
    return [np.flatnonzero(member == number) for number in np.argsort(first)]


def row_weights(sample_weight: Any, n_rows: int) -> Floats:
    """Return checked weights, ones where none are given."""
    if sample_weight is None:
        return np.ones(n_rows)
    weights = check_array(
        sample_weight, dtype=np.float64, ensure_2d=False, input_name="sample_weight"
    )
    if weights.shape != (n_rows,) or (weights < 0).any():
        msg = (
            f"sample_weight of shape {weights.shape} must be one number per row, "
            f"{n_rows}, and none negative"
        )
        raise InputError(msg)
    if n_rows and not weights.any():
        msg = "sample_weight is zero in all rows, so that nothing is left to fit"
        raise InputError(msg)
    return np.asarray(weights, dtype=np.float64)


def check_length(name: str, n: int, n_rows: int | None) -> None:
    """Refuse another number of rows than X has, where that is known."""
    if n_rows is not None and n != n_rows:
        msg = f"{name} has {n} rows, X has {n_rows}; they must be the same samples"
        raise InputError(msg)


def warn_about_sets(n_sets: int, stacklevel: int) -> None:
    """Say what many different sets of missing rows cost."""
    message = (
        f"y has {n_sets} different sets of missing rows, and each takes as long as a "
        "fit of its own: group columns by what is missing, or leave rows out"
    )
    warn(message, TargetWarning, stacklevel)


def _add(
    blocks: Sequence[Block], rows: Floats, y: Floats, weights: Floats, block_of: Ints
) -> None:
    """Add rows that have a value to the sums of their block."""
    known = np.isfinite(y[:, 0])
    for number, block in enumerate(blocks):
        chosen = np.flatnonzero(known & (block_of == number))
        if chosen.size:
            block.add(rows[chosen], y[chosen], weights[chosen])


def _shift(rows: Floats, centred: bool) -> Floats:
    shift: Floats = rows.mean(axis=0) if centred else np.zeros(rows.shape[1])
    return shift


def _y_shift(y: Floats, centred: bool) -> Floats:
    """Return the mean of the values that are there, 0 without any."""
    if not centred:
        return np.zeros(y.shape[1])
    known = np.isfinite(y)
    mean: Floats = np.where(known, y, 0).sum(axis=0) / known.sum(axis=0).clip(1)
    return mean
