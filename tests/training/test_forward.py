"""training/forward.py."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from enformer_features.model.enformer import Enformer
from enformer_features.model.recompute import one_hot
from enformer_features.training.forward import TrackForward
from enformer_features.training.statistics import train_mode
from tests.training.worlds import TINY


def network() -> Enformer:
    torch.manual_seed(3)
    return Enformer(TINY)


def codes() -> Tensor:
    return torch.randint(0, 5, (2, 1024), generator=torch.Generator().manual_seed(1))


def after_a_step(
    *, activation_checkpointing: bool
) -> tuple[list[Tensor], list[Tensor]]:
    """Return all gradients and all running statistics."""
    trained = network()
    forward = TrackForward(trained, activation_checkpointing=activation_checkpointing)
    torch.manual_seed(5)  # dropout
    forward.train()(codes(), "human").square().mean().backward()
    gradients = [p.grad for p in trained.parameters() if p.grad is not None]
    moved = [b for name, b in trained.named_buffers() if "running" in name]
    return gradients, moved


def test_n_is_all_zeros() -> None:
    assert one_hot(torch.tensor([[0, 3, 4]])).tolist() == [
        [[1, 0, 0, 0], [0, 0, 0, 1], [0, 0, 0, 0]]
    ]


def test_tracks_are_those_of_the_network() -> None:
    plain = network().eval()
    expected = plain(one_hot(codes()), output="tracks")
    for recompute in (False, True):
        forward = TrackForward(plain, activation_checkpointing=recompute)
        assert torch.equal(forward(codes(), "human"), expected)


def test_activation_checkpointing_changes_neither_gradients_nor_statistics() -> None:
    plain, recomputed = (
        after_a_step(activation_checkpointing=on) for on in (False, True)
    )
    for ours, theirs in zip(plain, recomputed, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def test_autocast_computes_the_trunk_in_bfloat16_and_the_head_in_float32() -> None:
    plain = network().eval()
    low = TrackForward(plain, autocast=True)(codes(), "human")
    exact = TrackForward(plain)(codes(), "human")
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    assert torch.allclose(low, exact, atol=0.05)


@pytest.mark.parametrize("frozen", [True, False])
def test_frozen_statistics_do_not_move(frozen: bool) -> None:
    trained = network()
    before = {name: b.clone() for name, b in trained.named_buffers() if "mean" in name}
    forward = TrackForward(trained)
    train_mode(forward, freeze_statistics=frozen)
    forward(codes(), "human")
    after = dict(trained.named_buffers())
    unmoved = [torch.equal(mean, after[name]) for name, mean in before.items()]
    assert all(unmoved) if frozen else not any(unmoved)
