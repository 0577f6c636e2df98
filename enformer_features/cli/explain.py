"""``enformer-features explain``: what the predictions for some regions rest on."""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from enformer_features.cli.console import (
    OK,
    PARTIAL,
    add_common,
    note,
    progress,
    show,
)
from enformer_features.cli.models import (
    add_model,
    add_target_names,
    embedder_of,
    make_model,
    target_names,
)
from enformer_features.cli.options import (
    add_gene_starts,
    add_settings,
    add_tracks,
    bin_range,
    read_rows,
    row_files,
    whole_numbers,
)
from enformer_features.cli.outputs import add_writing, check_file, failed_rows
from enformer_features.cli.sidecars import sidecar_of, write_sidecar
from enformer_features.exceptions import (
    InputError,
    MissingDependencyError,
    UntrainedWeightsWarning,
    check_choice,
    first_few,
    warn,
)
from enformer_features.report.methods import METHODS

if TYPE_CHECKING:
    import pandas as pd

    from enformer_features.estimators.domain import OutOfDomain
    from enformer_features.estimators.fitted import Head
    from enformer_features.interpret.targets import Target
    from enformer_features.report.explain import Question
    from enformer_features.report.explanation import Explanation

TABLES = (".tsv", ".tsv.gz")
SIGNAL = (".bedgraph", ".bedgraph.gz", ".bw", ".bigwig")
BIGWIG = (".bw", ".bigwig")
PAGE = ".html"
SUFFIXES = (*TABLES, *SIGNAL, ".npz", PAGE)


