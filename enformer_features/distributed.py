"""One store, many workers: a thin layer on dask.distributed (extra ``distributed``).

A unit of a store is a task. Workers are told its number and the path of the store,
never arrays; each opens store, genome and weights for itself, computes the unit and
writes it, and answers with nothing. Whatever dies, what was written stays, and the
next call goes on from there.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from enformer_features.estimators.embedding_store import (
    EmbeddingStore,
    open_embedding_store,
)
from enformer_features.exceptions import (
    FailedUnitsWarning,
    InputError,
    InputTypeError,
    MissingDependencyError,
    StoreError,
    first_few,
    warn,
)
from enformer_features.storage.store import open_store

if TYPE_CHECKING:
    from distributed import Client, Future

Places = tuple[tuple[str, str], ...]
_DIED = "every worker that began it died: has it too little memory?"
_LOOPBACK = "127.0.0.1"
_ONE_AT_A_TIME = threading.Lock()


@dataclass(frozen=True)
class EmbedReport:
    """What a call of :func:`embed` came to.

    Parameters
    ----------
    path : Path
        The store.
    n_units : int
    n_known : int
        Those that were there already.
    n_computed : int
        Those that were computed and written.
    failed : dict of int to str
        The others, and why.
    """

    path: Path
    n_units: int
    n_known: int
    n_computed: int
    failed: dict[int, str] = field(default_factory=dict)


def embed(
    store: EmbeddingStore | str | PathLike[str],
    client: Client,
    *,
    weights: str | PathLike[str] | None = None,
    genome: str | PathLike[str] | None = None,
    device: str | None = None,
    resources: dict[str, float] | None = None,
    verbose: bool | None = None,
) -> EmbedReport:
    """Compute the units of a store that are missing, on the workers of a cluster.

    Parameters
    ----------
    store : EmbeddingStore or path
        A planned store, on a file system that every worker sees under this path.
    client : distributed.Client
        Of a cluster with one worker per GPU, or one per few cores; one unit at a time
        is computed in each process. See :func:`local_client`.
    weights, genome, device : optional
        Where the workers find them, if not where they were planned. Every worker
        compares their digests with the plan's.
    resources : dict, optional
        What a worker must have, such as ``{"GPU": 1}``; see dask's resources.
    verbose : bool or None
        Progress bar; None shows one on a terminal.

    Returns
    -------
    EmbedReport
        Call ``store.finalize()`` when nothing failed.

    Raises
    ------
    MissingDependencyError
        When dask.distributed is not installed.
    InputTypeError
        When `client` is none.
    StoreError
        When there is no such store, or all of several units failed for one reason.

    Warns
    -----
    FailedUnitsWarning
        When units failed. All others were computed; call again for these alone.

    Notes
    -----
    A unit whose worker dies is begun again elsewhere, as often as the cluster's
    ``distributed.scheduler.allowed-failures`` says (3). A unit with which worker after
    worker dies fails, and may make others look alike that waited on the same workers;
    each of these is therefore tried once more by itself.

    When the caller is interrupted or killed, units that are being computed may still
    be written, and no others are begun.

    A unit has the same bits from workers of one kind of processor, with as many
    threads each; from others it agrees to rounding.

    Examples
    --------
    A script, which needs the last two lines since workers import it::

        from enformer_features.distributed import embed, local_client

        def main():
            with local_client(n_workers=2) as client:
                print(embed("features.zarr", client))

        if __name__ == "__main__":
            main()
    """
    _check_installed()
    _check_client(client)
    path = store.path if isinstance(store, EmbeddingStore) else store
    opened = open_store(path, unfinished=True)
    digest = opened.plan.digest
    places = {"weights": weights, "genome": genome, "device": device}
    given = {name: str(place) for name, place in places.items() if place is not None}
    pending, n_units = opened.pending(), opened.n_units
    # Tasks of one name are run once: another store may have the same plan.
    parts = (digest, str(opened.path), *map(str, given.items()))
    identity = hashlib.sha256("\0".join(parts).encode()).hexdigest()
    failed = _compute(
        client,
        _embed_unit,
        pending,
        {"path": str(opened.path), "digest": digest, "places": tuple(given.items())},
        name=f"enformer-features-{identity[:16]}",
        resources=resources,
        verbose=verbose,
    )
    if failed:
        told = f"{opened.path}: {_summary(failed, n_units)}"
        if 1 < len(failed) == len(pending) and len({*failed.values()}) == 1:
            raise StoreError(told)
        warn(told, FailedUnitsWarning)
    n_computed = len(pending) - len(failed)
    return EmbedReport(opened.path, n_units, n_units - len(pending), n_computed, failed)


@contextmanager
def local_client(
    n_workers: int | None = None,
    *,
    gpus: Sequence[int | str] = (),
    threads: int | None = None,
) -> Iterator[Client]:
    """Start workers on this machine, reachable from this machine only.

    Parameters
    ----------
    n_workers : int, optional
        Processes; by default one per GPU, or one in all.
    gpus : sequence of int or str, optional
        A worker for each, which sees no other: what ``CUDA_VISIBLE_DEVICES`` may
        hold.
    threads : int, optional
        Of PyTorch in each worker; by default the cores are shared out.

    Yields
    ------
    distributed.Client
        Scheduler, workers and dashboard (``client.dashboard_link``) listen on the
        loopback interface. Workers that die are replaced; all end with the block.

    Raises
    ------
    InputError
        When the number of workers cannot be used.
    MissingDependencyError
        When dask.distributed is not installed.

    Notes
    -----
    A worker starts as a new process, which imports the script that started it: guard
    the script's work by ``if __name__ == "__main__"``. Dask's limit of memory is off:
    it does not see what PyTorch holds, and nothing else is kept in a worker.
    """
    _check_installed()
    from distributed import Client, Nanny, Scheduler, SpecCluster

    n_workers = _n_workers(n_workers, gpus)
    threads = threads or max(1, (os.cpu_count() or 1) // n_workers)
    workers = {
        number: {
            "cls": Nanny,
            "options": {
                "host": _LOOPBACK,
                "nthreads": 1,
                "memory_limit": 0,
                "dashboard": False,
                "env": _environment(threads, gpus[number] if gpus else None),
                "silence_logs": logging.CRITICAL,
            },
        }
        for number in range(n_workers)
    }
    # Other ways to ask for it leave the dashboard open to the network.
    options = {"host": _LOOPBACK, "port": 0, "dashboard_address": f"{_LOOPBACK}:0"}
    scheduler = {"cls": Scheduler, "options": options}
    with (
        _environment_restored(),  # starting workers sets their threads here, too
        SpecCluster(workers, scheduler, silence_logs=logging.CRITICAL) as cluster,
        Client(cluster) as client,
    ):
        yield client


def _n_workers(n_workers: int | None, gpus: Sequence[int | str]) -> int:
    chosen = n_workers if n_workers is not None else len(gpus) or 1
    if chosen < 1 or (gpus and chosen != len(gpus)):
        msg = (
            f"n_workers={n_workers} must be at least 1, and as many as gpus, of which "
            f"there are {len(gpus)}"
        )
        raise InputError(msg)
    return chosen


@contextmanager
def _environment_restored() -> Iterator[None]:
    before = dict(os.environ)
    try:
        yield
    finally:
        for name in os.environ.keys() - before.keys():
            del os.environ[name]
        os.environ.update(before)


def _environment(threads: int, gpu: int | str | None) -> dict[str, str]:
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    environment = dict.fromkeys(names, str(threads))
    return (
        environment
        if gpu is None
        else {**environment, "CUDA_VISIBLE_DEVICES": str(gpu)}
    )


def _embed_unit(unit: int, path: str, digest: str, places: Places) -> None:
    """Compute and write a unit, in a worker, unless others have done it."""
    with _ONE_AT_A_TIME:
        _opened(path, digest, places).embed_unit(unit)


@lru_cache(maxsize=1)
def _opened(path: str, digest: str, places: Places) -> EmbeddingStore:
    """Open a store once; the digest tells it from an earlier one of that name."""
    return open_embedding_store(path, **dict(places))


def _compute(
    client: Client,
    task: Callable[..., None],
    units: Sequence[int],
    constants: dict[str, Any],
    *,
    name: str,
    resources: dict[str, float] | None = None,
    verbose: bool | None = None,
) -> dict[int, str]:
    """Run a task for every unit; tell which failed, and why.

    Parameters
    ----------
    client : Client
    task : callable
        Of a unit and the constants.
    units : sequence of int
    constants : dict
    name : str
        Of the tasks: equal names are computed once, whoever asks for them at the
        same time.
    """
    from distributed import KilledWorker

    def run(numbers: Sequence[int], label: str) -> dict[int, BaseException]:
        futures = client.map(
            task,
            numbers,
            key=[f"{label}-{number}" for number in numbers],
            pure=False,
            resources=resources,
            **constants,
        )
        return _failures(client, dict(zip(futures, numbers, strict=True)), bar)

    with tqdm(total=len(units), unit="unit", disable=_is_hidden(verbose)) as bar:
        failed = run(units, name)
        for unit, error in list(failed.items()):
            if isinstance(error, KilledWorker):
                del failed[unit]
                failed |= run([unit], f"{name}-alone")
    return {unit: _why(error) for unit, error in sorted(failed.items())}


def _failures(
    client: Client, units: dict[Future[None], int], bar: tqdm[Any]
) -> dict[int, BaseException]:
    """Wait for all units; when interrupted, take back those that are not begun."""
    from distributed import CancelledError, as_completed

    failed: dict[int, BaseException] = {}
    try:
        for future in as_completed(list(units)):
            unit = units.pop(future)
            if future.status in ("error", "cancelled"):
                failed[unit] = future.exception() or CancelledError(future.key)
            else:  # done, also where its worker has died since
                bar.update()
            future.release()
    except BaseException:
        client.cancel(list(units))
        raise
    # Forgotten before tasks of the same names are asked for, which are told old errors
    # otherwise; cancelling would be heard of too late, and cancel those.
    client.sync(asyncio.sleep, 0)
    return failed


def _is_hidden(verbose: bool | None) -> bool | None:
    return None if verbose is None else not verbose  # None asks for a terminal


def _why(error: BaseException) -> str:
    from distributed import KilledWorker

    if isinstance(error, KilledWorker):
        return _DIED
    return f"{type(error).__name__}: {error}"


def _summary(failed: dict[int, str], n_units: int) -> str:
    reasons: dict[str, list[int]] = {}
    for unit, why in failed.items():
        reasons.setdefault(why, []).append(unit)
    told = "; ".join(f"units {first_few(of)}: {why}" for why, of in reasons.items())
    others = ", all others are done" if len(failed) < n_units else ""
    return f"{len(failed)} of {n_units} units failed{others}. {told}"


def _check_client(client: object) -> None:
    from distributed import Client

    if not isinstance(client, Client):
        msg = (
            f"client is {type(client).__name__}, expected a distributed.Client; for "
            "workers on this machine use `with local_client(n_workers) as client:`"
        )
        raise InputTypeError(msg)


def _check_installed() -> None:
    try:
        import distributed  # noqa: F401
    except ImportError as error:
        msg = (
            "enformer_features.distributed needs dask.distributed, which is not "
            "installed; install it with pip install 'enformer-features[distributed]'"
        )
        raise MissingDependencyError(msg) from error
