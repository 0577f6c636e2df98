"""What a split lets through: overlapping windows, relatives, what the network knows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.model_selection import check_cv

from enformer_features.estimators.splits.rows import (
    Families,
    LabelledRegions,
    row_families,
    row_ids,
    row_regions,
    row_windows,
    split_by_label,
)
from enformer_features.estimators.splits.splitter import Fold, folds_of
from enformer_features.exceptions import InputError, LeakageWarning, warn
from enformer_features.genomics.intervals import covered_bases, gaps
from enformer_features.genomics.windows import SEQUENCE_LENGTH


@dataclass(frozen=True)
class LeakageReport:
    """What tested rows share with those that were trained on; print it.

    Parameters
    ----------
    folds : DataFrame
        One row per fold: ``n_train``, ``n_test``; ``overlapping``, tested windows that
        share a base with a training window, and ``overlapping_share`` of all tested;
        ``overlap_bp``, bases of tested windows that are in training windows, each
        window's own counted, and ``overlap_share``; ``nearest_bp``, between the two
        nearest windows (0: they overlap or touch, infinite: no chromosome on both
        sides); ``shared_chroms``. With families: ``related``, tested rows with a
        relative that was trained on, and ``shared_families``. With the network's own
        regions: ``learnt``, tested windows that overlap those it learnt from.
    rows : DataFrame
        One row per tested row and fold, with the labels of ``X``: ``fold``,
        ``overlap_bp``, ``nearest_bp``, and ``related`` and ``learnt`` where they are
        known.
    n_rows : int
        Rows of ``X``.
    n_tested : int
        Rows that are tested, however often.
    sequence_length : int
        Length of the windows in bp.
    """

    folds: pd.DataFrame
    rows: pd.DataFrame
    n_rows: int
    n_tested: int
    sequence_length: int

    @property
    def findings(self) -> list[str]:
        """What leaks, in words; empty if nothing does."""
        tests = int(self.folds["n_test"].sum())
        bases = tests * self.sequence_length
        covered = int(self.folds["overlap_bp"].sum()) / bases
        said = {
            "overlapping": (
                "tested windows overlap a training window, with "
                f"{covered:.1%} of the bases of all; see ChromosomeSplit"
            ),
            "related": "tested rows have a relative in training; see FamilySplit",
            "learnt": (
                "tested windows overlap regions that the network itself learnt from; "
                "see TrainedRegionSplit"
            ),
        }
        counts = {
            name: int(self.folds[name].sum()) for name in said if name in self.folds
        }
        return [
            f"{count:,} of {tests:,} ({count / tests:.1%}) {said[name]}"
            for name, count in counts.items()
            if count
        ]

    def __str__(self) -> str:
        """Return the table of the folds, with what was found and what not looked at."""
        head = (
            f"{len(self.folds)} folds, {self.n_tested:,} of {self.n_rows:,} rows are "
            f"tested, windows of {self.sequence_length:,} bp"
        )
        table = self.folds.to_string(float_format=lambda value: f"{value:.4g}")
        found = [f"leaks: {text}" for text in self.findings] or ["no leak was found"]
        missed = {"related": "families", "learnt": "regions that the network learnt"}
        missing = [what for name, what in missed.items() if name not in self.folds]
        unseen = [f"not looked at: {', '.join(missing)}"] if missing else []
        return "\n".join([head, table, *found, *unseen])

    def to_dict(self) -> dict[str, Any]:
        """Return folds and findings as plain types, for JSON; infinite becomes None."""
        finite = self.folds.astype(object).where(np.isfinite(self.folds), None)
        return {
            "n_rows": self.n_rows,
            "n_tested": self.n_tested,
            "sequence_length": self.sequence_length,
            "findings": self.findings,
            "folds": finite.to_dict("records"),
        }


def leakage_report(
    X: Any,
    cv: Any,
    y: Any = None,
    groups: Any = None,
    *,
    sequence_length: int = SEQUENCE_LENGTH,
    families: Families | None = None,
    trained_regions: LabelledRegions | None = None,
    test_labels: Sequence[str] = ("test",),
) -> LeakageReport:
    """Look for what the tested rows of each fold share with its training rows.

    Parameters
    ----------
    X : table or sequence of regions, or features, n_rows
        Features need regions as ``groups``.
    cv : int, cross-validation object or iterable of (train, test)
        As scikit-learn takes it.
    y, groups
        For ``cv.split``.
    sequence_length : int, default=196_608
        Length of the windows in bp: that of the embedder.
    families : mapping or Series, optional
        Id to family, as for :class:`~enformer_features.FamilySplit`.
    trained_regions : path or DataFrame, optional
        What the network was trained on, as for
        :class:`~enformer_features.TrainedRegionSplit`.
    test_labels : sequence of str, default=("test",)
        Labels of those regions from which it has not learnt.

    Returns
    -------
    LeakageReport

    Raises
    ------
    InputError, InputTypeError
        When there are no regions, rows cannot be used, or a fold is empty.

    Warns
    -----
    LeakageWarning
        When anything leaks, with numbers.

    Notes
    -----
    Windows are those of :class:`~enformer_features.EnformerEmbedder` with its default
    ``center`` and ``strand``.

    Examples
    --------
    >>> import warnings
    >>> from sklearn.model_selection import KFold
    >>> genes = pd.DataFrame({"chrom": ["1", "1", "2", "2"],
    ...                       "tss": [4000, 9000, 4000, 4100]})
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore", LeakageWarning)
    ...     report = leakage_report(genes, KFold(4), sequence_length=1024)
    >>> report.folds["overlapping"].tolist(), report.folds["nearest_bp"].tolist()
    ([0, 0, 1, 1], [3976.0, 3976.0, 0.0, 0.0])
    """
    regions = row_regions(X, groups)
    windows = row_windows(regions, sequence_length)
    facts: dict[str, Any] = {}
    if families is not None:
        facts["family"] = row_families(row_ids(X, groups), families)
    if trained_regions is not None:
        chroms = regions["chrom"].to_numpy(dtype=object)
        learnt, _ = split_by_label(trained_regions, test_labels, chroms)
        facts["learnt"] = covered_bases(windows, learnt) > 0
    rows = windows.assign(**facts)
    folds = _usable_folds(folds_of(check_cv(cv, y), X, y, groups), len(rows))
    tested = [_tested_rows(rows, fold, number) for number, fold in enumerate(folds)]
    report = LeakageReport(
        folds=pd.DataFrame(
            [
                _summary(rows, fold, part, sequence_length)
                for fold, part in zip(folds, tested, strict=True)
            ]
        ).rename_axis("fold"),
        rows=pd.concat(tested).drop(columns=["chrom", "family"], errors="ignore"),
        n_rows=len(rows),
        n_tested=len(np.unique(np.concatenate([test for _, test in folds]))),
        sequence_length=sequence_length,
    )
    if report.findings:
        warn("; ".join(report.findings), LeakageWarning)
    return report


def _usable_folds(folds: list[Fold], n_rows: int) -> list[Fold]:
    """Return positions, where masks may have been given; refuse folds without rows."""
    every = np.arange(n_rows)
    usable = [(every[train], every[test]) for train, test in folds]
    for number, (train, test) in enumerate(usable):
        if not len(train) or not len(test):
            msg = (
                f"fold {number} has {len(train)} rows to train on and {len(test)} to "
                "test; both are needed"
            )
            raise InputError(msg)
    return usable


def _tested_rows(rows: pd.DataFrame, fold: Fold, number: int) -> pd.DataFrame:
    """Return what each tested row of a fold shares with the training rows."""
    train, test = (rows.iloc[part] for part in fold)
    found = test.drop(columns=["start", "end", "read_strand"]).assign(
        fold=number, overlap_bp=covered_bases(test, train), nearest_bp=gaps(test, train)
    )
    if "family" in rows:
        found["related"] = test["family"].isin(train["family"]).to_numpy()
    return found


def _summary(
    rows: pd.DataFrame, fold: Fold, tested: pd.DataFrame, sequence_length: int
) -> dict[str, float]:
    train = rows.iloc[fold[0]]
    overlapping = int((tested["overlap_bp"] > 0).sum())
    overlap_bp = int(tested["overlap_bp"].sum())
    summary = {
        "n_train": len(train),
        "n_test": len(tested),
        "overlapping": overlapping,
        "overlapping_share": overlapping / len(tested),
        "overlap_bp": overlap_bp,
        "overlap_share": overlap_bp / (len(tested) * sequence_length),
        "nearest_bp": float(tested["nearest_bp"].min()),
        "shared_chroms": len(set(train["chrom"]) & set(tested["chrom"])),
    }
    if "related" in tested:
        summary["related"] = int(tested["related"].sum())
        families = tested.loc[tested["related"], "family"]
        summary["shared_families"] = int(families.nunique())
    if "learnt" in tested:
        summary["learnt"] = int(tested["learnt"].sum())
    return summary
