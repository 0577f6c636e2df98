"""VariantEffect: scores of variants as a scikit-learn transformer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal, Self

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.pipeline import Pipeline
from sklearn.utils import Tags

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.fitted import (
    Head,
    copy_of,
    head_of,
    split_model,
)
from enformer_features.estimators.job import warn_about_edges
from enformer_features.estimators.parameters import (
    ON_ERROR,
    backend_of,
    check_parameters,
    recipe_of,
)
from enformer_features.exceptions import (
    InputError,
    InputTypeError,
    VariantWarning,
    check_choice,
    check_several,
    warn,
)
from enformer_features.genomics.genome import Genome, open_genome
from enformer_features.genomics.regions import raise_bad_rows
from enformer_features.genomics.variants import (
    ON_MISMATCH,
    OnMismatch,
    describe_counts,
    prepare_variants,
    variant_table,
)
from enformer_features.inference.features import Backend
from enformer_features.inference.layout import Layout
from enformer_features.inference.pooling import Pool
from enformer_features.inference.precision import resolve_precision
from enformer_features.inference.recipe import Recipe
from enformer_features.variant_effect.job import DIFFERENCE_PASSES, VariantJob
from enformer_features.variant_effect.placement import (
    INDELS,
    Indels,
    VariantReads,
    bins_of_variants,
    lay_out_variants,
    number_windows,
    variant_names,
)
from enformer_features.variant_effect.scores import (
    AGGREGATES,
    OF_COUNTS,
    OF_HEADS,
    SCORES,
    with_companions,
)

Floats = npt.NDArray[np.float32]
# Why an allele has no score, whatever on_error says; other reasons are errors.
SKIPPED_CLASSES = (
    *("symbolic", "breakend", "overlapping deletion", "missing allele"),
    *("other letters", "no change", "REF mismatch", "outside its window"),
    "too long",
)
ROUNDED = ("tf32", "bfloat16", "float16")
BIN_WORDS = ("auto", "all", "tss", "variant")


class VariantEffect(TransformerMixin, BaseEstimator):
    r"""Score what variants change, in tracks, embeddings or a fitted head's targets.

    Both alleles are read in one window by one path, so that rounding never looks like
    an effect. A substitution costs little more than the network's transformer; its
    reference is computed once for all variants of a window.

    Parameters
    ----------
    model : EnformerEmbedder or Pipeline
        An embedder, whose tracks or embedding are scored bin by bin (its ``pooling``
        plays no part), or a fitted pipeline that begins with one, whose predictions
        are compared (its ``pooling`` is what it was fitted with). Directions
        (``strand``), ``shifts``, ``center``, ``edge``, ``sequence_length``, device and
        precision are the embedder's: ``strand="average"`` averages both directions and
        ``shifts=(-1, 0, 1)`` moved windows, bin by bin, before anything is scored.
    score : str or tuple of str, default="SAD"
        With *a* the alternative's bins, *r* the reference's, *A* the aggregate:

        - ``"SAD"``: :math:`A(a) - A(r)`;
        - ``"SAR"``: :math:`\log_2(1 + A(a)) - \log_2(1 + A(r))`, of tracks;
        - ``"logSAD"``: :math:`A(\log_2(1 + a) - \log_2(1 + r))`, of tracks;
        - ``"D1"``: :math:`A(|a - r|)`; ``"D2"``: :math:`\sqrt{A((a - r)^2)}`;
        - ``"max"``: the change, with its sign, of the bin that changes most, and which
          kept bin that is as ``"max_bin"``;
        - ``"REF"``, ``"ALT"``: :math:`A(r)`, :math:`A(a)`.

        Of a pipeline: ``"SAD"`` (the difference of its predictions), ``"REF"``,
        ``"ALT"``.
    aggregate : {"mean", "sum"}, default="mean"
        Over bins. The published release takes the mean over all 896, Basenji's script
        the sum: 896 times as much. Never compare one with the other.
    bins : {"auto", "all", "tss", "variant"} or (int, int), default="auto"
        Bins that are scored: all kept ones; the TSS bin and its neighbours (for pairs
        with genes); the bin of the variant's first base and its neighbours; or a range
        relative to the middle bin. ``"auto"`` is "tss" for pairs with genes, else
        "all". Not for pipelines.
    indels : {"auto", "left", "center", "aligned"}, default="auto"
        Which bases of an inserted or shortened alternative the window holds; "left"
        for lone variants, "aligned" for pairs with genes unless one is named:

        - ``"left"``: the base at the genome's left end of the window stays and the
          other end gains or loses bases, as published: bins right of the variant are
          moved against the genome, which can look like an effect;
        - ``"center"``: the surplus is taken from both ends;
        - ``"aligned"``: bins left of the variant as with the first base fixed, bins
          right of it as with the last base fixed, those of the variant half of each.
          Twice the work.
    snap_bp : int, default=0
        Centre windows on multiples of so many bp instead of the variant, which then
        stands up to half of it off the middle; neighbours share their reference.
    on_mismatch : {"error", "skip", "flag"}, default="error"
        Variants whose REF is not the genome's: one error about all; NaN with a reason;
        or put both alleles into the genome as they are, and say so in ``ref_matches``.
    on_error : {"raise", "nan"}, default="raise"
        Rows that cannot be placed or computed: one error about all, or NaN with a
        reason. Symbolic and other alleles without letters always get a reason.
    targets : list of str, optional
        Names of a pipeline's predictions, such as the tissues it was fitted on; heads
        keep none. ``prediction_0`` ... otherwise.
    difference_pass : None, "float32" or "bfloat16", default=None
        Carry ``alt - ref`` through the transformer in place of both alleles, so that
        only the difference is rounded. With bfloat16 operands that is faster (errors of
        0.4 % near the variant, 0.7 % far from it); in float32 it is more exact than
        two passes, and a little slower. Indels take two passes.

    Notes
    -----
    Row *i* of the result is row *i* of ``X``; a variant that cannot be scored is NaN.
    ``X`` is a variant table (:func:`~enformer_features.read_vcf`,
    :func:`~enformer_features.variant_table`): windows are centred on the variants; or
    pairs (:func:`~enformer_features.pair_with_genes`): windows are centred on the
    gene's TSS, and read on its strand as ``strand`` says.

    ``precision="auto"`` is float32 on every device here: rounded operands (TF32,
    bfloat16) make differences of their own, and are warned about.

    Predicted directions are often wrong between individuals, effects beyond 20 kb are
    under-estimated, and no score is fit for diagnosis: see ``docs/variants.md``.

    References
    ----------
    Avsec et al. 2021, Nature Methods 18:1196. Kelley et al. 2018, Genome Res. 28:739.
    Karollus et al. 2023, Genome Biol. 24:56. Huang et al. 2023, Nat. Genet. 55:2056.

    Examples
    --------
    >>> import pathlib, tempfile, warnings
    >>> import pandas as pd
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\n" + "GATTACA" * 1_000)
    >>> embedder = EnformerEmbedder(
    ...     "untrained-tiny", genome=fasta, sequence_length=2048
    ... )
    >>> variants = pd.DataFrame(
    ...     {"chrom": "chr1", "pos": [3502, 3503], "ref": "A", "alt": ["C", "<DEL>"]}
    ... )
    >>> effects = VariantEffect(embedder, on_mismatch="skip").transform(variants)
    >>> effects.shape, bool((effects[0] != 0).any())
    ((2, 192), True)
    >>> folder.cleanup()
    """

    def __init__(
        self,
        model: EnformerEmbedder | Pipeline,
        *,
        score: str | tuple[str, ...] = "SAD",
        aggregate: Literal["mean", "sum"] = "mean",
        bins: str | tuple[int, int] = "auto",
        indels: Literal["auto"] | Indels = "auto",
        snap_bp: int = 0,
        on_mismatch: OnMismatch = "error",
        on_error: Literal["raise", "nan"] = "raise",
        targets: Sequence[str] | None = None,
        difference_pass: Literal["float32", "bfloat16"] | None = None,
    ) -> None:
        self.model = model
        self.score = score
        self.aggregate = aggregate
        self.bins = bins
        self.indels = indels
        self.snap_bp = snap_bp
        self.on_mismatch = on_mismatch
        self.on_error = on_error
        self.targets = targets
        self.difference_pass = difference_pass

    def fit(self, X: Any, y: Any = None) -> Self:
        """Check parameters and rows; no weights are read.

        Parameters
        ----------
        X : variant table or pairs, n_rows
        y : ignored

        Returns
        -------
        VariantEffect
            Itself.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            As :meth:`job` does.
        """
        self.job(X)
        return self

    def transform(self, X: Any) -> Floats:
        """Score variants.

        Parameters
        ----------
        X : variant table or pairs, n_rows

        Returns
        -------
        ndarray of float32, shape (n_rows, n_scores * n_targets)
            Row *i* is row *i* of ``X``; NaN for rows that cannot be scored. Columns as
            :meth:`get_feature_names_out` names them.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            As :meth:`job` does, before any weights are read.
        WeightsError, DeviceMemoryError, InferenceError
            As the embedder's ``transform`` does.
        """
        job = self.job(X)
        return job.compute(np.arange(len(job)))[0]

    def table(self, X: Any) -> pd.DataFrame:
        """Score variants, and return the scores beside them.

        Parameters
        ----------
        X : variant table or pairs, n_rows

        Returns
        -------
        DataFrame
            Rows and index of ``X``: the variants, where their windows lie, ``reason``
            and one column per score and target.
        """
        job = self.job(X)
        values, reasons = job.compute(np.arange(len(job)))
        scores = pd.DataFrame(values, index=job.table.index, columns=job.names)
        return pd.concat([job.table.assign(reason=reasons), scores], axis=1)

    def job(self, X: Any) -> VariantJob:
        """Check and place every variant; opens no weights.

        Parameters
        ----------
        X : variant table or pairs, n_rows

        Returns
        -------
        VariantJob
            What is computed from; ``plan()`` says what it costs.

        Raises
        ------
        InputError, InputTypeError, GenomeError
            When a parameter cannot be used, there is no genome, REF alleles are not the
            genome's, or rows cannot be placed: all of them together.
        """
        embedder, _ = split_model(self.model)
        scores = self._check(embedder)
        self._warn_about_rounding(embedder)
        recipe = recipe_of(embedder)
        head = head_of(self.model, recipe)
        targets = self._targets(recipe, head)
        genome = _genome_of(embedder)
        table = prepare_variants(
            variant_table(X),
            genome,
            on_mismatch=self.on_mismatch,
            contig_style=embedder.contig_style,
        )
        if self.on_error == "raise":
            raise_bad_rows(_but_skipped(table), "variants")
        _refuse_none(table)
        rows = np.flatnonzero((table["reason"] == "").to_numpy())
        good = table.iloc[rows]
        layout = lay_out_variants(good, genome, embedder, snap_bp=self.snap_bp)
        pools = recipe.pools
        if head is None:
            pools = (Pool("scored", self._pool_bins(good)),)
            recipe = replace(recipe, pools=pools)
        layout, bins = _with_bins(layout, good, recipe)
        table = _with_windows(table, rows, layout, good, recipe)
        if self.on_error == "raise":
            raise_bad_rows(_but_skipped(table), "variants")
            _refuse_none(table)
        warn_about_edges(layout)
        kept = layout.good_rows
        windows, good = layout.table.iloc[kept], good.iloc[kept]
        numbers = number_windows(good, windows)
        reads = VariantReads(
            genome,
            good,
            windows,
            numbers,
            shifts=tuple(embedder.shifts),
            indels=self._indels(good),
            geometry=recipe.geometry,
        )
        return VariantJob(
            table=table,
            rows=rows[kept],
            reads=reads,
            numbers=numbers,
            bins=[of_pool[kept] for of_pool in bins],
            recipe=recipe,
            head=head,
            scores=scores,
            targets=targets,
            aggregate=self.aggregate,
            difference_pass=self.difference_pass,
            embedder=embedder,
            backend=self._backend(embedder),
            settings=self._settings(good),
            genome=genome,
        )

    def get_feature_names_out(self, input_features: Any = None) -> npt.NDArray[Any]:
        """Name the columns: tracks, embedding dimensions or targets.

        Parameters
        ----------
        input_features : ignored

        Returns
        -------
        ndarray of str, shape (n_scores * n_targets,)
            ``score__target`` when there are several scores.
        """
        embedder, _ = split_model(self.model)
        scores = self._check(embedder)
        recipe = recipe_of(embedder)
        head = head_of(self.model, recipe)
        targets = self._targets(recipe, head)
        if len(scores) > 1:
            targets = [f"{score}__{target}" for score in scores for target in targets]
        return np.array(targets, dtype=object)

    def _check(self, embedder: EnformerEmbedder) -> tuple[str, ...]:
        """Refuse parameters that cannot be; return the scores with companions."""
        check_parameters(embedder)
        given = (self.score,) if isinstance(self.score, str) else tuple(self.score)
        for score in given:
            check_choice("score", score, tuple(SCORES))
        if not given or len(set(given)) < len(given):
            msg = f"score={self.score!r} must name a score, and none of them twice"
            raise InputError(msg)
        check_choice("aggregate", self.aggregate, AGGREGATES)
        check_choice("indels", self.indels, ("auto", *INDELS))
        check_choice("on_mismatch", self.on_mismatch, ON_MISMATCH)
        check_choice("on_error", self.on_error, ON_ERROR)
        if isinstance(self.bins, str):
            check_choice("bins", self.bins, BIN_WORDS)
        _check_snap(self.snap_bp)
        if self.difference_pass is not None:
            choices = tuple(DIFFERENCE_PASSES)
            check_choice("difference_pass", self.difference_pass, choices)
            resolve_precision(self.difference_pass, backend_of(embedder).device)
            if embedder.precision == "float64":
                msg = (
                    f"difference_pass={self.difference_pass!r} would round what "
                    "precision='float64' does not; use one of the two"
                )
                raise InputError(msg)
        self._check_fits(embedder, given)
        return with_companions(given)

    def _check_fits(self, embedder: EnformerEmbedder, scores: tuple[str, ...]) -> None:
        _, steps = split_model(self.model)
        if embedder.output not in ("embedding", "tracks"):
            msg = (
                f"output={embedder.output!r} of the embedder has no variant scores; "
                "use 'embedding' or 'tracks'"
            )
            raise InputError(msg)
        if steps is not None:
            others = [score for score in scores if score not in OF_HEADS]
            if others or self.bins != "auto":
                what = f"score={others[0]!r}" if others else f"bins={self.bins!r}"
                msg = (
                    f"{what} is for bins, and a pipeline's predictions have none; its "
                    f"scores are {OF_HEADS}, of the bins that its pooling reads"
                )
                raise InputError(msg)
        logs = [score for score in scores if score in OF_COUNTS]
        if logs and embedder.output != "tracks":
            msg = (
                f"score={logs[0]!r} takes the logarithm of counts, and an embedding "
                "can be negative; use EnformerEmbedder(output='tracks'), or 'SAD'"
            )
            raise InputError(msg)

    def _backend(self, embedder: EnformerEmbedder) -> Backend:
        """Return where and how; where nobody chose, products are not rounded."""
        backend = replace(backend_of(embedder), on_error=self.on_error)
        if embedder.precision == "auto":
            exact = resolve_precision("float32", backend.device)
            return replace(backend, precision=exact)
        return backend

    def _warn_about_rounding(self, embedder: EnformerEmbedder) -> None:
        if embedder.precision in ROUNDED:
            msg = (
                f"precision={embedder.precision!r} rounds each allele by itself, which "
                "can look like an effect, most of all far from the variant; use "
                "'float32', and difference_pass='bfloat16' for speed"
            )
            warn(msg, VariantWarning, 4)

    def __sklearn_clone__(self) -> Self:
        """Return a copy with the same parameters; a fitted head stays fitted."""
        parameters = self.get_params(deep=False)
        return type(self)(**{**parameters, "model": copy_of(self.model)})

    def _targets(self, recipe: Recipe, head: Head | None) -> list[str]:
        """Name what is scored: tracks, dimensions, or a head's predictions."""
        if self.targets is None:
            return recipe.bin_names if head is None else head.targets
        check_several("targets", self.targets)
        names = [str(name) for name in self.targets]
        if head is None:
            msg = "targets names a pipeline's predictions; tracks have their own names"
            raise InputError(msg)
        if len(names) != len(head.targets) or len(set(names)) < len(names):
            msg = (
                f"targets has {len(names)} names, {len(set(names))} of them different; "
                f"the pipeline makes {len(head.targets)} predictions"
            )
            raise InputError(msg)
        return names

    def _pool_bins(self, table: pd.DataFrame) -> str | tuple[int, int]:
        """Return the bins that a pool of the scored ones has."""
        if self.bins == "variant":
            return "region"
        if self.bins != "auto":
            return self.bins
        return "tss" if _has_genes(table) else "all"

    def _indels(self, table: pd.DataFrame) -> Indels:
        """Return the frame of indels: at genes, what is not moved must not change."""
        if self.indels != "auto":
            return self.indels
        return "aligned" if _has_genes(table) else "left"

    def _settings(self, table: pd.DataFrame) -> dict[str, Any]:
        names = ("aggregate", "snap_bp", "on_mismatch")
        settings = {f"variant_{name}": getattr(self, name) for name in names}
        bins = self._pool_bins(table)
        settings["variant_bins"] = "variant" if bins == "region" else bins
        settings["variant_indels"] = self._indels(table)
        score = [self.score] if isinstance(self.score, str) else list(self.score)
        return {
            **settings,
            "variant_score": score,
            "difference_pass": self.difference_pass,
        }

    def __sklearn_is_fitted__(self) -> bool:
        """Return True: there is nothing to learn."""
        return True

    def __sklearn_tags__(self) -> Tags:
        """Describe the estimator to scikit-learn."""
        tags = super().__sklearn_tags__()
        tags.input_tags.two_d_array = False
        tags.input_tags.string = True
        tags.input_tags.allow_nan = True
        tags.target_tags.required = False
        tags.transformer_tags.preserves_dtype = []
        tags.requires_fit = False
        return tags


