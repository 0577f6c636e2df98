import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.preprocessing import RobustScaler
from sklearn.utils.estimator_checks import parametrize_with_checks

from enformer_features.exceptions import InputError
from enformer_features.variant_effect.pca import VariantPCA


@pytest.fixture(scope="module")
def scores():
    rng = np.random.default_rng(0)
    return rng.normal(size=(101, 3)) @ rng.normal(size=(3, 7)) * np.logspace(-5, 1, 7)


@parametrize_with_checks([VariantPCA(n_components=2)])
def test_scikit_learn_finds_an_estimator(estimator, check):
    check(estimator)


def test_components_are_those_of_scikit_learn_up_to_signs(scores):
    found = VariantPCA(3).fit_transform(scores)
    expected = PCA(3).fit_transform(RobustScaler().fit_transform(scores))
    np.testing.assert_allclose(np.abs(found), np.abs(expected), atol=1e-10)


def test_the_largest_loading_is_positive_and_scores_follow_it(scores):
    pca = VariantPCA(3).fit(scores)
    largest = np.abs(pca.components_).argmax(axis=1)
    assert (pca.components_[range(3), largest] > 0).all()
    scaled = pca.scaler_.transform(scores) - pca.pca_.mean_
    np.testing.assert_allclose(pca.transform(scores), scaled @ pca.components_.T)


def test_signs_do_not_depend_on_the_order_of_the_rows(scores):
    one, two = VariantPCA(2).fit(scores), VariantPCA(2).fit(scores[::-1])
    np.testing.assert_allclose(one.components_, two.components_, atol=1e-10)


def test_rows_with_a_missing_score_stay_missing_and_change_nothing(scores):
    holes = np.insert(scores, [0, 50], np.nan, axis=0)
    holes[0, 1:] = 9e9  # one score is enough
    pca = VariantPCA(2).fit(holes)
    np.testing.assert_array_equal(
        pca.components_, VariantPCA(2).fit(scores).components_
    )
    found = pca.transform(holes)
    assert np.isnan(found).all(axis=1).nonzero()[0].tolist() == [0, 51]
    assert np.isnan(pca.transform(holes[:1])).all()


def test_constant_columns_get_no_weight(scores):
    wide = np.column_stack([np.full(len(scores), 5.0), scores, np.zeros(len(scores))])
    pca = VariantPCA(3).fit(wide)
    np.testing.assert_allclose(pca.components_[:, [0, -1]], 0, atol=1e-12)
    assert np.isfinite(pca.transform(wide)).all()


def test_names_types_and_tables(scores):
    frame = pd.DataFrame(scores.astype("float32"), columns=list("abcdefg"))
    pca = VariantPCA(2).set_output(transform="pandas").fit(frame)
    found = pca.transform(frame)
    assert list(found) == ["pc0", "pc1"]
    assert set(found.dtypes) == {np.dtype("float32")}
    assert clone(pca).n_components == 2


@pytest.mark.parametrize("n", [0, -1, 2.5, True, "20"])
def test_sizes_that_are_none_are_refused(scores, n):
    with pytest.raises(InputError, match=r"n_components=.* must be a whole number"):
        VariantPCA(n).fit(scores)


def test_too_few_rows_or_columns_are_told(scores):
    with pytest.raises(InputError, match=r"n_components=20 needs .* n_features = 7"):
        VariantPCA().fit(scores)
    with pytest.raises(InputError, match="n_samples = 1 rows without missing"):
        VariantPCA(3).fit(np.vstack([scores[:1], np.full((9, 7), np.nan)]))
