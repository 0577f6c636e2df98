"""What an evaluation fits: features computed once, rows by fold, heads out of fold."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.model_selection import check_cv
from sklearn.pipeline import Pipeline
from sklearn.utils import get_tags

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.gene_tss import GeneTSSAggregator
from enformer_features.estimators.heads import fit_head
from enformer_features.estimators.metrics import FEWEST_ROWS
from enformer_features.estimators.splits.rows import (
    holds_regions,
    row_regions,
    row_windows,
)
from enformer_features.estimators.splits.splitter import Fold, folds_of
from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics.intervals import clusters
from enformer_features.model.handle import ModelHandle
from enformer_features.storage.export import UNS_KEY

RANDOM = "random weights: says nothing about Enformer"
TOO_FEW = "too few groups for an interval"
FEWEST_GROUPS = 3  # of two, half of the draws are one group alone
_LOGGER = logging.getLogger(__name__)
Labels = npt.NDArray[np.object_]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Part:
    """A model in two: features of all rows, and what is fitted on them."""

    model: BaseEstimator
    head: BaseEstimator
    features: Any
    origin: Mapping[str, Any] = field(default_factory=dict)

    @property
    def weights(self) -> str:
        """Name of the network's weights, or ""."""
        return str(self.origin.get("weights", ""))

    @property
    def note(self) -> str:
        """Warning about random weights, or ""."""
        is_named_so = str(self.origin.get("weights_digest")).startswith("untrained:")
        return RANDOM if is_named_so or not self.origin.get("trained", True) else ""

    def describe(self, role: str) -> dict[str, Any]:
        """Return what it is, as plain types."""
        return {
            "role": role,
            "estimator": " ".join(repr(self.model).split()),
            "features": dict(self.origin),
        }


@dataclass(frozen=True)
class Rows:
    """What is asked of rows: measurements, groups, windows."""

    X: Any
    observed: pd.DataFrame
    is_single: bool
    groups: Labels | None
    windows: pd.DataFrame | None

    @classmethod
    def of(
        cls,
        X: Any,
        observed: pd.DataFrame,
        groups: Any,
        sequence_length: int,
        is_single: bool,
    ) -> Rows:
        """Check groups, and place windows where there are regions."""
        windows = None
        if holds_regions(X):
            windows = row_windows(row_regions(X), sequence_length)
        labels = None
        if groups is not None:
            labels = np.asarray(groups, dtype=object)
            if labels.shape != (len(observed),):
                msg = (
                    f"groups has shape {labels.shape}; expected one label for each of "
                    f"the {len(observed)} rows"
                )
                raise InputError(msg)
            if pd.isna(labels).any():
                missing = observed.index[pd.isna(labels)].tolist()
                msg = f"groups is missing for rows {first_few(missing)}"
                raise InputError(msg)
        elif windows is not None:
            labels = windows["chrom"].to_numpy(dtype=object)
        return cls(X, observed, is_single, labels, windows)

    def targets(self, rows: Places, *, fill: bool) -> Any:
        """Return what heads are fitted on, in the dimensions that were given."""
        values = self.observed.iloc[rows]
        if fill:
            values = values.fillna(values.median())
        array = values.to_numpy()
        return array[:, 0] if self.is_single else array

    def draws(self, tested: Places) -> tuple[Labels | None, str]:
        """Return the groups that intervals are drawn from, and what they are."""
        found: list[tuple[Any, str]] = []
        if self.groups is not None:
            found.append((self.groups[tested], "groups"))
        if self.windows is not None:
            overlapping = clusters(self.windows.iloc[tested]).astype(object)
            found.append((overlapping, "clusters of overlapping windows"))
        for labels, what in found:
            n_groups = len(set(labels))
            if n_groups >= FEWEST_GROUPS:
                return labels, f"{n_groups} {what}"
        return None, f"nothing, {TOO_FEW if found else 'there are no groups'}"

    def has_groups(self) -> bool:
        """Tell whether an interval can be expected."""
        return self.groups is not None or self.windows is not None


def divided(model: BaseEstimator) -> tuple[BaseEstimator | None, BaseEstimator]:
    """Part a pipeline behind a first step that learns nothing."""
    if not isinstance(model, Pipeline) or len(model.steps) < 2:
        return None, model
    first = model.steps[0][1]
    if not hasattr(first, "transform") or get_tags(first).requires_fit:
        return None, model
    return first, Pipeline(model.steps[1:])


def folds_of_split(name: str, cv: Any, rows: Rows) -> list[Fold]:
    """Return the folds of a split; refuse empty ones, and rows tested twice."""
    n_rows = len(rows.observed)
    every = np.arange(n_rows)
    found = folds_of(check_cv(cv), rows.X, rows.observed, rows.groups)
    folds = [(every[train], every[test]) for train, test in found]
    for number, (train, test) in enumerate(folds):
        if not len(train) or not len(test):
            msg = (
                f"split {name!r}: fold {number} has {len(train)} rows to train on and "
                f"{len(test)} to test; both are needed"
            )
            raise InputError(msg)
    times = np.bincount(rows_tested(folds), minlength=n_rows)
    if (times > 1).any():
        twice = rows.observed.index[times > 1].tolist()
        msg = (
            f"split {name!r} tests rows more than once: {first_few(twice)}; give "
            "repetitions as splits of their own"
        )
        raise InputError(msg)
    if (times > 0).sum() < FEWEST_ROWS:
        msg = (
            f"split {name!r} tests {(times > 0).sum()} rows; a correlation needs "
            f"{FEWEST_ROWS}"
        )
        raise InputError(msg)
    return folds


