"""How well predictions fit measurements, each number with its axis and its interval.

*Across genes*, one number per tissue: are the highly expressed genes predicted to be
high? *Across tissues*, one number per gene: is a gene predicted to be high where it
is? The two are different questions, and a model that answers the first well may know
nothing of the second.

Intervals come from drawing whole groups of rows (chromosomes, families) again, since
what lies side by side is alike. Scores of the same draws are paired, so that their
difference has an interval of its own.
"""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pandas as pd
from sklearn.metrics import make_scorer, r2_score

from enformer_features.estimators.correlations import (
    METRICS,
    Floats,
    draw_groups,
    interval,
)
from enformer_features.estimators.inputs import as_pandas, is_table
from enformer_features.exceptions import (
    InputError,
    TargetWarning,
    check_choice,
    first_few,
    warn,
)

Across = Literal["genes", "tissues"]
_Scored = tuple[int, Floats, str]  # rows that count, (metrics, draws), why not

FEWEST_ROWS = 3
AXES = ("genes", "tissues")
FEW, CONSTANT, CONSTANT_PREDICTION = (
    f"fewer than {FEWEST_ROWS} values",
    "constant",
    "constant prediction",
)
_BLOCK = 2**22  # weights that are looked at at once, 32 MB


def score_across_genes(
    observed: Any,
    predicted: Any,
    groups: Any = None,
    *,
    n_boot: int = 1000,
    seed: int = 0,
    rows: str = "genes",
) -> pd.DataFrame:
    """Score each target, such as a tissue, across the rows: genes or regions.

    Parameters
    ----------
    observed : DataFrame or array, shape (n_rows, n_targets) or (n_rows,)
        Missing values (NaN) are left out, target by target.
    predicted : DataFrame or array, of the same shape
        Same rows and targets in the same order.
    groups : array-like, shape (n_rows,), optional
        Which rows are alike, such as the chromosome of each. With it every number
        has an interval: the 5th and 95th percentile over draws of whole groups.
    n_boot : int, default=1000
        Draws.
    seed : int, default=0
        Of the draws. Same groups and seed, same draws.
    rows : str, default="genes"
        What the rows are, for the label of the axis.

    Returns
    -------
    DataFrame
        One row per target, named as the columns of ``observed``: ``axis`` ("across
        genes"), ``n`` (rows that count), ``pearson``, ``spearman``, ``r2``, each
        followed by ``_low`` and ``_high`` where there are groups, and ``reason``: why
        there is no score ("fewer than 3 values", "constant", "constant prediction"),
        or "". ``r2`` is 1 - (sum of squared errors) / (sum of squares around the
        mean): 0 for who always says the mean, and negative for worse; it has a value
        for a constant prediction too.

    Raises
    ------
    InputError
        When shapes or labels differ, a prediction is not finite, a measurement is
        infinite, or the groups do not fit or are a single one.

    See Also
    --------
    summary : Median over targets, with its interval.
    score_across_tissues : The other axis.

    Notes
    -----
    Across genes is not across individuals or alleles: a high value here says nothing
    about the effect of a variant.

    Examples
    --------
    >>> observed = pd.DataFrame({"liver": [1.0, 2.0, 3.0, 9.0], "brain": 0.0})
    >>> predicted = [[1.0, 5.0], [2.0, 6.0], [2.5, 5.0], [2.6, 5.0]]
    >>> scores = score_across_genes(observed, predicted)
    >>> scores[["n", "pearson", "spearman", "reason", "axis"]].round(2)
           n  pearson  spearman    reason          axis
    liver  4      0.7       1.0            across genes
    brain  4      NaN       NaN  constant  across genes
    """
    truth, guess = _paired(observed, predicted)
    draws = _draws(groups, n_boot, seed, len(truth))
    columns = zip(truth.to_numpy().T, guess.to_numpy().T, strict=True)
    scored = [_score(a, b, draws) for a, b in columns]
    return _table(scored, truth.columns, f"across {rows}")


