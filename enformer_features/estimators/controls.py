"""What a score is worth: the same models on means, random weights, permuted targets."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import (
    BaseEstimator,
    MetaEstimatorMixin,
    MultiOutputMixin,
    RegressorMixin,
    clone,
)
from sklearn.utils import Tags, get_tags
from sklearn.utils.metadata_routing import (
    MetadataRouter,
    MethodMapping,
    process_routing,
)
from sklearn.utils.validation import check_is_fitted

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.exceptions import InputError, InputTypeError, first_few
from enformer_features.genomics._columns import show
from enformer_features.model.handle import ModelHandle
from enformer_features.model.registry import weights_config
from enformer_features.model.untrained import untrained_network

Floats = npt.NDArray[np.float64]


class TrainingMean(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Predict the mean of the training rows, target by target, for every row.

    Attributes
    ----------
    mean_ : ndarray of float64, shape (n_targets,) or ()
        Of the values that are not missing.

    Notes
    -----
    It has no correlation across the rows of one fold. Over the rows of several folds
    it has, and a negative one: leaving high rows out makes the mean lower. Across
    tissues it is the baseline to beat, as most genes are high where most genes are.

    Examples
    --------
    >>> model = TrainingMean().fit(["chr1:1-9", "chr1:11-19"], [[1.0, 5.0], [2.0, 5.0]])
    >>> model.predict(["chr1:21-29"]).tolist()
    [[1.5, 5.0]]
    """

    def fit(self, X: Any, y: Any) -> Self:
        """Take the means.

        Parameters
        ----------
        X : anything with a length
            Only counted.
        y : array-like, shape (n_rows,) or (n_rows, n_targets)
            Missing values (NaN) are left out.

        Returns
        -------
        self

        Raises
        ------
        InputError
            When there are other numbers of rows, or a target without any value.
        """
        values = np.asarray(y, dtype=np.float64)
        if len(values) != _n_rows(X):
            msg = f"y has {len(values)} rows, X has {_n_rows(X)}; they must be the same"
            raise InputError(msg)
        empty = np.flatnonzero(np.atleast_1d(np.isnan(values).all(axis=0)))
        if len(empty):
            names = getattr(y, "columns", [getattr(y, "name", None) or 0])
            is_table = hasattr(y, "columns")
            shown = [show(names[i]) if is_table else str(i) for i in empty]
            msg = f"targets without any value in the training rows: {first_few(shown)}"
            raise InputError(msg)
        self.mean_ = np.nanmean(values, axis=0)
        return self

    def predict(self, X: Any) -> Floats:
        """Return the means, once per row.

        Parameters
        ----------
        X : anything with a length

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_targets)
        """
        check_is_fitted(self)
        shape = _n_rows(X), *np.shape(self.mean_)
        return np.broadcast_to(self.mean_, shape).copy()

    def __sklearn_tags__(self) -> Tags:
        """Say that rows may be anything, and that nothing is learnt from them."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.regressor_tags.poor_score = True
        return tags


class PermutedTargets(MetaEstimatorMixin, RegressorMixin, BaseEstimator):
    """Fit a model on targets whose rows were permuted: what chance alone gives.

    Rows are permuted whole, so that the targets stay as alike as they are. Scored
    against the true targets, whatever is above zero is not learnt from the sequence.

    Parameters
    ----------
    model : estimator
        Such as a pipeline. It is cloned; the permuted one is ``model_``.
    groups : str, optional
        Column of ``X``, such as ``"chrom"``: permute only among rows that share its
        value, so that what differs between groups stays.
    seed : int, default=0
        Of the permutation.

    Attributes
    ----------
    model_ : estimator
        Fitted on permuted targets.
    permutation_ : ndarray of int64, shape (n_rows,)
        Row *i* was fitted with the targets of row ``permutation_[i]``.

    Notes
    -----
    One permutation is one draw; for a distribution, fit with several seeds.

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> X, y = [[0.0], [1.0], [2.0]], [0.0, 1.0, 2.0]
    >>> control = PermutedTargets(LinearRegression(), seed=1).fit(X, y)
    >>> sorted(control.permutation_.tolist())
    [0, 1, 2]
    """

    def __init__(
        self, model: BaseEstimator, *, groups: str | None = None, seed: int = 0
    ) -> None:
        self.model = model
        self.groups = groups
        self.seed = seed

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Permute the rows of ``y``, and fit.

        Parameters
        ----------
        X : table or array, n_rows
        y : array-like, shape (n_rows,) or (n_rows, n_targets)
        **fit_params
            For the model, as scikit-learn routes them; they stay with the rows of X.

        Returns
        -------
        self

        Raises
        ------
        InputError
            When ``X`` has no such column, or each of its values stands in one row.
        """
        self.permutation_ = self._permutation(X, _n_rows(y))
        routed = process_routing(self, "fit", **fit_params)
        permuted = _take(y, self.permutation_)
        self.model_ = clone(self.model).fit(X, permuted, **routed.model.fit)
        return self

    def predict(self, X: Any) -> npt.NDArray[Any]:
        """Predict with the model that was fitted on permuted targets.

        Parameters
        ----------
        X : table or array, n_rows

        Returns
        -------
        ndarray, shape (n_rows,) or (n_rows, n_targets)
        """
        check_is_fitted(self)
        predicted: npt.NDArray[Any] = self.model_.predict(X)
        return predicted

    def get_metadata_routing(self) -> MetadataRouter:
        """Say that what ``fit`` is given belongs to the model."""
        mapping = MethodMapping().add(caller="fit", callee="fit")
        router = MetadataRouter(owner=self)
        return router.add(model=self.model, method_mapping=mapping)

    def __sklearn_tags__(self) -> Tags:
        """Take what the model takes."""
        tags = super().__sklearn_tags__()
        of_model = get_tags(self.model)
        tags.input_tags = of_model.input_tags
        tags.target_tags = of_model.target_tags
        tags.regressor_tags.poor_score = True
        return tags

    def _permutation(self, X: Any, n_rows: int) -> npt.NDArray[np.int64]:
        random = np.random.default_rng(self.seed)
        if self.groups is None:
            return random.permutation(n_rows)
        table = getattr(X, "obs", X)
        if self.groups not in getattr(table, "columns", ()):
            msg = (
                f"groups={self.groups!r} is no column of X; name one of a table, or "
                "leave it out to permute all rows"
            )
            raise InputError(msg)
        codes = pd.factorize(pd.Series(np.asarray(table[self.groups])))[0]
        if len(set(codes)) == n_rows:
            msg = (
                f"each value of column {self.groups!r} stands in one row: no row moves"
            )
            raise InputError(msg)
        permutation = np.arange(n_rows)
        for group in set(codes):
            rows = np.flatnonzero(codes == group)
            permutation[rows] = random.permutation(rows)
        return permutation


