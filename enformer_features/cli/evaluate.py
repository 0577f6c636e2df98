"""``enformer-features evaluate``: heads beside baselines on splits, tables, figures."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli import measured, outputs
from enformer_features.cli.console import OK, add_common, note, show
from enformer_features.cli.heads import HEADS
from enformer_features.cli.options import (
    add_embedder,
    add_rows,
    make_embedder,
    read_rows,
    row_files,
    settings,
)
from enformer_features.exceptions import (
    InputError,
    MissingDependencyError,
    check_choice,
)

if TYPE_CHECKING:
    import pandas as pd
    from anndata import AnnData

    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.estimators.evaluation.result import Evaluation

SPLITS = ("chromosome", "overlap", "families", "trained-regions")
PROTOCOLS = ("expecto",)
PAGE = "report.html"
_CHOOSING = ("ridge", "lasso", "elastic-net")  # a penalty, on chromosomes if it can
_FEATURES = ".h5ad"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate``."""
    parser.description = (
        "evaluate: fit heads and baselines out of fold, and say how well each "
        "predicts. --genes may be an .h5ad of embed, whose features are then taken."
    )
    add_rows(parser)
    measured.add_measurements(parser)
    _add_models(parser)
    _add_splits(parser)
    add_embedder(parser)
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o", "--out", required=True, metavar="FOLDER", help="tables, record, figures"
    )
    group.add_argument(
        "--metric", default="spearman", help="spearman, pearson, r2 (default: spearman)"
    )
    group.add_argument(
        "--n-boot", type=int, default=200, help="draws for intervals (default: 200)"
    )
    group.add_argument(
        "--html",
        action="store_true",
        help="also write report.html, a page that needs nothing else",
    )
    outputs.add_writing(group)
    add_common(parser)


