"""The composition baseline: hand-worked features, rows, and the numbers to beat."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.estimators.baselines import (
    KmerBaseline,
    SequenceCompositionBaseline,
    composition,
    word_shares,
)
from enformer_features.exceptions import GenomeError, InputError
from enformer_features.genomics.encoding import encode
from enformer_features.genomics.genes import align, read_genes

COMPLEMENT = str.maketrans("ACGTN", "TGCAN")
FLANKS = (3, 7, 31)


@pytest.fixture(scope="module")
def letters() -> str:
    drawn = np.random.default_rng(0).choice(list("ACGTN"), 499)
    return "".join(drawn)


@pytest.fixture(scope="module")
def fasta(letters: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    mirrored = letters[::-1].translate(COMPLEMENT)
    path.write_text(f">1\n{letters}\n>mirrored\n{mirrored}\n>gap\n{'N' * 101}\n")
    return path


@pytest.fixture
def baseline(fasta: Path) -> SequenceCompositionBaseline:
    return SequenceCompositionBaseline(fasta, flanks=FLANKS)


def genes(chrom: str, tss: list[int], strand: str = "+") -> pd.DataFrame:
    index = pd.Index([f"gene_{position}" for position in tss], name="gene_id")
    return pd.DataFrame({"chrom": chrom, "tss": tss, "strand": strand}, index=index)


@pytest.mark.parametrize(
    ("sequence", "gc", "ratio", "density"),
    [
        ("CGCGAATT", 1 / 2, 8 * 2 / (2 * 2), 2 / 8),
        ("GCGCAATT", 1 / 2, 8 * 1 / (2 * 2), 1 / 8),  # GpC is not CpG
        ("NNCGNAAN", 1 / 2, 4 * 1 / (1 * 1), 1 / 4),
        ("CNG", 1.0, 0.0, 0.0),  # not neighbours
        ("AATT", 0.0, 0.0, 0.0),
    ],
)
def test_composition_by_hand(
    sequence: str, gc: float, ratio: float, density: float
) -> None:
    assert_allclose(composition(encode(sequence)), [gc, ratio, density])


def test_each_flank_reads_its_own_window(
    baseline: SequenceCompositionBaseline, letters: str
) -> None:
    features = baseline.transform(genes("1", [211]))
    expected = [composition(encode(letters[211 - f : 211 + f])) for f in FLANKS]
    assert features.dtype == np.float32
    assert_allclose(features[0], np.concatenate(expected), rtol=1e-6)


def test_rows_keep_their_order(baseline: SequenceCompositionBaseline) -> None:
    forward = baseline.transform(genes("1", [100, 200, 300]))
    backward = baseline.transform(genes("1", [300, 200, 100]))
    assert_array_equal(forward, backward[::-1])


def test_a_mirrored_gene_has_the_same_features(
    baseline: SequenceCompositionBaseline,
) -> None:
    positions = [80, 211, 498]
    gene = baseline.transform(genes("1", positions))
    mirrored = baseline.transform(
        genes("mirrored", [498 - tss for tss in positions], "-")
    )
    assert_array_equal(gene, mirrored)


def test_past_the_end_nothing_is_counted(
    baseline: SequenceCompositionBaseline, letters: str
) -> None:
    features = baseline.transform(genes("1", [2]))
    assert_allclose(features[0, -3:], composition(encode(letters[:33])), rtol=1e-6)


def test_region_texts_and_other_contig_names_are_taken(fasta: Path) -> None:
    renaming = SequenceCompositionBaseline(fasta, flanks=FLANKS, contig_style="ensembl")
    assert_array_equal(
        renaming.transform(["chr1:212-212"]), renaming.transform(genes("1", [211]))
    )


def test_unknown_contigs_and_bad_rows_are_refused(
    baseline: SequenceCompositionBaseline,
) -> None:
    with pytest.raises(GenomeError, match="unknown contig 'chr99'"):
        baseline.transform(genes("chr99", [50]))
    with pytest.raises(InputError, match="row gene_499: tss 499 is not on 1"):
        baseline.transform(genes("1", [211, 499]))


def test_a_row_of_n_alone_is_refused(baseline: SequenceCompositionBaseline) -> None:
    with pytest.raises(InputError, match="row gene_50: no known base within 3 bp"):
        baseline.transform(genes("gap", [50]))


@pytest.mark.parametrize("flanks", [(), (0,), (250, 250), (1.5,)])
def test_flanks_that_make_no_windows_are_refused(
    baseline: SequenceCompositionBaseline, flanks: tuple[int, ...]
) -> None:
    with pytest.raises(InputError, match=r"flanks=.* must be different positive"):
        baseline.set_params(flanks=flanks).fit(["1:5-5"])


def test_it_is_a_scikit_learn_transformer(
    baseline: SequenceCompositionBaseline,
) -> None:
    X = genes("1", [100, 200, 300])
    copied = pickle.loads(pickle.dumps(clone(baseline)))
    assert copied.get_params() == baseline.get_params()
    table = copied.set_output(transform="pandas").fit_transform(X)
    assert list(table.columns[:4]) == ["gc_3", "cpg_ratio_3", "cpg_density_3", "gc_7"]
    assert_array_equal(table.index, X.index)
    assert_array_equal(table.to_numpy(), baseline.transform(X))


@pytest.mark.parametrize(("tss", "expected"), [("tss0", 0.348), ("cage_tss0", 0.438)])
def test_human_genes_reach_the_known_score(
    shared: Path, tss: str, expected: float
) -> None:
    """Leave one region out: median Spearman of 130 tissues and cell lines."""
    human = shared / "data" / "human"
    table = read_genes(human / "genes.tsv", tss=tss, chrom="contig", missing_tss="gene")
    nx = pd.read_csv(human / "expression_hpa.tsv.gz", sep="\t", index_col="gene_id")
    X, nx = align(table.loc[nx.index], nx)
    y = nx.add(1e-4).transform(np.log)
    model = make_pipeline(
        SequenceCompositionBaseline(human / "regions.fa.gz"),
        StandardScaler(),
        Ridge(10.0),
    )
    predicted = cross_val_predict(
        model, X, y.fillna(y.mean()), groups=X["chrom"], cv=LeaveOneGroupOut()
    )
    spearman = y.corrwith(
        pd.DataFrame(predicted, y.index, y.columns), method="spearman"
    )
    assert spearman.median() == pytest.approx(expected, abs=0.002)


# Words


@pytest.mark.parametrize(("k", "n_words"), [(1, 2), (2, 10), (4, 136), (5, 512)])
def test_words_and_their_complements_are_one_feature(k: int, n_words: int) -> None:
    forward = "GATTACAGGNCAT"
    backward = forward[::-1].translate(COMPLEMENT)
    shares = word_shares(encode(forward), k)
    assert len(shares) == n_words
    assert shares.sum() == pytest.approx(1)
    assert_allclose(shares, word_shares(encode(backward), k))


def test_word_shares_by_hand() -> None:
    """AC and GT are one word, and so are CA and TG; CN and NA are none."""
    names = [
        name.removeprefix("kmer_")
        for name in KmerBaseline("", k=2).get_feature_names_out()
    ]
    shares = dict(zip(names, word_shares(encode("ACGTCNAC"), 2), strict=True))
    assert {word: n for word, n in shares.items() if n} == pytest.approx(
        {"AC": 3 / 5, "CG": 1 / 5, "GA": 1 / 5}
    )


def test_words_are_counted_around_each_region(fasta: Path, letters: str) -> None:
    words = KmerBaseline(fasta, k=3, flank=31)
    features = words.fit_transform(genes("1", [211, 80]))
    assert features.dtype == np.float32
    assert_allclose(features[0], word_shares(encode(letters[180:242]), 3), rtol=1e-6)
    mirrored = words.transform(genes("mirrored", [498 - 211, 498 - 80], "-"))
    assert_array_equal(features, mirrored)
    table = clone(words).set_output(transform="pandas").fit_transform(genes("1", [9]))
    assert list(table.columns[:2]) == ["kmer_AAA", "kmer_AAC"]
    assert table.shape == (1, 32)


def test_a_row_without_words_is_refused(fasta: Path) -> None:
    with pytest.raises(InputError, match="row gene_50: no 3 known bases in a row"):
        KmerBaseline(fasta, k=3, flank=31).transform(genes("gap", [50]))


@pytest.mark.parametrize("k", [0, 9, 2.5])
def test_words_of_no_or_too_many_letters_are_refused(fasta: Path, k: int) -> None:
    with pytest.raises(InputError, match=f"k={k} must be a whole number of letters"):
        KmerBaseline(fasta, k=k).fit(["1:5-5"])
