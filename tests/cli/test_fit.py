import io
import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features import (
    EnformerEmbedder,
    LeakageWarning,
    load_model,
    read_genes,
)
from enformer_features.cli import heads
from tests.cli.conftest import LENGTH

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture
def fit(cli, toy, tmp_path):
    def call(*options, targets=toy.expression):
        file = tmp_path / "toy.model"
        return file, cli(
            "fit", *toy.options, "--targets", targets, "-o", file, *options
        )

    return call


@pytest.fixture
def write_targets(toy, tmp_path):
    """Write measurements with some cells replaced."""

    def write(cells):
        table = pd.read_csv(toy.expression, sep="\t", index_col=0).astype(object)
        for (row, column), value in cells.items():
            table.loc[row, column] = value
        file = tmp_path / "targets.csv"
        table.to_csv(file)
        return file

    return write


def test_the_model_is_the_one_that_python_would_fit(fit, toy):
    file, done = fit("--holdout", "chr3", "--alpha", "5", "--log1p")
    genes = read_genes(toy.genes)
    fitted = (genes["chrom"] != "chr3").to_numpy()
    y = np.log1p(pd.read_csv(toy.expression, sep="\t", index_col=0))
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=LENGTH
    )
    by_hand = make_pipeline(embedder, StandardScaler(), Ridge(alpha=5))
    by_hand.fit(genes[fitted], y[fitted])
    assert done.code == 0
    model = load_model(file)
    assert model.target_names_ == ["log1p(tissue_1)", "log1p(tissue_2)"]
    np.testing.assert_allclose(model.predict(genes), by_hand.predict(genes), rtol=1e-6)


def test_scores_stand_beside_the_baseline_with_axis_and_note(fit):
    _, done = fit("--holdout", "chr3", "--holdout", "chr2", "--target", "tissue_2")
    scores = pd.read_csv(io.StringIO(done.out), sep="\t", keep_default_na=False)
    assert list(scores["target"]) == ["tissue_2", "tissue_2"]
    assert list(scores["model"]) == ["ridge", "composition baseline"]
    assert list(scores["across"]) == ["across genes"] * 2
    assert list(scores["n"]) == [8, 8]
    assert list(scores["note"]) == [
        "untrained weights: says nothing about Enformer",
        "",
    ]
    assert scores["spearman"].between(-1, 1).all()


def test_scores_and_summary_can_be_files_and_json(fit, tmp_path):
    scores_file = tmp_path / "scores.csv"
    file, done = fit("--holdout", "chr3", "--scores", scores_file, "--json")
    summary = json.loads(done.out)
    assert (summary["n_fitted"], summary["n_held_out"]) == (8, 4)
    assert summary["out"] == str(file)
    table = pd.read_csv(scores_file, keep_default_na=False)
    assert summary["scores"][0]["pearson"] == pytest.approx(table["pearson"][0])


def test_a_file_beside_the_scores_tells_where_they_come_from(fit, toy, tmp_path):
    scores_file = tmp_path / "scores.csv"
    fit("--holdout", "chr3", "--scores", scores_file)
    told = json.loads((tmp_path / "scores.csv.json").read_text())
    assert told["file"]["name"] == "scores.csv"
    assert (told["result"]["n_fitted"], told["options"]["holdout"]) == (8, ["chr3"])
    assert told["provenance"]["weights_digest"].startswith("untrained:")
    read = [str(toy.genes), str(toy.expression)]
    assert [file["path"] for file in told["inputs"]] == read


def test_the_model_does_not_take_the_place_of_that_file(cli, toy, tmp_path):
    scores = ("--holdout", "chr3", "--scores", tmp_path / "scores.tsv")
    out = ("-o", tmp_path / "scores.tsv.json")
    done = cli("fit", *toy.options, "--targets", toy.expression, *scores, *out)
    assert (done.code, "are the same file" in done.err) == (2, True)


def test_without_held_out_rows_nothing_is_scored(fit):
    file, done = fit()
    assert (done.code, done.out) == (0, "")
    assert "nothing was scored: --holdout CHROM keeps rows for that" in done.err
    assert file.exists()


@pytest.mark.parametrize(
    "head",
    [
        ["--head", "lasso", "--alpha", "0.1"],
        ["--head", "elastic-net", "--alpha", "1"],
        ["--head", "xgboost", "--n-estimators", "3", "--max-depth", "2"],
        ["--head", "gblinear"],
        ["--head", "pls"],
        ["--head", "mlp"],
    ],
)
@pytest.mark.parametrize("targets", [[], ["--target", "tissue_1"]])
def test_every_head_fits_one_or_several_targets(cli, toy, fit, head, targets):
    file, done = fit(*head, *targets, "--holdout", "chr1")
    assert done.code == 0
    assert done.out.splitlines()[1].split("\t")[1] == head[1]
    predicted = cli("predict", file, "--genes", toy.genes)
    assert len(predicted.out.splitlines()) == 13


def test_the_baseline_reads_other_letters_as_the_embedder_does(fit, toy, tmp_path):
    text = toy.genome.read_text()
    middle = len(text) // 2 - 500
    coded = text[middle : middle + 1000].replace("A", "R")
    genome = tmp_path / "coded.fa"
    genome.write_text(text[:middle] + coded + text[middle + 1000 :])
    options = ("--genome", genome, "--ambiguous", "N", "--holdout", "chr1")
    _, done = fit(*options)
    assert done.code == 0
    assert "composition baseline" in done.out


def test_lasso_chooses_its_penalty_for_each_target(fit):
    _, done = fit("--head", "lasso", "--holdout", "chr1", "--log1p")
    assert done.code == 0


