"""Features as AnnData, and AnnData as an h5ad file that is whole or absent.

AnnData loses or changes some content without a word (keys with "/", mixed lists),
raises half-way through a file for other content, and accepts names that repeat.
Everything is therefore checked, with the column or key named, before a byte is
written.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features import __version__
from enformer_features.exceptions import InputError, InputTypeError, first_few
from enformer_features.storage.files import atomic_write, check_output

if TYPE_CHECKING:
    from anndata import AnnData

UNS_KEY = "enformer_features"
_JSON_KEY = "provenance_json"

_CATEGORICAL = ("chrom", "strand")
# what pandas finds in a column that is no plain numpy one -> (complete, with holes)
_PLAIN_TYPES = {
    "boolean": ("bool", "boolean"),
    "integer": ("int64", "Int64"),
    "unsigned": ("uint64", "UInt64"),
    "floating": ("float64", "float64"),
    "mixed-integer-float": ("float64", "float64"),
    "string": ("object", "category"),
    "empty": ("object", "category"),
}


def to_anndata(
    values: npt.ArrayLike,
    obs: pd.DataFrame,
    feature_names: Sequence[str],
    *,
    var: pd.DataFrame | None = None,
    provenance: Mapping[str, Any] | None = None,
    obsm: Mapping[str, npt.ArrayLike] | None = None,
    make_unique: bool = False,
) -> AnnData:
    """Put features, the regions they belong to and their origin into an AnnData.

    Parameters
    ----------
    values : array, shape (n_regions, n_features)
        One row per region; becomes X, float32 and C-contiguous, without a copy where
        it is that already. Rows of NaN are kept.
    obs : DataFrame, n_regions rows
        The regions, in the order of `values`. Its index names the observations; a
        plain RangeIndex beside `chrom`, `start` and `end` gives names such as
        ``chr1:100-200(+)`` (0-based, half-open).
    feature_names : sequence of str, n_features, each once
    var : DataFrame, n_features rows, optional
        What is known of each feature, in their order; its index is not used.
    provenance : mapping of str to str, int, float, bool, list or None, optional
        How the values came about. Goes to ``uns["enformer_features"]``: plain values
        one by one, and the whole record in ``provenance_json``.
    obsm : mapping of str to array, n_regions rows each, optional
        Further values per region, such as ``X_enformer`` or, with three axes,
        ``X_enformer_bins``.
    make_unique : bool
        Whether repeated observation names get a suffix (``-1``, ``-2``) or raise.

    Returns
    -------
    AnnData
        Rows in the order of `obs`. `chrom` and `strand` are categorical; nullable
        and Arrow columns are plain ones, text with holes is categorical. The tables
        that were given are not changed.

    Raises
    ------
    InputError
        If lengths do not agree, names repeat, a column holds what no file can keep
        (dates, lists, mixtures), or a name is reserved or has a "/".
    InputTypeError
        If values are not numbers, or obs is no DataFrame.

    Examples
    --------
    >>> obs = pd.DataFrame(
    ...     {"chrom": ["chr1"], "start": [100], "end": [200], "strand": ["+"]}
    ... )
    >>> adata = to_anndata([[0.5, 2.0]], obs, ["enformer_0000", "enformer_0001"])
    >>> adata.shape, list(adata.obs_names)
    ((1, 2), ['chr1:100-200(+)'])
    """
    x = _matrix(values)
    obs_table = clean_obs(obs, x.shape[0], make_unique=make_unique)
    var_table = clean_var(feature_names, var, x.shape[1])
    arrays = {
        key: _layer(array, key, x.shape[0]) for key, array in (obsm or {}).items()
    }
    _check_keys(arrays, "obsm")
    uns = {UNS_KEY: provenance_entry(provenance or {})}

    from anndata import AnnData  # 0.9 s

    return AnnData(X=x, obs=obs_table, var=var_table, obsm=arrays, uns=uns)


def check_obs(obs: pd.DataFrame, *, make_unique: bool = False) -> None:
    """Raise what :func:`to_anndata` would raise for a table, before any work.

    Parameters
    ----------
    obs : DataFrame
    make_unique : bool
        As for :func:`to_anndata`.

    Raises
    ------
    InputError
        If names repeat or are missing, or a column cannot be kept in a file.

    Examples
    --------
    >>> check_obs(pd.DataFrame(index=["GATA1", "GATA1"]))
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputError: obs: names that repeat: GATA1; rename \
them or give make_unique=True
    """
    clean_obs(obs, len(obs), make_unique=make_unique)


def write_h5ad(
    adata: AnnData, path: str | PathLike[str], *, overwrite: bool = False
) -> None:
    """Write an AnnData to an h5ad file that is whole or, on failure, as it was.

    Parameters
    ----------
    adata : AnnData
        In memory; it is not changed.
    path : path
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputError
        If the path cannot be used, or content would be lost or refused; nothing is
        written then.
    StoreError
        If writing fails, for instance on a full disk: the message has the path and
        the bytes needed, no part of a file stays, and an older file is intact.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> path = pathlib.Path(tempfile.mkdtemp(), "features.h5ad")
    >>> obs = pd.DataFrame(index=["GATA1", "SPI1"])
    >>> write_h5ad(to_anndata([[1.0], [2.0]], obs, ["a"]), path)
    >>> path.exists()
    True
    """
    target = check_output(path, overwrite=overwrite)
    if adata.isbacked:
        msg = f"the AnnData is backed by {adata.filename}; call to_memory() first"
        raise InputError(msg)
    checked = _checked_copy(adata)
    with atomic_write(target, bytes_needed=_n_bytes(checked)) as temporary:
        checked.write_h5ad(temporary)


def _matrix(values: npt.ArrayLike) -> np.ndarray:
    x = _numbers(values, "values")
    if x.ndim != 2:
        msg = f"values have shape {x.shape}, expected (n_regions, n_features)"
        raise InputError(msg)
    return np.ascontiguousarray(x, dtype=np.float32)


def _layer(values: npt.ArrayLike, key: str, n_rows: int) -> np.ndarray:
    array = _numbers(values, f"obsm[{key!r}]")
    if array.ndim < 2 or len(array) != n_rows:
        msg = (
            f"obsm[{key!r}] has shape {array.shape}, expected {n_rows} rows and at "
            "least two axes"
        )
        raise InputError(msg)
    return np.ascontiguousarray(array)


def _numbers(values: npt.ArrayLike, what: str) -> np.ndarray:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        msg = f"{what} must be real numbers, not {array.dtype}"
        raise InputTypeError(msg)
    return array


def clean_obs(obs: object, n_rows: int, *, make_unique: bool = False) -> pd.DataFrame:
    """Return a table of regions as a file can keep it, with checked names.

    Parameters
    ----------
    obs : DataFrame, n_rows rows
    n_rows : int
        Rows of the values.
    make_unique : bool
        Whether repeated names get a suffix or raise.

    Returns
    -------
    DataFrame
        A copy, as *obs* of :func:`to_anndata`.

    Raises
    ------
    InputError, InputTypeError
        As :func:`to_anndata` does.

    Examples
    --------
    >>> clean_obs(pd.DataFrame({"kept": [True]}, index=[7]), 1).index.tolist()
    ['7']
    """
    if not isinstance(obs, pd.DataFrame):
        msg = f"obs must be a DataFrame, not {type(obs).__name__}"
        raise InputTypeError(msg)
    if len(obs) != n_rows:
        msg = f"obs has {len(obs)} rows, the values have {n_rows}"
        raise InputError(msg)
    table = _clean_table(obs, "obs").set_axis(_observation_names(obs))
    for name in _CATEGORICAL:
        if name in table and table[name].dtype != "category":
            table[name] = table[name].map(str, na_action="ignore").astype("category")
    if make_unique:
        from anndata.utils import make_index_unique

        table.index = make_index_unique(table.index)
    _check_names(table.index, "obs", hint=" or give make_unique=True")
    return table


def _observation_names(obs: pd.DataFrame) -> pd.Index:
    """Return the labels as text, or regions where there are only row numbers."""
    index = obs.index
    if isinstance(index, pd.MultiIndex):
        msg = "obs has an index of several levels; join them into one name per row"
        raise InputError(msg)
    if holes := np.flatnonzero(index.isna()).tolist():
        msg = f"obs has rows without a name (NaN in its index): {first_few(holes)}"
        raise InputError(msg)
    if isinstance(index, pd.RangeIndex) and {"chrom", "start", "end"} <= set(obs):
        strands = obs["strand"] if "strand" in obs else ["+"] * len(obs)
        names = [
            f"{chrom}:{start}-{end}({strand})"
            for chrom, start, end, strand in zip(
                obs["chrom"], obs["start"], obs["end"], strands, strict=True
            )
        ]
        return pd.Index(names, dtype=object)
    return pd.Index([str(label) for label in index], dtype=object, name=index.name)


def clean_var(
    names: Sequence[str], var: pd.DataFrame | None, n_features: int
) -> pd.DataFrame:
    """Return a table of features as a file can keep it, with checked names.

    Parameters
    ----------
    names : sequence of str, n_features, each once
    var : DataFrame, n_features rows, or None
        Its index is not used.
    n_features : int
        Features of the values.

    Returns
    -------
    DataFrame
        A copy, as *var* of :func:`to_anndata`.

    Raises
    ------
    InputError
        As :func:`to_anndata` does.

    Examples
    --------
    >>> clean_var(["a", "b"], None, 2).index.tolist()
    ['a', 'b']
    """
    labels = list(names)
    if len(labels) != n_features:
        msg = f"{len(labels)} feature names for {n_features} features"
        raise InputError(msg)
    table = pd.DataFrame(index=range(n_features)) if var is None else var
    if len(table) != n_features:
        msg = f"var has {len(table)} rows for {n_features} features"
        raise InputError(msg)
    index = pd.Index(labels, dtype=object)
    _check_names(index, "feature_names")
    return _clean_table(table.set_axis(index), "var")


def _check_names(index: pd.Index, where: str, hint: str = "") -> None:
    wrong = [name for name in index if not isinstance(name, str) or not name]
    if wrong:
        msg = f"{where}: names must be text, not {first_few([*map(repr, wrong)])}"
        raise InputError(msg)
    if not index.is_unique:
        repeated = list(index[index.duplicated()].unique())
        msg = f"{where}: names that repeat: {first_few(repeated)}; rename them{hint}"
        raise InputError(msg)


def _clean_table(table: pd.DataFrame, where: str) -> pd.DataFrame:
    """Return a copy that h5ad and zarr can hold, or name the column they cannot."""
    columns = list(table.columns)
    _check_keys(columns, where)
    if len(set(columns)) < len(columns):
        repeated = table.columns[table.columns.duplicated()].unique()
        msg = f"{where} has columns of the same name: {first_few(list(repeated))}"
        raise InputError(msg)
    name = table.index.name
    if name is not None:
        _check_keys([name], f"the index name of {where}")
    if name in columns:
        msg = (
            f"{where} has an index and a column {name!r}; rename one of them "
            f'(for instance {where}.rename_axis("id"))'
        )
        raise InputError(msg)
    clean = {key: _clean_column(table[key], where) for key in columns}
    return pd.DataFrame(clean, index=table.index)


def _clean_column(column: pd.Series, where: str) -> pd.Series:
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = column.cat.categories.to_series(name=column.name)
        clean = _clean_column(categories, where)
        return column.cat.rename_categories(clean.to_list())
    if isinstance(column.dtype, np.dtype) and column.dtype.kind in "biuf":
        return column.copy()
    unsigned = pd.api.types.is_unsigned_integer_dtype(column)
    kind = "unsigned" if unsigned else pd.api.types.infer_dtype(column, skipna=True)
    if kind not in _PLAIN_TYPES:
        example = column.dropna().head(1).to_dict()
        msg = (
            f"{where} column {column.name!r} ({column.dtype}) holds {kind} values "
            f"({example}), which a file cannot keep; turn it into text or numbers, or "
            "leave it out"
        )
        raise InputError(msg)
    holes = column.isna()
    dtype = _PLAIN_TYPES[kind][int(holes.any())]
    if dtype == "category":
        return column.astype(object).where(~holes, None).astype("category")
    return _converted(column, dtype, where)


def _converted(column: pd.Series, dtype: Any, where: str) -> pd.Series:
    try:
        return column.astype(dtype)
    except (OverflowError, TypeError, ValueError) as error:
        msg = f"{where} column {column.name!r} cannot be kept as {dtype}: {error}"
        raise InputError(msg) from error


def _check_keys(keys: Sequence[object] | Mapping[str, object], where: str) -> None:
    """Refuse names that are lost ("/") or used by the file format itself."""
    for key in keys:
        if not isinstance(key, str) or not key:
            msg = f"{where}: names must be text, not {key!r}"
            raise InputError(msg)
        if "/" in key or key in {"_index", ".", ".."}:
            msg = (
                f'{where}: {key!r} cannot be a name in a file ("/" and "_index" are '
                "reserved); rename it"
            )
            raise InputError(msg)


def provenance_entry(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return how values came about, as :func:`to_anndata` keeps it in *uns*.

    Parameters
    ----------
    provenance : mapping of str to JSON values

    Returns
    -------
    dict
        Plain values one by one, and all of them as JSON in ``provenance_json``.

    Raises
    ------
    InputError
        If a name is reserved or a value is no JSON.

    Examples
    --------
    >>> sorted(provenance_entry({"shifts": [0, 1]}))
    ['enformer_features_version', 'provenance_json']
    """
    record: dict[str, Any] = {"enformer_features_version": __version__}
    for key, value in provenance.items():
        record[key] = value.item() if isinstance(value, np.generic) else value
    _check_keys(record, "provenance")
    if _JSON_KEY in record:
        msg = f"provenance: {_JSON_KEY!r} is reserved for the whole record"
        raise InputError(msg)
    plain = {
        key: value
        for key, value in record.items()
        if isinstance(value, (str, bool, int, float))
    }
    return {**plain, _JSON_KEY: _as_json(record)}


