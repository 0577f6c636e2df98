from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from enformer_features.cli import main
from enformer_features.datasets import make_toy_genome, write_toy_tables

LENGTH = 1024


class Outcome(NamedTuple):
    code: int
    out: str
    err: str


class Toy(NamedTuple):
    folder: Path
    genome: Path
    genes: Path
    expression: Path

    @property
    def network(self) -> list[str]:
        return [
            *("--genome", str(self.genome), "--weights", "untrained-tiny"),
            *("--sequence-length", str(LENGTH)),
        ]

    @property
    def options(self) -> list[str]:
        return ["--genes", str(self.genes), *self.network]


@pytest.fixture(scope="session", autouse=True)
def one_thread():
    """The windows are so small that threads wait for each other."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    folder = tmp_path_factory.mktemp("toy")
    data = make_toy_genome(
        folder,
        n_chromosomes=3,
        chromosome_length_bp=20_000,
        genes_per_chromosome=4,
        n_tissues=2,
    )
    return Toy(folder, data.genome, *write_toy_tables(data, folder))


@pytest.fixture
def cli(capsys, monkeypatch) -> Callable[..., Outcome]:
    for name in ("WEIGHTS", "GENOME", "DEVICE", "PRECISION", "BATCH_SIZE"):
        monkeypatch.delenv(f"ENFORMER_FEATURES_{name}", raising=False)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = main([str(argument) for argument in arguments])
        return Outcome(code, *capsys.readouterr())

    return call


@pytest.fixture
def exploding(tmp_path) -> Path:
    """Weights whose sizes are known, and that cannot be loaded."""
    from enformer_features.model import EnformerConfig

    config = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    folder = tmp_path / "exploding"
    folder.mkdir()
    (folder / "config.json").write_text(config.to_json())
    (folder / "model.safetensors").write_bytes(b"boom")
    return folder
