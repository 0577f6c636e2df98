"""Everything about the predictions for some regions, by one call."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.conformal import GroupedConformal
from enformer_features.estimators.domain import OutOfDomain
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.fitted import split_model
from enformer_features.estimators.parameters import recipe_of
from enformer_features.estimators.splits.splitter import check_count
from enformer_features.estimators.streaming import changed
from enformer_features.exceptions import (
    GenomeError,
    InputError,
    check_choice,
    first_few,
)
from enformer_features.genomics.genome import open_genome
from enformer_features.genomics.regions import raise_bad_rows, region_table
from enformer_features.genomics.shuffles import BACKGROUNDS
from enformer_features.interpret.attention import AttentionMap, attention
from enformer_features.interpret.contributions import Contributions
from enformer_features.interpret.elements import element_ism
from enformer_features.interpret.enhancers import WIDTH_BP
from enformer_features.interpret.gradients import gradient_x_input, integrated_gradients
from enformer_features.interpret.rows import Rows
from enformer_features.interpret.targets import Readout, Target, resolve_target
from enformer_features.report.edits import OwnWindows
from enformer_features.report.explanation import MAX_REGIONS, Explanation, Tracks
from enformer_features.report.intervals import as_fitted, interval_ends
from enformer_features.report.methods import METHODS

Method = Literal["gradient", "integrated", "ism", "attention"]
NOTHING_KNOWN = "the letters to substitute are all N"
MAX_TRACKS = 12  # that are drawn
_NAMES = {
    "gradient": "gradient_x_input",
    "integrated": "integrated_gradients",
    "ism": "saturation_mutagenesis",
}


@dataclass(frozen=True)
class Question:
    """What shall be explained, checked as far as it can be without weights.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
    X : DataFrame of regions, n_rows
    target : Target, optional
    method : {"gradient", "integrated", "ism", "attention"}, default="gradient"
        Of the scores of bases; attention has scores of bins.
    elements : DataFrame, optional
        Regions that are taken out, one at a time.
    how : {"n", "shuffled", "dinucleotide"}, default="n"
        What stands in their place.
    n : int, default=10
        Shuffles that are averaged.
    variants : DataFrame, optional
        As ``read_vcf`` returns it; those in a region's window are scored there.
    genes : DataFrame, optional
        To be drawn below tracks.
    draw_tracks : sequence of int, optional
        Tracks that are drawn; by default those of an embedder of tracks, if they are
        12 at most.
    domain : OutOfDomain, optional
        Fitted; flags regions.
    ism_bp : int, default=200
        Bases around the TSS, or the region's middle, that ``"ism"`` substitutes.
    baseline : str, default="n"
        Of ``"integrated"``.
    steps : int, default=50
    seed : int, default=0
        Of shuffles.
    """

    model: Any
    X: pd.DataFrame
    target: Target | None = None
    method: Method = "gradient"
    elements: pd.DataFrame | None = None
    how: str = "n"
    n: int = 10
    variants: pd.DataFrame | None = None
    genes: pd.DataFrame | None = None
    draw_tracks: Sequence[int] | None = None
    domain: OutOfDomain | None = None
    ism_bp: int = 200
    baseline: str = "n"
    steps: int = 50
    seed: int = 0

    def __post_init__(self) -> None:
        check_choice("method", self.method, METHODS)
        check_count("ism_bp", self.ism_bp, 1)

    @property
    def embedder(self) -> EnformerEmbedder:
        """The embedder of the model."""
        return split_model(self.model)[0]

    def check(self) -> pd.DataFrame:
        """Check target, head, regions and variants; opens no weights.

        Returns
        -------
        DataFrame
            The windows of the regions.

        Raises
        ------
        InputError, InputTypeError, GenomeError
        """
        if self.method == "attention":
            rows = Rows(changed(self.embedder, cache=None), self.X)
            self._check_attention()
        else:
            readout = resolve_target(self.model, self.target)
            if self.method != "ism":
                readout.affine()
            rows = Rows(readout.embedder, self.X)
        if self.elements is not None or self.variants is not None:
            _check_names(rows.table["name"])
        self._check_elements()
        self._check_edits()
        if self._has_intervals:  # which prediction's? Attention need not say
            resolve_target(self.model, self.target)
        return rows.table

    def _check_attention(self) -> None:
        """Refuse a prediction that does not exist, or that nothing would explain."""
        output = None if self.target is None else self.target.output
        if output is None:
            return
        resolve_target(self.model, self.target)
        is_used = self.elements is not None or self.variants is not None
        if not is_used and not self._has_intervals:
            msg = (
                f"output={output!r}: attention is of bins, and the same for all "
                "predictions; leave it out, or explain by another method"
            )
            raise InputError(msg)

    def _check_elements(self) -> None:
        """Check elements, and how they are taken out."""
        if self.elements is None:
            return
        if self.method == "attention" and self.target is None:
            msg = "elements are taken out of a prediction: say which, by a target"
            raise InputError(msg)
        check_choice("how", self.how, BACKGROUNDS)
        check_count("n", self.n, 1)
        table = region_table(self.elements)
        raise_bad_rows(table, "elements")
        readout = self._readout
        if readout.embedder.genome is None:
            msg = "elements are places in a genome; give EnformerEmbedder(genome=...)"
            raise InputError(msg)
        contigs = open_genome(readout.embedder.genome).contigs
        unknown = sorted(set(table["chrom"]) - set(contigs))
        if unknown:
            msg = (
                "elements lie on contigs that the genome does not have: "
                f"{first_few(unknown)}"
            )
            raise GenomeError(msg)

    def _check_edits(self) -> None:
        """Check variants and substitutions."""
        if self.method == "ism":
            own = self._own_windows()
            for row in range(len(own.rows)):
                table = own.substitutions(row, self.ism_bp)[2]
                if len(table):
                    own.job(table)
        if self.variants is not None:
            own = self._own_windows()
            pairs = own.pairs(self.variants)
            if len(pairs):
                own.job(pairs)

    def answer(self, *, for_page: bool = False) -> Explanation:
        """Compute it.

        Parameters
        ----------
        for_page : bool, default=False
            Compute tracks and attention too, which a page shows beside other scores.

        Returns
        -------
        Explanation

        Raises
        ------
        InputError, InputTypeError, GenomeError, WeightsError, DeviceMemoryError
        """
        windows = self.check()
        removed = self._without_elements()  # first: it checks elements before it runs
        found = self._scores(windows)
        if for_page:
            found = self._with_pictures(found)
        if removed is not None:
            found = replace(found, elements=_with_scores(removed, found))
        if self.variants is not None:
            found = replace(found, variants=self._variant_effects())
        if self.domain is not None:
            found = replace(found, flags=self.domain.flags(self.X))
        return replace(found, intervals=self._intervals(), genes=self.genes)

    def _scores(self, windows: pd.DataFrame) -> Explanation:
        if self.method == "attention":
            seen = self._attention()
            return Explanation(windows, seen.about, attention=seen)
        if self.method == "ism":
            about = {**self._readout.provenance(), "method": _NAMES["ism"]}
            own = self._own_windows()
            changes = [own.mutate(row, self.ism_bp) for row in range(len(windows))]
            is_known = [np.isfinite(change.effects).any() for change in changes]
            windows = windows.assign(reason=np.where(is_known, "", NOTHING_KNOWN))
            return Explanation(windows, about, mutagenesis=changes)
        found = self._contributions()
        return Explanation(found.table, found.about, contributions=found)

    @property
    def _readout(self) -> Readout:
        return resolve_target(self.model, self.target)

    def _contributions(self) -> Contributions:
        if self.method == "gradient":
            return gradient_x_input(self.model, self.X, self.target)
        return integrated_gradients(
            self.model,
            self.X,
            self.target,
            baseline=self.baseline,
            steps=self.steps,
            seed=self.seed,
        )

    def _attention(self, n_rows: int | None = None) -> AttentionMap:
        """Return attention of all regions, or of the first and NaN for the others."""
        found = attention(self.model, self.X[:n_rows], self._attending)
        n_others = len(self.X) - len(found)
        if not n_others:
            return found
        weights = np.pad(found.weights, ((0, n_others), (0, 0)), constant_values=np.nan)
        table = Rows(changed(self.embedder, cache=None), self.X).table
        return replace(found, table=table, weights=weights)

    @property
    def _attending(self) -> str | tuple[int, int]:
        """The bins that are explained; those of the TSS where pools read different."""
        target = self.target or Target()
        _, steps = split_model(self.model)
        if steps is None or target.of_network:
            return target.bins
        bins = {pool.bins for pool in recipe_of(self.embedder).pools}
        return bins.pop() if len(bins) == 1 else "tss"

    def _own_windows(self) -> OwnWindows:
        readout = self._readout
        return OwnWindows(readout, Rows(readout.embedder, self.X))

    def _without_elements(self) -> pd.DataFrame | None:
        if self.elements is None:
            return None
        return element_ism(
            self.model,
            self.X,
            self.elements,
            self.target,
            how=self.how,
            n=self.n,
            seed=self.seed,
        )

    def _with_pictures(self, found: Explanation) -> Explanation:
        # Elements have a table of all regions; pictures are of those that are drawn.
        n_rows = MAX_REGIONS if self.elements is None else None
        seen = found.attention or self._attention(n_rows)
        return replace(found, attention=seen, tracks=self._tracks())

    def _tracks(self) -> Tracks | None:
        """Predict the tracks that are drawn, of the regions that a page shows."""
        embedder = self.embedder
        if self.draw_tracks is not None:
            chosen = [int(track) for track in self.draw_tracks]
            embedder = changed(embedder, output="tracks", tracks=chosen)
        if embedder.output != "tracks":
            return None
        names = [str(name) for name in recipe_of(embedder).bin_names]
        if len(names) > MAX_TRACKS:
            return None
        shown = embedder.embed_bins(self.X.iloc[:MAX_REGIONS])
        values = np.full((len(self.X), *shown.shape[1:]), np.nan, dtype=np.float32)
        values[:MAX_REGIONS] = shown
        return Tracks(values, names)

    def _variant_effects(self) -> pd.DataFrame:
        assert self.variants is not None
        own = self._own_windows()
        pairs = own.pairs(self.variants)
        if not len(pairs):
            return pairs.assign(region="", effect=0.0, reason="")
        job = own.job(pairs)
        effects, reasons = own.effects(job)
        return job.table.assign(
            region=job.table["gene"], effect=effects, reason=reasons
        )

    @property
    def _has_intervals(self) -> bool:
        """Whether the explained prediction has an interval."""
        _, steps = split_model(self.model)
        is_of_network = self.target is not None and self.target.of_network
        makes_any = steps is not None and isinstance(steps[-1], GroupedConformal)
        return makes_any and not is_of_network

    def _intervals(self) -> pd.DataFrame | None:
        """Return intervals, NaN for rows without features, where the head makes any."""
        if not self._has_intervals:
            return None
        features = np.asarray(self.embedder.transform(self.X))
        is_good = np.isfinite(features).all(axis=1)
        ends = np.full((len(features), 2), np.nan)
        if is_good.any():
            ends[is_good] = self._ends(features[is_good])
        low, high = ends.T
        return pd.DataFrame({"prediction": (low + high) / 2, "low": low, "high": high})

    def _ends(self, features: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Return both ends of the explained prediction's interval, (n, 2)."""
        _, steps = split_model(self.model)
        assert steps is not None
        names = [str(name) for name in recipe_of(self.embedder).feature_names]
        both = interval_ends(steps, as_fitted(steps, features, names))
        ends: npt.NDArray[np.float64] = both[:, :, self._readout.output]
        return ends


