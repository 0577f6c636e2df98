"""Named policies of arithmetic: what the operands of products are, and how to convolve.

Whatever the policy, the residual stream, the norms, softmax and pooling are float32
(float64 in the policy of that name): only the operands of matrix products are rounded.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch

from enformer_features.exceptions import InputError, check_choice


@dataclass(frozen=True)
class Precision:
    """A policy of arithmetic.

    Parameters
    ----------
    name : str
    operands : torch.dtype
        Type of the operands of matrix products.
    convolution : {"direct", "winograd"}
        How convolutions of width 5 are computed.
    tf32 : bool
        Whether float32 products may use TF32 operands on CUDA.
    rms_error : float or None
        Measured root mean square difference of the embedding from float32 in
        PyTorch, over its standard deviation, at published size with random weights;
        None where nobody has measured it.
    """

    name: str
    operands: torch.dtype
    convolution: Literal["direct", "winograd"]
    tf32: bool
    rms_error: float | None

    @property
    def results(self) -> torch.dtype:
        """Type of everything but the operands of products."""
        is_double = self.operands == torch.float64
        return torch.float64 if is_double else torch.float32


POLICIES = {
    policy.name: policy
    for policy in (
        Precision("float32-exact", torch.float32, "direct", False, 5.9e-6),
        Precision("float32", torch.float32, "winograd", False, 1.2e-5),
        Precision("tf32", torch.float32, "direct", True, None),
        Precision("bfloat16", torch.bfloat16, "direct", False, 6.2e-2),
        Precision("float16", torch.float16, "direct", False, None),
        Precision("float64", torch.float64, "direct", False, None),
    )
}
CUDA_ONLY = ("tf32", "float16")


def resolve_precision(precision: str, device: torch.device) -> Precision:
    """Return the policy that a ``precision`` parameter stands for.

    ``"auto"`` is float32 on the CPU and TF32 operands on CUDA, which is what
    PyTorch's convolutions use there anyway.

    Raises
    ------
    InputError
        For an unknown name (the nearest is named), or one that the device lacks.
    """
    check_choice("precision", precision, ("auto", *POLICIES))
    if precision == "auto":
        precision = "tf32" if device.type == "cuda" else "float32"
    if precision in CUDA_ONLY and device.type != "cuda":
        msg = f"precision={precision!r} needs a CUDA device; the device is {device}"
        raise InputError(msg)
    if precision in ("bfloat16", "float64") and device.type == "mps":
        msg = f"precision={precision!r} needs a CPU or CUDA device; the device is mps"
        raise InputError(msg)
    policy = POLICIES[precision]
    if policy.convolution == "winograd" and device.type != "cpu":
        return POLICIES["float32-exact"]  # direct convolution is faster there
    return policy


@contextlib.contextmanager
def arithmetic(policy: Precision) -> Iterator[None]:
    """Allow TF32 operands, or forbid them, and restore the caller's setting.

    Whatever the caller allowed, float32 products on the CPU stay float32.
    """
    wanted = "tf32" if policy.tf32 else "ieee"
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):
        with _older_arithmetic(policy):
            yield
        return
    # The older settings cannot be read once the caller has used these.
    parts: tuple[Any, ...] = (
        torch.backends.cuda.matmul,
        torch.backends.cudnn.conv,  # type: ignore[attr-defined]
        torch.backends.mkldnn.matmul,  # type: ignore[attr-defined]
    )
    before = [part.fp32_precision for part in parts]
    try:
        for part in parts:
            part.fp32_precision = wanted
        yield
    finally:
        for part, setting in zip(parts, before, strict=True):
            part.fp32_precision = setting


@contextlib.contextmanager
def _older_arithmetic(policy: Precision) -> Iterator[None]:
    """Do the same in PyTorch before 2.9."""
    cudnn = torch.backends.cudnn
    before = torch.get_float32_matmul_precision(), cudnn.allow_tf32
    torch.set_float32_matmul_precision("high" if policy.tf32 else "highest")
    cudnn.allow_tf32 = policy.tf32
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before[0])
        cudnn.allow_tf32 = before[1]