def _has_genes(table: pd.DataFrame) -> bool:
    """Tell whether all variants are paired with a gene."""
    return "tss" in table and bool((table["tss"].to_numpy() >= 0).all())


def _genome_of(embedder: EnformerEmbedder) -> Genome:
    if embedder.genome is None:
        msg = (
            "variants need a genome: give EnformerEmbedder(genome='hg38.fa'), the "
            "build that the VCF was called on"
        )
        raise InputError(msg)
    return open_genome(embedder.genome, ambiguous=embedder.ambiguous)


def _check_snap(snap_bp: object) -> None:
    is_whole = isinstance(snap_bp, int | np.integer) and not isinstance(snap_bp, bool)
    if not is_whole:
        msg = f"snap_bp={snap_bp!r} must be a whole number of bp"
        raise InputTypeError(msg)
    if int(snap_bp) < 0:  # type: ignore[call-overload]
        msg = f"snap_bp={snap_bp!r} must not be negative; 0 centres on the variant"
        raise InputError(msg)


def _refuse_none(table: pd.DataFrame) -> None:
    if (table["reason"] != "").all():
        first = f"row {table.index[0]}: {table['reason'].iloc[0]}"
        msg = f"no variant can be scored: {describe_counts(table)}; {first}"
        raise InputError(msg)


