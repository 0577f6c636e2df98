import argparse
import hashlib
import inspect
import io
import json
import warnings

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features import EnformerEmbedder, UntrainedWeightsWarning, read_genes
from enformer_features.cli import embed
from tests.cli.conftest import LENGTH

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture(scope="module")
def expected(toy):
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=LENGTH
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        return embedder.transform(read_genes(toy.genes))


def test_h5ad_holds_the_embedders_values_and_its_provenance(
    cli, toy, tmp_path, expected
):
    file = tmp_path / "features.h5ad"
    done = cli("embed", *toy.options, "-o", file)
    adata = anndata.read_h5ad(file)
    assert (done.code, done.out) == (0, "")
    np.testing.assert_array_equal(adata.X, expected)
    assert list(adata.obs_names) == list(read_genes(toy.genes).index)
    digest = adata.uns["enformer_features"]["weights_digest"]
    assert digest.startswith("untrained:")


def test_without_a_file_the_table_is_all_there_is_on_stdout(cli, toy, expected):
    done = cli("embed", *toy.options)
    table = pd.read_csv(io.StringIO(done.out), sep="\t", index_col="name")
    np.testing.assert_array_equal(table.to_numpy(np.float32), expected)
    assert list(table.index) == list(read_genes(toy.genes).index)
    assert "12 rows x 192 features to standard output" in done.err


@pytest.mark.parametrize(
    ("suffix", "separator"), [(".tsv", "\t"), (".tsv.gz", "\t"), (".csv", ",")]
)
def test_tables_hold_every_digit(cli, toy, tmp_path, expected, suffix, separator):
    file = tmp_path / f"features{suffix}"
    assert cli("embed", *toy.options, "-o", file).code == 0
    table = pd.read_csv(file, sep=separator, index_col=0)
    np.testing.assert_array_equal(table.to_numpy(np.float32), expected)


def test_npz_holds_names_reasons_and_provenance(cli, toy, tmp_path, expected):
    file = tmp_path / "features.npz"
    assert cli("embed", *toy.options, "-o", file).code == 0
    with np.load(file, allow_pickle=False) as fields:
        np.testing.assert_array_equal(fields["values"], expected)
        assert fields["names"][0] == "gene_0001"
        assert fields["columns"][-1] == "enformer_0191"
        assert set(fields["reasons"]) == {""}
        assert json.loads(str(fields["provenance"]))["sequence_length"] == LENGTH


def test_a_bed_file_and_region_texts_give_the_same_rows(cli, toy, tmp_path):
    bed = tmp_path / "peaks.bed"
    bed.write_text("chr2\t9000\t9101\tpeak\t0\t-\nchr1\t9000\t9100\n")
    from_file = cli("embed", "--regions", bed, *toy.network).out.splitlines()
    texts = ["chr2:9001-9101(-)", "chr1:9001-9100"]
    regions = [word for text in texts for word in ("--region", text)]
    from_texts = cli("embed", *regions, *toy.network).out.splitlines()
    names, values = zip(*(line.split("\t", 1) for line in from_file[1:]), strict=True)
    assert names == ("peak", "chr1:9000-9100(+)")
    assert from_texts[1:] == [
        f"{text}\t{row}" for text, row in zip(texts, values, strict=True)
    ]


def test_untrained_weights_are_told_even_when_every_row_is_cached(cli, toy):
    assert cli("embed", *toy.options).code == 0
    assert cli("embed", *toy.options).err.count("'untrained-tiny' are random") == 1


def test_a_json_summary_goes_to_stdout(cli, toy, tmp_path):
    done = cli("embed", *toy.options, "-o", tmp_path / "a.tsv", "--json")
    summary = json.loads(done.out)
    assert summary["n_rows"] == 12
    assert summary["n_features"] == 192
    assert summary["failed"] == []
    assert summary["trained_weights"] is False


def test_several_pools_and_tracks_are_parsed(cli, toy):
    tracks = ("--output", "tracks", "--tracks", "7,3")
    pools = ("--pooling", "tss", "--pooling", "mean")
    rows = ("--region", "chr1:9001-9100", *toy.network)
    header = cli("embed", *rows, *tracks, *pools).out.split("\n")[0]
    assert header.split("\t")[1:] == [
        *("tss__human_0007", "tss__human_0003"),
        *("mean__human_0007", "mean__human_0003"),
    ]


@pytest.mark.parametrize(
    ("chosen", "columns"),
    [
        (["--tracks", "ENCFF3"], ["ENCFF3"]),
        (["--tracks", "cage,dnase"], ["ENCFF1", "ENCFF2", "ENCFF3"]),
        (["--tracks", "0,2"], ["ENCFF1", "ENCFF3"]),
        (["--track-pattern", "liver"], ["ENCFF1", "ENCFF3"]),
        (["--tracks", "CAGE", "--track-pattern", "liver"], ["ENCFF3"]),
    ],
)
def test_tracks_are_chosen_from_a_table(cli, toy, tmp_path, chosen, columns):
    table = tmp_path / "tracks.txt"
    descriptions = ["DNASE:liver", "CAGE:brain", "CAGE:liver"]
    lines = [f"{i}\tENCFF{i + 1}\t{text}" for i, text in enumerate(descriptions)]
    table.write_text("\n".join(["index\tidentifier\tdescription", *lines]))
    options = ("--output", "tracks", "--track-table", table, *chosen)
    rows = ("--region", "chr1:9001-9100", *toy.network)
    header = cli("embed", *rows, *options).out.split("\n")[0]
    assert header.split("\t")[1:] == columns


