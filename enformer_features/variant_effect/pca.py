"""Principal components of variant scores, as the published tables have them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.decomposition import PCA
from sklearn.preprocessing import RobustScaler
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from enformer_features.exceptions import InputError

Floats = npt.NDArray[np.floating[Any]]


class VariantPCA(TransformerMixin, BaseEstimator):
    """Columns on one scale, then the directions in which variants differ most.

    Each score has its median taken away and is divided by its interquartile range
    (a range of 0 is taken as 1); principal components follow. The sign of a component
    is arbitrary, and is fixed here: its loading of largest absolute value is positive.
    Rows with a missing score, as variants that cannot be scored have, are left out of
    the fit and stay missing.

    Parameters
    ----------
    n_components : int, default=20
        As in the published tables.
    random_state : int, default=0
        Of the randomised decomposition that scikit-learn uses for wide tables.

    Attributes
    ----------
    components_ : ndarray, shape (n_components, n_features)
        Loadings of the scaled scores.
    explained_variance_ratio_ : ndarray, shape (n_components,)
    scaler_ : RobustScaler
    pca_ : PCA
    n_features_in_ : int

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196: a robust scaler before the PCA by the
    name of the released transformer. Published components are those of common variants
    under the released weights, which other weights or other variants do not give.

    Examples
    --------
    >>> scores = np.random.default_rng(0).normal(size=(50, 4)) * [1, 1, 1, 100]
    >>> pca = VariantPCA(n_components=2).fit(scores)
    >>> pca.transform(scores[:3]).shape, pca.get_feature_names_out().tolist()
    ((3, 2), ['pc0', 'pc1'])
    """

    def __init__(self, n_components: int = 20, *, random_state: int = 0) -> None:
        self.n_components = n_components
        self.random_state = random_state

    def __sklearn_tags__(self) -> Tags:
        """Say that missing values are allowed."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags

    def fit(self, X: Any, y: object = None) -> Self:
        """Learn medians, ranges and loadings from complete rows.

        Parameters
        ----------
        X : array or DataFrame, shape (n_rows, n_features)
            NaN where a score is missing.
        y : ignored

        Returns
        -------
        VariantPCA

        Raises
        ------
        InputError
            If there are fewer complete rows or columns than components.
        """
        values = self._checked(X, reset=True)
        complete = values[~np.isnan(values).any(axis=1)]
        self._check_size(complete)
        self.scaler_ = RobustScaler()
        self.pca_ = PCA(self.n_components, random_state=self.random_state)
        self.pca_.fit(self.scaler_.fit_transform(complete))
        loadings = self.pca_.components_
        largest = np.abs(loadings).argmax(axis=1)
        signs = np.sign(loadings[np.arange(len(loadings)), largest])
        self.pca_.components_ = loadings * signs[:, None]
        self.components_ = self.pca_.components_
        self.explained_variance_ratio_ = self.pca_.explained_variance_ratio_
        return self

    def transform(self, X: Any) -> Floats:
        """Return the components of each row.

        Parameters
        ----------
        X : array or DataFrame, shape (n_rows, n_features)

        Returns
        -------
        ndarray of float32 or float64 as X, shape (n_rows, n_components)
            NaN where a score of the row is.
        """
        check_is_fitted(self)
        values = self._checked(X, reset=False)
        complete = ~np.isnan(values).any(axis=1)
        found = np.full((len(values), self.n_components), np.nan, dtype=values.dtype)
        if complete.any():
            scaled = self.scaler_.transform(values[complete])
            found[complete] = self.pca_.transform(scaled)
        return found

    def get_feature_names_out(
        self, input_features: Sequence[str] | None = None
    ) -> npt.NDArray[np.object_]:
        """Return ``pc0``, ``pc1`` and so on."""
        check_is_fitted(self)
        return np.array([f"pc{i}" for i in range(self.n_components)], dtype=object)

    def _checked(self, X: Any, *, reset: bool) -> Floats:
        values: Floats = validate_data(
            self,
            X,
            reset=reset,
            dtype=[np.float64, np.float32],
            ensure_all_finite="allow-nan",
        )
        return values

    def _check_size(self, complete: Floats) -> None:
        n = self.n_components
        is_whole = isinstance(n, (int, np.integer)) and not isinstance(n, bool)
        if not is_whole or n < 1:
            msg = f"n_components={n!r} must be a whole number of at least 1"
            raise InputError(msg)
        rows, columns = complete.shape
        if n > min(rows, columns):
            msg = (
                f"n_components={n} needs as many complete rows and columns; there are "
                f"n_samples = {rows} rows without missing scores and n_features = "
                f"{columns} columns"
            )
            raise InputError(msg)
