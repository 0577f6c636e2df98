"""The examples of docs/command-line.md, run as they stand."""

import re
import shlex
from pathlib import Path

import pytest

from enformer_features.datasets import (
    make_toy_genome,
    write_toy_tables,
    write_toy_variants,
)

PAGE = Path(__file__).parents[2] / "docs" / "command-line.md"
BLOCKS = re.findall(r"```console\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
EXAMPLES = [block.splitlines() for block in BLOCKS if "$ enformer-features" in block]
# Of the machine on which the page was written.
MACHINE = r"packages: .*|devices: .*|cache folder: .*|weights (enformer|mini): .*"


def essence(line):
    """Leave out numbers, folders and what differs between machines."""
    line = re.sub(MACHINE, "machine", line)
    return re.sub(r"/\S*/|-?\d[\d.,e-]*", "", line).rstrip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("example")
    toy = make_toy_genome(folder)
    write_toy_tables(toy, folder)
    write_toy_variants(toy, folder)
    return folder


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda lines: lines[0][20:40])
def test_examples_print_what_the_page_says(cli, monkeypatch, folder, example):
    monkeypatch.chdir(folder)
    monkeypatch.setenv("ENFORMER_FEATURES_GENOME", "genome.fa")
    monkeypatch.setenv("ENFORMER_FEATURES_WEIGHTS", "mini")
    monkeypatch.setattr("enformer_features.model.registry._TOLD", set())
    command, *expected = example
    done = cli(*shlex.split(command.removeprefix("$ enformer-features ")))
    printed = [essence(line) for line in (done.err + done.out).splitlines()]
    assert sorted(printed) == sorted(essence(line) for line in expected)
    assert done.code == (2 if ": error: " in done.err else 0)


def test_the_page_sets_up_what_the_examples_need(folder, tmp_path, monkeypatch):
    (setup,) = [block for block in BLOCKS if "$ python" in block]
    code = shlex.split(setup.splitlines()[0])[-1]
    monkeypatch.chdir(tmp_path)
    exec(code, {})
    for name in ("genome.fa", "genes.tsv", "expression.tsv", "variants.vcf"):
        assert (tmp_path / name).read_bytes() == (folder / name).read_bytes()
