"""Measurements to fit: read as text, checked in full before anything is computed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics._gene_table import MISSING, read_text_table

_FEWEST_ROWS = 3  # to fit, and for a correlation


def read_targets(path: str, columns: list[str] | None) -> pd.DataFrame:
    """Read measurements: ids in the first column, one target in each of the others.

    Parameters
    ----------
    path : str
        ``.csv`` (commas) or anything else (tabs), also gzipped, with a header line.
    columns : list of str or None
        The targets to keep; None for all.

    Returns
    -------
    DataFrame of float64, shape (n_rows, n_targets)
        Indexed by id, in file order; empty cells and NA are NaN.

    Raises
    ------
    InputError
        If the file cannot be read, a column is not there or occurs twice, or a cell
        is no number: ``file:line`` and column of the first five.
    """
    file = Path(path).expanduser()
    is_csv = file.name.lower().removesuffix(".gz").endswith(".csv")
    text = read_text_table(file, separator="," if is_csv else "\t")
    ids, text = text.iloc[:, 0], text.iloc[:, 1:]
    _check_columns(file, text, columns)
    text = text if columns is None else text[columns]
    numbers: pd.DataFrame = text.apply(pd.to_numeric, errors="coerce").astype(
        np.float64
    )
    is_text = numbers.isna() & ~text.isin(MISSING) & (text.map(str.lower) != "nan")
    if is_text.to_numpy().any():
        places = _places(is_text)
        shown = [f"{row} {name}: {text.at[row, name]!r}" for row, name in places]
        msg = (
            f"{len(places)} cells are no numbers: {first_few(shown)}; choose the "
            "columns that are measurements with --target"
        )
        raise InputError(msg)
    numbers.index = pd.Index(ids, dtype=object, name="id")
    return numbers


def drop_missing(targets: pd.DataFrame) -> pd.DataFrame:
    """Return the rows that have a value for every target."""
    _refuse_empty(targets)
    complete: pd.DataFrame = targets.dropna()
    if complete.empty:
        msg = f"none of {len(targets)} rows has a value for every target"
        raise InputError(msg)
    return complete


def log1p(targets: pd.DataFrame) -> pd.DataFrame:
    """Return log(1 + x), with names that say so; negative values are refused."""
    _refuse(targets < 0, targets, "are negative, so that --log1p makes no sense")
    names = [f"log1p({name})" for name in targets]
    return pd.DataFrame(np.log1p(targets.to_numpy()), targets.index, names)


def check_targets(targets: pd.DataFrame, is_fitted: npt.NDArray[np.bool_]) -> None:
    """Refuse targets from which the head would learn nothing, or refuse itself.

    Parameters
    ----------
    targets : DataFrame, shape (n_rows, n_targets)
    is_fitted : ndarray of bool, shape (n_rows,)
        Rows that are fitted, not held out.

    Raises
    ------
    InputError
        If columns are empty, values missing or infinite, fewer than three rows are
        fitted or held out, or a target has one value in all rows that are fitted.
    """
    _refuse_empty(targets)
    _refuse(
        targets.isna(),
        targets,
        "are missing; --drop-missing leaves these rows out, --target chooses columns",
    )
    _refuse(targets.abs() == np.inf, targets, "are infinite; a logarithm of 0?")
    n_fitted, n_held_out = int(is_fitted.sum()), int((~is_fitted).sum())
    if n_fitted < _FEWEST_ROWS or 0 < n_held_out < _FEWEST_ROWS:
        msg = (
            f"{n_fitted} rows are left to fit and {n_held_out} are held out; at least "
            f"{_FEWEST_ROWS} are needed to fit, and to score"
        )
        raise InputError(msg)
    fitted = targets[is_fitted]
    constant = [name for name in fitted if fitted[name].nunique() == 1]
    if constant:
        msg = (
            f"targets with one and the same value in all {n_fitted} rows to fit, from "
            f"which nothing can be learnt: {first_few(constant)}; choose others with "
            "--target"
        )
        raise InputError(msg)


def held_out(chrom: pd.Series[str], chromosomes: list[str]) -> npt.NDArray[np.bool_]:
    """Tell which rows lie on the chromosomes that are held out."""
    there = list(chrom.unique())
    unknown = [name for name in chromosomes if name not in there]
    if unknown:
        msg = (
            f"no row lies on the chromosome to hold out: {first_few(unknown)}; there "
            f"are {first_few(there, limit=30)}"
        )
        raise InputError(msg)
    return np.asarray(chrom.isin(chromosomes), dtype=bool)


def _check_columns(file: Path, text: pd.DataFrame, columns: list[str] | None) -> None:
    names = list(text.columns)
    if not names:
        msg = f"{file} has no column but the ids; is it separated by tabs (or .csv)?"
        raise InputError(msg)
    asked = columns or []
    twice = sorted({name for name in asked if asked.count(name) > 1})
    if twice:
        msg = f"--target names a column more than once: {first_few(twice)}"
        raise InputError(msg)
    repeated = sorted({name for name in names if names.count(name) > 1})
    unknown = [name for name in columns or [] if name not in names]
    if repeated or unknown:
        what = f"columns of the same name: {first_few(repeated)}"
        if unknown:
            what = f"no column {first_few(unknown)}; there are {first_few(names, 20)}"
        msg = f"{file} has {what}"
        raise InputError(msg)


def _refuse_empty(targets: pd.DataFrame) -> None:
    empty = [name for name in targets if targets[name].isna().all()]
    if empty:
        msg = (
            f"{len(empty)} of {targets.shape[1]} targets have no value in any of "
            f"{len(targets)} rows: {first_few(empty)}; choose others with --target"
        )
        raise InputError(msg)


def _refuse(is_bad: pd.DataFrame, targets: pd.DataFrame, why: str) -> None:
    if is_bad.to_numpy().any():
        shown = [f"{row} {column}" for row, column in _places(is_bad)]
        n_rows, n_all = int(is_bad.any(axis=1).sum()), len(targets)
        msg = f"values in {n_rows} of {n_all} rows {why}: {first_few(shown)}"
        raise InputError(msg)


def _places(is_bad: pd.DataFrame) -> list[tuple[str, str]]:
    """Return label and column of every cell that is bad, row by row."""
    rows, columns = np.nonzero(is_bad.to_numpy())
    return list(zip(is_bad.index[rows], is_bad.columns[columns], strict=True))
