import io
import json
import shutil
import warnings

import anndata
import joblib
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from enformer_features import (
    EnformerEmbedder,
    UntrainedWeightsWarning,
    load_model,
    read_genes,
    save_model,
)
from enformer_features.estimators.conformal import GroupedConformal
from enformer_features.model.registry import weights_digest
from enformer_features.training import EnformerRegressor
from tests.cli.conftest import LENGTH

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


def fitted(toy, output="default"):
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=LENGTH
    )
    model = make_pipeline(embedder.set_output(transform=output), Ridge())
    expression = pd.read_csv(toy.expression, sep="\t", index_col=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        return model.fit(read_genes(toy.genes), expression)


@pytest.fixture(scope="module")
def model_file(toy, tmp_path_factory):
    model = fitted(toy)
    file = tmp_path_factory.mktemp("models") / "toy.model"
    save_model(model, file)
    return file


def test_predictions_are_those_of_the_model_in_row_order(cli, toy, model_file):
    done = cli("predict", model_file, "--genes", toy.genes)
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col="name")
    genes = read_genes(toy.genes)
    assert done.code == 0
    assert list(table.index) == list(genes.index)
    assert list(table.columns) == ["prediction_0", "prediction_1"]
    expected = load_model(model_file).predict(genes)
    np.testing.assert_allclose(table, expected, rtol=1e-12)


@pytest.mark.parametrize("is_kept", [True, False])
def test_rows_are_kept_where_it_is_asked_for(cli, toy, model_file, tmp_path, is_kept):
    cache = tmp_path / "rows" if is_kept else "none"
    plain = cli("predict", model_file, "--genes", toy.genes)
    done = cli("predict", model_file, "--genes", toy.genes, "--cache", cache)
    assert (done.code, done.out) == (0, plain.out)
    assert (tmp_path / "rows").exists() == is_kept


def test_predictions_can_be_an_anndata(cli, toy, model_file, tmp_path):
    file = tmp_path / "predictions.h5ad"
    done = cli("predict", model_file, "--genes", toy.genes, "-o", file, "--json")
    adata = anndata.read_h5ad(file)
    assert adata.shape == (12, 2)
    assert "window_start" in adata.obs
    assert json.loads(done.out)["targets"] == ["prediction_0", "prediction_1"]


def test_the_genome_may_lie_elsewhere(cli, toy, model_file, tmp_path):
    moved = tmp_path / "moved.fa"
    shutil.copy(toy.genome, moved)
    there = cli("predict", model_file, "--genes", toy.genes)
    here = cli("predict", model_file, "--genes", toy.genes, "--genome", moved)
    assert here.out == there.out
    absent = tmp_path / "absent.fa"
    done = cli("predict", model_file, "--genes", toy.genes, "--genome", absent)
    assert (done.code, "absent.fa" in done.err) == (2, True)


def test_a_dry_run_says_what_would_be_computed(cli, toy, model_file):
    done = cli("predict", model_file, "--genes", toy.genes, "--dry-run", "--json")
    assert json.loads(done.out)["n_rows"] == 12


def test_rows_that_fail_are_nan_and_the_others_are_predicted(
    cli, toy, model_file, tmp_path
):
    bed = tmp_path / "peaks.bed"
    bed.write_text("chr9\t1\t9\tbad\nchr1\t9000\t9100\tgood\n")
    options = ("predict", model_file, "--regions", bed)
    refused = cli(*options)
    assert (refused.code, "unknown contig 'chr9'" in refused.err) == (2, True)
    done = cli(*options, "--on-error", "nan")
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col="name")
    assert done.code == 3
    assert table.isna().any(axis=1).to_dict() == {"bad": True, "good": False}


def test_when_no_row_can_be_computed_there_is_nothing_to_predict(cli, model_file):
    options = ("--region", "chr9:1-100", "--region", "chr9:1-200", "--on-error", "nan")
    done = cli("predict", model_file, *options)
    assert done.code == 2
    assert "none of 2 rows could be computed; the first, chr9:1-100: " in done.err


