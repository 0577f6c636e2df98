"""An evaluation and an explanation of a toy genome, and a browser to look at them."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline

from enformer_features import EnformerEmbedder, Evaluation, Genome, evaluate
from enformer_features.datasets import ToyData, make_toy_genome
from enformer_features.estimators.controls import TrainingMean
from enformer_features.exceptions import EnformerFeaturesWarning
from enformer_features.genomics.encoding import decode
from enformer_features.interpret.targets import Target
from enformer_features.report.explain import Question
from enformer_features.report.explanation import Explanation
from tests.report.browser import Browser, browser

LENGTH = 2048


@pytest.fixture(scope="session")
def toy(tmp_path_factory: pytest.TempPathFactory) -> ToyData:
    return make_toy_genome(
        tmp_path_factory.mktemp("toy"),
        n_chromosomes=3,
        chromosome_length_bp=20_000,
        genes_per_chromosome=4,
        n_tissues=2,
    )


@pytest.fixture(scope="session")
def embedder(toy: ToyData) -> EnformerEmbedder:
    return EnformerEmbedder(
        "untrained-tiny",
        genome=toy.genome,
        sequence_length=LENGTH,
        output="tracks",
        tracks=[0, 24],
    )


@pytest.fixture(scope="session")
def question(toy: ToyData, embedder: EnformerEmbedder) -> Question:
    """Two genes, one element within the first window and one past it, a variant."""
    gene = toy.genes.iloc[0]
    tss = int(gene["tss"])
    ref = decode(Genome(toy.genome).fetch(gene["chrom"], tss + 50, tss + 51))
    variant = {"chrom": gene["chrom"], "pos": tss + 51, "id": "rs1", "ref": ref}
    variant["alt"] = "A" if ref != "A" else "C"
    elements = pd.DataFrame(
        {
            "chrom": gene["chrom"],
            "start": [tss + 100, tss + 1500],
            "end": [tss + 200, tss + 1600],
            "name": ["near", "far"],
        }
    )
    return Question(
        embedder,
        toy.genes.iloc[[0, -1]],
        Target(bins="tss"),
        elements=elements,
        variants=pd.DataFrame([variant]),
        genes=toy.genes,
    )


@pytest.fixture(scope="session")
def explanation(question: Question) -> Explanation:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EnformerFeaturesWarning)
        return question.answer(for_page=True)


@pytest.fixture(scope="session")
def evaluation(toy: ToyData) -> Evaluation:
    """Two models on two targets that one of them knows."""
    rng = np.random.default_rng(0)
    y = np.log(toy.expression)
    known = y.to_numpy() + 0.3 * rng.normal(size=y.shape)
    return evaluate(
        {"ridge": make_pipeline(Ridge(0.1))},
        known,
        y,
        splits={"groups": _Thirds()},
        baselines={"training mean": TrainingMean()},
        n_boot=20,
    )


class _Thirds:
    """Hold out one third after another."""

    def split(self, X: object, y: object = None, groups: object = None) -> Iterator:
        numbers = np.arange(12)
        for third in range(3):
            test = numbers % 3 == third
            yield numbers[~test], numbers[test]

    def get_n_splits(self, X: object = None, y: object = None, g: object = None) -> int:
        return 3


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    with browser() as found:
        yield found


@pytest.fixture
def address(tmp_path: Path) -> Path:
    return tmp_path / "page.html"
