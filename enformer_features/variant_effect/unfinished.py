"""Outputs that a stopped command had begun: which of them are its own.

All scores of a job wait in a store beside the output until that is complete. What holds
scores of the same identity was then written by the command that goes on, and may be
replaced by it; all else is somebody's.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator
from os import PathLike
from pathlib import Path

from enformer_features.exceptions import StoreError
from enformer_features.storage.export import UNS_KEY
from enformer_features.storage.store import open_store
from enformer_features.variant_effect.store import (
    IDENTITY_KEY,
    ScoringJob,
    partial_store,
)

_LINE = "##enformer_features_provenance="


def waiting_identity(out: str | PathLike[str], job: ScoringJob) -> str | None:
    """Return the identity of a job whose scores all wait beside an output.

    Parameters
    ----------
    out : path
        The output.
    job : VariantJob

    Returns
    -------
    str or None
        None where there is no finished store, or that of another job.

    Examples
    --------
    >>> waiting_identity("absent/scores.tsv", None) is None
    True
    """
    path = partial_store(out)
    if not path.is_dir():
        return None
    try:
        settings = open_store(path).plan.settings
    except StoreError:  # which score_variants tells
        return None
    identity = job.identity()
    return identity if settings.get("identity") == identity else None


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
