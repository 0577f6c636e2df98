"""The command on a toy genome and a VCF of its own letters."""

import gzip
import hashlib
import json
import shutil
import warnings

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from enformer_features import (
    EnformerEmbedder,
    Genome,
    UntrainedWeightsWarning,
    VariantEffect,
    load_model,
    read_genes,
    read_vcf,
    save_model,
)
from enformer_features.genomics.encoding import decode
from tests.cli.conftest import LENGTH

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning"),
]
OTHER = dict(zip("ACGT", "CATG", strict=True))
TRACKS = ("--tracks", "0,24,31")


def substitution(genome, chrom, pos, name):
    """Return the fields of a VCF line that changes the base at pos, 1-based."""
    ref = decode(genome.fetch(chrom, pos - 1, pos))
    return [chrom, pos, name, ref, OTHER[ref], ".", "PASS", "DP=9;NOTE=a b"]


@pytest.fixture(scope="module")
def vcf(toy, tmp_path_factory):
    """Six records: three substitutions, two alleles, an insertion, a symbolic one."""
    genome = Genome(toy.genome)
    rows = [substitution(genome, "chr1", pos, f"rs{pos}") for pos in (9001, 9031)]
    both = substitution(genome, "chr2", 5000, "rs3")
    letters = [base for base in "ACGT" if base != both[3]]
    both[4] = ",".join(letters[:2])
    inserted = substitution(genome, "chr2", 6000, ".")
    inserted[4] = inserted[3] + "TTT"
    symbolic = substitution(genome, "chr2", 7000, "sv")
    symbolic[4] = "<DEL>"
    rows += [both, inserted, symbolic, substitution(genome, "chr3", 100, "edge")]
    head = [
        "##fileformat=VCFv4.2",
        '##INFO=<ID=DP,Number=1,Type=Integer,Description="d">',
    ]
    head.append("#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO")
    lines = [*head, *("\t".join(map(str, row)) for row in rows)]
    file = tmp_path_factory.mktemp("vcf") / "toy.vcf"
    file.write_text("\n".join(lines) + "\n")
    return file


@pytest.fixture(scope="module")
def model_file(toy, tmp_path_factory):
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=LENGTH
    )
    expression = pd.read_csv(toy.expression, sep="\t", index_col=0)
    model = make_pipeline(embedder, Ridge())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)
        model.fit(read_genes(toy.genes), expression)
    model.target_names_ = list(expression.columns)
    file = tmp_path_factory.mktemp("models") / "toy.model"
    save_model(model, file)
    return file


def read(path):
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "rt") as text:
        n_comments = sum(line.startswith("##") for line in text)
    return pd.read_csv(path, sep="\t", skiprows=n_comments)


def scores_of(table, names):
    return table[list(names)].to_numpy(np.float32)


def test_every_allele_has_a_row_with_the_scores_of_the_estimator(
    cli, toy, vcf, tmp_path
):
    out = tmp_path / "scores.tsv"
    done = cli("variants", vcf, *toy.network, *TRACKS, "-o", out)
    assert done.code == 0, done.err
    table = read(out)
    embedder = EnformerEmbedder(
        "untrained-tiny",
        genome=toy.genome,
        sequence_length=LENGTH,
        output="tracks",
        tracks=[0, 24, 31],
    )
    effect = VariantEffect(embedder)
    expected = effect.transform(read_vcf(vcf))
    assert len(table) == 7
    names = effect.get_feature_names_out()
    np.testing.assert_allclose(scores_of(table, names), expected, rtol=1e-5)
    assert np.isnan(expected[5]).all()
    assert not np.isnan(np.delete(expected, 5, axis=0)).any()


def test_counts_are_told_even_to_those_who_want_no_notes(cli, toy, vcf, tmp_path):
    out = tmp_path / "scores.tsv"
    done = cli("variants", vcf, *toy.network, *TRACKS, "-o", out, "--quiet", "--json")
    summary = json.loads(done.out)
    assert summary["n_rows"] == 7
    assert sum(summary["counts"].values()) == 7
    assert summary["counts"]["substitution"] == 5
    assert summary["counts"]["indel"] == 1
    assert summary["failed"] == []
    assert summary["trained_weights"] is False
    assert "symbolic" in done.err


