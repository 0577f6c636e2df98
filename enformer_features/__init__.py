"""Enformer features for scikit-learn: predict your own measurement from DNA.

Names are imported when they are asked for, so that importing the package is light.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from enformer_features.exceptions import (
    EnformerFeaturesError,
    EnformerFeaturesWarning,
    GenomeError,
    InputError,
    InputTypeError,
    StoreError,
    UntrainedWeightsWarning,
    WeightsError,
)

if TYPE_CHECKING:
    from enformer_features.datasets import make_toy_genome
    from enformer_features.estimators.baselines import SequenceCompositionBaseline
    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.estimators.embedding_store import (
        EmbeddingStore,
        open_embedding_store,
        plan_store,
    )
    from enformer_features.estimators.persistence import load_model, save_model
    from enformer_features.genomics.genes import align, read_genes
    from enformer_features.genomics.genome import Genome
    from enformer_features.genomics.regions import read_regions
    from enformer_features.inference.pooling import Pool
    from enformer_features.inference.tracks import (
        TrackSelection,
        read_tracks,
        select_tracks,
    )
    from enformer_features.model.config import EnformerConfig
    from enformer_features.model.enformer import Enformer
    from enformer_features.model.handle import ModelHandle
    from enformer_features.storage.export import write_h5ad
    from enformer_features.training.tuning.regressor import EnformerRegressor

__version__ = "0.1.0"

__all__ = [
    "EmbeddingStore",
    "Enformer",
    "EnformerConfig",
    "EnformerEmbedder",
    "EnformerFeaturesError",
    "EnformerFeaturesWarning",
    "EnformerRegressor",
    "Genome",
    "GenomeError",
    "InputError",
    "InputTypeError",
    "ModelHandle",
    "Pool",
    "SequenceCompositionBaseline",
    "StoreError",
    "TrackSelection",
    "UntrainedWeightsWarning",
    "WeightsError",
    "align",
    "load_model",
    "make_toy_genome",
    "open_embedding_store",
    "plan_store",
    "read_genes",
    "read_regions",
    "read_tracks",
    "save_model",
    "select_tracks",
    "write_h5ad",
]

_MODULES = {
    "EmbeddingStore": "estimators.embedding_store",
    "Enformer": "model.enformer",
    "EnformerConfig": "model.config",
    "EnformerEmbedder": "estimators.embedder",
    "EnformerRegressor": "training.tuning.regressor",
    "Genome": "genomics.genome",
    "ModelHandle": "model.handle",
    "Pool": "inference.pooling",
    "SequenceCompositionBaseline": "estimators.baselines",
    "TrackSelection": "inference.tracks",
    "align": "genomics.genes",
    "load_model": "estimators.persistence",
    "make_toy_genome": "datasets",
    "open_embedding_store": "estimators.embedding_store",
    "plan_store": "estimators.embedding_store",
    "read_genes": "genomics.genes",
    "read_regions": "genomics.regions",
    "read_tracks": "inference.tracks",
    "save_model": "estimators.persistence",
    "select_tracks": "inference.tracks",
    "write_h5ad": "storage.export",
}


def __getattr__(name: str) -> object:
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(importlib.import_module(f".{_MODULES[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
