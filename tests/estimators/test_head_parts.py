import numpy as np
import pytest
from sklearn.cross_decomposition import PLSRegression
from sklearn.decomposition import PCA
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LassoCV

from enformer_features.estimators.head_parts import CappedPCA, CappedPLS, PerTarget


@pytest.fixture(scope="module")
def X():
    return np.random.default_rng(0).normal(size=(30, 40))


def test_descents_that_do_not_converge_are_one_warning(X):
    y = X[:, :2] + X[:, 2:4]
    lasso = PerTarget(LassoCV(cv=3, alphas=7, max_iter=1))
    with pytest.warns(ConvergenceWarning) as caught:
        lasso.fit(X, y)
    assert len(caught) == 1
    assert "of 44 fits" in str(caught[0].message)  # (7 * 3 + 1) * 2


def test_other_warnings_pass(X):
    class Warning_(LassoCV):
        def fit(self, X, y):
            import warnings

            warnings.warn("odd", RuntimeWarning, stacklevel=2)
            return super().fit(X, y)

    with pytest.warns(RuntimeWarning, match="odd"):
        PerTarget(Warning_(cv=3, alphas=3)).fit(X, X[:, 0])


def test_few_components_are_those_of_scikit_learn(X):
    np.testing.assert_allclose(
        CappedPCA(3, random_state=0).fit(X).transform(X),
        PCA(3, random_state=0).fit(X).transform(X),
    )
    np.testing.assert_allclose(
        CappedPLS(3).fit(X, X[:, :2]).predict(X),
        PLSRegression(3).fit(X, X[:, :2]).predict(X),
    )
