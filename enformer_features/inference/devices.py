"""Where the network runs, and how many windows at once."""

from __future__ import annotations

import logging
import os
from numbers import Integral
from typing import Any

import torch

from enformer_features.exceptions import InputError
from enformer_features.model.config import EnformerConfig

logger = logging.getLogger("enformer_features")

LARGEST_AUTO_BATCH = 8


def _compute_alone() -> None:
    """Let a forked child compute on one thread.

    Those of OpenMP stayed in the parent: a child that hands work to them waits for
    ever.
    """
    torch.set_num_threads(1)


if hasattr(os, "register_at_fork"):  # Windows does not fork
    os.register_at_fork(after_in_child=_compute_alone)


def available_devices() -> list[str]:
    """Return the names of the devices that can be asked for."""
    devices = ["cpu"]
    devices += [f"cuda:{i}" for i in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return devices


def resolve_device(device: str) -> torch.device:
    """Return the device that a ``device`` parameter stands for.

    ``"auto"`` is the first CUDA device, else the CPU; ``"mps"`` must be asked for.

    Raises
    ------
    InputError
        When there is no such device; the message names those that there are.
    """
    if device == "auto":
        chosen = "cuda:0" if torch.cuda.is_available() else "cpu"
        logger.info("device='auto' runs on %s", chosen)
        return torch.device(chosen)
    available = available_devices()
    wanted = "cuda:0" if device == "cuda" else device
    if not isinstance(device, str) or wanted not in available:
        msg = f"device={device!r} is not available; there are {available} and 'auto'"
        raise InputError(msg)
    return torch.device(wanted)


def resolve_batch_size(
    batch_size: int | str,
    device: torch.device,
    config: EnformerConfig,
    sequence_length: int,
) -> int:
    """Return the number of sequences per forward.

    ``"auto"`` is 1 on the CPU, where one sequence already fills the processor, and
    follows from the total memory of another device (never from what is free, which
    differs between runs).
    """
    if batch_size != "auto":
        return int(batch_size)
    if device.type != "cuda":
        return 1
    total = torch.cuda.get_device_properties(device).total_memory
    activation = sequence_length * config.stem_width * 4
    fitting = int(total // 2 // (6 * activation))
    return max(1, min(LARGEST_AUTO_BATCH, fitting))


def check_batch_size(batch_size: Any) -> None:
    """Refuse a batch size that is neither "auto" nor a positive whole number."""
    if batch_size == "auto":
        return
    is_whole = isinstance(batch_size, Integral) and not isinstance(batch_size, bool)
    if not is_whole or batch_size < 1:
        msg = (
            f"batch_size={batch_size!r} must be 'auto' or a whole number of at least 1"
        )
        raise InputError(msg)


def memory_report(device: torch.device) -> str:
    """Say how much memory the device has, for an error."""
    if device.type != "cuda":
        return f"device {device}"
    free, total = torch.cuda.mem_get_info(device)
    return f"device {device}: {free / 1e9:.1f} of {total / 1e9:.1f} GB free"
