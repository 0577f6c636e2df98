"""The one loop that runs a network over windows."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from enformer_features.exceptions import (
    DeviceMemoryError,
    DeviceMemoryWarning,
    InferenceError,
    first_few,
    warn,
)
from enformer_features.inference.devices import memory_report
from enformer_features.inference.pooling import Integers, Pool
from enformer_features.inference.precision import Precision, arithmetic
from enformer_features.inference.reads import Codes, Reads, View

Floats = npt.NDArray[np.float32]
OUT_OF_MEMORY_TEXTS = ("can't allocate memory", "not enough memory")


SHARED_STRETCHES = 2  # one per direction


class SharedWindows(Protocol):
    """A tower that was computed once for several windows."""

    def window(self, offset: int, sequence_length: int) -> Tensor:
        """Return a window's tower, (1, n, C)."""
        ...


class Forward(Protocol):
    """A network in two steps."""

    def tower(self, codes: Tensor) -> Tensor:
        """Turn letter codes (batch, length) uint8 into (batch, n, channels)."""
        ...

    def bins(self, tower: Tensor) -> Tensor:
        """Turn a tower into the features of bins, (batch, bins, features)."""
        ...

    def share(self, codes: Codes) -> SharedWindows:
        """Compute the tower of a longer stretch once."""
        ...


@dataclass(frozen=True)
class Work:
    """Rows to compute and what to make of their bins.

    Parameters
    ----------
    reads : Reads
    rows : sequence of int
        Rows of ``reads``, in the order of the results.
    labels : sequence of str
        Name of every row of ``reads``, for errors.
    pools : sequence of Pool
    bins : sequence of ndarray of int64, each of shape (len(reads), 2) or (.., 3)
        For each pool the bins of ``forward`` that each row of ``reads`` reads, as
        ``Pool.resolve`` returns them.
    """

    reads: Reads
    rows: Sequence[int]
    labels: Sequence[str]
    pools: Sequence[Pool]
    bins: Sequence[Integers]


