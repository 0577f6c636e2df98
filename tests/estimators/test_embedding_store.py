"""Stores of features: from rows to a folder, and back in another process."""

import json

import anndata
import numpy as np
import pandas as pd
import pytest
import torch
import zarr
from anndata.experimental import read_elem_lazy, read_lazy

from enformer_features import ModelHandle, Pool, TrackSelection
from enformer_features.estimators.embedding_store import (
    open_embedding_store,
    plan_store,
)
from enformer_features.exceptions import (
    DeviceMemoryError,
    GenomeError,
    InputError,
    PlanMismatchError,
    StoreError,
    WeightsError,
    WindowWarning,
)
from enformer_features.inference.engine import Engine
from enformer_features.model.registry import load_weights
from enformer_features.storage.store import Store, StorePlan, create_store
from tests.estimators.toy import LENGTH, embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    """No power is cut here; tests/faults kills processes."""
    monkeypatch.setattr("os.fsync", lambda _: None)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    return write_fasta(folder / "toy.fa", chr1=random_letters(9000, 1))


@pytest.fixture(scope="module")
def regions():
    starts = np.arange(7) * 700 + 1500
    return pd.DataFrame(
        {
            "chrom": "chr1",
            "start": starts,
            "end": starts + 1,
            "strand": ["+", "-"] * 3 + ["."],
        },
        index=[f"gene_{i}" for i in range(7)],
    )


@pytest.fixture(scope="module")
def features(genome, regions):
    return embedder(genome=genome).transform(regions)


def finished(store):
    store.run()
    return anndata.read_zarr(store.finalize())


# What comes out


def test_a_store_holds_the_same_bits_as_transform(tmp_path, genome, regions, features):
    store = plan_store(
        embedder(genome=genome), regions, tmp_path / "f.zarr", unit_rows=3
    )
    assert (store.run(), store.run()) == (3, 0)
    adata = anndata.read_zarr(store.finalize())
    np.testing.assert_array_equal(adata.X, features)
    expected = embedder(genome=genome).to_anndata(regions)
    assert list(adata.var_names) == list(expected.var_names)
    pd.testing.assert_frame_equal(adata.obs, expected.obs, check_categorical=False)
    told, known = (
        json.loads(a.uns["enformer_features"]["provenance_json"])
        for a in (adata, expected)
    )
    assert told == known


def test_a_worker_needs_only_the_path(tmp_path, monkeypatch, genome, regions, features):
    plan_store(embedder(genome=genome), regions, tmp_path / "f.zarr", unit_rows=2)
    monkeypatch.chdir(tmp_path)
    store = open_embedding_store("f.zarr")
    assert store.run((2, 2)) == 2
    assert open_embedding_store("f.zarr").run() == 2
    np.testing.assert_array_equal(anndata.read_zarr(store.finalize()).X, features)


def test_a_store_that_is_to_replace_another_is_worked_on(
    tmp_path, genome, regions, features
):
    path = tmp_path / "f.zarr"
    finished(plan_store(embedder(genome=genome), regions[::-1], path))
    plan_store(embedder(genome=genome), regions, path, unit_rows=4, overwrite=True)
    store = open_embedding_store(path)
    assert (store.run(), store.status().is_finished) == (2, False)
    adata = anndata.read_zarr(open_embedding_store(path).finalize(overwrite=True))
    np.testing.assert_array_equal(adata.X, features)


def test_sequences_are_kept_with_the_plan(tmp_path):
    sequences = pd.Series(
        [random_letters(900, i) for i in range(3)], index=["a", "b", "c"]
    )
    model = embedder(resize="pad", strand="average", shifts=(-2, 0))
    plan_store(model, sequences, tmp_path / "f.zarr", unit_rows=2)
    adata = finished(open_embedding_store(tmp_path / "f.zarr"))
    np.testing.assert_array_equal(adata.X, model.transform(sequences))
    assert list(adata.obs_names) == ["a", "b", "c"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"pooling": ("center", Pool("near", (-2, 1), "max")), "strand": "average"},
        {"output": "tracks", "tracks": TrackSelection((7, 2), ("x", "y"))},
        {"output": "tracks", "organism": "mouse", "tracks": [3, 1], "center": "bin"},
        {"output": "block_1", "batch_size": 3, "precision": "float32-exact"},
        {"snap": True, "contig_style": "ucsc", "pooling": "mean"},
    ],
    ids=lambda parameters: ",".join(parameters),
)
def test_every_parameter_survives_in_the_plan(tmp_path, genome, regions, parameters):
    model = embedder(genome=genome, **parameters)
    plan_store(model, regions, tmp_path / "f.zarr", unit_rows=7)
    adata = finished(open_embedding_store(tmp_path / "f.zarr"))
    np.testing.assert_array_equal(adata.X, model.transform(regions))
    assert list(adata.var_names) == list(model.get_feature_names_out())


