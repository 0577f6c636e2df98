import gzip
import pickle

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from enformer_features import (
    EnformerEmbedder,
    Pool,
    TrackSelection,
    read_genes,
    read_regions,
)
from enformer_features.exceptions import (
    CacheWarning,
    FailedWindowsWarning,
    GenomeError,
    InferenceError,
    InputError,
    InputTypeError,
    WeightsError,
    WindowWarning,
)
from enformer_features.genomics.encoding import encode, one_hot
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.engine import Engine
from enformer_features.inference.prepared import Prepared
from enformer_features.inference.reuse import SharedTower
from enformer_features.model import EnformerConfig, registry
from enformer_features.storage.cache import MemoryCache
from enformer_features.storage.disk_cache import _OPEN
from tests.estimators.toy import LENGTH, embedder, mirrored, random_letters, write_fasta
from tests.model import parity

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)


@pytest.fixture(scope="module")
def genome(tmp_path_factory):
    folder = tmp_path_factory.mktemp("genome")
    contigs = {"chr1": random_letters(5000, 1), "chr2": random_letters(3001, 2)}
    return write_fasta(folder / "toy.fa", **contigs)


@pytest.fixture(scope="module")
def regions():
    return pd.DataFrame(
        {
            "chrom": ["chr1", "chr2", "chr1", "chr1", "chr2"],
            "start": [1000, 900, 2000, 1000, 1200],
            "end": [1001, 1108, 2003, 1001, 1900],
            "strand": ["+", "-", "-", "+", "."],
        },
        index=["a", "b", "c", "d", "e"],
    )


@pytest.fixture(scope="module")
def features(genome, regions):
    return embedder(genome=genome).transform(regions)


# The network's numbers


@pytest.mark.parametrize("name", ["small_a", "small_b"])
@pytest.mark.parametrize("field", ["embedding", "human", "mouse"])
def test_bins_agree_with_the_original_network(shared, tmp_path, name, field):
    fields = parity.read(shared, name)
    is_track = field != "embedding"
    model = EnformerEmbedder(
        weights=parity.write_folder(tmp_path / name, fields),
        sequence_length=parity.config_dict(fields)["sequence_length"],
        output="tracks" if is_track else "embedding",
        organism=field if is_track else "human",
        device="cpu",
    )
    parity.assert_agrees(field, model.embed_bins(fields["codes"]), fields[field])


def test_layers_are_cropped_to_the_kept_bins(shared, tmp_path):
    fields = parity.read(shared, "small_a")
    folder = parity.write_folder(tmp_path, fields)
    for output, field in [
        ("tower", "after_conv_tower"),
        ("block_0", "after_block_0"),
        ("block_1", "after_transformer"),
    ]:
        model = EnformerEmbedder(folder, sequence_length=4096, output=output)
        expected = fields[field][:, 8:24]
        parity.assert_agrees(field, model.embed_bins(fields["codes"]), expected)
        assert model.get_feature_names_out()[0] == f"{output}_0000"


# Rows


def test_output_is_contiguous_float32_with_one_row_per_region(features):
    assert features.dtype == np.float32
    assert features.flags.c_contiguous
    assert features.shape == (5, 192)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_order_subset_duplicates_and_neighbours_change_no_bit(
    genome, regions, batch_size
):
    model = embedder(genome=genome, batch_size=batch_size)
    whole = model.transform(regions)
    order = [4, 1, 1, 0, 3]
    np.testing.assert_array_equal(model.transform(regions.iloc[order]), whole[order])
    np.testing.assert_array_equal(model.transform(regions.iloc[[2]]), whole[[2]])
    np.testing.assert_array_equal(whole[0], whole[3])


def test_batch_size_changes_values_by_rounding_only(genome, regions, features):
    other = embedder(genome=genome, batch_size=4).transform(regions)
    np.testing.assert_allclose(other, features, rtol=1e-5, atol=1e-5)


def test_pickle_clone_and_a_fresh_load_change_no_bit(genome, regions, features):
    model = embedder(genome=genome)
    for other in (pickle.loads(pickle.dumps(model)), clone(model)):
        np.testing.assert_array_equal(other.transform(regions), features)
    registry.clear_loaded()
    np.testing.assert_array_equal(model.transform(regions), features)


def test_duplicates_are_computed_once_and_known_rows_not_again(genome, regions):
    cache = MemoryCache()
    model = embedder(genome=genome, cache=cache)
    assert model.plan(regions).n_unique == 4
    model.transform(regions)
    assert len(cache) == 4
    plan = model.plan(regions)
    assert (plan.n_rows, plan.n_cached, plan.n_passes) == (5, 4, 0)


def test_a_plan_downloads_nothing_even_when_other_rows_are_cached(monkeypatch):
    def refuse(source):
        pytest.fail(f"{source} was downloaded")

    for name in ("known_digest", "fetch_weights"):
        answer = refuse if name == "fetch_weights" else lambda source: None
        monkeypatch.setattr(f"enformer_features.model.hub.{name}", answer)
    sequences, cache = [random_letters(LENGTH)], MemoryCache()
    embedder(cache=cache).transform(sequences)
    assert len(cache) == 1
    assert embedder(weights="enformer", cache=cache).plan(sequences).n_cached == 0