def score_across_tissues(observed: Any, predicted: Any) -> pd.DataFrame:
    """Score each gene across the targets: tissues.

    Parameters
    ----------
    observed : DataFrame or array, shape (n_genes, n_tissues)
        Missing values (NaN) are left out, gene by gene.
    predicted : DataFrame or array, of the same shape

    Returns
    -------
    DataFrame
        One row per gene, named as the rows of ``observed``: ``axis`` ("across
        tissues"), ``n`` (tissues that count), ``pearson``, ``spearman``, ``r2``, and
        ``reason``: why there is no score, or "". As in :func:`score_across_genes`,
        without intervals: a gene is one draw.

    Raises
    ------
    InputError
        As :func:`score_across_genes` does.

    Notes
    -----
    Where every tissue is on a scale of its own, as with z-scores per tissue, this
    measures what is left of the differences between tissues. Bring targets to a
    common scale first, or remove the mean of each tissue.

    Examples
    --------
    >>> observed = [[1.0, 2.0, 3.0], [4.0, 4.0, 4.0]]
    >>> score_across_tissues(observed, [[1, 2, 4], [1, 2, 3]])[["reason", "spearman"]]
         reason  spearman
    0                 1.0
    1  constant       NaN
    """
    truth, guess = _paired(observed, predicted)
    once = np.ones((1, truth.shape[1]))
    genes = zip(truth.to_numpy(), guess.to_numpy(), strict=True)
    return _table([_score(a, b, once) for a, b in genes], truth.index, "across tissues")


def summary(
    observed: Any,
    predicted: Any,
    groups: Any = None,
    *,
    across: Across = "genes",
    baseline: Any = None,
    n_boot: int = 1000,
    seed: int = 0,
) -> pd.DataFrame:
    """Summarise the scores of all targets, or of all genes, by their median.

    Parameters
    ----------
    observed, predicted : DataFrame or array, shape (n_genes, n_targets)
    groups : array-like, shape (n_genes,), optional
        Which genes are alike; gives the median an interval.
    across : {"genes", "tissues"}, default="genes"
        The axis along which is correlated: the median is over the other one.
    baseline : DataFrame or array, shape (n_genes, n_targets), optional
        Other predictions of the same values: summarise by how much the scores of
        ``predicted`` are above theirs, target by target and draw by draw. Whether a
        model beats another is told by this interval, not by whether theirs overlap.
    n_boot : int, default=1000
    seed : int, default=0

    Returns
    -------
    DataFrame
        Rows ``pearson``, ``spearman``, ``r2``; columns ``axis``, ``n_scored``,
        ``n_constant`` (measurements that do not vary), ``n_unscored`` (constant, too
        few, or a constant prediction), ``median``, ``q25``, ``q75`` (over targets),
        and, with groups, ``low`` and ``high`` (5th and 95th percentile of the median
        over draws of whole groups).

    Raises
    ------
    InputError
        As :func:`score_across_genes` does.

    Warns
    -----
    TargetWarning
        For constant measurements, which are listed.

    Examples
    --------
    >>> observed = [[0.0, 0.0], [1.0, 2.0], [2.0, 1.0], [3.0, 3.0]]
    >>> predicted = [[0.0, 0.0], [1.0, 1.0], [2.0, 2.0], [3.0, 3.0]]
    >>> found = summary(observed, predicted).loc["spearman"]
    >>> print(f"{found['median']:.2f} {found['axis']}, {found['n_scored']} targets")
    0.90 across genes, 2 targets
    """
    check_choice("across", across, AXES)
    truth, guess = _paired(observed, predicted)
    draws = _draws(groups, n_boot, seed, len(truth))
    scores, reasons = _all_scores(truth, guess, draws, across)
    labels = truth.columns if across == "genes" else truth.index
    constant = [
        str(label)
        for label, reason in zip(labels, reasons, strict=True)
        if reason == CONSTANT
    ]
    if constant:
        warn(
            f"constant, not scored across {across}: {first_few(constant)}",
            TargetWarning,
        )
    if baseline is not None:
        other = _paired(observed, baseline)[1]
        scores = scores - _all_scores(truth, other, draws, across)[0]
    medians = _medians(scores, draws, across)  # (metrics, draws)
    found = []
    for name, values, of_draws in zip(METRICS, scores[:, 0], medians, strict=True):
        scored = values[np.isfinite(values)]
        quartiles = np.quantile(scored, (0.25, 0.75)) if len(scored) else [np.nan] * 2
        row: dict[str, Any] = {
            "metric": name,
            "axis": f"across {across}",
            "n_scored": len(scored),
            "n_constant": len(constant),
            "n_unscored": len(values) - len(scored),
            "median": of_draws[0],
            "q25": quartiles[0],
            "q75": quartiles[1],
        }
        if groups is not None:
            row["low"], row["high"] = interval(of_draws)
        found.append(row)
    return pd.DataFrame(found).set_index("metric")


