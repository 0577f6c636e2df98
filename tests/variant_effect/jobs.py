"""Jobs whose scores are known without a network."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

REASON = "skipped: symbolic"


class KnownJob:
    """Scores by rule: row + 10 * column + 0.1; remembers what it was asked for."""

    def __init__(
        self,
        table: pd.DataFrame,
        scores: tuple[str, ...] = ("SAD", "max_bin"),
        targets: tuple[str, ...] = ("liver", "T cell", "T-cell"),
        *,
        weights: str = "enformer",
        stops_after: int | None = None,
        failing: tuple[int, ...] = (),
    ) -> None:
        self.table = table
        self.scores = scores
        self.targets = list(targets)
        self.weights, self.stops_after, self.failing = weights, stops_after, failing
        self.asked: list[list[int]] = []

    @property
    def names(self) -> list[str]:
        return [
            f"{score}__{target}" for score in self.scores for target in self.targets
        ]

    def __len__(self) -> int:
        return len(self.table)

    def order(self) -> np.ndarray:
        return np.random.default_rng(3).permutation(len(self))

    def compute(self, rows: Any) -> tuple[np.ndarray, np.ndarray]:
        if self.stops_after is not None and len(self.asked) >= self.stops_after:
            raise KeyboardInterrupt
        rows = np.asarray(rows)
        self.asked.append(rows.tolist())
        values = self.known()[rows]
        reasons = np.array(
            ["not finite" if row in self.failing else "" for row in rows], dtype=object
        )
        return values, reasons

    def known(self) -> np.ndarray:
        """Every row, as if none were skipped; whole numbers for bins."""
        rows, columns = np.arange(len(self))[:, None], np.arange(len(self.names))
        is_bin = np.repeat([s.endswith("_bin") for s in self.scores], len(self.targets))
        return (rows + 10 * columns + np.where(is_bin, 0, 0.1)).astype(np.float32)

    def expected(self) -> np.ndarray:
        """What is to come out: NaN for rows that were skipped or failed."""
        values = self.known()
        values[(self.table["reason"] != "").to_numpy()] = np.nan
        values[list(self.failing)] = np.nan
        return values

    def provenance(self) -> dict[str, Any]:
        return {"weights": self.weights, "device": "cpu", "score": list(self.scores)}

    def identity(self) -> str:
        return f"{self.weights} {self.scores} {self.table['pos'].tolist()}"


def variants(n: int = 7, **columns: Any) -> pd.DataFrame:
    """Variants of two contigs; the third of them cannot be scored."""
    first = (n + 1) // 2
    table = pd.DataFrame(
        {
            "chrom": ["chr6"] * first + ["9"] * (n - first),
            "pos": [*range(11, 11 + first), *range(5, 5 + n - first)],
            "id": [f"rs{i}" for i in range(n)],
            "ref": "A",
            "alt": ["CT" if i == 1 else "C" for i in range(n)],
            "record": range(n),
            "allele": 1,
            "reason": [REASON if i == 2 else "" for i in range(n)],
        }
    )
    return table.assign(**columns)
