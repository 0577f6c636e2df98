"""Large exports that outlive a process: rows by the unit, and never twice.

While it is filled a store is the folder ``out.zarr.partial``; :meth:`Store.finalize`
renames it to ``out.zarr``. Any number of processes, on any number of hosts that see
the folder, may fill it: a unit is one file that is wholly there or absent, then one
marker with the digest of that file. What has a marker is on the disk and is not
computed again.
"""

from __future__ import annotations

import difflib
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    PlanMismatchError,
    StoreError,
)
from enformer_features.storage.export import check_uns, clean_obs, clean_var
from enformer_features.storage.files import (
    check_space,
    flush_folder,
    hidden_sibling,
    os_error,
)
from enformer_features.storage.store.arrays import (
    files_below,
    flush_tree,
    write_skeleton,
)
from enformer_features.storage.store.folder import (
    PARTIAL,
    Store,
    partial_folder,
)
from enformer_features.storage.store.manifest import (
    MANIFEST,
    PLAN,
    UNITS,
    damaged_files,
    read_manifest,
    read_plan,
    write_manifest,
)
from enformer_features.storage.store.plan import StorePlan
from enformer_features.storage.store.records import file_digest, write_record

SUFFIX = ".zarr"


class MissingStoreError(StoreError, InputError):
    """There is no store of that name; also an ``InputError``, as names are given."""


def create_store(
    path: str | PathLike[str],
    plan: StorePlan,
    obs: pd.DataFrame,
    var: pd.DataFrame,
    uns: Mapping[str, Any],
    extra_arrays: Mapping[str, npt.NDArray[Any]] | None = None,
    *,
    overwrite: bool = False,
) -> Store:
    """Make a store, or go on with the one of the same plan that is there.

    What is damaged in that one, beside the values, is restored.

    Parameters
    ----------
    path : path
        Ends in ``.zarr``. The store is beside it, ``.zarr.partial``, until it is
        finished.
    plan : StorePlan
    obs : DataFrame, plan.n_rows rows
        Its index names the rows, each name once. A column ``reason`` is added.
    var : DataFrame
        Its index names the features, each name once.
    uns : mapping
        What an AnnData can keep.
    extra_arrays : mapping of str to array, optional
        Kept beside the AnnData; see :meth:`Store.extra_array`.
    overwrite : bool
        Whether a finished store of another plan may be there; ``finalize`` replaces
        it. An unfinished one is never replaced.

    Returns
    -------
    Store

    Raises
    ------
    InputError, InputTypeError
        If the path cannot be used or a table cannot be kept.
    PlanMismatchError
        If a store of another plan is there; the message says where they differ.
    StoreError
        If something else is there, the disk is too small, or it cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> path = Path(tempfile.mkdtemp(), "out.zarr")
    >>> plan = StorePlan("X", 3, (2,), "float32", 2, ("a", "b"))
    >>> obs = pd.DataFrame(index=["r0", "r1", "r2"])
    >>> var = pd.DataFrame(index=["f0", "f1"])
    >>> store = create_store(path, plan, obs, var, {})
    >>> for unit in store.pending():
    ...     rows = store.unit_rows(unit)
    ...     store.write_unit(unit, np.ones((rows.stop - rows.start, 2)))
    >>> store.finalize().name
    'out.zarr'
    >>> open_store(path).read(slice(2, 3))
    array([[1., 1.]], dtype=float32)
    """
    target = _target(path)
    skeleton = _Skeleton(plan, obs, var, uns, dict(extra_arrays or {}))
    for folder in (target, partial_folder(target)):
        if os.path.lexists(folder):
            if _is_of(folder, plan):
                return _go_on(target, folder, skeleton)
            if folder != target or not overwrite:
                _refuse(target, folder, plan)
    return _publish(target, skeleton)


def open_store(path: str | PathLike[str], *, unfinished: bool = False) -> Store:
    """Open a store, finished or not.

    Parameters
    ----------
    path : path
        ``out.zarr``, or ``out.zarr.partial`` to prefer the unfinished one.
    unfinished : bool, default=False
        Prefer the unfinished one, which is to replace a finished one, in any case.

    Returns
    -------
    Store

    Raises
    ------
    InputError, InputTypeError
        If the path is none of a store.
    StoreError
        If it is none of ours, or its plan is damaged. If there is none, a
        ``MissingStoreError``, which is an ``InputError`` too.
    """
    target = _target(path)
    folders = [target, partial_folder(target)]
    if unfinished or Path(path).suffix == PARTIAL:  # also with a slash at the end
        folders.reverse()
    for folder in folders:
        if os.path.lexists(folder):
            return Store(target, folder)
    msg = f"there is no store {target}, and none that was begun{_near(target)}"
    raise MissingStoreError(msg)


