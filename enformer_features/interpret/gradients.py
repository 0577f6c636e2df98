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
    CompletenessWarning,
    DeviceMemoryError,
    InferenceError,
    InputError,
    WeightsError,
    check_choice,
    first_few,
    warn,
)
from enformer_features.genomics.encoding import N_CODE
from enformer_features.genomics.shuffles import BACKGROUNDS, background
from enformer_features.inference.devices import memory_report
from enformer_features.inference.engine import is_out_of_memory
from enformer_features.inference.pooling import pool_row
from enformer_features.inference.precision import POLICIES, arithmetic
from enformer_features.interpret.contributions import Codes, Contributions
from enformer_features.interpret.forward import GradientForward
from enformer_features.interpret.rows import Reading, Rows
from enformer_features.interpret.targets import Readout, Target, resolve_target
from enformer_features.model.recompute import one_hot
from enformer_features.model.registry import load_weights, weights_digest

Floats = npt.NDArray[np.float32]
TOLERANCE = 0.05  # of the change of the prediction
TOLERANCE_OF_SUM = 0.01  # of the absolute scores, where they cancel out


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
    Runs the plain network, in float32 (with TF32 operands on CUDA when the embedder's
    precision says so, as "auto" does), or float64; never in bfloat16 or float16.
    ``about`` names what ran. Its first levels run by tiles, and all activations are
    computed twice, in place of keeping them.
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
    gradients.job.warn_about_windows(stacklevel=4)
    return gradients.contributions("gradient_x_input", gradients.of_row)


def gradients_by_row(
    model: Any, X: Any, target: Target | None = None, *, stacklevel: int = 4
) -> Iterator[Contributions]:
    """Check all rows, then return those of :func:`gradient_x_input` one by one.

    Parameters
    ----------
    model, X, target
        As in :func:`gradient_x_input`.
    stacklevel : int, default=4
        Where warnings point: 4 at the caller.

    Returns
    -------
    iterator of Contributions
        Each of one region, so that no more than one is in memory.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        At once, and not when a row is asked for.

    Examples
    --------
    >>> import warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> embedder = EnformerEmbedder("untrained-tiny", sequence_length=1024)
    >>> found = gradients_by_row(embedder, ["ACGT" * 256] * 2, Target(tracks=[4828]))
    >>> [one.scores.shape for one in found]
    [(1, 1024), (1, 1024)]
    """
    gradients = _Gradients(resolve_target(model, target), X)
    gradients.job.warn_about_windows(stacklevel)
    return (
        gradients.contributions("gradient_x_input", gradients.of_row, rows=[row])
        for row in range(len(gradients.rows))
    )


def integrated_gradients(
    model: Any,
    X: Any,
    target: Target | None = None,
    *,
    baseline: str = "n",
    steps: int = 50,
    seed: int = 0,
) -> Contributions:
    """Score every base by gradients along the way from a baseline to the sequence.

    Their sum is the difference of the two predictions, but for the error of summing
    ``steps`` gradients, which is returned.

    Parameters
    ----------
    model, X, target
        As in :func:`gradient_x_input`.
    baseline : {"n", "shuffled", "dinucleotide"}, default="n"
        N everywhere, which the network reads as zeros; the window's letters in random
        order; or in one that keeps pairs of neighbours.
    steps : int, default=50
        Gradients, at the places of Gauss-Legendre quadrature.
    seed : int, default=0
        Of the shuffles. Each row has its own, whatever its neighbours are.

    Returns
    -------
    Contributions
        With ``baseline_prediction``; ``error``: the sum of the scores, less the
        difference of the predictions; and ``delta``: the error over the difference.
        ``gradient`` is its weighted mean.

    Raises
    ------
    InputError, InputTypeError, GenomeError, WeightsError, DeviceMemoryError
        As :func:`gradient_x_input` does.

    Warns
    -----
    CompletenessWarning
        For rows whose error is more than 5 % of the difference of the predictions, and
        more than 1 % of the sum of the absolute scores: take more ``steps``. The second
        is for rows whose scores cancel out: the difference is small there, and
        ``delta`` large, however exact the single scores are.

    Notes
    -----
    With shifts, bases that only a shifted window reads count in ``delta`` and
    ``error``, though they have no score; beyond the row's own window the baseline is N.

    References
    ----------
    Sundararajan et al. 2017, ICML, section 5.

    Examples
    --------
    >>> import warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> embedder = EnformerEmbedder(
    ...     "untrained-tiny", sequence_length=1024, max_n_fraction=1.0
    ... )
    >>> target = Target(tracks=[4828])
    >>> sequence = "N" * 500 + "GATTACA" + "N" * 517
    >>> found = integrated_gradients(embedder, [sequence], target, steps=20)
    >>> bool(abs(found.delta[0]) < 0.05)
    True
    """
    check_choice("baseline", baseline, BACKGROUNDS)
    check_whole("steps", steps, least=1)
    check_whole("seed", seed, least=0)
    gradients = _Gradients(resolve_target(model, target), X)
    gradients.job.warn_about_windows(stacklevel=4)
    baselines = gradients.baselines(baseline, seed)
    found = gradients.contributions(
        "integrated_gradients",
        lambda row: gradients.along_path(row, baselines[row], steps),
        None if baseline == "n" else baselines,
        baseline=baseline,
        steps=steps,
        seed=seed,
    )
    _warn_about_errors(gradients.incomplete, steps)
    return found


