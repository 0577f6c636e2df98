"""Edits of a region's own window: predictions of edited genomes say the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline

from enformer_features import EnformerEmbedder, Genome, InputError, Target
from enformer_features.datasets import ToyData
from enformer_features.genomics.encoding import decode
from enformer_features.interpret.targets import resolve_target
from enformer_features.report.explain import NOTHING_KNOWN, Question
from enformer_features.report.explanation import explain_page
from enformer_features.report.files import write_arrays, write_scores

pytestmark = [
    pytest.mark.filterwarnings("ignore::enformer_features.UntrainedWeightsWarning"),
    pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning"),
]
LENGTH = 2048


def region(strand: str) -> pd.DataFrame:
    """An even interval without a TSS, of two bins."""
    place = {"chrom": ["chr1"], "start": [8000], "end": [8256], "strand": [strand]}
    return pd.DataFrame(place).assign(name="here")


def embedder_of(toy: ToyData, genome: Any = None, **options: Any) -> EnformerEmbedder:
    return EnformerEmbedder(
        "untrained-tiny",
        genome=toy.genome if genome is None else genome,
        sequence_length=LENGTH,
        precision="float32",
        cache=None,
        **options,
    )


@pytest.fixture(scope="module")
def model(toy: ToyData) -> Pipeline:
    embedder = embedder_of(toy, pooling="region")
    rows = pd.concat([region("+"), region("+").assign(start=4000, end=4300)])
    head = Ridge(1e-2).fit(embedder.transform(rows), [0.0, 1.0])
    return make_pipeline(embedder, head)


def substitution(toy: ToyData, start: int) -> tuple[pd.DataFrame, str, str]:
    ref = decode(Genome(toy.genome).fetch("chr1", start, start + 1))
    alt = "A" if ref != "A" else "C"
    table = {"chrom": ["chr1"], "pos": [start + 1], "ref": [ref], "alt": [alt]}
    return pd.DataFrame(table), ref, alt


def edited(toy: ToyData, tmp_path: Any, start: int, alt: str) -> str:
    """Write the genome with another letter."""
    genome = Genome(toy.genome)
    lines = []
    for chrom, length in genome.contigs.items():
        letters = decode(genome.fetch(chrom, 0, length))
        if chrom == "chr1":
            letters = letters[:start] + alt + letters[start + 1 :]
        lines.append(f">{chrom}\n{letters}\n")
    path = tmp_path / "edited.fa"
    path.write_text("".join(lines))
    return str(path)


@pytest.mark.parametrize("strand", ["+", "-"])
def test_a_variant_changes_the_prediction_of_the_regions_own_bins(
    toy: ToyData, model: Pipeline, tmp_path: Any, strand: str
) -> None:
    start = 8400
    variants, _, alt = substitution(toy, start)
    rows = region(strand)
    other = embedder_of(toy, edited(toy, tmp_path, start, alt), pooling="region")
    expected = model[1].predict(other.transform(rows)) - model.predict(rows)
    asked = Question(model, rows, variants=variants, method="ism", ism_bp=2)
    found = asked.answer()
    assert found.variants is not None
    np.testing.assert_allclose(found.variants["effect"], expected, rtol=2e-3)
    assert found.variants["tss"].tolist() == [8128]
    windows = found.windows[["window_start", "read_strand"]].to_numpy().tolist()
    shown = found.variants[["window_start", "read_strand"]].to_numpy().tolist()
    assert shown == windows


@pytest.mark.parametrize("bins", ["region", "center", (-2, 1)])
def test_substitutions_are_of_the_bins_that_are_explained(
    toy: ToyData, tmp_path: Any, bins: Any
) -> None:
    start = 8128
    _, _, alt = substitution(toy, start)
    target = Target(tracks=[0, 24], bins=bins)
    genomes = (toy.genome, edited(toy, tmp_path, start, alt))
    values = []
    for genome in genomes:
        readout = resolve_target(embedder_of(toy, genome), target)
        features = readout.embedder.transform(region("-"))
        values.append(readout.predict(features.astype(np.float64))[0])
    asked = Question(embedder_of(toy), region("-"), target, method="ism", ism_bp=2)
    mutated = asked.answer().mutagenesis[0]
    effect = mutated.effects[start - mutated.start, "ACGT".index(alt), 0]
    assert effect == pytest.approx(values[1] - values[0], rel=5e-3)


@pytest.mark.parametrize(
    "options",
    [
        {"center": "bin", "strand": "average"},
        {"center": "basenji", "shifts": (-3, 5)},
        {"snap": True},
    ],
    ids=["both directions", "shifts", "snapped"],
)
def test_variants_are_read_as_the_region_is(
    toy: ToyData, tmp_path: Any, options: dict[str, Any]
) -> None:
    start = 8200
    variants, _, alt = substitution(toy, start)
    target, rows = Target(tracks=[24], bins=(-1, 4)), region("-")
    values = []
    for genome in (toy.genome, edited(toy, tmp_path, start, alt)):
        readout = resolve_target(embedder_of(toy, genome, **options), target)
        features = readout.embedder.transform(rows)
        values.append(readout.predict(features.astype(np.float64))[0])
    model = embedder_of(toy, **options)
    found = Question(model, rows, target, variants=variants).answer().variants
    assert found is not None
    assert found["effect"][0] == pytest.approx(values[1] - values[0], rel=5e-3)


def test_sequences_have_no_places_to_edit(toy: ToyData) -> None:
    sequences: Any = ["A" * LENGTH]
    asked = Question(embedder_of(toy), sequences, Target(tracks=0), method="ism")
    with pytest.raises(InputError, match="X holds sequences"):
        asked.check()


def test_substitutions_past_the_window_are_refused_in_time(toy: ToyData) -> None:
    asked = Question(embedder_of(toy), region("+"), Target(tracks=0), method="ism")
    with pytest.raises(InputError, match="reaches past its window"):
        replace(asked, ism_bp=LENGTH + 2).check()


def at(start: int) -> pd.DataFrame:
    return region("+").assign(start=start, end=start + 1)


def letters_of(toy: ToyData, tmp_path: Path, unknown: slice) -> Path:
    """Write the first 9,000 letters of a chromosome, some of which are N."""
    letters = np.array(list(decode(Genome(toy.genome).fetch("chr1", 0, 9000))))
    letters[unknown] = "N"
    path = tmp_path / "some.fa"
    path.write_text(f">chr1\n{''.join(letters)}\n")
    return path


@pytest.mark.parametrize(("start", "first", "n"), [(1, 0, 3), (8998, 8996, 4)])
def test_substitutions_end_where_the_contig_does(
    toy: ToyData, tmp_path: Path, start: int, first: int, n: int
) -> None:
    embedder = embedder_of(toy, letters_of(toy, tmp_path, slice(0, 0)))
    rows = pd.concat([at(start), at(4000).assign(name="there")])
    asked = Question(embedder, rows, Target(tracks=0), method="ism", ism_bp=4)
    found = asked.answer()
    here, there = found.mutagenesis
    assert (here.start, len(here.ref), "N" in here.ref) == (first, n, False)
    write_arrays(found, tmp_path / "arrays.npz")
    with np.load(tmp_path / "arrays.npz") as arrays:
        effects = arrays["effects"]
    np.testing.assert_array_equal(effects[0, :n], here.effects[..., 0])
    assert np.isnan(effects[0, n:]).all()
    assert len(there.ref) == effects.shape[1] == 4


def test_a_region_of_n_alone_is_told_and_harms_no_other(
    toy: ToyData, tmp_path: Path
) -> None:
    embedder = embedder_of(toy, letters_of(toy, tmp_path, slice(3000, 3400)))
    rows = pd.concat([at(3200).assign(name="gap"), at(6000)])
    found = Question(embedder, rows, Target(tracks=0), method="ism", ism_bp=4).answer()
    assert found.windows["reason"].tolist() == [NOTHING_KNOWN, ""]
    page = explain_page(found, tmp_path / "page.html").read_text("utf-8")
    assert f"There is no result: {NOTHING_KNOWN}" in page
    write_scores(found, tmp_path / "scores.tsv")
    written = (tmp_path / "scores.tsv").read_text()
    assert f"##enformer_features_no_scores=gap: {NOTHING_KNOWN}\n" in written


def test_a_region_without_a_window_has_no_substitutions(toy: ToyData) -> None:
    nowhere = region("+").assign(chrom="chrQ")
    embedder = embedder_of(toy, on_error="nan")
    asked = Question(embedder, nowhere, Target(tracks=0), method="ism")
    with pytest.raises(InputError, match="here has no window"):
        asked.check()
