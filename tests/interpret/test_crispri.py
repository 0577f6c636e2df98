import gzip

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics import average_precision_score

from enformer_features.exceptions import InputError
from enformer_features.interpret.crispri import (
    average_precision,
    average_precisions,
    crispri_baselines,
    powered,
    read_crispri,
)

HEADER = (
    "chrom chromStart chromEnd startTSS endTSS measuredGeneSymbol Regulated "
    "distanceToTSS DHS.RPM H3K27ac.RPM.expandedRegion PowerAtEffectSize25"
)
ROWS = (
    "chr1 100 600 5350 5351 MYC TRUE 5000 1 4 0.1",
    "chr1 900 1400 5350 5351 MYC FALSE 4200 4 9 0.9",
    "chr2 100 600 0 0 GATA1 FALSE 70000 0 9 0.2",
)


@pytest.fixture
def written(tmp_path):
    def write(rows=ROWS, header=HEADER):
        path = tmp_path / "pairs.tsv"
        path.write_text("\n".join([header, *rows, ""]).replace(" ", "\t"))
        return path

    return write


@pytest.fixture(scope="module")
def published(shared):
    folder = shared / "data" / "crispri"
    return read_crispri(folder / "EPCrisprBenchmark_training_K562.GRCh38.tsv.gz")


def pairs_of(regulated, distance, chrom=None):
    return pd.DataFrame(
        {
            "chrom": chrom or [f"chr{i}" for i in range(len(regulated))],
            "distance": np.asarray(distance, dtype=float),
            "regulated": regulated,
        }
    )


def test_a_table_is_read_in_its_order_with_our_names(written):
    pairs = read_crispri(written())
    assert pairs["gene"].tolist() == ["MYC", "MYC", "GATA1"]
    assert pairs["regulated"].tolist() == [True, False, False]
    assert pairs["distance"].tolist() == [5000, 4200, 70000]
    assert pairs["PowerAtEffectSize25"].tolist() == [0.1, 0.9, 0.2]


def test_a_gene_without_a_tss_has_none(written):
    assert read_crispri(written())["tss"].tolist() == [5350, 5350, -1]


def test_distances_are_measured_where_the_table_has_none(tmp_path, written):
    table = pd.read_csv(written(), sep="\t").drop(columns="distanceToTSS")
    path = tmp_path / "bare.tsv.gz"
    with gzip.open(path, "wt") as file:
        table.to_csv(file, sep="\t", index=False)
    distance = read_crispri(path)["distance"]
    assert distance[:2].tolist() == [5000, 4200]
    assert np.isnan(distance[2])


def test_missing_columns_are_named(written):
    with pytest.raises(InputError, match=r"no column startTSS, measuredGeneSymbol"):
        read_crispri(written(["chr1 1 9 TRUE"], "chrom chromStart chromEnd Regulated"))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("TRUE", "maybe", r"neither TRUE nor FALSE in rows 0$"),
        ("5000", "far", r"distance is no number in rows 0$"),
    ],
)
def test_bad_values_are_located(written, old, new, message):
    with pytest.raises(InputError, match=message):
        read_crispri(written([ROWS[0].replace(old, new), *ROWS[1:]]))


def test_baselines_by_hand(written):
    scores = crispri_baselines(read_crispri(written()))
    assert scores["1/distance"].tolist() == [1 / 5000, 1 / 4200, 1 / 70000]
    assert scores["activity"].tolist() == [2, 6, 0]
    assert scores["activity/distance"].tolist() == [2 / 5000, 6 / 4200, 0]
    near = np.array([2 / 5000, 6 / 4200])
    expected = [*(near / near.sum()), 0]
    np.testing.assert_allclose(scores["ABC of tested"], expected)


def test_elements_nearer_than_a_kilobase_count_as_a_kilobase_away(written):
    pairs = read_crispri(written()).assign(distance=[10.0, 1000.0, 2000.0])
    assert crispri_baselines(pairs)["activity/distance"].tolist() == [0.002, 0.006, 0]


def test_the_tables_own_abc_score_is_taken(written):
    pairs = read_crispri(written()).assign(ABCScore=[0.3, 0.2, 0.1])
    assert crispri_baselines(pairs)["ABC"].tolist() == [0.3, 0.2, 0.1]


def test_baselines_without_their_columns_are_left_out():
    pairs = pairs_of([True, False], [2000, 4000])
    assert list(crispri_baselines(pairs)) == ["1/distance"]
    with pytest.raises(InputError, match="no column 'distance'"):
        crispri_baselines(pairs.drop(columns="distance"))


def test_published_baselines_are_reproduced(published):
    assert len(published) == 10_356
    assert published["regulated"].sum() == 471
    scores = crispri_baselines(published)
    found = average_precision(published, scores, groups=None)
    overall = found[found["distance"] == "all"].set_index("score")
    precision = overall["average_precision"]
    assert precision["1/distance"] == pytest.approx(0.438, abs=0.005)
    assert precision["activity/distance"] == pytest.approx(0.529, abs=0.005)
    assert precision["activity"] == pytest.approx(0.111, abs=0.005)
    assert overall["prevalence"].tolist() == pytest.approx([471 / 10_356] * 4)


def test_few_published_pairs_lie_in_a_window(published):
    near = published["distance"] <= 98_304
    assert (near.sum(), published.loc[near, "regulated"].sum()) == (1_796, 389)
    score = (1 / published["distance"]).where(near).rename("in the window")
    found = average_precision(published, score, groups=None).set_index("distance")
    assert found.loc["all", "coverage"] == pytest.approx(1_796 / 10_356)
    assert found.loc["all", "positive_coverage"] == pytest.approx(389 / 471)
    assert found.loc["all", "n_positive_ranked"] == 389
    assert found.loc["100 kb or more", "reason"] == "no pair has a score"


