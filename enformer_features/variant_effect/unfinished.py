"""Outputs that a stopped command had begun: which of them are its own.

All scores of a job wait in a store beside the output until that is complete. What holds
scores of the same identity was then written by the command that goes on, and may be
replaced by it; all else is somebody's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

from enformer_features.exceptions import InputError, StoreError
from enformer_features.storage.export import UNS_KEY
from enformer_features.storage.store import open_store
from enformer_features.variant_effect.store import (
    IDENTITY_KEY,
    ScoringJob,
    differences,
    has_scores,
    partial_store,
    provenance_of,
    settings_of,
)

_LINE = "##enformer_features_provenance="


@dataclass(frozen=True)
class Begun:
    """Scores that a stopped command left beside its output.

    Parameters
    ----------
    folder : Path
    identity : str
        Of the job that was asked for.
    n_rows, n_done : int
        Of the store.
    is_finished : bool
        Whether all scores are there, and only outputs are missing.
    differences : tuple of str
        From the job that was asked for; empty when they are its own.
    """

    folder: Path
    identity: str
    n_rows: int
    n_done: int
    is_finished: bool
    differences: tuple[str, ...]

    @property
    def own_identity(self) -> str | None:
        """The identity of the job, if all its scores wait."""
        is_own = self.is_finished and not self.differences
        return self.identity if is_own else None


def begun_scores(
    out: str | PathLike[str], job: ScoringJob, inputs: Mapping[str, Any] | None = None
) -> Begun | None:
    """Return what is there of the scores of an output, finished or not.

    Parameters
    ----------
    out : path
        The output.
    job : VariantJob
    inputs : mapping, optional
        As :func:`~enformer_features.variant_effect.store.score_variants` has them.

    Returns
    -------
    Begun or None
        None where there is no store of scores.

    Examples
    --------
    >>> begun_scores("absent.tsv", None) is None
    True
    """
    try:
        store = open_store(partial_store(out))
        if not has_scores(store):
            return None
        status = store.status()
    except (StoreError, InputError):  # which score_variants tells
        return None
    identity = job.identity()
    settings = settings_of(job, identity)
    return Begun(
        folder=store.folder,
        identity=identity,
        n_rows=status.n_rows,
        n_done=status.n_rows_done,
        is_finished=store.is_finished,
        differences=tuple(differences(provenance_of(job, inputs), settings, store)),
    )


def kept_rows(out: str | PathLike[str]) -> tuple[int, int] | None:
    """Return how many rows of an output have scores that wait, and of how many.

    Returns
    -------
    (int, int) or None
        None where there is no store.
    """
    try:
        status = open_store(partial_store(out), unfinished=True).status()
    except (StoreError, InputError):
        return None
    return status.n_rows_done, status.n_rows


def holds_scores(path: str | PathLike[str], identity: str) -> bool:
    """Tell whether a file, or a folder in zarr format, holds scores of an identity.

    Parameters
    ----------
    path : path
        As :func:`~enformer_features.variant_effect.outputs.write_scores` or
        ``pca_tables`` write it, or anything else.
    identity : str

    Returns
    -------
    bool
        False also where it cannot be read.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "scores.tsv")
    >>> _ = path.write_text(_LINE + '{"scores_identity": "ab"}')
    >>> holds_scores(path, "ab"), holds_scores(path, "cd")
    (True, False)
    """
    file = Path(path)
    try:
        records = [json.loads(text) for text in _provenances(file)]
    except Exception:  # whatever a library makes of a file that is none of its own
        return False
    return any(record.get(IDENTITY_KEY) == identity for record in records)


def _provenances(path: Path) -> Iterator[str]:
    """Yield what a file says of itself; a VCF may say more than one thing."""
    if path.suffix == ".zarr":
        import zarr

        array = zarr.open_array(path / "uns" / UNS_KEY / "provenance_json", mode="r")
        yield str(array[()])
    elif path.suffix in {".h5", ".h5ad"}:
        import h5py

        with h5py.File(path, "r") as file:
            if path.suffix == ".h5":
                yield file.attrs["enformer_features_provenance"]
            else:
                yield file[f"uns/{UNS_KEY}/provenance_json"].asstr()[()]
    else:
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as lines:
            for line in lines:
                if not line.startswith("##"):
                    return
                if line.startswith(_LINE):
                    yield line.removeprefix(_LINE)
