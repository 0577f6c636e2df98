"""Predicted tracks along the genome, over genes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, check_choice
from enformer_features.plotting.base import GREY, PALETTE, axes_for, genome_axis
from enformer_features.plotting.places import edges_of_bins, place_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

MAX_TRACKS = 30
_LANE = 0.85  # of the height between two tracks


def plot_tracks(
    values: npt.ArrayLike,
    window: Any,
    *,
    names: Sequence[str] | None = None,
    genes: pd.DataFrame | None = None,
    scale: Literal["own", "shared"] = "own",
    ax: Axes | None = None,
) -> Axes:
    """Draw tracks along the genome, one lane each, and genes below.

    Parameters
    ----------
    values : array-like, shape (n_bins, n_tracks) or (n_bins,)
        One row per bin, as ``EnformerEmbedder(output="tracks").embed_bins(X)[i]``.
    window : tuple, str, or row of ``EnformerEmbedder.windows(X)``
        ``("chr1", start, end)`` are the bases that the bins cover, 0-based and
        half-open. Of a row of windows the middle bins are taken, as the network keeps
        them, and turned around where the reverse complement was read.
    names : sequence of str, optional
        Of the tracks; ``track 0`` ... by default.
    genes : DataFrame, optional
        ``chrom``, ``tss``, ``strand``, as from ``read_genes``. Those in the window are
        drawn as arrows from the TSS, the way they are transcribed, with their
        ``gene_name`` or, without one, what the index says.
    scale : {"own", "shared"}, default="own"
        Whether each lane is as high as its own highest value, which its label says, or
        as that of all.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        The horizontal axis has the genome's positions.

    Raises
    ------
    InputError
        When shapes and window do not fit, or values are not finite.
    InputTypeError
        When the window is none.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> values = [[0.0, 1.0], [2.0, 1.0], [1.0, 4.0]]
    >>> ax = plot_tracks(values, ("chr1", 0, 384), names=["DNASE", "CAGE"])
    >>> [label.get_text() for label in ax.get_yticklabels()]
    ['DNASE (to 2)', 'CAGE (to 4)']
    """
    check_choice("scale", scale, ("own", "shared"))
    signal = _as_signal(values)
    place = place_of(window)
    edges = edges_of_bins(place, len(signal))
    labels = _names(names, signal.shape[1])
    if place.backward:
        signal = signal[::-1]
    tops = np.maximum(signal.max(axis=0), 0.0)
    if scale == "shared":
        tops[:] = tops.max()
    rows = _genes_inside(genes, place.chrom, int(edges[0]), int(edges[-1]))
    ax = axes_for(ax, 8.0, 0.8 + 0.55 * signal.shape[1] + 0.5 * bool(len(rows)))
    lanes = np.arange(signal.shape[1])[::-1].astype(float)
    for number, lane in enumerate(lanes):
        height = signal[:, number] / (tops[number] or 1.0) * _LANE
        color = PALETTE[number % len(PALETTE)]
        ax.stairs(lane + height, edges, baseline=lane, fill=True, color=color)
    ax.set_yticks(
        lanes + _LANE / 2,
        [f"{n} (to {t:.3g})" for n, t in zip(labels, tops, strict=True)],
    )
    ax.tick_params(axis="y", length=0)
    lowest = _draw_genes(ax, rows, 0.03 * float(edges[-1] - edges[0]))
    ax.set_ylim(lowest, len(lanes))
    genome_axis(ax, place.chrom, float(edges[0]), float(edges[-1]))
    return ax


def _draw_genes(ax: Axes, genes: pd.DataFrame, arrow_bp: float) -> float:
    """Draw genes as arrows in up to three rows below 0; return where the last ends."""
    n_rows = min(len(genes), 3)
    for number, (name, gene) in enumerate(genes.iterrows()):
        step = arrow_bp if gene["strand"] == "+" else -arrow_bp
        height = -0.25 - 0.35 * (number % n_rows)
        tss = float(gene["tss"])
        ax.plot([tss, tss], [height - 0.1, height + 0.1], color=GREY, linewidth=1)
        arrow = {"arrowstyle": "->", "color": GREY}
        ax.annotate("", (tss + step, height), (tss, height), arrowprops=arrow)
        side = "left" if step > 0 else "right"
        place = (tss + 1.2 * step, height)
        label = str(gene.get("gene_name", "")) or str(name)
        ax.text(*place, label, size=7, style="italic", va="center", ha=side)
    return -0.1 - 0.35 * n_rows


def _as_signal(values: npt.ArrayLike) -> npt.NDArray[np.float64]:
    signal = np.asarray(values, dtype=np.float64)
    signal = signal[:, None] if signal.ndim == 1 else signal
    if signal.ndim != 2 or not signal.size:
        msg = f"values of shape {np.shape(values)} are not (bins, tracks)"
        raise InputError(msg)
    if signal.shape[1] > MAX_TRACKS:
        msg = (
            f"{signal.shape[1]} tracks are too many to see; choose {MAX_TRACKS} at most"
        )
        raise InputError(msg)
    if not np.isfinite(signal).all():
        msg = f"{int((~np.isfinite(signal)).sum())} values are not finite"
        raise InputError(msg)
    return signal


def _names(names: Sequence[str] | None, n: int) -> list[str]:
    if names is None:
        return [f"track {number}" for number in range(n)]
    if len(names) != n:
        msg = f"names has {len(names)} entries for {n} tracks"
        raise InputError(msg)
    return [str(name) for name in names]


def _genes_inside(
    genes: pd.DataFrame | None, chrom: str, start: int, end: int
) -> pd.DataFrame:
    """Return the genes whose TSS is drawn, in the order of the genome."""
    if genes is None:
        return pd.DataFrame(columns=["chrom", "tss", "strand"])
    if missing := [name for name in ("chrom", "tss", "strand") if name not in genes]:
        msg = f"genes has no {', '.join(missing)}; read_genes makes such a table"
        raise InputError(msg)
    inside = (genes["chrom"] == chrom) & genes["tss"].between(start, end - 1)
    return genes[inside].sort_values("tss")
