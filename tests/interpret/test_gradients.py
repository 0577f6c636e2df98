"""interpret/gradients.py: against finite differences on float64 networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from enformer_features import EnformerEmbedder, Pool, Target
from enformer_features.exceptions import CompletenessWarning, InputError
from enformer_features.genomics.encoding import decode, encode, one_hot
from enformer_features.genomics.genome import open_genome
from enformer_features.inference.precision import POLICIES
from enformer_features.interpret.forward import GradientForward
from enformer_features.interpret.gradients import (
    _Found,
    _Gradients,
    gradient_x_input,
    integrated_gradients,
)
from enformer_features.interpret.targets import resolve_target
from enformer_features.model.handle import ModelHandle
from tests.inference.networks import ODD, draw_codes, exact_of, network_of, sized

LENGTH = 3_968  # 31 bins, of which 11 are kept
START = 2_016
GENES = pd.DataFrame(
    {"chrom": "chr1", "tss": [4_000, 4_100], "strand": ["+", "-"], "name": ["a", "b"]}
)


@pytest.fixture(scope="module")
def fasta(tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    letters = decode(draw_codes(1, 9_001)[0])
    path.write_text(f">chr1\n{letters}\n>chr2\n{letters[:700]}\n")
    return path


def exact(fasta=None, network=None, **parameters):
    settings = {"genome": fasta, "sequence_length": LENGTH, "cache": None}
    return EnformerEmbedder(
        ModelHandle(network or network_of(ODD)),
        **{**settings, "precision": "float64", "output": "tracks", **parameters},
    )


def derivative(model, X, target, row, direction, step=1e-8):
    """Central difference of the prediction along a change of a row's letters.

    ``direction``: (length, 4), in the genome's direction. The step is so short because
    the transformer's ReLUs have kinks.
    """
    gradients = _Gradients(resolve_target(model, target), X)
    readings = gradients.rows.readings(row)
    flips = [reading.flip for reading in readings]
    numbers = []
    for sign in (1, -1):
        inputs = []
        for reading in readings:
            moved = np.roll(direction, -reading.offset, axis=0)
            turned = moved[::-1, ::-1] if reading.backward else moved
            change = torch.from_numpy(np.ascontiguousarray(turned))
            inputs.append(gradients.letters(reading.codes) + sign * step * change)
        numbers.append(gradients.number(inputs, row, flips))
    return (numbers[0] - numbers[1]) / (2 * step)


def directions(n=2):
    """Random changes of letters, none of them near the ends of the window."""
    drawn = np.random.default_rng(5).standard_normal((n, LENGTH, 4))
    drawn[:, :100] = drawn[:, -100:] = 0
    return drawn


def assert_is_derivative(model, X, target=None, rtol=1e-5):
    found = gradient_x_input(model, X, target)
    for row in range(len(found)):
        for direction in directions():
            expected = derivative(model, X, target, row, direction)
            ours = float((found.gradient[row].astype(np.float64) * direction).sum())
            size = np.linalg.norm(found.gradient[row].astype(np.float64)) * np.sqrt(
                (direction**2).mean()
            )
            assert expected != 0
            assert abs(ours - expected) <= rtol * size
    return found


@pytest.mark.parametrize("strand", ["match", "average", "ignore"])
def test_the_gradient_of_tracks_is_that_of_finite_differences(fasta, strand):
    model = exact(fasta, strand=strand)
    found = assert_is_derivative(model, GENES, Target(tracks=[2, 5], bins=(-3, 1)))
    assert found.gradient.shape == (2, LENGTH, 4)
    assert found.gradient.dtype == np.float32
    assert found.table["chrom"].tolist() == ["chr1", "chr1"]
    assert found.contigs == {"chr1": 9_001, "chr2": 700}


def test_shifted_windows_are_averaged_where_they_lie(fasta):
    model = exact(fasta, strand="average", shifts=(-43, 0, 43))
    assert_is_derivative(model, GENES.iloc[:1], Target(tracks=3))


def test_the_gradient_of_a_direction_of_the_embedding(fasta):
    direction = np.random.default_rng(2).standard_normal(ODD.embedding_dim)
    target = Target(direction=direction, bins="all")
    found = assert_is_derivative(exact(fasta, output="embedding"), GENES, target)
    bins = exact(fasta, output="embedding").embed_bins(GENES)
    np.testing.assert_allclose(
        found.prediction, bins.mean(axis=1) @ direction, rtol=1e-4
    )


def fitted(model, n_targets, *steps):
    features = np.random.default_rng(3).standard_normal(
        (40, len(model.get_feature_names_out()))
    )
    weights = np.random.default_rng(4).standard_normal((features.shape[1], n_targets))
    y = features @ weights + 5
    head = make_pipeline(*steps).fit(features, y[:, 0] if n_targets == 1 else y)
    return make_pipeline(model, *[step for _, step in head.steps])


@pytest.mark.parametrize("output", ["tracks", "embedding", "block_0", "tower"])
def test_the_gradient_goes_through_scalers_pca_and_linear_heads(fasta, output):
    model = exact(fasta, output=output, strand="average")
    steps = (StandardScaler(), PCA(3), MinMaxScaler(), Ridge(alpha=0.1))
    pipeline = fitted(model, 3, *steps)
    found = assert_is_derivative(pipeline, GENES, Target(output=2))
    np.testing.assert_allclose(
        found.prediction, pipeline.predict(GENES)[:, 2], rtol=1e-5
    )


@pytest.mark.parametrize("pooling", ["max", "flatten", "expecto", ("tss", "mean")])
@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.WindowWarning")
def test_the_gradient_goes_through_every_pool(fasta, pooling):
    model = exact(fasta, pooling=pooling, strand="average")
    pipeline = fitted(model, 1, LinearRegression())
    found = assert_is_derivative(pipeline, GENES.iloc[1:])
    np.testing.assert_allclose(
        found.prediction, pipeline.predict(GENES.iloc[1:]), rtol=1e-5
    )


def test_pools_of_the_regions_own_bins(fasta):
    regions = ["chr1:4001-4300", "chr1:4501-5201"]
    assert_is_derivative(exact(fasta), regions, Target(tracks=0, bins="region"))
    pipeline = fitted(exact(fasta, pooling=Pool("own", "region")), 1, Ridge())
    assert_is_derivative(pipeline, regions)


def test_scores_are_the_gradient_at_the_letters_and_sum_to_its_product(fasta):
    found = gradient_x_input(exact(fasta), GENES, Target(tracks=1))
    start = found.table["window_start"].to_numpy()
    for row in range(2):
        codes = open_genome(fasta).fetch("chr1", start[row], start[row] + LENGTH)
        np.testing.assert_array_equal(found.codes[row], codes)
        letters = one_hot(codes)
        np.testing.assert_array_equal(
            found.scores[row], (letters * found.gradient[row]).sum(axis=1)
        )
        along = derivative(
            exact(fasta), GENES, Target(tracks=1), row, letters.astype(np.float64)
        )
        assert found.scores[row].astype(np.float64).sum() == pytest.approx(
            along, rel=1e-4
        )


def test_a_mirrored_gene_has_the_mirrored_gradient(tmp_path):
    letters = decode(draw_codes(1, LENGTH, n_share=0)[0])
    mirrored = letters[::-1].translate(str.maketrans("ACGT", "TGCA"))
    path = tmp_path / "both.fa"
    path.write_text(f">one\n{letters}\n>two\n{mirrored}\n")
    half = LENGTH // 2
    genes = pd.DataFrame(
        {"chrom": ["one", "two"], "tss": [half, half - 1], "strand": ["+", "-"]}
    )
    found = gradient_x_input(exact(path), genes, Target(tracks=4))
    np.testing.assert_array_equal(found.gradient[0], found.gradient[1, ::-1, ::-1])
    assert found.prediction[0] == found.prediction[1]


def test_sequences_have_windows_of_their_own():
    codes = draw_codes(2, LENGTH)
    found = assert_is_derivative(exact(), codes, Target(tracks=6))
    assert found.table["window_start"].tolist() == [0, 0]
    assert found.contigs == {"0": LENGTH, "1": LENGTH}
    np.testing.assert_array_equal(found.codes, codes)


def test_tiles_of_the_tower_change_nothing(fasta):
    gradients = _Gradients(resolve_target(exact(fasta), Target(tracks=0)), GENES)
    network = exact_of(ODD)
    x = one_hot(draw_codes(1, LENGTH)[0])
    found = []
    for tile_rows in (62, 512, LENGTH):
        letters = torch.from_numpy(x).double().requires_grad_()
        forward = replace(gradients.forward, network=network, tile_rows=tile_rows)
        bins = forward(letters)
        (gradient,) = torch.autograd.grad(bins.square().sum(), letters)
        found.append((bins.detach(), gradient))
    for bins, gradient in found[:-1]:
        torch.testing.assert_close(bins, found[-1][0], rtol=1e-10, atol=1e-12)
        torch.testing.assert_close(gradient, found[-1][1], rtol=1e-8, atol=1e-12)


def test_the_forward_is_the_plain_networks(fasta):
    gradients = _Gradients(resolve_target(exact(fasta), Target(tracks=[1, 3])), GENES)
    assert isinstance(gradients.forward, GradientForward)
    codes = draw_codes(1, LENGTH)[0]
    bins = gradients.forward(gradients.letters(codes))
    with torch.no_grad():
        plain = exact_of(ODD)(
            torch.from_numpy(one_hot(codes))[None].double(), output="tracks"
        )
    low, high = gradients.span
    torch.testing.assert_close(bins, plain[0, low:high, [1, 3]], rtol=1e-9, atol=1e-12)


def test_float32_agrees_with_float64(fasta):
    target = Target(tracks=[0, 1])
    double = gradient_x_input(exact(fasta), GENES, target)
    single = gradient_x_input(exact(fasta, precision="auto"), GENES, target)
    size = np.abs(double.scores).max()
    assert np.abs(single.scores - double.scores).max() <= 1e-4 * size
    assert single.scores.any()


@pytest.mark.parametrize(
    ("given", "ran"),
    [
        ("auto", "float32-exact"),
        ("float32", "float32-exact"),
        ("bfloat16", "float32-exact"),
        ("float64", "float64"),
    ],
)
def test_the_precision_that_is_told_is_the_one_that_ran(fasta, given, ran):
    model = exact(fasta, precision=given, device="cpu")
    found = gradient_x_input(model, GENES.iloc[:1], Target(tracks=0))
    assert found.about["precision"] == ran
    assert found.about["precision_rms_error"] == POLICIES[ran].rms_error
    expected = exact(fasta, precision=ran, device="cpu")
    same = gradient_x_input(expected, GENES.iloc[:1], Target(tracks=0))
    np.testing.assert_array_equal(found.gradient, same.gradient)


def test_rows_that_cannot_be_read_are_nan_when_asked(fasta):
    model = exact(fasta, on_error="nan", edge="nan")
    regions = ["chr1:4001-4100", "chr2:101-200"]
    found = gradient_x_input(model, regions, Target(tracks=0))
    assert "reaches" in found.table["reason"].iloc[1]
    assert np.isnan(found.gradient[1]).all()
    assert np.isnan(found.prediction[1])
    assert np.isfinite(found.gradient[0]).all()


def test_a_network_of_another_length_works_without_a_crop(fasta):
    network = network_of(sized(target_length=-1))
    model = exact(fasta, network, sequence_length=1_024)
    found = gradient_x_input(model, GENES, Target(tracks=0, bins="all"))
    assert found.gradient.shape == (2, 1_024, 4)


IGNORE_ERRORS = "ignore::enformer_features.exceptions.CompletenessWarning"
SHORT = 1_408  # 11 bins, all kept


def mostly_n(n=1):
    """Windows with few known letters: the way from N is short, and sums are exact."""
    codes = np.full((n, SHORT), 4, np.uint8)
    codes[:, 700:708] = encode("GATTACCA")
    return codes


def short(**parameters):
    settings = {"sequence_length": SHORT, "max_n_fraction": 1.0}
    return exact(**{**settings, **parameters})


@pytest.mark.parametrize(
    ("baseline", "strand"),
    [
        ("n", "match"),
        ("n", "average"),
        ("shuffled", "match"),
        ("dinucleotide", "match"),
    ],
)
def test_integrated_gradients_add_up_to_the_difference(baseline, strand):
    model, target = short(strand=strand), Target(tracks=[0, 3])
    codes = mostly_n()
    found = integrated_gradients(model, codes, target, baseline=baseline, steps=12)
    assert found.baseline_prediction is not None
    assert found.delta is not None
    difference = found.prediction - found.baseline_prediction
    assert difference[0] != 0
    added = found.scores.astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(found.delta, added / difference - 1, atol=1e-4)
    assert abs(found.delta[0]) < 0.05
    plain = gradient_x_input(model, codes, target)
    np.testing.assert_allclose(found.prediction, plain.prediction, rtol=1e-12)
    letters = np.full_like(codes, 4) if found.baseline is None else found.baseline
    before = gradient_x_input(model, letters, target).prediction
    np.testing.assert_allclose(found.baseline_prediction, before, rtol=1e-12)
    np.testing.assert_allclose(
        found.scores, (one_hot(codes) * found.hypothetical).sum(axis=2), atol=1e-6
    )


@pytest.mark.filterwarnings(IGNORE_ERRORS)
def test_the_error_of_integrated_gradients_falls_with_their_number():
    few, many = (
        integrated_gradients(short(), mostly_n(), Target(tracks=2), steps=steps).delta
        for steps in (1, 16)
    )
    assert abs(many[0]) < abs(few[0]) / 4


@pytest.mark.filterwarnings(IGNORE_ERRORS)
def test_the_error_is_what_the_scores_lack_of_the_difference_on_real_letters():
    codes = draw_codes(2, SHORT, n_share=0)
    few, many = (
        integrated_gradients(short(), codes, Target(tracks=[0, 3]), steps=steps)
        for steps in (2, 25)
    )
    difference = many.prediction - many.baseline_prediction
    added = many.scores.astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(many.error, added - difference, atol=1e-6)
    np.testing.assert_allclose(many.delta, many.error / difference, rtol=1e-9)
    size = np.abs(many.scores).sum(axis=1)
    assert (np.abs(many.error) < 0.02 * size).all()
    assert np.abs(many.error).sum() < np.abs(few.error).sum() / 4


def test_scores_that_do_not_add_up_are_warned_about():
    codes = draw_codes(2, SHORT, n_share=0)
    message = r"steps=2 do not add up .* within 5%: row 0 \(.*%\), .*a larger steps="
    with pytest.warns(CompletenessWarning, match=message) as caught:
        integrated_gradients(short(), codes, Target(tracks=[0, 3]), steps=2)
    assert caught[0].filename == __file__


@pytest.mark.parametrize(
    ("change", "error", "absolute", "is_complete"),
    [
        (1.0, 0.04, 1.0, True),
        (-1.0, 0.06, 1.0, False),
        (0.01, 0.06, 10.0, True),  # scores cancel out
        (0.01, 0.2, 10.0, False),
        (0.0, 0.0, 0.0, True),
    ],
)
def test_an_error_is_small_beside_the_difference_or_beside_the_scores(
    change, error, absolute, is_complete
):
    found = _Found(np.zeros(0, np.float32), 2 + change, 2.0, error, absolute)
    assert found.is_complete == is_complete


def test_integrated_gradients_through_a_head_and_in_shifts():
    model = short(strand="average", shifts=(0, 5))
    pipeline = fitted(model, 1, Ridge())
    codes = mostly_n()
    found = integrated_gradients(pipeline, codes, baseline="shuffled", steps=12)
    np.testing.assert_allclose(found.prediction, pipeline.predict(codes), rtol=1e-5)
    assert abs(found.delta[0]) < 0.05


@pytest.mark.filterwarnings(IGNORE_ERRORS)
def test_shuffled_baselines_depend_on_the_seed_and_not_on_neighbours():
    target, codes = Target(tracks=2), draw_codes(2, SHORT)
    both, alone, other = (
        integrated_gradients(
            short(), X, target, baseline="dinucleotide", steps=1, seed=seed
        )
        for X, seed in ((codes, 3), (codes[1:], 3), (codes, 4))
    )
    np.testing.assert_array_equal(both.gradient[1:], alone.gradient)
    np.testing.assert_array_equal(both.baseline[1:], alone.baseline)
    assert (both.baseline != other.baseline).any()


def test_settings_of_integrated_gradients_are_checked(fasta):
    with pytest.raises(InputError, match="did you mean 'shuffled'"):
        integrated_gradients(exact(fasta), GENES, baseline="shufled")
    with pytest.raises(InputError, match="is not one of 'n', 'shuffled', 'dinucl"):
        integrated_gradients(exact(fasta), GENES, baseline="zeros")
    with pytest.raises(InputError, match="steps=0 must be a whole number of at least"):
        integrated_gradients(exact(fasta), GENES, steps=0)
