"""What commands write: features or predictions, one row per region, in a file."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli.console import OK, show, when_stopped
from enformer_features.cli.sidecars import sidecar_of, write_sidecar
from enformer_features.exceptions import InputError, UntrainedWeightsWarning, warn

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import pandas as pd

    from enformer_features.estimators.embedder import EnformerEmbedder

SEPARATORS = {".tsv": "\t", ".tsv.gz": "\t", ".csv": ",", ".csv.gz": ","}
SUFFIXES = (".h5ad", ".npz", *SEPARATORS)


@dataclass(frozen=True)
class Result:
    """Computed rows.

    Parameters
    ----------
    values : ndarray of float, shape (n_rows, n_columns)
        NaN in rows that have a reason.
    columns : list of str
    obs : DataFrame, n_rows
        Indexed by name; with ``reason`` ("" or why the row could not be computed).
    provenance : dict
        How the values came about.
    """

    values: npt.NDArray[np.floating[Any]]
    columns: list[str]
    obs: pd.DataFrame
    provenance: dict[str, Any]

    @property
    def is_good(self) -> npt.NDArray[np.bool_]:
        """Whether each row could be computed."""
        good: npt.NDArray[np.bool_] = (self.obs["reason"] == "").to_numpy()
        return good

    @property
    def failed(self) -> list[dict[str, str]]:
        """Name and reason of the rows that could not be computed."""
        return failed_rows(self.obs["reason"])

    @property
    def is_trained(self) -> bool:
        """False for random weights, and for those that were tuned from them."""
        digests = [self.provenance.get(n) for n in ("weights_digest", "tuned_from")]
        return not any(str(digest).startswith("untrained:") for digest in digests)


def failed_rows(reasons: pd.Series[str]) -> list[dict[str, str]]:
    """Return name and reason of the rows that have a reason."""
    return [
        {"name": str(name), "reason": str(reason)}
        for name, reason in reasons[reasons != ""].items()
    ]


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add the options of a command that writes rows."""
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        help=f"{', '.join(SUFFIXES)}, told by the suffix (default: a TSV on standard "
        "output)",
    )
    group.add_argument(
        "--make-unique",
        action="store_true",
        help="number repeated names, which .h5ad cannot hold, instead of refusing them",
    )
    add_writing(group)


def add_writing(group: argparse._ArgumentGroup) -> None:
    """Add the options of any command that computes and writes."""
    group.add_argument(
        "--overwrite", action="store_true", help="replace files that exist"
    )
    group.add_argument(
        "--dry-run",
        action="store_true",
        help="check everything and say what would be done; reads no weights",
    )


def check_table(args: argparse.Namespace, inputs: Iterable[str]) -> Path | None:
    """Check ``--out`` before any work; None means standard output."""
    if args.out is None:
        if args.json and not args.dry_run:
            msg = "--json needs the standard output for its summary; give -o FILE"
            raise InputError(msg)
        return None
    return check_described(args, args.out, inputs)


def check_described(args: argparse.Namespace, path: str, inputs: Iterable[str]) -> Path:
    """Refuse a file that must not be written, or beside which its origin cannot be."""
    _suffix(path)
    inputs = list(inputs)
    target = check_file(args, path, inputs)
    for sidecar in sidecars_of(target):
        check_file(args, str(sidecar), inputs)
    return target


def sidecars_of(target: Path | None) -> list[Path]:
    """Return the files that tell where a table comes from; AnnData tells itself."""
    if target is None or _suffix(target) == ".h5ad":
        return []
    return [sidecar_of(target)]


def check_file(args: argparse.Namespace, path: str, inputs: Iterable[str]) -> Path:
    """Refuse a file that must not be written; see ``storage.files.check_output``."""
    from enformer_features.storage.files import check_output

    return check_output(path, overwrite=args.overwrite, inputs=inputs)


def check_names(
    target: Path | None, rows: pd.DataFrame, args: argparse.Namespace
) -> None:
    """Refuse names that an h5ad file cannot hold, before any work."""
    import pandas as pd

    from enformer_features.storage.export import check_obs

    if target is not None and _suffix(target) == ".h5ad":
        check_obs(pd.DataFrame(index=rows.index), make_unique=args.make_unique)


def embed(embedder: EnformerEmbedder, rows: pd.DataFrame) -> Result:
    """Compute features, with the reasons of rows that are NaN."""
    from enformer_features.storage.export import UNS_KEY

    adata = embedder.to_anndata(rows, make_unique=True)
    result = Result(
        values=adata.X,
        columns=list(adata.var_names),
        obs=adata.obs.set_axis(rows.index),
        provenance=json.loads(adata.uns[UNS_KEY]["provenance_json"]),
    )
    if not result.is_trained:  # rows from a cache load no weights, and do not warn
        msg = (
            f"weights={embedder.weights!r} are random: the numbers mean nothing "
            "biological"
        )
        warn(msg, UntrainedWeightsWarning)
    return result


