"""What an evaluation found: tables, predictions and their origin, printed and kept."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from enformer_features.estimators.splits.leakage import LeakageReport
from enformer_features.exceptions import InputError
from enformer_features.storage.files import atomic_write, check_output

FILES = (
    "table.tsv",
    "table.md",
    "gains.tsv",
    "per_target.tsv",
    "predictions.tsv.gz",
    "record.json",
)
_NUMBERS = ("median", "q25", "q75", "low", "high")


@dataclass(frozen=True)
class Evaluation:
    """Scores of models beside those of their baselines, and what lies behind them.

    Parameters
    ----------
    table : DataFrame
        One row per split, model or baseline, and axis: ``split``, ``model``, ``role``
        ("model" or "baseline"), ``weights`` (of the network, "" for none), ``axis``
        ("across genes": one score per target; "across tissues": one per row),
        ``metric``, ``n_rows`` (tested), ``n_scored``, ``median``, ``q25`` and ``q75``
        of the scores, ``low`` and ``high`` of the median (5th and 95th percentile
        over draws of whole groups; NaN with fewer than 3 groups, or when most draws
        have no score), and ``note``.
    gains : DataFrame
        One row per split, model, baseline and axis: ``median`` of how much the scores
        are above the baseline's, target by target, with its ``low`` and ``high``.
    per_target : DataFrame
        One row per split, model and target: ``pearson``, ``spearman``, ``r2`` across
        genes, ``n``, and ``reason``: why there is no score, or "".
    predictions : dict of str to dict of str to DataFrame
        Split, then model, to predictions of the tested rows, out of fold.
    observed : DataFrame, shape (n_rows, n_targets)
        What was measured.
    leakage : dict of str to LeakageReport
        What tested rows share with training rows, per split; none without regions.
    provenance : dict
        Models, features, weights, splits, settings and versions, as plain types.

    See Also
    --------
    enformer_features.plotting.save_figures : Draws an evaluation.
    """

    table: pd.DataFrame
    gains: pd.DataFrame
    per_target: pd.DataFrame
    predictions: Mapping[str, Mapping[str, pd.DataFrame]]
    observed: pd.DataFrame
    leakage: Mapping[str, LeakageReport]
    provenance: Mapping[str, Any]

    def scores(self, split: str, metric: str | None = None) -> pd.DataFrame:
        """Return the scores across genes of one split, a column per model.

        Parameters
        ----------
        split : str
        metric : {"pearson", "spearman", "r2"}, optional
            By default that of the table.

        Returns
        -------
        DataFrame, shape (n_targets, n_models)
            NaN where a target could not be scored.

        Raises
        ------
        InputError
            When there is no such split.
        """
        if split not in self.predictions:
            known = ", ".join(repr(name) for name in self.predictions)
            msg = f"split={split!r} was not evaluated; there are {known}"
            raise InputError(msg)
        rows = self.per_target[self.per_target["split"] == split]
        name = metric or self.provenance["metric"]
        columns = {
            model: of_model.set_index("target")[name]
            for model, of_model in rows.groupby("model", sort=False)
        }
        return pd.DataFrame(columns)

    def __str__(self) -> str:
        """Return the table as text, gains below it, and what leaks."""
        shown = _for_reading(self.table).to_string(index=False)
        parts = [self._title(), shown]
        if len(self.gains):
            parts += ["", "above the baselines, target by target:"]
            parts.append(_for_reading(self.gains).to_string(index=False))
        return "\n".join([*parts, *self._remarks()])

    def to_markdown(self) -> str:
        """Return title, table, gains and remarks in Markdown.

        Returns
        -------
        str
        """
        parts = [self._title(), _markdown(_for_reading(self.table))]
        if len(self.gains):
            parts.append("Above the baselines, target by target:")
            parts.append(_markdown(_for_reading(self.gains)))
        remarks = "\n".join(f"- {remark}" for remark in self._remarks())
        return "\n\n".join([*parts, remarks]).rstrip() + "\n"

    def to_json(self) -> str:
        """Return tables, leakage and provenance; what is not finite becomes null.

        Returns
        -------
        str
        """
        record = {
            "table": _records(self.table),
            "gains": _records(self.gains),
            "leakage": {
                split: report.to_dict() for split, report in self.leakage.items()
            },
            "provenance": self.provenance,
        }
        return json.dumps(record, indent=2, default=str)

    def write(
        self, folder: str | PathLike[str], *, overwrite: bool = False
    ) -> list[Path]:
        """Write everything into a folder, each file whole or not at all.

        Parameters
        ----------
        folder : path
            Made if it is not there.
        overwrite : bool, default=False
            Whether files of an earlier evaluation may be replaced.

        Returns
        -------
        list of Path
            ``table.tsv``, ``table.md``, ``gains.tsv``, ``per_target.tsv``,
            ``predictions.tsv.gz`` (split, model, row, a column per target) and
            ``record.json``.

        Raises
        ------
        InputError, StoreError
            When a file is there already, or cannot be written.
        """
        targets = check_files(folder, overwrite=overwrite)
        stacked = [
            table.rename_axis("row").reset_index().assign(split=split, model=model)
            for split, of_split in self.predictions.items()
            for model, table in of_split.items()
        ]
        predictions = pd.concat(stacked)
        first = ["split", "model", "row"]
        others = [name for name in predictions.columns if name not in first]
        _write_table(self.table, targets["table.tsv"])
        _write_text(self.to_markdown(), targets["table.md"])
        _write_table(self.gains, targets["gains.tsv"])
        _write_table(self.per_target, targets["per_target.tsv"])
        _write_table(predictions[[*first, *others]], targets["predictions.tsv.gz"])
        _write_text(self.to_json() + "\n", targets["record.json"])
        return list(targets.values())

    def _title(self) -> str:
        known = self.provenance
        return (
            f"{known['metric']}, medians over {known['n_targets']} targets; "
            f"intervals: 5th to 95th percentile over {known['n_boot']} draws of groups"
        )

    def _remarks(self) -> list[str]:
        remarks = list(self.provenance.get("remarks", []))
        for split, facts in self.provenance["splits"].items():
            remarks.append(
                f"{split}: {facts['n_folds']} folds, {facts['n_tested']} of "
                f"{self.provenance['n_rows']} rows tested; drawn: {facts['drawn']}"
            )
            report = self.leakage.get(split)
            found = report.findings if report else ["no regions to look at"]
            remarks += [f"{split}, leaks: {text}" for text in found]
        return remarks


def check_files(
    folder: str | PathLike[str],
    names: Iterable[str] = FILES,
    *,
    overwrite: bool = False,
    inputs: Iterable[str] = (),
) -> dict[str, Path]:
    """Make the folder of an evaluation, and refuse files that are there already.

    Parameters
    ----------
    folder : path
    names : iterable of str, default=those of the tables
    overwrite : bool, default=False
    inputs : iterable of path
        Files that are read, which are never replaced.

    Returns
    -------
    dict of str to Path
        The files, by name.
    """
    place = Path(folder).expanduser()
    if place.exists() and not place.is_dir():
        msg = f"{place} is a file; the evaluation needs a folder"
        raise InputError(msg)
    place.mkdir(parents=True, exist_ok=True)
    inputs = list(inputs)
    return {
        name: check_output(place / name, overwrite=overwrite, inputs=inputs)
        for name in names
    }


def _for_reading(table: pd.DataFrame) -> pd.DataFrame:
    """Round, put quartiles and intervals into one column each, leave out what is one.

    Examples
    --------
    >>> table = pd.DataFrame({"model": ["a"], "median": [0.51234], "low": [0.4],
    ...                       "high": [np.nan], "note": [""]})
    >>> _for_reading(table).to_dict("records")
    [{'model': 'a', 'median': '0.512', 'interval': '0.400 .. -'}]
    """
    shown = table.drop(columns=[name for name in _NUMBERS if name in table])
    texts = {name: table[name].map(_text) for name in _NUMBERS if name in table}
    place = list(table.columns).index("median")
    spans = {"quartiles": ("q25", "q75"), "interval": ("low", "high")}
    columns = {"median": texts["median"]}
    for name, (low, high) in spans.items():
        if low in texts:
            columns[name] = texts[low] + " .. " + texts[high]
    for name, values in reversed(columns.items()):
        shown.insert(place, name, values)
    return shown.drop(columns=[n for n in ("note", "weights") if _is_empty(shown, n)])


def _is_empty(table: pd.DataFrame, column: str) -> bool:
    return column in table and bool((table[column] == "").all())


def _text(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _markdown(table: pd.DataFrame) -> str:
    """Return a table in Markdown.

    Examples
    --------
    >>> print(_markdown(pd.DataFrame({"model": ["ridge"], "median": ["0.5"]})))
    | model | median |
    | --- | --- |
    | ridge | 0.5 |
    """
    lines = [list(table.columns), ["---"] * table.shape[1]]
    lines += table.astype(str).to_numpy().tolist()
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)


def _records(table: pd.DataFrame) -> Any:
    return json.loads(table.to_json(orient="records"))


def _write_table(table: pd.DataFrame, target: Path) -> None:
    packing: Any = "gzip" if target.suffix == ".gz" else None
    with atomic_write(target) as temporary:
        table.to_csv(
            temporary, sep="\t", index=False, float_format="%.6g", compression=packing
        )


def _write_text(text: str, target: Path) -> None:
    with atomic_write(target) as temporary:
        temporary.write_text(text, encoding="utf-8")
