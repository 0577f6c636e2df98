"""Explanations: what the predictions for some regions rest on, and a page about it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode
from enformer_features.interpret.attention import AttentionMap
from enformer_features.interpret.contributions import Contributions
from enformer_features.interpret.segments import strongest_segments
from enformer_features.plotting.base import axes_for
from enformer_features.plotting.contributions import (
    plot_attention,
    plot_contributions,
    plot_ism,
)
from enformer_features.plotting.tracks import plot_tracks
from enformer_features.plotting.variants import plot_variant_effects
from enformer_features.report.caution import EXPLANATION_CAUTION, cautions_of
from enformer_features.report.logo import (
    ELEMENT,
    SEGMENT,
    TSS,
    Letters,
    Mark,
    letter_shapes,
    logo,
)
from enformer_features.report.page import (
    Page,
    cautions,
    paragraph,
    picture,
    record,
    table,
)
from enformer_features.variant_effect.mutagenesis import Mutagenesis

MAX_REGIONS = 20  # of a page: each is about a megabyte at the published length
N_SEGMENTS = 10
ATTENDING = {
    "": "the bins that were asked",
    "'tss'": "the TSS bins",
    "'center'": "the middle bins",
    "'all'": "all bins",
    "'region'": "the region's own bins",
}
_FIRST_BP = 120  # letters that are shown at first


@dataclass(frozen=True)
class Tracks:
    """Predicted tracks of the regions.

    Parameters
    ----------
    values : ndarray of float32, shape (n, n_bins, n_tracks)
        Bins as ``EnformerEmbedder.embed_bins`` returns them.
    names : list of str
    """

    values: npt.NDArray[np.float32]
    names: list[str]


@dataclass(frozen=True)
class Explanation:
    """What is known about the predictions of some regions; most of it is optional.

    Parameters
    ----------
    windows : DataFrame
        One row per region: ``name``, ``chrom``, ``window_start``, ``window_end``,
        ``read_strand``, ``reason``, and ``tss``, ``strand``, ``n_fraction``,
        ``off_edge`` where they are known; as in ``Contributions.table``.
    about : mapping
        What the numbers depend on, as plain types: ``Contributions.about``.
    contributions : Contributions, optional
        Of the same regions.
    mutagenesis : sequence of Mutagenesis, optional
        One per region, in which only the first output is shown.
    attention : AttentionMap, optional
    tracks : Tracks, optional
    genes : DataFrame, optional
        Drawn below tracks: ``chrom``, ``tss``, ``strand``.
    elements : DataFrame, optional
        As :func:`~enformer_features.element_ism` makes it, with any further columns.
    variants : DataFrame, optional
        As ``VariantEffect.table`` makes it, with ``region`` and ``effect``.
    intervals : DataFrame, optional
        One row per region: ``prediction``, ``low``, ``high``.
    flags : DataFrame, optional
        One row per region, as ``OutOfDomain.flags`` makes it.
    """

    windows: pd.DataFrame
    about: Mapping[str, Any] = field(default_factory=dict)
    contributions: Contributions | None = None
    mutagenesis: Sequence[Mutagenesis] = ()
    attention: AttentionMap | None = None
    tracks: Tracks | None = None
    genes: pd.DataFrame | None = None
    elements: pd.DataFrame | None = None
    variants: pd.DataFrame | None = None
    intervals: pd.DataFrame | None = None
    flags: pd.DataFrame | None = None

    def __post_init__(self) -> None:
        counted = {
            "contributions": self.contributions,
            "attention": self.attention,
            "tracks": None if self.tracks is None else self.tracks.values,
            "mutagenesis": self.mutagenesis or None,
            "intervals": self.intervals,
            "flags": self.flags,
        }
        for name, what in counted.items():
            if what is not None and len(what) != len(self.windows):
                msg = (
                    f"{name} has {len(what)} rows for {len(self.windows)} regions; all "
                    "parts of an explanation are of the same regions, in their order"
                )
                raise InputError(msg)

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.windows)


def explain_page(
    explanation: Explanation,
    path: str | PathLike[str],
    *,
    title: str = "What the prediction rests on",
    overwrite: bool = False,
) -> Path:
    """Write an explanation as one HTML file that needs nothing else.

    Parameters
    ----------
    explanation : Explanation
        The first 20 regions are shown, and the page says how many there are.
    path : path
    title : str, default="What the prediction rests on"
    overwrite : bool, default=False

    Returns
    -------
    Path

    Raises
    ------
    InputError, StoreError
        When the file is there already, or cannot be written.
    MissingDependencyError
        If matplotlib is not installed.
    """
    axes_for(None, 1.0, 1.0)  # matplotlib, before any work
    found = explanation
    page = Page(title)
    lines, n_loud = cautions_of([found.about], EXPLANATION_CAUTION)
    page.add(*_summary(found), cautions(lines, n_loud=n_loud))
    page.section("Regions", _regions(found))
    page.data["letters"] = letter_shapes()
    for row in range(min(len(found), MAX_REGIONS)):
        region = _Region(found, row)
        page.section(region.title, *region.parts())
    about = {**found.about, "regions": len(found)}
    page.section("Provenance", record("settings, versions, digests", about))
    return page.write(path, overwrite=overwrite)


def _summary(found: Explanation) -> list[str]:
    about = found.about
    is_attention = found.contributions is None and not found.mutagenesis
    if is_attention and found.attention is not None:
        text = f"Attention of {_attending(found)}, whatever is predicted from them."
        return [paragraph(text, "soft"), *_n_shown(found)]
    explained = str(about.get("explained", "the prediction"))
    method = str(about.get("method", "")).replace("_", " ")
    shown = [
        paragraph(f"Explained: {explained}. {method.capitalize()}.".strip(), "soft")
    ]
    return [*shown, *_n_shown(found)]


def _attending(found: Explanation) -> str:
    """Say which bins attend, or "" where nobody knows attention."""
    if found.attention is None:
        return ""
    bins = str(found.attention.about.get("bins", ""))
    return ATTENDING.get(bins, f"bins {bins} from the TSS bin")


def _n_shown(found: Explanation) -> list[str]:
    if len(found) <= MAX_REGIONS:
        return []
    text = f"The first {MAX_REGIONS} of {len(found):,} regions are shown."
    return [paragraph(text, "soft")]


def _regions(found: Explanation) -> str:
    """Return one row per region: where it is, what is predicted, what is odd."""
    windows = found.windows
    columns: dict[str, Any] = {
        name: windows[name].to_numpy()
        for name in ("name", "chrom", "window_start", "window_end", "read_strand")
    }
    if found.contributions is not None:
        columns["prediction"] = found.contributions.prediction
        if found.contributions.delta is not None:
            columns["completeness error"] = found.contributions.delta
    if found.intervals is not None:
        for name in ("prediction", "low", "high"):
            columns[name] = found.intervals[name].to_numpy()
    for name in ("n_fraction", "off_edge"):
        if name in windows:
            columns[name] = windows[name].to_numpy()
    if found.flags is not None:
        columns["distance percentile"] = found.flags["percentile"].to_numpy()
        columns["out of domain"] = found.flags["reasons"].replace("", "no").to_numpy()
    if (windows["reason"] != "").any():
        columns["no result because"] = windows["reason"].to_numpy()
    caption = (
        "Windows are 0-based and half-open. n_fraction: share of letters that are not "
        "known; off_edge: the window leaves its chromosome. Both make predictions less "
        "sure."
    )
    if found.intervals is not None:
        caption += " low, high: ends of the interval, from whole groups held out."
    return table(pd.DataFrame(columns), caption)


class _Region:
    """One region of a page."""

    def __init__(self, found: Explanation, row: int) -> None:
        self.found, self.row = found, row
        self.window = found.windows.iloc[row]
        self.name = str(self.window["name"])
        self.chrom = str(self.window["chrom"])
        self.id = f"region-{row + 1}"
        self.start, self.end = (
            int(self.window[name]) for name in ("window_start", "window_end")
        )

    @property
    def title(self) -> str:
        return self.name

    @property
    def tss(self) -> int | None:
        known = self.window.get("tss", -1)
        return int(known) if known is not None and known >= 0 else None

    def parts(self) -> list[str]:
        reason = str(self.window["reason"])
        if reason:
            return [paragraph(f"There is no result: {reason}")]
        letters = self.letters()
        parts = [self.tracks()]
        if letters is not None:
            segments = self.segments()
            parts += [self.overview(), self.logo(letters, segments)]
            parts += [self.segment_table(segments)]
        parts += [self.ism(), self.elements(letters), self.attention(), self.variants()]
        return [part for part in parts if part]

    def tracks(self) -> str:
        tracks = self.found.tracks
        if tracks is None:
            return ""
        ax = plot_tracks(
            tracks.values[self.row],
            self.window,
            names=tracks.names,
            genes=self.found.genes,
        )
        caption = (
            "Each lane is as high as its own highest value, which its label gives: "
            "compare shapes, not heights. Only the middle of the window is predicted."
        )
        return "<h3>Predicted tracks</h3>" + picture(
            ax.figure, f"Predicted tracks around {self.name}", caption
        )

    def letters(self) -> Letters | None:
        """Return the scores of letters: of gradients, or else of mutagenesis."""
        found = self.found
        if found.contributions is not None:
            scores = found.contributions.region(self.row, self.start, self.end)
            codes = found.contributions.codes[self.row]
            return Letters(self.chrom, self.start, decode(codes), scores)
        if found.mutagenesis:
            ism = found.mutagenesis[self.row]
            return Letters(ism.chrom, ism.start, ism.ref, ism.contributions())
        return None

    def segments(self) -> pd.DataFrame:
        if self.found.contributions is None:
            return pd.DataFrame()
        return strongest_segments(self.found.contributions, self.row, N_SEGMENTS)

    def overview(self) -> str:
        if self.found.contributions is None:
            return ""
        ax = plot_contributions(self.found.contributions, self.row)
        caption = (
            "Sums per 128 bp: red raises the prediction, blue lowers it. Look where in "
            "the window it comes from; sums hide letters of both signs."
        )
        return "<h3>Contributions along the window</h3>" + picture(
            ax.figure, f"Contributions in the window of {self.name}", caption
        )

    def logo(self, letters: Letters, segments: pd.DataFrame) -> str:
        marks = self.marks(segments)
        caption = (
            "Zoom by the buttons, by + and - after a click, by Ctrl and the wheel, by "
            "a double click, or with two fingers; drag to move. Near by, letters are "
            "as high as their scores; from afar, bars are sums above and below 0. "
            "Coloured stretches: TSS (purple), strongest segments (green), elements "
            "(yellow)."
        )
        shown = self.shown(letters, segments)
        return (
            "<h3>Letters</h3>"
            + logo(self.id, letters, shown, marks)
            + paragraph(caption, "soft")
        )

    def shown(self, letters: Letters, segments: pd.DataFrame) -> tuple[int, int]:
        """Return what is shown at first: the strongest segment, or the middle."""
        if len(segments):
            middle = int(segments["start"].iloc[0] + segments["end"].iloc[0]) // 2
        else:
            middle = (letters.start + letters.end) // 2
        start = max(middle - _FIRST_BP // 2, letters.start)
        return start, min(start + _FIRST_BP, letters.end)

    def marks(self, segments: pd.DataFrame) -> list[Mark]:
        marks = []
        if self.tss is not None:
            marks.append(Mark(self.tss, self.tss + 1, "TSS", TSS))
        for of_segment in segments.to_dict("records"):
            text = f"segment {of_segment['rank']}: {of_segment['sequence']}"
            place = int(of_segment["start"]), int(of_segment["end"])
            marks.append(Mark(*place, text, SEGMENT))
        for element in self.element_rows().to_dict("records"):
            place = int(element["start"]), int(element["end"])
            marks.append(Mark(*place, str(element["element"]), ELEMENT))
        return marks

    def segment_table(self, segments: pd.DataFrame) -> str:
        if not len(segments):
            return ""
        shown = segments.drop(columns=["name", "chrom", "context"])
        caption = (
            "Stretches of 20 bp whose scores add up to most. start, end: 0-based and "
            "half-open; peak: 0-based; distance_bp: from the TSS, negative upstream; "
            "sequence: on the strand of the gene; share: of all absolute scores of the "
            "window. A segment is a hypothesis, no site."
        )
        buttons = {"": self.buttons(segments)}
        return "<h3>Strongest segments</h3>" + table(shown, caption, extra=buttons)

    def buttons(self, rows: pd.DataFrame) -> list[str]:
        return [
            f'<button type="button" class="go" data-logo="{self.id}" '
            f'data-start="{start}" data-end="{end}">show</button>'
            if self.start <= start and end <= self.end
            else ""
            for start, end in zip(rows["start"], rows["end"], strict=True)
        ]

    def element_rows(self) -> pd.DataFrame:
        elements = self.found.elements
        if elements is None:
            return pd.DataFrame()
        return elements[elements["region"] == self.name]

    def elements(self, letters: Letters | None) -> str:
        if self.found.elements is None:
            return ""
        rows = self.element_rows()
        heading = "<h3>Elements</h3>"
        if not len(rows):
            text = f"None of the elements lies on {self.chrom}."
            return heading + paragraph(text)
        n_within = int((rows["reason"] == "").sum())
        caption = (
            f"{n_within} of {len(rows)} elements of {self.chrom} have a score; those "
            "past the window have none, which is not 0. start, end: 0-based and "
            "half-open, as in BED; effect: prediction less that "
            "without the element, positive when it activates; gradient: sum of the "
            "absolute scores of 2 kb around its middle"
        )
        attending = _attending(self.found)
        caption += f"; attention: of {attending}." if attending else "."
        shown = rows.drop(columns=["region", "chrom", "prediction"], errors="ignore")
        by_size = shown.get("magnitude", shown["distance"]).abs()
        order = by_size.sort_values(ascending=False, na_position="last").index
        shown, rows = shown.loc[order], rows.loc[order]
        if n_within == len(rows):
            shown = shown.drop(columns="reason")
        is_zoomed = self.found.contributions is not None
        extra = {"": self.buttons(rows)} if is_zoomed else None
        return heading + table(shown, caption, extra=extra)

    def ism(self) -> str:
        if not self.found.mutagenesis:
            return ""
        ax = plot_ism(self.found.mutagenesis[self.row])
        caption = (
            "The effect of each substitution: red raises the prediction, blue lowers "
            "it; a dot marks the letter that is there. Look for columns of one colour."
        )
        return "<h3>Every substitution</h3>" + picture(
            ax.figure, f"Substitutions around {self.name}", caption
        )

    def attention(self) -> str:
        if self.found.attention is None:
            return ""
        ax = plot_attention(self.found.attention, row=self.row, tss=self.tss)
        caption = (
            f"The thirty bins that {_attending(self.found)} attend to most, darker for "
            "more; mean over layers and heads. Attention is no effect: compare it with "
            "the contributions."
        )
        return "<h3>Attention</h3>" + picture(
            ax.figure, f"Attention from the bins of {self.name}", caption
        )

    def variants(self) -> str:
        variants = self.found.variants
        if variants is None:
            return ""
        rows = variants[variants["region"] == self.name]
        heading = "<h3>Variants</h3>"
        if not len(rows):
            return heading + paragraph("No variant lies in the window.")
        names = ["chrom", "pos", "id", "ref", "alt", "effect"]
        names += ["reason"] * bool((rows["reason"] != "").any())
        shown = rows[[name for name in names if name in rows]]
        caption = (
            "effect: the prediction with ALT less that with REF, of the same bins of "
            "this window. pos is 1-based, as in the VCF."
        )
        parts = [heading, table(shown, caption)]
        if np.isfinite(rows["effect"].to_numpy(np.float64)).any():
            explained = str(self.found.about.get("explained", "the prediction"))
            ax = plot_variant_effects(
                rows.rename(columns={"effect": explained}), explained
            )
            said = "Up raises the prediction, down lowers it; the largest are named."
            alt = f"Effects of variants on {self.name}"
            parts.insert(1, picture(ax.figure, alt, said))
        return "".join(parts)
