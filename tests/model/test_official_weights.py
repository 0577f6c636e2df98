"""The official weights against what seq2cells computed with them.

Its values are those of enformer-pytorch 0.5.5, whose gamma features are divided by
the maximum over features. That is put in here, to check the weights and how they are
used; the distance of the right features is printed and not asserted.
"""

from __future__ import annotations

import os

import numpy as np
import pandas as pd
import pytest
import torch

from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.genome import Genome
from enformer_features.model import load_weights, positional

WEIGHTS = os.environ.get("ENFORMER_FEATURES_WEIGHTS")
CAGE = slice(4675, 5313)
N_BINS = 896
N_WINDOWS = 3  # that lie within the megabase that is there

pytestmark = [
    pytest.mark.weights,
    pytest.mark.timeout(1800),
    pytest.mark.skipif(
        not WEIGHTS, reason="ENFORMER_FEATURES_WEIGHTS names no official weights"
    ),
]


def gamma_over_features(x, n_bins, n_basis):
    """Gamma densities as the old port scaled them, by the maximum over features."""
    deviation = n_bins / (2 * n_basis)
    mean = torch.linspace(n_bins / n_basis, n_bins, n_basis)
    gamma = torch.distributions.Gamma(
        (mean / deviation) ** 2, mean / deviation**2, validate_args=False
    )
    density = gamma.log_prob(x).exp() + 1e-8
    return density / density.amax(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def reference(shared):
    """Windows, embeddings (3, 3072) and CAGE tracks (3, 638) at the TSS bin."""
    folder = shared / "data" / "enformer_reference"
    tables = [
        pd.read_csv(folder / name, sep="\t", nrows=N_WINDOWS)
        for name in (
            "query_tss_example.tsv",
            "enformer_out_emb.tsv.gz",
            "enformer_out_tar.tsv.gz",
        )
    ]
    return tables[0], tables[1].to_numpy(), tables[2].to_numpy()


@pytest.fixture(scope="module")
def towers(reference, shared):
    """The network, its tower's output of each window as read, and the TSS bins."""
    network = load_weights(WEIGHTS).module
    fasta = shared / "data" / "enformer_reference" / "chr1_hg38_1_1000000.fa.gz"
    genome, outputs, bins = Genome(fasta), [], []
    for row in reference[0].itertuples():
        codes = genome.fetch(row.chr, row.seq_start - 1, row.seq_end)
        bin_ = row.bins_roi  # on the forward strand
        if row.seq_strand == "-":
            codes, bin_ = reverse_complement(codes), N_BINS - 1 - bin_
        one_hot = torch.eye(5, 4)[torch.from_numpy(codes).long()]
        with torch.no_grad():
            outputs.append(network.tower(one_hot[None]))
        bins.append(bin_)
    return network, outputs, bins


@torch.no_grad()
def at_the_tss(towers):
    network, outputs, bins = towers
    positional.position_features.cache_clear()
    embeddings = [
        network.embed(network.transform(x))[:, bin_]
        for x, bin_ in zip(outputs, bins, strict=True)
    ]
    positional.position_features.cache_clear()
    embedding = torch.cat(embeddings)
    return embedding.numpy(), network.predict(embedding)[:, CAGE].numpy()


def rms_over_std(ours, theirs):
    assert ours.shape == theirs.shape
    return np.sqrt(np.mean((ours - theirs) ** 2)) / theirs.std()


def test_with_the_old_gamma_the_official_outputs_come_back(
    reference, towers, monkeypatch
):
    right = at_the_tss(towers)
    monkeypatch.setattr(positional, "gamma_density", gamma_over_features)
    old = at_the_tss(towers)
    names = "embedding", "CAGE tracks"
    distances = [rms_over_std(*pair) for pair in zip(old, reference[1:], strict=True)]
    for name, *values in zip(names, right, reference[1:], distances, strict=True):
        correct, theirs, distance = values
        print(
            f"{name}: rms/std {distance:.2e} with the old gamma, "
            f"{rms_over_std(correct, theirs):.2e} with the right one"
        )
    assert max(distances) <= 1e-3
