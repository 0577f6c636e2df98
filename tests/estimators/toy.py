"""A small genome and embedders on it, shared by the tests of this folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from enformer_features import EnformerEmbedder
from enformer_features.genomics.encoding import decode, reverse_complement

LENGTH = 1024


def random_letters(n: int, seed: int = 0) -> str:
    codes = np.random.default_rng(seed).integers(0, 4, n).astype(np.uint8)
    return decode(codes)


def mirrored(letters: str) -> str:
    from enformer_features.genomics.encoding import encode

    return decode(reverse_complement(encode(letters)))


def write_fasta(path: Path, **contigs: str) -> Path:
    path.write_text("".join(f">{name}\n{text}\n" for name, text in contigs.items()))
    return path


def embedder(**parameters: Any) -> EnformerEmbedder:
    """Return an embedder that is quick and, by default, remembers nothing."""
    defaults = {
        "weights": "untrained-tiny",
        "sequence_length": LENGTH,
        "cache": None,
        "device": "cpu",
    }
    return EnformerEmbedder(**{**defaults, **parameters})
