"""The difference pass: ``alt - ref`` through the transformer, in closed form.

Run twice in low precision, two alleles differ by rounding as much as by biology. Here
the reference's activations are kept and only the difference d travels: linear layers
act on d, and norms, ReLU, softmax and GELU have differences in closed form. So only d
is rounded, relative to its own size. Algebraically exact.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_features.inference.prepared import (
    GELU_SLOPE,
    QUERY_BLOCK,
    Prepared,
    PreparedBlock,
    by_head,
    shifted_view,
)

FEW_BINS = 32  # whose changes in the first block are worth a path of their own
LINEAR_SOFTPLUS = 20.0  # from here on PyTorch returns its argument
SMALL_CHANGE = 0.5  # of the sum of exponentials of a softmax
LARGEST_EXPONENT = 80.0  # of changes of logits: exp of 88 overflows float32


def layer_norm_difference(norm: nn.LayerNorm, x: Tensor, d: Tensor) -> Tensor:
    """Return ``norm(x + d) - norm(x)``, without taking the difference of the two."""
    x = x - x.mean(dim=-1, keepdim=True)
    d = d - d.mean(dim=-1, keepdim=True)
    growth = (d * (2 * x + d)).mean(dim=-1, keepdim=True)
    # Not the first plus the growth: where d undoes x, their sum would cancel.
    before, after = (
        (rows.square().mean(dim=-1, keepdim=True) + norm.eps).sqrt()
        for rows in (x, x + d)
    )
    slope = -growth / (before * after * (before + after))  # 1 / after - 1 / before
    return (d / after + x * slope) * norm.weight


def relu_difference(x: Tensor, d: Tensor) -> Tensor:
    """Return ``relu(x + d) - relu(x)``."""
    return torch.maximum(d, -x).add_(x.clamp(max=0))


def softmax_difference(weights: Tensor, d: Tensor) -> Tensor:
    """Return ``softmax(l + d) - softmax(l)``, given ``weights = softmax(l)``.

    No ``d`` may be above 80, where its exponential ends. Weights that are rounded need
    not add up to 1. Where the change is large, it is the difference of two softmaxes:
    the closed form would divide by what has cancelled.
    """
    change = torch.expm1(d).mul_(weights)
    mean = change.sum(dim=-1, keepdim=True)
    is_small = mean.abs() < SMALL_CHANGE
    change.addcmul_(weights, mean, value=-1).mul_(1 / (1 + mean))
    if bool(is_small.all()):
        return change
    moved = (weights.log() + d).softmax(dim=-1)
    total = weights.sum(dim=-1, keepdim=True)
    return torch.where(is_small, change, moved * total - weights)


def gelu_difference(x: Tensor, d: Tensor) -> Tensor:
    """Return ``gelu(x + d) - gelu(x)`` for ``gelu(x) = x * sigmoid(1.702 x)``."""
    moved = x + d
    # The change of the sigmoid; never exp of a positive number, which may overflow.
    high, low = torch.maximum(x, moved), torch.minimum(x, moved)
    gate = torch.sigmoid(GELU_SLOPE * high) * torch.sigmoid(-GELU_SLOPE * low)
    gate = -d.sign() * gate * torch.expm1(-GELU_SLOPE * d.abs())
    return d * torch.sigmoid(GELU_SLOPE * moved) + x * gate


def softplus_difference(x: Tensor, d: Tensor) -> Tensor:
    """Return ``softplus(x + d) - softplus(x)``, linear where PyTorch's softplus is."""
    moved = x + d
    is_small = (d.abs() < 1) & (torch.maximum(x, moved) <= LINEAR_SOFTPLUS)
    small = torch.log1p(torch.sigmoid(x) * torch.expm1(d.clamp(-1, 1)))
    change = torch.where(is_small, small, F.softplus(moved) - F.softplus(x))
    return torch.where(torch.minimum(x, moved) > LINEAR_SOFTPLUS, d, change)


@dataclass(frozen=True)
class _State:
    """What one block did to the reference; heads first, (1, H, n, width).

    Queries begin at ``first``. What was attended to is kept in the first block alone.
    """

    first: int
    x: Tensor
    query: Tensor
    key: Tensor
    value: Tensor
    weights: Tensor
    attended: Tensor | None
    after_attention: Tensor
    hidden: Tensor


