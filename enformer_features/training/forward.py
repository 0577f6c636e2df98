"""The network's forward pass in training: precision, and memory against time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from enformer_features.model.enformer import Enformer
from enformer_features.model.recompute import embed, one_hot


class TrackForward(nn.Module):
    """Letters in, tracks out, as training wants it.

    Parameters
    ----------
    network : Enformer
    autocast : bool, default=False
        Compute the trunk in bfloat16; the head is always float32.
    activation_checkpointing : bool, default=False
        Keep what goes into every block and compute the rest again in the backward
        pass. The running statistics move once all the same.
    """

    def __init__(
        self,
        network: Enformer,
        *,
        autocast: bool = False,
        activation_checkpointing: bool = False,
    ) -> None:
        super().__init__()
        self.network = network
        self.autocast = autocast
        self.activation_checkpointing = activation_checkpointing

    def forward(self, codes: Tensor, organism: str) -> Tensor:
        """Predict the tracks, (B, bins, tracks), of letters, (B, L)."""
        with torch.autocast(codes.device.type, torch.bfloat16, enabled=self.autocast):
            embedding = embed(
                self.network, one_hot(codes), recompute=self.activation_checkpointing
            )
        return self.network.predict(embedding.float(), organism)
