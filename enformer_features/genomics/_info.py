"""Values for the INFO column of VCF: their header lines and their text."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from enformer_features.exceptions import InputError, check_choice

Value = str | float | int | None

TYPES = ("Float", "Integer", "String")
MISSING = "."
_ID = re.compile(r"[A-Za-z_][0-9A-Za-z_.]*")
_RESERVED = re.compile(r"[%;=,\s]")


@dataclass(frozen=True)
class InfoField:
    """A key of the INFO column with one value for each alternative allele.

    Parameters
    ----------
    id : str
        Letters, digits, ``_`` and ``.``, not beginning with a digit.
    description : str
        What the values are, for the header.
    type : {"Float", "Integer", "String"}, default="Float"
        Floats have the precision of float32, as the format says.

    Raises
    ------
    InputError
        If `id` or `type` is another.

    Examples
    --------
    >>> InfoField("SAD", "change of the sum").header_line()
    '##INFO=<ID=SAD,Number=A,Type=Float,Description="change of the sum">'
    """

    id: str
    description: str
    type: str = "Float"

    def __post_init__(self) -> None:
        check_choice("type", self.type, TYPES)
        if not _ID.fullmatch(self.id):
            msg = (
                f"{self.id!r} cannot be a key of INFO; expected letters, digits, _ and "
                "., not beginning with a digit"
            )
            raise InputError(msg)

    def header_line(self) -> str:
        """Return the line that declares the key, without a line end."""
        text = " ".join(self.description.split())
        text = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'##INFO=<ID={self.id},Number=A,Type={self.type},Description="{text}">'

    def text(self, value: Value) -> str:
        """Return a value as INFO has it; "." for None, NaN and an empty text."""
        if value is None or value == "":
            return MISSING
        if self.type == "String":
            return percent_encode(str(value))
        number = float(value)
        if math.isnan(number):
            return MISSING
        return str(int(number)) if self.type == "Integer" else str(np.float32(number))


def percent_encode(text: str) -> str:
    """Encode the letters that have a meaning in INFO, as VCF 4.3 says.

    Examples
    --------
    >>> percent_encode("a=b; 50 %")
    'a%3Db%3B%2050%20%25'
    """

    def code(match: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in match[0].encode())

    return _RESERVED.sub(code, text)


def info_text(
    fields: Sequence[InfoField], values: Sequence[Mapping[str, Value]]
) -> str:
    """Join the values of a record's alleles; keys that have none are left out.

    Parameters
    ----------
    fields : sequence of InfoField
    values : sequence of mappings, one for each ALT
        Key to value.

    Returns
    -------
    str
        ``"A=1.0,.;B=2.0,3.0"``, or "" where there is no value.
    """
    entries = []
    for field in fields:
        texts = [field.text(allele.get(field.id)) for allele in values]
        if any(text != MISSING for text in texts):
            entries.append(f"{field.id}={','.join(texts)}")
    return ";".join(entries)


def header_lines(
    fields: Sequence[InfoField],
    caution: Sequence[str],
    provenance: Mapping[str, str] | None,
) -> list[str]:
    """Return what a written file declares and says, a line each."""
    told = [("caution", text) for text in caution] + list((provenance or {}).items())
    lines = [
        f"##enformer_features_{key}={' '.join(text.split())}" for key, text in told
    ]
    return [field.header_line() for field in fields] + lines
