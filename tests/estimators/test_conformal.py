import numpy as np
import pandas as pd
import pytest
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import GroupKFold, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.estimators.conformal import GroupedConformal, half_widths
from enformer_features.estimators.heads import fit_head, ridge_head
from enformer_features.estimators.persistence import load_model, save_model
from enformer_features.exceptions import InputError

GROUPS = np.repeat([f"chr{i}" for i in range(12)], 5)


def rows(seed=0, n_targets=None, groups=GROUPS, effect=0.0):
    """Return features and targets whose noise has a part that groups share."""
    rng = np.random.default_rng(seed)
    codes = pd.factorize(groups)[0]
    shape = (len(groups),) if n_targets is None else (len(groups), n_targets)
    X = rng.normal(size=(len(groups), 2))
    shared = effect * rng.normal(size=(codes.max() + 1, *shape[1:]))[codes]
    y = (
        shared
        + rng.normal(size=shape)
        + (X.sum(axis=1).reshape(-1, *[1] * (len(shape) - 1)))
    )
    return X, y


class Zero(RegressorMixin, BaseEstimator):
    """Predicts 0, so that errors are the targets."""

    def fit(self, X, y):
        self.shape_ = np.shape(y)[1:]
        return self

    def predict(self, X):
        return np.zeros((len(X), *self.shape_))


def test_the_quantile_leaves_room_for_a_group_to_come():
    errors = np.arange(1.0, 10.0)[:, None]  # nine groups of one row
    codes = np.arange(9)
    assert half_widths(errors, codes, 0.1).tolist() == [9]
    assert half_widths(errors, codes, 0.2).tolist() == [8]
    assert half_widths(errors, codes, 0.5).tolist() == [5]


def test_every_group_counts_alike_however_many_rows_it_has():
    errors = np.array([[9.0], [8.0], *[[1.0]] * 100])
    codes = np.array([0, 1, *[2] * 100])
    assert half_widths(errors, codes, 0.5).tolist() == [8]
    assert half_widths(errors, np.arange(102), 0.5).tolist() == [1]


@pytest.mark.parametrize("seed", range(4))
def test_as_few_groups_as_alpha_needs_give_the_largest_error(seed):
    rng = np.random.default_rng(seed)
    codes = np.repeat(np.arange(9), rng.integers(7_000, 70_000, 9))
    errors = rng.exponential(size=(len(codes), 1))
    assert half_widths(errors, codes, 0.1).tolist() == [errors.max()]


def test_intervals_are_around_the_prediction_of_all_rows():
    X, y = rows()
    conformal = GroupedConformal(LinearRegression()).fit(X, y, GROUPS)
    predicted = LinearRegression().fit(X, y).predict(X)
    np.testing.assert_allclose(conformal.predict(X), predicted)
    low, high = conformal.predict_interval(X).T
    np.testing.assert_allclose((low + high) / 2, predicted)
    np.testing.assert_allclose(high - low, 2 * conformal.half_width_[0])


def test_errors_are_those_of_models_that_have_not_seen_the_group():
    X, y = rows()
    conformal = GroupedConformal(LinearRegression(), cv=12).fit(X, y, GROUPS)
    own = GROUPS == "chr3"
    expected = y[own] - LinearRegression().fit(X[~own], y[~own]).predict(X[own])
    np.testing.assert_allclose(conformal.residuals_[own, 0], expected)


def test_new_groups_are_covered_and_rows_held_out_singly_would_not_be():
    groups = np.repeat(np.arange(30), 10)
    X, y = rows(0, groups=groups, effect=2.0)
    by_group, by_row, wanted = [], [], 0.8
    for seed in range(40):
        X, y = rows(seed, groups=groups, effect=2.0)
        old, new = groups < 20, groups >= 20
        for found, labels in ((by_group, groups), (by_row, np.arange(len(groups)))):
            model = make_pipeline(LinearRegression())
            fitted = GroupedConformal(model, alpha=0.2).fit(X[old], y[old], labels[old])
            low, high = fitted.predict_interval(X[new]).T
            found.append(((low <= y[new]) & (y[new] <= high)).mean())
    assert np.mean(by_group) >= wanted - 0.01
    assert np.mean(by_row) < np.mean(by_group) - 0.02


def test_several_targets_have_widths_and_names_of_their_own():
    X, y = rows(n_targets=3)
    y = pd.DataFrame(y * [1, 10, 100], columns=["liver", "brain", "skin"])
    X = pd.DataFrame(X, index=[f"gene{i}" for i in range(len(X))]).rename(columns=str)
    conformal = GroupedConformal(LinearRegression()).fit(X, y, GROUPS)
    assert (np.diff(conformal.half_width_) > 0).all()
    assert conformal.predict_interval(X[:7]).shape == (7, 2, 3)
    table = conformal.interval_table(X[:7])
    assert list(table)[:4] == ["liver", "liver_low", "liver_high", "brain"]
    assert table.index.tolist() == X.index[:7].tolist()
    assert (table["skin_low"] < table["skin"]).all()


