"""The comparison that was made between Enformer and ExPecto, as a protocol of ours."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import FunctionTransformer

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.evaluation.checks import warn_about_single_rows
from enformer_features.estimators.evaluation.result import Evaluation
from enformer_features.estimators.evaluation.run import evaluate, standard_baselines
from enformer_features.estimators.heads import (
    expecto_head,
    ridge_head,
    xgboost_head,
)
from enformer_features.estimators.parameters import window_length
from enformer_features.estimators.splits.rows import (
    LabelledRegions,
    row_chroms,
    row_ids,
)
from enformer_features.estimators.splits.rules import (
    ChromosomeSplit,
    TrainedRegionSplit,
)
from enformer_features.estimators.splits.splitter import fewest_trained
from enformer_features.exceptions import (
    InputError,
    check_choice,
    check_several,
    first_few,
)

FEATURES = ("tracks", "embedding", "tracks-kernels", "embedding-kernels")
HEADS = ("ridge", "gblinear", "gblinear-tuned", "trees")
TRAINED_FOLDS = 5
REMARKS = (
    "protocol: ours, after ExPecto (Zhou et al. 2018) and its comparison with Enformer "
    "(Avsec et al. 2021). Test chromosome, chromosomes left out, one TSS per gene and "
    "log(x + c) are ExPecto's; which outputs, bins, head and penalty the authors of "
    "Enformer took is not confirmed, so do not set these numbers beside theirs",
    "leak: the tested chromosome is held out from the heads, not from the network, "
    "which was trained on regions of all chromosomes",
)


def expecto_protocol(
    genes: pd.DataFrame,
    expression: pd.DataFrame,
    embedder: EnformerEmbedder,
    *,
    test: Sequence[str] = ("chr8",),
    leave_out: Sequence[str] = ("chrX", "chrY"),
    c: float = 1e-4,
    features: Sequence[str] = FEATURES,
    heads: Sequence[str] = ("ridge", "gblinear", "trees"),
    baselines: Sequence[str] = ("mean", "composition"),
    trained_regions: LabelledRegions | None = None,
    n_boot: int = 200,
    seed: int = 0,
) -> Evaluation:
    """Compare features and heads as ExPecto was tested: on chromosome 8.

    Targets are ``log(x + c)``; chromosome 8 is tested, X and Y are left out, all
    others train the heads. Windows are centred on one TSS per gene and read in both
    directions.

    Parameters
    ----------
    genes : DataFrame, n_genes
        ``chrom``, ``tss``, ``strand``, such as :func:`~enformer_features.read_genes`
        returns: one row, and one TSS, per gene.
    expression : DataFrame, shape (n_genes, n_tissues)
        Of the same genes in the same order (:func:`~enformer_features.align`), not
        negative, not yet a logarithm.
    embedder : EnformerEmbedder
        Weights, genome, length, device and cache are taken from it; output, pooling and
        strand are set by the protocol.
    test : sequence of str, default=("chr8",)
    leave_out : sequence of str, default=("chrX", "chrY")
    c : float, default=1e-4
        In units of the expression.
    features : sequence of str, default=all
        ``"tracks"``: log(1 + x) of the mean of the bin of the TSS and its neighbours;
        ``"embedding"``: that mean, without the logarithm; ``"tracks-kernels"``, log(1 +
        x) of the sums, and ``"embedding-kernels"``: ExPecto's ten kernels over the
        bins.
    heads : sequence of str, default=("ridge", "gblinear", "trees")
        ``"ridge"``: penalties chosen for each tissue on held-out chromosomes;
        ``"gblinear"``: ExPecto's settings of 2018; ``"gblinear-tuned"``, which needs
        two chromosomes to train on; ``"trees"``: boosted trees on principal
        components.
    baselines : sequence of str, default=("mean", "composition")
        As for :func:`~enformer_features.standard_baselines`.
    trained_regions : path or DataFrame, optional
        What the network was trained, validated and tested on. With it, a second split
        tests the genes inside regions that the network has *not* learnt from: in folds
        of whole chromosomes, the left-out ones aside.
    n_boot, seed : int
        For intervals; `seed` also for baselines.

    Returns
    -------
    Evaluation
        Model names are "features, head"; medians across genes, one score per tissue,
        with quartiles, and across tissues, one per gene.

    Raises
    ------
    InputError, InputTypeError
        For a text where several are expected, negative or missing expression, genes
        that occur twice, a chromosome without genes, or names that are not there.

    Warns
    -----
    LeakageWarning
        As :func:`~enformer_features.evaluate`; also when one chromosome is left to
        train on, so that penalties are chosen on held-out rows.

    References
    ----------
    Zhou et al. 2018, Nature Genetics 50:1171. Avsec et al. 2021, Nature Methods
    18:1196.

    Examples
    --------
    >>> genes = pd.DataFrame({"chrom": "chr1", "tss": [100, 900]}, index=["A", "A"])
    >>> expecto_protocol(genes, pd.DataFrame([[1.0], [2.0]]), EnformerEmbedder("mini"))
    Traceback (most recent call last):
    ...
    enformer_features.exceptions.InputError: genes that occur twice: A; the protocol \