def test_nothing_is_left_beside_a_finished_file(cli, toy, vcf, tmp_path):
    out = tmp_path / "scores.tsv"
    cli("variants", vcf, *toy.network, *TRACKS, "-o", out)
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    "suffix", [".tsv.gz", ".vcf", ".vcf.gz", ".h5ad", ".zarr", ".h5"]
)
def test_the_suffix_decides_the_form(cli, toy, vcf, tmp_path, suffix):
    out = tmp_path / f"scores{suffix}"
    done = cli("variants", vcf, *toy.network, *TRACKS, "-o", out)
    assert (done.code, out.exists()) == (0, True), done.err


def test_a_vcf_keeps_every_record_and_field(cli, toy, vcf, tmp_path):
    out = tmp_path / "scores.vcf"
    cli("variants", vcf, *toy.network, *TRACKS, "-o", out)
    before = [line.split("\t") for line in vcf.read_text().splitlines()]
    after = [line.split("\t") for line in out.read_text().splitlines()]
    records = [row for row in after if not row[0].startswith("#")]
    originals = [row for row in before if not row[0].startswith("#")]
    assert [row[:7] for row in records] == [row[:7] for row in originals]
    for row, original in zip(records, originals, strict=True):
        assert row[7].startswith(original[7])
    headers = {row[0] for row in after}
    assert all(row[0] in headers for row in before)
    assert any(row[0].startswith("##enformer_features_caution=") for row in after)


def test_a_model_scores_its_own_targets(cli, toy, vcf, model_file, tmp_path):
    out = tmp_path / "tissues.tsv"
    done = cli("variants", vcf, "--model", model_file, "-o", out)
    assert done.code == 0, done.err
    table = read(out)
    assert {"tissue_1", "tissue_2"} <= set(table.columns)
    assert table["tissue_1"].notna().sum() == 6


@pytest.mark.parametrize(
    ("pooling", "more", "n_notes"),
    [("tss", (), 1), ("tss", ("--quiet",), 0), ("tss", "genes", 0), ("mean", (), 0)],
)
def test_a_head_at_tss_that_is_read_at_variants_is_told(
    cli, toy, vcf, model_file, tmp_path, pooling, more, n_notes
):
    file = tmp_path / "other.model"
    model = load_model(model_file)
    save_model(model.set_params(enformerembedder__pooling=pooling), file)
    options = ("--gene-table", toy.genes) if more == "genes" else more
    out = ("-o", tmp_path / "out.tsv", "--dry-run")
    done = cli("variants", vcf, "--model", file, *out, *options)
    assert done.err.count("reads bins at a TSS, but without --gene-table") == n_notes
    assert "error" not in done.err.replace("other.model", "")


def test_a_model_may_be_read_in_both_directions(cli, vcf, model_file, tmp_path):
    one, both = tmp_path / "one.tsv", tmp_path / "both.tsv"
    assert cli("variants", vcf, "--model", model_file, "-o", one).code == 0
    options = ("--model", model_file, "--rc", "--batch-size", "2")
    done = cli("variants", vcf, *options, "-o", both)
    assert done.code == 0, done.err
    assert (read(one)["tissue_1"] != read(both)["tissue_1"]).any()


def test_a_model_has_outputs_of_its_own(cli, vcf, model_file, tmp_path):
    options = ("--model", model_file, "-o", tmp_path / "out.tsv")
    done = cli("variants", vcf, *options, "--tracks", "0", "--sequence-length", 2048)
    assert done.code == 2
    assert "--tracks, --sequence-length: " in done.err
    assert "was fitted with its own" in done.err


def test_predictions_of_a_model_are_not_aggregated(cli, vcf, model_file, tmp_path):
    options = ("--model", model_file, "-o", tmp_path / "out.tsv", "--aggregate", "sum")
    done = cli("variants", vcf, *options)
    assert done.code == 2
    assert "--aggregate is for bins, and predictions of" in done.err


def test_genes_make_a_row_per_gene_and_the_others_are_counted(cli, toy, vcf, tmp_path):
    out = tmp_path / "genes.tsv"
    options = ("--gene-table", toy.genes, "-o", out, "--json")
    done = cli("variants", vcf, *toy.network, *TRACKS, *options)
    assert done.code == 0, done.err
    summary, table = json.loads(done.out), read(out)
    assert len(table) == summary["n_rows"]
    assert summary["n_unpaired"] > 0
    assert {"gene", "distance"} <= set(table.columns)
    assert table["distance"].abs().max() <= LENGTH // 2


