"""Figures say what they show, and a missing matplotlib how to get it."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from enformer_features.estimators.controls import PermutedTargets, TrainingMean
from enformer_features.estimators.evaluation.run import evaluate
from enformer_features.exceptions import InputError, MissingDependencyError
from enformer_features.plotting import evaluation
from enformer_features.plotting.evaluation import (
    FIGURES,
    plot_against_baseline,
    plot_by_split,
    plot_predictions,
    plot_scores,
    save_figures,
)


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


SCORES = pd.DataFrame(
    {"ridge": [0.5, 0.2, 0.7], "trees": [0.1, 0.1, np.nan], "GC": [0.4, 0.3, 0.6]}
)


def test_models_are_drawn_over_their_baseline_target_by_target() -> None:
    figure = plot_against_baseline(SCORES, "GC", note="mini")
    ridge, trees = figure.axes
    assert ridge.get_title() == "ridge\nbetter for 2 of 3"
    assert trees.get_title() == "trees\nbetter for 0 of 2"
    diagonal, dots = ridge.lines
    assert np.allclose(dots.get_xydata(), [[0.4, 0.5], [0.3, 0.2], [0.6, 0.7]])
    assert diagonal.get_slope() == 1.0  # type: ignore[attr-defined]


def test_long_labels_stay_within_the_figure() -> None:
    long = "a baseline of nine numbers about letters"
    scores = SCORES[["ridge", "GC"]].rename(columns={"GC": long})
    figure = plot_against_baseline(scores, long, score="spearman across genes")
    figure.savefig(io.BytesIO())
    label = next(t for t in figure.texts if "baseline" in t.get_text())
    extent = label.get_window_extent()
    assert 0 <= extent.x0 < extent.x1 <= figure.bbox.width


def test_a_baseline_that_is_no_column_is_refused() -> None:
    with pytest.raises(InputError, match="there are ridge, trees, GC"):
        plot_against_baseline(SCORES, "CpG")


def medians() -> pd.DataFrame:
    rows = [
        (split, model, role, axis, "spearman", 0.1 * i, 0.1 * i - 0.05, 0.1 * i + 0.2)
        for axis in ("across genes", "across tissues")
        for split in ("chr8", "windows")
        for i, (model, role) in enumerate([("ridge", "model"), ("mean", "baseline")])
    ]
    columns = ["split", "model", "role", "axis", "metric", "median", "low", "high"]
    return pd.DataFrame(rows, columns=columns)


def test_every_split_shows_medians_with_intervals_and_hollow_baselines() -> None:
    figure = plot_by_split(medians())
    genes, tissues = figure.axes
    assert [ax.get_title() for ax in (genes, tissues)] == [
        "across genes",
        "across tissues",
    ]
    assert [text.get_text() for text in genes.get_xticklabels()] == ["chr8", "windows"]
    ridge, mean, _ = genes.lines
    assert np.allclose(mean.get_ydata(), [0.1, 0.1])
    assert (ridge.get_markerfacecolor() != "white", mean.get_markerfacecolor()) == (
        True,
        "white",
    )
    interval: Any = genes.collections[1]
    assert np.allclose(interval.get_segments()[0][:, 1], [0.05, 0.3])
    assert [text.get_text() for text in figure.legends[0].get_texts()] == [
        "ridge",
        "mean",
    ]
    with pytest.raises(InputError, match="no rows"):
        plot_by_split(medians().iloc[:0])


def test_an_evaluation_is_drawn_into_files(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 2))
    y = pd.DataFrame(X @ random.normal(size=(2, 3)), columns=list("abc"))
    found = evaluate(
        {"ridge": Ridge()},
        X,
        y,
        splits={"rows": 3},
        baselines={"permuted": PermutedTargets(Ridge())},
    )
    files = save_figures(found, tmp_path)
    assert [file.name for file in files] == sorted(FIGURES)
    assert all(file.read_bytes().startswith(b"\x89PNG") for file in files)
    with pytest.raises(InputError, match="exists"):
        save_figures(found, tmp_path)


def test_the_baseline_that_is_drawn_is_the_best_one_that_has_a_score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mean has none where there is one fold: it says the same for every row."""
    random = np.random.default_rng(0)
    X = random.normal(size=(30, 2))
    found = evaluate(
        {"ridge": Ridge()},
        X,
        pd.DataFrame(X @ random.normal(size=(2, 3)), columns=list("abc")),
        splits={"rows": [(np.arange(20), np.arange(20, 30))]},
        baselines={
            "mean": TrainingMean(),
            "permuted": PermutedTargets(Ridge()),
            "strong": Ridge(10.0),
        },
    )
    drawn: list[Any] = []
    draw = evaluation.plot_against_baseline
    monkeypatch.setattr(
        evaluation,
        "plot_against_baseline",
        lambda scores, name, **options: (
            drawn.append([list(scores), name]) or draw(scores, name, **options)
        ),
    )
    assert len(save_figures(found, tmp_path)) == len(FIGURES)
    assert drawn == [[["ridge", "strong"], "strong"]]
