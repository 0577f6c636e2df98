"""``enformer-features embed``: regions or genes to features."""

from __future__ import annotations

import argparse
import time

from enformer_features.cli import outputs
from enformer_features.cli.console import OK, PARTIAL, add_common, note, show
from enformer_features.cli.options import (
    add_embedder,
    add_rows,
    make_embedder,
    read_rows,
    row_files,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``embed``."""
    add_rows(parser)
    add_embedder(parser)
    outputs.add_output(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Compute features and write them."""
    target = outputs.check_table(args, row_files(args))
    embedder = make_embedder(args)
    rows = read_rows(args)
    outputs.check_names(target, rows, args)
    if args.dry_run:
        return outputs.show_plan(
            args, embedder, rows, [target, *outputs.sidecars_of(target)]
        )
    outputs.keep_rows(args, embedder)
    began = time.perf_counter()
    result = outputs.embed(embedder, rows)
    outputs.write(result, target, args)
    seconds = time.perf_counter() - began
    n_rows, n_columns = result.values.shape
    if args.json:
        summary = {
            "out": str(target),
            "n_rows": n_rows,
            "n_features": n_columns,
            "failed": result.failed,
            "trained_weights": result.is_trained,
            "weights_digest": result.provenance["weights_digest"],
            "seconds": round(seconds, 3),
        }
        show(args, summary)
    where = target or "standard output"
    note(args, f"{n_rows} rows x {n_columns} features to {where}, {seconds:.1f} s")
    return PARTIAL if result.failed else OK
