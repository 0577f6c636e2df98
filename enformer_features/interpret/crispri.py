"""Enhancer-gene pairs that CRISPR interference tested, and how well scores rank them.

A pair is an element and a gene; it is positive ("regulated") when silencing the element
lowered the gene's expression. Scores are compared by average precision, the area under
the precision-recall curve, because positives are few.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.correlations import draw_groups, interval
from enformer_features.exceptions import InputError, check_choice, first_few

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
On = Literal["common", "own"]

FLOOR_BP = 1_000  # an element nearer than this counts as so far away
ABC_BP = 5_000_000  # elements that compete for a gene lie within this distance
EDGES_BP = (0, 10_000, 50_000, 100_000)
ALL = "all"
_CHUNK = 64  # draws that are ranked at once

_RENAMED = {
    "chromStart": "start",
    "chromEnd": "end",
    "startTSS": "tss",
    "measuredGeneSymbol": "gene",
    "measuredGeneEnsemblId": "gene_id",
    "Regulated": "regulated",
    "EffectSize": "effect_size",
    "distanceToTSS": "distance",
    "Dataset": "dataset",
    "CellType": "cell_type",
}
_NEEDED = ("chrom", "chromStart", "chromEnd", "startTSS", "measuredGeneSymbol")
_ACTIVITY = ("DHS.RPM", "H3K27ac.RPM.expandedRegion")
_ABC = ("ABCScore", "ABC.Score")
_POWER = "PowerAtEffectSize25"
_TRUTHS = {"TRUE": True, "FALSE": False, "True": True, "False": False}


def read_crispri(path: str | PathLike[str]) -> pd.DataFrame:
    r"""Read a table of pairs in the layout of the ENCODE CRISPR benchmark.

    Parameters
    ----------
    path : path
        Tab-separated, plain or gzipped, with a header: ``chrom``, ``chromStart``,
        ``chromEnd``, ``startTSS`` (0-based), ``measuredGeneSymbol``, ``Regulated``, and
        more, such as ``distanceToTSS``, ``DHS.RPM``, ``PowerAtEffectSize25``.

    Returns
    -------
    DataFrame
        One row per pair, in the order of the file: ``chrom``, ``start``, ``end``
        (element, 0-based half-open), ``tss`` (0-based; -1 where the file has none),
        ``gene``, ``gene_id``, ``regulated`` (bool), ``effect_size``, ``distance`` (bp
        from the middle of the element to the TSS), ``dataset``, ``cell_type``, and all
        other columns as they are called in the file.

    Raises
    ------
    InputError
        When columns are missing, ``Regulated`` is neither true nor false, or a distance
        is not a number.

    Notes
    -----
    ``distance`` is the file's where it has one. It need not agree with ``tss``: the
    published K562 table measured some pairs from another TSS of the gene.

    References
    ----------
    Gschwind et al. 2025 (EngreitzLab/CRISPR_comparison); Gasperini et al. 2019, Cell
    176:377; Nasser et al. 2021, Nature 593:238.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> header = "chrom chromStart chromEnd startTSS measuredGeneSymbol Regulated"
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = pathlib.Path(folder, "pairs.tsv")
    ...     text = f"{header}\nchr1 100 600 5350 MYC TRUE\n".replace(" ", "\t")
    ...     _ = path.write_text(text)
    ...     pairs = read_crispri(path)
    >>> pairs[["gene", "start", "tss", "distance", "regulated"]]
      gene  start   tss  distance  regulated
    0  MYC    100  5350    5000.0       True
    """
    raw = pd.read_csv(path, sep="\t", dtype={"chrom": str})
    missing = [name for name in (*_NEEDED, "Regulated") if name not in raw]
    if missing:
        msg = (
            f"{path} has no column {first_few(missing)}; expected a tab-separated "
            f"table of the CRISPR benchmark, found {first_few(list(raw.columns))}"
        )
        raise InputError(msg)
    table = raw.rename(columns=_RENAMED)
    table["regulated"] = _truths(raw["Regulated"], path)
    # Genes without a TSS are written as an empty interval at 0.
    if "endTSS" in raw:
        table["tss"] = raw["startTSS"].where(raw["endTSS"] > 0, -1)
    if "distance" not in table:
        middle = (table["start"] + table["end"]) / 2
        table["distance"] = (middle - table["tss"]).abs().where(table["tss"] >= 0)
    table["distance"] = _numbers(table, "distance", path)
    return table


def _truths(column: pd.Series, path: object) -> pd.Series:
    """Return a column of truth values, of however they were written."""
    found = column.astype(str).map(_TRUTHS)
    wrong = found.isna().to_numpy().nonzero()[0]
    if len(wrong):
        msg = (
            f"{path}: Regulated is neither TRUE nor FALSE in rows "
            f"{first_few(wrong.tolist())}"
        )
        raise InputError(msg)
    return found.astype(bool)


def _numbers(table: pd.DataFrame, name: str, where: object) -> pd.Series:
    values = pd.to_numeric(table[name], errors="coerce").astype(np.float64)
    wrong = np.flatnonzero(values.isna() & table[name].notna())
    if len(wrong):
        msg = f"{where}: {name} is no number in rows {first_few(wrong.tolist())}"
        raise InputError(msg)
    return values


def crispri_baselines(pairs: pd.DataFrame) -> pd.DataFrame:
    """Score pairs without a network: by distance, and by activity over distance.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`read_crispri`; ``distance`` is needed, ``DHS.RPM`` and
        ``H3K27ac.RPM.expandedRegion`` for activity.

    Returns
    -------
    DataFrame of float64
        Same rows and index. ``1/distance``; ``activity``: the square root of DNase
        times H3K27ac of the element; ``activity/distance``, distances under 1 kb being
        1 kb; ``ABC``: the table's own column ``ABCScore`` if it has one; ``ABC of
        tested``: activity/distance, divided by its sum over the gene's elements of the
        table within 5 Mb. Scores whose columns are not there are left out.

    Raises
    ------
    InputError
        Without ``distance``, or when activities are negative.

    Notes
    -----
    The activity-by-contact score (ABC) divides by the sum over *all* candidate elements
    around a gene. A table of tested pairs has only those that were tested, so that
    ``ABC of tested`` is not ABC: a gene's only tested element has 1, whatever it is.
    Its contact is distance, not Hi-C.

    References
    ----------
    Fulco et al. 2019, Nature Genetics 51:1664.

    Examples
    --------
    >>> pairs = pd.DataFrame({"gene": ["A", "A"], "distance": [500.0, 4000.0],
    ...     "DHS.RPM": [1.0, 4.0], "H3K27ac.RPM.expandedRegion": [4.0, 4.0]})
    >>> crispri_baselines(pairs).round(4)
       1/distance  activity  activity/distance  ABC of tested
    0      0.0020       2.0              0.002         0.6667
    1      0.0002       4.0              0.001         0.3333
    """
    if "distance" not in pairs:
        msg = (
            "pairs have no column 'distance' (bp, element to TSS); read_crispri makes "
            "one"
        )
        raise InputError(msg)
    distance = _numbers(pairs, "distance", "pairs")
    scores = {"1/distance": 1 / distance.clip(lower=1)}
    if all(name in pairs for name in _ACTIVITY):
        product = pairs[_ACTIVITY[0]] * pairs[_ACTIVITY[1]]
        wrong = np.flatnonzero(product < 0)
        if len(wrong):
            msg = f"negative activity in rows {first_few(wrong.tolist())} of pairs"
            raise InputError(msg)
        activity = product.pow(0.5)
        near = activity / distance.clip(lower=FLOOR_BP)
        scores |= {"activity": activity, "activity/distance": near}
        if "gene" in pairs:
            competing = near.where(distance <= ABC_BP)
            total = competing.groupby(pairs["gene"].to_numpy()).transform("sum")
            scores["ABC of tested"] = (competing / total).where(total > 0, 0.0)
    own = next((name for name in _ABC if name in pairs), None)
    if own is not None:
        scores["ABC"] = _numbers(pairs, own, "pairs")
    return pd.DataFrame(scores, index=pairs.index).astype(np.float64)


def powered(pairs: pd.DataFrame, least: float = 0.8) -> Flags:
    """Tell positives, and negatives of experiments that could have seen an effect.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`read_crispri`, with ``PowerAtEffectSize25``: the power to detect a
        change of 25 %.
    least : float, default=0.8

    Returns
    -------
    ndarray of bool, shape (n_pairs,)

    Examples
    --------
    >>> pairs = pd.DataFrame({"regulated": [True, False, False],
    ...                       "PowerAtEffectSize25": [0.1, 0.1, 0.9]})
    >>> powered(pairs).tolist()
    [True, False, True]
    """
    if _POWER not in pairs:
        msg = f"pairs have no column {_POWER!r}, which min_power needs"
        raise InputError(msg)
    is_positive = pairs["regulated"].to_numpy(bool)
    keep: Flags = is_positive | (pairs[_POWER].to_numpy() >= least)
    return keep


def average_precision(
    pairs: pd.DataFrame,
    scores: pd.DataFrame | pd.Series | Mapping[str, Any],
    groups: str | Sequence[Any] | npt.NDArray[Any] | None = "chrom",
    *,
    on: On = "common",
    baseline: str | None = None,
    min_power: float | None = None,
    edges_bp: Sequence[int] = EDGES_BP,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Rank pairs by scores: average precision, overall and by distance.

    Parameters
    ----------
    pairs : DataFrame
        From :func:`read_crispri`: ``regulated``, ``distance``.
    scores : DataFrame, Series or mapping, n_pairs
        Larger means more likely regulated. NaN is no score: the pair is left out, and
        missed from the coverage. Never fill in 0 for elements outside the window.
    groups : str, array-like or None, default="chrom"
        Column, or labels, of the groups that are drawn for intervals: pairs of one
        chromosome share elements and genes. None: no intervals.
    on : {"common", "own"}, default="common"
        Compare scores on the pairs that all of them have, or each on its own. Average
        precision rises with the share of positives, so that values on different pairs
        cannot be compared.
    baseline : str, optional
        A score: adds by how much the others are above it, on the same draws; needs
        ``on="common"``.
    min_power : float, optional
        Leave negatives with a lower ``PowerAtEffectSize25`` out; 0.8 is usual.
    edges_bp : sequence of int, default=(0, 10_000, 50_000, 100_000)
        Lower edges of the distance bins; the last has no end.
    n_boot : int, default=1000
    seed : int, default=0

    Returns
    -------
    DataFrame
        One row per score and distance bin, ``"all"`` first: ``score``, ``distance``;
        ``n_pairs`` and ``n_positive`` (of the table, in the bin), ``coverage`` and
        ``positive_coverage`` (shares of these that *this* score has); ``n_ranked``,
        ``n_positive_ranked``, ``prevalence`` (what a random order would reach);
        ``average_precision``, ``low``, ``high`` (5th and 95th percentile over draws of
        whole groups); with ``baseline`` also ``gain``, ``gain_low``, ``gain_high``;
        ``reason``: why there is no value, or "".

    Raises
    ------
    InputError
        When columns are missing, lengths differ, scores are infinite, or groups do not
        fit.

    Notes
    -----
    Tied scores are one threshold, as in `sklearn.metrics.average_precision_score`.

    Examples
    --------
    >>> pairs = pd.DataFrame({"chrom": ["1", "1", "2", "2"],
    ...     "distance": [2e3, 8e3, 4e3, 3e5], "regulated": [True, False, True, False]})
    >>> scores = {"1/distance": 1 / pairs["distance"], "mine": [3.0, 4.0, 5.0, np.nan]}
    >>> found = average_precision(pairs, scores, groups=None)
    >>> found[["score", "distance", "coverage", "prevalence", "average_precision"]][:3]
            score  distance  coverage  prevalence  average_precision
    0  1/distance       all       1.0    0.666667                1.0
    1  1/distance   0-10 kb       1.0    0.666667                1.0
    2  1/distance  10-50 kb       NaN         NaN                NaN
    """
    check_choice("on", on, ("common", "own"))
    for name in ("regulated", "distance"):
        if name not in pairs:
            msg = f"pairs have no column {name!r}; read_crispri makes it"
            raise InputError(msg)
    values = _score_table(scores, pairs)
    _check_baseline(baseline, values, on)
    draws = _draws(pairs, groups, n_boot, seed)
    kept = np.ones(len(pairs), dtype=bool)
    if min_power is not None:
        kept = powered(pairs, min_power)
    positive = pairs["regulated"].to_numpy(bool)
    known = values.notna().to_numpy()
    ranked = known & known.all(axis=1, keepdims=True) if on == "common" else known
    rows = []
    for label, in_bin in _distance_bins(pairs["distance"].to_numpy(), edges_bp):
        used = kept & in_bin
        found = {
            str(name): _precisions(column.to_numpy(), positive, used & mask, draws)
            for (name, column), mask in zip(values.items(), ranked.T, strict=True)
        }
        for column, (name, of_draws) in enumerate(found.items()):
            row: dict[str, Any] = {"score": name, "distance": label}
            row |= _counts(positive, used, known[:, column], ranked[:, column])
            row |= _with_interval("", "average_precision", of_draws, draws)
            if baseline is not None:
                gain = of_draws - found[baseline]
                row |= _with_interval("gain_", "gain", gain, draws)
            rows.append(row | {"reason": _reason(row)})
    table = pd.DataFrame(rows)
    order = pd.Categorical(table["score"], list(values), ordered=True).codes
    table = table.iloc[np.argsort(order, kind="stable")]
    return table.reset_index(drop=True)


