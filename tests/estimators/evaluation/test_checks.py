"""What is refused before features are computed: gaps, and folds of too few groups."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold, LeaveOneGroupOut
from sklearn.pipeline import make_pipeline

from enformer_features.estimators.controls import PermutedTargets, TrainingMean
from enformer_features.estimators.evaluation.checks import (
    group_folds,
    refuses_missing,
)
from enformer_features.estimators.evaluation.run import evaluate
from enformer_features.estimators.heads import lasso_head, mlp_head, ridge_head
from enformer_features.exceptions import InputError


class Expensive(TransformerMixin, BaseEstimator):
    def fit(self, X, y=None):
        return self

    def transform(self, X):
        pytest.fail("features were computed")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        return tags


@pytest.fixture
def X():
    return pd.DataFrame({"f": np.arange(12.0)}, [f"gene_{i}" for i in range(12)])


@pytest.fixture
def y(X):
    return pd.DataFrame({"a": np.sin(X["f"]), "b": np.cos(X["f"])})


@pytest.mark.parametrize(
    ("model", "refuses"),
    [
        (ridge_head(1.0), False),
        (ridge_head(1.0, target_transform="rank"), False),
        (PermutedTargets(ridge_head(1.0)), False),
        (TrainingMean(), False),
        (lasso_head(0.1), True),
        (mlp_head(target_transform="log"), True),
        (make_pipeline(Expensive(), lasso_head(0.1)), True),
        (GridSearchCV(Ridge(), {"alpha": [1.0]}), True),
    ],
)
def test_heads_that_take_no_gaps_are_known(model, refuses):
    assert refuses_missing(model) is refuses


def test_gaps_are_refused_by_name_before_features_are_computed(X, y):
    y.loc["gene_7", "b"] = np.nan
    model = make_pipeline(Expensive(), lasso_head(0.1))
    with pytest.raises(InputError, match=r"1 of 12 rows .* gene_7; .* --fill-missing"):
        evaluate({"lasso": model}, X, y, splits={"rows": 3})


def test_gaps_of_rows_that_are_only_tested_are_no_matter(X, y):
    y.loc["gene_7", "b"] = np.nan
    once = [(np.arange(6), np.arange(6, 12))]
    found = evaluate({"lasso": lasso_head(0.1)}, X, y, splits={"once": once})
    assert found.per_target["n"].tolist() == [6, 5]


def test_folds_of_groups_are_found_wherever_they_are():
    assert group_folds(make_pipeline(Expensive(), ridge_head())) == 5
    assert group_folds(ridge_head(cv="rows")) == 0
    assert group_folds(PermutedTargets(lasso_head(cv=GroupKFold(4)))) == 4


def test_too_few_training_groups_are_told_before_features_are_computed(X, y):
    model = make_pipeline(Expensive(), ridge_head())
    given = {"splits": {"c": LeaveOneGroupOut()}}
    match = r"'r' has cv=5, .* 3 groups in fold 0 of split 'c': 1, 2, 3; cv=3 is the"
    with pytest.raises(InputError, match=match):
        evaluate({"r": model}, X, y, groups=np.arange(12) % 4, **given)
    with pytest.raises(InputError, match="no cv of groups fits: give a single penalty"):
        evaluate({"r": model}, X, y, groups=np.arange(12) % 2, **given)
    with pytest.raises(InputError, match="'r' chooses its penalty on held-out groups"):
        evaluate({"r": model}, X, y, splits={"rows": 3})
