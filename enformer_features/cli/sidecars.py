"""Where a table comes from: a JSON file beside it, as a table itself cannot say."""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from enformer_features.cli.console import plain

FORMAT = "enformer_features.sidecar"
FORMAT_VERSION = 1
# What says how a command talks, not what it computes.
_NO_OPTIONS = frozenset(
    [
        *("command", "run", "flags", "when_stopped"),
        *("json", "quiet", "verbose", "debug", "dry_run"),
    ]
)
_FILES = ("genes", "regions", "targets", "track_table", "model")


def sidecar_of(target: Path) -> Path:
    """Return where the origin of a file is written.

    Examples
    --------
    >>> sidecar_of(Path("features.tsv")).name
    'features.tsv.json'
    """
    return target.with_name(f"{target.name}.json")


def write_sidecar(
    target: Path,
    args: argparse.Namespace,
    provenance: Mapping[str, Any],
    result: Mapping[str, Any],
) -> None:
    """Say where a file comes from that was just written.

    Parameters
    ----------
    target : Path
    args : Namespace
        Of the command, with the files that it read.
    provenance : mapping
        What the values depend on; see ``EnformerEmbedder.provenance``.
    result : mapping
        What came out.
    """
    from enformer_features.storage.environment import environment
    from enformer_features.storage.files import atomic_write

    read = [getattr(args, name, None) for name in _FILES]
    record = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "file": _describe(target),
        "command": args.command,
        "options": _options(args),
        "inputs": _inputs(name for name in read if name),
        "result": result,
        "provenance": provenance,
        "environment": environment(),
    }
    with atomic_write(sidecar_of(target)) as temporary:
        text = json.dumps(plain(record), indent=2, allow_nan=False)
        temporary.write_text(text + "\n", encoding="utf-8")


def _options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options that were given."""
    return {
        name: value
        for name, value in sorted(vars(args).items())
        if name not in _NO_OPTIONS and value not in (None, False, [])
    }


def _inputs(names: Iterable[str]) -> list[dict[str, Any]]:
    """Describe the files that were read; folders have a digest in the provenance."""
    files = [Path(name).expanduser() for name in names]
    return [{"path": str(file), **_describe(file)} for file in files if file.is_file()]


def _describe(file: Path) -> dict[str, Any]:
    with file.open("rb") as content:
        digest = hashlib.file_digest(content, "sha256").hexdigest()
    return {
        "name": file.name,
        "bytes": file.stat().st_size,
        "sha256": f"sha256:{digest}",
    }
