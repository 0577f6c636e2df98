"""What all figures share: colours, and axes that belong to no window.

Colours are those of Okabe and Ito, which colour-blind readers tell apart. Matplotlib
is loaded when a figure is drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from enformer_features.exceptions import InputTypeError, MissingDependencyError

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PALETTE = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#56B4E9", "#D55E00", "#F0E442")
BLUE, ORANGE, GREEN, PURPLE, SKY, VERMILLION, YELLOW = PALETTE
GREY = "#404040"
RAISES, LOWERS = VERMILLION, BLUE
DIVERGING = "RdBu_r"  # red and blue, which red-green blind readers tell apart


def figure_class() -> type[Figure]:
    """Return matplotlib's class of figures.

    Raises
    ------
    MissingDependencyError
        If matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        msg = (
            "figures need matplotlib, which is not installed; install it with "
            "pip install 'enformer-features[plot]'"
        )
        raise MissingDependencyError(msg) from error
    return Figure


def axes_for(ax: object, width: float, height: float) -> Axes:
    """Return the given axes, or new ones in a figure of so many inches."""
    figure = figure_class()
    if ax is None:
        return figure(figsize=(width, height), layout="constrained").add_subplot()
    from matplotlib.axes import Axes as AxesClass

    if not isinstance(ax, AxesClass):
        msg = f"ax is a {type(ax).__name__}; give matplotlib Axes, or None for new ones"
        raise InputTypeError(msg)
    return ax


def genome_axis(ax: Axes, chrom: str, start: float, end: float) -> None:
    """Make the horizontal axis one of bases, ticked in whole numbers."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    ax.set_xlim(start, end)
    ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    ax.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
    ax.set_xlabel(f"{chrom}, position (0-based)" if chrom else "position in the window")
    for side in ("top", "right"):
        ax.spines[side].set_visible(False)
