"""What a prediction rests on: logos, maps of substitutions, attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    check_choice,
    first_few,
)
from enformer_features.genomics.encoding import decode
from enformer_features.plotting.base import (
    BLUE,
    DIVERGING,
    GREY,
    LOWERS,
    RAISES,
    axes_for,
    genome_axis,
)
from enformer_features.plotting.letters import LETTERS, draw_letters, stack
from enformer_features.plotting.places import Place, edges_of_bins, place_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from enformer_features.interpret.attention import AttentionMap
    from enformer_features.interpret.contributions import Contributions
    from enformer_features.variant_effect.mutagenesis import Mutagenesis

MAX_LETTERS = 1_000
_BIN_BP = 128

Floats = npt.NDArray[np.float64]


def plot_logo(
    scores: npt.ArrayLike,
    start: int = 0,
    *,
    sequence: str | None = None,
    chrom: str = "",
    ax: Axes | None = None,
) -> Axes:
    """Draw scores as letters, each as high as its score.

    Parameters
    ----------
    scores : array-like, shape (length, 4) or (length,)
        Of the letters A, C, G, T; or of the letters of `sequence`. Those below 0 hang
        from the axis, those of 0 are not drawn.
    start : int, default=0
        0-based position of the first letter, which stands over it.
    sequence : str, optional
        The letters, when there is one score per position; N is left out.
    chrom : str, default=""
        For the label of the axis.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        Letters are one shape each for A, C, G and T (``ax.patches``, whose ``gid`` is
        the letter), not text: they stay sharp at any size.

    Raises
    ------
    InputError
        When the scores have another shape, are not finite, do not fit the sequence, or
        are more than 1,000.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> ax = plot_logo([0.5, -0.2], start=100, sequence="GA", chrom="chr1")
    >>> sorted(patch.get_gid() for patch in ax.patches)
    ['A', 'G']
    """
    values = _by_letter(scores, sequence)
    n = len(values)
    ax = axes_for(ax, float(np.clip(0.12 * n, 4.0, 16.0)), 2.0)
    bottoms = stack(values)
    positions = start + np.arange(n, dtype=np.float64)
    for number, letter in enumerate(LETTERS):
        height = np.abs(values[:, number])
        boxes = np.stack([positions, bottoms[:, number], height], axis=1)[height > 0]
        if len(boxes):
            draw_letters(ax, letter, boxes)
    ax.axhline(0.0, color=GREY, linewidth=0.6)
    lowest = float(np.clip(values, None, 0).sum(axis=1).min())
    highest = float(np.clip(values, 0, None).sum(axis=1).max())
    room = 0.05 * ((highest - lowest) or 1.0)
    ax.set_ylim(lowest - room, highest + room)
    genome_axis(ax, chrom, start - 0.5, start + n - 0.5)
    ax.set_ylabel("contribution")
    return ax


def plot_contributions(
    contributions: Contributions,
    row: int = 0,
    *,
    region: tuple[int, int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw contribution scores of one window: letters, or bars where they are many.

    Parameters
    ----------
    contributions : Contributions
        From ``gradient_x_input`` and its neighbours.
    row : int, default=0
        Which region.
    region : (int, int), optional
        0-based half-open positions of the genome; the whole window by default. Up to
        1,000 bp are drawn as letters, more as sums over 128 bp.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        In the direction of the genome, whichever strand was read.

    Raises
    ------
    InputError
        When the region does not lie in the window, or the row has no scores.

    Examples
    --------
    >>> import pandas as pd
    >>> from enformer_features.interpret.contributions import Contributions
    >>> table = pd.DataFrame({"chrom": ["chr1"], "window_start": [100],
    ...     "window_end": [104], "read_strand": ["+"]})
    >>> codes = np.array([[0, 3, 4, 1]], np.uint8)
    >>> gradient = np.ones((1, 4, 4), np.float32)
    >>> found = Contributions(table, codes, gradient, np.array([2.0]))
    >>> ax = plot_contributions(found, region=(100, 103))
    >>> [patch.get_gid() for patch in ax.patches]
    ['A', 'T']
    """
    if not 0 <= row < len(contributions):
        msg = f"row={row} is none of the {len(contributions)} regions, from 0"
        raise InputError(msg)
    place = place_of(contributions.table.iloc[[row]])
    start, end = (place.start, place.end) if region is None else map(int, region)
    scores = contributions.region(row, start, end).astype(np.float64)
    if not np.isfinite(scores).all():
        msg = f"row {row} has no scores: {contributions.table.iloc[row].get('reason')}"
        raise InputError(msg)
    if end - start > MAX_LETTERS:
        return _draw_sums(scores, place.chrom, start, ax)
    codes = contributions.codes[row, start - place.start : end - place.start]
    return plot_logo(scores, start, sequence=decode(codes), chrom=place.chrom, ax=ax)


