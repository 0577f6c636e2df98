"""The page of an evaluation says what its tables say, with what must be known."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from enformer_features import Evaluation
from enformer_features.exceptions import InputError
from enformer_features.report.evaluation import evaluation_page, gene_errors


@pytest.fixture(scope="module")
def page(evaluation: Evaluation, tmp_path_factory: pytest.TempPathFactory) -> str:
    file = tmp_path_factory.mktemp("pages") / "evaluation.html"
    evaluation_page(evaluation, file, title="Toy")
    return file.read_text("utf-8")


def test_it_has_scores_targets_predictions_genes_leakage_and_provenance(
    page: str,
) -> None:
    headings = re.findall(r"<h2[^>]*>(.*?)</h2>", page)
    assert headings == [
        *("Scores", "Targets, split groups", "Predictions, split groups"),
        *("Genes, split groups", "Leakage", "Provenance"),
    ]
    assert page.count("<img ") == 3
    assert "<h1>Toy</h1>" in page
    assert "12 rows, 2 targets, splits: groups" in page


def test_targets_stand_beside_the_best_baseline(
    page: str, evaluation: Evaluation
) -> None:
    scores = evaluation.scores("groups")
    above = scores["ridge"] - scores["training mean"]
    assert ">ridge - training mean</th>" in page
    for value in above:
        assert f'data-value="{value}"' in page


def test_it_says_that_across_genes_is_not_across_people(page: str) -> None:
    assert "nothing about people or alleles" in page
    assert "Not for diagnosis" in page
    assert "there are no regions to look at" in page
    assert '"n_boot": 20' in page.replace("&quot;", '"')


@pytest.mark.parametrize(
    ("weights", "said"),
    [("untrained-tiny", "numbers mean nothing"), ("mini", "draw no conclusions")],
)
def test_untrained_and_small_networks_are_loud(
    evaluation: Evaluation, address: Path, weights: str, said: str
) -> None:
    record: Any = {**evaluation.provenance}
    record["models"] = {"ridge": {"role": "model", "features": {"weights": weights}}}
    evaluation_page(replace(evaluation, provenance=record), address)
    found = re.search(r'<li class="loud">(.*?)</li>', address.read_text("utf-8"))
    assert found is not None
    assert said in found[1]


def test_errors_are_in_units_of_each_target_and_missing_values_left_out() -> None:
    observed = pd.DataFrame(
        {"a": [0.0, 2.0, np.nan], "b": [0.0, 200.0, np.nan]}, index=["x", "y", "z"]
    )
    predicted = pd.DataFrame({"a": [1.0, 2.0, 0.0], "b": [0.0, 100.0, 0.0]})
    found = gene_errors(observed, predicted.set_axis(observed.index))
    assert found["row"].tolist() == ["x", "y"]
    assert found["error"].tolist() == [0.5, 0.5]
    assert found["n_targets"].tolist() == [2, 2]


def test_worst_and_best_genes_are_the_ends_of_the_errors(
    page: str, evaluation: Evaluation
) -> None:
    predicted = evaluation.predictions["groups"]["ridge"]
    errors = gene_errors(evaluation.observed, predicted)
    part = page.partition("Worst predicted")[2]
    worst, _, best = part.partition("Best predicted")
    names = [re.findall(r'<td class="word">(.*?)</td>', text) for text in (worst, best)]
    assert names[0][:6] == errors["row"].tolist()[::-1][:6]
    assert names[1][:6] == errors["row"].tolist()[:6]


def test_a_page_that_is_there_is_kept(evaluation: Evaluation, address: Path) -> None:
    address.write_text("mine")
    with pytest.raises(InputError, match="exists"):
        evaluation_page(evaluation, address)
    assert address.read_text() == "mine"
