"""``enformer-features finetune``: the network tuned on measurements, as a folder."""

from __future__ import annotations

import argparse
import copy
import os
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli import measured, outputs
from enformer_features.cli.console import (
    OK,
    PARTIAL,
    add_common,
    note,
    progress,
    show,
    when_stopped,
)
from enformer_features.cli.options import (
    absolute_paths,
    add_machine,
    add_rows,
    add_windows,
    given_parameters,
    row_files,
)
from enformer_features.exceptions import InputError, StoreError, TargetWarning, warn

if TYPE_CHECKING:
    import pandas as pd

    from enformer_features.training.tuning.plan import FitPlan
    from enformer_features.training.tuning.regressor import EnformerRegressor

MACHINE = ("weights", "genome", "device")
PARAMETERS = (
    *("tune", "loss", "learning_rate", "max_epochs", "batch_size", "weight_decay"),
    *("patience", "validation_fraction", "lora_rank", "reverse_complement"),
    *("shift_bp", "activation_checkpointing", "pooling", "sequence_length", "center"),
    *("strand", "edge", "ambiguous", "contig_style"),
)
_SEEDS = 2**32  # those of numpy


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``finetune``."""
    add_rows(parser)
    measured.add_measurements(parser)
    _add_tuning(parser)
    add_machine(parser)
    group = parser.add_argument_group("windows")
    add_windows(group, pools="tss, center, mean, region")
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o",
        "--out",
        required=True,
        metavar="FOLDER",
        help="the tuned network and its head, for predict and as --weights; while it "
        "trains, FOLDER.partial beside it holds the state",
    )
    group.add_argument(
        "--resume", action="store_true", help="go on with the fit in FOLDER.partial"
    )
    measured.add_scoring(group)
    outputs.add_writing(group)
    add_common(parser)


def _add_tuning(parser: argparse.ArgumentParser) -> None:
    """Add what and how to train; the defaults are those of EnformerRegressor."""
    group = parser.add_argument_group("tuning")
    group.add_argument(
        "--tune",
        help="what trains beside a new head: head (nothing), last (the last block), "
        "lora (adapters), full (everything) (default: last)",
    )
    group.add_argument(
        "--loss", help="poisson for counts, mse for logarithms (default: poisson)"
    )
    group.add_argument(
        "--learning-rate",
        type=float,
        metavar="X",
        help="(default: 0.001 for head and lora, 0.0003 for last and full)",
    )
    group.add_argument("--max-epochs", type=int, metavar="N", help="(default: 20)")
    group.add_argument(
        "--batch-size", type=int, metavar="N", help="rows per step (default: 4)"
    )
    group.add_argument(
        "--weight-decay", type=float, metavar="X", help="(default: 0.01)"
    )
    group.add_argument(
        "--patience",
        type=int,
        metavar="N",
        help="epochs without a better validation loss, then it stops (default: 5)",
    )
    group.add_argument(
        "--validation-fraction",
        type=float,
        metavar="X",
        help="of the chromosomes, set aside for that; 0 for none (default: 0.1)",
    )
    group.add_argument("--lora-rank", type=int, metavar="N", help="(default: 8)")
    group.add_argument(
        "--reverse-complement",
        action="store_const",
        const=True,
        help="in training, read either strand at random; with --strand ignore, average",
    )
    group.add_argument(
        "--shift-bp",
        type=int,
        metavar="BP",
        help="in training, move windows at random by up to so much (default: 0)",
    )
    group.add_argument(
        "--activation-checkpointing",
        action="store_const",
        const=True,
        help="less memory, more time",
    )
    group.add_argument(
        "--seed",
        type=int,
        default=0,
        metavar="N",
        help="of all that is random (default: 0)",
    )


def run(args: argparse.Namespace) -> int:
    """Tune a network, save it, and score it on held-out rows."""
    from enformer_features.training.tuning.work import embedder_of

    out, state, scores_file = _check_files(args)
    regressor = make_regressor(args)
    _check_weights(regressor, out)
    rows, targets, is_fitted = measured.read(args)
    if args.log1p and regressor.loss == "poisson":
        warn(
            "the Poisson loss is for counts, not for --log1p: give --loss mse",
            TargetWarning,
        )
    training = rows[is_fitted], targets[is_fitted]
    plan = regressor.set_params(checkpoint=state if args.resume else None).plan(
        *training
    )
    embedder = embedder_of(regressor.get_params(deep=False))
    reasons = embedder.windows(rows)["reason"]
    good = (reasons == "").to_numpy()
    counts = {
        "n_fitted": int(is_fitted.sum()),
        "n_held_out": int((~is_fitted).sum()),
        "n_targets": targets.shape[1],
    }
    if args.dry_run:
        return _show_plan(
            args, plan, counts, [out, scores_file, *outputs.sidecars_of(scores_file)]
        )
    composition = measured.composition(embedder, rows, good) if args.holdout else None
    _fit(regressor, training, args, state)
    _save(regressor, out, args)
    when_stopped(args, lambda: f"the tuned network is in {out}, and was not scored")
    shutil.rmtree(state)
    n_epochs, best = len(regressor.history_), regressor.best_epoch_
    note(args, f"trained {n_epochs} epochs, took the weights of {best}: {out}")
    tested = ~is_fitted & good
    scores = None
    if composition is not None and tested.any():
        guesses = {
            f"finetune {regressor.tune}": regressor.predict(rows[tested]),
            measured.BASELINE: measured.baseline_guess(
                composition, targets, rows["chrom"], is_fitted, tested
            ),
        }
        scores = measured.score(
            targets[tested], guesses, args, is_trained=_is_trained(regressor)
        )
    failed = outputs.failed_rows(reasons)
    more = {"validation_groups": plan.validation_groups, "failed": failed}
    summary = {"out": str(out), **counts, **more, **_fitted(regressor)}
    measured.tell(args, scores, scores_file, summary, embedder.provenance())
    return PARTIAL if failed else OK


def _is_trained(regressor: EnformerRegressor) -> bool:
    return not regressor.weights_digest_.startswith("untrained:")


def _fitted(regressor: EnformerRegressor) -> dict[str, Any]:
    """Return what the summary tells of the fit."""
    return {
        "best_epoch": regressor.best_epoch_,
        "history": regressor.history_,
        "trained_weights": _is_trained(regressor),
        "weights_digest": regressor.weights_digest_,
    }


def make_regressor(args: argparse.Namespace) -> EnformerRegressor:
    """Make the regressor that the options describe; nothing is read."""
    from enformer_features.training.tuning.regressor import EnformerRegressor

    if not 0 <= args.seed < _SEEDS:
        msg = f"--seed {args.seed} must be from 0 to {_SEEDS - 1}"
        raise InputError(msg)
    given = given_parameters(args, PARAMETERS, MACHINE)
    regressor = EnformerRegressor(
        **given, random_state=args.seed, verbose=progress(args)
    )
    regressor.set_params(**absolute_paths(regressor))
    return regressor


def _check_files(args: argparse.Namespace) -> tuple[Path, Path, Path | None]:
    """Return the folders of the result and of the state, and the file of scores."""
    from enformer_features.training.tuning.folder import check_folder

    try:
        out = check_folder(args.out, overwrite=args.overwrite).resolve()
    except StoreError as error:  # what the user gave: not a failure while running
        raise InputError(str(error)) from error
    if not os.access(out.parent, os.W_OK | os.X_OK):
        msg = f"{out} cannot be written: {out.parent} is no folder that can be written"
        raise InputError(msg)
    scores_file = measured.check_scores(args, [*row_files(args), args.targets], out)
    return out, _check_state(args, out), scores_file


def _check_state(args: argparse.Namespace, out: Path) -> Path:
    """Return the folder of the state; it holds one if, and only if, it is resumed."""
    from enformer_features.training.run_folder import SETTINGS, STATE, RunFolder

    folder = out.with_name(f"{out.name}.partial")
    if (folder / SETTINGS).exists():
        if (folder / STATE).exists() and not args.resume:
            msg = (
                f"{folder} holds the state of a fit that was not finished: go on with "
                "--resume, or delete it to begin anew"
            )
            raise InputError(msg)
    elif args.resume:
        msg = f"there is nothing to resume: no fit was begun in {folder}"
        raise InputError(msg)
    else:
        RunFolder(folder).check_new()
    return folder


def _check_weights(regressor: EnformerRegressor, out: Path) -> None:
    """Refuse to write over the weights that tuning begins with."""
    weights = Path(str(regressor.weights))  # absolute if it is a path
    if weights == out or out in weights.parents:
        msg = f"-o {out} holds the weights to begin with; give another folder"
        raise InputError(msg)


def _show_plan(
    args: argparse.Namespace,
    plan: FitPlan,
    counts: dict[str, int],
    files: list[Path | None],
) -> int:
    described = asdict(plan)
    del described["n_rows"], described["n_targets"]  # counts has them
    described["validation_groups"] = plan.validation_groups or None
    written = [str(file) for file in files if file]
    show(args, {**counts, **described, "would_write": written})
    return OK


def _fit(
    regressor: EnformerRegressor,
    training: tuple[pd.DataFrame, pd.DataFrame],
    args: argparse.Namespace,
    state: Path,
) -> None:
    from enformer_features.training.run_folder import SETTINGS, STATE

    if not args.resume:  # of a fit that did not get through its first epoch
        for file in (state / SETTINGS, *state.glob(f".{STATE}.*.partial")):
            file.unlink(missing_ok=True)
    when_stopped(args, lambda: _way_on(state))
    regressor.set_params(checkpoint=state).fit(*training)


def _way_on(state: Path) -> str:
    from enformer_features.training.run_folder import STATE

    if not (state / STATE).exists():
        return "no epoch was finished: run the command again"
    return (
        f"the last finished epoch is kept in {state}: to go on, run the command again "
        "with --resume"
    )


def _save(regressor: EnformerRegressor, out: Path, args: argparse.Namespace) -> None:
    """Save what another machine can use: any device will do."""
    portable = copy.copy(regressor).set_params(device="auto", verbose=None)
    portable.save(out, overwrite=args.overwrite)