def keep_rows(args: argparse.Namespace, embedder: EnformerEmbedder) -> None:
    """Tell, when the command is stopped, where its finished rows are."""
    when_stopped(args, lambda: _kept_rows(embedder))


def _kept_rows(embedder: EnformerEmbedder) -> str:
    from enformer_features.storage.cache import MemoryCache
    from enformer_features.storage.disk_cache import DiskCache

    cache = embedder.cache
    if cache is None or cache == "memory" or isinstance(cache, MemoryCache):
        return (
            "nothing is kept: run the command again, with --cache ./FOLDER to keep "
            "the rows that are finished"
        )
    if not isinstance(cache, DiskCache):
        cache = DiskCache(None if cache is True else str(cache))
    return f"finished rows are kept in {cache.path}: to go on, run the command again"


def check_any_good(result: Result) -> None:
    """Refuse rows none of which can be computed."""
    if not result.is_good.any():
        first = result.failed[0]
        msg = (
            f"none of {len(result.obs)} rows could be computed; the first, "
            f"{first['name']}: {first['reason']}"
        )
        raise InputError(msg)


def show_plan(
    args: argparse.Namespace,
    embedder: EnformerEmbedder,
    rows: pd.DataFrame,
    files: Iterable[Path | None],
    **more: Any,
) -> int:
    """Print what would be computed and written."""
    written = [str(file) for file in files if file] or ["standard output"]
    show(args, {**asdict(embedder.plan(rows)), **more, "would_write": written})
    return OK


def write(result: Result, target: Path | None, args: argparse.Namespace) -> None:
    """Write rows in the form that the suffix asks for, whole or not at all."""
    if target is None:
        _as_table(result).to_csv(sys.stdout, sep="\t", index_label="name")
        return
    for sidecar in sidecars_of(target):
        sidecar.unlink(missing_ok=True)  # it tells of the file that is replaced
    if _suffix(target) == ".h5ad":
        _write_h5ad(result, target, args)
    elif _suffix(target) == ".npz":
        _write_npz(result, target)
    else:
        write_table(_as_table(result), target, index_label="name")
    if sidecars_of(target):
        n_rows, n_columns = result.values.shape
        of_rows = {"n_rows": n_rows, "n_columns": n_columns, "failed": result.failed}
        write_sidecar(target, args, result.provenance, of_rows)


def write_table(table: pd.DataFrame, target: Path, **options: Any) -> None:
    """Write a table as text, gzipped if the suffix says so."""
    from enformer_features.storage.files import atomic_write

    suffix = _suffix(target)
    packing: Any = "gzip" if suffix.endswith(".gz") else None
    with atomic_write(target) as temporary:
        table.to_csv(temporary, sep=SEPARATORS[suffix], compression=packing, **options)


def check_table_suffix(path: str) -> None:
    """Refuse a path that is not a table of text."""
    if _suffix(path) not in SEPARATORS:
        msg = f"{path} must end in {', '.join(SEPARATORS)}"
        raise InputError(msg)


def _suffix(path: str | Path) -> str:
    name = str(path).lower()
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    if not found:
        msg = f"{path} has a suffix of no known kind; give {', '.join(SUFFIXES)}"
        raise InputError(msg)
    return found[-1]


def _as_table(result: Result) -> pd.DataFrame:
    import pandas as pd

    return pd.DataFrame(result.values, index=result.obs.index, columns=result.columns)


def _write_h5ad(result: Result, target: Path, args: argparse.Namespace) -> None:
    from enformer_features.storage.export import to_anndata, write_h5ad

    adata = to_anndata(
        result.values,
        result.obs,
        result.columns,
        provenance=result.provenance,
        make_unique=args.make_unique,
    )
    write_h5ad(adata, target, overwrite=args.overwrite)


def _write_npz(result: Result, target: Path) -> None:
    import numpy as np

    from enformer_features.storage.files import atomic_write

    names, reasons = (result.obs.index, result.obs["reason"])
    with (
        atomic_write(target, bytes_needed=result.values.nbytes) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(
            file,
            values=result.values,
            names=np.array(names, dtype=str),
            columns=np.array(result.columns, dtype=str),
            reasons=np.array(reasons, dtype=str),
            provenance=np.array(json.dumps(result.provenance)),
        )
