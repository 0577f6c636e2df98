"""Files that are either wholly there or not at all.

A file is written under a temporary name beside its target, flushed to the disk and
then renamed, so a reader (also after ``kill -9`` or a power cut) finds the old
content or the new one and never a part. What a killed writer leaves behind is one
hidden ``.<name>.<random>.partial`` that nothing reads and that may be deleted.
"""

from __future__ import annotations

import glob
import os
import shutil
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from os import PathLike
from pathlib import Path

from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    InputTypeError,
    StoreError,
)
from enformer_features.folders import give_usual_mode

OLD = ".old"


def check_output(
    path: str | PathLike[str],
    *,
    overwrite: bool,
    inputs: Iterable[str | PathLike[str]] = (),
) -> Path:
    """Refuse an output path that cannot or must not be written.

    Call it before any work is done.

    Parameters
    ----------
    path : path
        Where the output shall go; ``~`` is expanded and links are followed.
    overwrite : bool
        Whether an existing file may be replaced.
    inputs : iterable of path
        Files that the work reads; none of them may be the output.

    Returns
    -------
    Path
        The absolute path that :func:`atomic_write` should be given.

    Raises
    ------
    InputTypeError
        If it is no path.
    InputError
        If the parent folder is missing, the path is a folder or a special file, is
        one of the inputs, or exists and ``overwrite`` is False.
    StoreError
        If the folder or the existing file may not be written.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> folder = pathlib.Path(tempfile.mkdtemp()).resolve()
    >>> check_output(folder / "new.h5ad", overwrite=False) == folder / "new.h5ad"
    True
    """
    target = Path(os.path.realpath(_as_path(path)))
    if not target.parent.is_dir():
        msg = f"{target} cannot be written: there is no folder {target.parent}"
        raise InputError(msg)
    if target.is_dir():
        msg = f"{target} is a folder; give the name of a file"
        raise InputError(msg)
    _check_inputs(target, inputs)
    if target.exists():
        _check_existing(target, overwrite)
    if not os.access(target.parent, os.W_OK | os.X_OK):
        msg = f"{target} cannot be written: no permission to write in {target.parent}"
        raise StoreError(msg)
    return target


@contextmanager
def atomic_write(path: str | PathLike[str], *, bytes_needed: int = 0) -> Iterator[Path]:
    """Give a temporary path to write, and rename it into place at the end.

    If the block raises, the target stays as it was and the temporary is removed.

    Parameters
    ----------
    path : path
        The target, as returned by :func:`check_output`.
    bytes_needed : int
        Size of the content, if known; told when the disk is too small for it, which
        is checked before the block runs.

    Yields
    ------
    Path
        A path in the same folder that does not exist yet; the block must create it.

    Raises
    ------
    StoreError
        If writing fails, whatever the library that writes makes of it.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> target = pathlib.Path(tempfile.mkdtemp(), "numbers.txt")
    >>> with atomic_write(target) as temporary:
    ...     _ = temporary.write_text("1 2 3")
    >>> target.read_text()
    '1 2 3'
    """
    target = Path(os.path.realpath(path))
    temporary = hidden_sibling(target, ".partial")
    check_space(target, bytes_needed)
    try:
        yield temporary
        flush_file(temporary)
        if target.exists():
            shutil.copymode(target, temporary)
        else:
            give_usual_mode(temporary)
        temporary.replace(target)
    except EnformerFeaturesError:
        raise
    except Exception as error:
        cause = os_error(error)
        if cause is None:
            raise
        raise StoreError(_failure(target, cause, bytes_needed)) from error
    finally:
        _discard(temporary)
    flush_folder(target.parent)


def _as_path(path: object) -> Path:
    if not isinstance(path, (str, PathLike)):
        msg = f"path is {type(path).__name__}, expected a str or a pathlib.Path"
        raise InputTypeError(msg)
    return Path(path).expanduser()


def _check_inputs(target: Path, inputs: Iterable[str | PathLike[str]]) -> None:
    for name in inputs:
        given = Path(name).expanduser()
        if given.exists() and target.exists() and given.samefile(target):
            msg = f"{target} is also an input ({name}); choose another output"
            raise InputError(msg)


