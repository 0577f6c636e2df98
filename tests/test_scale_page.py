"""The commands and the Python of docs/scale.md."""

import re
import shlex

import anndata
import numpy as np
import pytest

from enformer_features import EnformerEmbedder
from enformer_features.cli import _parser
from enformer_features.estimators.embedding_store import (
    open_embedding_store,
    plan_store,
)
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "scale.md").read_text("utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"^.*?(enformer-features (?:store|weights) .*)$", PAGE, re.M)
SECONDS, GENES = r"\| (\d+\.\d) (?:\(measured\)|each) \| (\d+(?:\.\d)?) (\w+)", 20_000


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_is_one(line):
    line = line.split("`")[0].replace("$SLURM_ARRAY_TASK_ID", "7").rstrip("& ")
    words = shlex.split(line)[1:]
    assert _parser(words).parse_args(words).command == words[0]


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_the_script_for_one_node_fills_a_store(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = ["ACGT" * 256, "GATTACAT" * 128]
    plan_store(
        EnformerEmbedder("untrained-tiny", sequence_length=1024), rows, "features.zarr"
    )
    script = PYTHON[0].replace("gpus=[0, 1, 2, 3]", "n_workers=1, threads=1")
    exec(script, {"__name__": "__main__"})
    path = open_embedding_store("features.zarr").finalize()
    assert np.isfinite(anndata.read_zarr(path).X).all()


def test_the_script_for_slurm_is_python():
    compile(PYTHON[1], "docs/scale.md", "exec")


@pytest.mark.parametrize(("seconds", "cost", "unit"), re.findall(SECONDS, PAGE))
def test_costs_follow_from_the_measured_seconds(seconds, cost, unit):
    results = (REPOSITORY / "benchmarks" / "RESULTS.md").read_text("utf-8")
    assert f"| {seconds} s |" in results
    n_workers = {"64": 1, "45": 1, "41": 1, "38": 100, "2.0": 32}[cost]
    in_seconds = {"hours": 3600, "minutes": 60}[unit]
    expected = float(seconds) * GENES / n_workers / in_seconds
    assert float(cost) == pytest.approx(expected, abs=0.5 if "." not in cost else 0.05)
