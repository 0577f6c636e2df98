from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch import nn

from enformer_features.model import EnformerConfig, position_features
from enformer_features.model.enformer import Enformer
from enformer_features.model.layers import (
    TRUNCATED_DEVIATION,
    Attention,
    ConvBlock,
    FinalPointwise,
    Head,
    SoftmaxPool,
    Stem,
    TowerBlock,
    TransformerBlock,
    gelu,
    relative_shift,
)
from tests.model import parity


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(20)


def attention(dim=36, heads=3, key_dim=5, attn_dropout=0.0, pos_dropout=0.0):
    layer = Attention(
        dim,
        heads=heads,
        key_dim=key_dim,
        attn_dropout=attn_dropout,
        pos_dropout=pos_dropout,
    )
    nn.init.normal_(layer.to_out.weight, std=0.2)
    return layer


def test_the_relative_shift_is_that_of_the_original(shared):
    tables = parity.read(shared, "positional_features")
    shifted = relative_shift(torch.from_numpy(tables["shift_in"]))
    np.testing.assert_array_equal(shifted.numpy(), tables["shift_out"])


def test_the_relative_shift_picks_the_column_of_key_minus_query():
    n = 7
    logits = torch.randn(2, 3, n, 2 * n - 1)
    i, j = torch.meshgrid(torch.arange(n), torch.arange(n), indexing="ij")
    assert torch.equal(relative_shift(logits), logits[..., i, n - 1 - i + j])


def test_gelu_is_the_sigmoid_form():
    assert gelu(torch.tensor(1.0)).item() == pytest.approx(1 / (1 + math.exp(-1.702)))


def test_softmax_pooling_weighs_a_pair_per_channel_with_mixed_logits():
    pool = SoftmaxPool(2)
    matrix = torch.tensor([[1.0, 2.0], [0.0, -1.0]])
    pool.logits.weight.data = matrix[:, :, None]
    pair = torch.tensor([[0.5, -1.0], [0.25, 0.75]])  # (channel, position)
    weights = (matrix @ pair).softmax(dim=1)
    expected = (weights * pair).sum(dim=1)
    torch.testing.assert_close(pool(pair[None])[0, :, 0], expected)


def test_attention_is_the_sum_over_keys_of_the_formula():
    dim, heads, key_dim, n = 36, 3, 5, 7
    layer = attention(dim, heads, key_dim).eval()
    x, table = torch.randn(1, n, dim), position_features(n, dim // heads)
    with torch.no_grad():
        query = layer.to_query(x)[0].view(n, heads, key_dim) / math.sqrt(key_dim)
        key = layer.to_key(x)[0].view(n, heads, key_dim)
        value = layer.to_value(x)[0].view(n, heads, dim // heads)
        far = layer.to_position_key(table).view(2 * n - 1, heads, key_dim)
        u, w = layer.content_bias[:, 0], layer.position_bias[:, 0]
        rows = []
        for i in range(n):
            logits = torch.stack(
                [
                    ((query[i] + u) * key[j]).sum(-1)
                    + ((query[i] + w) * far[j - i + n - 1]).sum(-1)
                    for j in range(n)
                ]
            )
            weights = logits.softmax(dim=0)  # (n, heads)
            rows.append((weights[:, :, None] * value).sum(0).flatten())
        expected = layer.to_out(torch.stack(rows))
        torch.testing.assert_close(layer(x, table)[0], expected)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (ConvBlock(3, 5, 7), (2, 3, 11), (2, 5, 11)),
        (SoftmaxPool(3), (2, 3, 22), (2, 3, 11)),
        (Stem(5), (2, 4, 22), (2, 5, 11)),
        (TowerBlock(3, 5), (2, 3, 22), (2, 5, 11)),
        (FinalPointwise(5, 0.1), (2, 11, 5), (2, 11, 10)),
        (Head(5, 13), (2, 11, 5), (2, 11, 13)),
    ],
)
def test_layers_map_shapes_as_they_say(layer, shape, expected):
    assert layer(torch.randn(shape)).shape == expected


