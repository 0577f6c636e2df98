"""The input of a fit, checked: all that can be wrong is told before any weights."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sklearn.utils import check_random_state

from enformer_features import __version__
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import Job, embed, lay_out, prepare
from enformer_features.estimators.parameters import cache_of, recipe_of
from enformer_features.exceptions import InputError, first_few
from enformer_features.training.run_folder import RunFolder
from enformer_features.training.tuning.folder import plain_settings
from enformer_features.training.tuning.rows import (
    Rows,
    Targets,
    Views,
    check_groups,
    resolve_targets,
    split_rows,
)
from enformer_features.training.tuning.settings import PLACES, link_of, pool_of

Floats = npt.NDArray[np.float32]
Settings = dict[str, Any]

# What a regressor hands to its embedders as it is.
SHARED = (
    *("weights", "genome", "sequence_length", "center", "strand", "edge", "resize"),
    *("ambiguous", "contig_style", "device", "verbose"),
)


@dataclass(frozen=True, eq=False)
class Work:
    """Checked input of a fit.

    Parameters
    ----------
    settings : dict
        Parameters of the regressor.
    samples : Samples
    job : Job
        Of the embedder that reads the rows.
    targets : Targets
    views : Views
    train, valid : ndarray of int
        Rows.
    seed : int
    moved : Job or None
        Of the rows moved as far as augmentation moves them.
    checkpoint : RunFolder or None
        Where the state of the fit is kept.
    groups : ndarray of str, shape (n_rows,), or None
        Of which some are set aside; None when rows are.
    """

    settings: Settings
    samples: Samples
    job: Job
    targets: Targets
    views: Views
    train: Rows
    valid: Rows
    seed: int
    moved: Job | None
    checkpoint: RunFolder | None
    groups: npt.NDArray[Any] | None

    @property
    def knows_bins(self) -> bool:
        """Whether the embedder computes the bins of all rows once, before training."""
        settings = self.settings
        has_own_bins = pool_of(settings["pooling"]).bins == "region"
        is_head_of_bins = settings["tune"] == "head" and reads_bins(settings)
        if not is_head_of_bins or self.views.is_random or has_own_bins:
            return False
        embedder = bin_embedder(settings, per_bin=self.targets.per_bin)
        n_bytes = 4 * recipe_of(embedder).n_features * len(self.samples)
        return n_bytes <= keep_bytes(settings)

    def identity(self, weights_digest: str) -> dict[str, Any]:
        """Return all that the result depends on, as plain values.

        Parameters
        ----------
        weights_digest : str
            Of the network that tuning begins with.
        """
        ignored = {*PLACES, "random_state"}
        loss = self.settings["loss"]
        if not isinstance(loss, str):
            loss = f"{loss.__module__}.{loss.__qualname__}"
        settings = plain_settings({**self.settings, "loss": loss})
        return {
            "enformer_features": __version__,
            "weights": weights_digest,
            "seed": self.seed,
            "settings": {k: v for k, v in settings.items() if k not in ignored},
            "bins_embedded_once": self.knows_bins,
            "data": {
                "rows": len(self.samples),
                "letters": _digest_of_letters(self.job, self.moved),
                "targets": _digest(self.targets.values),
                "target_names": self.targets.names,
                "validation_rows": _digest(self.valid.astype(np.int64)),
            },
        }


def _digest(*arrays: npt.NDArray[Any]) -> str:
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return f"sha256:{digest.hexdigest()}"


def _digest_of_letters(*jobs: Job | None) -> str:
    """Return the identity of the letters that are read, and of the pooled bins."""
    arrays: list[npt.NDArray[Any]] = []
    for job in filter(None, jobs):
        rows = sorted(job.scanned.digests)
        letters = b"".join(job.scanned.digests[row] for row in rows)
        arrays += [np.frombuffer(letters, np.uint8), *job.bins]
    return _digest(*arrays)


def keep_bytes(settings: Settings) -> int:
    """Return the memory for what the frozen part computes."""
    return int(settings["cache_gb"] * 1e9)


def embedder_of(settings: Settings, **changes: Any) -> EnformerEmbedder:
    """Return an embedder that reads rows as a regressor does, and takes their mean."""
    shared = {name: settings[name] for name in SHARED}
    pooling = pool_of(settings["pooling"], "mean")
    return EnformerEmbedder(**{**shared, "pooling": pooling, **changes})


def bin_embedder(
    settings: Settings, *, per_bin: bool, **changes: Any
) -> EnformerEmbedder:
    """Return an embedder of the bins that a head is applied to.

    For a linear head the mean of the bins will do.
    """
    is_mean = link_of(settings["loss"]) == "identity" and not per_bin
    pool = pool_of(settings["pooling"], "mean" if is_mean else "flatten")
    return embedder_of(settings, **{"pooling": pool, **changes})


def reads_bins(settings: Settings) -> bool:
    """Tell whether predictions are made from embeddings.

    So are those of linear heads, and of heads on a network that is not tuned, whose
    embeddings may be known already; not so where rows have their own number of bins,
    or several views: softplus of their mean embedding is not the mean of softplus.
    """
    if link_of(settings["loss"]) == "identity":
        return True
    has_own_bins = pool_of(settings["pooling"]).bins == "region"
    has_views = settings["strand"] == "average"
    return settings["tune"] == "head" and not has_own_bins and not has_views


def run(embedder: EnformerEmbedder, samples: Samples) -> Floats:
    """Embed rows that were resolved already."""
    return embed(prepare(embedder, samples), cache_of(embedder)).values


def prepare_work(
    settings: Settings, samples: Samples, X: Any, y: Any, groups: Any
) -> Work:
    """Check everything that a fit is given, and read all but the weights.

    Parameters
    ----------
    settings : dict
        Parameters of the regressor, checked.
    samples : Samples
        ``X``, resolved.
    X, y, groups : object
        As the user gave them.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        When anything cannot be used.
    StoreError
        When a kept state is damaged.
    """
    checkpoint = _checkpoint_of(settings)
    counts = link_of(settings["loss"]) == "softplus"
    targets = resolve_targets(X, y, len(samples), counts=counts)
    job = prepare(embedder_of(settings), samples)
    _refuse_left_out(job)
    _check_bins(settings["pooling"], job, targets)
    moved = _moved(settings, samples)
    seed = _seed(settings, checkpoint)
    groups_of_rows = _groups_of(job, groups)
    train, valid = split_rows(
        len(samples),
        groups_of_rows,
        float(settings["validation_fraction"]),
        random_state=seed,
        chosen=groups is not None,
    )
    job.warn_about_windows()
    return Work(
        settings=settings,
        samples=samples,
        job=job,
        targets=targets,
        views=_views(settings, samples),
        train=train,
        valid=valid,
        seed=seed,
        moved=moved,
        checkpoint=checkpoint,
        groups=groups_of_rows,
    )


def _checkpoint_of(settings: Settings) -> RunFolder | None:
    """Return the folder of the state, which is new, or holds a fit."""
    if settings["checkpoint"] is None:
        return None
    folder = RunFolder(settings["checkpoint"])
    if folder.read_settings() is None:
        folder.check_new()
    return folder


def _seed(settings: Settings, checkpoint: RunFolder | None) -> int:
    """Draw it, or go on with the one that was drawn for ``random_state=None``."""
    drawn = int(check_random_state(settings["random_state"]).randint(2**31 - 1))
    begun = None if checkpoint is None else checkpoint.read_settings()
    if settings["random_state"] is not None or begun is None:
        return drawn
    return int(begun["seed"]) if isinstance(begun.get("seed"), int) else drawn


def _refuse_left_out(job: Job) -> None:
    layout = job.layout
    reasons = layout.table["reason"].to_numpy()
    bad = [
        f"{label}: {reason}"
        for label, reason in zip(layout.labels, reasons, strict=True)
        if reason
    ]
    if bad:
        msg = f"rows that are not read cannot be trained on: {first_few(bad)}"
        raise InputError(msg)


def _check_bins(pooling: Any, job: Job, targets: Targets) -> None:
    """Compare the bins of the targets with those that are pooled."""
    pool, n_kept = pool_of(pooling), job.recipe.geometry.n_bins
    if not targets.per_bin:
        if pool.reduction == "flatten":
            msg = (
                f"pooling={pooling!r} needs a y of shape (n_rows, n_bins, n_targets); "
                "for one value per row use 'tss', 'center' or 'mean'"
            )
            raise InputError(msg)
        return
    n_given = targets.values.shape[1]
    low, high = job.bins[0][0]
    has_own_bins = pool.bins == "region"
    if has_own_bins or n_given != high - low:
        pooled = "a number that differs between rows" if has_own_bins else high - low
        msg = (
            f"y has {n_given} bins per row, and pooling={pooling!r} reads {pooled}; "
            f"every kept bin ({n_kept}) is pooling='flatten'"
        )
        raise InputError(msg)


def _moved(settings: Settings, samples: Samples) -> Job | None:
    """Check what only moved windows read."""
    shift_bp = int(settings["shift_bp"])
    if not shift_bp:
        return None
    return prepare(embedder_of(settings, shifts=(-shift_bp, shift_bp)), samples)


def _views(settings: Settings, samples: Samples) -> Views:
    return Views(
        lambda shift: lay_out(embedder_of(settings, shifts=(shift,)), samples).reads,
        int(settings["shift_bp"]),
        settings["reverse_complement"],
    )


def _groups_of(job: Job, groups: Any) -> npt.NDArray[Any] | None:
    """Return the user's groups, or the chromosomes of regions."""
    layout = job.layout
    if groups is not None:
        return check_groups(groups, len(layout))
    return None if layout.regions is None else layout.regions["chrom"].to_numpy(str)
