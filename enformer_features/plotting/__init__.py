"""Figures: arrays, tables and regions in, matplotlib's Axes or Figures out."""

from enformer_features.plotting.contributions import (
    plot_attention,
    plot_contributions,
    plot_ism,
    plot_logo,
)
from enformer_features.plotting.evaluation import (
    FIGURES,
    plot_against_baseline,
    plot_by_split,
    plot_predictions,
    plot_scores,
    save_figures,
)
from enformer_features.plotting.heads import plot_coefficients
from enformer_features.plotting.tracks import plot_tracks
from enformer_features.plotting.variants import plot_variant_effects

__all__ = [
    "FIGURES",
    "plot_against_baseline",
    "plot_attention",
    "plot_by_split",
    "plot_coefficients",
    "plot_contributions",
    "plot_ism",
    "plot_logo",
    "plot_predictions",
    "plot_scores",
    "plot_tracks",
    "plot_variant_effects",
    "save_figures",
]
