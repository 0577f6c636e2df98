import re
import warnings

import pytest

from enformer_features import (
    EnformerEmbedder,
    UntrainedWeightsWarning,
    make_toy_genome,
)
from tests.conftest import REPOSITORY

README = (REPOSITORY / "README.md").read_text(encoding="utf-8")


def gtf_of(genes):
    lines = []
    for name, gene in genes.iterrows():
        start, end = gene.tss, gene.tss + 1
        fields = [gene.chrom, "toy", "gene", start + 1, end, ".", gene.strand, "."]
        fields.append(f'gene_id "{name}";')
        lines.append("\t".join(map(str, fields)))
    return "\n".join(lines) + "\n"


def test_the_first_python_block_runs_on_a_toy_genome(tmp_path, monkeypatch):
    """Only the files and the weights are others than the reader's."""
    toy = make_toy_genome(tmp_path, n_chromosomes=2, genes_per_chromosome=4)
    (tmp_path / "gencode.gtf").write_text(gtf_of(toy.genes))
    code = re.search(r"```python\n(.*?)```", README, re.DOTALL).group(1)
    quick = 'weights="untrained-tiny", sequence_length=1024, genome="genome.fa"'
    code = code.replace('genome="hg38.fa"', quick).replace("gtf.gz", "gtf")
    monkeypatch.chdir(tmp_path)
    names = {"rna_seq": toy.expression}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        exec(code, names)
        predicted = names["model"].predict(names["genes"])
    assert predicted.shape == toy.expression.shape


def test_defaults_in_the_readme_are_the_real_ones():
    parameters = EnformerEmbedder().get_params()
    rows = re.findall(r"^\| `(\w+)` \| `([^`]+)`", README, re.MULTILINE)
    assert len(rows) >= 6
    for name, default in rows:
        assert eval(default) == parameters[name]


@pytest.mark.parametrize("link", re.findall(r"\]\((docs/[^)]+)\)", README))
def test_pages_that_the_readme_names_exist(link):
    assert (REPOSITORY / link).is_file()
