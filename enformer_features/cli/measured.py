"""What commands share that learn measurements: their options, rows and scores."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli import outputs
from enformer_features.cli.console import note, show
from enformer_features.cli.heads import fit, predict, ridge
from enformer_features.cli.options import read_rows
from enformer_features.cli.sidecars import sidecar_of, write_sidecar
from enformer_features.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from enformer_features.estimators.embedder import EnformerEmbedder

BASELINE = "composition baseline"
UNTRAINED_NOTE = "untrained weights: says nothing about Enformer"


def add_measurements(parser: argparse.ArgumentParser) -> None:
    """Add the options that say what was measured."""
    group = parser.add_argument_group("measurements")
    group.add_argument(
        "--targets",
        required=True,
        metavar="FILE",
        help="TSV or CSV, also .gz: ids in the first column, then a target per column",
    )
    group.add_argument(
        "--target",
        action="append",
        metavar="NAME",
        help="a column of --targets; repeatable (default: all)",
    )
    group.add_argument(
        "--strip-version",
        action="store_true",
        help="compare Ensembl ids without their version",
    )
    group.add_argument(
        "--drop-missing",
        action="store_true",
        help="leave out rows that lack a value for any target",
    )
    group.add_argument(
        "--log1p", action="store_true", help="fit log(1 + x) of the measurements"
    )


def add_scoring(group: argparse._ArgumentGroup) -> None:
    """Add the options that say which rows are scored, and where to."""
    group.add_argument(
        "--holdout",
        action="append",
        metavar="CHROM",
        help="score on this chromosome instead of fitting on it; repeatable",
    )
    group.add_argument(
        "--scores",
        metavar="FILE",
        help=f"{', '.join(outputs.SEPARATORS)} (default: a TSV on standard output)",
    )


def check_scores(
    args: argparse.Namespace, inputs: Sequence[str], model: Path
) -> Path | None:
    """Check ``--scores`` before any work; None means standard output, or no scores.

    Parameters
    ----------
    args : Namespace
    inputs : sequence of str
        Files that are read.
    model : Path
        Where the model goes.
    """
    if args.scores is None:
        return None
    if not args.holdout:
        msg = "--scores needs rows to score: name a chromosome with --holdout"
        raise InputError(msg)
    outputs.check_table_suffix(args.scores)
    scores_file = outputs.check_described(args, args.scores, inputs)
    if model in (scores_file, *outputs.sidecars_of(scores_file)):
        msg = f"-o and --scores are the same file, {model}; give two"
        raise InputError(msg)
    return scores_file


def read(
    args: argparse.Namespace,
) -> tuple[pd.DataFrame, pd.DataFrame, npt.NDArray[np.bool_]]:
    """Return rows, their measurements, and which of them are fitted."""
    from enformer_features.cli import targets as measurements
    from enformer_features.genomics.genes import align

    targets = measurements.read_targets(args.targets, args.target)
    rows, targets = align(read_rows(args), targets, strip_version=args.strip_version)
    if args.drop_missing:
        complete = measurements.drop_missing(targets)
        note(args, f"left out for missing values: {len(targets) - len(complete)} rows")
        rows, targets = rows.loc[complete.index], complete
    is_fitted = ~measurements.held_out(rows["chrom"], args.holdout or [])
    measurements.check_targets(targets, is_fitted)
    if args.log1p:
        targets = measurements.log1p(targets)
    return rows, targets, is_fitted


def composition(
    embedder: EnformerEmbedder, rows: pd.DataFrame, good: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Compute what any embedding must beat; NaN for rows that cannot be embedded."""
    import numpy as np

    from enformer_features.estimators.baselines import SequenceCompositionBaseline
    from enformer_features.genomics.genome import open_genome

    assert embedder.genome is not None  # given_parameters has seen to it
    genome = open_genome(embedder.genome, ambiguous=embedder.ambiguous)
    baseline = SequenceCompositionBaseline(genome, contig_style=embedder.contig_style)
    computed = baseline.transform(rows[good])
    features = np.full((len(rows), computed.shape[1]), np.nan, dtype=np.float32)
    features[good] = computed
    return features


def baseline_guess(
    features: npt.NDArray[np.float32],
    targets: pd.DataFrame,
    chrom: pd.Series[str],
    fitted: npt.NDArray[np.bool_],
    tested: npt.NDArray[np.bool_],
) -> npt.NDArray[np.floating[Any]]:
    """Predict the tested rows from GC and CpG alone."""
    head = fit(ridge(), features[fitted], targets[fitted].to_numpy(), chrom[fitted])
    return predict(head, features[tested])


def score(
    observed: pd.DataFrame,
    guesses: dict[str, npt.NDArray[np.floating[Any]]],
    args: argparse.Namespace,
    *,
    is_trained: bool,
) -> pd.DataFrame:
    """Return one row per target and model: correlations in the held-out rows.

    Parameters
    ----------
    observed : DataFrame, shape (n_rows, n_targets)
    guesses : dict of str to ndarray, shape (n_rows, n_targets)
        The model's by its name, then the baseline's.
    args : Namespace
    is_trained : bool
        Whether the network's weights were; a note says so if they were not.
    """
    import pandas as pd

    from enformer_features.estimators.metrics import score_across_genes

    tables = []
    for name, guess in guesses.items():
        rows = "genes" if args.genes else "regions"
        scores = score_across_genes(observed, guess, rows=rows)
        table = scores[["n", "pearson", "spearman"]].copy()
        table.insert(0, "across", scores["axis"])
        table.insert(0, "model", name)
        is_random = not is_trained and name != BASELINE
        about = UNTRAINED_NOTE if is_random else ""
        table["note"] = [
            "; ".join(filter(None, (about, reason))) for reason in scores["reason"]
        ]
        tables.append(table)
    return pd.concat(tables).rename_axis("target").reset_index()


def tell(
    args: argparse.Namespace,
    scores: pd.DataFrame | None,
    scores_file: Path | None,
    summary: dict[str, Any],
    provenance: dict[str, Any],
) -> None:
    """Write or print the scores, and with ``--json`` a summary."""
    if scores is not None and scores_file is not None:
        sidecar_of(scores_file).unlink(missing_ok=True)
        outputs.write_table(scores, scores_file, index=False)
        write_sidecar(scores_file, args, provenance, summary)
        note(args, f"scores: {scores_file}")
    if args.json:
        rows = [] if scores is None else scores.to_dict("records")
        show(args, {**summary, "scores": rows})
    elif scores is None:
        note(args, "nothing was scored: --holdout CHROM keeps rows for that")
    elif scores_file is None:
        scores.to_csv(sys.stdout, sep="\t", index=False, float_format="%.4f")
