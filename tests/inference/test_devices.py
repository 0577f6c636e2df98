import pytest
import torch

from enformer_features.exceptions import InputError
from enformer_features.inference.devices import (
    check_batch_size,
    resolve_batch_size,
    resolve_device,
)
from enformer_features.model.config import EnformerConfig

CPU = torch.device("cpu")


@pytest.mark.parametrize("device", ["cuda:97", "tpu", "", None, 3])
def test_missing_device_names_those_there_are(device):
    with pytest.raises(InputError, match=r"is not available; there are \['cpu'"):
        resolve_device(device)


def test_auto_device_is_cuda_when_there_is_one_else_the_cpu():
    expected = "cuda" if torch.cuda.is_available() else "cpu"
    assert resolve_device("auto").type == expected


def test_auto_device_says_in_one_line_where_it_runs(caplog):
    with caplog.at_level("INFO", "enformer_features"):
        device = resolve_device("auto")
    assert caplog.messages == [f"device='auto' runs on {device}"]


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "8", None, True])
def test_batch_size_must_be_auto_or_positive(batch_size):
    with pytest.raises(InputError, match="must be 'auto' or a whole number"):
        check_batch_size(batch_size)


def test_auto_batch_on_the_cpu_is_one():
    assert resolve_batch_size("auto", CPU, EnformerConfig(), 196_608) == 1
    assert resolve_batch_size(5, CPU, EnformerConfig(), 196_608) == 5