class _Output(NamedTuple):
    """A file that is written, and what is written into it."""

    path: Path
    role: Literal["scores", "page", "elements", "origin"]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``explain``."""
    _add_rows(parser)
    add_model(parser)
    _add_target(parser)
    add_settings(parser)
    _add_reading(parser)
    _add_method(parser)
    _add_beside(parser)
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help=f"{', '.join(SUFFIXES)}, told by the suffix",
    )
    group.add_argument(
        "--html", metavar="FILE", help="also write a page, with pictures and tables"
    )
    add_writing(group)
    add_common(parser)


def _add_rows(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is explained (regions, or a file)")
    group.add_argument(
        "region",
        nargs="*",
        metavar="REGION",
        help="1-based inclusive, such as 'chr1:101-200(-)'; its middle is centred",
    )
    files = group.add_mutually_exclusive_group()
    files.add_argument(
        "--genes", metavar="FILE", help="genes: GTF, GFF3, TSV or CSV, also .gz"
    )
    files.add_argument("--regions", metavar="FILE", help="regions: BED, also .gz")
    group.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="of the file, only this id or name; repeatable",
    )
    add_gene_starts(group)


def _add_target(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("which prediction")
    group.add_argument(
        "--target",
        metavar="NAME",
        help="which prediction of a model with several: its name, or its number from 0",
    )
    add_target_names(group)
    add_tracks(group)
    group.add_argument(
        "--bins",
        type=bin_range,
        default=None,
        metavar="BINS",
        help="of tracks and attention: tss, center, all, region, or a range relative "
        "to the TSS bin, such as --bins=-8:8 (default: tss)",
    )
    parser.set_defaults(output=None)


def _add_reading(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is read")
    group.add_argument(
        "--sequence-length",
        type=int,
        metavar="BP",
        help="(default: what the weights were trained on; 196608 for the published)",
    )
    group.add_argument(
        "--center", help="index of the centred base: base, bin, basenji (default: base)"
    )
    group.add_argument(
        "--strand", help="match, ignore, average both directions (default: match)"
    )
    group.add_argument(
        "--shifts",
        type=whole_numbers,
        metavar="BP,BP",
        help="average over moved windows, such as --shifts=1,0,-1 (default: 0)",
    )
    group.add_argument(
        "--contig-style",
        help="rename the chromosomes of the rows: ucsc (chr1), ensembl (1)",
    )
    group.add_argument(
        "--on-error",
        help="rows that cannot be computed: raise, or nan and exit code 3; not with "
        "--method ism (default: raise)",
    )


def _add_method(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("method")
    group.add_argument(
        "--method",
        default="gradient",
        help=f"{', '.join(METHODS)} (default: gradient): gradient x input; integrated "
        "gradients; every substitution; what the explained bins attend to (of a model "
        "those of its pooling, or the TSS bins if its pools read different ones)",
    )
    group.add_argument(
        "--baseline",
        default="n",
        help="integrated: n (zeros), shuffled, dinucleotide (default: n)",
    )
    group.add_argument(
        "--steps",
        type=int,
        default=50,
        metavar="N",
        help="integrated: gradients along the way (default: 50)",
    )
    group.add_argument(
        "--ism-bp",
        type=int,
        default=200,
        metavar="BP",
        help="ism: bases around the TSS or the middle (default: 200)",
    )
    group.add_argument("--seed", type=int, default=0, help="of shuffles (default: 0)")


def _add_beside(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("elements and variants")
    group.add_argument(
        "--elements",
        metavar="BED",
        help="take these out, one at a time, and see what the prediction loses; the "
        "table is written beside --out, as OUT.elements.tsv",
    )
    group.add_argument(
        "--how",
        default="n",
        help="what stands in their place: n, shuffled, dinucleotide (default: n)",
    )
    group.add_argument(
        "--shuffles", type=int, default=10, metavar="N", help="(default: 10)"
    )
    group.add_argument(
        "--variants", metavar="VCF", help="for the page: score those in the windows"
    )
    group.add_argument(
        "--domain",
        metavar="FILE",
        help="for the page: genes that the model was fitted on; regions unlike them "
        "are flagged; alike in the model's features, or in the embedding without "
        "--model",
    )
    group.add_argument(
        "--draw-tracks",
        type=whole_numbers,
        metavar="N,N",
        help="for the page: indices of tracks to draw (default: those explained, if "
        "they are 12 at most)",
    )


def run(args: argparse.Namespace) -> int:
    """Explain and write."""
    args.flags = {"output": "target" if args.model else None, "n": "shuffles"}
    _check_method(args)
    outputs = _check_files(args)
    files = [output.path for output in outputs]
    question = _question(args)
    windows = question.check()
    if _suffix_of(args.out) in SIGNAL:
        _check_apart(windows, args.out)
    if args.dry_run:
        show(args, {**_plan(question, windows), "would_write": list(map(str, files))})
        return OK
    question = replace(question, domain=_domain(args, question.model))
    began = time.perf_counter()
    for_page = any(output.role == "page" for output in outputs)
    found = question.answer(for_page=for_page)
    _warn_if_untrained(found)
    for output in outputs:
        _write(found, output, args)
    failed = failed_rows(found.windows.set_index("name")["reason"])
    summary = {
        "files": list(map(str, files)),
        "n_regions": len(found),
        "explained": str(found.about.get("explained", args.method)),
        "failed": failed,
        "trained_weights": not _is_untrained(found),
        "weights_digest": str(found.about["weights_digest"]),
        "seconds": round(time.perf_counter() - began, 3),
    }
    if args.json:
        show(args, summary)
    if failed:
        note(args, f"rows without a result: {first_few([r['name'] for r in failed])}")
    where = ", ".join(map(str, files))
    note(args, f"{len(found)} regions to {where}, {summary['seconds']:.1f} s")
    return PARTIAL if failed else OK


def _check_files(args: argparse.Namespace) -> list[_Output]:
    """Check everything that is written, before any work."""
    _check_suffix(args, args.out)
    if args.html and not args.html.lower().endswith(PAGE):
        msg = f"--html {args.html} must end in {PAGE}"
        raise InputError(msg)
    inputs = [*row_files(args), args.elements, args.variants, args.model, args.domain]
    given = [file for file in inputs if file]
    suffix = _suffix_of(args.out)
    wanted: list[tuple[str, Any]] = [
        (args.out, "page" if suffix == PAGE else "scores"),
        *([(args.html, "page")] if args.html else []),
    ]
    if args.elements and suffix != PAGE:
        wanted.append((f"{args.out}.elements.tsv", "elements"))
    if suffix in BIGWIG:
        wanted.append((str(sidecar_of(Path(args.out))), "origin"))
    files = [_Output(check_file(args, name, given), role) for name, role in wanted]
    if len({file.path for file in files}) < len(files):
        msg = f"--html {args.html} is --out too; -o page.html alone writes a page"
        raise InputError(msg)
    has_page = any(file.role == "page" for file in files)
    if not has_page:
        _check_no_extras(args)
    _check_installed(suffix, has_page=has_page)
    return files


def _check_installed(suffix: str, *, has_page: bool) -> None:
    """Miss a package now, and not after the work."""
    if has_page:
        from enformer_features.plotting.base import figure_class

        figure_class()
    if suffix in BIGWIG and find_spec("pyBigWig") is None:
        msg = (
            "writing bigWig files needs pyBigWig, which is not installed; install it "
            "with pip install 'enformer-features[train]', or write .bedgraph"
        )
        raise MissingDependencyError(msg)


def _check_no_extras(args: argparse.Namespace) -> None:
    """Refuse what only a page would show."""
    if args.variants:
        msg = (
            "--variants are for the page: give --html FILE; enformer-features variants "
            "writes tables"
        )
        raise InputError(msg)
    for name in ("domain", "draw_tracks"):
        if getattr(args, name) is not None:
            msg = f"--{name.replace('_', '-')} is for the page: give --html FILE"
            raise InputError(msg)


def _check_apart(windows: pd.DataFrame, path: str) -> None:
    """Refuse windows that overlap, where a base can have one score only."""
    by_start = windows.sort_values(["chrom", "window_start"], kind="stable")
    before, after = by_start.iloc[:-1], by_start.iloc[1:]
    is_same = before["chrom"].to_numpy() == after["chrom"].to_numpy()
    overlaps = before["window_end"].to_numpy() > after["window_start"].to_numpy()
    if (is_same & overlaps).any():
        number = int((is_same & overlaps).argmax())
        names = [str(part["name"].iloc[number]) for part in (before, after)]
        msg = (
            f"the windows of {' and '.join(names)} overlap, and in {path} a base has "
            "one score only; explain them one at a time, or write .tsv or .npz"
        )
        raise InputError(msg)


def _suffix_of(path: str) -> str:
    name = path.lower()
    found = [suffix for suffix in SUFFIXES if name.endswith(suffix)]
    if not found:
        msg = f"{path} has a suffix of no known kind; give {', '.join(SUFFIXES)}"
        raise InputError(msg)
    return found[-1]


def _check_method(args: argparse.Namespace) -> None:
    check_choice("method", args.method, METHODS)
    if args.method == "ism" and args.on_error == "nan":
        msg = "--method ism has no --on-error nan; leave the rows out"
        raise InputError(msg)


def _check_suffix(args: argparse.Namespace, path: str) -> None:
    if _suffix_of(path) in SIGNAL and args.method not in ("gradient", "integrated"):
        others = [suffix for suffix in SUFFIXES if suffix not in SIGNAL]
        msg = f"--method {args.method} goes to {', '.join(others)}, not to {path}"
        raise InputError(msg)


def _question(args: argparse.Namespace) -> Question:
    """Read rows, model, elements and variants."""
    from enformer_features.genomics.regions import read_regions
    from enformer_features.genomics.vcf import read_vcf
    from enformer_features.report.explain import Question

    rows = _rows(args)
    model = make_model(args)
    if args.targets:
        model = _named(model, target_names(args))
    embedder_of(model).set_params(verbose=progress(args))
    if args.on_error is not None:
        embedder_of(model).set_params(on_error=args.on_error)
    elements = read_regions(args.elements) if args.elements else None
    return Question(
        model,
        rows,
        _target(args, model),
        method=args.method,
        elements=elements,
        how=args.how,
        n=args.shuffles,
        variants=read_vcf(args.variants) if args.variants else None,
        genes=rows if args.genes else None,
        draw_tracks=args.draw_tracks,
        ism_bp=args.ism_bp,
        baseline=args.baseline,
        steps=args.steps,
        seed=args.seed,
    )


def _domain(args: argparse.Namespace, model: Any) -> OutOfDomain | None:
    """Learn what the rows that a model was fitted on look like."""
    if args.domain is None:
        return None
    from enformer_features.estimators.domain import OutOfDomain
    from enformer_features.estimators.streaming import changed
    from enformer_features.genomics.genes import read_genes

    fitted_on = read_genes(
        args.domain,
        tss=args.tss,
        chrom=args.chrom_column,
        missing_tss=args.missing_tss,
    )
    embedder = embedder_of(model)
    if args.model is None:  # a few tracks are no space in which regions are alike
        embedder = changed(embedder, output="embedding", tracks=None)
    return OutOfDomain(embedder).fit(fitted_on)


def _rows(args: argparse.Namespace) -> pd.DataFrame:
    is_file = bool(args.genes or args.regions)
    if bool(args.region) == is_file:
        msg = "say what is explained: regions such as chr1:101-200, --genes, --regions"
        raise InputError(msg)
    rows = read_rows(args)
    if args.region:
        rows = rows.assign(name=args.region)  # as it was written
    if not args.only:
        return rows
    names = rows.get("gene_name", rows.index.to_series()).astype(str)
    wanted = rows.index.astype(str).isin(args.only) | names.isin(args.only).to_numpy()
    known = {*rows.index[wanted].astype(str), *names[wanted]}
    missing = [name for name in args.only if name not in known]
    if missing:
        msg = f"--only {first_few(missing)}: not in {args.genes or args.regions}"
        raise InputError(msg)
    return rows[wanted]


def _head(model: Any) -> Head | None:
    from enformer_features.estimators.fitted import head_of
    from enformer_features.estimators.parameters import check_parameters, recipe_of

    embedder = embedder_of(model)
    check_parameters(embedder)
    return head_of(model, recipe_of(embedder))


def _named(model: Any, names: list[str]) -> Any:
    """Give the predictions of a model their names.

    Raises
    ------
    InputError
        When there are not as many, or a name repeats.
    """
    head = _head(model)
    n = 0 if head is None else len(head.targets)
    if len(names) != n or len(set(names)) < n:
        msg = (
            f"--targets has {len(names)} names, {first_few(names)}; give one for each "
            f"of the model's {n} predictions, each its own"
        )
        raise InputError(msg)
    model.target_names_ = names
    return model


def _output(model: Any, text: str | None) -> str | int | None:
    """Return the name of a prediction, or its number where that is no name."""
    if text is None or not text.isdecimal():
        return text
    head = _head(model)
    is_name = head is not None and text in head.target_names
    return text if is_name else int(text)


def _target(args: argparse.Namespace, model: Any) -> Target | None:
    """Return what is explained, of tracks or of a model."""
    from enformer_features.interpret.targets import Target

    if args.model:
        if args.bins is not None:
            msg = f"--bins {args.bins}: {args.model} reads the bins it was fitted on"
            raise InputError(msg)
        return Target(output=_output(model, args.target))
    if args.target:
        msg = f"--target {args.target} is a prediction of a model; give --model FILE"
        raise InputError(msg)
    bins = "tss" if args.bins is None else args.bins
    is_chosen = args.tracks is not None or args.track_pattern is not None
    if not is_chosen and args.method != "attention":
        msg = (
            "which tracks are explained? Give --tracks 4828,5111 (their mean), "
            "--track-table with --track-pattern, or --model FILE"
        )
        raise InputError(msg)
    return Target(bins=bins)


def _plan(question: Question, windows: pd.DataFrame) -> dict[str, Any]:
    from enformer_features.estimators.parameters import window_length

    length = window_length(question.embedder)
    has_gradients = question.method in ("gradient", "integrated")
    n_elements = 0 if question.elements is None else len(question.elements)
    return {
        "n_regions": len(windows),
        "method": question.method,
        "window_bp": length,
        "n_elements": n_elements,
        "n_variants": 0 if question.variants is None else len(question.variants),
        "bytes": 16 * length * len(windows) * has_gradients,
        "failed": failed_rows(windows.set_index("name")["reason"]),
    }


def _is_untrained(found: Explanation) -> bool:
    return str(found.about["weights_digest"]).startswith("untrained:")


def _warn_if_untrained(found: Explanation) -> None:
    if _is_untrained(found):
        weights = found.about["weights"]
        msg = f"weights={weights!r} are random: the numbers mean nothing biological"
        warn(msg, UntrainedWeightsWarning)


def _write(found: Explanation, output: _Output, args: argparse.Namespace) -> None:
    """Write one file by its role; scores in the form that their suffix asks for."""
    from enformer_features.report.explanation import explain_page
    from enformer_features.report.files import write_table
    from enformer_features.variant_effect.caution import caution_lines

    file = output.path
    if output.role == "page":
        explain_page(found, file, overwrite=args.overwrite)
    elif output.role == "elements":
        assert found.elements is not None
        write_table(found.elements, file, found.about)
    elif output.role == "origin":
        result = {"n_regions": len(found), "caution": caution_lines(found.about)}
        write_sidecar(Path(args.out), args, found.about, result)
    else:
        _write_scores(found, file, args)


def _write_scores(found: Explanation, file: Path, args: argparse.Namespace) -> None:
    from enformer_features.report import files

    suffix = _suffix_of(str(file))
    if suffix in BIGWIG:
        assert found.contributions is not None
        found.contributions.write_bigwig(file, overwrite=args.overwrite)
    elif suffix in SIGNAL:
        files.write_bedgraph(found, file)
    elif suffix == ".npz":
        files.write_arrays(found, file)
    else:
        files.write_scores(found, file)
