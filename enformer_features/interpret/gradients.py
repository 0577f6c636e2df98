"""Gradient x input and integrated gradients, through the network and a fitted head."""

from __future__ import annotations

import contextlib
import copy
import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from enformer_features.exceptions import (
    DeviceMemoryError,
    InferenceError,
    WeightsError,
)
from enformer_features.genomics.encoding import N_CODE
from enformer_features.inference.devices import memory_report
from enformer_features.inference.engine import is_out_of_memory
from enformer_features.inference.precision import arithmetic
from enformer_features.interpret.contributions import Codes, Contributions
from enformer_features.interpret.forward import GradientForward
from enformer_features.interpret.rows import Reading, Rows
from enformer_features.interpret.targets import Readout, Target, resolve_target
from enformer_features.model.recompute import one_hot
from enformer_features.model.registry import load_weights, weights_digest

Floats = npt.NDArray[np.float32]


def gradient_x_input(model: Any, X: Any, target: Target | None = None) -> Contributions:
    """Score every base of a window: the gradient of a prediction, at the letter there.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
        A pipeline begins with an embedder; its head must be affine in the features, as
        linear models behind scalers and PCA are: its gradient is exact.
    X : table or sequence of regions or sequences, n_rows
        As the embedder takes it.
    target : Target, optional
        What is explained; by default a pipeline's only prediction, or the mean of the
        embedder's tracks over the TSS bins.

    Returns
    -------
    Contributions
        Row *i* is row *i* of ``X``: 3 MB each for the published window.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        When the target, the head or any row cannot be used, before any weights are
        read.
    WeightsError, DeviceMemoryError, InferenceError
        As the embedder's ``transform`` does.

    Notes
    -----
    Runs the plain network, in float32, or float64 when the embedder's precision says
    so; its first levels by tiles, and all activations twice, in place of keeping them.
    Directions and shifts are averaged in the genome's coordinates; bases that only a
    shifted window reads are left out.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196, Methods, "Contribution scores".

    Examples
    --------
    >>> import warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> embedder = EnformerEmbedder("untrained-tiny", sequence_length=1024)
    >>> found = gradient_x_input(embedder, ["ACGT" * 256], Target(tracks=[4828]))
    >>> found.scores.shape
    (1, 1024)
    """
    gradients = _Gradients(resolve_target(model, target), X)
    return gradients.contributions("gradient_x_input", gradients.of_row)


@dataclass(frozen=True)
class _Found:
    """What is known of a row."""

    gradient: Floats
    prediction: float
    baseline_prediction: float = np.nan
    delta: float = np.nan


