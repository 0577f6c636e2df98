import json

import pandas as pd
import pytest

from tests.cli.conftest import LENGTH

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
]


@pytest.fixture
def evaluate(cli, toy, tmp_path):
    folder = tmp_path / "scores"

    def call(*options):
        targets = ("--targets", toy.expression, "--n-boot", "5", "-o", folder)
        return folder, cli("evaluate", *toy.options, *targets, *options)

    return call


def test_tables_record_and_figures_are_written_and_the_table_is_printed(evaluate):
    folder, done = evaluate("--log1p")
    assert done.code == 0
    assert sorted(file.name for file in folder.iterdir()) == [
        *("gains.tsv", "per_target.tsv", "predictions.png", "predictions.tsv.gz"),
        *("record.json", "scores_against_baselines.png", "scores_by_split.png"),
        *("table.md", "table.tsv"),
    ]
    table = pd.read_csv(folder / "table.tsv", sep="\t")
    assert table["model"].tolist() == ["ridge", "training mean", "9 GC/CpG numbers"]
    assert "chromosome: 3 folds, 12 of 12 rows tested; drawn: 3 groups" in done.out
    assert "random weights: says nothing about Enformer" in done.out
    assert "9 files in" in done.err
    _, again = evaluate("--log1p")
    assert again.code == 2
    assert "exists" in again.err


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_several_heads_splits_and_all_baselines(evaluate):
    _, done = evaluate(
        *("--heads", "ridge,lasso,gblinear,pls"),
        *("--split", "chromosome", "--split", "overlap", "--folds", "2"),
        *("--baselines", "mean,composition,kmers,untrained,permuted"),
        "--json",
    )
    assert done.code == 0
    shown = json.loads(done.out)
    assert len(shown["table"]) == 2 * 9
    assert len(shown["gains"]) == 2 * 4 * 5
    assert shown["leakage"] == {"chromosome": [], "overlap": []}


def test_features_in_a_file_need_no_network(evaluate, cli, toy, tmp_path, exploding):
    file, folder = tmp_path / "features.h5ad", tmp_path / "of_file"
    assert cli("embed", *toy.options, "-o", file).code == 0
    options = ("--targets", toy.expression, "--n-boot", "5", "-o", folder)
    done = cli(
        *("evaluate", "--genes", file, *options, "--weights", exploding),
        *("--baselines", "mean,permuted"),
    )
    assert done.code == 0
    _, direct = evaluate("--baselines", "mean,permuted")
    assert direct.code == 0
    tables = [
        pd.read_csv(tmp_path / name / "table.tsv", sep="\t")
        for name in ("of_file", "scores")
    ]
    pd.testing.assert_frame_equal(*tables, check_exact=False, rtol=1e-4)
    record = json.loads((folder / "record.json").read_text())
    assert record["provenance"]["sequence_length"] == LENGTH


def test_letters_of_features_in_a_file_need_a_genome(cli, toy, tmp_path):
    file = tmp_path / "features.h5ad"
    assert cli("embed", *toy.options, "-o", file).code == 0
    options = ("--targets", toy.expression, "--n-boot", "5", "-o", tmp_path / "out")
    evaluate = ("evaluate", "--genes", file, *options)
    assert "give --genome" in cli(*evaluate, "--baselines", "kmers").err
    assert "untrained needs genes" in cli(*evaluate, "--baselines", "untrained").err
    done = cli(*evaluate, "--baselines", "kmers,mean", "--genome", toy.genome)
    assert done.code == 0
    assert "words of 4 letters" in done.out


def test_families_and_trained_regions_are_splits(evaluate, tmp_path):
    families, bed = tmp_path / "families.tsv", tmp_path / "learnt.bed"
    ids = [f"gene_{i:04d}" for i in range(1, 7)]
    families.write_text("id\tfamily\n" + "".join(f"{name}\ta\n" for name in ids))
    bed.write_text("chr1\t0\t20000\ttest\nchr2\t0\t20000\ttrain\n")
    folder, done = evaluate(
        *("--split", "families", "--families", families, "--folds", "2"),
        *("--split", "trained-regions", "--trained-regions", bed),
    )
    assert done.code == 0
    record = json.loads((folder / "record.json").read_text())
    splits = record["provenance"]["splits"]
    assert splits["families"]["n_tested"] == 12
    assert splits["trained-regions"]["n_tested"] == 4
    assert "families, leaks: 4 of 12" in done.out


