"""training/validation.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from enformer_features.model.enformer import Enformer
from enformer_features.model.recompute import one_hot
from enformer_features.training.batches import Loaded, Sampling
from enformer_features.training.forward import TrackForward
from enformer_features.training.parallel import Ranks
from enformer_features.training.scale import TargetScale
from enformer_features.training.validation import PearsonSums, tiled, validate
from tests.training.worlds import TINY, windows

ALONE = Ranks(0, 1, torch.device("cpu"))
SAMPLING = Sampling(1024, 4, batch_size=2)


def test_streamed_correlations_are_those_of_numpy() -> None:
    draws = np.random.default_rng(0)
    x, y = draws.normal(1e4, 1, (2, 60, 3))
    y += x
    sums = PearsonSums(3)
    for part in np.split(np.arange(60), [7, 30]):
        sums.add(torch.from_numpy(x[part]), torch.from_numpy(y[part]))
    expected = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(3)]
    assert sums.correlations() == pytest.approx(expected, rel=1e-6)


def test_missing_values_are_left_out_and_constants_have_no_correlation() -> None:
    x = torch.tensor([[1.0, 1.0], [2.0, 1.0], [9.0, 1.0], [3.0, 1.0]])
    y = torch.tensor([[2.0, 1.0], [4.0, 2.0], [float("nan"), 3.0], [6.0, 4.0]])
    sums = PearsonSums(2)
    sums.add(x, y)
    first, second = sums.correlations()
    assert first == pytest.approx(1)
    assert np.isnan(second)


@pytest.mark.parametrize("n_bins", [8, 4, 3, 5])
def test_tiles_hold_every_target_once(n_bins: int) -> None:
    base = windows(2)
    sampling = Sampling(512 + n_bins * 128, n_bins, batch_size=2)
    tiles = [targets for _, targets in tiled(base, sampling)]
    values = np.concatenate(tiles)
    kept = values[~np.isnan(values).any(axis=-1)]
    assert (kept == base.targets.reshape(-1, 3)).all()


def test_tiles_hold_the_letters_of_their_targets() -> None:
    for codes, targets in tiled(windows(2), Sampling(896, 3, batch_size=1)):
        bins = codes[256:-256].reshape(3, 128)
        known = ~np.isnan(targets[:, 0])
        assert ((bins == 2).sum(axis=1)[known] == targets[known, 0]).all()


def test_validation_predicts_every_bin_and_averages_by_assay() -> None:
    torch.manual_seed(0)
    network = Enformer(TINY.from_dict({**TINY.to_dict(), "output_heads": {"human": 3}}))
    network.eval()
    base = windows(2)
    scale = TargetScale(torch.tensor([2.0, 3.0, 4.0]), "sqrt")
    shards = [Loaded(base)]
    result = validate(TrackForward(network), shards, "human", SAMPLING, scale, ALONE)
    halves = [base.codes[:, at : at + 1024] for at in (256, 768)]
    with torch.no_grad():
        predicted = [
            network(one_hot(torch.from_numpy(half)), output="tracks").square().numpy()
            for half in halves
        ]
    means = np.array([2.0, 3.0, 4.0])
    x = np.concatenate(predicted, axis=1).reshape(-1, 3)
    y = base.targets.reshape(-1, 3) / means
    raw = [np.corrcoef(x[:, i], y[:, i])[0, 1] for i in range(3)]
    log = [np.corrcoef(np.log1p(x[:, i]), np.log1p(y[:, i]))[0, 1] for i in range(3)]
    assert result.pearson == pytest.approx(raw, abs=1e-5)
    assert result.pearson_log == pytest.approx(log, abs=1e-5)
    table = result.by_assay()
    assert list(table.index) == ["CAGE", "DNASE"]
    assert table.loc["CAGE", "pearson"] == pytest.approx(np.mean(raw[:2]), abs=1e-5)
