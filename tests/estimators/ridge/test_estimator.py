import pickle

import h5py
import numpy as np
import pandas as pd
import pytest
import sklearn
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.metrics import r2_score
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneGroupOut,
    ShuffleSplit,
    cross_val_predict,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from enformer_features.estimators.persistence import load_model, save_model
from enformer_features.estimators.ridge.estimator import ALPHAS, GroupedRidgeCV
from enformer_features.exceptions import (
    EnformerFeaturesWarning,
    InputError,
    InputTypeError,
    TargetWarning,
)


@pytest.mark.filterwarnings("ignore:partial_fit begins anew")
@parametrize_with_checks([GroupedRidgeCV(cv="rows"), GroupedRidgeCV(10.0)])
def test_every_estimator_check_passes_with_no_expected_failure(estimator, check):
    check(estimator)


def make_data(n_rows=71, n_features=5, n_targets=3, seed=0):
    """Rows of four chromosomes; features of different scales, one far from zero."""
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(n_rows, n_features)) * np.logspace(-1, 1, n_features)
    X[:, 0] += 10
    weights = rng.normal(size=(n_features, n_targets)) / X.std(axis=0)[:, None]
    y = X @ weights + rng.normal(size=(n_rows, n_targets))
    groups = np.array(["chr1", "chr2", "chr3", "chr4"])[rng.integers(0, 4, n_rows)]
    groups[:4] = ["chr1", "chr2", "chr3", "chr4"]
    return X.astype(np.float32), y, groups


def direct(X, y, alpha, weights=None, scale=True):
    """Ridge in float64, as scikit-learn solves it."""
    X = np.asarray(X, dtype=np.float64)
    steps = [StandardScaler()] if scale else []
    model = make_pipeline(*steps, Ridge(alpha=alpha, solver="svd"))
    given = {"ridge__sample_weight": weights}
    if scale:
        given["standardscaler__sample_weight"] = weights
    return model.fit(X, y, **given)


def errors_of_every_fit(X, y, groups, alphas, n_folds):
    """Return mean squared errors, by fitting every fold with every penalty."""
    X, errors = X.astype(np.float64), np.zeros((len(alphas), y.shape[1]))
    for train, test in GroupKFold(n_folds).split(X, groups=groups):
        for i, alpha in enumerate(alphas):
            predicted = direct(X[train], y[train], alpha).predict(X[test])
            errors[i] += ((predicted - y[test]) ** 2).sum(axis=0)
    return errors / len(y)


@settings(max_examples=40, deadline=None)
@given(
    n_rows=st.integers(5, 60),
    n_features=st.integers(1, 40),
    n_targets=st.integers(1, 3),
    power=st.floats(-2, 5),
    scale=st.booleans(),
    seed=st.integers(0, 10_000),
)
def test_at_a_fixed_penalty_it_is_ridge_in_float64(
    n_rows, n_features, n_targets, power, scale, seed
):
    X, y, _ = make_data(n_rows, n_features, n_targets, seed)
    weights = np.random.default_rng(seed).integers(1, 4, n_rows).astype(float)
    ours = GroupedRidgeCV(10**power, scale=scale).fit(X, y, sample_weight=weights)
    theirs = direct(X, y, 10**power, weights, scale).predict(X.astype(np.float64))
    np.testing.assert_allclose(
        ours.predict(X), theirs.reshape(y.shape), rtol=1e-6, atol=1e-6
    )


