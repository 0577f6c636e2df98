import numpy as np
import pytest
import torch

from enformer_features.exceptions import InputError, InputTypeError, WindowWarning
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.pooling import (
    POOLS,
    Pool,
    pooled_names,
    resolve_pools,
)

GEOMETRY = Geometry(128 * 11)


def rows(name, geometry=GEOMETRY, **changes):
    return POOLS[name].resolve(geometry, 2, None).tolist()


def test_named_pools_read_the_bins_that_they_say():
    assert rows("tss") == [[4, 7], [4, 7]]
    assert rows("center") == [[5, 6], [5, 6]]
    assert rows("mean") == rows("max") == rows("flatten") == [[0, 11], [0, 11]]
    assert rows("center", Geometry(128 * 8)) == [[3, 5], [3, 5]]
    assert rows("tss", Geometry()) == [[447, 450], [447, 450]]


def test_a_range_is_relative_to_the_tss_bin():
    assert Pool("up", bins=(-3, 0)).resolve(GEOMETRY, 1, None).tolist() == [[2, 5]]


def test_region_pool_takes_each_rows_own_bins():
    own = np.array([[2, 3], [4, 9]])
    assert POOLS["region"].resolve(GEOMETRY, 2, own) is own


def test_region_pool_refuses_sequences():
    with pytest.raises(InputError, match="sequences have no interval of their own"):
        POOLS["region"].resolve(GEOMETRY, 2, None)


def test_bins_that_are_not_kept_are_refused():
    with pytest.raises(InputError, match="reads bins -1 to 1, but a window of 128 bp"):
        POOLS["tss"].resolve(Geometry(128), 1, None)


@pytest.mark.parametrize(
    ("reduction", "expected"),
    [
        ("mean", [2.0, 20.0]),
        ("sum", [6.0, 60.0]),
        ("max", [3.0, 30.0]),
        ("flatten", [1.0, 10.0, 2.0, 20.0, 3.0, 30.0]),
    ],
)
def test_reductions_by_hand(reduction, expected):
    bins = torch.tensor([[1.0, 10.0], [2.0, 20.0], [3.0, 30.0]])
    assert Pool("p", "all", reduction).reduce(bins).tolist() == expected


def test_one_pool_keeps_names_and_several_are_prefixed():
    names = ["a", "b"]
    assert pooled_names(resolve_pools("tss"), names, GEOMETRY) == names
    both = pooled_names(resolve_pools(("tss", "max")), names, GEOMETRY)
    assert both == ["tss__a", "tss__b", "max__a", "max__b"]


def test_flattened_features_name_their_bin_and_their_number_fits():
    pool = Pool("near", (0, 2), "flatten")
    names = pool.feature_names(["a", "b"], GEOMETRY)
    assert names == ["bin005_a", "bin005_b", "bin006_a", "bin006_b"]
    assert pool.n_outputs(2, GEOMETRY) == 4


def test_equal_pools_are_equal_values():
    assert Pool("tss") == POOLS["tss"]
    assert hash(Pool("tss")) == hash(POOLS["tss"])


def test_unknown_pool_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'center'"):
        resolve_pools("centre")


@pytest.mark.parametrize("pooling", [(), ("tss", "tss"), ("tss", Pool("tss", "all"))])
def test_no_pool_or_a_name_twice_is_refused(pooling):
    with pytest.raises(InputError, match="at least one pool, and none of them twice"):
        resolve_pools(pooling)


def test_a_pool_of_another_kind_is_refused():
    with pytest.raises(InputTypeError, match="must be one of"):
        resolve_pools(3)


@pytest.mark.parametrize("bins", [(2, 2), (3, 1), (1.5, 2), [0, 1], (1,)])
def test_ranges_must_be_two_growing_whole_numbers(bins):
    with pytest.raises(InputError, match="two whole numbers"):
        Pool("p", bins)


def test_a_flattened_region_is_refused():
    with pytest.raises(InputError, match="cannot flatten the region's bins"):
        Pool("p", "region", "flatten")


def test_unknown_reduction_names_the_nearest():
    with pytest.raises(InputError, match="did you mean 'mean'"):
        Pool("p", "all", "means")


def test_kernels_over_few_bins_are_copies_and_a_warning():
    with pytest.warns(WindowWarning, match=r"reads 2 bins.*same sum \(1 different\)"):
        POOLS["expecto"].resolve(Geometry(128 * 2), 1, None)
    with pytest.warns(WindowWarning, match="reads 19 bins; with fewer than 10 on"):
        POOLS["expecto"].resolve(Geometry(128 * 19), 1, None)
    POOLS["expecto"].resolve(Geometry(128 * 20), 1, None)  # no warning
