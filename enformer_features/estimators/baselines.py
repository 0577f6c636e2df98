"""What any embedding must beat: the letters around the TSS, counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from os import PathLike
from typing import Any, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, TransformerMixin

from enformer_features.estimators.inputs import as_pandas, is_table
from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import N_CODE, decode
from enformer_features.genomics.genome import Genome, open_genome, rename_contigs
from enformer_features.genomics.regions import (
    Regions,
    check_bounds,
    raise_bad_rows,
    region_table,
)
from enformer_features.genomics.windows import place_windows

Codes = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.float64]

_C, _G = 1, 2  # letter codes
FEATURES = ("gc", "cpg_ratio", "cpg_density")
LONGEST_K = 8  # 32,896 features


class _OfRegions(TransformerMixin, BaseEstimator):
    """A transformer of regions that learns nothing."""

    def __sklearn_tags__(self) -> Any:
        """Say that rows are regions, and that nothing is learnt."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.requires_fit = False
        return tags


class SequenceCompositionBaseline(_OfRegions):
    r"""GC content and CpG frequency in windows around each region's centre.

    Three features per flank, nine by default. With ridge regression they reach a
    median Spearman correlation of about 0.44 over human tissues and cell lines
    (0.35 with annotated instead of CAGE-corrected starts), so a model's score says
    little until this one stands beside it.

    Parameters
    ----------
    genome : path or Genome
        FASTA file, plain or BGZF.
    flanks : sequence of int, default=(250, 1000, 5000)
        Reach of each window in bp: ``2 * flank`` bases, placed around the TSS, or
        else the middle, of a region. Reading direction follows the strand, so that a
        gene and its mirror image have the same features.
    contig_style : {None, "ucsc", "ensembl"}, default=None
        Spelling of the contigs in the FASTA file, if it is another than that of
        the regions.

    See Also
    --------
    enformer_features.EnformerEmbedder : The network's features for the same rows.

    Notes
    -----
    With the numbers of known bases :math:`n`, of C, of G and of CpG in a window,
    the features are ``gc`` :math:`(C + G) / n`; ``cpg_ratio``, observed over
    expected, :math:`n \, CpG / (C \, G)` or 0 without any C or G [1]_; and
    ``cpg_density`` :math:`CpG / n`. N and what lies past a contig's end are left out.

    References
    ----------
    .. [1] Gardiner-Garden and Frommer, "CpG islands in vertebrate genomes",
       J. Mol. Biol. 196, 261-282, 1987.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\n" + "ACGT" * 25 + "\n")
    >>> baseline = SequenceCompositionBaseline(fasta, flanks=(10, 20))
    >>> baseline.fit_transform(["chr1:51-52"]).round(3).tolist()
    [[0.5, 4.0, 0.25, 0.5, 4.0, 0.25]]
    >>> folder.cleanup()
    """

    def __init__(
        self,
        genome: str | PathLike[str] | Genome,
        *,
        flanks: Sequence[int] = (250, 1000, 5000),
        contig_style: str | None = None,
    ) -> None:
        self.genome = genome
        self.flanks = flanks
        self.contig_style = contig_style

    def fit(self, X: Regions, y: object = None) -> Self:
        """Check the flanks; there is nothing to learn.

        Parameters
        ----------
        X : DataFrame or sequence of str
            Regions; not read.
        y : ignored

        Returns
        -------
        self
        """
        _check_flanks(self.flanks)
        return self

    def transform(self, X: Regions) -> npt.NDArray[np.float32]:
        """Compute the features of each region.

        Parameters
        ----------
        X : DataFrame or sequence of str
            Regions or genes, one per row, as
            :func:`~enformer_features.genomics.regions.region_table` takes them.

        Returns
        -------
        ndarray of float32, shape (n_regions, 3 * n_flanks)
            In row order; the three features of the first flank, then of the next.

        Raises
        ------
        InputError, GenomeError
            If rows cannot be used: bad coordinates, unknown contigs, or not one
            known base within the smallest flank.
        """
        _check_flanks(self.flanks)
        reach = max(self.flanks)

        def describe(codes: Codes) -> Floats:
            nested = [codes[reach - flank : reach + flank] for flank in self.flanks]
            return np.concatenate([composition(part) for part in nested])

        return _describe_rows(
            X,
            self.genome,
            self.contig_style,
            reach,
            describe,
            len(FEATURES) * len(self.flanks),
            f"no known base within {min(self.flanks)} bp of its centre, only N",
        )

    def get_feature_names_out(
        self, input_features: object = None
    ) -> npt.NDArray[np.object_]:
        """Name the features, such as ``gc_250``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (3 * n_flanks,)
        """
        names = [f"{name}_{flank}" for flank in self.flanks for name in FEATURES]
        return np.array(names, dtype=object)


