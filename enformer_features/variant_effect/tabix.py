"""Tables as text: plain, or in blocks (bgzip) with a tabix index beside."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any, TextIO, cast

import pandas as pd
from Bio import bgzf

from enformer_features.exceptions import (
    InputError,
    StoreError,
    VariantWarning,
    warn,
)
from enformer_features.storage.files import atomic_write, check_output

LAST_POSITION = 1 << 29  # of what a .tbi can index
INDEX = ".tbi"
PIECE_CELLS = 100_000  # what compresses into blocks copies a piece for each block
_TEXT = {"chrom", "id", "ref", "alt", "reason", "gene", "strand", "kind"}
_TEXT |= {"norm_ref", "norm_alt", "read_strand"}


@contextmanager
def text_output(
    path: str | PathLike[str], *, overwrite: bool = False
) -> Iterator[Callable[[str], None]]:
    r"""Give what writes text to a file that is whole or, on failure, as it was.

    Parameters
    ----------
    path : path
        bgzip when it ends in ``.gz``; an index of an older file is removed.
    overwrite : bool, default=False

    Yields
    ------
    callable
        Takes text.

    Raises
    ------
    InputError, InputTypeError, StoreError
        As :func:`~enformer_features.storage.files.check_output` and ``atomic_write``.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "table.tsv.gz")
    >>> with text_output(path) as write:
    ...     write("#CHROM\tPOS\n")
    >>> gzip.decompress(path.read_bytes())
    b'#CHROM\tPOS\n'
    """
    target = check_output(path, overwrite=overwrite)
    with atomic_write(target) as temporary:
        with temporary.open("wb") as raw:
            if target.suffix == ".gz":
                blocks: Any = bgzf.BgzfWriter(fileobj=raw, mode="wb")  # type: ignore[no-untyped-call]
                yield _encoder(blocks.write)
                blocks.close()  # with the block that ends a file
            else:
                yield _encoder(raw.write)
        index_of(target).unlink(missing_ok=True)


def _encoder(write: Callable[[bytes], object]) -> Callable[[str], None]:
    def encoded(text: str) -> None:
        write(text.encode())

    return encoded


def as_text(lines: pd.DataFrame) -> Iterator[str]:
    r"""Yield rows as tab-separated text, in pieces; float32 by their shortest digits.

    Examples
    --------
    >>> table = pd.DataFrame({"id": ["rs1"], "a": pd.Series([0.1], dtype="float32")})
    >>> list(as_text(table))
    ['rs1\t0.1\n']
    """
    size = max(1, PIECE_CELLS // max(1, lines.shape[1]))
    for start in range(0, len(lines), size):
        yield lines.iloc[start : start + size].to_csv(
            sep="\t", header=False, index=False, na_rep="NaN", lineterminator="\n"
        )


def read_text(path: Path) -> tuple[list[str], pd.DataFrame]:
    """Read a table whose header is the first line without ``##``.

    Parameters
    ----------
    path : Path
        Compressed if it ends in ``.gz``.

    Returns
    -------
    comments : list of str
        The lines above the header, without line ends.
    table : DataFrame
        Without the "#" in front of its first name. Columns of the variant table that
        hold text stay text, "NA" and "." too.

    Raises
    ------
    InputError
        If it is empty, or no such table.
    """
    with _readable(path) as file:
        comments, header = _take_head(file)
        names = [header[0].removeprefix("#"), *header[1:]]
        numbers = [name for name in names if name.lower() not in _TEXT]
        table = pd.read_csv(
            file,
            sep="\t",
            names=names,
            dtype={name: str for name in names if name not in numbers},
            keep_default_na=False,
            na_values={name: ["NaN"] for name in numbers},
            float_precision="round_trip",
        )
    return comments, table


def read_head(path: Path) -> tuple[list[str], list[str]]:
    """Read the lines above the header of a table, and the names in it.

    Raises
    ------
    InputError
        If it is empty, or no text.
    """
    with _readable(path) as file:
        return _take_head(file)


@contextmanager
def _readable(path: Path) -> Iterator[TextIO]:
    try:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            yield cast(TextIO, file)
    except (OSError, EOFError, UnicodeDecodeError, ValueError) as error:
        msg = f"{path} cannot be read as a table of variants: {error}"
        raise InputError(msg) from error


def _take_head(file: TextIO) -> tuple[list[str], list[str]]:
    comments: list[str] = []
    while (line := file.readline()).startswith("##"):
        comments.append(line.rstrip("\n"))
    if not line:
        msg = "it has no header"
        raise ValueError(msg)
    return comments, line.rstrip("\n").split("\t")


def index_of(path: Path) -> Path:
    """Return where the index of a file is.

    Examples
    --------
    >>> index_of(Path("scores.tsv.gz")).name
    'scores.tsv.gz.tbi'
    """
    return path.with_name(path.name + INDEX)


def is_sorted(table: pd.DataFrame) -> bool:
    """Tell whether a table can be indexed: contigs in one piece, positions ascending.

    Examples
    --------
    >>> is_sorted(pd.DataFrame({"chrom": ["2", "2", "1"], "pos": [5, 5, 1]}))
    True
    >>> is_sorted(pd.DataFrame({"chrom": ["1", "2", "1"], "pos": [1, 1, 2]}))
    False
    """
    chrom = pd.Series(pd.factorize(table["chrom"])[0])
    pos = pd.Series(table["pos"].to_numpy())
    is_new = chrom.diff() != 0
    in_pieces = int(is_new.sum()) > chrom.nunique()
    return not in_pieces and not ((pos.diff() < 0) & ~is_new).any()


def index(
    path: Path, table: pd.DataFrame, *, preset: str = "table", stacklevel: int = 3
) -> bool:
    """Write the tabix index of a file in blocks, or warn why it has none.

    Parameters
    ----------
    path : Path
        Contig and 1-based position in its first two columns; comments begin with "#".
    table : DataFrame
        Its rows: ``chrom``, and ``pos`` as in the file.
    preset : {"table", "vcf"}
        Whether a row ends where it begins, or with its reference allele.
    stacklevel : int
        Of the warning.

    Returns
    -------
    bool
        Whether there is one.
    """
    reason = _obstacle(table)
    if not reason:
        try:
            _index(path, preset)
        except StoreError as error:
            reason = str(error)
    if reason:
        msg = f"{path} is compressed in blocks (bgzip), but has no index: {reason}"
        warn(msg, VariantWarning, stacklevel)
    return not reason


def _index(path: Path, preset: str) -> None:
    import pysam

    columns: dict[str, Any] = {"seq_col": 0, "start_col": 1, "end_col": 1}
    if preset == "vcf":
        columns = {"preset": "vcf"}
    with atomic_write(index_of(path)) as temporary:
        pysam.tabix_index(str(path), index=str(temporary), force=True, **columns)


def _obstacle(table: pd.DataFrame) -> str:
    if not is_sorted(table):
        return "its rows are not sorted by contig and position, and keep their order"
    if len(table) and int(table["pos"].max()) >= LAST_POSITION:
        return f"a .tbi ends at position {LAST_POSITION:,}"
    try:
        import pysam  # noqa: F401
    except ImportError:
        return "that needs pysam (pip install 'enformer-features[vcf]')"
    return ""
