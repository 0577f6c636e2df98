"""The network: configuration, layers, checkpoints and the registry of weights."""

from __future__ import annotations

from .config import EnformerConfig
from .enformer import Enformer
from .positional import position_features

__all__ = ["Enformer", "EnformerConfig", "position_features"]
