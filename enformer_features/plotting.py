"""Figures of predictions and scores; matplotlib is loaded when one is drawn."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Values = npt.ArrayLike
_PANEL_INCHES = 3.0
_MAX_COLUMNS = 4
_BLUE, _GREY = "#33608c", "#404040"


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
    ax.bar(places, middle, width=0.6, color=_BLUE, alpha=0.7)
    ax.vlines(places, low, high, color="black")
    for place, values in zip(places, scores.to_numpy().T, strict=True):
        beside = np.full(len(values), place + 0.15)
        ax.plot(beside, values, ".", color=_GREY, markersize=3)
    ax.set_xticks(places, [str(name) for name in scores.columns])
    ax.set_ylabel(f"{score}, median of {len(scores)}")
    ax.axhline(0.0, color="black", linewidth=0.8)
    _add_note(figure, note)
    return figure


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


def _panels(n_panels: int) -> tuple[Figure, list[Axes]]:
    """Make a figure that belongs to no window, with so many axes."""
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = (
            "figures need matplotlib, which is not installed; install it with "
            "pip install 'enformer-features[plot]'"
        )
        raise MissingDependencyError(msg) from error
    n_columns = min(n_panels, _MAX_COLUMNS)
    n_rows = -(-n_panels // n_columns)
    inches = (_PANEL_INCHES * n_columns + 0.5, _PANEL_INCHES * n_rows + 0.5)
    figure = Figure(figsize=inches, layout="constrained")
    places = [figure.add_subplot(n_rows, n_columns, i + 1) for i in range(n_panels)]
    return figure, places


def _draw_pairs(ax: Any, title: str, x: Values, y: Values) -> None:
    pairs = pd.DataFrame({"x": x, "y": y}).dropna()
    spearman, pearson = (
        pairs.corr(method=method).to_numpy()[0, 1] for method in ("spearman", "pearson")
    )
    ax.plot(pairs["x"], pairs["y"], "o", color=_BLUE, alpha=0.6, markersize=4)
    ax.set_title(f"{title}\nSpearman {spearman:.2f}, Pearson {pearson:.2f}", size=9)


def _add_note(figure: Figure, note: str) -> None:
    if note:
        figure.suptitle(note, style="italic")
