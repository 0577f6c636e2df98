"""Track tables, and the choice of tracks that become features.

A track is one experiment that a head of the network predicts: 5,313 for human,
1,643 for mouse. Its number here is its position in the output of its own head,
counted from 0. A track is *named* by its identifier, such as ``ENCFF833POA`` or
``CNhs10608``: no identifier occurs twice in the published tables or in both of
them, while hundreds of descriptions repeat.
"""

from __future__ import annotations

import difflib
import gzip
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import pandas as pd

from enformer_features.exceptions import InputError, InputTypeError, first_few
from enformer_features.genomics._text import as_path

_ASSAY_COUNTS = {
    "human": {"DNASE": 674, "ATAC": 10, "CHIP": 3_991, "CAGE": 638},
    "mouse": {"DNASE": 101, "ATAC": 127, "CHIP": 1_058, "CAGE": 357},
}
_REQUIRED = ("index", "identifier", "description")


@dataclass(frozen=True)
class TrackSelection:
    """Some tracks of one head, in the order in which they become features.

    Parameters
    ----------
    indices : sequence of int
        Positions in the output of the head, from 0, each once.
    names : sequence of str
        One name per index, each once.

    Raises
    ------
    InputError
        If it is empty, an index or name repeats, or the lengths differ.

    Examples
    --------
    >>> TrackSelection((5110, 4828), ("GM12878", "K562"))
    TrackSelection(indices=(5110, 4828), names=('GM12878', 'K562'))
    """

    indices: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "indices", _as_indices(self.indices))
        object.__setattr__(self, "names", _as_texts(self.names, "names"))
        if not self.indices:
            msg = "no tracks are selected; at least one is needed"
            raise InputError(msg)
        if len(self.indices) != len(self.names):
            msg = f"{len(self.indices)} track indices, but {len(self.names)} names"
            raise InputError(msg)
        if min(self.indices) < 0:
            msg = f"track index {min(self.indices)} is negative; they count from 0"
            raise InputError(msg)
        for what, values in (("index", self.indices), ("name", self.names)):
            if repeated := _repeated(values):
                msg = f"track {what} given more than once: {first_few(repeated)}"
                raise InputError(msg)


def assay_ranges(organism: str) -> dict[str, range]:
    """Return where each assay lies in the published head of an organism.

    Parameters
    ----------
    organism : {"human", "mouse"}

    Returns
    -------
    dict of str to range
        Track indices of DNASE, ATAC, CHIP and CAGE, in the order of the output.

    Raises
    ------
    InputError
        If there is no published head for the organism.

    Examples
    --------
    >>> assay_ranges("human")["CAGE"]
    range(4675, 5313)
    """
    if organism not in _ASSAY_COUNTS:
        msg = f"no published head for organism {organism!r}; there are human and mouse"
        raise InputError(msg)
    ranges, start = {}, 0
    for assay, count in _ASSAY_COUNTS[organism].items():
        ranges[assay] = range(start, start + count)
        start += count
    return ranges


def read_tracks(path: str | PathLike[str]) -> pd.DataFrame:
    r"""Read a table of tracks, such as Basenji's ``targets_human.txt``.

    The file is tab separated, plain or gzipped, with a header line. It must list
    every track of one head, in the order of the output. The published mouse table
    goes on counting where the human one ends (5,313, with 1 in its column
    ``genome``); here the numbers of each head start at 0.

    Parameters
    ----------
    path : path
        The table. The columns ``index`` (or one without a name), ``identifier``
        and ``description`` are required.

    Returns
    -------
    DataFrame
        One row per track, in file order: ``index`` (int64, position in the head),
        ``identifier`` (unique), ``assay`` (text before the first ":" of the
        description, else ""), ``biosample`` (text after it), ``description``,
        ``mark`` (``CHIP:<mark>:<biosample>``, else ""), and ``clip``, ``scale``
        (float64), ``sum_stat`` where the file has them.

    Raises
    ------
    InputError
        If the file cannot be read, a column is missing, a line is malformed, the
        index has gaps, or an identifier is empty or repeats.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> lines = ["index\tidentifier\tdescription", "0\tENCFF1\tCHIP:CTCF:K562"]
    >>> file = pathlib.Path(tempfile.mkdtemp(), "targets.txt")
    >>> _ = file.write_text("\n".join(lines))
    >>> read_tracks(file).loc[0, ["assay", "mark", "biosample"]].tolist()
    ['CHIP', 'CTCF', 'K562']
    """
    path = as_path(path)
    raw, lines = _read_table(path)
    _check_identifiers(raw["identifier"], lines, path)
    table = pd.DataFrame(
        {
            "index": _head_index(raw, lines, path),
            "identifier": raw["identifier"],
            **_parse_descriptions(raw["description"]),
        }
    )
    for name in ("clip", "scale"):
        if name in raw:
            table[name] = _numbers(raw[name], lines, path)
    if "sum_stat" in raw:
        table["sum_stat"] = raw["sum_stat"]
    return table


