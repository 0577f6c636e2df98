"""Options that several commands share: rows to read, and the embedder's parameters."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from enformer_features.cli.console import progress
from enformer_features.exceptions import InputError, first_few

if TYPE_CHECKING:
    import pandas as pd

    from enformer_features.estimators.embedder import EnformerEmbedder
    from enformer_features.training.tuning.regressor import EnformerRegressor

PREFIX = "ENFORMER_FEATURES_"
# What belongs to a machine rather than to an experiment may stand in the environment.
SETTINGS = ("weights", "genome", "device", "precision", "batch_size")


class Setting(NamedTuple):
    """A value, and whether an argument, the environment or nobody set it."""

    value: Any
    origin: str


def add_rows(parser: argparse.ArgumentParser) -> None:
    """Add the options that say which rows to compute."""
    group = parser.add_argument_group("rows (one of the first three)")
    kinds = group.add_mutually_exclusive_group(required=True)
    kinds.add_argument(
        "--genes", metavar="FILE", help="genes: GTF, GFF3, TSV or CSV, also .gz"
    )
    kinds.add_argument("--regions", metavar="FILE", help="regions: BED, also .gz")
    kinds.add_argument(
        "--region",
        metavar="CHROM:START-END",
        action="append",
        help="a region, 1-based inclusive, such as 'chr1:101-200(-)'; repeatable",
    )
    add_gene_starts(group)


def add_gene_starts(group: argparse._ArgumentGroup) -> None:
    """Add the options that say how a table of genes is read."""
    group.add_argument(
        "--tss",
        default="gene",
        metavar="WHICH",
        help="start of a gene: gene, canonical, or a column of the table "
        "(default: gene)",
    )
    group.add_argument(
        "--missing-tss",
        default="error",
        metavar="{error,gene,drop}",
        help="genes that lack the start asked for (default: error)",
    )
    group.add_argument(
        "--chrom-column", metavar="NAME", help="the gene table's column of chromosomes"
    )


def read_rows(args: argparse.Namespace) -> pd.DataFrame:
    """Read genes or regions, one row each, in file order, indexed by name."""
    from enformer_features.genomics.genes import read_genes
    from enformer_features.genomics.regions import (
        raise_bad_rows,
        read_regions,
        region_names,
        region_table,
    )

    if args.genes:
        return read_genes(
            args.genes,
            tss=args.tss,
            chrom=args.chrom_column,
            missing_tss=args.missing_tss,
        )
    if args.regions:
        regions = read_regions(args.regions)
        return regions.set_axis(region_names(region_table(regions)))
    table = region_table(args.region)
    raise_bad_rows(table)
    return table[["chrom", "start", "end", "strand"]].set_axis(args.region)


def row_files(args: argparse.Namespace) -> list[str]:
    """Return the files that rows and sequences are read from."""
    genome = settings(args).get("genome")
    files = [args.genes, args.regions, genome.value if genome else None]
    return [file for file in files if file]


def add_machine(parser: argparse.ArgumentParser) -> argparse._ArgumentGroup:
    """Add weights, genome and device, which the environment can set too."""
    group = parser.add_argument_group(
        "machine",
        f"Each may also stand in the environment, as {PREFIX}GENOME and so on; an "
        "argument goes first.",
    )
    group.add_argument(
        "--weights",
        metavar="WEIGHTS",
        help="enformer, the small mini, a folder or file, a hub id, or the random "
        "untrained and untrained-tiny (default: enformer)",
    )
    group.add_argument("--genome", metavar="FASTA", help="plain or BGZF")
    group.add_argument(
        "--device", help="auto, cpu, cuda, cuda:1, mps (default: auto: CUDA, else cpu)"
    )
    return group


def add_settings(parser: argparse.ArgumentParser) -> None:
    """Add all options that the environment can set too."""
    group = add_machine(parser)
    group.add_argument(
        "--precision", help="auto, float32, float32-exact, tf32 (default: auto)"
    )
    group.add_argument(
        "--batch-size", metavar="N", help="sequences per forward (default: auto)"
    )


def add_windows(group: argparse._ArgumentGroup, *, pools: str) -> None:
    """Add what is read of a row, and which bins are pooled.

    Parameters
    ----------
    group : argument group
    pools : str
        What ``--pooling`` may be, for the help.
    """
    group.add_argument(
        "--pooling",
        action="append",
        metavar="POOL",
        help=f"{pools} (default: tss)",
    )
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
        "--edge",
        help="windows that leave the chromosome: pad, error, nan (default: pad)",
    )
    group.add_argument(
        "--ambiguous", help="letters but A, C, G, T, N: error, N (default: error)"
    )
    group.add_argument(
        "--contig-style",
        help="rename the chromosomes of the rows: ucsc (chr1), ensembl (1)",
    )


def add_outputs(group: argparse._ArgumentGroup, *, default: str = "embedding") -> None:
    """Add what of the network's outputs is taken.

    Parameters
    ----------
    group : argument group
    default : str
        What is taken otherwise, for the help.
    """
    group.add_argument(
        "--output",
        help=f"embedding, tracks, or a layer: tower, block_0 ... (default: {default})",
    )
    add_tracks(group)


def add_tracks(group: argparse._ArgumentGroup) -> None:
    """Add which tracks of which head are taken."""
    group.add_argument("--organism", help="the head, for tracks (default: human)")
    group.add_argument(
        "--tracks",
        metavar="LIST",
        help="an assay (CAGE) or indices (5110,4828); with --track-table also "
        "identifiers or several assays (default: all)",
    )
    group.add_argument(
        "--track-table", metavar="FILE", help="table of tracks: targets_human.txt"
    )
    group.add_argument(
        "--track-pattern",
        metavar="REGEX",
        help="tracks whose description, in --track-table, matches",
    )


def add_embedder(parser: argparse.ArgumentParser, *, keeps_rows: bool = True) -> None:
    """Add the embedder's parameters, by their own names.

    Their defaults are the embedder's, which is why none is given here.

    Parameters
    ----------
    parser : ArgumentParser
    keeps_rows : bool, default=True
        Whether rows can be kept in a cache.
    """
    add_settings(parser)
    group = parser.add_argument_group("features")
    add_outputs(group)
    add_windows(
        group, pools="tss, center, mean, max, flatten, region, expecto; repeatable"
    )
    group.add_argument(
        "--shifts",
        type=whole_numbers,
        metavar="BP,BP",
        help="average over moved windows, such as --shifts=-3,0,3 (default: 0)",
    )
    group.add_argument(
        "--snap",
        action="store_const",
        const=True,
        help="move windows by at most 64 bp, so that overlapping ones share work",
    )
    group.add_argument(
        "--max-n-fraction",
        type=float,
        metavar="X",
        help="warn about windows with a larger fraction of N (default: 0.5)",
    )
    group.add_argument(
        "--on-error",
        help="rows that cannot be computed: raise, or nan and exit code 3 "
        "(default: raise)",
    )
    if keeps_rows:
        group.add_argument(
            "--cache",
            metavar="memory|none|FOLDER",
            help="keep rows: while running, not at all, or in a folder for later runs "
            "(default: memory)",
        )


def settings(args: argparse.Namespace) -> dict[str, Setting]:
    """Return the settings that an argument or the environment gives."""
    found = {}
    for name in SETTINGS:
        of_environment = os.environ.get(PREFIX + name.upper())
        if getattr(args, name, None) is not None:
            found[name] = Setting(getattr(args, name), "argument")
        elif of_environment:
            found[name] = Setting(of_environment, f"environment {PREFIX}{name.upper()}")
    if "batch_size" in found:
        value, origin = found["batch_size"]
        found["batch_size"] = Setting(_number_or_text(value), origin)
    return found


def given_parameters(
    args: argparse.Namespace,
    names: Iterable[str],
    machine: Sequence[str] = SETTINGS,
) -> dict[str, Any]:
    """Return the parameters that an argument or the environment gives.

    Parameters
    ----------
    args : Namespace
    names : iterable of str
        Parameters that have an option of the same name.
    machine : sequence of str
        Those of them that may stand in the environment.

    Raises
    ------
    InputError
        When there is no genome.
    """
    found = settings(args)
    given = {name: found[name].value for name in machine if name in found}
    if "genome" not in given:
        msg = f"rows need a genome: give --genome hg38.fa, or set {PREFIX}GENOME"
        raise InputError(msg)
    for name in names:
        value = getattr(args, name, None)
        if value is not None and name not in machine:
            given[name] = value
    if "pooling" in given:
        pools = given["pooling"]
        given["pooling"] = pools[0] if len(pools) == 1 else tuple(pools)
    return given


def make_embedder(args: argparse.Namespace) -> EnformerEmbedder:
    """Make the embedder that the options describe; nothing is read."""
    from enformer_features.estimators.embedder import EnformerEmbedder

    names = set(EnformerEmbedder().get_params()) - {"verbose"}
    given = given_parameters(args, names)
    if "cache" in given:
        given["cache"] = cache_setting(given["cache"])
    given["tracks"] = _tracks(args)
    return EnformerEmbedder(**given, verbose=progress(args))


def cache_setting(word: str) -> str | None:
    """Return the embedder's ``cache`` for a ``--cache``.

    Raises
    ------
    InputError
        When it may be a mistyped word or a folder.
    """
    from enformer_features.estimators.parameters import names_a_folder

    if word != "memory" and word != "none" and not names_a_folder(word):
        msg = f"--cache {word} is neither memory nor none; write ./{word} for a folder"
        raise InputError(msg)
    return None if word == "none" else word


def absolute_paths(
    embedder: EnformerEmbedder | EnformerRegressor,
) -> dict[str, str]:
    """Return genome and weights so that they are found from any folder."""
    from enformer_features.model.registry import BUNDLED, FileSource, resolve

    paths = {"genome": str(Path(str(embedder.genome)).expanduser().resolve())}
    source = resolve(embedder.weights)
    if isinstance(source, FileSource) and source.name not in BUNDLED:
        paths["weights"] = str(source.path.expanduser().resolve())
    return paths


def whole_numbers(text: str) -> tuple[int, ...]:
    """Read the value of an option such as ``-3,0,3``."""
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError as error:
        msg = f"{text!r} are no whole numbers of bp with commas between, such as -3,0,3"
        raise argparse.ArgumentTypeError(msg) from error


def bin_range(text: str) -> str | tuple[int, int]:
    """Read the value of an option such as ``tss`` or ``-8:8``."""
    low, colon, high = text.partition(":")
    if not colon:
        return text
    try:
        return int(low), int(high)
    except ValueError as error:
        msg = f"{text!r} is no range of bins such as -8:8"
        raise argparse.ArgumentTypeError(msg) from error


def _number_or_text(text: Any) -> Any:
    return int(text) if str(text).isdecimal() else text


def _tracks(args: argparse.Namespace) -> Any:
    words = [] if args.tracks is None else args.tracks.split(",")
    are_indices = bool(words) and all(word.isdecimal() for word in words)
    indices = [int(word) for word in words] if are_indices else None
    if not args.track_table:
        if args.track_pattern:
            msg = "--track-pattern is searched in --track-table FILE; give that too"
            raise InputError(msg)
        if len(words) > 1 and indices is None:
            msg = (
                f"--tracks {args.tracks} are no indices; for identifiers or several "
                f"assays give --track-table too ({first_few(words)})"
            )
            raise InputError(msg)
        return indices or (words[0] if words else None)

    from enformer_features.inference.tracks import read_tracks, select_tracks

    table = read_tracks(args.track_table)
    assays = {assay.upper() for assay in table["assay"] if assay}
    are_assays = bool(words) and {word.upper() for word in words} <= assays
    return select_tracks(
        table,
        index=indices,
        assay=words if are_assays else None,
        identifier=words if words and not (indices or are_assays) else None,
        pattern=args.track_pattern,
    )