def test_genes_on_other_chromosomes_are_bad_input(cli, toy, vcf, tmp_path):
    genes = tmp_path / "genes.tsv"
    genes.write_text("gene_id\tchrom\ttss\tstrand\ng\t1\t5000\t+\n")
    options = ("--gene-table", genes, "-o", tmp_path / "out.tsv")
    done = cli("variants", vcf, *toy.network, *TRACKS, *options)
    assert done.code == 2
    assert "contig" in done.err


def test_several_scores_are_columns_beside_each_other(cli, toy, vcf, tmp_path):
    out = tmp_path / "scores.tsv"
    options = ("--score", "SAD", "--score", "SAR", "--aggregate", "sum")
    done = cli("variants", vcf, *toy.network, *TRACKS, *options, "-o", out)
    assert done.code == 0, done.err
    names = [name for name in read(out) if "human_" in name]
    assert [name.split("__")[0] for name in names] == ["SAD"] * 3 + ["SAR"] * 3


def test_a_dry_run_counts_passes_and_computes_nothing(
    cli, toy, vcf, exploding, tmp_path
):
    out = tmp_path / "scores.tsv"
    network = ("--genome", toy.genome, "--weights", exploding)
    options = ("--sequence-length", LENGTH, "--shifts=1,0,-1", "--rc", "-o", out)
    done = cli("variants", vcf, *network, *TRACKS, *options, "--dry-run", "--json")
    assert done.code == 0, done.err
    plan = json.loads(done.out)
    assert plan["n_short_passes"] == 6 * 5
    assert plan["n_full_passes"] == 6 * (plan["n_windows"] + 1)
    assert plan["output_bytes"] == 4 * 7 * 3
    assert plan["would_write"] == [str(out)]
    assert not list(tmp_path.glob("scores*"))


def test_components_are_written_by_chromosome(cli, toy, vcf, tmp_path):
    folder = tmp_path / "pcs"
    options = ("-o", tmp_path / "scores.tsv", "--pca", folder, "--components", "2")
    done = cli("variants", vcf, *toy.network, *TRACKS, *options)
    assert done.code == 0, done.err
    files = sorted(path.name for path in folder.glob("*.tsv.gz"))
    assert files == ["chr1.tsv.gz", "chr2.tsv.gz", "chr3.tsv.gz"]


def test_too_many_components_are_refused_before_any_work(
    cli, toy, vcf, exploding, tmp_path
):
    network = (
        "--genome",
        toy.genome,
        "--weights",
        exploding,
        "--sequence-length",
        "1024",
    )
    options = ("-o", tmp_path / "scores.tsv", "--pca", tmp_path / "pcs")
    done = cli("variants", vcf, *network, *TRACKS, *options)
    assert done.code == 2
    assert "--components 20: 6 variants that can be scored x 3 targets" in done.err


def test_alleles_that_cannot_be_scored_are_errors_when_strict(cli, toy, vcf, tmp_path):
    options = ("--strict", "-o", tmp_path / "scores.tsv")
    done = cli("variants", vcf, *toy.network, *TRACKS, *options)
    assert done.code == 2
    assert "symbolic" in done.err


def test_another_genome_is_told_and_may_be_flagged(cli, toy, vcf, tmp_path):
    wrong = tmp_path / "wrong.vcf"
    text = vcf.read_text().replace("rs9001\t", "rs9001\tX")
    lines = []
    for line in text.splitlines():
        fields = line.split("\t")
        if fields[2:3] == ["rs9001"]:
            ref = OTHER[fields[3].removeprefix("X")]
            fields[3:5] = [ref, OTHER[ref]]
        lines.append("\t".join(fields))
    wrong.write_text("\n".join(lines) + "\n")
    out = tmp_path / "scores.tsv"
    options = ("variants", wrong, *toy.network, *TRACKS, "-o", out)
    refused = cli(*options)
    assert refused.code == 2
    assert "chr1" in refused.err
    done = cli(*options, "--on-mismatch", "flag")
    assert done.code == 0, done.err
    assert "flagged" in done.err
    assert read(out)["human_0000"].notna().sum() == 6


