"""Errors and warnings of the package; imports nothing of ours.

Every error subclasses :class:`EnformerFeaturesError` and, beside it, the built-in
kind that callers already catch, so that ``except ValueError`` and scikit-learn's
``error_score`` keep working.
"""

from __future__ import annotations

import difflib
import warnings
from collections.abc import Sequence


class EnformerFeaturesError(Exception):
    """Base class of every error that the package raises on purpose."""


class InputError(EnformerFeaturesError, ValueError):
    """A value, row or file of the user's that cannot be used as it is."""


class InputTypeError(EnformerFeaturesError, TypeError):
    """An argument of a kind that is not accepted."""


class GenomeError(EnformerFeaturesError, ValueError):
    """A FASTA file, its index, or a contig name that does not fit the regions."""


class WeightsError(EnformerFeaturesError, ValueError):
    """Weights that are missing, damaged, or not those that were asked for."""


class StoreError(EnformerFeaturesError, OSError):
    """A file that cannot be written or read safely."""


class PlanMismatchError(EnformerFeaturesError, ValueError):
    """Work that is to be resumed with settings other than it was begun with."""


class DeviceMemoryError(EnformerFeaturesError, RuntimeError):
    """The device has too little memory for a single window."""


class InferenceError(EnformerFeaturesError, RuntimeError):
    """A window for which the network failed or returned values that are not finite."""


class MissingDependencyError(EnformerFeaturesError, ImportError):
    """An optional package is not installed; the message names the extra."""


class EnformerFeaturesWarning(UserWarning):
    """Base class of the package's warnings."""


class UntrainedWeightsWarning(EnformerFeaturesWarning):
    """The network's weights are random; its numbers mean nothing biological."""


class SmallNetworkWarning(EnformerFeaturesWarning):
    """The network is the small bundled one, which is for trying things out."""


class WindowWarning(EnformerFeaturesWarning):
    """Windows that were padded with N, or that are mostly N."""


class VariantWarning(EnformerFeaturesWarning):
    """Variants that do not fit the genome, or that a file cannot hold."""


class UnmatchedWarning(EnformerFeaturesWarning):
    """Rows that had no partner when two tables were joined."""


class TargetWarning(EnformerFeaturesWarning):
    """Targets that most heads will refuse, or from which nothing can be learnt."""


class FailedWindowsWarning(EnformerFeaturesWarning):
    """Rows that became NaN because it was asked for; the message says why."""


class FailedUnitsWarning(EnformerFeaturesWarning):
    """Units of a store that no worker could compute; all others were."""


class LeakageWarning(EnformerFeaturesWarning):
    """Tested rows that the model, or the network under it, has seen in training."""


class CacheWarning(EnformerFeaturesWarning):
    """Cached rows that cannot be read or kept; they are computed again."""


class CompletenessWarning(EnformerFeaturesWarning):
    """Scores that do not add up to the change of the prediction they explain."""


class DeviceMemoryWarning(EnformerFeaturesWarning):
    """The batch was made smaller because the device ran out of memory."""


def warn(message: str, category: type[Warning], stacklevel: int = 3) -> None:
    """Warn once, pointing at the caller's caller."""
    warnings.warn(message, category, stacklevel=stacklevel)


def first_few(items: Sequence[object], limit: int = 5) -> str:
    """Render the first few of many offenders, and say how many there are in all.

    Examples
    --------
    >>> first_few(["a", "b", "c"], limit=2)
    'a, b, ... (3 in all)'
    """
    shown = ", ".join(str(item) for item in items[:limit])
    return shown if len(items) <= limit else f"{shown}, ... ({len(items)} in all)"


def check_choice(name: str, value: object, choices: Sequence[str]) -> None:
    """Refuse a value that is none of the choices, and name the nearest.

    Examples
    --------
    >>> check_choice("edge", "padd", ("pad", "error", "nan"))
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputError: edge='padd' is not one of 'pad', 'error', \
'nan'; did you mean 'pad'?
    """
    if isinstance(value, str) and value in choices:
        return
    listed = ", ".join(repr(choice) for choice in choices)
    near = difflib.get_close_matches(str(value), choices, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    msg = f"{name}={value!r} is not one of {listed}{hint}"
    raise InputError(msg)


def check_several(name: str, value: object) -> None:
    """Refuse one text where several are expected: its letters would be taken.

    Examples
    --------
    >>> check_several("test", "chr4")
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputTypeError: test='chr4' is a single text; wrap it \
in a list: ['chr4']
    """
    if isinstance(value, str | bytes):
        msg = f"{name}={value!r} is a single text; wrap it in a list: [{value!r}]"
        raise InputTypeError(msg)
