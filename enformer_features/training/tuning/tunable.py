"""The part of a network that is tuned, and a head for the targets on it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import Dataset

from enformer_features.genomics.windows import Geometry
from enformer_features.model.positional import position_features
from enformer_features.model.recompute import one_hot, recomputed
from enformer_features.training.statistics import train_mode

Floats = npt.NDArray[np.float32]
Link = Literal["softplus", "identity"]
SMALLEST_MEAN = 1e-6  # of counts, so that the inverse of softplus is finite
# Features that vary less than a tenth of the typical one are not blown up to it.
SMALLEST_SHARE = 0.1
SAMPLED_ROWS = 64


class Linear(NamedTuple):
    """A plain linear head: ``weight @ embedding + bias``.

    Parameters
    ----------
    weight : Tensor, shape (n_targets, n_features), float32
    bias : Tensor, shape (n_targets,), float32
    """

    weight: Tensor
    bias: Tensor


@dataclass(frozen=True, eq=False)
class Units:
    """The units that targets train in.

    Counts train as they are, and the head starts at their mean. Other targets are
    standardised, and the head is put back into their units afterwards.

    Parameters
    ----------
    link : {"softplus", "identity"}
    mean, deviation : Tensor, shape (n_targets,), float64
        Over the training rows, and their bins. 1 for a deviation of 0.
    """

    link: Link
    mean: Tensor
    deviation: Tensor

    @classmethod
    def of(cls, values: npt.NDArray[np.float32], link: Link) -> Units:
        """Take them from targets, (rows, ..., targets)."""
        flat = torch.from_numpy(values).double().flatten(0, -2)
        deviation = flat.std(dim=0, correction=0)
        return cls(link, flat.mean(dim=0), torch.where(deviation > 0, deviation, 1.0))

    def in_units(self, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Return the targets as they are trained on."""
        if self.link == "softplus":
            return values
        standardised: npt.NDArray[np.float64]
        standardised = (values - self.mean.numpy()) / self.deviation.numpy()
        return standardised.astype(np.float32)

    def restored(self, head: Linear) -> Linear:
        """Return a trained head in the units of the targets."""
        if self.link == "softplus":
            return head
        weight = self.deviation[:, None] * head.weight.double()
        bias = self.deviation * head.bias.double() + self.mean
        return Linear(weight.float(), bias.float())


class TargetHead(nn.Module):
    """A linear head that starts at the mean of the targets, in units that train well.

    With standardised features x' it is ``z = offset + scale * (W x' + b)``, then the
    link. W and b start as zero. All of it folds into a plain linear layer.

    Parameters
    ----------
    n_features, n_targets : int
    link : {"softplus", "identity"}

    Examples
    --------
    >>> head = TargetHead(3, 1, "softplus")
    >>> head.start_at(mean=torch.tensor([2.0]), deviation=torch.tensor([0.5]))
    >>> round(head(torch.ones(1, 3)).item(), 4)
    2.0
    """

    feature_mean: Tensor
    feature_deviation: Tensor
    offset: Tensor
    scale: Tensor

    def __init__(self, n_features: int, n_targets: int, link: Link) -> None:
        super().__init__()
        self.link = link
        self.linear = nn.Linear(n_features, n_targets)
        nn.init.zeros_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.register_buffer("feature_mean", torch.zeros(n_features))
        self.register_buffer("feature_deviation", torch.ones(n_features))
        self.register_buffer("offset", torch.zeros(n_targets))
        self.register_buffer("scale", torch.ones(n_targets))

    def forward(self, x: Tensor) -> Tensor:  # (..., features) -> (..., targets)
        """Predict the targets of bins."""
        standardised = (x - self.feature_mean) / self.feature_deviation
        return linked(self.offset + self.scale * self.linear(standardised), self.link)

    def start_at(self, mean: Tensor, deviation: Tensor) -> None:
        """Predict these counts for everything, and vary in steps of this deviation.

        Counts far above 1 lie where softplus is linear and vary as they do; below,
        it is exponential, and steps of 1 are steps of their logarithm.
        """
        self.offset.copy_(_inverse_softplus(mean.clamp(min=SMALLEST_MEAN)))
        self.scale.copy_(deviation.clamp(min=1.0))

    def standardise(self, features: Tensor) -> None:
        """Take mean and deviation of each feature from a sample, (n, features)."""
        deviation = features.double().std(dim=0, correction=0)
        least = SMALLEST_SHARE * deviation.median()
        deviation = deviation.clamp(min=float(least))
        self.feature_mean.copy_(features.double().mean(dim=0))
        self.feature_deviation.copy_(torch.where(deviation > 0, deviation, 1.0))

    def folded(self) -> Linear:
        """Return the same head, before its link, as a plain linear layer."""
        weight = self.linear.weight.detach().double() / self.feature_deviation
        bias = self.linear.bias.detach().double() - weight @ self.feature_mean.double()
        scale = self.scale.double()
        return Linear(
            (scale[:, None] * weight).float().cpu(),
            (scale * bias + self.offset).float().cpu(),
        )