def test_weights_that_are_exchanged_during_a_call_are_refused(monkeypatch):
    monkeypatch.setattr(
        "enformer_features.estimators.job.weights_digest", lambda _: "sha256:0"
    )
    cache = MemoryCache()
    with pytest.raises(WeightsError, match=r"exchanged during the call; repeat it"):
        embedder(cache=cache).transform([random_letters(LENGTH)])
    assert len(cache) == 0


def test_provenance_tells_tracks_by_index_and_how_sequences_are_resized():
    tracks = TrackSelection((7, 3), ("K562", "liver"))
    model = embedder(output="tracks", tracks=tracks, resize="pad")
    told = model.provenance()
    assert (told["tracks"], told["track_indices"]) == (["K562", "liver"], [7, 3])
    assert told["resize"] == "pad"


def test_cached_rows_are_the_same_bits(genome, regions, features):
    model = embedder(genome=genome, cache=MemoryCache())
    np.testing.assert_array_equal(model.transform(regions), features)
    np.testing.assert_array_equal(model.transform(regions), features)


@pytest.mark.parametrize(
    "change",
    [
        {"weights": "untrained-tiny", "pooling": "max"},
        {"output": "tower"},
        {"output": "tracks", "tracks": [0]},
        {"output": "tracks", "tracks": [1]},
        {"strand": "average"},
        {"shifts": (1,)},
        {"center": "bin"},
        {"precision": "float32-exact"},
        {"snap": True},
    ],
)
def test_the_cache_never_confuses_settings(genome, regions, change):
    cache = MemoryCache()
    embedder(genome=genome, cache=cache).transform(regions)
    cached = embedder(genome=genome, cache=cache, **change).transform(regions)
    fresh = embedder(genome=genome, **change).transform(regions)
    np.testing.assert_array_equal(cached, fresh)


# Strand


@pytest.mark.parametrize("length_bp", [1, 2, 129, 200])
@pytest.mark.parametrize("start", [0, 3, 1700, 2790])
@pytest.mark.parametrize("pooling", ["tss", "region", "flatten"])
def test_matched_strand_gives_a_mirrored_gene_the_same_bits(
    tmp_path, length_bp, start, pooling
):
    letters, n = random_letters(3001, 5), 3001
    plain = write_fasta(tmp_path / "plain.fa", c=letters)
    mirror = write_fasta(tmp_path / "mirror.fa", c=mirrored(letters))
    end = start + length_bp

    def embed(genome, start, end, strand):
        row = {"chrom": ["c"], "start": [start], "end": [end], "strand": [strand]}
        model = embedder(genome=genome, pooling=pooling, max_n_fraction=1.0)
        return model.transform(pd.DataFrame(row))

    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WindowWarning)
        forward = embed(plain, start, end, "+")
        backward = embed(mirror, n - end, n - start, "-")
    np.testing.assert_array_equal(forward, backward)


def test_ignored_strand_reads_the_genome_as_it_is(genome, regions):
    model = embedder(genome=genome, strand="ignore")
    as_plus = model.transform(regions.assign(strand="+"))
    np.testing.assert_array_equal(model.transform(regions), as_plus)


def test_average_is_the_mean_of_both_directions_bins_turned_around():
    letters = random_letters(LENGTH)
    both = embedder(strand="average").embed_bins([letters])[0]
    forward, backward = embedder().embed_bins([letters, mirrored(letters)])
    np.testing.assert_array_equal(both, (forward + backward[::-1]) / 2)


@pytest.mark.parametrize("length", [LENGTH, LENGTH + 128])
@pytest.mark.parametrize("bins", ["tss", (0, 2), (-3, 0), "center"])
def test_pools_of_averaged_directions_are_pooled_averages(bins, length):
    letters = random_letters(length)
    model = embedder(strand="average", sequence_length=length)
    n_bins = length // 128
    whole = model.embed_bins([letters])[0]
    pool = Pool("some", bins)
    low, high = pool.resolve(Geometry(length), 1, None)[0]
    assert 0 <= low < high <= n_bins
    pooled = model.set_params(pooling=pool).transform([letters])[0]
    np.testing.assert_allclose(pooled, whole[low:high].mean(axis=0), atol=1e-5)


def test_average_of_the_reverse_complement_is_the_average_turned_around():
    letters = random_letters(LENGTH)
    model = embedder(strand="average")
    there, back = model.embed_bins([letters, mirrored(letters)])
    np.testing.assert_allclose(there, back[::-1], atol=1e-5)


