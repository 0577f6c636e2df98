"""Controls: means, random weights and permuted targets, in the place of models."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import sklearn
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.model_selection import KFold, cross_val_predict
from sklearn.pipeline import make_pipeline

from enformer_features.estimators.controls import (
    PermutedTargets,
    TrainingMean,
    untrained,
)
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    UntrainedWeightsWarning,
)
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

RANDOM = np.random.default_rng(0)
X = pd.DataFrame({"chrom": list("aabbcc"), "value": RANDOM.normal(size=6)})
Y = pd.DataFrame(RANDOM.normal(size=(6, 2)), columns=["liver", "brain"])


class Remember(LinearRegression):
    """A regression that shows what it was fitted on."""

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Remember:
        self.seen_ = y
        self.weight_ = sample_weight
        return self

    def predict(self, X: Any) -> Any:
        return np.zeros(len(X))


# Training mean


def test_the_mean_is_of_the_values_that_are_known() -> None:
    y = Y.copy()
    y.iloc[0, 1] = np.nan
    model = TrainingMean().fit(X, y)
    assert_allclose(model.predict(X.iloc[:2]), [y.mean().to_numpy()] * 2)
    assert TrainingMean().fit(X, y["liver"]).predict(X).shape == (6,)


def test_means_of_folds_leave_the_own_rows_out() -> None:
    predicted = cross_val_predict(clone(TrainingMean()), X, Y, cv=KFold(3))
    assert_allclose(predicted[:2], [Y.iloc[2:].mean().to_numpy()] * 2)


def test_targets_without_values_and_other_lengths_are_refused() -> None:
    with pytest.raises(InputError, match="training rows: 'brain'"):
        TrainingMean().fit(X, Y.assign(brain=np.nan))
    with pytest.raises(InputError, match="training rows: 1"):
        TrainingMean().fit(X, Y.assign(brain=np.nan).to_numpy())
    with pytest.raises(InputError, match="y has 5 rows, X has 6"):
        TrainingMean().fit(X, Y.iloc[:5])


# Permuted targets


def test_rows_are_permuted_whole_under_the_old_labels() -> None:
    control = PermutedTargets(Remember(), seed=3).fit(X, Y)
    seen = control.model_.seen_
    assert_array_equal(seen.index, Y.index)
    assert_array_equal(seen, Y.to_numpy()[control.permutation_])
    assert sorted(control.permutation_) == list(range(6))
    assert (control.permutation_ != np.arange(6)).any()
    again = clone(control).fit(X, Y.to_numpy())
    assert_array_equal(again.model_.seen_, seen)
    other = clone(control).set_params(seed=4).fit(X, Y)
    assert (other.permutation_ != control.permutation_).any()


def test_within_groups_rows_stay_in_their_group() -> None:
    rows = pd.concat([X] * 20, ignore_index=True)
    control = PermutedTargets(Remember(), groups="chrom")
    control.fit(rows, pd.concat([Y] * 20))
    chrom = rows["chrom"].to_numpy()
    assert_array_equal(chrom[control.permutation_], chrom)
    assert (control.permutation_ != np.arange(120)).any()


def test_nothing_is_left_to_learn() -> None:
    values = RANDOM.normal(size=(400, 3))
    y = values @ [1.0, 2.0, 3.0]
    learnt = Ridge().fit(values, y).score(values, y)
    chance = PermutedTargets(Ridge()).fit(values, y).score(values, y)
    assert learnt > 0.99
    assert chance < 0.1


def test_weights_stay_with_their_rows() -> None:
    weight = np.arange(6.0)
    with sklearn.config_context(enable_metadata_routing=True):
        model = Remember().set_fit_request(sample_weight=True)
        control = PermutedTargets(model).fit(X, Y, sample_weight=weight)
    assert_array_equal(control.model_.weight_, weight)


def test_columns_that_are_absent_or_say_nothing_are_refused() -> None:
    with pytest.raises(InputError, match="groups='contig' is no column of X"):
        PermutedTargets(Remember(), groups="contig").fit(X, Y)
    with pytest.raises(InputError, match="is no column of X"):
        PermutedTargets(Remember(), groups="chrom").fit(X.to_numpy(), Y)
    with pytest.raises(InputError, match="'value' stands in one row: no row moves"):
        PermutedTargets(Remember(), groups="value").fit(X, Y)


def test_a_pipeline_on_regions_can_be_permuted(tmp_path: Path) -> None:
    genome = write_fasta(tmp_path / "genome.fa", a=random_letters(3 * LENGTH))
    genes = pd.DataFrame({"chrom": "a", "tss": [900, 1000, 1500], "strand": "+"})
    model = make_pipeline(embedder(genome=genome), Ridge())
    y = pd.Series([0.0, 1.0, 2.0], name="liver")
    with pytest.warns(UntrainedWeightsWarning):
        predicted = PermutedTargets(model).fit(genes, y).predict(genes)
    assert predicted.shape == (3,)


# Untrained weights


def test_untrained_weights_are_labelled_and_all_else_is_the_same() -> None:
    model = embedder(strand="average", pooling="mean")
    control = untrained(model, seed=5)
    expected = {**model.get_params(), "weights": control.weights}
    assert control.get_params() == expected
    assert control.weights.name == "untrained (sizes of untrained-tiny, seed 5)"
    with pytest.warns(UntrainedWeightsWarning, match="seed 5"):
        features = control.transform([random_letters(LENGTH)])
    assert features.shape == (1, 192)


def test_a_seed_has_one_network() -> None:
    first, same, other = (untrained(embedder(), seed) for seed in (1, 1, 2))
    assert first.weights == same.weights
    assert first.weights != other.weights


def test_only_an_embedder_has_weights() -> None:
    with pytest.raises(InputTypeError, match="is a Ridge, expected an EnformerEmbed"):
        untrained(Ridge())
