"""What is in a store beside its values: the plan, and a digest of every other file."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from enformer_features.exceptions import StoreError, first_few
from enformer_features.storage.store.arrays import OURS, REASONS
from enformer_features.storage.store.plan import StorePlan
from enformer_features.storage.store.records import (
    file_digest,
    read_record,
    write_record,
)

SCHEMA = 1
PLAN = f"{OURS}/plan.json"
MANIFEST = f"{OURS}/manifest.json"
UNITS = f"{OURS}/units"
REASONS_FILE = f"{REASONS}/c/0"
PLAN_AGAIN = "plan it again with the same rows and settings, which restores them"


def read_plan(folder: Path) -> StorePlan:
    """Read the plan of a store.

    Raises
    ------
    StoreError
        If the folder is no store, or the plan is damaged.
    """
    try:
        record = read_record(folder / PLAN)
    except (FileNotFoundError, NotADirectoryError) as error:
        msg = (
            f"{folder} is no store of this package (it has no {PLAN}); choose another "
            "path"
        )
        raise StoreError(msg) from error
    except StoreError as error:
        msg = f"{error}; {PLAN_AGAIN}"
        raise StoreError(msg) from error
    return StorePlan.from_json(record)


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read the manifest of a store.

    Raises
    ------
    StoreError
        If it is damaged or absent.
    """
    try:
        return read_record(folder / MANIFEST)
    except (FileNotFoundError, StoreError) as error:
        msg = f"{folder / MANIFEST} is damaged or missing; {PLAN_AGAIN}"
        raise StoreError(msg) from error


def write_manifest(
    folder: Path,
    plan: StorePlan,
    files: Iterable[str],
    run: dict[str, Any] | None = None,
) -> None:
    """Write what is in a store beside the values, with digests, and how it was made.

    Parameters
    ----------
    folder : Path
    plan : StorePlan
    files : iterable of str
        Named from the folder.
    run : dict, optional
        What the markers say together, when all units are done.
    """
    record = {
        "schema": SCHEMA,
        "plan": plan.digest,
        "settings": plan.settings,
        "info": plan.info,
        "files": {name: file_digest(folder / name) for name in sorted({*files})},
        "run": run,
    }
    write_record(folder / MANIFEST, record)


def any_file(name: str) -> bool:
    """Choose every file."""
    return True


def damaged_files(
    folder: Path, *, is_finished: bool, is_wanted: Callable[[str], bool] = any_file
) -> list[str]:
    """Return the files beside the values that are not as they were written.

    Parameters
    ----------
    folder : Path
    is_finished : bool
        Otherwise the column of reasons is left out: it is filled at the end.
    is_wanted : callable
        Whether a file, named from the folder, is looked at.

    Raises
    ------
    StoreError
        If the manifest is damaged.
    """
    return [
        name
        for name, digest in read_manifest(folder)["files"].items()
        if is_wanted(name)
        and (is_finished or name != REASONS_FILE)
        and not _has_digest(folder / name, digest)
    ]


def check_files(
    folder: Path, *, is_finished: bool, is_wanted: Callable[[str], bool] = any_file
) -> None:
    """Raise StoreError when :func:`damaged_files` finds any."""
    found = damaged_files(folder, is_finished=is_finished, is_wanted=is_wanted)
    if found:
        msg = f"{folder}: {first_few(found)} are damaged; {PLAN_AGAIN}"
        raise StoreError(msg)


def _has_digest(path: Path, digest: str) -> bool:
    return path.is_file() and file_digest(path) == digest