class _Skeleton:
    """All of a store but its values, checked, to be written where it is needed."""

    def __init__(
        self,
        plan: StorePlan,
        obs: pd.DataFrame,
        var: pd.DataFrame,
        uns: Mapping[str, Any],
        extra_arrays: dict[str, npt.NDArray[Any]],
    ) -> None:
        self.plan = plan
        self.obs = clean_obs(obs, plan.n_rows)
        n_features = plan.row_shape[-1] if plan.array == "X" else len(var)
        self.var = clean_var(list(var.index), var, n_features)
        check_uns(dict(uns), "uns")
        self.uns = uns
        for name in extra_arrays:
            if not name.isidentifier():
                msg = f"extra_arrays: {name!r} is no plain name"
                raise InputError(msg)
        self.extra_arrays = extra_arrays

    @property
    def n_bytes(self) -> int:
        """Bytes of everything, the values included."""
        extra = sum(array.nbytes for array in self.extra_arrays.values())
        tables = self.obs.memory_usage().sum() + self.var.memory_usage().sum()
        return self.plan.n_bytes + extra + int(tables)

    @contextmanager
    def written(self, target: Path) -> Iterator[Path]:
        """Give a hidden folder beside the target, wholly on the disk."""
        folder = hidden_sibling(target, PARTIAL)
        try:
            write_skeleton(
                folder, self.plan, self.obs, self.var, self.uns, self.extra_arrays
            )
            (folder / UNITS).mkdir(parents=True)
            write_record(folder / PLAN, self.plan.to_json())
            write_manifest(folder, self.plan, _names(folder))
            flush_tree(folder)
            yield folder
        except StoreError:
            raise
        except Exception as error:
            cause = os_error(error)
            if cause is None:
                raise
            reason = os.strerror(cause.errno) if cause.errno else str(cause)
            msg = (
                f"{target} could not be begun: {reason} ({self.n_bytes:,} bytes are "
                "needed in all); nothing was left behind"
            )
            raise StoreError(msg) from error
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _near(target: Path) -> str:
    """Name the store beside it that was perhaps meant."""
    beside = target.parent.glob(f"[!.]*{SUFFIX}*")  # none where it cannot be read
    stores = sorted({path.name.removesuffix(PARTIAL) for path in beside})
    near = difflib.get_close_matches(target.name, stores, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _target(path: object) -> Path:
    if not isinstance(path, (str, PathLike)):
        msg = f"path is {type(path).__name__}, expected a str or a pathlib.Path"
        raise InputTypeError(msg)
    target = Path(os.path.realpath(Path(path).expanduser()))
    target = target.with_name(target.name.removesuffix(PARTIAL))
    if target.suffix != SUFFIX:
        msg = f"{target} is no name of a store; give one that ends in {SUFFIX}"
        raise InputError(msg)
    if not target.parent.is_dir():
        msg = f"there is no folder {target.parent} for {target.name}"
        raise InputError(msg)
    return target


def _is_of(folder: Path, plan: StorePlan) -> bool:
    """Tell whether a folder was made for a plan, though a record may be damaged."""
    try:
        return read_plan(folder).digest == plan.digest
    except StoreError as error:
        try:
            manifest = read_manifest(folder)
        except OSError:
            raise error from None
        return bool(manifest["plan"] == plan.digest)


def _refuse(target: Path, folder: Path, plan: StorePlan) -> None:
    lines = "\n  ".join(plan.differences(read_plan(folder)))
    advice = (
        "give another path, or overwrite it (overwrite=True)"
        if folder == target
        else f"give the settings it was begun with, or another path, or remove {folder}"
    )
    msg = (
        f"{folder} is a store of another plan (asked for != there):\n"
        f"  {lines}\n{advice}"
    )
    raise PlanMismatchError(msg)


def _publish(target: Path, skeleton: _Skeleton) -> Store:
    """Write a new store and give it its name, or use that of who was faster."""
    check_space(target, skeleton.n_bytes)
    folder = partial_folder(target)
    with skeleton.written(target) as made:
        try:
            made.rename(folder)
        except OSError:
            if not os.path.lexists(folder):
                raise
    flush_folder(target.parent)
    if not _is_of(folder, skeleton.plan):
        _refuse(target, folder, skeleton.plan)
    return Store(target, folder)


def _go_on(target: Path, folder: Path, skeleton: _Skeleton) -> Store:
    """Open a store of the same plan, and restore what is damaged beside its values."""
    try:
        store = Store(target, folder)
        is_whole = not damaged_files(folder, is_finished=store.is_finished)
    except StoreError:
        is_whole = False
    if not is_whole:
        with skeleton.written(target) as made:
            if folder == target:  # to be finished again, also if this is interrupted
                folder = partial_folder(target)
                target.rename(folder)
                flush_folder(folder.parent)
            _restore(made, folder)
        store = Store(target, folder)
    missing = skeleton.plan.n_bytes - store.status().n_bytes
    check_space(target, max(missing, 0))
    return store


def _restore(made: Path, folder: Path) -> None:
    """Replace every file of a folder that is not as in the one that was made."""
    for name in [*_names(made), MANIFEST]:
        old, new = folder / name, made / name
        if not old.is_file() or file_digest(old) != file_digest(new):
            old.parent.mkdir(parents=True, exist_ok=True)
            new.replace(old)
            flush_folder(old.parent)
    (folder / UNITS).mkdir(exist_ok=True)


def _names(folder: Path) -> list[str]:
    """Return the files of a skeleton, named from its folder; not the manifest."""
    found = [path.relative_to(folder).as_posix() for path in files_below(folder)]
    return sorted(name for name in found if name != MANIFEST)
