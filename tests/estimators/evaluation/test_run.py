"""Models beside baselines: what is fitted on what, scored how, and written where."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.model_selection import KFold, RepeatedKFold
from sklearn.pipeline import make_pipeline

from enformer_features.estimators.baselines import SequenceCompositionBaseline
from enformer_features.estimators.controls import PermutedTargets, TrainingMean
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.evaluation.fits import RANDOM
from enformer_features.estimators.evaluation.run import (
    BASELINES,
    evaluate,
    standard_baselines,
)
from enformer_features.estimators.gene_tss import GeneTSSAggregator
from enformer_features.estimators.heads import lasso_head, ridge_head
from enformer_features.estimators.metrics import median_score
from enformer_features.estimators.splits.rules import (
    ChromosomeSplit,
    WindowOverlapSplit,
)
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    LeakageWarning,
    StoreError,
    TargetWarning,
)
from tests.estimators.toy import embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)
N_TARGETS = 4


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    letters = {f"chr{i}": random_letters(20_000, seed=i) for i in (1, 2, 3)}
    return write_fasta(folder / "toy.fa", **letters)


@pytest.fixture
def genes():
    places = [(f"chr{c}", 2000 + 2500 * i) for c in (1, 2, 3) for i in range(6)]
    table = pd.DataFrame(places, columns=["chrom", "tss"]).assign(strand="+")
    return table.set_axis([f"gene_{i}" for i in range(len(table))])


@pytest.fixture
def y(genes):
    random = np.random.default_rng(0)
    values = random.normal(size=(len(genes), N_TARGETS))
    return pd.DataFrame(values, genes.index, list("abcd"))


@pytest.fixture
def features():
    return np.random.default_rng(1).normal(size=(40, 3))


@pytest.fixture
def signal(features):
    random = np.random.default_rng(2)
    noise = random.normal(size=(40, N_TARGETS))
    return pd.DataFrame(features @ random.normal(size=(3, N_TARGETS)) + noise)


def test_predictions_and_medians_are_those_of_a_loop_by_hand(features, signal):
    found = evaluate({"ridge": Ridge()}, features, signal, splits={"rows": KFold(4)})
    by_hand = np.empty(signal.shape)
    for train, test in KFold(4).split(features):
        model = Ridge().fit(features[train], signal.iloc[train])
        by_hand[test] = model.predict(features[test])
    np.testing.assert_allclose(found.predictions["rows"]["ridge"], by_hand)
    row = found.table.iloc[0]
    assert row["median"] == pytest.approx(median_score(signal, by_hand))
    assert (row["axis"], row["n_rows"], row["n_scored"]) == ("across genes", 40, 4)
    assert found.table["axis"].tolist() == ["across genes", "across tissues"]


def test_a_gain_is_the_median_of_differences_target_by_target(features, signal):
    found = evaluate(
        {"ridge": Ridge()},
        features,
        signal,
        splits={"rows": 4},
        baselines={"permuted": PermutedTargets(Ridge())},
        groups=np.arange(40) % 8,
    )
    scores = found.scores("rows")
    gain = found.gains.iloc[0]
    assert gain["median"] == pytest.approx(
        (scores["ridge"] - scores["permuted"]).median()
    )
    assert gain["low"] < gain["median"] < gain["high"]
    assert found.provenance["splits"]["rows"]["drawn"] == "8 groups"


def test_every_window_is_embedded_once(genes, y, genome, monkeypatch):
    calls = []
    transform = EnformerEmbedder.transform

    def counted(self, X):
        calls.append(len(X))
        return transform(self, X)

    monkeypatch.setattr(EnformerEmbedder, "transform", counted)
    models = {
        name: make_pipeline(embedder(genome=genome), head)
        for name, head in {"ridge": ridge_head(10.0), "lasso": lasso_head(0.1)}.items()
    }
    splits = {"chromosomes": ChromosomeSplit(), "windows": WindowOverlapSplit(3)}
    splits["windows"].set_params(sequence_length=1024)
    evaluate(models, genes, y, splits=splits, n_boot=5)
    assert calls == [18]


def test_all_baselines_stand_beside_the_model(genes, y, genome):
    network = embedder(genome=genome)
    head = ridge_head((1.0, 100.0), cv=2)
    found = evaluate(
        {"ridge": make_pipeline(network, head)},
        genes,
        y,
        splits={"chromosomes": ChromosomeSplit()},
        baselines=standard_baselines(network, head),
        n_boot=10,
    )
    across = found.table[found.table["axis"] == "across genes"].set_index("model")
    assert across["role"].value_counts().to_dict() == {"baseline": 5, "model": 1}
    assert len(found.gains) == 2 * len(BASELINES)
    assert across.at["ridge", "weights"] == "untrained-tiny"
    assert across.at["ridge", "note"] == RANDOM
    assert across.at["untrained network", "note"] == RANDOM
    assert across.at["9 GC/CpG numbers", "note"] == ""
    assert found.provenance["splits"]["chromosomes"]["drawn"] == "3 groups"
    digest = found.provenance["models"]["ridge"]["features"]["weights_digest"]
    assert digest.startswith("untrained:")


def test_rows_of_one_chromosome_are_drawn_by_overlapping_windows(genes, y, genome):
    model = make_pipeline(SequenceCompositionBaseline(genome), Ridge())
    found = evaluate(
        {"letters": model},
        genes,
        y,
        splits={"chr3": ChromosomeSplit(["chr3"])},
        sequence_length=3072,
        n_boot=5,
    )
    assert found.predictions["chr3"]["letters"].index.tolist() == [
        f"gene_{i}" for i in range(12, 18)
    ]
    assert found.provenance["splits"]["chr3"]["drawn"] == (
        "nothing, too few groups for an interval"
    )
    assert found.table["note"].tolist() == ["too few groups for an interval"] * 2
    apart = evaluate(
        {"letters": model},
        genes,
        y,
        splits={"chr3": ChromosomeSplit(["chr3"])},
        sequence_length=1024,
        n_boot=5,
    )
    assert apart.provenance["splits"]["chr3"]["drawn"] == (
        "6 clusters of overlapping windows"
    )


def test_an_aggregator_of_starts_is_known_by_its_embedder(genes, y, genome):
    step = embedder(genome=genome, cache=None)
    further = genes.iloc[:2].assign(tss=genes["tss"][:2] + 50)
    tss = pd.concat([genes, further]).rename_axis("gene_id").reset_index()
    models = {
        name: make_pipeline(GeneTSSAggregator(step, table), Ridge(10.0))
        for name, table in (("starts", tss), ("start", tss[: len(genes)]))
    }
    with pytest.warns(LeakageWarning, match="'starts' reads several .* 2 of 18 genes"):
        found = evaluate(models, genes, y, splits={"c": ChromosomeSplit()}, n_boot=5)
    assert (found.table["weights"] == "untrained-tiny").all()
    assert (found.table["note"] == RANDOM).all()
    assert found.provenance["sequence_length"] == step.sequence_length
    origin = found.provenance["models"]["starts"]["features"]
    assert origin["starts_of_a_gene"] == "mean"
    one, other = found.predictions["c"].values()
    assert not one.equals(other)


def test_chromosomes_without_rows_that_are_left_out_are_remarked_on(genes, y, genome):
    found = evaluate(
        {"letters": make_pipeline(SequenceCompositionBaseline(genome), Ridge())},
        genes,
        y,
        splits={"c": ChromosomeSplit(leave_out=["chr3", "chrQ"])},
        n_boot=5,
    )
    assert found.provenance["remarks"] == ["c: leave_out names chrQ, without rows"]
    assert "leave_out names chrQ" in str(found)


def test_two_groups_give_no_interval_of_no_width(features, signal):
    found = evaluate(
        {"ridge": Ridge()},
        features,
        signal,
        splits={"half": [(np.arange(20), np.arange(20, 40))]},
        baselines={"mean": TrainingMean()},
        groups=np.arange(40) % 2,
    )
    assert found.table[["low", "high"]].isna().all(axis=None)
    assert found.gains[["low", "high"]].isna().all(axis=None)
    note = found.table.set_index(["model", "axis"])["note"]
    assert note["ridge", "across genes"] == "too few groups for an interval"
    assert note["mean", "across genes"] == "4 not scored"


def test_a_split_that_leaks_warns_by_its_name(genes, y, genome):
    model = make_pipeline(SequenceCompositionBaseline(genome), Ridge())
    with pytest.warns(LeakageWarning, match="split 'rows': 18 of 18"):
        found = evaluate(
            {"letters": model},
            genes,
            y,
            splits={"rows": KFold(3, shuffle=True, random_state=0)},
            n_boot=5,
        )
    assert "rows, leaks: 18 of 18" in str(found)


def test_missing_values_are_left_out_or_filled_when_asked(features, signal):
    signal.iloc[3, 0] = np.nan
    rows = {"rows": 4}
    ridge = evaluate({"ridge": ridge_head(1.0)}, features, signal, splits=rows)
    assert ridge.per_target["n"].tolist() == [39, 40, 40, 40]
    with pytest.raises(InputError, match=r"1 of 40 rows .* 3; .* lasso; fill_"):
        evaluate({"lasso": lasso_head(0.1)}, features, signal, splits=rows)
    filled = evaluate(
        {"lasso": lasso_head(0.1)}, features, signal, splits=rows, fill_missing=True
    )
    assert filled.per_target["n"].tolist() == [39, 40, 40, 40]


def test_constant_targets_are_told_of_and_not_scored(features, signal):
    signal[2] = 1.0
    with pytest.warns(TargetWarning, match="constant targets are not scored: 2"):
        found = evaluate({"ridge": Ridge()}, features, signal, splits={"rows": 4})
    assert found.table.at[0, "n_scored"] == 3
    assert found.table.at[0, "note"] == "1 not scored"


def test_a_constant_prediction_has_neither_score_nor_interval(features, signal):
    found = evaluate(
        {"ridge": Ridge()},
        features,
        signal,
        splits={"last": [(np.arange(20), np.arange(20, 40))]},
        baselines={"mean": TrainingMean()},
        groups=np.arange(40) % 8,
    )
    of_mean = found.table.set_index("model").loc["mean"].iloc[0]
    assert of_mean[["median", "low", "high"]].isna().all()
    assert of_mean["note"] == "4 not scored"
    assert found.gains.loc[0, ["median", "low", "high"]].isna().all()


def test_an_anndata_of_features_tells_of_its_weights(genes, y, genome):
    adata = embedder(genome=genome).to_anndata(genes)
    found = evaluate(
        {"ridge": Ridge(10.0)}, adata, y, splits={"c": ChromosomeSplit()}, n_boot=5
    )
    direct = evaluate(
        {"ridge": make_pipeline(embedder(genome=genome), Ridge(10.0))},
        genes,
        y,
        splits={"c": ChromosomeSplit()},
        n_boot=5,
    )
    assert found.table.at[0, "weights"] == "untrained-tiny"
    pd.testing.assert_frame_equal(
        found.predictions["c"]["ridge"], direct.predictions["c"]["ridge"]
    )


def test_a_single_target_stays_one_dimensional(features, signal):
    found = evaluate({"ridge": Ridge()}, features, signal[0], splits={"rows": 4})
    assert found.table["axis"].tolist() == ["across genes"]
    assert found.predictions["rows"]["ridge"].shape == (40, 1)


def test_everything_is_written_and_nothing_replaced_unasked(features, signal, tmp_path):
    found = evaluate(
        {"ridge": Ridge()},
        features,
        signal,
        splits={"rows": 4},
        baselines={"mean": TrainingMean()},
        remarks=["Data: invented"],
    )
    files = found.write(tmp_path / "out")
    assert [file.name for file in files] == [
        *("table.tsv", "table.md", "gains.tsv", "per_target.tsv"),
        *("predictions.tsv.gz", "record.json"),
    ]
    table = pd.read_csv(files[0], sep="\t")
    assert table["median"].tolist() == pytest.approx(found.table["median"], rel=1e-5)
    page = files[1].read_text()
    assert "| rows | ridge | model | across genes | spearman | 40 | 4 |" in page
    assert "- Data: invented" in page
    predictions = pd.read_csv(files[4], sep="\t")
    assert predictions.shape == (80, 3 + N_TARGETS)
    record = json.loads(files[5].read_text())
    assert record["provenance"]["models"]["mean"]["role"] == "baseline"
    assert record["table"][0]["low"] is None
    with pytest.raises(InputError, match="exists"):
        found.write(tmp_path / "out")
    found.write(tmp_path / "out", overwrite=True)
    with pytest.raises((InputError, StoreError), match="is a file"):
        found.write(files[0])


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"models": {}}, InputError, "models is empty"),
        ({"models": {"a": 5}}, InputTypeError, "'a' is 5, without fit or predict"),
        ({"models": Ridge()}, InputTypeError, "expected names and estimators"),
        ({"baselines": {"ridge": Ridge()}}, InputError, "called the same: ridge"),
        ({"splits": {}}, InputError, "must name at least one"),
        (
            {"splits": {"twice": RepeatedKFold(n_splits=2)}},
            InputError,
            "more than once",
        ),
        ({"splits": {"few": [([0, 1], [2])]}}, InputError, "tests 1 rows"),
        ({"splits": {"none": [([], [1, 2, 3])]}}, InputError, "0 rows to train on"),
        ({"metric": "kendall"}, InputError, "metric='kendall' is not one of"),
        ({"groups": [1, 2]}, InputError, "expected one label for each of the 40 rows"),
        ({"groups": [None, *range(39)]}, InputError, "groups is missing for rows 0"),
    ],
)
def test_unusable_input_is_refused(features, signal, change, error, message):
    given = {"models": {"ridge": Ridge()}, "splits": {"rows": 4}, **change}
    with pytest.raises(error, match=message):
        evaluate(given.pop("models"), features, signal, **given)


def test_targets_without_values_and_unknown_names_are_refused(features, signal):
    signal[1] = np.nan
    with pytest.raises(InputError, match="targets without any value: 1"):
        evaluate({"ridge": Ridge()}, features, signal, splits={"rows": 4})
    with pytest.raises(InputError, match="did you mean 'kmers'"):
        standard_baselines(EnformerEmbedder("mini"), Ridge(), ["kmer"])
    with pytest.raises(InputTypeError, match="baselines='mean' is a single text"):
        standard_baselines(EnformerEmbedder("mini"), Ridge(), "mean")
    with pytest.raises(InputError, match="need the embedder's genome"):
        standard_baselines(EnformerEmbedder("mini"), Ridge(), ["kmers"])


def test_rows_without_features_are_named(features, signal):
    class Holes(SequenceCompositionBaseline):
        def transform(self, X):
            return np.where(np.arange(len(X))[:, None] == 2, np.nan, X)

    model = make_pipeline(Holes("genome.fa"), Ridge())
    with pytest.raises(InputError, match="features of 'holes' are missing for rows 2;"):
        evaluate({"holes": model}, features, signal, splits={"rows": 4})


def test_only_a_split_that_was_evaluated_has_scores(features, signal):
    found = evaluate({"ridge": Ridge()}, features, signal, splits={"rows": 4})
    assert found.scores("rows", "r2").columns.tolist() == ["ridge"]
    with pytest.raises(InputError, match="'row' was not evaluated; there are 'rows'"):
        found.scores("row")


def test_polars_tables_keep_the_names_of_targets_in_models_and_baselines(
    genes, y, genome
):
    polars = pytest.importorskip("polars")
    step = embedder(genome=genome, cache=None)
    options = {
        "splits": {"chromosomes": ChromosomeSplit()},
        "baselines": standard_baselines(
            step, ridge_head(1.0), ["composition", "kmers"]
        ),
        "n_boot": 5,
    }
    models = {"ridge": make_pipeline(step, ridge_head(1.0))}
    found, same = (
        evaluate(models, rows, targets, **options)
        for rows, targets in (
            (polars.from_pandas(genes), polars.from_pandas(y)),
            (genes, y),
        )
    )
    assert list(found.observed) == list(y)
    pd.testing.assert_frame_equal(found.table, same.table)


@pytest.mark.parametrize("what", ["targets", "rows"])
def test_names_that_occur_twice_are_refused(features, signal, what):
    axis = ["index", "columns"][what == "targets"]
    labels = list(getattr(signal, axis))
    labels[1] = labels[0]
    with pytest.raises(InputError, match=f"{what} of the same name: {labels[0]};"):
        evaluate(
            {"ridge": Ridge()},
            features,
            signal.set_axis(labels, axis=axis),
            splits={"rows": 3},
        )


def test_targets_of_rows_that_are_called_otherwise_are_refused(genes, y):
    moved = y.rename(index={y.index[0]: "other", y.index[1]: "another"})
    with pytest.raises(
        InputError, match=rf"{y.index[0]} beside other, .*align\(X, y\)"
    ):
        evaluate({"mean": TrainingMean()}, genes, moved, splits={"rows": 4})