class KmerBaseline(_OfRegions):
    r"""Share of each word of k letters in a window around each region's centre.

    A word and its reverse complement are one feature, so that the strand does not
    matter: 136 features of 4 letters, 512 of 5, 2,080 of 6.

    Parameters
    ----------
    genome : path or Genome
        FASTA file, plain or BGZF.
    k : int, default=4
        Letters of a word, 1 to 8.
    flank : int, default=1000
        Reach of the window in bp: ``2 * flank`` bases around the TSS, or else the
        middle, of a region.
    contig_style : {None, "ucsc", "ensembl"}, default=None
        Spelling of the contigs in the FASTA file, if it is another than that of
        the regions.

    See Also
    --------
    SequenceCompositionBaseline : GC and CpG alone.

    Notes
    -----
    Words with an N are left out, and so is what lies past a contig's end.

    Examples
    --------
    >>> import pathlib, tempfile
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\n" + "ACGT" * 25 + "\n")
    >>> baseline = KmerBaseline(fasta, k=1, flank=10)
    >>> baseline.fit_transform(["chr1:51-52"]).tolist()
    [[0.5, 0.5]]
    >>> list(baseline.get_feature_names_out())
    ['kmer_A', 'kmer_C']
    >>> folder.cleanup()
    """

    def __init__(
        self,
        genome: str | PathLike[str] | Genome,
        *,
        k: int = 4,
        flank: int = 1000,
        contig_style: str | None = None,
    ) -> None:
        self.genome = genome
        self.k = k
        self.flank = flank
        self.contig_style = contig_style

    def fit(self, X: Regions, y: object = None) -> Self:
        """Check the parameters; there is nothing to learn.

        Parameters
        ----------
        X : DataFrame or sequence of str
            Regions; not read.
        y : ignored

        Returns
        -------
        self
        """
        self._check()
        return self

    def transform(self, X: Regions) -> npt.NDArray[np.float32]:
        """Count the words around each region.

        Parameters
        ----------
        X : DataFrame or sequence of str
            Regions or genes, one per row, as
            :func:`~enformer_features.genomics.regions.region_table` takes them.

        Returns
        -------
        ndarray of float32, shape (n_regions, n_words)
            In row order; each row sums to 1.

        Raises
        ------
        InputError, GenomeError
            If rows cannot be used: bad coordinates, unknown contigs, or not one
            word without an N.
        """
        self._check()
        return _describe_rows(
            X,
            self.genome,
            self.contig_style,
            self.flank,
            lambda codes: word_shares(codes, self.k),
            len(_words(self.k)[0]),
            f"no {self.k} known bases in a row within {self.flank} bp of its centre",
        )

    def get_feature_names_out(
        self, input_features: object = None
    ) -> npt.NDArray[np.object_]:
        """Name the features, such as ``kmer_ACGT``.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (n_words,)
        """
        self._check()
        words, _ = _words(self.k)
        digits = words[:, None] // 4 ** np.arange(self.k - 1, -1, -1) % 4
        letters = [decode(word.astype(np.uint8)) for word in digits]
        return np.array([f"kmer_{word}" for word in letters], dtype=object)

    def _check(self) -> None:
        _check_flanks([self.flank])
        is_whole = isinstance(self.k, (int, np.integer))
        if not is_whole or not 1 <= self.k <= LONGEST_K:
            msg = f"k={self.k!r} must be a whole number of letters, 1 to {LONGEST_K}"
            raise InputError(msg)


