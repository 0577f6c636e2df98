import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.plotting import plot_tracks

GENES = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2", "chr1"],
        "tss": [300, 200, 300, 9000],
        "strand": ["-", "+", "+", "+"],
    },
    index=["B", "A", "elsewhere", "outside"],
)


def heights(ax):
    """The drawn heights of each lane above its own baseline."""
    return [patch.get_data().values - patch.get_data().baseline for patch in ax.patches]


def test_each_track_is_a_lane_as_high_as_its_own_highest_value():
    ax = plot_tracks([[0, 1], [2, 0], [1, 4]], ("chr1", 128, 512), names=["x", "y"])
    first, second = heights(ax)
    assert np.allclose(first / 0.85, [0, 1, 0.5])
    assert np.allclose(second / 0.85, [0.25, 0, 1])
    assert ax.patches[0].get_data().edges.tolist() == [128, 256, 384, 512]
    assert ax.get_xlim() == (128, 512)
    assert ax.get_xlabel() == "chr1, position (0-based)"
    assert [t.get_text() for t in ax.get_yticklabels()] == ["x (to 2)", "y (to 4)"]


def test_a_shared_scale_keeps_tracks_comparable():
    ax = plot_tracks([[0, 1], [2, 4]], ("chr1", 0, 256), scale="shared")
    first, second = heights(ax)
    assert np.allclose([first.max(), second.max()], [0.85 * 0.5, 0.85])


def test_of_a_network_s_window_the_middle_bins_are_drawn():
    row = {"chrom": "chr1", "window_start": 1000, "window_end": 1000 + 6 * 128}
    ax = plot_tracks([1.0, 2.0], row)
    assert ax.get_xlim() == (1000 + 2 * 128, 1000 + 4 * 128)


def test_bins_of_a_reverse_complement_are_turned_around():
    row = pd.Series(
        {"chrom": "chr1", "window_start": 0, "window_end": 256, "read_strand": "-"}
    )
    (drawn,) = heights(plot_tracks([1.0, 2.0], row))
    assert drawn[0] > drawn[1]


def test_genes_of_the_window_are_arrows_the_way_they_are_transcribed():
    ax = plot_tracks([1.0, 2.0, 1.0], ("chr1", 128, 512), genes=GENES)
    assert [t.get_text() for t in ax.texts if t.get_text()] == ["A", "B"]
    to_right, to_left = [t for t in ax.texts if not t.get_text()]
    assert to_right.xy[0] > 200
    assert to_left.xy[0] < 300


def test_genes_are_called_by_their_names_if_they_have_any():
    named = GENES.assign(gene_name=["", "NLRC5", "", ""])
    ax = plot_tracks([1.0, 2.0, 1.0], ("chr1", 128, 512), genes=named)
    assert [t.get_text() for t in ax.texts if t.get_text()] == ["NLRC5", "B"]


def test_it_draws_on_axes_that_are_given():
    ax = Figure().add_subplot()
    assert plot_tracks([1.0], ("chr1", 0, 128), ax=ax) is ax
    with pytest.raises(InputTypeError, match="ax is a Figure; give matplotlib Axes"):
        plot_tracks([1.0], ("chr1", 0, 128), ax=Figure())


def test_values_that_are_all_zero_are_flat():
    assert not heights(plot_tracks([0.0, 0.0], ("chr1", 0, 256)))[0].any()


@pytest.mark.parametrize(
    ("values", "window", "message"),
    [
        (
            [1, 2, 3],
            ("chr1", 0, 256),
            r"\(256 bp\) cannot be divided into 3",
        ),
        ([1, np.nan], ("chr1", 0, 256), "1 values are not finite"),
        ([], ("chr1", 0, 256), r"shape \(0,\) are not \(bins, tracks\)"),
        (np.ones((2, 31)), ("chr1", 0, 256), "31 tracks are too many"),
        ([1, 2], ("chr1", 5, 5), "chr1:5-5 has no length"),
        ([1, 2], {"chrom": "chr1"}, "has no window_start, window_end"),
        (
            np.ones(9),
            {"chrom": "chr1", "window_start": 0, "window_end": 1024},
            "9 bins are more than the 8",
        ),
    ],
)
def test_values_that_do_not_fit_the_window_are_refused(values, window, message):
    with pytest.raises(InputError, match=message):
        plot_tracks(values, window)


def test_what_is_no_place_and_what_are_no_genes_is_said():
    with pytest.raises(InputTypeError, match="window=7 is no place; give"):
        plot_tracks([1.0], 7)
    with pytest.raises(InputError, match="genes has no tss"):
        plot_tracks([1.0], ("chr1", 0, 128), genes=GENES.drop(columns="tss"))
    with pytest.raises(InputError, match="names has 2 entries for 1 tracks"):
        plot_tracks([1.0], ("chr1", 0, 128), names=["a", "b"])
