"""Scores as AnnData: variants in *obs*, targets in *var*, a layer for each score."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError, StoreError
from enformer_features.storage.export import (
    UNS_KEY,
    clean_obs,
    clean_var,
    provenance_entry,
)
from enformer_features.storage.files import (
    atomic_write,
    check_output,
    check_space,
    flush_folder,
    hidden_sibling,
    os_error,
    remove_replaced,
    take_place,
)
from enformer_features.storage.store.arrays import flush_tree
from enformer_features.variant_effect.caution import caution_lines
from enformer_features.variant_effect.placement import variant_names
from enformer_features.variant_effect.store import Scores, chunks_of

if TYPE_CHECKING:
    from anndata import AnnData

_ARRAY: dict[str, Any] = {"encoding-type": "array", "encoding-version": "0.2.0"}


def write_anndata(
    path: str | PathLike[str],
    table: pd.DataFrame,
    scores: Scores,
    score_names: Sequence[str],
    targets: Sequence[str],
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write scores as AnnData, chunk by chunk.

    Parameters
    ----------
    path : path
        ``.h5ad``, or ``.zarr`` for a folder.
    table : DataFrame, n_rows
        A variant table; becomes *obs*, with names such as ``chr6:9:A>C`` (1-based)
        that are numbered where they repeat.
    scores : ScoreStore or ScoreArray
        Columns are every score with every target, score by score.
    score_names : sequence of str
        Names of the layers. There is no *X*.
    targets : sequence of str
        Names of *var*.
    provenance : mapping, optional
        Goes to *uns*, beside the caution.
    overwrite : bool, default=False

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path cannot be used, or a table cannot be kept.
    StoreError
        If it cannot be written.

    Examples
    --------
    >>> import anndata, tempfile
    >>> from enformer_features.variant_effect.store import ScoreArray
    >>> variants = pd.DataFrame(
    ...     {"chrom": ["chr6"], "pos": [9], "id": ["rs1"], "ref": ["A"], "alt": ["C"]}
    ... )
    >>> path = Path(tempfile.mkdtemp(), "sad.h5ad")
    >>> scores = ScoreArray([[0.5, -2.0]], [""])
    >>> _ = write_anndata(path, variants, scores, ["SAD"], ["liver", "lung"])
    >>> anndata.read_h5ad(path)["chr6:9:A>C", "lung"].layers["SAD"].tolist()
    [[-2.0]]
    """
    size = len(table) * len(score_names) * len(targets) * 4
    names = list(score_names)

    def fill(group: Any, create: Callable[[str], Any]) -> None:
        arrays = [create(name) for name in names]
        for rows, values in scores.iterate():
            split = values.reshape(len(values), len(names), len(targets))
            for number, array in enumerate(arrays):
                array[rows] = split[:, number]

    adata = _skeleton(table, scores.reasons(), targets, provenance or {})
    if Path(path).suffix == ".zarr":
        target = check_folder(path, overwrite=overwrite)
        _write_zarr(adata, target, fill, size)
    else:
        target = check_output(path, overwrite=overwrite)
        _write_h5ad(adata, target, fill, size)
    return target


def check_folder(path: str | PathLike[str], *, overwrite: bool) -> Path:
    """Refuse a folder that cannot or must not be written.

    Raises
    ------
    InputError
        If the folder around it is missing, or something is there; with `overwrite`,
        if that is no AnnData in zarr format.
    """
    target = Path(os.path.realpath(Path(path).expanduser()))
    if not target.parent.is_dir():
        msg = f"{target} cannot be written: there is no folder {target.parent}"
        raise InputError(msg)
    if not os.path.lexists(target):
        return target
    if not overwrite:
        msg = f"{target} exists; choose another name, or overwrite it (overwrite=True)"
        raise InputError(msg)
    if not (target / "zarr.json").is_file() and not (target / ".zgroup").is_file():
        msg = f"{target} is no folder in zarr format and will not be replaced"
        raise InputError(msg)
    return target


def _skeleton(
    table: pd.DataFrame,
    reasons: Any,
    targets: Sequence[str],
    provenance: Mapping[str, Any],
) -> AnnData:
    from anndata import AnnData

    obs = table.assign(reason=reasons).set_axis(variant_names(table))
    return AnnData(
        obs=clean_obs(obs, len(obs), make_unique=True),
        var=clean_var(targets, None, len(targets)),
        uns={
            UNS_KEY: provenance_entry(provenance),
            "caution": np.array(caution_lines(provenance), dtype=object),
        },
    )


def _write_h5ad(
    adata: AnnData, target: Path, fill: Callable[..., None], n_bytes: int
) -> None:
    import h5py

    with atomic_write(target, bytes_needed=n_bytes) as temporary:
        adata.write_h5ad(temporary)
        with h5py.File(temporary, "r+") as file:

            def create(name: str) -> Any:
                array = file["layers"].create_dataset(name, adata.shape, "float32")
                array.attrs.update(_ARRAY)
                return array

            fill(file, create)


def _write_zarr(
    adata: AnnData, target: Path, fill: Callable[..., None], n_bytes: int
) -> None:
    check_space(target, n_bytes)
    folder = hidden_sibling(target, ".partial")
    try:
        _fill_folder(adata, folder, fill)
        flush_tree(folder)
        take_place(folder, target)
        flush_folder(target.parent)
        remove_replaced(target)
    except Exception as error:
        cause = os_error(error)
        if cause is None or isinstance(error, StoreError):
            raise
        reason = os.strerror(cause.errno) if cause.errno else str(cause)
        msg = f"{target} could not be written: {reason}; nothing was left behind"
        raise StoreError(msg) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _fill_folder(adata: AnnData, folder: Path, fill: Callable[..., None]) -> None:
    import warnings

    import zarr
    from anndata.io import write_elem
    from zarr.errors import ZarrUserWarning

    root = zarr.open_group(folder, mode="w-", zarr_format=3)
    write_elem(root, "/", adata, dataset_kwargs={"shards": None})
    n_rows, n_columns = adata.shape
    chunk = next(chunks_of(max(n_rows, 1), n_columns)).stop

    def create(name: str) -> Any:
        return root.create_array(
            f"layers/{name}",
            shape=adata.shape,
            dtype="float32",
            chunks=(chunk, max(n_columns, 1)),
            fill_value=float("nan"),
            attributes=_ARRAY,
        )

    fill(root, create)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # no part of the standard yet
        zarr.consolidate_metadata(root.store)