takes one TSS per gene
    """
    named = {"test": test, "leave_out": leave_out, "features": features}
    for parameter, names in (named | {"heads": heads, "baselines": baselines}).items():
        check_several(parameter, names)
    for name in features:
        check_choice("features", name, FEATURES)
    for name in heads:
        check_choice("heads", name, HEADS)
    targets = _log_expression(genes, expression, c)
    chroms = row_chroms(genes)
    splits: dict[str, Any] = {
        ", ".join(test): ChromosomeSplit(list(test), leave_out=list(leave_out))
    }
    if trained_regions is not None:
        n_tested = len(set(chroms) - set(leave_out))
        by_chromosome = ChromosomeSplit(
            n_splits=min(TRAINED_FOLDS, n_tested), leave_out=list(leave_out)
        )
        splits["the network's own test regions"] = by_chromosome & TrainedRegionSplit(
            trained_regions, sequence_length=window_length(embedder)
        )
    fewest = fewest_trained(splits.values(), genes)
    if "ridge" in heads or set(baselines) - {"mean"}:
        warn_about_single_rows(fewest[0])
    made_heads = {name: _head(name, *fewest) for name in heads}
    both_directions = clone(embedder).set_params(strand="average")
    models = {
        f"{name}, {head}": _model(both_directions, name, made_heads[head])
        for name in features
        for head in heads
    }
    plain = both_directions.set_params(output="embedding", tracks=None, pooling="tss")
    return evaluate(
        models,
        genes,
        targets,
        splits=splits,
        baselines=standard_baselines(
            plain, _head("ridge", *fewest), baselines, seed=seed
        ),
        groups=chroms,
        n_boot=n_boot,
        seed=seed,
        trained_regions=trained_regions,
        remarks=[*REMARKS, f"targets: log(x + {c:g})"],
    )


def _log_expression(
    genes: pd.DataFrame, expression: pd.DataFrame, c: float
) -> pd.DataFrame:
    ids = row_ids(genes)
    twice = list(dict.fromkeys(ids[ids.duplicated()]))
    if twice:
        msg = (
            f"genes that occur twice: {first_few(twice)}; the protocol takes one TSS "
            "per gene"
        )
        raise InputError(msg)
    if not 0 < c < np.inf:
        msg = f"c={c!r} must be greater than 0, and finite"
        raise InputError(msg)
    table = pd.DataFrame(expression).astype(np.float64)
    for what, is_bad in (("negative", table < 0), ("missing", table.isna())):
        rows = table.index[is_bad.any(axis=1)].tolist()
        if rows:
            msg = (
                f"expression is {what} for {first_few(rows)}; log(x + c) is of "
                "measured amounts: leave these genes out, or give values before any log"
            )
            raise InputError(msg)
    return pd.DataFrame(np.log(table + c))


def _model(embedder: EnformerEmbedder, name: str, head: BaseEstimator) -> BaseEstimator:
    output, _, kernels = name.partition("-")
    pooling = "expecto" if kernels else "tss"
    step = clone(embedder).set_params(output=output, pooling=pooling)
    if output == "tracks":
        log = FunctionTransformer(np.log1p, feature_names_out="one-to-one")
        return make_pipeline(step, log, clone(head))
    return make_pipeline(step.set_params(tracks=None), clone(head))


def _head(name: str, n_chroms: int, n_rows: int) -> BaseEstimator:
    """Make a head, of whose folds none trains on fewer chromosomes, or rows."""
    folds: Any = min(5, n_chroms) if n_chroms > 1 else "rows"
    if name == "ridge":
        return ridge_head(cv=folds)
    if name == "trees":  # components are at most as many as rows, of every fold
        return xgboost_head(n_components=min(64, n_rows))
    if name == "gblinear":
        return expecto_head("2018", target_transform=None)
    if n_chroms < 2:
        msg = (
            f"heads: {name!r} chooses its settings on held-out chromosomes, and a fold "
            "trains on one alone; at least 2 are needed, or use 'gblinear'"
        )
        raise InputError(msg)
    return expecto_head("tuned", cv=folds, target_transform=None)