class ReferenceStates:
    """The reference's activations in every block, for differences to it.

    Made by :func:`reference_states`.

    Parameters
    ----------
    prepared : Prepared
    states : list
        One per block.
    output : Tensor, shape (1, bins, C)
        The transformer's output for the wanted bins.
    bins : (int, int)
        Of the whole window.
    """

    def __init__(
        self,
        prepared: Prepared,
        states: list[_State],
        output: Tensor,
        bins: tuple[int, int],
    ) -> None:
        self._prepared = prepared
        self._states = states
        self._bins = bins
        final = prepared.network.final_pointwise.block
        self._final_normed = final.norm(output.mT).mT
        self._before_last_gelu = final(output.mT).mT

    @torch.inference_mode()
    def embedding(self) -> Tensor:
        """Return the reference's own embedding, (1, bins, 2 C)."""
        x: Tensor = self._before_last_gelu
        return x * torch.sigmoid(GELU_SLOPE * x)

    @torch.inference_mode()
    def propagate(self, d: Tensor) -> Tensor:
        """Return what a change of the tower changes in the embedding.

        Parameters
        ----------
        d : Tensor, shape (B, n, C), float32

        Returns
        -------
        Tensor, shape (B, bins, 2 C), float32
        """
        n = d.shape[1]
        if not self._states:
            return self._through_output(d[:, slice(*self._bins)])
        keys = self._prepared.position_keys(n)
        last = len(self._states) - 1
        for j, state in enumerate(self._states):
            queries = self._bins if j == last else (0, n)
            block = self._prepared.blocks[j]
            d = self._through_block(block, keys[j], state, d, queries)
        return self._through_output(d)

    def _through_block(
        self,
        block: PreparedBlock,
        keys: Tensor,
        state: _State,
        d: Tensor,
        queries: tuple[int, int],
    ) -> Tensor:
        source, product = block.source, self._prepared.product
        normed = layer_norm_difference(source.attention_norm, state.x, d)
        attended = self._attend_to_few(block, keys, state, normed, queries)
        if attended is None:
            attended = self._attend(block, keys, state, normed, queries)
        d = d[:, slice(*queries)] + product(attended, block.out)
        normed = layer_norm_difference(source.mlp_norm, state.after_attention, d)
        hidden = relu_difference(state.hidden, product(normed, block.mlp_in))
        return d + product(hidden, block.mlp_out)

    def _attend_to_few(
        self,
        block: PreparedBlock,
        position_keys: Tensor,
        state: _State,
        d: Tensor,
        queries: tuple[int, int],
    ) -> Tensor | None:
        """Do the same where only a few bins change, as a substitution's in the tower.

        All other bins ask as before, and only a few answers are new. None where too
        many change, or too much; and for batches, where it would be their union.
        """
        changed = d[0].abs().amax(dim=-1).nonzero().flatten()
        if state.attended is None or len(d) > 1 or not len(changed):
            return None
        low, high = int(changed[0]), int(changed[-1]) + 1
        if high - low > FEW_BINS:
            return None
        heads = block.source.attention.heads
        width = heads * block.source.attention.key_dim
        answers = d[:, low:high].to(block.key_value.dtype) @ block.key_value
        d_key, d_value = (
            by_head(part, heads).to(d.dtype)
            for part in (answers[..., :width], answers[..., width:])
        )
        asked = state.query.to(d.dtype) @ d_key.mT  # (1, H, queries, few)
        weights = state.weights[..., low:high].to(d.dtype)
        growth = torch.expm1(asked.clamp(max=LARGEST_EXPONENT)) * weights
        mean = growth.sum(dim=-1, keepdim=True)
        if bool((mean.abs() >= SMALL_CHANGE).any()):
            return None
        value = state.value[:, :, low:high].to(d.dtype)
        out = growth @ value - mean * state.attended + (weights + growth) @ d_value
        out = (out / (1 + mean)).transpose(1, 2).flatten(2)
        own = max(low, queries[0]), min(high, queries[1])
        if own[0] < own[1]:
            rows = slice(own[0] - queries[0], own[1] - queries[0])
            out[:, rows] = self._attend(block, position_keys, state, d, own)
        return out

    def _attend(
        self,
        block: PreparedBlock,
        position_keys: Tensor,
        state: _State,
        d: Tensor,
        queries: tuple[int, int],
    ) -> Tensor:
        """Return the change of what is attended to, (B, queries, H * V)."""
        attention = block.source.attention
        heads, n = attention.heads, d.shape[1]
        width = heads * attention.key_dim
        operand = d.to(block.query.dtype)
        d_query = by_head(operand[:, slice(*queries)] @ block.query, heads)
        changes = operand @ block.key_value
        d_key, d_value = changes[..., :width], changes[..., width:]
        # Contiguous once, or every block of queries copies them again.
        d_key = by_head(d_key, heads)
        d_value = by_head(d_value, heads).contiguous()
        # (q + dq) (k + dk) - q k = [dq, q] [k + dk, dk]
        both_keys = torch.cat([state.key + d_key, d_key], dim=-1).mT
        value = state.value + d_value
        out = []
        for start in range(*queries, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, queries[1])
            part = slice(start - state.first, stop - state.first)
            change = d_query[:, :, start - queries[0] : stop - queries[0]]
            query = state.query[:, :, part]
            both = torch.cat([change, query.expand_as(change)], dim=-1)
            position = change @ position_keys[:, n - stop : 2 * n - 1 - start].mT
            logits = (both @ both_keys).to(d.dtype)
            logits.add_(shifted_view(position, n))
            weights = state.weights[:, :, part]
            logits.clamp_(max=LARGEST_EXPONENT)
            changes = softmax_difference(weights.to(d.dtype), logits).to(value.dtype)
            attended = (changes @ value).to(d.dtype)
            attended += weights.expand_as(changes) @ d_value
            out.append(attended.transpose(1, 2).flatten(2))
        return torch.cat(out, dim=1)

    def _through_output(self, d: Tensor) -> Tensor:
        prepared = self._prepared
        scale = prepared.final_norm.scale / GELU_SLOPE
        active = gelu_difference(self._final_normed, d * scale)
        change = prepared.product(active * GELU_SLOPE, prepared.final)
        return gelu_difference(self._before_last_gelu, change)


