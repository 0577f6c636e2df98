"""Fit heads for 12 blood cell types on 38 genes: how it is done, not that it works.

The embeddings are those of the official Enformer weights, and the measurements are of
real cells, but **38 genes are far too few to show anything**: the same procedure on
permuted measurements, printed beside, reaches as much. Chromosomes are held out one
after the other.

    python examples/transfer_pbmc.py --data DATA

DATA is a folder with ``enformer_reference/pbmc50_embeddings.npz`` (gene_id, embedding
38 x 3,072), ``enformer_reference/pbmc50_genes.tsv`` and
``enformer_reference/pbmc50_pseudobulk.tsv`` (mean log-expression per cell type); all
examples take the same folder.

Data: GSK-AI/seq2cells (Apache-2.0); PBMC of 10x Genomics. The order of the embeddings
is inferred from the script that made them.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.base import BaseEstimator
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features import align
from enformer_features.estimators.controls import PermutedTargets, TrainingMean
from enformer_features.estimators.metrics import median_score
from enformer_features.exceptions import EnformerFeaturesError, InputError, first_few

FOLDER = "enformer_reference"
FILES = tuple(
    f"{FOLDER}/pbmc50_{name}"
    for name in ("embeddings.npz", "genes.tsv", "pseudobulk.tsv")
)
AXES = {"genes": "across genes", "tissues": "across cell types"}


Floats = npt.NDArray[np.floating]


def read(folder: Path) -> tuple[Floats, pd.DataFrame, pd.Series]:
    """Return embeddings, measurements and chromosomes of the same genes."""
    with np.load(folder / "pbmc50_embeddings.npz") as arrays:
        ids = pd.Index(arrays["gene_id"], name="gene_id")
        embedding = pd.DataFrame(arrays["embedding"], ids)
    measured = pd.read_csv(folder / "pbmc50_pseudobulk.tsv", sep="\t", index_col=0)
    embedding, measured = align(embedding, measured)
    genes = pd.read_csv(folder / "pbmc50_genes.tsv", sep="\t", index_col="gene_id")
    return embedding.to_numpy(), measured, genes.loc[embedding.index, "chrom"]


def held_out_scores(
    model: BaseEstimator, X: Floats, y: pd.DataFrame, chroms: pd.Series
) -> dict[str, float]:
    """Return the median of Spearman's r on either axis, chromosomes held out."""
    predicted = cross_val_predict(model, X, y, groups=chroms, cv=LeaveOneGroupOut())
    return {
        title: median_score(y, predicted, across=across)
        for across, title in AXES.items()
    }


def run(args: argparse.Namespace) -> None:
    """Fit, print."""
    missing = [name for name in FILES if not (args.data / name).is_file()]
    if missing:
        what = f"--data is the folder of {FOLDER}/"
        msg = f"{args.data} has no {first_few(missing)}; {what}"
        raise InputError(msg)
    if args.permutations < 1:
        msg = f"--permutations {args.permutations} must be at least 1"
        raise InputError(msg)
    X, y, chroms = read(args.data / FOLDER)
    head = make_pipeline(StandardScaler(with_std=False), Ridge(1000.0))
    scores = pd.DataFrame(
        {
            "Enformer embedding + Ridge": held_out_scores(head, X, y, chroms),
            "training mean": held_out_scores(TrainingMean(), X, y, chroms),
        }
    ).T
    chance = pd.DataFrame(
        [
            held_out_scores(PermutedTargets(head, seed=seed), X, y, chroms)
            for seed in range(args.permutations)
        ]
    )
    for name, share in {"5th": 0.05, "95th": 0.95}.items():
        scores.loc[f"permuted measurements, {name} percentile"] = chance.quantile(share)
    print(f"Median Spearman of {len(y)} genes, {y.shape[1]} cell types, chromosomes")
    print("held out; the baselines are the training mean and permuted measurements")
    print(scores.round(3).to_string())
    print(f"{len(y)} genes are too few: this is no evidence for or against anything.")


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {', '.join(FILES)}"
    )
    parser.add_argument("--permutations", type=int, default=100)
    try:
        run(parser.parse_args())
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
