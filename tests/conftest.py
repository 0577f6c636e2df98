"""Fixtures that every test may use."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import pytest

# Small networks are several times faster on one thread when cores are shared. It must
# be said before torch is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of reference data that lies beside the repository."""
    named = os.environ.get("ENFORMER_FEATURES_SHARED")
    folder = Path(named) if named else REPOSITORY.parent / "shared"
    if not folder.is_dir():
        pytest.skip(f"no reference data: {folder} is absent")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _ctrl_c_is_heard() -> None:
    """Hear SIGINT also where a shell runs the tests in the background."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nothing_is_remembered() -> None:
    """Start every test without cached rows and measured speeds of another."""
    if cache := sys.modules.get("enformer_features.storage.cache"):
        cache.SHARED.clear()
    if features := sys.modules.get("enformer_features.inference.features"):
        features._SECONDS.clear()