def test_an_argument_goes_before_the_environment(cli, toy, monkeypatch):
    monkeypatch.setenv("ENFORMER_FEATURES_GENOME", str(toy.genome))
    monkeypatch.setenv("ENFORMER_FEATURES_WEIGHTS", "no-such-weights")
    monkeypatch.setenv("ENFORMER_FEATURES_BATCH_SIZE", "2")
    rows = ("embed", "--genes", toy.genes, "--sequence-length", LENGTH)
    assert "'no-such-weights' is not known" in cli(*rows).err
    rows = (*rows, "--weights", "untrained-tiny")
    assert cli(*rows).code == 0
    monkeypatch.setenv("ENFORMER_FEATURES_BATCH_SIZE", "two")
    assert "--batch-size 'two' must be" in cli(*rows).err


def test_every_parameter_of_the_embedder_for_regions_is_an_option():
    parser = argparse.ArgumentParser()
    embed.add_arguments(parser)
    flags = {action.dest for action in parser._actions if action.option_strings}
    parameters = set(inspect.signature(EnformerEmbedder).parameters)
    assert parameters - flags == {"resize"}, "sequences only"


def test_a_dry_run_needs_no_weights_and_writes_nothing(cli, toy, tmp_path):
    file = tmp_path / "features.h5ad"
    options = ("--genes", toy.genes, "--genome", toy.genome, "--cache", "none")
    options = (*options, "--strand", "average", "-o", file, "--dry-run")
    done = cli("embed", *options, "--json")
    plan = json.loads(done.out)
    assert done.code == 0
    assert (plan["n_rows"], plan["n_passes"]) == (12, 24)
    assert plan["output_bytes"] == 12 * 3072 * 4
    assert plan["would_write"] == [str(file)]
    assert not file.exists()
    assert "output bytes: 147,456" in cli("embed", *options).out


def test_rows_that_fail_are_nan_and_the_exit_code_says_so(cli, toy, tmp_path):
    bed, file = tmp_path / "peaks.bed", tmp_path / "features.tsv"
    bed.write_text("chr1\t9000\t9100\tgood\nchr1\t30000\t30100\tbad\n")
    options = ("embed", "--regions", bed, *toy.network, "--on-error", "nan")
    done = cli(*options, "-o", file, "--json")
    table = pd.read_csv(file, sep="\t", index_col="name")
    assert done.code == 3
    assert table.isna().all(axis=1).to_dict() == {"good": False, "bad": True}
    (failed,) = json.loads(done.out)["failed"]
    assert failed["name"] == "bad"
    assert "start 30000 is not on chr1" in failed["reason"]
    (line,) = [line for line in done.err.splitlines() if "became NaN" in line]
    assert line.startswith("enformer-features embed: warning: ")


def test_names_that_repeat_are_refused_for_h5ad_before_the_weights(
    cli, toy, tmp_path, exploding
):
    bed, file = tmp_path / "peaks.bed", tmp_path / "features.h5ad"
    bed.write_text("chr1\t9000\t9100\tpeak\nchr1\t9200\t9300\tpeak\n")
    options = ("embed", "--regions", bed, *toy.network)
    done = cli(*options, "--weights", exploding, "-o", file)
    assert done.code == 2
    assert "names that repeat: peak; rename them or give --make-unique" in done.err
    assert cli(*options, "-o", file, "--make-unique").code == 0
    assert list(anndata.read_h5ad(file).obs_names) == ["peak", "peak-1"]
    lines = cli(*options).out.splitlines()
    assert [line.split("\t")[0] for line in lines] == ["name", "peak", "peak"]


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("there.tsv", "exists; choose another name, or overwrite it (--overwrite)"),
        ("folder.tsv", "is a folder; give the name of a file"),
        ("absent/features.tsv", "there is no folder"),
        ("features.xlsx", "suffix of no known kind; give .h5ad, .npz, .tsv"),
        ("genes.tsv", "is also an input"),
    ],
)
def test_files_that_must_not_be_written_are_refused_first(
    cli, toy, tmp_path, exploding, out, message
):
    (tmp_path / "there.tsv").write_text("mine")
    (tmp_path / "folder.tsv").mkdir()
    (tmp_path / "genes.tsv").write_bytes(toy.genes.read_bytes())
    options = ["--genes", tmp_path / "genes.tsv", *toy.network, "--weights", exploding]
    overwrite = ["--overwrite"] if out == "genes.tsv" else []
    done = cli("embed", *options, "-o", tmp_path / out, *overwrite)
    assert done.code == 2
    assert message in done.err
    assert (tmp_path / "there.tsv").read_text() == "mine"


