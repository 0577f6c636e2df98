"""estimators/fitted.py: what identifies a fitted head."""

from __future__ import annotations

import hashlib
from types import SimpleNamespace

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from enformer_features import EnformerEmbedder
from enformer_features.estimators.fitted import N_PROBES, Head
from enformer_features.estimators.fitted import head_of as named_head

FEATURES = np.random.default_rng(0).exponential(size=(30, 3))
MEASURED = FEATURES @ [1.0, -2.0, 0.5]


def head_of(*steps, y=MEASURED):
    return Head(make_pipeline(*steps).fit(FEATURES, y), ("a", "b", "c"))


@pytest.mark.parametrize("function", [np.log1p, np.sqrt, np.log])
def test_heads_of_features_that_are_not_negative_have_a_digest(function):
    def made(y):
        return head_of(FunctionTransformer(function), Ridge(), y=y)

    assert made(MEASURED).digest == made(MEASURED).digest
    assert made(MEASURED).digest != made(MEASURED + 1).digest


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["liver", "skin"], ["liver", "skin"]),
        (["0", "1"], ["prediction_0", "prediction_1"]),
    ],
)
def test_predictions_are_named_as_the_last_step_was_fitted(names, expected):
    head = Ridge().fit(FEATURES, np.stack([MEASURED, -MEASURED], axis=1))
    head.target_names_ = names
    recipe = SimpleNamespace(feature_names=["a", "b", "c"])
    model = make_pipeline(EnformerEmbedder("untrained-tiny"), head)
    assert named_head(model, recipe).targets == expected
    model.target_names_ = ["up", "down"]
    assert named_head(model, recipe).targets == ["up", "down"]


class Logarithm(Ridge):
    """Predicts a logarithm, which negative features have none of."""

    def predict(self, X):
        return np.log1p(X).sum(axis=1) + super().predict(X)


def test_predictions_that_are_not_finite_are_made_of_other_features():
    digests = {head_of(Logarithm(), y=y).digest for y in (MEASURED, 2 * MEASURED)}
    assert len(digests) == 2


def test_the_digest_of_other_heads_is_of_signed_features():
    head = head_of(StandardScaler(), Ridge())
    drawn = np.random.default_rng(0)
    size = 10.0 ** drawn.uniform(-2, 2, (N_PROBES, 1))
    predicted = head.predict(size * drawn.normal(size=(N_PROBES, 3)))
    rounded = [f"{value:.6e}" for value in predicted.flat]
    text = "\n".join([repr(head.steps), *rounded])
    assert head.digest == hashlib.sha256(text.encode()).hexdigest()
