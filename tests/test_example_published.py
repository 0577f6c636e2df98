import os
import runpy
import sys
from pathlib import Path

import pytest

from enformer_features.exceptions import UnmatchedWarning
from tests.conftest import REPOSITORY

MODELS = ["Xpresso", "Enformer", "Basenji2", "ExPecto"]
# Of data/README.md, over 2,811 genes.
EXPECTED = {
    "B-cells": [0.334, 0.534, 0.524, 0.497],
    "Daudi": [0.410, 0.555, 0.542, 0.549],
    "liver": [0.328, 0.439, 0.469, 0.471],
}


@pytest.fixture
def annotation():
    """A table or annotation of all genes, which the reference data do not hold."""
    named = os.environ.get("ENFORMER_FEATURES_ANNOTATION")
    if not named:
        pytest.skip("ENFORMER_FEATURES_ANNOTATION names no annotation of all genes")
    return Path(named)


def scores(shared, genes, monkeypatch, capsys):
    """Run the example; return Spearman's r and its interval by tissue and model."""
    example = runpy.run_path(str(REPOSITORY / "examples" / "published_predictions.py"))
    options = ["--data", str(shared / "data"), "--genes", str(genes), "--draws", "20"]
    monkeypatch.setattr(sys, "argv", ["example", *options])
    with pytest.warns(UnmatchedWarning, match="ids matched"):
        example["main"]()
    printed = capsys.readouterr().out
    assert "Human Protein Atlas, proteinatlas.org, CC BY-SA" in printed
    assert " of 3,259 genes used" in printed
    assert "liver: Enformer minus Basenji2 " in printed
    lines = [line.split() for line in printed.splitlines() if "across genes" in line]
    return {tuple(line[:2]): [float(text) for text in line[4:]] for line in lines}


def test_all_published_predictions_have_the_known_correlations(
    shared, annotation, monkeypatch, capsys
):
    found = scores(shared, annotation, monkeypatch, capsys)
    for tissue, expected in EXPECTED.items():
        for model, spearman in zip(MODELS, expected, strict=True):
            n, r, low, high = found[tissue, model]
            assert n > 2_700
            assert r == pytest.approx(spearman, abs=0.005)
            assert low < r < high


def test_published_predictions_of_the_genes_at_hand_are_scored(
    shared, monkeypatch, capsys
):
    """Real predictions against real expression, of the few genes whose id is known."""
    found = scores(shared, shared / "data/human/genes.tsv", monkeypatch, capsys)
    assert set(found) == {(tissue, model) for tissue in EXPECTED for model in MODELS}
    assert all(n > 10 and low < r < high for n, r, low, high in found.values())


@pytest.mark.parametrize("suffix", [".tsv", ".gtf"])
def test_symbols_may_come_from_a_table_or_an_annotation(tmp_path, suffix):
    """Symbols that stand for two genes are left out."""
    pairs = [("ENSG01.2", "ABC"), ("ENSG02", "TWICE"), ("ENSG03", "TWICE")]
    if suffix == ".tsv":
        text = "gene_id\tgene_name\n" + "".join(f"{i}\t{n}\n" for i, n in pairs)
    else:
        text = "".join(
            f'1\tx\tgene\t{9 + row}\t99\t.\t+\t.\tgene_id "{i}"; gene_name "{n}";\n'
            for row, (i, n) in enumerate(pairs)
        )
    path = tmp_path / f"genes{suffix}"
    path.write_text(text)
    example = runpy.run_path(str(REPOSITORY / "examples" / "published_predictions.py"))
    assert example["read_ids"](path).to_dict() == {"abc": "ENSG01"}
