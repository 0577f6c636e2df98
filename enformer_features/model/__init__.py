"""The network: configuration, layers, checkpoints and the registry of weights.

Names are imported when they are asked for: the configuration needs no torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from enformer_features.model.config import EnformerConfig

if TYPE_CHECKING:
    from enformer_features.model.checkpoints import (
        Checkpoint,
        build,
        read_checkpoint,
        save_checkpoint,
    )
    from enformer_features.model.enformer import Enformer
    from enformer_features.model.handle import ModelHandle
    from enformer_features.model.positional import position_features
    from enformer_features.model.registry import (
        LoadedModel,
        clear_loaded,
        load_weights,
        weights_config,
        weights_digest,
    )

__all__ = [
    "Checkpoint",
    "Enformer",
    "EnformerConfig",
    "LoadedModel",
    "ModelHandle",
    "build",
    "clear_loaded",
    "load_weights",
    "position_features",
    "read_checkpoint",
    "save_checkpoint",
    "weights_config",
    "weights_digest",
]

_MODULES = {
    "Checkpoint": "checkpoints",
    "Enformer": "enformer",
    "LoadedModel": "registry",
    "ModelHandle": "handle",
    "build": "checkpoints",
    "clear_loaded": "registry",
    "load_weights": "registry",
    "position_features": "positional",
    "read_checkpoint": "checkpoints",
    "save_checkpoint": "checkpoints",
    "weights_config": "registry",
    "weights_digest": "registry",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    return getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
