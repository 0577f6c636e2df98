"""Ctrl-C and SIGTERM in commands that compute, sent to processes of their own."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from enformer_features.cli import main
from enformer_features.datasets import make_toy_genome, write_toy_tables
from enformer_features.storage.disk_cache import DiskCache
from enformer_features.storage.store import open_store
from enformer_features.training.data.record_writer import write_records
from tests.faults.children import run
from tests.training.worlds import procedure, windows

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="sends Unix signals")

CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}
N_GENES = 24
FULL = [pytest.mark.faults, pytest.mark.timeout(600)]


class Toy(NamedTuple):
    genome: Path
    genes: Path
    expression: Path

    @property
    def network(self) -> list[str]:
        return ["--genome", str(self.genome), "--weights", "untrained-tiny"]

    @property
    def slow_rows(self) -> list[str]:
        """Options for rows of a tenth of a second."""
        shifts = ",".join(map(str, range(20)))
        rows = ["--genes", str(self.genes), *self.network]
        return [*rows, "--sequence-length", "1024", f"--shifts={shifts}"]


@pytest.fixture(scope="module")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    data = make_toy_genome(
        folder, n_chromosomes=4, chromosome_length_bp=20_000, genes_per_chromosome=6
    )
    return Toy(data.genome, *write_toy_tables(data, folder))


def enformer_features(*arguments: str) -> None:
    """Be the command."""
    sys.argv = ["enformer-features", *arguments]
    sys.exit(main())


def wait_for_row(child: subprocess.Popen[str], number: int) -> None:
    """Read the progress bar until so many rows are done."""
    heard = ""
    while not any(int(done) >= number for done in re.findall(r" (\d+)/\d+ \[", heard)):
        character = child.stderr.read(1)
        assert character, heard
        heard += character


def wait_for_file(child: subprocess.Popen[str], path: Path) -> None:
    while not path.exists():
        assert child.poll() is None, child.stderr.read()
        time.sleep(0.01)


def stop(child: subprocess.Popen[str], signum: signal.Signals) -> tuple[str, float]:
    """Send a signal twice; return what is said of it, and the seconds that it took."""
    began = time.monotonic()
    child.send_signal(signum)
    time.sleep(0.05)
    child.send_signal(signum)
    rest = child.stderr.read()
    child.wait()
    seconds = time.monotonic() - began
    assert child.returncode == CODES[signum], rest
    assert "Traceback" not in rest
    (line,) = [line for line in rest.splitlines() if "interrupted; " in line]
    return line, seconds


@pytest.mark.parametrize(
    ("command", "signum"),
    [
        ("embed", signal.SIGINT),
        *[
            pytest.param(
                command, signum, marks=FULL, id=f"full-{command}-{signum.name}"
            )
            for command in ("embed", "fit", "predict")
            for signum in CODES
        ],
    ],
)
def test_rows_that_were_finished_are_kept_and_not_computed_again(
    children, figure, toy, tmp_path, command, signum
):
    rows, cache = toy.slow_rows, ["--cache", str(tmp_path / "rows")]
    out = tmp_path / "out.npz"
    options = {
        "embed": [*rows, *cache, "-o", str(out)],
        "fit": [*rows, *cache, "--targets", str(toy.expression), "-o", str(out)],
        "predict": [*rows[:2], *cache, "-o", str(out)],
    }[command]
    if command == "predict":
        fitted = fit_a_model(toy, tmp_path)
        options = [str(fitted), *options]
    child = children.start(enformer_features, command, *options, "--verbose")
    wait_for_row(child, 3)
    line, seconds = stop(child, signum)
    kept = DiskCache(tmp_path / "rows").verify()
    assert f"finished rows are kept in {tmp_path / 'rows'}: to go on" in line
    assert 3 <= kept.n_rows < N_GENES / 2
    assert kept.damaged == kept.leftovers == []
    assert not out.exists()
    again = run(enformer_features, command, *options, "--verbose")
    assert again.returncode == 0, again.stderr
    n_left = N_GENES - kept.n_rows
    assert f" {n_left}/{n_left} [" in again.stderr
    figure(f"{command} {signum.name}: {seconds:.2f} s, {kept.n_rows} rows kept")


@pytest.mark.parametrize("signum", CODES)
@pytest.mark.faults
def test_full_units_of_a_store_that_were_finished_are_kept(
    children, figure, toy, tmp_path, signum
):
    path = str(tmp_path / "out.zarr")
    planned = run(
        *(enformer_features, "store", "plan", path, *toy.slow_rows),
        *("--unit-rows", "1"),
    )
    assert planned.returncode == 0, planned.stderr
    options = ["store", "run", path, "--verbose"]
    child = children.start(enformer_features, *options)
    wait_for_row(child, 3)
    line, seconds = stop(child, signum)
    status = open_store(path).status()
    assert 3 <= status.n_done < N_GENES / 2
    assert status.attempts <= status.n_done + 1
    kept = f"{status.n_done} of {N_GENES} units are done and kept: to go on"
    assert kept in line
    again = run(enformer_features, *options)
    assert again.returncode == 0, again.stderr
    n_left = N_GENES - status.n_done
    assert f" {n_left}/{n_left} [" in again.stderr
    assert open_store(path).verify().damaged == []
    figure(f"store run {signum.name}: {seconds:.2f} s, {status.n_done} units kept")


def fit_a_model(toy: Toy, folder: Path) -> Path:
    """Fit on the first genes, so that most rows are new to the model."""
    model = folder / "toy.model"
    few = folder / "few.tsv"
    few.write_text("".join(toy.expression.read_text().splitlines(True)[:7]))
    done = run(
        *(enformer_features, "fit", *toy.slow_rows, "--targets", few),
        *("--cache", folder / "rows_of_fit", "-o", model),
    )
    assert done.returncode == 0, done.stderr
    return model


@pytest.mark.parametrize("signum", CODES)
@pytest.mark.faults
def test_full_a_fit_goes_on_after_the_last_finished_epoch(
    children, figure, toy, tmp_path, signum
):
    def options(out: Path) -> list[str]:
        rows = ["--genes", str(toy.genes), *toy.network, "--sequence-length", "1024"]
        fit = ["--targets", str(toy.expression), "--max-epochs", "6", "--patience", "6"]
        return ["finetune", *rows, *fit, "--tune", "last", "-o", str(out)]

    state = tmp_path / "tuned.partial" / "state.pt"
    child = children.start(enformer_features, *options(tmp_path / "tuned"))
    wait_for_file(child, state)
    line, seconds = stop(child, signum)
    assert f"the last finished epoch is kept in {state.parent}" in line
    assert line.endswith("run the command again with --resume")
    for more in ([*options(tmp_path / "tuned"), "--resume"], options(tmp_path / "new")):
        done = run(enformer_features, *more)
        assert done.returncode == 0, done.stderr
    files = ("head.safetensors", "model.safetensors")
    assert same_files(tmp_path / "tuned", tmp_path / "new", files)
    figure(f"finetune {signum.name}: {seconds:.2f} s")


@pytest.mark.parametrize("signum", CODES)
@pytest.mark.faults
def test_full_a_training_goes_on_after_the_last_validation(
    children, figure, tmp_path, signum
):
    write_records(windows(8), tmp_path / "records", "train")
    write_records(windows(2, seed=9), tmp_path / "records", "valid")
    plain = procedure().to_dict()
    plain["phases"][0]["steps"] = 60
    (tmp_path / "small.json").write_text(json.dumps(plain))

    def options(out: Path) -> list[str]:
        data = ["--records", str(tmp_path / "records"), "--device", "cpu"]
        return ["train", *data, "--procedure", str(tmp_path / "small.json"),
                "-o", str(out)]  # fmt: skip

    child = children.start(enformer_features, *options(tmp_path / "run"))
    wait_for_file(child, tmp_path / "run" / "state.pt")
    line, seconds = stop(child, signum)
    assert f"the last validation is kept in {tmp_path / 'run'}" in line
    assert line.endswith("run the command again with --resume")
    for more in ([*options(tmp_path / "run"), "--resume"], options(tmp_path / "new")):
        done = run(enformer_features, *more)
        assert done.returncode == 0, done.stderr
    files = ("best/model.safetensors", "last/model.safetensors")
    assert same_files(tmp_path / "run", tmp_path / "new", files)
    figure(f"train {signum.name}: {seconds:.2f} s")


def same_files(one: Path, other: Path, names: tuple[str, ...]) -> bool:
    present = [name for name in names if (one / name).exists()]
    assert present
    return all(
        np.array_equal((one / name).read_bytes(), (other / name).read_bytes())
        for name in present
    )
