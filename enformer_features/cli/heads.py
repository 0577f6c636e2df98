"""The models that ``fit`` puts on the features."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

import numpy as np

from enformer_features.exceptions import InputError, check_choice

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

HEADS = ("ridge", "lasso", "elastic-net", "xgboost", "gblinear", "pls", "mlp")
_PENALISED = ("ridge", "lasso", "elastic-net")
RIDGE_ALPHAS = tuple(10.0**power for power in range(-1, 7))
_SEEDS = 2**31  # xgboost's are smaller than those of numpy
_FOLDS = 5
_TREES = ("n_estimators", "max_depth", "learning_rate")


def add_head(parser: argparse.ArgumentParser) -> None:
    """Add the options of the head."""
    group = parser.add_argument_group("model")
    group.add_argument(
        "--head", default="ridge", help=f"{', '.join(HEADS)} (default: ridge)"
    )
    group.add_argument(
        "--alpha",
        type=float,
        help="penalty of ridge, lasso and elastic-net (default: chosen for each target "
        "on the fitted rows, ridge on held-out chromosomes, the others by five folds "
        "of rows)",
    )
    group.add_argument("--n-estimators", type=int, help="xgboost trees (default: 300)")
    group.add_argument("--max-depth", type=int, help="of xgboost trees (default: 4)")
    group.add_argument("--learning-rate", type=float, help="xgboost (default: 0.05)")
    group.add_argument(
        "--seed", type=int, default=0, help="of heads that draw (default: 0)"
    )


def head_of(args: argparse.Namespace) -> Pipeline:
    """Make the head that the options describe."""
    check_choice("head", args.head, HEADS)
    trees = {name: getattr(args, name) for name in _TREES}
    trees = {name: value for name, value in trees.items() if value is not None}
    _check_numbers(args, trees)
    if args.alpha is not None and args.head not in _PENALISED:
        msg = f"--alpha is the penalty of {', '.join(_PENALISED)}; {args.head} has none"
        raise InputError(msg)
    if trees and args.head != "xgboost":
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in trees)
        msg = f"{flags}: only --head xgboost has trees"
        raise InputError(msg)
    if args.head == "ridge":
        return ridge(args.alpha)
    if args.head == "xgboost":
        return _xgboost(args.seed, trees)
    return _other(args.head, args.alpha, args.seed)


def _other(name: str, alpha: float | None, seed: int) -> Pipeline:
    from enformer_features.estimators import heads

    if name == "lasso":
        return heads.lasso_head(alpha, seed=seed)
    if name == "elastic-net":
        return heads.elastic_net_head(alpha, seed=seed)
    if name == "gblinear":
        return heads.expecto_head("2018", target_transform=None)
    return heads.pls_head() if name == "pls" else heads.mlp_head(seed=seed)


def _xgboost(seed: int, trees: dict[str, Any]) -> Pipeline:
    """Make trees on the features themselves, for every target its own."""
    from enformer_features.estimators.heads import xgboost_head

    return xgboost_head(
        n_components=None, multi_strategy="one_output_per_tree", seed=seed, **trees
    )


def _check_numbers(args: argparse.Namespace, trees: dict[str, Any]) -> None:
    """Refuse what the heads themselves refuse only after the features are there."""
    for name in ("n_estimators", "max_depth"):
        if trees.get(name, 1) < 1:
            msg = f"--{name.replace('_', '-')} {trees[name]} must be at least 1"
            raise InputError(msg)
    for name, value in (("alpha", args.alpha), ("learning-rate", args.learning_rate)):
        if value is not None and not 0 < value < np.inf:
            msg = f"--{name} {value} must be greater than 0, and finite"
            raise InputError(msg)
    if not 0 <= args.seed < _SEEDS:
        msg = f"--seed {args.seed} must be from 0 to {_SEEDS - 1}"
        raise InputError(msg)


def ridge(alpha: float | None = None) -> Pipeline:
    """Make a ridge regression of scaled features; no alpha, one chosen per target."""
    from enformer_features.estimators.heads import ridge_head

    return ridge_head(RIDGE_ALPHAS if alpha is None else alpha)


def fit(head: Pipeline, features: Any, targets: Any, chrom: Any) -> Pipeline:
    """Fit a head; ridge chooses penalties on chromosomes, or on rows of a single one.

    Parameters
    ----------
    head : Pipeline
    features : ndarray, shape (n_rows, n_features)
    targets : ndarray, shape (n_rows, n_targets)
    chrom : array-like of str, shape (n_rows,)

    Returns
    -------
    Pipeline
        The head, fitted.
    """
    from enformer_features.estimators.evaluation.checks import warn_about_single_rows
    from enformer_features.estimators.heads import fit_head

    groups = np.asarray(chrom)
    n_groups = len(np.unique(groups))
    if "groupedridgecv" in head.named_steps:
        if np.size(head["groupedridgecv"].alphas) > 1:
            warn_about_single_rows(n_groups)
        folds = min(_FOLDS, n_groups) if n_groups > 1 else "rows"
        head.set_params(groupedridgecv__cv=folds)
    if "mlpregressor" in head.named_steps and np.shape(targets)[1] == 1:
        targets = np.ravel(targets)  # or it warns of a column
    fitted: Pipeline = fit_head(head, features, targets, groups)
    return fitted


def predict(head: Any, features: Any) -> np.ndarray:
    """Return predictions with one column per target, also for a single one."""
    predicted = np.asarray(head.predict(features))
    return predicted.reshape(len(predicted), -1)
