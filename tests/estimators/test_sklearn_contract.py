"""The scikit-learn contract.

``check_estimator`` on the class itself runs almost nothing, because its input is not
a numeric table. The adapter differs in the one hook that resolves input, turns rows of
numbers into DNA, and must pass every check.
"""

import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import make_pipeline
from sklearn.utils.estimator_checks import parametrize_with_checks
from sklearn.utils.validation import check_is_fitted, validate_data
from xgboost import XGBRegressor

from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
from enformer_features.estimators.inputs import Samples
from enformer_features.inference.prepared import Prepared
from enformer_features.storage.cache import SHARED, MemoryCache
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


class NumericEmbedder(EnformerEmbedder):
    """EnformerEmbedder whose input is a numeric table: each row is a DNA sequence."""

    def _resolve_input(self, X, *, reset):
        X = validate_data(self, X, reset=reset, dtype=np.float64)
        sequences = [self._dna(row) for row in X]
        index = pd.RangeIndex(len(X))
        reasons = np.full(len(X), "", dtype=object)
        return Samples(index, sequences=sequences, reasons=reasons)

    def _dna(self, row):
        seed = np.frombuffer(row.tobytes(), dtype=np.uint32)
        codes = np.random.default_rng(seed).integers(0, 4, self.sequence_length)
        return codes.astype(np.uint8)

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = True
        tags.input_tags.string = False
        tags.input_tags.one_d_array = False
        return tags


class FittedNumericEmbedder(NumericEmbedder):
    """The same, declaring that it must be fitted."""

    def fit(self, X, y=None):
        self.fitted_ = True
        return super().fit(X, y)

    def _embed(self, X):
        check_is_fitted(self)
        return super()._embed(X)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "fitted_")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = True
        return tags


def quick(kind):
    return kind(weights="untrained-tiny", sequence_length=LENGTH, device="cpu")


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.TargetWarning")
@parametrize_with_checks([quick(NumericEmbedder), quick(FittedNumericEmbedder)])
def test_every_estimator_check_passes_with_no_expected_failure(estimator, check):
    check(estimator)


@pytest.fixture
def genome(tmp_path):
    contigs = {f"chr{i}": random_letters(4000, seed=i) for i in (1, 2, 3)}
    return write_fasta(tmp_path / "toy.fa", **contigs)


@pytest.fixture
def genes():
    rng = np.random.default_rng(0)
    n = 24
    return pd.DataFrame(
        {
            "chrom": [f"chr{1 + i % 3}" for i in range(n)],
            "tss": rng.integers(600, 3400, n),
            "strand": np.where(np.arange(n) % 2, "+", "-"),
        },
        index=[f"g{i}" for i in range(n)],
    )


@pytest.fixture
def targets(genes):
    values = np.random.default_rng(1).normal(size=(len(genes), 3))
    return pd.DataFrame(values, index=genes.index, columns=["liver", "brain", "lung"])


@pytest.mark.parametrize("head", [Ridge(), XGBRegressor(n_estimators=3, nthread=1)])
def test_pipeline_fits_and_predicts_several_targets(genome, genes, targets, head):
    model = make_pipeline(embedder(genome=genome), head).fit(genes, targets)
    assert model.predict(genes).shape == (24, 3)


@pytest.fixture
def forwards(monkeypatch):
    """Count the windows that go through a network."""
    counted = []
    original = Prepared.tower

    def tower(self, codes):
        counted.append(len(codes))
        return original(self, codes)

    monkeypatch.setattr(Prepared, "tower", tower)
    return counted


def test_grid_search_embeds_every_window_once(genome, genes, targets, forwards):
    SHARED.clear()
    pipeline = make_pipeline(embedder(genome=genome, cache="memory"), Ridge())
    search = GridSearchCV(pipeline, {"ridge__alpha": [0.1, 1.0, 10.0]}, cv=3)
    search.fit(genes, targets)
    search.predict(genes)
    assert sum(forwards) == 24


def test_cross_validate_works_on_a_table_of_genes(genome, genes, targets):
    pipeline = make_pipeline(embedder(genome=genome), Ridge())
    scores = cross_validate(pipeline, genes, targets, cv=3, error_score="raise")
    assert np.isfinite(scores["test_score"]).all()


def test_default_embedder_can_be_made_cloned_and_shown_without_weights():
    default = EnformerEmbedder()
    assert clone(default).get_params() == default.get_params()
    assert repr(default) == "EnformerEmbedder()"
    assert "EnformerEmbedder" in default._repr_html_()


def test_init_checks_nothing_and_transform_does():
    wrong = embedder(batch_size=-1)
    with pytest.raises(ValueError, match="batch_size=-1"):
        wrong.transform([random_letters(LENGTH)])


def test_transform_and_names_work_without_fit():
    names = embedder().get_feature_names_out()
    assert names[0] == "enformer_0000"
    assert len(names) == embedder().transform([random_letters(LENGTH)]).shape[1] == 192


def test_set_output_keeps_the_index_of_a_table(genome, genes):
    frame = embedder(genome=genome).set_output(transform="pandas").fit_transform(genes)
    assert list(frame.index) == list(genes.index)
    assert frame.columns[191] == "enformer_0191"


def test_set_output_polars(genome, genes):
    frame = embedder(genome=genome).set_output(transform="polars").fit_transform(genes)
    assert frame.shape == (24, 192)


def test_fit_learns_nothing_and_leaves_the_input_alone(genome, genes):
    before = genes.copy(deep=True)
    fitted = embedder(genome=genome).fit(genes)
    assert vars(fitted) == vars(embedder(genome=genome))
    fitted.transform(genes)
    pd.testing.assert_frame_equal(genes, before)


def test_pickled_pipeline_is_small_and_gives_the_same_bits(genome, genes, targets):
    model = make_pipeline(embedder(genome=genome), Ridge()).fit(genes, targets)
    pickled = pickle.dumps(model)
    assert len(pickled) < 64_000
    again = pickle.loads(pickled)
    np.testing.assert_array_equal(again.predict(genes), model.predict(genes))


def test_random_weights_warn_also_when_every_row_is_known():
    model = embedder(cache=MemoryCache())
    for _ in range(2):
        with pytest.warns(UntrainedWeightsWarning, match="random") as caught:
            model.transform([random_letters(LENGTH)])
        assert len(caught) == 1
