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
    LeakageWarning,
    StoreError,
    UntrainedWeightsWarning,
    WeightsError,
)

if TYPE_CHECKING:
    from enformer_features.datasets import make_toy_genome
    from enformer_features.estimators.baselines import (
        KmerBaseline,
        SequenceCompositionBaseline,
    )
    from enformer_features.estimators.conformal import GroupedConformal
    from enformer_features.estimators.controls import (
        PermutedTargets,
        TrainingMean,
        untrained,
    )
    from enformer_features.estimators.domain import OutOfDomain
    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.estimators.embedding_store import (
        EmbeddingStore,
        open_embedding_store,
        plan_store,
    )
    from enformer_features.estimators.evaluation.protocols import expecto_protocol
    from enformer_features.estimators.evaluation.result import Evaluation
    from enformer_features.estimators.evaluation.run import evaluate, standard_baselines
    from enformer_features.estimators.gene_tss import GeneTSSAggregator
    from enformer_features.estimators.heads import (
        elastic_net_head,
        expecto_head,
        fit_head,
        lasso_head,
        mlp_head,
        pls_head,
        ridge_head,
        xgboost_head,
    )
    from enformer_features.estimators.metrics import (
        median_scorer,
        score_across_genes,
        score_across_tissues,
    )
    from enformer_features.estimators.persistence import load_model, save_model
    from enformer_features.estimators.ridge.estimator import GroupedRidgeCV
    from enformer_features.estimators.splits.leakage import (
        LeakageReport,
        leakage_report,
    )
    from enformer_features.estimators.splits.rules import (
        ChromosomeSplit,
        FamilySplit,
        TrainedRegionSplit,
        WindowOverlapSplit,
    )
    from enformer_features.estimators.track_selector import TrackSelector
    from enformer_features.genomics.expecto import read_expecto
    from enformer_features.genomics.gene_pairs import pair_with_genes, unpaired
    from enformer_features.genomics.genes import align, read_genes
    from enformer_features.genomics.genome import Genome
    from enformer_features.genomics.regions import read_regions
    from enformer_features.genomics.variants import variant_table
    from enformer_features.genomics.vcf import read_vcf
    from enformer_features.inference.pooling import Pool, expecto_kernels
    from enformer_features.inference.tracks import (
        TrackSelection,
        read_tracks,
        select_tracks,
    )
    from enformer_features.interpret.attention import AttentionMap, attention
    from enformer_features.interpret.contributions import Contributions
    from enformer_features.interpret.crispri import (
        average_precision,
        crispri_baselines,
        read_crispri,
    )
    from enformer_features.interpret.elements import element_ism
    from enformer_features.interpret.enhancers import score_elements
    from enformer_features.interpret.gradients import (
        gradient_x_input,
        integrated_gradients,
    )
    from enformer_features.interpret.segments import strongest_segments
    from enformer_features.interpret.targets import Target
    from enformer_features.model.config import EnformerConfig
    from enformer_features.model.enformer import Enformer
    from enformer_features.model.handle import ModelHandle
    from enformer_features.report.evaluation import evaluation_page
    from enformer_features.report.explain import Question
    from enformer_features.report.explanation import Explanation, explain_page
    from enformer_features.storage.export import write_h5ad
    from enformer_features.training.tuning.regressor import EnformerRegressor
    from enformer_features.variant_effect.estimator import VariantEffect
    from enformer_features.variant_effect.hdf5 import read_sad_hdf5
    from enformer_features.variant_effect.mutagenesis import saturation_mutagenesis
    from enformer_features.variant_effect.outputs import read_scores
    from enformer_features.variant_effect.pca import VariantPCA

__version__ = "0.1.0"

__all__ = [
    "AttentionMap",
    "ChromosomeSplit",
    "Contributions",
    "EmbeddingStore",
    "Enformer",
    "EnformerConfig",
    "EnformerEmbedder",
    "EnformerFeaturesError",
    "EnformerFeaturesWarning",
    "EnformerRegressor",
    "Evaluation",
    "Explanation",
    "FamilySplit",
    "GeneTSSAggregator",
    "Genome",
    "GenomeError",
    "GroupedConformal",
    "GroupedRidgeCV",
    "InputError",
    "InputTypeError",
    "KmerBaseline",
    "LeakageReport",
    "LeakageWarning",
    "ModelHandle",
    "OutOfDomain",
    "PermutedTargets",
    "Pool",
    "Question",
    "SequenceCompositionBaseline",
    "StoreError",
    "Target",
    "TrackSelection",
    "TrackSelector",
    "TrainedRegionSplit",
    "TrainingMean",
    "UntrainedWeightsWarning",
    "VariantEffect",
    "VariantPCA",
    "WeightsError",
    "WindowOverlapSplit",
    "align",
    "attention",
    "average_precision",
    "crispri_baselines",
    "elastic_net_head",
    "element_ism",
    "evaluate",
    "evaluation_page",
    "expecto_head",
    "expecto_kernels",
    "expecto_protocol",
    "explain_page",
    "fit_head",
    "gradient_x_input",
    "integrated_gradients",
    "lasso_head",
    "leakage_report",
    "load_model",
    "make_toy_genome",
    "median_scorer",
    "mlp_head",
    "open_embedding_store",
    "pair_with_genes",
    "plan_store",
    "pls_head",
    "read_crispri",
    "read_expecto",
    "read_genes",
    "read_regions",
    "read_sad_hdf5",
    "read_scores",
    "read_tracks",
    "read_vcf",
    "ridge_head",
    "saturation_mutagenesis",
    "save_model",
    "score_across_genes",
    "score_across_tissues",
    "score_elements",
    "select_tracks",
    "standard_baselines",
    "strongest_segments",
    "unpaired",
    "untrained",
    "variant_table",
    "write_h5ad",
    "xgboost_head",
]

