"""Random networks, for trying the package and for tests of everything but biology."""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from enformer_features.model.config import EnformerConfig
from enformer_features.model.enformer import Enformer
from enformer_features.model.layers import TransformerBlock, lecun_

SEED = 20211004
CALIBRATION_BATCH = (4, 32)  # sequences, bins


def untrained_network(config: EnformerConfig, seed: int = SEED) -> Enformer:
    """Draw a network whose activations have a sensible scale; a seed has one.

    Two things differ from the published initialisation, which is meant to be trained
    from: the output projections of the attention are drawn and not zero, so that
    attention takes part, and the running statistics of the batch norms are those of
    random DNA.

    Parameters
    ----------
    config : EnformerConfig
    seed : int, optional
        By default that of the weights that are called untrained.

    Returns
    -------
    Enformer
        In evaluation mode. PyTorch's own random state is left as it was.

    Examples
    --------
    >>> tiny = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    >>> first, second = untrained_network(tiny), untrained_network(tiny)
    >>> bool((first.stem.conv.weight == second.stem.conv.weight).all())
    True
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        torch.manual_seed(seed)
        network = Enformer(config)
        for block in network.transformer:
            assert isinstance(block, TransformerBlock)
            lecun_(block.attention.to_out.weight)
        n_sequences, n_bins = CALIBRATION_BATCH
        calibrate(network, random_one_hot(n_sequences, n_bins * config.bin_size))
    return network


def untrained_digest(config: EnformerConfig) -> str:
    """Return ``"untrained:<sha256>"`` of the sizes and the seed."""
    text = f"{config.to_json()} seed={SEED}"
    return f"untrained:{hashlib.sha256(text.encode()).hexdigest()}"


def random_one_hot(n_sequences: int, length_bp: int) -> Tensor:
    """Draw random DNA.

    Returns
    -------
    Tensor, shape (n_sequences, length_bp, 4), float32
    """
    letters = torch.randint(4, (n_sequences, length_bp))
    return nn.functional.one_hot(letters, 4).float()


@torch.no_grad()
def calibrate(network: Enformer, one_hot: Tensor) -> None:
    """Set the running statistics of every batch norm to those of these sequences.

    Parameters
    ----------
    network : Enformer
        Changed in place; it is left in evaluation mode.
    one_hot : Tensor, shape (n_sequences, length_bp, 4)
    """
    network.eval()  # no dropout
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm1d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.momentum = 1.0  # the statistics of this pass alone
    network.final_pointwise(network.transform(network.tower(one_hot)))  # all bins
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    network.eval()
