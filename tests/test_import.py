"""What importing the package, or asking the command for help, loads."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
