import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import encode
from enformer_features.interpret.contributions import Contributions
from enformer_features.interpret.segments import strongest_segments

LETTERS = "ACGTTGCAAACCCGGGTTTAGATC"  # 24


def contributions(scores, letters=LETTERS, n_rows=1, **columns):
    """Return rows in which the letter that is there has this score."""
    one = np.asarray(scores, dtype=np.float32)
    n = len(one)
    table = pd.DataFrame(
        {
            "chrom": "chr7",
            "window_start": 1_000,
            "window_end": 1_000 + n,
            "read_strand": "+",
            "name": [f"gene{i}" for i in range(n_rows)],
            **columns,
        }
    )
    gradient = np.repeat(one[None, :, None], 4, axis=2)
    return Contributions(
        table,
        np.repeat(encode(letters)[None], n_rows, axis=0),
        np.repeat(gradient, n_rows, axis=0),
        np.zeros(n_rows),
    )


def bumps(**at):
    scores = np.zeros(len(LETTERS))
    for place, value in at.items():
        scores[int(place[1:])] = value
    return scores


def test_segments_are_found_by_strength_and_told_by_their_letters():
    found = strongest_segments(
        contributions(bumps(i3=1, i4=2, i15=-5)), width_bp=2, flank_bp=3
    )
    assert found["rank"].tolist() == [1, 2]
    assert found["sum"].tolist() == [-5, 3]
    assert found["direction"].tolist() == ["lowers", "raises"]
    second = found.iloc[1]
    assert (second["start"], second["end"], second["peak"]) == (1_003, 1_005, 1_004)
    assert (second["sequence"], second["context"]) == ("TT", "acgTTgca")
    assert second["share"] == pytest.approx(3 / 8)


def test_distances_are_signed_along_the_gene():
    scores = bumps(i20=1)
    forward = strongest_segments(contributions(scores, tss=1_010), width_bp=1)
    assert forward["distance_bp"].tolist() == [10]
    backward = contributions(scores, tss=1_010, read_strand="-")
    found = strongest_segments(backward, width_bp=1)
    assert found["distance_bp"].tolist() == [-10]
    assert (found["sequence"][0], found["strand"][0]) == ("C", "-")  # G in the genome


def test_a_mirrored_window_gives_the_same_segments():
    scores = bumps(i2=1, i3=-4, i9=2, i17=3)
    turned = LETTERS[::-1].translate(str.maketrans("ACGT", "TGCA"))
    for width in (3, 4):
        forward = strongest_segments(contributions(scores), width_bp=width)
        backward = strongest_segments(
            contributions(scores[::-1], turned, read_strand="-"), width_bp=width
        )
        same = ["rank", "sequence", "context", "distance_bp", "direction", "sum"]
        pd.testing.assert_frame_equal(forward[same], backward[same])


def test_without_a_tss_distances_are_from_the_middle_as_it_is_read():
    found = strongest_segments(contributions(bumps(i12=1)), width_bp=1)
    assert found["distance_bp"].tolist() == [0]
    backward = contributions(bumps(i11=1), read_strand="-", tss=-1)
    assert strongest_segments(backward, width_bp=1)["distance_bp"].tolist() == [0]
    given = strongest_segments(contributions(bumps(i12=1)), width_bp=1, tss=1_002)
    assert given["distance_bp"].tolist() == [10]


@pytest.mark.parametrize(("read", "middle"), [("+", 12), ("-", 11), ("+/-", 12)])
def test_the_middle_of_a_minus_gene_is_where_its_window_is_read(read, middle):
    scores = bumps(**{f"i{middle}": 1})
    found = contributions(scores, read_strand=read, strand="-", tss=-1)
    assert strongest_segments(found, width_bp=1)["distance_bp"].tolist() == [0]


def test_windows_read_both_ways_are_told_on_the_genes_strand():
    both = contributions(bumps(i0=1), read_strand="+/-", strand="-")
    found = strongest_segments(both, width_bp=1, flank_bp=2)
    assert found.loc[0, "context"] == "cgT"


def test_segments_do_not_overlap_and_keep_their_distance():
    scores = np.ones(len(LETTERS))
    side_by_side = strongest_segments(contributions(scores), n=50, width_bp=6)
    assert sorted(side_by_side["start"]) == [1_000, 1_006, 1_012, 1_018]
    apart = strongest_segments(contributions(scores), n=50, width_bp=6, gap_bp=3)
    assert sorted(apart["start"]) == [1_000, 1_009, 1_018]


def test_letters_that_cancel_out_are_no_segment():
    assert strongest_segments(contributions(np.zeros(24))).empty
    opposed = strongest_segments(contributions(bumps(i4=3, i5=-3)), width_bp=1)
    assert opposed["direction"].tolist() == ["raises", "lowers"]


def test_every_region_is_reported_unless_one_is_named():
    rows = contributions(bumps(i4=3), n_rows=3)
    assert strongest_segments(rows)["name"].tolist() == ["gene0", "gene1", "gene2"]
    assert strongest_segments(rows, 1)["name"].tolist() == ["gene1"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"row": 5}, r"row=5 is not there; rows are 0 to 1"),
        ({"n": 0}, "n=0 must be a whole number, at least 1"),
        ({"width_bp": 25}, "width_bp=25 is wider than the window, 24 bp"),
        ({"tss": 7}, "tss is of a single region"),
    ],
)
def test_mistakes_are_named(options, message):
    with pytest.raises(InputError, match=message):
        strongest_segments(contributions(bumps(i4=1), n_rows=2), **options)


def test_rows_without_scores_are_named_with_the_reason():
    empty = contributions(np.full(24, np.nan), "N" * 24, reason="leaves its contig")
    message = "row 0, gene0, has no scores: leaves its contig"
    with pytest.raises(InputError, match=message):
        strongest_segments(empty, 0)
    with pytest.raises(InputError, match="has no scores: they are not finite"):
        strongest_segments(contributions(np.full(24, np.nan)), 0)


def test_of_all_rows_those_without_scores_are_skipped():
    rows = contributions(bumps(i4=3), n_rows=3, reason=["", "leaves its contig", ""])
    assert strongest_segments(rows)["name"].tolist() == ["gene0", "gene2"]
    empty = strongest_segments(contributions(np.full(24, np.nan)))
    assert len(empty) == 0
    assert "sequence" in empty
