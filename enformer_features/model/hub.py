"""Weights on the Hugging Face hub, and the digests that they had before."""

from __future__ import annotations

import json
import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from enformer_features.exceptions import WeightsError
from enformer_features.folders import user_cache_folder
from enformer_features.model.checkpoints import (
    CONFIG,
    PICKLE,
    SAFETENSORS,
    file_digest,
    replacing,
)

_log = logging.getLogger("enformer_features")


@dataclass(frozen=True)
class HubWeights:
    """Where weights are on the hub, and what is known of them.

    Parameters
    ----------
    repo_id : str
        ``"organisation/name"``.
    revision : str, optional
        A commit, tag or branch; the newest when left out.
    sha256 : str, optional
        Hexadecimal digest of the weights file, where somebody has verified it.
    """

    repo_id: str
    revision: str | None = None
    sha256: str | None = None

    @property
    def label(self) -> str:
        """The name under which a digest is recorded, ``org/name[@revision]``."""
        return f"{self.repo_id}@{self.revision}" if self.revision else self.repo_id


def fetch_weights(source: HubWeights) -> Path:
    """Return the weights file, downloaded if need be, and checked by its digest.

    Raises
    ------
    WeightsError
        When the hub cannot be reached and the file is not here, or when it is not
        the file that was verified, or first seen, under this name.
    """
    path = _download(source, (SAFETENSORS, PICKLE))
    digest, expected = file_digest(path), known_digest(source)
    if expected is None:
        _record(source, path, digest)
    elif digest != expected:
        raise WeightsError(_other_weights(source, path, digest, expected))
    return path


def fetch_config(source: HubWeights) -> Path:
    """Return the repository's ``config.json``, downloaded if need be."""
    return _download(source, (CONFIG,))


def local_weights(source: HubWeights) -> Path | None:
    """Return the weights file if it was downloaded before; asks no network."""
    found = (_cached(source, name) for name in (SAFETENSORS, PICKLE))
    return next((path for path in found if path), None)


def known_digest(source: HubWeights) -> str | None:
    """Return the digest that was verified, or else recorded at the first load."""
    if source.sha256:
        return f"sha256:{source.sha256}"
    entry = _read_records().get(source.label)
    return entry["digest"] if entry else None


def _cached(source: HubWeights, name: str) -> Path | None:
    from huggingface_hub import try_to_load_from_cache
    from huggingface_hub.errors import HFValidationError

    try:
        found = try_to_load_from_cache(source.repo_id, name, revision=source.revision)
    except HFValidationError:  # a name that no repository can have
        return None
    return Path(found) if isinstance(found, str) else None


def _download(source: HubWeights, names: tuple[str, ...]) -> Path:
    """Return the first of these files that is here or that the repository has.

    The client tries for half a minute to reach the hub for a file that is not here.
    So what is here is asked for first, and a hub out of reach is not asked again.
    """
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import EntryNotFoundError, LocalEntryNotFoundError

    failure: Exception | None = None
    for name in sorted(names, key=lambda name: _cached(source, name) is None):
        try:
            return Path(hf_hub_download(source.repo_id, name, revision=source.revision))
        except Exception as error:  # of many kinds: connection, access, names
            failure = error
            in_reach = not isinstance(error, LocalEntryNotFoundError)
            if not (in_reach and isinstance(error, EntryNotFoundError)):
                break
    raise WeightsError(_advice(source, names, failure)) from failure


def _advice(source: HubWeights, names: tuple[str, ...], error: object) -> str:
    folder = source.repo_id.split("/")[-1]
    revision = f" --revision {source.revision}" if source.revision else ""
    reason = str(error).strip().split("\n")[0]
    return (
        f"{source.label}: {' or '.join(names)} is not on this machine and could not be "
        f"had from the Hugging Face hub ({type(error).__name__}: {reason}). On a "
        f"machine with access run `hf download {source.repo_id}{revision} --local-dir "
        f"{folder}`, copy the folder here and pass weights='./{folder}' (there is no "
        f"{source.label} here, if that was meant as a path); or try the package with "
        "weights='untrained-tiny'"
    )


def _other_weights(source: HubWeights, path: Path, digest: str, expected: str) -> str:
    if source.sha256:
        return (
            f"{path} has the digest {digest}, but {source.label} is known to have "
            f"{expected}: the file is damaged or was exchanged; download it again"
        )
    return (
        f"{path} has the digest {digest}, but the file that was first loaded as "
        f"{source.label} had {expected}. If the change is meant, delete the entry "
        f"{source.label!r} from {records_file()}"
    )


def records_file() -> Path:
    """Return the file of the digests that weights had when they were first loaded.

    It is ``weights.json`` in :func:`~enformer_features.folders.user_cache_folder`.
    """
    return user_cache_folder() / "weights.json"


def _read_records() -> dict[str, Any]:
    path = records_file()
    try:
        records = json.loads(path.read_text("utf-8"))
    except OSError:  # not there, or not for us to read
        return {}
    except ValueError as error:
        msg = f"{path}, which keeps the digests of weights, is damaged: delete it"
        raise WeightsError(msg) from error
    if not isinstance(records, dict):
        msg = f"{path}, which keeps the digests of weights, is damaged: delete it"
        raise WeightsError(msg)
    return records


def _record(source: HubWeights, path: Path, digest: str) -> None:
    entry = {"digest": digest, "size": path.stat().st_size, "path": str(path)}
    _log.info(
        "%s: %d bytes in %s, %s; nobody has verified this digest, it is recorded in %s",
        *(source.label, entry["size"], path, digest, records_file()),
    )
    records = json.dumps({**_read_records(), source.label: entry}, indent=2)
    try:
        records_file().parent.mkdir(parents=True, exist_ok=True)
        with replacing(records_file()) as file:
            file.write_text(records + "\n", encoding="utf-8")
    except OSError as error:
        _log.info("the digest of %s could not be recorded: %s", source.label, error)