def _check_names(names: pd.Series[str]) -> None:
    """Refuse names that repeat, by which elements and variants are told apart."""
    repeated = names[names.duplicated()].unique().tolist()
    if repeated:
        msg = (
            f"several regions are called {first_few(repeated)}; elements and variants "
            "are listed by the name of their region: name each differently"
        )
        raise InputError(msg)


def _with_scores(elements: pd.DataFrame, found: Explanation) -> pd.DataFrame:
    """Put what gradients and attention say of elements beside what ISM does."""
    rows = {str(name): row for row, name in enumerate(found.windows["name"])}
    parts = {"gradient": found.contributions, "attention": found.attention}
    present = [name for name, part in parts.items() if part is not None]
    table = elements.assign(**dict.fromkeys(present, np.nan))
    for number, element in enumerate(elements.to_dict("records")):
        if element["reason"]:
            continue
        row = rows[str(element["region"])]
        window = found.windows.iloc[row]
        first, last = int(window["window_start"]), int(window["window_end"])
        middle = (int(element["start"]) + int(element["end"])) // 2
        low = max(middle - WIDTH_BP // 2, first)
        high = min(middle - WIDTH_BP // 2 + WIDTH_BP, last)
        if found.contributions is not None:
            scores = found.contributions.region(row, low, high).astype(np.float64)
            table.loc[number, "gradient"] = float(np.abs(scores).sum())
        if found.attention is not None:
            table.loc[number, "attention"] = found.attention.of_interval(low, high, row)
    return table
