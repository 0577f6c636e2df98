import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError, InputTypeError
from enformer_features.interpret.attention import AttentionMap
from enformer_features.interpret.contributions import Contributions
from enformer_features.plotting import (
    plot_attention,
    plot_contributions,
    plot_ism,
    plot_logo,
)
from enformer_features.plotting.base import LOWERS, RAISES
from enformer_features.plotting.letters import COLORS, outline, stack
from enformer_features.variant_effect.mutagenesis import Mutagenesis


def boxes(ax):
    """Corners (left, bottom, right, top) of every drawn letter."""
    return {
        patch.get_gid(): [
            np.r_[part.vertices[:-1].min(axis=0), part.vertices[:-1].max(axis=0)]
            for part in letters_of(patch)
        ]
        for patch in ax.patches
    }


def letters_of(patch):
    """The paths of single letters, which one patch holds behind each other."""
    path, n = patch.get_path(), len(outline(patch.get_gid())[1])
    for first in range(0, len(path), n):
        part = path.deepcopy()
        part.vertices, part.codes = path.vertices[first : first + n], None
        keep = path.codes[first : first + n] != path.CLOSEPOLY
        part.vertices = np.vstack([part.vertices[keep], part.vertices[:1]])
        yield part


def test_letters_stand_at_their_positions_as_high_as_their_scores():
    ax = plot_logo([0.5, -0.25, 0.0, 1.0], 100, sequence="GANG", chrom="chr7")
    found = boxes(ax)
    assert sorted(found) == ["A", "G"]
    first, second = found["G"]
    assert np.allclose(first[[1, 3]], [0.0, 0.5])
    assert np.allclose(second[[1, 3]], [0.0, 1.0])
    assert np.allclose(found["A"][0][[1, 3]], [-0.25, 0.0])
    assert 99.5 < first[0] < 100 < first[2] < 100.5
    assert ax.get_xlim() == (99.5, 103.5)
    assert ax.get_xlabel() == "chr7, position (0-based)"


def test_every_letter_has_a_colour_and_an_outline_that_fills_its_box():
    ax = plot_logo(np.eye(4))
    for patch in ax.patches:
        (box,) = boxes(ax)[patch.get_gid()]
        assert np.allclose(box[[1, 3]], [0.0, 1.0])
        assert np.isclose(box[2] - box[0], 0.92)
    colors = {patch.get_gid(): patch.get_facecolor() for patch in ax.patches}
    assert len(set(colors.values())) == len(COLORS)


def test_letters_are_paths_not_text():
    assert not plot_logo(np.ones((3, 4))).texts


def test_stacked_letters_do_not_overlap_and_the_largest_is_outermost():
    scores = np.random.default_rng(0).normal(size=(17, 4))
    bottoms = stack(scores)
    for values, low in zip(scores, bottoms, strict=True):
        high = low + np.abs(values)
        order = np.argsort(low)
        assert np.allclose(low[order][1:], high[order][:-1])
        assert np.isclose(high.max(), np.clip(values, 0, None).sum())
        assert np.isclose(low.min(), np.clip(values, None, 0).sum())
    assert stack(np.array([[3.0, 1.0, 0, 0]])).tolist() == [[1.0, 0.0, 0.0, 0.0]]


@pytest.mark.parametrize(
    ("scores", "sequence", "message"),
    [
        ([1.0, 2.0], None, r"shape \(2,\) are not \(length, 4\).*sequence="),
        ([1.0, 2.0], "GAT", "for a sequence of 3 letters"),
        ([1.0, 2.0], "GX", "sequence holds X"),
        (np.ones((1001, 4)), None, "1,001 letters cannot be read"),
        (np.full((2, 4), np.nan), None, "8 scores are not finite"),
    ],
)
def test_scores_that_are_no_logo_are_refused(scores, sequence, message):
    with pytest.raises(InputError, match=message):
        plot_logo(scores, sequence=sequence)


@pytest.fixture
def contributions():
    n = 2048
    table = pd.DataFrame(
        {"chrom": "chr1", "window_start": [5000], "window_end": [5000 + n]}
    )
    codes = np.arange(n, dtype=np.uint8)[None] % 4
    gradient = np.full((1, n, 4), 0.5, np.float32)
    gradient[0, :128] = -1.0
    return Contributions(table, codes, gradient, np.array([1.0]))


def test_a_short_region_is_letters_of_the_genome(contributions):
    ax = plot_contributions(contributions, region=(5128, 5134))
    letters = sorted((box[0], name) for name, many in boxes(ax).items() for box in many)
    assert "".join(name for _, name in letters) == "ACGTAC"
    assert ax.get_xlim() == (5127.5, 5133.5)


def test_a_whole_window_is_bars_of_128_bp(contributions):
    ax = plot_contributions(contributions)
    above, below = (patch.get_data().values for patch in ax.patches)
    assert (above[0], below[0]) == (0.0, -128.0)
    assert (above[1:] == 64.0).all()
    assert ax.get_xlim() == (5000, 7048)
    raised, lowered = (patch.get_facecolor() for patch in ax.patches)
    assert raised != lowered


