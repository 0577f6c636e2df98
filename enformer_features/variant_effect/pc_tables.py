"""Components by chromosome: the layout of the published PC20 tables.

A folder with one ``chr{..}.tsv.gz`` per chromosome (bgzip, tabix index), header
``#CHROM POS ID REF ALT PC0 .. PC19``, positions 1-based.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, first_few
from enformer_features.storage.files import (
    check_output,
    flush_folder,
    hidden_sibling,
    rename,
)
from enformer_features.variant_effect.caution import comment_lines
from enformer_features.variant_effect.pca import VariantPCA
from enformer_features.variant_effect.store import ScoreStore
from enformer_features.variant_effect.tabix import (
    as_text,
    index,
    index_of,
    read_head,
    read_text,
    text_output,
)

KEYS = ("chrom", "pos", "id", "ref", "alt")
HEADER = ("#CHROM", "POS", "ID", "REF", "ALT")
FIT_ROWS, FIT_BYTES = 50_000, 512_000_000  # of what components are fitted on


def write_pc_tables(
    folder: str | PathLike[str],
    table: pd.DataFrame,
    components: npt.ArrayLike,
    *,
    provenance: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> list[Path]:
    """Write components to one table per chromosome, with an index each.

    Parameters
    ----------
    folder : path
        Made if it is absent; the folder around it must be there.
    table : DataFrame
        A variant table: chrom, pos (1-based), id, ref, alt.
    components : array, shape (n_rows, n_components)
        In the order of the table; rows of NaN are written as such.
    provenance : mapping, optional
        Of the scores; stands above the header, below the caution, which depends on
        the weights it names.
    overwrite : bool, default=False
        Whether tables that are there may be replaced. Those of other chromosomes,
        whose components are of another fit, are then removed, if this package wrote
        them; other files stay.

    Returns
    -------
    list of Path
        The tables. Within one, rows are sorted by position, so that it can be indexed.

    Raises
    ------
    InputError
        If shapes differ, a file is there, or two contigs would share a name; with
        `overwrite`, if tables of components by others are there.
    StoreError
        If a file cannot be written.

    Examples
    --------
    >>> import tempfile, warnings
    >>> warnings.simplefilter("ignore")  # of an index, without pysam
    >>> variants = pd.DataFrame(
    ...     {"chrom": "6", "pos": [9, 4], "id": ".", "ref": "A", "alt": "C"}
    ... )
    >>> path = Path(tempfile.mkdtemp(), "pc2")
    >>> write_pc_tables(path, variants, [[0.5, 1.0], [0.25, 2.0]])[0].name
    'chr6.tsv.gz'
    >>> read_pc_tables(path)[["pos", "pc0", "pc1"]].values.tolist()
    [[4.0, 0.25, 2.0], [9.0, 0.5, 1.0]]
    """
    values = np.asarray(components, dtype=np.float32)
    if values.ndim != 2 or len(values) != len(table):
        msg = f"components have shape {values.shape}, the table has {len(table)} rows"
        raise InputError(msg)
    folder = Path(folder).expanduser()
    files = _file_names(pd.unique(table["chrom"]).tolist())
    if not folder.parent.is_dir():
        msg = f"there is no folder {folder.parent} for {folder.name}"
        raise InputError(msg)
    old = _replaced(folder, {*files.values()}) if overwrite else []
    if folder.exists():
        for name in files.values():
            check_output(folder / name, overwrite=overwrite)
    aside = hidden_sibling(folder, ".partial")  # so that no two fits are ever mixed
    aside.mkdir()
    try:
        parts = {
            name: _write_table(aside / name, table, values, chrom, provenance)
            for chrom, name in files.items()
        }
        folder.mkdir(exist_ok=True)
        for file in old:
            file.unlink()
            index_of(file).unlink(missing_ok=True)
        for name in parts:
            rename(aside / name, folder / name)
        flush_folder(folder)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for name, part in parts.items():
        index(folder / name, part)
    return [folder / name for name in parts]


def _write_table(
    file: Path,
    table: pd.DataFrame,
    values: npt.NDArray[np.float32],
    chrom: str,
    provenance: Mapping[str, Any] | None,
) -> pd.DataFrame:
    """Write the rows of a chromosome by position, and return their variants."""
    rows = np.flatnonzero((table["chrom"] == chrom).to_numpy())
    rows = rows[np.argsort(table["pos"].to_numpy()[rows], kind="stable")]
    part = table[list(KEYS)].iloc[rows].reset_index(drop=True)
    names = [f"PC{i}" for i in range(values.shape[1])]
    numbers = pd.DataFrame(values[rows], columns=names)
    with text_output(file) as write:
        write("".join(f"{line}\n" for line in comment_lines(provenance or {})))
        write("\t".join([*HEADER, *names]) + "\n")
        for text in as_text(pd.concat([part, numbers], axis=1)):
            write(text)
    return part


def _replaced(folder: Path, names: set[str]) -> list[Path]:
    """Return the tables that go: those of the names, and ours of any other."""
    old = [folder / name for name in sorted(names) if (folder / name).is_file()]
    foreign: list[Path] = []
    for file in _tables_in(folder):
        comments, header = _head(file)
        is_table = tuple(header[:5]) == HEADER and "PC" in "".join(header[5:6]).upper()
        if file.name in names or not is_table:
            continue
        is_ours = any(line.startswith("##enformer_features_") for line in comments)
        (old if is_ours else foreign).append(file)
    if foreign:
        found = first_few([file.name for file in foreign])
        msg = f"{folder} has tables of components by others: {found}; give a new folder"
        raise InputError(msg)
    return old


def _tables_in(folder: Path) -> list[Path]:
    return sorted([*folder.glob("*.tsv.gz"), *folder.glob("*.tsv")])


def _head(file: Path) -> tuple[list[str], list[str]]:
    """Return comments and names of columns of a table; none of another file."""
    try:
        return read_head(file)
    except InputError:
        return [], []


def read_pc_tables(path: str | PathLike[str]) -> pd.DataFrame:
    """Read tables of components, ours or published ones.

    Parameters
    ----------
    path : path
        A table, or a folder of tables named ``*.tsv.gz`` or ``*.tsv``.

    Returns
    -------
    DataFrame
        chrom, pos (1-based), id, ref, alt, and ``pc0`` onwards, whether the file
        counts them from 0 or from 1; of a folder, files in the order of their names.

    Raises
    ------
    InputError
        If there is none, or the columns are others.
    """
    given = Path(path).expanduser()
    files = [given]
    if given.is_dir():
        files = _tables_in(given)
    if not files or not files[0].is_file():
        msg = f"there are no tables of components at {given}"
        raise InputError(msg)
    return pd.concat([_read_table(file) for file in files], ignore_index=True)


def pca_tables(
    scores: ScoreStore,
    folder: str | PathLike[str],
    *,
    score: str | None = None,
    n_components: int = 20,
    overwrite: bool = False,
) -> VariantPCA:
    """Fit components on a store of scores, and write them for each of its variants.

    Caution and provenance of the scores stand above each table.

    Parameters
    ----------
    scores : ScoreStore
    folder : path
        As for :func:`write_pc_tables`.
    score : str, optional
        Which of several; the first by default.
    n_components : int, default=20
    overwrite : bool, default=False
        As for :func:`write_pc_tables`.

    Returns
    -------
    VariantPCA
        Fitted on all rows or, of more than 50,000 or 512 MB of the score, on so many
        that are evenly spaced.

    Raises
    ------
    InputError
        If there is no such score, or there are too few rows or targets.
    """
    columns = _columns_of(scores, score)
    usable = np.flatnonzero(scores.reasons() == "")
    most = min(FIT_ROWS, FIT_BYTES // (4 * len(scores.targets)))
    step = -(-len(usable) // max(most, n_components)) or 1
    pca = VariantPCA(n_components).fit(scores.read(usable[::step], columns))
    parts = [pca.transform(values[:, columns]) for _, values in scores.iterate()]
    write_pc_tables(
        folder,
        scores.table(),
        np.concatenate(parts),
        provenance=scores.provenance,
        overwrite=overwrite,
    )
    return pca


def _columns_of(scores: ScoreStore, score: str | None) -> slice:
    names, n_targets = scores.scores, len(scores.targets)
    if score is not None and score not in names:
        msg = f"score={score!r} is not in the store; it has {', '.join(names)}"
        raise InputError(msg)
    first = 0 if score is None else names.index(score) * n_targets
    return slice(first, first + n_targets)


def _file_names(chroms: list[str]) -> dict[str, str]:
    """Return the files of contigs: ``chr`` in front, no letters a system refuses."""
    plain = {chrom: re.sub(r"[^\w.\-]", "_", chrom) for chrom in chroms}
    files = {
        chrom: f"{'' if name.startswith('chr') else 'chr'}{name}.tsv.gz"
        for chrom, name in plain.items()
    }
    if len({*files.values()}) < len(files):
        msg = f"contigs {first_few(chroms)} would share files; name each in one way"
        raise InputError(msg)
    return files


def _read_table(file: Path) -> pd.DataFrame:
    table = read_text(file)[1]
    names = [str(name).upper() for name in table.columns]
    if names[:5] != [name.removeprefix("#") for name in HEADER]:
        msg = f"{file} begins with columns {first_few(names)}, expected {HEADER}"
        raise InputError(msg)
    numbers = [name.removeprefix("PC") for name in names[5:]]
    counted = [str(i) for i in range(len(numbers) + 1)]
    if not numbers or numbers not in (counted[:-1], counted[1:]):
        msg = f"{file} has columns {first_few(names[5:])}, expected PC0, PC1 and so on"
        raise InputError(msg)
    return table.set_axis([*KEYS, *(f"pc{i}" for i in range(len(numbers)))], axis=1)
