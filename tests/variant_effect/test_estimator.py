"""Scores equal two full forwards of the plain network; rows, windows, errors."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.base import clone
from sklearn.ensemble import RandomForestRegressor
from sklearn.frozen import FrozenEstimator
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from enformer_features import EnformerEmbedder
from enformer_features.exceptions import InputError, InputTypeError, VariantWarning
from enformer_features.genomics.encoding import decode, encode, reverse_complement
from enformer_features.genomics.gene_pairs import pair_with_genes
from enformer_features.inference.reuse import ReferenceWindow
from enformer_features.model.handle import ModelHandle
from enformer_features.variant_effect.estimator import VariantEffect
from tests.inference.networks import (
    EVEN,
    ODD,
    draw_codes,
    exact_of,
    network_of,
    one_hot,
)

LENGTH = 3_968  # 31 bins, of which 11 are kept
N_CONTIG = 12_000
POSITION = 5_037  # 0-based
FORMULAS = {
    "SAD": lambda r, a: a.mean(0) - r.mean(0),
    "SAR": lambda r, a: np.log2(1 + a.mean(0)) - np.log2(1 + r.mean(0)),
    "logSAD": lambda r, a: (np.log2(1 + a) - np.log2(1 + r)).mean(0),
    "D1": lambda r, a: np.abs(a - r).mean(0),
    "D2": lambda r, a: np.sqrt(((a - r) ** 2).mean(0)),
    "REF": lambda r, a: r.mean(0),
    "ALT": lambda r, a: a.mean(0),
}


@pytest.fixture(scope="module")
def letters():
    return decode(draw_codes(1, N_CONTIG, n_share=0.0)[0])


@pytest.fixture(scope="module")
def genome(letters, tmp_path_factory):
    path = tmp_path_factory.mktemp("genome") / "toy.fa"
    path.write_text(f">chr1\n{letters}\n")
    return path


@pytest.fixture(scope="module")
def weights():
    return ModelHandle(network_of(ODD))


@pytest.fixture
def embedder(genome, weights):
    return EnformerEmbedder(
        weights,
        genome=genome,
        output="tracks",
        sequence_length=LENGTH,
        precision="float64",
        cache=None,
    )


def substitutions(letters, positions):
    rows = [
        {"chrom": "chr1", "pos": p + 1, "ref": letters[p], "alt": other}
        for p in positions
        for other in [next(base for base in "GTCA" if base != letters[p])]
    ]
    return pd.DataFrame(rows)


def exact_bins(codes, output="tracks"):
    """Run the plain network in float64 on one window: (bins, features)."""
    network = exact_of(ODD)
    with torch.inference_mode():
        letters = one_hot(codes[None], torch.float64)
        bins = network.embed(network.transform(network.tower(letters)))
        return (network.heads["human"](bins) if output == "tracks" else bins)[0].numpy()


def window(letters, start, alt=None, position=POSITION, n_ref=1):
    """Letter codes of a window, with ``alt`` in place of some bases; left end fixed."""
    edited = letters
    if alt is not None:
        edited = letters[:position] + alt + letters[position + n_ref :]
    return encode(edited[start : start + LENGTH])


@pytest.mark.parametrize("score", FORMULAS)
def test_scores_equal_two_full_forwards_in_float64(letters, embedder, score):
    variants = substitutions(letters, [POSITION])
    found = VariantEffect(embedder, score=score).transform(variants)
    start = POSITION - LENGTH // 2
    ref = exact_bins(window(letters, start))
    alt = exact_bins(window(letters, start, variants["alt"][0]))
    expected = FORMULAS[score](ref, alt)
    np.testing.assert_allclose(found[0], expected, rtol=3e-7, atol=1e-10)


@pytest.mark.parametrize("output", ["tracks", "embedding"])
def test_every_bin_of_a_difference_is_exact_in_float64(letters, embedder, output):
    embedder.set_params(output=output)
    variants = substitutions(letters, [POSITION])
    start = POSITION - LENGTH // 2
    alt = exact_bins(window(letters, start, variants["alt"][0]), output)
    expected = alt - exact_bins(window(letters, start), output)
    found = _float64_difference(embedder, variants)
    assert np.abs(found - expected).max() <= 1e-10


def _float64_difference(embedder, variants):
    job = VariantEffect(embedder).job(variants)
    ((_, _, d),) = job.alleles([0])
    return d.numpy()


@pytest.mark.parametrize(
    ("ref_length", "alt"), [(1, "ACGTACGTTTAACCGGTA"), (40, "A"), (3, "GG")]
)
@pytest.mark.parametrize("output", ["tracks", "embedding"])
def test_indels_equal_two_full_forwards_with_the_left_end_fixed(
    letters, embedder, ref_length, alt, output
):
    embedder.set_params(output=output)
    ref = letters[POSITION : POSITION + ref_length]
    variants = pd.DataFrame(
        {"chrom": ["chr1"], "pos": [POSITION + 1], "ref": [ref], "alt": [alt]}
    )
    job = VariantEffect(embedder).job(variants)
    assert job.table["kind"][0] == "indel"
    start = int(job.table["window_start"][0])
    edited = window(letters, start, alt, n_ref=ref_length)
    expected = exact_bins(edited, output) - exact_bins(window(letters, start), output)
    assert np.abs(_float64_difference(embedder, variants) - expected).max() <= 1e-10


def test_aligned_indels_join_the_bins_of_both_frames(letters, embedder):
    ref = letters[POSITION : POSITION + 30]
    variants = pd.DataFrame(
        {"chrom": ["chr1"], "pos": [POSITION + 1], "ref": [ref], "alt": [ref[0]]}
    )
    job = VariantEffect(embedder, indels="aligned").job(variants)
    row = job.table.iloc[0]
    start, p, n = row["window_start"], row["start"], len(row["norm_ref"])
    edited = letters[:p] + row["norm_alt"] + letters[p + n :]
    reference = exact_bins(window(letters, start))
    left = exact_bins(encode(edited[start : start + LENGTH])) - reference
    moved = start - 29
    right = exact_bins(encode(edited[moved : moved + LENGTH])) - reference
    ((_, _, d),) = job.alleles([0])
    low = (p - start) // 128 - 10
    high = -(-(p + n - start) // 128) - 10
    half = (left[low:high] + right[low:high]) / 2
    expected = np.concatenate([left[:low], half, right[high:]])
    assert np.abs(d.numpy() - expected).max() <= 1e-10


def test_averages_are_taken_bin_by_bin_before_the_score(letters, embedder):
    embedder.set_params(strand="average", shifts=(-1, 0, 2))
    variants = substitutions(letters, [POSITION])
    found = VariantEffect(embedder, score="D2").transform(variants)[0]
    refs, alts = [], []
    for shift in (-1, 0, 2):
        start = POSITION - LENGTH // 2 + shift
        for alt, into in ((None, refs), (variants["alt"][0], alts)):
            codes = window(letters, start, alt)
            backward = reverse_complement(codes)
            into += [exact_bins(codes), exact_bins(backward)[::-1]]
    d = np.mean(alts, axis=0) - np.mean(refs, axis=0)
    np.testing.assert_allclose(found, np.sqrt((d**2).mean(0)), rtol=3e-7)


def genes_near(strand):
    return pd.DataFrame(
        {"chrom": ["chr1"], "tss": [POSITION + 200], "strand": strand, "name": "g"}
    )


@pytest.mark.parametrize("strand", ["+", "-"])
def test_pairs_are_scored_at_the_tss_of_their_gene_on_its_strand(
    letters, embedder, strand
):
    variants = substitutions(letters, [POSITION, POSITION + 3])
    pairs = pair_with_genes(variants, genes_near(strand), sequence_length=LENGTH)
    found = VariantEffect(embedder).transform(pairs)
    start = POSITION + 200 - LENGTH // 2 + (strand == "-")
    for row, pair in pairs.iterrows():
        p, alt = pair["pos"] - 1, pair["alt"]
        codes = [window(letters, start), window(letters, start, alt, p)]
        if strand == "-":
            codes = [reverse_complement(copy) for copy in codes]
        ref, alt = (exact_bins(copy)[4:7].mean(0) for copy in codes)
        np.testing.assert_allclose(found[row], alt - ref, rtol=1e-6, atol=1e-10)


def test_a_mirrored_gene_and_indel_have_the_same_scores(letters, embedder, tmp_path):
    both = tmp_path / "both.fa"
    mirrored = decode(reverse_complement(encode(letters)))
    both.write_text(f">chr1\n{letters}\n>mirror\n{mirrored}\n")
    embedder.set_params(genome=both)
    p = POSITION
    variants = pd.DataFrame(
        {
            "chrom": ["chr1", "mirror"],
            "pos": [p + 1, N_CONTIG - p - 41],
            "ref": [
                letters[p : p + 41],
                mirrored[N_CONTIG - p - 42 : N_CONTIG - p - 1],
            ],
            "alt": [letters[p], mirrored[N_CONTIG - p - 42]],
            "tss": [p + 300, N_CONTIG - 1 - p - 300],
            "strand": ["+", "-"],
        }
    )
    found = VariantEffect(embedder).transform(variants)
    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)
    job = VariantEffect(embedder).job(variants)
    assert job.settings["variant_indels"] == "aligned"
    left = VariantEffect(embedder, indels="left").transform(variants)
    assert not np.allclose(left[0], left[1], rtol=1e-3)


def test_alleles_longer_than_half_a_window_are_not_scored(letters, embedder):
    variants = substitutions(letters, [POSITION, POSITION])
    ref = letters[4_000:6_100]
    variants = pd.concat(
        [
            variants,
            pd.DataFrame({"chrom": ["chr1"], "pos": 4_001, "ref": ref, "alt": ref[0]}),
        ],
        ignore_index=True,
    )
    table = VariantEffect(embedder).table(variants)
    assert table["reason"][2].startswith("too long: an allele of 21")
    assert table["reason"][0] == ""


def fitted(embedder, letters, pooling="tss"):
    embedder.set_params(output="embedding", pooling=pooling)
    regions = [f"chr1:{p}-{p}" for p in range(3_000, 9_000, 600)]
    y = np.random.default_rng(3).normal(size=(len(regions), 2))
    return make_pipeline(embedder, StandardScaler(), Ridge(0.1)).fit(regions, y)


@pytest.mark.parametrize("pooling", ["tss", "mean", "max", "flatten", ("tss", "mean")])
def test_a_fitted_pipeline_scores_the_difference_of_its_predictions(
    letters, embedder, pooling
):
    model = fitted(embedder, letters, pooling)
    variants = substitutions(letters, [POSITION, 6_001])
    effect = VariantEffect(model, score=("SAD", "REF", "ALT"))
    found = effect.transform(variants).reshape(2, 3, 2)
    start = [p - LENGTH // 2 for p in (POSITION, 6_001)]
    sequences = [decode(window(letters, s)) for s in start]
    edited = [
        decode(window(letters, s, alt, p))
        for s, alt, p in zip(start, variants["alt"], (POSITION, 6_001), strict=True)
    ]
    ref, alt = model.predict(sequences), model.predict(edited)
    np.testing.assert_allclose(found[:, 1], ref, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found[:, 2], alt, rtol=1e-4, atol=1e-5)
    scale = np.abs(alt - ref).max()
    np.testing.assert_allclose(found[:, 0], alt - ref, atol=2e-2 * scale)
    names = effect.get_feature_names_out()
    assert names.tolist()[:2] == ["SAD__prediction_0", "SAD__prediction_1"]
    named = VariantEffect(model, targets=["liver", "lung"])
    assert named.table(variants).columns[-2:].tolist() == ["liver", "lung"]
    with pytest.raises(InputError, match=r"1 names.*makes 2 predictions"):
        VariantEffect(model, targets=["liver"]).fit(variants)
    with pytest.raises(InputError, match="tracks have their own names"):
        VariantEffect(embedder, targets=["liver"]).fit(variants)


@pytest.mark.parametrize("batch_size", [1, 8])
def test_rows_do_not_depend_on_their_neighbours_or_order(letters, genome, batch_size):
    embedder = EnformerEmbedder(
        ModelHandle(network_of(EVEN)),
        genome=genome,
        output="tracks",
        sequence_length=2_048,
        batch_size=batch_size,
        cache=None,
    )
    variants = substitutions(letters, [POSITION, 6_001, POSITION, 5_038])
    effect = VariantEffect(embedder, snap_bp=512)
    together = effect.transform(variants)
    assert np.array_equal(together[0], together[2])
    for row in range(len(variants)):
        alone = effect.transform(variants.iloc[[row]])
        assert np.array_equal(alone[0], together[row])
    backwards = effect.transform(variants.iloc[::-1])
    assert np.array_equal(backwards[::-1], together)


def test_neighbours_share_a_snapped_window_and_the_plan_says_so(letters, embedder):
    variants = substitutions(letters, [5_000, 5_100, 5_200, 6_100])
    alone = VariantEffect(embedder).job(variants).plan()
    shared = VariantEffect(embedder, snap_bp=1_024).job(variants).plan()
    assert (alone.n_windows, shared.n_windows) == (4, 2)
    assert shared.n_short_passes == 4
    assert shared.n_full_passes == 2


def test_bins_at_the_variant_follow_it_in_a_snapped_window(letters, embedder):
    variants = substitutions(letters, [4_900, 5_130])
    effect = VariantEffect(embedder, bins="variant", snap_bp=512, score="REF")
    job = effect.job(variants)
    assert job.table["bin"].tolist() == [3, 5]
    found, _ = job.compute([0, 1])
    start = int(job.table["window_start"][0])
    ref = exact_bins(window(letters, start))
    for row, b in enumerate(job.table["bin"]):
        np.testing.assert_allclose(found[row], ref[b - 1 : b + 2].mean(0), rtol=1e-6)
    far = clone(effect).set_params(snap_bp=2_048)
    with pytest.raises(InputError, match=r"bins 12 to 14.*smaller snap_bp"):
        far.fit(substitutions(letters, [5_100]))


def test_the_strongest_change_comes_with_its_bin(letters, embedder):
    variants = substitutions(letters, [POSITION])
    effect = VariantEffect(embedder, score="max")
    found = effect.transform(variants)[0].reshape(2, -1)
    start = POSITION - LENGTH // 2
    alt = exact_bins(window(letters, start, variants["alt"][0]))
    d = alt - exact_bins(window(letters, start))
    at = np.abs(d).argmax(axis=0)
    assert found[1].tolist() == at.tolist()
    np.testing.assert_allclose(found[0], d[at, np.arange(d.shape[1])], rtol=1e-6)
    assert effect.get_feature_names_out()[7].startswith("max_bin__")


def test_the_base_stands_where_center_says(letters, embedder):
    variants = substitutions(letters, [POSITION])
    starts = {
        center: int(
            VariantEffect(clone(embedder).set_params(center=center))
            .job(variants)
            .table["window_start"][0]
        )
        for center in ("base", "basenji")
    }
    assert starts["base"] == POSITION - LENGTH // 2
    assert starts["basenji"] == POSITION - (LENGTH // 2 - 1)


def test_what_cannot_be_scored_keeps_its_row_and_says_why(letters, embedder):
    variants = pd.concat(
        [
            substitutions(letters, [POSITION]),
            pd.DataFrame({"chrom": "chr1", "pos": 9, "ref": "A", "alt": ["<DEL>"]}),
        ]
    ).set_axis(["a", "b"])
    table = VariantEffect(embedder).table(variants)
    assert table.index.tolist() == ["a", "b"]
    assert table["reason"]["a"] == ""
    assert table["reason"]["b"].startswith("symbolic")
    scores = table[list(VariantEffect(embedder).get_feature_names_out())]
    assert scores.loc["a"].notna().all()
    assert scores.loc["b"].isna().all()


def wrong_ref(letters):
    variants = substitutions(letters, [POSITION, 6_001])
    wrong = next(base for base in "ACGT" if base not in (letters[6_001], "G"))
    return variants.assign(ref=[letters[POSITION], wrong], alt="G")


def test_a_ref_that_is_not_the_genomes_is_never_scored_silently(letters, embedder):
    variants = wrong_ref(letters)
    with pytest.raises(ValueError, match="REF"):
        VariantEffect(embedder).transform(variants)
    with pytest.warns(UserWarning, match="1 of 2 variants do not fit"):
        skipped = VariantEffect(embedder, on_mismatch="skip").table(variants)
    assert skipped["reason"][1].startswith("REF mismatch")
    flagged = VariantEffect(embedder, on_mismatch="flag", score="REF")
    with pytest.warns(UserWarning, match="1 of 2 variants do not fit"):
        found = flagged.transform(variants)
    start = 6_001 - LENGTH // 2
    as_written = window(letters, start, variants["ref"][1], 6_001)
    expected = exact_bins(as_written).mean(0)
    np.testing.assert_allclose(found[1], expected, rtol=1e-6)


BAD_PARAMETERS = [
    ({"score": "sad"}, "score='sad' is not one of 'SAD'"),
    ({"score": ("SAD", "SAD")}, "none of them twice"),
    ({"score": ()}, "must name a score"),
    ({"aggregate": "median"}, "aggregate='median' is not one of"),
    ({"bins": "promoter"}, "bins='promoter' is not one of"),
    ({"bins": (3, 3)}, "two whole numbers"),
    ({"bins": (-20, 20)}, "keeps bins 0 to 10"),
    ({"indels": "right"}, "indels='right' is not one of"),
    ({"snap_bp": -1}, "snap_bp=-1 must not be negative"),
    ({"snap_bp": 0.5}, "snap_bp=0.5 must be a whole number"),
    ({"difference_pass": "float16"}, "difference_pass='float16'"),
    ({"difference_pass": "float32"}, "use one of the two"),
    ({"on_mismatch": "flip"}, "on_mismatch='flip' is not one of"),
    ({"on_error": "ignore"}, "on_error='ignore' is not one of"),
]


@pytest.mark.parametrize(("parameters", "message"), BAD_PARAMETERS)
def test_parameters_that_cannot_be_are_refused(letters, embedder, parameters, message):
    effect = VariantEffect(embedder, **parameters)
    with pytest.raises((InputError, InputTypeError), match=message):
        effect.fit(substitutions(letters, [POSITION]))


def test_logarithms_are_of_tracks_and_heads_have_no_bins(letters, embedder):
    variants = substitutions(letters, [POSITION])
    bare = clone(embedder).set_params(output="embedding")
    with pytest.raises(InputError, match="logarithm of counts"):
        VariantEffect(bare, score="SAR").fit(variants)
    with pytest.raises(InputError, match="'tower' of the embedder has no variant"):
        VariantEffect(clone(embedder).set_params(output="tower")).fit(variants)
    model = fitted(embedder, letters)
    with pytest.raises(InputError, match="score='D2' is for bins"):
        VariantEffect(model, score="D2").fit(variants)
    with pytest.raises(InputError, match="bins='tss' is for bins"):
        VariantEffect(model, bins="tss").fit(variants)


def test_models_that_cannot_score_are_refused(letters, embedder):
    variants = substitutions(letters, [POSITION])
    unfitted = make_pipeline(embedder, Ridge())
    with pytest.raises(InputError, match="Ridge is not fitted"):
        VariantEffect(unfitted).fit(variants)
    with pytest.raises(InputTypeError, match="a Pipeline that begins with a Standard"):
        VariantEffect(make_pipeline(StandardScaler(), Ridge())).fit(variants)
    with pytest.raises(InputTypeError, match="this is a Ridge"):
        VariantEffect(Ridge()).fit(variants)
    with pytest.raises(InputError, match="need a genome"):
        VariantEffect(clone(embedder).set_params(genome=None)).fit(variants)


def test_edges_follow_the_embedders_policy(letters, embedder):
    variants = substitutions(letters, [100])
    with pytest.warns(UserWarning, match="leave their chromosome"):
        padded = VariantEffect(embedder).transform(variants)
    assert np.isfinite(padded).all()
    embedder.set_params(edge="error")
    with pytest.raises(InputError, match="before the start of chr1"):
        VariantEffect(embedder).transform(variants)
    found = VariantEffect(embedder, on_error="nan").table(variants)
    assert found["reason"][0].startswith("window: its window chr1:")


def test_a_pair_outside_its_window_is_skipped_and_counted(letters, embedder):
    variants = substitutions(letters, [POSITION, 10_000]).assign(
        gene="g", tss=11_000, strand="+"
    )
    with pytest.warns(UserWarning, match="leave their chromosome"):
        table = VariantEffect(embedder).table(variants)
    assert table["reason"][0].startswith("outside its window")
    assert table["reason"][1] == ""
    with pytest.raises(InputError, match=r"no variant can be scored.*outside its win"):
        VariantEffect(embedder).fit(variants.iloc[:1])


def test_parameters_are_cloned_and_a_job_knows_what_decides(letters, embedder):
    effect = VariantEffect(embedder, score=("SAD", "D2"), bins="variant")
    twin = clone(effect)
    assert twin.get_params()["bins"] == "variant"
    variants = substitutions(letters, [POSITION])
    identity = effect.job(variants).identity()
    assert identity == effect.job(variants.copy()).identity()
    changes = [
        {"aggregate": "sum"},
        {"score": "SAD"},
        {"bins": "all"},
        {"indels": "center"},
        {"snap_bp": 7},
        {"model__shifts": (0, 1)},
        {"model__strand": "average"},
        {"model__tracks": [1]},
        {"model__precision": "float32"},
        {"model__weights": "untrained-tiny"},
    ]
    others = [
        clone(effect).set_params(**change).job(variants).identity()
        for change in changes
    ]
    others.append(effect.job(substitutions(letters, [POSITION + 1])).identity())
    others.append(effect.job(variants.assign(id="rs1")).identity())
    effect.model.set_params(precision="float32-exact")
    others += [
        clone(effect).set_params(difference_pass=how).job(variants).identity()
        for how in (None, "float32", "bfloat16")
    ]
    assert len({identity, *others}) == len(others) + 1
    assert effect.get_params()["model__shifts"] == (0,)


def test_a_job_knows_letters_beside_its_variants(letters, embedder, tmp_path):
    variants = substitutions(letters, [POSITION])
    other = tmp_path / "other.fa"
    at = POSITION - 1_000
    changed = next(base for base in "ACGT" if base != letters[at])
    other.write_text(f">chr1\n{letters[:at]}{changed}{letters[at + 1 :]}\n")
    identities = {
        VariantEffect(clone(embedder).set_params(genome=path)).job(variants).identity()
        for path in (embedder.genome, other)
    }
    assert len(identities) == 2


def test_a_head_is_known_by_what_it_predicts(letters, embedder):
    variants = substitutions(letters, [POSITION])
    regions = [f"chr1:{p}-{p}" for p in range(3_000, 9_000, 600)]
    embedder.set_params(output="embedding")
    y = np.arange(10.0)

    def job_of(*steps):
        model = make_pipeline(clone(embedder), *steps).fit(regions, y)
        return VariantEffect(model).job(variants)

    twins = [job_of(RandomForestRegressor(3, random_state=1)) for _ in range(2)]
    assert twins[0].identity() == twins[1].identity()
    others = [job_of(RandomForestRegressor(3, random_state=2)), job_of(Ridge(0.1))]
    others.append(job_of(FunctionTransformer(lambda x: x), Ridge(10.0)))
    assert len({job.identity() for job in (*twins, *others)}) == 4
    assert len({job.provenance()["head_digest"] for job in (*twins, *others)}) == 4
    assert "Ridge(alpha=0.1)" in others[1].provenance()["head"]


def test_a_fitted_head_survives_clone_and_freezing(letters, embedder):
    model = fitted(embedder, letters)
    variants = substitutions(letters, [POSITION])
    effect = VariantEffect(model)
    expected = effect.transform(variants)
    np.testing.assert_array_equal(clone(effect).transform(variants), expected)
    frozen = clone(VariantEffect(FrozenEstimator(model)))
    np.testing.assert_array_equal(frozen.transform(variants), expected)


@pytest.mark.parametrize(("how", "limit"), [("float32", 2e-5), ("bfloat16", 0.02)])
def test_a_difference_pass_rounds_nothing_but_the_difference(
    letters, embedder, how, limit
):
    variants = substitutions(letters, [POSITION, 6_001])
    expected = VariantEffect(embedder).transform(variants)
    with pytest.raises(InputError, match="would round what precision='float64' does"):
        VariantEffect(embedder, difference_pass=how).fit(variants)
    embedder.set_params(precision="float32-exact")
    found = VariantEffect(embedder, difference_pass=how).transform(variants)
    assert np.abs(found - expected).max() < limit * np.abs(expected).max()


def test_equal_rows_are_computed_once(letters, embedder, monkeypatch):
    effects = ReferenceWindow.effects
    n_run = []

    def counted(self, edited, *args):
        n_run.append(len(edited))
        return effects(self, edited, *args)

    monkeypatch.setattr(ReferenceWindow, "effects", counted)
    variants = substitutions(letters, [POSITION, POSITION, 6_001, POSITION])
    found = VariantEffect(embedder).transform(variants)
    assert sum(n_run) == 2
    assert np.array_equal(found[0], found[3])


def test_rounded_alleles_are_warned_about_and_never_chosen(letters, embedder):
    variants = substitutions(letters, [POSITION])
    embedder.set_params(precision="bfloat16")
    with pytest.warns(VariantWarning, match="rounds each allele by itself"):
        VariantEffect(embedder).fit(variants)
    embedder.set_params(precision="auto")
    job = VariantEffect(embedder).job(variants)
    assert job.backend.precision.operands == torch.float32
    assert not job.backend.precision.tf32
    assert job.provenance()["precision"] == job.backend.precision.name
