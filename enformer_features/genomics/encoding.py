"""DNA letters as numbers: codes, one-hot rows, and the reverse complement.

A *code* is a ``uint8``: A, C, G, T are 0, 1, 2, 3 and N is 4. A one-hot row has
four channels in the order A, C, G, T; N is four zeros.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from enformer_features.exceptions import InputError, InputTypeError, first_few

ALPHABET = "ACGT"
N_CODE = 4

AMBIGUOUS = ("error", "N")
RESIZE = ("error", "pad", "crop")

_OTHER = 255


def _letter_table() -> bytes:
    table = bytearray([_OTHER]) * 256
    for code, letter in enumerate(f"{ALPHABET}N"):
        table[ord(letter)] = table[ord(letter.lower())] = code
    return bytes(table)


_CODE_OF_LETTER = _letter_table()
_LETTER_OF_CODE = np.frombuffer(f"{ALPHABET}N".encode(), np.uint8)
_COMPLEMENT = np.array([3, 2, 1, 0, N_CODE], np.uint8)
_ONE_HOT = np.eye(N_CODE + 1, len(ALPHABET), dtype=np.float32)


def check_ambiguous(ambiguous: str) -> None:
    """Refuse a value of `ambiguous` that has no meaning.

    Parameters
    ----------
    ambiguous : {"error", "N"}
        What to do with letters other than A, C, G, T and N.

    Raises
    ------
    InputError
        For any other value.
    """
    if ambiguous not in AMBIGUOUS:
        msg = f'ambiguous={ambiguous!r} is unknown; choose "error" or "N"'
        raise InputError(msg)


def encode(
    sequence: str,
    *,
    ambiguous: str = "error",
    label: str = "sequence",
    first_position: int = 0,
) -> NDArray[np.uint8]:
    """Turn DNA letters into codes; lower case means the same as upper case.

    Parameters
    ----------
    sequence : str
        Letters, of any length *L*.
    ambiguous : {"error", "N"}, default="error"
        Characters other than A, C, G, T and N (IUPAC letters, U, gaps) are an
        error, or are read as N.
    label : str, default="sequence"
        What the sequence is called in an error.
    first_position : int, default=0
        Position of the first letter (0-based), as errors shall count it.

    Returns
    -------
    ndarray of uint8, shape (L,)
        A, C, G, T, N as 0, 1, 2, 3, 4.

    Raises
    ------
    InputTypeError
        If `sequence` is not a string.
    InputError
        If another letter occurs and `ambiguous` is ``"error"``.

    Examples
    --------
    >>> encode("ACGTn")
    array([0, 1, 2, 3, 4], dtype=uint8)
    >>> encode("ARA", ambiguous="N")
    array([0, 4, 0], dtype=uint8)
    """
    check_ambiguous(ambiguous)
    _check_text(sequence, label)
    # "replace" puts one "?" for each foreign character, so positions stay.
    letters = sequence.encode("ascii", errors="replace")
    codes = np.frombuffer(letters.translate(_CODE_OF_LETTER), np.uint8).copy()
    others = np.flatnonzero(codes == _OTHER)
    if others.size and ambiguous == "error":
        first = int(others[0])
        msg = (
            f"{label} holds letters other than A, C, G, T and N: "
            f"{sequence[first]!r} at position {first_position + first} (0-based), "
            f'{others.size} in all; correct them, or pass ambiguous="N" to read '
            "them as N"
        )
        raise InputError(msg)
    codes[others] = N_CODE
    return codes


def _check_text(sequence: object, label: str) -> None:
    if not isinstance(sequence, str):
        kind = type(sequence).__name__
        msg = f"{label} is a {kind}; expected a string of DNA letters"
        raise InputTypeError(msg)


def decode(codes: ArrayLike) -> str:
    """Turn codes back into upper-case letters.

    Parameters
    ----------
    codes : array_like of int, shape (L,)
        Values 0 to 4.

    Returns
    -------
    str
        *L* letters of ``"ACGTN"``.

    Raises
    ------
    InputError
        If `codes` has more than one dimension or holds other values.
    InputTypeError
        If `codes` are not integers.

    Examples
    --------
    >>> decode([0, 1, 2, 3, 4])
    'ACGTN'
    """
    if np.ndim(codes) != 1:
        msg = f"codes have shape {np.shape(codes)}; decode one sequence at a time"
        raise InputError(msg)
    values = np.asarray(codes) if np.size(codes) else np.zeros(0, np.uint8)
    return str(np.take(_LETTER_OF_CODE, check_codes(values[None])).tobytes(), "ascii")


def reverse_complement(codes: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Read codes from the other strand.

    Parameters
    ----------
    codes : ndarray of uint8, shape (..., L)
        Values 0 to 4.

    Returns
    -------
    ndarray of uint8, shape (..., L)
        The complement in reverse order along the last axis, C-contiguous.

    Examples
    --------
    >>> decode(reverse_complement(encode("AACGN")))
    'NCGTT'
    """
    return np.take(_COMPLEMENT, codes[..., ::-1])


