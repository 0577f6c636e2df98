import numpy as np
import pandas as pd
import pytest

from enformer_features.exceptions import (
    GenomeError,
    InputError,
    UnmatchedWarning,
    WindowWarning,
)
from enformer_features.interpret.attention import attention
from enformer_features.interpret.elements import element_ism
from enformer_features.interpret.enhancers import OUTSIDE, score_elements
from enformer_features.interpret.gradients import gradient_x_input
from enformer_features.interpret.targets import Readout, Target
from tests.estimators.toy import embedder, random_letters, write_fasta

pytestmark = pytest.mark.filterwarnings(
    "ignore::enformer_features.UntrainedWeightsWarning"
)
LENGTH = 1024
TARGET = Target(tracks=3)


@pytest.fixture
def model(tmp_path):
    letters = {name: random_letters(6_000, seed) for seed, name in enumerate("ab")}
    genome = write_fasta(tmp_path / "toy.fa", **letters)
    return embedder(genome=genome, output="tracks")


def pairs(*rows, **columns):
    table = pd.DataFrame(rows, columns=["chrom", "start", "end", "tss"])
    return table.assign(**columns)


THREE = pairs(
    ("a", 2_900, 3_001, 3_000), ("b", 2_800, 2_900, 3_100), ("a", 3_200, 3_300, 3_000)
)


def test_a_score_is_the_sum_over_bases_around_the_middle(model):
    found = score_elements(model, THREE, target=TARGET, width_bp=101)
    assert found["scored_start"].tolist() == [2_900, 2_800, 3_200]
    assert found["scored_end"].tolist() == [3_001, 2_901, 3_301]
    starts = pd.DataFrame({"chrom": ["a"], "tss": [3_000], "strand": ["+"]})
    bases = gradient_x_input(model, starts, TARGET)
    expected = [np.abs(bases.region(0, low, low + 101)).sum() for low in (2_900, 3_200)]
    np.testing.assert_allclose(found["score"][[0, 2]], expected, rtol=1e-5)


def test_attention_is_that_of_the_bins_of_the_element(model):
    found = score_elements(model, THREE, "attention", width_bp=101)
    starts = pd.DataFrame({"chrom": ["a"], "tss": [3_000], "strand": ["+"]})
    looked = attention(model, starts)
    expected = [looked.of_interval(low, low + 101) for low in (2_900, 3_200)]
    np.testing.assert_allclose(found["score"][[0, 2]], expected, rtol=1e-5)
    wide = score_elements(model, THREE[:1], "attention", Target(tracks=0, bins="all"))
    assert wide["score"].iloc[0] == pytest.approx(1)  # 2 kb hold the whole window


def test_ism_is_what_the_prediction_loses_without_the_element(model):
    options = {"how": "shuffled", "n": 3, "seed": 7}
    found = score_elements(model, THREE, "ism", TARGET, width_bp=101, **options)
    starts = pd.DataFrame({"chrom": ["a"], "tss": [3_000], "strand": ["+"]})
    elements = ["a:2901-3001", "a:3201-3301"]
    lost = element_ism(model, starts, elements, TARGET, **options)
    np.testing.assert_allclose(found["effect"][[0, 2]], lost["effect"], rtol=1e-5)
    np.testing.assert_allclose(found["spread"][[0, 2]], lost["spread"], rtol=1e-5)
    np.testing.assert_array_equal(found["score"], found["effect"].abs())


def test_elements_at_the_ends_of_contigs_are_cut(model):
    table = pairs(("a", 10, 30, 200), ("a", 5_950, 5_990, 5_800))
    with pytest.warns(WindowWarning, match="leave their chromosome"):
        found = score_elements(model, table, "ism", TARGET, width_bp=100)
    assert found["scored_start"].tolist() == [0, 5_920]
    assert found["score"].notna().all()


def test_contigs_are_renamed_as_the_embedder_does(tmp_path):
    genome = write_fasta(tmp_path / "named.fa", chr1=random_letters(6_000))
    reader = embedder(genome=genome, output="tracks", contig_style="ucsc")
    table = pairs(("1", 2_900, 3_000, 3_000))
    for method in ("gradient", "ism", "attention"):
        found = score_elements(reader, table, method, TARGET, width_bp=100)
        assert found["score"].notna().all()


def test_elements_outside_the_window_have_no_score(model):
    edges = [3_000 - 512, 3_000 - 513, 3_000 + 511, 3_000 + 512]
    table = pairs(*[("a", middle, middle, 3_000) for middle in edges])
    found = score_elements(model, table, target=TARGET, width_bp=100)
    assert found["reason"].tolist() == ["", OUTSIDE, "", OUTSIDE]
    assert found["score"].notna().tolist() == [True, False, True, False]
    assert found["scored_start"].tolist() == [2_488, -1, 3_461, -1]
    assert found["scored_end"].tolist() == [2_538, -1, 3_512, -1]


def test_rows_keep_their_order_and_index_and_do_not_depend_on_each_other(model):
    index = ["x", "y", "z"]
    together = score_elements(model, THREE.set_axis(index), target=TARGET)
    assert together.index.tolist() == index
    alone = [score_elements(model, THREE.iloc[[i]], target=TARGET) for i in range(3)]
    scores = [one["score"].iloc[0] for one in alone]
    np.testing.assert_array_equal(together["score"], scores)


