"""How out-of-fold predictions become the tables of an evaluation."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from enformer_features.estimators.evaluation.fits import (
    TOO_FEW,
    Labels,
    Part,
    Places,
    Rows,
)
from enformer_features.estimators.metrics import (
    FEWEST_ROWS,
    score_across_genes,
    summary,
)
from enformer_features.exceptions import TargetWarning


@dataclass(frozen=True)
class Scoring:
    """How predictions become tables."""

    rows: Rows
    metric: str
    n_boot: int
    seed: int
    models: list[str]
    baselines: list[str]

    def of_split(
        self,
        split: str,
        guesses: Mapping[str, pd.DataFrame],
        tested: Places,
        parts: Mapping[str, Part],
    ) -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
        """Return table, gains and scores per target of one split."""
        truth = self.rows.observed.iloc[tested]
        labels, _ = self.rows.draws(tested)
        axes = ["genes"] + ["tissues"] * (truth.shape[1] >= FEWEST_ROWS)
        table, gains, per_target = [], [], []
        for name, guess in guesses.items():
            role = "model" if name in self.models else "baseline"
            of_model = {"split": split, "model": name}
            for axis in axes:
                found = self._summary(truth, guess, labels, axis)
                n_unscored = found["n_unscored"]
                notes = [parts[name].note]
                if n_unscored:
                    notes.append(f"{n_unscored} not scored")
                numbers = _numbers(found, "n_scored", "median", "q25", "q75")
                lacks_interval = np.isnan(numbers["low"]) and found["n_scored"]
                if self.rows.has_groups() and lacks_interval:
                    notes.append(TOO_FEW)
                table.append(
                    {
                        **of_model,
                        "role": role,
                        "weights": parts[name].weights,
                        "axis": found["axis"],
                        "metric": self.metric,
                        "n_rows": len(truth),
                        **numbers,
                        "note": "; ".join(filter(None, notes)),
                    }
                )
                for baseline in self.baselines if role == "model" else []:
                    other = guesses[baseline]
                    gain = self._summary(truth, guess, labels, axis, other)
                    gains.append(
                        {
                            **of_model,
                            "baseline": baseline,
                            "axis": gain["axis"],
                            "metric": self.metric,
                            **_numbers(gain, "n_scored", "median"),
                        }
                    )
            scores = score_across_genes(truth, guess).rename_axis("target")
            per_target.append(scores.reset_index().assign(**of_model))
        wide = pd.concat(per_target)
        first = ["split", "model", "target"]
        others = [name for name in wide.columns if name not in first]
        return pd.DataFrame(table), pd.DataFrame(gains), wide[[*first, *others]]

    def _summary(
        self,
        truth: pd.DataFrame,
        guess: pd.DataFrame,
        labels: Labels | None,
        axis: Any,
        baseline: pd.DataFrame | None = None,
    ) -> pd.Series[Any]:
        with warnings.catch_warnings():  # constant targets were told of before
            warnings.simplefilter("ignore", TargetWarning)
            of_metrics = summary(
                truth,
                guess,
                labels,
                across=axis,
                baseline=baseline,
                n_boot=self.n_boot,
                seed=self.seed,
            )
        return of_metrics.T[self.metric]


def _numbers(found: pd.Series[Any], *names: str) -> dict[str, float]:
    """Return some numbers of a summary, and its interval, NaN where there is none."""
    has_score = np.isfinite(found["median"])
    bounds = {
        name: found.get(name, np.nan) if has_score else np.nan
        for name in ("low", "high")
    }
    return {name: found[name] for name in names} | bounds
