"""Small networks whose every weight matters, and their exact outputs."""

from __future__ import annotations

import copy
import functools
import json
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from enformer_features.inference.precision import POLICIES
from enformer_features.inference.prepared import Prepared, prepare
from enformer_features.inference.reuse import Edit
from enformer_features.model import Enformer, EnformerConfig
from enformer_features.model.layers import SoftmaxPool
from enformer_features.model.untrained import (
    calibrate,
    random_one_hot,
    untrained_network,
)

# Tower widths 27, 31, 36, 41, 47, 54: no two axes of one size.
ODD = EnformerConfig(
    dim=54,
    depth=2,
    heads=3,
    attn_dim_key=5,
    dim_divisible_by=1,
    target_length=11,
    output_heads={"human": 7, "mouse": 13},
)
# Widths that are multiples of 32, as the published ones are. Then no row of a product
# or of an elementwise step is a remainder of vectors, which would round differently.
EVEN = EnformerConfig(
    dim=192,
    depth=1,
    heads=4,
    attn_dim_key=16,
    dim_divisible_by=32,
    target_length=-1,
    output_heads={"human": 7},
)
SEED = 31


def sized(config: EnformerConfig = ODD, **sizes: Any) -> EnformerConfig:
    return EnformerConfig(**{**config.to_dict(), **sizes})


def network_of(config: EnformerConfig = ODD) -> Enformer:
    """The untrained network with every bias, norm scale and pool matrix drawn anew."""
    return _network_of_json(config.to_json())


@functools.lru_cache(maxsize=64)
def _network_of_json(sizes: str) -> Enformer:
    with torch.inference_mode(False):  # kept for tests that take gradients, too
        return _make_network(EnformerConfig(**json.loads(sizes)))


def _make_network(config: EnformerConfig) -> Enformer:
    network = untrained_network(config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        for part in network.modules():
            _disturb(part)
        calibrate(network, random_one_hot(2, 16 * config.bin_size))
    return network.requires_grad_(False)


def _disturb(part: nn.Module) -> None:
    if isinstance(part, SoftmaxPool):
        weight = part.logits.weight
        weight.add_(torch.randn_like(weight) / weight.shape[1] ** 0.5)
    if isinstance(part, (nn.BatchNorm1d, nn.LayerNorm)):
        part.weight.uniform_(0.5, 1.5)
        part.bias.normal_(std=0.3)
    elif getattr(part, "bias", None) is not None:
        part.bias.normal_(std=0.3)


@functools.lru_cache(maxsize=64)
def _prepared_of_json(sizes: str, precision: str) -> Prepared:
    return prepare(_network_of_json(sizes), POLICIES[precision])


def prepared_of(
    config: EnformerConfig = ODD, precision: str = "float32-exact"
) -> Prepared:
    return _prepared_of_json(config.to_json(), precision)


@functools.lru_cache(maxsize=8)
def _exact_of_json(sizes: str) -> Enformer:
    with torch.inference_mode(False):  # kept for tests that take gradients, too
        return copy.deepcopy(_network_of_json(sizes)).double()


def exact_of(config: EnformerConfig = ODD) -> Enformer:
    """The same network in float64: no rounding to speak of."""
    return _exact_of_json(config.to_json())


@pytest.fixture(scope="module")
def one_thread() -> Iterator[None]:
    """Say that sums shall have one order, or skip where that cannot be said."""
    if not torch.backends.mkl.is_available():
        pytest.skip("products are equal to the bit only with MKL")
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def draw_codes(n: int, length: int, seed: int = 7, n_share: float = 0.02) -> np.ndarray:
    """Random letters, a few of them N."""
    generator = np.random.default_rng(seed)
    codes = generator.integers(0, 4, (n, length)).astype(np.uint8)
    codes[generator.random((n, length)) < n_share] = 4
    return codes


def substitute(codes: np.ndarray, positions: Sequence[int]) -> list[Edit]:
    """Edits of single bases to the next letter; N becomes A."""
    return [
        Edit(p, "ACGTN"[codes[p]], "CGTAA"[codes[p]]) for p in sorted(set(positions))
    ]


def one_hot(codes: np.ndarray | Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
    letters = torch.as_tensor(codes).long()
    return torch.eye(5, 4, dtype=dtype)[letters]


def rms(ours: Tensor, expected: Tensor) -> float:
    """Root mean square difference, over the deviation of what is expected."""
    difference = ours.double() - expected.double()
    return float(difference.square().mean().sqrt() / expected.double().std())


def most(ours: Tensor, expected: Tensor) -> float:
    """Largest difference, over the deviation of what is expected."""
    difference = ours.double() - expected.double()
    return float(difference.abs().max() / expected.double().std())
