"""The Python of docs/cookbook.md runs as it stands."""

import re

import pytest

from enformer_features import make_toy_genome
from enformer_features.datasets import write_toy_tables
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "cookbook.md").read_text("utf-8")


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.LeakageWarning")
def test_the_answers_run(tmp_path, monkeypatch, capsys):
    toy = make_toy_genome(tmp_path, n_chromosomes=2, genes_per_chromosome=4)
    write_toy_tables(toy, tmp_path)
    monkeypatch.chdir(tmp_path)
    names = {"genes": toy.genes}
    blocks = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(blocks) == 8
    for block in blocks:
        exec(block, names)
    assert "ENCFF" in capsys.readouterr().out


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+)(?:#\S+)?\)", PAGE))
def test_links_lead_to_files(link):
    assert (REPOSITORY / "docs" / link).is_file()