def rows_tested(folds: Sequence[Fold]) -> Places:
    """Return the positions of the rows that are tested, ascending."""
    return np.sort(np.concatenate([test for _, test in folds]))


def features_of(models: Mapping[str, BaseEstimator], X: Any) -> dict[str, Part]:
    """Compute features once for all models that begin with the same transformer."""
    known: list[tuple[BaseEstimator, Any, dict[str, Any]]] = []
    parts = {}
    for name, model in models.items():
        first, head = divided(model)
        if first is None:
            data, origin = _given(model, X)
            parts[name] = Part(model, head, data, origin or _origin(model))
            continue
        same = next((entry for entry in known if _are_same(entry[0], first)), None)
        if same is None:
            _LOGGER.info("features of %s", name)
            rows, _ = _given(first, X)
            features = np.asarray(clone(first).fit(rows).transform(rows))
            _check_finite(name, features, X)
            same = first, features, _origin(first)
            known.append(same)
        parts[name] = Part(model, head, *same[1:])
    return parts


def _given(model: BaseEstimator, X: Any) -> tuple[Any, dict[str, Any]]:
    """Return what a model takes of an AnnData: the matrix, or the rows' regions."""
    if get_tags(model).input_tags.two_d_array:
        return as_given(X)
    return getattr(X, "obs", X), {}


def _origin(step: BaseEstimator) -> dict[str, Any]:
    """Return what the features of a network depend on; nothing for others."""
    embedder = embedder_in(step)
    if embedder is None:
        return {}
    known = embedder.provenance()
    if isinstance(embedder.weights, ModelHandle):
        weights = embedder.weights
        known |= {"weights": weights.name, "trained": weights.trained}
    aggregator = aggregator_in(step)
    if aggregator is not None:
        known["starts_of_a_gene"] = aggregator.how
    return known


def embedder_in(model: BaseEstimator) -> EnformerEmbedder | None:
    """Return the embedder that a model begins with, inside an aggregator too."""
    aggregator = aggregator_in(model)
    step = _first_step(model if aggregator is None else aggregator.embedder)
    return step if isinstance(step, EnformerEmbedder) else None


def aggregator_in(model: BaseEstimator) -> GeneTSSAggregator | None:
    """Return the aggregator of several starts that a model begins with, or None."""
    step = _first_step(model)
    return step if isinstance(step, GeneTSSAggregator) else None


def _first_step(model: BaseEstimator) -> BaseEstimator:
    return _first_step(model.steps[0][1]) if isinstance(model, Pipeline) else model


def as_given(X: Any) -> tuple[Any, dict[str, Any]]:
    """Return the matrix of an AnnData with what it tells of its origin, or X."""
    if not hasattr(X, "obs"):
        return X, {}
    written = X.uns.get(UNS_KEY, {}).get("provenance_json", "{}")
    return np.asarray(X.X), json.loads(written)


def _are_same(a: BaseEstimator, b: BaseEstimator) -> bool:
    if type(a) is not type(b):
        return False
    ours, theirs = a.get_params(deep=False), b.get_params(deep=False)
    return all(_is_same_value(ours[name], theirs[name]) for name in ours)


def _is_same_value(a: Any, b: Any) -> bool:
    """Compare parameters, of which estimators and tables have no plain equality."""
    if a is b:
        return True
    if isinstance(a, BaseEstimator) and isinstance(b, BaseEstimator):
        return _are_same(a, b)
    if isinstance(a, pd.DataFrame) or isinstance(b, pd.DataFrame):
        return isinstance(a, pd.DataFrame) and a.equals(b)
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        return np.array_equal(a, b)
    return bool(a == b)


def _check_finite(name: str, features: Any, X: Any) -> None:
    wrong = np.flatnonzero(~np.isfinite(features).all(axis=1))
    if len(wrong):
        index = getattr(X, "obs_names", getattr(X, "index", None))
        called = wrong if index is None else index[wrong]
        msg = (
            f"features of {name!r} are missing for rows {first_few(called.tolist())}; "
            "leave these rows out"
        )
        raise InputError(msg)


def out_of_fold(
    part: Part, rows: Rows, folds: Sequence[Fold], fill_missing: bool, what: str
) -> pd.DataFrame:
    """Predict the tested rows of every fold, in the order of the rows."""
    guesses = np.full(rows.observed.shape, np.nan)
    for number, (train, test) in enumerate(folds):
        _LOGGER.info("%s: fold %d of %d", what, number + 1, len(folds))
        groups = None if rows.groups is None else rows.groups[train]
        targets = rows.targets(train, fill=fill_missing)
        try:
            fitted = fit_head(
                clone(part.head), _take(part.features, train), targets, groups
            )
            found = np.asarray(fitted.predict(_take(part.features, test)))
        except Exception as error:
            error.add_note(f"in fold {number} of {what}")
            raise
        guesses[test] = found.reshape(len(test), -1)
    tested = rows_tested(folds)
    return pd.DataFrame(
        guesses[tested], rows.observed.index[tested], rows.observed.columns
    )


def _take(X: Any, rows: Places) -> Any:
    """Return some rows, of whatever the model takes."""
    if isinstance(X, pd.DataFrame | pd.Series):
        return X.iloc[rows]
    if isinstance(X, list | tuple):
        return [X[row] for row in rows]
    return X[rows]
