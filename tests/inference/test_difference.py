"""The difference pass is the difference of two passes, without their rounding."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from enformer_features.inference import difference
from enformer_features.inference.difference import (
    gelu_difference,
    layer_norm_difference,
    reference_states,
    relu_difference,
    softmax_difference,
    softplus_difference,
)
from enformer_features.inference.reuse import ReferenceWindow, apply_edits
from enformer_features.model.layers import gelu
from tests.inference.networks import (
    ODD,
    draw_codes,
    exact_of,
    one_hot,
    prepared_of,
    sized,
    substitute,
)

WIDTH = 41
N_BINS = 101
ALL_BINS = sized(target_length=-1)


def layer_norm(dtype):
    norm = nn.LayerNorm(WIDTH, dtype=dtype)
    with torch.no_grad():
        norm.weight.copy_(torch.linspace(-1.0, 2.0, WIDTH))
        norm.bias.copy_(torch.linspace(0.5, -0.5, WIDTH))
    return norm.requires_grad_(False)


# Name -> the function, and its difference, of arrays of one type.
FORMS = {
    "layer norm": (
        lambda x: layer_norm(x.dtype)(x),
        lambda x, d: layer_norm_difference(layer_norm(x.dtype), x, d),
    ),
    "relu": (torch.relu, relu_difference),
    "softmax": (
        lambda x: x.softmax(dim=-1),
        lambda x, d: softmax_difference(x.softmax(dim=-1), d),
    ),
    "gelu": (gelu, gelu_difference),
    "softplus": (nn.functional.softplus, softplus_difference),
}


def draw(size, seed, deviation=2.0):
    generator = torch.Generator().manual_seed(seed)
    x, d = torch.randn(2, 3, 7, WIDTH, generator=generator, dtype=torch.float64)
    return deviation * x, size * d


def relative(ours, expected):
    return float((ours.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("form", FORMS)
@settings(deadline=None, max_examples=30)
@given(st.integers(-3, 1), st.integers(0, 99), st.floats(0.01, 10.0))
def test_each_closed_form_is_the_difference_in_float64(form, power, seed, deviation):
    function, difference = FORMS[form]
    x, d = draw(10.0**power, seed, deviation)
    expected = function(x + d) - function(x)
    torch.testing.assert_close(difference(x, d), expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_a_tiny_difference_survives_in_float32_where_subtraction_loses_it(form):
    function, difference = FORMS[form]
    x, d = (array.float() for array in draw(1e-8, seed=3))
    expected = function(x.double() + d.double()) - function(x.double())
    assert relative(difference(x, d), expected) < 2e-6
    assert relative(function(x + d) - function(x), expected) > 0.3


@pytest.mark.parametrize("form", FORMS)
def test_no_change_is_exactly_zero(form):
    _, difference = FORMS[form]
    x, _ = draw(1.0, seed=5)
    for array in (x, x.float()):
        assert not difference(array, torch.zeros_like(array)).any()


@pytest.mark.parametrize("form", ["layer norm", "relu", "gelu", "softplus"])
def test_a_huge_change_is_finite_in_float32(form):
    function, difference = FORMS[form]
    x, d = draw(300.0, seed=7)
    expected = function(x + d) - function(x)
    assert relative(difference(x.float(), d.float()), expected) < 1e-5


@pytest.mark.parametrize(
    ("x", "d", "expected"),
    [
        (2, 1, 1),
        (2, -1, -1),
        (2, -5, -2),
        (-2, 1, 0),
        (-2, 5, 3),
        (-2, -1, 0),
        (0, 3, 3),
    ],
)
def test_relu_by_hand(x, d, expected):
    ours = relu_difference(torch.tensor(float(x)), torch.tensor(float(d)))
    assert ours.item() == expected


def test_softmax_by_hand():
    # Weights 1/2 and 1/2; the first logit grows by ln 3: 3/4 and 1/4.
    d = torch.tensor([np.log(3.0), 0.0])
    ours = softmax_difference(torch.tensor([0.5, 0.5]), d)
    torch.testing.assert_close(ours, torch.tensor([0.25, -0.25]), check_dtype=False)


# The whole pass


@pytest.fixture(scope="module")
def codes():
    return draw_codes(1, 128 * N_BINS)[0]


def exact_effect(codes, edits, config=ALL_BINS):
    """``alt - ref`` of the embedding in float64."""
    exact = exact_of(config)
    both = np.stack([apply_edits(codes, edits), codes])
    with torch.inference_mode():
        alt, ref = exact(one_hot(both, torch.float64))
    return (alt - ref)[None]


def effect(codes, edits, precision, low=None, config=ALL_BINS, **options):
    window = ReferenceWindow(
        prepared_of(config, precision),
        codes,
        low=low and prepared_of(config, low),
    )
    return window.effect([edits], **options)


@pytest.mark.parametrize("config", [ODD, ALL_BINS, sized(depth=0), sized(depth=1)])
@pytest.mark.parametrize("positions", [[6_500], [0, 6_501, 6_502, 12_927]])
def test_in_float32_it_equals_two_passes(codes, config, positions):
    edits = substitute(codes, positions)
    expected = exact_effect(codes, edits, config)
    passed = effect(codes, edits, "float32-exact", "float32-exact", config)
    twice = effect(codes, edits, "float32-exact", config=config)
    assert passed.shape == twice.shape == expected.shape
    assert relative(passed, expected) < 4e-5  # measured: 1.2e-5
    assert relative(twice, expected) < 1e-4  # measured: 1.5e-5


def test_the_fast_convolution_serves_differences_too(codes):
    edits = substitute(codes, [6_500])
    expected = exact_effect(codes, edits)
    assert relative(effect(codes, edits, "float32", "float32"), expected) < 1e-4


@pytest.mark.parametrize("positions", [[6_500], [3_000, 6_501], [12_900]])
def test_in_bfloat16_it_is_right_near_and_far_where_two_passes_are_not(
    codes, positions
):
    edits = substitute(codes, positions)
    expected = exact_effect(codes, edits)
    passed = effect(codes, edits, "float32-exact", "bfloat16")
    twice = effect(codes, edits, "bfloat16")
    low, high = min(positions) // 128 - 8, max(positions) // 128 + 8
    far = [k for k in range(N_BINS) if not low <= k < high]
    for bins in (slice(max(low, 0), high), far):
        error = relative(passed[:, bins], expected[:, bins])
        assert error < 0.03  # measured: 0.005 to 0.013
        assert relative(twice[:, bins], expected[:, bins]) > 4 * error


def test_float16_rounds_less_than_bfloat16(codes):
    edits = substitute(codes, [6_500])
    expected = exact_effect(codes, edits)
    half = relative(effect(codes, edits, "float32-exact", "float16"), expected)
    assert half < 4e-3  # measured: 1.1e-3
    assert half < relative(effect(codes, edits, "float32-exact", "bfloat16"), expected)


@pytest.mark.parametrize("low", ["float32-exact", "bfloat16"])
def test_bins_are_a_slice_and_batches_change_nothing(codes, low):
    alleles = [substitute(codes, [p]) for p in (700, 6_500, 6_501, 9_000, 12_927)]
    window = ReferenceWindow(
        prepared_of(ALL_BINS), codes, low=prepared_of(ALL_BINS, low)
    )
    whole = window.effect(alleles)
    tolerance = 1e-5 if low == "float32-exact" else 1e-2
    assert relative(window.effect(alleles, batch_size=2), whole.double()) < tolerance
    some = window.effect(alleles, bins=(40, 53))
    assert some.shape == (5, 13, ODD.embedding_dim)
    assert relative(some, whole[:, 40:53].double()) < tolerance


def test_the_states_keep_the_references_own_output():
    prepared = prepared_of(ALL_BINS)
    tower = prepared.tower(torch.from_numpy(draw_codes(1, 128 * 13)))
    states = reference_states(prepared, tower, (3, 9))
    output = prepared.transform(tower, bins=(3, 9))
    torch.testing.assert_close(
        states._before_last_gelu, prepared.before_last_gelu(output), rtol=0, atol=5e-5
    )
    assert not states.propagate(torch.zeros_like(tower)).any()


@pytest.mark.parametrize("rounded", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("fall", [3.0, 30.0, 90.0])
def test_attention_that_leaves_its_only_key_is_right(rounded, fall):
    logits = torch.linspace(-1, 1, WIDTH, dtype=torch.float64).repeat(7, 1)
    logits[:, 5] += 12  # of one key alone
    d = torch.zeros_like(logits)
    d[:, 5] -= fall
    expected = (logits + d).softmax(dim=-1) - logits.softmax(dim=-1)
    weights = logits.softmax(dim=-1).to(rounded).float()
    found = softmax_difference(weights, d.float())
    assert relative(found, expected) < (1e-4 if rounded == torch.float32 else 1e-2)


def test_a_norm_of_what_is_undone_stays_finite():
    x, _ = draw(1.0, seed=11)
    found = layer_norm_difference(layer_norm(torch.float32), x.float(), -x.float())
    norm = layer_norm(torch.float64)
    assert relative(found, norm(torch.zeros_like(x)) - norm(x)) < 1e-3


def test_a_wide_change_takes_the_unrounded_transformer():
    codes = draw_codes(1, 31 * 128)[0]
    edited = np.roll(codes, 1)
    exact = ReferenceWindow(prepared_of(), codes)
    low = ReferenceWindow(prepared_of(), codes, low=prepared_of(ODD, "bfloat16"))
    narrow = codes.copy()
    narrow[2_000] = (codes[2_000] + 1) % 4
    pairs = [
        (next(exact.effects([edited])), next(low.effects([edited]))),
        (next(exact.effects([narrow])), next(low.effects([narrow]))),
    ]
    assert torch.equal(*pairs[0])
    assert not torch.equal(*pairs[1])
    both = next(low.effects([narrow, edited, narrow], batch_size=3))
    assert relative(both[1], pairs[0][0][0].double()) < 1e-5
    assert torch.equal(both[0], both[2])


# In the middle attention is so sharp that the change is large: the dense path.
@pytest.mark.parametrize(
    ("position", "is_large"), [(5, False), (1_500, True), (3_960, False)]
)
@pytest.mark.parametrize("bins", [None, (14, 17)])
def test_few_changed_bins_take_a_path_of_their_own_to_the_same_end(
    monkeypatch, position, is_large, bins
):
    codes = draw_codes(1, 31 * 128, n_share=0.0)[0]
    edited = codes.copy()
    edited[position] = (codes[position] + 1) % 4
    prepared = prepared_of(ODD, "float64")
    window = ReferenceWindow(prepared, codes, low=prepared)
    few = next(window.effects([edited], bins))
    monkeypatch.setattr(difference, "FEW_BINS", 0)
    dense = next(window.effects([edited], bins))
    assert torch.equal(few, dense) == is_large
    assert relative(few, dense) < 1e-12
