"""benchmarks/finetune.py: what it makes up, and that it runs. Its figures need time."""

from __future__ import annotations

import importlib
import sys

import numpy as np
import pytest

from enformer_features.genomics.encoding import decode, reverse_complement
from enformer_features.genomics.genome import open_genome
from tests.conftest import REPOSITORY


@pytest.fixture
def benchmark(monkeypatch):
    """Import the benchmark as its own folder sees it, and forget it afterwards."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("finetune", "_scores"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module("finetune")


def small(benchmark, **sizes):
    chosen = {"n_chromosomes": 3, "n_held_out": 1, "n_genes": 4, **sizes}
    return benchmark.World(**chosen)


def test_motifs_stand_2_to_6_kb_away_in_the_genes_direction(benchmark, tmp_path):
    data = benchmark.make_data(small(benchmark), tmp_path)
    genome, motif = open_genome(data.genome), benchmark.MOTIF
    assert set(data.genes["strand"]) == {"+", "-"}
    for (_, gene), copies in zip(data.genes.iterrows(), data.copies, strict=True):
        start = gene["tss"] - 6_000 + (gene["strand"] == "-")
        codes = genome.fetch(gene["chrom"], start, start + 12_000)
        if gene["strand"] == "-":
            codes = reverse_complement(codes)
        read = decode(codes)
        assert read[:4_000].count(motif) == copies
        assert read[4_000:8_000].count(motif) == 0


def test_expression_follows_the_copies_upstream(benchmark, tmp_path):
    data = benchmark.make_data(small(benchmark, n_genes=60), tmp_path)
    assert np.corrcoef(data.copies, data.expression)[0, 1] > 0.9
    assert set(data.genes["chrom"][data.held_out]) == {"chr3"}


def test_all_models_are_scored_on_the_same_held_out_genes(benchmark):
    table, found = benchmark.run(small(benchmark), "mini", ["head"], max_epochs=1)
    names = [one.name for one in found]
    assert names[0] == "the true number of copies"
    assert names[1:5] == [f"Ridge, {name}" for name in benchmark.POOLS]
    assert names[5:] == ['EnformerRegressor(tune="head")']
    assert found[0].pearson[0] > 0.5
    assert table.count("\n| ") == 2 + len(found)
    assert "4 on chromosomes held out" in table
