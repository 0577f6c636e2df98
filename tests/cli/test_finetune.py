import io
import json
import math

import numpy as np
import pandas as pd
import pytest

from enformer_features import EnformerEmbedder, read_genes
from enformer_features.model.checkpoints import save_checkpoint
from enformer_features.model.registry import load_weights
from enformer_features.training import EnformerRegressor
from enformer_features.training.tuning.state import Checkpoint
from tests.cli.conftest import LENGTH

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)
QUICK = ("--tune", "head", "--max-epochs", "2")


@pytest.fixture
def finetune(cli, toy, tmp_path):
    def call(*options, targets=toy.expression):
        folder = tmp_path / "tuned"
        arguments = [*toy.options, "--targets", targets, "-o", folder, *QUICK]
        return folder, cli("finetune", *arguments, *options)

    return call


@pytest.fixture
def interrupted(finetune, monkeypatch):
    """Return a call that is interrupted in its second epoch."""

    def call(*options):
        keep = Checkpoint.keep

        def keeping(self, net, rng):
            if len(net.history) > 1:
                raise KeyboardInterrupt
            keep(self, net, rng)

        with monkeypatch.context() as patch:
            patch.setattr(Checkpoint, "keep", keeping)
            return finetune(*options)

    return call


def test_the_network_is_the_one_that_python_would_tune(finetune, toy):
    options = (*("--tune", "last", "--loss", "mse", "--learning-rate", "0.001"),
               *("--batch-size", "3", "--patience", "4", "--weight-decay", "0.1"),
               *("--validation-fraction", "0.4", "--seed", "7", "--log1p"),
               *("--strand", "average", "--reverse-complement", "--shift-bp", "3"),
               *("--activation-checkpointing", "--pooling", "mean"))  # fmt: skip
    folder, done = finetune(*options, "--holdout", "chr3")
    assert done.code == 0
    genes = read_genes(toy.genes)
    fitted = (genes["chrom"] != "chr3").to_numpy()
    y = np.log1p(pd.read_csv(toy.expression, sep="\t", index_col=0))
    by_hand = EnformerRegressor(
        "untrained-tiny",
        genome=toy.genome,
        sequence_length=LENGTH,
        tune="last",
        loss="mse",
        learning_rate=0.001,
        max_epochs=2,
        batch_size=3,
        patience=4,
        weight_decay=0.1,
        validation_fraction=0.4,
        random_state=7,
        strand="average",
        reverse_complement=True,
        shift_bp=3,
        activation_checkpointing=True,
        pooling="mean",
    ).fit(genes[fitted], y[fitted])
    loaded = EnformerRegressor.load(folder)
    np.testing.assert_array_equal(loaded.predict(genes), by_hand.predict(genes))
    assert loaded.target_names_ == ["log1p(tissue_1)", "log1p(tissue_2)"]
    assert loaded.genome == str(toy.genome.resolve())
    assert loaded.device == "auto"
    assert not folder.with_name("tuned.partial").exists()


def test_lora_has_a_rank(finetune):
    folder, done = finetune("--tune", "lora", "--lora-rank", "2")
    assert done.code == 0
    assert EnformerRegressor.load(folder).lora_rank == 2


def test_the_folder_can_be_given_as_weights(finetune, toy):
    folder, _ = finetune()
    embedder = EnformerEmbedder(
        folder, genome=toy.genome, output="tracks", organism="targets"
    )
    genes = read_genes(toy.genes)
    expected = EnformerRegressor.load(folder).predict(genes)
    np.testing.assert_allclose(embedder.transform(genes), expected, rtol=1e-5)


def test_scores_stand_beside_the_baseline_with_axis_and_note(finetune):
    _, done = finetune("--holdout", "chr3", "--target", "tissue_2")
    scores = pd.read_csv(io.StringIO(done.out), sep="\t", keep_default_na=False)
    assert list(scores["model"]) == ["finetune head", "composition baseline"]
    assert list(scores["across"]) == ["across genes"] * 2
    assert list(scores["n"]) == [4, 4]
    notes = list(scores["note"])
    assert notes == ["untrained weights: says nothing about Enformer", ""]


