"""Columns of a user's table: found by alias, parsed without guessing.

The parsers below take a whole column and an array of *reasons*, one text per row,
empty while the row is fine. They write why a row is bad into it (the first reason
stays) and return the parsed values; a bad row's value is a placeholder.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from typing import Any, NoReturn

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from enformer_features.exceptions import InputError, InputTypeError, first_few

Texts = NDArray[np.object_]

ALIASES: dict[str, tuple[str, ...]] = {
    "chrom": ("chrom", "chr", "chromosome", "contig", "seqnames", "#chrom"),
    "start": ("start", "chromStart", "chrom_start"),
    "end": ("end", "chromEnd", "chrom_end", "stop"),
    "strand": ("strand",),
    "tss": ("tss",),
    "name": ("name", "gene_id", "id"),
}
STRANDS: dict[Hashable, str] = {
    "+": "+",
    "-": "-",
    ".": "+",
    "": "+",
    1: "+",
    -1: "-",
    "1": "+",
    "-1": "-",
}
# Floats hold whole numbers exactly up to here, and no chromosome comes near it.
LIMIT = 2**53
SHOWN_ROWS = 5
_WHOLE_NUMBER = re.compile(r"-?[0-9]{1,15}(?:\.0)?")


def no_reasons(n_rows: int) -> Texts:
    """Make the reasons of `n_rows` rows that are all fine."""
    return np.full(n_rows, "", dtype=object)


def note(reasons: Texts, bad: NDArray[np.bool_], text: Callable[[int], str]) -> None:
    """Write ``text(row)`` for the bad rows that have no reason yet."""
    for row in np.flatnonzero(bad):
        if not reasons[row]:
            reasons[row] = text(int(row))


def is_missing(value: Any) -> bool:
    """Tell whether one cell is None, NaN, NaT or NA."""
    return bool(pd.api.types.is_scalar(value) and pd.isna(value))


def show(value: object, width: int = 40) -> str:
    """Render one cell for a message; text is quoted, long values are cut."""
    text = repr(value) if isinstance(value, str) else str(value)
    return text if len(text) <= width else f"{text[: width - 3]}..."


def find_columns(
    labels: Iterable[Hashable], aliases: Mapping[str, Sequence[str]]
) -> dict[str, int]:
    """Map each known column to its position; letter case does not matter.

    Raises
    ------
    InputError
        If two columns stand for the same thing.
    """
    spelled = [str(label) for label in labels]
    found = {}
    for column, accepted in aliases.items():
        known = {alias.lower() for alias in accepted}
        places = [
            place for place, label in enumerate(spelled) if label.lower() in known
        ]
        if len(places) > 1:
            rivals = " and ".join(spelled[place] for place in places)
            msg = f"columns {rivals} all stand for {column}; keep one of them"
            raise InputError(msg)
        if places:
            found[column] = places[0]
    return found


def refuse_missing_column(
    where: str,
    column: str,
    labels: Iterable[object],
    accepted: Sequence[str],
    hint: str = "",
) -> NoReturn:
    """Raise about a required column that is not there."""
    found = first_few([str(label) for label in labels], limit=20) or "no columns"
    msg = (
        f"{where} has no column for {column}: found {found}; "
        f"accepted, in any letter case: {', '.join(accepted)}{hint}"
    )
    raise InputError(msg)


def integers(values: pd.Series[Any], column: str, reasons: Texts) -> NDArray[np.int64]:
    """Parse whole numbers; -1 where there is none.

    Integers, floats without a fraction and texts of plain digits (``"100"``, or
    ``"100.0"`` as pandas writes columns with gaps) are accepted.

    Raises
    ------
    InputTypeError
        If the column holds booleans.
    """
    if pd.api.types.is_integer_dtype(values) or pd.api.types.is_float_dtype(values):
        numbers = values.to_numpy(dtype=np.float64, na_value=np.nan)
    else:
        _refuse_booleans(values, column)
        numbers = np.array([_number(value) for value in values], dtype=np.float64)
    whole = (np.abs(numbers) < LIMIT) & (numbers == np.rint(numbers))
    note(reasons, ~whole, lambda row: _why_not_whole(values.iloc[row], column))
    return np.where(whole, numbers, -1).astype(np.int64)


def chromosomes(values: pd.Series[Any], reasons: Texts) -> Texts:
    """Parse chromosome names; numbers become text, and "" stands where none is."""

    def parse(value: object) -> str | None:
        if isinstance(value, str):
            return value or None
        if isinstance(value, (int, np.integer)) and not isinstance(value, bool):
            return str(value)
        if isinstance(value, (float, np.floating)) and value.is_integer():
            return str(int(value))
        return None

    def why(value: object) -> str:
        if is_missing(value) or value == "":
            return "chrom is missing"
        return f"chrom {show(value)} is {type(value).__name__}, expected text"

    return _by_unique(values, "chrom", parse, None, "", why, reasons)


def strands(values: pd.Series[Any], reasons: Texts) -> Texts:
    """Parse strands to "+" or "-"; missing ones and "." are "+"."""

    def parse(value: Hashable) -> str | None:
        return None if isinstance(value, (bool, np.bool_)) else STRANDS.get(value)

    def why(value: object) -> str:
        return f'strand {show(value)} is not one of "+", "-", ".", 1, -1 or empty'

    return _by_unique(values, "strand", parse, "+", "+", why, reasons)


def names(values: pd.Series[Any] | pd.Index[Any]) -> Texts:
    """Turn names into text; "" where there is none."""
    missing = np.asarray(pd.isna(values))
    texts = [value if type(value) is str else str(value) for value in values]
    return np.where(missing, "", np.array(texts, dtype=object))


def bad_rows_text(labels: Sequence[str], reasons: Sequence[str]) -> str:
    """List the first bad rows, one to a line, and say how many there are in all."""
    pairs = zip(labels[:SHOWN_ROWS], reasons[:SHOWN_ROWS], strict=True)
    lines = [f"  {label}: {reason}" for label, reason in pairs]
    if len(labels) > SHOWN_ROWS:
        lines.append(f"  ... ({len(labels)} in all)")
    return "\n".join(lines)


def _refuse_booleans(values: pd.Series[Any], column: str) -> None:
    rows = [
        str(label)
        for label, value in values.items()
        if isinstance(value, (bool, np.bool_))
    ]
    if rows:
        msg = (
            f"column {column} holds booleans (rows {first_few(rows)}), "
            "expected whole numbers: 0-based positions in bp"
        )
        raise InputTypeError(msg)


def _number(value: object) -> float:
    """Turn a cell into a float; NaN when it is not plainly a number."""
    if isinstance(value, str):
        return float(value) if _WHOLE_NUMBER.fullmatch(value) else np.nan
    if isinstance(value, (int, np.integer)):
        return float(value) if abs(int(value)) < LIMIT else np.inf
    return float(value) if isinstance(value, (float, np.floating)) else np.nan


def _why_not_whole(value: Any, column: str) -> str:
    if is_missing(value) or (isinstance(value, str) and not value):
        return f"{column} is missing"
    if isinstance(value, str):
        return f"{column} {show(value)} is not a whole number written in digits only"
    if not isinstance(value, (int, float, np.integer, np.floating)):
        return f"{column} {show(value)} is {type(value).__name__}, not a whole number"
    if not -LIMIT < value < LIMIT:
        return f"{column} {show(value)} is larger than any chromosome"
    return f"{column} {show(value)} is not a whole number"


def _by_unique(
    values: pd.Series[Any],
    column: str,
    parse: Callable[[Any], str | None],
    missing: str | None,
    placeholder: str,
    why: Callable[[object], str],
    reasons: Texts,
) -> Texts:
    """Parse each different value once; None from `parse` makes the row bad."""
    try:
        codes, uniques = pd.factorize(values)
    except TypeError as error:
        msg = f"column {column} holds values that are not text or numbers: {error}"
        raise InputTypeError(msg) from error
    parsed = [*(parse(unique) for unique in uniques), missing]  # code -1: missing
    texts = [placeholder if text is None else text for text in parsed]
    bad = np.array([text is None for text in parsed])[codes]
    note(reasons, bad, lambda row: why(values.iloc[row]))
    return np.array(texts, dtype=object)[codes]
