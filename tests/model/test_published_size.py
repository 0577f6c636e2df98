"""The published size, against enformer-pytorch with its gamma axis corrected."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.model import EnformerConfig, save_checkpoint
from enformer_features.model.untrained import (
    calibrate,
    random_one_hot,
    untrained_network,
)

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.filterwarnings("ignore::Warning:transformers"),
]
LENGTH_BP = 196_608


@pytest.fixture(scope="module")
def port():
    return pytest.importorskip(
        "enformer_pytorch.modeling_enformer", reason="needs the extra 'bench'"
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random weights in the released layout; no array is zero or constant."""
    torch.manual_seed(29)
    network = untrained_network(EnformerConfig())
    with torch.no_grad():
        for weight in network.parameters():
            fan_in = weight[0].numel() if weight.ndim > 1 else 25
            weight += 0.5 * torch.randn_like(weight) / fan_in**0.5
    calibrate(network, random_one_hot(2, 16_384))
    return save_checkpoint(network, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="module")
def codes():
    """One window with a run of N, uint8 (1, L)."""
    codes = np.random.default_rng(31).integers(0, 4, (1, LENGTH_BP), dtype=np.uint8)
    codes[:, 70_000:70_500] = 4
    return codes


@pytest.fixture(scope="module")
def embedding(folder, codes):
    exact = EnformerEmbedder(weights=folder, device="cpu", precision="float32-exact")
    return exact.embed_bins(codes)


@pytest.fixture(scope="module")
def the_ports_tower(port, folder, codes):
    """The port with the same weights, and its input of the transformer."""
    network = port.Enformer(port.EnformerConfig()).eval()
    wrong = network.load_state_dict(load_file(folder / "model.safetensors"), False)
    assert wrong.unexpected_keys == []
    assert all(
        name.startswith("_trunk.") or name.endswith("num_batches_tracked")
        for name in wrong.missing_keys
    )
    with torch.no_grad():
        one_hot = torch.eye(5, 4)[torch.from_numpy(codes).long()]
        return network, network._trunk[:4](one_hot)


@torch.no_grad()
def the_ports_embedding(the_ports_tower):
    network, x = the_ports_tower
    return network._trunk[4:](x).numpy()


def over_positions(port):
    """The port's gamma features, divided by the maximum over positions."""

    def features(positions, n_basis, n_bins, dtype):
        deviation = n_bins / (2 * n_basis)
        mean = torch.linspace(n_bins / n_basis, n_bins, n_basis)
        x = positions.to(dtype).abs()[:, None]
        density = port.gamma_pdf(x, (mean / deviation) ** 2, mean / deviation**2) + 1e-8
        return density / density.amax(dim=0, keepdim=True)

    return features


def rms_over_std(ours: np.ndarray, theirs: np.ndarray) -> float:
    return float(np.sqrt(np.mean((ours - theirs.astype(np.float64)) ** 2)) / ours.std())


def test_the_embedding_equals_the_ports_with_gamma_over_positions(
    embedding, the_ports_tower, port, monkeypatch
):
    monkeypatch.setattr(port, "get_positional_features_gamma", over_positions(port))
    theirs = the_ports_embedding(the_ports_tower)
    assert embedding.shape == theirs.shape == (1, 896, 3072)
    assert embedding.std() > 0.1
    distance = rms_over_std(embedding, theirs)
    print(f"rms/std {distance:.2e}, max {np.abs(embedding - theirs).max():.2e}")
    assert distance <= 3e-5


def test_the_embedding_differs_from_the_ports_with_its_own_gamma(
    embedding, the_ports_tower
):
    distance = rms_over_std(embedding, the_ports_embedding(the_ports_tower))
    print(f"rms/std {distance:.2e}")
    assert distance > 5e-3


def test_the_folder_is_as_the_hub_has_it(folder: Path):
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
    ]