def test_missing_targets_are_left_out_of_their_own_width_only():
    X, y = rows(n_targets=2)
    gaps = y.copy()
    gaps[:5, 1] = np.nan
    model = GroupedConformal(ridge_head(1.0), alpha=0.2)
    full, less = (clone(model).fit(X, values, GROUPS) for values in (y, gaps))
    assert np.isnan(less.residuals_[:5, 1]).all()
    assert full.half_width_[0] == pytest.approx(less.half_width_[0])


def test_another_alpha_needs_no_new_fit():
    X, y = rows()
    conformal = GroupedConformal(LinearRegression()).fit(X, y, GROUPS)
    wide, narrow = (np.ptp(conformal.predict_interval(X[:1], a)) for a in (0.1, 0.5))
    assert wide > narrow
    again = GroupedConformal(LinearRegression(), alpha=0.5).fit(X, y, GROUPS)
    assert narrow == pytest.approx(2 * again.half_width_[0])


def test_held_out_coverage_measures_each_group_by_the_others():
    errors = np.where(GROUPS == "chr5", 100.0, 1.0)
    fitted = GroupedConformal(Zero(), alpha=0.2).fit(errors[:, None], errors, GROUPS)
    table = fitted.held_out_coverage().set_index("group")
    assert table.loc["chr5", "covered"] == 0
    assert (table.drop("chr5")["covered"] == 1).all()
    assert table["n"].sum() == len(GROUPS)


def test_regions_are_grouped_by_their_chromosomes():
    X, y = rows()
    regions = [f"{chrom}:{1 + i}-{500 + i}" for i, chrom in enumerate(GROUPS)]
    beside = GroupedConformal(LinearRegression()).fit(X, y, groups=regions)
    named = GroupedConformal(LinearRegression()).fit(X, y, groups=GROUPS)
    np.testing.assert_array_equal(beside.residuals_, named.residuals_)
    alone = GroupedConformal(DummyRegressor()).fit(regions, y)
    assert alone.groups_.tolist() == GROUPS.tolist()


def test_it_is_a_head_of_a_pipeline_that_is_given_groups():
    X, y = rows()
    model = make_pipeline(StandardScaler(), GroupedConformal(ridge_head(cv=3)))
    fitted = fit_head(model, X, y, GROUPS)
    scaled = fitted[:-1].transform(X)
    low, high = fitted[-1].predict_interval(scaled).T
    assert ((low < fitted.predict(X)) & (fitted.predict(X) < high)).all()


def test_it_is_saved_with_its_intervals(tmp_path):
    X, y = rows()
    fitted = GroupedConformal(ridge_head(1.0)).fit(X, y, GROUPS)
    save_model(fitted, tmp_path / "model.efm")
    found = load_model(tmp_path / "model.efm").predict_interval(X, 0.3)
    np.testing.assert_array_equal(found, fitted.predict_interval(X, 0.3))


@pytest.mark.parametrize(
    ("options", "groups", "message"),
    [
        ({}, None, r"there are none: fit\(X, y, groups=genes"),
        ({}, GROUPS[:-1], r"groups has shape \(59,\), X has 60 rows"),
        ({}, [None, *GROUPS[1:]], "groups are missing in rows 0"),
        ({}, np.repeat(["a", "b"], 30), r"needs at least 9 groups, and there are 2"),
        ({"alpha": 0.05}, GROUPS, r"needs at least 19 groups, and there are 12"),
        ({"alpha": 0.9}, ["a"] * 60, r"needs at least 2 groups, and there are 1"),
        ({"alpha": 0}, GROUPS, "alpha=0 must be between 0 and 1"),
        ({"alpha": "10%"}, GROUPS, "alpha='10%' must be between"),
        ({"cv": 1}, GROUPS, "cv=1 must be a whole number, at least 2"),
        ({"cv": KFold(7)}, GROUPS, "divides groups: chr1 are"),
        ({"cv": [([0], [1])]}, GROUPS, "must test each of the 60 rows once"),
    ],
)
def test_mistakes_are_named(options, groups, message):
    X, y = rows()
    with pytest.raises(InputError, match=message):
        GroupedConformal(LinearRegression(), **options).fit(X, y, groups)


def test_a_target_known_in_few_groups_is_named():
    errors = np.ones((60, 2))
    errors[20:, 1] = np.nan
    with pytest.raises(InputError, match="there are 4 with values of target 1"):
        half_widths(errors, pd.factorize(GROUPS)[0], 0.1)


def test_a_splitter_by_groups_is_taken():
    X, y = rows()
    given = GroupedConformal(LinearRegression(), cv=GroupKFold(4)).fit(X, y, GROUPS)
    number = GroupedConformal(LinearRegression(), cv=4).fit(X, y, GROUPS)
    np.testing.assert_array_equal(given.residuals_, number.residuals_)