class _Gradients:
    """Rows whose gradients can be computed; nothing is loaded before the first."""

    def __init__(self, readout: Readout, X: Any) -> None:
        self.readout = readout
        self.weights, self.offset = readout.affine()
        self.rows = Rows(readout.embedder, X)
        self.job = self.rows.job
        self.recipe, self.bins = self.job.recipe, self.job.bins
        self.span = self.recipe.span(self.bins, flips=self.job.layout.reads.flips)

    def contributions(
        self,
        method: str,
        of_row: Callable[[int], _Found],
        baselines: Codes | None = None,
        **settings: Any,
    ) -> Contributions:
        """Compute every row that can be computed; the others are NaN."""
        self.job.warn_about_windows(stacklevel=4)
        n, length = len(self.rows), self.recipe.geometry.sequence_length
        codes = np.full((n, length), N_CODE, dtype=np.uint8)
        gradient = np.full((n, length, 4), np.nan, dtype=np.float32)
        numbers = np.full((n, 3), np.nan)
        for row in map(int, self.job.layout.good_rows):
            codes[row] = self.rows.codes(row)
            found = of_row(row)
            self._check(found, row)
            gradient[row] = found.gradient
            numbers[row] = found.prediction, found.baseline_prediction, found.delta
        is_integrated = method == "integrated_gradients"
        return Contributions(
            table=self.rows.table,
            codes=codes,
            gradient=gradient,
            prediction=numbers[:, 0],
            baseline=baselines,
            baseline_prediction=numbers[:, 1] if is_integrated else None,
            delta=numbers[:, 2] if is_integrated else None,
            contigs=self.rows.contigs,
            about={**self.readout.provenance(), "method": method, **settings},
        )

    def _check(self, found: _Found, row: int) -> None:
        if np.isfinite(found.gradient).all() and np.isfinite(found.prediction):
            return
        label = self.job.layout.labels[row]
        msg = f"{label}: not finite: the network or the head returned no number"
        raise InferenceError(msg)

    # Between letters and the number

    @functools.cached_property
    def forward(self) -> GradientForward:
        """The network, loaded when it is first asked for."""
        weights, backend = self.readout.embedder.weights, self.job.backend
        digest = weights_digest(weights)
        loaded = load_weights(weights, str(backend.device))
        if loaded.digest != digest:
            msg = f"weights={weights!r} were exchanged during the call; repeat it"
            raise WeightsError(msg)
        network = loaded.module
        if backend.precision.results == torch.float64:
            network = copy.deepcopy(network).double()
        return GradientForward(network, self.recipe, self.span)

    def letters(self, codes: Codes) -> Tensor:
        """Return one-hot letters, (length, 4), as the network takes them."""
        of_network = self.forward.network.stem.conv.weight
        return one_hot(torch.from_numpy(codes).to(of_network.device)).to(of_network)

    def features(self, bins: Tensor, row: int) -> Tensor:
        """Pool the bins of a row: (bins, features) to (n_features,)."""
        first = self.span[0]
        pooled = []
        for pool, of_pool in zip(self.recipe.pools, self.bins, strict=True):
            low, high, *turned = of_pool[row]
            here = np.array([low - first, high - first, *turned])
            pooled.append(pool.read(bins, here))
        return torch.cat(pooled)

    def slope(self, bins: Tensor, row: int) -> tuple[float, Tensor]:
        """Return the number, and its gradient in the bins, in float64."""
        bins = bins.detach().cpu().double().requires_grad_()
        weights = torch.from_numpy(self.weights)
        number = self.features(bins, row) @ weights + self.offset
        return float(number.detach()), torch.autograd.grad(number, bins)[0]

    def number(self, inputs: Sequence[Tensor], row: int, flips: list[bool]) -> float:
        """Return what is explained, for letters of every reading."""
        return self.slope(self._mean_bins(inputs, flips), row)[0]

    def _mean_bins(self, inputs: Sequence[Tensor], flips: list[bool]) -> Tensor:
        with torch.no_grad():
            bins = [self.forward(x) for x in inputs]
        turned = [x.flip(0) if flip else x for x, flip in zip(bins, flips, strict=True)]
        return torch.stack(turned).mean(dim=0)

    def gradients(
        self, inputs: Sequence[Tensor], row: int, flips: list[bool]
    ) -> tuple[float, list[Tensor]]:
        """Return the number, and its gradient in the letters of every reading.

        The number is made of bins that are averaged over readings. Unless it takes
        their maximum its slope is the same everywhere, so that each reading is run
        once.
        """
        n, is_affine = len(inputs), self._is_affine
        number, slope = np.nan, None
        if n > 1 and not is_affine:
            number, slope = self.slope(self._mean_bins(inputs, flips), row)
        numbers, gradients = [], []
        for x, flip in zip(inputs, flips, strict=True):
            x = x.detach().requires_grad_()
            bins = self.forward(x)
            turned = bins.flip(0) if flip else bins
            if slope is None or is_affine:
                of_this, slope = self.slope(turned, row)
                numbers.append(of_this)
            gradients.append(torch.autograd.grad(turned, x, slope.to(turned) / n)[0])
        return (float(np.mean(numbers)) if numbers else number), gradients

    @property
    def _is_affine(self) -> bool:
        """Whether the number is affine in the bins."""
        return all(pool.reduction != "max" for pool in self.recipe.pools)

    # Rows

    def of_row(self, row: int) -> _Found:
        """Return the gradient at the letters that are there."""
        readings = self.rows.readings(row)
        with self._running():
            inputs = [self.letters(reading.codes) for reading in readings]
            flips = [reading.flip for reading in readings]
            number, gradients = self.gradients(inputs, row, flips)
        return _Found(_in_window(readings, gradients), number)

    @contextlib.contextmanager
    def _running(self) -> Iterator[None]:
        """Compute with gradients, whatever the caller's mode, and say what is wrong."""
        device = self.job.backend.device
        try:
            with (
                torch.inference_mode(False),
                torch.enable_grad(),
                arithmetic(self.job.backend.precision),
            ):
                yield
        except Exception as error:
            if not is_out_of_memory(error):
                raise
            msg = (
                "there is too little memory for the gradient of a single window "
                f"({memory_report(device)}); use device='cpu', or a shorter "
                "sequence_length"
            )
            raise DeviceMemoryError(msg) from error


def _in_window(readings: Sequence[Reading], gradients: Sequence[Tensor]) -> Floats:
    """Add the gradients of all readings up, in the window's own direction."""
    total = sum(
        reading.to_window(gradient.cpu().double().numpy())
        for reading, gradient in zip(readings, gradients, strict=True)
    )
    return np.asarray(total).astype(np.float32)
