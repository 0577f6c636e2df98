"""Targets on another scale while a head is fitted, and back in its predictions."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn import get_config
from sklearn.base import BaseEstimator, OneToOneFeatureMixin, TransformerMixin, clone
from sklearn.compose import TransformedTargetRegressor
from sklearn.preprocessing import StandardScaler
from sklearn.utils.metadata_routing import process_routing
from sklearn.utils.validation import check_array, check_is_fitted, validate_data

from enformer_features.estimators.metrics import r2_of_known
from enformer_features.exceptions import InputError, check_choice, first_few

Floats = npt.NDArray[np.float64]
TRANSFORMS = ("log", "rank", "center")


def make_transform(name: str, c: float = 1e-4) -> TransformerMixin:
    """Return a transformer of targets that inverts and keeps missing values.

    Parameters
    ----------
    name : {"log", "rank", "center"}
        The natural ``log(y + c)``; the rank within the rows that are fitted, from 0
        to 1; or each target less its mean.
    c : float, default=1e-4
        In units of the targets, greater than 0.

    Returns
    -------
    transformer

    Raises
    ------
    InputError
        For another name.

    Examples
    --------
    >>> make_transform("log", c=0.01)
    LogTransform(c=0.01)
    """
    check_choice("target_transform", name, TRANSFORMS)
    if name == "log":
        return LogTransform(c)
    return RankTransform() if name == "rank" else StandardScaler(with_std=False)


class LogTransform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """The natural logarithm of ``y + c``; ExPecto's scale of expression.

    Parameters
    ----------
    c : float, default=1e-4
        In units of the targets.

    References
    ----------
    Zhou et al. 2018, Nature Genetics 50:1171; ``c`` as in the code of ExPecto.

    Examples
    --------
    >>> log = LogTransform(c=1.0)
    >>> there = log.fit_transform([[0.0, np.nan], [9.0, 3.0]])
    >>> there.round(2).tolist(), log.inverse_transform(there).round(2).tolist()
    ([[0.0, nan], [2.3, 1.39]], [[0.0, nan], [9.0, 3.0]])
    """

    def __init__(self, c: float = 1e-4) -> None:
        self.c = c

    def fit(self, X: Any, y: object = None) -> Self:
        """Refuse negative values, and a ``c`` that is not above 0.

        Parameters
        ----------
        X : DataFrame or array, shape (n_rows, n_targets)
        y : ignored

        Raises
        ------
        InputError
        """
        if not 0 < self.c < np.inf:
            msg = f"c={self.c!r} must be greater than 0, and finite"
            raise InputError(msg)
        self._check(X, reset=True)
        return self

    def transform(self, X: Any) -> Floats:
        """Take the logarithm; negative values are an InputError.

        Parameters
        ----------
        X : DataFrame or array, shape (n_rows, n_targets)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets)
        """
        check_is_fitted(self)
        logarithm: Floats = np.log(self._check(X, reset=False) + self.c)
        return logarithm

    def inverse_transform(self, X: Any) -> Floats:
        """Return ``exp(X) - c``, which is never below ``-c``.

        Parameters
        ----------
        X : array, shape (n_rows, n_targets)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets)
        """
        values: Floats = np.exp(np.asarray(X, dtype=np.float64)) - self.c
        return values

    def _check(self, X: Any, *, reset: bool) -> Floats:
        values = validate_data(
            self, X, reset=reset, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        rows, columns = np.nonzero(values < 0)
        if rows.size:
            frame = pd.DataFrame(X)
            labels = zip(frame.index[rows], frame.columns[columns], strict=True)
            places = [f"{row} {column}" for row, column in labels]
            msg = (
                f"negative targets have no logarithm: {first_few(places)}; are these "
                "logarithms or z-scores already? target_transform=None leaves them"
            )
            raise InputError(msg)
        return np.asarray(values, dtype=np.float64)


class RankTransform(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """Each target's rank among the rows that are fitted, from 0 to 1.

    Equal values share the mean of their ranks. Values in between, and predictions on
    the way back, are interpolated; what lies outside goes to the end.

    Examples
    --------
    >>> ranks = RankTransform().fit([[3.0], [30.0], [3.0], [np.nan], [4.0]])
    >>> ranks.transform([[3.0], [4.0], [17.0], [30.0], [99.0]]).ravel().tolist()
    [0.25, 0.625, 0.75, 0.875, 0.875]
    >>> ranks.inverse_transform([[0.25], [0.75], [1.0]]).ravel().tolist()
    [3.0, 17.0, 30.0]
    """

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn the values and their ranks.

        Parameters
        ----------
        X : array, shape (n_rows, n_targets)
        y : ignored

        Raises
        ------
        InputError
            For targets without any value.
        """
        values = validate_data(self, X, dtype=np.float64, ensure_all_finite="allow-nan")
        empty = np.flatnonzero(np.isnan(values).all(axis=0))
        if empty.size:
            names = first_few(list(pd.DataFrame(X).columns[empty]))
            msg = f"targets without a value in any row: {names}; leave them out"
            raise InputError(msg)
        ranked = [_mid_ranks(column[~np.isnan(column)]) for column in values.T]
        self.values_, self.ranks_ = map(list, zip(*ranked, strict=True))
        return self

    def transform(self, X: Any) -> Floats:
        """Return the ranks.

        Parameters
        ----------
        X : array, shape (n_rows, n_targets)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets)
        """
        check_is_fitted(self)
        values = validate_data(
            self, X, reset=False, dtype=np.float64, ensure_all_finite="allow-nan"
        )
        return _interpolate(values, self.values_, self.ranks_)

    def inverse_transform(self, X: Any) -> Floats:
        """Return the values that have these ranks.

        Parameters
        ----------
        X : array, shape (n_rows, n_targets)

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets)
        """
        check_is_fitted(self)
        return _interpolate(np.asarray(X, dtype=np.float64), self.ranks_, self.values_)


