"""Letters in another order: backgrounds with the composition of a sequence."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from enformer_features.exceptions import check_choice
from enformer_features.genomics.encoding import ALPHABET, N_CODE

Codes = npt.NDArray[np.uint8]
BACKGROUNDS = ("n", "shuffled", "dinucleotide")


def background(codes: Codes, how: str, generator: np.random.Generator) -> Codes:
    """Return what shall stand in the place of a sequence.

    Parameters
    ----------
    codes : ndarray of uint8, shape (L,)
        A C G T N = 0 .. 4. N stays where it is.
    how : {"n", "shuffled", "dinucleotide"}
        N only; the letters in random order; or in a random order with the same
        pairs of neighbours.
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (L,)

    Examples
    --------
    >>> codes = np.array([0, 1, 4, 2], np.uint8)
    >>> background(codes, "n", np.random.default_rng(0))
    array([4, 4, 4, 4], dtype=uint8)
    """
    check_choice("how", how, BACKGROUNDS)
    if how == "n":
        return np.full_like(codes, N_CODE)
    shuffle = shuffle_letters if how == "shuffled" else shuffle_pairs
    return shuffle(codes, generator)


def shuffle_letters(codes: Codes, generator: np.random.Generator) -> Codes:
    """Put the known letters in a random order; N stays where it is."""
    shuffled = codes.copy()
    shuffled[codes != N_CODE] = generator.permutation(codes[codes != N_CODE])
    return shuffled


def shuffle_pairs(codes: Codes, generator: np.random.Generator) -> Codes:
    """Draw a sequence with the same number of every pair of neighbours.

    Each stretch between N is shuffled by itself, and keeps its first and last letter.

    Parameters
    ----------
    codes : ndarray of uint8, shape (L,)
    generator : numpy.random.Generator

    Returns
    -------
    ndarray of uint8, shape (L,)

    References
    ----------
    Altschul and Erickson 1985, Mol. Biol. Evol. 2:526: every sequence with these pairs
    is equally likely.

    Examples
    --------
    >>> from enformer_features.genomics.encoding import decode, encode
    >>> shuffled = shuffle_pairs(encode("AACAGATA"), np.random.default_rng(3))
    >>> sorted(decode(shuffled[i : i + 2]) for i in range(7))
    ['AA', 'AC', 'AG', 'AT', 'CA', 'GA', 'TA']
    """
    shuffled = codes.copy()
    known = np.concatenate([[False], codes != N_CODE, [False]])
    borders = np.flatnonzero(known[1:] != known[:-1])
    for start, end in zip(borders[::2], borders[1::2], strict=True):
        shuffled[start:end] = _walk(codes[start:end], generator)
    return shuffled


def _walk(codes: Codes, generator: np.random.Generator) -> Codes:
    """Walk along every pair of neighbours once, from the first letter to the last."""
    if len(codes) < 3:
        return codes
    followers = [
        generator.permutation(codes[1:][codes[:-1] == letter]).tolist()
        for letter in range(len(ALPHABET))
    ]
    lasts = _last_steps(followers, int(codes[-1]), generator)
    for letter, last in lasts.items():
        followers[letter].remove(last)
        followers[letter].insert(0, last)  # taken from the end
    walk = [int(codes[0])]
    for _ in range(len(codes) - 1):
        walk.append(followers[walk[-1]].pop())
    return np.array(walk, dtype=np.uint8)


def _last_steps(
    followers: list[list[int]], end: int, generator: np.random.Generator
) -> dict[int, int]:
    """Draw the last step from every letter such that all of them lead to the end."""
    letters = [i for i, of_letter in enumerate(followers) if of_letter and i != end]
    while True:
        steps = {i: int(generator.choice(followers[i])) for i in letters}
        if all(_leads(i, end, steps) for i in letters):
            return steps


def _leads(letter: int, end: int, steps: dict[int, int]) -> bool:
    for _ in range(len(ALPHABET)):
        if letter == end:
            return True
        letter = steps[letter]
    return letter == end
