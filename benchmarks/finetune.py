"""Compare tuned networks with Ridge on frozen features: ``benchmarks/finetune.py``.

A made-up genome: copies of a motif 2 to 6 kb upstream of a TSS, in the direction of its
gene, raise its expression; as many on the downstream side do nothing. Nothing else
does. Ridge sees the network's features at the TSS, over all kept bins, over the bins
2 to 4 kb upstream, and all of these; tuned networks pool the last. Both are fitted to
the same chromosomes and scored on those that are held out.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from _scores import (
    Floats,
    estimate,
    pearson_across_bins,
    spearman_across_genes,
    tuned_ridge,
)
from sklearn.model_selection import LeaveOneGroupOut

from enformer_features import EnformerEmbedder, EnformerRegressor, Pool, __version__
from enformer_features.estimators.correlations import draw_groups
from enformer_features.exceptions import EnformerFeaturesWarning
from enformer_features.genomics.encoding import decode, encode, reverse_complement

Codes = npt.NDArray[np.uint8]

MOTIF = "TGCGCATGCGCA"  # of the factor NRF1, with one base more on either side
LENGTH = 12_288  # of a window, in bp
NEAR, FAR = 2_000, 6_000  # bp from the TSS
SPACING = 14_000  # from gene to gene: windows do not overlap
EFFECT, NOISE = 3.0, 0.3  # of the logarithm of expression, from no copy to the most
UPSTREAM = Pool("upstream", (-32, -16))  # bins 2,048 to 4,096 bp upstream
POOLS: dict[str, str | Pool | tuple[str | Pool, ...]] = {
    "TSS": "tss",
    "all kept bins": "mean",
    "2-4 kb upstream": UPSTREAM,
    "all three": ("tss", "mean", UPSTREAM),
}
# Heads and upper layers overfit so few genes in a few epochs and stop early; the whole
# network is given a schedule that ends.
WAYS: dict[str, dict[str, Any]] = {
    "head": {},
    "last": {},
    "lora": {},
    "full": {
        "max_epochs": 5,
        "patience": None,
        "validation_fraction": 0.0,
        "shift_bp": 64,
    },
}


_NOTE = (
    "The settings were chosen on seed 1; other seeds had no part in that. The "
    "network's convolutions see this motif in part, so Ridge finds something too. Of "
    'one that they do not see (`--motif TGACTCAGCATT`) Ridge finds less, and `"full"` '
    "either finds it or stays on a plateau: with a learning rate of 1e-3, 720 genes, "
    "and 6 or 5 epochs, Pearson was 0.881, 0.083, 0.863 and 0.893 for seeds 0 to 3."
)


@dataclass(frozen=True)
class World:
    """What is made up.

    Parameters
    ----------
    n_chromosomes, n_held_out : int
        The last ones are held out.
    n_genes : int
        On every chromosome.
    most_copies : int
        Of the motif, on each side of a gene.
    motif : str
    seed : int
    """

    n_chromosomes: int = 8
    n_held_out: int = 2
    n_genes: int = 120
    most_copies: int = 40
    motif: str = MOTIF
    seed: int = 0


@dataclass(frozen=True, eq=False)
class Data:
    """Genes of a made-up genome.

    Parameters
    ----------
    genome : Path
    genes : DataFrame, n_genes rows
    expression : ndarray, shape (n_genes,)
        Its logarithm.
    copies : ndarray of int, shape (n_genes,)
        Upstream, where they count.
    held_out : ndarray of bool, shape (n_genes,)
    """

    genome: Path
    genes: pd.DataFrame
    expression: Floats
    copies: npt.NDArray[np.int64]
    held_out: npt.NDArray[np.bool_]


def make_data(world: World, folder: Path) -> Data:
    """Write the genome, and return its genes."""
    rng = np.random.default_rng(world.seed)
    tables, text = [], []
    for number in range(1, world.n_chromosomes + 1):
        letters = rng.integers(0, 4, (world.n_genes + 1) * SPACING).astype(np.uint8)
        tss = SPACING * np.arange(1, world.n_genes + 1)
        table = pd.DataFrame({"chrom": f"chr{number}", "tss": tss})
        table["strand"] = rng.choice(["+", "-"], world.n_genes)
        most, motif = world.most_copies, encode(world.motif)
        table["copies"] = [
            _plant(letters, int(at), strand, motif, most, rng)
            for at, strand in zip(table["tss"], table["strand"], strict=True)
        ]
        tables.append(table)
        text.append(f">chr{number}\n{decode(letters)}\n")
    genome = folder / "genome.fa"
    genome.write_text("".join(text))
    genes = pd.concat(tables, ignore_index=True)
    copies = genes.pop("copies").to_numpy()
    first_held_out = world.n_chromosomes - world.n_held_out
    held_out = np.repeat(
        np.arange(world.n_chromosomes) >= first_held_out, world.n_genes
    )
    noise = rng.normal(0.0, NOISE, len(genes))
    expression = EFFECT * copies / world.most_copies + noise
    return Data(genome, genes, expression, copies, held_out)


def _plant(
    letters: Codes,
    tss: int,
    strand: str,
    motif: Codes,
    most: int,
    rng: np.random.Generator,
) -> int:
    """Write motifs on both sides of a gene; return how many are upstream."""
    start = tss - FAR + (strand == "-")
    around = letters[start : start + 2 * FAR]
    read = reverse_complement(around) if strand == "-" else around.copy()
    counts = rng.integers(0, most + 1, 2)
    room = FAR - NEAR
    for n_copies, side in zip(counts, (0, FAR + NEAR), strict=True):
        places = rng.choice(room // len(motif), n_copies, replace=False)
        for place in side + places * len(motif):
            read[place : place + len(motif)] = motif
    around[:] = reverse_complement(read) if strand == "-" else read
    return int(counts[0])


@dataclass(frozen=True, eq=False)
class Scored:
    """A model and its scores on held-out genes, of the data and of draws of genes."""

    name: str
    pearson: Floats
    spearman: Floats
    seconds: float


def score(data: Data, name: str, predicted: npt.NDArray[Any], seconds: float) -> Scored:
    """Correlate predictions of the held-out genes with what they express.

    Parameters
    ----------
    data : Data
    name : str
    predicted : ndarray, shape (n_held_out,)
    seconds : float
    """
    observed = data.expression[data.held_out][:, None]
    guess = np.asarray(predicted, dtype=np.float64)[:, None]
    draws = draw_groups(len(observed), n_boot=1_000)
    pearson = pearson_across_bins(observed[:, None], guess[:, None], draws)
    spearman = spearman_across_genes(observed, guess, draws)
    return Scored(name, pearson[:, 0], spearman[:, 0], seconds)


def ridge_on(data: Data, weights: str, name: str) -> Scored:
    """Fit Ridge on frozen features; its penalty is chosen over chromosomes."""
    began = time.perf_counter()
    embedder = EnformerEmbedder(
        weights, genome=data.genome, pooling=POOLS[name], sequence_length=LENGTH
    )
    features = embedder.transform(data.genes).astype(np.float64)
    train, test = ~data.held_out, data.held_out
    chromosomes = data.genes["chrom"].factorize()[0]
    predicted = tuned_ridge(
        features[train],
        data.expression[train, None],
        features[test],
        chromosomes[train],
        LeaveOneGroupOut(),
    )
    seconds = time.perf_counter() - began
    return score(data, f"Ridge, {name}", predicted[:, 0], seconds)


def tuned(data: Data, weights: str, way: Any, max_epochs: int | None) -> Scored:
    """Tune the network on the same genes."""
    began = time.perf_counter()
    settings = {**WAYS[way], **({"max_epochs": max_epochs} if max_epochs else {})}
    model = EnformerRegressor(
        weights,
        genome=data.genome,
        tune=way,
        loss="mse",
        pooling=UPSTREAM,
        sequence_length=LENGTH,
        random_state=0,
        **settings,
    )
    model.fit(data.genes[~data.held_out], data.expression[~data.held_out])
    predicted = model.predict(data.genes[data.held_out])
    seconds = time.perf_counter() - began
    return score(data, f'EnformerRegressor(tune="{way}")', predicted, seconds)


def report(data: Data, found: list[Scored]) -> str:
    """Lay out the scores as Markdown, and how far tuning is ahead of the best Ridge."""
    best = max(
        (one for one in found if one.name.startswith("Ridge")),
        key=lambda one: one.pearson[0],
    )
    lines = [
        f"{(~data.held_out).sum()} genes to fit to, {data.held_out.sum()} on "
        "chromosomes held out; in brackets the 5th and 95th percentile over draws of "
        "these",
        "",
        "| model | Pearson | Spearman | ahead of the best Ridge | seconds |",
        "| --- | --- | --- | --- | --- |",
    ]
    for one in found:
        ahead = ""
        if one.name.startswith("EnformerRegressor"):
            ahead = str(estimate(one.pearson - best.pearson))
        lines.append(
            f"| {one.name} | {estimate(one.pearson)} | {estimate(one.spearman)} | "
            f"{ahead} | {one.seconds:.0f} |"
        )
    return "\n".join(lines)


def run(
    world: World, weights: str, ways: list[str], max_epochs: int | None = None
) -> tuple[str, list[Scored]]:
    """Make the data, fit all models and compare them."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore", EnformerFeaturesWarning)
        data = make_data(world, Path(folder))
        copies = data.copies[data.held_out]
        found = [score(data, "the true number of copies", copies, 0.0)]
        found += [ridge_on(data, weights, name) for name in POOLS]
        for way in ways:
            found.append(tuned(data, weights, way, max_epochs))
            print(f"{found[-1].name}: {estimate(found[-1].pearson)}", flush=True)
    return report(data, found), found