def _add_models(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("models")
    group.add_argument(
        "--heads",
        type=_words,
        help=f"some of {','.join(HEADS)} (default: ridge); with --protocol, of "
        "ridge,gblinear,gblinear-tuned,trees (default: without the tuned one)",
    )
    group.add_argument(
        "--baselines",
        type=_words,
        help="some of mean,composition,kmers,untrained,permuted, or none (default: "
        "mean,composition)",
    )
    group.add_argument(
        "--fill-missing",
        action="store_true",
        help="fit on the median where a value is missing, for heads other than ridge",
    )
    group.add_argument(
        "--protocol",
        help="expecto: its split, log(x + 1e-4), tracks, embedding and kernels",
    )
    group.add_argument(
        "--protocol-features",
        type=_words,
        metavar="A,B",
        help="some of tracks,embedding,tracks-kernels,embedding-kernels (default: all)",
    )
    group.add_argument("--seed", type=int, default=0, help="(default: 0)")


def _add_splits(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("splits")
    group.add_argument(
        "--split",
        action="append",
        help=f"{', '.join(SPLITS)}; repeatable (default: chromosome)",
    )
    group.add_argument(
        "--folds", type=int, metavar="N", help="(default: every chromosome once, or 5)"
    )
    group.add_argument(
        "--holdout",
        action="append",
        metavar="CHROM",
        help="chromosome split: test this one, in a single fold; repeatable",
    )
    group.add_argument(
        "--leave-out",
        action="append",
        default=[],
        metavar="CHROM",
        help="chromosome split: neither fit nor test this one; repeatable (with "
        "--protocol, in place of chrX and chrY)",
    )
    group.add_argument(
        "--buffer-bp",
        type=int,
        default=0,
        metavar="BP",
        help="so many bp between windows of two folds (overlap, trained-regions)",
    )
    group.add_argument(
        "--families", metavar="FILE", help="TSV: ids in the first column, family next"
    )
    group.add_argument(
        "--trained-regions",
        metavar="BED",
        help="what the network learnt from: train, valid or test in column 4",
    )


def run(args: argparse.Namespace) -> int:
    """Evaluate, write tables and figures, and print the table."""
    from enformer_features.estimators.evaluation.result import FILES, check_files

    _check_options(args)
    inputs = [*row_files(args), args.targets, args.families, args.trained_regions]
    folder = Path(args.out).expanduser()
    names = [*FILES, *_figures(), *([PAGE] if args.html else [])]
    rows, targets = _read(args)
    embedder = _embedder(args)
    table = rows.obs if hasattr(rows, "obs") else rows
    families = _families(args)
    splits = _splits(args, _window_length(embedder, rows), families)
    n_folds = {name: _n_folds(split, table) for name, split in splits.items()}
    if args.dry_run:
        plan = asdict(embedder.plan(table)) if embedder and rows is table else {}
        counts = {"n_targets": targets.shape[1], "folds": n_folds or args.protocol}
        written = [str(folder / name) for name in names]
        show(args, {"n_rows": len(table), **plan, **counts, "would_write": written})
        return OK
    given = [path for path in inputs if path]
    check_files(folder, names, overwrite=args.overwrite, inputs=given)
    if embedder is not None:
        outputs.keep_rows(args, embedder)
    found = (
        _protocol(args, rows, targets, embedder)
        if args.protocol
        else _evaluation(args, rows, targets, embedder, splits, families)
    )
    files = found.write(folder, overwrite=args.overwrite)
    if _figures():
        from enformer_features.plotting import save_figures

        files += save_figures(found, folder, overwrite=args.overwrite)
    else:
        note(args, "no figures: pip install 'enformer-features[plot]' draws them")
    if args.html:
        from enformer_features.report.evaluation import evaluation_page

        page = folder / PAGE
        files.append(evaluation_page(found, page, overwrite=args.overwrite))
    note(args, f"{len(files)} files in {folder}")
    _tell(args, found, files)
    return OK


def _check_options(args: argparse.Namespace) -> None:
    """Refuse what is unusable before anything is read."""
    if args.html and not _figures():
        msg = "--html draws figures: pip install 'enformer-features[plot]'"
        raise MissingDependencyError(msg)
    for split in args.split or []:
        check_choice("split", split, SPLITS)
    if args.protocol:
        check_choice("protocol", args.protocol, PROTOCOLS)
        chosen = {"--split": args.split, "--log1p": args.log1p, "--folds": args.folds}
        given = [flag for flag, value in chosen.items() if value]
        if given:
            msg = f"--protocol {args.protocol} has its own; leave out {given[0]}"
            raise InputError(msg)
    else:
        for head in args.heads or []:
            check_choice("heads", head, HEADS)
        if args.protocol_features:
            msg = "--protocol-features is for --protocol expecto"
            raise InputError(msg)
    needed = {"families": args.families, "trained-regions": args.trained_regions}
    for split, file in needed.items():
        if split in (args.split or []) and file is None:
            msg = f"--split {split} needs --{split} FILE"
            raise InputError(msg)


def _read(args: argparse.Namespace) -> tuple[Any, pd.DataFrame]:
    """Return rows, or an AnnData of their features, and measurements."""
    from enformer_features.cli import targets as measurements
    from enformer_features.genomics.genes import align

    table = measurements.read_targets(args.targets, args.target)
    adata = _read_features(args)
    rows = read_rows(args) if adata is None else adata.obs
    rows, table = align(rows, table, strip_version=args.strip_version)
    if args.drop_missing:
        complete = measurements.drop_missing(table)
        note(args, f"left out for missing values: {len(table) - len(complete)} rows")
        rows, table = rows.loc[complete.index], complete
    if args.log1p:
        table = measurements.log1p(table)
    if adata is None:
        return rows, table
    places = adata.obs_names.get_indexer(rows.index)
    return adata[places].copy(), table


def _read_features(args: argparse.Namespace) -> AnnData | None:
    if not args.genes or not args.genes.lower().endswith(_FEATURES):
        return None
    import anndata

    file = Path(args.genes).expanduser()
    if not file.is_file():
        msg = f"{file} is not there; enformer-features embed -o {file.name} writes one"
        raise InputError(msg)
    if args.protocol or args.strip_version:
        flag = "--protocol" if args.protocol else "--strip-version"
        msg = f"{flag} needs genes; {file.name} holds features"
        raise InputError(msg)
    return anndata.read_h5ad(file)


def _embedder(args: argparse.Namespace) -> EnformerEmbedder | None:
    """Make the embedder; features in a file need none, unless letters are counted."""
    is_read = bool(args.genes) and args.genes.lower().endswith(_FEATURES)
    return None if is_read and "genome" not in settings(args) else make_embedder(args)


def _window_length(embedder: EnformerEmbedder | None, rows: Any) -> int:
    from enformer_features.estimators.evaluation.fits import as_given
    from enformer_features.estimators.parameters import window_length
    from enformer_features.genomics.windows import SEQUENCE_LENGTH

    _, origin = as_given(rows)
    if embedder is not None and not origin:
        return window_length(embedder)
    return int(origin.get("sequence_length", SEQUENCE_LENGTH))


def _splits(
    args: argparse.Namespace, length: int, families: dict[str, str] | None
) -> dict[str, Any]:
    from enformer_features.estimators.splits import rules

    if args.protocol:
        return {}
    near = {"sequence_length": length, "buffer_bp": args.buffer_bp}
    made: dict[str, Any] = {}
    for name in dict.fromkeys(args.split or ["chromosome"]):
        if name == "chromosome":
            made[name] = rules.ChromosomeSplit(
                args.holdout, n_splits=args.folds, leave_out=args.leave_out
            )
        elif name == "overlap":
            made[name] = rules.WindowOverlapSplit(args.folds or 5, **near)
        elif name == "families":
            made[name] = rules.FamilySplit(families or {}, args.folds or 5)
        else:
            made[name] = rules.TrainedRegionSplit(args.trained_regions, **near)
    return made


def _n_folds(split: Any, rows: pd.DataFrame) -> int:
    return int(split.get_n_splits(rows))


def _families(args: argparse.Namespace) -> dict[str, str] | None:
    if args.families is None:
        return None
    from enformer_features.genomics._gene_table import read_text_table

    table = read_text_table(Path(args.families).expanduser(), separator="\t")
    if table.shape[1] < 2:
        msg = f"{args.families} has one column; expected ids, a tab, and families"
        raise InputError(msg)
    return dict(zip(table.iloc[:, 0], table.iloc[:, 1], strict=True))


def _evaluation(
    args: argparse.Namespace,
    rows: Any,
    targets: pd.DataFrame,
    embedder: EnformerEmbedder | None,
    splits: dict[str, Any],
    families: dict[str, str] | None,
) -> Evaluation:
    from sklearn.pipeline import make_pipeline

    from enformer_features.estimators.evaluation.checks import warn_about_single_rows
    from enformer_features.estimators.evaluation.run import evaluate
    from enformer_features.estimators.splits.splitter import fewest_trained

    table = rows.obs if hasattr(rows, "obs") else rows
    fewest = fewest_trained(splits.values(), table)
    names = args.heads or ["ridge"]
    if set(names) & set(_CHOOSING) or set(_names_of_baselines(args)) - {"mean"}:
        warn_about_single_rows(fewest[0])
    heads = {name: _head(name, *fewest, args.seed) for name in names}
    models = {
        name: head if rows is not table else make_pipeline(embedder, head)
        for name, head in heads.items()
    }
    return evaluate(
        models,
        rows,
        targets,
        splits=splits,
        baselines=_baselines(args, embedder, _head("ridge", *fewest, args.seed), rows),
        metric=args.metric,
        n_boot=args.n_boot,
        seed=args.seed,
        fill_missing=args.fill_missing,
        families=families,
        trained_regions=args.trained_regions,
    )


def _protocol(
    args: argparse.Namespace,
    rows: pd.DataFrame,
    targets: pd.DataFrame,
    embedder: EnformerEmbedder | None,
) -> Evaluation:
    from enformer_features.estimators.evaluation.protocols import (
        FEATURES,
        expecto_protocol,
    )

    assert embedder is not None  # features in a file were refused
    return expecto_protocol(
        rows,
        targets,
        embedder,
        test=args.holdout or ["chr8"],
        leave_out=args.leave_out or ["chrX", "chrY"],
        features=args.protocol_features or FEATURES,
        heads=args.heads or ("ridge", "gblinear", "trees"),
        baselines=_names_of_baselines(args),
        trained_regions=args.trained_regions,
        n_boot=args.n_boot,
        seed=args.seed,
    )


def _names_of_baselines(args: argparse.Namespace) -> list[str]:
    names = ["mean", "composition"] if args.baselines is None else args.baselines
    return [] if names == ["none"] else names


def _baselines(
    args: argparse.Namespace, embedder: EnformerEmbedder | None, head: Any, rows: Any
) -> dict[str, Any]:
    """Make the baselines; of features in a file, those that need no network."""
    from enformer_features.estimators.controls import PermutedTargets, TrainingMean
    from enformer_features.estimators.evaluation.run import standard_baselines

    names = _names_of_baselines(args)
    is_read = hasattr(rows, "obs")
    if embedder is not None and not is_read:
        return standard_baselines(embedder, head, names, seed=args.seed)
    if "untrained" in names:
        msg = "--baselines untrained needs genes and a genome, not features of a file"
        raise InputError(msg)
    letters = [name for name in names if name in ("composition", "kmers")]
    if embedder is None:
        if args.baselines and letters:
            msg = f"--baselines {letters[0]} counts letters: give --genome"
            raise InputError(msg)
        letters = []
    made: dict[str, Any] = {}
    if "mean" in names:
        made["training mean"] = TrainingMean()
    if embedder is not None:
        made |= standard_baselines(embedder, head, letters, seed=args.seed)
    if "permuted" in names:
        made["permuted targets"] = PermutedTargets(head, seed=args.seed)
    return made


def _head(name: str, n_chroms: int, n_rows: int, seed: int) -> Any:
    """Make a head that chooses its penalty on held-out chromosomes, if it has any."""
    from sklearn.model_selection import GroupKFold

    from enformer_features.estimators import heads

    folds = min(5, n_chroms)
    by_group = GroupKFold(folds) if folds > 1 else min(5, n_rows)
    if name == "ridge":
        return heads.ridge_head(cv=folds if folds > 1 else "rows")
    if name == "lasso":
        return heads.lasso_head(cv=by_group, seed=seed)
    if name == "elastic-net":
        return heads.elastic_net_head(cv=by_group, seed=seed)
    if name == "xgboost":
        return heads.xgboost_head(n_components=None, seed=seed)
    if name == "gblinear":
        return heads.expecto_head("2018", target_transform=None)
    return (
        heads.pls_head(min(10, n_rows // 2))
        if name == "pls"
        else heads.mlp_head(seed=seed)
    )


def _figures() -> tuple[str, ...]:
    from enformer_features.plotting import FIGURES

    return FIGURES if find_spec("matplotlib") else ()


def _tell(args: argparse.Namespace, found: Evaluation, files: list[Path]) -> None:
    if not args.json:
        print(found)
        return
    summary = {
        "out": args.out,
        "files": [file.name for file in files],
        "table": found.table.to_dict("records"),
        "gains": found.gains.to_dict("records"),
        "leakage": {split: report.findings for split, report in found.leakage.items()},
    }
    show(args, summary)


def _words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]
