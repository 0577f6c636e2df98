"""Weights on disk: find, check, rename, read and write them.

The layout is that of the Hugging Face release, a folder with ``config.json`` and
``model.safetensors`` or ``pytorch_model.bin``. The names in such a file are those
of the *released* module; :class:`~enformer_features.model.Enformer` has its own.
A file is checked as a whole before any network is touched.
"""

from __future__ import annotations

import functools
import hashlib
import json
import math
import os
import re
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from enformer_features.exceptions import InputError, StoreError, WeightsError, first_few
from enformer_features.folders import file_identity
from enformer_features.model.arrays import ArraySource, open_arrays
from enformer_features.model.config import EnformerConfig
from enformer_features.model.enformer import Enformer

SAFETENSORS = "model.safetensors"
PICKLE = "pytorch_model.bin"
CONFIG = "config.json"
PICKLE_SUFFIXES = (".bin", ".pt", ".pth", ".ckpt")

# Fragments of our names and of the released ones.
_RENAMED = {
    "stem.conv.": "stem.0.",
    ".pointwise.norm.": ".1.fn.0.",
    ".pointwise.conv.": ".1.fn.2.",
    ".pool.logits.": ".2.to_attn_logits.",
    ".wide.norm.": ".0.0.",
    ".wide.conv.": ".0.2.",
    ".attention_norm.": ".0.fn.0.",
    ".attention.": ".0.fn.1.",
    ".to_query.": ".to_q.",
    ".to_key.": ".to_k.",
    ".to_value.": ".to_v.",
    ".to_position_key.": ".to_rel_k.",
    ".content_bias": ".rel_content_bias",
    ".position_bias": ".rel_pos_bias",
    ".mlp_norm.": ".1.fn.0.",
    ".mlp_in.": ".1.fn.1.",
    ".mlp_out.": ".1.fn.4.",
    ".block.norm.": ".1.0.",
    ".block.conv.": ".1.2.",
    ".linear.": ".0.",
}
# The released module registers its parts twice; a file has either name, or both.
_TWICE = {
    "_trunk.1.": "stem.",
    "_trunk.2.": "conv_tower.",
    "_trunk.4.": "transformer.",
    "_trunk.6.": "final_pointwise.",
}
_COUNTER = "num_batches_tracked"  # batches seen in training; of no use here


@dataclass(frozen=True)
class Checkpoint:
    """Weights that were read and found complete.

    Attributes
    ----------
    config : EnformerConfig
        The sizes.
    state : dict of str to Tensor
        Every array under the name it has in our module, float32, on the CPU.
    digest : str
        ``"sha256:<hex>"`` of the weights file's bytes.
    path : Path
        The weights file.
    size : int
        Its bytes.
    """

    config: EnformerConfig
    state: dict[str, Tensor]
    digest: str
    path: Path
    size: int


class NamedArray(NamedTuple):
    """One array of a network: its name and shape with us and in a released file."""

    name: str
    shape: tuple[int, ...]
    released: str
    released_shape: tuple[int, ...]


def find_files(path: str | os.PathLike[str]) -> tuple[Path, Path | None]:
    """Find the weights file and its configuration.

    Parameters
    ----------
    path : path-like
        A folder with ``model.safetensors`` (preferred) or ``pytorch_model.bin``, or
        a weights file of any name that ends in ``.safetensors``, ``.bin``, ``.pt``,
        ``.pth`` or ``.ckpt``.

    Returns
    -------
    weights : Path
    config : Path or None
        The ``config.json`` beside it, when there is one.

    Raises
    ------
    WeightsError
        When there is no such file.
    """
    path = Path(path).expanduser()
    weights = _in_folder(path) if path.is_dir() else _lone_file(path)
    config = weights.with_name(CONFIG)
    return weights, config if config.is_file() else None