def test_bins_are_kept_in_obsm_and_named_in_var(tmp_path, genome, regions):
    model = embedder(genome=genome)
    adata = finished(plan_store(model, regions, tmp_path / "f.zarr", bins=True))
    np.testing.assert_array_equal(
        adata.obsm["X_enformer_bins"], model.embed_bins(regions)
    )
    assert adata.X is None
    assert list(adata.var_names[:2]) == ["enformer_0000", "enformer_0001"]


@pytest.fixture
def lazily_and_eagerly(tmp_path, genome, regions):
    model, path = embedder(genome=genome), tmp_path / "f.zarr"
    store = plan_store(model, regions, path, bins=True, unit_rows=2)
    return path, finished(store)


def test_values_read_lazily_equal_the_eager_ones(lazily_and_eagerly):
    path, eager = lazily_and_eagerly
    array = read_elem_lazy(zarr.open_array(path / "obsm" / "X_enformer_bins", mode="r"))
    bins = eager.obsm["X_enformer_bins"]
    np.testing.assert_array_equal(array[3:6].compute(), bins[3:6])


def test_a_subset_read_lazily_equals_the_eager_one(lazily_and_eagerly):
    path, eager = lazily_and_eagerly
    subset, expected = read_lazy(path)[3:6].to_memory(), eager[3:6].copy()
    for key in ("obs", "var"):
        pd.testing.assert_frame_equal(
            getattr(subset, key), getattr(expected, key), check_categorical=False
        )
    np.testing.assert_array_equal(
        subset.obsm["X_enformer_bins"], expected.obsm["X_enformer_bins"]
    )


def test_float16_halves_the_values_and_rounds_them(tmp_path, genome, regions, features):
    store = plan_store(
        embedder(genome=genome), regions, tmp_path / "f.zarr", dtype="float16"
    )
    adata = finished(store)
    np.testing.assert_array_equal(adata.X, features.astype("float16"))


def test_bad_rows_are_nan_and_say_why(tmp_path, genome, regions):
    table = regions.assign(start=[1500, -1, *regions["start"][2:]])
    model = embedder(genome=genome, on_error="nan")
    plan_store(model, table, tmp_path / "f.zarr", unit_rows=2)
    store = open_embedding_store(tmp_path / "f.zarr")
    adata = finished(store)
    assert np.isnan(adata.X[1]).all()
    assert not np.isnan(adata.X[[0, *range(2, 7)]]).any()
    assert list(store.reasons()) == [1]
    assert adata.obs["reason"].iloc[1] == store.reasons()[1] != ""


def test_a_row_that_the_network_fails_on_is_told_by_its_number(
    tmp_path, monkeypatch, genome, regions
):
    forward, calls = Engine._forward, []

    def fail_once(self, batch, reads):
        calls.append(batch)
        if len(calls) == 5:
            msg = "unlucky"
            raise ValueError(msg)
        return forward(self, batch, reads)

    monkeypatch.setattr(Engine, "_forward", fail_once)
    model = embedder(genome=genome, on_error="nan")
    store = plan_store(model, regions, tmp_path / "f.zarr", unit_rows=3)
    for unit in range(3):
        store.embed_unit(unit)
    assert store.reasons() == {4: "the network failed: ValueError: unlucky"}


def test_windows_at_an_end_are_told_once_when_planned(tmp_path, genome, regions):
    table = regions.assign(start=100, end=101)
    with pytest.warns(WindowWarning, match="leave their chromosome") as told:
        store = plan_store(embedder(genome=genome), table, tmp_path / "f.zarr")
    assert [w.filename for w in told if w.category is WindowWarning] == [__file__]
    assert store.run() == 1  # warnings are errors


# What is refused


