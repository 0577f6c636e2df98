import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import encode, reverse_complement
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.regions import region_table
from enformer_features.genomics.windows import Geometry
from enformer_features.inference.layout import lay_out_regions, lay_out_sequences
from enformer_features.inference.pooling import POOLS
from tests.estimators.toy import random_letters, write_fasta


@pytest.fixture(scope="module")
def letters():
    return random_letters(3000, 7)


@pytest.fixture(scope="module")
def genome(tmp_path_factory, letters):
    return Genome(write_fasta(tmp_path_factory.mktemp("g") / "g.fa", c=letters))


def points(tss, strand="+"):
    return region_table(pd.DataFrame({"chrom": "c", "tss": tss, "strand": strand}))


def test_views_are_the_letters_of_the_window_in_the_direction_read(genome, letters):
    table = points([1500, 1500], ["+", "-"])
    reads = lay_out_regions(table, genome, sequence_length=256).reads
    codes = encode(letters)
    np.testing.assert_array_equal(reads.views(0)[0].codes, codes[1372:1628])
    backward = reverse_complement(codes[1373:1629])
    np.testing.assert_array_equal(reads.views(1)[0].codes, backward)


def test_every_shift_and_direction_is_a_view(genome, letters):
    layout = lay_out_regions(
        points([1500]), genome, sequence_length=256, strand="average", shifts=(0, 5)
    )
    views = layout.reads.views(0)
    assert layout.reads.n_views == len(views) == 4
    assert [view.flip for view in views] == [False, True, False, True]
    np.testing.assert_array_equal(views[2].codes, encode(letters)[1377:1633])
    np.testing.assert_array_equal(views[3].codes, reverse_complement(views[2].codes))


def test_bad_rows_and_windows_past_the_end_are_reported_together(genome):
    table = region_table(["c:200-100", "c:10-10", "c:1500-1500"])
    with pytest.raises(InputError, match="2 of 3 regions cannot be used") as caught:
        lay_out_regions(table, genome, sequence_length=256, edge="error")
    assert "ends before it starts" in str(caught.value)
    assert "before the start of c" in str(caught.value)


@pytest.mark.parametrize(
    ("tss", "strand", "shift", "reaches"),
    [
        (10, "+", 0, "c:-118-138 reaches 118 bp before the start of c"),
        (2990, "+", 0, "c:2862-3118 reaches 118 bp past the end of c"),
        (150, "+", -100, "c:-78-178 reaches 78 bp before the start of c"),
        (150, "-", 100, "c:-77-179 reaches 77 bp before the start of c"),
    ],
)
def test_the_shift_that_reaches_farthest_past_an_end_is_described(
    genome, tss, strand, shift, reaches
):
    options = {"sequence_length": 256, "edge": "error", "shifts": (0, shift)}
    with pytest.raises(InputError, match=rf"its window {reaches} \(3000 bp\)"):
        lay_out_regions(points([tss], strand), genome, **options)


def test_a_window_longer_than_its_contig_reaches_past_both_ends(genome):
    both = "72 bp before the start and 1024 bp past the end of c"
    with pytest.raises(InputError, match=both):
        lay_out_regions(points([1976]), genome, sequence_length=4096, edge="error")


@pytest.mark.parametrize("edge", ["pad", "nan", "error"])
@pytest.mark.parametrize(
    ("tss", "shift", "center"), [(0, -128, "base"), (63, -128, "bin")]
)
def test_a_window_that_a_shift_moves_wholly_off_is_an_error_at_any_edge(
    genome, edge, tss, shift, center
):
    options = {"sequence_length": 256, "shifts": (0, shift), "center": center}
    with pytest.raises(InputError, match=r"lies wholly off c .*; use smaller shifts"):
        lay_out_regions(points([tss, 1500]), genome, edge=edge, **options)
    layout = lay_out_regions(
        points([tss, 1500]), genome, edge=edge, raising=False, **options
    )
    assert layout.good_rows.tolist() == [1]


def test_reasons_stay_and_do_not_raise_again(genome):
    table = points([10, 1500])
    layout = lay_out_regions(table, genome, sequence_length=256, edge="nan")
    assert layout.good_rows.tolist() == [1]
    again = layout.with_reasons({}, raising=True)
    assert again.good_rows.tolist() == [1]
    with pytest.raises(InputError, match="row 1: too odd"):
        layout.with_reasons({1: "too odd"}, raising=True)


def test_regions_that_reach_past_the_kept_bins_get_a_reason(genome):
    table = region_table(["c:1401-1600", "c:1101-1900"])
    layout = lay_out_regions(table, genome, sequence_length=1024)
    geometry = Geometry(1024, target_length=4)
    layout, bins = layout.pool_bins([POOLS["region"]], geometry, raising=False)
    assert layout.good_rows.tolist() == [0]
    assert bins[0].tolist() == [[1, 3], [-2, 6]]


def test_sequences_have_no_interval_and_keep_their_labels():
    codes = [encode("ACGT" * 32)] * 2
    index = pd.Index(["x", "y"])
    layout = lay_out_sequences(codes, index, ["", "too odd"], raising=False)
    assert layout.region_bins(Geometry(128)) is None
    assert layout.labels == ["row x", "row y"]
    assert layout.good_rows.tolist() == [0]


def test_bad_sequences_are_called_so():
    with pytest.raises(InputError, match=r"1 of 1 sequences .* used:\n  row 0: too"):
        lay_out_sequences([encode("")], pd.RangeIndex(1), ["too short"])
