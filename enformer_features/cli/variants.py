"""``enformer-features variants``: a VCF to scores of what its alleles change."""

from __future__ import annotations

import argparse
import shutil
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from enformer_features.cli.console import (
    OK,
    PARTIAL,
    add_common,
    note,
    progress,
    say,
    show,
    when_stopped,
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
    add_outputs,
    add_settings,
    bin_range,
    settings,
    whole_numbers,
)
from enformer_features.cli.outputs import add_writing
from enformer_features.exceptions import InputError, first_few

if TYPE_CHECKING:
    import pandas as pd

    from enformer_features.variant_effect.estimator import VariantEffect
    from enformer_features.variant_effect.job import VariantJob
    from enformer_features.variant_effect.store import ScoreStore
    from enformer_features.variant_effect.unfinished import Begun

SUFFIXES = (".tsv", ".tsv.gz", ".vcf", ".vcf.gz", ".h5ad", ".zarr", ".h5")
# Bins that are read alike whether a window has a TSS or not.
_ANYWHERE = ("center", "all", "region")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``variants``."""
    parser.add_argument("vcf", metavar="VCF", help="plain, gzip or BGZF")
    add_model(parser)
    add_settings(parser)
    _add_variants(parser)
    _add_network(parser)
    _add_scores(parser)
    group = parser.add_argument_group("result")
    group.add_argument(
        "-o",
        "--out",
        metavar="FILE",
        required=True,
        help=f"{', '.join(SUFFIXES)}, told by the suffix",
    )
    group.add_argument(
        "--pca",
        metavar="FOLDER",
        help="also write principal components of the (first) score, a table per "
        "chromosome, fitted on at most 50,000 variants or 512 MB",
    )
    group.add_argument(
        "--components", type=int, default=20, metavar="N", help="(default: 20)"
    )
    add_writing(group)
    add_common(parser)


def _add_variants(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("variants and genes")
    group.add_argument(
        "--on-mismatch",
        help="REF is not what the genome has: error, skip, or flag and score as the "
        "file says (default: error)",
    )
    group.add_argument(
        "--strict",
        action="store_true",
        help="refuse alleles that cannot be scored (symbolic, breakends, ...) instead "
        "of skipping and counting them",
    )
    group.add_argument(
        "--gene-table",
        metavar="FILE",
        help="GTF, GFF3, TSV or CSV: score each variant once for every gene whose "
        "window holds it, at the gene's TSS and in its direction",
    )
    add_gene_starts(group)


def _add_network(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("what is read")
    add_outputs(group, default="tracks")
    group.add_argument(
        "--sequence-length",
        type=int,
        metavar="BP",
        help="(default: what the weights were trained on; 196608 for the published)",
    )
    group.add_argument(
        "--center", help="index of the centred base: base, bin, basenji (default: base)"
    )
    directions = group.add_mutually_exclusive_group()
    directions.add_argument(
        "--strand", help="match, ignore, average both directions (default: match)"
    )
    directions.add_argument(
        "--rc",
        dest="strand",
        action="store_const",
        const="average",
        help="the same as --strand average",
    )
    group.add_argument(
        "--shifts",
        type=whole_numbers,
        metavar="BP,BP",
        help="average over moved windows, such as --shifts=1,0,-1 (default: 0)",
    )
    group.add_argument(
        "--contig-style",
        help="rename the chromosomes of the variants: ucsc (chr1), ensembl (1)",
    )


def _add_scores(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("scores")
    group.add_argument(
        "--score",
        action="append",
        metavar="SCORE",
        help="SAD, SAR, logSAD, D1, D2, max, REF, ALT; repeatable (default: SAD)",
    )
    group.add_argument("--aggregate", help="of bins: mean, sum (default: mean)")
    add_target_names(group)
    group.add_argument(
        "--bins",
        type=bin_range,
        metavar="BINS",
        help="auto, all, variant, tss, or a range relative to the middle bin, such as "
        "--bins=-8:8 (default: auto: all, and tss with --gene-table)",
    )
    group.add_argument(
        "--indels",
        help="which bins of the two alleles are compared: left, center, aligned "
        "(default: auto: left, as published, and aligned with --gene-table)",
    )
    group.add_argument(
        "--snap-bp",
        type=int,
        metavar="BP",
        help="centre windows on multiples of so many bp, so that neighbours share them "
        "(default: 0: on the variant)",
    )
    group.add_argument(
        "--difference-pass",
        metavar="HOW",
        help="carry the difference of the alleles through the network: float32 is more "
        "exact than both alleles, bfloat16 faster",
    )
    group.add_argument(
        "--on-error",
        help="rows that cannot be computed: raise, or nan and exit code 3 "
        "(default: raise)",
    )


def run(args: argparse.Namespace) -> int:
    """Score and write."""
    from enformer_features.variant_effect.store import partial_store, score_variants
    from enformer_features.variant_effect.unfinished import begun_scores

    target = _check_out(args)
    effect = _effect(args)
    rows, unpaired = _rows(args, effect)
    job = effect.job(rows)
    counts = _tell_counts(args, job, unpaired)
    _check_components(args, job)
    inputs = _inputs(args)
    begun = begun_scores(target, job, inputs)
    own = _own_outputs(args, job, target, begun)
    _note_windows(args, effect)
    _note_begun(args, begun)
    if args.dry_run:
        show(args, {**counts, **asdict(job.plan()), "would_write": _written(args)})
        return OK
    when_stopped(args, lambda: _way_on(target))
    began = time.perf_counter()
    store = score_variants(
        job,
        partial_store(target),
        inputs=inputs,
        overwrite=args.overwrite,
        verbose=progress(args),
    )
    failed = _failed(job, store)
    _write(args, job, store, target, own, inputs)
    digest = str(job.provenance()["weights_digest"])
    summary = {
        "out": str(target),
        **counts,
        "n_columns": len(job.names),
        "failed": failed,
        "pca": args.pca,
        "trained_weights": not digest.startswith("untrained:"),
        "weights_digest": digest,
        "seconds": round(time.perf_counter() - began, 3),
    }
    if args.json:
        show(args, summary)
    if failed:
        note(args, f"rows that became NaN: {first_few([r['name'] for r in failed])}")
    size = f"{len(job)} rows x {len(job.names)} scores"
    note(args, f"{size} to {target}, {summary['seconds']:.1f} s")
    return PARTIAL if failed else OK


def _check_out(args: argparse.Namespace) -> Path:
    """Check everything that is written, before any work."""
    from enformer_features.storage.files import check_output
    from enformer_features.variant_effect.outputs import check_scores_path
    from enformer_features.variant_effect.store import partial_store

    is_begun = partial_store(Path(args.out).expanduser()).is_dir()
    may_replace = args.overwrite or is_begun  # then it depends on what is there
    target = check_scores_path(args.out, source=args.vcf, overwrite=may_replace)
    genome = settings(args).get("genome")
    others = [args.model, args.gene_table, genome.value if genome else None]
    if target.suffix != ".zarr":
        inputs = [file for file in others if file]
        check_output(args.out, overwrite=may_replace, inputs=inputs)
    if args.components < 1:
        msg = f"--components {args.components} must be at least 1"
        raise InputError(msg)
    if args.pca:
        _check_pca(args)
        _refuse_tables([] if may_replace else _tables(args), args)
    return target


def _check_pca(args: argparse.Namespace) -> None:
    folder = Path(args.pca).expanduser()
    if folder.is_file() or not folder.absolute().parent.is_dir():
        msg = f"--pca {args.pca} must be a folder, or a new one in a folder"
        raise InputError(msg)


def _tables(args: argparse.Namespace) -> list[Path]:
    """Return the tables that are in the folder of components."""
    return sorted(Path(args.pca).expanduser().glob("*.tsv.gz")) if args.pca else []


def _refuse_tables(tables: list[Path], args: argparse.Namespace) -> None:
    if tables:
        msg = f"{args.pca} holds tables; choose another folder, or overwrite=True"
        raise InputError(msg)


def _inputs(args: argparse.Namespace) -> dict[str, dict[str, str]]:
    """Return names and digests of the files that the scores come from."""
    from enformer_features.storage.store.records import file_digest

    given = {"vcf": args.vcf, "gene_table": args.gene_table, "model": args.model}
    files = {key: Path(text).expanduser() for key, text in given.items() if text}
    return {
        key: {"name": file.name, "sha256": file_digest(file)}
        for key, file in files.items()
    }


def _own_outputs(
    args: argparse.Namespace, job: VariantJob, target: Path, begun: Begun | None
) -> list[Path]:
    """Return what this very command had written before it was stopped.

    That is what holds the scores of a job that all wait beside the output; anything
    else is refused unless it may be replaced.
    """
    from enformer_features.variant_effect.outputs import check_scores_path
    from enformer_features.variant_effect.unfinished import holds_scores

    identity = begun.own_identity if begun and not args.overwrite else None
    there = [path for path in (target, *_tables(args)) if path.exists()]
    own = [path for path in there if identity and holds_scores(path, identity)]
    if target not in own:
        check_scores_path(target, job, source=args.vcf, overwrite=args.overwrite)
    if not args.overwrite:
        _refuse_tables([table for table in _tables(args) if table not in own], args)
    return own


def _write(
    args: argparse.Namespace,
    job: VariantJob,
    store: ScoreStore,
    target: Path,
    own: list[Path],
    inputs: dict[str, dict[str, str]],
) -> None:
    """Write the outputs, and let scores wait beside them until all are complete."""
    from enformer_features.storage.files import remove_leftovers
    from enformer_features.variant_effect.outputs import write_scores

    _remove(own)
    for path in (target, *([Path(args.pca).expanduser()] if args.pca else [])):
        remove_leftovers(path)
    if args.pca:
        _write_components(args, store)
    write_scores(
        store,
        job,
        target,
        source=args.vcf,
        inputs=inputs,
        overwrite=args.overwrite,
    )
    store.remove()


def _remove(paths: list[Path]) -> None:
    from enformer_features.variant_effect.tabix import index_of

    for path in paths:
        if path.is_dir():
            shutil.rmtree(path)
        else:
            index_of(path).unlink(missing_ok=True)
            path.unlink()


def _effect(args: argparse.Namespace) -> VariantEffect:
    """Make the transformer that the options describe."""
    from enformer_features.variant_effect.estimator import VariantEffect

    names = ("aggregate", "bins", "indels", "snap_bp", "on_mismatch", "on_error")
    given = {name: getattr(args, name) for name in (*names, "difference_pass")}
    given = {name: value for name, value in given.items() if value is not None}
    if args.score:
        scores = tuple(args.score)
        given["score"] = scores[0] if len(scores) == 1 else scores
    if args.model and args.aggregate:
        msg = f"--aggregate is for bins, and predictions of {args.model} have none"
        raise InputError(msg)
    if args.targets:
        given["targets"] = target_names(args)
    return VariantEffect(make_model(args), **given)


def _note_begun(args: argparse.Namespace, begun: Begun | None) -> None:
    """Say what a stopped command left, and what becomes of it."""
    if begun is None:
        return
    if not begun.differences:
        left = begun.n_rows - begun.n_done
        rows = f"{begun.n_done:,} of {begun.n_rows:,} rows were found done"
        note(args, f"{rows} in {begun.folder}, {left:,} remain")
    elif args.dry_run or args.overwrite:
        fate = "are replaced" if args.overwrite else "are refused without --overwrite"
        note(
            args,
            f"{begun.folder} holds scores of other settings, which {fate}; asked for "
            f"!= there: {'; '.join(begun.differences)}",
        )


def _note_windows(args: argparse.Namespace, effect: VariantEffect) -> None:
    """Say that a head which reads at TSSs is read at variants, if it is."""
    from enformer_features.inference.pooling import resolve_pools

    if not args.model or args.gene_table:
        return
    pools = resolve_pools(embedder_of(effect.model).pooling)
    if any(pool.kernels or pool.bins not in _ANYWHERE for pool in pools):
        text = (
            f"{args.model} reads bins at a TSS, but without --gene-table the windows "
            "are centred on the variants, where it was not fitted; give the genes, and "
            "each variant is scored at the TSS of those near it"
        )
        note(args, text)


def _rows(
    args: argparse.Namespace, effect: VariantEffect
) -> tuple[pd.DataFrame, pd.DataFrame | None]:
    """Read variants; with genes, return the pairs, and the variants near none."""
    from enformer_features.genomics.vcf import read_vcf

    variants = read_vcf(args.vcf, strict=args.strict)
    if not args.gene_table:
        return variants, None
    from enformer_features.estimators.parameters import window_length
    from enformer_features.genomics.gene_pairs import pair_with_genes, unpaired
    from enformer_features.genomics.genes import read_genes
    from enformer_features.genomics.genome import rename_contigs

    genes = read_genes(
        args.gene_table,
        tss=args.tss,
        chrom=args.chrom_column,
        missing_tss=args.missing_tss,
    )
    embedder = embedder_of(effect.model)
    for table in (variants, genes):  # the genome's names, before they are compared
        table["chrom"] = rename_contigs(table["chrom"], embedder.contig_style)
    length = window_length(embedder)
    pairs = pair_with_genes(variants, genes, sequence_length=length)
    if not len(pairs):
        msg = (
            f"none of {len(variants)} variants of {args.vcf} lies in a window of "
            f"{length} bp around one of {len(genes)} genes of {args.gene_table}"
        )
        raise InputError(msg)
    return pairs, unpaired(variants, pairs)


def _tell_counts(
    args: argparse.Namespace, job: VariantJob, unpaired: pd.DataFrame | None
) -> dict[str, Any]:
    """Print how many rows are scored, flagged and skipped, whatever is asked."""
    from enformer_features.genomics.variants import describe_counts

    classes = describe_counts(job.table).partition(": ")[2]
    what = "variants" if unpaired is None else "pairs of a variant and a gene"
    say(args, f"{len(job):,} {what}: {classes}")
    counts = {"n_rows": len(job), "counts": job.counts}
    if unpaired is None:
        return counts
    say(args, f"{len(unpaired):,} variants in no gene's window are not in the result")
    return {**counts, "n_unpaired": len(unpaired)}


def _check_components(args: argparse.Namespace, job: VariantJob) -> None:
    """Refuse more components than there can be, before any work."""
    n_usable = int((job.table["reason"] == "").sum())
    most = min(n_usable, len(job.targets))
    if args.pca and args.components > most:
        msg = (
            f"--components {args.components}: {n_usable} variants that can be scored x "
            f"{len(job.targets)} targets have at most {most}"
        )
        raise InputError(msg)


def _write_components(args: argparse.Namespace, store: ScoreStore) -> None:
    from enformer_features.variant_effect.pc_tables import pca_tables

    pca_tables(
        store,
        args.pca,
        n_components=args.components,
        overwrite=args.overwrite,
    )


def _failed(job: VariantJob, store: ScoreStore) -> list[dict[str, str]]:
    """Return rows that became NaN because of ``--on-error nan``: not those skipped."""
    import pandas as pd

    from enformer_features.variant_effect.estimator import SKIPPED_CLASSES
    from enformer_features.variant_effect.placement import variant_names

    reasons = pd.Series(store.reasons())
    is_skipped = reasons.str.partition(":")[0].isin(SKIPPED_CLASSES)
    failed = ((reasons != "") & ~is_skipped).to_numpy()
    names = variant_names(job.table[failed])
    return [
        {"name": name, "reason": str(reason)}
        for name, reason in zip(names, reasons[failed], strict=True)
    ]


def _written(args: argparse.Namespace) -> list[str]:
    return [args.out, *([args.pca] if args.pca else [])]


def _way_on(target: Path) -> str:
    from enformer_features.variant_effect.store import partial_store
    from enformer_features.variant_effect.unfinished import kept_rows

    rows = kept_rows(target)
    if rows is None:
        return "no rows are kept: to begin anew, run the command again"
    kept = f"{rows[0]:,} of {rows[1]:,} finished rows are kept"
    return f"{kept} in {partial_store(target)}*: to go on, run the command again"
