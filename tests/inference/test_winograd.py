from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from enformer_features.inference import winograd
from tests.inference.networks import rms

SMALL = st.integers(-9, 9).map(float)


def convolve(rows, weight):  # (B, n, in), (out, in, 5) -> (B, n - 4, out)
    """Convolve by tiles of four; n is a multiple of four."""
    products = torch.bmm(
        winograd.transform_inputs(rows), winograd.transform_filters(weight)
    )
    phases = winograd.transform_outputs(products)  # (4, B * t, out)
    out = phases.view(4, len(rows), -1, len(weight))
    return out.permute(1, 2, 0, 3).flatten(1, 2)


def convolve_directly(rows, weight):
    return F.conv1d(rows.mT, weight).mT


@given(
    hnp.arrays(float, winograd.N_INPUTS, elements=SMALL),
    hnp.arrays(float, winograd.WIDTH, elements=SMALL),
)
def test_the_matrices_correlate_eight_inputs_with_five_taps(signal, taps):
    outputs, filters, inputs = winograd.matrices()
    fast = outputs @ ((filters @ taps) * (inputs @ signal))
    np.testing.assert_allclose(fast, np.correlate(signal, taps), rtol=0, atol=1e-9)


@pytest.mark.parametrize("position", range(winograd.N_INPUTS))
def test_the_unrolled_input_transform_is_the_matrix(position):
    unit = torch.zeros(1, winograd.N_INPUTS, 1, dtype=torch.float64)
    unit[0, position] = 1
    _, _, inputs = winograd.matrices()
    fast = winograd.transform_inputs(unit).flatten()
    np.testing.assert_array_equal(fast, inputs[:, position])


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 3), st.integers(1, 11), st.integers(1, 13), st.integers(1, 7))
def test_it_equals_a_convolution_in_float64(n_windows, n_tiles, n_in, n_out):
    generator = torch.Generator().manual_seed(n_tiles)
    shape = n_windows, 4 * n_tiles + 4, n_in
    rows = torch.randn(shape, generator=generator, dtype=torch.float64)
    weight = torch.randn(n_out, n_in, 5, generator=generator, dtype=torch.float64)
    torch.testing.assert_close(
        convolve(rows, weight), convolve_directly(rows, weight), rtol=0, atol=1e-11
    )


def test_in_float32_it_loses_less_than_a_digit():
    generator = torch.Generator().manual_seed(3)
    rows = torch.randn(2, 404, 97, generator=generator)
    weight = torch.randn(53, 97, 5, generator=generator)
    exact = convolve_directly(rows.double(), weight.double())
    assert rms(convolve(rows, weight), exact) < 2e-6  # measured: 6e-7
    assert rms(convolve(rows, weight), exact) > rms(
        convolve_directly(rows, weight), exact
    )


def test_filters_are_transformed_in_float64_and_kept_in_the_type_of_the_weights():
    weight = torch.randn(3, 2, 5, generator=torch.Generator().manual_seed(5))
    wide = winograd.transform_filters(weight)
    assert wide.shape == (8, 2, 3)
    assert wide.dtype == torch.float32
    exact = winograd.transform_filters(weight.double())
    assert torch.equal(wide, exact.float())
