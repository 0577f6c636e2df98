"""The command on a toy genome; numbers are those of the functions it calls."""

import argparse
import gzip
import json
import sys

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline

from enformer_features import (
    EnformerEmbedder,
    Target,
    attention,
    gradient_x_input,
    read_genes,
    save_model,
)
from enformer_features.cli import explain as command
from enformer_features.model.registry import BUNDLED
from enformer_features.report.methods import METHODS
from tests.cli.conftest import LENGTH

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning"),
]
TRACKS = ("--tracks", "0,24")


@pytest.fixture
def embedder(toy):
    return EnformerEmbedder(
        "untrained-tiny",
        genome=toy.genome,
        sequence_length=LENGTH,
        output="tracks",
        tracks=[0, 24],
    )


@pytest.fixture
def gene(toy):
    return read_genes(toy.genes).iloc[[0]]


@pytest.fixture
def only(toy, gene):
    return ("--genes", toy.genes, "--only", gene.index[0], *toy.network)


def read(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as text:
        n_comments = sum(line.startswith("##") for line in text)
    return pd.read_csv(path, sep="\t", skiprows=n_comments), n_comments


def test_methods_are_those_of_the_report():
    assert command.METHODS is METHODS


def test_every_base_has_a_row_with_its_gradient(cli, only, gene, embedder, tmp_path):
    out = tmp_path / "scores.tsv.gz"
    done = cli("explain", *only, *TRACKS, "-o", out)
    assert done.code == 0, done.err
    table, n_comments = read(out)
    assert n_comments > 3
    expected = gradient_x_input(embedder, gene)
    assert table["name"].unique().tolist() == gene.index.tolist()
    np.testing.assert_allclose(table["score"], expected.scores[0], rtol=1e-4, atol=1e-8)
    assert "random" in done.err


def test_bases_before_the_contig_have_no_rows(cli, toy, tmp_path):
    out = tmp_path / "scores.tsv"
    done = cli("explain", "chr1:101-200", *toy.network, *TRACKS, "-o", out)
    assert done.code == 0, done.err
    starts = read(out)[0]["start"]
    assert starts.iloc[0] == 0
    assert len(starts) < LENGTH


def test_regions_are_given_as_text_and_bins_chosen(cli, toy, embedder, tmp_path):
    out = tmp_path / "scores.npz"
    region = "chr1:9001-9100(-)"
    done = cli("explain", region, *toy.network, *TRACKS, "--bins=-2:3", "-o", out)
    assert done.code == 0, done.err
    expected = gradient_x_input(embedder, [region], Target(bins=(-2, 3)))
    with np.load(out) as found:
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-4)
        assert found["hypothetical"].shape == (1, LENGTH, 4)
        assert found["name"].tolist() == [region]
        assert json.loads(str(found["provenance"]))["bins"] == "(-2, 3)"


@pytest.mark.parametrize("name", ["scores.bedgraph", "scores.bedgraph.gz", "scores.bw"])
def test_signal_files_are_written(cli, only, tmp_path, name):
    out = tmp_path / name
    done = cli("explain", *only, *TRACKS, "-o", out)
    assert (done.code, out.stat().st_size > 100) == (0, True), done.err


@pytest.mark.parametrize("name", ["scores.bedgraph", "scores.bedgraph.gz"])
def test_a_bedgraph_says_where_it_comes_from(cli, only, gene, tmp_path, name):
    out = tmp_path / name
    assert cli("explain", *only, *TRACKS, "-o", out).code == 0
    opened = gzip.open if out.suffix == ".gz" else open
    with opened(out, "rt") as text:
        lines = text.read().splitlines()
    comments = [line for line in lines if line.startswith("#")]
    assert "untrained" in comments[0]
    assert "provenance" in comments[-1]
    assert lines[len(comments)].split("\t")[0] == gene["chrom"].iloc[0]


