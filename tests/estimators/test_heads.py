import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

from enformer_features.estimators.heads import (
    elastic_net_head,
    expecto_head,
    fit_head,
    lasso_head,
    mlp_head,
    pls_head,
    ridge_head,
    xgboost_head,
)
from enformer_features.estimators.persistence import load_model, save_model
from enformer_features.exceptions import InputError

HEADS = {
    "ridge": lambda **more: ridge_head(cv=3, **more),
    "ridge, fixed": lambda **more: ridge_head(10.0, **more),
    "lasso": lambda **more: lasso_head(cv=GroupKFold(3), **more),
    "lasso, fixed": lambda **more: lasso_head(0.01, **more),
    "elastic net": lambda **more: elastic_net_head(cv=3, l1_ratio=[0.5, 0.9], **more),
    "elastic net, fixed": lambda **more: elastic_net_head(0.01, **more),
    "xgboost": lambda **more: xgboost_head(
        n_components=4, n_estimators=20, learning_rate=0.3, **more
    ),
    "expecto": lambda **more: expecto_head(n_jobs=1, **more),
    "expecto, tuned": lambda **more: expecto_head("tuned", cv=3, n_jobs=1, **more),
    "pls": lambda **more: pls_head(3, **more),
    "mlp": lambda **more: mlp_head((8,), alpha=0.1, **more),
}
every_head = pytest.mark.parametrize("name", HEADS)


@pytest.fixture(scope="module")
def data():
    """Measurements greater than zero, of rows on three chromosomes."""
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 6)).astype(np.float32)
    y = np.exp(X @ rng.normal(size=(6, 2)) / 2)
    return X, pd.DataFrame(y, columns=["liver", "brain"]), np.arange(60) % 3


@every_head
@pytest.mark.parametrize("target_transform", [None, "log"])
def test_every_head_learns_several_targets_and_is_saved(
    name, target_transform, data, tmp_path
):
    X, y, groups = data
    head = fit_head(HEADS[name](target_transform=target_transform), X, y, groups)
    predicted = head.predict(X)
    for target in range(2):
        found = np.corrcoef(predicted[:, target], y.iloc[:, target])[0, 1]
        assert found > 0.6
    if "tuned" not in name and name not in ("lasso",):
        save_model(head, tmp_path / "head.model")
        again = load_model(tmp_path / "head.model")
        np.testing.assert_allclose(again.predict(X), predicted, rtol=1e-6)


@every_head
def test_heads_are_pipelines_and_clone(name):
    head = HEADS[name](target_transform=None)
    assert isinstance(head, Pipeline)
    assert repr(clone(head)) == repr(head)


@every_head
def test_missing_targets_are_left_out_or_refused(name, data):
    X, y, groups = data
    y = y.copy()
    y.iloc[3, 1] = np.nan
    head = HEADS[name](target_transform="rank")
    if name.startswith("ridge"):
        assert np.isfinite(fit_head(head, X, y, groups).predict(X)).all()
    else:
        with pytest.raises(InputError, match=r"60 rows lack a target: 3;.*ridge_head"):
            fit_head(head, X, y, groups)


@every_head
def test_negative_targets_are_refused_under_a_logarithm(name, data):
    X, y, groups = data
    with pytest.raises(InputError, match="negative targets have no logarithm: 0 liver"):
        fit_head(HEADS[name](target_transform="log"), X, -y, groups)


def test_groups_go_only_to_heads_that_split_by_them(data):
    X, y, groups = data
    plain = fit_head(make_pipeline(StandardScaler(), Ridge()), X, y, groups)
    assert plain.predict(X).shape == (60, 2)
    with pytest.raises(InputError, match="as many groups, and there are 3"):
        fit_head(ridge_head(cv=4), X, y, groups)
    with pytest.raises(InputError, match="was given no groups"):
        fit_head(ridge_head(cv=3), X, y)


def test_without_an_alpha_lasso_splits_by_the_groups_that_it_is_given(data):
    X, y, groups = data
    head = lasso_head(cv=GroupKFold(3))
    fitted = fit_head(head, X, y, groups)[-1].estimators_[0]
    folds = list(GroupKFold(3).split(X, groups=groups))
    by_hand = lasso_head(cv=folds).fit(X, y)[-1].estimators_[0]
    assert fitted.alpha_ == by_hand.alpha_


def test_published_settings_of_expecto_are_ridge_with_rows_times_the_penalty(data):
    """What the docstring says xgboost does today."""
    X, y, _ = data
    linear = expecto_head(target_transform=None, n_jobs=1)
    linear[-1].set_params(learning_rate=0.5, n_estimators=300)
    theirs = Ridge(alpha=100 * len(X)).fit(X, y).coef_
    ours = linear.fit(X, y)[-1].coef_.reshape(6, 2).T
    np.testing.assert_allclose(ours, theirs, rtol=2e-3, atol=1e-6)


def test_the_tuned_variant_chooses_by_groups(data):
    X, y, groups = data
    search = fit_head(HEADS["expecto, tuned"](), X, y, groups).regressor_[-1]
    assert isinstance(search.best_estimator_, XGBRegressor)
    assert (search.n_splits_, search.best_params_["reg_lambda"] < 1) == (3, True)


def test_another_version_of_expecto_is_refused():
    with pytest.raises(InputError, match="version='2019' is not one of '2018', 'tun"):
        expecto_head("2019")


@pytest.mark.parametrize("make", [lasso_head, elastic_net_head])
def test_a_lasso_takes_one_target_in_one_dimension(make, data):
    X, y, groups = data
    head = fit_head(make(cv=GroupKFold(3)), X, y["liver"], groups)
    both = fit_head(make(cv=GroupKFold(3)), X, y, groups)
    np.testing.assert_allclose(head.predict(X), both.predict(X)[:, 0])


@pytest.mark.parametrize("head", [expecto_head("tuned"), lasso_head(cv=GroupKFold(3))])
def test_heads_that_split_by_groups_say_how_groups_are_given(head, data):
    X, y, _ = data
    with pytest.raises(InputError, match=r"was given no groups: fit_head\(head, X"):
        head.fit(X, y)


@pytest.mark.parametrize(
    "head", [xgboost_head(n_estimators=2), pls_head(100)], ids=["xgboost", "pls"]
)
def test_components_are_as_many_as_the_rows_have(head, data):
    X, y, _ = data
    assert head.fit(X[:5], y[:5]).predict(X).shape == (60, 2)
