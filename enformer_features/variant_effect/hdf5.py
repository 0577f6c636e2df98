"""The published layout of scores: one HDF5 file of variants by targets, in float16.

The released scores and the scripts of basenji differ in two names (``ref`` and ``alt``,
or ``ref_allele`` and ``alt_allele``); both are read. Positions are 1-based, as in VCF.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import (
    InputError,
    StoreError,
    VariantWarning,
    check_choice,
    first_few,
    warn,
)
from enformer_features.storage.files import atomic_write, check_output
from enformer_features.variant_effect.caution import caution_lines
from enformer_features.variant_effect.store import Floats, Scores, chunks_of

SPELLINGS = {"ref_allele": ("ref_allele", "alt_allele"), "ref": ("ref", "alt")}
DTYPES = ("float16", "float32")
_KEYS = ("snp", "chr", "pos", "target_ids", "target_labels")
_EXTRA = ("gene", "reason")
_TEXT_CHUNK = 65_536
LOST_SHARE = 0.01  # of the scores of a target, before a warning
_FLOAT32 = (
    "write .tsv.gz, .h5ad or .zarr, which hold float32 (in Python, write_sad_hdf5 can: "
    "dtype='float32')"
)


def write_sad_hdf5(
    path: str | PathLike[str],
    table: pd.DataFrame,
    scores: Scores,
    score_names: Sequence[str],
    targets: Sequence[str],
    *,
    target_labels: Sequence[str] | None = None,
    provenance: Mapping[str, Any] | None = None,
    allele_keys: str = "ref_allele",
    dtype: str = "float16",
    clip: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write scores in the layout of the released files.

    Parameters
    ----------
    path : path
    table : DataFrame, n_rows
        A variant table; ``gene`` and ``reason`` are written too where they are.
    scores : ScoreStore or ScoreArray
        Columns are every score with every target, score by score.
    score_names : sequence of str
        Names of the arrays: "SAD", "SAR", ...
    targets : sequence of str
    target_labels : sequence of str, optional
        Descriptions; the targets by default.
    provenance : mapping, optional
        Kept, with the caution, in the attributes of the file.
    allele_keys : {"ref_allele", "ref"}, default="ref_allele"
        As basenji, or as the released files, name the alleles.
    dtype : {"float16", "float32"}, default="float16"
        Of the scores.
    clip : bool, default=False
        Whether scores beyond the range of float16 (65,504) are set to its ends, as
        basenji does; otherwise they are an error.
    overwrite : bool, default=False

    Returns
    -------
    Path

    Raises
    ------
    InputError
        If the path cannot be used or the names do not fit.
    StoreError
        If a score is beyond the range of float16, or the file cannot be written.

    Warns
    -----
    VariantWarning
        If many scores are so small that float16 loses their digits.

    Examples
    --------
    >>> import tempfile
    >>> from enformer_features.variant_effect.store import ScoreArray
    >>> variants = pd.DataFrame(
    ...     {"chrom": ["chr6"], "pos": [9], "id": ["rs1"], "ref": ["A"], "alt": ["C"]}
    ... )
    >>> path = Path(tempfile.mkdtemp(), "sad.h5")
    >>> scores = ScoreArray([[0.5, -2.0]], [""])
    >>> _ = write_sad_hdf5(path, variants, scores, ["SAD"], ["liver", "lung"])
    >>> with read_sad_hdf5(path) as file:
    ...     file.variants["pos"].tolist(), file.SAD[0].tolist()
    ([9], [0.5, -2.0])
    """
    import h5py

    check_choice("allele_keys", allele_keys, tuple(SPELLINGS))
    check_choice("dtype", dtype, DTYPES)
    labels = list(targets) if target_labels is None else list(target_labels)
    if len(labels) != len(targets):
        msg = f"{len(labels)} target_labels for {len(targets)} targets"
        raise InputError(msg)
    target = check_output(path, overwrite=overwrite)
    size = len(table) * len(score_names) * len(targets) * np.dtype(dtype).itemsize
    reasons = scores.reasons()
    with (
        atomic_write(target, bytes_needed=size) as temporary,
        h5py.File(temporary, "w") as file,
    ):
        _write_table(file, table.assign(reason=reasons), SPELLINGS[allele_keys])
        file["target_ids"] = _as_bytes(pd.Series(list(targets)))
        file["target_labels"] = _as_bytes(pd.Series(labels))
        about = dict(provenance or {})
        file.attrs["caution"] = "\n".join(caution_lines(about))
        file.attrs["enformer_features_provenance"] = json.dumps(about, sort_keys=True)
        shape = (len(table), len(targets))
        arrays = [
            file.create_dataset(name, shape=shape, dtype=dtype) for name in score_names
        ]
        lost = _Lost(score_names, targets, dtype, clip=clip)
        for rows, values in scores.iterate():
            split = values.reshape(len(values), len(score_names), len(targets))
            kept = lost.rounded(split, rows.start)
            for number, array in enumerate(arrays):
                array[rows] = kept[:, number]
    lost.tell(target, of_bins=not about.get("head"))
    return target


