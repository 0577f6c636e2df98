"""What results were computed with: versions and machine, as plain values."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import sys
from contextlib import suppress
from typing import Any

from enformer_features import __version__

PACKAGES = (
    *("torch", "scikit-learn", "numpy", "pandas", "anndata", "zarr", "xgboost"),
    "skops",
)


def environment() -> dict[str, Any]:
    """Describe versions and machine; nothing is imported for that.

    Returns
    -------
    dict
        ``enformer_features``, ``python``, ``system``, ``machine``, ``cpus``,
        ``threads`` (of PyTorch; None before it is imported), and ``packages``, a
        version each, or None for one that is not installed.

    Examples
    --------
    >>> sorted(environment())  # doctest: +NORMALIZE_WHITESPACE
    ['cpus', 'enformer_features', 'machine', 'packages', 'python', 'system',
     'threads']
    """
    torch = sys.modules.get("torch")
    return {
        "enformer_features": __version__,
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.release()}",
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
        "threads": None if torch is None else torch.get_num_threads(),
        "packages": {name: _version(name) for name in PACKAGES},
    }


def _version(package: str) -> str | None:
    for name in (package, f"{package}-cpu"):  # xgboost has a variant of that name
        with suppress(importlib.metadata.PackageNotFoundError):
            return importlib.metadata.version(name)
    return None
