import runpy
import sys

import numpy as np
import pandas as pd
import pytest

from tests.conftest import REPOSITORY

pytestmark = pytest.mark.filterwarnings(
    "ignore:LassoCV did not converge:sklearn.exceptions.ConvergenceWarning"
)
EXAMPLE = str(REPOSITORY / "examples" / "mpra_saturation.py")


@pytest.fixture(scope="module")
def example():
    return runpy.run_path(EXAMPLE)


@pytest.fixture(scope="module")
def elements(shared, example):
    return example["read_elements"](shared / "data" / example["ELEMENTS"])


def run(example, monkeypatch, *options):
    monkeypatch.setattr(sys, "argv", ["example", *map(str, options)])
    example["main"]()


def test_two_replicas_are_scored_beside_the_letters(
    shared, example, monkeypatch, capsys
):
    options = ("--elements", "TERT-GAa,TERT-HEK", "--limit", "24", "--folds", "2")
    short = ("--sequence-length", "1280", "--deletions")
    run(example, monkeypatch, "--data", shared / "data", *options, *short)
    printed = capsys.readouterr().out
    for column in ("lasso, letters", "without training", "lasso, deletions"):
        assert column in printed
    assert "over 1 loci" in printed
    assert "no flanking genome was read" in printed
    assert "mini is a small network: this says nothing of Enformer" in printed


def test_replicas_and_overlapping_elements_share_a_locus(elements):
    loci = {}
    for element in elements:
        loci.setdefault(element.locus, set()).add(element.name)
    shared_loci = {frozenset(names) for names in loci.values() if len(names) > 1}
    assert len(elements) == 22
    assert shared_loci == {
        frozenset({"TERT-GAa", "TERT-GBM", "TERT-GSc", "TERT-HEK"}),
        frozenset({"SORT1", "SORT1-flip", "SORT1.2"}),
        frozenset({"PKLR-24h", "PKLR-48h"}),
        frozenset({"ZRSh-13", "ZRSh-13h2"}),
    }


def test_a_position_is_in_the_same_fold_in_all_replicas(example):
    folds_of = example["folds_of"]
    positions = np.arange(500, 540)
    one = folds_of(np.repeat(positions, 3), 7, 5)
    other = folds_of(positions[::-1], 7, 5)
    np.testing.assert_array_equal(one[::3], other[::-1])
    np.testing.assert_array_equal(one[::3], one[1::3])
    assert (one != folds_of(np.repeat(positions, 3), 8, 5)).any()


def test_predictions_come_from_other_positions_and_never_from_deletions(example):
    rng = np.random.default_rng(0)
    features, blocks = rng.normal(size=(60, 3)), np.arange(60)
    effects = features[:, 0] * 2.0
    is_snv = blocks % 10 != 0
    misled = np.where(is_snv, effects, 1e6)
    held_out = example["held_out"]
    predicted = held_out(features, effects, is_snv, blocks, blocks % 3)
    np.testing.assert_array_equal(
        predicted, held_out(features, misled, is_snv, blocks, blocks % 3)
    )
    assert np.corrcoef(predicted, effects)[0, 1] > 0.9


def test_measurements_become_variants_of_the_element(example, elements):
    element = elements[0]
    start = element.start
    measured = pd.DataFrame(
        {
            "Pos": [start + 1, start + 3, start + 3, start + 1],
            "Ref": ["C", "T", "T", "C"],
            "Alt": ["A", "G", "-", "-"],
        }
    )
    variants = example["variants_of"](measured, element, "CATG" * 10)
    assert variants["pos"].tolist() == [1, 3, 2, 1]
    assert variants["ref"].tolist() == ["C", "T", "AT", "CA"]
    assert variants["alt"].tolist() == ["A", "G", "A", "A"]
    assert set(variants["tss"]) == {20}


def test_every_measured_base_is_that_of_its_element(shared, example, elements):
    from enformer_features import Genome
    from enformer_features.genomics.encoding import decode

    data = shared / "data"
    measured = example["read_measured"](data / example["VARIANTS"], deletions=True)
    genome = Genome(data / example["ELEMENTS"])
    for element in elements:
        rows = measured[measured["Element"] == element.name]
        letters = decode(genome.fetch(element.name, 0, element.end - element.start))
        found = [letters[pos - 1 - element.start] for pos in rows["Pos"]]
        assert found == rows["Ref"].tolist()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--elements", "TERT"), "TERT"),
        (("--data", "."), "has no mpra"),
        (("--elements", "F9", "--limit", "3"), "blocks of positions are left to train"),
    ],
)
def test_mistakes_are_one_line(shared, example, monkeypatch, options, message):
    given = ("--data", shared / "data", *options)
    with pytest.raises(SystemExit, match=rf"^error: .*{message}"):
        run(example, monkeypatch, *given)