def test_tracks_are_positive():
    assert (Head(5, 13)(10 * torch.randn(2, 11, 5)) > 0).all()


@pytest.fixture(scope="module")
def fresh():
    torch.manual_seed(3)
    return Enformer(EnformerConfig(dim=192, depth=3, heads=8, dim_divisible_by=64))


def deviation_and_limit(weight):
    return weight.std().item(), weight.abs().max().item()


def test_convolutions_perceptrons_and_heads_start_as_cut_normals(fresh):
    block = fresh.transformer[1]
    for layer in (
        fresh.stem.pointwise.conv,
        fresh.conv_tower[2].wide.conv,
        fresh.final_pointwise.block.conv,
        block.mlp_in,
        block.mlp_out,
        fresh.heads["mouse"].linear,
    ):
        std, most = deviation_and_limit(layer.weight)
        uncut = 1 / math.sqrt(layer.weight[0].numel())
        assert std == pytest.approx(TRUNCATED_DEVIATION * uncut, rel=0.02)
        assert most <= 2 * uncut
        assert not layer.bias.any()


def test_projections_of_attention_start_with_variance_two_over_fan_in(fresh):
    layer = fresh.transformer[0].attention
    for linear in (
        layer.to_query,
        layer.to_key,
        layer.to_value,
        layer.to_position_key,
    ):
        std, most = deviation_and_limit(linear.weight)
        wanted = math.sqrt(2 / linear.in_features)
        assert std == pytest.approx(wanted, rel=0.02)
        assert most <= 2 * wanted / TRUNCATED_DEVIATION


def test_attention_biases_start_with_a_deviation_of_a_half(fresh):
    biases = torch.stack(
        [b.attention.content_bias for b in fresh.transformer]
        + [b.attention.position_bias for b in fresh.transformer]
    )
    std, most = deviation_and_limit(biases)
    assert std == pytest.approx(0.5, rel=0.05)
    assert most <= 1 / TRUNCATED_DEVIATION


def test_attention_starts_as_a_no_op(fresh):
    layer = fresh.transformer[0].attention
    x = torch.randn(1, 5, 192)
    assert not layer(x, position_features(5, 24)).any()


def test_pools_start_as_twice_the_identity_and_norms_as_no_scaling(fresh):
    pool = fresh.stem.pool.logits.weight[:, :, 0]
    assert torch.equal(pool, 2 * torch.eye(len(pool)))
    for part in fresh.modules():
        if isinstance(part, (nn.BatchNorm1d, nn.LayerNorm)):
            assert part.eps == 1e-5
            assert (part.weight == 1).all()
            assert not part.bias.any()


def test_the_dropouts_are_the_published_ones_and_nowhere_else():
    network = Enformer(EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8))
    rates = {
        name: part.p
        for name, part in network.named_modules()
        if isinstance(part, nn.Dropout)
    }
    assert rates == {
        "transformer.0.attention.attn_dropout": 0.05,
        "transformer.0.attention.pos_dropout": 0.01,
        "transformer.0.dropout": 0.4,
        "final_pointwise.dropout": 0.05,
    }


def test_the_first_dropout_of_the_perceptron_is_before_its_relu():
    block = TransformerBlock(
        12, heads=2, key_dim=3, dropout=0.4, attn_dropout=0.0, pos_dropout=0.0
    )
    seen = []
    block.dropout.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    block(torch.randn(2, 5, 12), position_features(5, 6))
    attended, hidden, out = seen
    assert hidden.shape[-1] == 24
    assert hidden.min() < 0  # not through the ReLU yet
    assert attended.shape == out.shape == (2, 5, 12)


@pytest.mark.parametrize("which", ["attn_dropout", "pos_dropout"])
def test_each_dropout_of_attention_acts_in_training_alone(which):
    layer = attention(**{which: 0.5})
    x, table = torch.randn(1, 7, 36), position_features(7, 12)
    assert not torch.equal(layer(x, table), layer(x, table))
    layer.eval()
    assert torch.equal(layer(x, table), layer(x, table))
