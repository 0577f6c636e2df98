"""What is reused equals what is computed anew."""

from __future__ import annotations

import itertools

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode, encode
from enformer_features.genomics.genome import open_genome
from enformer_features.genomics.windows import plan_stretches
from enformer_features.inference.reuse import (
    EDGE_BINS,
    Edit,
    ReferenceWindow,
    SharedTower,
    affected_bins,
    affected_ranges,
    apply_edits,
)
from tests.inference.networks import (
    EVEN,
    ODD,
    draw_codes,
    exact_of,
    most,
    one_hot,
    one_thread,
    prepared_of,
    rms,
    sized,
    substitute,
)

__all__ = ["one_thread"]

BIN = 128
N_BINS = 21
LENGTH = BIN * N_BINS
MIDDLE = BIN * 10
PHASES = list(range(MIDDLE, MIDDLE + BIN))
ENDS = [0, 1, 6, 63, 127, LENGTH - 128, LENGTH - 64, LENGTH - 7, LENGTH - 1]


@pytest.fixture(autouse=True)
def _inference():
    with torch.inference_mode():
        yield


@pytest.fixture(scope="module")
def codes():
    return draw_codes(1, LENGTH)[0]


@pytest.fixture(scope="module")
def exact_tower(codes):
    with torch.inference_mode():
        return exact_of().tower(one_hot(codes[None], torch.float64))


def window_of(codes, config=ODD, precision="float32-exact"):
    return ReferenceWindow(prepared_of(config, precision), codes)


# Local recomputation


@pytest.mark.parametrize("position", [*PHASES, *ENDS])
def test_a_base_changes_exactly_the_bins_that_are_recomputed(
    codes, exact_tower, position
):
    edited = apply_edits(codes, substitute(codes, [position]))
    exact = exact_of().tower(one_hot(edited[None], torch.float64))
    changed = (exact != exact_tower)[0].any(dim=-1).nonzero().flatten().tolist()
    low, high = affected_bins(position, position, 7, LENGTH)
    assert changed == list(range(low, high))
    difference, ranges = window_of(codes).tower_difference(edited)
    assert ranges == [(low, high)]
    assert not difference[0, :low].any()
    assert not difference[0, high:].any()
    expected = exact - exact_tower
    assert most_over(difference, expected, exact_tower) < 4e-5  # measured: 1.2e-5


def most_over(ours, expected, scale):
    return float((ours - expected).abs().max() / scale.std())


def test_one_base_reaches_five_or_six_bins_and_three_or_four_at_the_ends():
    def widths(positions):
        spans = [affected_bins(p, p, 7, LENGTH) for p in positions]
        return [high - low for low, high in spans]

    inner = widths(PHASES)
    assert (inner.count(5), inner.count(6)) == (122, 6)
    assert set(widths(ENDS)) == {3, 4}
    assert affected_bins(0, LENGTH - 1, 7, LENGTH) == (0, N_BINS)


@pytest.mark.parametrize("position", [*PHASES[::5], *ENDS])
def test_a_recomputed_tower_equals_a_full_forward_of_the_edited_window(
    one_thread, codes, position
):
    prepared, window = prepared_of(EVEN), window_of(codes, EVEN)
    edited = apply_edits(codes, substitute(codes, [position]))
    full = prepared.tower(torch.from_numpy(edited[None]))
    difference, _ = window.tower_difference(edited)
    if position in PHASES:
        assert torch.equal(difference, full - window.tower)
    assert rms(window.tower + difference, full) < 2e-6


EDITED = {
    "neighbours": [1_300, 1_301, 1_302],
    "far apart": [3, 700, 1_400, 2_680],
    "both ends": [0, LENGTH - 1],
    "every seventh base": list(range(0, LENGTH, 7)),
}


@pytest.mark.parametrize("positions", EDITED.values(), ids=EDITED)
@pytest.mark.parametrize("config", [ODD, EVEN])
def test_several_edits_at_once_equal_a_full_forward(codes, positions, config):
    window, exact = window_of(codes, config), exact_of(config)
    edits = substitute(codes, positions)
    both = one_hot(np.stack([apply_edits(codes, edits), codes]), torch.float64)
    alt, ref = exact.tower(both)[:, None]
    difference, ranges = window.tower_difference(apply_edits(codes, edits))
    changed = (alt != ref)[0].any(dim=-1).nonzero().flatten().tolist()
    assert changed == [k for low, high in ranges for k in range(low, high)]
    assert most_over(difference, alt - ref, ref) < 4e-5
    expected = exact.embed(exact.transform(torch.cat([alt, ref])))
    expected = expected[:1] - expected[1:]
    assert relative(window.effect([edits]), expected) < 1e-4


