"""ExPecto's kernels as the pool of an embedder, on both strands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from enformer_features import EnformerEmbedder, plan_store
from enformer_features.inference.kernels import Kernels
from enformer_features.storage.cache import MemoryCache
from tests.estimators.toy import LENGTH, embedder, mirrored, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning",
    "ignore:pool '.*' reads 8 bins:enformer_features.exceptions.WindowWarning",
)
CONTIG_BP = 2 * LENGTH
# Even intervals, so that a window and that of the mirrored region are the same letters.
BOTH = pd.DataFrame({"chrom": "plain", "start": 900, "end": 1000, "strand": ["+", "-"]})
MIRRORED = pd.DataFrame(
    {
        "chrom": "mirrored",
        "start": CONTIG_BP - 1000,
        "end": CONTIG_BP - 900,
        "strand": ["-", "+"],
    }
)


@pytest.fixture(scope="module")
def genome(tmp_path_factory: pytest.TempPathFactory) -> Path:
    letters = random_letters(CONTIG_BP)
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    return write_fasta(path, plain=letters, mirrored=mirrored(letters))


def model(genome: Path, strand: str, **parameters: Any) -> EnformerEmbedder:
    return embedder(genome=genome, strand=strand, pooling="expecto", **parameters)


@pytest.mark.parametrize("strand", ["match", "average"])
def test_a_gene_and_its_mirror_image_have_the_same_sums(
    genome: Path, strand: str
) -> None:
    features = model(genome, strand).transform(BOTH)
    assert_allclose(features, model(genome, strand).transform(MIRRORED), atol=1e-4)


@pytest.mark.parametrize("strand", ["match", "average", "ignore"])
def test_sums_are_those_of_the_bins_in_transcript_direction(
    genome: Path, strand: str
) -> None:
    features = model(genome, strand).transform(BOTH)
    bins = model(genome, strand).embed_bins(BOTH)  # in the direction that is read
    if strand != "match":
        bins[1] = bins[1][::-1]
    weights = Kernels().weights(bins.shape[1])
    expected = np.einsum("kb,rbf->rkf", weights, bins).reshape(2, -1)
    assert_allclose(features, expected, rtol=1e-4, atol=1e-4)


def test_strands_of_one_window_are_cached_apart(genome: Path) -> None:
    cached = model(genome, "average", cache=MemoryCache())
    expected = model(genome, "average").transform(BOTH)
    assert not np.allclose(*expected)
    assert_array_equal(cached.transform(BOTH), expected)
    assert_array_equal(cached.transform(BOTH[::-1]), expected[::-1])


def test_tracks_and_several_pools_are_named(genome: Path) -> None:
    tracks = embedder(
        genome=genome, output="tracks", tracks=[3, 1], pooling=("tss", "expecto")
    )
    names = tracks.get_feature_names_out()
    assert len(names) == 2 + 20
    assert names[2] == "expecto__up0.01_human_0003"
    assert names[-1] == "expecto__down0.2_human_0001"
    assert tracks.transform(BOTH).shape == (2, 22)


def test_a_store_holds_the_same_sums(genome: Path, tmp_path: Path) -> None:
    both = model(genome, "average")
    store = plan_store(both, BOTH, tmp_path / "sums.zarr")
    store.run()
    written = store.finalize()
    import anndata

    assert_array_equal(anndata.read_zarr(written).X, both.transform(BOTH))