@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 10_000), n_features=st.sampled_from([3, 7, 101]))
def test_penalties_are_those_of_fitting_every_fold_with_every_penalty(seed, n_features):
    X, y, groups = make_data(n_features=n_features, seed=seed)
    alphas = [0.1, 3.0, 50.0, 1000.0]
    ours = GroupedRidgeCV(alphas, cv=3).fit(X, y, groups=groups)
    errors = errors_of_every_fit(X, y, groups, alphas, 3)
    np.testing.assert_allclose(ours.cv_errors_, errors, rtol=1e-6)
    np.testing.assert_array_equal(ours.alpha_, np.array(alphas)[errors.argmin(axis=0)])


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), n_features=st.sampled_from([4, 90]))
def test_missing_targets_equal_fitting_each_column_alone(seed, n_features):
    X, y, groups = make_data(n_features=n_features, n_targets=4, seed=seed)
    y[np.random.default_rng(seed).random(y.shape) < 0.2] = np.nan
    y[:, 2] = np.where(np.isnan(y[:, 1]), np.nan, y[:, 2])
    folds = list(GroupKFold(4).split(X, groups=groups))
    together = GroupedRidgeCV(cv=folds).fit(X, y)
    for target, column in enumerate(y.T):
        known = np.isfinite(column)
        alone = GroupedRidgeCV(cv=LeaveOneGroupOut())
        alone.fit(X[known], column[known], groups=groups[known])
        assert alone.alpha_ == together.alpha_[target]
        np.testing.assert_allclose(
            together.coef_[target], alone.coef_, rtol=1e-6, atol=1e-9
        )


def test_a_constant_feature_has_no_coefficient_and_harms_nothing():
    X, y, groups = make_data()
    X[:, 3] = 0.1
    head = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    assert not head.coef_[:, 3].any()
    others = np.delete(X, 3, axis=1)
    without = GroupedRidgeCV(cv=4).fit(others, y, groups=groups)
    np.testing.assert_allclose(head.predict(X), without.predict(others), rtol=1e-9)


def test_without_an_intercept_it_is_ridge_without_one():
    X, y, _ = make_data()
    ours = GroupedRidgeCV(5.0, scale=False, fit_intercept=False).fit(X, y)
    theirs = Ridge(5.0, fit_intercept=False).fit(X.astype(np.float64), y)
    np.testing.assert_allclose(ours.coef_, theirs.coef_, rtol=1e-6)
    assert not ours.intercept_.any()


def test_weights_are_repeated_rows():
    X, y, groups = make_data()
    weights = np.random.default_rng(1).integers(0, 3, len(X))
    weighted = GroupedRidgeCV(cv=4).fit(X, y, groups=groups, sample_weight=weights)
    again = np.repeat(np.arange(len(X)), weights)
    repeated = GroupedRidgeCV(cv=4).fit(X[again], y[again], groups=groups[again])
    np.testing.assert_allclose(weighted.coef_, repeated.coef_, rtol=1e-6, atol=1e-9)


def test_one_dimension_gives_one_dimension():
    X, y, groups = make_data()
    head = GroupedRidgeCV(cv=4).fit(X, y[:, 0], groups=groups)
    assert head.predict(X).shape == (71,)
    assert (head.coef_.shape, head.cv_errors_.shape) == ((5,), (13,))
    assert isinstance(head.alpha_, float)


# Where rows come from


@pytest.fixture
def stored(tmp_path):
    """The same rows as a memory map, in zarr, in HDF5, and as chunks."""
    X, _, _ = make_data()
    np.save(tmp_path / "x.npy", X)
    in_zarr = zarr.create_array(str(tmp_path / "x.zarr"), data=X, chunks=(7, 5))
    with h5py.File(tmp_path / "x.h5", "w") as file:
        yield {
            "memory map": np.load(tmp_path / "x.npy", mmap_mode="r"),
            "zarr": in_zarr,
            "h5py": file.create_dataset("X", data=X, chunks=(11, 5)),
            "list of chunks": [X[:13], X[13:14], X[14:]],
            "DataFrame": pd.DataFrame(X, columns=list("abcde")),
        }


@pytest.mark.parametrize(
    "kind", ["memory map", "zarr", "h5py", "list of chunks", "DataFrame"]
)
def test_rows_may_lie_anywhere(stored, kind, monkeypatch):
    monkeypatch.setattr("enformer_features.estimators.ridge.chunks.CHUNK_BYTES", 40 * 9)
    X, y, groups = make_data()
    y[3, 1] = np.nan
    there = GroupedRidgeCV(cv=4).fit(stored[kind], y, groups=groups)
    here = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    np.testing.assert_allclose(there.coef_, here.coef_, rtol=1e-9)
    predicted = there.predict(stored[kind])
    np.testing.assert_allclose(predicted, here.predict(X), rtol=1e-9)


