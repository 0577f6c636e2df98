"""What splits have in common, and two at once."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator
from sklearn.utils.metadata_routing import get_routing_for_object

from enformer_features.estimators.splits.rows import n_rows_of, row_chroms
from enformer_features.exceptions import InputError, InputTypeError, first_few

Flags = npt.NDArray[np.bool_]
Integers = npt.NDArray[np.int64]
Fold = tuple[Integers, Integers]
Masks = tuple[Flags, Flags]


class RowSplitter(BaseEstimator, ABC):
    """What the splits have in common; ``a & b`` makes an :class:`Intersection`."""

    # Metadata routing: groups are asked for without set_split_request(groups=True).
    __metadata_request__split: ClassVar = {"groups": True}

    def split(self, X: Any, y: Any = None, groups: Any = None) -> Iterator[Fold]:
        """Return the folds.

        Parameters
        ----------
        X : table or sequence of regions, or features, n_rows
            Features need ``groups``.
        y : ignored
        groups : table or sequence of regions, n_rows, optional
            The rows' regions, when ``X`` holds features. Under metadata routing the
            splitter asks for them by itself.

        Returns
        -------
        iterator of (train, test)
            Positions of rows, int64, ascending.

        Raises
        ------
        InputError, InputTypeError
            When a parameter or the rows cannot be used, or a fold would be empty.
        """
        folds = self._folds(X, y, groups)
        return iter(
            [(np.flatnonzero(fit), np.flatnonzero(test)) for fit, test in folds]
        )

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Count the folds.

        Parameters
        ----------
        X, y, groups
            As for :meth:`split`.

        Returns
        -------
        int
        """
        return len(self._folds(X, y, groups))

    @abstractmethod
    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        """Return which rows are trained on, and which are tested, per fold."""

    def __and__(self, other: Any) -> Intersection:
        """Split by both."""
        return Intersection(self, other)

    def __rand__(self, other: Any) -> Intersection:
        """Split by both."""
        return Intersection(other, self)


class Intersection(RowSplitter):
    """Split by two rules at once: chromosomes and families, say.

    Every fold of one is combined with every fold of the other: tested are the rows that
    both test, trained on those that both train on. All others are left out of the
    fold, so that less is trained on; combinations that test nothing are skipped. Also
    written ``first & second``, and ``first & second & third``.

    Parameters
    ----------
    first, second : cross-validation object
        Of this package, or any other that scikit-learn takes.

    Notes
    -----
    There are up to as many folds as the product of both; a few for each are enough:
    ``ChromosomeSplit(n_splits=4) & FamilySplit(families, n_splits=3)``. Every row is
    tested once if that is so for both.

    Examples
    --------
    >>> import pandas as pd
    >>> from enformer_features import ChromosomeSplit, FamilySplit
    >>> genes = pd.DataFrame({"chrom": ["11", "11", "16", "17"], "tss": [5, 9, 7, 3]},
    ...                      index=["HBB", "HBD", "HBA1", "TP53"])
    >>> globins = {"HBB": "globin", "HBD": "globin", "HBA1": "globin"}
    >>> split = ChromosomeSplit(["11"]) & FamilySplit(globins, n_splits=2)
    >>> [(train.tolist(), test.tolist()) for train, test in split.split(genes)]
    [([3], [0, 1])]
    """

    def __init__(self, first: Any, second: Any) -> None:
        self.first = first
        self.second = second

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        ones, others = (
            _masks_of(part, X, y, groups) for part in (self.first, self.second)
        )
        folds = [
            (train & other_train, test & other_test)
            for train, test in ones
            for other_train, other_test in others
            if (test & other_test).any()
        ]
        if not folds:
            msg = f"not one row is tested by both {_kinds(self)}"
            raise InputError(msg)
        stranded = [test for train, test in folds if not train.any()]
        if stranded:
            rows = np.flatnonzero(np.any(stranded, axis=0)).tolist()
            msg = (
                f"{len(stranded)} of {len(folds)} folds, which test rows "
                f"{first_few(rows)}, have none to train on: {_kinds(self)} leave none "
                "together; more folds of each leave more"
            )
            raise InputError(msg)
        return folds


def folds_of(
    cv: Any, X: Any, y: Any = None, groups: Any = None
) -> list[tuple[Integers, Integers]]:
    """Return the folds of any cross-validation object, ``groups`` only if it asks.

    Parameters
    ----------
    cv : cross-validation object
    X, y, groups
        As for ``cv.split``.

    Returns
    -------
    list of (train, test)
        Positions of rows.
    """
    if get_routing_for_object(cv).consumes("split", ["groups"]):
        return list(cv.split(X, y, groups))
    return list(cv.split(X, y))


def fewest_trained(splits: Iterable[Any], X: Any) -> tuple[int, int]:
    """Count the fewest chromosomes, and rows, that any fold trains on.

    Parameters
    ----------
    splits : iterable of cross-validation object
    X : table or sequence of regions

    Returns
    -------
    n_chroms, n_rows : int
    """
    chroms = row_chroms(X)
    trained = [chroms[train] for cv in splits for train, _ in folds_of(cv, X)]
    return min(len(set(part)) for part in trained), min(map(len, trained))


def _kinds(both: Intersection) -> str:
    return f"{type(both.first).__name__} and {type(both.second).__name__}"


def _masks_of(part: Any, X: Any, y: Any, groups: Any) -> list[Masks]:
    if not hasattr(part, "split") or isinstance(part, str):
        msg = f"{part!r} is {type(part).__name__}, expected a cross-validation object"
        raise InputTypeError(msg)
    n_rows = n_rows_of(groups if X is None else X)
    folds = folds_of(part, X, y, groups)
    return [(_flags(train, n_rows), _flags(test, n_rows)) for train, test in folds]


def _flags(rows: Integers, n_rows: int) -> Flags:
    flags = np.zeros(n_rows, dtype=bool)
    flags[rows] = True
    return flags


def masks(folds: Integers) -> list[Masks]:
    """Return masks that test each fold once; rows of fold -1 are left out.

    Parameters
    ----------
    folds : ndarray of int64, shape (n_rows,)
        The fold that tests the row.
    """
    return [
        ((folds != fold) & (folds >= 0), folds == fold)
        for fold in range(folds.max() + 1)
    ]


def spread(codes: Integers, n_splits: Any, what: str) -> Integers:
    """Deal whole groups to the folds, the largest first, to the one with fewest rows.

    Parameters
    ----------
    codes : ndarray of int64, shape (n_rows,)
        The group of every row. Groups of one size follow each other by number.
    n_splits : int
    what : str
        What the groups are, for messages.

    Returns
    -------
    ndarray of int64, shape (n_rows,)
        The fold of every row.

    Raises
    ------
    InputError
        When there are fewer groups than folds.
    """
    check_count("n_splits", n_splits, 2)
    sizes = np.bincount(codes)
    if len(sizes) < n_splits:
        msg = (
            f"n_splits={n_splits}, but the {len(codes)} rows are only {len(sizes)} "
            f"{what}, the largest of {sizes.max()}; ask for fewer folds, of which at "
            "least 2 are needed"
        )
        raise InputError(msg)
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    filled = np.zeros(n_splits, dtype=np.int64)
    for group in np.argsort(-sizes, kind="stable"):
        fold_of_group[group] = np.argmin(filled)
        filled[fold_of_group[group]] += sizes[group]
    return fold_of_group[codes]


def check_count(name: str, value: Any, least: int) -> None:
    """Refuse what is no whole number, or too small."""
    is_whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not is_whole or value < least:
        msg = f"{name}={value!r} must be a whole number, at least {least}"
        raise InputError(msg)
