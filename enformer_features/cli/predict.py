"""``enformer-features predict``: a model that was fitted or tuned, and new rows."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from enformer_features.cli import heads, outputs
from enformer_features.cli.console import (
    OK,
    PARTIAL,
    add_common,
    note,
    progress,
    show,
)
from enformer_features.cli.options import add_rows, cache_setting, read_rows
from enformer_features.exceptions import InputError, StoreError

if TYPE_CHECKING:
    import pandas as pd
    from sklearn.pipeline import Pipeline

    from enformer_features.estimators.embedder import EnformerEmbedder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``predict``."""
    parser.add_argument("model", metavar="MODEL", help="what fit or finetune wrote")
    add_rows(parser)
    group = parser.add_argument_group(
        "instead of what the model says",
        "The settings of the environment do not count here: the model has its own.",
    )
    group.add_argument("--genome", metavar="FASTA", help="where the genome lies now")
    group.add_argument("--weights", help="where the same weights lie now")
    group.add_argument("--device", help="auto, cpu, cuda, cuda:1, mps")
    group.add_argument("--precision", help="auto, float32, float32-exact, tf32")
    group.add_argument("--batch-size", type=int, metavar="N")
    group.add_argument("--on-error", help="raise, or nan and exit code 3")
    group.add_argument(
        "--cache",
        metavar="memory|none|FOLDER",
        help="keep rows: while running, not at all, or in a folder for later runs",
    )
    parser.add_argument(
        "--interval",
        action="store_true",
        help="add NAME_low and NAME_high to every prediction, of a model whose head is "
        "a GroupedConformal",
    )
    group = parser.add_argument_group("safety")
    group.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read a model that is a pickle, which can run any code",
    )
    outputs.add_output(parser)
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Predict and write."""
    inputs = [args.model, args.genes, args.regions, args.genome]
    target = outputs.check_table(args, [file for file in inputs if file])
    rows = read_rows(args)
    outputs.check_names(target, rows, args)
    predict, embedder = _predictor(args)
    if args.dry_run:
        return outputs.show_plan(
            args, embedder, rows, [target, *outputs.sidecars_of(target)]
        )
    result = predict(rows)
    outputs.write(result, target, args)
    if args.json:
        summary = {
            "out": str(target),
            "n_rows": len(result.values),
            "targets": result.columns,
            "failed": result.failed,
            "trained_weights": result.is_trained,
            "weights_digest": result.provenance["weights_digest"],
        }
        show(args, summary)
    n_rows, n_targets = result.values.shape
    where = target or "standard output"
    note(args, f"{n_rows} rows x {n_targets} predictions to {where}")
    return PARTIAL if result.failed else OK


def _predictor(
    args: argparse.Namespace,
) -> tuple[Callable[[pd.DataFrame], outputs.Result], EnformerEmbedder]:
    """Return what predicts rows, and the embedder that reads them."""
    if Path(args.model).expanduser().is_dir():
        if args.interval:
            raise InputError(_no_intervals(args.model, "network"))
        from enformer_features.cli.tuned import load_tuned, predict_tuned

        regressor, reader = load_tuned(args)
        return partial(predict_tuned, regressor, reader), reader
    model = load_pipeline(args, {**_changes(args), "verbose": progress(args)})
    embedder = model.steps[0][1]
    if args.interval:
        _check_intervals(model, args.model)
    outputs.keep_rows(args, embedder)
    return partial(_predict, model, embedder, interval=args.interval), embedder


def _check_intervals(model: Pipeline, path: str) -> None:
    from enformer_features.estimators.conformal import GroupedConformal

    if not isinstance(model[-1], GroupedConformal):
        raise InputError(_no_intervals(path, type(model[-1]).__name__))


def _no_intervals(path: str, what: str) -> str:
    return (
        f"--interval: {path} is a {what} without intervals; fit a "
        "GroupedConformal(head) in Python, and save_model it"
    )


def load_pipeline(args: argparse.Namespace, changes: Mapping[str, Any]) -> Pipeline:
    """Load a pipeline that begins with an embedder.

    Parameters
    ----------
    args : Namespace
        With ``model``, a path, and ``allow_pickle``.
    changes : mapping of str to object
        Parameters of the embedder that are not those of the file.
    """
    from sklearn.pipeline import Pipeline

    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.estimators.persistence import load_model

    try:
        model = load_model(args.model, allow_pickle=args.allow_pickle, embedder=changes)
    except StoreError as error:  # of an input: not a failure while running
        raise InputError(str(error)) from error
    if not isinstance(model, Pipeline) or not isinstance(model[0], EnformerEmbedder):
        msg = (
            f"{args.model} holds a {type(model).__name__}; expected a pipeline that "
            "begins with an EnformerEmbedder, such as fit writes"
        )
        raise InputError(msg)
    return model


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    names = ("genome", "weights", "device", "precision", "batch_size", "on_error")
    given = {name: getattr(args, name) for name in names}
    changes = {name: value for name, value in given.items() if value is not None}
    if args.cache is not None:
        changes["cache"] = cache_setting(args.cache)
    return changes


def _predict(
    model: Pipeline,
    embedder: EnformerEmbedder,
    rows: pd.DataFrame,
    *,
    interval: bool = False,
) -> outputs.Result:
    """Predict the rows that have features; the others become NaN."""
    from enformer_features.report.intervals import as_fitted

    features = outputs.embed(embedder, rows)
    outputs.check_any_good(features)
    good = features.is_good
    X = as_fitted(model[1:], features.values[good], features.columns)
    predicted = heads.predict(model[1:], X)
    names = _target_names(model, predicted)
    if interval:
        predicted = _with_ends(model, predicted, X)
        names = [f"{name}{end}" for name in names for end in ("", "_low", "_high")]
    values = np.full((len(rows), predicted.shape[1]), np.nan)
    values[good] = predicted
    return outputs.Result(values, names, features.obs, features.provenance)


def _with_ends(
    model: Pipeline, predicted: npt.NDArray[np.float64], X: Any
) -> npt.NDArray[np.float64]:
    """Put both ends of its interval behind every prediction."""
    from enformer_features.report.intervals import interval_ends

    ends = interval_ends(model[1:], X)
    low, high = ends[:, 0], ends[:, 1]
    return np.stack([predicted, low, high], axis=2).reshape(len(predicted), -1)


def _target_names(model: Pipeline, values: npt.NDArray[np.float64]) -> list[str]:
    """Return the names that ``fit`` left in the model, or else numbers."""
    n_targets = values.shape[1]
    names = getattr(model, "target_names_", None)
    if isinstance(names, list) and len(names) == n_targets:
        return [str(name) for name in names]
    return [f"prediction_{number}" for number in range(n_targets)]