def told_of(file):
    return json.loads(file.with_name(f"{file.name}.json").read_text())


@pytest.mark.parametrize("name", ["features.tsv", "features.csv.gz", "features.npz"])
def test_a_file_beside_a_table_tells_where_it_comes_from(cli, toy, tmp_path, name):
    file = tmp_path / name
    assert cli("embed", *toy.options, "--strand", "ignore", "-o", file).code == 0
    told = told_of(file)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert told["file"] == {
        **{"name": name, "bytes": file.stat().st_size, "sha256": f"sha256:{digest}"}
    }
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=LENGTH, strand="ignore"
    )
    provenance = embedder.provenance()
    assert {key: told["provenance"][key] for key in provenance} == provenance
    assert told["result"] == {"n_rows": 12, "n_columns": 192, "failed": []}
    assert (told["command"], told["options"]["strand"]) == ("embed", "ignore")
    assert [read["path"] for read in told["inputs"]] == [str(toy.genes)]
    assert told["environment"]["packages"]["numpy"] == np.__version__


def test_anndata_and_standard_output_have_no_file_beside_them(cli, toy, tmp_path):
    cli("embed", *toy.options, "-o", tmp_path / "features.h5ad")
    cli("embed", *toy.options)
    assert [file.name for file in tmp_path.iterdir()] == ["features.h5ad"]


def test_the_file_beside_a_table_is_checked_and_replaced_like_it(
    cli, toy, tmp_path, exploding
):
    file, beside = tmp_path / "features.tsv", tmp_path / "features.tsv.json"
    beside.write_text("mine")
    done = cli("embed", *toy.options, "--weights", exploding, "-o", file)
    assert (done.code, f"{beside} exists" in done.err) == (2, True)
    assert beside.read_text() == "mine"
    assert cli("embed", *toy.options, "-o", file, "--overwrite").code == 0
    assert told_of(file)["file"]["name"] == "features.tsv"


def test_a_dry_run_names_the_file_beside_a_table(cli, toy, tmp_path):
    done = cli("embed", *toy.options, "-o", tmp_path / "a.tsv", "--dry-run", "--json")
    written = [str(tmp_path / name) for name in ("a.tsv", "a.tsv.json")]
    assert json.loads(done.out)["would_write"] == written


def test_overwrite_replaces_a_file(cli, toy, tmp_path):
    file = tmp_path / "features.tsv"
    file.write_text("old")
    assert cli("embed", *toy.options, "-o", file, "--overwrite").code == 0
    assert file.read_text().startswith("name\t")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--region", "chr9:1-100"], "unknown contig 'chr9'"),
        (["--region", "1:9001-9100"], "--contig-style"),
        (["--region", "9001"], "'9001' is not a region"),
        (["--region", "chr1:9001-9100", "--edge", "padd"], "did you mean 'pad'?"),
        (["--region", "chr1:9001-9100", "--pooling", "tts"], "did you mean 'tss'?"),
        (["--region", "chr1:9001-9100", "--device", "cuda:9"], "is not available"),
        (["--region", "chr1:9001-9100", "--cache", "ram"], "write ./ram for a folder"),
        (["--genes", "absent.tsv"], "absent.tsv does not exist"),
        (["--region", "chr1:9001-9100", "--json"], "give -o FILE"),
        (["--region", "chr1:1-9", "--track-pattern", "liver"], "--track-table"),
        (["--region", "chr1:1-9", "--tracks", "CAGE,DNASE"], "give --track-table too"),
        (["--region", "chr1:1-9", "--shifts", "1.5"], "'1.5' are no whole numbers"),
        (["--region", "chr1:1-9", "--output", "tracks", "--tracks", ""], "is no assay"),
        ([], "one of the arguments --genes --regions --region is required"),
    ],
)
def test_unusable_input_is_exit_code_2_with_a_message_and_no_traceback(
    cli, toy, exploding, options, message
):
    done = cli("embed", *options, *toy.network, "--weights", exploding)
    assert done.code == 2
    assert message in done.err
    assert "Traceback" not in done.err


def test_a_genome_is_asked_for_by_flag_and_environment(cli, toy):
    done = cli("embed", "--genes", toy.genes)
    assert done.code == 2
    assert "give --genome hg38.fa, or set ENFORMER_FEATURES_GENOME" in done.err


def test_a_missing_genome_or_weights_file_is_bad_input(cli, toy, tmp_path):
    done = cli("embed", *toy.options, "--genome", tmp_path / "absent.fa")
    assert (done.code, "absent.fa" in done.err) == (2, True)
    done = cli("embed", *toy.options, "--weights", tmp_path / "absent.safetensors")
    assert (done.code, "absent.safetensors" in done.err) == (2, True)
