"""Values that are written some rows at a time."""

import anndata
import numpy as np
import pandas as pd
import pytest

from enformer_features.estimators.embedding_store import EmbeddingStore
from enformer_features.estimators.streaming import as_dtype, auto_unit_rows
from enformer_features.exceptions import (
    FailedWindowsWarning,
    InputError,
    PlanMismatchError,
    StoreError,
    WindowWarning,
)
from enformer_features.inference.engine import Engine
from enformer_features.storage.cache import MemoryCache
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)

READERS = {".zarr": anndata.read_zarr, ".h5ad": anndata.read_h5ad}
both_kinds = pytest.mark.parametrize("suffix", READERS)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """No power is cut here; tests/faults kills processes."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture
def small_units(monkeypatch):
    monkeypatch.setattr("enformer_features.estimators.streaming.UNIT_ROWS", 2)


@pytest.fixture(scope="module")
def sequences():
    letters = [random_letters(LENGTH, i) for i in range(5)]
    return pd.Series(letters, index=[f"s{i}" for i in range(5)])


def of_kind(told, kind):
    return [warning.filename for warning in told if warning.category is kind]


def read(path):
    return READERS[path.suffix](path)


@both_kinds
@pytest.mark.usefixtures("small_units")
def test_streamed_rows_are_those_in_memory(tmp_path, sequences, suffix):
    model = embedder()
    path = model.to_anndata(sequences, out=tmp_path / f"f{suffix}")
    assert path == tmp_path / f"f{suffix}"
    adata, expected = read(path), model.to_anndata(sequences)
    np.testing.assert_array_equal(adata.X, expected.X)
    pd.testing.assert_frame_equal(adata.obs, expected.obs)
    pd.testing.assert_frame_equal(adata.var, expected.var)
    assert dict(adata.uns["enformer_features"]) == expected.uns["enformer_features"]


@both_kinds
@pytest.mark.usefixtures("small_units")
def test_streamed_bins_are_those_in_memory(tmp_path, sequences, suffix):
    model = embedder()
    adata = read(model.embed_bins(sequences, out=tmp_path / f"f{suffix}"))
    expected = model.to_anndata(sequences, bins=True)
    bins = expected.obsm["X_enformer_bins"]
    np.testing.assert_array_equal(bins, model.embed_bins(sequences))
    np.testing.assert_array_equal(adata.obsm["X_enformer_bins"], bins)
    assert adata.X is None is expected.X
    pd.testing.assert_frame_equal(adata.obs, expected.obs)
    pd.testing.assert_frame_equal(adata.var, expected.var)


@both_kinds
def test_float16_is_for_what_is_written(tmp_path, sequences, suffix):
    model = embedder()
    path = model.embed_bins(sequences, out=tmp_path / f"f{suffix}", dtype="float16")
    bins = read(path).obsm["X_enformer_bins"]
    np.testing.assert_array_equal(bins, model.embed_bins(sequences).astype("float16"))
    for call in (model.embed_bins, model.to_anndata):
        with pytest.raises(InputError, match="dtype='float16' is for values that are"):
            call(sequences, dtype="float16")


def test_values_beyond_float16_are_refused():
    values = np.array([[1, 2], [70_000, 0]], dtype=np.float32)
    with pytest.raises(StoreError, match="row b: values beyond the range of float16"):
        as_dtype(values, "float16", ["row a", "row b"])


@both_kinds
@pytest.mark.usefixtures("small_units")
def test_failed_rows_are_nan_with_a_reason_and_a_warning(
    tmp_path, monkeypatch, sequences, suffix
):
    forward, calls = Engine._forward, []

    def fail_once(self, batch, reads):
        calls.append(batch)
        if len(calls) == 4:
            msg = "unlucky"
            raise ValueError(msg)
        return forward(self, batch, reads)

    monkeypatch.setattr(Engine, "_forward", fail_once)
    monkeypatch.setattr("random.SystemRandom.randrange", lambda _, n: 0)
    with pytest.warns(FailedWindowsWarning, match="NaN: s3: .*unlucky") as told:
        path = embedder(on_error="nan").to_anndata(
            sequences, out=tmp_path / f"f{suffix}"
        )
    adata = read(path)
    assert np.flatnonzero(np.isnan(adata.X).any(axis=1)).tolist() == [3]
    assert adata.obs["reason"].iloc[3] == "the network failed: ValueError: unlucky"
    assert of_kind(told, FailedWindowsWarning) == [__file__]


@pytest.mark.usefixtures("small_units")
def test_the_same_call_goes_on_with_an_interrupted_zarr(
    tmp_path, monkeypatch, sequences
):
    model, out = embedder(cache=MemoryCache()), tmp_path / "f.zarr"
    embed_unit, units = EmbeddingStore.embed_unit, []

    def interrupted(self, unit):
        if len(units) == 2:
            raise KeyboardInterrupt
        units.append(unit)
        return embed_unit(self, unit)

    with monkeypatch.context() as patch:
        patch.setattr(EmbeddingStore, "embed_unit", interrupted)
        with pytest.raises(KeyboardInterrupt):
            model.embed_bins(sequences, out=out)
    assert not out.exists()
    counted = []
    monkeypatch.setattr(
        EmbeddingStore,
        "embed_unit",
        lambda self, unit: counted.append(unit) or embed_unit(self, unit),
    )
    path = model.embed_bins(sequences, out=out)
    assert sorted(units + counted) == [0, 1, 2]
    bins = read(path).obsm["X_enformer_bins"]
    np.testing.assert_array_equal(bins, model.embed_bins(sequences))
    assert model.embed_bins(sequences, out=out) == path
    assert len(counted) == 1


@both_kinds
def test_what_is_there_is_replaced_only_when_asked_for(tmp_path, sequences, suffix):
    out = tmp_path / f"f{suffix}"
    embedder().to_anndata(sequences, out=out)
    other = embedder(pooling="mean")
    with pytest.raises((InputError, PlanMismatchError), match=r"overwrite=True"):
        other.to_anndata(sequences, out=out)
    other.to_anndata(sequences, out=out, overwrite=True)
    np.testing.assert_array_equal(read(out).X, other.transform(sequences))


def test_an_h5ad_that_fails_half_way_leaves_the_old_one(
    tmp_path, monkeypatch, sequences
):
    out = embedder().to_anndata(sequences, out=tmp_path / "f.h5ad")
    before = out.read_bytes()
    forward, calls = Engine._forward, []

    def stop(self, batch, reads):
        calls.append(batch)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return forward(self, batch, reads)

    monkeypatch.setattr(Engine, "_forward", stop)
    with pytest.raises(KeyboardInterrupt):
        embedder(strand="average").to_anndata(sequences, out=out, overwrite=True)
    assert out.read_bytes() == before
    assert list(tmp_path.iterdir()) == [out]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("f.tsv", r"out='.*f\.tsv' needs the suffix \.zarr or \.h5ad"),
        ("zarr", r"out='.*zarr' needs the suffix"),
        ("none/f.zarr", "there is no folder"),
        ("none/f.h5ad", "there is no folder"),
    ],
)
def test_a_bad_path_is_told_before_rows_are_read(
    tmp_path, monkeypatch, sequences, name, message
):
    monkeypatch.delattr("enformer_features.estimators.streaming.prepare")
    with pytest.raises(InputError, match=message):
        embedder().to_anndata(sequences, out=tmp_path / name)


def test_repeated_names_are_refused_or_numbered(tmp_path, sequences):
    table = sequences.set_axis(["a", "a", "b", "c", "d"])
    with pytest.raises(InputError, match="names that repeat: a"):
        embedder().embed_bins(table, out=tmp_path / "f.zarr")
    path = embedder().to_anndata(table, make_unique=True, out=tmp_path / "f.zarr")
    assert list(read(path).obs_names) == ["a", "a-1", "b", "c", "d"]


def test_windows_at_an_end_point_at_the_caller(tmp_path):
    genome = write_fasta(tmp_path / "toy.fa", chr1=random_letters(3000, 1))
    for suffix in READERS:
        with pytest.warns(WindowWarning, match="leave their chromosome") as told:
            embedder(genome=genome).to_anndata(
                ["chr1:11-12"], out=tmp_path / f"f{suffix}"
            )
        assert of_kind(told, WindowWarning) == [__file__]


@pytest.mark.parametrize(("batch_size", "n_rows"), [(1, 64), (24, 48), (100, 100)])
def test_units_fill_their_batches(batch_size, n_rows):
    assert auto_unit_rows(4, batch_size) == n_rows