def relative(ours, expected):
    return float((ours.double() - expected).norm() / expected.norm())


@pytest.mark.parametrize("config", [ODD, EVEN])
def test_a_base_becomes_n_and_comes_back(one_thread, codes, config):
    known = codes.copy()
    known[MIDDLE : MIDDLE + 3] = encode("ACG")
    masked = apply_edits(known, [Edit(MIDDLE, "ACG", "NNN")])
    there, _ = window_of(known, config).tower_difference(masked)
    back, _ = window_of(masked, config).tower_difference(known)
    exact = exact_of(config).tower(one_hot(np.stack([masked, known]), torch.float64))
    assert most_over(there, exact[:1] - exact[1:], exact) < 4e-5
    assert most_over(back, exact[1:] - exact[:1], exact) < 4e-5
    assert config is ODD or torch.equal(there, -back)


@pytest.mark.parametrize("batch_size", [1, 2, 3, 7])
@pytest.mark.parametrize("low", [None, "float32-exact", "bfloat16"])
def test_an_alternative_equal_to_the_reference_has_exactly_no_effect(
    codes, batch_size, low
):
    p = MIDDLE + 5
    same = [Edit(p, "ACGTN"[codes[p]], "ACGTN"[codes[p]])]
    low = low and prepared_of(ODD, low)
    window = ReferenceWindow(prepared_of(), codes, low=low)
    effect = window.effect([same] * 5, batch_size=batch_size)
    assert effect.shape == (5, 11, ODD.embedding_dim)
    assert not effect.any()


def test_alleles_keep_their_order_in_batches(codes):
    window = window_of(codes)
    alleles = [substitute(codes, [p]) for p in (1_000, 1_300, 1_301, 1_400, 1_900)]
    alone = torch.cat([window.effect([edits]) for edits in alleles])
    for batch_size in (2, 5, 8):
        assert rms(window.effect(alleles, batch_size=batch_size), alone) < 1e-4


def test_bins_of_an_effect_are_bins_of_the_window(codes):
    window = window_of(codes, sized(target_length=-1))
    edits = substitute(codes, [MIDDLE])
    some = window.effect([edits], bins=(9, 12))
    assert relative(some, window.effect([edits])[:, 9:12].double()) < 5e-5
    assert rms(window.embedding((9, 12)), window.embedding()[:, 9:12]) < 2e-6


def test_the_reference_embedding_is_the_kept_bins(codes):
    expected = exact_of()(one_hot(codes[None], torch.float64))
    assert rms(window_of(codes).embedding(), expected) < 1.5e-5


def test_ranges_that_touch_are_one():
    assert affected_ranges([], 7, LENGTH) == []
    assert affected_ranges([1_300, 1_301], 7, LENGTH) == [(8, 13)]
    first, second = (
        affected_bins(700, 700, 7, LENGTH),
        affected_bins(1_340, 1_340, 7, LENGTH),
    )
    assert first[1] == second[0]
    assert affected_ranges([1_340, 700], 7, LENGTH) == [(first[0], second[1])]
    assert affected_ranges([2_600, 10], 7, LENGTH) == [(0, 3), (18, 21)]


# Edits


def test_edits_may_be_lower_case_and_in_any_order():
    edits = [Edit(4, "a", "n"), Edit(0, "ac", "TT"), Edit(2, "G", "C")]
    codes = encode("ACGTACGT")
    assert decode(apply_edits(codes, edits)) == "TTCTNCGT"
    assert decode(codes) == "ACGTACGT"


@pytest.mark.parametrize(
    ("edits", "message"),
    [
        ([], "there are 0 edits; an edited window needs at least one"),
        ([Edit(2, "G", "GA")], r"ref='G', alt='GA'\) changes the length of the window"),
        ([Edit(2, "GT", "G")], "changes the length .* only substitutions"),
        ([Edit(2, "", "")], "changes the length"),
        ([Edit(2, "C", "A")], "the window has 'G' there, not 'C'"),
        ([Edit(2, "GTC", "AAA")], "the window has 'GTA' there, not 'GTC'"),
        ([Edit(2, "X", "A")], "the window has 'G' there, not 'X'"),
        ([Edit(-1, "A", "C")], r"position=-1.* is not within the window of 8 bp"),
        ([Edit(8, "A", "C")], "is not within the window of 8 bp"),
        ([Edit(6, "GTA", "CCC")], "is not within the window of 8 bp"),
        (
            [Edit(3, "T", "A"), Edit(2, "GT", "CC")],
            r"position=2.* and .*position=3.* overlap",
        ),
        ([Edit(2, "G", "A"), Edit(2, "G", "C")], "overlap; make one edit of them"),
        ([Edit(2, "G", "R")], r"alt of Edit\(position=2.* 'R' at position 0"),
        ([Edit(2, "G", "-")], "letters other than A, C, G, T and N: '-'"),
    ],
)
def test_bad_edits_are_told(edits, message):
    with pytest.raises(InputError, match=message):
        apply_edits(encode("ACGTACGT"), edits)