class Tunable(nn.Module):
    """What lies above the last frozen output, with a head for the targets.

    Parameters
    ----------
    above : ModuleDict
        From :func:`~enformer_features.training.tuning.freezing.copy_above`.
    head : TargetHead
    geometry : Geometry
        Of the windows.
    value_dim : int
        Position features of the transformer.
    freeze_statistics : bool
        Whether batch norms keep their running statistics while they train.
    checkpointing : bool
        Compute the activations of every block again in the backward pass, instead of
        keeping them.
    per_bin : bool
        Whether every pooled bin has targets, or their mean has.
    """

    def __init__(
        self,
        above: nn.ModuleDict,
        head: TargetHead,
        *,
        geometry: Geometry,
        value_dim: int,
        freeze_statistics: bool,
        checkpointing: bool,
        per_bin: bool,
    ) -> None:
        super().__init__()
        self.above = above
        self.head = head
        self.geometry = geometry
        self.value_dim = value_dim
        self.freeze_statistics = freeze_statistics
        self.per_bin = per_bin
        self._run = recomputed(above) if checkpointing else _call

    def train(self, mode: bool = True) -> Tunable:
        """Put what trains into training mode; all else stays in evaluation mode."""
        super().train(False)
        self.training = mode
        if mode:
            for part in self.above.values():
                if any(parameter.requires_grad for parameter in part.parameters()):
                    train_mode(part, freeze_statistics=self.freeze_statistics)
        return self

    def forward(self, windows: Tensor, flips: Tensor, bins: Tensor) -> Tensor:
        """Predict the targets of rows.

        Parameters
        ----------
        windows : Tensor, shape (rows, views, ...)
            The last frozen output of every view of a row; letter codes, when nothing
            is frozen.
        flips : Tensor of bool, shape (rows, views)
            Views whose bins are to be turned around.
        bins : Tensor of int, shape (rows, 2)
            Pooled bins: the first, and one past the last.

        Returns
        -------
        Tensor, shape (rows, targets), or (rows, bins, targets) per bin
        """
        predicted = self.head(self.embed(windows.flatten(0, 1)))
        views = predicted.unflatten(0, flips.shape)  # (rows, views, bins, targets)
        views = torch.where(flips[..., None, None], views.flip(2), views)
        every_bin = views.mean(dim=1)
        if self.per_bin:
            low, high = bins[0].tolist()  # the same for all rows
            return every_bin[:, low:high]
        return mean_of_bins(every_bin, bins)

    @torch.no_grad()
    def features(self, windows: Tensor, flips: Tensor, bins: Tensor) -> Tensor:
        """Return the embedding of the pooled bins of one row, (n, features)."""
        views = self.embed(windows)
        views = torch.where(flips[:, None, None], views.flip(1), views)
        return views[:, int(bins[0]) : int(bins[1])].flatten(0, 1)

    def embed(self, x: Tensor) -> Tensor:
        """Run from the last frozen output to the embedding of the kept bins."""
        if "stem" in self.above:
            x = self._run(self.above["stem"], one_hot(x).mT)
            for block in self.above["conv_tower"]:  # type: ignore[attr-defined]
                x = self._run(block, x)
            x = x.mT
        if "transformer" in self.above:
            positions = position_features(x.shape[1], self.value_dim).to(x)
            for block in self.above["transformer"].values():  # type: ignore[operator]
                x = self._run(block, x, positions)
            edge = self.geometry.crop_bins
            kept = x[:, edge : edge + self.geometry.n_bins]
            x = self._run(self.above["final_pointwise"], kept)
        return x


