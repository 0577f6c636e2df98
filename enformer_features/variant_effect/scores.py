"""Scores of a variant: one number per track from the bins of both alleles.

Formulas of arrays. The difference ``d = alt - ref`` is given, not taken: far from a
variant it is smaller than the rounding of either allele.

References
----------
SAD as Avsec et al. 2021 (Nature Methods 18:1196) publish it is the mean over all bins;
``basenji_sad.py`` takes the sum. SAR is that of the release's README; logSAD, D1, D2
and the signed maximum (SAX) are those of Basenji's code.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

Formula = Callable[[Tensor, Tensor, str], Tensor]


def aggregate(bins: Tensor, how: str) -> Tensor:  # (bins, features) -> (features,)
    """Return the mean or the sum over bins."""
    return bins.mean(dim=0) if how == "mean" else bins.sum(dim=0)


def ref_score(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return the aggregate of the reference."""
    return aggregate(ref, how)


def alt_score(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return the aggregate of the alternative."""
    return aggregate(ref, how) + aggregate(d, how)


def sad(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return ``aggregate(alt) - aggregate(ref)``."""
    return aggregate(d, how)


def sar(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return ``log2(1 + aggregate(alt)) - log2(1 + aggregate(ref))``."""
    return torch.log1p(aggregate(d, how) / (1 + aggregate(ref, how))) / math.log(2)


def log_sad(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return ``aggregate(log2(1 + alt) - log2(1 + ref))``, bin by bin."""
    return aggregate(torch.log1p(d / (1 + ref)) / math.log(2), how)


def d1(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return ``aggregate(|alt - ref|)``."""
    return aggregate(d.abs(), how)


def d2(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return ``sqrt(aggregate((alt - ref) ** 2))``: the L2 norm of the sum."""
    return aggregate(d.square(), how).sqrt()


def strongest(ref: Tensor, d: Tensor, how: str) -> Tensor:
    """Return the change, with its sign, of the bin that changes most."""
    at = strongest_bin(d)
    return d.gather(0, at[None])[0]


def strongest_bin(d: Tensor) -> Tensor:
    """Return which of the bins changes most, the first of several."""
    return d.abs().max(dim=0).indices


SCORES: dict[str, Formula] = {
    "SAD": sad,
    "SAR": sar,
    "logSAD": log_sad,
    "D1": d1,
    "D2": d2,
    "max": strongest,
    "REF": ref_score,
    "ALT": alt_score,
}
COMPANION = "max_bin"  # of "max"
AGGREGATES = ("mean", "sum")
OF_COUNTS = ("SAR", "logSAD")  # logarithms: of tracks, which are never negative
OF_HEADS = ("SAD", "REF", "ALT")  # of predictions, which have no bins


def with_companions(scores: tuple[str, ...]) -> tuple[str, ...]:
    """Return the scores with the bin behind the maximum.

    Examples
    --------
    >>> with_companions(("max", "SAD"))
    ('max', 'max_bin', 'SAD')
    """
    out: list[str] = []
    for score in scores:
        out += [score, COMPANION] if score == "max" else [score]
    return tuple(out)


def score_bins(
    ref: Tensor, d: Tensor, scores: tuple[str, ...], how: str, first_bin: int = 0
) -> Tensor:
    """Return every score of every feature.

    Parameters
    ----------
    ref, d : Tensor, shape (bins, features)
        The reference, and alternative minus reference, in the same bins.
    scores : tuple of str
        From :func:`with_companions`.
    how : {"mean", "sum"}
    first_bin : int, default=0
        Number of the first of these bins, for "max_bin".

    Returns
    -------
    Tensor, shape (n_scores, features)

    Examples
    --------
    >>> ref, d = torch.ones(2, 1), torch.tensor([[1.0], [-3.0]])
    >>> score_bins(ref, d, ("SAD", "max", "max_bin"), "sum", first_bin=447).flatten()
    tensor([ -2.,  -3., 448.])
    """
    rows = [
        strongest_bin(d).to(d) + first_bin
        if score == COMPANION
        else SCORES[score](ref, d, how)
        for score in scores
    ]
    return torch.stack(rows)
