"""Fitted models in one file that can be read without running its content.

A file is a zip archive with two members:

``manifest.json``
    format and its version, versions of the libraries, the provenance of every
    embedder in the model, size and sha256 of the other member
``model.skops`` (or ``model.pkl``)
    the estimator as skops writes it: data that is checked type by type before an
    object is made. Only what skops cannot hold is pickled; a pickle runs code when
    it is read, so it is read only when the caller says so.
"""

from __future__ import annotations

import hashlib
import importlib
import io
import json
import pickle
import sys
import zipfile
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import sklearn
from sklearn.base import BaseEstimator, clone
from sklearn.utils.validation import check_is_fitted

from enformer_features import __version__
from enformer_features.exceptions import (
    EnformerFeaturesWarning,
    GenomeError,
    InputError,
    InputTypeError,
    PlanMismatchError,
    StoreError,
    check_choice,
    first_few,
    warn,
)
from enformer_features.genomics._text import as_path
from enformer_features.storage.files import atomic_write, check_output

FORMAT = "enformer_features.model"
FORMAT_VERSION = 1

_MANIFEST = "manifest.json"
_SKOPS = "model.skops"
_PICKLE = "model.pkl"
# Beside the types of numpy, scipy and scikit-learn, which skops trusts: estimators and
# frozen dataclasses of these packages, which store what they are given and do nothing,
_TRUSTED_PACKAGES = ("enformer_features", "xgboost")
# and a few classes by name. xgboost.DMatrix is not one: it opens files.
_TRUSTED_NAMES = frozenset(
    {
        "xgboost.core.Booster",
        "builtins.range",
        "pathlib.PosixPath",
        "pathlib.WindowsPath",
        "pathlib._local.PosixPath",  # Python 3.13
        "pathlib._local.WindowsPath",
        # what heads that search for their penalties hold
        "enformer_features.estimators.head_parts.WholeGroupKFold",  # only numbers
        "enformer_features.estimators.metrics.median_score",
        "sklearn.metrics._regression.r2_score",
        "sklearn.metrics._scorer._PassthroughScorer",
        "sklearn.metrics._scorer._Scorer",
        "sklearn.model_selection._split.GroupKFold",
        "sklearn.model_selection._split.KFold",
        "sklearn.model_selection._split.LeaveOneGroupOut",
    }
)
# Provenance that may differ without a difference in what the features mean. Weights
# are known by their digest; a head may be used with another genome.
_NOT_COMPARED = frozenset(
    {
        "enformer_features_version",
        "weights",
        "genome",
        "genome_digest",
        "device",
        "precision",
    }
)


def save_model(
    model: BaseEstimator, path: str | PathLike[str], *, overwrite: bool = False
) -> None:
    """Save a fitted estimator or pipeline in one file.

    The weights of the network are not in it, only their digest; nor is the genome,
    only its path.

    Parameters
    ----------
    model : estimator
        Fitted. An `EnformerEmbedder` may stand anywhere in it. Of a grid search with
        scorers or splitters of one's own save ``best_estimator_``: these, like the
        trees of a random forest, are not among the types that are read without a
        pickle.
    path : path
    overwrite : bool
        Whether an existing file may be replaced.

    Raises
    ------
    InputTypeError
        If it is not an estimator.
    sklearn.exceptions.NotFittedError
        If it is not fitted.
    InputError
        If the path cannot be used, or the model can be neither written nor pickled.
    StoreError
        If writing fails; an older file is intact then.

    Warns
    -----
    EnformerFeaturesWarning
        If the model had to be pickled; the message names what is to blame.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn.linear_model import Ridge
    >>> path = pathlib.Path(tempfile.mkdtemp(), "ridge.model")
    >>> save_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), path)
    >>> load_model(path)
    Ridge()
    """
    if not isinstance(model, BaseEstimator):
        msg = f"a model must be a scikit-learn estimator, not {type(model).__name__}"
        raise InputTypeError(msg)
    check_is_fitted(model)
    target = check_output(path, overwrite=overwrite)
    member, data, note = _serialise(model)
    manifest = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        "package_version": __version__,
        "versions": _versions(),
        "note": note,
        "provenance": _provenance(model),
        "members": {
            member: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        },
    }
    with (
        atomic_write(target, bytes_needed=len(data)) as temporary,
        zipfile.ZipFile(temporary, "w") as archive,
    ):
        archive.writestr(_MANIFEST, json.dumps(manifest, indent=1))
        archive.writestr(member, data)


