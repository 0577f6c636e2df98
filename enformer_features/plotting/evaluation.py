"""Figures of predictions and scores."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.evaluation.result import Evaluation
from enformer_features.exceptions import InputError, first_few
from enformer_features.plotting.base import BLUE, GREY, PALETTE, figure_class
from enformer_features.storage.files import atomic_write, check_output

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.ArrayLike
_PANEL_INCHES = 3.0
_LETTERS_PER_INCH = 9
_MAX_COLUMNS = 4
_MARKERS = "osD^vPX"
FIGURES = ("scores_by_split.png", "scores_against_baselines.png", "predictions.png")


def plot_predictions(
    observed: Values,
    predicted: Values,
    *,
    names: Sequence[str] | None = None,
    note: str = "",
) -> Figure:
    """Draw observed against predicted values, one panel per target.

    Parameters
    ----------
    observed, predicted : array-like, shape (n_regions,) or (n_regions, n_targets)
        Values of the same regions and targets, in the same order: held out, if the
        figure shall say anything. NaN are left out pair by pair.
    names : sequence of str, optional
        Titles of the panels; by default the columns of `observed`, if it is a
        DataFrame, and else ``target 0`` ...
    note : str, default=""
        A line under the title, such as "untrained weights".

    Returns
    -------
    Figure
        Each panel's title gives the Spearman and the Pearson correlation across
        regions. Save it with ``figure.savefig(path)``.

    Raises
    ------
    InputError
        If the shapes differ, there are no values, or `names` has another length.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> figure = plot_predictions([1.0, 2.0, 4.0], [2.0, 3.0, 4.0], names=["liver"])
    >>> print(figure.axes[0].get_title())
    liver
    Spearman 1.00, Pearson 0.98
    """
    truth, guess = _as_columns(observed), _as_columns(predicted)
    if truth.shape != guess.shape or not truth.size:
        msg = (
            f"observed has shape {np.shape(observed)} and predicted "
            f"{np.shape(predicted)}; they must be the same regions and targets, and "
            "at least one of each"
        )
        raise InputError(msg)
    titles = _titles(observed, names, truth.shape[1])
    figure, axes = _panels(len(titles))
    for ax, title, x, y in zip(axes, titles, truth.T, guess.T, strict=True):
        _draw_pairs(ax, title, x, y)
    figure.supxlabel("observed")
    figure.supylabel("predicted")
    _add_note(figure, note)
    return figure


def plot_scores(
    scores: pd.DataFrame, *, score: str = "Spearman correlation", note: str = ""
) -> Figure:
    """Draw the scores of models beside those of their baselines.

    Parameters
    ----------
    scores : DataFrame, shape (n_targets, n_models)
        One column per model or baseline, one row per target (a tissue, say).
    score : str, default="Spearman correlation"
        What the values are: the label of the axis.
    note : str, default=""
        The title, such as "untrained weights".

    Returns
    -------
    Figure
        One bar per column: the median over targets, a line from the first to the
        third quartile, and a dot for each target. NaN are left out.

    Raises
    ------
    InputError
        If `scores` has no values.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> scores = pd.DataFrame({"model": [0.5, 0.6], "composition": [0.4, 0.4]})
    >>> figure = plot_scores(scores)
    >>> [float(bar.get_height()) for bar in figure.axes[0].patches]
    [0.55, 0.4]
    """
    if not scores.notna().to_numpy().any():
        msg = f"scores of shape {scores.shape} holds no values to draw"
        raise InputError(msg)
    figure, (ax,) = _panels(1)
    low, middle, high = (scores.quantile(q).to_numpy() for q in (0.25, 0.5, 0.75))
    places = np.arange(scores.shape[1])
    ax.bar(places, middle, width=0.6, color=BLUE, alpha=0.7)
    ax.vlines(places, low, high, color="black")
    for place, values in zip(places, scores.to_numpy().T, strict=True):
        beside = np.full(len(values), place + 0.15)
        ax.plot(beside, values, ".", color=GREY, markersize=3)
    ax.set_xticks(places, [str(name) for name in scores.columns])
    ax.set_ylabel(f"{score}, median of {len(scores)}")
    ax.axhline(0.0, color="black", linewidth=0.8)
    _add_note(figure, note)
    return figure


def plot_against_baseline(
    scores: pd.DataFrame,
    baseline: str,
    *,
    score: str = "Spearman correlation",
    note: str = "",
) -> Figure:
    """Draw the scores of models over those of one baseline, target by target.

    Parameters
    ----------
    scores : DataFrame, shape (n_targets, n_models)
        One column per model or baseline, as ``Evaluation.scores(split)``.
    baseline : str
        The column on the horizontal axis.
    score : str, default="Spearman correlation"
        What the values are.
    note : str, default=""
        The title.

    Returns
    -------
    Figure
        A panel for every other column: a dot per target, above the diagonal where the
        model is better. The title counts these. NaN are left out pair by pair.

    Raises
    ------
    InputError
        When there is no such column, or no other.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> scores = pd.DataFrame({"ridge": [0.5, 0.6], "GC/CpG": [0.4, 0.7]})
    >>> figure = plot_against_baseline(scores, "GC/CpG")
    >>> print(figure.axes[0].get_title())
    ridge
    better for 1 of 2
    """
    others = [name for name in scores if name != baseline]
    if baseline not in scores or not others:
        msg = (
            f"baseline={baseline!r} and at least one other must be columns of scores; "
            f"there are {first_few(list(scores))}"
        )
        raise InputError(msg)
    figure, axes = _panels(len(others))
    for ax, name in zip(axes, others, strict=True):
        pairs = scores[[baseline, name]].dropna().to_numpy()
        ax.axline((0.0, 0.0), slope=1.0, color=GREY, linewidth=0.8)
        ax.plot(*pairs.T, "o", color=BLUE, alpha=0.6, markersize=4)
        n_better = int((pairs[:, 1] > pairs[:, 0]).sum())
        ax.set_title(f"{name}\nbetter for {n_better} of {len(pairs)}", size=9)
        ax.set_aspect("equal", adjustable="datalim")
    figure.supxlabel(_wrapped(f"{score}, {baseline}", figure.get_figwidth()))
    figure.supylabel(_wrapped(f"{score}, model", figure.get_figheight()))
    _add_note(figure, note)
    return figure


def plot_by_split(table: pd.DataFrame, *, note: str = "") -> Figure:
    """Draw the median score of every model on every split, with its interval.

    Parameters
    ----------
    table : DataFrame
        ``Evaluation.table``, or rows of it: ``split``, ``model``, ``role``, ``axis``,
        ``metric``, ``median``, ``low``, ``high``.
    note : str, default=""
        The title.

    Returns
    -------
    Figure
        A panel per axis ("across genes", "across tissues"). Baselines are hollow.

    Raises
    ------
    InputError
        When the table is empty.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> table = pd.DataFrame({"split": "chr8", "model": ["ridge", "mean"],
    ...     "role": ["model", "baseline"], "axis": "across genes",
    ...     "metric": "spearman", "median": [0.5, 0.0], "low": 0.0, "high": 0.6})
    >>> print(plot_by_split(table).axes[0].get_ylabel())
    median spearman
    """
    if table.empty:
        msg = "the table has no rows to draw"
        raise InputError(msg)
    by_axis = list(table.groupby("axis", sort=False))
    models = list(dict.fromkeys(table["model"]))
    figure, axes = _panels(len(by_axis), width=0.45 * len(models) + 2.0)
    for ax, (axis, rows) in zip(axes, by_axis, strict=True):
        splits = list(dict.fromkeys(rows["split"]))
        for number, model in enumerate(models):
            _draw_model(ax, rows[rows["model"] == model], number, len(models), splits)
        ax.axhline(0.0, color="black", linewidth=0.8)
        ax.set_xticks(range(len(splits)), splits)
        ax.set_xlim(-0.5, len(splits) - 0.5)
        ax.set_ylabel(f"median {rows['metric'].iloc[0]}")
        ax.set_title(str(axis), size=9)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, fontsize=8)
    _add_note(figure, note)
    return figure


def save_figures(
    evaluation: Evaluation,
    folder: str | PathLike[str],
    *,
    note: str = "",
    overwrite: bool = False,
) -> list[Path]:
    """Draw an evaluation, and write the figures beside its tables.

    Parameters
    ----------
    evaluation : Evaluation
    folder : path
        Must be there.
    note : str, default=""
        The title, such as whose data these are.
    overwrite : bool, default=False

    Returns
    -------
    list of Path
        ``scores_by_split.png``; of the first split, ``scores_against_baselines.png``
        (models over the best baseline across genes, if one has a score), and
        ``predictions.png`` of the first model (at most twelve targets).

    Raises
    ------
    InputError, StoreError
        When a file is there already, or cannot be written.
    MissingDependencyError
        If matplotlib is not installed.
    """
    files = [check_output(Path(folder) / name, overwrite=overwrite) for name in FIGURES]
    table = evaluation.table
    split, model = str(table["split"].iloc[0]), str(table["model"].iloc[0])
    scores = evaluation.scores(split)
    baselines = list(dict.fromkeys(table.loc[table["role"] == "baseline", "model"]))
    lines = filter(None, [f"{model}, split {split}, out of fold", note])
    predicted = evaluation.predictions[split][model].iloc[:, :12]
    observed = evaluation.observed.loc[:, predicted.columns]
    rows = evaluation.observed.index.isin(predicted.index)
    figures = {
        files[0]: plot_by_split(table, note=note),
        files[2]: plot_predictions(observed[rows], predicted, note="\n".join(lines)),
    }
    medians = scores[baselines].median().dropna()  # none of a constant prediction
    if len(medians):
        title = "\n".join(filter(None, [f"split {split}", note]))
        best = str(medians.idxmax())
        shown = scores[[*(n for n in scores if n not in baselines), best]]
        name = f"{evaluation.provenance['metric']} across genes"
        figures[files[1]] = plot_against_baseline(shown, best, score=name, note=title)
    for file, figure in figures.items():
        with atomic_write(file) as temporary:
            figure.savefig(temporary, format="png", dpi=120)
    return sorted(figures)


def _draw_model(
    ax: Any, rows: pd.DataFrame, number: int, n_models: int, splits: list[str]
) -> None:
    """Draw the medians of one model beside those of the others."""
    shift = 0.7 * ((number + 0.5) / n_models - 0.5)
    places = [splits.index(split) + shift for split in rows["split"]]
    color = PALETTE[number % len(PALETTE)]
    is_baseline = rows["role"].iloc[0] == "baseline"
    ax.vlines(places, rows["low"], rows["high"], color=color)
    ax.plot(
        places,
        rows["median"],
        _MARKERS[number % len(_MARKERS)],
        color=color,
        markerfacecolor="white" if is_baseline else color,
        label=str(rows["model"].iloc[0]),
    )


def _as_columns(values: Values) -> npt.NDArray[np.float64]:
    array = np.asarray(values, dtype=np.float64)
    return array.reshape(len(array), -1)


def _titles(observed: Values, names: Sequence[str] | None, n: int) -> list[str]:
    if names is None and isinstance(observed, pd.DataFrame):
        names = [str(column) for column in observed.columns]
    if names is None:
        names = [f"target {number}" for number in range(n)]
    if len(names) != n:
        msg = f"names has {len(names)} entries for {n} targets"
        raise InputError(msg)
    return list(names)


def _panels(n_panels: int, width: float = _PANEL_INCHES) -> tuple[Figure, list[Axes]]:
    """Make a figure that belongs to no window, with so many axes."""
    n_columns = min(n_panels, _MAX_COLUMNS)
    n_rows = -(-n_panels // n_columns)
    inches = (width * n_columns + 0.5, _PANEL_INCHES * n_rows + 0.5)
    figure = figure_class()(figsize=inches, layout="constrained")
    places = [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_panels)]
    return figure, places


def _draw_pairs(ax: Any, title: str, x: Values, y: Values) -> None:
    pairs = pd.DataFrame({"x": x, "y": y}).dropna()
    spearman, pearson = (
        pairs.corr(method=method).to_numpy()[0, 1] for method in ("spearman", "pearson")
    )
    ax.plot(pairs["x"], pairs["y"], "o", color=BLUE, alpha=0.6, markersize=4)
    ax.set_title(f"{title}\nSpearman {spearman:.2f}, Pearson {pearson:.2f}", size=9)


def _wrapped(label: str, inches: float) -> str:
    """Break a label into lines that a figure has room for."""
    return textwrap.fill(label, max(int(_LETTERS_PER_INCH * inches), 1))


def _add_note(figure: Figure, note: str) -> None:
    if note:
        figure.suptitle(note, style="italic")
