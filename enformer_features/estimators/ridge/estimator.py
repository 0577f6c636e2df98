"""GroupedRidgeCV: ridge regression whose penalties are chosen on held-out groups."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, MultiOutputMixin, RegressorMixin
from sklearn.utils.validation import check_is_fitted

from enformer_features.estimators.metrics import r2_of_known
from enformer_features.estimators.ridge.chunks import RowChunks
from enformer_features.estimators.ridge.folds import (
    ROW_FOLDS,
    TEST,
    TRAIN,
    Folds,
    check_cv,
    check_enough_groups,
    each_tested_once,
    make_folds,
    undivided,
)
from enformer_features.estimators.ridge.moments import Block, Floats, RidgePath
from enformer_features.estimators.ridge.sums import (
    MANY_SETS,
    RidgeTargets,
    Stream,
    Sums,
    check_length,
    row_weights,
    same_rows,
    sum_up,
    warn_about_sets,
)
from enformer_features.exceptions import (
    EnformerFeaturesWarning,
    InputError,
    InputTypeError,
    first_few,
    warn,
)

ALPHAS = tuple(float(alpha) for alpha in np.logspace(0, 6, 13))
MANY_BLOCKS = 30

Ints = npt.NDArray[np.int_]


class GroupedRidgeCV(MultiOutputMixin, RegressorMixin, BaseEstimator):
    """Ridge regression of many targets, each with the penalty of its own.

    The penalty of a target is the one with the least squared error in rows that are
    held out by whole groups, such as chromosomes: windows that overlap, and gene
    families, then never stand on both sides. All is computed exactly, in float64, from
    sums over the rows of each fold, so that the features are read once, a chunk at a
    time. Missing targets are left out, target by target.

    Parameters
    ----------
    alphas : float or sequence of float, default=13 values from 1 to 1e6
        Penalties, greater than 0. A single one is taken as it is: then there are no
        folds and no groups are needed.
    cv : int, "rows", splitter or iterable, default=5
        A number of folds of whole groups; ``"rows"``: five folds of single rows, dealt
        out in turn; a splitter of scikit-learn; pairs of train and test row numbers.
    scale : bool, default=True
        Whether features are brought to variance 1 within the rows that are fitted, so
        that the penalty treats them alike. `coef_` is for features as they are given.
    fit_intercept : bool, default=True
        Without it, features and targets are not centred.

    Attributes
    ----------
    alpha_ : float, or ndarray of float64 of shape (n_targets,)
        The penalties chosen.
    coef_ : ndarray of float64, shape (n_targets, n_features), or (n_features,)
    intercept_ : float, or ndarray of float64 of shape (n_targets,)
    cv_errors_ : ndarray of float64, shape (n_alphas, n_targets), or (n_alphas,)
        Mean squared error over all held-out rows; NaN for a single penalty.
    n_features_in_ : int

    See Also
    --------
    enformer_features.estimators.heads.ridge_head : A Pipeline with target transforms.

    Notes
    -----
    For a penalty, coefficients equal those of `sklearn.linear_model.Ridge` on features
    that `StandardScaler` has scaled, in float64. With ``n`` rows and ``p`` features,
    each fold takes one eigendecomposition of a matrix of ``p`` by ``p``, or ``n`` by
    ``n`` where that is smaller, and there is one such matrix in memory per fold (75 MB
    for 3,072 features) and a few more while solving.

    Targets with the same rows missing share these; **targets with n different sets of
    missing rows cost n times the time**, and with `partial_fit` n times the memory.
    More than 10 are a warning: group columns, or leave rows out.

    With metadata routing (``sklearn.set_config(enable_metadata_routing=True)``)
    ``groups`` are asked for by themselves, ``sample_weight`` by ``set_fit_request``.

    References
    ----------
    Hoerl and Kennard 1970, Technometrics 12:55.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> X = rng.normal(size=(60, 3)).astype(np.float32)
    >>> y = X @ [[1.0, 3.0], [0.0, 2.0], [4.0, 1.0]]
    >>> y[:7, 1] = np.nan
    >>> chromosomes = np.repeat(["chr1", "chr2", "chr3"], 20)
    >>> head = GroupedRidgeCV([0.01, 1, 100], cv=3).fit(X, y, groups=chromosomes)
    >>> head.alpha_.tolist(), head.coef_.round(2).tolist()
    ([0.01, 0.01], [[1.0, 0.0, 4.0], [3.0, 2.0, 1.0]])
    """

    __metadata_request__fit: ClassVar = {"groups": True}
    __metadata_request__partial_fit: ClassVar = {"groups": True}

    def __init__(
        self,
        alphas: float | Sequence[float] = ALPHAS,
        *,
        cv: Any = 5,
        scale: bool = True,
        fit_intercept: bool = True,
    ) -> None:
        self.alphas = alphas
        self.cv = cv
        self.scale = scale
        self.fit_intercept = fit_intercept

    def fit(
        self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None
    ) -> Self:
        """Choose penalties, and fit all rows with them.

        Parameters
        ----------
        X : array-like, stored array or iterable, (n_rows, n_features) in all
            Numbers in memory, a memory map, an array of zarr or h5py, or chunks of
            rows, such as a list of arrays. Read once per set of missing rows.
        y : array-like, shape (n_rows, n_targets) or (n_rows,)
            NaN where a target is missing.
        groups : array-like, shape (n_rows,), optional
            Labels, such as ``genes["chrom"]``; needed when `cv` is a number.
        sample_weight : array-like, shape (n_rows,), optional
            Not negative.

        Returns
        -------
        GroupedRidgeCV
            Itself.

        Raises
        ------
        InputError, InputTypeError
            For groups that are missing or too few, empty folds, targets without any
            value, or parameters that cannot be used.

        Warns
        -----
        TargetWarning
            For more than 10 different sets of missing rows.
        """
        alphas = self._check_parameters()
        chunks = RowChunks(self, X, reset=True)
        targets = RidgeTargets.of(y)
        n_rows = len(targets.values)
        check_length("y", n_rows, chunks.n_rows)
        weights = row_weights(sample_weight, n_rows)
        folds = undivided(n_rows)
        if len(alphas) > 1:
            _check_several_rows(n_rows)
            folds = make_folds(self.cv, targets.values, groups, n_rows)
        targets.refuse_empty(np.isfinite(targets.values).sum(axis=0))
        sets = same_rows(np.isfinite(targets.values))
        self._check_cost(chunks, sets, folds, n_rows)
        self._forget()
        solution = _Solution.empty(len(alphas), targets.count, chunks.n_features)
        for columns in sets:
            sums = sum_up(
                chunks, targets.values[:, columns], weights, folds, self.fit_intercept
            )
            self._solve_into(solution, columns, sums, folds.parts, targets, alphas)
        self._keep(solution, targets)
        return self

    def partial_fit(
        self, X: Any, y: Any, groups: Any = None, sample_weight: Any = None
    ) -> Self:
        """Add rows; penalties and coefficients follow with `solve` or `predict`.

        A group goes to one fold whenever it comes again. A new one goes to the fold
        with the fewest rows so far, so that folds, and with them penalties, may differ
        from those of `fit`, which knows all groups beforehand.

        Parameters
        ----------
        X : array-like, shape (n_rows, n_features)
        y : array-like, shape (n_rows, n_targets) or (n_rows,)
        groups : array-like, shape (n_rows,), optional
        sample_weight : array-like, shape (n_rows,), optional
            As for `fit`.

        Returns
        -------
        GroupedRidgeCV
            Itself.

        Raises
        ------
        InputError, InputTypeError
            As `fit` does; also when `cv` is neither a number nor ``"rows"``.

        Warns
        -----
        EnformerFeaturesWarning
            After `fit`, or of a model that was saved: what was fitted is forgotten.
        """
        alphas = self._check_parameters()
        if len(alphas) > 1 and not isinstance(self.cv, (int, np.integer, str)):
            msg = (
                f"partial_fit with cv={self.cv!r}: rows to come cannot be split; give "
                "a number of folds of whole groups"
            )
            raise InputError(msg)
        stream: Stream | None = getattr(self, "_stream", None)
        if stream is None and hasattr(self, "coef_"):
            message = (
                "partial_fit begins anew: neither fit nor a saved model keeps the sums "
                "that rows could be added to"
            )
            warn(message, EnformerFeaturesWarning)
        chunks = RowChunks(self, X, reset=stream is None)
        targets = RidgeTargets.of(y)
        rows = np.concatenate([*chunks])
        check_length("y", len(targets.values), len(rows))
        weights = row_weights(sample_weight, len(rows))
        if stream is None:
            n_blocks = self._n_folds() if len(alphas) > 1 else 1
            stream = Stream.begin(rows, targets, n_blocks, self.fit_intercept)
        if targets.count != stream.targets.count:
            msg = f"y has {targets.count} targets, before {stream.targets.count}"
            raise InputError(msg)
        blocks = np.zeros(len(rows), dtype=int)
        if len(alphas) > 1:
            blocks = stream.blocks_of(self.cv, groups, len(rows))
        stream.add(rows, targets.values, weights, blocks)
        self._forget()
        self._stream = stream
        return self

    def solve(self) -> Self:
        """Compute penalties and coefficients of the rows that `partial_fit` added.

        Returns
        -------
        GroupedRidgeCV
            Itself.

        Raises
        ------
        InputError
            If there are fewer groups than folds, or a target has no value.
        """
        check_is_fitted(self)
        if hasattr(self, "coef_"):
            return self
        alphas, stream = self._check_parameters(), self._stream
        if len(alphas) > 1 and not isinstance(self.cv, str):
            check_enough_groups(self.cv, list(stream.fold_of))
        if len(alphas) > 1:
            _check_several_rows(stream.n_rows)
        stream.targets.refuse_empty(stream.n_known)
        parts = undivided(0).parts
        if len(alphas) > 1:
            parts = each_tested_once(self._n_folds())
        solution = _Solution.empty(
            len(alphas), stream.targets.count, int(self.n_features_in_)
        )
        for columns, blocks in stream.sets:
            sums = Sums(stream.shift, stream.y_shift[columns], blocks)
            self._solve_into(solution, columns, sums, parts, stream.targets, alphas)
        self._keep(solution, stream.targets)
        return self

    def predict(self, X: Any) -> Floats:
        """Predict all targets.

        Parameters
        ----------
        X : array-like, stored array or iterable, (n_rows, n_features) in all
            As for `fit`.

        Returns
        -------
        ndarray of float64, shape (n_rows, n_targets), or (n_rows,)
            The latter when `y` had one dimension.
        """
        check_is_fitted(self)
        chunks = RowChunks(self, X, reset=False)
        self.solve()
        return np.concatenate(
            [rows @ self.coef_.T + self.intercept_ for rows in chunks]
        )

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return the mean over targets of R2, each in the rows that have a value.

        Parameters
        ----------
        X : array-like, stored array or iterable, (n_rows, n_features) in all
            As for `fit`.
        y : array-like, shape (n_rows, n_targets) or (n_rows,)
            NaN where a target is missing: the row is left out of this target. Targets
            without any value here are left out of the mean.
        sample_weight : array-like, shape (n_rows,), optional
            Not negative.

        Returns
        -------
        float
            Without missing targets, that of scikit-learn's regressors.

        Raises
        ------
        InputError
            If no target has a value, or for another number of rows or targets.
        """
        targets = RidgeTargets.of(y)
        predicted = self.predict(X)
        check_length("y", len(targets.values), len(predicted))
        weights = row_weights(sample_weight, len(predicted))
        return r2_of_known(targets.values, predicted, weights)

    def __getstate__(self) -> dict[str, Any]:
        """Return what is saved: the solution without the sums, once there is one."""
        state: dict[str, Any] = super().__getstate__().copy()
        if "coef_" in state:
            state.pop("_stream", None)
        return state

    def _check_parameters(self) -> list[float]:
        """Return the penalties."""
        try:
            alphas = np.atleast_1d(np.asarray(self.alphas, dtype=np.float64))
        except (TypeError, ValueError) as error:
            msg = f"alphas={self.alphas!r} must be numbers greater than 0"
            raise InputTypeError(msg) from error
        good = np.isfinite(alphas) & (alphas > 0)
        if alphas.ndim != 1 or not alphas.size or not good.all():
            msg = f"alphas={self.alphas!r} must be finite numbers greater than 0"
            raise InputError(msg)
        check_cv(self.cv)
        return [float(alpha) for alpha in alphas]

    def _n_folds(self) -> int:
        return ROW_FOLDS if isinstance(self.cv, str) else int(self.cv)

    def _check_cost(
        self, chunks: RowChunks, sets: list[Ints], folds: Folds, n_rows: int
    ) -> None:
        """Refuse or warn about what would take far longer than it looks."""
        if len(sets) > 1 and chunks.is_read_once:
            msg = (
                f"y has {len(sets)} different sets of missing rows; X would have to "
                "be read as often, but is an iterator: give a list of chunks, an array "
                "or a store, or use partial_fit"
            )
            raise InputError(msg)
        if n_rows <= chunks.n_features:
            return
        n_blocks, gigabytes = len(folds.parts), 8e-9 * chunks.n_features**2
        if n_blocks > MANY_BLOCKS:
            msg = (
                f"the folds of cv cut rows into {n_blocks} blocks, which would take "
                f"{n_blocks * gigabytes:.1f} GB; at most {MANY_BLOCKS} are taken: use "
                "fewer folds, or folds that test every row once"
            )
            raise InputError(msg)
        if len(sets) > MANY_SETS:
            warn_about_sets(len(sets), stacklevel=5)

    def _solve_into(
        self,
        solution: _Solution,
        columns: Ints,
        sums: Sums,
        parts: Ints,
        targets: RidgeTargets,
        alphas: list[float],
    ) -> None:
        """Choose the penalties of targets that share their rows, and solve."""
        best = np.zeros(len(columns), dtype=int)
        if len(alphas) > 1:
            errors = self._held_out_errors(sums.blocks, parts, alphas)
            if errors is None:
                names = first_few(targets.called(columns))
                msg = (
                    f"targets with values in the rows of one fold only: {names}; leave "
                    "them out, or give other groups"
                )
                raise InputError(msg)
            solution.errors[:, columns] = errors
            best = errors.argmin(axis=0)
        chosen = np.asarray(alphas)[best]
        path = self._path(_total(sums.blocks))
        coef = path.coefficients(chosen).T
        solution.alpha[columns] = chosen
        solution.coef[columns] = coef
        offset = coef @ (sums.shift + path.centre)
        solution.intercept[columns] = sums.y_shift + path.y_centre - offset

    def _held_out_errors(
        self, blocks: Sequence[Block], parts: Ints, alphas: list[float]
    ) -> Floats | None:
        """Return mean squared errors, n_alphas x n_targets; None without any fold."""
        errors, weight = [], 0.0
        for fold in parts.T:
            pairs = [
                (block, part)
                for block, part in zip(blocks, fold, strict=True)
                if block.weight > 0
            ]
            tested = [block for block, part in pairs if part == TEST]
            fitted = [block for block, part in pairs if part == TRAIN]
            if not tested or not fitted:
                continue
            path = self._path(_total(fitted))
            errors += [block.squared_errors(path, alphas) for block in tested]
            weight += sum(block.weight for block in tested)
        if not errors:
            return None
        mean: Floats = np.sum(errors, axis=0) / weight
        return mean

    def _path(self, block: Block) -> RidgePath:
        if block.weight <= 0:
            msg = "sample_weight is zero in all rows that have a target"
            raise InputError(msg)
        return block.path(scale=self.scale, centred=self.fit_intercept)

    def _forget(self) -> None:
        for name in ("_stream", "alpha_", "coef_", "intercept_", "cv_errors_"):
            self.__dict__.pop(name, None)

    def _keep(self, solution: _Solution, targets: RidgeTargets) -> None:
        self.alpha_: Any = solution.alpha
        self.coef_: Any = solution.coef
        self.intercept_: Any = solution.intercept
        self.cv_errors_: Any = solution.errors
        if targets.is_single:
            self.alpha_, self.coef_ = float(self.alpha_[0]), self.coef_[0]
            self.intercept_ = float(self.intercept_[0])
            self.cv_errors_ = self.cv_errors_[:, 0]


@dataclass(frozen=True)
class _Solution:
    """What is filled in, target by target."""

    alpha: Floats
    coef: Floats
    intercept: Floats
    errors: Floats

    @classmethod
    def empty(cls, n_alphas: int, n_targets: int, n_features: int) -> _Solution:
        return cls(
            alpha=np.empty(n_targets),
            coef=np.empty((n_targets, n_features)),
            intercept=np.empty(n_targets),
            errors=np.full((n_alphas, n_targets), np.nan),
        )


def _check_several_rows(n_rows: int) -> None:
    if n_rows < 2:
        msg = f"n_samples={n_rows}: penalties are chosen on held-out rows; give more"
        raise InputError(msg)


def _total(blocks: Sequence[Block]) -> Block:
    total: Block = type(blocks[0]).total(blocks)
    return total