def test_rows_that_cannot_be_placed_are_errors_or_nan(cli, toy, vcf, tmp_path):
    more, out = tmp_path / "more.vcf", tmp_path / "scores.tsv"
    more.write_text(vcf.read_text() + "chrUn\t9\tlost\tA\tC\t.\t.\t.\n")
    options = ("variants", more, *toy.network, *TRACKS, "-o", out)
    refused = cli(*options)
    assert (refused.code, "chrUn" in refused.err) == (2, True)
    done = cli(*options, "--on-error", "nan", "--json")
    assert done.code == 3, done.err
    (failed,) = json.loads(done.out)["failed"]
    assert failed["name"] == "chrUn:9:A>C"
    assert failed["reason"].startswith("unknown contig")
    assert "rows that became NaN: chrUn:9:A>C" in done.err
    assert read(out)["human_0000"].notna().tolist() == [True] * 5 + [False, True, False]


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (("-o", "scores.xlsx"), "needs one of the suffixes .tsv, .tsv.gz, .vcf"),
        (("-o", "absent/scores.tsv"), "there is no folder"),
        (("-o", "absent/scores.zarr"), "there is no folder"),
        (("-o", "s.tsv", "--components", "0"), "must be at least 1"),
        (("-o", "s.tsv", "--score", "SDA"), "SAD"),
        (("-o", "s.tsv", "--bins", "4:x"), "is no range of bins such as -8:8"),
    ],
)
def test_mistakes_are_found_before_any_work(
    cli, toy, vcf, exploding, tmp_path, monkeypatch, option, message
):
    monkeypatch.chdir(tmp_path)
    network = (
        "--genome",
        toy.genome,
        "--weights",
        exploding,
        "--sequence-length",
        "1024",
    )
    done = cli("variants", vcf, *network, *TRACKS, *option)
    assert (done.code, message in done.err) == (2, True), done.err


def test_files_are_replaced_only_when_asked(cli, toy, vcf, tmp_path):
    out = tmp_path / "scores.tsv"
    out.write_text("mine")
    options = ("variants", vcf, *toy.network, *TRACKS, "-o", out)
    refused = cli(*options)
    assert (refused.code, out.read_text()) == (2, "mine")
    assert "--overwrite" in refused.err
    assert cli(*options, "--overwrite").code == 0
    assert len(read(out)) == 7


def test_the_input_is_never_the_output(cli, toy, vcf, tmp_path):
    mine = shutil.copy(vcf, tmp_path / "mine.vcf")
    options = ("-o", mine, "--overwrite")
    done = cli("variants", mine, *toy.network, *TRACKS, *options)
    assert done.code == 2
    assert "is also an input" in done.err
    assert mine.read_bytes() == vcf.read_bytes()


def test_an_interrupted_run_goes_on(cli, toy, vcf, tmp_path, monkeypatch):
    from enformer_features.variant_effect.job import VariantJob

    out = tmp_path / "scores.tsv"
    options = ("variants", vcf, *toy.network, *TRACKS, "-o", out)

    compute = VariantJob.compute

    def stop(self, rows):
        if seen:
            raise KeyboardInterrupt
        seen.append(rows)
        return compute(self, rows)

    seen = []
    with monkeypatch.context() as patch:
        patch.setattr(VariantJob, "compute", stop)
        patch.setattr("enformer_features.variant_effect.store.UNIT_ROWS", 4)
        done = cli(*options)
        assert done.code == 130
        assert "interrupted; 4 of 7 finished rows are kept in" in done.err
        assert not out.exists()
        plan = cli(*options, "--dry-run")
        assert "4 of 7 rows were found done in " in plan.err
        assert "scores.tsv.partial.zarr.partial, 3 remain" in plan.err
        assert cli(*options, "--dry-run", "--quiet").err.count("found done") == 0
        patch.setattr(VariantJob, "compute", compute)
        done = cli(*options)
    assert (done.code, "3 remain" in done.err) == (0, True), done.err
    assert list(tmp_path.iterdir()) == [out]


def test_unfinished_scores_of_other_settings_are_told_by_name(
    cli, toy, vcf, tmp_path, monkeypatch
):
    from enformer_features.variant_effect.job import VariantJob

    out, other = tmp_path / "scores.tsv", shutil.copy(vcf, tmp_path / "other.vcf")
    options = (*toy.network, *TRACKS, "-o", out)

    def stop(self, rows):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(VariantJob, "compute", stop)
        done = cli("variants", vcf, *options)
    assert "0 of 7 finished rows are kept" in done.err
    changed = ("variants", other, *options, "--bins", "variant")
    plan = cli(*changed, "--dry-run")
    assert plan.code == 0
    assert "which are refused without --overwrite; asked for != there: bins: " in (
        plan.err
    )
    refused = cli(*changed)
    assert refused.code == 2
    _, first, second, *_ = refused.err.partition("holds scores of")[2].splitlines()
    assert first.strip() == "bins: 'variant' != 'all'"
    assert second.strip().startswith("vcf: 'other.vcf (")
    assert "are replaced" in cli(*changed, "--overwrite").err