def test_shifts_average_shifted_windows(genome, regions):
    mean = embedder(genome=genome, shifts=(-3, 0, 3)).transform(regions)
    moved = []
    for shift in (-3, 0, 3):
        step = np.where(regions.strand == "-", -shift, shift)
        table = regions.assign(start=regions.start + step, end=regions.end + step)
        moved.append(embedder(genome=genome).transform(table))
    np.testing.assert_allclose(mean, np.mean(moved, axis=0), atol=1e-6)


# Kinds of input


def test_every_kind_of_input_gives_the_same_rows(genome, regions, tmp_path):
    import anndata
    import polars

    model = embedder(genome=genome, strand="ignore")
    expected = model.transform(regions)
    texts = [
        f"{r.chrom}:{r.start + 1}-{r.end}({r.strand})" for r in regions.itertuples()
    ]
    bed = tmp_path / "regions.bed"
    bed.write_text(
        "".join(f"{r.chrom}\t{r.start}\t{r.end}\n" for r in regions.itertuples())
    )
    adata = anndata.AnnData(np.zeros((5, 1), dtype=np.float32), obs=regions)
    for X in (
        texts,
        pd.Series(texts, index=regions.index),
        regions.to_records(index=False),
        polars.DataFrame(regions.to_dict(orient="list")),
        adata,
        read_regions(bed),
    ):
        np.testing.assert_array_equal(model.transform(X), expected)


def test_every_kind_of_sequence_gives_the_same_rows():
    letters = [random_letters(LENGTH, seed) for seed in range(3)]
    codes = np.stack([encode(text) for text in letters])
    expected = embedder().transform(letters)
    for X in (
        pd.Series(letters, index=["x", "y", "z"]),
        np.array(letters),
        np.array(letters, dtype=object),
        tuple(letters),
        codes,
        codes.astype(np.int64),
        one_hot(codes),
        one_hot(codes).astype(bool),
        [text.lower() for text in letters],
    ):
        np.testing.assert_array_equal(embedder().transform(X), expected)


def test_genes_of_a_gtf_are_read_at_their_five_prime_ends(genome, tmp_path):
    gtf = tmp_path / "genes.gtf"
    lines = [
        f"chr1\tx\tgene\t1501\t2500\t.\t{strand}\t.\tgene_id {name};"
        for name, strand in (('"up"', "+"), ('"down"', "-"))
    ]
    gtf.write_text("\n".join(lines) + "\n")
    model = embedder(genome=genome)
    points = pd.DataFrame({"chrom": "chr1", "tss": [1500, 2499], "strand": ["+", "-"]})
    np.testing.assert_array_equal(
        model.transform(read_genes(gtf)), model.transform(points)
    )


def test_lower_case_and_n_in_the_genome_are_read_like_upper_case_and_zeros(tmp_path):
    letters = random_letters(2000, 3)
    soft = letters[:900] + letters[900:1100].lower() + letters[1100:]
    upper = write_fasta(tmp_path / "upper.fa", c=letters)
    lower = write_fasta(tmp_path / "lower.fa", c=soft)
    rows = ["c:1000-1000"]
    np.testing.assert_array_equal(
        embedder(genome=upper).transform(rows), embedder(genome=lower).transform(rows)
    )


# Geometry


def test_windows_shows_what_is_read_and_pooled(genome, regions):
    table = embedder(genome=genome).windows(regions)
    assert list(table.index) == list(regions.index)
    row = table.loc["a"]
    assert (row.window_start, row.window_end, row.read_strand) == (488, 1512, "+")
    assert row.tss_bin == 4
    assert (row.pool_start, row.pool_end) == (1000 - 128, 1000 + 256)
    assert table.loc["c"].read_strand == "-"
    assert not table.off_edge.any()
    assert (table.n_fraction == 0).all()


def test_windows_names_the_bases_of_several_pools(genome, regions):
    model = embedder(genome=genome, pooling=("tss", "region"))
    table = model.windows(regions)
    assert {"tss_start", "tss_end", "region_start", "region_end"} <= set(table.columns)
    assert (table.region_start <= regions.start).all()
    assert (table.region_end >= regions.end).all()


def test_several_pools_stand_side_by_side_with_names(genome, regions, features):
    near = Pool("near", (-1, 2))
    model = embedder(genome=genome, pooling=("max", near))
    values = model.transform(regions)
    # Other bins are computed, so products have other shapes: rounding differs.
    np.testing.assert_allclose(values[:, 192:], features, rtol=1e-4, atol=1e-6)
    names = model.get_feature_names_out()
    assert (names[0], names[192]) == ("max__enformer_0000", "near__enformer_0000")


def test_tracks_are_named_and_selected(genome, regions):
    model = embedder(genome=genome, output="tracks", tracks="CAGE")
    assert model.transform(regions).shape == (5, 638)
    assert model.get_feature_names_out()[0] == "human_4675"


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning")
def test_windows_past_the_ends_are_filled_with_n_centre_unchanged(genome):
    rows = pd.DataFrame({"chrom": "chr2", "tss": [0, 3000]})
    table = embedder(genome=genome).windows(rows)
    assert table.off_edge.all()
    assert table.n_fraction.round(3).tolist() == [0.5, 0.499]
    assert (table.tss_bin == 4).all()


