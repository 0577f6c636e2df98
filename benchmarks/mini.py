"""Measure a small trained network against what costs nothing: ``python mini.py``.

Two questions. *Bins*: on validation windows that were not trained on, how well does
the network's head follow each track, beside a ridge on 15 GC/CpG numbers and beside
random networks of the same size? *Genes*: with the network frozen, how well do heads
on its embedding predict the expression of genes in regions that were held out, beside
9 GC/CpG numbers? README.md says how it is measured.

Data: Human Protein Atlas, proteinatlas.org, CC BY-SA; records of baskerville
(Apache-2.0), built on ENCODE, FANTOM5, GTEx and recount3.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pandas as pd
import torch
from _measure import machine
from _scores import (
    Floats,
    mean_of_z_scores,
    pearson_across_bins,
    predict_held_out,
    spearman_across_genes,
    tuned_ridge,
)
from _tables import BOTH, EMBEDDING, GC, OWN_HEAD, Scores, report, summary
from sklearn.model_selection import GroupKFold

from enformer_features import (
    EnformerConfig,
    EnformerEmbedder,
    ModelHandle,
    SequenceCompositionBaseline,
    UntrainedWeightsWarning,
    read_genes,
)
from enformer_features.estimators.baselines import FEATURES, composition
from enformer_features.estimators.correlations import draw_groups
from enformer_features.genomics.encoding import reverse_complement
from enformer_features.genomics.windows import BIN_SIZE, Geometry
from enformer_features.model.enformer import Enformer
from enformer_features.model.layers import TransformerBlock, lecun_
from enformer_features.model.registry import resolve, weights_config, weights_digest
from enformer_features.model.untrained import calibrate, random_one_hot
from enformer_features.training.data.records import RecordFolder
from enformer_features.training.data.windows import TrainingWindows
from enformer_features.training.scale import SQUASHES, Squash, TargetScale, track_means

HERE = Path(__file__).resolve().parent
SCALES_BP = (64, 256, 1_024, 4_096, 16_384)
ASSAYS = {"CAGE": ("CAGE",), "DNase": ("DNASE",), "RNA": ("RNA", "RNA3")}
STARTS = {"CAGE TSS": "cage_tss0", "annotated TSS": "tss0"}
EPSILON = 1e-4  # added to expression before its logarithm
PARTS = ("validation", "genes")

Codes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Network:
    """A network, and how it is read.

    Parameters
    ----------
    weights : str, path or ModelHandle
    length_bp : int
        Letters that it reads at once.
    squash : {"none", "sqrt", "log1p"}
        Its human head predicts ``squash(y / train mean)``.
    """

    weights: str | Path | ModelHandle
    length_bp: int
    squash: Squash = "none"

    @property
    def config(self) -> EnformerConfig:
        """The sizes."""
        return weights_config(self.weights)

    def embedder(self, **settings: Any) -> EnformerEmbedder:
        """Return the package's way to read it, on the CPU, remembering nothing."""
        return EnformerEmbedder(
            self.weights,
            sequence_length=self.length_bp,
            max_n_fraction=1.0,
            device="cpu",
            cache=None,
            verbose=False,
            **settings,
        )