def test_a_bad_edit_of_any_allele_is_told(codes):
    good = substitute(codes, [MIDDLE])
    with pytest.raises(InputError, match="there are 0 edits"):
        window_of(codes).effect([good, []])


# Windows that overlap


@settings(max_examples=200)
@given(
    st.lists(st.integers(-5_000, 5_000), max_size=40),
    st.integers(1, 12).map(lambda n: 128 * n),
)
def test_every_window_is_in_exactly_one_stretch_that_holds_it(starts, length):
    stretches = plan_stretches(starts, length)
    members = [i for stretch in stretches for i in stretch.members]
    assert sorted(members) == list(range(len(starts)))
    for stretch in stretches:
        assert stretch.start == min(starts[i] for i in stretch.members)
        assert stretch.end == max(starts[i] for i in stretch.members) + length
        ordered = sorted(starts[i] for i in stretch.members)
        for one, other in itertools.pairwise(ordered):
            assert other - one < length
        assert all((starts[i] - stretch.start) % 128 == 0 for i in stretch.members)


@given(
    st.lists(st.integers(-40, 40).map(lambda k: 128 * k), max_size=30),
    st.integers(1, 12).map(lambda n: 128 * n),
)
def test_stretches_of_one_grid_do_not_overlap(starts, length):
    spans = sorted((s.start, s.end) for s in plan_stretches(starts, length))
    assert all(a[1] <= b[0] for a, b in itertools.pairwise(spans))


def test_stretches_stand_in_the_order_of_their_first_windows():
    stretches = plan_stretches([9_000, 1, 129, 0, 9_000], 1_024)
    assert [stretch.members for stretch in stretches] == [(0, 4), (1, 2), (3,)]
    assert (stretches[1].start, stretches[1].end) == (1, 129 + 1_024)
    assert plan_stretches([], 1_024) == []


def test_windows_that_only_touch_do_not_share():
    def members(*starts):
        return [stretch.members for stretch in plan_stretches(starts, 1_024)]

    assert members(0, 1_024) == [(0,), (1,)]
    assert members(0, 1_024 - 128) == [(0, 1)]
    assert members(0, 1_024 - 127) == [(0,), (1,)]


GENE_BINS = 512
GENE_LENGTH = BIN * GENE_BINS


