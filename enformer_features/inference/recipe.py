"""What is computed for a window: output, tracks, bins and pools."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from enformer_features.exceptions import InputError, check_choice
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.pooling import Pool, pooled_names
from enformer_features.inference.tracks import TrackSelection, resolve_tracks
from enformer_features.model.config import EnformerConfig

if TYPE_CHECKING:
    from torch import Tensor

    from enformer_features.model import Enformer


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

    def forward(self, network: Enformer) -> Callable[[Tensor], Tensor]:
        """Return the function from one-hot windows to the features of kept bins."""

        def kept_bins(one_hot: Tensor) -> Tensor:  # (B, L, 4) -> (B, bins, features)
            bins: Tensor = network(one_hot, self.output, self.organism)
            if self.tracks is not None:
                return bins[..., list(self.tracks.indices)]
            return bins if self.output == "embedding" else network.crop(bins)

        return kept_bins


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
