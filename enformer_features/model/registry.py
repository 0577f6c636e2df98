"""From what a user calls weights to a network that is ready to run.

Weights are a name (``"enformer"``, ``"untrained-tiny"``), a path, the id of a
repository on the Hugging Face hub (``"org/name"``, ``"org/name@revision"``), or a
:class:`ModelHandle`. Nothing here falls back to anything: either the weights that
were asked for are loaded, or an error says why not.
"""

from __future__ import annotations

import difflib
import os
import re
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from enformer_features.exceptions import (
    InputTypeError,
    SmallNetworkWarning,
    UntrainedWeightsWarning,
    WeightsError,
    warn,
)
from enformer_features.locks import ThreadLock
from enformer_features.model import hub
from enformer_features.model.checkpoints import (
    PICKLE_SUFFIXES,
    build,
    file_digest,
    find_files,
    read_checkpoint,
    read_config,
    read_config_file,
)
from enformer_features.model.config import EnformerConfig
from enformer_features.model.enformer import Enformer
from enformer_features.model.handle import ModelHandle
from enformer_features.model.hub import HubWeights
from enformer_features.model.tensor_bundle import INDEX_SUFFIX
from enformer_features.model.untrained import untrained_digest, untrained_network

__all__ = [
    "BUNDLED",
    "PUBLISHED",
    "UNTRAINED",
    "LoadedModel",
    "ModelHandle",
    "Weights",
    "check_weights_argument",
    "clear_loaded",
    "known_digest",
    "load_weights",
    "warn_about",
    "weights_config",
    "weights_digest",
]

Weights = str | os.PathLike[str] | ModelHandle

UNTRAINED = {
    "untrained": EnformerConfig(),
    "untrained-tiny": EnformerConfig(
        dim=96, depth=2, heads=4, attn_dim_key=24, dim_divisible_by=16
    ),
}
# The digest is unknown to us: it is recorded at the first load and compared later.
PUBLISHED = {"enformer": HubWeights("EleutherAI/enformer-official-rough")}

# Networks that come with the package, each a folder with its record and its tracks.
BUNDLED = {"mini": Path(__file__).parent / "bundled" / "mini"}
_TOLD: set[str] = set()  # what was said about bundled networks, once per process

