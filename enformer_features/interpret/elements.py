"""Elements: what a prediction loses when a stretch of the genome is taken out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from torch import Tensor

from enformer_features.exceptions import (
    GenomeError,
    InferenceError,
    InputError,
    WeightsError,
    check_choice,
)
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.genome import open_genome, rename_contigs
from enformer_features.genomics.regions import region_table
from enformer_features.genomics.shuffles import BACKGROUNDS, background
from enformer_features.inference.alleles import AlleleForward, Copy
from enformer_features.inference.devices import resolve_batch_size
from enformer_features.inference.pooling import pool_row
from enformer_features.inference.prepared import prepared_once
from enformer_features.inference.reads import Codes, View
from enformer_features.interpret.gradients import check_whole
from enformer_features.interpret.rows import Reading, Rows
from enformer_features.interpret.targets import Readout, Target, resolve_target
from enformer_features.model.registry import load_weights, weights_digest

Doubles = npt.NDArray[np.float64]


def element_ism(
    model: Any,
    X: Any,
    elements: Any,
    target: Target | None = None,
    *,
    how: str = "n",
    n: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    r"""Take elements out of the windows of regions, and see what the prediction loses.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
        With any head: no gradient is needed. It has the genome.
    X : table or sequence of regions, n_rows
        As the embedder takes it: genes, for instance.
    elements : DataFrame or sequence of str
        As regions: ``chrom``, ``start``, ``end``, ``name``, or ``"chr1:101-200"``; the
        embedder's ``contig_style`` holds for their contigs too.
    target : Target, optional
        What is explained, as in :func:`gradient_x_input`.
    how : {"n", "shuffled", "dinucleotide"}, default="n"
        What stands in the place of an element: N; its letters in random order; or in
        one that keeps pairs of neighbours.
    n : int, default=10
        Shuffles that are averaged; there is one N.
    seed : int, default=0
        Of the shuffles; an element has its own, whatever else is asked for.

    Returns
    -------
    DataFrame
        One row for every region and every element on its chromosome, regions first:
        ``region``, ``element`` (names), ``chrom``, ``start``, ``end``, ``distance``
        (bp from the TSS, or the region's middle, to the element's middle, in the
        direction of transcription), ``prediction``, ``effect`` (the prediction less
        the mean without the element: positive when it activates), ``magnitude``
        (mean of the absolute differences), ``spread`` (standard deviation over
        shuffles), ``n`` and ``reason``. Elements that reach past the window have no
        effect, which is NaN and not 0.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        When the target, a region or an element cannot be used, before any weights are
        read; sequences have no elements.
    WeightsError, DeviceMemoryError, InferenceError
        As the embedder's ``transform`` does.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196, Figure 2.

    Examples
    --------
    >>> import pathlib, tempfile, warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\n" + "GATTACA" * 1_000)
    >>> embedder = EnformerEmbedder(
    ...     "untrained-tiny", genome=fasta, sequence_length=2048
    ... )
    >>> found = element_ism(embedder, ["chr1:3501-3502"], ["chr1:3001-3200"],
    ...                     Target(tracks=[4828]))
    >>> found["distance"].tolist(), bool(found["effect"].notna().all())
    ([-401], True)
    >>> folder.cleanup()
    """
    return paired_ism(model, X, elements, None, target, how=how, n=n, seed=seed)


def paired_ism(
    model: Any,
    X: Any,
    elements: Any,
    of_region: Sequence[int] | None,
    target: Target | None = None,
    *,
    how: str = "n",
    n: int = 10,
    seed: int = 0,
) -> pd.DataFrame:
    """Take each element out of the window of one region only.

    Parameters
    ----------
    model, X, elements, target, how, n, seed
        As in :func:`element_ism`.
    of_region : sequence of int, n_elements, or None
        Number of each element's region in ``X``, in ascending order; None pairs every
        region with every element on its chromosome.

    Returns
    -------
    DataFrame
        As :func:`element_ism` returns it: rows are elements, in order.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        As :func:`element_ism` does.

    Examples
    --------
    See :func:`element_ism`.
    """
    check_choice("how", how, BACKGROUNDS)
    check_whole("n", n, least=1)
    check_whole("seed", seed, least=0)
    readout = resolve_target(model, target)
    rows = Rows(readout.embedder, X)
    if rows.job.layout.regions is None:
        msg = (
            "elements are places in a genome, and X holds sequences; give regions and "
            "EnformerEmbedder(genome=...)"
        )
        raise InputError(msg)
    table = _pairs(rows, _elements(elements, readout, of_region is None), of_region)
    rows.job.warn_about_windows(stacklevel=5)
    scored = np.flatnonzero(table["reason"] == "")
    if len(scored):
        edited = _Edited(rows, table, how, 1 if how == "n" else n, seed)
        for row, prediction, without in _predictions(readout, edited, scored):
            change = prediction - without
            numbers = {
                "prediction": prediction,
                "effect": change.mean(),
                "magnitude": np.abs(change).mean(),
                "spread": change.std(),
                "n": len(change),
            }
            for name, value in numbers.items():
                table.loc[row, name] = value
    return table.drop(columns="row").astype({"n": np.int64})


def _elements(elements: Any, readout: Readout, are_free: bool) -> pd.DataFrame:
    """Return the elements as a checked table; those of a region have its contig."""
    given = [elements] if isinstance(elements, str) and ":" in elements else elements
    table = region_table(given)
    assert readout.embedder.genome is not None
    contigs = open_genome(readout.embedder.genome).contigs
    bad = table.index[(table["reason"] != "").to_numpy()]
    if len(bad):
        msg = f"element {bad[0]}: {table.loc[bad[0], 'reason']} ({len(bad)} in all)"
        raise InputError(msg)
    chroms = rename_contigs(table["chrom"], readout.embedder.contig_style)
    table = table.assign(chrom=chroms)
    unknown = sorted(set(table["chrom"]) - set(contigs))
    if unknown and are_free:
        msg = f"elements lie on contigs that the genome does not have: {unknown[:5]}"
        raise GenomeError(msg)
    return table


def _pairs(
    rows: Rows, elements: pd.DataFrame, of_region: Sequence[int] | None
) -> pd.DataFrame:
    """Pair every region with its elements, or with all on its chromosome."""
    regions, windows = rows.job.layout.regions, rows.table
    assert regions is not None
    names = windows["name"].tolist()
    of_elements = [
        name or f"{chrom}:{start}-{end}"
        for name, chrom, start, end in zip(
            *(elements[column] for column in ("name", "chrom", "start", "end")),
            strict=True,
        )
    ]
    chroms = elements["chrom"].to_numpy()
    starts, ends = elements["start"].to_numpy(), elements["end"].to_numpy()
    parts = []
    for row in range(len(rows)):
        window = windows.iloc[row]
        is_here = (
            chroms == window["chrom"] if of_region is None else np.equal(of_region, row)
        )
        here = np.flatnonzero(is_here)
        low, high = starts[here], ends[here]
        is_within = (low >= window["window_start"]) & (high <= window["window_end"])
        of_row = str(window["reason"])
        reasons = np.where(is_within, of_row, of_row or PAST)
        parts.append(
            pd.DataFrame(
                {
                    "row": row,
                    "region": names[row],
                    "element": [of_elements[number] for number in here],
                    "chrom": window["chrom"],
                    "start": low,
                    "end": high,
                    "distance": _distances(regions.iloc[row], low, high),
                    "prediction": np.nan,
                    "effect": np.nan,
                    "magnitude": np.nan,
                    "spread": np.nan,
                    "n": 0,
                    "reason": reasons.astype(object),
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


PAST = "past the window: the element does not lie within it whole"


def _distances(region: Any, start: Any, end: Any) -> Any:
    """Return bp from the TSS, or the middle, to elements' middles, downstream > 0."""
    tss = int(region["tss"])
    point = tss if tss >= 0 else (int(region["start"]) + int(region["end"])) // 2
    distance = (start + end) // 2 - point
    return -distance if region["strand"] == "-" else distance


