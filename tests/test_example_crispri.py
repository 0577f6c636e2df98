import runpy
import sys

import numpy as np
import pandas as pd
import pytest

from tests.conftest import REPOSITORY
from tests.estimators.toy import random_letters, write_fasta

EXAMPLE = str(REPOSITORY / "examples" / "crispri_benchmark.py")


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(EXAMPLE)


@pytest.fixture
def run(example, monkeypatch):
    def call(*options):
        options = ["--draws", "20", *options]
        monkeypatch.setattr(sys, "argv", ["example", *map(str, options)])
        example["main"]()

    return call


@pytest.fixture
def toy(tmp_path, example):
    """Twelve pairs of three genes, half of them in their gene's window."""
    rng = np.random.default_rng(0)
    n = 12
    tss = np.repeat([2_000, 2_600, 3_200], 4)
    away = np.tile([-300, 300, 350, 1_500], 3)
    table = pd.DataFrame(
        {
            "chrom": np.tile(["chr1", "chr2"], 6),
            "chromStart": tss + away,
            "chromEnd": tss + away + 100,
            "startTSS": tss,
            "endTSS": tss + 1,
            "measuredGeneSymbol": np.repeat(["A", "B", "C"], 4),
            "Regulated": np.tile(["TRUE", "FALSE"], 6)[rng.permutation(n)],
            "distanceToTSS": abs(away),
            "DHS.RPM": rng.random(n),
            "H3K27ac.RPM.expandedRegion": rng.random(n),
            "PowerAtEffectSize25": 1.0,
        }
    )
    (tmp_path / "crispri").mkdir()
    table.to_csv(tmp_path / example["PAIRS"], sep="\t", index=False)
    letters = {f"chr{i}": random_letters(6_000, i) for i in (1, 2)}
    write_fasta(tmp_path / "toy.fa", **letters)
    return tmp_path


def test_baselines_of_the_published_pairs(shared, run, capsys):
    run("--data", shared / "data", "--min-power", "0.8")
    printed = capsys.readouterr().out
    assert "10356 pairs, 471 of them regulated" in printed
    assert "negatives with a power below 0.8" in printed
    assert "no --genome: baselines only" in printed
    assert "activity/distance" in printed


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_a_network_is_scored_on_the_pairs_in_its_windows(toy, run, capsys):
    table = toy / "scores.tsv"
    network = ("--weights", "untrained-tiny", "--sequence-length", "1024")
    options = ("--genome", toy / "toy.fa", "--tracks", "0,1", "--scores", table)
    run("--data", toy, *network, *options, "--limit", "2")
    printed = capsys.readouterr().out
    assert "untrained-tiny, gradient: 6 pairs have a score" in printed
    assert "not asked for (4), outside the window (2)" in printed
    common = printed.split("pairs that all scores have")[1]
    line = next(line for line in common.splitlines() if "tiny, gradient" in line)
    assert "  all  " in line
    assert "0.5" in line.split()  # coverage
    assert "untrained: the numbers mean nothing" in printed
    scores = pd.read_csv(table, sep="\t")
    assert len(scores) == 12
    assert scores["score"].notna().sum() == 6


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_pairs_on_chromosomes_that_the_genome_lacks_are_counted(toy, run, capsys):
    network = ("--weights", "untrained-tiny", "--sequence-length", "1024")
    network += ("--tracks", "0,1")
    write_fasta(toy / "one.fa", chr1=random_letters(6_000, 1))
    run("--data", toy, *network, "--genome", toy / "one.fa")
    printed = capsys.readouterr().out
    assert "on a chromosome that the genome does not have (6)" in printed
    write_fasta(toy / "none.fa", scaffold=random_letters(6_000, 1))
    with pytest.raises(SystemExit, match="has none of the pairs' chromosomes"):
        run("--data", toy, *network, "--genome", toy / "none.fa")


def test_a_folder_without_pairs_is_one_line(run, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: .* has no crispri"):
        run("--data", tmp_path)