def test_many_genes_are_scored_some_at_a_time(model):
    many = pairs(*[("a", tss - 50, tss + 50, tss) for tss in range(1_000, 5_000, 350)])
    found = score_elements(model, many, target=TARGET)
    last = score_elements(model, many.iloc[[-1]], target=TARGET)
    assert found["score"].iloc[-1] == last["score"].iloc[0]


@pytest.mark.parametrize("method", ["gradient", "ism", "attention"])
def test_all_genes_are_checked_before_any_is_scored(model, monkeypatch, method):
    many = pairs(*[("a", tss, tss + 50, tss) for tss in range(1_000, 5_000, 350)])
    last = pairs(("zz", 2_900, 3_000, 3_000))
    modules = {"gradient": "gradients", "ism": "elements"}
    module = f"enformer_features.interpret.{modules.get(method, method)}"
    monkeypatch.setattr(f"{module}.load_weights", pytest.fail)
    with pytest.raises(GenomeError, match="unknown contig 'zz'"):
        score_elements(model, pd.concat([many, last]), method, TARGET)


@pytest.mark.parametrize("method", ["gradient", "ism"])
def test_targets_are_tried_and_windows_warned_about_once(model, monkeypatch, method):
    tried = []
    affine = Readout.affine
    monkeypatch.setattr(
        Readout, "affine", lambda self: tried.append(self) or affine(self)
    )
    edges = pairs(*[("a", tss, tss + 50, tss) for tss in range(100, 450, 35)])
    with pytest.warns(WindowWarning, match=r"\(10 in all\)") as caught:
        score_elements(model, edges, method, TARGET, width_bp=50)
    assert sum(one.category is WindowWarning for one in caught) == 1
    assert len(tried) == (method == "gradient")


@pytest.mark.parametrize("missing", [None, np.nan, "."])
def test_a_gene_whose_strand_is_not_known_is_read_forward(model, missing):
    forward = score_elements(model, THREE, target=TARGET)
    found = score_elements(model, THREE.assign(strand=missing), target=TARGET)
    pd.testing.assert_frame_equal(found, forward)


def test_the_strand_is_that_of_the_gene(model):
    forward = score_elements(model, THREE, target=TARGET)
    backward = score_elements(model, THREE.assign(strand="-"), target=TARGET)
    assert (forward["score"] != backward["score"]).all()


def test_genes_give_tss_and_strand(model):
    genes = pd.DataFrame(
        {"chrom": ["a", "b"], "tss": [3_000, 3_100], "strand": "-"},
        index=pd.Index(["G1", "G2"], name="gene_id"),
    ).assign(gene_name=["one", "two"])
    bare = THREE.drop(columns="tss").assign(gene_id=["G1", "G2", "G1"])
    found = score_elements(model, bare, target=TARGET, genes=genes)
    expected = score_elements(model, THREE.assign(strand="-"), target=TARGET)
    pd.testing.assert_frame_equal(found, expected)
    named = bare.drop(columns="gene_id").assign(gene=["one", "two", "one"])
    by_name = score_elements(model, named, target=TARGET, genes=genes)
    pd.testing.assert_frame_equal(by_name, expected)


def test_genes_that_are_not_known_are_counted_and_have_no_score(model):
    genes = pd.DataFrame(
        {"chrom": "a", "tss": [3_000, 3_000], "strand": "+", "gene_name": ["x", "y"]},
        index=["G1", "G2"],
    )
    table = THREE.assign(gene_id=["G1", "G2", "G9"])
    with pytest.warns(UnmatchedWarning, match=r"2 of 3 pairs .*: G2, G9$"):
        found = score_elements(model, table, target=TARGET, genes=genes)
    assert found["reason"].tolist() == ["", *["the gene has no TSS"] * 2]


def test_pairs_without_a_tss_have_no_score(model):
    found = score_elements(model, THREE.assign(tss=[-1, 3_100, 3_000]), target=TARGET)
    assert found["score"].isna().tolist() == [True, False, False]
    none = score_elements(model, THREE.assign(tss=-1), target=TARGET)
    assert none["score"].isna().all()


@pytest.mark.filterwarnings("ignore::enformer_features.exceptions.FailedWindowsWarning")
def test_windows_that_cannot_be_read_say_why(tmp_path, model):
    model.set_params(edge="nan", on_error="nan")
    table = pairs(("a", 100, 200, 150), ("a", 2_900, 3_000, 3_000))
    found = score_elements(model, table, target=TARGET, width_bp=100)
    assert found["score"].isna().tolist() == [True, False]
    assert found["reason"].iloc[0] not in ("", OUTSIDE)


@pytest.mark.parametrize(
    ("table", "options", "message"),
    [
        (THREE.drop(columns="end"), {}, "pairs have no column end"),
        (THREE.drop(columns="tss"), {}, r"no column tss; .* or genes="),
        (THREE.assign(strand="x"), {}, r"3 of 3 pairs .*(?s:.)*strand 'x' is not"),
        (THREE, {"method": "ig"}, "method='ig' is not one of"),
        (THREE, {"width_bp": 0}, "width_bp=0 must be a whole number"),
        (THREE, {"how": "n"}, "how are options of method='ism' only"),
        (THREE, {"genes": pd.DataFrame()}, "neither gene_id nor gene"),
    ],
)
def test_mistakes_are_named(model, table, options, message):
    with pytest.raises(InputError, match=message):
        score_elements(model, table, **{"target": TARGET, **options})
