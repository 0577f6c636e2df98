"""The Python of docs/variants.md, and of the README's part on variants, runs."""

import re

import numpy as np
import pytest

from enformer_features import make_toy_genome, read_genes
from enformer_features.datasets import write_toy_tables, write_toy_variants
from enformer_features.variant_effect.caution import CAUTION
from tests.conftest import REPOSITORY

PAGE = (REPOSITORY / "docs" / "variants.md").read_text("utf-8")
README = (REPOSITORY / "README.md").read_text("utf-8")
BLOCK = re.compile(r"```python\n(.*?)```", re.DOTALL)

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning"),
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
]


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Files and tables that a reader has."""
    toy = make_toy_genome(tmp_path, n_chromosomes=2, genes_per_chromosome=5)
    write_toy_variants(toy, tmp_path)
    genes, _ = write_toy_tables(toy, tmp_path)
    monkeypatch.chdir(tmp_path)
    return {"genes": read_genes(genes), "rna": toy.expression}


def test_the_blocks_of_the_page_run_one_after_the_other(names, capsys):
    for code in BLOCK.findall(PAGE):
        exec(code, names)
    assert "symbolic" in capsys.readouterr().out
    table, tissues = names["table"], names["tissues"]
    assert len(table) == 3
    assert table["SAD__human_0000"].notna().tolist() == [True, True, False]
    assert list(tissues["gene"].unique()) == [names["genes"].index[0]]
    assert tissues[list(names["rna"])].notna().sum().sum() == 6
    assert names["mutated"].effects.shape == (30, 4, 2)
    read = names["scores"]["SAD__human_0000"].to_numpy()
    assert names["scores"]["pos"].tolist() == list(names["again"]["pos"])
    for other in (names["adata"].layers["SAD"], names["sad"]):
        np.testing.assert_allclose(other[:, 0], read, rtol=1e-3, atol=1e-7)


def test_the_readme_scores_a_vcf_per_tissue(names):
    (code,) = (block for block in BLOCK.findall(README) if "VariantEffect" in block)
    quick = (
        'EnformerEmbedder("untrained-tiny", sequence_length=1024, genome="genome.fa")'
    )
    code = code.replace('EnformerEmbedder(genome="hg38.fa")', quick)
    code = code.replace("196_608", "1024").replace("variants.vcf.gz", "variants.vcf")
    exec(code, names)
    scores = names["scores"]
    assert list(scores["reason"] == "") == [True, True, False]
    assert scores[list(names["rna"])[-1]].notna().tolist() == [True, True, False]


@pytest.mark.parametrize("link", re.findall(r"\]\(([^)#]+?)(?:#[^)]*)?\)", PAGE))
def test_links_lead_to_files(link):
    assert link.startswith("https://doi.org/") or (REPOSITORY / "docs" / link).is_file()


def test_the_page_says_of_reliability_what_every_output_says():
    page = " ".join(PAGE.split())
    for paper in ("s41588-023-01524-6", "s13059-023-02899-9"):
        assert paper in page
        assert any(paper in line for line in CAUTION)
    assert "Not for diagnosis" in page
    assert any("Not for diagnosis" in line for line in CAUTION)
