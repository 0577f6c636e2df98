"""GroupedConformal: intervals around predictions, from whole groups held out."""

from __future__ import annotations

from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, RegressorMixin, clone
from sklearn.model_selection import GroupKFold, check_cv
from sklearn.utils.validation import check_is_fitted

from enformer_features.estimators.heads import fit_head
from enformer_features.estimators.splits.rows import (
    check_length,
    holds_regions,
    n_rows_of,
    row_chroms,
)
from enformer_features.estimators.splits.splitter import Fold, check_count, folds_of
from enformer_features.exceptions import InputError, first_few

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
_ROUNDING = 1e-12


class GroupedConformal(RegressorMixin, MetaEstimatorMixin, BaseEstimator):
    """Give the predictions of any regressor an interval.

    The regressor is fitted again and again, each time without whole groups, such as
    chromosomes, and its errors on these say how wide an interval must be. Groups are
    what is exchanged: windows that overlap and genes of a family are alike, so that
    rows held out one by one would make intervals that are too narrow.

    Parameters
    ----------
    model : estimator
        A regressor, or a pipeline that begins with
        :class:`~enformer_features.EnformerEmbedder`. It is cloned.
    alpha : float, default=0.1
        Share of new rows that may lie outside. At least ``1 / alpha - 1`` groups are
        needed: 9 for 0.1.
    cv : int or splitter, default=5
        Folds of whole groups; the more, the more the models resemble the final one.

    Attributes
    ----------
    model_ : estimator
        Fitted on all rows.
    residuals_ : ndarray of float64, shape (n_rows, n_targets)
        Measured minus predicted, each by a model that has not seen the row's group;
        NaN where a target is missing.
    groups_ : ndarray of str, shape (n_rows,)
    half_width_ : ndarray of float64, shape (n_targets,)
        The intervals' at `alpha`.

    See Also
    --------
    enformer_features.estimators.domain.OutOfDomain : Rows for which intervals do not
        hold, because they are unlike those that were fitted.

    Notes
    -----
    Every group counts alike, however many rows it has, and one more that is infinitely
    wrong stands for the group to come: of a new row *of a new group*, the interval
    holds the measurement with probability ``1 - alpha`` at least, if groups are
    exchangeable and the model does not change much for a fold of rows more. It is the
    probability over all rows: for one kind of row it may be lower. The width is the
    same for every row of a target; targets that vary in scale, such as expression, are
    better given as logarithms. Predictions for single individuals or alleles are not
    what is covered.

    An embedder in `model` computes each window once where it has a cache.

    References
    ----------
    Lee, Barber and Willett 2023, arXiv:2306.06342 (hierarchical conformal prediction);
    Dunn, Wasserman and Ramdas 2022, JASA; Barber et al. 2021, Annals of Statistics
    49:486 (errors out of fold).

    Examples
    --------
    >>> from sklearn.linear_model import LinearRegression
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(200, 3))
    >>> y = X.sum(axis=1) + rng.normal(size=200)
    >>> chromosomes = np.repeat([f"chr{i}" for i in range(20)], 10)
    >>> conformal = GroupedConformal(LinearRegression()).fit(X, y, groups=chromosomes)
    >>> conformal.predict_interval(X[:1]).round(1)
    array([[-1.3,  2.6]])
    """

    __metadata_request__fit: ClassVar = {"groups": True}

    def __init__(self, model: Any, *, alpha: float = 0.1, cv: Any = 5) -> None:
        self.model = model
        self.alpha = alpha
        self.cv = cv

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Find errors out of fold, then fit all rows.

        Parameters
        ----------
        X : table, array or sequence, n_rows
            What `model` takes.
        y : array-like, shape (n_rows,) or (n_rows, n_targets)
            NaN where a target is missing, if `model` takes that.
        groups : array-like, shape (n_rows,), optional
            Labels, or regions, which are grouped by chromosome. By default the
            chromosomes of ``X``, if it holds regions.

        Returns
        -------
        GroupedConformal
            Itself.

        Raises
        ------
        InputError
            Without groups, with fewer than `alpha` needs, or folds that divide them.
        """
        check_alpha(self.alpha)
        names = None if not hasattr(y, "columns") else [str(name) for name in y.columns]
        targets = np.asarray(y, dtype=np.float64)
        check_length("y", len(targets), X)
        labels = _labels(X, groups)
        codes = pd.factorize(labels)[0]
        _check_enough(codes, self.alpha)
        folds = self._folds(X, targets, labels)
        table = targets.reshape(len(targets), -1)
        residuals = np.full(table.shape, np.nan)
        for train, test in folds:
            fitted = fit_head(
                clone(self.model), _take(X, train), _take(y, train), labels[train]
            )
            found = np.asarray(fitted.predict(_take(X, test)), dtype=np.float64)
            residuals[test] = table[test] - found.reshape(len(test), -1)
        self.half_width_ = half_widths(residuals, codes, self.alpha)
        self.model_ = fit_head(clone(self.model), X, y, labels)
        self.is_single_ = targets.ndim == 1
        self.residuals_ = residuals
        self.groups_ = labels.astype(str)
        self.target_names_ = names or [str(i) for i in range(table.shape[1])]
        return self

    def predict(self, X: Any) -> Floats:
        """Predict by the model of all rows.

        Parameters
        ----------
        X : table, array or sequence, n_rows

        Returns
        -------
        ndarray of float64, shape (n_rows,) or (n_rows, n_targets)
        """
        check_is_fitted(self)
        return np.asarray(self.model_.predict(X), dtype=np.float64)

    def predict_interval(self, X: Any, alpha: float | None = None) -> Floats:
        """Return the lower and upper end of every prediction's interval.

        Parameters
        ----------
        X : table, array or sequence, n_rows
        alpha : float, optional
            Another than that of the estimator; nothing is fitted again.

        Returns
        -------
        ndarray of float64, shape (n_rows, 2), or (n_rows, 2, n_targets)
            The former when `y` had one dimension.

        Raises
        ------
        InputError
            When there are fewer groups than ``alpha`` needs.
        """
        predicted = self.predict(X)
        table = predicted.reshape(len(predicted), -1)
        width = self._half_widths(alpha)
        both = np.stack([table - width, table + width], axis=1)
        return both[:, :, 0] if self.is_single_ else both

    def interval_table(self, X: Any, alpha: float | None = None) -> pd.DataFrame:
        """Return predictions beside their intervals.

        Parameters
        ----------
        X : table, array or sequence, n_rows
        alpha : float, optional

        Returns
        -------
        DataFrame
            Rows of ``X``, with its index if it has one: for every target its
            prediction, and ``<target>_low``, ``<target>_high``.
        """
        predicted = self.predict(X)
        table = predicted.reshape(len(predicted), -1)
        width = self._half_widths(alpha)
        values = np.stack([table, table - width, table + width], axis=2)
        columns = [
            f"{name}{end}"
            for name in self.target_names_
            for end in ("", "_low", "_high")
        ]
        index = getattr(X, "obs_names", getattr(X, "index", None))
        return pd.DataFrame(
            values.reshape(len(table), -1),
            index=index if isinstance(index, pd.Index) else None,
            columns=columns,
        )

    def held_out_coverage(self, alpha: float | None = None) -> pd.DataFrame:
        """Measure how often intervals of the other groups hold a group's rows.

        Parameters
        ----------
        alpha : float, optional

        Returns
        -------
        DataFrame
            One row per group and target that has values there: ``group``, ``target``,
            ``n``, ``covered`` (share of rows). Their mean over groups should be near
            ``1 - alpha``, and single groups lie around it; one that lies far below is
            unlike the others.

        Raises
        ------
        InputError
            When there is not one group more than ``alpha`` needs.
        """
        check_is_fitted(self)
        alpha = self.alpha if alpha is None else check_alpha(alpha)
        codes, names = pd.factorize(self.groups_)
        rows = []
        for code, group in enumerate(names):
            own = codes == code
            others = half_widths(self.residuals_[~own], codes[~own], alpha)
            for place, target in enumerate(self.target_names_):
                errors = np.abs(self.residuals_[own, place])
                errors = errors[np.isfinite(errors)]
                if len(errors):
                    covered = float((errors <= others[place]).mean())
                    rows.append((str(group), target, len(errors), covered))
        return pd.DataFrame(rows, columns=["group", "target", "n", "covered"])

    def _half_widths(self, alpha: float | None) -> Floats:
        if alpha is None or alpha == self.alpha:
            width: Floats = self.half_width_
            return width
        codes = pd.factorize(self.groups_)[0]
        return half_widths(self.residuals_, codes, check_alpha(alpha))

    def _folds(self, X: Any, y: Floats, labels: npt.NDArray[np.object_]) -> list[Fold]:
        """Return folds that test every row once, and no group on both sides."""
        if isinstance(self.cv, int | np.integer):
            check_count("cv", self.cv, 2)
            n_groups = len(set(labels))
            cv = GroupKFold(min(int(self.cv), n_groups))
            folds = list(cv.split(np.zeros(len(labels)), groups=labels))
        else:
            folds = folds_of(check_cv(self.cv), X, y, labels)
        tested = np.concatenate([test for _, test in folds])
        if not np.array_equal(np.sort(tested), np.arange(len(labels))):
            msg = f"cv={self.cv!r} must test each of the {len(labels)} rows once"
            raise InputError(msg)
        for train, test in folds:
            both = sorted(set(map(str, labels[train])) & set(map(str, labels[test])))
            if both:
                msg = (
                    f"cv={self.cv!r} divides groups: {first_few(both)} are trained on "
                    "and tested in one fold; give a number, or a splitter by groups"
                )
                raise InputError(msg)
        return folds


def half_widths(residuals: Floats, codes: Integers, alpha: float) -> Floats:
    """Return how far intervals must reach to either side, target by target.

    Parameters
    ----------
    residuals : ndarray of float64, shape (n_rows, n_targets)
        NaN where a target is missing.
    codes : ndarray of int, shape (n_rows,)
        The group of every row.
    alpha : float

    Returns
    -------
    ndarray of float64, shape (n_targets,)
        The ``1 - alpha`` quantile of the absolute errors, a row of a group of *m* rows
        counting ``1 / (K + 1) m`` where there are *K* groups; the rest is infinite.

    Raises
    ------
    InputError
        When a target has values in too few groups, so that the quantile is infinite.

    Examples
    --------
    >>> errors = np.array([[1.0], [2.0], [3.0], [-9.0], [5.0]])
    >>> half_widths(errors, np.array([0, 0, 1, 2, 3]), alpha=0.5).tolist()
    [5.0]
    """
    found = np.empty(residuals.shape[1])
    for place, column in enumerate(residuals.T):
        known = np.isfinite(column)
        _check_enough(codes[known], alpha, place)
        _, of_row, sizes = np.unique(
            codes[known], return_inverse=True, return_counts=True
        )
        weight = 1 / (len(sizes) + 1) / sizes[of_row]
        errors = np.abs(column[known])
        order = np.argsort(errors, kind="stable")
        reached = np.cumsum(weight[order])
        at = int(np.searchsorted(reached, 1 - alpha - _ROUNDING))
        # Rounding can leave the sum over all rows below 1 - alpha.
        found[place] = errors[order[min(at, len(order) - 1)]]
    return found


def check_alpha(alpha: Any) -> float:
    """Refuse what is no share between 0 and 1.

    Examples
    --------
    >>> check_alpha(0.1)
    0.1
    """
    is_number = isinstance(alpha, int | float) and not isinstance(alpha, bool)
    if not is_number or not 0 < alpha < 1:
        msg = f"alpha={alpha!r} must be between 0 and 1: the share that may lie outside"
        raise InputError(msg)
    return float(alpha)


def _check_enough(codes: Integers, alpha: float, target: int | None = None) -> None:
    """Refuse fewer groups than make a finite interval."""
    n_groups = len(set(codes.tolist()))
    needed = max(int(np.ceil((1 - alpha) / alpha - _ROUNDING)), 1)
    if target is None:
        needed = max(needed, 2)  # one to fit, one to test
    if n_groups >= needed:
        return
    where = "" if target is None else f" with values of target {target}"
    msg = (
        f"alpha={alpha} needs at least {needed} groups, and there are {n_groups}"
        f"{where}: of fewer, the interval would be infinite; take a larger alpha, or "
        "finer groups whose rows are still unlike those of others"
    )
    raise InputError(msg)


def _labels(X: Any, groups: Any) -> npt.NDArray[np.object_]:
    """Return the group of every row."""
    if groups is None or holds_regions(groups):
        if groups is None and not holds_regions(X):
            msg = (
                "intervals come from whole groups that are held out, and there are "
                'none: fit(X, y, groups=genes["chrom"]), in a Pipeline by fit_head'
            )
            raise InputError(msg)
        return np.asarray(row_chroms(X, groups), dtype=object)
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (n_rows_of(X),):
        msg = f"groups has shape {labels.shape}, X has {n_rows_of(X)} rows"
        raise InputError(msg)
    missing = np.flatnonzero(pd.isna(labels)).tolist()
    if missing:
        msg = f"groups are missing in rows {first_few(missing)}; every row needs one"
        raise InputError(msg)
    return labels


def _take(X: Any, rows: Integers) -> Any:
    """Return some rows, of whatever the model takes."""
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return [X[row] for row in rows]
    return X[rows]
