"""Heads for features: ordinary pipelines of scikit-learn, by name.

Each takes ``target_transform``, one of None, ``"log"``, ``"rank"`` and ``"center"``
(:func:`~enformer_features.estimators.target_transforms.make_transform`), and returns a
`Pipeline`, or with a transform a `TransformedTargetRegressor` around it. Put an
`EnformerEmbedder` in front with ``make_pipeline(embedder, ridge_head())``.

Only `ridge_head` leaves out missing targets one by one; the others refuse them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import sklearn
from sklearn.base import BaseEstimator
from sklearn.linear_model import ElasticNet, ElasticNetCV, Lasso, LassoCV
from sklearn.model_selection import GridSearchCV
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.estimators.head_parts import (
    CappedPCA,
    CappedPLS,
    PerTarget,
    WholeGroupKFold,
)
from enformer_features.estimators.ridge.estimator import ALPHAS, GroupedRidgeCV
from enformer_features.estimators.target_transforms import (
    CompleteTargets,
    MaskedTargetRegressor,
    make_transform,
)
from enformer_features.exceptions import check_choice

Head: TypeAlias = "Pipeline | MaskedTargetRegressor"

# Down to a hundredth of the largest penalty: below, descents on thousands of features
# that resemble each other hardly ever converge, and are hardly ever chosen.
LASSO_PATH = {"eps": 1e-2, "tol": 1e-3, "max_iter": 5000}
L1_RATIOS = (0.1, 0.5, 0.9)
# Per row, as xgboost counts today: times n_rows they are penalties of ridge regression.
EXPECTO_GRID = {
    "learning_rate": [0.1, 0.5],
    "n_estimators": [100],
    "reg_lambda": [1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0],
}


def fit_head(head: BaseEstimator, X: Any, y: Any, groups: Any = None) -> Any:
    """Fit a head, and hand groups to those parts of it that split by them.

    Parameters
    ----------
    head : estimator
        Any of scikit-learn, such as a pipeline with a head in it.
    X : object
    y : array-like, shape (n_rows, n_targets) or (n_rows,)
    groups : array-like, shape (n_rows,), optional
        Such as ``genes["chrom"]``; a head that does not split by groups is fitted
        without them.

    Returns
    -------
    estimator
        The head, fitted.

    Examples
    --------
    >>> X, groups = np.arange(12.0).reshape(6, 2), [1, 1, 2, 2, 3, 3]
    >>> head = fit_head(ridge_head(cv=3), X, X.sum(axis=1), groups)
    >>> float(head[-1].alpha_)
    1.0
    """
    if groups is None:
        return head.fit(X, y)
    with sklearn.config_context(enable_metadata_routing=True):
        taken = head.get_metadata_routing().consumes("fit", ["groups"])
        return head.fit(X, y, **({"groups": groups} if taken else {}))


def ridge_head(
    alpha: float | Sequence[float] = ALPHAS,
    *,
    cv: Any = 5,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return a ridge regression of scaled features, which takes missing targets.

    Parameters
    ----------
    alpha : float or sequence of float, default=13 values from 1 to 1e6
        One penalty for all targets, or those to choose from for each target.
    cv : int, "rows", splitter or iterable, default=5
        Number of folds of whole groups, on which penalties are chosen: then ``fit``
        needs ``groups``, by ``groupedridgecv__groups=``, metadata routing, or
        :func:`fit_head`. See
        :class:`~enformer_features.GroupedRidgeCV`.
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4
        Of ``"log"``.

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> ridge_head(10.0)[-1]
    GroupedRidgeCV(alphas=10.0)
    """
    return _head([GroupedRidgeCV(alpha, cv=cv)], target_transform, c)