def test_windows_past_the_ends_are_warned_about_once(genome):
    rows = pd.DataFrame({"chrom": "chr2", "tss": [10, 20, 1500]})
    with pytest.warns(WindowWarning, match="filled up with N: row 0") as caught:
        embedder(genome=genome).transform(rows)
    assert sum(w.category is WindowWarning for w in caught) == 1


def test_windows_that_are_mostly_n_are_computed_and_counted_in_one_warning():
    mostly = "N" * 600 + random_letters(LENGTH - 600)
    rows = ["N" * LENGTH, random_letters(LENGTH), mostly]
    with pytest.warns(WindowWarning, match="more than 50% N: row 0, row 2$") as caught:
        values = embedder().transform(rows)
    assert sum(w.category is WindowWarning for w in caught) == 1
    assert np.isfinite(values).all()
    with pytest.warns(WindowWarning, match="more than 90% N: row 0$"):
        embedder(max_n_fraction=0.9).transform(rows)


@pytest.mark.filterwarnings(
    "error", "ignore::enformer_features.UntrainedWeightsWarning"
)
def test_strands_that_are_missing_are_plus_without_a_warning(genome, regions):
    plus = embedder(genome=genome).transform(regions.assign(strand="+"))
    for rows in (regions.drop(columns="strand"), regions.assign(strand=".")):
        np.testing.assert_array_equal(embedder(genome=genome).transform(rows), plus)


def test_edge_error_names_the_rows_and_edge_nan_gives_nan_rows(genome):
    rows = pd.DataFrame({"chrom": "chr2", "tss": [10, 1500]}, index=["near", "far"])
    with pytest.raises(InputError, match=r"row near: its window chr2:-502-522 reaches"):
        embedder(genome=genome, edge="error").transform(rows)
    with pytest.warns(FailedWindowsWarning, match="before the start of chr2"):
        values = embedder(genome=genome, edge="nan").transform(rows)
    assert np.isnan(values[0]).all()
    assert np.isfinite(values[1]).all()


def test_snapped_windows_begin_on_the_grid_and_say_how_far_they_moved(genome):
    tss = [1500, 1501, 1563, 1564, 1600]
    rows = pd.DataFrame({"chrom": "chr1", "tss": tss, "strand": list("++-+-")})
    plain = embedder(genome=genome).windows(rows)
    table = embedder(genome=genome, snap=True).windows(rows)
    assert (table.window_start % 128 == 0).all()
    assert (table.snapped_bp == table.window_start - plain.window_start).all()
    assert table.snapped_bp.abs().max() <= 64
    for row in table.itertuples():
        in_bins = row.tss_bin * 128
        at = tss[row.Index]
        forward = row.read_strand == "+"
        index = at - row.window_start if forward else row.window_end - 1 - at
        assert in_bins <= index < in_bins + 128
        assert row.pool_start <= at < row.pool_end


@pytest.mark.parametrize("strand", ["match", "ignore", "average"])
@pytest.mark.parametrize("batch_size", [1, 2])
def test_snapped_windows_share_a_tower_and_agree_with_unshared_ones(
    genome, strand, batch_size
):
    rng = np.random.default_rng(0)
    tss = rng.integers(900, 4100, 12)
    signs = np.where(np.arange(12) % 3, "+", "-")
    rows = pd.DataFrame({"chrom": "chr1", "tss": tss, "strand": signs})
    shared = embedder(genome=genome, snap=True, strand=strand, batch_size=batch_size)
    assert shared.plan(rows).tower_share < 0.7
    values = shared.transform(rows)
    alone = np.concatenate([shared.transform(rows.iloc[[i]]) for i in range(12)])
    np.testing.assert_allclose(values, alone, atol=3e-4 * alone.std())
    rms = np.sqrt(np.mean((values - alone) ** 2))
    assert 0 < rms <= 3e-5 * alone.std()


def test_an_unreadable_row_does_not_spoil_those_that_it_would_share_with(tmp_path):
    letters = random_letters(9000)
    odd = write_fasta(tmp_path / "odd.fa", c=letters[:5900] + "R" + letters[5901:])
    rows = pd.DataFrame({"chrom": "c", "tss": [5000, 5200, 5600]})
    model = embedder(genome=odd, snap=True, on_error="nan")
    assert model.plan(rows).tower_share < 1
    with pytest.warns(FailedWindowsWarning, match="'R'"):
        values = model.transform(rows)
    assert np.isnan(values).any(axis=1).tolist() == [False, False, True]


def test_only_rows_that_are_not_known_are_planned_to_share(genome):
    rows = pd.DataFrame({"chrom": "chr1", "tss": [1500, 1700, 1900, 2100]})
    model = embedder(genome=genome, snap=True, cache=MemoryCache())
    model.transform(rows.iloc[1:])
    plan = model.plan(rows)
    assert (plan.n_passes, plan.tower_share) == (1, 1.0)


