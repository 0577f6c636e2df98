import runpy
import sys
from functools import partial

import anndata
import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.WindowWarning",
)


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_new_tissue_heads_prints_its_table_and_writes_its_files(
    shared, tmp_path, monkeypatch, capsys
):
    """On real genes and expression, with short windows, and few of all."""
    path = REPOSITORY / "examples" / "new_tissue_heads.py"
    names = runpy.run_path(str(path))["main"].__globals__
    read_expression = names["read_expression"]
    few = {
        "read_expression": lambda path: read_expression(path).iloc[::2, :3],
        "STARTS": {"CAGE TSS": "cage_tss0"},
        "evaluate": partial(names["evaluate"], n_boot=5),
    }
    names.update(few)
    features, figure = tmp_path / "genes.h5ad", tmp_path / "figure.png"
    options = ["--sequence-length", "1024", "--device", "cpu", "--out", str(tmp_path)]
    options += ["--features", str(features), "--figure", str(figure)]
    data = str(shared / "data")
    monkeypatch.setattr(sys, "argv", ["example", "--data", data, *options])
    names["main"]()
    with pytest.raises(SystemExit, match=r"^error: .*table\.tsv.*exists"):
        names["main"]()
    printed = capsys.readouterr().out
    for model in (
        *("mini, ridge", "mini, trees", "training mean", "9 GC/CpG numbers"),
        *("words of 4 letters", "untrained network", "permuted targets"),
    ):
        assert model in printed
    assert "Human Protein Atlas, proteinatlas.org, CC BY-SA" in printed
    assert (tmp_path / "CAGE_TSS" / "table.md").is_file()
    assert figure.read_bytes().startswith(b"\x89PNG")
    adata = anndata.read_h5ad(features)
    assert adata.shape == (89, 192)
    assert adata.obsm["X_expression"].shape == (89, 3)


@pytest.mark.parametrize("option", ["--figure", "--features"])
def test_paths_are_checked_before_any_work(shared, tmp_path, monkeypatch, option):
    path = REPOSITORY / "examples" / "new_tissue_heads.py"
    main = runpy.run_path(str(path))["main"]
    options = ["--data", str(shared / "data"), option]
    monkeypatch.setattr(sys, "argv", ["example", *options, f"{tmp_path}/a/b.txt"])
    with pytest.raises(SystemExit, match=r"error: .* there is no folder"):
        main()
    monkeypatch.setattr(sys, "argv", ["example", *options, f"{tmp_path}/b.txt"])
    with pytest.raises(SystemExit, match=r"error: .*b.txt must end in \."):
        main()


@pytest.mark.parametrize(
    "name", ["new_tissue_heads", "transfer_pbmc", "published_predictions"]
)
def test_data_that_are_not_there_are_an_error_of_one_line(name, tmp_path, monkeypatch):
    main = runpy.run_path(str(REPOSITORY / "examples" / f"{name}.py"))["main"]
    options = ["--data", str(tmp_path)]
    options += ["--genes", "none.gtf"] if name == "published_predictions" else []
    monkeypatch.setattr(sys, "argv", ["example", *options])
    with pytest.raises(SystemExit, match=r"^error: [^\n]*\.(tsv|csv)[^\n]*$"):
        main()
