"""The fast forward: a network's weights laid out once for inference.

The plain :class:`~enformer_features.model.Enformer` is the oracle; this is the same
algebra in another order. ``docs/performance.md`` tells what each step is worth.

Rows are positions, channels are last. With ``u = scale * x + shift`` for a batch norm
whose scale and shift carry a factor of 1.702, ``gelu(norm(x)) = silu(u) / 1.702``, and
the division goes into the weights of the convolution behind it. Pooling two rows with a
softmax of their logits is ``x2 + sigmoid((x1 - x2) M) * (x1 - x2)``: half the product,
no softmax, and every bias before it cancels in the difference.

What is prepared is rebuilt from the weights and never saved.
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import N_CODE
from enformer_features.genomics.windows import Geometry
from enformer_features.inference import winograd
from enformer_features.inference.precision import Precision
from enformer_features.locks import ThreadLock
from enformer_features.model.enformer import Enformer
from enformer_features.model.layers import (
    ConvBlock,
    Head,
    Stem,
    TowerBlock,
    TransformerBlock,
)
from enformer_features.model.positional import position_features

GELU_SLOPE = 1.702
STEM_HALO = 7  # letters on each side of a convolution of width 15
HALO = 2  # rows on each side of a convolution of width 5
TILE_ROWS = 2_048  # convolved at once: fits the caches, and fills the products
QUERY_BLOCK = 192


@dataclass(frozen=True)
class Rows:
    """A stretch of the rows of one level.

    Parameters
    ----------
    values : Tensor, shape (B, n, channels), or (B, n) uint8 letter codes
    start : int
        Number of the first one, in the window.
    length : int
        Rows of the whole window at this level; beyond them there is padding.
    """

    values: Tensor
    start: int
    length: int

    @classmethod
    def whole(cls, values: Tensor) -> Rows:
        """Return all rows of a window."""
        return cls(values, 0, values.shape[1])

    def cut(self, low: int, high: int) -> tuple[Tensor, int, int]:
        """Return rows ``[low, high)`` and how many lie before and behind the window."""
        before, behind = max(-low, 0), max(high - self.length, 0)
        first = low + before - self.start
        last = high - behind - self.start
        if first < 0 or last > self.values.shape[1]:
            msg = (
                f"rows {low} to {high} are needed, but only {self.start} to "
                f"{self.start + self.values.shape[1]} of {self.length} are there"
            )
            raise InputError(msg)
        return self.values[:, first:last], before, behind


@dataclass(frozen=True)
class Affine:
    """A batch norm, times 1.702."""

    scale: Tensor
    shift: Tensor

    def silu(self, x: Tensor) -> Tensor:
        """Return ``1.702 * gelu(norm(x))``."""
        return F.silu(torch.addcmul(self.shift, x, self.scale), inplace=True)


@dataclass(frozen=True)
class _Level:
    """A stem or a tower block.

    ``conv`` is the stem's (60, C), direct (5, in, out), or transformed (8, in, out).
    ``pointwise`` and ``pool`` are (C, C); ``bias`` is that of both convolutions.
    """

    norm: Affine | None
    conv: Tensor
    inner: Affine
    pointwise: Tensor
    pool: Tensor
    bias: Tensor


@dataclass(frozen=True)
class PreparedBlock:
    """A transformer block; queries carry their scale, keys and values are one."""

    source: TransformerBlock
    query: Tensor
    key_value: Tensor
    out: Tensor
    mlp_in: Tensor
    mlp_out: Tensor


class Prepared:
    """A network laid out for inference on one device, in one precision.

    Made by :func:`prepare`. The tower and the transformer are two steps with a
    ``(bins, C)`` array between them: the boundary for reuse.

    Parameters
    ----------
    network : Enformer
        In evaluation mode, on its device.
    precision : Precision
    """

    def __init__(self, network: Enformer, precision: Precision) -> None:
        self.config = network.config
        self.precision = precision
        self.network = network
        self.device = network.stem.conv.weight.device
        self._levels = [self._level_of_stem(network.stem)]
        self._levels += [self._level_of_block(block) for block in network.conv_tower]
        self.blocks = [self._block(block) for block in network.transformer]
        final = network.final_pointwise.block
        self.final_norm = _affine(final)
        self.final = self._operand(final.conv.weight[:, :, 0].T / GELU_SLOPE)
        assert final.conv.bias is not None
        self._final_bias = final.conv.bias
        self._position_keys: dict[int, list[Tensor]] = {}

    # Laying out

    def _operand(self, weight: Tensor) -> Tensor:
        """Return a weight as (in, out), in the type of operands."""
        return weight.to(self.precision.operands).contiguous()

    def _level_of_stem(self, stem: Stem) -> _Level:
        conv = stem.conv.weight.permute(2, 1, 0).flatten(0, 1)  # (15 * 4, C / 2)
        return self._level(None, self._operand(conv), stem.conv, stem)

    def _level_of_block(self, block: nn.Module) -> _Level:
        assert isinstance(block, TowerBlock)
        weight = block.wide.conv.weight / GELU_SLOPE
        if self.precision.convolution == "winograd":
            conv = winograd.transform_filters(weight)
        else:
            conv = self._operand(weight.permute(2, 1, 0))  # (5, in, out)
        return self._level(_affine(block.wide), conv, block.wide.conv, block)

    def _level(
        self,
        norm: Affine | None,
        conv: Tensor,
        source: nn.Conv1d,
        part: Stem | TowerBlock,
    ) -> _Level:
        pointwise = part.pointwise
        assert source.bias is not None
        assert pointwise.conv.bias is not None
        return _Level(
            norm=norm,
            conv=conv,
            inner=_affine(pointwise, bias_before=source.bias),
            pointwise=self._operand(pointwise.conv.weight[:, :, 0].T / GELU_SLOPE),
            pool=self._operand(part.pool.logits.weight[:, :, 0].T),
            bias=source.bias + pointwise.conv.bias,
        )

    def _block(self, block: nn.Module) -> PreparedBlock:
        assert isinstance(block, TransformerBlock)
        attention = block.attention
        scale = 1 / math.sqrt(attention.key_dim)
        key_value = torch.cat([attention.to_key.weight, attention.to_value.weight])
        return PreparedBlock(
            source=block,
            query=self._operand(attention.to_query.weight.T * scale),
            key_value=self._operand(key_value.T),
            out=self._operand(attention.to_out.weight.T),
            mlp_in=self._operand(block.mlp_in.weight.T),
            mlp_out=self._operand(block.mlp_out.weight.T),
        )

    def product(self, x: Tensor, weight: Tensor) -> Tensor:
        """Multiply in the type of operands; the type of results comes out."""
        return self._result(x.to(weight.dtype) @ weight)

    def _result(self, product: Tensor) -> Tensor:
        return product.to(self.precision.results)

    # The tower

    @property
    def n_levels(self) -> int:
        """The stem and the blocks of the tower."""
        return len(self._levels)

    def level(self, i: int, rows: Rows, low: int, high: int) -> Tensor:
        """Compute pooled rows ``[low, high)`` of tower level ``i``.

        The one primitive of full forwards, tiles, variants and shared stretches:
        padding stands only at the ends of the window, and any partition of the rows
        equals the whole.

        Parameters
        ----------
        i : int
            0 for the stem, 1 .. for the blocks of the tower.
        rows : Rows
            Rows of the level below: for the stem letter codes, of which those from
            ``2 * low - 7`` to ``2 * high + 7`` are read; else ``2 * low - 2`` to
            ``2 * high + 2``.
        low, high : int

        Returns
        -------
        Tensor, shape (B, high - low, channels), float32
        """
        tiles = [self._tile(i, rows, *tile) for tile in _tiles(low, high)]
        return tiles[0] if len(tiles) == 1 else torch.cat(tiles, dim=1)

    def tower(self, codes: Tensor) -> Tensor:
        """Run the stem and the tower.

        Parameters
        ----------
        codes : Tensor, shape (B, L), uint8
            A C G T N = 0 .. 4; L is a multiple of the bin size.

        Returns
        -------
        Tensor, shape (B, L / 128, C), float32
        """
        n_bins = codes.shape[1] // self.config.bin_size
        return self.tower_rows(codes, 0, n_bins)

    def tower_rows(self, codes: Tensor, low: int, high: int) -> Tensor:
        """Run the tower for bins ``[low, high)`` of the windows ``codes``.

        The widest level, the stem's, is never held whole: each tile of the next one
        asks for the rows that it reads.
        """
        length = codes.shape[1]
        spans = self.spans(low, high, length)
        below = self._first_levels(codes, *spans[1])
        for i in range(2, self.n_levels):
            rows = Rows(below, spans[i - 1][0], length >> i)
            below = self.level(i, rows, *spans[i])
        return below

    def spans(self, low: int, high: int, length: int) -> list[tuple[int, int]]:
        """Return, for every level, the rows that bins ``[low, high)`` depend on."""
        spans = [(low, high)]
        for i in range(self.n_levels - 2, -1, -1):
            below = 2 * spans[0][0] - HALO, 2 * spans[0][1] + HALO
            spans.insert(0, (max(below[0], 0), min(below[1], length >> (i + 1))))
        return spans

    def _first_levels(self, codes: Tensor, low: int, high: int) -> Tensor:
        """Compute rows of level 1 straight from the letters, tile by tile."""
        letters, length = Rows.whole(codes), codes.shape[1] // 2
        out: Tensor | None = None
        for start, stop in _tiles(low, high):
            first, last = max(2 * start - HALO, 0), min(2 * stop + HALO, length)
            stem = Rows(self.level(0, letters, first, last), first, length)
            tile = self._tile(1, stem, start, stop)
            if out is None:
                out = tile.new_empty(len(tile), high - low, tile.shape[-1])
            out[:, start - low : stop - low] = tile
        assert out is not None
        return out

    def _tile(self, i: int, rows: Rows, low: int, high: int) -> Tensor:
        level = self._levels[i]
        if level.norm is None:
            phases = self._convolve_letters(level, rows, 2 * low, 2 * high)
        else:
            phases = self._convolve(level, rows, 2 * low, 2 * high)
        return self._pool(level, phases, len(rows.values), high - low)

    def _convolve_letters(
        self, level: _Level, rows: Rows, low: int, high: int
    ) -> Tensor:
        codes, before, behind = rows.cut(low - STEM_HALO, high + STEM_HALO)
        codes = F.pad(codes, (before, behind), value=N_CODE)
        table = torch.eye(N_CODE + 1, 4, device=codes.device, dtype=level.conv.dtype)
        width = 2 * STEM_HALO + 1
        windows = table[codes.int()].unfold(1, width, 1)  # (B, n, 4, 15)
        columns = windows.transpose(2, 3).flatten(2).flatten(0, 1)
        return _in_phases(self._result(columns @ level.conv), 2)

    def _convolve(self, level: _Level, rows: Rows, low: int, high: int) -> Tensor:
        """Convolve rows ``[low, high)`` without bias, sorted into phases.

        Returns (phases, B * n / phases, out): row r of phase p is row
        ``r * phases + p``.
        """
        assert level.norm is not None
        values, before, behind = rows.cut(low - HALO, high + HALO)
        active = level.norm.silu(values)
        is_fast = self.precision.convolution == "winograd"
        surplus = (low - high) % winograd.N_OUTPUTS if is_fast else 0
        if before or behind or surplus:
            active = F.pad(active, (0, 0, before, behind + surplus))
        if not is_fast:
            return _in_phases(self._convolve_directly(active, level.conv), 2)
        products = torch.bmm(winograd.transform_inputs(active), level.conv)
        return winograd.transform_outputs(products)

    def _convolve_directly(self, active: Tensor, weight: Tensor) -> Tensor:
        n = active.shape[1] - 2 * HALO
        if weight.dtype == self.precision.results:
            out = active[:, :n].flatten(0, 1) @ weight[0]
            for k in range(1, len(weight)):
                out.addmm_(active[:, k : k + n].flatten(0, 1), weight[k])
            return out
        # One product, so that low precision rounds each sum once.
        windows = active.to(weight.dtype).unfold(1, len(weight), 1)  # (B, n, in, 5)
        columns = windows.transpose(2, 3).flatten(2).flatten(0, 1)
        return self._result(columns @ weight.flatten(0, 1))

    def _pool(self, level: _Level, phases: Tensor, n_windows: int, n: int) -> Tensor:
        """Apply the residual pointwise block and pool: (P, B * m, C) -> (B, n, C)."""
        flat = phases.flatten(0, 1)
        self._add_product(flat, level.inner.silu(flat), level.pointwise)
        first, second = phases[0::2], phases[1::2]
        difference = first - second
        gate = self.product(difference.flatten(0, 1), level.pool).sigmoid_()
        pooled = torch.addcmul(
            second + level.bias, gate.view_as(difference), difference
        )
        pooled = pooled.view(len(pooled), n_windows, -1, pooled.shape[-1])
        return pooled.permute(1, 2, 0, 3).flatten(1, 2)[:, :n]

    def _add_product(self, out: Tensor, x: Tensor, weight: Tensor) -> None:
        if weight.dtype == self.precision.results:
            out.addmm_(x, weight)
        else:
            out.add_(x.to(weight.dtype) @ weight)

    # The transformer

    def transform(
        self,
        x: Tensor,
        n_blocks: int | None = None,
        bins: tuple[int, int] | None = None,
    ) -> Tensor:
        """Run transformer blocks.

        Parameters
        ----------
        x : Tensor, shape (B, n, C)
            The output of :meth:`tower`.
        n_blocks : int, optional
            How many; all by default.
        bins : (int, int), optional
            Bins of the window that are wanted: the last block computes only these.

        Returns
        -------
        Tensor, shape (B, n or bins, C), float32
        """
        n = x.shape[1]
        every, wanted = (0, n), bins or (0, n)
        blocks = self.blocks[:n_blocks]
        if not blocks:
            return x[:, slice(*wanted)]
        keys = self.position_keys(n)
        for j, block in enumerate(blocks):
            queries = wanted if j == len(blocks) - 1 else every
            x = self._run_block(block, keys[j], x, queries)
        return x

    def position_keys(self, n: int) -> list[Tensor]:
        """Return each block's position keys, (H, 2 n - 1, K); of n alone."""
        kept = self._position_keys.get(n)
        if kept is None:
            exact = [self.exact_position_key(block, n) for block in self.blocks]
            kept = [keys.to(self.precision.operands).contiguous() for keys in exact]
            self._position_keys = {n: kept}
        return kept

    def exact_position_key(self, block: PreparedBlock, n: int) -> Tensor:
        """Return a block's position keys, unrounded, (H, 2 n - 1, K)."""
        features = position_features(n, self.config.value_dim)
        features = features.to(self.device, self.precision.results)
        keys: Tensor = block.source.attention.to_position_key(features)
        return keys.view(len(keys), self.config.heads, -1).transpose(0, 1)

    def _run_block(
        self, block: PreparedBlock, keys: Tensor, x: Tensor, queries: tuple[int, int]
    ) -> Tensor:
        source, rows = block.source, slice(*queries)
        normed = source.attention_norm(x)
        attended = self._attend(block, keys, normed, queries)
        x = x[:, rows] + self.product(attended, block.out).add_(
            source.attention.to_out.bias
        )
        hidden = self.product(source.mlp_norm(x), block.mlp_in)
        hidden = hidden.add_(source.mlp_in.bias).relu_()
        return self.product(hidden, block.mlp_out).add_(source.mlp_out.bias).add_(x)

    def _attend(
        self,
        block: PreparedBlock,
        position_keys: Tensor,
        x: Tensor,
        queries: tuple[int, int],
    ) -> Tensor:
        """Attend from some bins to all; returns (B, queries, H * V)."""
        attention = block.source.attention
        n, heads, width = x.shape[1], attention.heads, attention.key_dim
        operand = x.to(block.query.dtype)
        query = self._result(operand[:, slice(*queries)] @ block.query)
        query = by_head(query, heads)
        to_content = (query + attention.content_bias).to(operand.dtype)
        to_position = (query + attention.position_bias).to(operand.dtype)
        both = operand @ block.key_value
        # Contiguous once, or every block of queries copies them again.
        key = by_head(both[..., : heads * width], heads).contiguous().mT
        value = by_head(both[..., heads * width :], heads).contiguous()
        out = value.new_empty(*query.shape[:3], value.shape[-1])
        for start in range(*queries, QUERY_BLOCK):
            stop = min(start + QUERY_BLOCK, queries[1])
            part = slice(start - queries[0], stop - queries[0])
            band = position_keys[:, n - stop : 2 * n - 1 - start]
            position = to_position[:, :, part] @ band.mT
            logits = self._result(to_content[:, :, part] @ key)
            logits.add_(shifted_view(position, n))
            out[:, :, part] = logits.softmax(dim=-1).to(value.dtype) @ value
        return out.transpose(1, 2).flatten(2)

    # The output

    def embed(self, x: Tensor) -> Tensor:
        """Apply the final pointwise block: (B, bins, C) -> (B, bins, 2 C)."""
        out = self.before_last_gelu(x)
        return out * torch.sigmoid(GELU_SLOPE * out)

    def before_last_gelu(self, x: Tensor) -> Tensor:  # (B, bins, C) -> (B, bins, 2 C)
        """Return what the last GELU takes."""
        return self.product(self.final_norm.silu(x), self.final).add_(self._final_bias)

    def kept_bins(self, n: int) -> tuple[int, int]:
        """Return the first of the kept bins among n, and one past the last."""
        size = self.config.bin_size
        geometry = Geometry(n * size, self.config.target_length, size)
        return geometry.crop_bins, geometry.crop_bins + geometry.n_bins

    def predict(
        self, embedding: Tensor, organism: str, tracks: Sequence[int] | None = None
    ) -> Tensor:
        """Predict tracks, only those asked for: (B, bins, 2 C) -> (B, bins, tracks)."""
        weight, bias = self.head(organism, tracks)
        return F.softplus(self.product(embedding, weight).add_(bias))

    def head(
        self, organism: str, tracks: Sequence[int] | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return weight, (2 C, tracks), and bias of what softplus makes tracks of."""
        head = self.network.heads[organism]
        assert isinstance(head, Head)
        rows = slice(None) if tracks is None else list(tracks)
        return self._operand(head.linear.weight[rows].T), head.linear.bias[rows]


def prepare(network: Enformer, precision: Precision) -> Prepared:
    """Lay out a network's weights for inference.

    Parameters
    ----------
    network : Enformer
        In evaluation mode, on the device where it shall run.
    precision : Precision

    Returns
    -------
    Prepared

    Examples
    --------
    >>> from enformer_features.inference.precision import POLICIES
    >>> from enformer_features.model import EnformerConfig
    >>> tiny = EnformerConfig(dim=48, depth=1, heads=2, dim_divisible_by=8)
    >>> prepared = prepare(Enformer(tiny).eval(), POLICIES["float32"])
    >>> prepared.tower(torch.zeros(1, 1024, dtype=torch.uint8)).shape
    torch.Size([1, 8, 48])
    """
    with torch.inference_mode():
        if precision.results == torch.float64:
            network = copy.deepcopy(network).double()
        return Prepared(network, precision)


MAX_PREPARED = 2
_PREPARED: OrderedDict[tuple[int, str], Prepared] = OrderedDict()
_LOCK = ThreadLock()


def prepared_once(network: Enformer, precision: Precision) -> Prepared:
    """Return :func:`prepare`'s result, the same for the same network object.

    The two that were used last are kept. The network's weights must not change.
    """
    key = id(network), precision.name  # the entry keeps the network, so its id, alive
    with _LOCK:
        prepared = _PREPARED.pop(key, None) or prepare(network, precision)
        _PREPARED[key] = prepared
        while len(_PREPARED) > MAX_PREPARED:
            _PREPARED.popitem(last=False)
    return prepared


def shifted_view(logits: Tensor, n: int) -> Tensor:
    """Pick for each query and key the column of their distance, without a copy.

    Parameters
    ----------
    logits : Tensor, shape (..., b, n + b - 1), contiguous
        For b neighbouring queries: column c of row a is the distance of key
        ``c - (b - 1 - a)`` to query a.
    n : int
        Number of keys.

    Returns
    -------
    Tensor, shape (..., b, n)
        Element (a, j) is ``logits[a, j + b - 1 - a]``.

    Examples
    --------
    >>> shifted_view(torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]]), 3)
    tensor([[2, 3, 4],
            [5, 6, 7]])
    """
    *_, b, width = logits.shape
    stride = (*logits.stride()[:-2], width - 1, 1)
    return logits.as_strided((*logits.shape[:-1], n), stride, b - 1)


def _affine(block: ConvBlock, bias_before: Tensor | None = None) -> Affine:
    """Fold a batch norm, and the bias of what it normalises, into scale and shift."""
    norm = block.norm
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    if bias_before is not None:
        shift = shift + bias_before * scale
    return Affine(GELU_SLOPE * scale, GELU_SLOPE * shift)


def by_head(x: Tensor, heads: int) -> Tensor:  # (B, n, H * w) -> (B, H, n, w)
    """Split channels by head."""
    return x.view(*x.shape[:-1], heads, -1).transpose(1, 2)


def _in_phases(rows: Tensor, n: int) -> Tensor:  # (B * m * n, C) -> (n, B * m, C)
    return rows.view(-1, n, rows.shape[-1]).transpose(0, 1).contiguous()


def _tiles(low: int, high: int) -> list[tuple[int, int]]:
    """Cut pooled rows into tiles; a last one of a few rows joins the one before it.

    Products of one to three rows take another kernel, which rounds differently.
    """
    starts = list(range(low, max(high - HALO * 2, low + 1), TILE_ROWS // 2))
    return list(zip(starts, [*starts[1:], high], strict=True))