def test_too_little_memory_for_a_shared_stretch_falls_back_to_single_windows(
    genome, monkeypatch
):
    import torch

    def full(self, *args):
        raise torch.OutOfMemoryError

    rows = pd.DataFrame({"chrom": "chr1", "tss": [1500, 1700, 1900]})
    alone = [
        embedder(genome=genome, snap=True).transform(rows.iloc[[i]])[0]
        for i in range(3)
    ]
    monkeypatch.setattr(SharedTower, "__init__", full)
    values = embedder(genome=genome, snap=True).transform(rows)
    np.testing.assert_array_equal(values, alone)


@pytest.mark.parametrize("batch_size", [1, 3])
def test_mirrored_strands_do_not_mix_when_they_share(genome, batch_size):
    rows = pd.DataFrame(
        {"chrom": "chr1", "tss": [2000, 2128, 2256], "strand": ["+", "-", "+"]}
    )
    model = embedder(genome=genome, snap=True, batch_size=batch_size)
    values = model.transform(rows)
    again = embedder(genome=genome, snap=True).transform(rows.iloc[[1]])
    np.testing.assert_allclose(values[[1]], again, atol=1e-4)


def test_the_precision_decides_the_values_and_is_recorded(genome, regions, features):
    low = embedder(genome=genome, precision="bfloat16")
    values = low.transform(regions)
    error = np.sqrt(np.mean((values - features) ** 2)) / features.std()
    assert 1e-3 < error < 0.5
    record = low.provenance()
    assert record["precision"] == "bfloat16"
    assert record["precision_rms_error"] > 0


# Bad input comes before any weights


@pytest.fixture
def exploding(monkeypatch):
    """Fail if weights, or even their configuration, are opened."""

    def explode(*args):
        msg = "the weights were opened"
        raise AssertionError(msg)

    for name in (
        "job.load_weights",
        "job.weights_digest",
        "parameters.weights_config",
        "embedder.weights_digest",
    ):
        monkeypatch.setattr(f"enformer_features.estimators.{name}", explode)


@pytest.fixture
def unloadable(monkeypatch):
    """Fail if weights are loaded; their configuration may be read."""

    def explode(*args):
        msg = "the weights were opened"
        raise AssertionError(msg)

    monkeypatch.setattr("enformer_features.estimators.job.load_weights", explode)


@pytest.mark.parametrize("guard", ["exploding", "unloadable"])
def test_weights_that_shall_not_be_opened_would_explode(request, guard):
    request.getfixturevalue(guard)
    with pytest.raises(AssertionError, match="the weights were opened"):
        embedder().transform([random_letters(LENGTH)])


ROW = {"chrom": ["chr1"], "start": [1000], "end": [1100]}
BAD_ROWS = [
    ({"chrom": ["chr9"]}, GenomeError, "unknown contig 'chr9' in .*toy.fa, which has"),
    ({"chrom": ["1"]}, GenomeError, "contig_style='ucsc' would match 1 of them"),
    ({"chrom": ["MT"]}, GenomeError, "unknown contig 'MT'"),
    ({"start": [-1]}, InputError, "row 0: start -1 is negative"),
    ({"start": [1100]}, InputError, "interval of 0 bp; give a point as tss"),
    ({"start": [1200]}, InputError, "are the columns swapped"),
    ({"start": [None]}, InputError, "row 0: start is missing"),
    ({"start": [100.5]}, InputError, "row 0: start 100.5 is not a whole number"),
    ({"start": ["1e3"]}, InputError, "start '1e3' is not a whole number written"),
    ({"start": [True]}, InputTypeError, "column start holds booleans"),
    ({"end": [9_000_000]}, InputError, "past the end of chr1"),
    ({"strand": ["x"]}, InputError, "row 0: strand 'x' is not one of"),
]


@pytest.mark.parametrize(("change", "kind", "message"), BAD_ROWS)
def test_bad_rows_are_named_before_any_weights(
    genome, exploding, change, kind, message
):
    with pytest.raises(kind, match=message):
        embedder(genome=genome).transform(pd.DataFrame({**ROW, **change}))