def lasso_head(
    alpha: float | None = None,
    *,
    cv: Any = 5,
    seed: int = 0,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return a lasso of scaled features.

    Parameters
    ----------
    alpha : float or None, default=None
        The penalty; None chooses one for each target, of 100 down to a hundredth of
        the least one that leaves no feature.
    cv : int, splitter or iterable, default=5
        For None: a number means folds of *rows*, between which windows overlap.
        ``GroupKFold(5)`` holds out groups, which :func:`fit_head` hands over.
    seed : int, default=0
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> lasso_head(0.1)[-1]
    Lasso(alpha=0.1, random_state=0)
    """
    if alpha is None:
        lasso = PerTarget(LassoCV(cv=cv, random_state=seed, **LASSO_PATH))
    else:
        lasso = Lasso(alpha=alpha, random_state=seed)
    return _complete([StandardScaler(), lasso], target_transform, c)


def elastic_net_head(
    alpha: float | None = None,
    *,
    l1_ratio: float | Sequence[float] = L1_RATIOS,
    cv: Any = 5,
    seed: int = 0,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return an elastic net of scaled features.

    Parameters
    ----------
    alpha : float or None, default=None
        The penalty; None chooses it and the share of L1 for each target, as
        :func:`lasso_head` does.
    l1_ratio : float or sequence of float, default=(0.1, 0.5, 0.9)
        Share of L1, or those to choose from. With an `alpha`, the first one.
    cv : int, splitter or iterable, default=5
        As for :func:`lasso_head`.
    seed : int, default=0
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> elastic_net_head(0.1, l1_ratio=0.5)[-1]
    ElasticNet(alpha=0.1, random_state=0)
    """
    if alpha is None:
        chosen = ElasticNetCV(l1_ratio=l1_ratio, cv=cv, random_state=seed, **LASSO_PATH)
        net = PerTarget(chosen)
    else:
        share = float(np.atleast_1d(l1_ratio)[0])
        net = ElasticNet(alpha=alpha, l1_ratio=share, random_state=seed)
    return _complete([StandardScaler(), net], target_transform, c)


def xgboost_head(
    *,
    n_components: int | None = 64,
    n_estimators: int = 300,
    max_depth: int = 4,
    learning_rate: float = 0.05,
    multi_strategy: str = "multi_output_tree",
    seed: int = 0,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return boosted trees on the principal components of scaled features.

    Parameters
    ----------
    n_components : int or None, default=64
        Principal components, fewer where fewer rows are fitted; None: trees on the
        features.
    n_estimators : int, default=300
    max_depth : int, default=4
    learning_rate : float, default=0.05
    multi_strategy : {"multi_output_tree", "one_output_per_tree"}
        One tree for all targets, or one each, which takes longer by their number.
    seed : int, default=0
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> list(xgboost_head(n_components=8).named_steps)
    ['completetargets', 'standardscaler', 'cappedpca', 'xgbregressor']
    """
    from xgboost import XGBRegressor

    trees = XGBRegressor(
        tree_method="hist",
        n_estimators=n_estimators,
        max_depth=max_depth,
        learning_rate=learning_rate,
        multi_strategy=multi_strategy,
        random_state=seed,
    )
    if n_components is None:
        return _complete([trees], target_transform, c)
    components = CappedPCA(n_components, random_state=seed)
    return _complete([StandardScaler(), components, trees], target_transform, c)


def expecto_head(
    version: str = "2018",
    *,
    cv: int = 5,
    n_jobs: int | None = None,
    target_transform: str | None = "log",
    c: float = 1e-4,
) -> Head:
    r"""Return ExPecto's linear model, boosted coordinates of xgboost (gblinear).

    Parameters
    ----------
    version : {"2018", "tuned"}
        The published settings: L2 penalty 100, no L1, learning rate 0.01, base score
        2, 100 rounds. Or scaled features, with penalty and learning rate chosen on
        held-out groups, one choice for all targets.
    cv : int, default=5
        For ``"tuned"``: folds of whole groups, so that ``fit`` needs ``groups``, by
        ``gridsearchcv__groups=``, metadata routing, or :func:`fit_head`.
    n_jobs : int or None, default=None
        Threads of xgboost; None is all.
    target_transform : {"log", None, "rank", "center"}
    c : float, default=1e-4
        In the published models 1e-4 for GTEx, 1e-2 for the others.

    Returns
    -------
    TransformedTargetRegressor around a Pipeline, or a Pipeline

    Notes
    -----
    The settings are ExPecto's; the numbers are not. They were made with xgboost
    0.7.post4, and ExPecto's own page says that they hold for that version only. Today
    xgboost multiplies the penalty by the number of rows, so that enough rounds
    lead to ridge regression with penalty :math:`100 \, n`: predictions hardly
    leave the mean, though their order, and with it Spearman's correlation, means
    something still. Its default way to update, which gave other numbers in every run,
    is replaced by coordinates in turn. ``"tuned"`` is ours.

    References
    ----------
    Zhou et al. 2018, Nature Genetics 50:1171; settings from ``train.py`` of ExPecto.

    Examples
    --------
    >>> head = expecto_head("2018").regressor[-1]
    >>> head.booster, head.reg_lambda, head.learning_rate, head.n_estimators
    ('gblinear', 100, 0.01, 100)
    """
    from xgboost import XGBRegressor

    check_choice("version", version, ("2018", "tuned"))
    linear = XGBRegressor(
        booster="gblinear",
        updater="coord_descent",
        objective="reg:squarederror",
        n_estimators=100,
        learning_rate=0.01,
        reg_lambda=100,
        reg_alpha=0,
        base_score=2,
        n_jobs=n_jobs,
    )
    if version == "2018":
        return _complete([linear], target_transform, c)
    search = GridSearchCV(linear, EXPECTO_GRID, cv=WholeGroupKFold(cv), scoring="r2")
    return _complete([StandardScaler(), search], target_transform, c)


def pls_head(
    n_components: int = 10,
    *,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return partial least squares: few directions that serve all targets.

    Parameters
    ----------
    n_components : int, default=10
        Fewer where there are fewer rows, or features.
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> pls_head(3)[-1]
    CappedPLS(n_components=3)
    """
    return _complete([CappedPLS(n_components)], target_transform, c)


def mlp_head(
    hidden: Sequence[int] = (64,),
    *,
    alpha: float = 1.0,
    max_iter: int = 500,
    seed: int = 0,
    target_transform: str | None = None,
    c: float = 1e-4,
) -> Head:
    """Return a small neural network of scaled features.

    Parameters
    ----------
    hidden : sequence of int, default=(64,)
        Units of the hidden layers.
    alpha : float, default=1.0
        L2 penalty.
    max_iter : int, default=500
        Steps of L-BFGS; scikit-learn warns when it has not converged.
    seed : int, default=0
    target_transform : {None, "log", "rank", "center"}
    c : float, default=1e-4

    Returns
    -------
    Pipeline, or TransformedTargetRegressor around one

    Examples
    --------
    >>> mlp_head((8,))[-1].hidden_layer_sizes
    (8,)
    """
    network = MLPRegressor(
        hidden_layer_sizes=tuple(hidden),
        solver="lbfgs",  # no learning rate to choose, and nothing that is pickled
        alpha=alpha,
        max_iter=max_iter,
        random_state=seed,
    )
    return _complete([StandardScaler(), network], target_transform, c)


def _complete(
    steps: list[BaseEstimator], target_transform: str | None, c: float
) -> Head:
    """Make a head that says which one takes missing targets."""
    return _head([CompleteTargets(), *steps], target_transform, c)


def _head(steps: list[BaseEstimator], target_transform: str | None, c: float) -> Head:
    pipeline = make_pipeline(*steps)
    if target_transform is None:
        return pipeline
    return MaskedTargetRegressor(pipeline, make_transform(target_transform, c))