def _score_table(scores: Any, pairs: pd.DataFrame) -> pd.DataFrame:
    """Bring scores to a table of float64 with the pairs' index."""
    if isinstance(scores, pd.Series):
        scores = scores.to_frame(str(scores.name or "score"))
    columns = scores.items() if hasattr(scores, "items") else ()
    found = {}
    for name, column in columns:
        if isinstance(column, pd.Series) and not column.index.equals(pairs.index):
            msg = f"score {name!r} has other row labels than pairs, or another order"
            raise InputError(msg)
        values = np.asarray(column, dtype=np.float64)
        if values.shape != (len(pairs),):
            msg = f"score {name!r} has shape {values.shape} for {len(pairs)} pairs"
            raise InputError(msg)
        if np.isinf(values).any():
            rows = np.flatnonzero(np.isinf(values)).tolist()
            msg = f"score {name!r} is infinite in rows {first_few(rows)}"
            raise InputError(msg)
        found[str(name)] = values
    if not found:
        msg = "scores hold no column; give a DataFrame, a Series, or name: values"
        raise InputError(msg)
    return pd.DataFrame(found, index=pairs.index)


def _check_baseline(baseline: str | None, values: pd.DataFrame, on: str) -> None:
    if baseline is None:
        return
    check_choice("baseline", baseline, [str(name) for name in values])
    if on != "common":
        msg = f"baseline={baseline!r} needs on='common': gains are of the same pairs"
        raise InputError(msg)