BAD_INPUTS = [
    (pd.DataFrame({"gene": ["x"]}), InputError, "no column for chrom: found gene;"),
    (pd.DataFrame({"chrom": [], "start": [], "end": []}), InputError, "0 regions"),
    ([], InputError, "0 windows"),
    (np.zeros((0, LENGTH), dtype=np.uint8), InputError, "0 windows"),
    ("chr1:1-10", InputTypeError, "wrap it in a list"),
    (b"ACGT", InputTypeError, "wrap it in a list"),
    (["chr1:1-10", None], InputTypeError, "item 1 is NoneType"),
    ([b"A" * LENGTH], InputTypeError, "item 0 is bytes"),
    (["chr1:1-10", "A" * LENGTH], InputError, "mixes regions and sequences"),
    (["CAT", "TAT"], InputError, "genes are read with read_genes"),
    (["A" * 1000, "A" * 2000], InputError, "1 of 1,000 bp, 1 of 2,000 bp"),
    (["A" * 1023 + "R"], InputError, "'R' at position 1023"),
    (np.full((2, LENGTH), 7), InputError, "found 7 in sequence 0 at position 0"),
    (np.zeros((2, 4, LENGTH)), InputError, r"pass array\.swapaxes\(1, 2\)"),
    (np.full((2, LENGTH, 4), 0.5), InputError, "value 0.5 at position 0"),
    (np.full((2, LENGTH, 4), np.nan), InputError, "value nan at position 0"),
    (np.zeros(LENGTH), InputError, "expected letter codes"),
    (42, InputTypeError, "of type int"),
]


@pytest.mark.parametrize(("X", "kind", "message"), BAD_INPUTS)
def test_input_that_is_none_of_the_kinds_says_what_to_do(
    genome, exploding, X, kind, message
):
    with pytest.raises(kind, match=message):
        embedder(genome=genome).transform(X)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"odd\.fa is empty"),
        (b"ACGT\n", "is not FASTA: it does not begin with"),
        (b">a\nACGT\nACGTA\nAC\n", r"odd\.fa:3: uneven lines"),
        (b">a\nAC\n>a\nGT\n", "several contigs of one name: a"),
        (gzip.compress(b">a\nACGT\n"), r"is plain gzip.* \| bgzip > .*odd"),
        (None, r"odd\.fa is a directory"),
    ],
)
def test_a_genome_that_cannot_be_read_is_told_before_any_weights(
    tmp_path, exploding, content, message
):
    path = tmp_path / "odd.fa"
    path.mkdir() if content is None else path.write_bytes(content)
    for method in (embedder(genome=path).fit, embedder(genome=path).transform):
        with pytest.raises(GenomeError, match=message):
            method(["a:1-2"])


@pytest.mark.parametrize("X", [["chr9:1-9"], ["CAT"], np.zeros((1, LENGTH, 4)) + 0.5])
def test_weights_in_a_damaged_file_are_not_opened_for_bad_input(genome, tmp_path, X):
    config = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    (tmp_path / "config.json").write_text(config.to_json())
    (tmp_path / "model.safetensors").write_bytes(b"boom")
    model = embedder(weights=tmp_path, genome=genome)
    with pytest.raises((InputError, GenomeError), match=r"chr9|CAT|0\.5"):
        model.transform(X)
    with pytest.raises(WeightsError, match="is not a whole safetensors file"):
        model.transform(["chr1:1000-1100"])


def test_a_path_object_says_which_reader_to_call(exploding, tmp_path):
    with pytest.raises(InputTypeError, match=r"read_regions\(path\)"):
        embedder().transform(tmp_path)


def test_an_anndata_with_regions_in_var_says_what_to_pass(exploding):
    import anndata

    var = pd.DataFrame({"chrom": ["chr1"], "start": [1], "end": [9]}, index=["p"])
    adata = anndata.AnnData(np.zeros((1, 1), dtype=np.float32), var=var)
    with pytest.raises(InputError, match=r"pass adata\.var, or adata\.T"):
        embedder().transform(adata)


def test_regions_without_a_genome_say_what_to_give(exploding):
    with pytest.raises(InputError, match=r"need a genome"):
        embedder().transform(["chr1:1-10"])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"pooling": "tsss"}, "did you mean 'tss'"),
        ({"output": "embeding"}, "did you mean 'embedding'"),
        ({"center": "middle"}, "center='middle' is not one of"),
        ({"strand": "plus"}, "strand='plus' is not one of"),
        ({"edge": "drop"}, "edge='drop' is not one of"),
        ({"resize": "stretch"}, "resize='stretch' is not one of"),
        ({"ambiguous": "A"}, "ambiguous='A' is not one of"),
        ({"on_error": "skip"}, "on_error='skip' is not one of"),
        ({"device": "cuda:99"}, "is not available; there are"),
        ({"precision": "float8"}, "precision='float8' is not one of"),
        ({"batch_size": 0}, "batch_size=0 must be"),
        ({"sequence_length": 1000}, "must be a positive multiple of 128"),
        ({"shifts": 3}, "shifts=3 must be a tuple"),
        ({"shifts": (9999,)}, "half the window"),
        ({"shifts": (True,)}, r"shifts=\(True,\) must be a tuple"),
        ({"contig_style": "UCSC"}, "contig_style='UCSC' is not one of"),
        ({"max_n_fraction": 2}, "max_n_fraction=2 must be"),
        ({"snap": 1}, "snap=1 must be True or False"),
        ({"precision": "float16"}, "needs a CUDA device"),
        ({"cache": 5}, "cache=5 must be"),
        ({"cache": "disk"}, r"cache='disk' must be .* a folder \(\./disk\)"),
        ({"weights": "enfromer"}, "did you mean 'enformer'"),
    ],
)
def test_bad_parameters_are_told_in_fit_and_transform(exploding, parameters, message):
    model = embedder(**parameters)
    for method in (model.fit, model.transform):
        with pytest.raises((ValueError, TypeError), match=message):
            method([random_letters(LENGTH)])


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"output": "block_7"}, "did you mean 'block_"),
        ({"output": "tracks", "organism": "rat"}, "organism='rat' has no head"),
        ({"output": "tracks", "organism": "Human"}, "did you mean 'human'"),
        ({"output": "tracks", "organism": ["human"]}, r"organism=\['human'\] has no"),
        ({"output": "tracks", "tracks": [5313]}, "out of range: 5313"),
        ({"output": "tracks", "tracks": "CAGEE"}, "did you mean CAGE"),
        ({"tracks": [1]}, "needs output='tracks'"),
        ({"pooling": Pool("far", (0, 9))}, "keeps bins 0 to 7"),
    ],
)
def test_what_the_network_does_not_have_is_told_before_it_is_loaded(
    unloadable, parameters, message
):
    with pytest.raises(InputError, match=message):
        embedder(**parameters).transform([random_letters(LENGTH)])