def _check_existing(target: Path, overwrite: bool) -> None:
    if not target.is_file():
        msg = f"{target} is not a regular file and will not be replaced"
        raise InputError(msg)
    if not overwrite:
        msg = f"{target} exists; choose another name, or overwrite it (overwrite=True)"
        raise InputError(msg)
    if not os.access(target, os.W_OK):
        msg = f"{target} cannot be overwritten: the file is write-protected"
        raise StoreError(msg)


def check_space(target: Path, bytes_needed: int) -> None:
    """Raise StoreError when the disk of a path has too little room for it."""
    try:
        free = shutil.disk_usage(target.parent).free
    except OSError:  # a folder that cannot be asked is found out by writing
        return
    if free < bytes_needed:
        msg = (
            f"{target} cannot be written: {bytes_needed:,} bytes are needed and "
            f"{free:,} are free on its disk"
        )
        raise StoreError(msg)


def hidden_sibling(path: Path, suffix: str) -> Path:
    """Return a new name beside a path, cut so that long names stay legal."""
    return path.with_name(f".{path.name[:40]}.{uuid.uuid4().hex}{suffix}")


def hidden_siblings(path: Path, suffix: str) -> list[Path]:
    """Return what has a name that :func:`hidden_sibling` gave."""
    pattern = f".{glob.escape(path.name[:40])}.{'[0-9a-f]' * 32}{suffix}"
    return sorted(path.parent.glob(pattern))


def take_place(folder: Path, target: Path) -> None:
    """Give a folder its name; what had it is put aside until all is well.

    Call :func:`remove_replaced` next.

    Raises
    ------
    StoreError
        If it cannot be renamed; what was there is then there again.
    """
    aside = hidden_sibling(target, OLD)
    is_replaced = os.path.lexists(target)
    if is_replaced:
        rename(target, aside)
    try:
        rename(folder, target)
    except BaseException:
        if is_replaced and not os.path.lexists(target):
            rename(aside, target)
        raise


def remove_replaced(
    target: Path, is_kept: Callable[[Path], bool] = lambda _: False
) -> None:
    """Remove what :func:`take_place` put aside, here and in processes that were killed.

    Parameters
    ----------
    target : Path
    is_kept : callable, optional
        Tells of a folder that was put aside whether it is still needed.
    """
    for aside in hidden_siblings(target, OLD):
        if not is_kept(aside):
            shutil.rmtree(aside, ignore_errors=True)


def remove_leftovers(target: Path) -> None:
    """Remove what killed writers of a file or folder left half written beside it.

    Nobody else may be writing it. Names of 40 letters or more share those of their
    leftovers with others, which stay.
    """
    if len(target.name) < 40:
        for path in hidden_siblings(target, ".partial"):
            if path.is_dir():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def rename(old: Path, new: Path) -> None:
    """Rename a file or folder.

    Raises
    ------
    StoreError
    """
    try:
        old.rename(new)
    except OSError as error:
        msg = f"{old} could not be renamed to {new}: {error.strerror or error}"
        raise StoreError(msg) from error


def flush_file(path: Path) -> None:
    """Wait until the content of a file is on the disk."""
    with open(path, "rb+") as handle:
        os.fsync(handle.fileno())


def flush_folder(folder: Path) -> None:
    """Make the names in a folder durable, where the system can."""
    with suppress(OSError):  # Windows cannot open a folder
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _discard(temporary: Path) -> None:
    # Emptied first: a library that still holds the handle keeps the space otherwise,
    # and HDF5 writes its last blocks at exit.
    with suppress(OSError):
        os.truncate(temporary, 0)
        temporary.unlink()


def os_error(error: BaseException | None) -> OSError | None:
    """Return the system's error behind what a library raised, if there is one."""
    while error is not None and not isinstance(error, OSError):
        error = error.__cause__ or error.__context__
    return error


def _failure(target: Path, error: OSError, bytes_needed: int) -> str:
    reason = os.strerror(error.errno) if error.errno else str(error)
    needed = f" ({bytes_needed:,} bytes are needed)" if bytes_needed else ""
    return (
        f"{target} could not be written: {reason}{needed}; nothing was left behind and "
        "an older file is unchanged"
    )