_MODULES = {
    "AttentionMap": "interpret.attention",
    "ChromosomeSplit": "estimators.splits.rules",
    "Contributions": "interpret.contributions",
    "EmbeddingStore": "estimators.embedding_store",
    "Enformer": "model.enformer",
    "EnformerConfig": "model.config",
    "EnformerEmbedder": "estimators.embedder",
    "EnformerRegressor": "training.tuning.regressor",
    "Evaluation": "estimators.evaluation.result",
    "Explanation": "report.explanation",
    "FamilySplit": "estimators.splits.rules",
    "GeneTSSAggregator": "estimators.gene_tss",
    "Genome": "genomics.genome",
    "GroupedConformal": "estimators.conformal",
    "GroupedRidgeCV": "estimators.ridge.estimator",
    "KmerBaseline": "estimators.baselines",
    "LeakageReport": "estimators.splits.leakage",
    "ModelHandle": "model.handle",
    "OutOfDomain": "estimators.domain",
    "PermutedTargets": "estimators.controls",
    "Pool": "inference.pooling",
    "Question": "report.explain",
    "SequenceCompositionBaseline": "estimators.baselines",
    "Target": "interpret.targets",
    "TrackSelection": "inference.tracks",
    "TrackSelector": "estimators.track_selector",
    "TrainedRegionSplit": "estimators.splits.rules",
    "TrainingMean": "estimators.controls",
    "VariantEffect": "variant_effect.estimator",
    "VariantPCA": "variant_effect.pca",
    "WindowOverlapSplit": "estimators.splits.rules",
    "align": "genomics.genes",
    "attention": "interpret.attention",
    "average_precision": "interpret.crispri",
    "crispri_baselines": "interpret.crispri",
    "elastic_net_head": "estimators.heads",
    "element_ism": "interpret.elements",
    "evaluate": "estimators.evaluation.run",
    "evaluation_page": "report.evaluation",
    "expecto_head": "estimators.heads",
    "expecto_kernels": "inference.pooling",
    "expecto_protocol": "estimators.evaluation.protocols",
    "explain_page": "report.explanation",
    "fit_head": "estimators.heads",
    "gradient_x_input": "interpret.gradients",
    "integrated_gradients": "interpret.gradients",
    "lasso_head": "estimators.heads",
    "leakage_report": "estimators.splits.leakage",
    "load_model": "estimators.persistence",
    "make_toy_genome": "datasets",
    "median_scorer": "estimators.metrics",
    "mlp_head": "estimators.heads",
    "open_embedding_store": "estimators.embedding_store",
    "pair_with_genes": "genomics.gene_pairs",
    "plan_store": "estimators.embedding_store",
    "pls_head": "estimators.heads",
    "read_crispri": "interpret.crispri",
    "read_expecto": "genomics.expecto",
    "read_genes": "genomics.genes",
    "read_regions": "genomics.regions",
    "read_sad_hdf5": "variant_effect.hdf5",
    "read_scores": "variant_effect.outputs",
    "read_tracks": "inference.tracks",
    "read_vcf": "genomics.vcf",
    "ridge_head": "estimators.heads",
    "saturation_mutagenesis": "variant_effect.mutagenesis",
    "save_model": "estimators.persistence",
    "score_across_genes": "estimators.metrics",
    "score_across_tissues": "estimators.metrics",
    "score_elements": "interpret.enhancers",
    "select_tracks": "inference.tracks",
    "standard_baselines": "estimators.evaluation.run",
    "strongest_segments": "interpret.segments",
    "unpaired": "genomics.gene_pairs",
    "untrained": "estimators.controls",
    "variant_table": "genomics.variants",
    "write_h5ad": "storage.export",
    "xgboost_head": "estimators.heads",
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