def test_a_bigwig_has_its_origin_beside_it(cli, only, tmp_path):
    out = tmp_path / "scores.bw"
    done = cli("explain", *only, *TRACKS, "-o", out, "--json")
    beside = tmp_path / "scores.bw.json"
    assert json.loads(done.out)["files"] == [str(out), str(beside)]
    record = json.loads(beside.read_text())
    assert "untrained" in record["result"]["caution"][0]
    assert record["provenance"]["method"] == "gradient_x_input"


def test_the_small_network_is_known_by_its_digest(cli, toy, tmp_path):
    out = tmp_path / "scores.tsv"
    given = ("--genome", toy.genome, "--weights", BUNDLED["mini"], *TRACKS, "-o", out)
    done = cli("explain", "chr1:9001-9100", *given, "--sequence-length", LENGTH)
    assert done.code == 0, done.err
    assert "small bundled one" in out.read_text().splitlines()[0]


@pytest.mark.parametrize(
    ("missing", "options"),
    [
        ("matplotlib.figure", ("-o", "a.tsv", "--html", "a.html")),
        ("pyBigWig", ("-o", "a.bw")),
    ],
)
def test_a_missing_package_is_told_before_any_work(
    cli, only, exploding, tmp_path, monkeypatch, missing, options
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, missing, None)
    given = (*only, "--weights", exploding, *TRACKS, *options)
    done = cli("explain", *given, "--dry-run")
    assert done.code != 0
    assert f"need{'s' * (missing == 'pyBigWig')} " in done.err
    assert missing.partition(".")[0] in done.err


def test_a_dry_run_checks_elements(cli, only, exploding, tmp_path):
    bed = tmp_path / "elements.bed"
    bed.write_text("chrQ\t1\t100\n")
    given = (*only, "--weights", exploding, *TRACKS, "--elements", bed)
    done = cli("explain", *given, "-o", tmp_path / "a.tsv", "--dry-run")
    assert done.code == 2
    assert "chrQ" in done.err


def test_scores_may_be_called_like_elements(cli, only, elements, tmp_path):
    out = tmp_path / "a.elements.tsv"
    page = tmp_path / "Q.HTML"
    given = (*only, *TRACKS, "--elements", elements, "--html", page)
    done = cli("explain", *given, "-o", out)
    assert done.code == 0, done.err
    assert "letter" in read(out)[0]
    assert "effect" in read(tmp_path / "a.elements.tsv.elements.tsv")[0]
    assert "<h3>Elements</h3>" in page.read_text("utf-8")


@pytest.mark.parametrize("bins", ["center", "region"])
def test_substitutions_of_any_bins_are_scored(cli, toy, tmp_path, bins):
    given = ("chr1:9001-9100", *toy.network, *TRACKS, "--method", "ism")
    out = tmp_path / "ism.tsv"
    done = cli("explain", *given, "--ism-bp", 2, "--bins", bins, "-o", out)
    assert done.code == 0, done.err
    assert read(out)[0]["effect"].abs().max() > 0


def test_regions_are_alike_in_the_embedding_and_not_in_a_few_tracks(toy, embedder):
    args = argparse.Namespace(
        domain=toy.genes, model=None, tss="gene", chrom_column=None, missing_tss="error"
    )
    domain = command._domain(args, embedder)
    assert (domain.embedder.output, domain.embedder.tracks) == ("embedding", None)


def test_integrated_gradients_take_their_options(cli, only, tmp_path):
    out = tmp_path / "scores.npz"
    options = ("--method", "integrated", "--steps", "2", "--baseline", "shuffled")
    assert cli("explain", *only, *TRACKS, *options, "-o", out).code == 0
    with np.load(out) as found:
        about = json.loads(str(found["provenance"]))
    assert (about["method"], about["steps"]) == ("integrated_gradients", 2)


def test_substitutions_are_rows(cli, only, gene, tmp_path):
    out = tmp_path / "scores.tsv"
    done = cli("explain", *only, *TRACKS, "--method", "ism", "--ism-bp", 4, "-o", out)
    assert done.code == 0, done.err
    table, _ = read(out)
    tss = int(gene["tss"].iloc[0])
    assert sorted(table["pos"].unique() - 1) == list(range(tss - 2, tss + 2))
    assert len(table) == 12
    assert table.columns[-1] == "effect"


