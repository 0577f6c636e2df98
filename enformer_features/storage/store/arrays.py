"""The zarr side of a store: one file per unit, a checksum in every file.

A store is an AnnData in zarr format 3 from the moment it is made: *obs*, *var* and
*uns* are there, metadata is consolidated, and only values are missing. A unit is one
chunk, or one shard with a chunk per row where rows are large, so that two units never
share a file.
"""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import zarr
from zarr.codecs import Crc32cCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype
from zarr.errors import ZarrUserWarning
from zarr.storage import LocalStore, MemoryStore

from enformer_features.storage.files import flush_file, flush_folder
from enformer_features.storage.store.plan import StorePlan

OURS = "enformer_features"  # plan, markers and manifest, beside obs, var and uns
EXTRA = f"{OURS}/arrays"
REASONS = "obs/reason"
HEADER = "zarr.json"

_EXTRA_CHUNK_BYTES = 8 << 20
_ALWAYS = {"array.write_empty_chunks": True}  # a missing file is never a value
_ARRAY: dict[str, Any] = {"encoding-type": "array", "encoding-version": "0.2.0"}
# all files lie in the array's own folder
_FLAT: dict[str, Any] = {"name": "default", "separator": "."}


def write_skeleton(
    folder: Path,
    plan: StorePlan,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: Mapping[str, Any],
    extra_arrays: Mapping[str, npt.NDArray[Any]],
) -> None:
    """Write an AnnData whose values are still missing.

    Parameters
    ----------
    folder : Path
        A new folder.
    plan : StorePlan
    obs, var : DataFrame
        Clean; *obs* gets a column ``reason``, empty.
    uns : mapping
        Clean.
    extra_arrays : mapping of str to array
        Kept beside the AnnData, which does not know of them.
    """
    from anndata.io import write_elem

    checked = {"compressors": [ZstdCodec(checksum=True)], "shards": None}
    root = zarr.open_group(folder, mode="w-", zarr_format=3)
    root.attrs.update({"encoding-type": "anndata", "encoding-version": "0.1.0"})
    table = obs.assign(reason="")
    write_elem(root, "obs", table, dataset_kwargs=checked)
    # in one chunk, so that it can be filled in one step
    reasons = table["reason"].to_numpy(dtype=object)
    write_elem(root, REASONS, reasons, dataset_kwargs=checked | {"chunks": (len(obs),)})
    write_elem(root, "var", var, dataset_kwargs=checked)
    write_elem(root, "uns", dict(uns), dataset_kwargs=checked)
    for part in ("obsm", "varm", "layers", "obsp", "varp"):
        write_elem(root, part, {})
    _create_array(root, plan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ZarrUserWarning)  # no part of the standard yet
        zarr.consolidate_metadata(root.store)
    for name, values in extra_arrays.items():
        _write_extra(folder, name, np.asarray(values))


def _create_array(root: zarr.Group, plan: StorePlan) -> None:
    n_rows = min(plan.unit_rows, plan.n_rows)
    has_bins = len(plan.row_shape) == 2
    root.create_array(
        plan.array,
        shape=(plan.n_rows, *plan.row_shape),
        dtype=plan.dtype,
        chunks=(1 if has_bins else n_rows, *plan.row_shape),
        shards=(n_rows, *plan.row_shape) if has_bins else None,
        compressors=[Crc32cCodec()],  # floats of a network hardly compress
        fill_value=math.nan,
        attributes=_ARRAY,
        chunk_key_encoding=_FLAT,
    )


def _write_extra(folder: Path, name: str, values: npt.NDArray[Any]) -> None:
    row_bytes = max(1, values.nbytes // max(1, len(values)))
    n_rows = max(1, min(len(values), _EXTRA_CHUNK_BYTES // row_bytes))
    with zarr.config.set(_ALWAYS):
        array = zarr.create_array(
            LocalStore(folder / EXTRA / name),
            shape=values.shape,
            dtype=values.dtype,
            chunks=(n_rows, *values.shape[1:]),
            compressors=[ZstdCodec(checksum=True)],
            chunk_key_encoding=_FLAT,
        )
        array[...] = values


def unit_file(plan: StorePlan, unit: int) -> str:
    """Return the path, inside the store, of the file that holds a unit.

    Examples
    --------
    >>> plan = StorePlan("X", 5, (3,), "float32", 2, ("a", "b", "c"))
    >>> unit_file(plan, 2)
    'X/c.2.0'
    """
    return f"{plan.array}/c.{unit}" + ".0" * len(plan.row_shape)


def encode(header: bytes, rows: slice, values: npt.NDArray[Any]) -> memoryview:
    """Return the file that holds some rows of an array, which no other rows share.

    Parameters
    ----------
    header : bytes
        The array's ``zarr.json``.
    rows : slice
        All rows of one chunk or shard.
    values : ndarray, one row per row
    """
    buffer = default_buffer_prototype().buffer
    files = {HEADER: buffer.from_bytes(header)}
    with zarr.config.set(_ALWAYS):
        zarr.open_array(MemoryStore(files), mode="r+")[rows] = values
    (content,) = (files[name] for name in files.keys() - {HEADER})
    return memoryview(content.as_buffer_like())


def open_values(folder: Path) -> zarr.Array[Any]:
    """Open the array in a folder for reading."""
    return zarr.open_array(LocalStore(folder, read_only=True), mode="r")


def read_table(folder: Path, name: str) -> pd.DataFrame:
    """Read *obs* or *var*."""
    from anndata.io import read_elem

    group = zarr.open_group(LocalStore(folder / name, read_only=True), mode="r")
    table: pd.DataFrame = read_elem(group)
    return table


def files_below(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and the folders in it."""
    for parent, _, names in os.walk(folder):
        yield from (Path(parent, name) for name in sorted(names))


def flush_tree(folder: Path) -> None:
    """Wait until a folder and all that is in it is on the disk."""
    for parent, _, names in os.walk(folder, topdown=False):
        for name in names:
            flush_file(Path(parent, name))
        flush_folder(Path(parent))