def random_network(config: EnformerConfig, seed: int) -> Enformer:
    """Draw a network as the package's untrained ones are drawn, from another seed."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Enformer(config)
        for block in network.transformer:
            assert isinstance(block, TransformerBlock)
            lecun_(block.attention.to_out.weight)
        calibrate(network, random_one_hot(4, 32 * config.bin_size))
    return network


def random_networks(network: Network, n_seeds: int) -> list[Network]:
    """Return untrained networks of the same sizes."""
    drawn = [random_network(network.config, seed) for seed in range(n_seeds)]
    return [
        Network(ModelHandle(part, f"seed {seed}", trained=False), network.length_bp)
        for seed, part in enumerate(drawn)
    ]


# Bins of windows


def tile_starts(n_bins: int, n_kept: int) -> list[int]:
    """Return the first bins of tiles that cover all bins; the last may overlap."""
    return [min(start, n_bins - n_kept) for start in range(0, n_bins, n_kept)]


def cut_tiles(windows: TrainingWindows, length_bp: int, n_kept: int) -> Codes:
    """Cut what a network reads to predict all bins of every window.

    Returns
    -------
    ndarray of uint8, shape (n_windows * n_tiles, length_bp)
        The tiles of the first window, then those of the second.

    Raises
    ------
    SystemExit
        When a tile would leave the letters that there are.
    """
    margin = (length_bp - n_kept * BIN_SIZE) // 2
    if n_kept > windows.n_bins or margin > windows.margin_bp:
        msg = (
            f"{windows.name} have {windows.n_bins} bins and {windows.margin_bp} bp on "
            f"either side; a network that reads {length_bp} bp and keeps {n_kept} bins "
            "does not fit in"
        )
        raise SystemExit(msg)
    edge = windows.margin_bp - margin
    starts = [edge + b * BIN_SIZE for b in tile_starts(windows.n_bins, n_kept)]
    tiles = [windows.codes[:, start : start + length_bp] for start in starts]
    return np.stack(tiles, axis=1).reshape(-1, length_bp)


def join_tiles(values: npt.NDArray[np.float32], n_bins: int) -> npt.NDArray[np.float32]:
    """Put the bins of tiles side by side.

    Parameters
    ----------
    values : ndarray, shape (n_windows * n_tiles, n_kept, n_features)

    Returns
    -------
    ndarray, shape (n_windows, n_bins, n_features)
    """
    n_kept, n_features = values.shape[1:]
    starts = tile_starts(n_bins, n_kept)
    tiles = values.reshape(-1, len(starts), n_kept, n_features)
    joined = np.empty((len(tiles), n_bins, n_features), values.dtype)
    for number, start in enumerate(starts):
        joined[:, start : start + n_kept] = tiles[:, number]
    return joined


def embedding_of_bins(network: Network, windows: TrainingWindows) -> Floats:
    """Return the embedding of every bin, both directions averaged."""
    n_kept = Geometry(network.length_bp, network.config.target_length).n_bins
    tiles = cut_tiles(windows, network.length_bp, n_kept)
    values = network.embedder(strand="average").embed_bins(tiles)
    return join_tiles(values, windows.n_bins).astype(np.float64)


def head_of_bins(network: Network, windows: TrainingWindows) -> Floats:
    """Return ``y / train mean`` by the human head, both directions averaged.

    What is read backwards is turned around, and every track of a strand changes places
    with that of the other.
    """
    n_tracks = network.config.output_heads.get("human")
    if n_tracks != windows.n_tracks:
        msg = f"the human head has {n_tracks} tracks, the records {windows.n_tracks}"
        raise SystemExit(msg)
    n_kept = Geometry(network.length_bp, network.config.target_length).n_bins
    tiles = cut_tiles(windows, network.length_bp, n_kept)
    embedder = network.embedder(output="tracks", organism="human")
    pairs = windows.tracks["strand_pair"].to_numpy()
    forward = embedder.embed_bins(tiles)
    backward = embedder.embed_bins(reverse_complement(tiles))[:, ::-1, pairs]
    squashed = join_tiles((forward + backward) / np.float32(2), windows.n_bins)
    scale = TargetScale(torch.ones(windows.n_tracks), network.squash)
    return scale.relative(torch.from_numpy(squashed)).numpy().astype(np.float64)


def composition_of_bins(windows: TrainingWindows) -> Floats:
    """Return GC and CpG around every bin: (n_windows, n_bins, 3 per scale).

    Where nothing is known at a scale, it is as the next larger one.
    """
    middles = windows.margin_bp + BIN_SIZE * np.arange(windows.n_bins) + BIN_SIZE // 2
    shape = (len(windows), windows.n_bins, len(SCALES_BP), len(FEATURES))
    features = np.empty(shape)
    for row, codes in enumerate(windows.codes):
        for column, middle in enumerate(middles):
            for level, scale in enumerate(SCALES_BP):
                part = codes[max(middle - scale // 2, 0) : middle + scale // 2]
                features[row, column, level] = composition(part)
    for level in reversed(range(len(SCALES_BP) - 1)):
        here, above = features[:, :, level], features[:, :, level + 1]
        features[:, :, level] = np.where(np.isnan(here), above, here)
    return features.reshape(*shape[:2], -1)


@dataclass(frozen=True)
class Bins:
    """Windows to learn from and windows to predict, on the scale of the scores.

    Parameters
    ----------
    train, valid : TrainingWindows
        Of the same tracks, without missing values.
    """

    train: TrainingWindows
    valid: TrainingWindows

    def __post_init__(self) -> None:
        for part in (self.train, self.valid):
            if np.isnan(part.targets).any():
                msg = f"{part.name} have missing targets, which are not scored here"
                raise SystemExit(msg)

    def targets(self, windows: TrainingWindows) -> Floats:
        """Return ``log1p(y / train mean)``."""
        counts = np.clip(windows.targets.astype(np.float64), 0, None)
        return np.log1p(counts / track_means([self.train]))

    def ridge(self, train: Floats, valid: Floats) -> Floats:
        """Fit features of training bins to the targets; predict validation bins.

        Penalties are the best on training windows that are held out, a fifth a time.
        """
        (n_windows, n_bins, n_features), n_tracks = train.shape, self.train.n_tracks
        predicted = tuned_ridge(
            train.reshape(-1, n_features),
            self.targets(self.train).reshape(-1, n_tracks),
            valid.reshape(-1, n_features),
            np.repeat(np.arange(n_windows), n_bins),
            GroupKFold(min(5, n_windows)),
        )
        return predicted.reshape(*valid.shape[:2], n_tracks)

    def ridge_on_embedding(self, network: Network) -> Floats:
        """Predict validation bins from the network's embedding."""
        parts = (embedding_of_bins(network, part) for part in (self.train, self.valid))
        return self.ridge(*parts)

    def ridge_on_composition(self) -> Floats:
        """Predict validation bins from GC and CpG."""
        return self.ridge(*map(composition_of_bins, (self.train, self.valid)))

    def score(self, predicted: Floats, draws: Floats) -> Scores:
        """Return the mean over each assay's tracks of Pearson's r across bins."""
        r = pearson_across_bins(self.targets(self.valid), predicted, draws)
        assay = self.valid.tracks["assay"]
        return {
            name: r[:, assay.isin(kinds).to_numpy()].mean(axis=1)
            for name, kinds in ASSAYS.items()
        }


