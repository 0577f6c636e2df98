"""interpret/targets.py and affine.py: what can be explained, and what is refused."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import RandomForestRegressor
from sklearn.linear_model import Lasso, Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    QuantileTransformer,
    StandardScaler,
)
from sklearn.tree import DecisionTreeRegressor

from enformer_features import EnformerEmbedder, Target, TrackSelection
from enformer_features import gradient_x_input as explain
from enformer_features.estimators.ridge.estimator import GroupedRidgeCV
from enformer_features.exceptions import GenomeError, InputError, InputTypeError
from enformer_features.interpret.affine import affine_coefficients
from enformer_features.interpret.targets import resolve_target
from enformer_features.model.handle import ModelHandle
from tests.inference.networks import ODD, draw_codes, network_of

CODES = draw_codes(1, 1_408)
DRAWN = np.random.default_rng(1)
FEATURES = DRAWN.standard_normal((60, 7))
MEASURED = np.abs(FEATURES @ DRAWN.standard_normal((7, 2))) + 0.1


def embedder(**parameters):
    settings = {"sequence_length": 1_408, "cache": None, "output": "tracks"}
    return EnformerEmbedder(ModelHandle(network_of(ODD)), **{**settings, **parameters})


def pipeline(head, y=MEASURED, **parameters):
    model = make_pipeline(embedder(**parameters), head)
    model[-1].fit(FEATURES, y)
    return model


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"tracks": 1, "output": 0}, "one of tracks and output; make one for each"),
        ({"bins": "tsss"}, "did you mean 'tss'"),
        ({"output": 0, "bins": "all"}, "the bins that its own pooling reads"),
        ({"direction": [0.0, 0.0]}, "0 everywhere: nothing depends on it"),
        ({"direction": [[1.0]]}, r"shape \(1, 1\); it must be a vector"),
        ({"direction": [np.nan]}, "a vector of finite numbers"),
    ],
)
def test_targets_that_cannot_be_are_refused(given, message):
    with pytest.raises(InputError, match=message):
        Target(**given)


@pytest.mark.parametrize(
    ("given", "error", "message"),
    [
        ({"tracks": [1.7]}, InputTypeError, r"integers, not 1.7 \(float\)"),
        ({"tracks": ["0"]}, InputError, "takes indices or one assay"),
        ({"tracks": [True]}, InputTypeError, r"integers, not True \(bool\)"),
        ({"tracks": np.array([1.7])}, InputTypeError, "integers, not"),
        ({"tracks": ["CAGE", "DNASE"]}, InputError, "takes indices or one assay"),
        ({"tracks": ("CAGE", "DNASE")}, InputError, "takes indices or one assay"),
        ({"tracks": []}, InputError, "no tracks are selected"),
        ({"direction": ["a"]}, InputError, r"direction=\['a'\] must be a vector"),
        ({"direction": [[1], [1, 2]]}, InputError, "must be a vector of numbers"),
    ],
)
def test_values_of_another_kind_are_refused_and_not_rounded(given, error, message):
    with pytest.raises(error, match=message):
        Target(**given)


def test_targets_compare_by_value():
    assert Target(tracks=[1, 2], bins=[-1, 2]) == Target(tracks=(1, 2), bins=(-1, 2))
    assert Target(direction=np.ones(3)) == Target(direction=(1.0, 1.0, 1.0))
    assert len({Target(tracks=np.arange(2)), Target(tracks=[0, 1])}) == 1


def test_the_target_of_nothing_is_the_embedders_tracks_or_the_only_prediction():
    assert resolve_target(embedder()).name == "mean of 7 tracks"
    assert resolve_target(embedder(tracks=[3])).name == "human_0003"
    chosen = TrackSelection((5,), ("K562",))
    assert resolve_target(embedder(output="embedding"), Target(chosen)).name == "K562"
    model = pipeline(Ridge(), MEASURED[:, 0])
    assert resolve_target(model).name == "prediction_0"
    assert resolve_target(model, Target(tracks=4)).name == "human_0004"


@pytest.mark.parametrize(
    ("model", "target", "message"),
    [
        (embedder(output="embedding"), None, "what is to be explained"),
        (embedder(), Target(output=0), "and this is an embedder alone"),
        (embedder(), Target(tracks=7), "head has 7 tracks, 0 to 6"),
        (embedder(), Target(tracks="CAGE"), "known for the published heads only"),
        (embedder(), Target(tracks=0, bins=(-3, 40)), "keeps bins 0 to 10"),
        (embedder(), Target(direction=[1.0]), "has 1 numbers; .* has 108 dimensions"),
        (embedder(), Target(tracks=0, bins="region"), "sequences have no interval"),
        (pipeline(Ridge()), None, "makes 2 predictions, and one is explained at a"),
        (pipeline(Ridge()), Target(output=2), "makes 2 predictions, 0 to 1"),
        (pipeline(Ridge()), Target(output="predction_1"), "mean 'prediction_1'"),
        (pipeline(Ridge()), Target(bins="all"), "for tracks and directions"),
        (make_pipeline(embedder(), Ridge()), None, "is not fitted; call"),
    ],
)
def test_what_a_model_does_not_have_is_refused_before_weights_are_read(
    model, target, message, monkeypatch
):
    monkeypatch.setattr(
        "enformer_features.interpret.gradients.load_weights", pytest.fail
    )
    with pytest.raises(InputError, match=message):
        explain(model, CODES, target)


def test_things_of_another_kind_are_refused():
    with pytest.raises(InputTypeError, match="target must be a Target, not list"):
        explain(embedder(), CODES, [1, 2])
    with pytest.raises(InputTypeError, match="must be an EnformerEmbedder, or a"):
        explain(Ridge(), CODES)
    with pytest.raises(InputTypeError, match="must be the number or name"):
        explain(pipeline(Ridge()), CODES, Target(output=1.5))


@pytest.mark.parametrize(
    ("X", "error", "message"),
    [
        (["chr1:101-200"], InputError, "X holds regions, which need a genome"),
        (["ACGT" * 100], InputError, "sequences must have 1,408 bp"),
        ("chr1:101-200", InputTypeError, "wrap it in a list"),
    ],
)
def test_regions_without_sequence_are_refused(X, error, message):
    with pytest.raises(error, match=message):
        explain(embedder(), X, Target(tracks=0))


def test_regions_of_a_contig_that_is_not_there_are_refused(tmp_path):
    path = tmp_path / "toy.fa"
    path.write_text(">chr1\n" + "ACGT" * 1_000)
    with pytest.raises(GenomeError, match="unknown contig 'chr7'"):
        explain(embedder(genome=path), ["chr7:101-200"], Target(tracks=0))


def logarithm(values):
    return np.log(values + 5)  # NaN for some negative features


@pytest.mark.parametrize(
    "head",
    [
        DecisionTreeRegressor(max_depth=2, random_state=0),
        RandomForestRegressor(n_estimators=3, random_state=0),
        KNeighborsRegressor(3),
        make_pipeline(QuantileTransformer(n_quantiles=20), Ridge()),
        make_pipeline(FunctionTransformer(logarithm), Ridge()),
        TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp),
    ],
)
def test_heads_without_an_exact_gradient_say_what_to_use_instead(head):
    model = pipeline(head)
    with pytest.raises(
        InputError, match=r"Use saturation_mutagenesis or element_ism.*its"
    ):
        explain(model, CODES, Target(output=1))


def test_the_regressor_of_a_transformed_target_can_be_explained():
    head = TransformedTargetRegressor(Ridge(), func=np.log, inverse_func=np.exp)
    model = pipeline(head)
    inner = make_pipeline(model[0], model[-1].regressor_)
    found = explain(inner, CODES, Target(output=1))
    np.testing.assert_allclose(found.prediction, inner.predict(CODES)[:, 1], rtol=1e-4)


@pytest.mark.parametrize(
    "head",
    [GroupedRidgeCV(cv="rows"), make_pipeline(StandardScaler(), Lasso(alpha=0.01))],
)
def test_coefficients_of_linear_heads_are_found(head):
    head = head.fit(FEATURES, MEASURED[:, 0])
    weights, offset = affine_coefficients(lambda x: head.predict(x).ravel(), 7)
    points = DRAWN.standard_normal((5, 7))
    found = points @ weights + offset
    np.testing.assert_allclose(found, head.predict(points).ravel(), rtol=1e-9)


def test_boosted_linear_models_are_affine_too():
    xgboost = pytest.importorskip("xgboost")
    head = xgboost.XGBRegressor(booster="gblinear", n_estimators=20)
    model = pipeline(head, MEASURED[:, 0])
    found = explain(model, CODES)
    assert found.prediction[0] == pytest.approx(model.predict(CODES)[0], rel=1e-4)
    assert found.scores.any()


def test_names_of_predictions_are_those_of_the_targets():
    model = pipeline(Ridge())
    model.target_names_ = ["liver", "brain"]
    found = explain(model, pd.Series(["ACGT" * 352]), Target(output="brain"))
    assert found.about["explained"] == "brain"
    assert found.about["method"] == "gradient_x_input"
    assert found.about["weights_digest"].startswith("sha256:")
    assert len(found.about["head_digest"]) > 8