def test_a_region_longer_than_the_kept_bins_is_named(genome):
    rows = pd.DataFrame({"chrom": "chr1", "start": [1000, 900], "end": [1100, 2100]})
    with pytest.raises(InputError, match="row 1: the region spans bins -1 to 8"):
        embedder(genome=genome, pooling="region").transform(rows)


def test_missing_weights_are_an_error_not_a_random_network(tmp_path):
    with pytest.raises(WeightsError, match=r"no weights at .*absent: no such file"):
        embedder(weights=tmp_path / "absent").transform([random_letters(LENGTH)])


def test_letters_in_the_genome_that_are_no_bases_are_told_before_any_weights(
    tmp_path, exploding
):
    letters = random_letters(2000)
    genome = write_fasta(tmp_path / "odd.fa", c=letters[:1000] + "R" + letters[1001:])
    with pytest.raises(InputError, match=r"row 0: c:.*'R' at position 1000"):
        embedder(genome=genome).transform(["c:1000-1000"])


# Rows that cannot be computed, when NaN is asked for


def test_bad_rows_become_nan_and_the_others_stay_the_same_bits(
    genome, regions, features
):
    bad = regions.assign(start=[1000, -5, 2000, 1000, 1200])
    model = embedder(genome=genome, on_error="nan")
    with pytest.warns(FailedWindowsWarning, match=r"row b \(.*\): start -5"):
        values = model.transform(bad)
    assert np.isnan(values[1]).all()
    np.testing.assert_array_equal(values[[0, 2, 3, 4]], features[[0, 2, 3, 4]])
    assert model.windows(bad).reason["b"].startswith("start -5")


def test_a_sequence_of_another_length_becomes_nan_when_asked():
    model = embedder(on_error="nan", resize="crop")
    with pytest.warns(FailedWindowsWarning, match="row 1"):
        values = model.transform([random_letters(LENGTH), random_letters(500)])
    assert np.isnan(values[1]).all()


def test_values_that_are_not_finite_are_reported_and_never_cached(monkeypatch):
    import torch

    cache = MemoryCache()
    monkeypatch.setattr(
        Prepared,
        "tower",
        lambda self, codes: torch.full((len(codes), 8, 96), torch.nan),
    )
    with pytest.raises(InferenceError, match=r"row 0: .* not finite"):
        embedder(cache=cache).transform([random_letters(LENGTH)])
    assert len(cache) == 0


# Targets


@pytest.mark.parametrize(
    ("y", "message"),
    [
        (np.zeros(4), "y has 4 rows, X has 5"),
        (np.array([1, 2, np.inf, 4, 5]), "infinite values: row 2"),
        (pd.Series([1, 2, 3, 4, 5], index=list("bacde")), "same labels in another"),
    ],
)
def test_targets_that_cannot_belong_to_x_are_refused_in_fit(
    genome, regions, exploding, y, message
):
    with pytest.raises(InputError, match=message):
        embedder(genome=genome).fit(regions, y)


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([1, 2, np.nan, 4, 5], r"missing values in 1 of 5 rows \(2\)"),
        (pd.DataFrame({"a": [1, 2, 3, 4, 5], "b": 7}), "constant targets.*: b"),
    ],
)
def test_targets_that_will_disappoint_are_warned_about(genome, regions, y, message):
    from enformer_features.exceptions import TargetWarning

    y = y.set_axis(regions.index) if isinstance(y, pd.DataFrame) else y
    with pytest.warns(TargetWarning, match=message):
        embedder(genome=genome).fit(regions, y)


# Export


