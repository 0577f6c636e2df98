"""The pieces of the network, smallest first.

Convolutional layers take ``(batch, channels, positions)``, as PyTorch's kernels
want it; the transformer takes ``(batch, positions, channels)``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

NORM_EPS = 1e-5
# The deviation of a standard normal that is cut at two deviations.
TRUNCATED_DEVIATION = 0.87962566103423978


def gelu(x: Tensor) -> Tensor:
    """``x * sigmoid(1.702 x)``, the form the network was trained with."""
    return x * torch.sigmoid(1.702 * x)


def relative_shift(logits: Tensor) -> Tensor:
    """Pick, for query i and key j, the column of distance ``j - i``.

    Parameters
    ----------
    logits : Tensor, shape (..., n, 2 * n - 1)
        Column c of row i belongs to distance ``c - (n - 1)``.

    Returns
    -------
    Tensor, shape (..., n, n)
        Element (i, j) is ``logits[i, n - 1 - i + j]``.

    Examples
    --------
    >>> relative_shift(torch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]))
    tensor([[2., 3.],
            [4., 5.]])
    """
    *batch, n, width = logits.shape
    padded = torch.cat([logits.new_zeros(*batch, n, 1), logits], dim=-1)
    skewed = padded.reshape(*batch, width + 1, n)[..., 1:, :]
    return skewed.reshape(*batch, n, width)[..., :n]


def truncated_normal_(weight: Tensor, deviation: float) -> None:
    """Fill with a normal of this deviation, cut at two deviations."""
    bound = 2 * deviation
    nn.init.trunc_normal_(weight, std=deviation, a=-bound, b=bound)


def lecun_(weight: Tensor) -> None:
    """Initialise ``(out, in, ...)`` weights as the original does: 1 / sqrt(fan in)."""
    truncated_normal_(weight, 1 / math.sqrt(weight[0].numel()))


def he_(weight: Tensor, fan_in: int) -> None:
    """Initialise to an effective deviation of sqrt(2 / fan in)."""
    truncated_normal_(weight, math.sqrt(2 / fan_in) / TRUNCATED_DEVIATION)


def _in_pairs(x: Tensor) -> Tensor:  # (..., L) -> (..., L / 2, 2)
    return x.reshape(*x.shape[:-1], -1, 2)


def _convolution(n_in: int, n_out: int, width: int) -> nn.Conv1d:
    conv = nn.Conv1d(n_in, n_out, width, padding=width // 2)
    lecun_(conv.weight)
    nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
    return conv


def _linear(n_in: int, n_out: int) -> nn.Linear:
    linear = nn.Linear(n_in, n_out)
    lecun_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear


class ConvBlock(nn.Module):
    """``conv(gelu(batch_norm(x)))``: the norm comes first, the convolution last."""

    def __init__(self, n_in: int, n_out: int, width: int) -> None:
        super().__init__()
        # PyTorch's running averages are not debiased and use the unbiased variance;
        # the original's are debiased and biased. Inference is identical.
        self.norm = nn.BatchNorm1d(n_in, eps=NORM_EPS, momentum=0.1)
        self.conv = _convolution(n_in, n_out, width)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, L) -> (B, n_out, L)
        """Apply the block."""
        out: Tensor = self.conv(gelu(self.norm(x)))
        return out


class SoftmaxPool(nn.Module):
    """Pool pairs of positions, weighted by a softmax for each channel separately.

    For a pair ``x_1, x_2`` of C-vectors the logits are ``M x_p``; M mixes all
    channels and starts as ``2 I``.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.logits = nn.Conv1d(dim, dim, 1, bias=False)
        nn.init.zeros_(self.logits.weight)
        with torch.no_grad():
            self.logits.weight[:, :, 0].fill_diagonal_(2.0)

    def forward(self, x: Tensor) -> Tensor:  # (B, C, L) -> (B, C, L / 2)
        """Halve the number of positions."""
        pairs = _in_pairs(x)  # (B, C, L / 2, 2)
        weights = _in_pairs(self.logits(x)).softmax(dim=-1)
        return (pairs * weights).sum(dim=-1)