def _as_json(record: Mapping[str, Any]) -> str:
    for key, value in record.items():
        try:
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError) as error:
            msg = f"provenance[{key!r}] = {value!r} is no JSON value: {error}"
            raise InputError(msg) from error
    return json.dumps(record, sort_keys=True)


def _checked_copy(adata: AnnData) -> AnnData:
    """Return an AnnData with clean tables that shares the arrays of the given one."""
    from anndata import AnnData

    _check_names(adata.obs_names, "obs", hint=" (adata.obs_names_make_unique())")
    _check_names(adata.var_names, "var", hint=" (adata.var_names_make_unique())")
    parts = {
        name: dict(getattr(adata, name))
        for name in ("obsm", "varm", "layers", "obsp", "varp")
    }
    for name, arrays in parts.items():
        _check_keys(arrays, name)
    check_uns(adata.uns, "uns")
    raw = adata.raw
    return AnnData(
        X=adata.X,
        obs=_clean_table(adata.obs, "obs"),
        var=_clean_table(adata.var, "var"),
        uns=dict(adata.uns),
        raw=raw
        and {"X": raw.X, "var": _clean_table(raw.var, "raw.var"), "varm": raw.varm},
        **parts,
    )


def check_uns(value: object, where: str) -> None:
    """Refuse what a file would lose, turn into text, or refuse half-way.

    Parameters
    ----------
    value : object
        What goes to *uns*, or a part of it.
    where : str
        What messages call it.

    Raises
    ------
    InputError
        With the key that cannot be kept.

    Examples
    --------
    >>> check_uns({"lengths": [1, 2]}, "uns")
    """
    if isinstance(value, Mapping):
        _check_keys(value, where)
        for key, inner in value.items():
            check_uns(inner, f"{where}[{key!r}]")
    elif isinstance(value, list):
        kinds = {type(item) for item in value}
        if not (kinds <= {str} or kinds <= {bool} or kinds <= {int, float}):
            msg = (
                f"{where} is a list of {_names(kinds)}; a file keeps lists of one kind"
            )
            raise InputError(msg)
    elif not isinstance(value, _uns_types()):
        msg = (
            f"{where} is a {type(value).__name__}, which a file cannot keep; use "
            "text, numbers, arrays or tables"
        )
        raise InputError(msg)


def _uns_types() -> tuple[type, ...]:
    from scipy import sparse

    plain = (str, bool, int, float, np.number, np.bool_, type(None))
    return (*plain, np.ndarray, pd.DataFrame, sparse.spmatrix, sparse.sparray)


def _names(kinds: set[type]) -> str:
    return " and ".join(sorted(kind.__name__ for kind in kinds))


def _n_bytes(adata: AnnData) -> int:
    """Return about the size of the file: that of the arrays and tables."""
    tables = adata.obs.memory_usage().sum() + adata.var.memory_usage().sum()
    return int(tables) + sum(_size(array) for array in _arrays(adata))


def _arrays(adata: AnnData) -> Iterator[Any]:
    yield adata.X
    if adata.raw is not None:
        yield adata.raw.X
    for part in (adata.layers, adata.obsm, adata.varm, adata.obsp, adata.varp):
        yield from part.values()


def _size(array: Any) -> int:
    stored = getattr(array, "data", array)  # the stored values of a sparse matrix
    return int(getattr(stored, "nbytes", 0))
