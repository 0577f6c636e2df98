"""The Enformer network, as in Figure 1a of the paper."""

from __future__ import annotations

import itertools

from torch import Tensor, nn

from enformer_features.exceptions import InputError
from enformer_features.model.config import EnformerConfig
from enformer_features.model.layers import (
    FinalPointwise,
    Head,
    Stem,
    TowerBlock,
    TransformerBlock,
)
from enformer_features.model.positional import position_features


class Enformer(nn.Module):
    """Sequence in, bins out: convolutions, a transformer, a head per organism.

    Parameters
    ----------
    config : EnformerConfig, optional
        The sizes; the published ones when left out. A new network has the published
        initialisation: it is *untrained*.

    Notes
    -----
    Inputs and outputs are channels last: ``(batch, positions, channels)``.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196, Figure 1a and Methods.

    Examples
    --------
    >>> import torch
    >>> from enformer_features.model import Enformer, EnformerConfig
    >>> tiny = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8,
    ...                       target_length=4)
    >>> network = Enformer(tiny).eval()
    >>> network(torch.zeros(1, 1024, 4)).shape
    torch.Size([1, 4, 96])
    """

    def __init__(self, config: EnformerConfig | None = None) -> None:
        super().__init__()
        config = config or EnformerConfig()
        widths = (config.stem_width, *config.tower_widths)
        self.config = config
        self.stem = Stem(config.stem_width)
        self.conv_tower = nn.ModuleList(
            TowerBlock(n_in, n_out) for n_in, n_out in itertools.pairwise(widths)
        )
        self.transformer = nn.ModuleList(
            TransformerBlock(
                config.dim,
                heads=config.heads,
                key_dim=config.attn_dim_key,
                dropout=config.dropout_rate,
                attn_dropout=config.attn_dropout,
                pos_dropout=config.pos_dropout,
            )
            for _ in range(config.depth)
        )
        self.final_pointwise = FinalPointwise(config.dim, config.dropout_rate / 8)
        self.heads = nn.ModuleDict(
            {
                organism: Head(config.embedding_dim, n_tracks)
                for organism, n_tracks in config.output_heads.items()
            }
        )

    def tower(self, one_hot: Tensor) -> Tensor:
        """Run the stem and the convolutional tower.

        Parameters
        ----------
        one_hot : Tensor, shape (B, L, 4)
            A C G T; N is zeros. L is a multiple of the bin size.

        Returns
        -------
        Tensor, shape (B, L / 128, C)
        """
        self._check_input(one_hot)
        x: Tensor = self.stem(one_hot.mT)
        for block in self.conv_tower:
            x = block(x)
        return x.mT

    def transform(self, x: Tensor, n_blocks: int | None = None) -> Tensor:
        """Run the first ``n_blocks`` transformer blocks, by default all.

        Parameters
        ----------
        x : Tensor, shape (B, n, C)
            The output of :meth:`tower`.

        Returns
        -------
        Tensor, shape (B, n, C)
        """
        positions = position_features(x.shape[1], self.config.value_dim).to(x)
        for block in self.transformer[:n_blocks]:
            x = block(x, positions)
        return x

    def embed(self, x: Tensor) -> Tensor:
        """Crop to the kept bins and apply the final pointwise block.

        Parameters
        ----------
        x : Tensor, shape (B, n, C)
            The output of :meth:`transform`.

        Returns
        -------
        Tensor, shape (B, bins, 2 C)
        """
        embedding: Tensor = self.final_pointwise(self.crop(x))
        return embedding

    def predict(self, embedding: Tensor, organism: str = "human") -> Tensor:
        """Predict an organism's tracks, expected counts per bin.

        Parameters
        ----------
        embedding : Tensor, shape (B, bins, 2 C)
        organism : str, default="human"

        Returns
        -------
        Tensor, shape (B, bins, tracks)
        """
        if organism not in self.heads:
            msg = f"organism={organism!r} has no head; there are {list(self.heads)}"
            raise InputError(msg)
        tracks: Tensor = self.heads[organism](embedding)
        return tracks

    def forward(
        self, one_hot: Tensor, output: str = "embedding", organism: str = "human"
    ) -> Tensor:
        """Run as far as needed for one output.

        Parameters
        ----------
        one_hot : Tensor, shape (B, L, 4)
        output : {"tower", "block_0", ..., "embedding", "tracks"}
            The tower and the blocks give all ``L / 128`` bins and C channels; the
            embedding and the tracks give the kept bins.
        organism : str, default="human"
            The head, for ``output="tracks"``.

        Returns
        -------
        Tensor, shape (B, bins, channels)
        """
        if output not in (*self.config.layers, "tracks"):
            known = [*self.config.layers, "tracks"]
            msg = f"output={output!r} is not among {known}"
            raise InputError(msg)
        x = self.tower(one_hot)
        if output == "tower":
            return x
        if output.startswith("block_"):
            return self.transform(x, int(output.removeprefix("block_")) + 1)
        embedding = self.embed(self.transform(x))
        if output == "embedding":
            return embedding
        return self.predict(embedding, organism)

    def crop(self, x: Tensor) -> Tensor:  # (B, n, C) -> (B, bins, C)
        """Keep the central ``target_length`` bins, or all when there are fewer."""
        n, kept = x.shape[1], self.config.target_length
        if kept == -1 or n <= kept:
            return x
        if (n - kept) % 2:
            msg = (
                f"{n} bins cannot be cropped to {kept} evenly: "
                f"use {n - 1} or {n + 1} bins"
            )
            raise InputError(msg)
        edge = (n - kept) // 2
        return x[:, edge : n - edge]

    def _check_input(self, one_hot: Tensor) -> None:
        bin_size = self.config.bin_size
        shape = tuple(one_hot.shape)
        if one_hot.ndim != 3 or shape[2] != 4 or shape[1] % bin_size or not shape[1]:
            msg = (
                f"one_hot has shape {shape}; expected (batch, length, 4) with a "
                f"length that is a multiple of {bin_size}"
            )
            raise InputError(msg)
