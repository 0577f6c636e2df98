import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from enformer_features.estimators.ridge.moments import Gram, Rows

ALPHAS = [0.5, 20.0]


def blocks_of(kind, rows, y, weights, cuts):
    """Add rows to three blocks, each in two pieces."""
    blocks = []
    for part in np.split(np.arange(len(rows)), cuts):
        block = kind(rows.shape[1], y.shape[1])
        for piece in np.array_split(part, 2):
            block.add(rows[piece], y[piece], weights[piece])
        blocks.append(block)
    return blocks


@given(
    seed=st.integers(0, 10_000),
    n_features=st.sampled_from([2, 5, 40]),
    scale=st.booleans(),
    centred=st.booleans(),
)
def test_sums_and_rows_give_the_same_ridge_and_the_same_errors(
    seed, n_features, scale, centred
):
    rng = np.random.default_rng(seed)
    rows, y = rng.normal(size=(23, n_features)), rng.normal(size=(23, 3)) + 1
    weights = rng.uniform(0.1, 3, 23)
    found = []
    for kind in (Gram, Rows):
        *fitted, tested = blocks_of(kind, rows, y, weights, [7, 16])
        total = kind.total(fitted)
        assert total.weight == pytest.approx(weights[:16].sum())
        path = total.path(scale=scale, centred=centred)
        errors = tested.squared_errors(path, ALPHAS)
        found.append((path.coefficients(0.5), errors))
    np.testing.assert_allclose(found[0][0], found[1][0], rtol=1e-6, atol=1e-9)
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=1e-6)


def test_a_part_of_the_targets_has_sums_of_its_own():
    rng = np.random.default_rng(0)
    rows, y, weights = rng.normal(size=(9, 2)), rng.normal(size=(9, 3)), np.ones(9)
    whole, alone = Gram(2, 3), Gram(2, 1)
    whole.add(rows[:5], y[:5], weights[:5])
    part = whole.of_targets(np.array([2]))
    part.add(rows[5:], y[5:, 2:], weights[5:])
    alone.add(rows, y[:, 2:], weights)
    for name in ("weight", "x", "y", "xx", "xy", "yy"):
        np.testing.assert_allclose(getattr(part, name), getattr(alone, name))
    assert whole.weight == 5