def main() -> None:
    """Run the comparison and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--weights", default="mini", help="name or folder")
    parser.add_argument("--only", nargs="+", choices=tuple(WAYS), default=list(WAYS))
    parser.add_argument("--motif", default=World.motif)
    parser.add_argument("--copies", type=int, default=World.most_copies)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--quick", action="store_true", help="try the harness itself")
    parser.add_argument("--out", type=Path, help="file for the table")
    options = parser.parse_args()
    world = World(most_copies=options.copies, motif=options.motif)
    if options.quick:
        world = replace(world, n_chromosomes=4, n_held_out=1, n_genes=5)
    epochs = 1 if options.quick else None
    tables = []
    for seed in options.seeds:
        chosen = replace(world, seed=seed)
        table, _ = run(chosen, options.weights, options.only, epochs)
        tables.append(f"Seed {seed}: {table}")
        print(tables[-1], flush=True)
    if options.out:
        options.out.write_text(_page(options, tables), encoding="utf-8")


def _page(options: argparse.Namespace, tables: list[str]) -> str:
    text = "\n\n".join(tables)
    return (
        "# Fine-tuning against Ridge on frozen features\n\n"
        "Written by `python benchmarks/finetune.py`, whose first lines say what is "
        f"made up: weights {options.weights!r}, up to {options.copies} copies of "
        f"{options.motif}; {torch.get_num_threads()} thread(s), enformer-features "
        f"{__version__}, torch {torch.__version__}. Seconds count whatever else the "
        f"machine did.\n\n{_NOTE}\n\n{text}\n"
    )


if __name__ == "__main__":
    main()