def test_underpowered_negatives_can_be_left_out(published):
    keep = powered(published)
    assert keep[published["regulated"]].all()
    score = (1 / published["distance"]).rename("1/distance")
    found = average_precision(published, score, groups=None, min_power=0.8)
    assert found.loc[0, "n_pairs"] == keep.sum() < len(published)
    assert found.loc[0, "n_positive"] == 471
    with pytest.raises(InputError, match="PowerAtEffectSize25"):
        powered(pairs_of([True], [1]))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), min_size=1, max_size=30))
def test_average_precision_is_that_of_scikit_learn(rows):
    positive = np.array([row[0] for row in rows])
    scores = np.array([row[1] for row in rows], dtype=float)
    found = average_precisions(positive, scores, np.ones((1, len(rows))))
    if positive.any():
        expected = average_precision_score(positive, scores)
        np.testing.assert_allclose(found, expected)
    else:
        assert np.isnan(found).all()


def test_a_draw_is_worth_rows_that_are_repeated():
    rng = np.random.default_rng(0)
    positive, scores = rng.random(40) < 0.3, rng.normal(size=40)
    times = rng.integers(0, 4, size=40)
    expected = average_precision_score(
        np.repeat(positive, times), np.repeat(scores, times)
    )
    found = average_precisions(positive, scores, times[None].astype(float))
    np.testing.assert_allclose(found, expected)


def test_scores_are_compared_on_pairs_that_all_have():
    pairs = pairs_of([True, False, True, False], [2e3, 3e3, 4e3, 5e3])
    scores = {"full": [1.0, 2, 3, 4], "half": [np.nan, np.nan, 2.0, 1.0]}
    common = average_precision(pairs, scores, groups=None).set_index("score")
    of_all = common[common["distance"] == "all"]
    assert of_all["n_ranked"].tolist() == [2, 2]
    assert of_all["coverage"].tolist() == [1, 0.5]
    own = average_precision(pairs, scores, groups=None, on="own").set_index("score")
    assert own[own["distance"] == "all"]["n_ranked"].tolist() == [4, 2]


def test_a_missing_score_is_not_a_zero():
    pairs = pairs_of([True, False, False], [2e3, 3e3, 4e3])
    missing = average_precision(pairs, {"s": [np.nan, -1.0, -2.0]}, groups=None)
    assert missing.loc[0, "reason"] == "no positive pair has a score"
    assert np.isnan(missing.loc[0, "average_precision"])
    assert missing.loc[0, "positive_coverage"] == 0


def test_every_pair_is_in_one_distance_bin():
    pairs = pairs_of([True] * 5, [0, 9_999, 10_000, 50_000, 1e9])
    found = average_precision(pairs, {"s": np.arange(5.0)}, groups=None)
    assert found["distance"].tolist() == [
        "all",
        "0-10 kb",
        "10-50 kb",
        "50-100 kb",
        "100 kb or more",
    ]
    assert found["n_pairs"].tolist() == [5, 2, 1, 1, 1]


def test_intervals_come_from_whole_groups():
    regulated = [True, False] * 6
    pairs = pairs_of(regulated, [2e3] * 12, chrom=[f"chr{i // 4}" for i in range(12)])
    scores = {"good": np.array(regulated, float), "bad": np.zeros(12)}
    found = average_precision(pairs, scores, baseline="bad", n_boot=50)
    good, bad = (found[found["score"] == name].iloc[0] for name in scores)
    assert (good["low"], good["high"]) == (1, 1)  # every chromosome is ranked right
    assert (bad["low"], bad["high"]) == (0.5, 0.5)
    assert (good["gain"], good["gain_low"], bad["gain"]) == (0.5, 0.5, 0)
    again = average_precision(pairs, scores, baseline="bad", n_boot=50)
    pd.testing.assert_frame_equal(found, again)


@pytest.mark.parametrize(
    ("scores", "options", "message"),
    [
        ({"s": [1.0]}, {}, r"score 's' has shape \(1,\) for 2 pairs"),
        ({"s": [1.0, np.inf]}, {}, "score 's' is infinite in rows 1"),
        ({}, {}, "scores hold no column"),
        (pd.Series([1.0, 2.0], index=[1, 0]), {}, "other row labels"),
        ({"s": [1.0, 2.0]}, {"groups": "gene"}, "groups='gene' is no column"),
        ({"s": [1.0, 2.0]}, {"groups": [0]}, "one label for each of the 2 pairs"),
        ({"s": [1.0, 2.0]}, {"groups": [0, 0]}, "a single one"),
        ({"s": [1.0, 2.0]}, {"baseline": "t"}, "baseline='t' is not one of 's'"),
        (
            {"s": [1.0, 2.0]},
            {"baseline": "s", "on": "own"},
            "baseline='s' needs on='common'",
        ),
        ({"s": [1.0, 2.0]}, {"edges_bp": (5, 5)}, "lower edges in bp that rise"),
        ({"s": [1.0, 2.0]}, {"on": "mine"}, "on='mine' is not one of"),
    ],
)
def test_mistakes_are_named(scores, options, message):
    with pytest.raises(InputError, match=message):
        average_precision(pairs_of([True, False], [1, 2]), scores, **options)
