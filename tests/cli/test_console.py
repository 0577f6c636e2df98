import logging
import os
import signal
import subprocess
import sys
import warnings
from argparse import Namespace

import pytest

from enformer_features.cli import COMMANDS, main
from enformer_features.cli.console import as_flags, note, show
from enformer_features.exceptions import (
    DeviceMemoryError,
    EnformerFeaturesWarning,
    GenomeError,
    InferenceError,
    InputError,
    InputTypeError,
    MissingDependencyError,
    PlanMismatchError,
    StoreError,
    UntrainedWeightsWarning,
    WeightsError,
)


@pytest.fixture
def during(cli, monkeypatch):
    """Run a command that does nothing but what it is given."""

    def call(action, *options):
        monkeypatch.setattr("enformer_features.cli.info.run", lambda args: action())
        return cli("info", *options)

    return call


def raising(error):
    def action():
        raise error

    return action


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        *[
            (kind, 2)
            for kind in (
                InputError,
                InputTypeError,
                GenomeError,
                WeightsError,
                PlanMismatchError,
            )
        ],
        *[
            (kind, 1)
            for kind in (
                StoreError,
                DeviceMemoryError,
                InferenceError,
                MissingDependencyError,
            )
        ],
    ],
)
def test_what_the_user_gave_is_2_and_what_failed_is_1(during, kind, code):
    done = during(raising(kind("why and what to do")))
    expected = "enformer-features info: error: why and what to do\n"
    assert (done.code, done.out, done.err) == (code, "", expected)


def test_an_error_is_json_too_when_asked_for(during):
    done = during(raising(InputError("row 3 is bad")), "--json")
    assert '"error": "InputError"' in done.out
    assert '"exit_code": 2' in done.out


def test_an_error_of_others_is_named_and_a_traceback_shown_only_by_debug(during):
    plain = during(raising(KeyError("lost")))
    assert plain.code == 1
    assert "error: KeyError: 'lost'\nThis was not foreseen; --debug" in plain.err
    assert "Traceback" not in plain.err
    assert "Traceback" in during(raising(KeyError("lost")), "--debug").err


def test_ctrl_c_and_sigterm_have_codes_of_their_own(during):
    before = signal.getsignal(signal.SIGTERM)
    assert during(raising(KeyboardInterrupt())).code == 130
    done = during(lambda: os.kill(os.getpid(), signal.SIGTERM))
    assert done.code == 143
    assert done.err.count("\n") == 1
    assert "interrupted; a file is written whole or not at all" in done.err
    assert signal.getsignal(signal.SIGTERM) is before


def interrupting(n_signals, during_cleanup):
    """Press Ctrl-C, and press it again while things are put away."""
    try:
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        for _ in range(n_signals - 1):
            os.kill(os.getpid(), signal.SIGINT)
        during_cleanup()


def test_a_second_ctrl_c_does_not_disturb_what_is_put_away(during):
    kept = []
    done = during(lambda: interrupting(3, lambda: kept.append("rows")))
    assert (done.code, kept) == (130, ["rows"])
    assert done.err.count("\n") == 1


def test_who_insists_is_obeyed(during, monkeypatch):
    monkeypatch.setattr("enformer_features.cli.console._INSISTING_SECONDS", -1.0)
    kept = []
    assert during(lambda: interrupting(2, lambda: kept.append("rows"))).code == 130
    assert kept == []


def test_an_import_that_ctrl_c_breaks_is_no_error(during):
    def action():
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt as stop:
            raise ImportError from stop

    done = during(action)
    assert (done.code, "error" in done.err) == (143, False)


def test_a_signal_that_is_ignored_stays_so(during):
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        done = during(lambda: os.kill(os.getpid(), signal.SIGINT) or 0)
    finally:
        signal.signal(signal.SIGINT, before)
    assert done.code == 0


def test_a_reader_that_went_away_is_no_error(during):
    done = during(raising(BrokenPipeError()))
    assert (done.code, done.err) == (141, "")


def warn_thrice():
    warnings.warn("two\nlines", EnformerFeaturesWarning, stacklevel=1)
    warnings.warn("two\nlines", EnformerFeaturesWarning, stacklevel=1)
    warnings.warn("random", UntrainedWeightsWarning, stacklevel=1)
    return 0


