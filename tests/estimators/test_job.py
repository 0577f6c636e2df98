"""Rows that are checked and read: the whole, and parts of it."""

import numpy as np
import pandas as pd
import pytest

from enformer_features.estimators.job import prepare, resolve
from enformer_features.exceptions import WeightsError
from enformer_features.model.registry import weights_digest
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture
def model(tmp_path):
    genome = write_fasta(tmp_path / "toy.fa", chr1=random_letters(5000, 1))
    return embedder(genome=genome, on_error="nan", pooling=("tss", "region"))


@pytest.fixture
def samples(model):
    table = pd.DataFrame(
        {"chrom": "chr1", "start": [900, -1, 2000, 2500, 3000], "strand": list("+-+--")}
    )
    return resolve(model, table.assign(end=table["start"] + 130))


def test_a_part_has_the_keys_and_the_labels_of_its_rows(model, samples):
    whole = prepare(model, samples)
    part = prepare(model, samples.part(slice(1, 4)))
    keys = whole.keys("digest")
    assert sorted(keys) == [0, 2, 3, 4]
    assert part.keys("digest") == {1: keys[2], 2: keys[3]}
    assert part.layout.labels == whole.layout.labels[1:4]
    assert list(part.reasons) == list(whole.reasons[1:4])


def test_a_part_has_the_bits_of_its_rows(model, samples):
    rows = slice(2, 5)
    digest = weights_digest("untrained-tiny")
    whole = prepare(model, samples).compute(digest, None).values
    part = prepare(model, samples.part(rows)).compute(digest, None).values
    np.testing.assert_array_equal(part, whole[rows])


def test_rows_that_are_resolved_stay_as_they_are(model, samples):
    assert resolve(model, samples) is samples


def test_sequences_are_parted_too():
    model = embedder()
    samples = resolve(model, [random_letters(LENGTH, i) for i in range(3)])
    part = samples.part(slice(1, 3))
    assert list(part.index) == [1, 2]
    assert part.sequences == samples.sequences[1:]


def test_weights_must_be_those_that_keys_were_made_for(model, samples):
    with pytest.raises(WeightsError, match="exchanged during the call; repeat it"):
        prepare(model, samples).compute("sha256:0", None)