@dataclass
class Engine:
    """Run a network in batches of one fixed shape.

    The last batch is filled up, so that a row's value does not depend on its
    neighbours, its place or how many rows there are.

    Parameters
    ----------
    forward : Forward
        The network in its two steps.
    device : torch.device
    batch_size : int
        Sequences per forward; halved when the device runs out of memory.
    precision : Precision
    on_error : {"raise", "nan"}, default="raise"
        What becomes of a row for which the network fails: an error that names it, or
        NaN and an entry in ``failures``.
    verbose : bool or None, default=None
        Show a progress bar; None shows one on a terminal.

    Attributes
    ----------
    failures : dict of int to str
        Rows that became NaN, and why.
    """

    forward: Forward
    device: torch.device
    batch_size: int
    precision: Precision
    on_error: Literal["raise", "nan"] = "raise"
    verbose: bool | None = None
    failures: dict[int, str] = field(default_factory=dict)
    _shared: dict[int, SharedWindows] = field(default_factory=dict, repr=False)
    _sharing: bool = True

    def run(self, work: Work) -> Iterator[tuple[int, Floats]]:
        """Yield every row and its pooled vector, as soon as it is known.

        Yields
        ------
        row : int
        values : ndarray of float32, shape (n_features,)
            Empty for a row that failed.
        """
        asked, results = self.batch_size, self._bins(work)
        with _progress(len(work.rows), self.verbose) as bar:
            for row in work.rows:
                views = list(itertools.islice(results, work.reads.n_views))
                yield row, self._pool(work, row, views)
                bar.update()
        if self.batch_size < asked:
            msg = (
                f"out of memory at batch_size={asked}; the results were computed with "
                f"batch_size={self.batch_size}"
            )
            warn(msg, DeviceMemoryWarning)

    @torch.inference_mode()
    def _pool(self, work: Work, row: int, views: list[Tensor | str]) -> Floats:
        """Average the views of one row, then pool."""
        failed = [view for view in views if isinstance(view, str)]
        if failed:
            return self._fail(work, row, failed[0])
        tensors = [view for view in views if isinstance(view, Tensor)]
        bins = tensors[0]
        for other in tensors[1:]:
            bins = bins + other
        bins = bins / len(tensors) if len(tensors) > 1 else bins
        vectors = [
            pool.read(bins, of_pool[row])
            for pool, of_pool in zip(work.pools, work.bins, strict=True)
        ]
        values: Floats = torch.cat(vectors).float().cpu().numpy()
        if not np.isfinite(values).all():
            return self._fail(
                work, row, "the network returned values that are not finite"
            )
        return values

    def _fail(self, work: Work, row: int, reason: str) -> Floats:
        if self.on_error == "raise":
            msg = (
                f"{work.labels[row]}: {reason}; look at the window and the weights, or "
                "use on_error='nan' to go on without this row"
            )
            raise InferenceError(msg)
        self.failures[row] = reason
        return np.empty(0, dtype=np.float32)

    def _bins(self, work: Work) -> Iterator[Tensor | str]:
        """Yield the kept bins of every view in turn, or why there are none."""
        views = ((row, view) for row in work.rows for view in work.reads.views(row))
        waiting: list[tuple[int, View]] = []
        while True:
            missing = max(self.batch_size - len(waiting), 0)
            waiting += itertools.islice(views, missing)
            if not waiting:
                return
            batch = waiting[: self.batch_size]
            labels = [work.labels[row] for row, _ in batch]
            outputs = self._try([view for _, view in batch], labels, work.reads)
            if outputs is None:
                if self._sharing and any(view.place for _, view in batch):
                    self._sharing = False  # a stretch is longer than a window
                    self._shared.clear()
                else:
                    self._halve()
                continue
            waiting = waiting[len(batch) :]
            yield from outputs

    def _try(
        self, batch: list[View], labels: list[str], reads: Reads
    ) -> Sequence[Tensor | str] | None:
        """Run one batch; None when the device ran out of memory."""
        reason = None
        try:
            return self._forward(batch, reads)
        except Exception as error:
            if not is_out_of_memory(error):
                reason = f"the network failed: {type(error).__name__}: {error}"
                if self.on_error == "raise":
                    msg = f"{first_few(labels)}: {reason}"
                    raise InferenceError(msg) from error
        # Outside the except block the failed forward's temporaries are free again.
        if reason is None:
            return None
        if len(batch) == 1:
            return [reason]
        return self._one_by_one(batch, labels, reads)

    def _one_by_one(
        self, batch: list[View], labels: list[str], reads: Reads
    ) -> Sequence[Tensor | str] | None:
        """Find out which windows of a failed batch are at fault."""
        outputs: list[Tensor | str] = []
        for view, label in zip(batch, labels, strict=True):
            output = self._try([view], [label], reads)
            if output is None:
                return None
            outputs += output
        return outputs

    @torch.inference_mode()
    def _forward(self, batch: list[View], reads: Reads) -> list[Tensor]:
        filler = [batch[-1]] * (self.batch_size - len(batch))
        with arithmetic(self.precision):
            bins = self.forward.bins(self._towers(batch + filler, reads))
        return [
            bins[i].flip(0) if view.flip else bins[i] for i, view in enumerate(batch)
        ]

    def _towers(self, batch: list[View], reads: Reads) -> Tensor:
        """Run the tower on a batch; views of a shared stretch are cut from it."""
        if not self._sharing or all(view.place is None for view in batch):
            return self.forward.tower(self._letters([view.codes for view in batch]))
        towers = [self._tower(view, reads) for view in batch]
        return torch.cat(towers)

    def _tower(self, view: View, reads: Reads) -> Tensor:
        if view.place is None:
            return self.forward.tower(self._letters([view.codes]))
        number = view.place.stretch
        if number not in self._shared:
            if len(self._shared) >= SHARED_STRETCHES:
                del self._shared[next(iter(self._shared))]
            self._shared[number] = self.forward.share(reads.stretch(number))
        return self._shared[number].window(view.place.offset, len(view.codes))

    def _letters(self, codes: list[Codes]) -> Tensor:
        return torch.from_numpy(np.stack(codes)).to(self.device)

    def _halve(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.empty_cache()
        if self.batch_size == 1:
            msg = (
                "there is too little memory for a single window "
                f"({memory_report(self.device)}); use a shorter sequence_length, a "
                "device with more memory, or close what else uses it"
            )
            raise DeviceMemoryError(msg)
        self.batch_size //= 2


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether an error means that the device's memory is used up."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    text = str(error).lower()
    return isinstance(error, RuntimeError) and any(
        phrase in text for phrase in OUT_OF_MEMORY_TEXTS
    )


def _progress(total: int, verbose: bool | None):  # type: ignore[no-untyped-def]
    from tqdm.auto import tqdm

    shown = sys.stderr.isatty() if verbose is None else verbose
    return tqdm(total=total, unit="window", disable=not shown)