@pytest.fixture(scope="module")
def genes(shared):
    """Starts of windows of real genes on a 128-bp grid, and the contig's letters."""
    human = shared / "data" / "human"
    table = pd.read_csv(human / "genes.tsv", sep="\t")
    tss = table.loc[table["contig"] == "chr5_124M", "tss0"].sort_values()
    starts = (tss - GENE_LENGTH // 2) // BIN * BIN
    genome = open_genome(human / "regions.fa.gz")
    inside = (starts >= 0) & (starts + GENE_LENGTH <= genome.contigs["chr5_124M"])
    return starts[inside].tolist(), genome


def letters_of(genome, start, end):
    return genome.fetch("chr5_124M", start, end)


@pytest.fixture(scope="module")
def stretch(genes):
    """The stretch with most windows, its letters, and where the windows begin in it."""
    starts, genome = genes
    planned = plan_stretches(starts, GENE_LENGTH)
    widest = max(planned, key=lambda each: len(each.members))
    offsets = sorted({starts[i] - widest.start for i in widest.members})
    return letters_of(genome, widest.start, widest.end), offsets


def test_genes_share_stretches(genes):
    starts, _ = genes
    planned = plan_stretches(starts, GENE_LENGTH)
    assert sorted(i for s in planned for i in s.members) == list(range(len(starts)))
    shared = sum(s.end - s.start for s in planned)
    assert len(planned) < len(starts)
    assert shared < 0.8 * len(starts) * GENE_LENGTH


def test_a_shared_tower_equals_the_windows_run_alone(one_thread, stretch):
    letters, offsets = stretch
    assert len(offsets) > 3
    prepared = prepared_of(EVEN)
    tower = SharedTower(prepared, letters)
    for offset in offsets:
        cut = torch.from_numpy(letters[offset : offset + GENE_LENGTH][None])
        ours, alone = tower.window(offset, GENE_LENGTH), prepared.tower(cut)
        inside = slice(EDGE_BINS, GENE_BINS - EDGE_BINS)
        assert torch.equal(ours[:, inside], alone[:, inside])
        for edge in (slice(EDGE_BINS), slice(-EDGE_BINS, None)):
            difference = (ours[:, edge] - alone[:, edge]).square().mean().sqrt()
            assert difference / alone.std() < 2e-6


@pytest.mark.parametrize(
    ("precision", "rms_limit", "limit"),
    [("float32-exact", 1.5e-5, 3e-4), ("float32", 3e-5, 3e-4)],
)
def test_embeddings_from_a_shared_tower_are_those_of_the_windows(
    stretch, precision, rms_limit, limit
):
    letters, offsets = stretch
    shared, plain = prepared_of(ODD, precision), exact_of()
    tower = SharedTower(shared, letters)
    for offset in offsets[:3]:
        cut = letters[offset : offset + GENE_LENGTH]
        rows = tower.window(offset, GENE_LENGTH)
        n_bins = rows.shape[1]
        bins = (n_bins // 2 - 5, n_bins // 2 + 5)
        ours = shared.embed(shared.transform(rows, bins=bins))
        exact = plain.transform(plain.tower(one_hot(cut[None], torch.float64)))
        expected = plain.final_pointwise(exact[:, slice(*bins)])
        assert rms(ours, expected) < rms_limit
        assert most(ours, expected) < limit


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.data())
def test_any_window_of_any_stretch_equals_itself_run_alone(n_bins, data):
    first = data.draw(st.integers(0, n_bins - 1))
    n = data.draw(st.integers(1, n_bins - first))
    letters, prepared = draw_codes(1, BIN * n_bins)[0], prepared_of()
    ours = SharedTower(prepared, letters).window(BIN * first, BIN * n)
    cut = letters[BIN * first : BIN * (first + n)]
    assert ours.shape == (1, n, ODD.dim)
    assert rms(ours, prepared.tower(torch.from_numpy(cut[None]))) < 2e-6


def test_a_stretch_of_several_chunks_equals_the_whole(one_thread, monkeypatch):
    letters, prepared = draw_codes(1, BIN * 64)[0], prepared_of(EVEN)
    monkeypatch.setattr("enformer_features.inference.reuse.CHUNK_BINS", 12)
    ours = SharedTower(prepared, letters).window(0, len(letters))
    assert torch.equal(ours, prepared.tower(torch.from_numpy(letters[None])))


def test_reading_a_window_leaves_the_stretch_as_it_was():
    letters = draw_codes(1, BIN * 30)[0]
    tower = SharedTower(prepared_of(), letters)
    before = tower.window(BIN * 4, BIN * 20)
    before_copy = before.clone()
    tower.window(BIN * 6, BIN * 10).zero_()
    assert torch.equal(before, before_copy)
    assert torch.equal(tower.window(BIN * 4, BIN * 20), before)


@pytest.mark.parametrize(
    ("offset", "length"),
    [
        (64, BIN * 4),
        (-BIN, BIN * 4),
        (BIN * 7, BIN * 4),
        (0, BIN * 11),
        (0, BIN * 4 + 1),
    ],
)
def test_a_window_off_the_grid_or_the_stretch_is_refused(offset, length):
    tower = SharedTower(prepared_of(), draw_codes(1, BIN * 10)[0])
    with pytest.raises(
        InputError, match=f"{length} bp at {offset} bp .*grid of a stretch"
    ):
        tower.window(offset, length)


def test_a_stretch_of_part_of_a_bin_is_refused():
    with pytest.raises(InputError, match="1290 bp is no multiple of 128 bp"):
        SharedTower(prepared_of(), draw_codes(1, 1_290)[0])


def test_an_edited_copy_of_another_length_is_refused(codes):
    window = ReferenceWindow(prepared_of(), codes)
    with pytest.raises(InputError, match="has 2560 bp, its window 2688 bp"):
        window.tower_difference(codes[:-128])


def test_a_stretch_is_never_longer_than_it_may_be():
    starts = list(range(0, 128 * 40, 128))
    planned = plan_stretches(starts, 1_024, max_length=2_048)
    assert sorted(i for s in planned for i in s.members) == list(range(40))
    assert max(s.end - s.start for s in planned) == 2_048