def test_scores_and_summary_can_be_files_and_json(finetune, tmp_path):
    scores_file = tmp_path / "scores.csv"
    folder, done = finetune("--holdout", "chr3", "--scores", scores_file, "--json")
    summary = json.loads(done.out)
    assert (summary["n_fitted"], summary["n_held_out"]) == (8, 4)
    assert summary["out"] == str(folder)
    assert [row["epoch"] for row in summary["history"]] == [1, 2]
    assert len(summary["validation_groups"]) == 1
    assert summary["trained_weights"] is False
    table = pd.read_csv(scores_file, keep_default_na=False)
    assert summary["scores"][0]["pearson"] == pytest.approx(table["pearson"][0])


def test_without_held_out_rows_nothing_is_scored(finetune):
    _, done = finetune()
    assert (done.code, done.out) == (0, "")
    assert "nothing was scored: --holdout CHROM keeps rows for that" in done.err
    assert "trained 2 epochs, took the weights of" in done.err


def test_a_dry_run_reads_no_weights_and_writes_nothing(finetune, exploding):
    options = ("--weights", exploding, "--tune", "last", "--holdout", "chr3")
    folder, done = finetune(*options, "--dry-run", "--json")
    plan = json.loads(done.out)
    assert (plan["n_fitted"], plan["n_held_out"], plan["n_targets"]) == (8, 4, 2)
    assert (plan["n_train_rows"], plan["n_validation_rows"]) == (4, 4)
    assert set(plan["validation_groups"]) < {"chr1", "chr2"}
    assert plan["trains"].startswith("a head, the last transformer block")
    assert plan["n_parameters"] > 1000
    assert (plan["max_epochs"], plan["n_steps"]) == (2, 2)
    assert plan["would_write"] == [str(folder)]
    assert not list(folder.parent.glob("tuned*"))
    assert "n parameters: " in finetune("--dry-run")[1].out


# Interrupted


def test_a_fit_that_was_interrupted_goes_on_with_resume(finetune, interrupted, toy):
    folder, done = interrupted()
    state = folder.with_name("tuned.partial")
    assert done.code == 130
    assert "to go on, run the command again with --resume" in done.err
    assert f"the last finished epoch is kept in {state}" in done.err
    assert not folder.exists()
    refused = finetune()[1]
    assert (refused.code, "go on with --resume, or delete" in refused.err) == (2, True)
    plan = json.loads(finetune("--resume", "--dry-run", "--json")[1].out)
    assert (plan["epochs_done"], plan["n_steps"]) == (1, 2)
    other = finetune("--resume", "--batch-size", "2")[1]
    assert other.code == 2
    assert "settings.batch_size: begun with 4, now 2" in other.err
    assert finetune("--resume")[1].code == 0
    assert not state.exists()
    genes = read_genes(toy.genes)
    resumed = EnformerRegressor.load(folder).predict(genes)
    finetune("--overwrite")
    whole = EnformerRegressor.load(folder).predict(genes)
    np.testing.assert_array_equal(resumed, whole)


def test_there_must_be_something_to_resume(finetune):
    _, done = finetune("--resume")
    assert done.code == 2
    assert "there is nothing to resume: no fit was begun in" in done.err


def test_a_fit_that_did_not_get_through_an_epoch_is_begun_anew(finetune, monkeypatch):
    def full(self, net, rng):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Checkpoint, "keep", full)
        folder, done = finetune("--batch-size", "3")
    assert done.code == 130
    assert "--resume" not in done.err
    state = folder.with_name("tuned.partial")
    assert (state / "run.json").exists()
    (state / ".state.pt.killed.partial").touch()
    assert finetune("--batch-size", "2")[1].code == 0


# Errors, before any weights are read


def test_what_exists_is_replaced_only_when_asked(finetune, tmp_path):
    folder, _ = finetune("--seed", "1")
    _, done = finetune()
    assert done.code == 2
    assert "pass --overwrite to replace it" in done.err
    assert finetune("--overwrite", "--seed", "2")[1].code == 0
    assert EnformerRegressor.load(folder).random_state == 2


