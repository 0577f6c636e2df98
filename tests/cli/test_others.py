"""info, weights and demo."""

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

from enformer_features import __version__
from enformer_features.model import EnformerConfig
from enformer_features.model.checkpoints import save_checkpoint
from enformer_features.model.untrained import untrained_network


def test_info_says_where_each_setting_comes_from(cli, monkeypatch, tmp_path):
    monkeypatch.setenv("ENFORMER_FEATURES_GENOME", "hg38.fa")
    monkeypatch.setenv("ENFORMER_FEATURES_BATCH_SIZE", "4")
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(tmp_path))
    described = json.loads(cli("info", "--batch-size", "8", "--json").out)
    assert described["version"] == __version__
    assert "cpu" in described["devices"]
    assert described["cache_folder"]["value"] == str(tmp_path)
    found = described["settings"]
    assert found["genome"] == {
        "value": "hg38.fa",
        "origin": "environment ENFORMER_FEATURES_GENOME",
    }
    assert found["batch_size"] == {"value": 8, "origin": "argument"}
    assert found["device"] == {"value": "auto", "origin": "default"}
    assert described["weights"]["untrained-tiny"]["trained"] is False


def test_info_is_readable_too(cli):
    done = cli("info")
    assert done.code == 0
    assert "setting device: auto (default)" in done.out
    assert "weights untrained-tiny: random" in done.out


@pytest.fixture
def folder(tmp_path):
    config = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    return save_checkpoint(untrained_network(config), tmp_path / "weights")


def test_weights_are_described_verified_and_converted(cli, folder, tmp_path):
    described = json.loads(cli("weights", "info", folder, "--json").out)
    verified = json.loads(cli("weights", "verify", folder, "--json").out)
    assert described["digest"] == verified["digest"]
    copy = tmp_path / "copy"
    assert cli("weights", "convert", folder, copy).out == f"folder: {copy}\n"
    assert (copy / "model.safetensors").exists()


def test_unusable_weights_are_bad_input(cli, folder, tmp_path):
    done = cli("weights", "info", "enfromer")
    assert (done.code, "did you mean 'enformer'?" in done.err) == (2, True)
    (folder / "model.safetensors").write_bytes(b"damaged")
    done = cli("weights", "verify", folder)
    assert (done.code, str(folder) in done.err) == (2, True)
    done = cli("weights", "convert", "untrained-tiny", tmp_path / "new")
    assert (done.code, "are random" in done.err) == (2, True)


@dataclass
class Result:
    summary: str
    score: float


def test_demo_calls_the_demonstration(cli, monkeypatch, tmp_path):
    calls = []

    def run_demo(folder: Path, verbose: bool | None) -> Result:
        calls.append((folder, verbose))
        return Result("it works", float("nan"))

    module = ModuleType("enformer_features.demo")
    module.run_demo = run_demo
    monkeypatch.setitem(sys.modules, "enformer_features.demo", module)
    assert cli("demo", tmp_path).out == "it works\n"
    summary = json.loads(cli("demo", "--json", "--quiet").out)
    assert summary == {"summary": "it works", "score": None}
    assert calls == [(tmp_path, None), (Path("enformer-features-demo"), False)]
