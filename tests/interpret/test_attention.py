"""interpret/attention.py: against the weights that the plain network uses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from enformer_features import EnformerEmbedder, attention
from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import one_hot
from enformer_features.model.handle import ModelHandle
from enformer_features.model.positional import position_features
from tests.inference.networks import ODD, draw_codes, exact_of, network_of
from tests.interpret.test_elements import GENES, LENGTH, embedder, fasta  # noqa: F401

N = LENGTH // 128  # 31 bins of the window, 11 kept: TSS bins 4, 5, 6 of these
TSS = slice(14, 17)


def weights_of(codes):
    """Attention of the network in float64: (layers, heads, n, n), from its outputs.

    A value that marks bin j alone comes out of a layer as the weight of j.
    """
    network, layers = exact_of(ODD), []
    with torch.no_grad():
        x = network.tower(torch.from_numpy(one_hot(codes))[None].double())
        positions = position_features(N, ODD.value_dim).double()
        for block in network.transformer:
            part, normed = block.attention, block.attention_norm(x)
            query = part.to_query(normed).view(N, ODD.heads, -1) / ODD.attn_dim_key**0.5
            key = part.to_key(normed).view(N, ODD.heads, -1)
            far = part.to_position_key(positions).view(2 * N - 1, ODD.heads, -1)
            logits = torch.empty(ODD.heads, N, N, dtype=torch.float64)
            for i in range(N):
                for h in range(ODD.heads):
                    content = key[:, h] @ (query[i, h] + part.content_bias[h, 0])
                    band = far[N - 1 - i : 2 * N - 1 - i, h]
                    place = band @ (query[i, h] + part.position_bias[h, 0])
                    logits[h, i] = content + place
            layers.append(logits.softmax(dim=-1))
            x = block(x, positions)
    return torch.stack(layers).numpy()


def exact(**parameters):
    return EnformerEmbedder(
        ModelHandle(network_of(ODD)),
        sequence_length=LENGTH,
        precision="float64",
        cache=None,
        **parameters,
    )


def test_weights_are_the_networks_averaged_over_layers_heads_and_queries():
    codes = draw_codes(2, LENGTH)
    found = attention(exact(), codes, by_head=True)
    for row in range(2):
        expected = weights_of(codes[row])[:, :, TSS].mean(axis=2)
        np.testing.assert_allclose(found.by_head[row], expected, rtol=1e-5)
        np.testing.assert_allclose(
            found.weights[row], expected.mean(axis=(0, 1)), rtol=1e-5
        )
    assert found.weights.shape == (2, N)
    np.testing.assert_allclose(found.weights.sum(axis=1), 1, rtol=1e-5)
    assert attention(exact(), codes).by_head is None


def test_other_bins_can_look():
    codes = draw_codes(1, LENGTH)
    found = attention(exact(), codes, (-4, -2))
    expected = weights_of(codes[0])[:, :, 11:13].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(found.weights[0], expected, rtol=1e-5)


def test_both_directions_are_averaged_in_the_genomes():
    codes = draw_codes(1, LENGTH)
    turned = np.array([3, 2, 1, 0, 4], np.uint8)[codes[:, ::-1]]
    both = attention(exact(strand="average"), codes, (-4, -2)).weights[0]
    forward = weights_of(codes[0])[:, :, 11:13].mean(axis=(0, 1, 2))
    backward = weights_of(turned[0])[:, :, N - 13 : N - 11].mean(axis=(0, 1, 2))
    np.testing.assert_allclose(both, (forward + backward[::-1]) / 2, rtol=1e-5)


def test_minus_strand_windows_lie_in_the_genomes_direction(fasta):  # noqa: F811
    model = embedder(fasta)
    found = attention(model, GENES)
    start = found.table["window_start"].iloc[1]
    read = attention(embedder(fasta, strand="ignore"), GENES).weights
    assert found.table["read_strand"].tolist() == ["+", "-"]
    np.testing.assert_allclose(found.weights[0], read[0], rtol=1e-6)
    assert np.abs(found.weights[1] - found.weights[1][::-1]).max() > 1e-4
    assert found.of_interval(start, start + LENGTH, row=1) == pytest.approx(1)
    part = found.of_interval(start + 300, start + 400, row=1)  # bins 2 and 3
    assert part == pytest.approx(found.weights[1, 2:4].sum())


def test_intervals_past_the_window_and_other_bins_are_refused(fasta):  # noqa: F811
    model = embedder(fasta)
    found = attention(model, GENES)
    with pytest.raises(InputError, match="no bin attends to what is beyond it"):
        found.of_interval(0, 100)
    with pytest.raises(InputError, match="did you mean 'tss'"):
        attention(model, GENES, "tsss")
    with pytest.raises(InputError, match="reads bins 5 to 14, but a window"):
        attention(model, GENES, (0, 10))
