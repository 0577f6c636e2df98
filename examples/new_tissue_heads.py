"""Fit heads for 130 tissues and cell lines that the network was never trained on.

Genes and expression are real (Human Protein Atlas); windows come from pieces of the
human genome. Each piece is held out in turn, so that neighbours and gene families
never stand on both sides. Beside every score stands what nine GC/CpG numbers reach.

    python examples/new_tissue_heads.py --data DATA                     # a minute
    python examples/new_tissue_heads.py --data DATA --weights enformer  # a GPU helps

DATA is a folder with ``genes.tsv`` (gene_id, contig, strand, tss0, cage_tss0),
``expression_hpa.tsv.gz`` (gene_id and one column per tissue) and ``regions.fa.gz``.

Data: Human Protein Atlas, proteinatlas.org, CC BY-SA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from xgboost import XGBRegressor

from enformer_features import (
    EnformerEmbedder,
    SequenceCompositionBaseline,
    align,
    read_genes,
    write_h5ad,
)
from enformer_features.estimators.metrics import score_across_genes

CREDIT = "Data: Human Protein Atlas, proteinatlas.org, CC BY-SA"


def read_expression(path: Path) -> pd.DataFrame:
    """Return log(NX + 1e-4), genes x tissues; entries may be missing."""
    return np.log(pd.read_csv(path, sep="\t", index_col="gene_id") + 1e-4)


def held_out_score(model: Pipeline, genes: pd.DataFrame, y: pd.DataFrame) -> float:
    """Return the median over tissues of Spearman's r across held-out genes."""
    predicted = cross_val_predict(
        model,
        genes,
        y.fillna(y.median()),  # heads want every entry; scores leave them out again
        groups=genes["chrom"],
        cv=LeaveOneGroupOut(),
    )
    return float(score_across_genes(y, predicted)["spearman"].median())


def heads(embedder: EnformerEmbedder, genome: Path) -> dict[str, Pipeline]:
    """Return the models to compare, the baseline first."""
    baseline = SequenceCompositionBaseline(genome)
    name = str(embedder.weights)
    if name.startswith("untrained"):
        name += " (RANDOM WEIGHTS, no biology)"
    trees = XGBRegressor(
        n_estimators=40,
        learning_rate=0.1,
        max_depth=3,
        max_bin=16,
        n_jobs=1,  # small data: threads would wait for each other
        multi_strategy="multi_output_tree",
        random_state=0,
    )
    return {
        "9 GC/CpG numbers + Ridge": make_pipeline(
            baseline, StandardScaler(), Ridge(10)
        ),
        f"{name} + Ridge": make_pipeline(embedder, StandardScaler(), Ridge(1000)),
        f"{name} + XGBoost": make_pipeline(embedder, trees),
    }


def compare(args: argparse.Namespace) -> pd.DataFrame:
    """Return median Spearman, models x choice of TSS, and write the AnnData."""
    genome = args.data / "regions.fa.gz"
    embedder = EnformerEmbedder(
        weights=args.weights,
        genome=genome,
        sequence_length=args.sequence_length,
        strand="average",
        device=args.device,
    )
    expression = read_expression(args.data / "expression_hpa.tsv.gz")
    scores = {}
    for title, tss in {"annotated TSS": "tss0", "CAGE TSS": "cage_tss0"}.items():
        genes = read_genes(args.data / "genes.tsv", tss=tss, missing_tss="gene")
        genes, y = align(genes[genes.index.isin(expression.index)], expression)
        scores[title] = {}
        for name, model in heads(embedder, genome).items():
            print(f"{title}: {name} ...", file=sys.stderr)
            scores[title][name] = held_out_score(model, genes, y)
    if args.out:
        adata = embedder.to_anndata(genes)
        adata.obsm["X_expression"] = y.to_numpy()
        write_h5ad(adata, args.out, overwrite=args.overwrite)
    return pd.DataFrame(scores)


def main() -> None:
    """Parse, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--weights", default="mini", help="(default: mini)")
    parser.add_argument("--sequence-length", type=int, help="(default: the network's)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="write features and expression, h5ad")
    parser.add_argument("--overwrite", action="store_true")
    args = parser.parse_args()
    table = compare(args)
    print("Median Spearman over tissues, across genes of regions that were held out")
    print(table.round(3).to_string())
    print(CREDIT)


if __name__ == "__main__":
    main()
