"""The scalar that is explained: of tracks, of the embedding, or of a fitted head."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.fitted import Head, head_of, split_model
from enformer_features.estimators.parameters import check_parameters, recipe_of
from enformer_features.estimators.streaming import changed
from enformer_features.exceptions import InputError, InputTypeError, check_choice
from enformer_features.inference.pooling import BIN_WORDS, Pool
from enformer_features.inference.tracks import TrackSelection, resolve_tracks
from enformer_features.interpret.affine import affine_coefficients
from enformer_features.model.registry import weights_config

Doubles = npt.NDArray[np.float64]
Tracks = int | list[int] | tuple[int, ...] | str | TrackSelection | None


@dataclass(frozen=True)
class Target:
    """What is explained: one number for every region.

    One of the three: the mean of tracks over bins (``tracks``, ``bins``), the mean
    embedding of bins along a direction (``direction``, ``bins``), or one prediction of
    a fitted pipeline (``output``), of the bins that its own pooling reads. Nothing at
    all is the pipeline's only prediction, or the embedder's own tracks.

    Parameters
    ----------
    tracks : int, sequence of int, str or TrackSelection, optional
        As in :class:`~enformer_features.EnformerEmbedder`; their mean is explained.
    bins : str or (int, int), default="tss"
        ``"tss"``: the TSS bin and its neighbours; ``"center"``, ``"all"``,
        ``"region"``; or a half-open range relative to the TSS bin: ``(-1, 2)`` is
        ``"tss"``.
    direction : sequence of float, optional
        A vector over the embedding's dimensions, 3,072 for the published network.
    output : int or str, optional
        Number or name of a prediction of a fitted pipeline.

    Raises
    ------
    InputError, InputTypeError
        When these do not go together, or are none of what they may be.

    Examples
    --------
    >>> Target(tracks=[4828, 5111])
    Target(tracks=(4828, 5111), bins='tss', direction=None, output=None)
    """

    tracks: Tracks = None
    bins: str | tuple[int, int] = "tss"
    direction: Sequence[float] | None = None
    output: int | str | None = None

    def __post_init__(self) -> None:
        names = ("tracks", "direction", "output")
        given = [name for name in names if getattr(self, name) is not None]
        if len(given) > 1:
            msg = f"a target is one of {' and '.join(given)}; make one for each"
            raise InputError(msg)
        tracks: object = self.tracks
        if isinstance(tracks, list | tuple | np.ndarray | range):
            object.__setattr__(self, "tracks", _as_tracks(tracks))
        bins: object = self.bins
        if isinstance(bins, list):
            object.__setattr__(self, "bins", tuple(bins))
        if isinstance(self.bins, str):
            check_choice("bins", self.bins, BIN_WORDS)
        if self.output is not None and self.bins != "tss":
            raise InputError(_no_bins(self.bins))
        if self.direction is not None:
            object.__setattr__(self, "direction", _as_direction(self.direction))

    @property
    def of_network(self) -> bool:
        """Whether it asks for something of the network itself."""
        return self.tracks is not None or self.direction is not None


def _no_bins(bins: object) -> str:
    return (
        f"bins={bins!r} is for tracks and directions; a pipeline's predictions are of "
        "the bins that its own pooling reads"
    )


def _as_tracks(tracks: Any) -> tuple[int, ...]:
    """Return numbers of tracks; that the head has them is checked with the model."""
    return resolve_tracks(tracks, organism="any", n_tracks=sys.maxsize).indices


def _as_direction(direction: Any) -> tuple[float, ...]:
    try:
        values = np.asarray(direction, dtype=np.float64)
    except (TypeError, ValueError) as error:
        msg = (
            f"direction={direction!r:.80} must be a vector of numbers, one for each "
            "dimension of the embedding"
        )
        raise InputError(msg) from error
    if values.ndim != 1 or not len(values) or not np.isfinite(values).all():
        msg = (
            f"direction has shape {values.shape}; it must be a vector of finite "
            "numbers, one for each dimension of the embedding"
        )
        raise InputError(msg)
    if not values.any():
        msg = "direction is 0 everywhere: nothing depends on it"
        raise InputError(msg)
    return tuple(values.tolist())


@dataclass(frozen=True)
class Readout:
    """How the number that is explained is made of pooled features.

    Made by :func:`resolve_target`.

    Parameters
    ----------
    embedder : EnformerEmbedder
        As it is to be run: its output, tracks and pools are the target's.
    name : str
        What is explained.
    head : Head or None
        The fitted steps; without them ``weights`` make the number.
    output : int
        Number of the head's prediction.
    weights : ndarray of float64, shape (n_features,), or None
    """

    embedder: EnformerEmbedder
    name: str
    head: Head | None = None
    output: int = 0
    weights: Doubles | None = None

    def predict(self, features: Doubles) -> Doubles:
        """Make the number of pooled features: (n, n_features) to (n,)."""
        if self.head is not None:
            return self.head.predict(features)[:, self.output]
        assert self.weights is not None
        found: Doubles = features @ self.weights
        return found

    def provenance(self) -> dict[str, Any]:
        """Return what the number depends on, as plain types."""
        head = None if self.head is None else self.head.digest
        about = {"explained": self.name, "head_digest": head, "bins": "of the pooling"}
        if self.head is None:
            about["bins"] = repr(recipe_of(self.embedder).pools[0].bins)
        return {**self.embedder.provenance(), **about}

    def affine(self) -> tuple[Doubles, float]:
        """Return weights and offset, if the number is affine in the features.

        Raises
        ------
        InputError
            When the head is not.
        """
        if self.head is None:
            assert self.weights is not None
            return self.weights, 0.0
        last = type(self.head.steps[-1]).__name__
        return affine_coefficients(
            self.predict,
            len(self.head.feature_names),
            what=f"the pipeline's head ({last})",
        )


def resolve_target(model: Any, target: Target | None = None) -> Readout:
    """Tell what a target means for a model.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
    target : Target, optional

    Returns
    -------
    Readout

    Raises
    ------
    InputError, InputTypeError
        When the model has nothing of the kind; the message says what to give.
    """
    embedder, steps = split_model(model)
    check_parameters(embedder)
    target = _checked(target)
    if steps is None and target.output is not None:
        msg = (
            f"output={target.output!r} names a prediction of a fitted pipeline, and "
            "this is an embedder alone; give Target(tracks=...), or the pipeline"
        )
        raise InputError(msg)
    if steps is not None and not target.of_network:
        return _of_head(model, embedder, target)
    if target.direction is not None:
        return _of_direction(embedder, target)
    return _of_tracks(embedder, target)


def _checked(target: object) -> Target:
    if target is None:
        return Target()
    if not isinstance(target, Target):
        msg = (
            f"target must be a Target, not {type(target).__name__}: "
            "Target(tracks=...), Target(direction=...) or Target(output=...)"
        )
        raise InputTypeError(msg)
    return target


def _pool(target: Target) -> Pool:
    return Pool("explained", target.bins)


def _of_tracks(embedder: EnformerEmbedder, target: Target) -> Readout:
    if target.tracks is None and embedder.output != "tracks":
        msg = (
            f"what is to be explained? The embedder's output is {embedder.output!r}: "
            "give Target(tracks=...), or a Target(direction=...) of the embedding"
        )
        raise InputError(msg)
    tracks = embedder.tracks if target.tracks is None else target.tracks
    run = changed(
        embedder, output="tracks", tracks=tracks, pooling=_pool(target), cache=None
    )
    names = recipe_of(run).bin_names
    what = names[0] if len(names) == 1 else f"mean of {len(names)} tracks"
    return Readout(run, what, weights=np.full(len(names), 1 / len(names)))


def _of_direction(embedder: EnformerEmbedder, target: Target) -> Readout:
    assert target.direction is not None
    n = weights_config(embedder.weights).embedding_dim
    if len(target.direction) != n:
        msg = (
            f"direction has {len(target.direction)} numbers; the embedding of "
            f"{embedder.weights!r} has {n} dimensions"
        )
        raise InputError(msg)
    run = changed(
        embedder, output="embedding", tracks=None, pooling=_pool(target), cache=None
    )
    return Readout(run, "direction", weights=np.array(target.direction))


def _of_head(model: Any, embedder: EnformerEmbedder, target: Target) -> Readout:
    head = head_of(model, recipe_of(embedder))
    assert head is not None
    if target.bins != "tss":
        raise InputError(_no_bins(target.bins))
    names = head.targets
    number = _output_of(target.output, names)
    return Readout(changed(embedder, cache=None), names[number], head, number)


def _output_of(output: int | str | None, names: list[str]) -> int:
    if output is None:
        if len(names) > 1:
            msg = (
                f"the pipeline makes {len(names)} predictions, and one is explained at "
                f"a time: give Target(output=...), one of {_few(names)}"
            )
            raise InputError(msg)
        return 0
    if isinstance(output, str):
        if output in names:
            return names.index(output)
        near = difflib.get_close_matches(output, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        msg = f"output={output!r} is none of the predictions {_few(names)}{hint}"
        raise InputError(msg)
    if isinstance(output, bool) or not isinstance(output, int | np.integer):
        msg = f"output={output!r} must be the number or name of a prediction"
        raise InputTypeError(msg)
    if not 0 <= output < len(names):
        msg = (
            f"output={output} is out of range; the pipeline makes {len(names)} "
            f"predictions, 0 to {len(names) - 1}"
        )
        raise InputError(msg)
    return int(output)


def _few(names: list[str]) -> str:
    shown = ", ".join(repr(name) for name in names[:5])
    return shown if len(names) <= 5 else f"{shown}, ... ({len(names)} in all)"