def load_model(
    path: str | PathLike[str],
    *,
    allow_pickle: bool = False,
    embedder: Mapping[str, Any] | None = None,
) -> BaseEstimator:
    """Load a model that :func:`save_model` wrote.

    Nothing in the file is run, unless it is a pickle and `allow_pickle` is True.

    Parameters
    ----------
    path : path
    allow_pickle : bool
        Whether a pickled model may be read. A pickle can do anything that its maker
        wants: say yes only to your own files.
    embedder : mapping of str to object, optional
        Parameters to set on every embedder before it is checked, for what is
        elsewhere on this machine: ``{"genome": "hg38.fa", "weights": "enformer/",
        "device": "cpu"}``.

    Returns
    -------
    estimator
        Its predictions are those of the model that was saved, bit by bit.

    Raises
    ------
    StoreError
        If the file is missing, damaged, no model, or of a newer format.
    InputError
        If it is a pickle and these are not allowed, or has types that are not
        trusted: other than those of numpy, scipy, scikit-learn, xgboost and ours. If
        no embedder has a parameter of `embedder`.
    PlanMismatchError
        If an embedder would now compute other features, field by field.
    WeightsError
        If the weights of an embedder cannot be found.

    Warns
    -----
    EnformerFeaturesWarning
        If it was saved with another version of scikit-learn or xgboost, or the genome
        now has other contigs.

    Examples
    --------
    >>> import tempfile, pathlib
    >>> from sklearn.linear_model import Ridge
    >>> path = pathlib.Path(tempfile.mkdtemp(), "ridge.model")
    >>> save_model(Ridge().fit([[0.0], [1.0]], [0.0, 1.0]), path)
    >>> load_model(path).predict([[0.5]]).tolist()
    [0.5]
    """
    path = as_path(path)
    manifest, member, data = _read_archive(path)
    if member == _SKOPS:
        model = _load_skops(data, path, manifest["versions"])
    elif allow_pickle:
        model = _load_pickle(data, path)
    else:
        msg = (
            f"{path} holds a pickle ({manifest['note']}), which can run any code. If "
            "it is yours, call load_model(path, allow_pickle=True)"
        )
        raise InputError(msg)
    _set_parameters(model, embedder or {})
    _check_versions(manifest["versions"], path)
    _check_provenance(manifest["provenance"], _provenance(model), path)
    return model


def _set_parameters(model: BaseEstimator, given: object) -> None:
    """Set parameters on every embedder; those that none has are refused."""
    if not isinstance(given, Mapping):
        msg = f"embedder={given!r} must be a mapping, such as {{'genome': 'hg38.fa'}}"
        raise InputTypeError(msg)
    for _, found in _embedders(model):
        known = tuple(found.get_params(deep=False))
        for name in given:
            check_choice("a parameter in embedder", name, known)
        found.set_params(**given)


def _provenance(model: BaseEstimator) -> dict[str, dict[str, Any]]:
    """Return the provenance of every embedder by its place, as JSON keeps it."""
    found = {where: _origin(embedder) for where, embedder in _embedders(model)}
    plain: dict[str, dict[str, Any]] = json.loads(json.dumps(found))
    return plain


def _origin(embedder: Any) -> dict[str, Any]:
    try:
        origin: dict[str, Any] = embedder.provenance()
    except GenomeError:  # not on this machine; sequences need none, regions will ask
        origin = clone(embedder).set_params(genome=None).provenance()
    return origin


def _embedders(node: Any, where: str = "model") -> Iterator[tuple[str, Any]]:
    """Yield (place, embedder) for everything in a model that tells its provenance."""
    children: Any = ()
    if callable(getattr(node, "provenance", None)):
        yield where, node
    elif isinstance(node, BaseEstimator):
        children = vars(node).items()
    elif isinstance(node, dict):
        children = node.items()
    elif isinstance(node, (list, tuple)):
        children = enumerate(node)
    for key, child in children:
        yield from _embedders(child, f"{where}.{key}")


