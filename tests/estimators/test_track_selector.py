"""Selection of tracks as a step, by what the track table says."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from enformer_features.estimators.track_selector import TrackSelector
from enformer_features.exceptions import InputError, SmallNetworkWarning
from enformer_features.inference.tracks import read_tracks
from enformer_features.model.registry import BUNDLED
from tests.estimators.toy import embedder, random_letters

TABLE = pd.DataFrame(
    {
        "index": range(4),
        "identifier": ["E1", "E2", "C1", "C2"],
        "assay": ["DNASE", "DNASE", "CAGE", "CAGE"],
        "description": ["DNASE:liver", "DNASE:K562", "CAGE:liver", "CAGE:brain"],
    }
)
MATRIX = np.arange(8.0).reshape(2, 4)


@pytest.mark.parametrize(
    ("criteria", "expected"),
    [
        ({"assay": "cage"}, [2, 3]),
        ({"pattern": "liver"}, [0, 2]),
        ({"assay": "CAGE", "pattern": "liver"}, [2]),
        ({"identifier": ["C2", "E1"]}, [0, 3]),
        ({"index": [1, 3], "assay": "DNASE"}, [1]),
        ({}, [0, 1, 2, 3]),
    ],
)
def test_tracks_that_meet_every_criterion_are_kept(criteria, expected):
    selector = TrackSelector(TABLE, **criteria)
    assert_array_equal(clone(selector).fit_transform(MATRIX), MATRIX[:, expected])
    selector.fit(MATRIX)
    assert selector.tracks_ == tuple(TABLE["identifier"].iloc[expected])


def test_every_pool_keeps_the_same_tracks():
    both = np.hstack([MATRIX, -MATRIX])
    kept = TrackSelector(TABLE, assay="CAGE").fit_transform(both)
    assert_array_equal(kept, both[:, [2, 3, 6, 7]])


def test_missing_values_pass():
    missing = np.full((1, 4), np.nan)
    assert np.isnan(TrackSelector(TABLE, assay="CAGE").fit_transform(missing)).all()


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning")
def test_it_chooses_behind_an_embedder_and_keeps_names():
    path: Path = BUNDLED["mini"] / "tracks.tsv"
    tracks = embedder(weights="mini", output="tracks", pooling=("tss", "max"))
    model = make_pipeline(tracks, TrackSelector(path, assay="DNASE"))
    letters = [random_letters(1024), random_letters(1024, seed=1)]
    with pytest.warns(SmallNetworkWarning):
        chosen = model.set_output(transform="pandas").fit_transform(letters)
    index = read_tracks(path).query("assay == 'DNASE'")["index"]
    names = [f"{p}__human_{i:04d}" for p in ("tss", "max") for i in index]
    assert list(chosen.columns) == names
    assert list(model.get_feature_names_out()) == names
    assert_array_equal(chosen, tracks.set_output().transform(letters)[names])


def test_in_a_search_it_is_a_parameter():
    step = FunctionTransformer()
    model = make_pipeline(step, TrackSelector(TABLE))
    model.set_params(trackselector__pattern="brain")
    assert_array_equal(model.fit_transform(MATRIX), MATRIX[:, [3]])


def test_no_match_and_other_columns_are_refused():
    with pytest.raises(InputError, match="no track meets every criterion"):
        TrackSelector(TABLE, assay="DNASE", pattern="brain").fit(MATRIX)
    with pytest.raises(InputError, match="assay not in the track table: ATAC"):
        TrackSelector(TABLE, assay="ATAC").fit(MATRIX)
    with pytest.raises(InputError, match="X has 3 columns, the table 4 tracks"):
        TrackSelector(TABLE).fit(MATRIX[:, :3])
    named = pd.DataFrame(MATRIX, columns=["E1", "E2", "C2", "C1"])
    with pytest.raises(InputError, match=r"column C2 is not track 2 \(C1\), column C1"):
        TrackSelector(TABLE).fit(named)
