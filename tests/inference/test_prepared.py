"""The prepared network is the plain one, whole or in pieces."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import InputError
from enformer_features.inference.precision import POLICIES
from enformer_features.inference.prepared import Rows, prepare, shifted_view
from enformer_features.model import EnformerConfig, build, read_checkpoint
from enformer_features.model.layers import relative_shift
from tests.inference.networks import (
    EVEN,
    ODD,
    draw_codes,
    exact_of,
    most,
    network_of,
    one_hot,
    one_thread,
    prepared_of,
    rms,
    sized,
)
from tests.model import parity

__all__ = ["one_thread"]

N_BINS = 37
FLOATS = ("float32-exact", "float32")
# Embedding against float64, as rms and as the largest difference, both over its
# deviation. Measured at most: 5e-6 and 6e-5; 1.2e-5 and 9e-5; 0.12 and 0.8.
LIMITS = {
    "float32-exact": (1.5e-5, 2e-4),
    "float32": (3e-5, 3e-4),
    "bfloat16": (0.25, 2.0),
}


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module", params=["small_a", "small_b"])
def reference(request, shared, tmp_path_factory):
    """Fields of the original, and our network with the same weights."""
    fields = parity.read(shared, request.param)
    folder = parity.write_folder(tmp_path_factory.mktemp(request.param), fields)
    return fields, build(read_checkpoint(folder)).eval()


def every_field(prepared, codes):
    letters = torch.from_numpy(codes)
    tower = prepared.tower(letters)
    kept = prepared.kept_bins(tower.shape[1])
    embedding = prepared.embed(prepared.transform(tower, bins=kept))
    return {
        "after_stem": prepared.level(0, Rows.whole(letters), 0, codes.shape[1] // 2),
        "after_conv_tower": tower,
        "after_block_0": prepared.transform(tower, n_blocks=1),
        "after_transformer": prepared.transform(tower),
        "embedding": embedding,
        "human": prepared.predict(embedding, "human"),
        "mouse": prepared.predict(embedding, "mouse"),
    }


def test_with_direct_convolution_every_field_is_the_originals(reference):
    fields, network = reference
    prepared = prepare(network, POLICIES["float32-exact"])
    for name, ours in every_field(prepared, fields["codes"]).items():
        parity.assert_agrees(name, ours.numpy(), fields[name])


def test_with_fast_convolution_every_field_is_near_the_originals(reference):
    fields, network = reference
    prepared = prepare(network, POLICIES["float32"])
    for name, ours in every_field(prepared, fields["codes"]).items():
        expected = torch.from_numpy(fields[name])
        assert rms(ours, expected) < 3e-5, name
        assert most(ours, expected) < 3e-4, name


@st.composite
def configs(draw):
    heads = draw(st.integers(1, 5))
    dim = 6 * heads * draw(st.integers(1, 4))
    units = [unit for unit in (1, 2, 3, 4, 8) if dim % unit == 0]
    try:
        return EnformerConfig(
            dim=dim,
            depth=draw(st.integers(0, 3)),
            heads=heads,
            attn_dim_key=draw(st.integers(1, 17)),
            dim_divisible_by=draw(st.sampled_from(units)),
            num_downsamples=draw(st.integers(3, 8)),
            target_length=-1,
            output_heads={"yeast": 3},
        )
    except InputError:
        assume(False)


@settings(deadline=None, max_examples=25)
@given(configs(), st.integers(1, 23), st.integers(1, 3))
def test_any_network_and_length_agrees_with_float64(config, n_bins, n_windows):
    codes = draw_codes(n_windows, n_bins * config.bin_size)
    exact = exact_of(config)
    expected = exact(one_hot(codes, torch.float64))
    for precision, (rms_limit, limit) in LIMITS.items():
        prepared = prepared_of(config, precision)
        tower = prepared.tower(torch.from_numpy(codes))
        ours = prepared.embed(prepared.transform(tower))
        assert ours.shape == expected.shape
        assert ours.dtype == torch.float32
        assert rms(ours, expected) < rms_limit, precision
        assert most(ours, expected) < limit, precision
    tracks = prepared_of(config).predict(expected.float(), "yeast")
    assert rms(tracks, exact.predict(expected, "yeast")) < 1e-6


@pytest.mark.parametrize("precision", LIMITS)
def test_every_output_agrees_with_the_plain_network(precision):
    network, prepared = network_of(), prepared_of(ODD, precision)
    codes = draw_codes(2, 128 * N_BINS)
    x = one_hot(codes)
    rms_limit, limit = LIMITS[precision]
    tower = prepared.tower(torch.from_numpy(codes))
    kept = prepared.kept_bins(N_BINS)
    embedding = prepared.embed(prepared.transform(tower, bins=kept))
    for ours, expected in [
        (tower, network(x, "tower")),
        (prepared.transform(tower, n_blocks=1), network(x, "block_0")),
        (prepared.transform(tower), network(x, "block_1")),
        (embedding, network(x)),
        (prepared.predict(embedding, "human"), network(x, "tracks")),
        (prepared.predict(embedding, "mouse"), network(x, "tracks", "mouse")),
    ]:
        assert ours.shape == expected.shape
        assert rms(ours, expected) < rms_limit
        assert most(ours, expected) < limit


def test_no_block_returns_the_tower():
    tower = torch.randn(1, N_BINS, ODD.dim)
    assert torch.equal(prepared_of().transform(tower, n_blocks=0), tower)
    depthless = prepared_of(sized(depth=0))
    assert torch.equal(depthless.transform(tower, bins=(3, 5)), tower[:, 3:5])


@pytest.mark.parametrize("precision", LIMITS)
@pytest.mark.parametrize("bins", [(0, N_BINS), (0, 1), (5, 18), (N_BINS - 1, N_BINS)])
@pytest.mark.parametrize("n_blocks", [1, None])
def test_some_bins_are_a_slice_of_all(precision, bins, n_blocks):
    prepared = prepared_of(ODD, precision)
    tower = prepared.tower(torch.from_numpy(draw_codes(2, 128 * N_BINS)))
    whole = prepared.transform(tower, n_blocks)[:, slice(*bins)]
    some = prepared.transform(tower, n_blocks, bins)
    assert some.shape == whole.shape
    assert rms(some, whole) < 2e-6


def test_more_queries_than_a_block_of_them_agree_with_the_plain_network():
    config = sized(depth=1, target_length=-1)
    tower = torch.randn(1, 601, ODD.dim, generator=torch.Generator().manual_seed(2))
    whole = network_of(config).transform(tower)
    prepared = prepared_of(config)
    assert rms(prepared.transform(tower), whole) < 5e-6
    assert rms(prepared.transform(tower, bins=(97, 599)), whole[:, 97:599]) < 5e-6


@pytest.mark.parametrize("precision", LIMITS)
def test_selected_tracks_are_a_slice_of_all(precision):
    prepared = prepared_of(ODD, precision)
    embedding = torch.randn(2, 11, ODD.embedding_dim)
    chosen = [11, 2, 3, 2]
    some = prepared.predict(embedding, "mouse", chosen)
    assert rms(some, prepared.predict(embedding, "mouse")[..., chosen]) < 2e-6


@pytest.mark.parametrize(
    ("n", "kept"), [(37, (13, 24)), (11, (0, 11)), (7, (0, 7)), (13, (1, 12))]
)
def test_the_kept_bins_are_those_of_the_plain_network(n, kept):
    assert prepared_of().kept_bins(n) == kept
    bins = torch.arange(n)[None, :, None]
    assert network_of().crop(bins).flatten().tolist() == list(range(*kept))


# Pieces


@st.composite
def partitions(draw, n, least=1):
    """Borders from 0 to n, at least so far apart."""
    cuts = sorted(draw(st.sets(st.integers(least, n - least), max_size=5)))
    borders = [0]
    for cut in cuts:
        if cut - borders[-1] >= least:
            borders.append(cut)
    return [*borders, n]


def pieces(compute, borders):
    parts = [compute(borders[k], borders[k + 1]) for k in range(len(borders) - 1)]
    return torch.cat(parts, dim=1)


@pytest.mark.parametrize("precision", LIMITS)
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_any_partition_of_the_tower_equals_the_whole_but_for_rounding(precision, data):
    n_bins = data.draw(st.sampled_from([2, 19, 71]))
    prepared = prepared_of(ODD, precision)
    codes = torch.from_numpy(draw_codes(2, 128 * n_bins))
    borders = data.draw(partitions(n_bins))
    ours = pieces(lambda lo, hi: prepared.tower_rows(codes, lo, hi), borders)
    assert rms(ours, prepared.tower(codes)) < 2.5e-6  # measured: 1.9e-6, winograd


@pytest.mark.parametrize("precision", ["float32-exact", "bfloat16"])
@settings(deadline=None, max_examples=12)
@given(st.data())
def test_pieces_of_four_bins_or_more_equal_the_whole_to_the_bit(
    one_thread, precision, data
):
    n_bins = data.draw(st.sampled_from([19, 36, 71]))
    prepared = prepared_of(EVEN, precision)
    codes = torch.from_numpy(draw_codes(1, 128 * n_bins))
    borders = data.draw(partitions(n_bins, least=4))
    ours = pieces(lambda lo, hi: prepared.tower_rows(codes, lo, hi), borders)
    assert torch.equal(ours, prepared.tower(codes))


@pytest.mark.parametrize("i", range(7))
@pytest.mark.parametrize("precision", FLOATS)
@settings(deadline=None, max_examples=6)
@given(st.data())
def test_any_partition_of_a_level_equals_the_whole(one_thread, i, precision, data):
    n_bins, prepared = 19, prepared_of(EVEN, precision)
    below, whole = level_and_below(prepared, i, n_bins)
    reach = 7 if i == 0 else 2

    def piece(low, high):
        first = max(2 * low - reach, 0)
        last = min(2 * high + reach, below.shape[1])
        rows = Rows(below[:, first:last], first, below.shape[1])
        return prepared.level(i, rows, low, high)

    ours = pieces(piece, data.draw(partitions(whole.shape[1], least=4)))
    if precision == "float32-exact" or i == 0:
        assert torch.equal(ours, whole)
    else:
        assert rms(ours, whole) < 2e-6


def level_and_below(prepared, i, n_bins):
    rows = torch.from_numpy(draw_codes(1, 128 * n_bins))
    for j in range(i + 1):
        below = rows
        rows = prepared.level(j, Rows.whole(below), 0, below.shape[1] // 2)
    return below, rows


def test_a_window_of_many_tiles_equals_its_windows_run_alone(one_thread):
    codes = torch.from_numpy(draw_codes(3, 128 * 71))
    prepared = prepared_of(EVEN)
    alone = torch.cat([prepared.tower(window[None]) for window in codes])
    assert torch.equal(prepared.tower(codes), alone)


@pytest.mark.parametrize(
    ("i", "low", "high", "message"),
    [
        (1, 0, 4, "rows -2 to 10 are needed, but only 5 to 50 of 64 are there"),
        (1, 20, 25, "rows 38 to 52 are needed, but only 5 to 50 of 64"),
        (6, 29, 32, "rows 56 to 66 are needed, but only 5 to 50 of 64"),
    ],
)
def test_rows_that_are_missing_are_told(i, low, high, message):
    prepared = prepared_of()
    width = (*[ODD.stem_width], *ODD.tower_widths)[i - 1]
    rows = Rows(torch.zeros(1, 45, width), 5, 64)
    with pytest.raises(InputError, match=message):
        prepared.level(i, rows, low, high)


def test_letters_that_are_missing_are_told():
    letters = Rows(torch.zeros(1, 50, dtype=torch.uint8), 10, 128)
    with pytest.raises(InputError, match="rows 9 to 43 are needed, but only 10 to 60"):
        prepared_of().level(0, letters, 8, 18)


def test_an_n_is_a_row_of_zeros_and_no_letter():
    codes = draw_codes(1, 128 * 19, n_share=0)
    masked = codes.copy()
    masked[0, 500:1500] = 4
    base = masked.copy()
    base[0, 1000] = 0
    exact, prepared = exact_of(), prepared_of()
    for letters in (codes, masked, base, np.full_like(codes, 4)):
        expected = exact.tower(one_hot(letters, torch.float64))
        ours = prepared.tower(torch.from_numpy(letters))
        # A window of N alone hardly varies, so absolute: a tower has a deviation of 1.
        torch.testing.assert_close(ours.double(), expected, rtol=0, atol=1e-4)


@pytest.mark.parametrize("n", [2, 3, 11])
def test_the_shifted_view_is_the_relative_shift(n):
    logits = torch.randn(2, 3, n, 2 * n - 1)
    assert torch.equal(shifted_view(logits, n), relative_shift(logits))


@pytest.mark.parametrize(("start", "stop"), [(0, 3), (4, 5), (6, 11)])
def test_the_shifted_view_of_some_queries_is_a_slice(start, stop):
    n = 11
    logits = torch.randn(2, n, 2 * n - 1)
    band = logits[:, start:stop, n - stop : 2 * n - 1 - start].contiguous()
    expected = relative_shift(logits)[:, start:stop]
    assert torch.equal(shifted_view(band, n), expected)


def test_preparing_leaves_the_network_as_it_was():
    network = network_of()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    for precision in LIMITS:
        prepared = prepare(network, POLICIES[precision])
        prepared.embed(
            prepared.transform(prepared.tower(torch.zeros(1, 1024, dtype=torch.uint8)))
        )
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name]), name
