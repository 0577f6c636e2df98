"""``enformer-features fit``: features and measurements to a model and its scores."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

from enformer_features.cli import outputs
from enformer_features.cli.console import OK, PARTIAL, add_common, note, show
from enformer_features.cli.heads import add_head, head_of, predict, ridge
from enformer_features.cli.options import (
    absolute_paths,
    add_embedder,
    add_rows,
    make_embedder,
    read_rows,
    row_files,
)
from enformer_features.exceptions import InputError

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from enformer_features.estimators.embedder import EnformerEmbedder

UNTRAINED_NOTE = "untrained weights: says nothing about Enformer"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fit``."""
    add_rows(parser)
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
    add_head(parser)
    add_embedder(parser)
    group = parser.add_argument_group("result")
    group.add_argument("-o", "--out", required=True, metavar="FILE", help="the model")
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
    outputs.add_writing(group)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Fit a head on features, score it on held-out rows, and save both as a model."""
    model_file, scores_file = _check_files(args)
    embedder, head = make_embedder(args), head_of(args)
    rows, targets, is_fitted = _read(args)
    counts = {
        "n_fitted": int(is_fitted.sum()),
        "n_held_out": int((~is_fitted).sum()),
        "n_targets": targets.shape[1],
    }
    if args.dry_run:
        files = [model_file, scores_file]
        return outputs.show_plan(args, embedder, rows, files, **counts)
    composition = _composition(embedder, rows) if args.holdout else None
    result = outputs.embed(embedder, rows)
    fitted = is_fitted & result.is_good
    tested = ~is_fitted & result.is_good
    head.fit(result.values[fitted], targets[fitted].to_numpy())
    guesses = {}
    if composition is not None and tested.any():
        guesses[args.head] = predict(head, result.values[tested])
        baseline = ridge().fit(composition[fitted], targets[fitted].to_numpy())
        guesses["composition baseline"] = predict(baseline, composition[tested])
    _save(embedder, head, list(targets.columns), model_file, args)
    note(args, f"fitted on {int(fitted.sum())} rows: {model_file}")
    scores = None
    if guesses:
        notes = {} if result.is_trained else {args.head: UNTRAINED_NOTE}
        axis = "across genes" if args.genes else "across regions"
        scores = _scores(targets[tested], guesses, axis, notes)
    _tell(args, scores, scores_file, {"out": str(model_file), **counts}, result)
    return PARTIAL if result.failed else OK


def _check_files(args: argparse.Namespace) -> tuple[Path, Path | None]:
    inputs = [*row_files(args), args.targets]
    model_file = outputs.check_file(args, args.out, inputs)
    if args.scores is None:
        return model_file, None
    if not args.holdout:
        msg = "--scores needs rows to score: name a chromosome with --holdout"
        raise InputError(msg)
    outputs.check_table_suffix(args.scores)
    scores_file = outputs.check_file(args, args.scores, inputs)
    if scores_file == model_file:
        msg = f"-o and --scores are the same file, {model_file}; give two"
        raise InputError(msg)
    return model_file, scores_file


def _read(
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


def _composition(
    embedder: EnformerEmbedder, rows: pd.DataFrame
) -> npt.NDArray[np.float32]:
    """Compute what any embedding must beat; NaN for rows that cannot be embedded."""
    import numpy as np

    from enformer_features.estimators.baselines import SequenceCompositionBaseline
    from enformer_features.genomics.genome import open_genome

    assert embedder.genome is not None  # make_embedder has seen to it
    genome = open_genome(embedder.genome, ambiguous=embedder.ambiguous)
    good = (embedder.windows(rows)["reason"] == "").to_numpy()
    baseline = SequenceCompositionBaseline(genome, contig_style=embedder.contig_style)
    computed = baseline.transform(rows[good])
    features = np.full((len(rows), computed.shape[1]), np.nan, dtype=np.float32)
    features[good] = computed
    return features


def _scores(
    observed: pd.DataFrame,
    guesses: dict[str, npt.NDArray[np.floating[Any]]],
    axis: str,
    notes: dict[str, str],
) -> pd.DataFrame:
    """Return one row per target and model: correlations in the held-out rows."""
    import pandas as pd

    from enformer_features.estimators.metrics import correlations_across_rows

    tables = []
    for name, guess in guesses.items():
        table = correlations_across_rows(observed, guess)
        table.insert(0, "across", axis)
        table.insert(0, "model", name)
        tables.append(table.assign(note=notes.get(name, "")))
    return pd.concat(tables).rename_axis("target").reset_index()


def _save(
    embedder: EnformerEmbedder,
    head: Pipeline,
    target_names: list[str],
    path: Path,
    args: argparse.Namespace,
) -> None:
    """Save what another machine can use: absolute paths, and any device."""
    from sklearn.base import clone
    from sklearn.pipeline import make_pipeline

    from enformer_features.estimators.persistence import save_model

    portable = clone(embedder).set_params(
        **absolute_paths(embedder),
        device="auto",
        precision="auto" if embedder.precision == "tf32" else embedder.precision,
        batch_size="auto",
        on_error="raise",
        verbose=None,
    )
    model = make_pipeline(portable, head)
    model.target_names_ = target_names
    save_model(model, path, overwrite=args.overwrite)


def _tell(
    args: argparse.Namespace,
    scores: pd.DataFrame | None,
    scores_file: Path | None,
    summary: dict[str, Any],
    result: outputs.Result,
) -> None:
    if scores is not None and scores_file is not None:
        outputs.write_table(scores, scores_file, index=False)
        note(args, f"scores: {scores_file}")
    if args.json:
        more = {
            "failed": result.failed,
            "trained_weights": result.is_trained,
            "weights_digest": result.provenance["weights_digest"],
            "scores": [] if scores is None else scores.to_dict("records"),
        }
        show(args, {**summary, **more})
    elif scores is None:
        note(args, "nothing was scored: --holdout CHROM keeps rows for that")
    elif scores_file is None:
        scores.to_csv(sys.stdout, sep="\t", index=False, float_format="%.4f")
