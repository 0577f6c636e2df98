"""The forward pass with gradients: memory against time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from enformer_features.model.enformer import Enformer
from enformer_features.model.positional import position_features

# The rows of a table of letters: A, C, G, T, and N, which is zeros.
_LETTERS = torch.eye(5, 4)

Run = Callable[..., Tensor]


def one_hot(codes: Tensor) -> Tensor:
    """Turn letter codes, (B, L), into float32 (B, L, 4) on their device."""
    return _LETTERS.to(codes.device)[codes.long()]


def embed(network: Enformer, sequence: Tensor, *, recompute: bool = False) -> Tensor:
    """Return the embedding, (B, bins, 2 C), of one-hot letters, (B, L, 4).

    Parameters
    ----------
    network : Enformer
    sequence : Tensor, shape (B, L, 4)
    recompute : bool, default=False
        Checkpoint the activations, block by block.
    """
    if not recompute:
        return network.embed(network.transform(network.tower(sequence)))
    run = recomputed(network)
    x = run(network.stem, sequence.mT)
    for block in network.conv_tower:
        x = run(block, x)
    x = transformed(network, x.mT, run)
    return run(network.embed, x)


def transformed(
    network: Enformer, x: Tensor, run: Run, n_blocks: int | None = None
) -> Tensor:
    """Run transformer blocks, (B, n, C), in the way that :func:`recomputed` gives."""
    positions = position_features(x.shape[1], network.config.value_dim).to(x)
    for block in network.transformer[:n_blocks]:
        x = run(block, x, positions)
    return x


def recomputed(network: nn.Module) -> Run:
    """Return a way to run parts of a network whose activations are not kept.

    They are computed again in the backward pass, in which the running statistics of
    the network's batch norms stand still.
    """

    def contexts() -> tuple[AbstractContextManager[Any], AbstractContextManager[Any]]:
        return nullcontext(), _still_statistics(network)

    def run(part: Run, *inputs: Tensor) -> Tensor:
        out: Tensor = checkpoint(
            part, *inputs, use_reentrant=False, context_fn=contexts
        )
        return out

    return run


@contextmanager
def _still_statistics(network: nn.Module) -> Iterator[None]:
    """Keep a second forward pass from moving the running statistics again."""
    norms = [
        part
        for part in network.modules()
        if isinstance(part, nn.modules.batchnorm._BatchNorm)
    ]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
