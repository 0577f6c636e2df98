"""Figures say what they show, and a missing matplotlib how to get it."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, MissingDependencyError
from enformer_features.plotting import plot_predictions, plot_scores


def test_every_target_has_a_panel_with_its_correlations(tmp_path: Path) -> None:
    observed = pd.DataFrame({"liver": [1.0, 2.0, 3.0, 9.0], "lung": [4.0, 3, 2, 1]})
    predicted = np.array([[1.0, 1.0], [2.0, 2.0], [3.0, 3.0], [4.0, 4.0]])
    figure = plot_predictions(observed, predicted, note="untrained weights")
    assert [ax.get_title() for ax in figure.axes] == [
        "liver\nSpearman 1.00, Pearson 0.90",
        "lung\nSpearman -1.00, Pearson -1.00",
    ]
    assert figure.get_suptitle() == "untrained weights"
    figure.savefig(tmp_path / "panels.png")
    assert (tmp_path / "panels.png").stat().st_size > 1000


def test_missing_values_are_left_out_pair_by_pair() -> None:
    figure = plot_predictions([1.0, 2.0, np.nan, 3.0], [1.0, 2.0, 3.0, np.nan])
    (points,) = figure.axes[0].lines
    assert np.asarray(points.get_xydata()).tolist() == [[1.0, 1.0], [2.0, 2.0]]


def test_a_constant_prediction_has_no_correlation() -> None:
    figure = plot_predictions([1.0, 2.0, 3.0], [5.0, 5.0, 5.0], names=["liver"])
    assert figure.axes[0].get_title() == "liver\nSpearman nan, Pearson nan"


def test_many_panels_are_wrapped_into_rows() -> None:
    values = np.random.default_rng(0).random((7, 5))
    axes: list[Any] = plot_predictions(values, values).axes
    rows = {ax.get_subplotspec().rowspan.start for ax in axes}
    assert len(axes) == 5
    assert rows == {0, 1}


def test_predictions_of_other_regions_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(3,\) and predicted \(2,\)"):
        plot_predictions([1.0, 2.0, 3.0], [1.0, 2.0])
    with pytest.raises(InputError, match="names has 2 entries for 1 targets"):
        plot_predictions([1.0, 2.0], [1.0, 2.0], names=["a", "b"])


def test_scores_are_drawn_as_median_quartiles_and_single_targets() -> None:
    scores = pd.DataFrame({"model": [0.1, 0.5, 0.7], "baseline": [0.2, 0.3, np.nan]})
    ax: Any = plot_scores(scores).axes[0]
    assert [bar.get_height() for bar in ax.patches] == [0.5, 0.25]
    assert [label.get_text() for label in ax.get_xticklabels()] == ["model", "baseline"]
    (quartiles,) = ax.collections
    ends = [segment[:, 1].tolist() for segment in quartiles.get_segments()]
    assert np.allclose(ends, [[0.3, 0.6], [0.225, 0.275]])
    assert ax.get_ylabel() == "Spearman correlation, median of 3"


def test_empty_scores_are_refused() -> None:
    with pytest.raises(InputError, match=r"shape \(0, 1\) holds no values"):
        plot_scores(pd.DataFrame({"model": []}))


def test_a_missing_matplotlib_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"enformer-features\[plot\]"):
        plot_predictions([1.0, 2.0], [1.0, 2.0])
