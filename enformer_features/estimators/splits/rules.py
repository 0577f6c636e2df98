"""Splits that keep what a model was fitted on out of what it is tested on.

Windows of one chromosome overlap, genes have copies of themselves, and the network has
read most of the genome: after a random split nearly every test row has a training row
that shows most of its letters. These are scikit-learn's cross-validation objects for
``cv=``, in :func:`~sklearn.model_selection.cross_validate`, in a grid search or in a
loop of one's own.

All take ``split(X, y=None, groups=None)``. ``X`` is what an
:class:`~enformer_features.EnformerEmbedder` takes as regions; beside a matrix of
features the regions are given as ``groups``, or the folds are made beforehand:
``cv=list(splitter.split(genes))``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from enformer_features.estimators.splits.rows import (
    Families,
    LabelledRegions,
    row_chroms,
    row_families,
    row_ids,
    row_regions,
    row_windows,
    split_by_label,
)
from enformer_features.estimators.splits.splitter import (
    Flags,
    Intersection,
    Masks,
    RowSplitter,
    check_count,
    masks,
    spread,
)
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    LeakageWarning,
    first_few,
    warn,
)
from enformer_features.genomics._columns import Texts
from enformer_features.genomics.intervals import clusters, covered_bases, grown
from enformer_features.genomics.windows import SEQUENCE_LENGTH

__all__ = [
    "ChromosomeSplit",
    "FamilySplit",
    "Intersection",
    "TrainedRegionSplit",
    "WindowOverlapSplit",
]


class ChromosomeSplit(RowSplitter):
    """Test chromosomes that the model was not fitted on.

    Parameters
    ----------
    test : sequence of str, optional
        Chromosomes to test, in one fold. Without them every chromosome is tested once.
    n_splits : int, optional
        Without ``test``: number of folds, whole chromosomes in each, of about as many
        rows. By default one fold per chromosome.
    leave_out : sequence of str, default=()
        Chromosomes that are neither trained on nor tested, such as the sex chromosomes.
        Rows need not have them.

    See Also
    --------
    WindowOverlapSplit : For the rows of one chromosome.
    TrainedRegionSplit : Whatever chromosome is tested, the network may have learnt it.

    Notes
    -----
    ``groups`` may also name a chromosome per row: beside features, or for regions on
    contigs that are pieces of chromosomes.

    Every row is tested once, as :func:`~sklearn.model_selection.cross_val_predict`
    wants it, only with neither ``test`` nor ``leave_out``; use
    :func:`~sklearn.model_selection.cross_validate` with them.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"chrom": ["chr1", "chr8", "chr8", "chrX"],
    ...                       "tss": [5000, 100, 7000, 200]})
    >>> split = ChromosomeSplit(test=["chr8"], leave_out=["chrX", "chrY"])
    >>> [(train.tolist(), test.tolist()) for train, test in split.split(genes)]
    [([0], [1, 2])]
    >>> ChromosomeSplit().get_n_splits(genes)
    3
    """

    def __init__(
        self,
        test: Sequence[str] | None = None,
        *,
        n_splits: int | None = None,
        leave_out: Sequence[str] = (),
    ) -> None:
        self.test = test
        self.n_splits = n_splits
        self.leave_out = leave_out

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        chroms = row_chroms(X, groups)
        left_out = _names("leave_out", self.leave_out)
        _refuse_misspelled("leave_out", left_out, chroms, needed=False)
        used = ~np.isin(chroms, left_out)
        if self.test is None:
            return self._every_chromosome(chroms, used)
        tested = _names("test", self.test)
        if not tested:
            msg = "test=[] names no chromosome; None tests every one once"
            raise InputError(msg)
        if self.n_splits is not None:
            msg = f"n_splits={self.n_splits!r} is for test=None; test makes one fold"
            raise InputError(msg)
        both = sorted(set(tested) & set(left_out))
        if both:
            msg = f"test and leave_out both name {first_few(both)}"
            raise InputError(msg)
        _refuse_misspelled("test", tested, chroms, needed=True)
        is_tested = np.isin(chroms, tested)
        if not (used & ~is_tested).any():
            msg = f"no rows are left to train on: all are on {first_few(tested)}"
            raise InputError(msg)
        return [(used & ~is_tested, is_tested)]

    def _every_chromosome(self, chroms: Texts, used: Flags) -> list[Masks]:
        names, codes = np.unique(chroms[used].astype(str), return_inverse=True)
        if len(names) < 2:
            msg = (
                f"at least two chromosomes are needed, the {used.sum()} rows are on "
                f"{first_few(names.tolist()) or 'none'}; WindowOverlapSplit divides one"
            )
            raise InputError(msg)
        folds = np.full(len(chroms), -1, dtype=np.int64)
        folds[used] = codes
        if self.n_splits is not None:
            folds[used] = spread(codes, self.n_splits, "chromosomes")
        return masks(folds)


class WindowOverlapSplit(RowSplitter):
    """Test rows whose windows share no base with those of training rows.

    Rows whose windows overlap, or are nearer than ``buffer_bp``, form groups, and whole
    groups are dealt to the folds, the largest first, so that folds have about as many
    rows. Every row is tested once.

    Parameters
    ----------
    n_splits : int, default=5
        Number of folds.
    sequence_length : int, default=196_608
        Length of the windows in bp: that of the embedder.
    buffer_bp : int, default=0
        At least so many bp lie between windows of two folds. The embedder's ``shifts``,
        and ``center``, ``snap`` and ``strand`` by at most 64 bp each, move windows:
        twice as much makes up for them.

    See Also
    --------
    ChromosomeSplit : Leaves no neighbours at all.

    Notes
    -----
    The order of the rows decides nothing. Chains of windows may hold together much of
    a chromosome that is dense with genes, so that folds differ in size;
    :func:`~enformer_features.leakage_report` shows how much.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"chrom": "chr1", "tss": [9000, 500, 9200, 4000]})
    >>> split = WindowOverlapSplit(2, sequence_length=1024)
    >>> [test.tolist() for train, test in split.split(genes)]
    [[0, 2], [1, 3]]
    """

    def __init__(
        self,
        n_splits: int = 5,
        *,
        sequence_length: int = SEQUENCE_LENGTH,
        buffer_bp: int = 0,
    ) -> None:
        self.n_splits = n_splits
        self.sequence_length = sequence_length
        self.buffer_bp = buffer_bp

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        check_count("buffer_bp", self.buffer_bp, 0)
        windows = row_windows(row_regions(X, groups), self.sequence_length)
        numbers = clusters(windows, self.buffer_bp)
        what = "groups of windows that overlap"
        return masks(spread(numbers, self.n_splits, what))


class FamilySplit(RowSplitter):
    """Test genes of which no relative was trained on.

    Parameters
    ----------
    families : mapping or Series
        Id of a gene to its family. Genes that it does not know are their own family.
        Ids are the labels of the rows of ``X``, or else of ``groups``, if these are
        text; otherwise the names of the regions.
    n_splits : int, default=5
        Number of folds, of about as many rows. Every row is tested once.

    Warns
    -----
    LeakageWarning
        From ``split``, when more than half of the rows have no family.

    Examples
    --------
    >>> import pandas as pd
    >>> genes = pd.DataFrame({"chrom": ["11", "11", "17", "16"], "tss": [5, 9, 7, 3]},
    ...                      index=["HBB", "HBD", "TP53", "HBA1"])
    >>> globins = {"HBB": "globin", "HBD": "globin", "HBA1": "globin"}
    >>> split = FamilySplit(globins, n_splits=2)
    >>> [test.tolist() for train, test in split.split(genes)]
    [[0, 1, 3], [2]]
    """

    def __init__(self, families: Families, n_splits: int = 5) -> None:
        self.families = families
        self.n_splits = n_splits

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        ids = row_ids(X, groups)
        keys = row_families(ids, self.families)
        alone = [name for name, key in zip(ids, keys, strict=True) if key[:3] == "id "]
        if len(alone) > len(ids) / 2:
            message = (
                f"{len(alone)} of {len(ids)} rows have no family; each stands alone: "
                f"{first_few(alone)}; are all genes in families, spelled as here?"
            )
            warn(message, LeakageWarning, stacklevel=4)
        codes = np.unique(keys.astype(str), return_inverse=True)[1]
        return masks(spread(codes, self.n_splits, "families"))


class TrainedRegionSplit(RowSplitter):
    """Test rows that the network itself has not learnt from.

    Whatever chromosome a head is tested on, the network under it has been trained on
    most of the genome, with measurements of the same tissues. One fold: tested are
    rows whose window shares a base with a region of ``test_labels`` and with none of
    any other label. Trained on are all others, but for those whose windows
    overlap, or are nearer than ``buffer_bp`` to, that of a tested row.

    Parameters
    ----------
    bed : path or DataFrame
        Regions that the network was trained, validated and tested on: a BED file, plain
        or gzipped, whose 4th column says which (as the published ``sequences.bed``); or
        a table of regions with a column ``label``. Assembly and names of contigs must
        be those of the rows.
    test_labels : sequence of str, default=("test",)
        Labels of regions that the network did not learn from; all others count as
        learnt, ``valid`` too, by which the network was chosen.
    sequence_length : int, default=196_608
        Length of the windows in bp: that of the embedder.
    margin_bp : int, default=0
        Learnt regions count as so much longer on either side. Enformer read
        32,768 bp more than its file says, without measurements there.
    buffer_bp : int, default=0
        At least so many bp lie between windows of trained and tested rows.

    Notes
    -----
    Only some rows are tested, so that
    :func:`~sklearn.model_selection.cross_val_predict` refuses this split; use
    :func:`~sklearn.model_selection.cross_validate`. Around the middle of 1,916 of
    Enformer's 1,937 human test regions, a window of 196,608 bp has no learnt base; only
    12 of these are on chromosome 8, which ExPecto tests.

    Examples
    --------
    >>> import pandas as pd
    >>> learnt = pd.DataFrame({"chrom": "chr1", "start": [0, 9000, 50_000],
    ...     "end": [5000, 20_000, 70_000], "label": ["train", "test", "train"]})
    >>> genes = pd.DataFrame({"chrom": "chr1", "tss": [700, 15_000, 15_900, 60_000]})
    >>> split = TrainedRegionSplit(learnt, sequence_length=1024)
    >>> [(train.tolist(), test.tolist()) for train, test in split.split(genes)]
    [([0, 3], [1, 2])]
    """

    def __init__(
        self,
        bed: LabelledRegions,
        *,
        test_labels: Sequence[str] = ("test",),
        sequence_length: int = SEQUENCE_LENGTH,
        margin_bp: int = 0,
        buffer_bp: int = 0,
    ) -> None:
        self.bed = bed
        self.test_labels = test_labels
        self.sequence_length = sequence_length
        self.margin_bp = margin_bp
        self.buffer_bp = buffer_bp

    def _folds(self, X: Any, y: Any, groups: Any) -> list[Masks]:
        check_count("margin_bp", self.margin_bp, 0)
        check_count("buffer_bp", self.buffer_bp, 0)
        regions = row_regions(X, groups)
        windows = row_windows(regions, self.sequence_length)
        chroms = regions["chrom"].to_numpy(dtype=object)
        learnt, unseen = split_by_label(self.bed, self.test_labels, chroms)
        is_learnt = covered_bases(windows, grown(learnt, self.margin_bp)) > 0
        is_tested = (covered_bases(windows, unseen) > 0) & ~is_learnt
        if not is_tested.any():
            msg = (
                f"no row can be tested: of {len(windows)} windows of "
                f"{self.sequence_length} bp {is_learnt.sum()} overlap regions that the "
                f"network learnt from, the others none of "
                f"{first_few(self.test_labels)}; are both of one assembly?"
            )
            raise InputError(msg)
        reach = grown(windows[is_tested], self.buffer_bp)
        is_trained = covered_bases(windows, reach) == 0
        if not is_trained.any():
            msg = (
                f"no rows are left to train on: {is_tested.sum()} of {len(windows)} "
                "are tested, and all others overlap them"
            )
            raise InputError(msg)
        return [(is_trained, is_tested)]


def _names(parameter: str, given: Any) -> list[str]:
    if isinstance(given, str) or not all(isinstance(name, str) for name in given):
        msg = f"{parameter}={given!r} must be a list of chromosomes, such as ['chr8']"
        raise InputTypeError(msg)
    return list(given)


def _refuse_misspelled(
    parameter: str, asked: list[str], chroms: Texts, *, needed: bool
) -> None:
    """Refuse chromosomes without rows; unless needed, only if they are spelled so."""
    known = sorted(set(chroms))
    spelled = {_bare(name): name for name in known}
    absent = [
        name
        for name in asked
        if name not in known and (needed or _bare(name) in spelled)
    ]
    if absent:
        meant = [spelled[_bare(name)] for name in absent if _bare(name) in spelled]
        hint = f"; did you mean {first_few(meant)}?" if meant else ""
        msg = (
            f"{parameter}: no rows are on {first_few(absent)}; they are on "
            f"{first_few(known)}{hint}"
        )
        raise InputError(msg)


def _bare(chrom: str) -> str:
    return chrom.lower().removeprefix("chr")