def _serialise(model: BaseEstimator) -> tuple[str, bytes, str]:
    """Return the name of the member, its bytes, and why it had to be a pickle."""
    from skops import io as skops

    try:
        data = skops.dumps(model)
        untrusted = _untrusted(data)
        if not untrusted:
            _construct(data)  # what cannot be read back is not saved
            return _SKOPS, data, ""
        reason = f"of types that are not trusted: {first_few(untrusted)}"
    except Exception as error:  # skops raises what the object's own code raises
        reason = f"skops cannot hold it: {error}"
    note = f"pickled because {reason}"
    data = _pickled(model, reason)
    warn(
        f"the model is {note}. It can only be loaded with load_model(path, "
        "allow_pickle=True); paths and names instead of objects in memory avoid that",
        EnformerFeaturesWarning,
        stacklevel=4,
    )
    return _PICKLE, data, note


def _pickled(model: BaseEstimator, reason: str) -> bytes:
    import joblib

    buffer = io.BytesIO()
    try:
        joblib.dump(model, buffer)
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        msg = (
            f"the model cannot be saved ({reason}) nor pickled ({error}); replace "
            "lambdas by functions of a module, and objects in memory by paths or names"
        )
        raise InputError(msg) from error
    return buffer.getvalue()


def _untrusted(data: bytes) -> list[str]:
    return [name for name in _foreign_types(data) if not _is_trusted(name)]


def _foreign_types(data: bytes) -> list[str]:
    from skops import io as skops

    return list(skops.get_untrusted_types(data=data))


def _is_trusted(name: str) -> bool:
    if name in _TRUSTED_NAMES:
        return True
    module, _, attribute = name.rpartition(".")
    parts = module.split(".")
    if parts[0] not in _TRUSTED_PACKAGES or "__main__" in parts:
        return False
    try:
        found = getattr(importlib.import_module(module), attribute, None)
    except ImportError:
        return False
    return isinstance(found, type) and found.__module__ == module and _is_inert(found)


def _is_inert(found: type) -> bool:
    """Whether making an instance only stores values."""
    frozen = getattr(getattr(found, "__dataclass_params__", None), "frozen", False)
    return bool(frozen) or issubclass(found, BaseEstimator)


def _construct(data: bytes) -> BaseEstimator:
    """Make the object, once its types have been found to be trusted."""
    from skops import io as skops

    model: BaseEstimator = skops.loads(data, trusted=_foreign_types(data))
    return model


def _load_skops(data: bytes, path: Path, versions: dict[str, str]) -> BaseEstimator:
    try:
        untrusted = _untrusted(data)
        if not untrusted:
            return _construct(data)
    except Exception as error:  # whatever a foreign file provokes in skops
        written = ", ".join(f"{name} {version}" for name, version in versions.items())
        _refuse(path, f"{_SKOPS} (written with {written}) is not read: {error}", error)
    msg = (
        f"{path} holds types that are not trusted: {first_few(untrusted)}. If you know "
        f"who made it and what these do, take {_SKOPS} out of it (it is a zip file) "
        "and call skops.io.load(..., trusted=[...]) yourself"
    )
    raise InputError(msg)


def _load_pickle(data: bytes, path: Path) -> BaseEstimator:
    import joblib

    try:
        model: BaseEstimator = joblib.load(io.BytesIO(data))
    except (ImportError, AttributeError) as error:
        msg = f"{path} needs code that cannot be found: {error}; import or install it"
        raise InputError(msg) from error
    return model


def _read_archive(path: Path) -> tuple[dict[str, Any], str, bytes]:
    """Return manifest, name of the model's member and its checked bytes."""
    try:
        with zipfile.ZipFile(path) as archive:
            manifest = _read_manifest(archive, path)
            member = _member(archive, manifest, path)
            data = archive.read(member)
    except StoreError:
        raise
    except Exception as error:  # zipfile raises some ten kinds for damaged files
        _refuse(path, f"it is absent, damaged or no model file ({error})", error)
    if hashlib.sha256(data).hexdigest() != manifest["members"][member]["sha256"]:
        _refuse(path, f"{member} is damaged: its sha256 is not that of the manifest")
    return manifest, member, data