def measure_bins(
    network: Network, others: Sequence[Network], bins: Bins, rounds: int
) -> dict[str, Any]:
    """Score the network, random ones and GC/CpG on validation windows."""
    draws = draw_groups(len(bins.valid), rounds)
    scores = {
        GC: bins.score(bins.ridge_on_composition(), draws),
        EMBEDDING: bins.score(bins.ridge_on_embedding(network), draws),
        OWN_HEAD: bins.score(np.log1p(head_of_bins(network, bins.valid)), draws),
    }
    untrained = [bins.score(bins.ridge_on_embedding(other), draws) for other in others]
    pairs = [(name, GC) for name in (EMBEDDING, OWN_HEAD)]
    return {
        "n_train_windows": len(bins.train),
        "n_valid_windows": len(bins.valid),
        **summary(scores, untrained, pairs),
    }


# Genes


@dataclass(frozen=True)
class Genes:
    """Genes with expression and one kind of TSS, in pieces of a genome.

    Parameters
    ----------
    genome : Path
    table : DataFrame
        Indexed by gene.
    expression : DataFrame
        The same genes, log(x + 1e-4); entries may be missing.
    """

    genome: Path
    table: pd.DataFrame
    expression: pd.DataFrame

    @property
    def regions(self) -> npt.NDArray[np.int_]:
        """Return the number of each gene's piece of the genome."""
        return np.unique(self.table["chrom"], return_inverse=True)[1]

    def predict(self, features: Floats) -> Floats:
        """Predict every region's genes from those of the other regions."""
        y = self.expression.to_numpy(float)
        return predict_held_out(features, y, self.regions)

    def predictions(self, network: Network) -> dict[str, Floats]:
        """Predict from GC/CpG, from the network, and from both."""
        composition = self.predict(self.composition())
        embedding = self.predict(self.embedding(network))
        both = mean_of_z_scores(composition, embedding)
        return {GC: composition, EMBEDDING: embedding, BOTH: both}

    def composition(self) -> Floats:
        """Return the package's nine GC/CpG numbers."""
        baseline = SequenceCompositionBaseline(self.genome)
        return baseline.fit(self.table).transform(self.table).astype(np.float64)

    def embedding(self, network: Network) -> Floats:
        """Return the mean of the three bins at the TSS, both directions averaged."""
        embedder = network.embedder(
            genome=self.genome, pooling="tss", strand="average", edge="error"
        )
        return embedder.transform(self.table).astype(np.float64)

    def score(self, predicted: Floats, draws: Floats) -> Floats:
        """Return the median over columns of Spearman's r across genes."""
        weights = draws[:, self.regions]
        observed = self.expression.to_numpy(float)
        r = spearman_across_genes(observed, predicted, weights)
        median: Floats = np.nanmedian(r, axis=1)
        return median