def untrained(embedder: BaseEstimator, seed: int = 0) -> EnformerEmbedder:
    """Return the embedder with random weights: what the architecture alone gives.

    Parameters
    ----------
    embedder : EnformerEmbedder
        Not changed. Its weights are not loaded.
    seed : int, default=0
        Of the random weights.

    Returns
    -------
    EnformerEmbedder
        With the same parameters and a network of the same sizes, whose name says that
        it is untrained and which warns of it when used.

    Raises
    ------
    InputTypeError
        When it is no ``EnformerEmbedder``.

    See Also
    --------
    PermutedTargets : What the head alone gives.

    Examples
    --------
    >>> embedder = EnformerEmbedder("mini", strand="average", cache=None)
    >>> control = untrained(embedder)
    >>> control.weights
    ModelHandle('untrained (sizes of mini, seed 0)')
    >>> control.strand
    'average'
    """
    if not isinstance(embedder, EnformerEmbedder):
        msg = (
            f"embedder is a {type(embedder).__name__}, expected an EnformerEmbedder; "
            "give the step of a pipeline that is one"
        )
        raise InputTypeError(msg)
    network = untrained_network(weights_config(embedder.weights), seed)
    name = f"untrained (sizes of {_name(embedder.weights)}, seed {seed})"
    handle = ModelHandle(network, name=name, trained=False)
    control: EnformerEmbedder = clone(embedder).set_params(weights=handle)
    return control


def _name(weights: object) -> str:
    return weights.name if isinstance(weights, ModelHandle) else str(weights)


def _n_rows(X: Any) -> int:
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def _take(y: Any, rows: npt.NDArray[np.int64]) -> Any:
    """Return rows of the targets under the labels that stand there."""
    if isinstance(y, (pd.Series, pd.DataFrame)):
        return y.iloc[rows].set_axis(y.index, axis=0)
    return np.asarray(y)[rows]