def test_warnings_are_one_line_each_and_each_once(during):
    assert during(warn_thrice).err.splitlines() == [
        "enformer-features info: warning: two lines (EnformerFeaturesWarning)",
        "enformer-features info: warning: random (UntrainedWeightsWarning)",
    ]


def test_untrained_weights_are_told_even_quietly(during):
    assert during(warn_thrice, "--quiet").err.splitlines() == [
        "enformer-features info: warning: random (UntrainedWeightsWarning)"
    ]


def test_the_log_is_shown_when_asked_for(during):
    def action():
        logging.getLogger("enformer_features").info("on the cpu")
        return 0

    assert during(action).err == ""
    assert "on the cpu" in during(action, "--verbose").err
    assert logging.getLogger("enformer_features").handlers == []


def test_only_flags_of_the_command_are_spelled_as_flags():
    text = "use contig_style='ucsc', (overwrite=True), other='x'"
    expected = "use --contig-style 'ucsc', (--overwrite), other='x'"
    assert as_flags(text, Namespace(contig_style=None, overwrite=None)) == expected


def test_calls_are_spelled_as_the_flags_that_they_mean():
    text = "call load_model(path, allow_pickle=True) or Target(depth=...), f(n=0) n=0"
    args = Namespace(allow_pickle=False, flags={"n": "shuffles", "depth": None})
    expected = "give --allow-pickle or Target(depth=...), --shuffles 0 --shuffles 0"
    assert as_flags(text, args) == expected


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help(cli, command):
    done = cli(command, "--help")
    assert done.code == 0
    assert COMMANDS[command].split()[0] in done.out


def test_an_unknown_command_lists_the_known_ones(cli):
    done = cli("embedd")
    assert done.code == 2
    assert all(name in done.err for name in COMMANDS)
    assert cli().code == 2


@pytest.mark.parametrize(
    ("words", "usage", "hint"),
    [
        ("embed --strnad average", "embed", "--strnad; did you mean --strand?"),
        ("embed --poolin=mean", "embed", "--poolin; did you mean --pooling?"),
        ("store plan f.zarr --poolin mean", "store plan", "did you mean --pooling?"),
        ("store run f.zarr --qqqqqq", "store run", "there is no option --qqqqqq"),
        ("weights info mini more", "weights info", "unrecognized arguments: more"),
    ],
)
def test_a_misspelt_option_is_told_with_the_nearest_one(cli, words, usage, hint):
    done = cli(*words.split())
    assert done.code == 2
    assert done.err.startswith(f"usage: enformer-features {usage} [-h]")
    assert hint in done.err


def test_what_follows_two_dashes_is_no_option(cli):
    assert "there is no option" not in cli("store", "run", "--", "--f.zarr").err


def test_paths_below_the_folder_at_hand_are_named_from_there(
    during, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    args = Namespace(command="info", quiet=False, json=False)
    elsewhere = f"/other{tmp_path}/b"

    def action():
        note(args, f"4 rows in {tmp_path / 'a'}, {elsewhere}")
        show(args, {"would_write": [str(tmp_path / "a"), elsewhere]})
        return 0

    done = during(action)
    assert done.err == f"enformer-features info: 4 rows in a, {elsewhere}\n"
    assert done.out == f"would write: a, {elsewhere}\n"


def test_main_reads_the_arguments_of_the_process(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["enformer-features", "--version"])
    assert main() == 0
    assert capsys.readouterr().out.startswith("enformer-features ")


def test_help_of_a_command_loads_no_heavy_package():
    code = (
        "import sys\n"
        "from enformer_features.cli import main, COMMANDS\n"
        "assert not any(main([command, '--help']) for command in COMMANDS)\n"
        "heavy = {'torch', 'sklearn', 'anndata', 'xgboost', 'pandas'}\n"
        "print('loaded:', sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "loaded: []"


def test_ctrl_c_while_computing_leaves_no_file_and_no_traceback(toy, tmp_path):
    file = tmp_path / "features.tsv"
    shifts = ",".join(map(str, range(400)))
    options = [*toy.options, f"--shifts={shifts}", "--verbose", "-o", str(file)]
    command = [sys.executable, "-m", "enformer_features.cli", "embed", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        heard = process.stderr.readline()
        while "random" not in heard:  # the weights are being loaded
            heard = process.stderr.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130, rest
    assert "Traceback" not in rest
    assert "interrupted; nothing is kept: run the command again, with --cache" in rest
    assert list(tmp_path.iterdir()) == []