def test_attention_is_a_row_per_bin_and_needs_no_tracks(
    cli, only, gene, embedder, tmp_path
):
    out = tmp_path / "scores.tsv"
    assert cli("explain", *only, "--method", "attention", "-o", out).code == 0
    table, _ = read(out)
    expected = attention(embedder, gene).weights[0]
    np.testing.assert_allclose(table["weight"], expected, rtol=1e-4)
    assert (table["end"] - table["start"]).unique().tolist() == [128]


@pytest.fixture
def elements(gene, tmp_path):
    tss = int(gene["tss"].iloc[0])
    file = tmp_path / "elements.bed"
    file.write_text(
        f"chr1\t{tss + 100}\t{tss + 150}\tnear\nchr1\t{tss + 900}\t{tss + 950}\tfar\n"
    )
    return file


def test_elements_get_a_table_and_a_page_beside(cli, only, elements, tmp_path):
    out, page = tmp_path / "scores.tsv", tmp_path / "page.html"
    options = ("--elements", elements, "--html", page, "--json")
    done = cli("explain", *only, *TRACKS, *options, "-o", out)
    summary = json.loads(done.out)
    names = [out, page, tmp_path / "scores.tsv.elements.tsv"]
    assert summary["files"] == [str(name) for name in names]
    assert summary["trained_weights"] is False
    table, _ = read(names[2])
    assert table["effect"].notna().tolist() == [True, False]
    assert "past the window" in table["reason"][1]
    assert "<h3>Elements</h3>" in page.read_text("utf-8")


def test_a_dry_run_reads_no_weights_and_writes_nothing(cli, toy, exploding, tmp_path):
    options = ("--genome", toy.genome, "--weights", exploding)
    options += ("--sequence-length", LENGTH, *TRACKS, "--dry-run")
    out = tmp_path / "a.tsv"
    done = cli("explain", "--genes", toy.genes, *options, "-o", out)
    assert done.code == 0, done.err
    assert "n regions: 12" in done.out
    assert "would write" in done.out
    assert not out.exists()


def test_rows_that_cannot_be_computed_make_the_exit_code_three(cli, toy, tmp_path):
    out = tmp_path / "scores.npz"
    regions = ("chr1:9001-9100", "chrQ:1-100")
    given = ("explain", *regions, *toy.network, *TRACKS, "-o", out)
    assert cli(*given).code == 2
    done = cli(*given, "--on-error", "nan")
    assert done.code == 3, done.err
    assert "rows without a result: chrQ:1-100" in done.err
    with np.load(out) as found:
        assert np.isnan(found["prediction"]).tolist() == [False, True]


@pytest.fixture
def save(toy, tmp_path):
    def made(head):
        embedder = EnformerEmbedder(
            "untrained-tiny", genome=toy.genome, sequence_length=LENGTH
        )
        expression = pd.read_csv(toy.expression, sep="\t", index_col=0)
        model = make_pipeline(embedder, head).fit(read_genes(toy.genes), expression)
        model.target_names_ = list(expression.columns)
        file = tmp_path / "toy.model"
        save_model(model, file)
        return model, file

    return made


def test_a_model_is_explained_prediction_by_prediction(cli, toy, gene, save, tmp_path):
    model, file = save(Ridge())
    out = tmp_path / "scores.npz"
    given = ("explain", "--genes", toy.genes, "--only", gene.index[0], "-o", out)
    done = cli(*given, "--model", file)
    assert done.code == 2
    assert "give --target, one of 'tissue_1', 'tissue_2'" in done.err
    done = cli(*given, "--model", file, "--target", "tissue_3")
    assert "--target 'tissue_3' is none of" in done.err
    done = cli(*given, "--model", file, "--target", "tissue_2")
    assert done.code == 0, done.err
    expected = gradient_x_input(model, gene, Target(output=1))
    with np.load(out) as found:
        np.testing.assert_allclose(found["scores"], expected.scores, rtol=1e-3)
    done = cli(*given, "--model", file, "--bins", "all", "--overwrite")
    assert "reads the bins it was fitted on" in done.err


