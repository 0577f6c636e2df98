import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge

from enformer_features.estimators.domain import OutOfDomain
from enformer_features.estimators.persistence import load_model, save_model
from enformer_features.exceptions import InputError, InputTypeError
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

GROUPS = np.repeat(np.arange(8), 25)
quiet = pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
edges = pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning")


def rows(seed=0, n=200):
    return np.random.default_rng(seed).normal(size=(n, 11))


@pytest.mark.parametrize("distance", ["knn", "mahalanobis"])
def test_rows_like_those_fitted_are_rarely_flagged_and_others_always(distance):
    domain = OutOfDomain(distance=distance, quantile=0.95).fit(rows(), groups=GROUPS)
    usual = domain.flags(rows(1, 1_000))
    odd = domain.flags(rows(1, 50) + 6)
    assert usual["out_of_domain"].mean() < 0.15
    assert odd["out_of_domain"].all()
    assert set(odd["reasons"]) == {"features unlike those of the rows fitted"}
    assert (odd["percentile"] == 100).all()


@pytest.mark.parametrize("distance", ["knn", "mahalanobis"])
def test_what_is_usual_is_learnt_from_groups_that_are_held_out(distance):
    rng = np.random.default_rng(0)
    spread = np.repeat(5 * rng.normal(size=(8, 11)), 25, axis=0) + rows()
    by_group = OutOfDomain(distance=distance).fit(spread, groups=GROUPS)
    by_row = OutOfDomain(distance=distance).fit(spread, groups=np.arange(200))
    assert by_group.threshold_ > 1.2 * by_row.threshold_


def test_features_that_do_not_vary_do_no_harm():
    features = np.hstack([rows(), np.ones((200, 2)), rows()[:, :1]])
    for distance in ("knn", "mahalanobis"):
        domain = OutOfDomain(distance=distance).fit(features, groups=GROUPS)
        assert np.isfinite(domain.flags(features)["distance"]).all()
        assert domain.flags(features)["out_of_domain"].mean() < 0.05


@pytest.fixture
def genome(tmp_path):
    letters = random_letters(9_000)
    letters = letters[:6_000] + "N" * 900 + letters[6_900:]
    return write_fasta(tmp_path / "toy.fa", chr1=letters, chr2=random_letters(9_000, 1))


def points(*places):
    return pd.DataFrame(
        [(chrom, tss, "+") for chrom, tss in places],
        columns=["chrom", "tss", "strand"],
        index=[f"gene{i}" for i in range(len(places))],
    )


@quiet
@edges
def test_windows_with_n_and_at_edges_are_flagged(genome):
    reader = embedder(genome=genome)
    fitted = points(*[(c, 1_000 + 300 * i) for c in ("chr1", "chr2") for i in range(8)])
    domain = OutOfDomain(reader, quantile=1, max_n_fraction=0.2).fit(fitted)
    asked = points(("chr2", 4_000), ("chr1", 6_400), ("chr2", 100))
    flags = domain.flags(asked)
    assert flags.index.tolist() == ["gene0", "gene1", "gene2"]
    assert flags["n_fraction"].round(2).tolist() == [0.0, 0.88, 0.4]
    assert flags["off_edge"].tolist() == [False, False, True]
    of_n, of_edge = "more than 20% of the window is N", "the window leaves its"
    assert of_n in flags["reasons"].iloc[1]
    assert of_edge not in flags["reasons"].iloc[1]
    assert of_n in flags["reasons"].iloc[2]
    assert of_edge in flags["reasons"].iloc[2]
    assert flags["out_of_domain"].tolist()[1:] == [True, True]


@quiet
@edges
@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.FailedWindowsWarning")
def test_rows_without_features_are_flagged(genome):
    reader = embedder(genome=genome, edge="nan", on_error="nan")
    places = [("chr1", 1_000 + 100 * i) for i in range(12)]
    domain = OutOfDomain(reader).fit(points(*places), groups=np.arange(12) % 3)
    flags = domain.flags(points(("chr2", 10), ("chr1", 1_100)))
    assert flags["reasons"].iloc[0].startswith("no features")
    assert np.isnan(flags["percentile"].iloc[0])
    assert flags["percentile"].iloc[1] < 100


@quiet
def test_sequences_have_no_edges():
    letters = [random_letters(LENGTH, seed) for seed in range(12)]
    domain = OutOfDomain(embedder()).fit(letters, groups=np.arange(12) % 4)
    assert "off_edge" not in domain.flags(letters)


def test_it_is_saved(tmp_path):
    domain = OutOfDomain().fit(rows(), groups=GROUPS)
    save_model(domain, tmp_path / "domain.efm")
    found = load_model(tmp_path / "domain.efm").flags(rows(1))
    pd.testing.assert_frame_equal(found, domain.flags(rows(1)))


@pytest.mark.parametrize(
    ("options", "X", "groups", "message"),
    [
        ({}, rows(), None, "there are none: fit"),
        ({}, rows(), np.zeros(200), "all rows are of one group"),
        ({}, rows(), GROUPS[1:], "one label for each of the 200 rows"),
        ({}, rows(n=5), np.arange(5), "5 rows are too few; at least 10"),
        ({}, np.where(rows() > 2.9, np.nan, 1), GROUPS, "missing for rows"),
        ({}, rows()[:, 0], GROUPS, r"X has shape \(200,\); expected"),
        ({}, ["chr1:1-9"] * 12, None, "X holds regions, which need an embedder"),
        ({"distance": "cosine"}, rows(), GROUPS, "distance='cosine' is not one of"),
        ({"quantile": 99}, rows(), GROUPS, "quantile=99 must be between 0 and 1"),
        ({"cv": 1}, rows(), GROUPS, "cv=1 must be a whole number"),
    ],
)
def test_mistakes_are_named(options, X, groups, message):
    with pytest.raises(InputError, match=message):
        OutOfDomain(**options).fit(X, groups=groups)


def test_other_embedders_and_other_features_are_refused():
    with pytest.raises(InputTypeError, match="embedder is a Ridge; expected an"):
        OutOfDomain(Ridge()).fit(rows(), groups=GROUPS)
    domain = OutOfDomain().fit(rows(), groups=GROUPS)
    with pytest.raises(InputError, match="X has 4 features, the rows that were fitted"):
        domain.flags(rows()[:, :4])
