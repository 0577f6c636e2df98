"""interpret/contributions.py: coordinates, summaries, arrays and files."""

from __future__ import annotations

import gzip
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from enformer_features import Contributions
from enformer_features.exceptions import InputError

LENGTH = 256


def made(starts=(100, 1_000), chroms=("chr2", "chr1"), baseline=None):
    n = len(starts)
    generator = np.random.default_rng(3)
    gradient = generator.standard_normal((n, LENGTH, 4)).astype(np.float32)
    codes = generator.integers(0, 4, (n, LENGTH)).astype(np.uint8)
    codes[:, 7] = 4
    table = pd.DataFrame(
        {
            "chrom": list(chroms),
            "window_start": list(starts),
            "window_end": [start + LENGTH for start in starts],
            "read_strand": "+",
            "name": [f"row{i}" for i in range(n)],
        }
    )
    contigs = {"chr1": 1_200, "chr2": 5_000}
    return Contributions(
        table, codes, gradient, np.ones(n), baseline=baseline, contigs=contigs
    )


def picked(found, codes):
    out = np.zeros(codes.shape, np.float32)
    for row, at in np.ndindex(codes.shape):
        if codes[row, at] < 4:
            out[row, at] = found.gradient[row, at, codes[row, at]]
    return out


def test_scores_are_the_gradient_at_the_letters_and_0_at_n():
    found = made()
    np.testing.assert_array_equal(found.scores, picked(found, found.codes))
    assert found.scores[0, 7] == 0
    assert found.hypothetical is found.gradient
    assert (len(found), found.length) == (2, LENGTH)


def test_a_baselines_letters_are_taken_off():
    baseline = np.random.default_rng(4).integers(0, 5, (2, LENGTH)).astype(np.uint8)
    found = made(baseline=baseline)
    before = picked(found, baseline)
    expected = picked(found, found.codes) - before
    np.testing.assert_allclose(found.scores, expected, atol=1e-7)
    np.testing.assert_allclose(
        found.hypothetical, found.gradient - before[:, :, None], atol=1e-7
    )
    np.testing.assert_array_equal(found.region(1, 1_000, 1_256), found.scores[1])
    frame = found.to_frame(1, 1_010, 1_013)
    np.testing.assert_array_equal(
        frame[list("ACGT")].to_numpy(), found.hypothetical[1, 10:13]
    )


def test_bins_are_summed_averaged_or_taken_absolute():
    found = made()
    halves = found.scores.reshape(2, 2, 128)
    np.testing.assert_allclose(found.per_bin(), halves.sum(axis=2), rtol=1e-5)
    np.testing.assert_allclose(found.per_bin("mean"), halves.mean(axis=2), rtol=1e-5)
    absolute = np.abs(halves).mean(axis=2)
    np.testing.assert_allclose(found.per_bin("absolute"), absolute, rtol=1e-5)
    with pytest.raises(InputError, match="statistic='max' is not one of 'sum'"):
        found.per_bin("max")


def test_intervals_are_of_the_genome_and_within_the_window():
    found = made()
    np.testing.assert_array_equal(found.region(0, 110, 113), found.scores[0, 10:13])
    with pytest.raises(InputError, match="340-370 does not lie within row 0's window"):
        found.region(0, 340, 370)
    with pytest.raises(InputError, match="rows are 0 to 1"):
        found.region(2, 110, 113)


def test_a_frame_has_a_row_per_base():
    found = made()
    frame = found.to_frame(1, 1_006, 1_009)
    assert frame["start"].tolist() == [1_006, 1_007, 1_008]
    assert frame["letter"].iloc[1] == "N"
    np.testing.assert_array_equal(frame["score"], found.scores[1, 6:9])
    assert len(found.to_frame(0)) == LENGTH


def test_arrays_are_as_motif_tools_read_them():
    found = made()
    letters, scores = found.arrays()
    assert letters.shape == scores.shape == (2, 4, LENGTH)
    assert letters.dtype == scores.dtype == np.float32
    np.testing.assert_allclose((letters * scores).sum(axis=1), found.scores)
    np.testing.assert_array_equal(letters.sum(axis=1), found.codes < 4)
    last, _ = found.arrays(channels_first=False)
    np.testing.assert_array_equal(last, letters.swapaxes(1, 2))


@pytest.mark.parametrize("name", ["scores.bedgraph", "scores.bedgraph.gz"])
def test_bedgraph_has_every_score_in_order_within_the_contigs(tmp_path, name):
    found = made()
    path = found.write_bedgraph(tmp_path / name)
    text = gzip.decompress(path.read_bytes()) if name.endswith("gz") else None
    lines = (text.decode() if text else path.read_text()).splitlines()
    rows = [line.split("\t") for line in lines]
    first = [row for row in rows if row[0] == "chr1"]
    assert [row[0] for row in rows] == ["chr1"] * len(first) + ["chr2"] * 255
    assert int(first[-1][2]) == 1_200  # the contig's end
    starts = np.array([int(row[1]) for row in first]) - 1_000
    values = np.array([float(row[3]) for row in first])
    np.testing.assert_allclose(values, found.scores[1, starts], rtol=1e-5)
    assert 7 not in starts


def test_bigwig_has_every_score(tmp_path):
    bigwig = pytest.importorskip("pyBigWig", reason="needs the extra 'train'")
    found = made(starts=(100, -20))
    path = found.write_bigwig(tmp_path / "scores.bw")
    with bigwig.open(str(path)) as file:
        assert file.chroms() == {"chr1": 1_200, "chr2": 5_000}
        np.testing.assert_allclose(
            file.values("chr2", 100, 100 + LENGTH), found.scores[0], rtol=1e-6
        )
        np.testing.assert_allclose(
            file.values("chr1", 0, LENGTH - 20), found.scores[1, 20:], rtol=1e-6
        )


def test_windows_that_overlap_need_files_of_their_own(tmp_path):
    found = made(starts=(100, 200), chroms=("chr2", "chr2"))
    with pytest.raises(InputError, match=r"overlap at chr2:200.*rows=\[0\]"):
        found.write_bedgraph(tmp_path / "scores.bedgraph")
    found.write_bedgraph(tmp_path / "scores.bedgraph", rows=[1])
    with pytest.raises(InputError, match="exists"):
        found.write_bedgraph(tmp_path / "scores.bedgraph", rows=[0])
    found.write_bedgraph(tmp_path / "scores.bedgraph", rows=[0], overwrite=True)


@pytest.mark.parametrize("has_baseline", [False, True])
def test_rows_that_failed_have_no_scores_though_they_are_n(has_baseline):
    found = made(baseline=np.full((2, LENGTH), 4, np.uint8) if has_baseline else None)
    found.codes[0], found.gradient[0] = 4, np.nan
    assert np.isnan(found.scores[0]).all()
    assert np.isnan(found.region(0, 110, 113)).all()
    for statistic in ("sum", "mean", "absolute"):
        assert np.isnan(found.per_bin(statistic)[0]).all()
    assert found.to_frame(0)[["score", *"ACGT"]].isna().all(axis=None)
    for channels_first in (False, True):
        _, scores = found.arrays(channels_first=channels_first)
        assert np.isnan(scores[0]).all()
    assert found.scores[1, 7] == 0
    assert np.isfinite(found.scores[1]).all()


def test_rows_that_are_nan_are_left_out_of_files(tmp_path):
    found = made()
    missing = replace(found, prediction=np.array([np.nan, 1.0]))
    path = missing.write_bedgraph(tmp_path / "scores.bedgraph")
    assert {line.split("\t")[0] for line in path.read_text().splitlines()} == {"chr1"}