def select_tracks(
    table: pd.DataFrame,
    *,
    index: int | Sequence[int] | None = None,
    identifier: str | Sequence[str] | None = None,
    assay: str | Sequence[str] | None = None,
    pattern: str | None = None,
) -> TrackSelection:
    """Choose the tracks that meet every criterion that is given.

    Parameters
    ----------
    table : DataFrame
        From :func:`read_tracks`.
    index : int or sequence of int, optional
        Positions in the head.
    identifier : str or sequence of str, optional
        Identifiers, as the table writes them.
    assay : str or sequence of str, optional
        Assays, in any case.
    pattern : str, optional
        Regular expression that is searched in the description, in any case.

    Returns
    -------
    TrackSelection
        In the order of the table, named by identifier.

    Raises
    ------
    InputError
        If a value is not in the table, or nothing meets all criteria.

    Examples
    --------
    >>> table = pd.DataFrame(
    ...     {
    ...         "index": [0, 1, 2],
    ...         "identifier": ["a", "b", "c"],
    ...         "assay": ["DNASE", "CAGE", "CAGE"],
    ...         "description": ["DNASE:liver", "CAGE:liver", "CAGE:brain"],
    ...     }
    ... )
    >>> select_tracks(table, assay="CAGE", pattern="liver")
    TrackSelection(indices=(1,), names=('b',))
    """
    chosen = np.ones(len(table), dtype=bool)
    counts: list[str] = []
    for name, mask in _masks(table, index, identifier, assay, pattern):
        chosen &= mask
        counts.append(f"{name} meets {int(mask.sum())}")
    if not chosen.any():
        msg = f"no track meets every criterion ({', '.join(counts)} of {len(table)})"
        raise InputError(msg + _similar_words(pattern, table["description"]))
    rows = table[chosen]
    return TrackSelection(tuple(rows["index"]), tuple(rows["identifier"]))


def resolve_tracks(tracks: object, *, organism: str, n_tracks: int) -> TrackSelection:
    """Turn what a user gives as ``tracks`` into indices and feature names.

    Parameters
    ----------
    tracks : None, int, sequence of int, str or TrackSelection
        None for all tracks; indices, in the order in which they are wanted; the
        name of an assay; or a selection from :func:`select_tracks`.
    organism : str
        The head, which also names tracks that have no identifier:
        ``human_0000``, ``human_0001``, ...
    n_tracks : int
        Number of tracks of the head.

    Returns
    -------
    TrackSelection

    Raises
    ------
    InputError
        If a track is out of range or repeats, or a name is no assay.
    InputTypeError
        If ``tracks`` is of another kind.

    Examples
    --------
    >>> resolve_tracks([7, 3], organism="human", n_tracks=5_313).names
    ('human_0007', 'human_0003')
    """
    if isinstance(tracks, TrackSelection):
        selection = tracks
    else:
        indices = _resolve_indices(tracks, organism, n_tracks)
        names = tuple(f"{organism}_{index:04d}" for index in indices)
        selection = TrackSelection(indices, names)
    if outside := [index for index in selection.indices if index >= n_tracks]:
        msg = (
            f"track index out of range: {first_few(outside)}; the {organism} head "
            f"has {n_tracks} tracks, 0 to {n_tracks - 1}"
        )
        raise InputError(msg)
    return selection


