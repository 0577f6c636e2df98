import runpy
import sys

from tests.conftest import REPOSITORY


def test_transfer_pbmc_says_that_38_genes_show_nothing(shared, monkeypatch, capsys):
    """On official embeddings and real measurements, with few permutations."""
    example = runpy.run_path(str(REPOSITORY / "examples" / "transfer_pbmc.py"))
    data = str(shared / "data")
    options = ["--data", data, "--permutations", "2"]
    monkeypatch.setattr(sys, "argv", ["example", *options])
    example["main"]()
    printed = capsys.readouterr().out
    assert "38 genes, 12 cell types" in printed
    rows = {
        line[:42].strip(): [float(value) for value in line.split()[-2:]]
        for line in printed.splitlines()[3:7]
    }
    assert next(iter(rows)) == "Enformer embedding + Ridge"
    assert list(rows)[1] == "training mean"
    assert abs(rows["Enformer embedding + Ridge"][0]) < 0.2
    assert rows["training mean"][0] < -0.2  # high rows left out, lower mean
    assert "38 genes are too few" in printed
