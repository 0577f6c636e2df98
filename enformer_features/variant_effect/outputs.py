"""Scores as files: tables, VCF, AnnData, and the published HDF5 layout.

The suffix decides. Each is written chunk by chunk, is whole or absent, has every row of
the variant table in its order, and says how far its numbers can be trusted.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.genomics.vcf import (
    InfoField,
    annotate_vcf,
    check_annotation,
    write_vcf,
)
from enformer_features.storage.files import atomic_write, check_output
from enformer_features.variant_effect.adata import check_folder, write_anndata
from enformer_features.variant_effect.caution import caution_lines, comment_lines
from enformer_features.variant_effect.hdf5 import write_sad_hdf5
from enformer_features.variant_effect.store import (
    IDENTITY_KEY,
    Floats,
    ScoreArray,
    Scores,
    ScoreStore,
    ScoringJob,
    provenance_of,
)
from enformer_features.variant_effect.tabix import (
    as_text,
    index,
    index_of,
    read_text,
    text_output,
)

TABLE_SUFFIXES, VCF_SUFFIXES = (".tsv", ".tsv.gz"), (".vcf", ".vcf.gz")
SUFFIXES = (*TABLE_SUFFIXES, *VCF_SUFFIXES, ".h5ad", ".zarr", ".h5")
MOST_INFO_FIELDS = 200  # one for each score and target
REASON_ID = "variant_effect_reason"
_FIRST = ("chrom", "pos", "id", "ref", "alt")

Value = str | float | int | None


class _Row(NamedTuple):
    """Scores of a row, and where they belong in the file it was read from."""

    record: int
    allele: int
    gene: str | None
    numbers: Floats
    reason: str


def suffix_of(path: object) -> str:
    """Return the suffix that decides what is written.

    Raises
    ------
    InputError, InputTypeError
        If it is none of those that can be written.

    Examples
    --------
    >>> suffix_of("scores.vcf.gz")
    '.vcf.gz'
    >>> suffix_of("scores.csv")
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputError: 'scores.csv' needs one of the suffixes \
.tsv, .tsv.gz, .vcf, .vcf.gz, .h5ad, .zarr, .h5
    """
    if not isinstance(path, (str, PathLike)):
        msg = f"path is {type(path).__name__}, expected a str or a pathlib.Path"
        raise InputTypeError(msg)
    name = Path(path).name
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    if not found:
        msg = f"{name!r} needs one of the suffixes {', '.join(SUFFIXES)}"
        raise InputError(msg)
    return found[0]


def check_scores_path(
    path: str | PathLike[str],
    job: ScoringJob | None = None,
    *,
    source: str | PathLike[str] | None = None,
    overwrite: bool = False,
) -> Path:
    """Refuse an output that cannot or must not be written, before any work.

    Parameters
    ----------
    path : path
    job : VariantJob, optional
        Once it is known: a VCF takes up to 200 fields, one for each score and target,
        under keys that are new, and rows in the order of the source, which is read as
        a whole.
    source : path, optional
        The VCF that is read, which cannot be the output.
    overwrite : bool, default=False
        Whether what is there may be replaced.

    Returns
    -------
    Path
        Absolute.

    Raises
    ------
    InputError, InputTypeError, StoreError
    """
    suffix = suffix_of(path)
    if job is not None and suffix in VCF_SUFFIXES:
        _check_n_fields(job)
        if source is not None:
            check_annotation(source, _fields(job), _places(job), overwrite=overwrite)
    if suffix == ".zarr":
        return check_folder(path, overwrite=overwrite)
    return check_output(path, overwrite=overwrite, inputs=[source] if source else [])


def write_scores(
    scores: ScoreStore | ScoreArray | npt.ArrayLike,
    job: ScoringJob,
    path: str | PathLike[str],
    *,
    source: str | PathLike[str] | None = None,
    inputs: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write scores beside their variants.

    Parameters
    ----------
    scores : ScoreStore, ScoreArray or array, shape (len(job), len(job.names))
        In the order of the variant table.
    job : VariantJob
        That they were computed by.
    path : path
        ``.tsv`` and ``.tsv.gz`` (bgzip with an index): the variant table, then a
        column for each score and target. ``.vcf`` and ``.vcf.gz``: an INFO field for
        each. ``.h5ad`` and ``.zarr``: see :func:`write_anndata`. ``.h5``: see
        :func:`write_sad_hdf5`.
    source : path, optional
        The VCF the variants were read from, of which every record and field is kept;
        without it, a VCF with nothing else is written.
    inputs : mapping, optional
        Files that were read, for the provenance; see
        :func:`~enformer_features.variant_effect.store.provenance_of`.
    overwrite : bool, default=False
        Whether what is there may be replaced, keys of INFO in `source` too.

    Returns
    -------
    Path
        What was written.

    Raises
    ------
    InputError, InputTypeError
        If the path cannot be used, the scores are of another shape, or a VCF would
        get more than 200 fields, one for each score and target.
    StoreError
        If it cannot be written; what was there before is then unchanged.

    Warns
    -----
    VariantWarning
        If a compressed table or VCF got no index, with the reason.
    """
    target = check_scores_path(path, source=source, overwrite=overwrite)
    given = _as_scores(scores, job)
    identity = given.identity if isinstance(given, ScoreStore) else job.identity()
    about = {**provenance_of(job, inputs), IDENTITY_KEY: identity}
    suffix = suffix_of(path)
    if suffix in TABLE_SUFFIXES:
        _write_table(given, job, target, about, overwrite=overwrite)
    elif suffix in VCF_SUFFIXES:
        _write_vcf(given, job, target, source, about, overwrite=overwrite)
    else:
        write = write_sad_hdf5 if suffix == ".h5" else write_anndata
        write(
            target,
            job.table,
            given,
            job.scores,
            job.targets,
            provenance=about,
            overwrite=overwrite,
        )
    return target