def test_files_that_are_no_models_are_bad_input(cli, toy, tmp_path):
    absent = tmp_path / "absent.model"
    done = cli("predict", absent, "--genes", toy.genes)
    assert (done.code, "cannot be loaded" in done.err) == (2, True)
    ridge = tmp_path / "ridge.model"
    save_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), ridge)
    done = cli("predict", ridge, "--genes", toy.genes)
    assert done.code == 2
    assert "holds a Ridge; expected a pipeline that begins with" in done.err


def test_a_pickle_is_only_read_when_it_is_allowed(cli, toy, model_file, tmp_path):
    model = load_model(model_file)
    model.steps[1] = ("ridge", PickledRidge().fit([[0.0] * 192, [1.0] * 192], [0, 1]))
    file = tmp_path / "pickled.model"
    with pytest.warns(match="pickled because"):
        save_model(model, file)
    done = cli("predict", file, "--genes", toy.genes)
    assert done.code == 2
    assert "holds a pickle" in done.err
    assert cli("predict", file, "--genes", toy.genes, "--allow-pickle").code == 0


class PickledRidge(Ridge):
    """Of a package that is not trusted."""


def test_the_head_gets_the_names_that_it_was_fitted_with(cli, toy, tmp_path):
    model = fitted(toy, output="pandas")
    save_model(model, tmp_path / "named.model")
    done = cli("predict", tmp_path / "named.model", "--genes", toy.genes)
    assert done.code == 0
    assert "feature names" not in done.err


def test_joblib_files_are_not_read(cli, toy, tmp_path):
    file = tmp_path / "ridge.joblib"
    joblib.dump(Ridge(), file)
    done = cli("predict", file, "--genes", toy.genes)
    assert (done.code, "cannot be loaded" in done.err) == (2, True)


# Tuned networks


@pytest.fixture(scope="module")
def tuned(toy, tmp_path_factory):
    regressor = EnformerRegressor(
        "untrained-tiny",
        genome=toy.genome,
        sequence_length=LENGTH,
        tune="last",
        max_epochs=1,
        random_state=0,
    )
    expression = pd.read_csv(toy.expression, sep="\t", index_col=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        regressor.fit(read_genes(toy.genes), expression)
        return regressor.save(tmp_path_factory.mktemp("models") / "tuned")


def test_a_tuned_network_predicts_as_in_python(cli, toy, tuned):
    done = cli("predict", tuned, "--genes", toy.genes)
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col="name")
    genes = read_genes(toy.genes)
    assert done.code == 0
    assert list(table.index) == list(genes.index)
    assert list(table.columns) == ["tissue_1", "tissue_2"]
    expected = EnformerRegressor.load(tuned).predict(genes)
    np.testing.assert_allclose(table, expected, rtol=1e-6)


def test_predictions_of_a_tuned_network_know_where_they_come_from(
    cli, toy, tuned, tmp_path
):
    file = tmp_path / "predictions.h5ad"
    done = cli("predict", tuned, "--genes", toy.genes, "-o", file, "--json")
    adata = anndata.read_h5ad(file)
    assert list(adata.var_names) == ["tissue_1", "tissue_2"]
    assert {"window_start", "tss", "strand", "reason"} <= set(adata.obs)
    provenance = json.loads(adata.uns["enformer_features"]["provenance_json"])
    assert provenance["weights_digest"] == weights_digest(tuned)
    assert provenance["tuned_from"] == weights_digest("untrained-tiny")
    summary = json.loads(done.out)
    assert summary["weights_digest"] == weights_digest(tuned)
    assert summary["trained_weights"] is False
    arrays = tmp_path / "predictions.npz"
    assert cli("predict", tuned, "--genes", toy.genes, "-o", arrays).code == 0
    np.testing.assert_array_equal(np.load(arrays)["values"], adata.X)


def test_the_genome_of_a_tuned_network_may_lie_elsewhere(cli, toy, tuned, tmp_path):
    moved = shutil.copy(toy.genome, tmp_path / "moved.fa")
    options = ("predict", tuned, "--genes", toy.genes)
    there, here = cli(*options), cli(*options, "--genome", moved, "--device", "cpu")
    assert here.out == there.out
    done = cli(*options, "--genome", tmp_path / "absent.fa")
    assert (done.code, "absent.fa" in done.err) == (2, True)


