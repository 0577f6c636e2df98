"""EnformerRegressor: the network tuned on the user's own measurement."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
from sklearn.base import BaseEstimator, RegressorMixin
from sklearn.metrics import r2_score
from sklearn.utils import Tags
from sklearn.utils.validation import check_is_fitted
from torch import nn

from enformer_features.estimators.inputs import Samples
from enformer_features.estimators.job import prepare, resolve
from enformer_features.estimators.parameters import check_parameters, recipe_of
from enformer_features.exceptions import (
    UntrainedWeightsWarning,
    WeightsError,
    check_choice,
    warn,
)
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.windows import Center, Edge, Strand
from enformer_features.inference.pooling import Pool
from enformer_features.model.handle import ModelHandle
from enformer_features.model.registry import Weights, load_weights, weights_digest
from enformer_features.training.tuning.folder import (
    check_folder,
    plain_settings,
    read_folder,
    write_folder,
)
from enformer_features.training.tuning.freezing import Tune
from enformer_features.training.tuning.plan import FitPlan, plan_of
from enformer_features.training.tuning.settings import (
    PLACES,
    check_packages,
    check_settings,
    link_of,
    pool_of,
)
from enformer_features.training.tuning.train import Trained, train
from enformer_features.training.tuning.tunable import Link, predict_rows
from enformer_features.training.tuning.tuned import HEAD, Tuned, tuned_network
from enformer_features.training.tuning.work import (
    Work,
    bin_embedder,
    embedder_of,
    prepare_work,
    reads_bins,
    run,
)

Floats = npt.NDArray[np.float32]
CHUNK_BYTES = 2**28  # of bins that a head is applied to at once


class EnformerRegressor(RegressorMixin, BaseEstimator):
    """Tune the network, or only a head on it, to predict a measurement from DNA.

    Every bin has a prediction, ``softplus(linear(embedding))`` for counts or
    ``linear(embedding)`` otherwise. A row's prediction is their mean over the pooled
    bins, and with ``strand="average"`` over both directions; or the measurement may be
    of the bins themselves.

    Parameters
    ----------
    weights : str, path or ModelHandle, default="enformer"
        The network to begin with; as for :class:`~enformer_features.EnformerEmbedder`.
    genome : str, path or Genome, default=None
        FASTA file, plain or BGZF. Needed for regions, not for sequences.
    tune : {"head", "last", "lora", "full"}, default="last"
        What trains, beside a new head: nothing; the last transformer block and the
        final pointwise block; low-rank adapters beside the linear layers of every
        transformer block (needs peft); or everything. What lies below is computed
        without gradients.
    loss : {"poisson", "mse"} or class, default="poisson"
        ``"poisson"`` for counts and other values of at least 0, ``"mse"`` for
        logarithms and the like; or a class of torch losses, such as
        ``torch.nn.HuberLoss``. All but Poisson train on standardised targets. The
        Poisson loss of a target is divided by its standard deviation, if that is
        above 1, so that no target dominates by its unit.
    lora_rank : int, default=8
    lora_alpha : float, default=16.0
        The adapters' output is multiplied by ``lora_alpha / lora_rank``.
    lora_dropout : float, default=0.0
        Of what goes into the adapters.
    learning_rate : float, default=None
        Its highest value: it rises linearly, then falls as a cosine. None is 1e-3 for
        ``"head"`` and ``"lora"``, 3e-4 for ``"last"`` and ``"full"``.
    max_epochs : int, default=20
    batch_size : int, default=4
        Rows per training step.
    weight_decay : float, default=0.01
        Of AdamW; biases and norms are left alone.
    clip_norm : float, default=1.0
        Largest norm of the gradient; None for no limit.
    warm_up : float, default=0.1
        Share of all steps in which the learning rate rises.
    patience : int, default=5
        Epochs without a better validation loss after which training stops; the
        weights of the best epoch are taken. None trains to the end, and takes the
        last.
    validation_fraction : float, default=0.1
        Of the groups (see :meth:`fit`) that are set aside to validate with; 0 for
        none, and no early stopping.
    freeze_statistics : bool or "auto", default="auto"
        Keep the running statistics of batch norms that train. ``"auto"`` keeps them
        when ``batch_size`` is below 16: few windows ruin them. The batch norms of
        parts that do not train always keep theirs.
    reverse_complement : bool, default=False
        In training, read every row in one of its directions at random; for
        ``strand="ignore"`` and ``"average"``.
    shift_bp : int, default=0
        In training, move windows by up to so many bp at random; at most 64.
    activation_checkpointing : bool, default=False
        Less memory for more time: compute activations again in the backward pass.
    pooling : str or Pool, default="tss"
        The bins that a target is the mean of: ``"tss"``, ``"center"``, ``"mean"``
        (every kept bin), ``"region"``, or a Pool that is their mean. For a measurement
        of bins, these bins in their order; ``"flatten"`` is every kept bin.
    sequence_length : int or None, default=None
        Length of the window in bp; None is the length that ``weights`` were trained
        on, 196,608 for the published.
    center, strand, edge, resize, ambiguous, contig_style, device
        As for :class:`~enformer_features.EnformerEmbedder`. Rows that ``edge="nan"``
        leaves out are predicted as NaN, and cannot be trained on.
    cache_gb : float, default=2.0
        Memory for what the frozen part computes, so that epochs after the first do not
        compute it again. Published sizes take 9.4 MB per window for ``"last"`` and
        ``"lora"``, 12 kB per pooled bin for ``"head"``.
    checkpoint : path, default=None
        Folder in which the state is kept after every epoch. A later :meth:`fit` with
        the same parameters, data and weights goes on after the last epoch that was
        finished; if that was the final one, it only takes the result. On a CPU with a
        fixed ``random_state`` the result is bit for bit that of a fit that was not
        interrupted. Each fit needs a folder of its own; delete it afterwards.
    random_state : int, RandomState instance or None, default=None
        Order of rows, rows to validate with, augmentation, dropout. A number gives
        the same weights every time on the CPU.
    verbose : bool or None, default=None
        Progress bars; None shows them on a terminal.

    Attributes
    ----------
    target_names_ : list of str
        Columns of the targets; ``target_0`` ... for arrays.
    n_targets_ : int
    history_ : list of dict
        Per epoch ``epoch``, ``train_loss``, ``validation_loss`` and
        ``validation_correlation`` (Pearson, mean over targets). Losses are those of
        standardised targets, but for Poisson.
    best_epoch_ : int
        The epoch whose weights were taken.
    validation_rows_ : ndarray of int
        Rows of ``X`` that were set aside.
    freeze_statistics_ : bool
    sequence_length_ : int
        The window in bp.
    weights_digest_ : str
        Identity of the network that tuning began with.
    tuned_ : Tuned
        The head, and all arrays that trained.

    Notes
    -----
    The head starts at the mean of the targets, on standardised features; both fold
    into one linear layer. A fitted regressor keeps the arrays that trained and the
    identity of the network they belong to; :meth:`save` writes them as one network.

    Peak memory of one training step on one window of the published size, CPU, all
    included: 3.0 GB for ``"head"``, 3.3 GB for ``"last"``, 9.1 GB for ``"lora"``; with
    ``activation_checkpointing`` 5.2 GB for ``"lora"`` and 11.2 GB for ``"full"``.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196, Methods; Hu et al. 2022, LoRA.

    Examples
    --------
    >>> import numpy as np, warnings
    >>> from enformer_features import EnformerRegressor, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> regressor = EnformerRegressor(
    ...     "untrained-tiny", tune="head", sequence_length=1024, max_epochs=2,
    ...     device="cpu", random_state=0,
    ... )
    >>> X = np.random.default_rng(0).integers(0, 4, (6, 1024)).astype("uint8")
    >>> regressor.fit(X, np.arange(6.0)).predict(X).shape
    (6,)
    """

    def __init__(
        self,
        weights: str | PathLike[str] | ModelHandle = "enformer",
        *,
        genome: str | PathLike[str] | Genome | None = None,
        tune: Tune = "last",
        loss: Literal["poisson", "mse"] | type[nn.Module] = "poisson",
        lora_rank: int = 8,
        lora_alpha: float = 16.0,
        lora_dropout: float = 0.0,
        learning_rate: float | None = None,
        max_epochs: int = 20,
        batch_size: int = 4,
        weight_decay: float = 0.01,
        clip_norm: float | None = 1.0,
        warm_up: float = 0.1,
        patience: int | None = 5,
        validation_fraction: float = 0.1,
        freeze_statistics: bool | Literal["auto"] = "auto",
        reverse_complement: bool = False,
        shift_bp: int = 0,
        activation_checkpointing: bool = False,
        pooling: str | Pool = "tss",
        sequence_length: int | None = None,
        center: Center = "base",
        strand: Strand = "match",
        edge: Edge = "pad",
        resize: Literal["error", "pad", "crop"] = "error",
        ambiguous: Literal["error", "N"] = "error",
        contig_style: Literal["ucsc", "ensembl"] | None = None,
        device: str = "auto",
        cache_gb: float = 2.0,
        checkpoint: str | PathLike[str] | None = None,
        random_state: int | np.random.RandomState | None = None,
        verbose: bool | None = None,
    ) -> None:
        self.weights = weights
        self.genome = genome
        self.tune = tune
        self.loss = loss
        self.lora_rank = lora_rank
        self.lora_alpha = lora_alpha
        self.lora_dropout = lora_dropout
        self.learning_rate = learning_rate
        self.max_epochs = max_epochs
        self.batch_size = batch_size
        self.weight_decay = weight_decay
        self.clip_norm = clip_norm
        self.warm_up = warm_up
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.freeze_statistics = freeze_statistics
        self.reverse_complement = reverse_complement
        self.shift_bp = shift_bp
        self.activation_checkpointing = activation_checkpointing
        self.pooling = pooling
        self.sequence_length = sequence_length
        self.center = center
        self.strand = strand
        self.edge = edge
        self.resize = resize
        self.ambiguous = ambiguous
        self.contig_style = contig_style
        self.device = device
        self.cache_gb = cache_gb
        self.checkpoint = checkpoint
        self.random_state = random_state
        self.verbose = verbose

    def fit(self, X: Any, y: Any, groups: Any = None) -> Self:
        """Tune the network.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
            As for :class:`~enformer_features.EnformerEmbedder`.
        y : array-like, shape (n_rows,), (n_rows, n_targets), or with bins
            One or several numbers per row; or per row and pooled bin, of shape
            ``(n_rows, n_bins, n_targets)``.
        groups : array-like, shape (n_rows,), optional
            Rows of one group are set aside together. By default the chromosome of a
            region; sequences have none, and single rows are set aside.

        Returns
        -------
        EnformerRegressor
            Itself.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter, any row, the targets or the groups cannot be used, before
            any weights are read.
        MissingDependencyError
            When skorch, or for ``tune="lora"`` peft, is not installed.
        WeightsError
            When the weights are missing or damaged.
        DeviceMemoryError
            When a batch does not fit into the device's memory.
        InferenceError
            When training ends in values that are not finite.
        PlanMismatchError
            When ``checkpoint`` holds a fit with other parameters, data or weights;
            every difference is named.
        StoreError
            When the state in ``checkpoint`` is damaged, or cannot be written.
        """
        work = self._checked(X, y, groups)
        self._remember(work, train(work))
        return self

    def plan(self, X: Any, y: Any, groups: Any = None) -> FitPlan:
        """Check all that :meth:`fit` would, and say what it would do; runs nothing.

        Parameters
        ----------
        X, y, groups
            As for :meth:`fit`.

        Returns
        -------
        FitPlan
            Rows, what trains, epochs, windows that are read. Without a fixed
            ``random_state`` another call sets other rows aside.

        Raises
        ------
        InputError, InputTypeError, GenomeError, MissingDependencyError
            As :meth:`fit` does.
        PlanMismatchError, StoreError
            When the fit in ``checkpoint`` could not be gone on with.
        """
        return plan_of(self._checked(X, y, groups))

    def predict(self, X: Any) -> Floats:
        """Predict the targets.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows

        Returns
        -------
        ndarray of float32, shape (n_rows,), (n_rows, n_targets), or with bins
            Of the shape of the targets that it was fitted to; row *i* is row *i* of
            ``X``.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        InputError, InputTypeError, GenomeError
            When a parameter or any row cannot be used, before any weights are read.
        WeightsError
            When the network that it began with is not there, or another one.
        """
        check_is_fitted(self)
        settings = self._settings(fitted=True)
        self._warn_about_base()
        samples = self._resolve(X)
        if reads_bins(settings):
            values = self._predict_from_bins(settings, samples)
        else:
            tracks = embedder_of(
                settings,
                weights=self._network(),
                output="tracks",
                organism=HEAD,
                pooling=pool_of(self.pooling, "flatten" if self.per_bin_ else "mean"),
            )
            values = run(tracks, samples)
        if self.per_bin_:
            return values.reshape(len(samples), -1, self.n_targets_)
        return values[:, 0] if self.is_vector_ else values

    def score(self, X: Any, y: Any, sample_weight: Any = None) -> float:
        """Return R2 of the predictions, the mean over targets.

        Parameters
        ----------
        X : table or sequence of regions or sequences, n_rows
        y : array-like
            As for :meth:`fit`. Bins are taken together.
        sample_weight : array-like, shape (n_rows,), optional

        Returns
        -------
        float
        """
        predicted = self.predict(X)
        if predicted.ndim < 3:
            return float(r2_score(y, predicted, sample_weight=sample_weight))
        observed = np.asarray(y, dtype=np.float64).reshape(-1, self.n_targets_)
        weights = None
        if sample_weight is not None:
            weights = np.repeat(np.asarray(sample_weight), predicted.shape[1])
        flat = predicted.reshape(observed.shape)
        return float(r2_score(observed, flat, sample_weight=weights))

    def save(self, folder: str | PathLike[str], *, overwrite: bool = False) -> Path:
        """Write the tuned network and all that is needed to load the regressor.

        The folder is a network in the layout of the Hugging Face release. With the
        loss ``"poisson"`` it has a head called ``"targets"``:
        ``EnformerEmbedder(folder, output="tracks", organism="targets")`` predicts what
        the regressor predicts.

        Parameters
        ----------
        folder : path
            Made if it does not exist.
        overwrite : bool, default=False
            Whether a model that it holds may be replaced.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        sklearn.exceptions.NotFittedError
            Before :meth:`fit`.
        StoreError
            When the folder holds a model already, or cannot be written.
        InputError
            When the loss is no class of ``torch.nn``.
        """
        check_is_fitted(self)
        path = check_folder(folder, overwrite=overwrite)
        settings = plain_settings(self.get_params(deep=False))
        network = self._network()
        if isinstance(network, ModelHandle):
            module = network.module
        else:
            module = load_weights(network).module
        fitted = {name: getattr(self, name) for name in _FITTED}
        fitted["validation_rows_"] = self.validation_rows_.tolist()
        write_folder(path, module, self.tuned_.head, settings, fitted)
        return path

    @classmethod
    def load(cls, folder: str | PathLike[str], **places: Any) -> Self:
        """Load a regressor that :meth:`save` wrote; nothing in the folder is run.

        Parameters
        ----------
        folder : path
            Predictions use its network; it must stay where it is.
        **places : object
            What is elsewhere on this machine: ``genome``, ``weights`` (only for
            another ``fit``), ``contig_style``, ``device``, ``cache_gb``, ``verbose``,
            ``checkpoint``.

        Returns
        -------
        EnformerRegressor
            Fitted; its predictions are those of the one that was saved.

        Raises
        ------
        StoreError
            When a file is missing, damaged, or belongs to another model.
        InputError
            When a parameter is given that says more than where things are.
        """
        for name in places:
            check_choice("a parameter that load() takes", name, PLACES)
        saved = read_folder(folder)
        regressor = cls(**{**saved.settings, **places})
        for name in _FITTED:
            setattr(regressor, name, saved.fitted[name])
        regressor.validation_rows_ = np.array(saved.fitted["validation_rows_"], int)
        regressor.tuned_ = Tuned(saved.head, {}, {})
        regressor.folder_ = saved.folder
        return regressor

    def __getstate__(self) -> dict[str, Any]:
        """Return what is pickled: no networks, only what trained."""
        state = dict(super().__getstate__())
        state.pop("_handle", None)
        return state

    def __sklearn_tags__(self) -> Tags:
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.one_d_array = True
        tags.input_tags.string = True
        tags.target_tags.multi_output = True
        tags.target_tags.positive_only = self.loss == "poisson"
        tags.non_deterministic = self.random_state is None
        return tags

    def _resolve(self, X: Any, *, reset: bool = False) -> Samples:
        """Bring ``X`` into one form; the one place that a subclass may override."""
        settings = self._settings(fitted=not reset)
        embedder = embedder_of(settings)
        check_parameters(embedder)
        return resolve(embedder, X)

    def _checked(self, X: Any, y: Any, groups: Any) -> Work:
        """Check all that a fit is given."""
        settings = self._settings()
        check_packages(settings)
        return prepare_work(settings, self._resolve(X, reset=True), X, y, groups)

    def _settings(self, *, fitted: bool = False) -> dict[str, Any]:
        """Return the parameters, for a fit or for what was fitted."""
        settings: dict[str, Any] = self.get_params(deep=False)
        if fitted:  # a loaded regressor does not need the weights it began with
            settings["weights"] = getattr(self, "folder_", self.weights)
        check_settings(settings)
        return settings

    def _link(self) -> Link:
        return link_of(self.loss)

    def _remember(self, work: Work, trained: Trained) -> None:
        for name in ("folder_", "_handle"):  # of an earlier fit
            self.__dict__.pop(name, None)
        self.tuned_ = trained.tuned
        self.history_, self.best_epoch_ = trained.history, trained.best_epoch
        self.freeze_statistics_ = trained.freeze_statistics
        self.weights_digest_ = trained.weights_digest
        self.sequence_length_ = work.job.recipe.geometry.sequence_length
        self.target_names_ = work.targets.names
        self.n_targets_ = len(work.targets.names)
        self.is_vector_ = work.targets.is_vector
        self.per_bin_ = work.targets.per_bin
        self.validation_rows_ = work.valid

    def _predict_from_bins(self, settings: dict[str, Any], samples: Samples) -> Floats:
        weights = self._base() if self.tune == "head" else self._network()
        embedder = bin_embedder(settings, per_bin=self.per_bin_, weights=weights)
        chunk = max(1, CHUNK_BYTES // (4 * recipe_of(embedder).n_features))
        if len(samples) > chunk:  # so that all bad rows are told together
            prepare(embedder, samples)
        head, link = self.tuned_.head, self._link()
        return np.concatenate(
            [
                predict_rows(
                    head,
                    link,
                    run(embedder, samples.part(slice(start, start + chunk))),
                    per_bin=self.per_bin_,
                )
                for start in range(0, len(samples), chunk)
            ]
        )

    def _warn_about_base(self) -> None:
        """Warn when the folder's network grew from random weights; it does not say."""
        if hasattr(self, "folder_") and self.weights_digest_.startswith("untrained:"):
            msg = f"the network in {self.folder_} was tuned from random weights"
            warn(msg, UntrainedWeightsWarning, stacklevel=4)

    def _base(self) -> Weights:
        """Return the network that tuning began with, if it is still the same."""
        folder: Path | None = getattr(self, "folder_", None)
        if folder is not None:  # its trunk is the same
            return folder
        digest = weights_digest(self.weights)
        if digest != self.weights_digest_:
            msg = (
                f"weights={self.weights!r} are not those that this regressor was "
                f"fitted on ({self.weights_digest_}), but {digest}; fit it again"
            )
            raise WeightsError(msg)
        weights: Weights = self.weights
        return weights

    def _network(self) -> Weights:
        """Return the tuned network; it is put together once."""
        folder: Path | None = getattr(self, "folder_", None)
        if folder is not None:
            return folder
        handle: ModelHandle | None = getattr(self, "_handle", None)
        if handle is None:
            loaded = load_weights(self._base())
            with_head = self._link() == "softplus"
            network = tuned_network(
                loaded.module,
                self.tuned_,
                with_head=with_head,
                sequence_length=self.sequence_length_,
            )
            name = f"{loaded.name}, tuned ({self.tune})"
            handle = self._handle = ModelHandle(network, name, loaded.trained)
        return handle


# What a saved regressor knows of its fit, as plain values.
_FITTED = (
    "target_names_",
    "n_targets_",
    "is_vector_",
    "per_bin_",
    "history_",
    "best_epoch_",
    "freeze_statistics_",
    "sequence_length_",
    "weights_digest_",
)