def read_genes_that_fit(folder: Path, tss: str, network: Network) -> Genes:
    """Read the genes that have expression and a whole window around their TSS.

    Where a gene lacks the TSS asked for, it is the gene's 5' end.

    Parameters
    ----------
    folder : Path
        With ``genes.tsv``, ``expression_hpa.tsv.gz`` and ``regions.fa.gz``.
    tss : str
        The column of ``genes.tsv``.
    """
    path = folder / "expression_hpa.tsv.gz"
    expression = pd.read_csv(path, sep="\t", index_col="gene_id")
    expression = (expression + EPSILON).apply(np.log)
    genome = folder / "regions.fa.gz"
    table = read_genes(folder / "genes.tsv", tss=tss, missing_tss="gene")
    table = table[table.index.isin(expression.index)]
    windows = network.embedder(genome=genome).windows(table)
    table = table[~windows["off_edge"].to_numpy(bool)]
    return Genes(genome, table, expression.loc[table.index])


def measure_genes(
    network: Network, others: Sequence[Network], folder: Path, rounds: int
) -> dict[str, Any]:
    """Score GC/CpG, the network, both, and random ones, for both kinds of TSS."""
    scores: dict[str, Scores] = {}
    untrained: list[Scores] = [{} for _ in others]
    counts = {}
    for title, tss in STARTS.items():
        genes = read_genes_that_fit(folder, tss, network)
        draws = draw_groups(len(np.unique(genes.regions)), rounds)
        for name, predicted in genes.predictions(network).items():
            scores.setdefault(name, {})[title] = genes.score(predicted, draws)
        for other, found in zip(others, untrained, strict=True):
            found[title] = genes.score(genes.predict(genes.embedding(other)), draws)
        counts[title] = len(genes.table), draws.shape[1]
    pairs = [(name, GC) for name in (EMBEDDING, BOTH)]
    return {
        "n_genes": {title: n for title, (n, _) in counts.items()},
        "n_regions": {title: n for title, (_, n) in counts.items()},
        "n_columns": genes.expression.shape[1],
        **summary(scores, untrained, pairs),
    }


# The command


def squash_on_card(weights: str) -> Squash:
    """Return ``squash`` of the model card, a JSON file beside the weights, or none.

    Raises
    ------
    SystemExit
        When the card has another word than the package knows.
    """
    path = getattr(resolve(weights), "path", None)
    if path is None:
        return "none"
    folder = path if path.is_dir() else path.parent
    for file in sorted(folder.glob("*.json")):
        card = json.loads(file.read_text("utf-8"))
        if "squash" in card:
            return _known_squash(card["squash"], file)
    return "none"


def _known_squash(word: object, file: Path) -> Squash:
    if word not in SQUASHES:
        msg = f"{file} has squash {word!r}; give --squash, one of {', '.join(SQUASHES)}"
        raise SystemExit(msg)
    return cast("Squash", word)


def default_data() -> Path:
    """Return the folder of data beside the repository, or the one that is named."""
    named = os.environ.get("ENFORMER_FEATURES_SHARED")
    return Path(named or HERE.parents[1] / "shared") / "data"


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", default="mini", help="a name or a folder")
    parser.add_argument("--length-bp", type=int, default=12_288)
    parser.add_argument(
        "--squash", choices=SQUASHES, help="default: what the model card says, or none"
    )
    parser.add_argument("--part", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--seeds", type=int, default=5, help="untrained networks")
    parser.add_argument("--rounds", type=int, default=1_000, help="of the bootstrap")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--data", type=Path, default=default_data())
    parser.add_argument("--markdown", type=Path, metavar="FILE")
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


def measure(options: argparse.Namespace) -> dict[str, Any]:
    """Measure the parts that are asked for."""
    squash = options.squash or squash_on_card(options.weights)
    network = Network(options.weights, options.length_bp, squash)
    others = random_networks(network, options.seeds)
    result: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "weights": Path(options.weights).name,
        "digest": weights_digest(options.weights),
        "length_bp": options.length_bp,
        "squash": squash,
        "machine": machine(),
    }
    if "validation" in options.part:
        records = RecordFolder(options.data / "tfrecords" / "hg38")
        bins = Bins(records.read("train"), records.read("valid"))
        result["validation"] = measure_bins(network, others, bins, options.rounds)
    if "genes" in options.part:
        folder = options.data / "human"
        result["genes"] = measure_genes(network, others, folder, options.rounds)
    return result


def main() -> None:
    """Measure, print the tables and write them."""
    options = arguments()
    torch.set_num_threads(options.threads)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UntrainedWeightsWarning)  # they are meant to be
        result = measure(options)
    text = report(result)
    print(text)
    if options.markdown:
        options.markdown.write_text(text, encoding="utf-8")
    if options.json:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
