"""Scores of an explanation as tables and arrays, which say where they come from."""

from __future__ import annotations

import gzip
import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.genomics.windows import BIN_SIZE
from enformer_features.report.explanation import Explanation
from enformer_features.storage.files import atomic_write
from enformer_features.variant_effect.caution import comment_lines

Floats = npt.NDArray[np.float32]


def score_tables(found: Explanation) -> Iterator[pd.DataFrame]:
    """Yield the scores of one region after another.

    Parameters
    ----------
    found : Explanation

    Yields
    ------
    DataFrame
        ``name`` of the region, then one row per base (``chrom``, ``start``,
        ``letter``, ``score``, and what each of A, C, G, T would add), per substitution
        (``chrom``, ``pos``, ``ref``, ``alt``, ``effect``), or per bin that is attended
        to (``chrom``, ``start``, ``end``, ``weight``). Bases past the contig have no
        row. None for rows with a reason.
    """
    for row, window in enumerate(found.windows.to_dict("records")):
        if window["reason"]:
            continue
        if found.contributions is not None:
            within = found.contributions.within_contig(row)
            table = found.contributions.to_frame(row, *within)
        elif found.mutagenesis:
            table = found.mutagenesis[row].to_frame()
            table = table.set_axis([*table.columns[:-1], "effect"], axis=1)
        else:
            assert found.attention is not None
            table = _bins(found.attention.weights[row], window)
        table.insert(0, "name", window["name"])
        yield table


def _bins(weights: Any, window: Mapping[Any, Any]) -> pd.DataFrame:
    starts = int(window["window_start"]) + BIN_SIZE * np.arange(len(weights))
    return pd.DataFrame(
        {
            "chrom": window["chrom"],
            "start": starts,
            "end": starts + BIN_SIZE,
            "weight": weights,
        }
    )


def write_scores(found: Explanation, target: Path) -> None:
    """Write the scores as a table, below comments; gzipped if its name says so."""
    is_packed = target.suffix == ".gz"
    with (
        atomic_write(target) as temporary,
        gzip.open(temporary, "wt") if is_packed else temporary.open("w") as file,
    ):
        file.writelines(f"{line}\n" for line in comment_lines(found.about))
        file.writelines(f"{line}\n" for line in _missing_lines(found))
        for number, table in enumerate(score_tables(found)):
            _append(table, file, header=number == 0)


def _missing_lines(found: Explanation) -> Iterator[str]:
    """Say of which regions there are no scores, and why."""
    for window in found.windows.to_dict("records"):
        if window["reason"]:
            yield f"##enformer_features_no_scores={window['name']}: {window['reason']}"


def write_table(table: pd.DataFrame, target: Path, about: Mapping[str, Any]) -> None:
    """Write a table below comments that say where it comes from."""
    with atomic_write(target) as temporary, temporary.open("w") as file:
        file.writelines(f"{line}\n" for line in comment_lines(about))
        _append(table, file, header=True)


def _append(table: pd.DataFrame, file: Any, *, header: bool) -> None:
    table.to_csv(file, sep="\t", index=False, float_format="%.6g", header=header)


def write_bedgraph(found: Explanation, target: Path) -> None:
    """Write the scores of gradients as bedGraph, below comments."""
    assert found.contributions is not None
    is_packed = target.suffix == ".gz"
    with tempfile.TemporaryDirectory() as folder:
        scores = found.contributions.write_bedgraph(Path(folder, "scores.bedgraph"))
        with (
            atomic_write(target) as temporary,
            gzip.open(temporary, "wt") if is_packed else temporary.open("w") as file,
            scores.open() as lines,
        ):
            file.writelines(f"{line}\n" for line in comment_lines(found.about))
            shutil.copyfileobj(lines, file)


def write_arrays(found: Explanation, target: Path) -> None:
    """Write the scores as ``.npz``.

    It holds ``name``, ``chrom``, ``window_start``, ``window_end``, ``reason``, and of
    gradients ``codes`` (A C G T N = 0 .. 4), ``scores``, ``hypothetical`` (n, length,
    4) and ``prediction``; of mutagenesis ``start``, ``ref`` and ``effects`` (n,
    positions, 4; NaN past the end of regions that their contig cuts short); of
    attention ``weights`` (n, bins); and ``provenance``, as JSON.
    """
    windows = found.windows
    places = ("window_start", "window_end")
    arrays: dict[str, Any] = {
        **{n: windows[n].to_numpy(str) for n in ("name", "chrom", "reason")},
        **{name: windows[name].to_numpy(np.int64) for name in places},
        "provenance": np.array(json.dumps(dict(found.about))),
    }
    if found.contributions is not None:
        of_bases = found.contributions
        arrays["codes"] = of_bases.codes
        arrays["scores"] = of_bases.scores
        arrays["hypothetical"] = of_bases.hypothetical
        arrays["prediction"] = of_bases.prediction
    elif found.mutagenesis:
        arrays["start"] = np.array([one.start for one in found.mutagenesis])
        arrays["ref"] = np.array([one.ref for one in found.mutagenesis])
        arrays["effects"] = _stacked([one.effects[..., 0] for one in found.mutagenesis])
    elif found.attention is not None:
        arrays["weights"] = found.attention.weights
    size = sum(array.nbytes for array in arrays.values())
    with (
        atomic_write(target, bytes_needed=size) as temporary,
        temporary.open("wb") as file,
    ):
        np.savez(file, **arrays)


def _stacked(effects: Sequence[Floats]) -> Floats:
    """Stack (positions, 4) of regions; NaN stands behind the shorter ones."""
    longest = max(map(len, effects))
    padding = [((0, longest - len(one)), (0, 0)) for one in effects]
    padded = [
        np.pad(one, pad, constant_values=np.nan)
        for one, pad in zip(effects, padding, strict=True)
    ]
    return np.stack(padded)