def test_an_iterator_is_read_once():
    X, y, groups = make_data()
    chunks = (X[i : i + 10] for i in range(0, 71, 10))
    once = GroupedRidgeCV(cv=4).fit(chunks, y, groups=groups)
    whole = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    np.testing.assert_allclose(once.coef_, whole.coef_, rtol=1e-9)


def test_an_iterator_cannot_be_read_for_several_sets_of_missing_rows():
    X, y, groups = make_data()
    y[0, 0] = np.nan
    with pytest.raises(InputError, match="2 different sets of missing rows; X"):
        GroupedRidgeCV(cv=4).fit(iter([X]), y, groups=groups)


def test_chunks_that_do_not_fit_are_refused():
    X, y, groups = make_data()
    head = GroupedRidgeCV(cv=4)
    with pytest.raises(InputError, match="has 4 features, the first one 5"):
        head.fit([X[:9], X[9:, :4]], y, groups=groups)
    with pytest.raises(InputError, match="y has 71 rows, X has 70"):
        head.fit([X[:70]], y, groups=groups)
    with pytest.raises(InputError, match="without any chunk"):
        head.fit(iter([]), y, groups=groups)


@settings(max_examples=15, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    cuts=st.lists(st.integers(1, 70), max_size=4, unique=True),
    gaps=st.sampled_from([0.0, 0.15]),
)
def test_partial_fit_gives_what_fit_gives(seed, cuts, gaps):
    X, y, groups = make_data(seed=seed)
    y[np.random.default_rng(seed).random(y.shape) < gaps] = np.nan
    streamed = GroupedRidgeCV(cv=4)
    for part in np.split(np.arange(71), sorted(cuts)):
        streamed.partial_fit(X[part], y[part], groups=groups[part])
    whole = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    np.testing.assert_allclose(streamed.predict(X), whole.predict(X), rtol=1e-7)
    np.testing.assert_array_equal(streamed.alpha_, whole.alpha_)
    np.testing.assert_allclose(streamed.cv_errors_, whole.cv_errors_, rtol=1e-7)


def test_partial_fit_goes_on_after_a_prediction():
    X, y, groups = make_data()
    streamed = GroupedRidgeCV(cv=4).partial_fit(X[:40], y[:40], groups=groups[:40])
    early = streamed.predict(X)
    streamed.partial_fit(X[40:], y[40:], groups=groups[40:])
    whole = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    np.testing.assert_allclose(streamed.predict(X), whole.predict(X), rtol=1e-7)
    assert not np.allclose(early, whole.predict(X), rtol=1e-5)


def test_groups_that_come_again_stay_in_their_fold():
    X, y, _ = make_data()
    groups = np.array(list("aabbcabcabcddaa") * 5)[:71]
    streamed = GroupedRidgeCV(cv=2)
    for part in np.split(np.arange(71), [5, 20, 50]):
        streamed.partial_fit(X[part], y[part], groups=groups[part])
    streamed.solve()
    fold = np.array([streamed._stream.fold_of[group] for group in groups])
    folds = [(np.flatnonzero(fold != k), np.flatnonzero(fold == k)) for k in (0, 1)]
    by_hand = GroupedRidgeCV(cv=folds).fit(X, y)
    np.testing.assert_allclose(streamed.cv_errors_, by_hand.cv_errors_, rtol=1e-7)


def test_partial_fit_needs_folds_that_do_not_know_the_rows_to_come():
    X, y, groups = make_data()
    with pytest.raises(InputError, match="rows to come cannot be split"):
        GroupedRidgeCV(cv=KFold(3)).partial_fit(X, y)
    begun = GroupedRidgeCV(cv=4).partial_fit(X, y, groups)
    with pytest.raises(InputError, match="y has 2 targets, before 3"):
        begun.partial_fit(X, y[:, :2], groups)


def test_partial_fit_after_fit_begins_anew_and_says_so():
    X, y, groups = make_data()
    head = GroupedRidgeCV(cv=4).fit(X * 2, y, groups)
    with pytest.warns(EnformerFeaturesWarning, match="partial_fit begins anew"):
        head.partial_fit(X, y, groups)
    fresh = GroupedRidgeCV(cv=4).fit(X, y, groups)
    np.testing.assert_allclose(head.predict(X), fresh.predict(X), rtol=1e-9)


