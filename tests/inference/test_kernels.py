"""ExPecto's kernels: weights by hand, and what cannot be one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal

from enformer_features.exceptions import InputError
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.kernels import Kernels
from enformer_features.inference.pooling import POOLS, Pool, expecto_kernels

GEOMETRY = Geometry(128 * 8)


def test_weights_by_hand_for_an_even_and_an_odd_number_of_bins() -> None:
    near, far = 1.0, np.exp(-0.5)
    even = Kernels(200, (0.5,)).weights(6)  # 320, 192, 64 bp on either side
    assert_allclose(even, [[far, 1, 1, 1, 0, 0], [0, 0, 1, 1, 1, far]])
    odd = Kernels(200, (0.5,)).weights(5)  # 256, 128, 0
    assert_allclose(odd, [[far, near, 1, 0, 0], [0, 0, 1, near, far]])


def test_the_published_ten_are_those_of_the_paper() -> None:
    weights = Kernels().weights(896)
    assert weights.shape == (10, 896)
    assert len(Kernels()) == 10
    bin_at_20_kb = 448 + 156  # its middle is 20,032 bp downstream
    assert_allclose(weights[5:, bin_at_20_kb], np.exp([-1, -2, -5, -10, -20]))
    assert not weights[:5, bin_at_20_kb].any()
    assert_array_equal(weights[:, 447], weights[:, 448])
    assert_array_equal(weights[:5], weights[5:, ::-1])


def test_text_and_kernels_are_the_same_thing() -> None:
    kernels = Kernels(128, (0.25, 1e-05))
    assert Kernels.parse(str(kernels)) == kernels
    assert Kernels.parse("mean") is None
    assert Kernels.parse("kernels per 128 bp: far") is None


def test_sums_by_hand_are_kernel_by_kernel() -> None:
    bins = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0], [4.0, 40.0]])
    pool = expecto_kernels(decays=[10.0])  # exp(-10 * 0) is 1, exp(-10 * 1) about 0
    assert pool.reduce(bins).tolist() == pytest.approx([6, 60, 9, 90])
    names = pool.feature_names(["a", "b"], GEOMETRY)
    assert names == ["up10_a", "up10_b", "down10_a", "down10_b"]
    assert pool.n_outputs(2, GEOMETRY) == len(names)


@pytest.mark.filterwarnings("ignore:pool 'expecto' reads 4 bins")
def test_rows_against_the_direction_are_turned_around() -> None:
    pool = expecto_kernels(bins=(-2, 2))
    rows = pool.resolve(GEOMETRY, 2, None, np.array([False, True]))
    assert rows.tolist() == [[2, 6, 0], [2, 6, 1]]
    bins = torch.arange(8.0)[:, None]
    ahead, back = (pool.read(bins, row) for row in rows)
    assert_allclose(back, pool.reduce(bins[2:6].flip(0)))
    assert not torch.allclose(ahead, back)


def test_other_pools_have_no_direction() -> None:
    rows = Pool("up", (-2, 0)).resolve(GEOMETRY, 1, None, np.array([True]))
    assert rows.tolist() == [[2, 4]]


def test_a_pool_of_kernels_is_a_value_like_others() -> None:
    pool = POOLS["expecto"]
    assert pool == expecto_kernels() == Pool("expecto", "all", str(Kernels()))
    assert pool != expecto_kernels(bin_bp=128)


@pytest.mark.parametrize(
    ("bins", "geometry", "expected"),
    [
        ((-2, 3), GEOMETRY, r"TSS in their middle: 'all', 'center', or \(-n, n\)"),
        ("tss", GEOMETRY, "TSS in their middle"),
        ((-2, 2), Geometry(128 * 9), r"\(-n, n \+ 1\)"),
        ("all", Geometry(1024, bin_size=64), "bins of 128 bp; this network has bins"),
    ],
)
def test_bins_that_are_not_around_the_tss_are_refused(
    bins: str | tuple[int, int], geometry: Geometry, expected: str
) -> None:
    with pytest.raises(InputError, match=expected):
        expecto_kernels(bins=bins).resolve(geometry, 1, None)


def test_the_regions_own_bins_have_no_kernels() -> None:
    with pytest.raises(InputError, match="or weigh them by distance"):
        expecto_kernels(bins="region")


@pytest.mark.parametrize("bin_bp", [0, 2.5, True])
def test_a_unit_of_no_length_is_refused(bin_bp: int) -> None:
    with pytest.raises(InputError, match="positive whole number of bp"):
        expecto_kernels(bin_bp=bin_bp)


@pytest.mark.parametrize("decays", [(), (0.1, 0.1), (-1.0,), ("fast",), (np.inf,)])
def test_decays_that_do_not_fall_are_refused(decays: tuple[float, ...]) -> None:
    with pytest.raises(InputError, match="different positive numbers"):
        expecto_kernels(decays=decays)
