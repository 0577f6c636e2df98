"""Estimators of scikit-learn inside heads, made to fit few rows and many targets."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import (
    BaseEstimator,
    MultiOutputMixin,
    RegressorMixin,
    TransformerMixin,
)
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import GroupKFold
from sklearn.multioutput import MultiOutputRegressor
from sklearn.utils.validation import check_is_fitted, validate_data

from enformer_features.exceptions import InputError, warn

Floats = npt.NDArray[np.floating[Any]]


class PerTarget(MultiOutputRegressor):
    """A choice of penalties for every target; `y` may have one dimension.

    Parameters
    ----------
    estimator : LassoCV or ElasticNetCV
        Fitted once per target.

    Notes
    -----
    Descents that did not converge are one warning of how many there are, out of all
    penalties, folds and targets.

    Examples
    --------
    >>> from sklearn.linear_model import LassoCV
    >>> X = np.arange(12.0).reshape(6, 2)
    >>> PerTarget(LassoCV(cv=3)).fit(X, X[:, 0]).predict(X).shape
    (6,)
    """

    def __init__(self, estimator: BaseEstimator) -> None:
        super().__init__(estimator)

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Fit one estimator per target.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows, n_targets) or (n_rows,)
        **fit_params
            Such as ``groups``, handed or routed on as scikit-learn does.

        Raises
        ------
        InputError
            Without ``groups``, if folds are of whole groups.

        Warns
        -----
        ConvergenceWarning
            Once, for all descents that did not converge.
        """
        if isinstance(self.estimator.cv, GroupKFold):
            refuse_no_groups(f"cv={self.estimator.cv}", fit_params.get("groups"))
        self.is_single_ = np.ndim(y) == 1
        table = np.asarray(y).reshape(-1, 1) if self.is_single_ else y
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            super().fit(X, table, **fit_params)
        failed = 0
        for warning in caught:
            if issubclass(warning.category, ConvergenceWarning):
                failed += 1
            else:
                warnings.warn(warning.message, stacklevel=2)
        if failed:
            tried = sum(fitted.mse_path_.size + 1 for fitted in self.estimators_)
            message = (
                f"{type(self.estimator).__name__} did not converge in {failed} of "
                f"{tried} fits (penalties, folds, targets), mostly at the smallest "
                "penalties: a fixed alpha, or fewer features, is faster"
            )
            warn(message, ConvergenceWarning)
        return self

    def predict(self, X: Any) -> Floats:
        """Predict all targets.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)

        Returns
        -------
        ndarray of float, shape (n_rows, n_targets), or (n_rows,)
            The latter when `y` had one dimension.
        """
        predicted: Floats = super().predict(X)
        return predicted[:, 0] if self.is_single_ else predicted


class CappedPCA(TransformerMixin, BaseEstimator):
    """Principal components, as many as are asked for or as the rows have.

    Parameters
    ----------
    n_components : int
        At most one less than the rows that are fitted, and the features.
    random_state : int, optional

    Examples
    --------
    >>> CappedPCA(64).fit_transform(np.eye(5)).shape
    (5, 4)
    """

    def __init__(self, n_components: int, *, random_state: int | None = None) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def fit(self, X: Any, y: Any = None) -> Self:
        """Find the components.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        y : ignored
        """
        X = validate_data(self, X, dtype=[np.float64, np.float32])
        n_components = at_most(self.n_components, X.shape)
        self.pca_ = PCA(n_components, random_state=self.random_state).fit(X)
        return self

    def transform(self, X: Any) -> Floats:
        """Return the components of rows.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)

        Returns
        -------
        ndarray of float, shape (n_rows, n_components)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=[np.float64, np.float32])
        components: Floats = self.pca_.transform(X)
        return components


class CappedPLS(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Partial least squares with as many directions as asked for, or as rows have.

    Parameters
    ----------
    n_components : int
        At most one less than the rows that are fitted, and the features.

    Examples
    --------
    >>> X = np.eye(4)
    >>> CappedPLS(100).fit(X, X[:, 0]).predict(X).round(2).tolist()
    [1.0, 0.0, 0.0, 0.0]
    """

    def __init__(self, n_components: int) -> None:
        self.n_components = n_components

    def fit(self, X: Any, y: Any) -> Self:
        """Fit all targets.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows, n_targets) or (n_rows,)
        """
        X, y = validate_data(self, X, y, multi_output=True, dtype=np.float64)
        n_components = at_most(self.n_components, X.shape)
        with warnings.catch_warnings():  # nothing is left to explain: no harm
            warnings.filterwarnings("ignore", "y residual is constant", UserWarning)
            self.pls_ = PLSRegression(n_components).fit(X, y)
        return self

    def predict(self, X: Any) -> Floats:
        """Predict all targets.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets), or (n_rows,)
        """
        check_is_fitted(self)
        X = validate_data(self, X, reset=False, dtype=np.float64)
        predicted: Floats = self.pls_.predict(X)
        return predicted


class WholeGroupKFold(GroupKFold):
    """Folds of whole groups, which says how groups are given when there are none."""

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[npt.NDArray[np.int_], npt.NDArray[np.int_]]]:
        """Yield row numbers of each fold; see `GroupKFold`.

        Parameters
        ----------
        X : array-like, n_rows
        y : ignored
        groups : array-like, shape (n_rows,)

        Raises
        ------
        InputError
            Without groups.
        """
        refuse_no_groups(
            'expecto_head("tuned")', groups, "gridsearchcv__groups=... or "
        )
        yield from super().split(X, y, groups)


def at_most(n_components: int, shape: tuple[int, ...]) -> int:
    """Return how many components a centred table has, at most those asked for.

    Examples
    --------
    >>> at_most(64, (20, 3072)), at_most(2, (20, 3072))
    (19, 2)
    """
    n_rows, n_features = shape
    return min(n_components, max(n_rows - 1, 1), n_features)


def refuse_no_groups(what: str, groups: Any, by_name: str = "") -> None:
    """Refuse folds of whole groups without groups, and say how they are given."""
    if groups is None:
        msg = (
            f"{what} chooses its penalty on whole groups of rows that are held out, "
            'and was given no groups: fit_head(head, X, y, genes["chrom"]), or in a '
            f"Pipeline with {by_name}metadata routing"
        )
        raise InputError(msg)
