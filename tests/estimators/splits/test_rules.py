"""Splits: nothing leaks, folds by hand, scikit-learn's contract, and bad input."""

from __future__ import annotations

import gzip
import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_array_equal
from sklearn.base import BaseEstimator, RegressorMixin, clone
from sklearn.dummy import DummyRegressor
from sklearn.linear_model import Ridge
from sklearn.model_selection import (
    GridSearchCV,
    GroupKFold,
    KFold,
    LeaveOneOut,
    cross_val_predict,
    cross_val_score,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from enformer_features.estimators.splits.rows import row_regions, row_windows
from enformer_features.estimators.splits.rules import (
    ChromosomeSplit,
    FamilySplit,
    Intersection,
    TrainedRegionSplit,
    WindowOverlapSplit,
)
from enformer_features.estimators.splits.splitter import fewest_trained
from enformer_features.exceptions import InputError, InputTypeError, LeakageWarning

LENGTH = 1024
LEARNT = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2", "chr3"],
        "start": [0, 20_000, 0, 0],
        "end": [10_000, 40_000, 50_000, 50_000],
        "label": ["train", "test", "valid", "test"],
    }
)


def random_genes(seed: int, n_rows: int = 60) -> pd.DataFrame:
    """Genes in clumps on four chromosomes, on both strands."""
    rng = np.random.default_rng(seed)
    clumps = rng.integers(3000, 60_000, 23)
    tss = rng.choice(clumps, n_rows) + rng.integers(-1500, 1500, n_rows)
    return pd.DataFrame(
        {
            "chrom": rng.choice(["chr1", "chr2", "chr3", "chr10"], n_rows),
            "tss": tss,
            "strand": rng.choice(["+", "-"], n_rows),
        },
        index=pd.Index([f"gene_{row}" for row in range(n_rows)], name="gene_id"),
    )


def families_of(genes: pd.DataFrame, seed: int) -> dict[str, int]:
    """Families for half of the genes."""
    rng = np.random.default_rng(seed)
    return {gene: int(rng.integers(12)) for gene in genes.index[::2]}


def windows_of(genes: pd.DataFrame) -> pd.DataFrame:
    return row_windows(row_regions(genes), LENGTH)


def smallest_gap(windows: pd.DataFrame, train: np.ndarray, test: np.ndarray) -> float:
    """Count the bases between the nearest two windows, each with each; -1: overlap."""
    one, other = windows.iloc[test], windows.iloc[train]
    same = np.equal.outer(one["chrom"].to_numpy(), other["chrom"].to_numpy())
    left = np.subtract.outer(one["start"].to_numpy(), other["end"].to_numpy())
    right = np.subtract.outer(one["end"].to_numpy(), other["start"].to_numpy())
    between = np.maximum(np.maximum(left, -right), -1)
    return np.where(same, between, np.inf).min()


def folds(split, X, groups=None) -> list[tuple[list[int], list[int]]]:
    return [
        (fit.tolist(), test.tolist()) for fit, test in split.split(X, groups=groups)
    ]


def held_out(split, X, groups=None) -> list[list[int]]:
    return [test for _, test in folds(split, X, groups)]


# --- nothing leaks


@pytest.mark.parametrize("buffer_bp", [0, 1, 700])
def test_windows_of_two_folds_never_overlap_on_100_random_layouts(buffer_bp):
    for seed in range(100):
        genes = random_genes(seed)
        windows = windows_of(genes)
        split = WindowOverlapSplit(3, sequence_length=LENGTH, buffer_bp=buffer_bp)
        for train, test in split.split(genes):
            assert smallest_gap(windows, train, test) >= buffer_bp
            assert len(train) + len(test) == len(genes)


def test_random_folds_of_the_same_layouts_do_overlap():
    genes = random_genes(0)
    windows = windows_of(genes)
    gaps = [smallest_gap(windows, *fold) for fold in KFold(3).split(genes)]
    assert gaps == [-1, -1, -1]


