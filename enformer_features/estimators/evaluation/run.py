"""Models beside their baselines, on splits that keep them honest, in one call."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline

from enformer_features.estimators.baselines import (
    KmerBaseline,
    SequenceCompositionBaseline,
)
from enformer_features.estimators.controls import (
    PermutedTargets,
    TrainingMean,
    untrained,
)
from enformer_features.estimators.correlations import METRICS
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.evaluation.checks import (
    check_group_folds,
    check_missing,
)
from enformer_features.estimators.evaluation.fits import (
    Rows,
    aggregator_in,
    as_given,
    embedder_in,
    features_of,
    folds_of_split,
    out_of_fold,
    rows_tested,
)
from enformer_features.estimators.evaluation.result import Evaluation
from enformer_features.estimators.evaluation.scores import Scoring
from enformer_features.estimators.inputs import as_pandas, is_table
from enformer_features.estimators.parameters import window_length
from enformer_features.estimators.splits.leakage import LeakageReport, leakage_report
from enformer_features.estimators.splits.rows import (
    Families,
    LabelledRegions,
    n_rows_of,
)
from enformer_features.estimators.splits.rules import ChromosomeSplit
from enformer_features.estimators.splits.splitter import Fold, Intersection
from enformer_features.estimators.targets import check_targets
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    LeakageWarning,
    TargetWarning,
    check_choice,
    check_several,
    first_few,
    warn,
)
from enformer_features.genomics.genome import open_genome
from enformer_features.genomics.windows import SEQUENCE_LENGTH
from enformer_features.storage.environment import environment

BASELINES = ("mean", "composition", "kmers", "untrained", "permuted")


def evaluate(
    models: Mapping[str, BaseEstimator],
    X: Any,
    y: Any,
    *,
    splits: Mapping[str, Any],
    baselines: Mapping[str, BaseEstimator] | None = None,
    groups: Any = None,
    metric: str = "spearman",
    n_boot: int = 200,
    seed: int = 0,
    fill_missing: bool = False,
    sequence_length: int | None = None,
    families: Families | None = None,
    trained_regions: LabelledRegions | None = None,
    remarks: Sequence[str] = (),
) -> Evaluation:
    """Fit models and baselines on every split, and score them out of fold.

    Parameters
    ----------
    models : mapping of str to estimator
        By name. A Pipeline that begins with an :class:`~enformer_features.
        EnformerEmbedder`, or any transformer that learns nothing, is given the features
        of all rows, computed once for all models, splits and folds. Others are fitted
        on rows of ``X``, or on the matrix of an AnnData.
    X : table or sequence of regions or sequences, AnnData, or features, n_rows
    y : DataFrame or array, shape (n_rows,) or (n_rows, n_targets)
        NaN where a value is missing; scores leave these out, value by value.
    splits : mapping of str to cross-validation object
        By name: of :mod:`~enformer_features.estimators.splits.rules` or scikit-learn, a
        number of folds, or pairs of train and test rows. Rows need not all be tested,
        and none twice.
    baselines : mapping of str to estimator, optional
        As `models`; see :func:`standard_baselines`.
    groups : array-like, shape (n_rows,), optional
        Which rows are alike: for splits, for heads that hold out groups, and for
        intervals. By default the chromosomes of the regions.
    metric : {"spearman", "pearson", "r2"}, default="spearman"
        Of the table; ``per_target`` has all.
    n_boot : int, default=200
        Draws of whole groups, for the intervals. Where tested rows are of fewer than
        three groups, those whose windows overlap are a group; where these are too few
        as well, there is no interval.
    seed : int, default=0
        Of the draws.
    fill_missing : bool, default=False
        Fit on the median of the training rows where a value is missing, for heads that
        refuse gaps.
    sequence_length : int, optional
        Of the windows, to look for leaks; by default the longest of the embedders.
    families, trained_regions : optional
        For :func:`~enformer_features.leakage_report`.
    remarks : sequence of str, default=()
        Lines that go below the table.

    Returns
    -------
    Evaluation
        Predictions of all folds of a split are scored together.

    Raises
    ------
    InputError, InputTypeError
        When names, rows, targets, groups or splits cannot be used, or rows of `X` and
        `y` are called differently; for missing values that a model refuses; when a head
        holds out more groups than a fold trains on: before anything is embedded.

    Warns
    -----
    LeakageWarning
        For each split that leaks, with numbers; and for models that read several
        starts of a gene, of which only that in `X` was looked at.
    TargetWarning
        For constant targets, which are not scored.

    Notes
    -----
    Across genes is not across individuals or alleles. Heads see the same features on
    all splits; what the *network* was trained on no split of heads holds back, but
    :class:`~enformer_features.TrainedRegionSplit`.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> random = np.random.default_rng(0)
    >>> X = random.normal(size=(60, 3))
    >>> y = pd.DataFrame(X @ random.normal(size=(3, 4)), columns=list("abcd"))
    >>> found = evaluate({"ridge": Ridge()}, X, y, splits={"rows": 5},
    ...                  baselines={"mean": TrainingMean()})
    >>> print(found.table.loc[0, "axis"], found.table.loc[0, "median"].round(2))
    across genes 1.0
    """
    everything = _check_models(models, baselines or {})
    if not isinstance(splits, Mapping) or not splits:
        msg = f"splits={splits!r} must name at least one, such as {{'rows': KFold()}}"
        raise InputError(msg)
    check_choice("metric", metric, tuple(METRICS))
    check_several("remarks", remarks)
    observed = _observed(X, y)
    length = sequence_length or _longest_window(everything, X)
    rows = Rows.of(X, observed, groups, length, np.ndim(y) == 1)
    folds = {name: folds_of_split(name, cv, rows) for name, cv in splits.items()}
    if not fill_missing:
        check_missing(everything, rows, folds)
    check_group_folds(everything, rows, folds)
    leaks = _leaks(rows, folds, length, families, trained_regions)
    if rows.windows is not None:
        _warn_about_further_starts(everything, X)
    parts = features_of(everything, X)
    predictions = {
        name: {
            model: out_of_fold(part, rows, of_split, fill_missing, f"{name}, {model}")
            for model, part in parts.items()
        }
        for name, of_split in folds.items()
    }
    scoring = Scoring(rows, metric, n_boot, seed, list(models), list(baselines or {}))
    scored = [
        scoring.of_split(name, guesses, rows_tested(folds[name]), parts)
        for name, guesses in predictions.items()
    ]
    table, gains, per_target = (
        pd.concat([part[place] for part in scored], ignore_index=True)
        for place in range(3)
    )
    return Evaluation(
        table=table,
        gains=gains,
        per_target=per_target,
        predictions=predictions,
        observed=observed,
        leakage=leaks,
        provenance={
            "environment": environment(),
            "metric": metric,
            "n_rows": len(observed),
            "n_targets": observed.shape[1],
            "n_boot": n_boot,
            "seed": seed,
            "fill_missing": fill_missing,
            "sequence_length": length,
            "remarks": [*remarks, *_left_out_in_vain(splits, rows)],
            "models": {
                name: part.describe("model" if name in models else "baseline")
                for name, part in parts.items()
            },
            "splits": {
                name: _describe_split(splits[name], of_split, rows)
                for name, of_split in folds.items()
            },
        },
    )


def standard_baselines(
    embedder: EnformerEmbedder,
    head: BaseEstimator,
    names: Sequence[str] = BASELINES,
    *,
    seed: int = 0,
) -> dict[str, BaseEstimator]:
    """Make the models that every score stands beside.

    Parameters
    ----------
    embedder : EnformerEmbedder
        Whose genome, and whose sizes, they take.
    head : estimator
        That is put on their features, such as ``ridge_head()``.
    names : sequence of str, default=all
        ``"mean"``: of the training rows; ``"composition"``: GC and CpG in three
        windows; ``"kmers"``: words of 4 letters; ``"untrained"``: the same network with
        random weights; ``"permuted"``: the same features, and targets whose rows were
        permuted.
    seed : int, default=0
        Of random weights and permutations.

    Returns
    -------
    dict of str to estimator

    Raises
    ------
    InputError, InputTypeError
        For another name, one text in place of several, or letters without a genome.

    Examples
    --------
    >>> from enformer_features.estimators.heads import ridge_head
    >>> list(standard_baselines(EnformerEmbedder("mini"), ridge_head(), ["mean"]))
    ['training mean']
    """
    check_several("baselines", names)
    for name in names:
        check_choice("baselines", name, BASELINES)
    made: dict[str, BaseEstimator] = {}
    if "mean" in names:
        made["training mean"] = TrainingMean()
    if {"composition", "kmers"} & set(names):
        if embedder.genome is None:
            msg = "baselines that count letters need the embedder's genome; give one"
            raise InputError(msg)
        genome = open_genome(embedder.genome, ambiguous=embedder.ambiguous)
        style = embedder.contig_style
        if "composition" in names:
            letters = SequenceCompositionBaseline(genome, contig_style=style)
            made["9 GC/CpG numbers"] = make_pipeline(letters, clone(head))
        if "kmers" in names:
            words = KmerBaseline(genome, contig_style=style)
            made["words of 4 letters"] = make_pipeline(words, clone(head))
    if "untrained" in names:
        made["untrained network"] = make_pipeline(
            untrained(embedder, seed), clone(head)
        )
    if "permuted" in names:
        permuted = PermutedTargets(clone(head), seed=seed)
        made["permuted targets"] = make_pipeline(embedder, permuted)
    return made


def _check_models(
    models: Mapping[str, BaseEstimator], baselines: Mapping[str, BaseEstimator]
) -> dict[str, BaseEstimator]:
    given: Any
    for what, given in (("models", models), ("baselines", baselines)):
        if not isinstance(given, Mapping):
            msg = f"{what} is a {type(given).__name__}, expected names and estimators"
            raise InputTypeError(msg)
        for name, model in given.items():
            if not (hasattr(model, "fit") and hasattr(model, "predict")):
                msg = f"{what}: {name!r} is {model!r}, without fit or predict"
                raise InputTypeError(msg)
    if not models:
        msg = "models is empty; give at least one, such as {'ridge': ridge_head()}"
        raise InputError(msg)
    both = sorted(set(models) & set(baselines))
    if both:
        msg = f"models and baselines are called the same: {first_few(both)}"
        raise InputError(msg)
    return {**models, **baselines}


def _observed(X: Any, y: Any) -> pd.DataFrame:
    """Return the targets as a table of float64, after checking them."""
    _refuse_other_labels(X, y)
    with warnings.catch_warnings():  # gaps are left out, constants told of below
        for known in ("y has missing values", "constant targets"):
            warnings.filterwarnings("ignore", known, TargetWarning)
        check_targets(X, y, n_rows_of(X))
    table = pd.DataFrame(as_pandas(y) if is_table(y) else y).astype(np.float64)
    index = getattr(X, "obs_names", getattr(X, "index", None))
    if isinstance(index, pd.Index) and not isinstance(y, pd.DataFrame | pd.Series):
        table = table.set_axis(index)
    for what, labels in (("targets", table.columns), ("rows", table.index)):
        twice = [str(label) for label in labels[labels.duplicated()].unique()]
        if twice:
            msg = (
                f"{what} of the same name: {first_few(twice)}; predictions are known "
                "by it, so give each one of its own"
            )
            raise InputError(msg)
    empty = [str(name) for name in table if table[name].isna().all()]
    if empty:
        msg = f"targets without any value: {first_few(empty)}; leave them out"
        raise InputError(msg)
    constant = [str(name) for name in table if table[name].nunique() == 1]
    if constant:
        warn(f"constant targets are not scored: {first_few(constant)}", TargetWarning)
    return table


def _refuse_other_labels(X: Any, y: Any) -> None:
    """Refuse targets of rows that are called otherwise; another order is told later."""
    ours = getattr(X, "obs_names", getattr(X, "index", None))
    theirs = getattr(y, "index", None)
    if not isinstance(ours, pd.Index) or not isinstance(theirs, pd.Index):
        return
    if len(ours) != len(theirs) or sorted(map(str, ours)) == sorted(map(str, theirs)):
        return
    different = [
        f"{own} beside {other}"
        for own, other in zip(ours, theirs, strict=True)
        if isinstance(own, str) and isinstance(other, str) and own != other
    ]
    if different:
        msg = (
            f"X and y carry different labels, {first_few(different)}: rows are paired "
            "by position, so scores would be of other rows; join them by label with "
            "align(X, y)"
        )
        raise InputError(msg)


def _longest_window(models: Mapping[str, BaseEstimator], X: Any) -> int:
    embedders = [embedder_in(model) for model in models.values()]
    found = [window_length(step) for step in embedders if step is not None]
    _, origin = as_given(X)
    return max(found, default=int(origin.get("sequence_length", SEQUENCE_LENGTH)))


def _warn_about_further_starts(models: Mapping[str, BaseEstimator], X: Any) -> None:
    """Say that only one window per gene was looked at, where several are read."""
    for name, model in models.items():
        aggregator = aggregator_in(model)
        if aggregator is None:
            continue
        n_starts = aggregator.n_starts(X)
        n_several = int((n_starts > 1).sum())
        if n_several:
            message = (
                f"{name!r} reads several starts of {n_several} of {len(n_starts)} "
                "genes; leaks were looked for around the one in X, not the others: "
                "whole chromosomes hold all of them out"
            )
            warn(message, LeakageWarning, 4)


def _left_out_in_vain(splits: Mapping[str, Any], rows: Rows) -> list[str]:
    """Say which chromosomes are left out of a split, but hold no row."""
    if rows.groups is None and rows.windows is None:
        return []
    known = set() if rows.groups is None else set(rows.groups)
    if rows.windows is not None:
        known |= set(rows.windows["chrom"])
    remarks = []
    for name, cv in splits.items():
        absent = [chrom for chrom in _left_out(cv) if chrom not in known]
        if absent:
            remarks.append(f"{name}: leave_out names {first_few(absent)}, without rows")
    return remarks


def _left_out(cv: Any) -> list[str]:
    if isinstance(cv, Intersection):
        return _left_out(cv.first) + _left_out(cv.second)
    return list(cv.leave_out) if isinstance(cv, ChromosomeSplit) else []


def _describe_split(cv: Any, folds: Sequence[Fold], rows: Rows) -> dict[str, Any]:
    tested = rows_tested(folds)
    return {
        "cv": " ".join(repr(cv).split())[:1000],  # folds made beforehand are long
        "n_folds": len(folds),
        "n_tested": len(tested),
        "drawn": rows.draws(tested)[1],
    }


def _leaks(
    rows: Rows,
    folds: Mapping[str, list[Fold]],
    sequence_length: int,
    families: Families | None,
    trained_regions: LabelledRegions | None,
) -> dict[str, LeakageReport]:
    if rows.windows is None:
        return {}
    reports = {}
    for name, of_split in folds.items():
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LeakageWarning)
            reports[name] = leakage_report(
                rows.X,
                of_split,
                sequence_length=sequence_length,
                families=families,
                trained_regions=trained_regions,
            )
        if reports[name].findings:
            found = "; ".join(reports[name].findings)
            warn(f"split {name!r}: {found}", LeakageWarning, 4)
    return reports
