"""A page about an evaluation: models beside their baselines, target by target."""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from enformer_features.estimators.evaluation.result import Evaluation
from enformer_features.plotting.evaluation import (
    plot_against_baseline,
    plot_by_split,
    plot_predictions,
)
from enformer_features.report.caution import EVALUATION_CAUTION, cautions_of
from enformer_features.report.page import (
    Page,
    bullets,
    cautions,
    paragraph,
    picture,
    record,
    table,
)

N_PANELS = 12
_EMPTY = ("note", "weights")  # columns that are left out when nothing is in them
N_GENES = 15


def evaluation_page(
    evaluation: Evaluation,
    path: str | PathLike[str],
    *,
    title: str = "Evaluation",
    overwrite: bool = False,
) -> Path:
    """Write an evaluation as one HTML file that needs nothing else.

    Parameters
    ----------
    evaluation : Evaluation
        From :func:`~enformer_features.evaluate` or a protocol.
    path : path
    title : str, default="Evaluation"
    overwrite : bool, default=False

    Returns
    -------
    Path

    Raises
    ------
    InputError, StoreError
        When the file is there already, or cannot be written.
    MissingDependencyError
        If matplotlib is not installed.
    """
    found = evaluation
    page = Page(title)
    networks = _networks(found)
    lines, n_loud = cautions_of(networks, EVALUATION_CAUTION)
    page.add(_summary(found), cautions(lines, n_loud=n_loud))
    page.section("Scores", *_scores(found))
    for split in found.predictions:
        page.section(f"Targets, split {split}", *_targets(found, split))
        page.section(f"Predictions, split {split}", *_predictions(found, split))
        page.section(f"Genes, split {split}", *_genes(found, split))
    page.section("Leakage", *_leakage(found))
    page.section("Provenance", record("settings, versions, digests", found.provenance))
    return page.write(path, overwrite=overwrite)


def gene_errors(observed: pd.DataFrame, predicted: pd.DataFrame) -> pd.DataFrame:
    """Say for every row how far its predictions are from what was measured.

    Parameters
    ----------
    observed, predicted : DataFrame, shape (n_rows, n_targets)
        Of the same rows.

    Returns
    -------
    DataFrame
        One row for each that has a value, the best predicted first: ``row``,
        ``error`` (mean over targets of the absolute difference, in standard deviations
        of the target's measurements), ``observed``, ``predicted`` (means over the
        targets that were measured) and ``n_targets``.

    Examples
    --------
    >>> observed = pd.DataFrame({"liver": [0.0, 2.0]}, index=["a", "b"])
    >>> predicted = pd.DataFrame({"liver": [1.0, 2.0]}, index=["a", "b"])
    >>> gene_errors(observed, predicted)
      row  error  observed  predicted  n_targets
    0   b    0.0       2.0        2.0          1
    1   a    1.0       0.0        1.0          1
    """
    truth = observed.to_numpy(np.float64)
    guess = predicted.to_numpy(np.float64)
    known = np.isfinite(truth) & np.isfinite(guess)
    truth, guess = np.where(known, truth, np.nan), np.where(known, guess, np.nan)
    rows = np.flatnonzero(known.any(axis=1))
    spread = np.nanstd(truth[rows], axis=0) if len(rows) else np.ones(truth.shape[1])
    errors = np.abs(truth - guess)[rows] / np.where(spread > 0, spread, 1.0)
    table = pd.DataFrame(
        {
            "row": observed.index[rows].astype(str),
            "error": np.nanmean(errors, axis=1) if len(rows) else [],
            "observed": np.nanmean(truth[rows], axis=1) if len(rows) else [],
            "predicted": np.nanmean(guess[rows], axis=1) if len(rows) else [],
            "n_targets": known[rows].sum(axis=1),
        }
    )
    return table.sort_values("error", kind="stable", ignore_index=True)


def _networks(found: Evaluation) -> list[Mapping[str, Any]]:
    """Return what is known of the networks of the models; baselines are no concern."""
    models = found.provenance["models"].values()
    return [m.get("features", {}) for m in models if m["role"] == "model"]


def _first_model(found: Evaluation) -> str:
    return str(found.table["model"].iloc[0])


def _baselines(found: Evaluation) -> list[str]:
    is_baseline = found.table["role"] == "baseline"
    return list(dict.fromkeys(found.table.loc[is_baseline, "model"]))


def _best_baseline(found: Evaluation, scores: pd.DataFrame) -> str | None:
    medians = scores[_baselines(found)].median().dropna()
    return str(medians.idxmax()) if len(medians) else None


def _summary(found: Evaluation) -> str:
    known = found.provenance
    return paragraph(
        f"{known['n_rows']:,} rows, {known['n_targets']:,} targets, splits: "
        f"{', '.join(found.predictions)}. All predictions are out of fold; scores are "
        f"{known['metric']}.",
        "soft",
    )


