"""The page of an explanation, and the numbers behind it."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.neighbors import KNeighborsRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features import EnformerEmbedder, gradient_x_input
from enformer_features.datasets import ToyData
from enformer_features.estimators.conformal import GroupedConformal
from enformer_features.estimators.domain import OutOfDomain
from enformer_features.exceptions import (
    EnformerFeaturesError,
    FailedWindowsWarning,
    InputError,
)
from enformer_features.inference.pooling import Pool
from enformer_features.interpret.attention import attention
from enformer_features.interpret.targets import Target
from enformer_features.report.explain import Question
from enformer_features.report.explanation import Explanation, explain_page

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning"),
]


@pytest.fixture(scope="module")
def page(explanation: Explanation, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pages") / "explanation.html"
    return explain_page(explanation, file).read_text("utf-8")


def test_every_region_has_tracks_letters_segments_elements_attention_and_variants(
    page: str, toy: ToyData
) -> None:
    names = toy.genes.index[[0, -1]].tolist()
    assert re.findall(r"<h2[^>]*>(.*?)</h2>", page) == [
        *("Regions", *names, "Provenance"),
    ]
    first = page.partition(f">{names[0]}</h2>")[2].partition("</section>")[0]
    assert re.findall(r"<h3>(.*?)</h3>", first) == [
        *("Predicted tracks", "Contributions along the window", "Letters"),
        *("Strongest segments", "Elements", "Attention", "Variants"),
    ]
    assert page.count('class="logo"') == 2
    assert page.count("<img ") == 7
    assert "None of the elements lies on" in page
    assert "No variant lies in the window" in page


def test_untrained_weights_are_told_first(page: str) -> None:
    items = re.findall(r"<aside.*?</aside>", page, re.DOTALL)[0]
    assert items.index("numbers mean nothing") < items.index("nothing on this page")
    assert 'class="loud"' in items


def test_an_element_past_the_window_has_no_score_and_others_have_all(
    explanation: Explanation, page: str
) -> None:
    elements = explanation.elements
    assert elements is not None
    assert elements["element"].tolist() == ["near", "far"]
    scores = elements[["effect", "gradient", "attention"]]
    assert scores.notna().all(axis=1).tolist() == [True, False]
    assert "1 of 2 elements of chr1 have a score" in page


def test_elements_elsewhere_make_an_empty_table(question: Question) -> None:
    chrom = next(
        name for name in ("chr1", "chr2") if name != question.X["chrom"].iloc[0]
    )
    elements = pd.DataFrame({"chrom": [chrom], "start": [9000], "end": [9100]})
    asked = replace(question, X=question.X.iloc[[0]], elements=elements, variants=None)
    found = asked.answer().elements
    assert found is not None
    assert len(found) == 0
    assert {"region", "element", "effect", "gradient", "reason"} <= set(found)
    assert "attention" not in found


def test_elements_past_the_window_keep_their_columns(question: Question) -> None:
    assert question.elements is not None
    far = question.elements.iloc[[1]]
    asked = replace(question, elements=far, variants=None)
    found = asked.answer().elements
    assert found is not None
    assert {"effect", "gradient", "spread"} <= set(found)


def test_gradients_of_an_element_are_those_of_two_kilobases_around_it(
    explanation: Explanation,
) -> None:
    elements, contributions = explanation.elements, explanation.contributions
    assert elements is not None
    assert contributions is not None
    middle = int(elements["start"].iloc[0] + elements["end"].iloc[0]) // 2
    window = contributions.table.iloc[0]
    low = max(middle - 1000, int(window["window_start"]))
    high = min(middle + 1000, int(window["window_end"]))
    expected = np.abs(contributions.region(0, low, high).astype(np.float64)).sum()
    assert elements["gradient"].iloc[0] == pytest.approx(expected)


def test_the_effect_of_a_variant_is_that_of_the_explained_prediction(
    explanation: Explanation, question: Question
) -> None:
    variants = explanation.variants
    assert variants is not None
    assert variants["region"].tolist() == [question.X.index[0]]
    ism = replace(question, method="ism", ism_bp=104, elements=None).answer()
    found = ism.mutagenesis[0].to_frame()
    row = variants.iloc[0]
    same = found[(found["pos"] == row["pos"]) & (found["alt"] == row["alt"])]
    assert same.iloc[0, -1] == pytest.approx(row["effect"], rel=1e-3, abs=1e-9)


def test_substitutions_are_of_the_mean_of_the_tracks(
    question: Question, embedder: EnformerEmbedder
) -> None:
    ism = replace(question, method="ism", ism_bp=3, elements=None, variants=None)
    found = ism.answer().mutagenesis[0]
    assert (found.effects.shape, found.names) == ((3, 4, 1), ["mean of 2 tracks"])
    one = replace(ism, target=Target(tracks=24)).answer().mutagenesis[0]
    other = replace(ism, target=Target(tracks=0)).answer().mutagenesis[0]
    mean = (one.effects + other.effects) / 2
    np.testing.assert_allclose(found.effects, mean, atol=1e-7)


def test_a_page_of_substitutions_has_their_map(
    question: Question, address: Path
) -> None:
    ism = replace(question, method="ism", ism_bp=12, elements=None, variants=None)
    text = explain_page(ism.answer(for_page=True), address).read_text("utf-8")
    assert "<h3>Every substitution</h3>" in text
    assert "Strongest segments" not in text


def test_attention_alone_needs_no_target(
    question: Question, toy: ToyData, address: Path
) -> None:
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=1024
    )
    asked = Question(embedder, toy.genes.iloc[:1], method="attention")
    found = asked.answer(for_page=True)
    assert found.tracks is None
    text = explain_page(found, address).read_text("utf-8")
    assert "<h3>Attention</h3>" in text
    assert "Explained: the prediction" not in text
    assert "Attention of the TSS bins, whatever is predicted from them." in text
    with pytest.raises(InputError, match="say which, by a target"):
        replace(asked, elements=question.elements).check()


@pytest.mark.parametrize(
    ("elements", "changes", "message"),
    [
        (["chrQ:1-100"], {}, "contigs that the genome does not have: chrQ"),
        (["chr1:0-100"], {}, "elements"),
        (["chr1:1-100"], {"how": "magic"}, "magic"),
        (["chr1:1-100"], {"n": 0}, "n=0"),
    ],
)
def test_elements_are_checked_without_weights(
    question: Question,
    exploding: EnformerEmbedder,
    elements: Any,
    changes: dict[str, Any],
    message: str,
) -> None:
    asked = replace(question, model=exploding, target=Target(tracks=0), variants=None)
    with pytest.raises(EnformerFeaturesError, match=message):
        replace(asked, elements=elements, **changes).check()


@pytest.mark.parametrize(
    ("pooling", "bins", "said"),
    [
        ("region", "region", "the region&#x27;s own bins attend"),
        ("center", "center", "the middle bins attend"),
        (Pool("near", (-2, 3)), (-2, 3), "bins (-2, 3) from the TSS bin attend"),
        (("tss", "mean"), "tss", "the TSS bins attend"),
    ],
)
def test_the_bins_that_attend_are_those_that_the_pooling_reads(
    toy: ToyData, address: Path, pooling: Any, bins: Any, said: str
) -> None:
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=1024, pooling=pooling
    )
    genes = toy.genes.iloc[:1]
    n = len(embedder.get_feature_names_out())
    model = make_pipeline(embedder, Ridge().fit(np.eye(3, n), [0.0, 1.0, 2.0]))
    found = Question(model, genes, method="attention").answer()
    assert found.attention is not None
    expected = attention(embedder, genes, bins).weights
    np.testing.assert_array_equal(found.attention.weights, expected)
    text = explain_page(found, address).read_text("utf-8")
    assert said in text


def test_attention_is_computed_for_the_regions_that_are_drawn(
    question: Question, toy: ToyData, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enformer_features.report.explain.MAX_REGIONS", 1)
    asked = replace(question, elements=None, variants=None)
    seen = asked.answer(for_page=True).attention
    assert seen is not None
    assert np.isnan(seen.weights).all(axis=1).tolist() == [False, True]
    assert seen.table["name"].tolist() == toy.genes.index[[0, -1]].tolist()
    with_elements = replace(asked, elements=question.elements).answer(for_page=True)
    assert with_elements.attention is not None
    assert np.isfinite(with_elements.attention.weights).all()


@pytest.fixture(scope="module")
def fitted(toy: ToyData) -> Any:
    embedder = EnformerEmbedder(
        "untrained-tiny", genome=toy.genome, sequence_length=1024
    )
    y = np.log(toy.expression)
    head = GroupedConformal(Ridge(1.0), alpha=0.3, cv=3)
    features = embedder.transform(toy.genes)
    head.fit(features, y, groups=toy.genes["chrom"].to_numpy())
    return make_pipeline(embedder, head)


@pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning")
def test_intervals_flags_and_drawn_tracks_of_a_head_are_shown(
    fitted: Any, toy: ToyData, address: Path
) -> None:
    domain = OutOfDomain(fitted[0]).fit(toy.genes)
    genes = toy.genes.iloc[:2]
    asked = Question(fitted, genes, Target(output=1), domain=domain, draw_tracks=[3])
    found = asked.answer(for_page=True)
    assert found.intervals is not None
    expected = fitted[1].predict_interval(fitted[0].transform(genes))[:, :, 1]
    np.testing.assert_allclose(found.intervals[["low", "high"]], expected)
    assert found.tracks is not None
    assert found.tracks.values.shape[2] == 1
    text = explain_page(found, address).read_text("utf-8")
    assert "out of domain</th>" in text
    assert ">low</th>" in text
    assert found.contributions is not None
    np.testing.assert_allclose(
        found.intervals["prediction"], found.contributions.prediction, rtol=1e-4
    )


def test_rows_without_features_have_no_interval(fitted: Any, toy: ToyData) -> None:
    names = fitted[0].get_feature_names_out()
    features = pd.DataFrame(fitted[0].transform(toy.genes), columns=names)
    head = GroupedConformal(Ridge(1.0), alpha=0.3, cv=3)
    scaled = make_pipeline(fitted[0], StandardScaler().fit(features), head)
    groups = toy.genes["chrom"].to_numpy()
    head.fit(scaled[1].transform(features), toy.expression["tissue_1"], groups=groups)
    scaled = clone_with(scaled, on_error="nan")
    rows = toy.genes.iloc[:2].assign(chrom=["chr1", "chrQ"])
    with pytest.warns(FailedWindowsWarning):
        found = Question(scaled, rows).answer().intervals
    assert found is not None
    assert found["low"].isna().tolist() == [False, True]


def clone_with(model: Any, **options: Any) -> Any:
    """Return a fitted pipeline with an embedder of other parameters."""
    embedder = clone(model[0]).set_params(**options)
    return make_pipeline(embedder, *(step for _, step in model.steps[1:]))


def test_which_of_several_intervals_is_asked_before_anything_runs(
    fitted: Any, toy: ToyData
) -> None:
    asked = Question(fitted, toy.genes.iloc[:1], method="attention")
    with pytest.raises(InputError, match="the pipeline makes 2 predictions"):
        asked.check()


@pytest.mark.parametrize(
    ("output", "message"),
    [("NOPE", "'NOPE' is none of"), (0, "output=0: attention is of bins")],
)
def test_attention_does_not_ignore_a_prediction(
    toy: ToyData, embedder: EnformerEmbedder, output: int | str, message: str
) -> None:
    features = np.random.default_rng(0).normal(size=(4, 2))
    head = Ridge().fit(features, features[:, 0])
    model = make_pipeline(embedder, head)
    asked = Question(model, toy.genes, Target(output=output), method="attention")
    with pytest.raises(InputError, match=message):
        asked.check()


def test_heads_without_a_gradient_are_refused_before_anything_runs(
    toy: ToyData, exploding: EnformerEmbedder
) -> None:
    n = len(exploding.get_feature_names_out())
    neighbours = KNeighborsRegressor(2).fit(
        np.random.default_rng(0).random((9, n)), range(9)
    )
    model = make_pipeline(exploding, neighbours)
    with pytest.raises(InputError, match="ism"):
        Question(model, toy.genes.iloc[:1]).answer()


@pytest.fixture
def exploding(toy: ToyData, tmp_path: Path) -> EnformerEmbedder:
    """Weights whose sizes are known, and that cannot be loaded."""
    from enformer_features.model import EnformerConfig

    config = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    (tmp_path / "config.json").write_text(config.to_json())
    (tmp_path / "model.safetensors").write_bytes(b"boom")
    return EnformerEmbedder(str(tmp_path), genome=toy.genome, sequence_length=1024)


def test_parts_of_other_regions_are_refused(
    explanation: Explanation, embedder: EnformerEmbedder, toy: ToyData
) -> None:
    one = gradient_x_input(embedder, toy.genes.iloc[:1])
    with pytest.raises(InputError, match="contributions has 1 rows for 2 regions"):
        replace(explanation, contributions=one)


def test_only_the_first_regions_are_shown_and_the_page_says_so(
    explanation: Explanation, address: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("enformer_features.report.explanation.MAX_REGIONS", 1)
    text = explain_page(explanation, address).read_text("utf-8")
    assert "The first 1 of 2 regions are shown" in text
    assert text.count('class="logo"') == 1


def test_a_region_without_result_says_why(
    explanation: Explanation, address: Path
) -> None:
    windows = explanation.windows.assign(reason=["", "no such contig"])
    found = Explanation(windows, explanation.about, explanation.contributions)
    text = explain_page(found, address).read_text("utf-8")
    assert "There is no result: no such contig" in text
    assert "no result because</th>" in text


def test_elements_without_an_entry_are_told(
    explanation: Explanation, address: Path
) -> None:
    empty: pd.DataFrame | None = explanation.elements
    assert empty is not None
    found = replace(explanation, elements=empty.iloc[:0])
    assert "None of the elements" in explain_page(found, address).read_text("utf-8")


def test_regions_of_one_name_are_refused_where_names_tell_them_apart(
    question: Question,
) -> None:
    twice = question.X.assign(name="same")
    with pytest.raises(InputError, match="several regions are called"):
        replace(question, X=twice).check()
    alone = replace(question, X=twice, elements=None, variants=None)
    assert len(alone.check()) == 2
