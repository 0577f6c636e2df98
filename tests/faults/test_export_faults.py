"""Kills and full disks while files are exported and a genome is indexed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from enformer_features.exceptions import StoreError
from enformer_features.genomics._faidx import load_index
from enformer_features.genomics.encoding import encode
from enformer_features.genomics.genome import Genome
from tests.faults.children import environment, run, short_and_full, small_disk
from tests.genomics.fasta import fasta_text, read_plainly, write_bgzf

SHAPE = (400, 2_000)


def export(path: Path, number: int, *, extra_bytes: int = 0) -> None:
    """Export features that are all one number, over what may be there."""
    import pandas as pd

    from enformer_features.storage.export import to_anndata, write_h5ad

    obs = pd.DataFrame(index=[f"row {i}" for i in range(SHAPE[0])])
    values = np.full(SHAPE, number, np.float32)
    adata = to_anndata(values, obs, [f"feature {i}" for i in range(SHAPE[1])])
    adata.uns["extra"] = np.zeros(extra_bytes, np.uint8)
    write_h5ad(adata, path, overwrite=True)


def number_in(path: Path) -> int:
    """Return the number that a whole file holds."""
    import anndata

    adata = anndata.read_h5ad(path)
    assert adata.shape == SHAPE
    (number,) = np.unique(adata.X)
    return int(number)


# Kills


def export_on(path: str, first: str) -> None:
    """Export over and over, with a number that grows; tell each before it is begun."""
    export(Path(path), int(first))  # what is imported takes a second
    for number in range(int(first), 1_000_000):
        print(number, flush=True)
        export(Path(path), number)


@short_and_full("n_kills", 2, 20)
def test_a_file_that_is_replaced_is_old_or_new_after_a_kill(
    tmp_path, children, figure, n_kills
):
    rng, path, number = random.Random(n_kills), tmp_path / "features.h5ad", 1
    export(path, 0)
    for _ in range(n_kills):
        child = children.start(export_on, path, number)
        assert child.stdout.readline() == f"{number}\n", child.stderr.read()
        children.kill_after(rng.uniform(0, 0.3), child)
        begun = [number, *map(int, child.stdout.read().split())]
        assert number_in(path) in (begun[-1] - 1, begun[-1])
        number = begun[-1] + 1
        export(path, number - 1)
    left = [file.name for file in tmp_path.iterdir() if file != path]
    assert len(left) <= n_kills
    assert all(name.startswith(".features.h5ad.") for name in left)
    figure(
        f"{n_kills} kills, {len(left)} amidst writing: {n_kills} files readable, each "
        "the old or the new one"
    )


def sequences(seed: int) -> list[str]:
    rng = random.Random(seed)
    return ["".join(rng.choices("ACGT", k=1_024)) for _ in range(8)]


def stream_on(path: str) -> None:
    """Export all bins over and over, of other sequences every time."""
    from tests.estimators.toy import embedder

    for number in range(1_000_000):
        embedder().to_anndata(
            sequences(number % 2), bins=True, out=path, overwrite=True, dtype="float16"
        )
        if not number:  # all is imported
            print("begun", flush=True)


@pytest.mark.filterwarnings(
    "ignore::enformer_features.exceptions.UntrainedWeightsWarning"
)
@short_and_full("n_kills", 1, 20)
def test_bins_that_are_streamed_over_a_file_are_old_or_new_after_a_kill(
    tmp_path, children, figure, n_kills
):
    import anndata

    from tests.estimators.toy import embedder

    rng, path = random.Random(n_kills), tmp_path / "bins.h5ad"
    whole = [embedder().embed_bins(sequences(i)).astype(np.float16) for i in (0, 1)]
    embedder().to_anndata(sequences(0), bins=True, out=path, dtype="float16")
    for _ in range(n_kills):
        child = children.start(stream_on, path)
        assert child.stdout.readline() == "begun\n", child.stderr.read()
        children.kill_after(rng.uniform(0, 0.3), child)
        found = anndata.read_h5ad(path).obsm["X_enformer_bins"]
        assert any(np.array_equal(found, values) for values in whole)
    left = [file.name for file in tmp_path.iterdir() if file != path]
    assert all(name.startswith(".bins.h5ad.") for name in left)
    figure(
        f"{n_kills} kills, {len(left)} amidst writing: {n_kills} files readable, each "
        "the old or the new one"
    )


def index_on(fasta: str) -> None:
    """Index a genome over and over."""
    print("begun", flush=True)
    while True:
        for path in beside(Path(fasta)):
            path.unlink(missing_ok=True)
        load_index(Path(fasta))


def beside(fasta: Path) -> list[Path]:
    return [fasta.with_name(f"{fasta.name}.{suffix}") for suffix in ("fai", "gzi")]


def write_genome(path: Path, n_contigs: int = 300) -> Path:
    rng = random.Random(0)
    contigs = {
        f"contig{i}": "".join(rng.choices("ACGTN", k=1_000)) for i in range(n_contigs)
    }
    if path.suffix == ".gz":
        return write_bgzf(path, fasta_text(contigs))
    path.write_text(fasta_text(contigs))
    return path


def assert_all_bases_are_right(fasta: Path) -> None:
    expected = read_plainly(fasta)
    with Genome(fasta) as genome:
        assert list(genome.contigs) == list(expected)
        for name, letters in expected.items():
            np.testing.assert_array_equal(
                genome.fetch(name, 0, len(letters)), encode(letters)
            )


@pytest.mark.parametrize("name", ["toy.fa", "toy.fa.gz"])
@short_and_full("n_kills", 2, 20)
def test_no_part_of_an_index_is_used_after_a_kill(
    tmp_path, children, monkeypatch, n_kills, name
):
    monkeypatch.setenv("ENFORMER_FEATURES_CACHE", str(tmp_path / "cache"))
    rng, fasta = random.Random(n_kills), write_genome(tmp_path / name)
    Genome(fasta).close()
    whole = {path: path.read_bytes() for path in beside(fasta) if path.exists()}
    assert len(whole) == (2 if name.endswith(".gz") else 1)
    for _ in range(n_kills):
        child = children.start(index_on, fasta, env=environment())
        assert child.stdout.readline() == "begun\n", child.stderr.read()
        children.kill_after(rng.uniform(0, 0.1), child)
        for path, content in whole.items():
            assert not path.exists() or path.read_bytes() == content
        assert_all_bases_are_right(fasta)


# Full disks


def export_to_a_disk(path: str, number: str, extra_bytes: str) -> None:
    """Tell why an export failed; that the process ends well is part of the test."""
    try:
        export(Path(path), int(number), extra_bytes=int(extra_bytes))
    except StoreError as error:
        print(error)


@pytest.mark.parametrize(
    ("room", "extra_bytes", "message"),
    [
        pytest.param(1 << 20, 0, "are free on its disk", id="known before"),
        pytest.param(6 << 20, 8 << 20, "could not be written", id="found by writing"),
    ],
)
def test_an_export_to_a_full_disk_says_so_and_leaves_the_old_file(
    tmp_path, room, extra_bytes, message
):
    with small_disk(tmp_path / "disk", room=room + (4 << 20)) as disk:
        path = disk.folder / "features.h5ad"
        first = disk.run(export_to_a_disk, path, 1, 0)
        assert (first.returncode, first.stdout) == (0, ""), first.stderr
        if not disk.is_mounted and not extra_bytes:
            pytest.skip("without a disk of its own, room is not known before")
        full = disk.run(export_to_a_disk, path, 2, extra_bytes)
        assert full.returncode == 0, full.stderr
        assert str(path) in full.stdout
        assert message in full.stdout
        assert "bytes are needed" in full.stdout
        assert disk.content() == ["features.h5ad"]
        assert number_in(path) == 1
        disk.make_room()
        assert disk.run(export_to_a_disk, path, 3, extra_bytes).stdout == ""
        assert number_in(path) == 3


def embed_to_a_disk(genome: str, *outputs: str) -> None:
    """Embed into files of several kinds; tell the exit codes."""
    from enformer_features.cli import main

    rows = [word for i in range(1, 21) for word in ("--region", f"contig0:{i}-{i}")]
    network = ["--weights", "untrained-tiny", "--sequence-length", "1024"]
    arguments = ["embed", *rows, *network, "--genome", genome, "--overwrite", "--quiet"]
    print(*(main([*arguments, "-o", output]) for output in outputs))


def test_the_command_line_ends_with_1_on_a_full_disk_and_says_why(tmp_path):
    genome = write_genome(tmp_path / "toy.fa", 2)
    with small_disk(tmp_path / "disk", room=8_192) as disk:
        paths = [disk.folder / f"features.{kind}" for kind in ("h5ad", "tsv", "npz")]
        full = disk.run(embed_to_a_disk, genome, *paths)
        assert (full.returncode, full.stdout) == (0, "1 1 1\n"), full.stderr
        for path in paths:
            assert f"error: {path} " in full.stderr
        assert "Traceback" not in full.stderr
        assert disk.content() == []
        disk.make_room()
        done = disk.run(embed_to_a_disk, genome, *paths)
        assert (done.returncode, done.stdout) == (0, "0 0 0\n"), done.stderr


def index_on_a_disk(fasta: str) -> None:
    assert_all_bases_are_right(Path(fasta))


@pytest.mark.parametrize("name", ["toy.fa", "toy.fa.gz"])
def test_a_genome_on_a_full_disk_is_read_without_keeping_an_index(tmp_path, name):
    with small_disk(tmp_path / "disk", room=500_000) as disk:
        if not disk.is_mounted:
            pytest.skip("needs a small disk; no permission to mount one")
        fasta = write_genome(disk.folder / name)
        disk.fill()
        cached = environment(ENFORMER_FEATURES_CACHE=str(disk.folder / "cache"))
        full = disk.run(index_on_a_disk, fasta, env=cached)
        assert full.returncode == 0, full.stderr
        assert disk.content() == [name]
        disk.make_room()
        assert run(index_on_a_disk, fasta, env=cached).returncode == 0
        assert f"{name}.fai" in disk.content()