def median_score(
    observed: Any,
    predicted: Any,
    *,
    metric: str = "spearman",
    across: Across = "genes",
) -> float:
    """Return the median of one metric over all targets, or over all genes.

    Parameters
    ----------
    observed, predicted : DataFrame or array, shape (n_genes, n_targets) or (n_genes,)
    metric : {"spearman", "pearson", "r2"}, default="spearman"
    across : {"genes", "tissues"}, default="genes"

    Returns
    -------
    float
        NaN when nothing can be scored.

    Examples
    --------
    >>> median_score([1.0, 2.0, 3.0], [1.0, 4.0, 9.0])
    1.0
    """
    check_choice("metric", metric, tuple(METRICS))
    check_choice("across", across, AXES)
    truth, guess = _paired(observed, predicted)
    once = np.ones((1, len(truth)))
    scores, _ = _all_scores(truth, guess, once, across)
    values = scores[list(METRICS).index(metric), 0]
    return _median(values)


def median_scorer(metric: str = "spearman", across: Across = "genes") -> Any:
    """Make a scikit-learn scorer of :func:`median_score`.

    Parameters
    ----------
    metric : {"spearman", "pearson", "r2"}, default="spearman"
    across : {"genes", "tissues"}, default="genes"

    Returns
    -------
    callable
        For ``scoring=`` of ``GridSearchCV`` and ``cross_val_score``; its repr says
        metric and axis.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> X, y = [[0.0], [1.0], [2.0]], [[0.0, 5.0], [2.0, 3.0], [4.0, 1.0]]
    >>> median_scorer()(LinearRegression().fit(X, y), X, y)
    1.0
    """
    check_choice("metric", metric, tuple(METRICS))
    check_choice("across", across, AXES)
    return make_scorer(median_score, metric=metric, across=across)