def test_outputs_name_the_files_that_were_read(cli, toy, vcf, model_file, tmp_path):
    out = tmp_path / "scores.tsv"
    options = ("--model", model_file, "--gene-table", toy.genes, "-o", out)
    assert cli("variants", vcf, *options).code == 0
    (line,) = (
        line for line in out.read_text().splitlines() if "features_provenance" in line
    )
    files = {"vcf": vcf, "gene_table": toy.genes, "model": model_file}
    assert json.loads(line.partition("=")[2])["inputs"] == {
        key: {
            "name": file.name,
            "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        }
        for key, file in files.items()
    }


@pytest.mark.parametrize("is_file", [False, True])
def test_predictions_of_a_model_are_named(cli, vcf, model_file, tmp_path, is_file):
    out, names = tmp_path / "out.tsv", "liver,T cell"
    if is_file:
        names = tmp_path / "names.txt"
        names.write_text("liver\n\nT cell\n")
    options = ("--model", model_file, "-o", out, "--targets")
    done = cli("variants", vcf, *options, names)
    assert done.code == 0, done.err
    assert list(read(out))[-2:] == ["liver", "T cell"]


def test_names_of_predictions_must_fit(cli, toy, vcf, model_file, tmp_path):
    out, binary = tmp_path / "out.tsv", tmp_path / "names.bin"
    binary.write_bytes(b"\xff\xfe")
    options = ("variants", vcf, "-o", out)
    model = ("--model", model_file)
    done = cli(*options, *model, "--targets", "liver")
    assert "the pipeline makes 2 predictions" in done.err
    done = cli(*options, *model, "--targets", binary)
    assert f"--targets {binary} cannot be read" in done.err
    done = cli(*options, *toy.network, "--targets", "liver")
    assert (done.code, "names the predictions of --model" in done.err) == (2, True)


STOPS = {  # the phases of writing, and what is called next in each
    "before the components": "pc_tables.pca_tables",
    "before their index": "pc_tables.index",
    "before the output": "outputs.write_scores",
    "before its index": "outputs.index",
    "before the end": "store.ScoreStore.remove",
}


@pytest.mark.parametrize("stop", STOPS.values(), ids=STOPS)
def test_a_run_that_is_stopped_while_it_writes_goes_on(
    cli, toy, vcf, tmp_path, monkeypatch, stop
):
    pytest.importorskip("pysam")
    out, folder = tmp_path / "scores.vcf.gz", tmp_path / "pcs"
    network = ("variants", vcf, *toy.network, *TRACKS, "--components", "2")
    options = (*network, "-o", out, "--pca", folder)
    calm = tmp_path / "calm"
    calm.mkdir()
    cli(*network, "-o", calm / out.name, "--pca", calm / "pcs")

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"enformer_features.variant_effect.{stop}", stopped)
        assert cli(*options).code == 130
    (tmp_path / f".{out.name}.{'0' * 32}.partial").touch()  # as kill -9 leaves it
    done = cli(*options)
    assert done.code == 0, done.err
    names = {path.relative_to(calm).as_posix() for path in calm.rglob("*")}
    found = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")}
    assert found - {path for path in found if path.startswith("calm")} == names
    for path in (out, folder / "chr2.tsv.gz"):
        expected = calm / path.relative_to(tmp_path)
        assert gzip.decompress(path.read_bytes()) == gzip.decompress(
            expected.read_bytes()
        )


@pytest.mark.parametrize("stop", [STOPS["before the output"], STOPS["before the end"]])
@pytest.mark.parametrize("name", ["scores.tsv", "pcs/chr1.tsv.gz", "pcs/mine.tsv.gz"])
def test_a_run_that_goes_on_replaces_no_files_of_others(
    cli, toy, vcf, tmp_path, monkeypatch, stop, name
):
    out, folder = tmp_path / "scores.tsv", tmp_path / "pcs"
    options = ("variants", vcf, *toy.network, *TRACKS, "-o", out, "--components", "2")

    def stopped(*arguments, **options):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(f"enformer_features.variant_effect.{stop}", stopped)
        assert cli(*options, "--pca", folder).code == 130
    (tmp_path / name).write_text("mine")
    refused = cli(*options, "--pca", folder)
    assert (refused.code, (tmp_path / name).read_text()) == (2, "mine"), refused.err
    assert "--overwrite" in refused.err
    done = cli(*options, "--pca", folder, "--overwrite")
    assert done.code == 0, done.err
    assert len(read(out)) == 7