def _but_skipped(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without the reasons of alleles that are skipped anyway."""
    skipped = table["reason"].str.partition(":")[0].isin(SKIPPED_CLASSES)
    names = zip(table.index, variant_names(table), strict=True)
    labels = [f"{label} ({name})" for label, name in names]
    reasons = table["reason"].mask(skipped, "")
    return pd.DataFrame({"reason": reasons.to_numpy()}, index=labels)


def _alleles(table: pd.DataFrame) -> list[tuple[str, str]]:
    return list(zip(table["norm_ref"], table["norm_alt"], strict=True))


def _with_bins(
    layout: Layout, table: pd.DataFrame, recipe: Recipe
) -> tuple[Layout, list[npt.NDArray[np.int64]]]:
    """Return the bins that are read; rows whose variant lies outside get a reason."""
    geometry = recipe.geometry
    bins = bins_of_variants(table, layout.table, geometry)
    half = geometry.n_positions
    outside = (bins[:, 1] <= -geometry.crop_bins) | (
        bins[:, 0] >= half - geometry.crop_bins
    )
    length = geometry.sequence_length
    text = (
        f"outside its window: it is not in the {length} bp around the window's centre; "
        f"were pairs made with sequence_length={length}, is snap_bp as large?"
    )
    reasons = dict.fromkeys(np.flatnonzero(outside).tolist(), text)
    longest = np.array([max(map(len, two)) for two in _alleles(table)])
    reasons |= {
        row: f"too long: an allele of {longest[row]} bp, more than half of a window of "
        f"{length} bp"
        for row in np.flatnonzero((longest > length // 2) & ~outside).tolist()
    }
    if recipe.pools[0].bins == "region":
        own = layout.region_bins(geometry)
        assert own is not None
        past = (own[:, 0] < 0) | (own[:, 1] > geometry.n_bins)
        reasons |= {
            row: f"outside its window: the variant's bins {own[row, 0]} to "
            f"{own[row, 1] - 1} are not among the kept bins 0 to "
            f"{geometry.n_bins - 1}; use a smaller snap_bp, a nearer gene, or "
            "bins='all'"
            for row in np.flatnonzero(past & ~outside).tolist()
            if row not in reasons
        }
    layout = layout.with_reasons(reasons, raising=False)
    return layout.pool_bins(recipe.pools, geometry, raising=False)


def _with_windows(
    table: pd.DataFrame,
    rows: npt.NDArray[np.intp],
    layout: Layout,
    good: pd.DataFrame,
    recipe: Recipe,
) -> pd.DataFrame:
    """Put windows, bins and new reasons into the table of all rows."""
    geometry = recipe.geometry
    bins = bins_of_variants(good, layout.table, geometry)[:, 0]
    kept = (bins >= 0) & (bins < geometry.n_bins)
    columns: dict[str, Any] = {
        "window_start": -1,
        "window_end": -1,
        "read_strand": "",
        "bin": -1,
    }
    out = table.assign(**columns)
    reasons = layout.table["reason"]
    is_bare = (reasons != "") & ~reasons.str.partition(":")[0].isin(SKIPPED_CLASSES)
    placed = layout.table.assign(reason=reasons.mask(is_bare, "window: " + reasons))
    for name in ("window_start", "window_end", "read_strand", "reason"):
        values = out[name].to_numpy(copy=True)
        values[rows] = placed[name].to_numpy()
        out[name] = values
    numbers = out["bin"].to_numpy(copy=True)
    numbers[rows] = np.where(kept, bins, -1)
    return out.assign(bin=numbers)
