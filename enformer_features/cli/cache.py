"""``enformer-features cache``: what is kept on disk, and how to tidy it."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli.console import FAILURE, OK, add_common, show
from enformer_features.exceptions import InputError

if TYPE_CHECKING:
    from enformer_features.storage.disk_cache import CacheReport

_ACTIONS = {
    "info": "count what is there",
    "verify": "check every row; exit code 1 if any is damaged",
    "prune": "remove damaged files, and those not used for longest beyond --max-size",
    "compact": "merge small files into large ones, without what is damaged",
}
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)b?", re.IGNORECASE)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``cache``."""
    listed = "; ".join(f"{name}: {what}" for name, what in _ACTIONS.items())
    parser.add_argument("action", choices=tuple(_ACTIONS), help=listed)
    parser.add_argument(
        "--path", metavar="FOLDER", help="(default: rows in the user's cache folder)"
    )
    parser.add_argument("--max-size", metavar="SIZE", help="for prune: 10GB, 500MB")
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Look at cached rows, or tidy them."""
    from enformer_features.storage.disk_cache import DiskCache

    if (args.max_size is None) == (args.action == "prune"):
        msg = "--max-size SIZE belongs to prune, which needs it"
        raise InputError(msg)
    cache = DiskCache(args.path)
    if args.path is not None or cache.path.exists():  # nobody may have kept rows yet
        _check_there(cache.path)
    if args.action == "prune":
        report = cache.prune(_bytes(args.max_size))
    else:
        report = getattr(cache, args.action)()
    show(args, _plain(report))
    return FAILURE if args.action == "verify" and report.damaged else OK


def _check_there(folder: Path) -> None:
    """Refuse a path where no cache can have been, such as a mistyped one."""
    from enformer_features.storage.segments import SUFFIX

    reason = None
    try:
        names = [name for name in os.listdir(folder) if not name.startswith(".")]
    except FileNotFoundError:
        reason = "there is no such folder"
    except NotADirectoryError:
        reason = "it is a file" if folder.is_file() else "there is no such folder"
    except OSError as error:
        reason = f"the folder cannot be read: {error.strerror}"
    else:
        if names and not any(name.endswith(SUFFIX) for name in names):
            reason = f"none of its files ends in {SUFFIX}"
    if reason is not None:
        msg = f"there is no cache in {folder}: {reason}"
        raise InputError(msg)


def _bytes(text: str) -> int:
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        msg = f"--max-size {text!r} is no size such as 10GB or 500MB"
        raise InputError(msg)
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _plain(report: CacheReport) -> dict[str, Any]:
    return {
        "path": str(report.path),
        "segments": report.n_segments,
        "rows": report.n_rows,
        "bytes": report.n_bytes,
        "damaged": report.damaged,
        "leftovers": report.leftovers,
    }
