import json

import pandas as pd
import pytest

from enformer_features.model.checkpoints import read_config
from enformer_features.training import loop
from enformer_features.training.data.record_writer import write_records
from enformer_features.training.procedure import procedure_named
from tests.training.worlds import procedure, windows


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """The file of a procedure that is done in six steps."""
    file = tmp_path_factory.mktemp("procedures") / "small.json"
    file.write_text(json.dumps(procedure().to_dict()))
    return file


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    folder = tmp_path_factory.mktemp("records") / "human"
    write_records(windows(4), folder, "train", n_per_file=2)
    write_records(windows(2, seed=9), folder, "valid")
    return folder


@pytest.fixture
def train(cli, small, tmp_path):
    def call(*options):
        folder = tmp_path / "run"
        arguments = ["--procedure", small, "-o", folder, "--device", "cpu"]
        return folder, cli("train", *arguments, *options)

    return call


@pytest.fixture
def signal(toy, tmp_path):
    """Options for windows of two bigWig files on the toy genome."""
    pyBigWig = pytest.importorskip("pyBigWig")
    sizes = [("chr1", 20_000), ("chr2", 20_000), ("chr3", 20_000)]
    for number in (1, 2):
        with pyBigWig.open(str(tmp_path / f"{number}.bw"), "w") as file:
            file.addHeader(sizes)
            for chrom, _ in sizes:
                starts = list(range(0, 20_000, 500))
                values = [float(number + start % 7) for start in starts]
                ends = [start + 250 for start in starts]
                file.addEntries([chrom] * 40, starts, ends=ends, values=values)
    table = "identifier\tfile\tdescription\na\t1.bw\tCAGE:a\nb\t2.bw\tDNASE:b\n"
    (tmp_path / "tracks.tsv").write_text(table)
    rows = [f"{chrom}\t{at}\t{at + 2}\n" for chrom, _ in sizes for at in (4000, 9000)]
    (tmp_path / "windows.bed").write_text("".join(rows))
    return [
        *("--bigwigs", tmp_path / "tracks.tsv", "--regions", tmp_path / "windows.bed"),
        *("--genome", toy.genome, "--valid-chrom", "chr2", "--test-chrom", "chr3"),
    ]


def network_of(folder, name="best"):
    return (folder / name / "model.safetensors").read_bytes()


# Records


def test_a_network_is_trained_on_records_as_python_would(train, records, tmp_path):
    folder, done = train("--records", records)
    assert (done.code, done.out) == (0, "")
    assert f"use the network with --weights {folder / 'best'}" in done.err
    by_hand = loop.train(
        {"human": windows(4)},
        procedure(),
        tmp_path / "by_hand",
        validation={"human": windows(2, seed=9)},
        device="cpu",
    )
    assert network_of(folder) == network_of(by_hand.folder)
    assert len(pd.read_csv(folder / "log.csv")) == 2


def test_the_summary_can_be_json(train, records):
    folder, done = train("--records", records, "--json")
    summary = json.loads(done.out)
    assert (summary["out"], summary["steps"]) == (str(folder), 6)
    assert summary["weights"] == str(folder / "best")
    assert summary["last"]["step"] == 6
    assert summary["best_score"] == pytest.approx(
        pd.read_csv(folder / "log.csv")["score"].max()
    )


def test_without_validation_the_last_network_is_named(train, tmp_path):
    write_records(windows(4), tmp_path / "records", "train")
    folder, done = train("--records", tmp_path / "records", "--json")
    summary = json.loads(done.out)
    assert (summary["weights"], summary["best_score"]) == (str(folder / "last"), None)


def test_every_organism_has_its_records(train, records, tmp_path):
    write_records(windows(3, seed=4), tmp_path / "mouse", "train")
    both = '[{"steps": 2, "learning_rate": 0.001, "organisms": ["human", "mouse"]}]'
    folder, done = train(
        *("--records", f"human={records}", "--records", f"mouse={tmp_path / 'mouse'}"),
        *("--set", f"phases={both}"),
    )
    assert done.code == 0
    assert dict(read_config(folder / "last").output_heads) == {"human": 3, "mouse": 3}