@dataclass(frozen=True)
class _Edited:
    """Windows, and copies of them without an element; copies are alleles of a window.

    A copy's number is that of its pair times ``n``, and the number of the shuffle.
    """

    rows: Rows
    table: pd.DataFrame
    how: str
    n: int
    seed: int

    @property
    def n_views(self) -> int:
        """Sequences that are read for a window."""
        return self.rows.job.layout.reads.n_views

    def reference(self, window: int) -> list[View]:
        """Return the views of a window."""
        return [View(r.codes, r.flip) for r in self.rows.readings(window)]

    def alternatives(self, row: int, view: int) -> list[Copy]:
        """Return a window without an element, in one view."""
        pair = self.table.iloc[row // self.n]
        window = int(pair["row"])
        reading = self.rows.readings(window)[view]
        window_start = int(self.rows.table["window_start"].iloc[window])
        part = slice(int(pair["start"]) - window_start, int(pair["end"]) - window_start)
        codes = self.rows.codes(window)[part]
        generator = np.random.default_rng([self.seed, int(pair["start"]), row % self.n])
        return [Copy(_put(reading, part, background(codes, self.how, generator)))]


def _put(reading: Reading, part: slice, codes: Codes) -> Codes:
    """Put letters in the place of others, where a reading reads them."""
    forward = reverse_complement(reading.codes) if reading.backward else reading.codes
    edited = forward.copy()
    low, high = part.start - reading.offset, part.stop - reading.offset
    first, last = max(low, 0), min(high, len(edited))
    edited[first:last] = codes[first - low : last - low]
    return reverse_complement(edited) if reading.backward else edited


def _predictions(
    readout: Readout, edited: _Edited, pairs: Sequence[int] | npt.NDArray[np.intp]
) -> Iterator[tuple[int, float, Doubles]]:
    """Yield each pair's prediction, and those of its copies, (n,)."""
    job = edited.rows.job
    weights, backend = readout.embedder.weights, job.backend
    digest = weights_digest(weights)
    loaded = load_weights(weights, str(backend.device))
    if loaded.digest != digest:
        msg = f"weights={weights!r} were exchanged during the call; repeat it"
        raise WeightsError(msg)
    span = job.recipe.span(job.bins, flips=job.layout.reads.flips)
    forward = AlleleForward(
        job.recipe,
        prepared_once(loaded.module, backend.precision),
        span,
        batch_size=resolve_batch_size(
            backend.batch_size,
            backend.device,
            job.recipe.config,
            job.recipe.geometry.sequence_length,
        ),
    )
    windows = edited.table["row"].to_numpy()
    for window in dict.fromkeys(windows[pairs].tolist()):
        of_this = [int(pair) for pair in pairs if windows[pair] == window]
        copies = [pair * edited.n + i for pair in of_this for i in range(edited.n)]
        values: dict[int, list[float]] = {pair: [] for pair in of_this}
        prediction = np.nan
        for copy, reference, change in forward.run(edited, window, copies):
            prediction = _number(readout, edited, reference, window, span[0])
            bins = reference.double() + change.double()
            values[copy // edited.n].append(
                _number(readout, edited, bins, window, span[0])
            )
        for pair, found in values.items():
            if not np.isfinite([prediction, *found]).all():
                msg = f"{edited.table['region'][pair]}: the prediction is not finite"
                raise InferenceError(msg)
            yield pair, prediction, np.array(found)


def _number(
    readout: Readout, edited: _Edited, bins: Tensor, window: int, first: int
) -> float:
    """Pool a window's bins, (bins, features), and make the number of them."""
    job = edited.rows.job
    pooled = pool_row(bins.double().cpu(), job.recipe.pools, job.bins, window, first)
    return float(readout.predict(pooled[None].numpy())[0])