def plot_ism(
    mutagenesis: Mutagenesis, output: int | str = 0, *, ax: Axes | None = None
) -> Axes:
    """Draw what every substitution of a region changes, as a map of colours.

    Parameters
    ----------
    mutagenesis : Mutagenesis
        From :func:`~enformer_features.saturation_mutagenesis`.
    output : int or str, default=0
        Which output: its number or its name.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        A row for each of A, C, G, T, a column per position. Red raises the output,
        blue lowers it, white changes nothing; a dot marks the reference's letter.
        Positions of N are blank.

    Raises
    ------
    InputError
        When there is no such output, or nothing but N.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> from enformer_features.variant_effect.mutagenesis import Mutagenesis
    >>> effects = np.zeros((2, 4, 1), dtype=np.float32)
    >>> effects[1, 3] = -0.5
    >>> ax = plot_ism(Mutagenesis("chr1", 100, "GA", effects, ["liver"]))
    >>> ax.get_title(), ax.images[0].get_clim()
    ('liver', (-0.5, 0.5))
    """
    number = _number_of(output, mutagenesis.names)
    values = np.asarray(mutagenesis.effects[:, :, number], dtype=np.float64).T
    if not np.isfinite(values).any():
        msg = f"{mutagenesis.chrom}:{mutagenesis.start}-{mutagenesis.end} is all N"
        raise InputError(msg)
    n = values.shape[1]
    ax = axes_for(ax, float(np.clip(0.12 * n, 4.0, 16.0)) + 1.0, 1.8)
    limit = float(np.nanmax(np.abs(values))) or 1.0
    left, right = mutagenesis.start - 0.5, mutagenesis.end - 0.5
    image = ax.imshow(
        values,
        aspect="auto",
        interpolation="nearest",
        cmap=DIVERGING,
        vmin=-limit,
        vmax=limit,
        extent=(left, right, 3.5, -0.5),
    )
    known = [(i, LETTERS.index(x)) for i, x in enumerate(mutagenesis.ref) if x != "N"]
    at, rows = np.array(known).T
    ax.plot(mutagenesis.start + at, rows, ".", color=GREY, markersize=3)
    ax.set_yticks(range(4), list(LETTERS))
    genome_axis(ax, mutagenesis.chrom, left, right)
    ax.set_title(mutagenesis.names[number], size=9)
    ax.figure.colorbar(image, ax=ax, label="effect of the change", pad=0.01)
    return ax


def plot_attention(
    weights: AttentionMap | npt.ArrayLike,
    window: Any = None,
    *,
    row: int = 0,
    tss: int | None = None,
    kind: Literal["arc", "row"] = "arc",
    n_arcs: int = 30,
    ax: Axes | None = None,
) -> Axes:
    """Draw where the bins of the TSS look.

    Parameters
    ----------
    weights : AttentionMap, or array-like, shape (n_positions,)
        Weights of the attention to each bin of the whole window.
    window : tuple, str, or row of ``EnformerEmbedder.windows(X)``, optional
        Whose bins these are; an ``AttentionMap`` knows.
    row : int, default=0
        Which region of an ``AttentionMap``.
    tss : int, optional
        0-based position from which arcs begin; by default the middle of the bins that
        look, or of the window.
    kind : {"arc", "row"}, default="arc"
        Arcs to the bins of most weight, or all bins as one row of colours.
    n_arcs : int, default=30
        How many arcs at most.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes

    Raises
    ------
    InputError
        When weights and window do not fit, or weights are negative or not finite.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> ax = plot_attention([0.1, 0.2, 0.6, 0.1], ("chr1", 0, 512), tss=100, n_arcs=2)
    >>> len(ax.patches)
    2
    """
    check_choice("kind", kind, ("arc", "row"))
    values, place, looking = _attention_of(weights, window, row)
    edges = edges_of_bins(place, len(values))
    ax = axes_for(ax, 8.0, 2.2 if kind == "arc" else 1.4)
    if kind == "row":
        _draw_row(ax, values, edges)
    else:
        _draw_arcs(ax, values, edges, looking if tss is None else float(tss), n_arcs)
    ax.set_yticks([])
    genome_axis(ax, place.chrom, float(edges[0]), float(edges[-1]))
    return ax


def _by_letter(scores: npt.ArrayLike, sequence: str | None) -> Floats:
    """Return scores as (length, 4)."""
    values = np.asarray(scores, dtype=np.float64)
    if sequence is not None:
        values = _spread(values, sequence)
    if values.ndim != 2 or values.shape[1] != 4 or not len(values):
        msg = (
            f"scores of shape {values.shape} are not (length, 4), for A, C, G, T; for "
            "one score per position give the letters too: sequence='GATT...'"
        )
        raise InputError(msg)
    if len(values) > MAX_LETTERS:
        msg = (
            f"{len(values):,} letters cannot be read, {MAX_LETTERS:,} are the most; "
            "cut a region out, or draw sums with plot_contributions"
        )
        raise InputError(msg)
    if not np.isfinite(values).all():
        msg = f"{int((~np.isfinite(values)).sum())} scores are not finite"
        raise InputError(msg)
    return values


