"""The protocol after ExPecto: what it tests, on which features, and what it says."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from enformer_features.estimators.evaluation.protocols import expecto_protocol
from enformer_features.exceptions import InputError, InputTypeError, LeakageWarning
from tests.estimators.toy import embedder, random_letters, write_fasta

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
    pytest.mark.filterwarnings(
        "ignore::enformer_features.exceptions.LeakageWarning",
    ),
    pytest.mark.filterwarnings("ignore:pool 'expecto' reads"),  # toy windows are short
]
CHROMS = ("chr1", "chr2", "chr3", "chr8", "chrX")


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    letters = {name: random_letters(12_000, seed=i) for i, name in enumerate(CHROMS)}
    return write_fasta(folder / "toy.fa", **letters)


@pytest.fixture
def genes():
    places = [(name, 1500 + 2000 * i) for name in CHROMS for i in range(5)]
    table = pd.DataFrame(places, columns=["chrom", "tss"]).assign(strand="+")
    return table.set_axis([f"gene_{i}" for i in range(len(table))])


@pytest.fixture
def expression(genes):
    values = np.random.default_rng(0).exponential(size=(len(genes), 3))
    return pd.DataFrame(values, genes.index, ["liver", "lung", "brain"])


def test_chromosome_8_is_tested_and_the_sex_chromosomes_are_left_out(
    genes, expression, genome
):
    found = expecto_protocol(
        genes,
        expression,
        embedder(genome=genome, tracks=[0, 5]),
        heads=["ridge", "gblinear"],
        baselines=["mean"],
        n_boot=5,
    )
    (predicted,) = found.predictions.values()
    assert list(predicted) == [
        f"{features}, {head}"
        for features in ("tracks", "embedding", "tracks-kernels", "embedding-kernels")
        for head in ("ridge", "gblinear")
    ] + ["training mean"]
    assert set(genes.loc[predicted["tracks, ridge"].index, "chrom"]) == {"chr8"}
    train = genes["chrom"].isin(["chr1", "chr2", "chr3"])
    mean = np.log(expression[train] + 1e-4).mean()
    assert np.allclose(predicted["training mean"], mean)
    assert set(found.table["axis"]) == {"across genes", "across tissues"}
    assert "protocol: ours" in str(found)
    assert "leak: the tested chromosome is held out from the heads" in str(found)
    features = found.provenance["models"]["tracks-kernels, ridge"]["features"]
    assert (features["output"], features["strand"]) == ("tracks", "average")


def test_genes_in_the_networks_own_test_regions_stand_beside(genes, expression, genome):
    learnt = pd.DataFrame(
        {
            "chrom": np.repeat(CHROMS, 2),
            "start": [0, 7000] * len(CHROMS),
            "end": [7000, 12_000] * len(CHROMS),
            "label": ["train", "test"] * len(CHROMS),
        }
    )
    found = expecto_protocol(
        genes,
        expression,
        embedder(genome=genome),
        features=["embedding"],
        heads=["ridge"],
        baselines=["mean"],
        trained_regions=learnt,
        n_boot=5,
    )
    inside = found.predictions["the network's own test regions"]["embedding, ridge"]
    tested = genes.loc[inside.index]
    assert set(tested["chrom"]) == {"chr1", "chr2", "chr3", "chr8"}
    assert tested["tss"].min() - 512 >= 7000
    folds = found.leakage["the network's own test regions"].folds
    assert folds["learnt"].sum() == 0
    assert found.leakage["chr8"].folds["learnt"].sum() > 0


@pytest.mark.parametrize(
    ("value", "message"),
    [(-1.0, "expression is negative for gene_3"), (np.nan, "is missing for gene_3")],
)
def test_expression_that_has_no_logarithm_is_refused(genes, expression, value, message):
    expression.iloc[3, 1] = value
    with pytest.raises(InputError, match=message):
        expecto_protocol(genes, expression, embedder())


def test_a_chromosome_without_genes_and_unknown_names_are_refused(
    genes, expression, genome
):
    with pytest.raises(InputError, match="no rows are on chr9"):
        expecto_protocol(genes, expression, embedder(genome=genome), test=["chr9"])
    with pytest.raises(InputError, match="features='embeding' is not one of"):
        expecto_protocol(genes, expression, embedder(), features=["embeding"])
    with pytest.raises(InputError, match="c=0 must be greater than 0"):
        expecto_protocol(genes, expression, embedder(), c=0)


@pytest.mark.parametrize(
    "name", ["test", "leave_out", "features", "heads", "baselines"]
)
def test_one_text_is_not_taken_apart(genes, expression, name):
    with pytest.raises(InputTypeError, match=f"{name}='chr4' is a single text; wrap"):
        expecto_protocol(genes, expression, embedder(), **{name: "chr4"})


def test_trees_and_tuned_coordinates_fit_few_genes(genes, expression, genome):
    found = expecto_protocol(
        genes,
        expression[["liver"]],
        embedder(genome=genome),
        features=["embedding"],
        heads=["gblinear-tuned", "trees"],
        baselines=[],
        n_boot=5,
    )
    assert found.table["n_rows"].tolist() == [5, 5]


def test_penalties_that_are_chosen_on_single_rows_are_warned_of(genes, expression):
    few = genes["chrom"].isin(["chr1", "chr8"])
    given = {"leave_out": [], "features": ["embedding"], "heads": ["ridge"]}
    with (
        pytest.warns(LeakageWarning, match="penalties are chosen on held-out rows"),
        pytest.raises(InputError, match="need the embedder's genome"),
    ):
        expecto_protocol(genes[few], expression[few], embedder(), **given)


def test_tuned_coordinates_need_two_chromosomes(genes, expression, genome):
    few = genes["chrom"].isin(["chr1", "chr8"])
    with pytest.raises(InputError, match=r"a fold trains on one alone; at least 2"):
        expecto_protocol(
            genes[few],
            expression[few],
            embedder(genome=genome),
            leave_out=[],
            heads=["gblinear-tuned"],
        )
