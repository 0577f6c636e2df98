r"""Show which letters around rs11644125 the predicted expression of NLRC5 rests on.

rs11644125 (chr16:57,025,062 C>T, hg38) is associated with the counts of monocytes and
lymphocytes. Avsec et al. 2021 changed every base around it in turn and read what that
does to the predicted expression of NLRC5, whose start lies 35 kb upstream: the variant
is predicted to lower it, and its letters to be those of an SP1 site. The same here:

    python examples/rs11644125.py --genome hg38.fa --weights enformer

It prints the variant's predicted effect on the gene, where that stands among all
substitutions around it, and a table of these: `height` is what the letter that is there
adds, the prediction minus the mean of its three substitutions, which the paper draws as
the height of the letter. `--out TABLE.tsv` keeps every substitution.

Any other variant and gene will do, in any genome:

    python examples/rs11644125.py --genome my.fa --variant "chr1:1000:A>G" \
        --genes genes.tsv --gene MYC --tracks 0,1

The start of NLRC5 is the 5' end of Ensembl's ENSG00000140853, chr16:56,989,485 (+);
`--genes` takes that of an annotation instead. What the paper found was not measured
again here: no official weights and no hg38 were at hand.

References: Avsec et al. 2021, Nature Methods 18:1196.
"""

from __future__ import annotations

import argparse
import re
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from enformer_features import (
    EnformerEmbedder,
    VariantEffect,
    read_genes,
    saturation_mutagenesis,
)
from enformer_features.exceptions import EnformerFeaturesError, InputError, first_few
from enformer_features.variant_effect.caution import caution_lines
from enformer_features.variant_effect.mutagenesis import Mutagenesis

VARIANT = "chr16:57025062:C>T"
GENE = "NLRC5"
NLRC5_TSS = ("chr16", 56_989_484, "+")  # 0-based
TRACKS = "4767,2280"  # neutrophils: CAGE, H3K27ac
SCORES = ("REF", "ALT", "SAR")
SHOWN = 10  # rows of the printed table


@dataclass(frozen=True)
class Start:
    """Where a gene's transcription starts, 0-based."""

    gene: str
    chrom: str
    tss: int
    strand: str


def read_variant(text: str) -> pd.DataFrame:
    """Read ``chrom:pos:ref>alt``, 1-based, of a substitution."""
    found = re.fullmatch(r"(.+):([\d,]+):([ACGTacgt])>([ACGTacgt])", text)
    if found is None:
        msg = (
            f"--variant {text!r} is no substitution; expected chrom:pos:ref>alt, such "
            f"as {VARIANT}, with a 1-based position"
        )
        raise InputError(msg)
    chrom, pos, ref, alt = found.groups()
    place = int(pos.replace(",", ""))
    row = {"chrom": chrom, "pos": place, "ref": ref.upper(), "alt": alt.upper()}
    return pd.DataFrame([row])


def find_start(args: argparse.Namespace) -> Start:
    """Return the start of the gene: of the annotation, or the one that is known."""
    if args.genes is None:
        if args.gene != GENE:
            msg = f"--gene {args.gene} needs --genes, an annotation or a table with it"
            raise InputError(msg)
        return Start(GENE, *NLRC5_TSS)
    genes = read_genes(args.genes)
    rows = genes[(genes["gene_name"] == args.gene) | (genes.index == args.gene)]
    if len(rows) != 1:
        msg = f"{args.genes} has {len(rows)} genes called {args.gene}; expected one"
        if len(rows):
            msg += f": {first_few(rows.index.tolist())}; give its id"
        raise InputError(msg)
    row = rows.iloc[0]
    return Start(args.gene, str(row["chrom"]), int(row["tss"]), str(row["strand"]))


def effect_on_gene(embedder: EnformerEmbedder, pair: pd.DataFrame) -> pd.DataFrame:
    """Predict both alleles at the gene's start: one row per track."""
    scored = VariantEffect(embedder, score=SCORES).transform(pair)[0]
    return pd.DataFrame(scored.reshape(len(SCORES), -1).T, columns=list(SCORES))