def test_training_begins_from_weights_that_are_given(train, records, tmp_path):
    folder, _ = train("--records", records)
    first = folder.rename(tmp_path / "first")
    _, done = train("--records", records, "--weights", first / "last")
    assert done.code == 0
    settings = json.loads((folder / "run.json").read_text())
    assert settings["start"].startswith("sha256:")


def test_a_dry_run_writes_nothing(train, records):
    folder, done = train("--records", records, "--dry-run", "--json")
    plan = json.loads(done.out)
    assert (plan["steps"], plan["steps_done"], plan["batch_size"]) == (6, 0, 2)
    assert plan["windows"] == {"human": 4}
    assert plan["validation_windows"] == {"human": 2}
    assert plan["tracks"] == {"human": 3}
    assert not folder.exists()
    as_text = train("--records", records, "--dry-run")[1].out
    assert "validation windows: human 2" in as_text


def test_a_run_that_was_interrupted_is_resumed(train, records, monkeypatch, tmp_path):
    whole, _ = train("--records", records)
    whole = whole.rename(tmp_path / "whole")
    update, left = loop.Learner.update, iter(range(4))

    def interrupted(*arguments):
        if next(left, None) is None:
            raise KeyboardInterrupt
        return update(*arguments)

    with monkeypatch.context() as patch:
        patch.setattr(loop.Learner, "update", interrupted)
        folder, done = train("--records", records)
    assert done.code == 130
    assert "to go on, run the command again with --resume" in done.err
    refused = train("--records", records)[1]
    assert (refused.code, "run; go on with --resume" in refused.err) == (2, True)
    plan = json.loads(
        train("--records", records, "--resume", "--dry-run", "--json")[1].out
    )
    assert plan["steps_done"] == 3
    other = train("--records", records, "--resume", "--set", "batch_size=4")[1]
    assert other.code == 2
    assert "procedure.batch_size: begun with 2, now 4" in other.err
    assert train("--records", records, "--resume", "--threads", "0")[1].code == 0
    assert network_of(folder) == network_of(whole)


# Signal


def test_a_network_is_trained_on_bigwig_files(train, signal):
    folder, done = train(*signal)
    assert done.code == 0
    settings = json.loads((folder / "run.json").read_text())
    assert settings["data"]["human"]["tracks"] == ["a", "b"]
    scores = set(pd.read_csv(folder / "log.csv"))
    assert {"human_CAGE_pearson", "human_DNASE_pearson"} <= scores


def test_chromosomes_are_kept_apart(train, signal, cli, monkeypatch, toy):
    plan = json.loads(train(*signal, "--dry-run", "--json")[1].out)
    assert plan["windows"] == {"human": 2}
    assert plan["validation_windows"] == {"human": 2}
    monkeypatch.setenv("ENFORMER_FEATURES_GENOME", str(toy.genome))
    without = [option for option in signal if option not in ("--genome", toy.genome)]
    fly = ("--organism", "fly", "--set", 'phases.0.organisms=["fly"]')
    plan = json.loads(train(*without, *fly, "--dry-run", "--json")[1].out)
    assert plan["windows"] == {"fly": 2}


def test_signal_needs_regions_and_a_genome(train, signal):
    without_genome = [*signal[:4], *signal[6:]]
    for options in (signal[:2], without_genome):
        _, done = train(*options)
        assert done.code == 2
        assert "need --regions, and --genome (or ENFORMER_FEATURES_GENOME)" in done.err


# Procedures


def settings_of(train, records, *options):
    folder, done = train("--records", records, *options, "--set", "phases.0.steps=1")
    assert done.code == 0
    return json.loads((folder / "run.json").read_text())["procedure"]


