"""The plain network from letters to bins, with gradients, in bounded memory.

Activations are computed again in the backward pass, and the tower, whose first levels
are the largest, goes through it tile by tile: a level's rows reach a few rows of the
one below, so a tile with that many more on either side gives the same values.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_features.inference.prepared import HALO
from enformer_features.inference.recipe import Recipe
from enformer_features.model.enformer import Enformer
from enformer_features.model.layers import Head
from enformer_features.model.recompute import Run, recomputed, transformed

TILE_ROWS = 32_768  # of a level at once: 100 MB of each activation at published size
STEM_MARGIN = 8  # letters on either side: the stem's 7, and even


@dataclass(frozen=True)
class GradientForward:
    """Compute the bins that a recipe asks for, so that letters have gradients.

    Parameters
    ----------
    network : Enformer
        In evaluation mode, its parameters without gradients.
    recipe : Recipe
    span : (int, int)
        Kept bins that are wanted, half-open.
    tile_rows : int, default=32_768
        Even.
    """

    network: Enformer
    recipe: Recipe
    span: tuple[int, int]
    tile_rows: int = TILE_ROWS

    def __call__(self, one_hot: Tensor) -> Tensor:
        """Run the network: (L, 4) to (bins, features)."""
        run = recomputed(self.network)
        recipe = self.recipe
        x = self._tower(run, one_hot[None].mT).mT
        edge = recipe.geometry.crop_bins
        wanted = slice(self.span[0] + edge, self.span[1] + edge)
        if recipe.output == "tower":
            return x[0, wanted]
        if recipe.output.startswith("block_"):
            n_blocks = int(recipe.output.removeprefix("block_")) + 1
            return transformed(self.network, x, run, n_blocks)[0, wanted]
        x = transformed(self.network, x, run)
        x = run(self.network.final_pointwise, x[:, wanted])[0]
        return x if recipe.tracks is None else self._tracks(x)

    def _tower(self, run: Run, x: Tensor) -> Tensor:  # (1, 4, L) -> (1, C, n)
        x = self._tiled(run, self.network.stem, x, STEM_MARGIN)
        for block in self.network.conv_tower:
            x = self._tiled(run, block, x, HALO)
        return x

    def _tiled(self, run: Run, part: nn.Module, x: Tensor, margin: int) -> Tensor:
        """Run a level of the tower by tiles: (1, C, n) to (1, C', n / 2)."""
        n, tiles = x.shape[-1], []
        for low in range(0, n, self.tile_rows):
            high = min(low + self.tile_rows, n)
            first, last = max(low - margin, 0), min(high + margin, n)
            y = run(part, x[..., first:last])
            tiles.append(y[..., (low - first) // 2 : (high - first) // 2])
        return tiles[0] if len(tiles) == 1 else torch.cat(tiles, dim=-1)

    def _tracks(self, embedding: Tensor) -> Tensor:
        """Predict the tracks that are asked for, and no others."""
        head = self.network.heads[self.recipe.organism]
        assert isinstance(head, Head)
        assert self.recipe.tracks is not None
        rows = list(self.recipe.tracks.indices)
        weight, bias = head.linear.weight[rows], head.linear.bias[rows]
        return F.softplus(F.linear(embedding, weight, bias))