def _spread(values: Floats, sequence: str) -> Floats:
    """Put each score into the column of its letter."""
    if values.shape != (len(sequence),):
        msg = (
            f"scores of shape {values.shape} for a sequence of {len(sequence)} "
            "letters; with a sequence there is one score per letter"
        )
        raise InputError(msg)
    letters = np.array(list(sequence.upper()))
    if strange := sorted(set(letters) - set("ACGTN")):
        msg = f"sequence holds {first_few(strange)}; its letters are A, C, G, T, N"
        raise InputError(msg)
    is_letter = letters[:, None] == np.array(list(LETTERS))
    return np.where(is_letter, values[:, None], 0.0)


def _draw_sums(scores: Floats, chrom: str, start: int, ax: Axes | None) -> Axes:
    """Draw sums over 128 bp as bars; the last may be of fewer."""
    firsts = np.arange(0, len(scores), _BIN_BP)
    sums = np.add.reduceat(scores, firsts)
    edges = start + np.append(firsts, len(scores))
    ax = axes_for(ax, 8.0, 2.0)
    for color, part in ((RAISES, np.clip(sums, 0, None)), (LOWERS, sums.clip(None, 0))):
        ax.stairs(part, edges, fill=True, color=color)
    ax.axhline(0.0, color=GREY, linewidth=0.6)
    genome_axis(ax, chrom, float(edges[0]), float(edges[-1]))
    ax.set_ylabel(f"sum per {_BIN_BP} bp")
    return ax


def _number_of(output: int | str, names: list[str]) -> int:
    if isinstance(output, str):
        check_choice("output", output, names)
        return names.index(output)
    if not -len(names) <= output < len(names):
        msg = f"output={output} is none of the {len(names)}: {first_few(names)}"
        raise InputError(msg)
    return output % len(names)


def _attention_of(weights: Any, window: Any, row: int) -> tuple[Floats, Place, float]:
    """Return weights in the genome's direction, where they are, and who looks."""
    if hasattr(weights, "table"):
        if window is not None:
            msg = "an AttentionMap knows its windows; leave window out"
            raise InputTypeError(msg)
        return _of_map(weights, row)
    values = _checked_weights(weights)
    if window is None:
        msg = "weights alone say not where they are; give window=('chr1', start, end)"
        raise InputError(msg)
    place = place_of(window)
    values = values[::-1] if place.backward else values
    return values, place, (place.start + place.end) / 2


def _of_map(found: AttentionMap, row: int) -> tuple[Floats, Place, float]:
    if not 0 <= row < len(found):
        msg = f"row={row} is none of the {len(found)} regions, from 0"
        raise InputError(msg)
    of_row = found.table.iloc[row]
    looking = float(of_row["pool_start"] + of_row["pool_end"]) / 2
    return _checked_weights(found.weights[row]), place_of(of_row), looking


def _checked_weights(weights: Any) -> Floats:
    values = np.asarray(weights, dtype=np.float64)
    if values.ndim != 1 or not len(values):
        msg = f"weights of shape {values.shape} are not one per bin of a window"
        raise InputError(msg)
    if not np.isfinite(values).all() or (values < 0).any():
        msg = "weights of attention are finite and not below 0; these are not"
        raise InputError(msg)
    return values


def _draw_row(ax: Axes, values: Floats, edges: npt.NDArray[np.int64]) -> None:
    left, right = float(edges[0]), float(edges[-1])
    image = ax.imshow(
        values[None],
        aspect="auto",
        interpolation="nearest",
        cmap="cividis",
        vmin=0.0,
        extent=(left, right, 0.0, 1.0),
    )
    ax.figure.colorbar(image, ax=ax, label="attention", pad=0.01)


def _draw_arcs(
    ax: Axes, values: Floats, edges: npt.NDArray[np.int64], tss: float, n_arcs: int
) -> None:
    """Draw half ellipses from the TSS to the bins of most weight, darkest for most."""
    from matplotlib.patches import Arc

    middles = (edges[:-1] + edges[1:]) / 2
    chosen = np.argsort(-values, kind="stable")[:n_arcs]
    chosen = chosen[values[chosen] > 0]
    reach = float(np.abs(middles - tss).max()) or 1.0
    strongest = float(values.max()) or 1.0
    for bin_ in chosen[::-1]:
        distance = float(middles[bin_] - tss)
        share = float(values[bin_]) / strongest
        arc = Arc(
            (tss + distance / 2, 0.0),
            abs(distance),
            2 * max(abs(distance) / reach, 0.05),
            theta2=180.0,
            color=BLUE,
            alpha=0.15 + 0.85 * share,
            linewidth=0.5 + 2.0 * share,
        )
        ax.add_patch(arc)
    ax.plot([tss], [0.0], "v", color=GREY, markersize=6, clip_on=False)
    ax.set_ylim(0.0, 1.05)
    ax.set_title(f"the {len(chosen)} bins of most weight", size=9)
