"""genomics/shuffles.py."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode, encode
from enformer_features.genomics.shuffles import background, shuffle_pairs
from tests.inference.networks import draw_codes


def pairs(codes):
    return Counter(zip(codes[:-1].tolist(), codes[1:].tolist(), strict=True))


@pytest.mark.parametrize("how", ["shuffled", "dinucleotide"])
@pytest.mark.parametrize("seed", range(5))
def test_letters_are_kept_and_n_stays_where_it_is(how, seed):
    codes = draw_codes(1, 500, seed=seed)[0]
    shuffled = background(codes, how, np.random.default_rng(seed))
    assert Counter(shuffled.tolist()) == Counter(codes.tolist())
    np.testing.assert_array_equal(shuffled == 4, codes == 4)
    assert (shuffled != codes).mean() > 0.3


@pytest.mark.parametrize("length", [1, 2, 3, 7, 400])
@pytest.mark.parametrize("seed", range(5))
def test_pairs_of_neighbours_are_kept(length, seed):
    codes = draw_codes(1, length, seed=seed)[0]
    shuffled = shuffle_pairs(codes, np.random.default_rng(seed))
    assert pairs(shuffled) == pairs(codes)


def test_every_sequence_with_these_pairs_is_equally_likely():
    generator = np.random.default_rng(1)
    codes = encode("AACAGA")
    drawn = Counter(decode(shuffle_pairs(codes, generator)) for _ in range(3_000))
    # AA, AC, CA, AG, GA in every order that is a walk from A to A
    assert set(drawn) == {"AACAGA", "AAGACA", "ACAAGA", "AGAACA", "ACAGAA", "AGACAA"}
    assert min(drawn.values()) > 400


def test_the_seed_decides_and_unknown_ways_are_refused():
    codes = draw_codes(1, 300)[0]
    once = background(codes, "dinucleotide", np.random.default_rng(4))
    again = background(codes, "dinucleotide", np.random.default_rng(4))
    np.testing.assert_array_equal(once, again)
    with pytest.raises(InputError, match="did you mean 'shuffled'"):
        background(codes, "shuffle", np.random.default_rng(4))