def test_the_weights_to_begin_with_are_not_replaced(finetune, tmp_path):
    weights = tmp_path / "tuned"
    save_checkpoint(load_weights("untrained-tiny").module, weights)
    for given in (weights, weights / "model.safetensors"):
        _, done = finetune("--weights", given, "--overwrite")
        assert done.code == 2
        assert "holds the weights to begin with" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--holdout", "chr8"], "hold out: chr8; there are chr1, chr2, chr3"),
        (["--target", "liver"], "no column liver; there are tissue_1, tissue_2"),
        (["--tune", "heads"], "--tune 'heads' is not one of"),
        (["--loss", "poison"], "did you mean 'poisson'?"),
        (["--learning-rate", "0"], "--learning-rate 0.0 must be a number above 0"),
        (["--batch-size", "0"], "--batch-size 0 must be a whole number"),
        (["--patience", "0"], "--patience 0 must be"),
        (["--lora-rank", "-1"], "--lora-rank -1 must be"),
        (["--shift-bp", "65"], "at most 64"),
        (["--reverse-complement"], "needs --strand 'ignore' or 'average'"),
        (["--pooling", "tss", "--pooling", "mean"], "give one of 'tss', 'center'"),
        (["--sequence-length", "100"], "positive multiple of 128"),
        (["--seed", "-1"], "--seed -1 must be from 0 to 4294967295"),
        (["--scores", "scores.tsv"], "--scores needs rows to score"),
        (["--weights", "minni"], "did you mean 'mini'?"),
    ],
)
def test_unusable_options_are_refused_before_the_weights_are_read(
    finetune, exploding, options, message
):
    folder, done = finetune("--weights", exploding, *options)
    assert done.code == 2
    assert message in done.err
    assert not list(folder.parent.glob("tuned*"))


def test_counts_are_not_negative(finetune, toy, tmp_path, exploding):
    targets = tmp_path / "targets.tsv"
    table = pd.read_csv(toy.expression, sep="\t", index_col=0)
    (table - table.mean()).to_csv(targets, sep="\t")
    _, done = finetune("--weights", exploding, targets=targets)
    assert done.code == 2
    assert "negative values in rows" in done.err
    assert "use --loss 'mse'" in done.err


def test_folders_that_cannot_be_are_told(cli, toy, tmp_path):
    (tmp_path / "file").touch()
    (tmp_path / "new.partial").mkdir()
    (tmp_path / "new.partial" / "thesis.tex").touch()
    for out, message in (
        (tmp_path / "file", "is a file; give the name of a folder"),
        (tmp_path / "absent" / "tuned", "is no folder that can be written"),
        (tmp_path / "new", "new.partial exists and is not an empty folder"),
    ):
        options = (*toy.options, "--targets", toy.expression, "-o", out)
        done = cli("finetune", *options, *QUICK)
        assert (done.code, message in done.err) == (2, True)


def test_the_batch_size_of_the_environment_is_not_that_of_training(
    finetune, monkeypatch
):
    monkeypatch.setenv("ENFORMER_FEATURES_BATCH_SIZE", "64")
    plan = json.loads(finetune("--dry-run", "--json")[1].out)
    assert plan["n_steps"] == 2 * math.ceil(plan["n_train_rows"] / 4)


def test_held_out_rows_that_cannot_be_read_are_told(finetune, toy, tmp_path):
    genes = tmp_path / "genes.tsv"
    table = pd.read_csv(toy.genes, sep="\t", index_col=0)
    label = table.index[table["chrom"] == "chr3"][0]
    table.loc[label, "tss"] = 3
    table.to_csv(genes, sep="\t")
    options = ("--genes", genes, "--edge", "nan", "--json")
    _, done = finetune(*options, "--holdout", "chr3")
    assert done.code == 3
    summary = json.loads(done.out)
    assert [row["name"] for row in summary["failed"]] == [label]
    assert summary["scores"][0]["n"] == 3
    _, done = finetune(*options, "--overwrite")
    assert (done.code, "cannot be trained on: row" in done.err) == (2, True)