@pytest.mark.parametrize("seed", range(20))
def test_neither_neighbours_nor_families_cross_an_intersection(seed):
    genes = random_genes(seed)
    windows, families = windows_of(genes), families_of(genes, seed)
    split = WindowOverlapSplit(3, sequence_length=LENGTH) & FamilySplit(families, 3)
    times = np.zeros(len(genes), dtype=int)
    for train, test in split.split(genes):
        ours = {families.get(gene, gene) for gene in genes.index[test]}
        theirs = {families.get(gene, gene) for gene in genes.index[train]}
        assert not ours & theirs
        assert smallest_gap(windows, train, test) >= 0
        times[test] += 1
    assert_array_equal(times, 1)


@pytest.mark.parametrize("seed", range(20))
def test_no_tested_window_has_a_learnt_base_nor_a_training_window_near(seed):
    genes = random_genes(seed, 200)
    split = TrainedRegionSplit(LEARNT, sequence_length=LENGTH, buffer_bp=500)
    [(train, test)] = split.split(genes)
    windows = windows_of(genes)
    for row in windows.iloc[test].itertuples():
        near = LEARNT[(LEARNT["chrom"] == row.chrom) & (LEARNT["end"] > row.start)]
        assert set(near.loc[near["start"] < row.end, "label"]) == {"test"}
    assert smallest_gap(windows, train, test) >= 500


def test_no_row_is_trained_on_and_tested_and_their_order_decides_nothing():
    genes = random_genes(3)
    order = np.random.default_rng(0).permutation(len(genes))
    for split in (
        ChromosomeSplit(),
        ChromosomeSplit(n_splits=2),
        WindowOverlapSplit(4, sequence_length=LENGTH),
        FamilySplit(families_of(genes, 3), 4),
    ):
        for (train, test), (_, moved) in zip(
            split.split(genes), split.split(genes.iloc[order]), strict=True
        ):
            assert_array_equal(np.sort(np.concatenate([train, test])), range(60))
            assert_array_equal(np.sort(order[moved]), test)


# --- folds by hand


def on(*chroms: str) -> pd.DataFrame:
    tss = [5000 * (row + 1) for row in range(len(chroms))]
    return pd.DataFrame({"chrom": chroms, "tss": tss})


def test_every_chromosome_is_tested_once_or_several_in_a_fold():
    genes = on("2", "1", "2", "3", "2", "X")
    assert held_out(ChromosomeSplit(), genes) == [[1], [0, 2, 4], [3], [5]]
    assert held_out(ChromosomeSplit(n_splits=2), genes) == [[0, 2, 4], [1, 3, 5]]


def test_chromosomes_that_are_left_out_are_on_neither_side():
    genes = on("chr1", "chrX", "chr8", "chr2")
    split = ChromosomeSplit(["chr8"], leave_out=["chrX", "chrY"])
    assert folds(split, genes) == [([0, 3], [2])]
    assert folds(ChromosomeSplit(leave_out=["chrX"]), genes)[0] == ([2, 3], [0])


def test_chromosomes_may_be_told_beside_contigs_that_are_pieces():
    genes = on("chr6_1M", "chr6_31M", "chr7_86M")
    chroms = ["chr6", "chr6", "chr7"]
    assert held_out(ChromosomeSplit(), genes, groups=chroms) == [[0, 1], [2]]


def test_groups_that_divide_a_chromosome_are_no_chromosomes():
    with pytest.raises(InputError, match="give 2 to rows on chr1; leave groups"):
        ChromosomeSplit().split(on("chr1", "chr1", "chr2"), groups=["a", "b", "a"])


def test_windows_are_placed_as_the_embedder_places_them():
    strands = pd.DataFrame({"chrom": "1", "tss": [3000, 3001], "strand": ["-", "+"]})
    touching = pd.DataFrame({"chrom": "1", "tss": [3000, 3000 + LENGTH]})
    apart = WindowOverlapSplit(2, sequence_length=LENGTH)
    assert held_out(apart, touching) == [[0], [1]]
    with pytest.raises(InputError, match="only 1 groups of windows that overlap"):
        apart.get_n_splits(touching.assign(strand=["-", "+"]))  # one base to the right
    with pytest.raises(InputError, match="only 1 groups"):
        apart.get_n_splits(strands)


