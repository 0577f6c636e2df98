"""What ``predict`` does with a tuned network, such as ``finetune`` writes."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from enformer_features.cli import outputs
from enformer_features.cli.console import progress
from enformer_features.exceptions import (
    FailedWindowsWarning,
    InputError,
    StoreError,
    first_few,
    warn,
)

if TYPE_CHECKING:
    import pandas as pd

    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.training.tuning.regressor import EnformerRegressor

_NOT_HERE = ("weights", "precision", "batch_size", "cache")
_REGIONS = ("start", "end", "strand", "tss")


def load_tuned(
    args: argparse.Namespace,
) -> tuple[EnformerRegressor, EnformerEmbedder]:
    """Load a regressor, and an embedder that reads rows as it does.

    Raises
    ------
    InputError
        When the folder holds none, or an option says what it says itself.
    """
    from enformer_features.training.tuning.folder import DESCRIPTION
    from enformer_features.training.tuning.regressor import EnformerRegressor
    from enformer_features.training.tuning.work import embedder_of

    given = [name for name in _NOT_HERE if getattr(args, name) is not None]
    if given:
        flags = ", ".join(f"--{name.replace('_', '-')}" for name in given)
        msg = f"{flags}: {args.model} is a tuned network, which has its own"
        raise InputError(msg)
    if not (Path(args.model).expanduser() / DESCRIPTION).is_file():
        msg = (
            f"{args.model} has no {DESCRIPTION}: it is no folder that finetune wrote. "
            f"A network's features and tracks: embed --weights {args.model}"
        )
        raise InputError(msg)
    places = {"genome": args.genome, "device": args.device}
    places = {name: value for name, value in places.items() if value is not None}
    try:
        regressor = EnformerRegressor.load(args.model, **places, verbose=progress(args))
    except StoreError as error:  # of an input: not a failure while running
        raise InputError(str(error)) from error
    if regressor.per_bin_:
        msg = (
            f"{args.model} predicts every bin, for which there is no table; use "
            "EnformerRegressor.load in Python"
        )
        raise InputError(msg)
    settings = {**regressor.get_params(deep=False), "weights": regressor.folder_}
    embedder = embedder_of(settings, on_error=args.on_error or "raise")
    return regressor, embedder


def predict_tuned(
    regressor: EnformerRegressor, embedder: EnformerEmbedder, rows: pd.DataFrame
) -> outputs.Result:
    """Predict the rows that can be read; the others become NaN."""
    windows = embedder.windows(rows).set_axis(rows.index)
    obs = windows.join(rows[[name for name in _REGIONS if name in rows]])
    values = np.full((len(rows), regressor.n_targets_), np.nan, dtype=np.float32)
    provenance = {
        **embedder.provenance(),
        "tuned_from": regressor.weights_digest_,
        "targets": regressor.target_names_,
    }
    result = outputs.Result(values, regressor.target_names_, obs, provenance)
    outputs.check_any_good(result)
    if result.failed:
        shown = [f"{row['name']}: {row['reason']}" for row in result.failed]
        warn(f"rows that became NaN: {first_few(shown)}", FailedWindowsWarning)
    good = result.is_good
    values[good] = regressor.predict(rows[good]).reshape(-1, regressor.n_targets_)
    return result
