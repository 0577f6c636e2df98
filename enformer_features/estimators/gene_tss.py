"""Genes with several starts of transcription: one row per gene out of several."""

from __future__ import annotations

from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, MetaEstimatorMixin, TransformerMixin, clone
from sklearn.utils import Tags, get_tags
from sklearn.utils.validation import check_is_fitted

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    check_choice,
    first_few,
)

Floats = npt.NDArray[np.floating[Any]]
HOW = ("mean", "max", "logsumexp")


class GeneTSSAggregator(TransformerMixin, MetaEstimatorMixin, BaseEstimator):
    """Embed every TSS of a gene, and make one row of them.

    Rows are genes, as targets and folds are; how many starts a gene has is its own
    affair.

    Parameters
    ----------
    embedder : transformer
        Turns rows of ``tss`` into features: an ``EnformerEmbedder``, a baseline, or a
        pipeline that begins with one. It is cloned.
    tss : DataFrame, one row per TSS
        What the embedder takes, such as ``chrom``, ``tss`` and ``strand``, and a
        column that says whose each is. Rows may be in any order.
    gene : str, default="gene_id"
        That column.
    how : {"mean", "max", "logsumexp"}, default="mean"
        ``logsumexp`` adds up what is given as logarithms.
    weights : str, optional
        A column of numbers, such as CAGE counts: the mean is weighted by it.

    Attributes
    ----------
    embedder_ : transformer
        Fitted on the TSSs of the genes that were given to ``fit``.

    Examples
    --------
    >>> from sklearn.preprocessing import FunctionTransformer
    >>> tss = pd.DataFrame(
    ...     {"gene_id": ["G1", "G2", "G1"], "tss": [10, 20, 30], "peak": [3, 1, 1]}
    ... )
    >>> position = FunctionTransformer(lambda table: table[["tss"]].to_numpy())
    >>> GeneTSSAggregator(position, tss).fit_transform(["G2", "G1"]).tolist()
    [[20.0], [20.0]]
    >>> weighted = GeneTSSAggregator(position, tss, weights="peak")
    >>> weighted.fit_transform(["G2", "G1"]).tolist()
    [[20.0], [15.0]]
    """

    def __init__(
        self,
        embedder: BaseEstimator,
        tss: pd.DataFrame,
        *,
        gene: str = "gene_id",
        how: str = "mean",
        weights: str | None = None,
    ) -> None:
        self.embedder = embedder
        self.tss = tss
        self.gene = gene
        self.how = how
        self.weights = weights

    def fit(self, X: Any, y: object = None) -> Self:
        """Fit the embedder on the TSSs of these genes.

        Parameters
        ----------
        X : DataFrame indexed by gene, or sequence of str
            Genes, one per row.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InputError, InputTypeError
            When a column is missing, genes have no TSS, or weights are no weights.
        """
        rows, _, _ = self._rows(X)
        self.embedder_ = clone(self.embedder).fit(rows)
        return self

    def transform(self, X: Any) -> Floats:
        """Embed the TSSs of these genes, and make one row per gene.

        Parameters
        ----------
        X : DataFrame indexed by gene, or sequence of str
            Genes, one per row; a gene may come more than once.

        Returns
        -------
        ndarray of float32, shape (n_genes, n_features)
            Row *i* is row *i* of ``X``.

        Raises
        ------
        InputError, InputTypeError
            As :meth:`fit` does; also what the embedder raises.
        """
        check_is_fitted(self, "embedder_")
        rows, codes, genes = self._rows(X)
        weights = None if self.weights is None else rows[self.weights].to_numpy(float)
        features = np.asarray(self.embedder_.transform(rows))
        return aggregate(features, codes, how=self.how, weights=weights)[genes]

    def n_starts(self, X: Any) -> npt.NDArray[np.int64]:
        """Count the TSSs of these genes; nothing is embedded.

        Parameters
        ----------
        X : DataFrame indexed by gene, or sequence of str

        Returns
        -------
        ndarray of int64, shape (n_genes,)

        Raises
        ------
        InputError, InputTypeError
            As :meth:`fit` does.

        Examples
        --------
        >>> tss = pd.DataFrame({"gene_id": ["G1", "G2", "G1"], "tss": [10, 20, 30]})
        >>> GeneTSSAggregator(BaseEstimator(), tss).n_starts(["G2", "G1"]).tolist()
        [1, 2]
        """
        _, codes, genes = self._rows(X)
        return np.bincount(codes)[genes]

    def get_feature_names_out(
        self, input_features: object = None
    ) -> npt.NDArray[np.object_]:
        """Return the names of the embedder's features.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (n_features,)
        """
        check_is_fitted(self, "embedder_")
        names: npt.NDArray[np.object_] = self.embedder_.get_feature_names_out()
        return names

    def __sklearn_tags__(self) -> Tags:
        """Say that rows are genes; nothing is learnt unless the embedder learns."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.requires_fit = get_tags(self.embedder).requires_fit
        return tags

    def _rows(
        self, X: Any
    ) -> tuple[pd.DataFrame, npt.NDArray[np.intp], npt.NDArray[np.intp]]:
        """Return the TSSs of the genes, the gene of each, and the gene of each row."""
        self._check()
        wanted = _ids(X)
        names = wanted.unique()
        owners = names.get_indexer(pd.Index(self.tss[self.gene].astype(str)))
        is_wanted = owners >= 0
        alone = np.setdiff1d(np.arange(len(names)), owners)
        if len(alone):
            shown = first_few(names[alone].tolist())
            msg = f"genes without a TSS in column {self.gene!r} of tss: {shown}"
            raise InputError(msg)
        codes = owners[is_wanted]
        if self.weights is not None:
            _check_weights(self.tss[self.weights][is_wanted], codes, names)
        return self.tss[is_wanted], codes, names.get_indexer(wanted)

    def _check(self) -> None:
        check_choice("how", self.how, HOW)
        tss: object = self.tss
        if not isinstance(tss, pd.DataFrame):
            msg = f"tss is a {type(tss).__name__}, expected a DataFrame"
            raise InputTypeError(msg)
        for parameter in ("gene", "weights"):
            column = getattr(self, parameter)
            if column is not None and column not in tss:
                found = first_few([str(name) for name in tss.columns], limit=20)
                msg = f"{parameter}={column!r} is no column of tss; it has {found}"
                raise InputError(msg)
        if self.weights is not None and self.how != "mean":
            msg = f"weights={self.weights!r} needs how='mean'; it is {self.how!r}"
            raise InputError(msg)


def aggregate(
    features: Floats,
    codes: npt.NDArray[np.integer[Any]],
    *,
    how: str = "mean",
    weights: npt.NDArray[np.float64] | None = None,
) -> Floats:
    """Make one row of all rows of one gene.

    Parameters
    ----------
    features : ndarray, shape (n_rows, n_features)
    codes : ndarray of int, shape (n_rows,)
        Gene of each row, 0 to n_genes - 1; each occurs.
    how : {"mean", "max", "logsumexp"}, default="mean"
    weights : ndarray, shape (n_rows,), optional
        Of the mean; those of a gene need not add up to 1.

    Returns
    -------
    ndarray, shape (n_genes, n_features)
        Of the type of the features, float64 for whole numbers; summed in float64.

    Examples
    --------
    >>> features = np.array([[0.0, 1.0], [5.0, 5.0], [2.0, 3.0]])
    >>> aggregate(features, np.array([0, 1, 0]), how="max").tolist()
    [[2.0, 3.0], [5.0, 5.0]]
    """
    if not np.issubdtype(features.dtype, np.floating):
        features = features.astype(np.float64)
    order = np.argsort(codes, kind="stable")
    first = np.flatnonzero(np.diff(codes[order], prepend=-1))
    ordered = features[order]
    highest = np.maximum.reduceat(ordered, first, axis=0)
    if how == "max":
        return highest
    if how == "logsumexp":
        above = ordered.astype(np.float64) - highest[codes[order]]
        sums = np.log(np.add.reduceat(np.exp(above), first, axis=0)) + highest
        return sums.astype(features.dtype)
    share = np.ones(len(codes)) if weights is None else weights[order]
    total = np.add.reduceat(share, first)
    sums = np.add.reduceat(ordered * share[:, None], first, axis=0)
    return (sums / total[:, None]).astype(features.dtype)


def _ids(X: Any) -> pd.Index[str]:
    labels = getattr(X, "obs_names", X.index if isinstance(X, pd.DataFrame) else X)
    ids = pd.Index(list(labels))
    if not len(ids):
        msg = "X has 0 genes; pass at least one"
        raise InputError(msg)
    if pd.api.types.is_numeric_dtype(ids):
        msg = (
            "X has no gene ids: its index is numbers; set it, as with "
            "genes.set_index('gene_id')"
        )
        raise InputTypeError(msg)
    texts: pd.Index[str] = ids.astype(str)
    return texts


def _check_weights(
    weights: pd.Series[Any], codes: npt.NDArray[np.intp], names: pd.Index[str]
) -> None:
    numbers = pd.to_numeric(weights, errors="coerce").to_numpy(np.float64)
    bad = ~(np.isfinite(numbers) & (numbers >= 0))
    if bad.any():
        rows = first_few([f"row {label}" for label in weights.index[bad]])
        msg = f"weights={weights.name!r} has values that are no weights: {rows}"
        raise InputError(msg)
    empty = np.bincount(codes, numbers, len(names)) == 0
    if empty.any():
        shown = first_few(names[empty].tolist())
        msg = f"weights={weights.name!r} are all 0 for genes {shown}"
        raise InputError(msg)
