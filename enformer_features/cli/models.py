"""What is asked: the network itself, or a fitted model, read as the options say."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from enformer_features.cli.options import make_embedder, settings
from enformer_features.exceptions import InputError

if TYPE_CHECKING:
    from sklearn.pipeline import Pipeline

    from enformer_features.estimators.embedder import EnformerEmbedder

# Of the embedder: what a model may be read with, and what it was fitted on.
_READING = ("strand", "shifts", "center", "contig_style")
_FITTED = (
    *("output", "organism", "tracks", "track_table", "track_pattern"),
    "sequence_length",
)


def add_model(parser: argparse.ArgumentParser) -> None:
    """Add the options that name a fitted model."""
    group = parser.add_argument_group(
        "through a fitted head (default: the network's own tracks)"
    )
    group.add_argument("--model", metavar="FILE", help="what fit or save_model wrote")
    group.add_argument(
        "--allow-pickle",
        action="store_true",
        help="read a model that is a pickle, which can run any code",
    )


def add_target_names(group: argparse._ArgumentGroup) -> None:
    """Add the option that names a model's predictions."""
    group.add_argument(
        "--targets",
        metavar="NAMES",
        help="names of a model's predictions, for one that has none: NAME,NAME or a "
        "file with a name in each line (default: those it was fitted with, or "
        "prediction_0 ...)",
    )


def target_names(args: argparse.Namespace) -> list[str]:
    """Return the names that a model's predictions are given.

    Raises
    ------
    InputError
        Without a model, or when the file cannot be read.
    """
    if not args.model:
        msg = "--targets names the predictions of --model; tracks have their own names"
        raise InputError(msg)
    file = Path(args.targets).expanduser()
    if not file.is_file():
        names = args.targets.split(",")
    else:
        try:
            names = file.read_text(encoding="utf-8").splitlines()
        except (OSError, UnicodeDecodeError) as error:
            msg = f"--targets {args.targets} cannot be read: {error}"
            raise InputError(msg) from error
    return [name.strip() for name in names if name.strip()]


def make_model(args: argparse.Namespace) -> EnformerEmbedder | Pipeline:
    """Make an embedder of tracks, or load a model and read it as asked."""
    if args.model is None:
        args.output = args.output or "tracks"
        return make_embedder(args)
    from enformer_features.cli.predict import load_pipeline

    fitted = [name for name in _FITTED if getattr(args, name) is not None]
    if fitted:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in fitted)
        msg = f"{flags}: {args.model} was fitted with its own"
        raise InputError(msg)
    changes = {
        name: value
        for name, (value, origin) in settings(args).items()
        if origin == "argument"
    }
    model = load_pipeline(args, {**changes, "verbose": False})
    reading = {name: getattr(args, name) for name in _READING}
    model[0].set_params(
        **{name: value for name, value in reading.items() if value is not None}
    )
    return model


def embedder_of(model: EnformerEmbedder | Pipeline) -> EnformerEmbedder:
    """Return the embedder that a model is, or begins with."""
    from sklearn.pipeline import Pipeline

    return model[0] if isinstance(model, Pipeline) else model
