"""``enformer-features store``: exports that outlive a process, shared by any number."""

from __future__ import annotations

import argparse
import shlex
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from enformer_features.cli.console import (
    FAILURE,
    OK,
    PARTIAL,
    add_common,
    note,
    progress,
    show,
    when_stopped,
)
from enformer_features.cli.options import (
    add_embedder,
    add_rows,
    make_embedder,
    read_rows,
)
from enformer_features.exceptions import first_few

if TYPE_CHECKING:
    from enformer_features.estimators.embedding_store import EmbeddingStore
    from enformer_features.storage.store import StoreReport, StoreStatus

_ACTIONS = {
    "plan": "check all rows, and make a store that waits for their values",
    "run": "compute the units that are missing; any number of runs may share them",
    "status": "count what is there; exit code 3 while units are missing",
    "verify": "compare every byte with what was written; exit code 1 for damage, 3 "
    "while units are missing",
    "finalize": "make one AnnData of all units, and give it its name",
    "diff": "say how two stores differ; exit code 1 if they do",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the actions of ``store``."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    parsers = {
        name: actions.add_parser(name, help=what, description=f"{name}: {what}.")
        for name, what in _ACTIONS.items()
    }
    for name, action in parsers.items():
        if name == "diff":
            action.add_argument("a", metavar="A.zarr")
            action.add_argument("b", metavar="B.zarr")
        else:
            action.add_argument("store", metavar="STORE.zarr")
    _add_plan(parsers["plan"])
    _add_run(parsers["run"])
    verify = parsers["verify"]
    verify.add_argument(
        "--repair",
        action="store_true",
        help="compute damaged units again; exit code 0 if that mended all",
    )
    _add_places(verify)
    parsers["finalize"].add_argument(
        "--overwrite", action="store_true", help="replace a store of another plan"
    )
    for action in parsers.values():
        add_common(action)


def _add_plan(parser: argparse.ArgumentParser) -> None:
    add_rows(parser)
    add_embedder(parser, keeps_rows=False)
    group = parser.add_argument_group("store")
    group.add_argument(
        "--bins", action="store_true", help="keep every bin instead of pooled rows"
    )
    group.add_argument(
        "--dtype", default="float32", help="float32, or float16 (default: float32)"
    )
    group.add_argument(
        "--unit-rows",
        type=int,
        metavar="N",
        help="rows that are computed and written together (default: 64, or fewer "
        "where rows are large)",
    )
    group.add_argument(
        "--make-unique",
        action="store_true",
        help="number repeated names instead of refusing them",
    )
    group.add_argument(
        "--overwrite",
        action="store_true",
        help="let finalize replace a store of another plan",
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and say what it would cost; reads no weights",
    )


def _add_run(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--units",
        type=_part,
        metavar="i/N",
        help="the i-th of N parts of the units, such as $SLURM_ARRAY_TASK_ID/100 "
        "(default: all; runs at the same time share them)",
    )
    parser.add_argument(
        "--dry-run", action="store_true", help="say what is left to compute"
    )
    _add_places(parser)


def _add_places(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "machine", "Where things are here, if not where they were planned."
    )
    group.add_argument("--weights", metavar="WEIGHTS")
    group.add_argument("--genome", metavar="FASTA")
    group.add_argument("--device", help="of the planned kind, such as cuda:1")


def run(args: argparse.Namespace) -> int:
    """Call the action."""
    actions = {
        "plan": _plan,
        "run": _run,
        "status": _status,
        "verify": _verify,
        "finalize": _finalize,
        "diff": _diff,
    }
    return actions[args.action](args)


def _plan(args: argparse.Namespace) -> int:
    from enformer_features.estimators.embedding_store import check_place, plan_store
    from enformer_features.estimators.streaming import cost_of

    check_place(args.store)
    embedder, rows = make_embedder(args), read_rows(args)
    unit_rows = "auto" if args.unit_rows is None else args.unit_rows
    options = {"bins": args.bins, "unit_rows": unit_rows, "dtype": args.dtype}
    if args.dry_run:
        cost = cost_of(embedder, rows, **options)
        show(args, {**cost, "would_write": args.store})
        return OK
    store = plan_store(
        embedder,
        rows,
        args.store,
        make_unique=args.make_unique,
        overwrite=args.overwrite,
        **options,
    )
    status = store.status()
    _tell(args, status, {})
    if not status.is_finished and status.n_done == status.n_units:
        note(args, f"it has all its values, and is {store.store.folder} until then")
    return OK


def _run(args: argparse.Namespace) -> int:
    store = _open(args)
    pending = store.store.pending(args.units)
    if args.dry_run:
        show(args, _left(store, pending))
        return OK
    when_stopped(args, lambda: _way_on(args, store))
    computed = store.run(args.units, verbose=progress(args))
    failed = _failed(store)
    part = _part_done(store, args.units)
    more = {"units_computed": computed, "failed": failed, "part": part}
    _tell(args, store.status(), more)
    return PARTIAL if failed else OK


def _status(args: argparse.Namespace) -> int:
    status = _open(args).status()
    summary = {**asdict(status), "seconds": round(status.seconds, 1)}
    if not args.json:
        summary["begun"] = [
            f"unit {unit} (attempts: {times})" for unit, times in status.begun.items()
        ]
    show(args, summary)
    if not status.is_finished:
        note(args, f"next: {_next(args, status)}")
    return OK if status.n_done == status.n_units else PARTIAL


