"""ExPecto's kernels: weighted sums of bins, by side and distance from the TSS."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import InputError
from enformer_features.genomics.windows import BIN_SIZE

Floats = npt.NDArray[np.float64]

BIN_BP = 200
DECAYS = (0.01, 0.02, 0.05, 0.1, 0.2)
SIDES = ("up", "down")
_TEXT = re.compile(r"kernels per (\d+) bp: (.+)")


@dataclass(frozen=True)
class Kernels:
    r"""Exponential kernels, each once for the bins upstream and once for those below.

    Parameters
    ----------
    bin_bp : int, default=200
        Unit of distance in bp.
    decays : tuple of float, default=(0.01, 0.02, 0.05, 0.1, 0.2)
        Of each kernel, per unit. A kernel has fallen to a half after
        ``bin_bp * ln(2) / decay`` bp: ExPecto's after 13.9, 6.9, 2.8, 1.4 and 0.7 kb.

    Raises
    ------
    InputError
        When the unit is no positive whole number, or the decays are not different
        positive numbers.

    Notes
    -----
    The weight of a bin is :math:`e^{-a \lfloor |d| / u \rfloor}` with the decay *a*,
    the unit *u* and the distance *d* from the middle of the window, where the TSS
    stands, to the middle of the bin. ExPecto has 200 bins of 200 bp, and its distance
    is a multiple of its bin [1]_; here bins have 128 bp, and the distances of an even
    number of bins are 64, 192, 320 ... bp on either side. As there, both sides include
    the TSS: the two bins that touch the middle (the one in the middle, of an odd
    number).

    References
    ----------
    .. [1] Zhou et al., "Deep learning sequence-based ab initio prediction of variant
       effects on expression and disease risk", Nat. Genet. 50, 1171-1179, 2018.

    Examples
    --------
    >>> Kernels(200, (0.2,)).weights(6).round(2).tolist()
    [[0.82, 1.0, 1.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 1.0, 1.0, 0.82]]
    """

    bin_bp: int = BIN_BP
    decays: tuple[float, ...] = DECAYS

    def __post_init__(self) -> None:
        is_whole = isinstance(self.bin_bp, int) and not isinstance(self.bin_bp, bool)
        if not is_whole or self.bin_bp < 1:
            msg = f"bin_bp={self.bin_bp!r} must be a positive whole number of bp"
            raise InputError(msg)
        numbers = all(
            isinstance(decay, int | float) and not isinstance(decay, bool)
            for decay in self.decays
        )
        is_good = numbers and all(0 < decay < np.inf for decay in self.decays)
        if not self.decays or not is_good or len(set(self.decays)) < len(self.decays):
            msg = f"decays={self.decays!r} must be different positive numbers"
            raise InputError(msg)

    @classmethod
    def parse(cls, text: str) -> Kernels | None:
        """Read what ``str`` wrote; None for another text."""
        found = _TEXT.fullmatch(text)
        if found is None:
            return None
        try:
            decays = tuple(float(decay) for decay in found[2].split(", "))
        except ValueError:
            return None
        return cls(int(found[1]), decays)

    def __str__(self) -> str:
        """Write all that decides the weights, for keys and records."""
        decays = ", ".join(repr(float(decay)) for decay in self.decays)
        return f"kernels per {self.bin_bp} bp: {decays}"

    def weights(self, n_bins: int) -> Floats:
        """Return the weight of every bin in every kernel.

        Parameters
        ----------
        n_bins : int
            Around the middle, in transcript direction.

        Returns
        -------
        ndarray of float64, shape (2 * n_decays, n_bins)
            The kernels upstream, then those downstream, in the order of the decays.
        """
        distance = (np.arange(n_bins) - (n_bins - 1) / 2) * BIN_SIZE
        sides = distance <= BIN_SIZE / 2, distance >= -BIN_SIZE / 2
        units = np.floor(np.abs(distance) / self.bin_bp)
        return np.stack(
            [np.exp(-decay * units) * side for side in sides for decay in self.decays]
        )

    def names(self, names: Sequence[str]) -> list[str]:
        """Name the sums, such as ``up0.01_enformer_0000``, kernel by kernel."""
        return [
            f"{side}{decay:g}_{name}"
            for side in SIDES
            for decay in self.decays
            for name in names
        ]

    def __len__(self) -> int:
        """Return the number of sums of one feature."""
        return len(SIDES) * len(self.decays)