def test_the_largest_groups_are_dealt_first():
    tss = [*range(5000, 5004), *range(9000, 9003), 20_000, 30_000, 40_000]
    genes = pd.DataFrame({"chrom": "1", "tss": tss})
    split = WindowOverlapSplit(2, sequence_length=LENGTH)
    assert held_out(split, genes) == [[0, 1, 2, 3, 8], [4, 5, 6, 7, 9]]


def test_rows_at_a_border_of_learnt_regions_are_not_tested():
    tss = [9_000, 19_400, 20_600, 30_000, 45_000]
    genes = pd.DataFrame({"chrom": "chr1", "tss": tss})
    learnt = LEARNT.assign(start=[0, 10_000, 0, 0])
    split = TrainedRegionSplit(learnt, sequence_length=LENGTH)
    assert folds(split, genes) == [([0, 4], [1, 2, 3])]
    wider = clone(split).set_params(margin_bp=10_000)
    assert folds(wider, genes) == [([0, 1, 4], [2, 3])]
    apart = clone(wider).set_params(buffer_bp=600)
    assert folds(apart, genes) == [([0, 4], [2, 3])]


@pytest.mark.parametrize("packed", [False, True])
def test_learnt_regions_are_read_from_a_bed_file(tmp_path: Path, packed: bool):
    text = LEARNT.to_csv(sep="\t", header=False, index=False)
    bed = tmp_path / ("regions.bed.gz" if packed else "regions.bed")
    bed.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    genes = random_genes(0)
    from_file = TrainedRegionSplit(bed, sequence_length=LENGTH)
    from_table = TrainedRegionSplit(LEARNT, sequence_length=LENGTH)
    assert folds(from_file, genes) == folds(from_table, genes)


def test_almost_all_published_test_regions_can_be_tested(shared: Path):
    bed = shared / "data" / "tracks" / "enformer_sequences_human.bed.gz"
    regions = pd.read_csv(bed, sep="\t", names=["chrom", "start", "end", "label"])
    middle = (regions["start"] + regions["end"]) // 2
    genes = regions[["chrom"]].assign(tss=middle)
    [(train, test)] = TrainedRegionSplit(bed).split(genes)
    assert (len(train), len(test)) == (36_218, 1_916)
    assert (genes["chrom"].iloc[test] == "chr8").sum() == 12
    assert set(regions["label"].iloc[test]) == {"test"}


def test_genes_without_a_family_are_their_own_and_ids_may_be_names():
    families = {"A1": "A", "A2": "A", "C1": None}
    regions = on("1", "1", "2", "3", "3").assign(name=["A1", "B", "A2", "C1", "B"])
    split = FamilySplit(families, 3)
    alone = r"3 of 5 rows have no family; each stands alone: B, C1, B"
    with pytest.warns(LeakageWarning, match=alone):
        assert held_out(split, regions) == [[0, 2], [1, 4], [3]]
    families["B"] = "B"
    assert held_out(split, regions.set_index("name")) == [[0, 2], [1, 4], [3]]


def test_an_intersection_of_three_and_of_splits_of_scikit_learn():
    genes = on("1a", "1b", "2", "2", "8", "8")
    chroms = ["1", "1", "2", "2", "8", "8"]
    split = ChromosomeSplit(["8"]) & KFold(2) & GroupKFold(2)
    assert folds(split, genes, groups=chroms) == [([2], [4, 5])]
    mixed = LeaveOneOut() & ChromosomeSplit(["8"])
    assert folds(mixed, genes) == [([0, 1, 2, 3], [4]), ([0, 1, 2, 3], [5])]


# --- what X may be


