import runpy
import sys

import pytest

from enformer_features.exceptions import UnmatchedWarning
from tests.conftest import REPOSITORY

MODELS = ["Xpresso", "Enformer", "Basenji2", "ExPecto"]
# Of data/README.md, over 2,811 genes whose symbols were mapped by another table.
EXPECTED = {
    "B-cells": [0.334, 0.534, 0.524, 0.497],
    "Daudi": [0.410, 0.555, 0.542, 0.549],
    "liver": [0.328, 0.439, 0.469, 0.471],
}


def test_published_predictions_have_the_known_correlations(shared, monkeypatch, capsys):
    """Real predictions of four models against real expression."""
    example = runpy.run_path(str(REPOSITORY / "examples" / "published_predictions.py"))
    options = ["--data", str(shared / "data"), "--draws", "20"]
    monkeypatch.setattr(sys, "argv", ["example", *options])
    with pytest.warns(UnmatchedWarning, match="2862 ids matched"):
        example["main"]()
    printed = capsys.readouterr().out
    assert "Human Protein Atlas, proteinatlas.org, CC BY-SA" in printed
    found = {
        tuple(line.split()[:2]): line.split()[2:]
        for line in printed.splitlines()
        if "across genes" in line
    }
    for tissue, expected in EXPECTED.items():
        for model, spearman in zip(MODELS, expected, strict=True):
            *axis, n, r, low, high = found[tissue, model]
            assert axis == ["across", "genes"]
            assert n == "2862"
            assert float(r) == pytest.approx(spearman, abs=0.005)
            assert float(low) < float(r) < float(high)
    assert "liver: Enformer minus Basenji2 -0.0" in printed


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