def test_a_prediction_is_told_by_number_or_by_a_given_name(cli, toy, gene, save):
    _, file = save(Ridge())
    given = ("explain", "--genes", toy.genes, "--only", gene.index[0], "-o", "a.tsv")
    given += ("--model", file, "--dry-run")
    assert cli(*given, "--target", "1").code == 0
    assert "--target 2 is out of range" in cli(*given, "--target", "2").err
    assert cli(*given, "--targets", "liver,skin", "--target", "skin").code == 0
    assert "--targets has 1 names, liver" in cli(*given, "--targets", "liver").err


def test_a_number_of_shuffles_is_named_by_its_option(cli, only, elements):
    given = (*only, *TRACKS, "-o", "a.tsv", "--elements", elements)
    assert "--shuffles 0 must be" in cli("explain", *given, "--shuffles", 0).err


def test_a_head_without_gradient_is_told_what_to_use(cli, toy, save, tmp_path):
    _, file = save(KNeighborsRegressor(2))
    given = ("--model", file, "--target", "tissue_1", "-o", tmp_path / "a.tsv")
    done = cli("explain", "--genes", toy.genes, *given)
    assert done.code == 2
    assert "ism" in done.err
    done = cli("explain", "chr1:9001-9100", *given, "--method", "ism", "--ism-bp", 2)
    assert done.code == 0, done.err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("-o", "a.tsv"), "which tracks are explained"),
        ((*TRACKS, "-o", "a.txt"), "suffix of no known kind"),
        ((*TRACKS, "-o", "a.tsv", "--method", "magic"), "magic"),
        ((*TRACKS, "-o", "a.bw", "--method", "ism"), "--method ism goes to .tsv"),
        ((*TRACKS, "-o", "a.tsv", "--html", "a.htm"), "must end in .html"),
        ((*TRACKS, "-o", "a.html", "--html", "a.html"), "is --out too"),
        ((*TRACKS, "-o", "a.tsv", "--variants", "a.vcf"), "give --html FILE"),
        ((*TRACKS, "-o", "a.tsv", "--domain", "g.tsv"), "give --html FILE"),
        ((*TRACKS, "-o", "a.tsv", "--target", "x"), "give --model FILE"),
        ((*TRACKS, "-o", "a.tsv", "--only", "NOPE"), "--only NOPE: not in"),
        ((*TRACKS, "-o", "a.bedgraph"), "overlap, and in a.bedgraph a base has one"),
    ],
)
def test_what_cannot_be_is_refused_before_any_work(
    cli, toy, exploding, tmp_path, monkeypatch, options, message
):
    monkeypatch.chdir(tmp_path)
    network = ("--genome", toy.genome, "--weights", exploding)
    network += ("--sequence-length", 8192)
    done = cli("explain", "--genes", toy.genes, *network, *options)
    assert done.code == 2
    assert message in done.err


def test_something_must_be_explained(cli, toy):
    given = (*toy.network, *TRACKS, "-o", "a.tsv")
    assert "say what is explained" in cli("explain", *given).err
    assert (
        "say what is explained" in cli("explain", "chr1:1-2", *toy.options, *given).err
    )


def test_files_are_kept_without_overwrite(cli, only, tmp_path):
    out = tmp_path / "scores.tsv"
    out.write_text("mine")
    done = cli("explain", *only, *TRACKS, "-o", out)
    assert done.code == 2
    assert "exists" in done.err
    assert out.read_text() == "mine"


def test_regions_unlike_those_of_the_model_are_flagged_on_the_page(
    cli, toy, only, tmp_path
):
    page = tmp_path / "page.html"
    options = ("--domain", toy.genes, "--draw-tracks", "3")
    done = cli("explain", *only, *TRACKS, *options, "-o", page)
    assert done.code == 0, done.err
    text = page.read_text("utf-8")
    assert ">out of domain</th>" in text
    assert "<h3>Predicted tracks</h3>" in text
