"""A model that predicts: an embedder, and the fitted head behind it if there is one."""

from __future__ import annotations

import copy
import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import clone
from sklearn.frozen import FrozenEstimator
from sklearn.pipeline import Pipeline
from sklearn.utils.validation import check_is_fitted

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.inference.recipe import Recipe

Doubles = npt.NDArray[np.float64]
N_PROBES = 256


@dataclass(frozen=True)
class Head:
    """The steps of a fitted pipeline behind its embedder.

    Parameters
    ----------
    steps : Pipeline
    feature_names : tuple of str
        Of the embedder's columns.
    target_names : tuple of str
        Of the predictions, as fitted; empty where nobody knows.
    """

    steps: Pipeline
    feature_names: tuple[str, ...]
    target_names: tuple[str, ...] = ()

    def predict(self, features: Doubles) -> Doubles:
        """Return predictions of pooled features, (n, targets).

        In float64, so that a small effect is not lost in the rounding of a prediction.
        """
        X: Any = features
        if hasattr(self.steps[0], "feature_names_in_"):
            X = pd.DataFrame(features, columns=list(self.feature_names))
        is_predictor = hasattr(self.steps, "predict")
        out = self.steps.predict(X) if is_predictor else self.steps.transform(X)
        values: Doubles = np.asarray(out, dtype=np.float64)
        return values[:, None] if values.ndim == 1 else values

    @property
    def targets(self) -> list[str]:
        """Names of the predictions; ``prediction_0`` ... where they have none."""
        n = self.predict(np.zeros((1, len(self.feature_names)))).shape[1]
        if len(self.target_names) == n:
            return list(self.target_names)
        return [f"prediction_{number}" for number in range(n)]

    @property
    def digest(self) -> str:
        """What identifies the fitted steps: what they are, and what they predict.

        Of drawn features of many sizes; pickles of the same forest differ. Of their
        absolute values where a step is for these only, such as a logarithm.
        """
        drawn = np.random.default_rng(0)
        size = 10.0 ** drawn.uniform(-2, 2, (N_PROBES, 1))
        features = size * drawn.normal(size=(N_PROBES, len(self.feature_names)))
        predicted = self._finite(features)
        if predicted is None:
            with np.errstate(all="ignore"):
                predicted = self.predict(np.abs(features))
        rounded = [f"{value:.6e}" for value in predicted.flat]
        text = "\n".join([repr(self.steps), *rounded])
        return hashlib.sha256(text.encode()).hexdigest()

    def _finite(self, features: Doubles) -> Doubles | None:
        """Return predictions, or None where there are none for such features."""
        try:
            with np.errstate(all="ignore"):
                predicted = self.predict(features)
        except (ValueError, ArithmeticError):
            return None
        return predicted if np.isfinite(predicted).all() else None


def _thawed(model: object) -> Any:
    return model.estimator if isinstance(model, FrozenEstimator) else model


def copy_of(model: Any) -> Any:
    """Return a copy of a model whose head stays fitted, for ``clone``."""
    if isinstance(model, FrozenEstimator):
        return FrozenEstimator(copy_of(model.estimator))
    if isinstance(model, Pipeline) and len(model.steps) > 1:
        twin = copy.copy(model)
        (name, embedder), *others = model.steps
        twin.steps = [(name, clone(embedder)), *copy.deepcopy(others)]
        return twin
    return clone(model, safe=False)


def split_model(model: object) -> tuple[EnformerEmbedder, Pipeline | None]:
    """Return the embedder of a model, and the fitted steps behind it.

    Raises
    ------
    InputTypeError
        When it is neither an embedder nor a pipeline that begins with one.
    InputError
        When the steps behind the embedder are not fitted.
    """
    model = _thawed(model)
    if isinstance(model, EnformerEmbedder):
        return model, None
    first = model.steps[0][1] if isinstance(model, Pipeline) else None
    if not isinstance(model, Pipeline) or not isinstance(first, EnformerEmbedder):
        msg = (
            "the model must be an EnformerEmbedder, or a fitted Pipeline whose first "
            f"step is one; this is a {type(model).__name__}"
            + (f" that begins with a {type(first).__name__}" if first else "")
        )
        raise InputTypeError(msg)
    if len(model.steps) == 1:
        return first, None
    try:
        check_is_fitted(model[-1])
    except Exception as error:
        msg = (
            f"the pipeline's {type(model[-1]).__name__} is not fitted; call "
            "fit(regions, targets) first"
        )
        raise InputError(msg) from error
    return first, model[1:]


def head_of(model: object, recipe: Recipe) -> Head | None:
    """Return the head of a model that :func:`split_model` accepts."""
    _, steps = split_model(model)
    if steps is None:
        return None
    return Head(steps, tuple(recipe.feature_names), _target_names(model, steps))


def _target_names(model: object, steps: Pipeline) -> tuple[str, ...]:
    """Return the names that the model was given, or else those its last step kept.

    Mere numbers, which a step without names counts, are no names.
    """
    for part in (_thawed(model), _thawed(steps[-1])):
        names = [str(name) for name in getattr(part, "target_names_", None) or ()]
        if names and names != [str(number) for number in range(len(names))]:
            return tuple(names)
    return ()
