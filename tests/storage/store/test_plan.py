from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from enformer_features.exceptions import InputError
from enformer_features.storage.store.plan import StorePlan
from tests.storage.store.test_create import plan


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dtype": "float64"}, "dtype='float64' is not one of 'float32', 'float16'"),
        ({"array": "layers/x"}, "array='layers/x' .* is neither 'X'"),
        ({"array": "obsm/a/b"}, "array='obsm/a/b' .* is neither 'X'"),
        ({"row_shape": (5, 3)}, r"array='X' with rows of shape \(5, 3\)"),
        ({"row_shape": (0,)}, "row_shape has 0, expected a number of at least 1"),
        ({"unit_rows": 0}, "unit_rows has 0, expected a number of at least 1"),
        ({"unit_rows": 5.0}, r"unit_rows has 5\.0, expected a number"),
        ({"n_rows": 13}, r"3 unit_digests for 4 units \(13 rows, 4 to a unit\)"),
        ({"settings": {"path": object()}}, "plain JSON values only"),
        ({"info": {"nan": float("nan")}}, "plain JSON values only"),
    ],
)
def test_plans_that_cannot_be_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        plan(**change)


def test_units_share_the_rows_between_them() -> None:
    rows = [row for unit in range(3) for row in range(11)[plan().rows_of(unit)]]
    assert rows == list(range(11))


def test_a_plan_survives_json() -> None:
    one = plan(settings={"shifts": [0, 1], "nested": {"tracks": None}})
    two = StorePlan.from_json(one.to_json())
    assert two == one
    assert two.digest == one.digest


def test_tuples_and_lists_of_settings_are_the_same() -> None:
    one, two = plan(settings={"shifts": (0, 1)}), plan(settings={"shifts": [0, 1]})
    assert one.differences(two) == []
    assert one.digest == two.digest


def test_info_decides_nothing() -> None:
    one, two = plan(), plan(info={"host": "elsewhere"})
    assert one.differences(two) == []
    assert one.digest == two.digest


@pytest.mark.parametrize(
    ("change", "line"),
    [
        ({"dtype": "float16"}, "dtype: 'float32' != 'float16'"),
        ({"row_shape": (4,)}, "row_shape: [3] != [4]"),
        (
            {"unit_digests": ("u0", "x", "y")},
            "unit_digests: 2 of 3 units are of other rows or sequences: 1, 2",
        ),
        (
            {"settings": {"precision": "float32", "embedder": {"edge": "nan"}}},
            "settings.embedder.edge: 'pad' != 'nan'",
        ),
        (
            {"settings": {"precision": "float32", "embedder": {}}},
            "settings.embedder.edge: 'pad' != (absent)",
        ),
    ],
)
def test_every_other_field_is_told(change: dict[str, Any], line: str) -> None:
    other = replace(plan(), **change)
    assert line in plan().differences(other)
    assert plan().digest != other.digest


@pytest.mark.parametrize(
    ("change", "lines"),
    [
        ({"dtype": "float16"}, ["dtype", "settings.obs_digest", "unit_digests"]),
        ({"precision": "x"}, ["settings.precision", "settings.obs_digest"]),
        ({"strand": "average"}, ["settings.strand"]),
        ({"unit_rows": 5}, ["unit_rows", "settings.obs_digest"]),
        ({}, ["settings.obs_digest", "unit_digests"]),
    ],
)
def test_digests_are_told_where_nothing_else_explains_them(
    change: dict[str, Any], lines: list[str]
) -> None:
    fields = {key: value for key, value in change.items() if hasattr(plan(), key)}
    others = {key: value for key, value in change.items() if key not in fields}
    mine, theirs = (
        plan(settings={"obs_digest": "a"}),
        plan(
            settings={"obs_digest": "b"} | others,
            unit_digests=("x", "y", "z"),
            **fields,
        ),
    )
    told = [line.partition(":")[0] for line in mine.differences(theirs)]
    assert sorted(told) == sorted(lines)