MAX_LOADED = 2
_HUB_ID = re.compile(r"(\w[\w.-]*/\w[\w.-]*)(?:@([\w./-]+))?")
_LOADED: OrderedDict[tuple[str, str, str], Enformer] = OrderedDict()
_LOCK = ThreadLock()


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to run.

    Attributes
    ----------
    module : Enformer
        In evaluation mode, on its device, without gradients for its parameters. It
        is shared by all who load the same weights: do not change it.
    config : EnformerConfig
    digest : str
        ``"sha256:..."``, or ``"untrained:..."``.
    name : str
        What the weights were called.
    trained : bool
        False for random weights.
    """

    module: Enformer
    config: EnformerConfig
    digest: str
    name: str
    trained: bool


def check_weights_argument(weights: object) -> None:
    """Refuse what cannot be weights; reads no file and asks no network.

    Raises
    ------
    WeightsError
        When a name is not known; the message has the nearest and all names.
    InputTypeError
        When it is neither a string, a path, nor a :class:`ModelHandle`.

    Examples
    --------
    >>> check_weights_argument("untrained-tiny")
    >>> check_weights_argument("enfromer")
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.WeightsError: weights='enfromer' is not known; did \
you mean 'enformer'? Give 'enformer', 'mini', 'untrained', 'untrained-tiny', a path \
(./folder), a hub id (org/name), or a ModelHandle
    """
    resolve(weights)


def weights_config(weights: Weights) -> EnformerConfig:
    """Return the sizes of a network, without its arrays.

    Parameters
    ----------
    weights : str, path-like or ModelHandle
        A known name needs no file; a path is asked for its ``config.json``, or for
        the shapes in its header; of a hub repository only ``config.json`` is fetched.

    Examples
    --------
    >>> weights_config("enformer").embedding_dim
    3072
    """
    return resolve(weights).config


def weights_digest(weights: Weights) -> str:
    """Return the identity of weights.

    Returns
    -------
    str
        ``"sha256:<hex>"`` of the weights file (of all files of a TensorFlow checkpoint,
        its index first), remembered while it stays as it is; of a hub repository the
        digest that its file had when it was first loaded, with which every load
        compares; of a :class:`ModelHandle` its digest;
        ``"untrained:<hex>"`` for the untrained names.
    """
    with _LOCK:
        return resolve(weights).digest


def known_digest(weights: Weights) -> str | None:
    """Return the identity of weights, if it can be told without a download.

    Parameters
    ----------
    weights : str, path-like or ModelHandle

    Returns
    -------
    str or None
        As :func:`weights_digest`; None for weights of the hub that were never loaded.

    Examples
    --------
    >>> known_digest("untrained-tiny")[:14]
    'untrained:40ab'
    """
    source = resolve(weights)
    if isinstance(source, HubSource):
        return hub.known_digest(source.entry)
    with _LOCK:
        return source.digest


def load_weights(weights: Weights, device: str | torch.device = "cpu") -> LoadedModel:
    """Load a network, or give the one that this process has loaded already.

    Parameters
    ----------
    weights : str, path-like or ModelHandle
        ``"enformer"`` (official), ``"untrained"``, ``"untrained-tiny"``, a path (a
        folder, a weights file, or a TensorFlow checkpoint), a hub id ``"org/name"`` or
        ``"org/name@revision"``, or a network in memory. Our names go first, then
        existing paths; ``./x``, ``~/x`` and names of weights files are always paths.
    device : str or torch.device, default="cpu"

    Returns
    -------
    LoadedModel
        The two that were used last are kept in memory; see :func:`clear_loaded`.

    Raises
    ------
    WeightsError
        When the weights are unknown, out of reach, damaged, incomplete, or not those
        that had this name before.

    Warns
    -----
    UntrainedWeightsWarning
        At every load of random weights.
    SmallNetworkWarning
        At the first load of a bundled network.
    """
    warn_about(weights)
    source = resolve(weights)
    with _LOCK:
        digest = source.digest
        key = digest, source.config.to_json(), str(torch.device(device))
        module = _LOADED.pop(key, None) or _ready(source, key[-1])
        if source.digest != digest:
            msg = f"weights={source.name!r} changed while they were loaded; load again"
            raise WeightsError(msg)
        _LOADED[key] = module
        while len(_LOADED) > MAX_LOADED:
            _LOADED.popitem(last=False)
    return LoadedModel(module, module.config, digest, source.name, source.trained)


def warn_about(weights: Weights) -> None:
    """Warn when the weights are random or small, whether or not anything is loaded.

    Warns
    -----
    UntrainedWeightsWarning
        Each time.
    SmallNetworkWarning
        Once per process.
    """
    source = resolve(weights)
    if not source.trained:
        msg = f"weights={source.name!r} are random: the numbers mean nothing biological"
        warn(msg, UntrainedWeightsWarning, stacklevel=4)
    if source.name in BUNDLED and source.name not in _TOLD:
        _TOLD.add(source.name)
        msg = (
            f"weights={source.name!r} are a small network, trained on three megabases "
            "for trying things out; it is not Enformer"
        )
        warn(msg, SmallNetworkWarning, stacklevel=4)


def clear_loaded() -> None:
    """Let go of the networks that are kept in memory."""
    with _LOCK:
        _LOADED.clear()


def _ready(source: Source, device: str) -> Enformer:
    return source.network().to(device).eval().requires_grad_(False)


class Source(Protocol):
    """One kind of weights: what they are called, what they are, how to get them."""

    @property
    def name(self) -> str:
        """What they are called."""

    @property
    def trained(self) -> bool:
        """False for random weights."""

    @property
    def config(self) -> EnformerConfig:
        """The sizes of the network, without its arrays."""

    @property
    def digest(self) -> str:
        """The identity."""

    def network(self) -> Enformer:
        """Make the network, on the CPU."""


class _Untrained:
    trained = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.config = UNTRAINED[name]
        self.digest = untrained_digest(self.config)

    def network(self) -> Enformer:
        return untrained_network(self.config)


class FileSource:
    """Weights in a file or folder."""

    trained = True

    def __init__(self, path: Path, name: str | None = None) -> None:
        self.name = name or str(path)
        self.path = path

    @property
    def config(self) -> EnformerConfig:
        """The sizes, from ``config.json`` or the header."""
        return read_config(self.path)

    @property
    def digest(self) -> str:
        """The digest of the file."""
        return file_digest(find_files(self.path)[0])

    def network(self) -> Enformer:
        """Read and check the file."""
        return build(read_checkpoint(self.path))


class HubSource:
    """Weights on the hub."""

    trained = True

    def __init__(self, entry: HubWeights, name: str) -> None:
        self.name = name
        self.entry = entry

    @property
    def config(self) -> EnformerConfig:
        """The published sizes, or those of the repository's ``config.json``."""
        if self.name in PUBLISHED:
            return EnformerConfig()
        return read_config_file(hub.fetch_config(self.entry))

    @property
    def digest(self) -> str:
        """What is known or recorded of them; else the file is fetched."""
        return hub.known_digest(self.entry) or file_digest(
            hub.fetch_weights(self.entry)
        )

    def network(self) -> Enformer:
        """Fetch, compare with the known digest, and read."""
        return build(read_checkpoint(hub.fetch_weights(self.entry), self.config))


def resolve(weights: object) -> Source:
    """Tell what kind of weights is meant; see :func:`load_weights`."""
    if isinstance(weights, ModelHandle):
        return weights
    if isinstance(weights, os.PathLike):
        return FileSource(Path(os.fspath(weights)))
    if not isinstance(weights, str):
        msg = (
            f"weights must be a name, a path or a ModelHandle, not "
            f"{type(weights).__name__}"
        )
        if isinstance(weights, torch.nn.Module):
            msg += ": pass ModelHandle(network)"
        raise InputTypeError(msg)
    return _resolve_text(weights)


def _resolve_text(weights: str) -> Source:
    if weights in UNTRAINED:
        return _Untrained(weights)
    if weights in PUBLISHED:
        return HubSource(PUBLISHED[weights], weights)
    if weights in BUNDLED:
        return FileSource(BUNDLED[weights], weights)
    if _must_be_path(weights) or _is_there(weights):
        return FileSource(Path(weights))
    hub_id = _HUB_ID.fullmatch(weights)
    if hub_id is None:
        raise WeightsError(_unknown(weights))
    return HubSource(HubWeights(hub_id[1], revision=hub_id[2]), weights)


def _must_be_path(weights: str) -> bool:
    return (
        weights.startswith((".", "~"))
        or os.path.isabs(weights)
        or weights.endswith((".safetensors", INDEX_SUFFIX, *PICKLE_SUFFIXES))
    )


def _is_there(weights: str) -> bool:
    found = os.path.exists(weights) or os.path.isfile(weights + INDEX_SUFFIX)
    return bool(weights) and found


def _unknown(weights: str) -> str:
    names = sorted((*PUBLISHED, *BUNDLED, *UNTRAINED))
    near = difflib.get_close_matches(weights, names, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(repr(name) for name in names)
    return (
        f"weights={weights!r} is not known{hint} Give {listed}, a path (./folder), "
        "a hub id (org/name), or a ModelHandle"
    )
