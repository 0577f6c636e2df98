"""Scores of a window's letters that a reader can zoom into."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from enformer_features.plotting.base import GREEN, PURPLE, YELLOW
from enformer_features.plotting.letters import COLORS, LETTERS, outline
from enformer_features.report.page import as_json, escape

TSS, ELEMENT, SEGMENT = PURPLE, YELLOW, GREEN
_STEPS = 32767  # of the largest score
_BUTTONS = (
    ("zoom-in", "+", "zoom in"),
    ("zoom-out", "\N{MINUS SIGN}", "zoom out"),
    ("left", "\N{LEFTWARDS ARROW}", "move left"),
    ("right", "\N{RIGHTWARDS ARROW}", "move right"),
    ("all", "all", "show the whole window"),
    ("home", "start", "show what was shown at first"),
)


@dataclass(frozen=True)
class Mark:
    """A stretch that is coloured: 0-based half-open positions, and what it is."""

    start: int
    end: int
    label: str
    color: str


@dataclass(frozen=True)
class Letters:
    """Scores of the letters of one stretch of the genome.

    Parameters
    ----------
    chrom : str
    start : int
        0-based position of the first letter.
    letters : str
        In the direction of the genome.
    scores : ndarray of float, shape (length,)
        NaN are shown as 0.
    """

    chrom: str
    start: int
    letters: str
    scores: npt.NDArray[np.floating[Any]]

    @property
    def end(self) -> int:
        """One past the last letter."""
        return self.start + len(self.letters)


def logo(
    name: str, letters: Letters, shown: tuple[int, int], marks: Sequence[Mark] = ()
) -> str:
    """Return the HTML of a logo; the page needs :func:`letter_shapes` once.

    Scores are kept in 65,535 steps, two bytes each: three quarters of a megabyte for
    196,608 letters.

    Parameters
    ----------
    name : str
        Of the box, and of the place in the page's address.
    letters : Letters
    shown : (int, int)
        What is shown at first; 0-based half-open.
    marks : sequence of Mark

    Examples
    --------
    >>> text = logo("a", Letters("chr1", 5, "AC", np.array([0.5, -1.0])), (5, 7))
    >>> 'data-do="zoom-in"' in text
    True
    """
    scores = np.nan_to_num(np.asarray(letters.scores, dtype=np.float64))
    scale = float(np.abs(scores).max(initial=0.0)) / _STEPS or 1.0
    steps = np.rint(scores / scale).astype("<i2")
    data = {
        "chrom": letters.chrom,
        "start": letters.start,
        "letters": letters.letters,
        "scale": scale,
        "scores": base64.b64encode(steps.tobytes()).decode("ascii"),
        "shown": list(shown),
        "marks": [vars(mark) for mark in marks],
    }
    buttons = "".join(
        f'<button type="button" data-do="{do}" aria-label="{said}" title="{said}">'
        f"{sign}</button>"
        for do, sign, said in _BUTTONS
    )
    return (
        f'<div class="logo" id="{escape(name)}">'
        f'<div class="bar">{buttons}'
        '<input type="text" aria-label="place, such as chr1:101-200" '
        'spellcheck="false"></div>'
        '<svg tabindex="0" role="img"></svg>'
        '<p class="readout soft" aria-live="polite"></p>'
        "<noscript><p>Without JavaScript there is nothing to zoom into.</p></noscript>"
        f'<script type="application/json">{as_json(data)}</script></div>'
    )


def letter_shapes() -> dict[str, dict[str, str]]:
    """Return the outline of every letter in the unit square, as a path of SVG."""
    return {
        letter: {"path": _path(letter), "color": COLORS[letter]} for letter in LETTERS
    }


def _path(letter: str) -> str:
    from matplotlib.path import Path

    vertices, codes = outline(letter)
    words = {Path.MOVETO: "M", Path.LINETO: "L", Path.CURVE3: "Q", Path.CURVE4: "C"}
    n_points = {Path.CURVE3: 2, Path.CURVE4: 3}
    parts, at = [], 0
    while at < len(codes):
        if codes[at] == Path.CLOSEPOLY:
            parts.append("Z")
            at += 1
            continue
        n = n_points.get(codes[at], 1)
        points = vertices[at : at + n].ravel()
        parts.append(words[codes[at]] + " ".join(f"{x:.3f}" for x in points))
        at += n
    return "".join(parts)