def test_settings_are_changed_by_name(train, records):
    changes = ("batch_size=1", "config.dropout_rate=0.25", "squash=log1p")
    options = [word for change in changes for word in ("--set", change)]
    settings = settings_of(train, records, *options)
    assert (settings["batch_size"], settings["squash"]) == (1, "log1p")
    assert settings["config"]["dropout_rate"] == 0.25
    assert settings["phases"][0]["steps"] == 1
    assert settings["phases"][0]["learning_rate"] == 1e-3


def test_a_phase_may_leave_out_what_has_a_default(train, records):
    phases = '--set=phases=[{"steps": 3, "learning_rate": 0.0002, "warm_up": 1}]'
    assert settings_of(train, records, phases)["phases"][0]["organisms"] == ["human"]


def test_the_settings_of_a_run_are_a_procedure(train, records, tmp_path):
    folder, _ = train("--records", records, "--set", "seed=5")
    first = folder.rename(tmp_path / "first")
    folder, done = train("--records", records, "--procedure", first / "run.json")
    assert done.code == 0
    assert network_of(folder) == network_of(first)


def test_presets_have_names(cli, records, tmp_path):
    arguments = ("train", "--records", records, "-o", tmp_path / "run", "--dry-run")
    assert "did you mean 'mini'" in cli(*arguments, "--procedure", "minni").err
    small = ("--set", "config.sequence_length=1024", "--set", "config.target_length=4")
    done = cli(*arguments, "--procedure", "mini", *small, "--json")
    assert json.loads(done.out)["steps"] == procedure_named("mini").steps


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--set", "batch_size"], "--set batch_size: give NAME=VALUE"),
        (["--set", "batchsize=3"], "there is no setting 'batchsize'; there are"),
        (["--set", "phases.1.steps=3"], "there are 0 to 0"),
        (["--set", "config.depht=2"], "there is no setting 'config.depht'"),
        (
            ["--set", "batch_size=0"],
            "batch_size=0 must be a whole number of at least 1",
        ),
        (["--set", "squash=cube"], "squash='cube' is not one of"),
        (["--set", 'phases=[{"steps": 3}]'], "is no procedure"),
        (["--procedure", "absent.json"], "--procedure absent.json cannot be read"),
        (["--set", 'phases.0.organisms=["mouse"]'], "there are no windows of it"),
        (["--resume"], "there is no training run to resume"),
        (["--weights", "untrained-tiny"], "are of other sizes"),
    ],
)
def test_unusable_options_are_refused_before_anything_is_written(
    train, records, options, message
):
    folder, done = train("--records", records, *options)
    assert done.code == 2
    assert message in done.err
    assert not folder.exists()


def test_data_must_be_given_once(cli, train, records, tmp_path):
    assert train()[1].code == 2
    twice = train("--records", records, "--records", records)[1]
    assert "--records are given twice for 'human'" in twice.err
    absent = train("--records", tmp_path / "absent")[1]
    assert (absent.code, "absent" in absent.err) == (2, True)
    write_records(windows(2), tmp_path / "only", "valid")
    only = train("--records", tmp_path / "only")[1]
    assert (only.code, "train" in only.err) == (2, True)


@pytest.mark.parametrize("text", ["{", "[1]"])
def test_a_file_that_is_no_procedure_is_told(train, records, tmp_path, text):
    (tmp_path / "bad.json").write_text(text)
    _, done = train("--records", records, "--procedure", tmp_path / "bad.json")
    assert done.code == 2
    assert "--procedure" in done.err


def test_options_of_signal_are_refused_beside_records(train, records):
    _, done = train("--records", records, "--valid-chrom", "chr8")
    assert done.code == 2
    assert "--valid-chrom say nothing about --records" in done.err


def test_a_value_that_is_broken_json_is_told(train, records):
    _, done = train("--records", records, "--set", 'phases=[{"steps": 3')
    assert done.code == 2
    assert "is not valid JSON" in done.err
