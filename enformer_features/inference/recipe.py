"""What is computed for a window: output, tracks, bins and pools."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enformer_features.exceptions import InputError, check_choice
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.pooling import Integers, Pool, pooled_names
from enformer_features.inference.prepared import Prepared
from enformer_features.inference.reads import Codes
from enformer_features.inference.reuse import SharedTower
from enformer_features.inference.tracks import TrackSelection, resolve_tracks
from enformer_features.model.config import EnformerConfig

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Recipe:
    """Everything besides weights and windows that a feature's value depends on.

    Parameters
    ----------
    config : EnformerConfig
    geometry : Geometry
    output : str
        "embedding", "tracks", or a layer of the network.
    organism : str
        The head, for tracks.
    tracks : TrackSelection or None
        The tracks, for tracks.
    pools : tuple of Pool
    """

    config: EnformerConfig
    geometry: Geometry
    output: str
    organism: str
    tracks: TrackSelection | None
    pools: tuple[Pool, ...]

    @property
    def n_bin_features(self) -> int:
        """Features of one bin."""
        if self.tracks is not None:
            return len(self.tracks.indices)
        is_embedding = self.output == "embedding"
        return self.config.embedding_dim if is_embedding else self.config.dim

    @property
    def n_features(self) -> int:
        """Pooled features."""
        return sum(
            pool.n_outputs(self.n_bin_features, self.geometry) for pool in self.pools
        )

    @property
    def bin_names(self) -> list[str]:
        """Names of the features of one bin."""
        if self.tracks is not None:
            return list(self.tracks.names)
        prefix = "enformer" if self.output == "embedding" else self.output
        return [f"{prefix}_{i:04d}" for i in range(self.n_bin_features)]

    @property
    def feature_names(self) -> list[str]:
        """Names of the pooled features, in column order."""
        return pooled_names(self.pools, self.bin_names, self.geometry)

    @property
    def identity(self) -> str:
        """JSON of all that decides the values, for cache keys and provenance.

        The bins of the pools are not in it: they may differ between rows.
        """
        content = {
            "config": self.config.to_json(),
            "sequence_length": self.geometry.sequence_length,
            "output": self.output,
            "organism": self.organism if self.output == "tracks" else None,
            "tracks": self.tracks.indices if self.tracks is not None else None,
            "reductions": [pool.reduction for pool in self.pools],
        }
        return json.dumps(content, sort_keys=True)

    def span(self, bins: Sequence[Integers], *, flips: bool) -> tuple[int, int]:
        """Return the kept bins that have to be computed, the same for all rows.

        Pools of the region's own bins differ between rows, and a row's value must not
        depend on the others: they get all kept bins. Where views are turned around
        (``flips``), the span is its own mirror image.
        """
        if any(pool.bins == "region" for pool in self.pools):
            return 0, self.geometry.n_bins
        low = min(int(of_pool[0, 0]) for of_pool in bins)
        high = max(int(of_pool[0, 1]) for of_pool in bins)
        if not flips:
            return low, high
        low = min(low, self.geometry.n_bins - high)
        return low, self.geometry.n_bins - low


@dataclass(frozen=True)
class PreparedForward:
    """A prepared network that computes what a recipe asks for.

    Parameters
    ----------
    recipe : Recipe
    prepared : Prepared
    span : (int, int)
        Kept bins that are wanted, half-open.
    """

    recipe: Recipe
    prepared: Prepared
    span: tuple[int, int]

    def tower(self, codes: Tensor) -> Tensor:
        """Run the tower: (B, L) uint8 to (B, n, C)."""
        return self.prepared.tower(codes)

    def share(self, codes: Codes) -> SharedTower:
        """Compute the tower of a longer stretch once."""
        return SharedTower(self.prepared, codes)

    def bins(self, tower: Tensor) -> Tensor:
        """Compute the wanted bins: (B, n, C) to (B, bins, features)."""
        recipe, prepared = self.recipe, self.prepared
        edge = recipe.geometry.crop_bins
        wanted = self.span[0] + edge, self.span[1] + edge
        if recipe.output == "tower":
            return tower[:, slice(*wanted)]
        if recipe.output.startswith("block_"):
            n_blocks = int(recipe.output.removeprefix("block_")) + 1
            return prepared.transform(tower, n_blocks, bins=wanted)
        x = prepared.embed(prepared.transform(tower, bins=wanted))
        if recipe.tracks is None:
            return x
        return prepared.predict(x, recipe.organism, recipe.tracks.indices)


def check_output_name(output: object) -> None:
    """Refuse what is no output of any network, before a configuration is read."""
    if not (isinstance(output, str) and re.fullmatch(r"block_\d+", output)):
        check_choice("output", output, ("embedding", "tracks", "tower", "block_0"))


def make_recipe(
    config: EnformerConfig,
    *,
    sequence_length: int,
    output: str,
    organism: str,
    tracks: object,
    pools: tuple[Pool, ...],
) -> Recipe:
    """Check what is asked for against the network's sizes.

    Raises
    ------
    InputError
        For an output or organism that the network does not have (the nearest is
        named), tracks that do not exist, or a length that does not fit.
    """
    check_choice("output", output, ("tracks", *reversed(config.layers)))
    geometry = Geometry(sequence_length, config.target_length, config.bin_size)
    selection = None
    if output == "tracks":
        if organism not in list(config.output_heads):
            near = difflib.get_close_matches(str(organism), config.output_heads, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = (
                f"organism={organism!r} has no head in this network; there are "
                f"{list(config.output_heads)}{hint}"
            )
            raise InputError(msg)
        n_tracks = config.output_heads[organism]
        selection = resolve_tracks(tracks, organism=organism, n_tracks=n_tracks)
    elif tracks is not None:
        msg = f"tracks={tracks!r} needs output='tracks'; output is {output!r}"
        raise InputError(msg)
    return Recipe(config, geometry, output, organism, selection, pools)
