"""``enformer-features train``: records or bigWig files to a network of one's own."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli.console import (
    OK,
    add_common,
    note,
    progress,
    show,
    when_stopped,
)
from enformer_features.cli.options import PREFIX, settings
from enformer_features.exceptions import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from enformer_features.training.batches import Shard
    from enformer_features.training.procedure import Procedure

    Splits = dict[str, dict[str, Sequence[Shard]]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``train``."""
    group = parser.add_argument_group("data (records, or signal)")
    kinds = group.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        "--records",
        action="append",
        metavar="[ORGANISM=]FOLDER",
        help="training records as published: statistics.json, targets.txt, "
        "sequences.bed, tfrecords/; repeatable (default organism: human)",
    )
    kinds.add_argument(
        "--bigwigs",
        metavar="TABLE",
        help="tab-separated: identifier, file, and how values are made (clip, scale, "
        "sum_stat, ...); with --regions, --genome, --valid-chrom and --test-chrom",
    )
    group.add_argument("--regions", metavar="BED", help="a window each, for --bigwigs")
    group.add_argument("--genome", metavar="FASTA", help="for --bigwigs")
    group.add_argument(
        "--organism", help="whose they are, for --bigwigs (default: human)"
    )
    for split, use in (("valid", "validate on"), ("test", "keep aside")):
        group.add_argument(
            f"--{split}-chrom",
            action="append",
            metavar="CHROM",
            help=f"{use} this chromosome; repeatable; for --bigwigs",
        )
    group = parser.add_argument_group("procedure")
    group.add_argument(
        "--procedure",
        default="enformer-2021",
        metavar="NAME|FILE",
        help="enformer-2021, mini, or JSON: a procedure, or the run.json of a run "
        "(default: enformer-2021)",
    )
    group.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="change a setting, such as batch_size=8, config.dropout_rate=0.2 or "
        "phases.0.steps=1000; values are JSON; repeatable",
    )
    group.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="begin from these (default: the published initialisation)",
    )
    group = parser.add_argument_group("run")
    group.add_argument("-o", "--out", required=True, metavar="FOLDER", help="new")
    group.add_argument(
        "--resume", action="store_true", help="go on with the run in the folder"
    )
    group.add_argument("--device", help="auto, cpu, cuda (default: auto)")
    group.add_argument(
        "--threads",
        type=int,
        default=2,
        metavar="N",
        help="that prepare batches; they change no number (default: 2)",
    )
    group.add_argument(
        "--dry-run", action="store_true", help="check everything and say what is to do"
    )
    add_common(parser)


def run(args: argparse.Namespace) -> int:
    """Train a network, or say what would be trained."""
    procedure = read_procedure(args.procedure, args.set)
    folder = Path(args.out).expanduser()
    data = _records(args) if args.records else _signal(args, procedure)
    training = {name: splits["train"] for name, splits in data.items()}
    validation = {
        name: splits["valid"]
        for name, splits in data.items()
        if "valid" in splits and name in procedure.organisms
    }
    if args.dry_run:
        return _show_plan(args, procedure, training, validation, folder)
    from enformer_features.training.loop import train

    when_stopped(args, lambda: _way_on(folder))
    result = train(
        training,
        procedure,
        folder,
        validation=validation,
        start=args.weights,
        resume=args.resume,
        device=args.device or "auto",
        n_threads=args.threads,
        verbose=progress(args),
    )
    best = folder / ("best" if result.best_score is not None else "last")
    if args.json:
        show(
            args,
            {
                "out": str(folder),
                "steps": procedure.steps,
                "best_score": result.best_score,
                "weights": str(best),
                "last": result.log[-1] if result.log else None,
            },
        )
    note(args, f"log: {folder / 'log.csv'}; use the network with --weights {best}")
    return OK


def _way_on(folder: Path) -> str:
    from enformer_features.training.run_folder import STATE

    if not (folder / STATE).exists():
        return "nothing was validated yet, so nothing is kept: run the command again"
    return (
        f"the network of the last validation is kept in {folder}: to go on, run the "
        "command again with --resume"
    )