def start_head(tunable: Tunable, units: Units) -> None:
    """Let the head of counts start at their mean.

    Parameters
    ----------
    tunable : Tunable
        Its head is changed.
    units : Units
    """
    head = tunable.head
    device = head.offset.device
    if units.link == "softplus":
        head.start_at(units.mean.to(device), units.deviation.to(device))


def standardise_features(tunable: Tunable, rows: Dataset[Any]) -> None:
    """Let the head take standardised features.

    Parameters
    ----------
    tunable : Tunable
        Its head is changed; the rest is left in evaluation mode.
    rows : Dataset
        Training rows; up to 64 of them, evenly spaced, are a sample of features.
    """
    head = tunable.eval().head
    device = head.offset.device
    n_rows = len(rows)  # type: ignore[arg-type]
    chosen = np.linspace(0, n_rows - 1, min(n_rows, SAMPLED_ROWS)).astype(int)
    samples = []
    for row in chosen.tolist():
        inputs, _ = rows[row]
        placed = {name: value.to(device) for name, value in inputs.items()}
        samples.append(tunable.features(**placed))
    head.standardise(torch.cat(samples))


def _call(part: Callable[..., Tensor], *inputs: Tensor) -> Tensor:
    return part(*inputs)


def mean_of_bins(values: Tensor, bins: Tensor) -> Tensor:
    """Average the bins of each row.

    Parameters
    ----------
    values : Tensor, shape (rows, bins, targets)
    bins : Tensor of int, shape (rows, 2), or (1, 2) for all rows
        The first, and one past the last.

    Returns
    -------
    Tensor, shape (rows, targets)

    Examples
    --------
    >>> values = torch.arange(4.0).reshape(1, 4, 1)
    >>> mean_of_bins(values, torch.tensor([[1, 4]]))
    tensor([[2.]])
    """
    places = torch.arange(values.shape[1], device=values.device)
    inside = (places >= bins[:, :1]) & (places < bins[:, 1:])  # (rows, bins)
    share = inside.to(values.dtype) / inside.sum(dim=1, keepdim=True)
    return (values * share[..., None]).sum(dim=1)


def linked(z: Tensor, link: Link) -> Tensor:
    """Turn what a linear head gives into predictions."""
    return F.softplus(z) if link == "softplus" else z


def predict_rows(
    head: Linear, link: Link, embedded: Floats, *, per_bin: bool
) -> Floats:
    """Apply a trained head to embeddings.

    Parameters
    ----------
    head : Linear
        In the units of the targets.
    link : {"softplus", "identity"}
    embedded : ndarray of float32, shape (rows, bins * features)
    per_bin : bool
        Whether every bin has targets, or their mean has.

    Returns
    -------
    ndarray of float32, shape (rows, targets), or (rows, bins * targets) per bin

    Examples
    --------
    >>> head = Linear(torch.tensor([[1.0, 2.0]]), torch.tensor([10.0]))
    >>> embedded = np.array([[1, 1, 3, 1]], np.float32)  # 2 bins
    >>> predict_rows(head, "identity", embedded, per_bin=False)
    array([[14.]], dtype=float32)
    """
    n_features = head.weight.shape[1]
    bins = torch.from_numpy(embedded).double().view(len(embedded), -1, n_features)
    predicted = linked(bins @ head.weight.double().T + head.bias, link)
    if not per_bin:
        predicted = mean_of_bins(predicted, torch.tensor([[0, bins.shape[1]]]))
    return predicted.flatten(1).float().numpy()


def _inverse_softplus(x: Tensor) -> Tensor:
    x = x.double()
    return x + torch.log(-torch.expm1(-x))
