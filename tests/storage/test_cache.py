import copy
import pickle

import numpy as np

from enformer_features.storage.cache import MemoryCache


def row(n, value=0.0):
    return np.full(n, value, dtype=np.float32)


def test_least_recently_used_rows_make_room():
    cache = MemoryCache(max_bytes=12)
    for key in "abc":
        cache.put(key, row(1))
    cache.get("a")
    cache.put("d", row(1))
    assert ("a" in cache, "b" in cache, "c" in cache) == (True, False, True)


def test_a_row_that_replaces_another_counts_once():
    cache = MemoryCache(max_bytes=8)
    for value in range(5):
        cache.put("a", row(2, value))
    assert cache.get("a").tolist() == [4.0, 4.0]
    assert len(cache) == 1


def test_a_row_larger_than_the_cache_is_not_kept_and_drops_nothing():
    cache = MemoryCache(max_bytes=8)
    cache.put("a", row(1))
    cache.put("b", row(3))
    assert ("a" in cache, "b" in cache) == (True, False)


def test_rows_are_copies_that_nobody_can_change():
    cache, values = MemoryCache(), row(2)
    cache.put("a", values)
    values[:] = 7
    assert cache.get("a").tolist() == [0.0, 0.0]
    assert not cache.get("a").flags.writeable


def test_a_pickled_cache_keeps_its_size_and_no_rows():
    cache = MemoryCache(max_bytes=77)
    cache.put("a", row(2))
    again = pickle.loads(pickle.dumps(cache))
    assert (again.max_bytes, len(again)) == (77, 0)


def test_clear_forgets_rows_and_their_bytes():
    cache = MemoryCache(max_bytes=8)
    cache.put("a", row(2))
    cache.clear()
    cache.put("b", row(2))
    assert ("a" in cache, "b" in cache) == (False, True)


def test_a_copy_is_the_cache_itself():
    cache = MemoryCache()
    assert copy.deepcopy({"cache": cache})["cache"] is cache
