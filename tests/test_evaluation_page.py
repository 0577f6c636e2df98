"""The Python of docs/evaluation.md runs as it stands."""

import re

import pytest

from enformer_features import make_toy_genome
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "evaluation.md").read_text("utf-8")


def test_the_block_evaluates_and_writes(tmp_path, monkeypatch, capsys):
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    toy = make_toy_genome(tmp_path, n_chromosomes=4, genes_per_chromosome=8)
    monkeypatch.chdir(tmp_path)
    exec(code, {"genes": toy.genes, "rna": toy.expression})
    printed = capsys.readouterr().out
    assert "windows: 5 folds, 32 of 32 rows tested; drawn: 4 groups" in printed
    assert (tmp_path / "scores" / "table.md").is_file()


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)]+)\)", PAGE))
def test_links_lead_to_files(link):
    assert (REPOSITORY / "docs" / link).is_file()