def test_regions_of_every_kind_give_the_same_folds():
    genes = random_genes(1)
    texts = [f"{row.chrom}:{row.tss + 1}-{row.tss + 1}({row.strand})"
             for row in genes.itertuples()]  # fmt: skip
    split = WindowOverlapSplit(3, sequence_length=LENGTH)
    expected = folds(split, genes)
    features = np.zeros((len(genes), 5))
    assert folds(split, texts) == expected
    assert folds(split, pd.Series(texts)) == expected
    assert folds(split, np.array(texts)) == expected
    assert folds(split, genes.to_records(index=False)) == expected
    assert folds(split, features, groups=genes) == expected
    assert folds(split, pd.DataFrame(features), groups=texts) == expected
    assert folds(split, genes, groups=genes["chrom"]) == expected  # a head's groups


def test_an_anndata_of_features_has_its_regions_in_obs():
    anndata = pytest.importorskip("anndata")
    genes = random_genes(1)
    adata = anndata.AnnData(np.zeros((len(genes), 5)), obs=genes)
    families = families_of(genes, 1)
    for split in (ChromosomeSplit(), FamilySplit(families, 3)):
        assert folds(split, adata) == folds(split, genes)


def test_a_table_of_features_has_ids_of_its_own():
    genes = random_genes(1)
    features = pd.DataFrame(np.zeros((len(genes), 5)), index=genes.index)
    split = FamilySplit(families_of(genes, 1), 3)
    assert folds(split, features) == folds(split, genes)


# --- scikit-learn's contract

GENES = random_genes(2)
SPLITS = [
    ChromosomeSplit(),
    ChromosomeSplit(["chr1"], leave_out=["chr10"]),
    ChromosomeSplit(n_splits=2),
    WindowOverlapSplit(3, sequence_length=LENGTH, buffer_bp=7),
    FamilySplit(pd.Series(families_of(GENES, 2)), n_splits=3),
    TrainedRegionSplit(LEARNT, sequence_length=LENGTH),
    ChromosomeSplit(n_splits=2) & WindowOverlapSplit(2, sequence_length=LENGTH),
]
each_split = pytest.mark.parametrize("split", SPLITS, ids=lambda s: type(s).__name__)
MODEL = make_pipeline(FunctionTransformer(lambda X: X[["tss"]].to_numpy()), Ridge())


@each_split
def test_copies_and_settings(split):
    expected = folds(split, GENES)
    assert split.get_n_splits(GENES) == len(expected)
    assert folds(clone(split), GENES) == expected
    assert folds(pickle.loads(pickle.dumps(split)), GENES) == expected
    assert type(split).__name__ in repr(split)
    rebuilt = type(split)(**split.get_params(deep=False))
    assert repr(rebuilt) == repr(split)


@each_split
def test_scores_and_grid_searches_take_every_split(split):
    y = np.arange(len(GENES), dtype=float)
    search = GridSearchCV(MODEL, {"ridge__alpha": [1.0, 10.0]}, cv=split)
    search.fit(GENES, y)
    assert search.n_splits_ == split.get_n_splits(GENES)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    scores = cross_val_score(MODEL, GENES, y, cv=split)
    assert len(scores) == search.n_splits_


def test_predictions_out_of_fold_are_of_models_that_had_not_seen_the_row():
    y = pd.factorize(GENES["chrom"])[0].astype(float)
    predicted = cross_val_predict(DummyRegressor(), GENES, y, cv=ChromosomeSplit())
    expected = [y[y != value].mean() for value in y]
    np.testing.assert_allclose(predicted, expected)


def test_predictions_of_some_rows_are_refused_by_scikit_learn():
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(
            DummyRegressor(), GENES, np.zeros(60), cv=ChromosomeSplit(["chr1"])
        )


class NeedsGroups(RegressorMixin, BaseEstimator):
    """A head that chooses its penalty by grouped folds would do this."""

    def fit(self, X, y, groups=None):
        self.n_groups_ = len(set(groups))
        return self

    def predict(self, X):
        return np.full(len(X), self.n_groups_, dtype=float)


