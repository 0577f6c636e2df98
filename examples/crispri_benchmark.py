r"""Rank enhancer-gene pairs that CRISPR interference tested, beside simple baselines.

Elements were silenced in K562 cells, and genes measured: 10,356 pairs of which 471 are
regulated. What ranks them? Average precision, overall and by distance from the element
to the TSS, with intervals from drawn chromosomes:

    python examples/crispri_benchmark.py --data DATA

DATA is a folder with ``crispri/EPCrisprBenchmark_training_K562.GRCh38.tsv.gz``. With a
genome the network's scores stand beside the baselines, **on the same pairs**: those
whose element lies in the gene's window. All others have no score, and are counted, as
are those on chromosomes that the genome does not have:

    python examples/crispri_benchmark.py --data DATA --genome hg38.fa \
        --weights enformer --scores scores.tsv

By default a score is the sum of the absolute gradient x input over 2 kb at the element,
of the K562 CAGE tracks 4828 and 5111 in the TSS bins, as Avsec et al. 2021 defined it:
one gradient per gene. ``--limit`` takes the first genes only. No official weights and
no hg38 were at hand: the network's figures were not measured here, the baselines' were.

Data: Gschwind et al. 2025 (EngreitzLab/CRISPR_comparison, MIT), of Gasperini et al.
2019, Nasser et al. 2021 and Schraivogel et al. 2020.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import pandas as pd

from enformer_features import EnformerEmbedder, read_genes
from enformer_features.exceptions import EnformerFeaturesError, InputError
from enformer_features.genomics.genome import open_genome
from enformer_features.interpret.crispri import (
    average_precision,
    crispri_baselines,
    read_crispri,
)
from enformer_features.interpret.enhancers import METHODS, score_elements
from enformer_features.interpret.targets import Target
from enformer_features.variant_effect.caution import caution_lines

PAIRS = Path("crispri", "EPCrisprBenchmark_training_K562.GRCh38.tsv.gz")
TRACKS = "4828,5111"  # K562: CAGE
BASELINE = "1/distance"
NOT_IN_GENOME = "on a chromosome that the genome does not have"
SHOWN = [
    *("score", "distance", "n_pairs", "n_positive", "coverage", "n_ranked"),
    *("n_positive_ranked", "prevalence", "average_precision", "low", "high"),
    *("gain", "gain_low", "gain_high"),
]


def score_by_network(pairs: pd.DataFrame, args: argparse.Namespace) -> pd.DataFrame:
    """Score the pairs of the chosen genes; all others have none."""
    embedder = EnformerEmbedder(
        args.weights,
        genome=args.genome,
        output="tracks",
        sequence_length=args.sequence_length,
        device=args.device,
    )
    target = Target(tracks=[int(number) for number in args.tracks.split(",")])
    genes = None if args.genes is None else read_genes(args.genes)
    is_there = pairs["chrom"].isin(open_genome(args.genome).contigs)
    if not is_there.any():
        msg = f"{args.genome} has none of the pairs' chromosomes, such as "
        raise InputError(msg + str(pairs["chrom"].iloc[0]))
    chosen = pairs["gene"].drop_duplicates()[: args.limit]
    some = pairs[pairs["gene"].isin(chosen) & is_there]
    scores = score_elements(embedder, some, args.method, target, genes=genes)
    scores = scores.reindex(pairs.index)
    scores.loc[~is_there, "reason"] = NOT_IN_GENOME
    return scores


def show(
    title: str, pairs: pd.DataFrame, scores: pd.DataFrame, args: argparse.Namespace
) -> None:
    """Print average precision by distance."""
    found = average_precision(
        pairs, scores, baseline=BASELINE, min_power=args.min_power, n_boot=args.draws
    )
    print(f"\n{title}")
    print(found[SHOWN].round(3).to_string(index=False))


def run(args: argparse.Namespace) -> None:
    """Read the pairs, score them and print the tables."""
    path = args.data / PAIRS
    if not path.is_file():
        msg = f"{args.data} has no {PAIRS}; --data is the folder of crispri/"
        raise InputError(msg)
    pairs = read_crispri(path)
    scores = crispri_baselines(pairs)
    n_positive = int(pairs["regulated"].sum())
    print(f"{len(pairs)} pairs, {n_positive} of them regulated")
    print("average precision, intervals (5th, 95th percentile) from drawn chromosomes;")
    print(f"gain: above {BASELINE}, on the same draws")
    if args.min_power is not None:
        print(f"negatives with a power below {args.min_power} at 25 % are left out")
    show("all pairs", pairs, scores, args)
    if args.genome is None:
        print("\nno --genome: baselines only")
        return
    found = score_by_network(pairs, args)
    name = f"{args.weights}, {args.method}"
    has_score = found["score"].notna()
    n_scored, n_found = (
        int(has_score.sum()),
        int((has_score & pairs["regulated"]).sum()),
    )
    print(f"\n{name}: {n_scored} pairs have a score, {n_found} of them regulated;")
    print("all others have none: " + ", ".join(_why_not(found)))
    if n_found:
        both = scores.assign(**{name: found["score"]})
        show("pairs that all scores have", pairs, both, args)
    if args.scores is not None:
        table = pd.concat([pairs.iloc[:, :10], scores, found], axis=1)
        table.to_csv(args.scores, sep="\t", index=False)
    print("\n" + "\n".join(caution_lines({"weights": args.weights})))


def _why_not(found: pd.DataFrame) -> list[str]:
    counts = found["reason"].fillna("not asked for").value_counts()
    return [f"{reason} ({count})" for reason, count in counts.items() if reason]


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help=f"folder with {PAIRS}")
    parser.add_argument("--genome", type=Path, help="FASTA of hg38")
    parser.add_argument("--weights", default="enformer", help="(default: enformer)")
    parser.add_argument("--method", choices=METHODS, default="gradient")
    parser.add_argument("--tracks", default=TRACKS, help=f"(default: {TRACKS})")
    parser.add_argument("--genes", type=Path, help="annotation with TSS and strand")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first genes")
    parser.add_argument(
        "--min-power", type=float, help="leave weaker negatives out; 0.8 is usual"
    )
    parser.add_argument("--draws", type=int, default=1_000, help="(default: 1000)")
    parser.add_argument("--sequence-length", type=int, metavar="BP")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--scores", type=Path, help="table of all pairs and scores")
    try:
        run(parser.parse_args())
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