def _scores(found: Evaluation) -> list[str]:
    shown = found.table.drop(
        columns=["metric", *(n for n in _EMPTY if (found.table[n] == "").all())]
    )
    draws = found.provenance["n_boot"]
    parts = [
        picture(
            plot_by_split(found.table),
            "Median score of every model on every split",
            "Look whether a model's interval lies above those of the hollow baselines. "
            f"Lines: 5th to 95th percentile of the median over {draws} draws of whole "
            "groups.",
        ),
        table(
            shown,
            "One row per split, model and axis. q25, q75: quartiles over what is "
            "scored; low, high: interval of the median.",
        ),
    ]
    if len(found.gains):
        parts.append(
            table(found.gains, "How far models are above baselines, target by target.")
        )
    return parts


def _targets(found: Evaluation, split: str) -> list[str]:
    scores = found.scores(split)
    best = _best_baseline(found, scores)
    rows = scores.rename_axis("target").reset_index()
    caption = f"{found.provenance['metric']} across rows, a column per model."
    if best is not None:
        models = [name for name in scores if name not in _baselines(found)]
        above = (scores[models[0]] - scores[best]).to_numpy()
        rows.insert(2, f"{models[0]} - {best}", above)
        rows = rows.sort_values(rows.columns[2], ascending=False, na_position="last")
        caption += f" The best baseline here is {best}."
    parts = [table(rows, caption)]
    if best is not None:
        shown = scores[[*models, best]]
        metric = f"{found.provenance['metric']} across genes"
        figure = plot_against_baseline(shown, best, score=metric)
        parts.insert(
            0,
            picture(
                figure,
                f"Scores of the models over those of {best}, target by target",
                "A dot per target. Look how many lie above the diagonal, and how far: "
                "these the model predicts better than the best baseline does.",
            ),
        )
    unscored = found.per_target[
        (found.per_target["split"] == split) & (found.per_target["reason"] != "")
    ]
    if len(unscored):
        columns = ["model", "target", "n", "reason"]
        parts.append(table(unscored[columns], "Targets without a score."))
    return parts


def _predictions(found: Evaluation, split: str) -> list[str]:
    model = _first_model(found)
    predicted = found.predictions[split][model].iloc[:, :N_PANELS]
    observed = _observed(found, predicted)
    n_targets = found.observed.shape[1]
    some = f" The first {N_PANELS} of {n_targets} targets." * (n_targets > N_PANELS)
    figure = plot_predictions(observed, predicted, note=f"{model}, out of fold")
    caption = (
        "One dot per tested row, each predicted by a head that has not seen its fold. "
        "Look at the spread around the trend, and for clusters that a single number "
        f"hides.{some}"
    )
    return [picture(figure, f"Predictions of {model}", caption, dots=True)]


def _genes(found: Evaluation, split: str) -> list[str]:
    model = _first_model(found)
    predicted = found.predictions[split][model]
    errors = gene_errors(_observed(found, predicted), predicted)
    n = min(N_GENES, len(errors) // 2)
    if not n:
        return []
    unit = "error: mean absolute difference in standard deviations of a target."
    return [
        "<h3>Worst predicted</h3>",
        table(errors.iloc[::-1][:n], f"{model}, {n} of {len(errors):,} rows. {unit}"),
        "<h3>Best predicted</h3>",
        table(errors[:n], f"{model}, {n} of {len(errors):,} rows. {unit}"),
        paragraph(
            "A row near the mean of its target is easily among the best: look at what "
            "was observed before believing in it.",
            "soft",
        ),
    ]


def _observed(found: Evaluation, predicted: pd.DataFrame) -> pd.DataFrame:
    """Return what was measured, of the rows and targets that were predicted."""
    rows = found.observed.index.isin(predicted.index)
    return found.observed.loc[rows, predicted.columns]


def _leakage(found: Evaluation) -> list[str]:
    lines = []
    for split, facts in found.provenance["splits"].items():
        lines.append(
            f"{split}: {facts['n_folds']} folds, {facts['n_tested']} of "
            f"{found.provenance['n_rows']} rows tested; drawn: {facts['drawn']}"
        )
        report = found.leakage.get(split)
        if report is None:
            lines.append(f"{split}: there are no regions to look at")
            continue
        lines += [f"{split}, leaks: {text}" for text in report.findings]
        if not report.findings:
            lines.append(f"{split}: tested windows overlap no training window")
        if "learnt" not in report.folds:
            lines.append(
                f"{split}: not looked at: whether the network itself learnt from the "
                "tested regions (trained_regions)"
            )
    return [bullets([*found.provenance.get("remarks", []), *lines])]
