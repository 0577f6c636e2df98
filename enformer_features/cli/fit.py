"""``enformer-features fit``: features and measurements to a model and its scores."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from enformer_features.cli import measured, outputs
from enformer_features.cli.console import OK, PARTIAL, add_common, note
from enformer_features.cli.heads import add_head, fit, head_of, predict
from enformer_features.cli.options import (
    absolute_paths,
    add_embedder,
    add_rows,
    make_embedder,
    row_files,
)

if TYPE_CHECKING:
    from pathlib import Path

    from sklearn.pipeline import Pipeline

    from enformer_features.estimators.embedder import EnformerEmbedder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``fit``."""
    add_rows(parser)
    measured.add_measurements(parser)
    add_head(parser)
    add_embedder(parser)
    group = parser.add_argument_group("result")
    group.add_argument("-o", "--out", required=True, metavar="FILE", help="the model")
    measured.add_scoring(group)
    outputs.add_writing(group)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Fit a head on features, score it on held-out rows, and save both as a model."""
    inputs = [*row_files(args), args.targets]
    model_file = outputs.check_file(args, args.out, inputs)
    scores_file = measured.check_scores(args, inputs, model_file)
    embedder, head = make_embedder(args), head_of(args)
    rows, targets, is_fitted = measured.read(args)
    counts = {
        "n_fitted": int(is_fitted.sum()),
        "n_held_out": int((~is_fitted).sum()),
        "n_targets": targets.shape[1],
    }
    if args.dry_run:
        files = [model_file, scores_file, *outputs.sidecars_of(scores_file)]
        return outputs.show_plan(args, embedder, rows, files, **counts)
    outputs.keep_rows(args, embedder)
    composition = None
    if args.holdout:
        good = (embedder.windows(rows)["reason"] == "").to_numpy()
        composition = measured.composition(embedder, rows, good)
    result = outputs.embed(embedder, rows)
    fitted = is_fitted & result.is_good
    tested = ~is_fitted & result.is_good
    chrom = rows["chrom"][fitted]
    fit(head, result.values[fitted], targets[fitted].to_numpy(), chrom)
    scores = None
    if composition is not None and tested.any():
        guesses = {
            args.head: predict(head, result.values[tested]),
            measured.BASELINE: measured.baseline_guess(
                composition, targets, rows["chrom"], fitted, tested
            ),
        }
        scores = measured.score(
            targets[tested], guesses, args, is_trained=result.is_trained
        )
    _save(embedder, head, list(targets.columns), model_file, args)
    note(args, f"fitted on {int(fitted.sum())} rows: {model_file}")
    summary = {
        "out": str(model_file),
        **counts,
        "failed": result.failed,
        "trained_weights": result.is_trained,
        "weights_digest": result.provenance["weights_digest"],
    }
    measured.tell(args, scores, scores_file, summary, result.provenance)
    return PARTIAL if result.failed else OK


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
