"""The measurement of the small network, on networks and data that mean nothing."""

from __future__ import annotations

import dataclasses
import importlib
import json
import sys

import numpy as np
import pandas as pd
import pytest
import torch
from Bio.bgzf import BgzfWriter
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features import EnformerConfig, ModelHandle, make_toy_genome
from enformer_features.estimators.metrics import score_across_genes
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.model import save_checkpoint
from enformer_features.model.untrained import untrained_network
from enformer_features.training.data.windows import TrainingWindows
from tests.conftest import REPOSITORY

ASSAYS = "CAGE", "CAGE", "DNASE", "RNA", "RNA3"
PAIRS = 1, 0, 2, 3, 4
TINY = EnformerConfig(
    dim=12,
    depth=1,
    heads=2,
    attn_dim_key=5,
    dim_divisible_by=2,
    target_length=3,
    output_heads={"human": len(ASSAYS)},
)
LENGTH_BP = 5 * 128


@pytest.fixture
def module(monkeypatch):
    """Import a part of the benchmark as its own folder sees it, and forget it."""
    monkeypatch.syspath_prepend(REPOSITORY / "benchmarks")
    for name in ("mini", "_scores", "_tables", "_measure"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def draw_windows(n_windows=4, n_bins=7, margin_bp=256, seed=3):
    random = np.random.default_rng(seed)
    length = n_bins * 128 + 2 * margin_bp
    tracks = pd.DataFrame({"assay": ASSAYS, "strand_pair": PAIRS})
    return TrainingWindows(
        random.integers(0, 4, (n_windows, length), dtype=np.uint8),
        random.gamma(1.0, size=(n_windows, n_bins, len(ASSAYS))).astype(np.float16),
        tracks.assign(identifier=list("abcde"), description=""),
        pd.DataFrame({"chrom": ["chr1"] * n_windows, "start": 0, "end": 128 * n_bins}),
    )


# Scores


def test_correlations_across_bins_are_those_of_the_drawn_windows(module):
    scores = module("_scores")
    random = np.random.default_rng(5)
    truth, guess = random.normal(100, 1, (2, 3, 11, 2))
    draws = np.array([[1.0, 1, 1], [2, 0, 1]])
    r = scores.pearson_across_bins(truth, guess, draws)
    for row, windows in enumerate([[0, 1, 2], [0, 0, 2]]):
        for track in range(2):
            pair = (a[windows, :, track].ravel() for a in (truth, guess))
            assert r[row, track] == pytest.approx(np.corrcoef(*pair)[0, 1])


def test_correlations_across_genes_are_the_packages_with_ties_and_gaps(module):
    scores = module("_scores")
    random = np.random.default_rng(7)
    truth = random.integers(0, 5, (13, 3)).astype(float)
    truth[4, 1] = np.nan
    guess = random.normal(size=(13, 3)).round(1)
    genes = np.arange(13), random.integers(0, 13, 13)
    draws = np.stack([np.bincount(g, minlength=13) for g in genes]).astype(float)
    found = scores.spearman_across_genes(truth, guess, draws)
    for row, drawn in enumerate(genes):
        expected = score_across_genes(truth[drawn], guess[drawn])["spearman"]
        np.testing.assert_allclose(found[row], expected)


def test_a_constant_prediction_has_no_correlation(module):
    truth, draws = np.arange(4.0)[:, None], np.ones((1, 4))
    found = module("_scores").spearman_across_genes(truth, np.ones((4, 1)), draws)
    assert np.isnan(found).all()


def test_an_estimate_is_the_score_of_the_data_between_those_of_the_draws(module):
    scores = np.array([7.0, *np.linspace(0, 1, 101), np.nan])
    found = module("_scores").estimate(scores)
    assert dataclasses.astuple(found) == pytest.approx((7.0, 0.05, 0.95))
    assert str(found) == "7.000 (0.050 to 0.950)"


def test_ridge_is_that_of_scikit_learn_for_every_penalty(module):
    scores = module("_scores")
    random = np.random.default_rng(11)
    X, y, new = (random.normal(2, 3, shape) for shape in ((17, 5), (17, 2), (3, 5)))
    X[:, 4] = 1.0  # constant
    for alpha, found in zip(scores.ALPHAS, scores.ridge(X, y, new), strict=True):
        pipeline = make_pipeline(StandardScaler(), Ridge(alpha))
        np.testing.assert_allclose(found, pipeline.fit(X, y).predict(new), atol=1e-9)


def test_a_regions_own_values_do_not_change_its_predictions(module):
    scores = module("_scores")
    random = np.random.default_rng(13)
    X, groups = random.normal(size=(19, 3)), np.arange(19) % 4
    y = X @ random.normal(size=(3, 2)) + 0.1 * random.normal(size=(19, 2))
    predicted = scores.predict_held_out(X, y, groups)
    y[groups == 2] = 1e6
    y[groups == 2, 0] = np.nan
    again = scores.predict_held_out(X, y, groups)
    np.testing.assert_array_equal(predicted[groups == 2], again[groups == 2])
    assert not np.allclose(predicted[groups == 1], again[groups == 1])


# Bins


def test_tiles_cover_every_bin_and_the_last_may_overlap(module):
    mini = module("mini")
    windows = draw_windows(n_windows=2)
    tiles = mini.cut_tiles(windows, LENGTH_BP, n_kept=3)
    starts = [128, 4 * 128, 5 * 128]  # margins are of 1 bin and of 2
    for tile, start in zip(tiles[3:], starts, strict=True):
        np.testing.assert_array_equal(tile, windows.codes[1, start : start + LENGTH_BP])
    bins = np.array([[0, 1, 2], [3, 4, 5], [4, 5, 6]])
    joined = mini.join_tiles(np.concatenate([bins, 10 + bins])[..., None], 7)
    assert joined[..., 0].tolist() == [list(range(7)), list(range(10, 17))]


def test_tiles_that_would_leave_the_letters_are_refused(module):
    with pytest.raises(SystemExit, match="reads 1024 bp and keeps 3 bins does not fit"):
        module("mini").cut_tiles(draw_windows(), 1024, n_kept=3)


def test_the_head_reads_both_strands_and_swaps_their_tracks(module):
    mini = module("mini")
    network = mini.Network(ModelHandle(untrained_network(TINY)), LENGTH_BP, "sqrt")
    windows = draw_windows(n_windows=2, n_bins=6)
    mirrored = dataclasses.replace(windows, codes=reverse_complement(windows.codes))
    ahead, back = (mini.head_of_bins(network, part) for part in (windows, mirrored))
    np.testing.assert_allclose(ahead, back[:, ::-1, PAIRS], rtol=1e-4)
    assert not np.allclose(ahead[..., 0], ahead[..., 1], rtol=1e-2)
    plain = dataclasses.replace(network, squash="none")
    np.testing.assert_allclose(mini.head_of_bins(plain, windows) ** 2, ahead, rtol=1e-5)


def test_composition_is_centred_on_the_bin_and_falls_back_where_all_is_n(module):
    windows = draw_windows(n_windows=1, n_bins=3, margin_bp=128)
    codes = np.zeros((1, 640), np.uint8)
    codes[0, 288:352] = 1, 2, *[1] * 62  # 64 bp in the middle of the second bin
    codes[0, 416:480] = 4  # and of the third
    found = module("mini").composition_of_bins(
        dataclasses.replace(windows, codes=codes)
    )
    assert found.shape == (1, 3, 15)
    assert found[0, 1, [0, 2]].tolist() == [1.0, 1 / 64]
    assert found[0, 1, [3, 5]].tolist() == [64 / 224, 1 / 224]  # 32 are N
    np.testing.assert_array_equal(found[0, 2, :3], found[0, 2, 3:6])


def test_missing_targets_are_refused(module):
    windows = draw_windows()
    windows.targets[0, 0, 0] = np.nan
    with pytest.raises(SystemExit, match="missing targets"):
        module("mini").Bins(windows, draw_windows())


# The command


def test_squash_is_read_from_the_model_card(module, tmp_path):
    mini = module("mini")
    save_checkpoint(untrained_network(TINY), tmp_path)
    assert mini.squash_on_card(str(tmp_path)) == "none"
    card = tmp_path / "model_card.json"
    card.write_text(json.dumps({"squash": "log1p"}))
    assert mini.squash_on_card(str(tmp_path)) == "log1p"
    card.write_text(json.dumps({"squash": "cube"}))
    with pytest.raises(SystemExit, match="give --squash, one of none, sqrt, log1p"):
        mini.squash_on_card(str(tmp_path))
    assert mini.squash_on_card("untrained-tiny") == "none"


@pytest.fixture
def toy_data(tmp_path):
    """Genes, expression and genome, named as those of the data folder."""
    folder = tmp_path / "data" / "human"
    toy = make_toy_genome(folder, chromosome_length_bp=40_000, genes_per_chromosome=2)
    with BgzfWriter(str(folder / "regions.fa.gz")) as file:
        file.write(toy.genome.read_bytes())
    genes = toy.genes.assign(tss0=toy.genes["tss"], cage_tss0=toy.genes["tss"])
    genes.drop(columns="tss").to_csv(folder / "genes.tsv", sep="\t")
    toy.expression.to_csv(folder / "expression_hpa.tsv.gz", sep="\t")
    return folder.parent


def test_both_parts_are_measured_printed_and_written(
    module, monkeypatch, tmp_path, toy_data, capsys
):
    mini = module("mini")
    weights = tmp_path / "net"
    save_checkpoint(untrained_network(TINY), weights)
    records = {"train": draw_windows(3), "valid": draw_windows(2, seed=9)}
    monkeypatch.setattr(mini, "RecordFolder", lambda _: FakeFolder(records))
    out, figures = tmp_path / "out.md", tmp_path / "out.json"
    options = {"weights": weights, "data": toy_data, "markdown": out, "json": figures}
    options |= {"length-bp": LENGTH_BP, "seeds": 1, "rounds": 7}
    words = [str(w) for name, value in options.items() for w in (f"--{name}", value)]
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "argv", ["mini", *words])
    try:
        mini.main()
    finally:
        torch.set_num_threads(threads)
    text = out.read_text()
    assert text in capsys.readouterr().out
    assert "CAGE TSS 8 genes in 4 regions" in text
    assert str(tmp_path) not in text + figures.read_text()
    result = json.loads(figures.read_text())
    for part, columns in (("validation", 3), ("genes", 2)):
        assert len(result[part]["scores"]) == 4
        assert len(result[part]["untrained"]) == columns
        for name in ("network, embedding - GC/CpG", "network, embedding - untrained"):
            assert any(name in known for known in result[part]["differences"])


class FakeFolder:
    def __init__(self, parts):
        self.read = parts.__getitem__
