"""Features of the relative distance between two bins."""

from __future__ import annotations

import functools
import math

import torch
from torch import Tensor


@functools.lru_cache(maxsize=8)
def position_features(n_bins: int, n_features: int) -> Tensor:
    """Return the features of every distance from ``1 - n_bins`` to ``n_bins - 1``.

    They depend on the number of bins alone and are the same for every layer, head
    and sequence. Computed on the CPU in float32, so that all devices see the same
    values. The result is cached: do not write to it.

    Parameters
    ----------
    n_bins : int
        Positions of the transformer, n.
    n_features : int
        Features per distance, f; a multiple of 6.

    Returns
    -------
    Tensor, shape (2 * n_bins - 1, n_features), float32
        Row ``d + n_bins - 1`` is distance d, key minus query:
        ``[g(|d|), sign(d) * g(|d|)]`` with g of :func:`distance_features`.

    References
    ----------
    Avsec et al. 2021, Methods, "Relative positional encodings".

    Examples
    --------
    >>> position_features(32, 24).shape
    torch.Size([63, 24])
    """
    # Kept for later callers, who may want gradients through what is made of it.
    with torch.inference_mode(False), torch.device("cpu"):
        return _features_of_all_distances(n_bins, n_features)


def _features_of_all_distances(n_bins: int, n_features: int) -> Tensor:
    distance = torch.arange(1 - n_bins, n_bins, dtype=torch.float32)
    unsigned = distance_features(n_bins, n_features)[distance.abs().long()]
    return torch.cat([unsigned, distance.sign()[:, None] * unsigned], dim=1)


def distance_features(n_bins: int, n_features: int) -> Tensor:
    """Return the three classes of features at distances 0 to ``n_bins - 1``.

    Returns
    -------
    Tensor, shape (n_bins, n_features / 2), float32
        Columns: exponential, central mask, gamma; ``n_features / 6`` of each.
    """
    n_basis = n_features // 6
    x = torch.arange(n_bins, dtype=torch.float32)[:, None]  # (n, 1)
    classes = (exponential_decay, central_mask, gamma_density)
    return torch.cat([basis(x, n_bins, n_basis) for basis in classes], dim=1)


def exponential_decay(x: Tensor, n_bins: int, n_basis: int) -> Tensor:
    """``exp(-ln 2 * x / h_i)`` with half-lives from 8 to n, evenly spaced in log2."""
    exponents = torch.linspace(3.0, math.log2(n_bins), n_basis, dtype=torch.float32)
    half_life = 2.0**exponents
    return torch.exp(-math.log(2.0) / half_life * x)


def central_mask(x: Tensor, n_bins: int, n_basis: int) -> Tensor:
    """1 where ``x < 2 ** i - 1``, i = 1 .. n_basis; the first is 1 only at 0."""
    width = 2.0 ** torch.arange(1, n_basis + 1, dtype=torch.float32) - 1
    return (x < width).float()


def gamma_density(x: Tensor, n_bins: int, n_basis: int) -> Tensor:
    """Gamma densities with means n / F .. n, each scaled to a maximum of 1.

    The maximum is over *positions*, for each feature separately, as in the network
    that was published and its weights. (A widely used port divides by the maximum
    over features.) The exponent is a difference of numbers up to 3e4, so every
    float32 evaluation carries a relative error of up to 0.3 %: the original too.
    """
    deviation = n_bins / (2 * n_basis)
    mean = torch.linspace(n_bins / n_basis, n_bins, n_basis, dtype=torch.float32)
    concentration = (mean / deviation) ** 2
    rate = mean / deviation**2
    log_density = torch.xlogy(concentration - 1.0, x) - rate * x
    log_norm = torch.lgamma(concentration) - concentration * torch.log(rate)
    density = torch.exp(log_density - log_norm) + 1e-8
    return density / density.amax(dim=0, keepdim=True)