def test_anndata_holds_features_windows_and_provenance(genome, regions, features):
    unique = regions.iloc[[0, 1, 2, 4]]
    adata = embedder(genome=genome).to_anndata(unique)
    np.testing.assert_array_equal(adata.X, features[[0, 1, 2, 4]])
    assert list(adata.obs_names) == ["a", "b", "c", "e"]
    assert {"chrom", "start", "end", "window_start", "tss_bin"} <= set(adata.obs)
    record = adata.uns["enformer_features"]
    assert record["weights_digest"].startswith("untrained:")


def test_anndata_refuses_repeated_names_before_any_weights(genome, exploding):
    rows = pd.DataFrame({"chrom": "chr1", "tss": [1000, 1000]}, index=["g", "g"])
    with pytest.raises(InputError, match="names that repeat: g; rename them or give"):
        embedder(genome=genome).to_anndata(rows)


@pytest.mark.parametrize(
    ("resize", "size"), [("pad", LENGTH - 33), ("crop", LENGTH + 33)]
)
def test_an_odd_sequence_is_centred_as_the_same_interval_of_a_genome(
    resize, size, tmp_path
):
    letters = random_letters(size)
    fasta = tmp_path / "alone.fa"
    fasta.write_text(f">chr1\n{letters}\n")
    as_region = embedder(genome=fasta).windows([f"chr1:1-{size}"])
    left = int(as_region["window_start"].iloc[0])
    window = letters[max(left, 0) : left + LENGTH]
    window = ("N" * max(-left, 0) + window).ljust(LENGTH, "N")
    np.testing.assert_array_equal(
        embedder(resize=resize).transform([letters]), embedder().transform([window])
    )


@pytest.mark.parametrize(
    ("column", "message"),
    [("chrom", "obs has an index and a column 'chrom'"), ("a/b", "'a/b' cannot be a")],
)
def test_anndata_refuses_what_no_file_can_keep_before_the_weights_are_loaded(
    genome, regions, unloadable, column, message
):
    rows = regions.rename_axis(column)
    with pytest.raises(InputError, match=message):
        embedder(genome=genome).to_anndata(rows)


def test_anndata_of_sequences_refuses_an_absent_genome_before_the_weights_are_loaded(
    tmp_path, unloadable
):
    model = embedder(genome=tmp_path / "absent.fa")
    with pytest.raises(GenomeError, match=r"absent\.fa: No such file"):
        model.to_anndata([random_letters(LENGTH)])


def test_sequences_are_resized_when_asked():
    letters = random_letters(LENGTH)
    long, short = "AC" + letters + "GT", letters[3:-3]
    cropped = embedder(resize="crop").transform([long])
    np.testing.assert_array_equal(cropped, embedder().transform([letters]))
    padded = embedder(resize="pad").transform([short])
    with_n = embedder().transform(["NNN" + short + "NNN"])
    np.testing.assert_array_equal(padded, with_n)


def test_rows_in_a_folder_are_those_that_were_computed_and_load_no_weights(
    tmp_path, request
):
    X = [random_letters(LENGTH, seed) for seed in range(3)]
    first = embedder(cache=tmp_path / "rows").transform(X)
    request.getfixturevalue("unloadable")
    _OPEN.clear()  # as a new process
    again = embedder(cache=str(tmp_path / "rows"))
    assert again.plan(X).n_cached == 3
    np.testing.assert_array_equal(again.transform(X[::-1]), first[::-1])


def test_a_cache_that_cannot_be_used_is_a_warning_and_the_rows_are_right(tmp_path):
    (tmp_path / "rows").write_text("mine")
    X = [random_letters(LENGTH)]
    with pytest.warns(CacheWarning, match="cannot be used"):
        rows = embedder(cache=tmp_path / "rows").transform(X)
    np.testing.assert_array_equal(rows, embedder(cache=None).transform(X))
    assert (tmp_path / "rows").read_text() == "mine"


def test_a_file_as_cache_is_told_before_rows_are_read(tmp_path):
    (tmp_path / "rows").write_text("mine")
    with (
        pytest.warns(CacheWarning, match="is a file, not a folder"),
        pytest.raises(InputError),
    ):
        embedder(cache=tmp_path / "rows").transform(["no DNA"])


def test_rows_that_were_done_before_an_interruption_are_kept(tmp_path, monkeypatch):
    X = [random_letters(LENGTH, seed) for seed in range(3)]
    run = Engine.run

    def interrupted(self, work):
        for number, item in enumerate(run(self, work)):
            if number == 2:
                raise KeyboardInterrupt
            yield item

    monkeypatch.setattr(Engine, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        embedder(cache=tmp_path).transform(X)
    monkeypatch.undo()
    _OPEN.clear()
    assert embedder(cache=tmp_path).plan(X).n_cached == 2


def test_warming_computes_each_different_row_once(tmp_path):
    X = [random_letters(LENGTH, seed) for seed in (0, 1, 0)]
    assert embedder(cache=tmp_path).warm(X) == 2
    assert embedder(cache=tmp_path).warm(X) == 0
    with pytest.raises(InputError, match="cache=None keeps nothing"):
        embedder().warm(X)