def read_procedure(named: str, changes: Sequence[str]) -> Procedure:
    """Return a preset or the procedure in a file, with changes.

    Parameters
    ----------
    named : str
        A preset, or a JSON file.
    changes : sequence of str
        ``name=value``, with dots into what is nested.

    Raises
    ------
    InputError
        When there is no such procedure, or no such setting.
    """
    from enformer_features.training.procedure import PRESETS, Procedure, procedure_named

    is_file = named not in PRESETS and (named.endswith(".json") or Path(named).exists())
    plain = _read_json(named) if is_file else procedure_named(named).to_dict()
    plain = json.loads(json.dumps(plain.get("procedure", plain)))
    for change in changes:
        _change(plain, change)
    try:
        return Procedure.from_dict(plain)
    except (KeyError, TypeError) as error:
        msg = f"{named} with {list(changes)} is no procedure: {error!r}"
        raise InputError(msg) from error


def _read_json(path: str) -> dict[str, Any]:
    try:
        read = json.loads(Path(path).expanduser().read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        msg = f"--procedure {path} cannot be read: {error}"
        raise InputError(msg) from error
    if not isinstance(read, dict):
        msg = f"--procedure {path} holds no procedure but a {type(read).__name__}"
        raise InputError(msg)
    return read


def _change(plain: dict[str, Any], change: str) -> None:
    """Set ``a.0.b=value`` in nested dictionaries and lists."""
    path, equals, text = change.partition("=")
    if not equals:
        msg = f"--set {change}: give NAME=VALUE"
        raise InputError(msg)
    try:
        value = json.loads(text)
    except ValueError as error:
        if text[:1] in ("[", "{", '"'):
            msg = f"--set {path}: {text} is not valid JSON: {error}"
            raise InputError(msg) from error
        value = text  # a bare word is a string
    *parents, name = path.split(".")
    at: Any = plain
    try:
        for parent in parents:
            at = at[int(parent) if isinstance(at, list) else parent]
        key = int(name) if isinstance(at, list) else name
        at[key]  # it must exist
        at[key] = value
    except (KeyError, IndexError, ValueError, TypeError) as error:
        known = list(at) if isinstance(at, dict) else f"0 to {len(at) - 1}"
        msg = f"--set {change}: there is no setting {path!r}; there are {known}"
        raise InputError(msg) from error


def _refuse_signal_options(args: argparse.Namespace) -> None:
    names = ("regions", "genome", "valid_chrom", "test_chrom", "organism")
    given = [f"--{name.replace('_', '-')}" for name in names if getattr(args, name)]
    if given:
        msg = (
            f"{', '.join(given)} say nothing about --records, whose folders hold the "
            "splits and name the organism (mouse=FOLDER)"
        )
        raise InputError(msg)


def _records(args: argparse.Namespace) -> Splits:
    _refuse_signal_options(args)
    from enformer_features.training.data.records import RecordFolder

    data: Splits = {}
    for text in args.records:
        organism, equals, path = text.partition("=")
        if not equals:
            organism, path = "human", text
        if organism in data:
            msg = f"--records are given twice for {organism!r}"
            raise InputError(msg)
        folder = RecordFolder(path)
        splits = [split for split in ("train", "valid") if split in folder.splits]
        data[organism] = {split: folder.shards(split) for split in splits}
        if "train" not in splits:
            folder.files("train")  # says what there is
    return data


def _signal(args: argparse.Namespace, procedure: Procedure) -> Splits:
    from enformer_features.genomics.regions import read_regions
    from enformer_features.training.batches import Loaded
    from enformer_features.training.data.signal import windows_from_bigwig
    from enformer_features.training.data.splits import split_regions

    genome = settings(args).get("genome")
    if genome is None or not args.regions:
        msg = f"--bigwigs need --regions, and --genome (or {PREFIX}GENOME)"
        raise InputError(msg)
    config = procedure.config
    data: dict[str, Sequence[Shard]] = {}
    splits = split_regions(
        read_regions(args.regions),
        valid=args.valid_chrom or [],
        test=args.test_chrom or [],
        sequence_length=config.sequence_length,
    )
    for split, rows in splits.items():
        if split != "test":
            windows = windows_from_bigwig(
                rows,
                genome.value,
                args.bigwigs,
                sequence_length=config.sequence_length,
                target_length=config.target_length,
                name=f"{Path(args.bigwigs).stem} {split}",
            )
            data[split] = [Loaded(windows)]
    return {args.organism or "human": data}


def _show_plan(
    args: argparse.Namespace,
    procedure: Procedure,
    training: Mapping[str, Sequence[Shard]],
    validation: Mapping[str, Sequence[Shard]],
    folder: Path,
) -> int:
    from enformer_features.training.loop import plan

    plan_of = plan(
        training,
        procedure,
        folder,
        validation=validation,
        start=args.weights,
        resume=args.resume,
    )
    show(args, plan_of)
    return OK