def _resolve_indices(tracks: object, organism: str, n_tracks: int) -> tuple[int, ...]:
    if tracks is None:
        return tuple(range(n_tracks))
    if isinstance(tracks, str):
        return tuple(_assay_range(tracks, organism, n_tracks))
    if isinstance(tracks, (bytes, set, frozenset, dict, Iterator)):
        msg = (
            f"tracks={tracks!r} is a {type(tracks).__name__}; expected None, an index, "
            "a list of indices, an assay, or what select_tracks returns"
        )
        raise InputTypeError(msg)
    if isinstance(tracks, Iterable) and getattr(tracks, "ndim", 1) > 0:
        tracks = tuple(tracks)
        if any(isinstance(item, str) for item in tracks):
            msg = (
                "tracks= takes indices or one assay; for identifiers or several "
                "assays give select_tracks(read_tracks(path), identifier=[...])"
            )
            raise InputError(msg)
    return _as_indices(tracks)


def _assay_range(assay: str, organism: str, n_tracks: int) -> range:
    published = _ASSAY_COUNTS.get(organism, {})
    if n_tracks != sum(published.values()):
        msg = (
            f"tracks={assay!r}: where an assay lies is known for the published "
            f"heads only, and this {organism} head has {n_tracks} tracks; give "
            "indices, or select_tracks(read_tracks(path), assay=...)"
        )
        raise InputError(msg)
    if assay.upper() not in published:
        msg = (
            f"tracks={assay!r} is no assay of the {organism} head "
            f"({', '.join(published)}){_similar(assay.upper(), published)}; for an "
            "identifier give select_tracks(read_tracks(path), identifier=...)"
        )
        raise InputError(msg)
    return assay_ranges(organism)[assay.upper()]


def _masks(
    table: pd.DataFrame,
    index: int | Sequence[int] | None,
    identifier: str | Sequence[str] | None,
    assay: str | Sequence[str] | None,
    pattern: str | None,
) -> Iterable[tuple[str, np.ndarray]]:
    """Yield (criterion, rows that meet it) for every criterion that is given."""
    if index is not None:
        wanted = _as_indices(index)
        yield "index", _known(table["index"], wanted, "index")
    if identifier is not None:
        names = _as_texts(identifier, "identifier")
        yield "identifier", _known(table["identifier"], names, "identifier")
    if assay is not None:
        assays = tuple(name.upper() for name in _as_texts(assay, "assay"))
        yield "assay", _known(table["assay"].str.upper(), assays, "assay")
    if pattern is not None:
        yield "pattern", _matches(table["description"], pattern)


def _known(
    column: pd.Series, wanted: tuple[int, ...] | tuple[str, ...], what: str
) -> np.ndarray:
    """Return the rows whose value is wanted; every wanted value must occur."""
    present = set(column)
    if unknown := [value for value in wanted if value not in present]:
        if what == "index":
            hint = f"; the table has {len(column)} tracks, 0 to {len(column) - 1}"
        else:
            hint = _similar(str(unknown[0]), present)
        msg = f"{what} not in the track table: {first_few(unknown)}{hint}"
        raise InputError(msg)
    return np.asarray(column.isin(wanted), dtype=bool)


def _matches(descriptions: pd.Series, pattern: str) -> np.ndarray:
    try:
        search = re.compile(pattern, re.IGNORECASE).search
    except (re.error, TypeError) as error:
        msg = (
            f"pattern={pattern!r} is not a regular expression: {error}; escape "
            "letters such as ( and + with re.escape"
        )
        raise InputError(msg) from error
    return np.array([search(text) is not None for text in descriptions], dtype=bool)


def _similar(wanted: str, known: Iterable[str]) -> str:
    """Return "; did you mean ..." or nothing."""
    close = difflib.get_close_matches(wanted, list(known), n=3)
    return f"; did you mean {', '.join(close)}?" if close else ""


def _similar_words(pattern: str | None, descriptions: pd.Series) -> str:
    if pattern is None:
        return ""
    words = set(re.findall(r"[\w-]+", " ".join(descriptions).lower()))
    return _similar(pattern.lower(), sorted(words))


def _as_indices(values: object) -> tuple[int, ...]:
    """Return an int, or integers of any kind, as plain ones."""
    if isinstance(values, np.ndarray) and values.ndim == 0:
        values = values.item()
    items = values if isinstance(values, Iterable) else (values,)
    indices = []
    for item in items:
        if isinstance(item, (bool, np.bool_)) or not isinstance(
            item, (int, np.integer)
        ):
            msg = f"track indices are integers, not {item!r} ({type(item).__name__})"
            raise InputTypeError(msg)
        indices.append(int(item))
    return tuple(indices)


