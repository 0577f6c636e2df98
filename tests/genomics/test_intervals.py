"""Sets of intervals, beside sets of bases that are counted one by one."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.genomics.intervals import clusters, covered_bases, gaps, grown

interval = st.tuples(
    st.sampled_from(["1", "2", "X"]), st.integers(-20, 60), st.integers(1, 17)
)
tables = st.lists(interval, min_size=1, max_size=12).map(
    lambda rows: pd.DataFrame(
        [(chrom, start, start + length) for chrom, start, length in rows],
        columns=["chrom", "start", "end"],
        index=range(7, 7 + len(rows)),
    )
)
some = settings(max_examples=100, deadline=None)


def bases(table: pd.DataFrame) -> list[set[tuple[str, int]]]:
    return [
        {(row.chrom, position) for position in range(row.start, row.end)}
        for row in table.itertuples()
    ]


def distance(one: set[tuple[str, int]], other: set[tuple[str, int]]) -> float:
    """Bases between two, -1 when they overlap."""
    steps = [abs(p - q) - 1 for c, p in one for d, q in other if c == d]
    return min(steps, default=np.inf)


@some
@given(tables, tables)
def test_each_base_of_the_union_is_counted_once(table, others):
    union = set().union(*bases(others))
    expected = [len(own & union) for own in bases(table)]
    assert covered_bases(table, others).tolist() == expected


@some
@given(tables, tables)
def test_the_gap_is_that_to_the_nearest(table, others):
    theirs = bases(others)
    expected = [max(min(distance(own, o) for o in theirs), 0) for own in bases(table)]
    assert gaps(table, others).tolist() == expected


@some
@given(tables, st.integers(0, 9))
def test_clusters_are_the_chains_of_what_is_nearer_than_the_gap(table, gap_bp):
    every, numbers = bases(table), clusters(table, gap_bp)
    expected = np.arange(len(table))
    for i, j in combinations(range(len(table)), 2):
        if distance(every[i], every[j]) < gap_bp:
            expected[expected == expected[j]] = expected[i]
    same = np.equal.outer(expected, expected)
    np.testing.assert_array_equal(np.equal.outer(numbers, numbers), same)
    assert sorted(set(numbers.tolist())) == list(range(numbers.max() + 1))


@some
@given(tables, st.randoms(use_true_random=False))
def test_the_order_of_rows_decides_no_number(table, random):
    numbers = pd.Series(clusters(table), index=table.index)
    order = list(table.index)
    random.shuffle(order)
    shuffled = table.loc[order]
    assert clusters(shuffled).tolist() == numbers.loc[order].tolist()


def test_grown_intervals_reach_further_on_both_sides():
    table = pd.DataFrame({"chrom": ["1"], "start": [5], "end": [9]})
    assert grown(table, 7)[["start", "end"]].to_numpy().tolist() == [[-2, 16]]