class MaskedTargetRegressor(TransformedTargetRegressor):
    """`TransformedTargetRegressor` that lets missing targets and labels through.

    Parameters
    ----------
    regressor : estimator
        Fitted on transformed targets; one that leaves out NaN, such as
        :class:`~enformer_features.GroupedRidgeCV`, if there are any.
    transformer : transformer
        With ``inverse_transform``, which predictions go through.

    See Also
    --------
    make_transform : Transformers by name.

    Examples
    --------
    >>> from sklearn.linear_model import Ridge
    >>> model = MaskedTargetRegressor(Ridge(1e-9), LogTransform(c=1.0))
    >>> model.fit([[0.0], [1.0], [2.0]], [0.0, 1.0, 3.0]).predict([[3.0]]).round(3)
    array([7.])
    """

    def __init__(self, regressor: BaseEstimator, transformer: TransformerMixin) -> None:
        super().__init__(
            regressor=regressor, transformer=transformer, check_inverse=False
        )

    def fit(self, X: Any, y: Any, **fit_params: Any) -> Self:
        """Transform the targets, and fit the regressor on them.

        Parameters
        ----------
        X : object
            As the regressor takes it.
        y : DataFrame, Series or array, shape (n_rows, n_targets) or (n_rows,)
            NaN where a target is missing.
        **fit_params
            Handed or routed to the regressor, as scikit-learn does.

        Returns
        -------
        MaskedTargetRegressor
            Itself.
        """
        targets, self._training_dim = _as_two_dimensional(y)
        self.transformer_ = clone(self.transformer).fit(targets)
        transformed: Any = np.asarray(self.transformer_.transform(targets))
        is_labelled = isinstance(targets, pd.DataFrame)
        if is_labelled:  # labels are compared with those of X
            transformed = pd.DataFrame(transformed, targets.index, targets.columns)
        if self._training_dim == 1:
            transformed = transformed.iloc[:, 0] if is_labelled else transformed[:, 0]
        if get_config()["enable_metadata_routing"]:
            fit_params = process_routing(self, "fit", **fit_params).regressor.fit
        self.regressor_ = clone(self.regressor).fit(X, transformed, **fit_params)
        if hasattr(self.regressor_, "feature_names_in_"):
            self.feature_names_in_ = self.regressor_.feature_names_in_
        return self

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean over targets of R2, each in the rows that have a value.

        Parameters
        ----------
        X : object
            As the regressor takes it.
        y : DataFrame, Series or array, shape (n_rows, n_targets) or (n_rows,)
            On the scale on which it was given to `fit`; NaN where it is missing.
        sample_weight : array-like, shape (n_rows,), optional

        Returns
        -------
        float
        """
        return r2_of_known(y, self.predict(X), sample_weight)


class CompleteTargets(OneToOneFeatureMixin, TransformerMixin, BaseEstimator):
    """A first step of a head that cannot take missing targets, and says so.

    Features pass unchanged.

    Examples
    --------
    >>> CompleteTargets().fit([[1.0], [2.0]], [1.0, np.nan])
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputError: 1 of 2 rows lack a target: 1; this head \
cannot leave out missing values, ridge_head can; or drop these rows
    """

    def fit(self, X: Any, y: Any = None) -> Self:
        """Refuse missing targets.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        y : DataFrame or array, shape (n_rows, n_targets) or (n_rows,)

        Raises
        ------
        InputError
        """
        validate_data(self, X, skip_check_array=True)
        table = pd.DataFrame() if y is None else pd.DataFrame(y)
        lacking = table.index[table.isna().any(axis=1)]
        if len(lacking):
            msg = (
                f"{len(lacking)} of {len(table)} rows lack a target: "
                f"{first_few(list(lacking))}; this head cannot leave out missing "
                "values, ridge_head can; or drop these rows"
            )
            raise InputError(msg)
        return self

    def transform(self, X: Any) -> Any:
        """Return the features.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        """
        validate_data(self, X, reset=False, skip_check_array=True)
        return X


def _as_two_dimensional(y: Any) -> tuple[Any, int]:
    """Return targets as a table, and how many dimensions they had."""
    if isinstance(y, pd.DataFrame):
        return y, 2
    if isinstance(y, pd.Series):
        return y.to_frame(), 1
    values = check_array(
        y,
        dtype=np.float64,
        ensure_2d=False,
        ensure_all_finite="allow-nan",
        input_name="y",
    )
    return values.reshape(len(values), -1), values.ndim


def _mid_ranks(values: Floats) -> tuple[Floats, Floats]:
    """Return different values in order, and the mean rank of each from 0 to 1."""
    different, counts = np.unique(values, return_counts=True)
    return different, (np.cumsum(counts) - counts / 2) / len(values)


def _interpolate(table: Floats, x: list[Floats], y: list[Floats]) -> Floats:
    columns = [
        np.interp(column, known, wanted)
        for column, known, wanted in zip(table.T, x, y, strict=True)
    ]
    return np.where(np.isnan(table), np.nan, np.stack(columns, axis=1))
