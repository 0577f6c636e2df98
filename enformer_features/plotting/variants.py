"""Effects of variants along the genome."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError, check_choice, first_few
from enformer_features.plotting.base import GREY, LOWERS, RAISES, axes_for, genome_axis

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_NEEDED = ("chrom", "pos", "ref", "alt")


def plot_variant_effects(
    table: pd.DataFrame,
    output: str,
    *,
    n_labels: int = 5,
    ax: Axes | None = None,
) -> Axes:
    """Draw the effects of variants as stems along the genome.

    Parameters
    ----------
    table : DataFrame
        ``VariantEffect.table(X)``, or what ``enformer-features variants`` writes:
        ``chrom``, ``pos`` (1-based, as in a VCF), ``ref``, ``alt``, and outputs.
    output : str
        The column that is drawn.
    n_labels : int, default=5
        How many of the largest effects are named.
    ax : Axes, optional
        New ones by default.

    Returns
    -------
    Axes
        A stem per row at the variant's 0-based position, upwards where ALT raises the
        output. Rows without a score are not drawn; the title counts them.

    Raises
    ------
    InputError
        When columns are missing, no row has a score, or rows lie on several
        chromosomes.
    MissingDependencyError
        If matplotlib is not installed.

    Examples
    --------
    >>> table = pd.DataFrame({"chrom": "chr1", "pos": [101, 140], "ref": ["A", "C"],
    ...     "alt": ["G", "T"], "liver": [0.5, np.nan]})
    >>> ax = plot_variant_effects(table, "liver")
    >>> print(ax.get_title())
    1 variant, 1 without a score
    """
    shown = _scored(table, output)
    chrom = str(shown["chrom"].iloc[0])
    at = shown["pos"].to_numpy(np.int64) - 1
    effects = shown[output].to_numpy(np.float64)
    ax = axes_for(ax, 8.0, 2.4)
    for color, some in ((RAISES, effects >= 0), (LOWERS, effects < 0)):
        ax.vlines(at[some], 0.0, effects[some], color=color, linewidth=1.0)
        ax.plot(at[some], effects[some], "o", color=color, markersize=4)
    largest = np.argsort(-np.abs(effects), kind="stable")[:n_labels]
    for row in largest:
        label = _name(shown.iloc[row])
        above = effects[row] >= 0
        ax.annotate(
            label,
            (at[row], effects[row]),
            xytext=(0, 5 if above else -5),
            textcoords="offset points",
            size=7,
            ha="center",
            va="bottom" if above else "top",
        )
    ax.axhline(0.0, color=GREY, linewidth=0.8)
    room = max(0.05 * float(np.ptp(at)), 5.0)
    genome_axis(ax, chrom, float(at.min() - room), float(at.max() + room))
    ax.margins(y=0.25)
    ax.set_ylabel(f"effect on {output}")
    ax.set_title(_count(len(shown), len(table) - len(shown)), size=9)
    return ax


def _scored(table: pd.DataFrame, output: str) -> pd.DataFrame:
    """Return the rows that have a score, all on one chromosome."""
    if missing := [name for name in _NEEDED if name not in table]:
        msg = f"the table has no {', '.join(missing)}; VariantEffect.table makes one"
        raise InputError(msg)
    numbers = table.select_dtypes("number").columns
    check_choice("output", output, [str(name) for name in numbers])
    shown: pd.DataFrame = table[np.isfinite(table[output].to_numpy(np.float64))]
    if shown.empty:
        msg = f"none of {len(table)} variants has a score of {output}; see their reason"
        raise InputError(msg)
    chroms = list(dict.fromkeys(shown["chrom"].astype(str)))
    if len(chroms) > 1:
        msg = (
            f"the variants lie on {first_few(chroms)}; draw one chromosome at a time: "
            f"table[table['chrom'] == {chroms[0]!r}]"
        )
        raise InputError(msg)
    return shown


def _name(row: pd.Series) -> str:
    """Return the id, or the change, cut where it is long."""
    named = str(row.get("id", "."))
    change = f"{row['ref']!s:.6}>{row['alt']!s:.6}"
    return change if named in (".", "", "nan") else f"{named} {change}"


def _count(n_shown: int, n_hidden: int) -> str:
    hidden = f", {n_hidden:,} without a score" if n_hidden else ""
    return f"{n_shown:,} variant{'s' * (n_shown != 1)}{hidden}"
