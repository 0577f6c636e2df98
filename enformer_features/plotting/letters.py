"""Letters as shapes: each fills a box of any width and height."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enformer_features.plotting.base import BLUE, GREEN, ORANGE, VERMILLION

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LETTERS = "ACGT"
COLORS = {"A": GREEN, "C": BLUE, "G": ORANGE, "T": VERMILLION}
_WIDTH = 0.92  # of a base

Floats = npt.NDArray[np.float64]


@cache
def outline(letter: str) -> tuple[Floats, Any]:
    """Return the outline of a letter in the unit square.

    Returns
    -------
    vertices : ndarray of float64, shape (n_vertices, 2)
    codes : ndarray of uint8, shape (n_vertices,)
        As matplotlib's paths have them.
    """
    from matplotlib.font_manager import FontProperties
    from matplotlib.textpath import TextPath

    font = FontProperties(family="DejaVu Sans", weight="bold")  # comes with matplotlib
    path = TextPath((0, 0), letter, size=1, prop=font)
    box = path.get_extents()
    unit = (np.asarray(path.vertices) - box.p0) / (box.p1 - box.p0)
    ends_stroke = np.asarray(path.codes) == TextPath.CLOSEPOLY
    unit[ends_stroke] = 0.0  # these vertices are ignored
    return unit, path.codes


def draw_letters(ax: Axes, letter: str, boxes: Floats) -> None:
    """Draw a letter many times, as one artist whose ``gid`` is the letter.

    Parameters
    ----------
    ax : Axes
    letter : {"A", "C", "G", "T"}
    boxes : ndarray of float64, shape (n, 3)
        Middle, bottom and height of each.
    """
    from matplotlib.patches import PathPatch
    from matplotlib.path import Path

    unit, codes = outline(letter)
    middle, bottom, height = (boxes[:, column, None] for column in range(3))
    x = middle + _WIDTH * (unit[:, 0] - 0.5)  # (n, n_vertices)
    y = bottom + height * unit[:, 1]
    path = Path(np.stack([x.ravel(), y.ravel()], axis=1), np.tile(codes, len(boxes)))
    patch = PathPatch(path, facecolor=COLORS[letter], linewidth=0, gid=letter)
    ax.add_patch(patch)


def stack(scores: Floats) -> Floats:
    """Return the bottoms of letters that stand on another, the largest outermost.

    Parameters
    ----------
    scores : ndarray of float64, shape (length, 4)
        Those above 0 are stacked upwards from 0, those below downwards.

    Returns
    -------
    ndarray of float64, shape (length, 4)

    Examples
    --------
    >>> stack(np.array([[1.0, 3.0, -2.0, 0.0]])).tolist()
    [[0.0, 1.0, -2.0, 0.0]]
    """
    order = np.argsort(np.abs(scores), axis=1, kind="stable")
    ordered = np.take_along_axis(scores, order, axis=1)
    up = np.cumsum(np.clip(ordered, 0, None), axis=1)
    down = np.cumsum(np.clip(ordered, None, 0), axis=1)
    bottoms = np.where(ordered > 0, up - ordered, np.where(ordered < 0, down, 0.0))
    out = np.empty_like(scores)
    np.put_along_axis(out, order, bottoms, axis=1)
    return out
