"""interpret/elements.py: against full forwards of edited windows."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import Ridge
from sklearn.tree import DecisionTreeRegressor

from enformer_features import EnformerEmbedder, Target, element_ism
from enformer_features.exceptions import GenomeError, InputError
from enformer_features.genomics.encoding import decode, one_hot
from enformer_features.inference.pooling import pool_row
from enformer_features.interpret.rows import Rows
from enformer_features.interpret.targets import resolve_target
from enformer_features.model.handle import ModelHandle
from tests.inference.networks import ODD, draw_codes, exact_of, network_of
from tests.interpret.test_gradients import LENGTH, fitted

GENES = pd.DataFrame(
    {"chrom": "chr1", "tss": [4_000, 4_200], "strand": ["+", "-"], "name": ["a", "b"]}
)
ELEMENTS = pd.DataFrame(
    {
        "chrom": ["chr1", "chr1", "chr2", "chr1"],
        "start": [3_300, 4_150, 100, 6_100],
        "end": [3_420, 4_155, 300, 6_300],
        "name": ["e1", "", "elsewhere", "far"],
    }
)
LETTERS = decode(draw_codes(1, 9_001)[0])


def written(path, letters):
    path.write_text(f">chr1\n{letters}\n>chr2\n{letters[:700]}\n")
    return path


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    return written(tmp_path_factory.mktemp("genome") / "toy.fa", LETTERS)


def embedder(fasta, **parameters):
    settings = {"output": "tracks", "precision": "float64", "cache": None}
    return EnformerEmbedder(
        ModelHandle(network_of(ODD)),
        genome=fasta,
        sequence_length=LENGTH,
        **{**settings, **parameters},
    )


def without(tmp_path, start, end):
    """A genome in which an element is N."""
    letters = LETTERS[:start] + "N" * (end - start) + LETTERS[end:]
    return written(tmp_path / f"without_{start}.fa", letters)


def in_float64(model, target):
    """Predict the genes by the plain network, without rounding features to float32."""
    readout = resolve_target(model, target)
    rows = Rows(readout.embedder, GENES)
    recipe, bins = rows.job.recipe, rows.job.bins
    network, tracks = exact_of(ODD), list(recipe.tracks.indices)
    numbers = []
    for row in range(len(rows)):
        read = []
        for reading in rows.readings(row):
            letters = torch.from_numpy(one_hot(reading.codes))[None].double()
            with torch.no_grad():
                kept = network(letters, output="tracks")[0][:, tracks]
            read.append(kept.flip(0) if reading.flip else kept)
        pooled = pool_row(torch.stack(read).mean(dim=0), recipe.pools, bins, row, 0)
        numbers.append(readout.predict(pooled[None].numpy())[0])
    return np.array(numbers)


@pytest.mark.parametrize("shifts", [(0,), (-9, 0, 9)])
@pytest.mark.parametrize("strand", ["match", "average"])
def test_effects_are_those_of_full_forwards(fasta, tmp_path, strand, shifts):
    options = {"strand": strand, "shifts": shifts}
    target = Target(tracks=[1, 4])
    found = element_ism(embedder(fasta, **options), GENES, ELEMENTS, target)
    assert found["region"].tolist() == ["a"] * 3 + ["b"] * 3
    assert found["element"].tolist() == ["e1", "chr1:4150-4155", "far"] * 2
    assert found["distance"].tolist() == [-640, 152, 2_200, 840, 48, -2_000]

    def predicted(genome):
        return in_float64(embedder(genome, **options), target)

    before = predicted(fasta)
    for number, (start, end) in enumerate([(3_300, 3_420), (4_150, 4_155)]):
        rows = found.iloc[[number, number + 3]]
        lost = before - predicted(without(tmp_path, start, end))
        np.testing.assert_allclose(rows["effect"], lost, rtol=1e-7)
        np.testing.assert_allclose(rows["prediction"], before, rtol=1e-9)
        assert (rows["magnitude"] == rows["effect"].abs()).all()
        assert (rows["magnitude"] > 1e-5).all()
        assert rows["n"].tolist() == [1, 1]


def test_elements_past_the_window_have_no_effect(fasta):
    found = element_ism(embedder(fasta), GENES, ELEMENTS, Target(tracks=0))
    far = found[found["element"] == "far"]
    assert far["effect"].isna().all()
    assert far["reason"].str.startswith("past the window").all()
    assert far["n"].tolist() == [0, 0]
    assert (found.loc[found["element"] == "e1", "reason"] == "").all()


@pytest.mark.parametrize("how", ["shuffled", "dinucleotide"])
def test_shuffles_are_averaged_and_an_element_has_its_own(fasta, how):
    options = {"how": how, "n": 3, "seed": 5}
    target = Target(tracks=[0, 2])
    both = element_ism(embedder(fasta), GENES, ELEMENTS, target, **options)
    alone = element_ism(
        embedder(fasta), GENES.iloc[1:], ELEMENTS.iloc[:1], target, **options
    )
    assert alone["effect"].iloc[0] == pytest.approx(both["effect"].iloc[3], rel=1e-9)
    scored = both[both["reason"] == ""]
    assert (scored["n"] == 3).all()
    assert (scored["spread"] > 0).any()
    assert (scored["magnitude"] >= scored["effect"].abs() - 1e-12).all()
    other = element_ism(embedder(fasta), GENES, ELEMENTS, target, how=how, n=3, seed=6)
    assert (scored["effect"] != other.loc[scored.index, "effect"]).any()


@pytest.mark.parametrize("head", [Ridge(), DecisionTreeRegressor(random_state=1)])
def test_effects_go_through_any_head(fasta, tmp_path, head):
    model = fitted(embedder(fasta), 2, head)
    found = element_ism(model, GENES, ["chr1:3301-3420"], Target(output=1))
    before = in_float64(model, Target(output=1))
    edited = model.set_params(enformerembedder__genome=without(tmp_path, 3_300, 3_420))
    after = in_float64(edited, Target(output=1))
    np.testing.assert_allclose(found["effect"], before - after, rtol=1e-6, atol=1e-12)


def test_what_cannot_be_taken_out_is_refused(fasta):
    model, target = embedder(fasta), Target(tracks=0)
    with pytest.raises(InputError, match="X holds sequences; give regions"):
        element_ism(model, [LETTERS[:LENGTH]], ELEMENTS, target)
    with pytest.raises(GenomeError, match=r"genome does not have: \['chr9'\]"):
        element_ism(model, GENES, ["chr9:101-200"], target)
    with pytest.raises(InputError, match="how='zeros' is not one of 'n', 'shuffled'"):
        element_ism(model, GENES, ELEMENTS, target, how="zeros")
    with pytest.raises(InputError, match="n=0 must be a whole number of at least 1"):
        element_ism(model, GENES, ELEMENTS, target, n=0)
    with pytest.raises(InputError, match="what is to be explained"):
        element_ism(embedder(fasta, output="embedding"), GENES, ELEMENTS)


@pytest.mark.parametrize("elements", [["1:3301-3420"], ["chr1:3301-3420"]])
def test_contigs_of_elements_are_renamed_as_those_of_regions_are(fasta, elements):
    model = embedder(fasta, contig_style="ucsc")
    found = element_ism(model, GENES, elements, Target(tracks=0))
    named = element_ism(embedder(fasta), GENES, ["chr1:3301-3420"], Target(tracks=0))
    np.testing.assert_array_equal(found["effect"], named["effect"])
    assert found["chrom"].tolist() == ["chr1", "chr1"]


def test_no_element_on_the_chromosome_is_an_empty_table(fasta):
    found = element_ism(embedder(fasta), GENES, ["chr2:101-200"], Target(tracks=0))
    assert len(found) == 0
    assert "effect" in found