def one_hot(codes: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Turn codes into one-hot rows, channels last.

    Parameters
    ----------
    codes : ndarray of uint8, shape (..., L)
        Values 0 to 4.

    Returns
    -------
    ndarray of float32, shape (..., L, 4)
        Channels A, C, G, T; N is four zeros.

    Examples
    --------
    >>> one_hot(encode("CN"))
    array([[0., 1., 0., 0.],
           [0., 0., 0., 0.]], dtype=float32)
    """
    return np.take(_ONE_HOT, codes, axis=0)


def codes_from_one_hot(array: ArrayLike) -> NDArray[np.uint8]:
    """Turn one-hot sequences into codes, after checking that they are one-hot.

    Parameters
    ----------
    array : array_like of bool, int or float, shape (n, L, 4)
        Channels A, C, G, T last. Each row of channels has a single 1, or four
        zeros for N.

    Returns
    -------
    ndarray of uint8, shape (n, L)
        In the order of the sequences.

    Raises
    ------
    InputTypeError
        If the values are not numbers.
    InputError
        If the shape is another, or a value is not 0 or 1 (NaN and infinity
        included), or a position has more than one 1.

    Examples
    --------
    >>> codes_from_one_hot(one_hot(encode("ACGTN"))[None])
    array([[0, 1, 2, 3, 4]], dtype=uint8)
    """
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        msg = (
            f"one-hot sequences have dtype {values.dtype}; expected 0 and 1 as numbers"
        )
        raise InputTypeError(msg)
    _check_one_hot_shape(values.shape)
    faults = [
        f"sequence {row}: {fault}"
        for row, sequence in enumerate(values)
        if (fault := _one_hot_fault(sequence))
    ]
    if faults:
        msg = f"{len(faults)} of {len(values)} sequences are not one-hot: "
        raise InputError(msg + first_few(faults))
    codes = np.full(values.shape[:2], N_CODE, np.uint8)
    for code in range(len(ALPHABET)):
        codes[values[..., code] == 1] = code
    return codes


def _check_one_hot_shape(shape: tuple[int, ...]) -> None:
    channels = len(ALPHABET)
    if len(shape) == 3 and shape[2] == channels:
        return
    msg = f"one-hot sequences have shape {shape}; expected (n, L, {channels})"
    if len(shape) == 3 and shape[1] == channels:
        msg += ", channels last: pass array.swapaxes(1, 2)"
    elif len(shape) == 2 and shape[1] == channels:
        msg += "; for a single sequence pass array[None]"
    raise InputError(msg)


def _one_hot_fault(sequence: NDArray[np.generic]) -> str:
    """Say what is wrong with one sequence (L, 4), or nothing."""
    ones = sequence == 1
    odd = np.argwhere(~(ones | (sequence == 0)))
    if odd.size:
        position, channel = map(int, odd[0])
        value = sequence[position, channel]
        return (
            f"value {value} at position {position}, channel {channel} "
            "(only 0 and 1 are allowed, N is four zeros)"
        )
    crowded = np.flatnonzero(ones.sum(axis=1) > 1)
    if crowded.size:
        return f"more than one channel is 1 at position {int(crowded[0])}"
    return ""


def check_codes(array: ArrayLike) -> NDArray[np.uint8]:
    """Check sequences that are given as codes.

    Parameters
    ----------
    array : array_like of int, shape (n, L)
        Values 0 to 4 for A, C, G, T, N.

    Returns
    -------
    ndarray of uint8, shape (n, L)
        The same values, C-contiguous; the array itself where it already fits.

    Raises
    ------
    InputTypeError
        If the values are not integers (bool counts as no integer).
    InputError
        If there are not two dimensions, or a value is not 0 to 4.

    Examples
    --------
    >>> check_codes([[0, 1, 4]])
    array([[0, 1, 4]], dtype=uint8)
    """
    values = np.asarray(array)
    if values.dtype.kind not in "iu":
        msg = (
            f"codes have dtype {values.dtype}; expected integers 0 to {N_CODE} for "
            f"{ALPHABET}N (one-hot sequences have shape (n, L, {len(ALPHABET)}))"
        )
        raise InputTypeError(msg)
    if values.ndim != 2:
        msg = f"codes have shape {values.shape}; expected (n, L)"
        if values.ndim == 1:
            msg += "; for a single sequence pass array[None]"
        raise InputError(msg)
    wrong = (values < 0) | (values > N_CODE)
    if wrong.any():
        row, position = map(int, np.argwhere(wrong)[0])
        msg = (
            f"codes must be 0 to {N_CODE} for {ALPHABET}N: found "
            f"{values[row, position]} in sequence {row} at position {position}, "
            f"{np.count_nonzero(wrong)} in all"
        )
        raise InputError(msg)
    return np.ascontiguousarray(values, np.uint8)


def resize_codes(
    codes: NDArray[np.uint8],
    length: int,
    *,
    resize: str = "error",
    label: str = "sequence",
) -> NDArray[np.uint8]:
    """Bring one sequence to a length, keeping its centre.

    The letter at index ``len(codes) // 2`` comes to stand at ``length // 2``, as the
    middle base of an interval does in its window.

    Parameters
    ----------
    codes : ndarray of uint8, shape (L,)
        One sequence.
    length : int
        Wanted length in bases.
    resize : {"error", "pad", "crop"}, default="error"
        ``"pad"`` adds N to both ends of a shorter sequence, ``"crop"`` cuts both
        ends of a longer one.
    label : str, default="sequence"
        What the sequence is called in an error.

    Returns
    -------
    ndarray of uint8, shape (length,)
        C-contiguous.

    Raises
    ------
    InputError
        If the length differs and `resize` does not cover that case.

    Examples
    --------
    >>> decode(resize_codes(encode("ACG"), 6, resize="pad"))
    'NNACGN'
    >>> decode(resize_codes(encode("ACGTACG"), 4, resize="crop"))
    'CGTA'
    """
    if resize not in RESIZE:
        msg = f'resize={resize!r} is unknown; choose "error", "pad" or "crop"'
        raise InputError(msg)
    excess = len(codes) - length
    if excess == 0:
        return np.ascontiguousarray(codes)
    left = abs(len(codes) // 2 - length // 2)
    if excess > 0 and resize == "crop":
        return codes[left : left + length].copy()
    if excess < 0 and resize == "pad":
        padded = np.full(length, N_CODE, np.uint8)
        padded[left : left + len(codes)] = codes
        return padded
    remedy = "crop" if excess > 0 else "pad"
    msg = (
        f"{label} is {len(codes)} bases long, {abs(excess)} too "
        f"{'many' if excess > 0 else 'few'} for a window of {length}; cut or extend "
        f'it with real sequence, or pass resize="{remedy}"'
    )
    raise InputError(msg)


def n_fraction(codes: NDArray[np.uint8]) -> float:
    """Return the share of N among all codes; 0.0 where there are none.

    Parameters
    ----------
    codes : ndarray of uint8, any shape
        Values 0 to 4.

    Returns
    -------
    float
        Between 0.0 and 1.0.

    Examples
    --------
    >>> n_fraction(encode("ANNN"))
    0.75
    """
    return float(np.count_nonzero(codes == N_CODE) / max(codes.size, 1))
