"""Attention: how much the bins of a TSS look at every bin of their window."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from torch import Tensor

from enformer_features.estimators.fitted import split_model
from enformer_features.estimators.parameters import check_parameters
from enformer_features.estimators.streaming import changed
from enformer_features.exceptions import InputError, check_choice
from enformer_features.genomics.windows import BIN_SIZE
from enformer_features.inference.pooling import BIN_WORDS, Pool
from enformer_features.inference.precision import arithmetic
from enformer_features.inference.prepared import Prepared, prepared_once
from enformer_features.interpret.rows import Reading, Rows
from enformer_features.model.layers import TransformerBlock
from enformer_features.model.positional import position_features
from enformer_features.model.registry import load_weights

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class AttentionMap:
    """Where the bins of every region look; from :func:`attention`.

    Parameters
    ----------
    table : DataFrame
        One row per region, as in :class:`~enformer_features.Contributions`;
        ``pool_start`` and ``pool_end`` are the bases of the bins that look.
    weights : ndarray of float32, shape (n, n_positions)
        Mean over layers, heads and the bins that look, for every bin of the window in
        the genome's direction, from ``window_start``. A row adds up to 1.
    by_head : ndarray of float32, shape (n, layers, heads, n_positions), optional
    about : dict
        What the values depend on, as plain types.
    """

    table: pd.DataFrame
    weights: Floats
    by_head: Floats | None = None
    about: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        """Return the number of regions."""
        return len(self.table)

    def of_interval(self, start: int, end: int, row: int = 0) -> float:
        """Return what the bins that an interval of the genome overlaps add up to.

        Parameters
        ----------
        start, end : int
            0-based half-open, within the row's window.
        row : int, default=0
            Number of the region.

        Returns
        -------
        float

        Raises
        ------
        InputError
            When the interval reaches past the window: nobody can look there.
        """
        first = int(self.table["window_start"].iloc[row])
        last = int(self.table["window_end"].iloc[row])
        if not first <= start < end <= last:
            msg = (
                f"{start}-{end} does not lie within row {row}'s window "
                f"{first}-{last}; no bin attends to what is beyond it"
            )
            raise InputError(msg)
        low, high = (start - first) // BIN_SIZE, -((first - end) // BIN_SIZE)
        return float(self.weights[row, low:high].sum())


def attention(
    model: Any, X: Any, bins: str | tuple[int, int] = "tss", *, by_head: bool = False
) -> AttentionMap:
    """Average the attention of some bins to every bin, over layers and heads.

    Parameters
    ----------
    model : EnformerEmbedder or Pipeline
        Its embedder is used: attention knows nothing of heads.
    X : table or sequence of regions or sequences, n_rows
        As the embedder takes it.
    bins : str or (int, int), default="tss"
        The bins that look: ``"tss"``, ``"center"``, ``"all"``, ``"region"``, or a
        half-open range relative to the TSS bin.
    by_head : bool, default=False
        Keep every layer and head beside their mean.

    Returns
    -------
    AttentionMap
        Row *i* is row *i* of ``X``.

    Raises
    ------
    InputError, InputTypeError, GenomeError, WeightsError
        As the embedder's ``transform`` does.

    Notes
    -----
    Directions and shifts are averaged bin by bin. Attention says where information may
    come from, not how much of it changes a prediction.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196, Figure 2 and Methods.

    Examples
    --------
    >>> import warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> embedder = EnformerEmbedder("untrained-tiny", sequence_length=1024)
    >>> found = attention(embedder, ["ACGT" * 256])
    >>> found.weights.shape, round(float(found.weights.sum()), 3)
    ((1, 8), 1.0)
    """
    embedder, _ = split_model(model)
    check_parameters(embedder)
    if isinstance(bins, str):
        check_choice("bins", bins, BIN_WORDS)
    run = changed(
        embedder,
        output="embedding",
        tracks=None,
        pooling=Pool("attending", bins),
        cache=None,
    )
    rows = Rows(run, X)
    job = rows.job
    job.warn_about_windows(stacklevel=4)
    geometry, config = job.recipe.geometry, job.recipe.config
    shape = len(rows), config.depth, config.heads, geometry.n_positions
    found = np.full(shape if by_head else (*shape[:1], 1, 1, shape[3]), np.nan)
    module = load_weights(run.weights, str(job.backend.device)).module
    prepared = prepared_once(module, job.backend.precision)
    for row in map(int, job.layout.good_rows):
        low, high = (job.bins[0][row, :2] + geometry.crop_bins).tolist()
        readings = rows.readings(row)
        with torch.inference_mode(), arithmetic(job.backend.precision):
            of_readings = [
                _of_reading(prepared, reading, (low, high)) for reading in readings
            ]
        mean = np.mean(of_readings, axis=0)
        found[row] = mean if by_head else mean.mean(axis=(0, 1))
    values = found.astype(np.float32)
    return AttentionMap(
        rows.table,
        found.mean(axis=(1, 2)).astype(np.float32),
        values if by_head else None,
        {**run.provenance(), "method": "attention", "bins": repr(bins)},
    )


def _of_reading(
    prepared: Prepared, reading: Reading, bins: tuple[int, int]
) -> npt.NDArray[np.float64]:
    """Return what bins attend to, (layers, heads, n_positions), in the genome's way."""
    letters = torch.from_numpy(reading.codes[None]).to(prepared.device)
    x = prepared.tower(letters)
    n = x.shape[1]
    queries = (n - bins[1], n - bins[0]) if reading.flip else bins
    positions = position_features(n, prepared.config.value_dim).to(x)
    layers: list[Tensor] = []
    for block in prepared.network.transformer:
        assert isinstance(block, TransformerBlock)
        weights = block.attention.weights(block.attention_norm(x), positions)
        layers.append(weights[0, :, slice(*queries)].mean(dim=1))  # (heads, n)
        x = block(x, positions)
    found = torch.stack(layers).double().cpu().numpy()
    return found[..., ::-1] if reading.backward else found
