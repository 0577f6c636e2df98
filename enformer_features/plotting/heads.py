"""What a linear head weighs, by assay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.plotting.base import GREY, PALETTE, axes_for

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Floats = npt.NDArray[np.float64]


def plot_coefficients(
    head: Any,
    tracks: pd.DataFrame | Sequence[str],
    *,
    target: int = 0,
    n_labels: int = 3,
    ax: Axes | None = None,
) -> Axes:
    """Draw the coefficients of a linear head on tracks, one lane per assay.

    Parameters
    ----------
    head : fitted Pipeline or linear model, or array-like
        What has ``coef_`` (of a pipeline, its last step), or coefficients of shape
        (n_tracks,) or (n_targets, n_tracks).
    tracks : DataFrame or sequence of str
        The tracks in the order of the features: rows of ``read_tracks``, with
        ``assay`` and ``biosample``; or their assays.
    target : int, default=0
        Which target.
    n_labels : int, default=3
        How many of the largest coefficients are named, if the table has names.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        A dot per track. The label of a lane says how many tracks it has and what part
        of the sum of absolute coefficients.

    Raises
    ------
    InputError
        When the head has no coefficients, or another number of them.
    MissingDependencyError
        If matplotlib is not installed.

    Notes
    -----
    Coefficients behind a scaler are per standard deviation, and can be compared.
    Tracks are correlated: a large coefficient is no evidence that its track matters
    more than a neighbour of it. Compare lanes, not dots.

    Examples
    --------
    >>> ax = plot_coefficients([0.3, -0.1, 0.0], ["CAGE", "DNASE", "DNASE"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['CAGE (1 track, 75%)', 'DNASE (2 tracks, 25%)']
    """
    assays, names = _labels(tracks)
    values = _coefficients(head, target, len(assays))
    kinds = list(dict.fromkeys(assays))
    ax = axes_for(ax, 6.0, 1.0 + 0.5 * len(kinds))
    total = float(np.abs(values).sum()) or 1.0
    heights = np.array([kinds.index(assay) for assay in assays]) + _spread(len(assays))
    ticks = []
    for number, kind in enumerate(kinds):
        inside = np.array(assays) == kind
        color = PALETTE[number % len(PALETTE)]
        ax.plot(values[inside], heights[inside], "o", color=color, ms=4, alpha=0.7)
        n = int(inside.sum())
        share = float(np.abs(values[inside]).sum()) / total
        ticks.append(f"{kind} ({n} track{'s' * (n != 1)}, {share:.0%})")
    for at in np.argsort(-np.abs(values), kind="stable")[:n_labels] if names else ():
        ax.annotate(
            names[at][:40],
            (values[at], heights[at]),
            xytext=(0, 5),
            textcoords="offset points",
            size=6,
            ha="left" if values[at] < 0 else "right",
        )
    ax.axvline(0.0, color=GREY, linewidth=0.8)
    ax.set_yticks(range(len(kinds)), ticks)
    ax.set_ylim(len(kinds) - 0.5, -0.5)
    ax.set_xlabel("coefficient")
    ax.locator_params(axis="x", nbins=5)
    ax.margins(x=0.15)
    return ax


def _spread(n: int) -> Floats:
    """Return small offsets that look random and are always the same."""
    golden = np.arange(n, dtype=np.float64) * 0.618033988749895
    return np.asarray(0.5 * (golden % 1.0) - 0.25)


def _labels(tracks: pd.DataFrame | Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the assays, and the names if there are any."""
    if not isinstance(tracks, pd.DataFrame):
        if isinstance(tracks, str):
            msg = f"tracks={tracks!r} is one text; give the assay of every feature"
            raise InputTypeError(msg)
        return [str(assay) for assay in tracks], []
    if "assay" not in tracks:
        msg = "tracks has no column 'assay'; read_tracks makes such a table"
        raise InputError(msg)
    column = next((name for name in ("biosample", "identifier") if name in tracks), "")
    names = [str(name) for name in tracks[column]] if column else []
    return [str(assay) or "other" for assay in tracks["assay"]], names


def _coefficients(head: Any, target: int, n_tracks: int) -> Floats:
    """Return the coefficients of one target."""
    last = head[-1] if hasattr(head, "named_steps") else head
    last = getattr(last, "regressor_", last)
    found = getattr(last, "coef_", None)
    if found is None and hasattr(last, "get_params"):
        msg = (
            f"{type(last).__name__} has no coef_: fit it first, or, if it is not "
            "linear, look at its predictions instead (saturation_mutagenesis)"
        )
        raise InputError(msg)
    values: Floats = np.atleast_2d(
        np.asarray(head if found is None else found, dtype=np.float64)
    )
    if values.ndim != 2 or values.shape[1] != n_tracks:
        msg = (
            f"coefficients of shape {values.shape} for {n_tracks} tracks; there must "
            "be one per track, so none of a PCA's components or of several pools"
        )
        raise InputError(msg)
    if not 0 <= target < len(values):
        msg = f"target={target} is none of the {len(values)}, which count from 0"
        raise InputError(msg)
    return np.asarray(values[target])