def test_partial_fit_with_too_few_groups_fails_when_it_is_solved():
    X, y, groups = make_data()
    begun = GroupedRidgeCV(cv=5).partial_fit(X, y, groups)
    with pytest.raises(InputError, match="as many groups, and there are 4: chr"):
        begun.predict(X)


# scikit-learn


@pytest.fixture
def routing():
    with sklearn.config_context(enable_metadata_routing=True):
        yield


def test_groups_reach_it_in_a_pipeline_by_its_name():
    X, y, groups = make_data()
    model = make_pipeline(StandardScaler(), GroupedRidgeCV(cv=4))
    model.fit(X, y, groupedridgecv__groups=groups)
    alone = GroupedRidgeCV(cv=4).fit(X, y, groups=groups)
    np.testing.assert_allclose(model.predict(X), alone.predict(X), rtol=1e-4)


@pytest.mark.usefixtures("routing")
def test_groups_are_routed_to_the_head_and_the_splitter():
    X, y, groups = make_data()
    model = make_pipeline(StandardScaler(), GroupedRidgeCV(cv=3))
    params = {"groups": groups}
    scores = cross_validate(
        model, X, y, cv=LeaveOneGroupOut(), params=params, error_score="raise"
    )
    assert scores["test_score"].shape == (4,)
    predicted = cross_val_predict(model, X, y, cv=LeaveOneGroupOut(), params=params)
    assert predicted.shape == y.shape


@pytest.mark.usefixtures("routing")
def test_weights_are_routed_when_asked_for():
    X, y, groups = make_data()
    weights = np.arange(71)
    head = GroupedRidgeCV(cv=4).set_fit_request(sample_weight=True)
    model = make_pipeline(head).fit(X, y, groups=groups, sample_weight=weights)
    alone = GroupedRidgeCV(cv=4).fit(X, y, groups=groups, sample_weight=weights)
    np.testing.assert_array_equal(model.predict(X), alone.predict(X))


@pytest.mark.usefixtures("routing")
def test_it_works_in_a_grid_search():
    X, y, groups = make_data()
    grid = {"scale": [True, False]}
    search = GridSearchCV(
        GroupedRidgeCV(cv=3), grid, cv=LeaveOneGroupOut(), error_score="raise"
    )
    assert search.fit(X, y, groups=groups).best_params_["scale"] in (True, False)


def test_any_splitter_of_scikit_learn_may_choose():
    X, y, _ = make_data()
    repeated = GroupedRidgeCV(cv=ShuffleSplit(3, random_state=0)).fit(X, y)
    splits = list(ShuffleSplit(3, random_state=0).split(X))
    listed = GroupedRidgeCV(cv=splits).fit(X, y)
    np.testing.assert_array_equal(repeated.cv_errors_, listed.cv_errors_)


def test_clone_and_repr():
    head = GroupedRidgeCV([1, 10], cv="rows", scale=False)
    assert clone(head).get_params() == head.get_params()
    assert repr(head) == "GroupedRidgeCV(alphas=[1, 10], cv='rows', scale=False)"
    assert len(ALPHAS) == 13


def test_it_is_saved_without_its_sums_and_without_a_pickle(tmp_path):
    X, y, groups = make_data()
    streamed = GroupedRidgeCV(cv=4).partial_fit(X, y, groups)
    unsolved = pickle.loads(pickle.dumps(streamed))
    predicted = streamed.predict(X)
    np.testing.assert_array_equal(unsolved.predict(X), predicted)
    save_model(streamed, tmp_path / "head.model")
    again = load_model(tmp_path / "head.model")
    assert not hasattr(again, "_stream")
    np.testing.assert_array_equal(again.predict(X), predicted)


# Bad input