def word_shares(codes: Codes, k: int) -> Floats:
    """Measure how often each word of k letters occurs, on both strands together.

    Parameters
    ----------
    codes : ndarray of uint8, shape (length,)
        Letters, A C G T N = 0 .. 4.
    k : int

    Returns
    -------
    ndarray of float64, shape (n_words,)
        Of all words without an N, in alphabetical order, a word standing for its
        reverse complement too; NaN when there is no word.

    Examples
    --------
    >>> word_shares(np.array([0, 1, 3, 4, 2], dtype=np.uint8), 1).tolist()
    [0.5, 0.5]
    """
    places = np.lib.stride_tricks.sliding_window_view(codes, min(k, len(codes)))
    known = places[(places != N_CODE).all(axis=1)]
    words, column = _words(k)
    if not len(known) or len(codes) < k:
        return np.full(len(words), np.nan)
    found = known.astype(np.int64) @ 4 ** np.arange(k - 1, -1, -1)
    counts = np.bincount(column[found], minlength=len(words))
    return counts / len(found)


@lru_cache
def _words(k: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Return the words that are features, and the feature of every word.

    A word is a number of base 4; it or its reverse complement, the first, is a feature.
    """
    words = np.arange(4**k)
    powers = 4 ** np.arange(k)
    digits = words[:, None] // powers % 4  # last letter first
    complement = (3 - digits) @ powers[::-1]
    return np.unique(np.minimum(words, complement), return_inverse=True)


def composition(codes: Codes) -> Floats:
    """Measure GC content, CpG observed over expected, and CpG density.

    Parameters
    ----------
    codes : ndarray of uint8, shape (length,)
        Letters, A C G T N = 0 .. 4.

    Returns
    -------
    ndarray of float64, shape (3,)
        In the order of ``FEATURES``; NaN when every letter is N.

    Examples
    --------
    >>> composition(np.array([1, 2, 0, 4, 4], dtype=np.uint8)).round(3).tolist()
    [0.667, 3.0, 0.333]
    """
    counts = np.bincount(codes, minlength=N_CODE + 1)
    n_known, n_c, n_g = counts[:N_CODE].sum(), counts[_C], counts[_G]
    if n_known == 0:
        return np.full(len(FEATURES), np.nan)
    n_cpg = np.count_nonzero((codes[:-1] == _C) & (codes[1:] == _G))
    ratio = n_known * n_cpg / (n_c * n_g) if n_c and n_g else 0.0
    return np.array([(n_c + n_g) / n_known, ratio, n_cpg / n_known])


def _describe_rows(
    X: Regions,
    given_genome: str | PathLike[str] | Genome,
    contig_style: str | None,
    reach: int,
    describe: Callable[[Codes], Floats],
    n_features: int,
    nothing_known: str,
) -> npt.NDArray[np.float32]:
    """Describe the letters within reach of each region; NaN means nothing is known."""
    genome = open_genome(given_genome)
    table = region_table(as_pandas(X) if is_table(X) else X)
    table["chrom"] = rename_contigs(table["chrom"], contig_style)
    table = check_bounds(table, genome.contigs, str(genome.path))
    raise_bad_rows(table)
    windows = place_windows(table, 2 * reach)
    places = windows[["chrom", "window_start", "window_end"]]
    features = np.empty((len(table), n_features), np.float32)
    for row, place in enumerate(places.itertuples(index=False, name=None)):
        features[row] = describe(genome.fetch(*place))
    table.loc[np.isnan(features).any(axis=1), "reason"] = nothing_known
    raise_bad_rows(table)
    return features


def _check_flanks(flanks: Sequence[int]) -> None:
    whole = all(isinstance(flank, (int, np.integer)) for flank in flanks)
    if not whole or min(flanks, default=0) < 1 or len(set(flanks)) < len(flanks):
        msg = f"flanks={flanks!r} must be different positive whole numbers of bp"
        raise InputError(msg)
