"""What a store will hold, settled before the first row is computed."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from functools import cached_property
from typing import Any

import numpy as np

from enformer_features.exceptions import InputError, check_choice, first_few
from enformer_features.storage.store.records import record_digest

DTYPES = ("float32", "float16")
_FIELDS = ("array", "n_rows", "row_shape", "dtype", "unit_rows")
# What follows from rows and settings, and is no news where these are known to differ.
_TABLE = "settings.obs_digest"
_NO_CAUSE = {
    *("array", "row_shape", "dtype", "settings.bins", "settings.batch_size"),
    *("settings.device", "settings.on_error"),
}
_NO_CAUSE_OF_TABLE = _NO_CAUSE | {
    *("unit_rows", "settings.weights_digest", "settings.precision"),
}


@dataclass(frozen=True)
class StorePlan:
    """All that decides the values of a store; never changed once written.

    Parameters
    ----------
    array : str
        Where the values go in the AnnData: "X", or "obsm/" and a name.
    n_rows : int
    row_shape : tuple of int
        Shape of a row: ``(n_features,)``, or ``(n_bins, n_features)`` in *obsm*.
    dtype : {"float32", "float16"}
    unit_rows : int
        Rows that are computed and written together; the last unit may have fewer.
    unit_digests : tuple of str, one per unit
        sha256 of what each unit is computed from.
    settings : dict
        Everything else that decides a value, plain JSON: parameters, digests of
        weights and genome, kind of device, precision, batch size.
    info : dict
        Versions and environment, plain JSON: recorded, not compared.

    Raises
    ------
    InputError
        If the fields do not fit together.

    Examples
    --------
    >>> plan = StorePlan("X", 5, (3,), "float32", 2, ("a", "b", "c"))
    >>> plan.n_units, plan.rows_of(2)
    (3, slice(4, 5, None))
    >>> StorePlan.from_json(plan.to_json()) == plan
    True
    """

    array: str
    n_rows: int
    row_shape: tuple[int, ...]
    dtype: str
    unit_rows: int
    unit_digests: tuple[str, ...]
    settings: dict[str, Any] = field(default_factory=dict)
    info: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_choice("dtype", self.dtype, DTYPES)
        _check_array(self.array, self.row_shape)
        for name in ("n_rows", "unit_rows"):
            _check_positive(name, getattr(self, name))
        if len(self.unit_digests) != self.n_units:
            msg = (
                f"{len(self.unit_digests)} unit_digests for {self.n_units} units "
                f"({self.n_rows} rows, {self.unit_rows} to a unit)"
            )
            raise InputError(msg)
        record_digest(self.settings | self.info)

    @property
    def n_units(self) -> int:
        """Number of units."""
        return -(-self.n_rows // self.unit_rows)

    @property
    def n_bytes(self) -> int:
        """Bytes of all values."""
        return self.n_rows * math.prod(self.row_shape) * np.dtype(self.dtype).itemsize

    @cached_property
    def digest(self) -> str:
        """sha256 of all but `info`: equal for plans that give equal values."""
        return record_digest(self.to_json() | {"info": None})

    def rows_of(self, unit: int) -> slice:
        """Return the rows of a unit.

        Raises
        ------
        InputError
            If there is no such unit.
        """
        if not 0 <= unit < self.n_units:
            msg = f"unit {unit} is none of 0 to {self.n_units - 1}"
            raise InputError(msg)
        first = unit * self.unit_rows
        return slice(first, min(first + self.unit_rows, self.n_rows))

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain values."""
        plain: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return plain

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> StorePlan:
        """Return the plan that :meth:`to_json` wrote.

        Raises
        ------
        InputError
            If it is none.
        """
        tuples = {name: tuple(record[name]) for name in ("row_shape", "unit_digests")}
        return cls(**record | tuples)

    def differences(self, other: StorePlan) -> list[str]:
        """Say what makes the values of another plan different.

        Parameters
        ----------
        other : StorePlan

        Returns
        -------
        list of str
            ``"field: mine != theirs"``, empty when both give equal values. Digests of
            rows are left out where another line explains why they differ.

        Examples
        --------
        >>> mine = StorePlan("X", 2, (3,), "float32", 2, ("a",), {"edge": "pad"})
        >>> theirs = StorePlan("X", 2, (3,), "float16", 2, ("b",), {"edge": "nan"})
        >>> for line in mine.differences(theirs):
        ...     print(line)
        dtype: 'float32' != 'float16'
        settings.edge: 'pad' != 'nan'
        """
        mine, theirs = self.to_json(), other.to_json()
        ours = dict(_flat(mine["settings"], "settings"))
        others = dict(_flat(theirs["settings"], "settings"))
        keys = sorted(ours.keys() | others.keys())
        pairs = {key: (mine[key], theirs[key]) for key in _FIELDS} | {
            key: (ours.get(key, _ABSENT), others.get(key, _ABSENT)) for key in keys
        }
        found = {
            key: f"{key}: {one!r} != {two!r}"
            for key, (one, two) in pairs.items()
            if one != two
        }
        causes = found.keys() - {_TABLE}
        if causes - _NO_CAUSE_OF_TABLE:
            found.pop(_TABLE, None)
        units = [] if causes - _NO_CAUSE else self._other_units(other)
        if units:
            found["unit_digests"] = (
                f"unit_digests: {len(units)} of {self.n_units} units are of other "
                f"rows or sequences: {first_few(units)}"
            )
        return list(found.values())

    def _other_units(self, other: StorePlan) -> list[int]:
        pairs = zip(self.unit_digests, other.unit_digests, strict=True)
        return [unit for unit, (one, two) in enumerate(pairs) if one != two]


class _Absent:
    def __repr__(self) -> str:
        return "(absent)"


_ABSENT = _Absent()


def _flat(value: dict[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield the leaves of nested dictionaries under dotted names."""
    for key, inner in value.items():
        name = f"{prefix}.{key}"
        if isinstance(inner, dict) and inner:
            yield from _flat(inner, name)
        else:
            yield name, inner


def _check_array(array: str, row_shape: tuple[int, ...]) -> None:
    part, _, name = array.partition("/")
    is_x = array == "X" and len(row_shape) == 1
    is_obsm = part == "obsm" and name and "/" not in name and len(row_shape) in (1, 2)
    if not (is_x or is_obsm):
        msg = (
            f"array={array!r} with rows of shape {row_shape} is neither 'X' with one "
            "axis nor 'obsm/<name>' with one or two"
        )
        raise InputError(msg)
    for size in row_shape:
        _check_positive("row_shape", size)


def _check_positive(name: str, value: object) -> None:
    if not isinstance(value, int) or value < 1:
        msg = f"{name} has {value!r}, expected a number of at least 1"
        raise InputError(msg)
