import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.regions import region_table
from enformer_features.genomics.windows import (
    Geometry,
    bases_of_bins,
    bases_past_ends,
    check_sequence_length,
    place_windows,
    region_bins,
    shifted,
)


def place(length=256, *, center="base", strand="match", **columns):
    table = region_table(pd.DataFrame({"chrom": ["c"], **columns}))
    return place_windows(table, length, center=center, strand=strand).iloc[0]


def test_published_geometry_keeps_896_of_1536_bins():
    geometry = Geometry()
    assert (geometry.n_positions, geometry.n_bins, geometry.crop_bins) == (
        1536,
        896,
        320,
    )
    assert geometry.tss_bins == (447, 450)
    assert geometry.center_bins == (447, 449)
    assert geometry.tss_bin() == 448


@pytest.mark.parametrize("n_bins", [5, 8, 13])
def test_centred_base_is_first_of_its_bin_or_middle_of_an_odd_number(n_bins):
    geometry = Geometry(128 * n_bins)
    index = 128 * n_bins // 2
    assert geometry.tss_bin() == geometry.center_bin == n_bins // 2
    assert index - 128 * geometry.tss_bin() == (0 if n_bins % 2 == 0 else 64)


def test_center_bin_puts_the_base_in_the_middle_of_the_same_bin():
    assert Geometry().tss_bin("bin") == 448
    assert Geometry().tss_bin("basenji") == 447


def test_short_windows_and_minus_one_keep_every_bin():
    assert Geometry(1024).n_bins == 8
    assert Geometry(196_608, target_length=-1).n_bins == 1536


def test_uneven_crop_names_the_two_nearest_lengths():
    with pytest.raises(
        InputError, match="nearest lengths that can are 114688 and 114944"
    ):
        Geometry(128 * 897)


@pytest.mark.parametrize("length", [0, -128, 100, 1000])
def test_length_must_be_a_multiple_of_the_bin(length):
    with pytest.raises(InputError, match="must be a positive multiple of 128"):
        check_sequence_length(length)


@pytest.mark.parametrize("length", ["1024", 1024.0, True, None])
def test_length_must_be_a_whole_number(length):
    with pytest.raises(InputError, match="must be a whole number of bp"):
        check_sequence_length(length)


def test_point_stands_at_half_length_forward():
    window = place(tss=[1000])
    assert (window.window_start, window.window_end) == (872, 1128)


@pytest.mark.parametrize(
    ("center", "index"), [("base", 128), ("bin", 192), ("basenji", 127)]
)
@pytest.mark.parametrize("sign", ["+", "-"])
def test_point_stands_at_the_same_index_in_the_direction_read(center, index, sign):
    table = region_table(
        pd.DataFrame({"chrom": ["c"], "tss": [1000], "strand": [sign]})
    )
    window = place_windows(table, 256, center=center).iloc[0]
    start, end = window.window_start, window.window_end
    assert (1000 - start if sign == "+" else end - 1 - 1000) == index
    assert window.read_strand == sign


def test_odd_interval_is_centred_on_its_middle_base_and_even_on_its_border():
    assert place(start=[10_000], end=[10_003]).window_start == 10_001 - 128
    assert place(start=[10_000], end=[10_004]).window_start == 10_002 - 128


@pytest.mark.parametrize("center", ["base", "bin", "basenji"])
def test_full_length_interval_is_the_window(center):
    window = place(center=center, start=[500], end=[756])
    assert (window.window_start, window.window_end) == (500, 756)


def test_tss_beside_an_interval_is_what_the_window_is_centred_on():
    assert place(start=[500], end=[756], tss=[600]).window_start == 600 - 128


@pytest.mark.parametrize(("strand", "read"), [("ignore", "+"), ("average", "+/-")])
def test_ignore_and_average_place_minus_regions_as_plus(strand, read):
    table = region_table(pd.DataFrame({"chrom": ["c"], "tss": [1000], "strand": ["-"]}))
    window = place_windows(table, 256, strand=strand).iloc[0]
    assert (window.window_start, window.read_strand) == (872, read)


@pytest.mark.parametrize("length_bp", [1, 2, 7, 8, 256])
@pytest.mark.parametrize("center", ["base", "bin", "basenji"])
def test_mirrored_region_reads_the_mirrored_window(length_bp, center):
    genome = np.random.default_rng(0).integers(0, 4, 2000).astype(np.uint8)
    mirror = reverse_complement(genome)

    def read(codes, start, end, strand):
        frame = {"chrom": ["c"], "start": [start], "end": [end], "strand": [strand]}
        table = region_table(pd.DataFrame(frame))
        window = place_windows(table, 256, center=center).iloc[0]
        letters = codes[window.window_start : window.window_end]
        return letters if strand == "+" else reverse_complement(letters)

    start, end = 901, 901 + length_bp
    forward = read(genome, start, end, "+")
    backward = read(mirror, 2000 - end, 2000 - start, "-")
    np.testing.assert_array_equal(forward, backward)


def test_bases_past_ends_counts_both_ends_and_all_shifts():
    windows = pd.DataFrame(
        {
            "chrom": ["a", "a", "b", "unknown"],
            "window_start": [-5, 90, 10, -7],
            "window_end": [5, 100, 20, 3],
            "read_strand": "+",
        }
    )
    contigs = {"a": 97, "b": 50}
    assert bases_past_ends(windows, contigs).tolist() == [5, 3, 0, 7]
    assert bases_past_ends(windows, contigs, (-11, 0)).tolist() == [16, 3, 1, 18]


def test_shifts_move_downstream_in_the_direction_read():
    windows = pd.DataFrame(
        {
            "window_start": [100, 100],
            "window_end": [200, 200],
            "read_strand": ["+", "-"],
        }
    )
    start, end = shifted(windows, 3)
    assert start.tolist() == [103, 97]
    assert end.tolist() == [203, 197]


@pytest.mark.parametrize(("sign", "bins"), [("+", [2, 6]), ("-", [2, 6])])
def test_region_bins_are_those_that_the_region_overlaps(sign, bins):
    frame = {"chrom": ["c"], "start": [5000], "end": [5300], "strand": [sign]}
    table = region_table(pd.DataFrame(frame))
    windows = place_windows(table, 1024)
    assert region_bins(table, windows, Geometry(1024)).tolist() == [bins]


def test_region_bins_off_centre_are_mirrored_on_the_minus_strand():
    frame = {
        "chrom": ["c", "c"],
        "start": [4700, 5199],
        "end": [4801, 5300],
        "tss": [5000, 5000],
        "strand": ["+", "-"],
    }
    table = region_table(pd.DataFrame(frame))
    windows = place_windows(table, 1024)
    assert region_bins(table, windows, Geometry(1024)).tolist() == [[1, 3], [1, 3]]


@pytest.mark.parametrize("sign", ["+", "-"])
def test_bases_of_the_tss_bins_hold_the_tss(sign):
    table = region_table(
        pd.DataFrame({"chrom": ["c"], "tss": [9000], "strand": [sign]})
    )
    geometry = Geometry(1024)
    windows = place_windows(table, 1024)
    start, end = bases_of_bins(windows, np.array([geometry.tss_bins]), geometry)
    assert end[0] - start[0] == 3 * 128
    upstream = 9000 - start[0] if sign == "+" else end[0] - 1 - 9000
    assert upstream == 128