def _verify(args: argparse.Namespace) -> int:
    store = _open(args)
    when_stopped(args, lambda: _way_on(args, store))
    report = store.verify(repair=args.repair)
    is_mended = args.repair and not report.files
    repaired = report.units if is_mended else []
    summary = {**asdict(report), "repaired": repaired}
    if not args.json:
        told_otherwise = ["units", "files", "missing"]
        for name in told_otherwise + ([] if args.repair else ["repaired"]):
            del summary[name]
        summary |= {"damaged": first_few(report.damaged) or "none"}
    show(args, summary)
    if report.damaged and not is_mended:
        note(args, _remedy(args, report))
        return FAILURE
    if report.missing:
        note(args, f"not finished: {len(report.missing)} units are missing")
    status = store.status()
    if not status.is_finished:
        note(args, f"next: {_next(args, status)}")
    return PARTIAL if report.missing else OK


def _remedy(args: argparse.Namespace, report: StoreReport) -> str:
    from enformer_features.storage.store.manifest import PLAN_AGAIN

    repair = _command(args, "verify --repair")
    if not report.files:
        return f"to compute damaged units again: {repair}"
    steps = [repair] if report.units else []
    following = ", then ".join([*steps, _command(args, "finalize")])
    return f"{first_few(report.files)} are damaged; {PLAN_AGAIN}, then {following}"


def _finalize(args: argparse.Namespace) -> int:
    store = _open(args)
    path = store.finalize(overwrite=args.overwrite)
    failed = _failed(store)
    if args.json:
        show(args, {"path": path, "failed": failed})
    note(args, f"{store.plan.n_rows} rows in {path}")
    return PARTIAL if failed else OK


def _diff(args: argparse.Namespace) -> int:
    from enformer_features.storage.store.diff import diff

    differences = diff(args.a, args.b)
    if args.json:
        show(args, {"differences": differences})
    else:
        print("\n".join(differences) or "no differences")
    return FAILURE if differences else OK


def _open(args: argparse.Namespace) -> EmbeddingStore:
    from enformer_features.estimators.embedding_store import (
        PLACES,
        open_embedding_store,
    )

    places = {name: getattr(args, name, None) for name in PLACES}
    return open_embedding_store(args.store, **places)


def _left(store: EmbeddingStore, pending: list[int]) -> dict[str, Any]:
    """Say what is left to compute, at the speed of the units that are there."""
    status, rows = store.status(), [store.store.unit_rows(unit) for unit in pending]
    n_rows = sum(span.stop - span.start for span in rows)
    known = status.n_rows_done and status.seconds / status.n_rows_done
    return {
        "n_units": status.n_units,
        "pending": len(pending),
        "pending_rows": n_rows,
        "output_bytes": n_rows * store.plan.n_bytes // store.plan.n_rows,
        "seconds": round(known * n_rows, 1) if known else None,
    }


def _failed(store: EmbeddingStore) -> list[dict[str, str]]:
    """Return name and reason of the rows that became NaN."""
    reasons = store.reasons()
    if not reasons:
        return []
    names = store.store.obs().index
    return [
        {"name": str(names[row]), "reason": reason}
        for row, reason in sorted(reasons.items())
    ]


def _tell(args: argparse.Namespace, status: StoreStatus, more: dict[str, Any]) -> None:
    """Print what there is, and what comes next."""
    if args.json:
        show(args, {**asdict(status), **more})
    failed = [row["name"] for row in more.get("failed", [])]
    if failed:
        note(args, f"rows that became NaN: {first_few(failed)}")
    following = "" if status.is_finished else f"; next: {_next(args, status)}"
    part = more.get("part")
    there = f"part {part}; the store: " if part else ""
    note(args, f"{there}{status.n_done} of {status.n_units} units are done{following}")


def _next(args: argparse.Namespace, status: StoreStatus) -> str:
    """Return the command that comes next for a store that is not finished."""
    if status.damaged_markers:
        return _command(args, "verify --repair")
    action = "finalize" if status.n_done == status.n_units else "run"
    return _command(args, action)


def _part_done(store: EmbeddingStore, part: tuple[int, int] | None) -> str | None:
    """Say how far a part of a store is."""
    if part is None:
        return None
    first, step = part
    n_units = len(range(first - 1, store.plan.n_units, step))
    n_done = n_units - len(store.store.pending(part))
    return f"{first}/{step}: {n_done} of {n_units}"


def _way_on(args: argparse.Namespace, store: EmbeddingStore) -> str:
    status = store.status()
    return (
        f"{status.n_done} of {status.n_units} units are done and kept: to go on, run "
        "the command again"
    )


def _command(args: argparse.Namespace, action: str) -> str:
    return f"enformer-features store {action} {shlex.quote(args.store)}"


def _part(text: str) -> tuple[int, int]:
    i, _, n = text.partition("/")
    if not (i.isdecimal() and n.isdecimal()) or not 1 <= int(i) <= int(n):
        msg = f"{text!r} is no part such as 3/8, counted from 1/8 to 8/8"
        raise argparse.ArgumentTypeError(msg)
    return int(i), int(n)
