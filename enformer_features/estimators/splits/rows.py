"""What splits and reports ask of rows: where they lie, and to which family they belong.

scikit-learn hands a splitter ``X``, ``y`` and ``groups``. Regions are looked for in
``X`` and then, when ``X`` holds features, in ``groups``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.inputs import as_pandas, is_table, resolve_samples
from enformer_features.exceptions import InputError, InputTypeError, first_few
from enformer_features.genomics._columns import ALIASES, Texts, show
from enformer_features.genomics.genome import fitting_style, rename_contigs
from enformer_features.genomics.regions import (
    raise_bad_rows,
    read_regions,
    region_names,
    region_table,
)
from enformer_features.genomics.windows import (
    SEQUENCE_LENGTH,
    check_sequence_length,
    place_windows,
)

Families = Mapping[str, object] | pd.Series
LabelledRegions = str | PathLike[str] | pd.DataFrame
Integers = npt.NDArray[np.int64]


def n_rows_of(X: Any) -> int:
    """Count the rows of regions, features or an AnnData."""
    return int(X.shape[0]) if hasattr(X, "shape") else len(X)


def holds_regions(X: Any) -> bool:
    """Tell regions from features, sequences and labels.

    Examples
    --------
    >>> holds_regions(["chr1:1-9"]), holds_regions(["chr1"]), holds_regions([[0.5]])
    (True, False, False)
    """
    if hasattr(X, "obs"):
        X = X.obs
    if is_table(X):
        columns = {str(name).lower() for name in as_pandas(X).columns}
        return not columns.isdisjoint(ALIASES["chrom"])
    is_numeric = hasattr(X, "dtype") and getattr(X.dtype, "kind", "O") not in "OUT"
    if is_numeric or getattr(X, "ndim", 1) != 1:
        return False
    return any(isinstance(item, str) and ":" in item for item in X)


def row_regions(X: Any, groups: Any = None) -> pd.DataFrame:
    """Return the region of every row: of ``X``, or else of ``groups``.

    Parameters
    ----------
    X : table or sequence of regions, or features, n_rows
        What :class:`~enformer_features.EnformerEmbedder` takes as regions; an AnnData
        whose *obs* are regions; or features.
    groups : table or sequence of regions, n_rows, optional
        The rows' regions, when ``X`` holds features; not read when it holds regions.

    Returns
    -------
    DataFrame, shape (n_rows, 7)
        Of :func:`~enformer_features.genomics.regions.region_table`.

    Raises
    ------
    InputError
        When neither holds regions, they differ in length, or rows cannot be used.

    Examples
    --------
    >>> features = np.zeros((1, 5))
    >>> row_regions(features, groups=["chr1:101-200"])[["chrom", "start", "end"]]
      chrom  start  end
    0  chr1    100  200
    """
    table = _regions_in(X)
    if table is None:
        table = _regions_in(groups)
    if table is None:
        beside = "missing" if groups is None else f"{_kind(groups)}, no regions either"
        msg = (
            f"the rows' regions are needed, but X is {_kind(X)}, and groups are "
            f"{beside}; give regions or genes as X, or as groups=genes beside features"
        )
        raise InputError(msg)
    if X is not None:
        check_length("groups", len(table), X)
    raise_bad_rows(table)
    return table


def _regions_in(source: Any) -> pd.DataFrame | None:
    if source is None or not holds_regions(source):
        return None
    return resolve_samples(source, sequence_length=SEQUENCE_LENGTH).regions


def _kind(X: object) -> str:
    shape = getattr(X, "shape", None)
    return type(X).__name__ + (f" of shape {shape}" if shape else "")


def check_length(name: str, n_rows: int, X: Any) -> None:
    """Refuse what has not one entry per row of ``X``."""
    expected = n_rows_of(X)
    if n_rows != expected:
        msg = f"{name} has {n_rows} rows, X has {expected}; they must be the same rows"
        raise InputError(msg)


def row_windows(regions: pd.DataFrame, sequence_length: int) -> pd.DataFrame:
    """Return what the network reads for every row: ``chrom``, ``start``, ``end``.

    As :class:`~enformer_features.EnformerEmbedder` places windows unless it is told
    otherwise; ``center``, ``strand``, ``shifts`` and ``snap`` move them by some bp.
    """
    check_sequence_length(sequence_length)
    placed = place_windows(regions, sequence_length)
    return placed.rename(columns={"window_start": "start", "window_end": "end"})


def row_chroms(X: Any, groups: Any = None) -> Texts:
    """Return the chromosome of every row: the labels in ``groups``, or of the regions.

    Parameters
    ----------
    X : table or sequence of regions, or features, n_rows
    groups : sequence of str, or regions, n_rows, optional
        Names of chromosomes, believed before those in ``X``, of which one may have
        several contigs, but no contig several; or regions, as in :func:`row_regions`.

    Returns
    -------
    ndarray of str, shape (n_rows,)
    """
    if groups is None or holds_regions(groups):
        return row_regions(X, groups)["chrom"].to_numpy(dtype=object)
    labels = pd.Series(_one_dimensional(groups))
    missing = np.flatnonzero(labels.isna()).tolist()
    if missing:
        msg = f"groups name no chromosome for rows {first_few(missing)}; fill them in"
        raise InputError(msg)
    if X is not None:
        check_length("groups", len(labels), X)
        _refuse_divided_contigs(_regions_in(X), labels)
    return labels.astype(str).to_numpy(dtype=object)


def _refuse_divided_contigs(table: pd.DataFrame | None, labels: pd.Series) -> None:
    """Refuse labels that cannot be chromosomes: families, or clusters of genes."""
    if table is None:
        return
    n_labels = labels.groupby(table["chrom"].to_numpy()).nunique()
    divided = n_labels.index[n_labels > 1].tolist()
    if divided:
        msg = (
            f"groups should be chromosomes, but give {n_labels[divided[0]]} to rows on "
            f"{first_few(divided)}; leave groups out, as X has regions, or make the "
            "folds beforehand: cv=list(splitter.split(X))"
        )
        raise InputError(msg)


def _one_dimensional(groups: Any) -> npt.NDArray[Any]:
    labels = np.asarray(groups, dtype=object)
    if labels.ndim != 1:
        msg = (
            f"groups are {_kind(groups)}; expected one chromosome per row, or a table "
            "of regions"
        )
        raise InputError(msg)
    return labels


def row_ids(X: Any, groups: Any = None) -> pd.Index:
    """Return what the rows are called: their labels if these are text, else names."""
    for source in (X, groups):
        index = getattr(source, "obs_names", getattr(source, "index", None))
        if isinstance(index, pd.Index) and all(isinstance(row, str) for row in index):
            return index
    return pd.Index(region_names(row_regions(X, groups)))


def row_families(ids: pd.Index, families: Families) -> Texts:
    """Return the family of every row; rows without one are their own, by their id.

    Parameters
    ----------
    ids : Index of str, n_rows
    families : mapping or Series
        Id to family. Ids that are missing, or have no family, are fine.

    Returns
    -------
    ndarray of str, shape (n_rows,)
        ``"family "`` or ``"id "`` and the name, so that the two are not mistaken.

    Raises
    ------
    InputError
        When not one id is known, or an id has two families.

    Examples
    --------
    >>> row_families(pd.Index(["HBB", "HBD", "TP53"]), {"HBB": 7, "HBD": 7}).tolist()
    ['family 7', 'family 7', 'id TP53']
    """
    known = _known_families(families)
    found = known.reindex(ids)
    if found.isna().all():
        msg = (
            f"families knows none of the {len(ids)} rows: rows are called "
            f"{first_few(list(ids), 3)}, families has {first_few(list(known.index), 3)}"
        )
        raise InputError(msg)
    own = "id " + pd.Series(ids, index=ids).astype(str)
    return own.where(found.isna(), "family " + found).to_numpy(dtype=object)


def _known_families(families: Any) -> pd.Series:
    if not isinstance(families, (Mapping, pd.Series)):
        msg = (
            f"families is {type(families).__name__}, expected a mapping or a Series "
            "from ids to families"
        )
        raise InputTypeError(msg)
    known = pd.Series(families, dtype=object).dropna().astype(str)
    known.index = known.index.astype(str)
    known = known[~known.reset_index().duplicated().to_numpy()]
    twice = list(known.index[known.index.duplicated()].unique())
    if twice:
        msg = f"families: ids with more than one family: {first_few(twice)}"
        raise InputError(msg)
    return known


def labelled_regions(source: LabelledRegions) -> pd.DataFrame:
    r"""Read regions with labels: those that a network was trained, or tested, on.

    Parameters
    ----------
    source : path or DataFrame
        A BED file, plain or gzipped, whose 4th column is the label, such as
        ``train``, ``valid`` or ``test``; or a table of regions with a column ``label``.

    Returns
    -------
    DataFrame
        ``chrom``, ``start``, ``end``, ``label``.

    Raises
    ------
    InputError
        When there are no labels, or lines cannot be used.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     bed = pathlib.Path(folder, "sequences.bed")
    ...     _ = bed.write_text("chr1\t0\t900\ttrain\nchr2\t0\t900\ttest\n")
    ...     labelled_regions(bed)["label"].tolist()
    ['train', 'test']
    """
    if isinstance(source, pd.DataFrame):
        table = region_table(source)
        raise_bad_rows(table, "labelled regions")
        label = source["label"] if "label" in source else pd.Series("", source.index)
    else:
        table = read_regions(source)
        label = table["name"]
    label = label.fillna("").astype(str)
    n_bare = int((label == "").sum())
    if n_bare:
        where = "a column 'label'" if isinstance(source, pd.DataFrame) else "column 4"
        msg = (
            f"{n_bare} of {len(table)} regions of {_called(source)} have no label; "
            f"expected train, valid or test, or the like, in {where}"
        )
        raise InputError(msg)
    return table[["chrom", "start", "end"]].assign(label=label.to_numpy())


def _called(source: LabelledRegions) -> str:
    return "the table" if isinstance(source, pd.DataFrame) else str(source)


def split_by_label(
    source: LabelledRegions, unseen: Sequence[str], chroms: Texts
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Divide labelled regions into those that a network learnt from, and the others.

    Parameters
    ----------
    source : path or DataFrame
        See :func:`labelled_regions`.
    unseen : sequence of str
        Labels of regions that the network did not learn from.
    chroms : ndarray of str
        Chromosomes of the rows; one of them must be that of a region.

    Returns
    -------
    seen, unseen : DataFrame
        ``chrom``, ``start``, ``end``, ``label``.

    Raises
    ------
    InputError
        When a label is not there, or no row lies on any of the contigs.
    """
    if isinstance(unseen, str):
        msg = f"test_labels={unseen!r} is a single text; wrap it in a list"
        raise InputTypeError(msg)
    regions = labelled_regions(source)
    known = regions["label"].unique().tolist()
    absent = [label for label in unseen if label not in known]
    if absent or not len(unseen):
        msg = (
            f"test_labels={list(unseen)!r}: {_called(source)} has the labels "
            f"{first_few(known)}; name at least one of them, and no other"
        )
        raise InputError(msg)
    _check_common_contigs(chroms, regions["chrom"].unique().tolist(), source)
    is_unseen = regions["label"].isin(list(unseen))
    return regions[~is_unseen], regions[is_unseen]


def _check_common_contigs(
    chroms: Texts, contigs: list[str], source: LabelledRegions
) -> None:
    ours = list(dict.fromkeys(chroms))
    if set(ours) & set(contigs):
        return
    style = fitting_style(ours, contigs)
    shown = [str(name) for name in rename_contigs(np.array(ours[:1]), style)]
    hint = f"; rename them, {show(ours[0])} to {show(shown[0])}" if style else ""
    msg = (
        f"no row lies on a contig of {_called(source)}: rows are on {first_few(ours)}, "
        f"its regions on {first_few(contigs)}{hint}"
    )
    raise InputError(msg)