def _draws(
    pairs: pd.DataFrame, groups: Any, n_boot: int, seed: int
) -> tuple[npt.NDArray[np.int_], Floats]:
    """Return the group of every pair, and how often each group occurs in each draw."""
    if groups is None or n_boot == 0:
        return np.zeros(len(pairs), dtype=int), np.ones((1, 1))
    if isinstance(groups, str):
        if groups not in pairs:
            msg = f"groups={groups!r} is no column of pairs; there are {list(pairs)}"
            raise InputError(msg)
        groups = pairs[groups]
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (len(pairs),) or pd.isna(labels).any():
        msg = f"groups must be one label for each of the {len(pairs)} pairs"
        raise InputError(msg)
    codes, names = pd.factorize(labels)
    if len(names) < 2:
        msg = "groups are a single one; intervals need at least 2, or groups=None"
        raise InputError(msg)
    return codes, draw_groups(len(names), n_boot, seed)


def _distance_bins(
    distance: Floats, edges_bp: Sequence[int]
) -> list[tuple[str, Flags]]:
    """Return the name of every distance bin, and which pairs are in it."""
    edges = list(edges_bp)
    if not edges or edges != sorted(set(edges)):
        msg = f"edges_bp={tuple(edges_bp)} must be lower edges in bp that rise"
        raise InputError(msg)
    bins: list[tuple[str, Flags]] = [(ALL, np.ones(len(distance), dtype=bool))]
    for low, high in zip(edges, [*edges[1:], np.inf], strict=True):
        end = f"-{high / 1_000:g} kb" if np.isfinite(high) else " kb or more"
        bins.append((f"{low / 1_000:g}{end}", (distance >= low) & (distance < high)))
    return bins