@torch.inference_mode()
def reference_states(
    prepared: Prepared, tower: Tensor, bins: tuple[int, int]
) -> ReferenceStates:
    """Run the reference through the transformer in float32 and keep its activations.

    Parameters
    ----------
    prepared : Prepared
    tower : Tensor, shape (1, n, C)
    bins : (int, int)
        Bins of the whole window that are wanted.

    Returns
    -------
    ReferenceStates
        About 75 MB per block at published size in bfloat16.
    """
    states, x, n = [], tower, tower.shape[1]
    if not prepared.blocks:
        x = x[:, slice(*bins)]
    last = len(prepared.blocks) - 1
    for j, block in enumerate(prepared.blocks):
        queries = bins if j == last else (0, n)
        state, x = _run_reference(prepared, block, x, queries, is_first=j == 0)
        states.append(state)
    return ReferenceStates(prepared, states, x, bins)


def _run_reference(
    prepared: Prepared,
    block: PreparedBlock,
    x: Tensor,
    queries: tuple[int, int],
    *,
    is_first: bool,
) -> tuple[_State, Tensor]:
    """Run one block with the network's own float32 weights."""
    source, attention = block.source, block.source.attention
    n, rows = x.shape[1], slice(*queries)
    normed = source.attention_norm(x)
    scale = attention.key_dim**-0.5
    query = by_head(attention.to_query(normed[:, rows]) * scale, attention.heads)
    key = by_head(attention.to_key(normed), attention.heads)
    value = by_head(attention.to_value(normed), attention.heads)
    relative = prepared.exact_position_key(block, n)
    to_content = query + attention.content_bias
    to_position = query + attention.position_bias
    kept = prepared.precision.operands
    weights = key.new_empty(*query.shape[:3], n, dtype=kept)
    attended = value.new_empty(*query.shape[:3], value.shape[-1])
    for start in range(*queries, QUERY_BLOCK):
        stop = min(start + QUERY_BLOCK, queries[1])
        part = slice(start - queries[0], stop - queries[0])
        band = relative[:, n - stop : 2 * n - 1 - start]
        logits = to_content[:, :, part] @ key.mT
        logits += shifted_view(to_position[:, :, part] @ band.mT, n)
        exact = logits.softmax(dim=-1)
        attended[:, :, part] = exact @ value
        weights[:, :, part] = exact
    after = x[:, rows] + attention.to_out(attended.transpose(1, 2).flatten(2))
    hidden = source.mlp_in(source.mlp_norm(after))
    out = after + source.mlp_out(torch.relu(hidden))
    state = _State(
        first=queries[0],
        x=x,
        query=to_content.to(kept),
        key=key.to(kept),
        value=value.to(kept),
        weights=weights,
        attended=attended if is_first else None,
        after_attention=after,
        hidden=hidden,
    )
    return state, out