def _in_folder(folder: Path) -> Path:
    for name in (SAFETENSORS, PICKLE):
        if (folder / name).is_file():
            return folder / name
    found = first_few(sorted(entry.name for entry in folder.iterdir())) or "nothing"
    msg = f"{folder} has neither {SAFETENSORS} nor {PICKLE}; it holds: {found}"
    raise WeightsError(msg)


def _lone_file(path: Path) -> Path:
    if not path.exists():
        msg = f"there are no weights at {path}: no such file or folder"
        raise WeightsError(msg)
    if path.suffix not in (".safetensors", *PICKLE_SUFFIXES):
        known = ", ".join((".safetensors", *PICKLE_SUFFIXES))
        msg = f"{path} does not end in one of {known}; name its folder or such a file"
        raise WeightsError(msg)
    return path


def read_config(path: str | os.PathLike[str]) -> EnformerConfig:
    """Read the sizes of a network, without its arrays.

    Parameters
    ----------
    path : path-like
        As for :func:`find_files`.

    Returns
    -------
    EnformerConfig
        From ``config.json``; without one, from the shapes of the arrays. The shapes
        do not tell how many bins are kept: then the published 896 is taken, as are
        the published dropout rates.

    Raises
    ------
    WeightsError
        When the file is missing or damaged, or describes no possible network.
    """
    weights, config = find_files(path)
    if config is None:
        return _config_from_shapes(weights, _plain(open_arrays(weights).shapes))
    return read_config_file(config)


def read_config_file(path: Path) -> EnformerConfig:
    """Read a ``config.json``; raises a ``WeightsError`` when it is of no use."""
    try:
        return EnformerConfig.from_dict(json.loads(path.read_text("utf-8")))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError, InputError) as error:
        msg = f"{path} cannot be used: {error}"
        raise WeightsError(msg) from error


def _config_from_shapes(
    path: Path, shapes: Mapping[str, tuple[int, ...]]
) -> EnformerConfig:
    try:
        _, heads, _, key_dim = shapes["transformer.0.0.fn.1.rel_content_bias"]
        (dim,) = shapes["final_pointwise.1.0.weight"]
        widths = tuple(shapes[f"conv_tower.{i}.0.2.weight"][0] for i in range(6))
        return EnformerConfig(
            dim=dim,
            depth=1 + max(_numbers(r"transformer\.(\d+)\.", shapes)),
            heads=heads,
            attn_dim_key=key_dim,
            output_heads={
                name.split(".")[1]: shape[0]
                for name, shape in shapes.items()
                if re.fullmatch(r"_heads\.\w+\.0\.bias", name)
            },
            dim_divisible_by=math.gcd(*widths),
        )
    except (KeyError, ValueError, IndexError) as error:
        msg = (
            f"the sizes of the network cannot be told from the arrays of {path} "
            f"({len(shapes)} arrays): put its {CONFIG} beside it"
        )
        raise WeightsError(msg) from error


def _numbers(pattern: str, names: Iterable[str]) -> Iterator[int]:
    return (int(m[1]) for m in (re.match(pattern, name) for name in names) if m)


def file_digest(path: str | os.PathLike[str]) -> str:
    """Return ``"sha256:<hex>"`` of a file's bytes, about a second per gigabyte.

    It is remembered for as long as the file is not written to or replaced.

    Examples
    --------
    >>> import os
    >>> file_digest(os.devnull)[:20]
    'sha256:e3b0c44298fc1'
    """
    return _digest_of(os.path.abspath(path), file_identity(path))


@functools.lru_cache(maxsize=64)
def _digest_of(path: str, identity: tuple[int, ...]) -> str:
    with open(path, "rb") as file:
        return f"sha256:{hashlib.file_digest(file, 'sha256').hexdigest()}"


