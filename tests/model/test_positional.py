from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from enformer_features.model.positional import (
    distance_features,
    exponential_decay,
    gamma_density,
    position_features,
)
from tests.model import parity

SIZES = [(32, 24), (64, 12), (256, 48), (1536, 192)]
# Largest difference of the gamma features, by bins; see the reference's tolerances.
GAMMA_LIMITS = {32: 3e-5, 64: 3e-5, 256: 5e-4, 1536: 3e-3}


def split(features):
    return np.split(np.asarray(features), 3, axis=1)


@pytest.fixture
def tables(shared):
    return parity.read(shared, "positional_features")


@pytest.mark.parametrize(("n_bins", "n_features"), SIZES)
def test_features_of_each_distance_agree_with_the_original(tables, n_bins, n_features):
    reference = split(tables[f"features_{n_bins}_{n_features}"])
    exponential, mask, gamma = split(distance_features(n_bins, n_features))
    assert np.abs(exponential - reference[0]).max() <= 1e-6
    np.testing.assert_array_equal(mask, reference[1])
    assert np.abs(gamma - reference[2]).max() <= GAMMA_LIMITS[n_bins]


def test_the_gamma_features_of_the_published_size_agree_in_the_mean(tables):
    difference = (
        split(distance_features(1536, 192))[2] - split(tables["features_1536_192"])[2]
    )
    assert np.sqrt(np.mean(difference.astype(float) ** 2)) <= 1.5e-4


def test_every_gamma_feature_peaks_at_one_over_positions():
    assert (split(distance_features(1536, 192))[2].max(axis=0) == 1).all()


def test_the_gamma_density_at_distance_0_is_its_floor_and_not_zero(tables):
    ours = split(distance_features(1536, 192))[2][0]
    assert ours == pytest.approx(split(tables["features_1536_192"])[2][0], rel=4e-3)
    assert 5e-7 < ours.min() < ours.max() < 6.1e-7


def test_a_single_gamma_feature_matches_the_formula():
    # One feature, n = 8: deviation 4, mean 8, so c = 4, b = 1/2: density ~ x^3 e^-x/2,
    # which is largest at x = 6.
    x = torch.arange(8.0)[:, None]
    expected = (x / 6) ** 3 * torch.exp(-(x - 6) / 2)
    torch.testing.assert_close(gamma_density(x, 8, 1), expected, atol=1e-6, rtol=1e-5)


def test_half_lives_run_from_8_to_the_number_of_bins():
    first, last = exponential_decay(torch.tensor([[8.0], [64.0]]), 64, 5)[:, [0, -1]].T
    assert first[0].item() == pytest.approx(0.5)
    assert last[1].item() == pytest.approx(0.5)


def test_features_are_those_of_the_distance_and_then_times_its_sign():
    n, f = 13, 18
    table = position_features(n, f)
    g = distance_features(n, f)
    assert table.shape == (2 * n - 1, f)
    for distance in (-12, -5, 0, 7, 12):
        sign = (distance > 0) - (distance < 0)
        row = torch.cat([g[abs(distance)], sign * g[abs(distance)]])
        torch.testing.assert_close(table[distance + n - 1], row, rtol=0, atol=0)


def test_masks_are_one_within_their_width():
    masks = split(distance_features(32, 24))[1]
    expected = [[float(x < 2**i - 1) for i in range(1, 5)] for x in range(32)]
    np.testing.assert_array_equal(masks, expected)
    assert math.isclose(masks[:, 0].sum(), 1)  # distance 0 alone


def test_features_made_for_inference_serve_training_later():
    position_features.cache_clear()
    with torch.inference_mode():
        position_features(8, 12)
    weight = torch.ones(12, requires_grad=True)
    (position_features(8, 12) @ weight).sum().backward()
    assert weight.grad is not None


def test_features_are_made_on_the_cpu_whatever_the_default_device():
    with torch.device("meta"):
        features = position_features(29, 42)
    assert features.device.type == "cpu"
