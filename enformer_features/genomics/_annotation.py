"""INFO values on their way into a copy of a VCF file: header, order, records."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from enformer_features.exceptions import InputError, first_few
from enformer_features.genomics._info import InfoField, Value, info_text

_INFO = 7  # its column
_INFO_LINE = re.compile(rb"##INFO=<ID=([^,>]+)")


def check_keys(
    file: Path, header: list[bytes], fields: Sequence[InfoField], overwrite: bool
) -> list[bytes]:
    """Return the keys that the file has; raise if they may not be replaced."""
    names = header[-1].rstrip(b"\r\n").split(b"\t")
    if len(names) <= _INFO or names[_INFO] != b"INFO":
        msg = (
            f"{file}:{len(header)}: the #CHROM line has no INFO as its column "
            f"{_INFO + 1}, so that nothing can be added; write a table (.tsv) instead"
        )
        raise InputError(msg)
    ids = [field.id for field in fields]
    if len(set(ids)) < len(ids):
        twice = sorted({name for name in ids if ids.count(name) > 1})
        msg = f"keys of INFO must differ, but there are two of {first_few(twice)}"
        raise InputError(msg)
    declared = {match[1] for line in header if (match := _INFO_LINE.match(line))}
    taken = [name for name in ids if name.encode() in declared]
    if taken and not overwrite:
        msg = (
            f"INFO of {file} has {first_few(taken)} already; annotate the original "
            "file, or pass overwrite=True to replace the values"
        )
        raise InputError(msg)
    return [name.encode() for name in taken]


def new_header(
    header: list[bytes], added: list[str], replaced: list[bytes]
) -> Iterator[bytes]:
    """Yield the old lines but those of replaced keys, with new ones before the last."""
    *old, last = header
    matches = [(line, _INFO_LINE.match(line)) for line in old]
    kept = [line for line, match in matches if not match or match[1] not in replaced]
    yield from kept
    line_end = last[len(last.rstrip(b"\r\n")) :] or b"\n"
    for line in dict.fromkeys(text.encode() + line_end for text in added):
        if line not in kept:
            yield line
    yield last


class Values:
    """Values in the order of the file, taken record by record."""

    def __init__(
        self,
        values: Iterable[tuple[int, int, Mapping[str, Value]]],
        keys: frozenset[str],
    ) -> None:
        self._values = iter(values)
        self._keys = keys
        self._next = next(self._values, None)

    def take(self, record: int) -> dict[int, Mapping[str, Value]]:
        """Return the values of a record by allele."""
        alleles: dict[int, Mapping[str, Value]] = {}
        while self._next is not None and self._next[0] <= record:
            number, allele, values = self._next
            if number < record or allele in alleles:
                msg = (
                    f"values must be in the order of the file, each allele once, but "
                    f"those of record {number}, allele {allele} come after record "
                    f"{record if number < record else number}"
                )
                raise InputError(msg)
            if not values.keys() <= self._keys:
                unknown = sorted(values.keys() - self._keys)
                msg = f"record {number} has values of {first_few(unknown)}: no field"
                raise InputError(msg)
            alleles[allele] = values
            self._next = next(self._values, None)
        return alleles

    def refuse_rest(self, file: Path, n_records: int) -> None:
        """Raise if there are values after the last record."""
        if self._next is not None:
            msg = (
                f"there are values for record {self._next[0]}, but {file} holds "
                f"{n_records} records; is it the file that was read?"
            )
            raise InputError(msg)


def annotated(
    line: bytes,
    fields: Sequence[InfoField],
    alleles: Mapping[int, Mapping[str, Value]],
    replaced: Collection[bytes],
    place: str,
) -> bytes:
    """Return a record with entries added to its INFO."""
    body = line.rstrip(b"\r\n")
    columns = body.split(b"\t", _INFO + 1)
    if len(columns) <= _INFO:
        msg = f"{place}: {len(columns)} column(s), expected at least {_INFO + 1}"
        raise InputError(msg)
    n_alleles = columns[4].count(b",") + 1
    if any(not 1 <= allele <= n_alleles for allele in alleles):
        msg = (
            f"{place}: values for allele {max(alleles)} of {n_alleles}; is it the file "
            "that was read?"
        )
        raise InputError(msg)
    if columns[4] == b".":  # no alternative, so that Number=A is no value at all
        n_alleles = 0
    in_order = [alleles.get(allele, {}) for allele in range(1, n_alleles + 1)]
    entries = [] if columns[_INFO] in (b"", b".") else columns[_INFO].split(b";")
    entries = [item for item in entries if item.partition(b"=")[0] not in replaced]
    text = info_text(fields, in_order).encode()
    columns[_INFO] = b";".join([*entries, text] if text else entries) or b"."
    return b"\t".join(columns) + line[len(body) :]