class Stem(nn.Module):
    """Convolution of width 15 on the sequence itself, a pointwise block, a pool."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.conv = _convolution(4, dim, 15)
        self.pointwise = ConvBlock(dim, dim, 1)
        self.pool = SoftmaxPool(dim)

    def forward(self, x: Tensor) -> Tensor:  # (B, 4, L) -> (B, C / 2, L / 2)
        """Read the one-hot sequence."""
        x = self.conv(x)
        out: Tensor = self.pool(x + self.pointwise(x))
        return out


class TowerBlock(nn.Module):
    """Convolution block of width 5, a residual pointwise block, a pool."""

    def __init__(self, n_in: int, n_out: int) -> None:
        super().__init__()
        self.wide = ConvBlock(n_in, n_out, 5)
        self.pointwise = ConvBlock(n_out, n_out, 1)
        self.pool = SoftmaxPool(n_out)

    def forward(self, x: Tensor) -> Tensor:  # (B, n_in, L) -> (B, n_out, L / 2)
        """Apply the block."""
        x = self.wide(x)
        out: Tensor = self.pool(x + self.pointwise(x))
        return out


class Attention(nn.Module):
    """Multi-head attention with relative positions.

    For each head, with u and w the content and position biases and r the projected
    features of distance ``j - i``::

        logit[i, j] = (q_i + u) . k_j + (q_i + w) . r[j - i],   q = x W_q / sqrt(K)

    Only q is scaled: the biases are added after the scaling.

    References
    ----------
    Avsec et al. 2021, Methods; Dai et al. 2019 (Transformer-XL), section 3.3.
    """

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        key_dim: int,
        attn_dropout: float,
        pos_dropout: float,
    ) -> None:
        super().__init__()
        value_dim = dim // heads
        self.heads = heads
        self.key_dim = key_dim
        self.to_query = nn.Linear(dim, heads * key_dim, bias=False)
        self.to_key = nn.Linear(dim, heads * key_dim, bias=False)
        self.to_value = nn.Linear(dim, heads * value_dim, bias=False)
        self.to_position_key = nn.Linear(value_dim, heads * key_dim, bias=False)
        self.content_bias = nn.Parameter(torch.empty(heads, 1, key_dim))
        self.position_bias = nn.Parameter(torch.empty(heads, 1, key_dim))
        self.to_out = nn.Linear(heads * value_dim, dim)
        self.attn_dropout = nn.Dropout(attn_dropout)
        self.pos_dropout = nn.Dropout(pos_dropout)
        self._initialise()

    def _initialise(self) -> None:
        projections = self.to_query, self.to_key, self.to_value, self.to_position_key
        for linear in projections:
            he_(linear.weight, fan_in=linear.in_features)
        for bias in (self.content_bias, self.position_bias):
            he_(bias.data, fan_in=self.heads)
        # Zero, as published: every attention layer starts as a no-op.
        nn.init.zeros_(self.to_out.weight)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:
        """Attend.

        Parameters
        ----------
        x : Tensor, shape (B, n, C)
        positions : Tensor, shape (2 * n - 1, V)
            From :func:`~enformer_features.model.positional.position_features`.

        Returns
        -------
        Tensor, shape (B, n, C)
        """
        weights = self.attn_dropout(self.weights(x, positions))
        value = self._split(self.to_value(x))  # (B, H, n, V)
        out: Tensor = self.to_out((weights @ value).transpose(-3, -2).flatten(-2))
        return out

    def weights(self, x: Tensor, positions: Tensor) -> Tensor:
        """Return how much every bin attends to every other: (B, H, n, n)."""
        query = self._split(self.to_query(x)) / math.sqrt(self.key_dim)
        key = self._split(self.to_key(x))  # (B, H, n, K)
        relative = self._split(self.to_position_key(self.pos_dropout(positions)))

        content = (query + self.content_bias) @ key.mT  # (B, H, n, n)
        position = relative_shift((query + self.position_bias) @ relative.mT)
        return (content + position).softmax(dim=-1)

    def _split(self, x: Tensor) -> Tensor:
        """Split channels by head: (..., n, H * w) -> (..., H, n, w)."""
        return x.view(*x.shape[:-1], self.heads, -1).transpose(-3, -2)


class TransformerBlock(nn.Module):
    """Attention and a two-layer perceptron, each behind a norm and a residual."""

    def __init__(
        self,
        dim: int,
        *,
        heads: int,
        key_dim: int,
        dropout: float,
        attn_dropout: float,
        pos_dropout: float,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.attention = Attention(
            dim,
            heads=heads,
            key_dim=key_dim,
            attn_dropout=attn_dropout,
            pos_dropout=pos_dropout,
        )
        self.mlp_norm = nn.LayerNorm(dim, eps=NORM_EPS)
        self.mlp_in = _linear(dim, 2 * dim)
        self.mlp_out = _linear(2 * dim, dim)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, positions: Tensor) -> Tensor:  # (B, n, C)
        """Apply the block."""
        x = x + self.dropout(self.attention(self.attention_norm(x), positions))
        # The first dropout of the perceptron is before the ReLU.
        hidden = torch.relu(self.dropout(self.mlp_in(self.mlp_norm(x))))
        out: Tensor = x + self.dropout(self.mlp_out(hidden))
        return out


class FinalPointwise(nn.Module):
    """The block behind the transformer; its output is the embedding."""

    def __init__(self, dim: int, dropout: float) -> None:
        super().__init__()
        self.block = ConvBlock(dim, 2 * dim, 1)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:  # (B, bins, C) -> (B, bins, 2 C)
        """Embed the kept bins."""
        return gelu(self.dropout(self.block(x.mT))).mT


class Head(nn.Module):
    """Tracks of one organism: ``softplus(linear(embedding))``, expected counts."""

    def __init__(self, dim: int, n_tracks: int) -> None:
        super().__init__()
        self.linear = _linear(dim, n_tracks)

    def forward(self, x: Tensor) -> Tensor:  # (B, bins, 2 C) -> (B, bins, tracks)
        """Predict the tracks."""
        return nn.functional.softplus(self.linear(x))
