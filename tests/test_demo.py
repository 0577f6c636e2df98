import json
import shlex
import subprocess
import sys

import anndata
import pandas as pd
import pytest

from enformer_features.cli import main
from enformer_features.demo import BASELINE, run_demo
from enformer_features.exceptions import InputError


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("demo") / "made"


@pytest.fixture(scope="module")
def result(folder):
    return run_demo(folder)


def test_planted_motifs_are_learnt_beyond_gc_and_cpg_content(result):
    ridge = next(name for name in result.scores if name.startswith("Ridge"))
    for tissue, score in result.scores[ridge].items():
        assert score > result.scores[BASELINE][tissue] + 0.1


def test_every_number_of_the_network_says_which_network_it_is(result):
    for name in result.scores:
        assert name == BASELINE or name.endswith("on mini")
    assert "it is not Enformer" in " ".join(result.summary.split())


def test_files_hold_what_they_say(result, folder):
    assert all((folder / file).is_file() for file in result.files)
    adata = anndata.read_h5ad(folder / "features.h5ad")
    assert adata.shape == (240, 192)
    assert adata.uns["enformer_features"]["weights"] == "mini"
    scores = pd.read_csv(folder / "scores.tsv", sep="\t", index_col=0)
    assert list(scores.columns) == list(result.scores)
    assert (folder / "predictions.png").read_bytes().startswith(b"\x89PNG")


def test_a_second_run_embeds_nothing_and_says_so(result, folder):
    assert (result.n_windows, result.n_computed) == (240, 240)
    assert "240 windows were embedded; their features are kept" in result.summary
    again = run_demo(folder)
    assert (again.n_windows, again.n_computed) == (240, 0)
    assert "Nothing was embedded: all 240 windows are known" in again.summary
    assert again.scores == result.scores


def test_a_second_process_embeds_nothing_either(result, folder):
    done = subprocess.run(
        [sys.executable, "-m", "enformer_features.cli", "demo", str(folder), "--json"],
        check=True,
        stdout=subprocess.PIPE,
    )
    assert json.loads(done.stdout)["n_computed"] == 0


def test_it_replaces_its_own_files_and_no_others(result, folder):
    (folder / "notes.txt").write_text("mine")
    again = run_demo(folder)
    assert again.scores == result.scores
    assert (folder / "notes.txt").read_text() == "mine"


def test_a_folder_of_somebody_elses_is_left_alone(tmp_path):
    (tmp_path / "genome.fa").write_text(">mine\nACGT\n")
    with pytest.raises(InputError, match=r"did not make \(genome\.fa\)"):
        run_demo(tmp_path)
    assert (tmp_path / "genome.fa").read_text() == ">mine\nACGT\n"


def test_a_file_in_the_way_is_refused(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="is a file; name a folder"):
        run_demo(tmp_path / "file")


def test_the_commands_that_it_shows_run(result, folder, monkeypatch):
    monkeypatch.chdir(folder)
    shown = result.summary.split("Next, the same steps")[1].split("On your own")[0]
    commands = shown.replace("\\\n", " ").split("enformer-features ")[1:]
    assert len(commands) == 2
    for command in commands:
        assert main([*shlex.split(command), "--quiet"]) == 0
    assert (folder / "model.zip").is_file()