def test_nothing_is_made_when_a_row_cannot_be_used(tmp_path, genome, regions):
    table = regions.assign(chrom=["chr9", *["chr1"] * 6])
    with pytest.raises(GenomeError, match="unknown contig 'chr9'"):
        plan_store(embedder(genome=genome), table, tmp_path / "f.zarr")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"unit_rows": 0}, "unit_rows=0 must be 'auto' or a whole number"),
        ({"unit_rows": "all"}, "unit_rows='all' must be 'auto'"),
        ({"dtype": "float8"}, "dtype='float8' is not one of 'float32', 'float16'"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    with pytest.raises(InputError, match=message):
        plan_store(embedder(), [random_letters(LENGTH)], tmp_path / "f.zarr", **options)


@pytest.mark.parametrize("name", ["f.h5ad", "none/f.zarr"])
def test_a_bad_path_is_told_before_rows_are_read(tmp_path, monkeypatch, name):
    monkeypatch.delattr("enformer_features.estimators.streaming.prepare")
    with pytest.raises(InputError, match=r"f\.(h5ad|zarr)"):
        plan_store(embedder(), [random_letters(LENGTH)], tmp_path / name)


def test_equal_plans_share_a_store_and_others_are_refused(tmp_path, genome, regions):
    model = embedder(genome=genome)
    path = tmp_path / "f.zarr"
    plan_store(model, regions, path, unit_rows=2).run((1, 2))
    again = plan_store(model, regions, path, unit_rows=2)
    assert again.status().n_done == 2
    for other, rows, difference in [
        (embedder(genome=genome, edge="error"), regions, "settings.edge: 'error' !="),
        (model, regions.rename(index=str.upper), "settings.obs_digest"),
        (model, regions.assign(strand="+"), r"unit_digests: 3 of 4 units"),
    ]:
        with pytest.raises(PlanMismatchError, match=difference):
            plan_store(other, rows, path, unit_rows=2)
    assert again.status().n_done == 2


def test_a_genome_with_other_letters_or_contigs_is_refused(tmp_path, genome, regions):
    path = tmp_path / "f.zarr"
    plan_store(embedder(genome=genome), regions, path)
    letters = write_fasta(tmp_path / "letters.fa", chr1=random_letters(9000, 2))
    with pytest.raises(PlanMismatchError, match=r"rows 0 to 6 \(unit 0\) read other"):
        open_embedding_store(path, genome=letters).run()
    contigs = write_fasta(tmp_path / "contigs.fa", chr1=random_letters(9001, 1))
    with pytest.raises(PlanMismatchError, match=r"settings\.genome_digest: 'sha256:"):
        open_embedding_store(path, genome=contigs).run()
    copied = tmp_path / "copy.fa"
    copied.write_bytes(genome.read_bytes())
    assert open_embedding_store(path, genome=copied).run() == 1


def test_other_weights_are_refused(tmp_path):
    path = tmp_path / "f.zarr"
    plan_store(embedder(), [random_letters(LENGTH)], path)
    with pytest.raises(PlanMismatchError, match=r"settings.weights_digest: .* != "):
        open_embedding_store(path, weights="mini").run()


def test_another_kind_of_device_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "f.zarr"
    plan_store(embedder(), [random_letters(LENGTH)], path)
    monkeypatch.setattr(
        "enformer_features.estimators.embedding_store.resolve_device",
        lambda _: torch.device("meta"),
    )
    with pytest.raises(PlanMismatchError, match=r"settings\.device: 'cpu' != 'meta'"):
        open_embedding_store(path).run()


def test_a_network_in_memory_must_be_given_again_elsewhere(tmp_path):
    handle = ModelHandle(load_weights("untrained-tiny").module, trained=False)
    model, path = embedder(weights=handle), tmp_path / "f.zarr"
    sequences = [random_letters(LENGTH, i) for i in range(2)]
    here = plan_store(model, sequences, path, unit_rows=1)
    assert here.embed_unit(0)
    elsewhere = open_embedding_store(path)
    with pytest.raises(WeightsError, match=r"give weights=ModelHandle\(network\) here"):
        elsewhere.run()
    assert elsewhere.status().n_done == 1
    assert open_embedding_store(path, weights=handle).run() == 1


def test_a_batch_that_does_not_fit_is_an_error_and_no_other_bits(tmp_path, monkeypatch):
    sequences = [random_letters(LENGTH, i) for i in range(4)]
    store = plan_store(embedder(batch_size=4), sequences, tmp_path / "f.zarr")
    forward = Engine._forward

    def full(self, batch, reads):
        if self.batch_size > 2:
            raise MemoryError
        return forward(self, batch, reads)

    monkeypatch.setattr(Engine, "_forward", full)
    message = "batch_size=4 does not fit .* begin again with a smaller batch_size"
    with (
        pytest.warns(UserWarning, match="computed with batch_size=2"),
        pytest.raises(DeviceMemoryError, match=message),
    ):
        store.run()
    assert store.status().n_done == 0


def test_a_store_of_something_else_is_told(tmp_path):
    plan = StorePlan("X", 1, (1,), "float32", 1, ("a",))
    tables = pd.DataFrame(index=["row"]), pd.DataFrame(index=["feature"])
    create_store(tmp_path / "f.zarr", plan, *tables, {})
    with pytest.raises(StoreError, match="not one of features of an embedder"):
        open_embedding_store(tmp_path / "f.zarr")


# Looking after


def test_looking_needs_neither_weights_nor_genome(tmp_path, regions):
    genome = write_fasta(tmp_path / "gone.fa", chr1=random_letters(9000, 1))
    path = tmp_path / "f.zarr"
    plan_store(embedder(genome=genome), regions, path).run()
    genome.unlink()
    store = open_embedding_store(path)
    assert store.status().n_done == 1
    assert not store.verify().damaged
    assert store.finalize() == path


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize("is_finished", [False, True])
def test_repair_computes_the_damaged_units_and_no_other(
    tmp_path, monkeypatch, genome, regions, features, is_finished
):
    path = tmp_path / "f.zarr"
    store = plan_store(embedder(genome=genome), regions, path, unit_rows=2)
    store.run()
    if is_finished:
        store.finalize()
    flip(store.store.folder / "X" / "c.1.0")
    store = open_embedding_store(path)
    assert store.verify().damaged == ["unit 1: values"]
    begin_unit, units = Store.begin_unit, []
    monkeypatch.setattr(
        Store, "begin_unit", lambda s, u: units.append(u) or begin_unit(s, u)
    )
    assert store.verify(repair=True).damaged == ["unit 1: values"]
    assert (units, store.store.is_finished) == ([1], is_finished)
    assert store.verify(repair=True).damaged == []
    np.testing.assert_array_equal(anndata.read_zarr(store.finalize()).X, features)


def test_nothing_is_dropped_that_cannot_be_computed_again(tmp_path, regions):
    genome = write_fasta(tmp_path / "gone.fa", chr1=random_letters(9000, 1))
    store = plan_store(embedder(genome=genome), regions, tmp_path / "f.zarr")
    store.run()
    flip(store.store.folder / "X" / "c.0.0")
    genome.unlink()
    with pytest.raises(GenomeError, match=r"gone\.fa"):
        open_embedding_store(tmp_path / "f.zarr").verify(repair=True)
    assert store.status().n_done == 1


@pytest.mark.parametrize("harmed", ["X/c.1.0", "enformer_features/units/1.json"])
def test_a_repair_that_fails_leaves_a_finished_store_and_its_damage(
    tmp_path, genome, regions, features, harmed
):
    path = tmp_path / "f.zarr"
    store = plan_store(embedder(genome=genome), regions, path, unit_rows=2)
    store.run()
    store.finalize()
    flip(path / harmed)
    letters = write_fasta(tmp_path / "letters.fa", chr1=random_letters(9000, 2))
    other = open_embedding_store(path, genome=letters)
    with pytest.raises(PlanMismatchError, match="read other sequences"):
        other.verify(repair=True)
    assert [p.name for p in tmp_path.glob("*.zarr*")] == ["f.zarr"]
    store = open_embedding_store(path)
    assert store.verify(repair=True).units == [1]
    assert (store.verify().damaged, store.store.is_finished) == ([], True)
    np.testing.assert_array_equal(anndata.read_zarr(path).X, features)


def test_other_damaged_files_are_told_and_restored_by_planning_again(
    tmp_path, genome, regions
):
    model, path = embedder(genome=genome), tmp_path / "f.zarr"
    store = plan_store(model, regions, path)
    store.run()
    flip(store.store.folder / "obs" / "start" / "zarr.json")
    (damaged,) = open_embedding_store(path).verify(repair=True).damaged
    assert damaged == "obs/start/zarr.json"
    with pytest.raises(StoreError, match="plan it again"):
        store.finalize()
    assert not plan_store(model, regions, path).verify().damaged
    assert store.finalize() == path


def test_runs_at_the_same_time_begin_at_different_units(tmp_path, monkeypatch):
    sequences = [random_letters(LENGTH, i) for i in range(5)]
    store = plan_store(embedder(), sequences, tmp_path / "f.zarr", unit_rows=1)
    begun = []
    monkeypatch.setattr(
        type(store), "embed_unit", lambda _, unit: begun.append(unit) or False
    )
    monkeypatch.setattr("random.SystemRandom.randrange", lambda _, n: n - 2)
    store.run()
    assert begun == [3, 4, 0, 1, 2]


def test_a_part_is_a_share_of_the_units(tmp_path):
    sequences = [random_letters(LENGTH, i) for i in range(5)]
    store = plan_store(embedder(), sequences, tmp_path / "f.zarr", unit_rows=1)
    assert (store.run((1, 3)), store.run((1, 3)), store.run((3, 3))) == (2, 0, 1)
    with pytest.raises(InputError, match="part 4 of 3"):
        store.run((4, 3))