def test_groups_are_routed_to_splits_and_heads_alike():
    y = np.zeros(len(GENES))
    with sklearn.config_context(enable_metadata_routing=True):
        head = NeedsGroups().set_fit_request(groups=True)
        for split in SPLITS[:1] + SPLITS[3:]:
            scores = cross_val_score(
                head,
                GENES,
                y,
                cv=split,
                params={"groups": GENES["chrom"].to_numpy()},
                scoring=lambda model, X, y: model.n_groups_,
            )
            n_groups = [
                GENES["chrom"].iloc[fit].nunique() for fit, _ in split.split(GENES)
            ]
            assert scores.tolist() == n_groups


def test_features_with_regions_as_groups_work_without_and_with_routing():
    features, y = np.ones((len(GENES), 2)), np.arange(len(GENES), dtype=float)
    split = WindowOverlapSplit(3, sequence_length=LENGTH) & ChromosomeSplit(n_splits=2)
    plain = cross_val_predict(Ridge(), features, y, groups=GENES, cv=split)
    with sklearn.config_context(enable_metadata_routing=True):
        routed = cross_val_predict(
            Ridge(), features, y, cv=split, params={"groups": GENES}
        )
    assert_array_equal(plain, routed)


# --- bad input


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (ChromosomeSplit(["chr9"]), "test: no rows are on chr9; they are on chr1, ch"),
        (ChromosomeSplit(["1"]), r"no rows are on 1; .* did you mean chr1\?"),
        (ChromosomeSplit(leave_out=["CHR2"]), r"leave_out: .* did you mean chr2\?"),
        (ChromosomeSplit([]), "names no chromosome"),
        (ChromosomeSplit(["chr1", "chr2"]), "no rows are left to train on"),
        (ChromosomeSplit(["chr1"], leave_out=["chr1"]), "both name chr1"),
        (ChromosomeSplit(["chr1"], n_splits=2), "n_splits=2 is for test=None"),
        (ChromosomeSplit(leave_out=["chr1"]), "the 2 rows are on chr2; WindowOverlap"),
        (ChromosomeSplit(leave_out=["chr1", "chr2"]), "the 0 rows are on none"),
        (ChromosomeSplit(n_splits=3), "n_splits=3, but the 4 rows are only 2 chromos"),
        (ChromosomeSplit(n_splits=1), "n_splits=1 must be a whole number, at least 2"),
        (WindowOverlapSplit(True), "n_splits=True must be"),
        (WindowOverlapSplit(5, sequence_length=128), "only 4 groups of windows"),
        (WindowOverlapSplit(2), "only 2 groups|at least 2"),
        (WindowOverlapSplit(sequence_length=100), "multiple of 128"),
        (WindowOverlapSplit(buffer_bp=-1), "buffer_bp=-1 must be"),
        (FamilySplit({"HBB": 1}), "none of the 4 rows: rows are called a, b, c, .*HBB"),
        (FamilySplit({"a": 1, "b": 1, "c": 1, "d": 1}), "only 1 families"),
        (FamilySplit(pd.Series([1, 2], ["a", "a"])), "more than one family: a"),
        (Intersection(ChromosomeSplit(["chr1"]), ChromosomeSplit(["chr2"])),
         "not one row is tested by both ChromosomeSplit and ChromosomeSplit"),
        (WindowOverlapSplit(2) & FamilySplit({"a": 1, "c": 1, "d": 1}, 2),
         "1 of 3 folds, which test rows 0, have none to train on: WindowOverlapSplit"),
    ],
)  # fmt: skip
def test_splits_that_cannot_be_say_why(split, message):
    genes = on("chr1", "chr1", "chr2", "chr2").set_index(pd.Index(list("abcd")))
    if "only 2 groups" in message:
        split.set_params(n_splits=3)
    with pytest.raises(InputError, match=message):
        split.split(genes)