def _read_manifest(archive: zipfile.ZipFile, path: Path) -> dict[str, Any]:
    if _MANIFEST not in archive.namelist():
        _refuse(path, f"it is no model file: it has no {_MANIFEST}")
    if any(info.compress_type != zipfile.ZIP_STORED for info in archive.infolist()):
        _refuse(path, "its members are compressed, which save_model never does")
    manifest = json.loads(archive.read(_MANIFEST))
    found, version = manifest.get("format"), manifest.get("format_version")
    if found != FORMAT:
        _refuse(path, f"its format is {found!r}, expected {FORMAT!r}")
    if not isinstance(version, int) or version > FORMAT_VERSION:
        _refuse(
            path,
            f"its format version is {version}, enformer_features {__version__} reads "
            f"versions up to {FORMAT_VERSION}; upgrade the package",
        )
    _check_manifest(manifest, path)
    return dict(manifest)


def _check_manifest(manifest: dict[str, Any], path: Path) -> None:
    kinds = {"versions": dict, "provenance": dict, "members": dict, "note": str}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), kind):
            _refuse(path, f"its {_MANIFEST} has no {key!r}")


def _member(archive: zipfile.ZipFile, manifest: dict[str, Any], path: Path) -> str:
    """Return the one member that is a model, stored at the size it says."""
    names = [name for name in archive.namelist() if name != _MANIFEST]
    if len(names) != 1 or names[0] not in {_SKOPS, _PICKLE}:
        _refuse(path, f"it holds {first_few(names)}, expected one model")
    member = names[0]
    entry = manifest["members"].get(member)
    if not isinstance(entry, dict) or not {"bytes", "sha256"} <= set(entry):
        _refuse(path, f"its {_MANIFEST} does not know {member}")
    if archive.getinfo(member).file_size != entry["bytes"]:
        _refuse(path, f"{member} is damaged: {entry['bytes']} bytes were written")
    return member


def _refuse(path: Path, reason: str, cause: BaseException | None = None) -> NoReturn:
    msg = f"{path} cannot be loaded: {reason}"
    raise StoreError(msg) from cause


def _versions() -> dict[str, str]:
    """Return the versions that matter; xgboost only where a model may be of it."""
    versions = {"scikit-learn": sklearn.__version__, "numpy": np.__version__}
    if "xgboost" in sys.modules:
        versions["xgboost"] = sys.modules["xgboost"].__version__
    return versions


def _check_versions(saved: dict[str, str], path: Path) -> None:
    for name, version in _versions().items():
        if name != "numpy" and saved.get(name, version) != version:
            warn(
                f"{path} was written with {name} {saved[name]} and is read with "
                f"{version}; compare some predictions, or save the model anew",
                EnformerFeaturesWarning,
                stacklevel=4,
            )


def _check_provenance(
    saved: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]], path: Path
) -> None:
    """Compare what the head was fitted on with what the embedder would now give it."""
    changes = []
    for where in sorted(saved.keys() | found.keys()):
        before, now = saved.get(where, {}), found.get(where, {})
        fields = (before.keys() & now.keys()) - _NOT_COMPARED
        changes += [
            f"{where} {field}: saved {before[field]!r}, now {now[field]!r}"
            for field in sorted(fields)
            if before[field] != now[field]
        ]
        _check_genome(before.get("genome_digest"), now, path)
    if changes:
        msg = (
            f"{path} was fitted on other features than its embedder gives here:\n  "
            + "\n  ".join(changes)
            + "\nUse the weights and versions it was fitted with, or fit it again"
        )
        raise PlanMismatchError(msg)


def _check_genome(saved: str | None, now: dict[str, Any], path: Path) -> None:
    digest = now.get("genome_digest")
    if saved and digest and saved != digest:
        warn(
            f"{path} was fitted with a genome that has other contigs than "
            f"{now['genome']} ({saved}, now {digest}); is it the same assembly?",
            EnformerFeaturesWarning,
            stacklevel=5,
        )
