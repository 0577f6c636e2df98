"""OutOfDomain: which rows are unlike those that a model was fitted on."""

from __future__ import annotations

from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.decomposition import PCA
from sklearn.model_selection import GroupKFold
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.validation import check_is_fitted

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.splits.rows import holds_regions, row_chroms
from enformer_features.estimators.splits.splitter import check_count
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    check_choice,
    first_few,
)

Distance = Literal["knn", "mahalanobis"]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]
DISTANCES = ("knn", "mahalanobis")
FEWEST_ROWS = 10


class OutOfDomain(BaseEstimator):
    """Flag rows whose prediction rests on little: odd windows, unfamiliar embeddings.

    Three things are looked at: how much of the window is N, whether it leaves its
    chromosome, and how far the row's features are from those of the rows that a model
    was fitted on, compared with how far these are from each other *when whole groups
    are held out*.

    Parameters
    ----------
    embedder : EnformerEmbedder, optional
        Makes features and windows of regions. Without it ``X`` holds features, and
        only distances are looked at.
    distance : {"knn", "mahalanobis"}, default="knn"
        Mean distance to the nearest rows, or distance from the mean of all rows; both
        on principal components of standardised features, for Mahalanobis brought to
        variance 1.
    n_neighbors : int, default=5
    n_components : int, default=20
        Fewer where there are fewer rows.
    quantile : float, default=0.99
        Of the held-out rows' distances; rows beyond it are flagged. Of rows like those
        that were fitted, a share of ``1 - quantile`` is flagged too.
    max_n_fraction : float, default=0.1
        Windows with a larger share of N are flagged.
    cv : int, default=5
        Folds of whole groups that are held out to learn what distances are usual.

    Attributes
    ----------
    held_out_ : ndarray of float64, shape (n_rows,)
        Distances of the fitted rows from the rows of other folds, ascending.
    threshold_ : float

    See Also
    --------
    enformer_features.estimators.conformal.GroupedConformal : Intervals, which hold for
        rows in the domain only.

    Notes
    -----
    A row that is not flagged may be predicted badly all the same. The network itself
    may have been trained on the row's region; see
    :func:`~enformer_features.leakage_report`.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> groups = np.repeat(np.arange(10), 20)
    >>> domain = OutOfDomain().fit(rng.normal(size=(200, 8)), groups=groups)
    >>> flags = domain.flags(np.stack([np.zeros(8), np.full(8, 9.0)]))
    >>> flags["reasons"].tolist()
    ['', 'features unlike those of the rows fitted']
    """

    def __init__(
        self,
        embedder: EnformerEmbedder | None = None,
        *,
        distance: Distance = "knn",
        n_neighbors: int = 5,
        n_components: int = 20,
        quantile: float = 0.99,
        max_n_fraction: float = 0.1,
        cv: int = 5,
    ) -> None:
        self.embedder = embedder
        self.distance = distance
        self.n_neighbors = n_neighbors
        self.n_components = n_components
        self.quantile = quantile
        self.max_n_fraction = max_n_fraction
        self.cv = cv

    def fit(self, X: Any, y: Any = None, groups: Any = None) -> Self:
        """Learn what is usual.

        Parameters
        ----------
        X : table or sequence of regions, or features, n_rows
            The rows that the model is fitted on.
        y : ignored
        groups : array-like, shape (n_rows,), optional
            Labels, such as chromosomes; by default those of the regions in ``X``.

        Returns
        -------
        OutOfDomain
            Itself.

        Raises
        ------
        InputError, InputTypeError
            For parameters that cannot be used, too few rows or groups, and rows
            without features.
        """
        self._check_parameters()
        features = self._features(X)
        missing = np.flatnonzero(~np.isfinite(features).all(axis=1)).tolist()
        if missing:
            msg = f"features are missing for rows {first_few(missing)}; leave them out"
            raise InputError(msg)
        if len(features) < FEWEST_ROWS:
            msg = f"{len(features)} rows are too few; at least {FEWEST_ROWS} are needed"
            raise InputError(msg)
        labels = _labels(X, groups, len(features))
        n_groups = len(set(labels))
        if n_groups < 2:
            msg = (
                "all rows are of one group; what is usual is learnt from whole groups "
                "that are held out: give groups= of at least 2"
            )
            raise InputError(msg)
        found = np.empty(len(features))
        folds = GroupKFold(min(self.cv, n_groups))
        for train, test in folds.split(features, groups=labels):
            others = _fit_space(self, features[train])
            found[test] = _distances(*others, features[test])
        self.held_out_ = np.sort(found)
        self.threshold_ = float(np.quantile(self.held_out_, self.quantile))
        self.space_, self.nearest_ = _fit_space(self, features)
        self.n_features_in_ = features.shape[1]
        return self

    def flags(self, X: Any) -> pd.DataFrame:
        """Say for every row what is odd about it.

        Parameters
        ----------
        X : table or sequence of regions, or features, n_rows
            As for `fit`.

        Returns
        -------
        DataFrame
            Rows of ``X``, with its index if it has one: ``distance``; ``percentile``
            (of the held-out rows' distances, that are smaller); with an embedder
            ``n_fraction`` and ``off_edge``; ``out_of_domain`` (bool) and ``reasons``,
            with "; " between, or "".
        """
        check_is_fitted(self)
        features = self._features(X)
        if features.shape[1] != self.n_features_in_:
            msg = (
                f"X has {features.shape[1]} features, the rows that were fitted "
                f"{self.n_features_in_}"
            )
            raise InputError(msg)
        good = np.asarray(np.isfinite(features).all(axis=1))
        distance = np.full(len(features), np.nan)
        if good.any():
            distance[good] = _distances(self.space_, self.nearest_, features[good])
        n_below = np.searchsorted(self.held_out_, distance, side="left")
        percentile = 100 * n_below / len(self.held_out_)
        reasons: list[list[str]] = [[] for _ in features]
        _note(reasons, ~good, "no features")
        _note(
            reasons,
            np.greater(distance, self.threshold_),
            "features unlike those of the rows fitted",
        )
        columns: dict[str, Any] = {
            "distance": distance,
            "percentile": np.where(good, percentile, np.nan),
        }
        if self.embedder is not None:
            windows = self.embedder.windows(X)
            columns |= self._look_at(windows, reasons)
        index = getattr(X, "obs_names", getattr(X, "index", None))
        columns["out_of_domain"] = [bool(found) for found in reasons]
        columns["reasons"] = ["; ".join(found) for found in reasons]
        return pd.DataFrame(
            columns, index=index if isinstance(index, pd.Index) else None
        )

    def _look_at(
        self, windows: pd.DataFrame, reasons: list[list[str]]
    ) -> dict[str, npt.NDArray[Any]]:
        """Note what is odd about windows."""
        n_fraction = windows["n_fraction"].to_numpy(np.float64)
        of_n = f"more than {self.max_n_fraction:.0%} of the window is N"
        _note(reasons, n_fraction > self.max_n_fraction, of_n)
        found: dict[str, npt.NDArray[Any]] = {"n_fraction": n_fraction}
        if "off_edge" in windows:
            found["off_edge"] = windows["off_edge"].to_numpy(bool)
            _note(reasons, found["off_edge"], "the window leaves its chromosome")
        return found

    def _features(self, X: Any) -> Floats:
        if self.embedder is not None:
            return np.asarray(self.embedder.transform(X), dtype=np.float64)
        if holds_regions(X):
            msg = (
                "X holds regions, which need an embedder: OutOfDomain(EnformerEmbedder("
                "...)), or give features"
            )
            raise InputError(msg)
        features = np.asarray(getattr(X, "X", X), dtype=np.float64)
        if features.ndim != 2:
            msg = f"X has shape {features.shape}; expected (n_rows, n_features)"
            raise InputError(msg)
        return features

    def _check_parameters(self) -> None:
        embedder: Any = self.embedder
        if not isinstance(embedder, EnformerEmbedder | None):
            msg = (
                f"embedder is a {type(embedder).__name__}; expected an "
                "EnformerEmbedder, such as the first step of a pipeline"
            )
            raise InputTypeError(msg)
        check_choice("distance", self.distance, DISTANCES)
        for name, least in (("n_neighbors", 1), ("n_components", 1), ("cv", 2)):
            check_count(name, getattr(self, name), least)
        for name in ("quantile", "max_n_fraction"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or not 0 <= value <= 1:
                msg = f"{name}={value!r} must be between 0 and 1"
                raise InputError(msg)


def _fit_space(given: OutOfDomain, features: Floats) -> tuple[Pipeline, Any]:
    """Return components of features, and the rows in them if neighbours are asked."""
    n_components = min(given.n_components, len(features) - 1, features.shape[1])
    space = make_pipeline(StandardScaler(), PCA(n_components, random_state=0))
    if given.distance == "mahalanobis":
        space.steps.append(("whiten", StandardScaler()))
        return space.fit(features), None
    n_neighbors = min(given.n_neighbors, len(features))
    nearest = NearestNeighbors(n_neighbors=n_neighbors, algorithm="brute")
    return space, nearest.fit(space.fit_transform(features))


def _distances(space: Pipeline, nearest: Any, features: Floats) -> Floats:
    """Return the distance of every row."""
    places = space.transform(features)
    if nearest is None:
        return np.asarray(np.linalg.norm(places, axis=1), dtype=np.float64)
    return np.asarray(nearest.kneighbors(places)[0].mean(axis=1), dtype=np.float64)


def _labels(X: Any, groups: Any, n_rows: int) -> npt.NDArray[np.object_]:
    """Return the group of every row."""
    if groups is None and not holds_regions(X):
        msg = (
            "what is usual is learnt from whole groups that are held out, and there "
            'are none: fit(X, groups=genes["chrom"])'
        )
        raise InputError(msg)
    if groups is None or holds_regions(groups):
        return np.asarray(row_chroms(X, groups), dtype=object)
    labels = np.asarray(groups, dtype=object)
    if labels.shape != (n_rows,) or pd.isna(labels).any():
        msg = f"groups must be one label for each of the {n_rows} rows"
        raise InputError(msg)
    return labels


def _note(reasons: list[list[str]], rows: Flags, reason: str) -> None:
    """Add a reason to the rows it holds for."""
    for row in np.flatnonzero(rows):
        reasons[row].append(reason)
