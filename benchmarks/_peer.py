"""The network and its peer: enformer-pytorch with the same random weights."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.metadata
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from enformer_features.model import Enformer, EnformerConfig
from enformer_features.model.names import arrays_of
from enformer_features.model.untrained import (
    calibrate,
    random_one_hot,
    untrained_network,
)

SEED = 29
CALIBRATION = (4, 64)  # sequences, bins
SHARPENING = (
    "to_query.weight",
    "to_key.weight",
    "to_position_key.weight",
    "content_bias",
    "position_bias",
)
TINY = EnformerConfig(
    dim=48,
    depth=2,
    heads=2,
    attn_dim_key=16,
    dim_divisible_by=8,
    target_length=112,
    output_heads={"human": 7},
)


def random_network(config: EnformerConfig) -> Enformer:
    """Draw a network in which no array is zero or constant; always the same one.

    To that of the package come random biases and pooling matrices of ``2 I`` and noise.
    The attention's queries, keys and biases are halved, so that logits vary by 1 to 2
    between keys: as initialised they vary by 6, most of the attention is on one bin,
    and errors of every kind, the port's own too, are four times as large. Then the
    batch norms are calibrated on random DNA.
    """
    network = untrained_network(config)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(SEED)
        for name, weight in network.named_parameters():
            if name.endswith("bias"):
                weight += 0.1 * torch.randn_like(weight)
            if name.endswith("pool.logits.weight"):
                weight += 0.5 * torch.randn_like(weight) / len(weight) ** 0.5
            if name.endswith(SHARPENING):
                weight *= 0.5
        n_sequences, n_bins = CALIBRATION
        calibrate(network, random_one_hot(n_sequences, n_bins * config.bin_size))
    return network


def the_port(network: Enformer) -> nn.Module:
    """Return enformer-pytorch's network with these weights, its gamma axis corrected.

    Raises
    ------
    SystemExit
        Without enformer-pytorch.
    """
    module = _the_ports_module()
    settings = dataclasses.asdict(network.config)
    port: nn.Module = module.Enformer(module.EnformerConfig(**settings)).eval()
    state = network.state_dict()
    renamed = {
        array.released: state[array.name].reshape(array.released_shape)
        for array in arrays_of(network)
    }
    wrong = port.load_state_dict(renamed, strict=False)
    missing = [
        name
        for name in wrong.missing_keys
        if not name.startswith("_trunk.") and not name.endswith("num_batches_tracked")
    ]
    if missing or wrong.unexpected_keys:
        msg = f"the port misses {missing} and does not know {wrong.unexpected_keys}"
        raise SystemExit(msg)
    return port


def _the_ports_module() -> Any:
    try:
        module = importlib.import_module("enformer_pytorch.modeling_enformer")
    except ImportError as error:
        msg = "the peer is absent: pip install 'enformer-features[bench]'"
        raise SystemExit(msg) from error
    module.get_positional_features_gamma = _over_positions(module)  # type: ignore[attr-defined]
    return module


def _over_positions(module: Any) -> Callable[..., Tensor]:
    """Return the port's gamma features, divided by the maximum over positions."""

    def features(
        positions: Tensor, n_basis: int, n_bins: int, dtype: torch.dtype = torch.float
    ) -> Tensor:
        deviation = n_bins / (2 * n_basis)
        mean = torch.linspace(n_bins / n_basis, n_bins, n_basis).to(positions.device)
        x = positions.to(dtype).abs()[:, None]
        density: Tensor = module.gamma_pdf(
            x, (mean / deviation) ** 2, mean / deviation**2
        )
        density = density + 1e-8
        return density / density.amax(dim=0, keepdim=True)

    return features


def the_ports_embedding(port: Any, one_hot: Tensor) -> Tensor:
    """Run the port's trunk: (B, L, 4) -> (B, bins, 2 C); short windows stay whole."""
    n_bins = one_hot.shape[1] // 128
    kept = port.config.target_length
    port.set_target_length(n_bins if kept == -1 else min(kept, n_bins))
    with torch.inference_mode():
        embedding: Tensor = port.trunk(one_hot)
    return embedding


def the_ports_tracks(port: Any, one_hot: Tensor) -> Tensor:
    """Run the port's trunk and its human head: (B, L, 4) -> (B, bins, tracks)."""
    embedding = the_ports_embedding(port, one_hot)
    with torch.inference_mode():
        tracks: Tensor = port._heads["human"](embedding)
    return tracks


def one_hot_of(codes: Tensor) -> Tensor:
    """Expand letter codes: (B, L) uint8 -> (B, L, 4) float32, N as zeros."""
    return torch.eye(5, 4, device=codes.device)[codes.int()]


def versions() -> dict[str, str]:
    """Return the versions that a figure depends on."""
    names = "enformer-features", "torch", "enformer-pytorch"
    return {name: importlib.metadata.version(name) for name in names}
