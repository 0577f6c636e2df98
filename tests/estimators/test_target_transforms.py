import numpy as np
import pandas as pd
import pytest
import sklearn
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy import stats
from sklearn.base import clone
from sklearn.linear_model import LinearRegression

from enformer_features.estimators.ridge.estimator import GroupedRidgeCV
from enformer_features.estimators.target_transforms import (
    TRANSFORMS,
    CompleteTargets,
    LogTransform,
    MaskedTargetRegressor,
    RankTransform,
    make_transform,
)
from enformer_features.exceptions import InputError

measured = arrays(np.float64, (7, 3), elements=st.floats(0, 1e4))


@given(y=measured)
@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_invert_and_keep_what_is_missing(name, y):
    y[2, 1] = np.nan
    transform = make_transform(name).fit(y)
    there = transform.transform(y)
    np.testing.assert_array_equal(np.isnan(there), np.isnan(y))
    back = transform.inverse_transform(there)
    np.testing.assert_allclose(back, y, rtol=1e-6, atol=1e-6)


@given(y=measured)
def test_ranks_are_those_of_scipy(y):
    ranks = (stats.rankdata(y, axis=0) - 0.5) / len(y)
    np.testing.assert_allclose(RankTransform().fit_transform(y), ranks)


def test_negative_values_have_no_logarithm_and_are_named():
    y = pd.DataFrame({"liver": [1.0, -2.0], "brain": [-0.5, 0.0]}, index=["TP53", "A"])
    with pytest.raises(InputError, match=r"no logarithm: TP53 brain, A liver; are"):
        LogTransform().fit(y)
    with pytest.raises(InputError, match="no logarithm: 0 0"):
        LogTransform().fit([[1.0]]).transform([[-1.0]])


@pytest.mark.parametrize("c", [0, -1, np.inf])
def test_the_constant_must_be_greater_than_zero(c):
    with pytest.raises(InputError, match=r"c=.* must be greater than 0"):
        LogTransform(c).fit([[1.0]])


def test_a_mistyped_transform_is_refused():
    with pytest.raises(InputError, match="did you mean 'center'"):
        make_transform("centre")


def test_targets_without_a_value_have_no_ranks():
    y = pd.DataFrame({"liver": [1.0, 2.0], "brain": [np.nan, np.nan]})
    with pytest.raises(InputError, match="without a value in any row: brain"):
        RankTransform().fit(y)


class Spy(LinearRegression):
    """Keeps what it was fitted on."""

    def fit(self, X, y, sample_weight=None):
        self.seen_, self.weights_ = y, sample_weight
        return super().fit(X, np.nan_to_num(np.asarray(y)), sample_weight)


def test_labels_reach_the_regressor():
    y = pd.DataFrame({"liver": [1.0, 2.0, 4.0]}, index=["a", "b", "c"])
    model = MaskedTargetRegressor(Spy(), LogTransform(1.0)).fit(np.eye(3), y)
    pd.testing.assert_frame_equal(model.regressor_.seen_, np.log(y + 1.0))
    model.fit(np.eye(3), y["liver"])
    pd.testing.assert_series_equal(model.regressor_.seen_, np.log(y["liver"] + 1.0))
    assert model.predict(np.eye(3)).shape == (3,)


def test_missing_targets_reach_a_head_that_leaves_them_out():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(30, 4))
    y = np.exp(X @ rng.normal(size=(4, 2)))
    y[:5, 0] = np.nan
    model = MaskedTargetRegressor(GroupedRidgeCV(1.0), LogTransform()).fit(X, y)
    alone = GroupedRidgeCV(1.0).fit(X[5:], np.log(y[5:, 0] + 1e-4))
    np.testing.assert_allclose(
        model.predict(X)[:, 0], np.exp(alone.predict(X)) - 1e-4, rtol=1e-9
    )


@pytest.mark.parametrize("is_routed", [True, False])
def test_weights_are_handed_on(is_routed):
    with sklearn.config_context(enable_metadata_routing=is_routed):
        spy = Spy().set_fit_request(sample_weight=True) if is_routed else Spy()
        model = MaskedTargetRegressor(spy, RankTransform())
        model.fit(np.eye(3), [1.0, 2.0, 3.0], sample_weight=[1, 2, 3])
    assert model.regressor_.weights_ == [1, 2, 3]


def test_clone_keeps_both_parts():
    model = clone(MaskedTargetRegressor(Spy(), LogTransform(0.5)))
    assert model.get_params()["transformer__c"] == 0.5


def test_rows_that_lack_a_target_are_named_beside_the_head_that_takes_them():
    y = pd.DataFrame({"liver": [1.0, np.nan, 2.0]}, index=["a", "b", "c"])
    with pytest.raises(InputError, match=r"1 of 3 rows lack a target: b;.*ridge_head"):
        CompleteTargets().fit(np.eye(3), y)


def test_complete_targets_leave_features_as_they_are():
    X = pd.DataFrame(np.eye(3), columns=list("abc"))
    step = CompleteTargets().fit(X, [1, 2, 3])
    assert step.transform(X) is X
    assert list(step.get_feature_names_out()) == list("abc")


def test_a_masked_regressor_scores_the_targets_that_are_there():
    X = np.arange(6.0)[:, None]
    y = np.exp(np.c_[X, 2 * X])
    model = MaskedTargetRegressor(LinearRegression(), LogTransform()).fit(X, y)
    y[2:4, 1] = np.nan
    assert model.score(X, y) == pytest.approx(1, abs=0.01)
