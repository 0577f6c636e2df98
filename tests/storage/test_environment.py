import json
import subprocess
import sys

import numpy as np

from enformer_features import __version__
from enformer_features.storage import environment as module
from enformer_features.storage.environment import environment


def test_versions_are_those_that_are_installed_and_all_is_plain():
    described = environment()
    assert json.loads(json.dumps(described)) == described
    assert described["enformer_features"] == __version__
    assert described["packages"]["numpy"] == np.__version__
    assert described["packages"]["xgboost"]  # also as xgboost-cpu


def test_what_is_not_installed_has_no_version(monkeypatch):
    monkeypatch.setattr(module, "PACKAGES", ("no-such-package",))
    assert environment()["packages"] == {"no-such-package": None}


def test_nothing_heavy_is_imported_to_tell():
    code = (
        "import sys; from enformer_features.storage.environment import environment\n"
        "assert environment()['threads'] is None\n"
        "assert not {'torch', 'pandas', 'anndata'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
