"""What importing the package, or asking the command for help, loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

import enformer_features

HEAVY = ("torch", "anndata", "xgboost", "sklearn", "matplotlib")


@pytest.mark.parametrize(
    "statement",
    [
        "import enformer_features",
        "from enformer_features.cli import main; main(['--help'])",
    ],
    ids=["import", "help"],
)
def test_no_heavy_package_is_loaded(statement: str) -> None:
    code = (
        "import sys\n"
        f"try:\n    {statement}\n"
        "except SystemExit as stop:\n    assert not stop.code, stop.code\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "print('loaded:', loaded)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "loaded: []"


@pytest.mark.parametrize(
    "name",
    [
        *("GroupedConformal", "OutOfDomain", "average_precision", "crispri_baselines"),
        *("read_crispri", "read_sad_hdf5", "read_scores", "score_elements"),
        "strongest_segments",
    ],
)
def test_names_are_found_when_they_are_asked_for(name: str) -> None:
    assert name in enformer_features.__all__
    assert getattr(enformer_features, name).__name__ == name