def test_contributions_that_are_not_there_are_refused(contributions):
    with pytest.raises(InputError, match="row=1 is none of the 1 regions"):
        plot_contributions(contributions, 1)
    with pytest.raises(InputError, match="does not lie within row 0's window"):
        plot_contributions(contributions, region=(4000, 5100))
    contributions.gradient[:] = np.nan
    with pytest.raises(InputError, match="row 0 has no scores"):
        plot_contributions(contributions)


def mutagenesis():
    effects = np.zeros((5, 4, 2), dtype=np.float32)
    effects[0, 3] = (0.25, -2.0)
    effects[4] = np.nan
    return Mutagenesis("chr1", 100, "GATTN", effects, ["liver", "lung"])


def test_a_map_of_substitutions_has_a_row_per_letter_and_dots_at_the_reference():
    ax = plot_ism(mutagenesis(), "lung")
    (image,) = ax.images
    assert image.get_array().shape == (4, 5)
    assert image.get_array()[3, 0] == -2.0
    assert image.get_clim() == (-2.0, 2.0)
    assert image.get_extent() == [99.5, 104.5, 3.5, -0.5]
    assert [label.get_text() for label in ax.get_yticklabels()] == list("ACGT")
    (dots,) = ax.lines
    assert np.asarray(dots.get_xydata()).tolist() == [
        [100, 2],
        [101, 0],
        [102, 3],
        [103, 3],
    ]
    assert ax.get_title() == "lung"


def test_an_output_or_a_region_that_cannot_be_drawn_is_said():
    with pytest.raises(InputError, match=r"output='live'.*did you mean 'liver'"):
        plot_ism(mutagenesis(), "live")
    with pytest.raises(InputError, match="output=2 is none of the 2: liver, lung"):
        plot_ism(mutagenesis(), 2)
    blank = Mutagenesis("chr1", 0, "N", np.full((1, 4, 1), np.nan, np.float32), ["x"])
    with pytest.raises(InputError, match="chr1:0-1 is all N"):
        plot_ism(blank)


WEIGHTS = [0.1, 0.2, 0.6, 0.1]


def test_arcs_reach_from_the_tss_to_the_bins_of_most_weight():
    ax = plot_attention(WEIGHTS, ("chr1", 0, 512), tss=64, n_arcs=2)
    weaker, stronger = ax.patches
    assert (stronger.center[0], stronger.width) == ((64 + 320) / 2, 320 - 64)
    assert (weaker.center[0], weaker.width) == ((64 + 192) / 2, 192 - 64)
    assert stronger.get_alpha() == 1.0
    assert weaker.get_linewidth() < stronger.get_linewidth()
    assert ax.get_xlim() == (0, 512)
    assert ax.get_title() == "the 2 bins of most weight"


def test_a_row_shows_the_weight_of_every_bin():
    ax = plot_attention(WEIGHTS, ("chr1", 0, 512), kind="row")
    (image,) = ax.images
    assert image.get_array().tolist() == [WEIGHTS]
    assert image.get_clim()[0] == 0.0


def test_weights_of_a_reverse_complement_are_turned_around_and_those_of_a_map_not():
    """An AttentionMap is in the genome's direction already."""
    row = {"chrom": "chr1", "window_start": 0, "window_end": 512, "read_strand": "-"}
    table = pd.DataFrame([row | {"pool_start": 128, "pool_end": 256}])
    found = AttentionMap(table, np.array([WEIGHTS], np.float32))
    (image,) = plot_attention(WEIGHTS, row, kind="row").images
    assert image.get_array().tolist() == [WEIGHTS[::-1]]
    (image,) = plot_attention(found, kind="row").images
    assert np.allclose(image.get_array(), [WEIGHTS])
    (arc,) = plot_attention(found, n_arcs=1).patches
    assert (arc.center[0], arc.width) == ((192 + 320) / 2, 320 - 192)
    with pytest.raises(InputError, match="row=1 is none of the 1 regions"):
        plot_attention(found, row=1)
    with pytest.raises(InputTypeError, match="knows its windows"):
        plot_attention(found, ("chr1", 0, 512))


def test_weights_that_are_none_are_refused():
    with pytest.raises(InputError, match="not below 0"):
        plot_attention([-0.1, 1.0], ("chr1", 0, 256))
    with pytest.raises(InputError, match=r"shape \(1, 4\) are not one per bin"):
        plot_attention([WEIGHTS], ("chr1", 0, 512))
    with pytest.raises(InputError, match="say not where they are"):
        plot_attention(WEIGHTS)
    with pytest.raises(InputError, match=r"kind='ark'.*did you mean 'arc'"):
        plot_attention(WEIGHTS, ("chr1", 0, 512), kind="ark")


def test_colours_of_raising_and_lowering_differ_in_lightness():
    """So that they can be told apart without hue, and in print."""

    def lightness(color):
        red, green, blue = (int(color[i : i + 2], 16) for i in (1, 3, 5))
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    assert abs(lightness(RAISES) - lightness(LOWERS)) > 15