def _paired(observed: Any, predicted: Any) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Bring both to tables of float64, after checking that they belong together."""
    truth, guess = (
        pd.DataFrame(as_pandas(values) if is_table(values) else values)
        for values in (observed, predicted)
    )
    if truth.shape != guess.shape:
        msg = (
            f"observed has shape {truth.shape}, predicted {guess.shape}; they must be "
            "the same rows and targets"
        )
        raise InputError(msg)
    if isinstance(predicted, pd.DataFrame) and isinstance(observed, pd.DataFrame):
        _check_labels("rows", truth.index, guess.index)
        _check_labels("targets", truth.columns, guess.columns)
    truth, guess = truth.astype(np.float64), guess.astype(np.float64)
    wrong = ~np.isfinite(guess.to_numpy()).all(axis=1)
    if wrong.any():
        rows = first_few(truth.index[wrong].tolist())
        msg = f"predicted has values that are not finite (rows {rows}); see the model"
        raise InputError(msg)
    wrong = np.isinf(truth.to_numpy()).any(axis=1)
    if wrong.any():
        rows = first_few(truth.index[wrong].tolist())
        msg = f"observed has infinite values (rows {rows}): a log of 0? add a constant"
        raise InputError(msg)
    return truth, guess


def _check_labels(what: str, ours: pd.Index[Any], theirs: pd.Index[Any]) -> None:
    place = next(
        (i for i, (a, b) in enumerate(zip(ours, theirs, strict=True)) if a != b), None
    )
    if place is not None:
        msg = (
            f"observed and predicted carry different {what}: place {place} is "
            f"{ours[place]!r} in observed and {theirs[place]!r} in predicted; bring "
            "them into one order, as with predicted.loc[observed.index, "
            "observed.columns]"
        )
        raise InputError(msg)


def _draws(groups: Any, n_boot: int, seed: int, n_rows: int) -> Floats:
    """Return how often each row occurs, in the data and in every draw."""
    if groups is None:
        return np.ones((1, n_rows))
    labels = pd.Series(np.asarray(groups, dtype=object).ravel())
    if len(labels) != n_rows:
        msg = f"groups has {len(labels)} values for {n_rows} rows; give one per row"
        raise InputError(msg)
    if labels.isna().any():
        rows = first_few(np.flatnonzero(labels.isna()).tolist())
        msg = f"groups is missing in rows {rows}; every row belongs to a group"
        raise InputError(msg)
    codes, names = pd.factorize(labels, sort=False)
    if len(names) < 2:
        msg = (
            f"groups holds the single group {names[0]!r}: an interval needs at least "
            "two to draw from; group by something finer, or leave groups out"
        )
        raise InputError(msg)
    if isinstance(n_boot, bool) or not isinstance(n_boot, int) or n_boot < 1:
        msg = f"n_boot={n_boot!r} must be a positive whole number of draws"
        raise InputError(msg)
    return draw_groups(len(names), n_boot, seed)[:, codes]


def _score(observed: Floats, predicted: Floats, draws: Floats) -> _Scored:
    """Score one vector in the data and in every draw."""
    known = ~np.isnan(observed)
    truth, guess = observed[known], predicted[known]
    scores = np.full((len(METRICS), len(draws)), np.nan)
    reason = _reason(truth, guess)
    if reason in ("", CONSTANT_PREDICTION):
        step = max(_BLOCK // len(truth), 1)
        for start in range(0, len(draws), step):
            block = slice(start, start + step)
            weights = draws[block][:, known]
            drawn = weights.sum(axis=1) > 0  # not all that is known may be drawn
            for place, formula in enumerate(METRICS.values()):
                scores[place, block][drawn] = formula(truth, guess, weights[drawn])
    return len(truth), scores, reason


def _reason(truth: Floats, guess: Floats) -> str:
    if len(truth) < FEWEST_ROWS:
        return FEW
    if truth.min() == truth.max():
        return CONSTANT
    return CONSTANT_PREDICTION if guess.min() == guess.max() else ""


def _table(scored: list[_Scored], index: pd.Index[Any], axis: str) -> pd.DataFrame:
    rows = []
    for n, scores, reason in scored:
        row: dict[str, Any] = {"axis": axis, "n": n}
        for name, of_draws in zip(METRICS, scores, strict=True):
            row[name] = of_draws[0]
            if len(of_draws) > 1:
                row[f"{name}_low"], row[f"{name}_high"] = interval(of_draws)
        rows.append({**row, "reason": reason})
    return pd.DataFrame(rows, index=index)


def _all_scores(
    truth: pd.DataFrame, guess: pd.DataFrame, draws: Floats, across: Across
) -> tuple[Floats, list[str]]:
    """Return scores (metrics, draws, targets), or (metrics, 1, genes), and reasons."""
    observed, predicted = truth.to_numpy(), guess.to_numpy()
    if across == "genes":
        observed, predicted, weights = observed.T, predicted.T, draws
    else:
        weights = np.ones((1, truth.shape[1]))
    scored = [_score(a, b, weights) for a, b in zip(observed, predicted, strict=True)]
    return np.stack([s for _, s, _ in scored], axis=-1), [r for _, _, r in scored]


def _medians(scores: Floats, draws: Floats, across: Across) -> Floats:
    """Return the median over targets, or over drawn genes, of every draw."""
    if across == "genes":
        return np.stack([[_median(of_draw) for of_draw in of] for of in scores])
    counts = draws.astype(np.int64)
    return np.stack(
        [[_median(np.repeat(of[0], drawn)) for drawn in counts] for of in scores]
    )


def _median(values: Floats) -> float:
    values = values[np.isfinite(values)]
    return float(np.median(values)) if len(values) else np.nan


def r2_of_known(y: Any, predicted: Any, weights: Any = None) -> float:
    """Return the mean over targets of R2, each in the rows that have a value.

    Parameters
    ----------
    y : array-like, shape (n_rows, n_targets) or (n_rows,)
        NaN where a target is missing; targets without any value are left out.
    predicted : array-like, of the same shape
    weights : array-like, shape (n_rows,), optional

    Returns
    -------
    float

    Raises
    ------
    InputError
        If the numbers of targets differ, or no target has a value.

    Examples
    --------
    >>> r2_of_known([[1.0, 5.0], [2.0, np.nan], [3.0, 7.0]], [[1, 5], [2, 9], [3, 7]])
    1.0
    """
    known = np.asarray(y, dtype=np.float64).reshape(len(y), -1)
    guesses = np.asarray(predicted).reshape(len(y), -1)
    if known.shape != guesses.shape:
        msg = f"y has {known.shape[1]} targets, {guesses.shape[1]} are predicted"
        raise InputError(msg)
    weights = np.ones(len(known)) if weights is None else np.asarray(weights)
    scores = [
        r2_score(column[rows], guess[rows], sample_weight=weights[rows])
        for column, guess, rows in zip(
            known.T, guesses.T, ~np.isnan(known.T), strict=True
        )
        if rows.any()
    ]
    if not scores:
        msg = f"y has no value in any of {len(known)} rows: there is nothing to score"
        raise InputError(msg)
    return float(np.mean(scores))