def test_penalties_chosen_on_rows_of_one_chromosome_are_warned_of(evaluate):
    given = ("--holdout", "chr3", "--leave-out", "chr2", "--leave-out", "chrQ")
    _, done = evaluate(*given)
    assert done.code == 0
    assert "penalties are chosen on held-out rows" in done.err
    assert "leave_out names chrQ, without rows" in done.out


def test_gaps_are_refused_with_the_option_that_fills_them(cli, toy, tmp_path):
    table = pd.read_csv(toy.expression, sep="\t", index_col=0)
    table.iloc[4, 1] = None
    gaps, folder = tmp_path / "gaps.tsv", tmp_path / "scores"
    table.to_csv(gaps, sep="\t")
    given = ("--targets", gaps, "--heads", "pls", "-o", folder, "--n-boot", "5")
    refused = cli("evaluate", *toy.options, *given)
    assert refused.code == 2
    assert f"{table.index[4]}; these models" in refused.err
    assert "--fill-missing" in refused.err
    assert cli("evaluate", *toy.options, *given, "--fill-missing").code == 0


def test_the_protocol_tests_one_chromosome(evaluate):
    folder, done = evaluate(
        *("--protocol", "expecto", "--holdout", "chr3"),
        *("--protocol-features", "embedding,embedding-kernels", "--heads", "ridge"),
    )
    assert done.code == 0
    assert "protocol: ours" in done.out
    table = pd.read_csv(folder / "table.tsv", sep="\t")
    assert set(table["split"]) == {"chr3"}
    assert "embedding-kernels, ridge" in set(table["model"])


def test_a_dry_run_says_what_would_be_done(evaluate, exploding):
    folder, done = evaluate("--dry-run", "--json", "--weights", exploding)
    plan = json.loads(done.out)
    assert (plan["n_rows"], plan["n_passes"]) == (12, 12)
    assert plan["folds"] == {"chromosome": 3}
    assert len(plan["would_write"]) == 9
    assert not folder.exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--heads", "rigde"], "--heads 'rigde' is not one of"),
        (["--split", "chromosomes"], "did you mean 'chromosome'?"),
        (["--split", "families"], "--split families needs --families FILE"),
        (["--split", "trained-regions"], "needs --trained-regions FILE"),
        (["--protocol", "expecto", "--log1p"], "has its own; leave out --log1p"),
        (["--protocol", "expect"], "did you mean 'expecto'?"),
        (["--protocol", "expecto"], "test: no rows are on chr8"),
        (["--protocol-features", "tracks"], "is for --protocol expecto"),
        (["--holdout", "chr9"], "no rows are on chr9"),
        (["--baselines", "gc"], "--baselines 'gc' is not one of"),
        (["--metric", "kendall"], "--metric 'kendall' is not one of"),
        (["--target", "liver"], "no column liver"),
    ],
)
def test_unusable_options_are_refused_before_the_weights_are_read(
    evaluate, exploding, options, message
):
    _, done = evaluate(*options, "--weights", exploding)
    assert done.code == 2
    assert message in done.err


def test_missing_measurements_are_for_ridge_or_filled(cli, toy, tmp_path):
    targets = tmp_path / "targets.tsv"
    table = pd.read_csv(toy.expression, sep="\t", index_col=0)
    table.iloc[0, 0] = None
    table.to_csv(targets, sep="\t")
    options = (
        *toy.options,
        "--targets",
        targets,
        "--n-boot",
        "5",
        "-o",
        tmp_path / "o",
    )
    heads = ("--heads", "ridge,pls")
    refused = cli("evaluate", *options, *heads)
    assert refused.code == 2
    assert "ridge_head" in refused.err
    assert cli("evaluate", *options, *heads, "--fill-missing").code == 0


def test_a_page_is_written_beside_the_tables(evaluate):
    folder, done = evaluate("--html")
    assert done.code == 0
    assert "10 files in" in done.err
    text = (folder / "report.html").read_text("utf-8")
    assert "Leakage</h2>" in text
    assert "numbers mean nothing" in text
