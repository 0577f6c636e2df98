import runpy
import sys

import numpy as np
import pandas as pd
import pytest

from enformer_features import make_toy_genome
from enformer_features.datasets import write_toy_tables, write_toy_variants
from tests.conftest import REPOSITORY

EXAMPLE = str(REPOSITORY / "examples" / "eqtl_classification.py")
QUICK = ("--sequence-length", "1280", "--trees", "5", "--folds", "2")


@pytest.fixture(scope="module")
def example():
    example = runpy.run_path(EXAMPLE)
    example["auroc"].__globals__["N_DRAWS"] = 20
    return example


def run(example, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["example", *map(str, options)])
    example["main"]()


@pytest.fixture
def table(tmp_path):
    """Variants of a toy genome, as the documented table has them."""
    toy = make_toy_genome(tmp_path, n_chromosomes=2, genes_per_chromosome=40)
    genes, _ = write_toy_tables(toy, tmp_path)
    variants = pd.read_csv(write_toy_variants(toy, tmp_path), sep="\t", skiprows=1)
    variants = variants.rename(columns=lambda name: name.strip("#").lower())
    n = len(variants)
    variants = variants.assign(label=np.arange(n) % 2, group=variants["id"].str[:9])
    variants = variants.assign(tissue=["liver"] * 9 + ["brain"] * (n - 9))
    file = tmp_path / "eqtls.tsv"
    variants.to_csv(file, sep="\t", index=False)
    return {"--table": file, "--genome": toy.genome, "--gene-table": genes}


def options_of(table):
    return [word for pair in table.items() for word in pair]


def test_drawn_labels_are_called_no_evidence(shared, example, monkeypatch, capsys):
    options = ("--data", shared / "data", "--n-variants", "30")
    run(example, monkeypatch, *options, *QUICK)
    printed = capsys.readouterr().out
    assert "30 variants, 0 of them not scored" in printed
    assert "random forest on SAD" in printed
    assert "1 / distance to the nearest TSS" in printed
    assert "The labels are drawn" in printed
    assert "no evidence" in printed


def test_every_tissue_of_a_table_is_scored(example, table, monkeypatch, capsys):
    run(example, monkeypatch, *options_of(table), *QUICK)
    printed = capsys.readouterr().out
    assert "17 variants, 1 of them not scored\n  1: symbolic" in printed
    assert "liver, weights mini, groups held out" in printed
    assert "brain, weights mini, groups held out" in printed
    assert "mini is a small network" in printed


def test_the_distance_is_that_to_the_nearest_start(example):
    variants = pd.DataFrame({"chrom": list("1112"), "pos": [11, 31, 98, 5]})
    genes = pd.DataFrame({"chrom": ["1", "1"], "tss": [90, 20]})
    expected = [1 / 10, 1 / 10, 1 / 7, 0]
    np.testing.assert_allclose(example["closeness"](variants, genes), expected)


def test_a_perfect_score_has_an_auroc_of_one(example):
    labels = np.array([0, 1, 0, 1])
    groups = np.array(list("abcd"), dtype=object)
    found = example["auroc"](labels, labels.astype(float), groups)
    assert set(found.values()) == {1.0}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda rows: rows.drop(columns="group"), "no column group"),
        (lambda rows: rows.assign(label=2), "label is neither 0 nor 1"),
        (lambda rows: rows.assign(label=1), "too few for 2 folds; both labels are"),
        (lambda rows: rows.iloc[:2].assign(group=["a", "b"]), "too few for 2 folds"),
        (lambda rows: rows.assign(group="a"), "in 1 groups: too few for 2 folds"),
    ],
)
def test_tables_that_cannot_be_used_are_one_line(
    example, table, monkeypatch, change, message
):
    rows = pd.read_csv(table["--table"], sep="\t")
    change(rows).to_csv(table["--table"], sep="\t", index=False)
    with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
        run(example, monkeypatch, *options_of(table), *QUICK)


def test_folds_hold_whole_groups_and_can_all_be_fitted(example):
    labels = np.array([0, 1, 0, 1, 1, 0])
    groups = np.array(list("aabbcd"), dtype=object)
    for n_folds in (2, 8):
        folds = example["split"](labels, groups, n_folds)
        assert len(folds) == min(n_folds, 3)  # there are three of each label
        tested = np.concatenate([test for _, test in folds])
        assert sorted(tested) == list(range(6))
        assert not any({*groups[train]} & {*groups[test]} for train, test in folds)
        assert all(np.ptp(labels[train]) == 1 for train, _ in folds)
    assert example["split"](labels, groups, 1) == []


def test_a_table_needs_a_genome_and_genes(example, table, monkeypatch):
    with pytest.raises(SystemExit, match="--table needs --genome and --gene-table"):
        run(example, monkeypatch, "--table", table["--table"])