def test_groups_must_be_given_and_the_message_says_how():
    X, y, _ = make_data()
    with pytest.raises(InputError, match=r'groups=genes\["chrom"\].*cv="rows"'):
        GroupedRidgeCV().fit(X, y)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"groups": ["chr1"] * 71}, "as many groups, and there are 1: chr1"),
        ({"groups": ["chr1"] * 70}, "groups has 70 entries, X has 71 rows"),
        ({"groups": ["a", None, np.nan] + ["b"] * 68}, "missing in rows 1, 2"),
        ({"cv": 1}, "cv=1 must be at least 2"),
        ({"cv": []}, "has no folds"),
        ({"cv": [([0, 1], [])]}, "fold 0 of cv tests no row"),
        ({"cv": [([0, 1], [2]), ([], [3])]}, "fold 1 of cv trains on no row"),
        ({"cv": [([0, 1], [1])]}, "fold 0 of cv tests rows that it trains on"),
        ({"alphas": []}, "must be finite numbers greater than 0"),
        ({"alphas": [1, 0]}, "must be finite numbers greater than 0"),
        ({"y": np.full((71, 2), np.inf)}, "y contains infinity"),
        ({"y": np.ones((70, 2))}, "y has 70 rows, X has 71"),
        ({"y": np.ones((71, 2, 2))}, "Found array with dim 3"),
        ({"sample_weight": -np.ones(71)}, "none negative"),
        ({"sample_weight": np.zeros(71)}, "sample_weight is zero in all rows"),
    ],
)
def test_what_cannot_be_used_is_refused(change, message):
    X, y, groups = make_data()
    given = {"y": y, "groups": groups, **change}
    settings = {name: given.pop(name) for name in ("cv", "alphas") if name in given}
    with pytest.raises(ValueError, match=message):
        GroupedRidgeCV(**settings).fit(X, **given)


@pytest.mark.parametrize("cv", ["chrom", True, 2.5, None])
def test_other_folds_are_refused(cv):
    X, y, groups = make_data()
    with pytest.raises(InputTypeError, match="a number of folds of whole groups"):
        GroupedRidgeCV(cv=cv).fit(X, y, groups)


def test_targets_that_nothing_can_be_learnt_from_are_named():
    X, y, groups = make_data()
    table = pd.DataFrame(y, columns=["liver", "brain", "lung"])
    table.loc[:, "brain"] = np.nan
    with pytest.raises(InputError, match="without a value in any row: brain;"):
        GroupedRidgeCV(cv=4).fit(X, table, groups=groups)
    table.loc[groups == "chr2", "brain"] = 1.0
    with pytest.raises(InputError, match="rows of one fold only: brain;"):
        GroupedRidgeCV(cv=4).fit(X, table, groups=groups)


def test_many_sets_of_missing_rows_are_a_warning():
    X, y, groups = make_data(n_targets=12)
    y[np.arange(12), np.arange(12)] = np.nan
    with pytest.warns(TargetWarning, match="y has 12 different sets of missing rows"):
        GroupedRidgeCV(cv=4).fit(X, y, groups=groups)


def test_folds_that_cut_rows_into_many_blocks_are_refused_where_they_are_dear():
    X, y, _ = make_data()
    many = ShuffleSplit(20, random_state=0)
    with pytest.raises(InputError, match="blocks, which would take"):
        GroupedRidgeCV(cv=many).fit(X, y)


def test_a_score_leaves_missing_targets_out_target_by_target():
    X, y, _ = make_data()
    head = GroupedRidgeCV(1.0).fit(X, y)
    complete = head.score(X, y)
    assert complete == pytest.approx(r2_score(y, head.predict(X)))
    y[:30, 1] = np.nan
    each = [head.predict(X)[:, 0], head.predict(X)[30:, 1], head.predict(X)[:, 2]]
    seen = [y[:, 0], y[30:, 1], y[:, 2]]
    expected = np.mean([r2_score(a, b) for a, b in zip(seen, each, strict=True)])
    assert head.score(X, y) == pytest.approx(expected)
    y[:, 1] = np.nan
    assert head.score(X, y) == pytest.approx(
        np.mean([r2_score(seen[0], each[0]), r2_score(seen[2], each[2])])
    )
    with pytest.raises(InputError, match="y has 1 targets, 3 are predicted"):
        head.score(X, y[:, 0])
    with pytest.raises(InputError, match="no value in any of 71 rows"):
        head.score(X, np.full_like(y, np.nan))
