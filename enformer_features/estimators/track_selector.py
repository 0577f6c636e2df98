"""Choose tracks as a step of a pipeline, by assay, biosample or identifier."""

from __future__ import annotations

from collections.abc import Sequence
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.feature_selection import SelectorMixin
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted, validate_data

from enformer_features.exceptions import InputError, first_few
from enformer_features.inference.tracks import read_tracks, select_tracks


class TrackSelector(SelectorMixin, BaseEstimator):
    """Keep the columns of some tracks.

    The network computes all tracks of a head at once, so that choosing them afterwards
    costs nothing, and a grid search can choose. To compute and keep only some, give
    :func:`~enformer_features.select_tracks` to the embedder instead.

    Parameters
    ----------
    tracks : path or DataFrame
        The tracks of the head, such as Basenji's ``targets_human.txt``: a file, or
        what :func:`~enformer_features.read_tracks` returned.
    index : int or sequence of int, optional
        Positions in the head.
    identifier : str or sequence of str, optional
        Identifiers, as the table writes them.
    assay : str or sequence of str, optional
        Assays, in any case.
    pattern : str, optional
        Regular expression that is searched in the description, in any case.

    Attributes
    ----------
    support_ : ndarray of bool, shape (n_columns,)
        Which columns are kept.
    tracks_ : tuple of str
        Identifiers of the tracks that are kept, those that meet every criterion.

    Notes
    -----
    Columns are those of ``EnformerEmbedder(output="tracks")``: all tracks of the head
    in its order, once, or once per pool, bin or kernel.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "index": [0, 1, 2],
    ...         "identifier": ["a", "b", "c"],
    ...         "assay": ["DNASE", "CAGE", "CAGE"],
    ...         "description": ["DNASE:liver", "CAGE:liver", "CAGE:brain"],
    ...     }
    ... )
    >>> selector = TrackSelector(table, assay="CAGE", pattern="liver")
    >>> selector.fit_transform([[1.0, 2.0, 3.0, 10.0, 20.0, 30.0]])
    array([[ 2., 20.]])
    """

    def __init__(
        self,
        tracks: str | PathLike[str] | pd.DataFrame,
        *,
        index: int | Sequence[int] | None = None,
        identifier: str | Sequence[str] | None = None,
        assay: str | Sequence[str] | None = None,
        pattern: str | None = None,
    ) -> None:
        self.tracks = tracks
        self.index = index
        self.identifier = identifier
        self.assay = assay
        self.pattern = pattern

    def fit(self, X: Any, y: object = None) -> Self:
        """Find the columns.

        Parameters
        ----------
        X : array or DataFrame, shape (n_rows, n_columns)
            Only its columns matter.
        y : ignored

        Returns
        -------
        self

        Raises
        ------
        InputError
            When no track meets every criterion, the number of columns is no multiple
            of the number of tracks, or columns are named after other tracks.
        """
        validate_data(self, X, dtype=None, ensure_all_finite=False)
        table = self.tracks
        if not isinstance(table, pd.DataFrame):
            table = read_tracks(table)
        chosen = select_tracks(
            table,
            index=self.index,
            identifier=self.identifier,
            assay=self.assay,
            pattern=self.pattern,
        )
        n_columns: int = self.n_features_in_
        if n_columns % len(table):
            msg = (
                f"X has {n_columns} columns, the table {len(table)} tracks; give all "
                "tracks of the head: EnformerEmbedder(output='tracks', tracks=None)"
            )
            raise InputError(msg)
        self.tracks_ = chosen.names
        is_chosen = np.zeros(len(table), dtype=bool)
        is_chosen[list(chosen.indices)] = True
        self.support_ = np.tile(is_chosen, n_columns // len(table))
        self._check_names(table)
        return self

    def _check_names(self, table: pd.DataFrame) -> None:
        """Compare the names of columns, if there are any, with those of the tracks."""
        columns = getattr(self, "feature_names_in_", [])
        wrong = [
            f"column {name} is not track {track} ({identifier})"
            for place, name in enumerate(columns)
            for track, identifier in [self._track(table, place)]
            if not str(name).endswith((identifier, f"_{track:04d}"))
        ]
        if wrong:
            msg = (
                f"X has other tracks than the table: {first_few(wrong)}; give the "
                "table of the head that was used"
            )
            raise InputError(msg)

    @staticmethod
    def _track(table: pd.DataFrame, place: int) -> tuple[int, str]:
        row = place % len(table)
        return int(table["index"].iloc[row]), str(table["identifier"].iloc[row])

    def _get_support_mask(self) -> npt.NDArray[np.bool_]:
        check_is_fitted(self)
        return self.support_

    def __sklearn_tags__(self) -> Tags:
        """Say that missing values pass."""
        tags = super().__sklearn_tags__()
        tags.input_tags.allow_nan = True
        return tags
