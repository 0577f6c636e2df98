import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import InputError
from enformer_features.plotting import plot_variant_effects

TABLE = pd.DataFrame(
    {
        "chrom": "chr16",
        "pos": [101, 151, 201, 301],
        "id": ["rs1", ".", ".", "."],
        "ref": ["C", "A", "GATTACAGATTACA", "T"],
        "alt": ["T", "G", "G", "C"],
        "liver": [-0.5, 0.2, 0.1, np.nan],
    }
)


def test_each_scored_variant_is_a_stem_at_its_0_based_position():
    ax = plot_variant_effects(TABLE, "liver")
    raising, lowering = (c.get_segments() for c in ax.collections)
    assert np.allclose(raising, [[[150, 0], [150, 0.2]], [[200, 0], [200, 0.1]]])
    assert np.allclose(lowering, [[[100, 0], [100, -0.5]]])
    assert ax.get_title() == "3 variants, 1 without a score"
    assert ax.get_ylabel() == "effect on liver"
    left, right = ax.get_xlim()
    assert left < 100
    assert right > 200


def test_the_largest_effects_are_named_by_id_and_change():
    ax = plot_variant_effects(TABLE, "liver")
    named = [text.get_text() for text in ax.texts]
    assert named == ["rs1 C>T", "A>G", "GATTAC>G"]
    assert len(plot_variant_effects(TABLE, "liver", n_labels=1).texts) == 1


def test_a_single_variant_has_room_around_it():
    ax = plot_variant_effects(TABLE[:1], "liver")
    assert ax.get_xlim() == (95, 105)


def test_tables_that_cannot_be_drawn_are_refused():
    with pytest.raises(InputError, match=r"output='livr'.*did you mean 'liver'"):
        plot_variant_effects(TABLE, "livr")
    with pytest.raises(InputError, match="the table has no ref, alt"):
        plot_variant_effects(TABLE.drop(columns=["ref", "alt"]), "liver")
    with pytest.raises(InputError, match="none of 1 variants has a score of liver"):
        plot_variant_effects(TABLE[3:], "liver")
    mixed = TABLE.assign(chrom=["chr1", "chr2", "chr1", "chr1"])
    with pytest.raises(InputError, match="lie on chr1, chr2; draw one chromosome"):
        plot_variant_effects(mixed, "liver")