class _Lost:
    """What rounding to float16 does to each column, over all chunks."""

    def __init__(
        self, scores: Sequence[str], targets: Sequence[str], dtype: str, *, clip: bool
    ) -> None:
        self._scores, self._targets = scores, targets
        self._dtype, self._clip = np.dtype(dtype), clip
        self._n_small = np.zeros((len(scores), len(targets)), dtype=np.int64)
        self._n_values = np.zeros_like(self._n_small)

    def rounded(self, values: Floats, first_row: int) -> npt.NDArray[Any]:
        """Return values of shape (rows, scores, targets) as they are written."""
        limits = np.finfo(self._dtype)
        size = np.abs(values)
        beyond = size > limits.max
        if beyond.any() and not self._clip:
            row, score, target = np.argwhere(beyond)[0].tolist()
            msg = (
                f"{self._scores[score]} of {self._targets[target]} is "
                f"{values[row, score, target]:g} in row {first_row + row}, beyond the "
                f"range of float16 ({float(limits.max):,.0f}): {_FLOAT32}, or, there, "
                "set such scores to the end of the range (clip=True)"
            )
            raise StoreError(msg)
        self._n_values += (size > 0).sum(axis=0)
        # below it float16 has fewer than 11 bits; from 8 units of the last on, some
        self._n_small += ((size > 0) & (size < 8 * limits.smallest_subnormal)).sum(0)
        kept = np.where(beyond, np.copysign(limits.max, values), values)
        return kept.astype(self._dtype)

    def tell(self, path: Path, *, of_bins: bool) -> None:
        """Warn of columns whose scores are too small; sums are for those of bins."""
        if self._dtype != np.float16:
            return
        many = self._n_small > LOST_SHARE * self._n_values
        if many.any():
            columns = [
                f"{self._scores[score]} of {self._targets[target]}"
                for score, target in np.argwhere(many).tolist()
            ]
            sums = "sum over bins (aggregate='sum'), or " if of_bins else ""
            msg = (
                f"{path}: float16 keeps hardly a digit of scores below 5e-7, as more "
                f"than {LOST_SHARE:.0%} are in {first_few(columns)}; {sums}{_FLOAT32}"
            )
            warn(msg, VariantWarning, stacklevel=4)