def read_scores(path: str | PathLike[str]) -> pd.DataFrame:
    """Read a table of scores that :func:`write_scores` wrote.

    Parameters
    ----------
    path : path
        ``.tsv`` or ``.tsv.gz``.

    Returns
    -------
    DataFrame
        The variant table, then the scores, float64; ``attrs["comments"]`` has caution
        and provenance.

    Raises
    ------
    InputError
        If it is no such table.
    """
    file = Path(path).expanduser()
    comments, table = read_text(file)
    if tuple(table.columns[:5]) != _FIRST:
        msg = f"{file} does not begin with the columns {', '.join(_FIRST)}"
        raise InputError(msg)
    table.attrs["comments"] = comments
    return table


def info_ids(names: Sequence[str]) -> list[str]:
    """Return names as a VCF takes them: letters, digits, "_" and ".", each once.

    Examples
    --------
    >>> info_ids(["SAD_CNhs10608", "SAD_T cell", "SAD_T-cell"])
    ['SAD_CNhs10608', 'SAD_T_cell', 'SAD_T_cell_2']
    """
    found: list[str] = []
    taken: set[str] = set()
    for name in names:
        plain = re.sub(r"[^0-9A-Za-z_.]", "_", name)
        plain = plain if re.match(r"[A-Za-z_]", plain) else f"_{plain}"
        numbered = (f"{plain}_{i}" for i in itertools.count(2))
        once = next(i for i in itertools.chain([plain], numbered) if i not in taken)
        taken.add(once)
        found.append(once)
    return found


def _as_scores(
    scores: ScoreStore | ScoreArray | npt.ArrayLike, job: ScoringJob
) -> Scores:
    expected = (len(job), len(job.names))
    if isinstance(scores, ScoreStore):
        shape: tuple[int, ...] = (len(scores), len(scores.names))
    else:
        if not isinstance(scores, ScoreArray):
            scores = ScoreArray(scores, job.table["reason"])
        shape = scores.values.shape
    if shape != expected:
        msg = f"scores have shape {shape}, the job has {expected} (rows, names)"
        raise InputError(msg)
    return scores