def _warn_about_errors(incomplete: dict[str, float], steps: int) -> None:
    """Name the rows whose scores do not add up, and by how much."""
    if incomplete:
        shown = [f"{label} ({delta:+.0%})" for label, delta in incomplete.items()]
        message = (
            f"integrated gradients of steps={steps} do not add up to the difference "
            f"of the predictions within {TOLERANCE:.0%}: {first_few(shown)}; give a "
            "larger steps="
        )
        warn(message, CompletenessWarning, 4)


def check_whole(name: str, value: object, least: int) -> None:
    """Refuse what is no whole number, or too small a one."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:  # type: ignore[operator]
        msg = f"{name}={value!r} must be a whole number of at least {least}"
        raise InputError(msg)


@dataclass(frozen=True)
class _Found:
    """What is known of a row."""

    gradient: Floats
    prediction: float
    baseline_prediction: float = np.nan
    error: float = 0.0
    absolute: float = np.nan

    @property
    def delta(self) -> float:
        """The error over the change of the prediction."""
        change = self.prediction - self.baseline_prediction
        return self.error / change if change else np.nan

    @property
    def is_complete(self) -> bool:
        """Whether the scores add up to the change of the prediction."""
        change = abs(self.prediction - self.baseline_prediction)
        allowed = max(TOLERANCE * change, TOLERANCE_OF_SUM * self.absolute)
        return not abs(self.error) > allowed


class _Gradients:
    """Rows whose gradients can be computed; nothing is loaded before the first."""

    def __init__(self, readout: Readout, X: Any) -> None:
        self.readout = readout
        self.weights, self.offset = readout.affine()
        self.incomplete: dict[str, float] = {}
        self.rows = Rows(readout.embedder, X)
        self.job = self.rows.job
        self.recipe, self.bins = self.job.recipe, self.job.bins
        self.span = self.recipe.span(self.bins, flips=self.job.layout.reads.flips)

    def contributions(
        self,
        method: str,
        of_row: Callable[[int], _Found],
        baselines: Codes | None = None,
        rows: Sequence[int] | None = None,
        **settings: Any,
    ) -> Contributions:
        """Compute rows, by default all; those that cannot be computed are NaN."""
        chosen = list(range(len(self.rows))) if rows is None else list(rows)
        good = set(self.job.layout.good_rows.tolist())
        n, length = len(chosen), self.recipe.geometry.sequence_length
        codes = np.full((n, length), N_CODE, dtype=np.uint8)
        gradient = np.full((n, length, 4), np.nan, dtype=np.float32)
        numbers = np.full((n, 4), np.nan)
        for at, row in enumerate(chosen):
            if row not in good:
                continue
            codes[at] = self.rows.codes(row)
            found = of_row(row)
            self._check(found, row)
            gradient[at] = found.gradient
            before, error = found.baseline_prediction, found.error
            numbers[at] = found.prediction, before, found.delta, error
        is_integrated = method == "integrated_gradients"
        return Contributions(
            table=self.rows.table.iloc[chosen],
            codes=codes,
            gradient=gradient,
            prediction=numbers[:, 0],
            baseline=baselines,
            baseline_prediction=numbers[:, 1] if is_integrated else None,
            delta=numbers[:, 2] if is_integrated else None,
            error=numbers[:, 3] if is_integrated else None,
            contigs=self.rows.contigs,
            about={**self._provenance(), "method": method, **settings},
        )

    def _provenance(self) -> dict[str, Any]:
        """Return what the values depend on, with the arithmetic that ran.

        Operands are not rounded to 16 bits here, whatever the embedder says, and
        convolutions are PyTorch's.
        """
        policy = self.job.backend.precision
        if policy.operands != torch.float64 and not policy.tf32:
            policy = POLICIES["float32-exact"]
        about = {"precision": policy.name, "precision_rms_error": policy.rms_error}
        return {**self.readout.provenance(), **about}

    def _check(self, found: _Found, row: int) -> None:
        label = str(self.job.layout.labels[row])
        if np.isfinite(found.gradient).all() and np.isfinite(found.prediction):
            if not found.is_complete:
                self.incomplete[label] = found.delta
            return
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

    def slope(self, bins: Tensor, row: int) -> tuple[float, Tensor]:
        """Return the number, and its gradient in the bins, in float64."""
        bins = bins.detach().cpu().double().requires_grad_()
        weights = torch.from_numpy(self.weights)
        features = pool_row(bins, self.recipe.pools, self.bins, row, self.span[0])
        number = features @ weights + self.offset
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

    def baselines(self, baseline: str, seed: int) -> Codes:
        """Return the letters that every row begins from; nothing is run."""
        n, length = len(self.rows), self.recipe.geometry.sequence_length
        codes = np.full((n, length), N_CODE, dtype=np.uint8)
        if baseline != "n":
            for row in map(int, self.job.layout.good_rows):
                generator = np.random.default_rng(seed)
                codes[row] = background(self.rows.codes(row), baseline, generator)
        return codes

    def along_path(self, row: int, baseline: Codes, steps: int) -> _Found:
        """Return the mean gradient between a baseline and the letters of a row."""
        readings = self.rows.readings(row)
        flips = [reading.flip for reading in readings]
        with self._running():
            ends = [self.letters(reading.codes) for reading in readings]
            starts = [self.letters(reading.of_window(baseline)) for reading in readings]
            changes = [end - start for end, start in zip(ends, starts, strict=True)]
            sums = [torch.zeros_like(change) for change in changes]
            for share, weight in _nodes(steps):
                inputs = [a + share * d for a, d in zip(starts, changes, strict=True)]
                _, gradients = self.gradients(inputs, row, flips)
                for total, gradient in zip(sums, gradients, strict=True):
                    total += weight * gradient
            number = self.number(ends, row, flips)
            before = self.number(starts, row, flips)
        parts = zip(changes, sums, strict=True)
        scores = torch.stack([(d.double() * g.double()).sum(dim=1) for d, g in parts])
        error = float(scores.sum()) - (number - before)
        absolute = float(scores.abs().sum())
        return _Found(_in_window(readings, sums), number, before, error, absolute)

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


def _nodes(steps: int) -> list[tuple[float, float]]:
    """Return places on the way from 0 to 1 and their weights: Gauss and Legendre's."""
    places, weights = np.polynomial.legendre.leggauss(steps)
    pairs = zip((places + 1) / 2, weights / 2, strict=True)
    return [(float(place), float(weight)) for place, weight in pairs]


def _in_window(readings: Sequence[Reading], gradients: Sequence[Tensor]) -> Floats:
    """Add the gradients of all readings up, in the window's own direction."""
    total = sum(
        reading.to_window(gradient.cpu().double().numpy())
        for reading, gradient in zip(readings, gradients, strict=True)
    )
    return np.asarray(total).astype(np.float32)