def read_checkpoint(
    path: str | os.PathLike[str], config: EnformerConfig | None = None
) -> Checkpoint:
    """Read and check the weights of a network.

    Parameters
    ----------
    path : path-like
        As for :func:`find_files`.
    config : EnformerConfig, optional
        The sizes, if they are known; else those of :func:`read_config`.

    Returns
    -------
    Checkpoint
        Arrays of another floating kind (float16, bfloat16, float64) are converted to
        float32, in which the network computes; the digest is that of the file.

    Raises
    ------
    WeightsError
        When the file is missing, empty, cut short, a git-LFS pointer, or a pickle
        that holds more than tensors (which is never loaded); when an array is
        missing, unknown or of another shape; when a value is NaN or infinite.

    Notes
    -----
    The released module registers most arrays under two names. A file may have either
    or both, with the same values. Batch counters (``num_batches_tracked``) are
    dropped. Shapes are compared before memory is taken.
    """
    weights, _ = find_files(path)
    config = config or read_config(path)
    digest, size = file_digest(weights), weights.stat().st_size
    source = open_arrays(weights)
    arrays = _check_names(weights, config, source.shapes)
    state = {array.name: _read(weights, source, array) for array in arrays}
    check_values(weights, state)
    if file_digest(weights) != digest:
        msg = f"{weights} changed while it was being read; load it again"
        raise WeightsError(msg)
    return Checkpoint(config, state, digest, weights, size)


def build(checkpoint: Checkpoint) -> Enformer:
    """Make the network of a checkpoint, in evaluation mode.

    It takes over the checkpoint's arrays and does not copy them.
    """
    return assemble(checkpoint.config, checkpoint.state)


def assemble(config: EnformerConfig, state: Mapping[str, Tensor]) -> Enformer:
    """Make a network of these arrays, in evaluation mode; none is initialised."""
    with torch.device("meta"):
        module = Enformer(config)
    module.load_state_dict(dict(state), strict=True, assign=True)
    return module.eval()