def _write_table(
    scores: Scores,
    job: ScoringJob,
    target: Path,
    about: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    table = job.table.assign(reason=scores.reasons()).reset_index(drop=True)
    table = table[[*_FIRST, *table.columns.drop([*_FIRST])]]
    with text_output(target, overwrite=overwrite) as write:
        write("".join(f"{line}\n" for line in comment_lines(about)))
        write("#" + "\t".join([*table.columns, *job.names]) + "\n")
        for rows, values in scores.iterate():
            numbers = pd.DataFrame(values, columns=job.names)
            left = table.iloc[rows].reset_index(drop=True)
            for text in as_text(pd.concat([left, numbers], axis=1)):
                write(text)
    if target.suffix == ".gz":
        index(target, table, stacklevel=5)


def _write_vcf(
    scores: Scores,
    job: ScoringJob,
    target: Path,
    source: str | PathLike[str] | None,
    about: dict[str, Any],
    *,
    overwrite: bool,
) -> None:
    _check_n_fields(job)
    fields, values = _fields(job), _rows(scores, job)
    record = {"provenance": json.dumps(about, sort_keys=True)}
    said: dict[str, Any] = {"caution": caution_lines(about), "provenance": record}
    compress = target.suffix == ".gz"
    with atomic_write(target) as temporary:
        if source is None:
            own = (_entries(fields, [row]) for row in values)
            write_vcf(temporary, job.table, fields, own, compress=compress, **said)
        else:
            annotate_vcf(
                source,
                temporary,
                fields,
                _by_allele(fields, values),
                overwrite=overwrite,
                compress=compress,
                **said,
            )
        index_of(target).unlink(missing_ok=True)
    if compress:
        index(target, job.table, preset="vcf", stacklevel=5)


def _check_n_fields(job: ScoringJob) -> None:
    n_fields = len(job.names)
    if n_fields > MOST_INFO_FIELDS:
        msg = (
            f"{n_fields:,} INFO fields ({len(job.scores)} scores x "
            f"{len(job.targets):,} targets) are too many for a VCF (at most "
            f"{MOST_INFO_FIELDS}): select tracks, or write .tsv.gz, .h5ad or .h5"
        )
        raise InputError(msg)


def _fields(job: ScoringJob) -> list[InfoField]:
    """Return the keys of scores, and last that of the reason."""
    has_genes = "gene" in job.table
    form = "; by gene, as gene|value&gene|value" if has_genes else ""
    scored = [(score, target) for score in job.scores for target in job.targets]
    ids = info_ids([f"{score}_{target}" for score, target in scored])
    fields = [
        InfoField(
            name,
            f"{score} of {target}, predicted{form}",
            "String" if has_genes else _type_of(score),
        )
        for name, (score, target) in zip(ids, scored, strict=True)
    ]
    return [*fields, InfoField(REASON_ID, "Why an allele has no score", "String")]


def _type_of(score: str) -> str:
    return "Integer" if score.endswith("_bin") else "Float"


def _places(job: ScoringJob) -> Iterator[tuple[int, int]]:
    """Yield record and allele of what is written; genes of one are neighbours."""
    keys = zip(job.table["record"].tolist(), job.table["allele"].tolist(), strict=True)
    return (key for key, _ in itertools.groupby(keys))


def _rows(scores: Scores, job: ScoringJob) -> Iterator[_Row]:
    table, reasons = job.table, scores.reasons()
    records, alleles = table["record"].tolist(), table["allele"].tolist()
    genes = table["gene"].tolist() if "gene" in table else [None] * len(table)
    for rows, values in scores.iterate():
        for row, numbers in zip(range(rows.start, rows.stop), values, strict=True):
            gene = None if genes[row] is None else re.sub(r"[|&]", "_", str(genes[row]))
            reason = str(reasons[row]).partition(":")[0]  # in few words
            yield _Row(records[row], alleles[row], gene, numbers, reason)


def _by_allele(
    fields: list[InfoField], rows: Iterator[_Row]
) -> Iterator[tuple[int, int, dict[str, Value]]]:
    """Yield what is written for each allele; genes of one variant are neighbours."""
    for (record, allele), group in itertools.groupby(rows, lambda row: row[:2]):
        yield record, allele, _entries(fields, list(group))


def _entries(fields: list[InfoField], rows: list[_Row]) -> dict[str, Value]:
    """Return the values of an allele by their keys."""
    if rows[0].gene is None:
        values: list[Value] = [*rows[0].numbers.tolist(), rows[0].reason]
    else:
        texts = [_as_texts(fields, row) for row in rows]
        values = ["&".join(filter(None, column)) for column in zip(*texts, strict=True)]
    return dict(zip([field.id for field in fields], values, strict=True))


def _as_texts(fields: list[InfoField], row: _Row) -> list[str]:
    """Return the values of one gene with its name in front; "" for none."""
    numbers = [str(number).removesuffix(".0") for number in row.numbers]
    texts = ["" if number == "nan" else number for number in numbers]
    return [f"{row.gene}|{text}" if text else "" for text in [*texts, row.reason]]