def _precisions(
    values: Floats,
    positive: Flags,
    used: Flags,
    draws: tuple[npt.NDArray[np.int_], Floats],
) -> Floats:
    """Return the average precision of the data, then of each draw."""
    codes, of_groups = draws
    parts = [
        average_precisions(positive[used], values[used], weights[:, codes[used]])
        for weights in np.array_split(of_groups, -(-len(of_groups) // _CHUNK))
    ]
    return np.concatenate(parts)


def average_precisions(positive: Flags, scores: Floats, weights: Floats) -> Floats:
    """Return the area under the precision-recall curve in every draw.

    Parameters
    ----------
    positive : ndarray of bool, shape (n,)
    scores : ndarray of float64, shape (n,)
        Finite; larger first. Ties are one threshold.
    weights : ndarray of float64, shape (n_draws, n)
        How often each pair occurs.

    Returns
    -------
    ndarray of float64, shape (n_draws,)
        The sum over thresholds of precision times the gain in recall; NaN for draws
        without positives.

    Examples
    --------
    >>> positive = np.array([True, False, True])
    >>> average_precisions(positive, np.array([3.0, 2.0, 1.0]), np.ones((1, 3)))
    array([0.83333333])
    """
    order = np.argsort(-scores, kind="stable")
    is_last = np.append(np.diff(scores[order]) != 0, True)[: len(scores)]
    drawn = weights[:, order]
    found = np.cumsum(drawn * positive[order], axis=1)[:, is_last]
    taken = np.cumsum(drawn, axis=1)[:, is_last]
    total = found[:, -1] if found.shape[1] else np.zeros(len(weights))
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.where(taken > 0, found / taken, 0.0)
        area = (np.diff(found, axis=1, prepend=0) * precision).sum(axis=1) / total
    out: Floats = np.where(total > 0, area, np.nan)
    return out


def _counts(
    positive: Flags, used: Flags, known: Flags, ranked: Flags
) -> dict[str, Any]:
    """Count pairs of a bin: those of the table, and those that are ranked."""
    n, n_positive = int(used.sum()), int((used & positive).sum())
    n_ranked = int((used & ranked).sum())
    n_found = int((used & ranked & positive).sum())
    return {
        "n_pairs": n,
        "n_positive": n_positive,
        "coverage": (used & known).sum() / n if n else np.nan,
        "positive_coverage": (
            (used & known & positive).sum() / n_positive if n_positive else np.nan
        ),
        "n_ranked": n_ranked,
        "n_positive_ranked": n_found,
        "prevalence": n_found / n_ranked if n_ranked else np.nan,
    }


def _with_interval(
    prefix: str, name: str, of_draws: Floats, draws: tuple[Any, Floats]
) -> dict[str, float]:
    low, high = interval(of_draws) if len(draws[1]) > 1 else (np.nan, np.nan)
    return {name: float(of_draws[0]), f"{prefix}low": low, f"{prefix}high": high}


def _reason(row: Mapping[str, Any]) -> str:
    if not row["n_ranked"]:
        return "no pair has a score"
    return "" if row["n_positive_ranked"] else "no positive pair has a score"