def letters_of(ism: Mutagenesis, track: int) -> pd.DataFrame:
    """Say what every letter adds to a track, and what each substitution would do."""
    effects = ism.effects[:, :, track]
    return pd.DataFrame(
        {
            "pos": np.arange(ism.start, ism.end) + 1,
            "ref": list(ism.ref),
            "height": ism.contributions(track),
            **{f"to {letter}": effects[:, i] for i, letter in enumerate("ACGT")},
        }
    )


def rank_of(ism: Mutagenesis, variant: pd.Series, track: int) -> tuple[int, int]:
    """Return the rank of the variant among all substitutions by size, and how many."""
    table = ism.to_frame()
    sizes = table.iloc[:, 4 + track].abs()
    own = (table["pos"] == variant["pos"]) & (table["alt"] == variant["alt"])
    return int((sizes > sizes[own].item()).sum()) + 1, len(table)


def run(args: argparse.Namespace) -> None:
    """Predict the variant, mutate what is around it, and print."""
    variant = read_variant(args.variant)
    start = find_start(args)
    row = variant.iloc[0]
    tracks = [int(number) for number in args.tracks.split(",")]
    embedder = EnformerEmbedder(
        args.weights,
        genome=args.genome,
        output="tracks",
        tracks=tracks,
        sequence_length=args.sequence_length,
        strand="average",
        device=args.device,
    )
    if start.chrom != row["chrom"]:
        msg = f"{start.gene} is on {start.chrom}, the variant on {row['chrom']}"
        raise InputError(msg)
    pair = variant.assign(gene=start.gene, tss=start.tss, strand=start.strand)
    found = effect_on_gene(embedder, pair)
    low, high = row["pos"] - args.around, row["pos"] + args.around
    ism = saturation_mutagenesis(
        embedder,
        f"{row['chrom']}:{max(low, 1)}-{high}",
        tss=start.tss,
        strand=start.strand,
    )
    show(args, start, row, found, ism, tracks)
    if args.out is not None:
        ism.to_frame().to_csv(args.out, sep="\t", index=False)


def show(
    args: argparse.Namespace,
    start: Start,
    variant: pd.Series,
    found: pd.DataFrame,
    ism: Mutagenesis,
    tracks: list[int],
) -> None:
    """Print what was found."""
    away = (variant["pos"] - 1 - start.tss) * (-1 if start.strand == "-" else 1)
    where = "downstream" if away >= 0 else "upstream"
    print(f"{args.variant}, {abs(away):,} bp {where} of the start of {start.gene}")
    print(f"weights: {args.weights}; bins of the start, mean of both directions\n")
    for number, (name, track) in enumerate(zip(ism.names, tracks, strict=True)):
        effect = found.iloc[number]
        verb = "lowers" if effect["ALT"] < effect["REF"] else "raises"
        rank, n = rank_of(ism, variant, number)
        print(
            f"track {track} ({name}): {effect['REF']:.4g} -> {effect['ALT']:.4g}, "
            f"log2 ratio of 1 + x {effect['SAR']:+.4f}: {variant['alt']} {verb} it"
        )
        print(f"  {rank}. in size of {n} substitutions within {args.around} bp")
    around = letters_of(ism, 0)
    print(f"\nletters that matter most to track {tracks[0]}, and the variant's own:")
    is_own = around["pos"] == variant["pos"]
    size = around["height"].abs().mask(is_own, np.inf)  # the variant's is always shown
    strongest = size.sort_values(ascending=False).index[:SHOWN]
    print(around.loc[strongest].sort_index().round(6).to_string(index=False))
    print("\n" + "\n".join(caution_lines({"weights": args.weights})))


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--genome", type=Path, required=True, help="FASTA of hg38")
    parser.add_argument("--weights", default="enformer", help="(default: enformer)")
    parser.add_argument("--variant", default=VARIANT, help=f"(default: {VARIANT})")
    parser.add_argument("--gene", default=GENE, help=f"(default: {GENE})")
    parser.add_argument("--genes", type=Path, help="annotation or table with the gene")
    parser.add_argument("--tracks", default=TRACKS, help=f"(default: {TRACKS})")
    parser.add_argument("--around", type=int, default=50, metavar="BP")
    parser.add_argument("--sequence-length", type=int, metavar="BP")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="table of all substitutions")
    try:
        run(parser.parse_args())
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