@pytest.mark.parametrize(
    ("split", "message"),
    [
        (ChromosomeSplit("chr8"), r"test='chr8' must be a list .* \['chr8'\]"),
        (ChromosomeSplit(leave_out="chrX"), "leave_out='chrX' must be a list"),
        (FamilySplit(["a"]), "families is list, expected a mapping or a Series"),
        (TrainedRegionSplit(LEARNT, test_labels="test"), "wrap it in a list"),
        (Intersection(ChromosomeSplit(), 5), "5 is int, expected a cross-validation"),
    ],
)
def test_arguments_of_another_kind_are_refused(split, message):
    with pytest.raises(InputTypeError, match=message):
        split.split(GENES)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"test_labels": ["tset"]}, "has the labels train, test, valid; name at least"),
        ({"test_labels": []}, "name at least one"),
        ({"bed": LEARNT.drop(columns="label")}, "4 of 4 .* no label; .* 'label'"),
        ({"bed": LEARNT.replace("chr", "", regex=True)}, "to '1'"),
        ({"bed": LEARNT.assign(label="test").replace("chr1", "chr9")[:1]}, "on chr9$"),
        ({"bed": LEARNT.assign(end=0)}, "4 of 4 labelled regions cannot be used"),
        ({"bed": "absent.bed"}, "absent.bed does not exist"),
        ({"bed": LEARNT.assign(chrom="chr1", start=0, end=90_000)}, "no row can be te"),
        ({"bed": LEARNT[1:2].assign(start=0, end=90_000)}, "no rows are left to train"),
        ({"margin_bp": 0.5}, "margin_bp=0.5 must be"),
        ({"buffer_bp": -5}, "buffer_bp=-5 must be"),
    ],
)
def test_learnt_regions_that_cannot_be_used_say_why(change, message):
    split = TrainedRegionSplit(LEARNT, sequence_length=LENGTH).set_params(**change)
    genes = pd.DataFrame({"chrom": "chr1", "tss": [5000, 30_000]})
    with pytest.raises(InputError, match=message):
        split.split(genes)


def test_a_bed_without_labels_names_the_column(tmp_path: Path):
    bed = tmp_path / "plain.bed"
    bed.write_text("chr1\t0\t100\n")
    with pytest.raises(InputError, match=r"plain.bed have no label; .* in column 4"):
        TrainedRegionSplit(bed).split(GENES)


@pytest.mark.parametrize(
    ("X", "groups", "message"),
    [
        (
            np.zeros((2, 5)),
            None,
            r"X is ndarray of shape \(2, 5\), and groups are miss",
        ),
        (None, None, "X is NoneType, and groups are missing"),
        (["ACGT" * 99] * 2, None, "X is list, and groups"),
        (pd.DataFrame({"a": [1]}), ["chr1"], "groups are list, no regions either"),
        (np.zeros((3, 5)), GENES[:2], "groups has 2 rows, X has 3"),
        (["chr1:1-9", "chr1:9-1"], None, "1 of 2 regions cannot be used"),
        (["chr1:1-9", "ACGT" * 99], None, "X mixes regions and sequences"),
    ],
)
def test_rows_without_usable_regions_are_refused(X, groups, message):
    with pytest.raises(InputError, match=message):
        WindowOverlapSplit().split(X, groups=groups)


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        (["chr1", None, "chr2"], "no chromosome for rows 1"),
        (["chr1", "chr2"], "groups has 2 rows, X has 3"),
        (np.zeros((3, 2)), r"groups are ndarray of shape \(3, 2\); expected one"),
        (None, "groups are missing"),
    ],
)
def test_chromosomes_as_groups_must_be_one_per_row(groups, message):
    with pytest.raises(InputError, match=message):
        ChromosomeSplit().split(np.zeros((3, 5)), groups=groups)


def test_fewest_chromosomes_and_rows_may_be_of_different_folds():
    """One fold trains on six rows of chromosome 1, the other on three rows."""
    chroms = ["1"] * 6 + ["2", "3", "4"]
    genes = pd.DataFrame({"chrom": chroms, "tss": np.arange(9) * 1000})
    assert fewest_trained([ChromosomeSplit(n_splits=2)], genes) == (1, 3)