class SadFile:
    """An open file of scores, from :func:`read_sad_hdf5`.

    Scores are read where they are indexed, for instance ``file.SAD[:100]``.

    Attributes
    ----------
    path : Path
    variants : DataFrame
        chrom, pos (1-based), id, ref, alt; ``gene`` and ``reason`` if they are there.
    targets : DataFrame
        target_id, target_label.
    score_names : list of str
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = _open(path)
        try:
            self.variants = _variants(self._file, path)
            self.targets = _targets(self._file, path)
            self.score_names = self._found_scores()
        except BaseException:
            self._file.close()
            raise

    def __repr__(self) -> str:
        sizes = f"{len(self.variants)} variants, {len(self.targets)} targets"
        return f"SadFile({str(self.path)!r}, {sizes}, {', '.join(self.score_names)})"

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        self.close()

    def __getitem__(self, name: str) -> Any:
        """Return a score, which is read when it is indexed: rows by targets."""
        if name not in self.score_names:
            listed = ", ".join(self.score_names)
            msg = f"{self.path} has no score {name!r}; it has {listed}"
            raise InputError(msg)
        return self._file[name]

    @property
    def SAD(self) -> Any:
        """Differences of the alleles, alternative less reference."""
        return self["SAD"]

    @property
    def SAR(self) -> Any:
        """Differences of the logarithms."""
        return self["SAR"]

    @property
    def caution(self) -> str:
        """What the file says about its numbers; "" in published files."""
        return str(self._file.attrs.get("caution", ""))

    @property
    def provenance(self) -> dict[str, Any]:
        """How the scores came about; empty in published files."""
        record: dict[str, Any] = json.loads(
            self._file.attrs.get("enformer_features_provenance", "{}")
        )
        return record

    def chunks(self, name: str) -> Iterator[tuple[slice, npt.NDArray[Any]]]:
        """Yield rows of a score in memory, from the first to the last."""
        array = self[name]
        for rows in chunks_of(*array.shape):
            yield rows, array[rows]

    def close(self) -> None:
        """Give the file back."""
        self._file.close()

    def _found_scores(self) -> list[str]:
        shape = (len(self.variants), len(self.targets))
        found = [
            name
            for name, item in self._file.items()
            if getattr(item, "shape", None) == shape and item.dtype.kind == "f"
        ]
        if not found:
            msg = f"{self.path} has no scores of shape {shape} (variants, targets)"
            raise InputError(msg)
        return found


def read_sad_hdf5(path: str | PathLike[str]) -> SadFile:
    """Open scores in the published layout, ours or released ones.

    Parameters
    ----------
    path : path

    Returns
    -------
    SadFile
        A context manager; scores stay in the file until they are indexed.

    Raises
    ------
    InputError
        If it is no such file; what is missing is named.
    """
    return SadFile(Path(path).expanduser())


def _write_table(file: Any, table: pd.DataFrame, alleles: tuple[str, str]) -> None:
    names = {"snp": "id", "chr": "chrom", alleles[0]: "ref", alleles[1]: "alt"}
    names |= {name: name for name in _EXTRA if name in table}
    for key, name in names.items():
        _write_texts(file, key, table[name])
    file["pos"] = table["pos"].to_numpy().astype(np.uint32)


def _write_texts(file: Any, key: str, texts: pd.Series) -> None:
    """Write texts of one width, packed, so that one long allele costs little."""
    width = max((len(str(text).encode()) for text in texts), default=1) or 1
    array = file.create_dataset(
        key,
        shape=(len(texts),),
        dtype=f"S{width}",
        chunks=(min(_TEXT_CHUNK, max(1, len(texts))),) if len(texts) else None,
        compression="gzip" if len(texts) else None,
    )
    for start in range(0, len(texts), _TEXT_CHUNK):
        part = texts.iloc[start : start + _TEXT_CHUNK]
        array[start : start + len(part)] = _as_bytes(part)


def _as_bytes(texts: pd.Series) -> npt.NDArray[np.bytes_]:
    encoded = np.array([str(text).encode() for text in texts], dtype=np.bytes_)
    return encoded if len(encoded) else np.zeros(0, dtype="S1")


def _open(path: Path) -> Any:
    import h5py

    if not path.is_file():
        msg = f"there is no file {path}"
        raise InputError(msg)
    try:
        return h5py.File(path, "r")
    except OSError as error:
        msg = f"{path} is no HDF5 file, or is damaged: {error}"
        raise InputError(msg) from error


def _variants(file: Any, path: Path) -> pd.DataFrame:
    alleles = next((two for two in SPELLINGS.values() if {*two} <= file.keys()), None)
    missing = sorted({*_KEYS[:3]} - file.keys())
    if alleles is None:
        missing.append("ref_allele and alt_allele (or ref and alt)")
    if alleles is None or missing:
        msg = f"{path} is not in the layout of variant scores: no {', '.join(missing)}"
        raise InputError(msg)
    columns = {
        "chrom": _texts(file["chr"]),
        "pos": file["pos"][:].astype(np.int64),
        "id": _texts(file["snp"]),
        "ref": _texts(file[alleles[0]]),
        "alt": _texts(file[alleles[1]]),
    } | {name: _texts(file[name]) for name in _EXTRA if name in file}
    lengths = {name: len(column) for name, column in columns.items()}
    if len({*lengths.values()}) > 1:
        msg = f"{path}: columns of variants differ in length: {lengths}"
        raise InputError(msg)
    return pd.DataFrame(columns)


def _targets(file: Any, path: Path) -> pd.DataFrame:
    if "target_ids" not in file:
        msg = f"{path} is not in the layout of variant scores: no target_ids"
        raise InputError(msg)
    ids = _texts(file["target_ids"])
    labels = _texts(file["target_labels"]) if "target_labels" in file else ids
    return pd.DataFrame({"target_id": ids, "target_label": labels})


def _texts(array: Any) -> list[str]:
    return [
        item.decode() if isinstance(item, bytes) else str(item) for item in array[:]
    ]
