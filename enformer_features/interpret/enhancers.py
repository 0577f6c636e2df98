"""Scores of element-gene pairs: how much a gene's prediction rests on an element."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.fitted import split_model
from enformer_features.estimators.parameters import window_length
from enformer_features.estimators.splits.splitter import check_count
from enformer_features.exceptions import (
    InputError,
    UnmatchedWarning,
    check_choice,
    first_few,
    warn,
)
from enformer_features.genomics.genome import rename_contigs
from enformer_features.genomics.regions import raise_bad_rows, region_table
from enformer_features.genomics.windows import place_windows
from enformer_features.interpret.attention import attention
from enformer_features.interpret.elements import paired_ism
from enformer_features.interpret.gradients import gradients_by_row
from enformer_features.interpret.targets import Target

Integers = npt.NDArray[np.int64]
Method = Literal["gradient", "ism", "attention"]
METHODS = ("gradient", "ism", "attention")
WIDTH_BP = 2_000  # as published
NO_TSS = "the gene has no TSS"
OUTSIDE = "outside the window"


def score_elements(
    model: Any,
    pairs: pd.DataFrame,
    method: Method = "gradient",
    target: Target | None = None,
    *,
    genes: pd.DataFrame | None = None,
    width_bp: int = WIDTH_BP,
    **options: Any,
) -> pd.DataFrame:
    r"""Score pairs of an element and a gene by what the gene's prediction rests on.

    A window is centred on the TSS of every gene; elements whose middle lies in it are
    scored over ``width_bp`` around it, all others have no score.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
        As :func:`~enformer_features.interpret.gradients.gradient_x_input` takes it;
        with a genome.
    pairs : DataFrame
        ``chrom``, ``start``, ``end`` of the element (0-based half-open), and ``tss``
        (0-based; -1 for none), such as :func:`read_crispri` makes; ``strand`` of the
        gene if it is known: one that is missing, or ".", is "+".
    method : {"gradient", "ism", "attention"}, default="gradient"
        ``"gradient"``: sum of the absolute gradient x input over the element, as
        published, one pass and back per gene; ``"ism"``: absolute value of the mean
        change of the prediction when the element is replaced, passes for each element;
        ``"attention"``: mean attention of the TSS bins to the element's bins, one pass
        per gene.
    target : Target, optional
        What is explained: ``Target(tracks=[4828, 5111])``, K562 CAGE, for the published
        comparison. Of ``"attention"`` only its bins count.
    genes : DataFrame, optional
        Of :func:`~enformer_features.read_genes`: TSS and strand come from there, by
        ``gene_id`` or else ``gene`` of the pairs.
    width_bp : int, default=2000
        Bases around the middle of the element, cut where the window ends.
    **options
        Of :func:`~enformer_features.interpret.elements.element_ism`: ``how``, ``n``,
        ``seed``.

    Returns
    -------
    DataFrame
        Rows and index of ``pairs``: ``score``, NaN where there is none;
        ``scored_start`` and ``scored_end``, the bases that were scored (-1 where none
        were); ``reason``: why there is no score, or "". Of ``"ism"`` also ``effect``:
        reference minus replaced, so that enhancers are positive, and ``spread`` over
        replacements.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        When columns are missing, or the target or rows cannot be used: of all genes
        before any is scored.

    Warns
    -----
    UnmatchedWarning
        For pairs whose gene is not among ``genes``.

    Notes
    -----
    No score is not a score of 0: leave these pairs out of a comparison and say how many
    they are, as :func:`average_precision` does. Contributions of distal elements are
    under-estimated (Karollus et al. 2023, Genome Biology 24:56).

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
    ...     "untrained-tiny", genome=fasta, sequence_length=2048, output="tracks"
    ... )
    >>> pairs = pd.DataFrame({"chrom": "chr1", "start": [3100, 5500],
    ...                       "end": [3300, 5700], "tss": 3500})
    >>> scores = score_elements(embedder, pairs, target=Target(tracks=0), width_bp=500)
    >>> scores["score"].notna().tolist(), scores["reason"].tolist()
    ([True, False], ['', 'outside the window'])
    >>> folder.cleanup()
    """
    check_choice("method", method, METHODS)
    check_count("width_bp", width_bp, 1)
    if options and method != "ism":
        msg = f"{first_few(sorted(options))} are options of method='ism' only"
        raise InputError(msg)
    placed = _place(model, pairs, genes, width_bp)
    columns = ["score", "effect", "spread"] if method == "ism" else ["score"]
    values = pd.DataFrame(np.nan, index=range(len(pairs)), columns=columns)
    reasons = placed["reason"].to_numpy(object, copy=True)
    score = {"gradient": _gradients, "ism": _replaced, "attention": _attended}[method]
    starts, elements = _by_gene(placed)
    if elements:
        for row, found, reason in score(model, starts, elements, target, **options):
            values.loc[row, columns] = found
            reasons[row] = reason
    out = pd.concat([values, placed[["scored_start", "scored_end"]]], axis=1)
    has_none = reasons != ""
    out.loc[has_none, ["scored_start", "scored_end"]] = -1
    return out.assign(reason=reasons).set_axis(pairs.index)


def _place(
    model: Any, pairs: pd.DataFrame, genes: pd.DataFrame | None, width: int
) -> pd.DataFrame:
    """Return the TSS of every pair, and the bases of its element in that window."""
    embedder, _ = split_model(model)
    missing = [name for name in ("chrom", "start", "end") if name not in pairs]
    if genes is None and "tss" not in pairs:
        missing.append("tss")
    if missing:
        msg = (
            f"pairs have no column {first_few(missing)}; expected chrom, start and end "
            "of the element, and tss (0-based), or genes="
        )
        raise InputError(msg)
    tss, strand = _starts(pairs, genes)
    points = region_table(
        pd.DataFrame(
            {"chrom": pairs["chrom"], "tss": np.maximum(tss, 0), "strand": strand}
        )
    )
    raise_bad_rows(points, "pairs")
    placed = pd.DataFrame(
        {
            "chrom": rename_contigs(points["chrom"], embedder.contig_style),
            "tss": tss,
            "strand": points["strand"],
            "reason": np.where(tss < 0, NO_TSS, "").astype(object),
        }
    ).reset_index(drop=True)
    windows = place_windows(
        points.assign(chrom=placed["chrom"].to_numpy()),
        window_length(embedder),
        center=embedder.center,
        strand=embedder.strand,
        snap=embedder.snap,
    )
    low = windows["window_start"].to_numpy(np.int64)
    high = windows["window_end"].to_numpy(np.int64)
    start, end = (pairs[name].to_numpy(np.int64) for name in ("start", "end"))
    middle = (start + end) // 2
    is_out = (tss >= 0) & ((middle < low) | (middle >= high))
    placed.loc[is_out, "reason"] = OUTSIDE
    placed["scored_start"] = np.maximum(middle - width // 2, np.maximum(low, 0))
    placed["scored_end"] = np.minimum(middle - width // 2 + width, high)
    return placed


def _starts(
    pairs: pd.DataFrame, genes: pd.DataFrame | None
) -> tuple[Integers, npt.NDArray[np.object_]]:
    """Return the TSS of every pair, -1 for none, and the strand, "" for unknown."""
    if genes is None:
        strand = pairs["strand"] if "strand" in pairs else pd.Series("+", pairs.index)
        return pairs["tss"].to_numpy(np.int64), strand.to_numpy(object)
    by = "gene_id" if "gene_id" in pairs else "gene"
    if by not in pairs:
        msg = "pairs have neither gene_id nor gene, by which genes are found"
        raise InputError(msg)
    known = genes if by == "gene_id" else genes.set_index("gene_name")
    known = known[~known.index.duplicated(keep=False)]
    found = known.reindex(pairs[by].to_numpy())
    is_elsewhere = found["chrom"].notna().to_numpy() & (
        found["chrom"].to_numpy() != pairs["chrom"].to_numpy()
    )
    is_missing = found["tss"].isna().to_numpy() | is_elsewhere
    if is_missing.any():
        names = pairs.loc[is_missing, by].astype(str).drop_duplicates().tolist()
        message = (
            f"{int(is_missing.sum())} of {len(pairs)} pairs have no score: genes has "
            f"not their {by}, has it twice, or on another chromosome: "
            f"{first_few(names)}"
        )
        warn(message, UnmatchedWarning, stacklevel=5)
    tss = found["tss"].where(~is_missing, -1).to_numpy(np.int64)
    return tss, found["strand"].where(~is_missing, "+").to_numpy(object)


def _by_gene(placed: pd.DataFrame) -> tuple[pd.DataFrame, list[pd.DataFrame]]:
    """Return every TSS, as regions, and of each the pairs that lie in its window."""
    good = placed[placed["reason"] == ""]
    columns = ["chrom", "tss", "strand"]
    starts = good[columns].drop_duplicates().sort_values(columns, ignore_index=True)
    return starts, [group for _, group in good.groupby(columns)]


Found = Iterator[tuple[int, list[float], str]]


def _gradients(
    model: Any, starts: pd.DataFrame, rows: list[pd.DataFrame], target: Target | None
) -> Found:
    genes = gradients_by_row(model, starts, target, stacklevel=6)
    for found, elements in zip(genes, rows, strict=True):
        reason = str(found.table["reason"].iloc[0])
        for row, low, high in _bounds(elements):
            scores = found.region(0, low, high).astype(np.float64)
            yield row, [float(np.abs(scores).sum())], reason


def _replaced(
    model: Any,
    starts: pd.DataFrame,
    rows: list[pd.DataFrame],
    target: Target | None,
    **options: Any,
) -> Found:
    elements = pd.concat(rows)
    bases = elements[["chrom", "scored_start", "scored_end"]]
    found = paired_ism(
        model,
        starts,
        bases.set_axis(["chrom", "start", "end"], axis=1),
        np.repeat(np.arange(len(rows)), [len(group) for group in rows]).tolist(),
        target,
        **options,
    )
    for row, effect, spread, reason in zip(
        elements.index,
        *(found[name] for name in ("effect", "spread", "reason")),
        strict=True,
    ):
        yield int(row), [abs(float(effect)), float(effect), float(spread)], reason


def _attended(
    model: Any, starts: pd.DataFrame, rows: list[pd.DataFrame], target: Target | None
) -> Found:
    found = attention(model, starts, "tss" if target is None else target.bins)
    for number, elements in enumerate(rows):
        reason = str(found.table["reason"].iloc[number])
        for row, low, high in _bounds(elements):
            yield row, [found.of_interval(low, high, number)], reason


def _bounds(elements: pd.DataFrame) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each pair, and the bases that are scored."""
    columns = elements[["scored_start", "scored_end"]]
    for row, low, high in columns.itertuples(name=None):
        yield int(row), int(low), int(high)
