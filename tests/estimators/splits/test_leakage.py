"""The report on leaks: counted by hand, on random folds, and on real genes."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.model_selection import GroupKFold, KFold

from enformer_features.estimators.splits.leakage import LeakageReport, leakage_report
from enformer_features.estimators.splits.rules import (
    ChromosomeSplit,
    FamilySplit,
    TrainedRegionSplit,
    WindowOverlapSplit,
)
from enformer_features.exceptions import InputError, LeakageWarning
from enformer_features.genomics.genes import read_genes

LENGTH = 1024
GENES = pd.DataFrame(
    {
        "chrom": ["1", "1", "1", "2", "2"],
        "tss": [5000, 5300, 9000, 4000, 9000],
    },
    index=["a1", "b1", "a2", "b2", "c"],
)
FAMILIES = {"a1": "a", "a2": "a", "b1": "b", "b2": "b"}
LEARNT = pd.DataFrame(
    {
        "chrom": ["1", "2", "2"],
        "start": [0, 3000, 8000],
        "end": [4600, 3600, 9900],
        "label": ["train", "valid", "test"],
    }
)
BY_HAND = [([0, 3, 4], [1, 2]), ([0, 1, 2], [3])]


def quiet_report(*args, **kwargs) -> LeakageReport:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LeakageWarning)
        return leakage_report(*args, sequence_length=LENGTH, **kwargs)


def test_every_number_by_hand():
    report = quiet_report(GENES, BY_HAND, families=FAMILIES, trained_regions=LEARNT)
    first, second = report.folds.to_dict("records")
    assert first == {
        "n_train": 3,
        "n_test": 2,
        "overlapping": 1,  # b1 with a1
        "overlapping_share": 0.5,
        "overlap_bp": LENGTH - 300,
        "overlap_share": (LENGTH - 300) / (2 * LENGTH),
        "nearest_bp": 0.0,
        "shared_chroms": 1,
        "related": 2,  # b1 with b2, a2 with a1
        "shared_families": 2,
        "learnt": 0,  # 5300 - 512 is past 4600
    }
    assert second["nearest_bp"] == np.inf
    assert (second["related"], second["learnt"], second["shared_chroms"]) == (1, 1, 0)
    assert (report.n_rows, report.n_tested) == (5, 3)


def test_every_tested_row_is_listed_with_its_label():
    report = quiet_report(GENES, BY_HAND, families=FAMILIES, trained_regions=LEARNT)
    assert report.rows.index.tolist() == ["b1", "a2", "b2"]
    assert report.rows["fold"].tolist() == [0, 0, 1]
    assert report.rows["overlap_bp"].tolist() == [LENGTH - 300, 0, 0]
    assert report.rows["nearest_bp"].tolist() == [0, 9000 - 5000 - LENGTH, np.inf]
    assert report.rows["related"].tolist() == [True, True, True]
    assert report.rows["learnt"].tolist() == [False, False, True]


def test_what_leaks_is_warned_about_with_numbers():
    with pytest.warns(LeakageWarning) as caught:
        report = leakage_report(
            GENES,
            BY_HAND,
            sequence_length=LENGTH,
            families=FAMILIES,
            trained_regions=LEARNT,
        )
    [warning] = caught
    assert Path(warning.filename).name == Path(__file__).name
    assert str(warning.message) == "; ".join(report.findings)
    assert report.findings == [
        "1 of 3 (33.3%) tested windows overlap a training window, with 23.6% of the "
        "bases of all; see ChromosomeSplit",
        "3 of 3 (100.0%) tested rows have a relative in training; see FamilySplit",
        "1 of 3 (33.3%) tested windows overlap regions that the network itself learnt "
        "from; see TrainedRegionSplit",
    ]


def test_a_report_prints_its_folds_and_what_was_not_looked_at():
    text = str(quiet_report(GENES, BY_HAND, families=FAMILIES))
    assert text.startswith("2 folds, 3 of 5 rows are tested, windows of 1,024 bp\n")
    assert "leaks: 3 of 3 (100.0%) tested rows have a relative" in text
    assert text.endswith("not looked at: regions that the network learnt")


def test_a_report_becomes_json():
    report = quiet_report(GENES, BY_HAND)
    record = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert record["folds"][0]["overlap_bp"] == LENGTH - 300
    assert record["folds"][1]["nearest_bp"] is None
    assert record["findings"] == report.findings


@pytest.mark.parametrize(
    ("split", "column"),
    [
        (ChromosomeSplit(), "overlapping"),
        (WindowOverlapSplit(2, sequence_length=LENGTH), "overlapping"),
        (FamilySplit(FAMILIES, 2), "related"),
        (TrainedRegionSplit(LEARNT, sequence_length=LENGTH), "learnt"),
    ],
)
def test_each_split_stops_what_it_is_for(split, column):
    report = quiet_report(GENES, split, families=FAMILIES, trained_regions=LEARNT)
    assert report.folds[column].sum() == 0
    random = quiet_report(GENES, KFold(5), families=FAMILIES, trained_regions=LEARNT)
    assert random.folds[column].sum() > 0


def test_without_leaks_nothing_is_warned_about():
    one_chromosome = {"a1": "a", "a2": "a"}
    report = leakage_report(GENES, ChromosomeSplit(), families=one_chromosome)
    assert report.findings == []
    assert "no leak was found" in str(report)


def test_random_folds_put_every_window_on_a_training_window():
    rng = np.random.default_rng(0)
    genes = pd.DataFrame({"chrom": "chr1", "tss": rng.integers(0, 10_000_000, 400)})
    with pytest.warns(LeakageWarning, match=r"400 of 400 \(100.0%\) tested windows"):
        leakage_report(genes, KFold(5, shuffle=True, random_state=0))


def test_folds_of_every_kind_are_taken():
    features = np.zeros((5, 3))
    masks = [(np.array([1, 1, 0, 0, 0], bool), np.array([0, 0, 1, 1, 1], bool))]
    assert quiet_report(GENES, 5).folds["n_test"].tolist() == [1] * 5
    assert quiet_report(GENES, masks).folds["n_train"].tolist() == [2]
    grouped = quiet_report(GENES, GroupKFold(2), groups=GENES["chrom"])
    assert grouped.folds["shared_chroms"].tolist() == [0, 0]
    beside = quiet_report(features, ChromosomeSplit(), groups=GENES)
    assert beside.folds["n_test"].tolist() == [3, 2]


def test_real_genes_leak_under_random_folds_and_not_by_region(shared: Path):
    genes = read_genes(shared / "data" / "human" / "genes.tsv", tss="tss0")
    with pytest.warns(LeakageWarning, match="overlap a training window"):
        random = leakage_report(genes, KFold(5, shuffle=True, random_state=0))
    assert random.folds["overlapping_share"].min() > 0.9
    for split in (ChromosomeSplit(), WindowOverlapSplit(5)):
        assert leakage_report(genes, split).findings == []


@pytest.mark.parametrize(
    ("cv", "message"),
    [
        ([([0, 1], [])], "fold 0 has 2 rows to train on and 0 to test"),
        ([([0], [1]), ([], [0])], "fold 1 has 0 rows to train on and 1 to test"),
    ],
)
def test_folds_without_rows_are_refused(cv, message):
    folds = [(np.array(fit, int), np.array(test, int)) for fit, test in cv]
    with pytest.raises(InputError, match=message):
        leakage_report(GENES, folds)


def test_features_alone_are_refused():
    with pytest.raises(InputError, match="or as groups=genes beside features"):
        leakage_report(np.zeros((5, 3)), 5)