def test_a_dry_run_of_a_tuned_network_predicts_nothing(cli, toy, tuned, tmp_path):
    file = tmp_path / "predictions.tsv"
    options = ("predict", tuned, "--genes", toy.genes, "-o", file)
    plan = json.loads(cli(*options, "--dry-run", "--json").out)
    assert (plan["n_rows"], plan["would_write"]) == (12, [str(file), f"{file}.json"])
    assert not file.exists()


def test_rows_that_a_tuned_network_cannot_read_are_nan_when_asked(cli, tuned, tmp_path):
    bed = tmp_path / "peaks.bed"
    bed.write_text("chr9\t1\t9\tbad\nchr1\t9000\t9100\tgood\n")
    options = ("predict", tuned, "--regions", bed)
    refused = cli(*options)
    assert (refused.code, "unknown contig 'chr9'" in refused.err) == (2, True)
    done = cli(*options, "--on-error", "nan")
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col="name")
    assert done.code == 3
    assert "rows that became NaN: bad: unknown contig 'chr9'" in done.err
    assert table.isna().any(axis=1).to_dict() == {"bad": True, "good": False}
    alone = cli("predict", tuned, "--region", "chr9:1-9", "--on-error", "nan")
    assert (alone.code, "none of 1 rows could be computed" in alone.err) == (2, True)


@pytest.mark.parametrize(
    "option",
    [
        ("--weights", "mini"),
        ("--precision", "tf32"),
        ("--batch-size", "2"),
        ("--cache", "none"),
    ],
)
def test_a_tuned_network_has_settings_of_its_own(cli, toy, tuned, option):
    done = cli("predict", tuned, "--genes", toy.genes, *option)
    assert done.code == 2
    assert f"{option[0]}: {tuned} is a tuned network, which has its own" in done.err


def test_folders_that_hold_no_tuned_network_are_bad_input(cli, toy, tuned, tmp_path):
    done = cli("predict", tmp_path, "--genes", toy.genes)
    assert (done.code, "no folder that finetune wrote" in done.err) == (2, True)
    damaged = shutil.copytree(tuned, tmp_path / "damaged")
    (damaged / "head.safetensors").write_bytes(b"")
    done = cli("predict", damaged, "--genes", toy.genes)
    assert (done.code, "was changed, or its writing" in done.err) == (2, True)


def test_predictions_of_every_bin_are_no_table(cli, toy, tmp_path):
    regressor = EnformerRegressor(
        "untrained-tiny",
        sequence_length=LENGTH,
        tune="head",
        pooling="flatten",
        max_epochs=1,
        validation_fraction=0.0,
    )
    sequences = np.zeros((2, LENGTH), np.uint8)
    regressor.fit(sequences, np.ones((2, LENGTH // 128, 1))).save(tmp_path)
    done = cli("predict", tmp_path, "--genes", toy.genes, "--genome", toy.genome)
    assert (done.code, "predicts every bin" in done.err) == (2, True)


def test_intervals_stand_beside_predictions_of_a_head_that_makes_them(
    cli, toy, model_file, tmp_path
):
    refused = cli("predict", model_file, "--region", "chr1:101-200", "--interval")
    assert refused.code == 2
    assert "is a Ridge without intervals; fit a GroupedConformal" in refused.err
    embedder = fitted(toy)[0]
    genes = read_genes(toy.genes)
    expression = pd.read_csv(toy.expression, sep="\t", index_col=0)
    head = GroupedConformal(Ridge(), alpha=0.4, cv=3)
    head.fit(embedder.transform(genes), expression, groups=genes["chrom"].to_numpy())
    model = make_pipeline(embedder, head)
    model.target_names_ = list(expression)
    file = tmp_path / "intervals.model"
    save_model(model, file)
    done = cli("predict", file, "--genes", toy.genes, "--interval")
    assert done.code == 0, done.err
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col=0)
    ends = model[-1].predict_interval(embedder.transform(genes))
    for number, name in enumerate(expression):
        np.testing.assert_allclose(
            table[[f"{name}_low", f"{name}_high"]], ends[:, :, number], rtol=1e-4
        )
        assert table[name].between(table[f"{name}_low"], table[f"{name}_high"]).all()