def _as_texts(values: object, what: str) -> tuple[str, ...]:
    items = (values,) if isinstance(values, str) else values
    if not isinstance(items, Iterable):
        msg = f"{what} of tracks must be text, not {values!r}"
        raise InputTypeError(msg)
    texts = tuple(items)
    if wrong := [item for item in texts if not isinstance(item, str)]:
        msg = f"{what} of tracks must be text, not {first_few(wrong)}"
        raise InputTypeError(msg)
    return tuple(str(text) for text in texts)


def _repeated(values: Iterable[object]) -> list[object]:
    series = pd.Series(list(values), dtype=object)
    return list(series[series.duplicated()].unique())


def _read_table(path: Path) -> tuple[pd.DataFrame, list[int]]:
    """Return all columns as text, and the 1-based file line of each row."""
    header, *body = [line.split("\t") for line in _read_text(path).split("\n")]
    if header[0] == "":
        header[0] = "index"
    if missing := [name for name in _REQUIRED if name not in header]:
        msg = (
            f"{path}: no column {', '.join(missing)}; found {', '.join(header)} "
            f"(tab separated; required are {', '.join(_REQUIRED)})"
        )
        raise InputError(msg)
    rows, lines = [], []
    for line, fields in enumerate(body, start=2):
        if fields == [""]:
            continue
        if len(fields) != len(header):
            msg = f"{path}:{line}: {len(fields)} fields, the header has {len(header)}"
            raise InputError(msg)
        rows.append(fields)
        lines.append(line)
    if not rows:
        msg = f"{path}: 0 tracks"
        raise InputError(msg)
    return pd.DataFrame(rows, columns=header, dtype=object), lines


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
        if path.suffix == ".gz":
            data = gzip.decompress(data)
        return data.decode().replace("\r\n", "\n")
    except (OSError, EOFError, UnicodeDecodeError) as error:
        msg = f"{path} cannot be read as a track table: {error}"
        raise InputError(msg) from error


def _numbers(column: pd.Series, lines: list[int], path: Path) -> pd.Series:
    numbers = pd.to_numeric(column, errors="coerce").astype(np.float64)
    if (bad := np.flatnonzero(~np.isfinite(numbers))).size:
        row = bad[0]
        msg = f"{path}:{lines[row]}: {column.name} {column[row]!r} is not a number"
        raise InputError(msg)
    return numbers


def _head_index(raw: pd.DataFrame, lines: list[int], path: Path) -> np.ndarray:
    """Return the index counted from the head's first track."""
    index = _numbers(raw["index"], lines, path).to_numpy()
    start = index[0]
    if (gaps := np.flatnonzero(index != start + np.arange(len(index)))).size:
        row = gaps[0]
        msg = (
            f"{path}:{lines[row]}: track index {raw['index'][row]}, expected "
            f"{start + row:.0f}; a table lists all tracks of a head, in order"
        )
        raise InputError(msg)
    genomes = set(raw["genome"]) if "genome" in raw else {"0"}
    if len(genomes) > 1:
        msg = f"{path} holds the tracks of {len(genomes)} heads; give one file for each"
        raise InputError(msg)
    if start != 0 and genomes == {"0"}:
        msg = f"{path}:{lines[0]}: the first track index is {start:.0f}, expected 0"
        raise InputError(msg)
    return np.arange(len(index), dtype=np.int64)


def _check_identifiers(column: pd.Series, lines: list[int], path: Path) -> None:
    if (empty := np.flatnonzero(column == "")).size:
        msg = f"{path}:{lines[empty[0]]}: the identifier is empty"
        raise InputError(msg)
    if repeated := _repeated(column):
        msg = (
            f"{path}: identifiers that occur more than once: {first_few(repeated)}; "
            "features are named by identifier, so each must be unique"
        )
        raise InputError(msg)


def _parse_descriptions(descriptions: pd.Series) -> dict[str, pd.Series]:
    """Split ``ASSAY:biosample`` and ``CHIP:mark:biosample``."""
    parts = descriptions.str.partition(":")
    plain = parts[1] == ""
    assay = parts[0].where(~plain, "")
    sample = parts[2].where(~plain, descriptions)
    chip = sample.str.partition(":")
    is_chip = (assay == "CHIP") & (chip[1] != "")
    return {
        "assay": assay,
        "biosample": sample.where(~is_chip, chip[2]),
        "description": descriptions,
        "mark": chip[0].where(is_chip, ""),
    }