def save_checkpoint(
    module: Enformer, folder: str | os.PathLike[str], *, overwrite: bool = False
) -> Path:
    """Write a network in the layout of the Hugging Face release.

    Parameters
    ----------
    module : Enformer
    folder : path-like
        It gets ``config.json`` and ``model.safetensors`` (float32, one name of each
        pair), each complete or not at all.
    overwrite : bool, default=False
        Whether weights that the folder has may be replaced.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    StoreError
        When the folder has weights already, or cannot be written to.

    Examples
    --------
    >>> import tempfile
    >>> from enformer_features.model import Enformer, EnformerConfig
    >>> tiny = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     written = save_checkpoint(Enformer(tiny), folder)
    ...     read_checkpoint(written).config == tiny
    True
    """
    folder = Path(folder).expanduser()
    occupied = [name for name in (SAFETENSORS, PICKLE) if (folder / name).exists()]
    if occupied and not overwrite:
        msg = f"{folder} has {occupied[0]} already; pass overwrite=True to replace it"
        raise StoreError(msg)
    config = {
        "model_type": "enformer",
        "architectures": ["Enformer"],
        "torch_dtype": "float32",
        **module.config.to_dict(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with replacing(folder / SAFETENSORS) as file:
            save_file(_released_state(module), file, metadata={"format": "pt"})
        with replacing(folder / CONFIG) as file:
            file.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    except (OSError, SafetensorError) as error:
        msg = f"the weights cannot be written to {folder}: {error}"
        raise StoreError(msg) from error
    return folder


def _released_state(module: Enformer) -> dict[str, Tensor]:
    state = module.state_dict()
    return {
        array.released: state[array.name]
        .to("cpu", torch.float32)
        .reshape(array.released_shape)
        .contiguous()
        for array in arrays_of(module)
    }


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a temporary file beside ``path`` that takes its place when all is well."""
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as tmp:
        file = Path(tmp, path.name)
        yield file
        with open(file, "rb+") as written:
            os.fsync(written.fileno())
        os.replace(file, path)


def arrays_of(module: Enformer) -> list[NamedArray]:
    """List the arrays of a network, but for the batch counters."""
    return [
        NamedArray(
            name,
            tuple(value.shape),
            _released_name(name),
            _released_shape(name, tuple(value.shape)),
        )
        for name, value in module.state_dict().items()
        if not name.endswith(_COUNTER)
    ]


def _released_name(name: str) -> str:
    for ours, theirs in _RENAMED.items():
        name = name.replace(ours, theirs)
    return f"_{name}" if name.startswith("heads.") else name


def _released_shape(name: str, shape: tuple[int, ...]) -> tuple[int, ...]:
    if name.endswith(".pool.logits.weight"):  # a convolution in 2 dimensions
        return (*shape, 1)
    if name.endswith(("content_bias", "position_bias")):  # a batch axis in front
        return (1, *shape)
    return shape


def _plain_name(name: str) -> str:
    for twice, plain in _TWICE.items():
        if name.startswith(twice):
            return plain + name.removeprefix(twice)
    return name


def _plain(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
    return {_plain_name(name): shape for name, shape in shapes.items()}


def _check_names(
    path: Path, config: EnformerConfig, shapes: Mapping[str, tuple[int, ...]]
) -> list[NamedArray]:
    """Compare a file's names and shapes with the network's; return its arrays."""
    arrays = _blueprint(path, config, len(shapes))
    expected = {array.released: array.released_shape for array in arrays}
    counted = {name: s for name, s in shapes.items() if not name.endswith(_COUNTER)}
    found = _plain(counted)
    faults = [
        f"{name}: missing, expected {shape}"
        for name, shape in expected.items()
        if name not in found
    ]
    for name, shape in counted.items():
        wanted = expected.get(_plain_name(name))
        if wanted is None:
            faults.append(f"{name}: unknown, has {shape}")
        elif wanted != shape:
            faults.append(f"{name}: has {shape}, expected {wanted}")
    if faults:
        msg = (
            f"{path} does not fit its network (dim={config.dim}, depth={config.depth}, "
            f"heads={config.heads}): {first_few(faults, limit=10)}"
        )
        raise WeightsError(msg)
    return arrays


def _blueprint(path: Path, config: EnformerConfig, n_found: int) -> list[NamedArray]:
    """List the arrays of a network without making one; its sizes may be nonsense."""
    try:
        if config.depth > n_found:
            msg = f"depth={config.depth}, but the file has only {n_found} arrays"
            raise OverflowError(msg)
        with torch.device("meta"):
            return arrays_of(Enformer(config))
    except (OverflowError, RuntimeError, TypeError) as error:
        msg = f"{path} does not fit its {CONFIG}: {error}"
        raise WeightsError(msg) from error


def _read(path: Path, source: ArraySource, array: NamedArray) -> Tensor:
    names = [name for name in source.shapes if _plain_name(name) == array.released]
    first, *others = (source.read(name) for name in names)
    for other in others:
        if first.data_ptr() != other.data_ptr() and not torch.equal(first, other):
            msg = f"{path}: {names[0]} and {names[1]} should be equal and are not"
            raise WeightsError(msg)
    if not first.is_floating_point() or first.layout != torch.strided:
        msg = f"{path}: {names[0]} is {first.dtype}, {first.layout}; expected float32"
        raise WeightsError(msg)
    # A copy: the file is mapped, and may change or vanish while the network lives.
    return first.to(torch.float32, copy=True).reshape(array.shape).contiguous()


def check_values(label: object, state: Mapping[str, Tensor]) -> None:
    """Refuse NaN, infinite values and negative variances; names the arrays."""
    faults = [
        f"{_released_name(name)} ({int((~value.isfinite()).sum())} of {value.numel()})"
        for name, value in state.items()
        if not value.isfinite().all()
    ]
    if faults:
        msg = f"{label} has NaN or infinite values in {first_few(faults)}"
        raise WeightsError(msg)
    for name, value in state.items():
        if name.endswith("running_var") and value.min() < 0:
            msg = f"{label}: the variance {_released_name(name)} has negative values"
            raise WeightsError(msg)
