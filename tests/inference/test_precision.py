from __future__ import annotations

import contextlib

import pytest
import torch

from enformer_features.exceptions import InputError
from enformer_features.inference.precision import (
    POLICIES,
    arithmetic,
    resolve_precision,
)

CPU, CUDA, MPS = (torch.device(name) for name in ("cpu", "cuda", "mps"))
HAS_NEWER_SETTINGS = hasattr(torch.backends.cuda.matmul, "fp32_precision")
needs_newer_settings = pytest.mark.skipif(
    not HAS_NEWER_SETTINGS, reason="PyTorch before 2.9 has one kind of setting"
)


def parts():
    backends = torch.backends
    return backends.cuda.matmul, backends.cudnn.conv, backends.mkldnn.matmul


def settings_now():
    """All that a caller can read; what may not be read reads as an error."""
    readers = [
        torch.get_float32_matmul_precision,
        lambda: torch.backends.cuda.matmul.allow_tf32,
        lambda: torch.backends.cudnn.allow_tf32,
    ]
    if HAS_NEWER_SETTINGS:
        readers += [lambda part=part: part.fp32_precision for part in parts()]
    return [_read(reader) for reader in readers]


def _read(reader):
    try:
        return reader()
    except RuntimeError as error:
        return f"RuntimeError: {error}"


@pytest.fixture(autouse=True)
def _settings_are_put_back():
    before = [part.fp32_precision for part in parts()] if HAS_NEWER_SETTINGS else []
    yield
    torch.set_float32_matmul_precision("highest")
    for part, setting in zip(parts() if before else (), before, strict=True):
        part.fp32_precision = setting
    torch.get_float32_matmul_precision()


@pytest.mark.parametrize(
    ("name", "device", "policy"),
    [
        ("auto", CPU, "float32"),
        ("auto", CUDA, "tf32"),
        ("auto", MPS, "float32-exact"),
        ("float32", CPU, "float32"),
        ("float32", CUDA, "float32-exact"),
        ("float32-exact", CPU, "float32-exact"),
        ("tf32", CUDA, "tf32"),
        ("bfloat16", CPU, "bfloat16"),
        ("bfloat16", CUDA, "bfloat16"),
        ("float16", CUDA, "float16"),
        ("float64", CPU, "float64"),
    ],
)
def test_a_name_stands_for_a_policy_of_the_device(name, device, policy):
    assert resolve_precision(name, device) is POLICIES[policy]


@pytest.mark.parametrize(
    ("name", "device", "message"),
    [
        ("bfloat61", CPU, "precision='bfloat61'.*bfloat16"),
        ("double", CPU, "precision='double'"),
        ("tf32", CPU, "precision='tf32' needs a CUDA device; the device is cpu"),
        ("float16", CPU, "precision='float16' needs a CUDA device; the device is cpu"),
        ("float16", MPS, "needs a CUDA device; the device is mps"),
        ("bfloat16", MPS, "needs a CPU or CUDA device; the device is mps"),
        ("float64", MPS, "needs a CPU or CUDA device; the device is mps"),
    ],
)
def test_what_is_unknown_or_not_on_the_device_is_refused(name, device, message):
    with pytest.raises(InputError, match=message):
        resolve_precision(name, device)


def test_policies_go_by_their_own_names_and_only_one_is_approximate_on_purpose():
    assert all(name == policy.name for name, policy in POLICIES.items())
    assert [p.name for p in POLICIES.values() if p.tf32] == ["tf32"]
    assert [p.name for p in POLICIES.values() if p.convolution == "winograd"] == [
        "float32"
    ]


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("caller", ["highest", "high", "medium"])
def test_the_callers_older_setting_comes_back(policy, caller):
    torch.set_float32_matmul_precision(caller)
    before = settings_now()
    with arithmetic(POLICIES[policy]):
        pass
    assert settings_now() == before


@needs_newer_settings
@pytest.mark.parametrize("policy", ["float32", "tf32"])
@pytest.mark.parametrize("part", range(3))
@pytest.mark.parametrize("caller", ["ieee", "tf32"])
def test_the_callers_newer_setting_comes_back(policy, part, caller):
    parts()[part].fp32_precision = caller
    before = settings_now()
    with arithmetic(POLICIES[policy]):
        pass
    assert settings_now() == before


def test_the_setting_comes_back_after_an_error():
    torch.set_float32_matmul_precision("medium")
    before = settings_now()
    with contextlib.suppress(ZeroDivisionError), arithmetic(POLICIES["float32"]):
        raise ZeroDivisionError
    assert settings_now() == before


@needs_newer_settings
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("caller", ["highest", "medium"])
def test_only_one_policy_allows_tf32_whatever_the_caller_said(policy, caller):
    torch.set_float32_matmul_precision(caller)
    allowed = "tf32" if POLICIES[policy].tf32 else "ieee"
    with arithmetic(POLICIES[policy]):
        assert [part.fp32_precision for part in parts()] == [allowed] * 3


def test_products_on_the_cpu_stay_float32_whatever_the_caller_said():
    generator = torch.Generator().manual_seed(7)
    a, b = torch.randn(2, 257, 257, generator=generator)
    torch.set_float32_matmul_precision("highest")
    expected = a @ b
    torch.set_float32_matmul_precision("medium")
    with arithmetic(POLICIES["float32-exact"]):
        torch.testing.assert_close(a @ b, expected, rtol=0, atol=0)