def test_genes_without_measurements_are_counted_on_stderr(fit, toy, tmp_path):
    targets = tmp_path / "targets.tsv"
    table = pd.read_csv(toy.expression, sep="\t", index_col=0)
    table.drop("gene_0002").to_csv(targets, sep="\t")
    _, done = fit(targets=targets)
    assert done.code == 0
    (line,) = [line for line in done.err.splitlines() if "without a partner" in line]
    assert "11 ids matched" in line
    assert "1 of 12 genes (gene_0002)" in line


@pytest.mark.parametrize(
    ("cells", "options", "message"),
    [
        (
            {("gene_0002", "tissue_1"): "", ("gene_0004", "tissue_2"): "NA"},
            [],
            "values in 2 of 12 rows are missing; --drop-missing leaves these rows out, "
            "--target chooses columns: gene_0002 tissue_1, gene_0004 tissue_2",
        ),
        ({("gene_0003", "tissue_2"): "inf"}, [], "are infinite"),
        *(
            (
                {(f"gene_{row:04d}", "tissue_2"): "NA" for row in range(1, 13)},
                options,
                "1 of 2 targets have no value in any of 12 rows: tissue_2; choose",
            )
            for options in ([], ["--drop-missing"])
        ),
        (
            {("gene_0003", "tissue_2"): "high"},
            [],
            "targets.csv:4 tissue_2: 'high'; choose the columns",
        ),
        (
            {("gene_0001", "tissue_1"): -2.0},
            ["--log1p"],
            "values in 1 of 12 rows are negative, so that --log1p makes no sense: "
            "gene_0001 tissue_1",
        ),
        (
            {(f"gene_{i:04d}", "tissue_1"): 1.0 for i in range(1, 9)},
            ["--holdout", "chr3"],
            "same value in all 8 rows to fit, from which nothing can be learnt: "
            "tissue_1",
        ),
    ],
)
def test_measurements_are_refused_before_the_weights_are_read(
    fit, write_targets, exploding, cells, options, message
):
    file, done = fit(*options, "--weights", exploding, targets=write_targets(cells))
    assert done.code == 2
    assert message in done.err
    assert not file.exists()


def test_rows_with_missing_values_can_be_left_out(fit, write_targets):
    targets = write_targets({("gene_0002", "tissue_1"): ""})
    _, done = fit("--drop-missing", "--json", targets=targets)
    assert json.loads(done.out)["n_fitted"] == 11
    assert "left out for missing values: 1 rows" in done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--holdout", "chr8"], "hold out: chr8; there are chr1, chr2, chr3"),
        (
            ["--holdout", "chr1", "--holdout", "chr2", "--holdout", "chr3"],
            "0 rows are left to fit",
        ),
        (["--target", "liver"], "no column liver; there are tissue_1, tissue_2"),
        (["--head", "rigde"], "did you mean 'ridge'?"),
        (["--head", "xgboost", "--alpha", "1"], "xgboost has none"),
        (["--max-depth", "3"], "only --head xgboost has trees"),
        (["--target", "tissue_1"] * 2, "more than once: tissue_1"),
        (["--alpha", "0"], "must be greater than 0"),
        (["--alpha", "inf"], "--alpha inf must be greater than 0, and finite"),
        (["--head", "xgboost", "--learning-rate", "nan"], "--learning-rate nan must"),
        (["--head", "xgboost", "--n-estimators", "0"], "--n-estimators 0 must be at"),
        (["--head", "xgboost", "--max-depth", "-5"], "--max-depth -5 must be at least"),
        (["--seed", "-1"], "--seed -1 must be from 0 to 2147483647"),
        (["--scores", "scores.tsv"], "--scores needs rows to score"),
        (["--scores", "scores.h5ad", "--holdout", "chr1"], "must end in .tsv"),
    ],
)
def test_unusable_options_are_refused_before_the_weights_are_read(
    fit, exploding, options, message
):
    file, done = fit(*options, "--weights", exploding)
    assert done.code == 2
    assert message in done.err
    assert not file.exists()


def test_a_row_that_cannot_be_embedded_is_left_out_when_asked(cli, toy, tmp_path):
    genes, file = tmp_path / "genes.tsv", tmp_path / "toy.model"
    table = pd.read_csv(toy.genes, sep="\t", index_col=0)
    table.loc["gene_0002", "tss"] = 10**6
    table.to_csv(genes, sep="\t")
    options = ("--genes", genes, *toy.network, "--targets", toy.expression, "-o", file)
    assert cli("fit", *options, "--holdout", "chr3").code == 2
    done = cli("fit", *options, "--holdout", "chr3", "--on-error", "nan", "--json")
    assert done.code == 3
    assert [row["name"] for row in json.loads(done.out)["failed"]] == ["gene_0002"]


def test_a_dry_run_fits_nothing(fit, exploding):
    file, done = fit("--holdout", "chr3", "--dry-run", "--json")
    plan = json.loads(done.out)
    assert (plan["n_fitted"], plan["n_held_out"], plan["n_targets"]) == (8, 4, 2)
    assert plan["would_write"] == [str(file)]
    assert not file.exists()


def test_ridge_chooses_its_penalty_on_chromosomes_or_rows_of_a_single_one(fit):
    file, done = fit("--holdout", "chr3")
    assert done.code == 0
    head = load_model(file)[-1][-1]
    assert (head.cv, head.cv_errors_.shape) == (2, (8, 2))
    file, done = fit("--holdout", "chr3", "--holdout", "chr2", "--overwrite")
    assert done.code == 0
    assert load_model(file)[-1][-1].cv == "rows"


def test_penalties_that_no_chromosome_can_choose_are_warned_of():
    X = np.random.default_rng(0).normal(size=(12, 2))
    with pytest.warns(LeakageWarning, match="rows of one chromosome"):
        heads.fit(heads.ridge(), X, X[:, :1], ["chr1"] * 12)
