"""Fit heads for 130 tissues and cell lines that the network was never trained on.

Genes and expression are real (Human Protein Atlas); windows come from pieces of the
human genome. Each piece is held out in turn, so that neighbours and gene families
never stand on both sides. Beside every score stands what it must beat: the mean of the
training genes, nine GC/CpG numbers, words of four letters, the same network with random
weights, and permuted targets.

    python examples/new_tissue_heads.py --data DATA                     # minutes
    python examples/new_tissue_heads.py --data DATA --weights enformer  # a GPU helps

DATA is a folder with ``human/genes.tsv`` (gene_id, contig, strand, tss0, cage_tss0),
``human/expression_hpa.tsv.gz`` (gene_id and one column per tissue) and
``human/regions.fa.gz``; all examples take the same folder.

Data: Human Protein Atlas, proteinatlas.org, CC BY-SA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.pipeline import make_pipeline

from enformer_features import (
    ChromosomeSplit,
    EnformerEmbedder,
    Evaluation,
    align,
    evaluate,
    read_genes,
    ridge_head,
    standard_baselines,
    write_h5ad,
    xgboost_head,
)
from enformer_features.estimators.evaluation.result import check_files
from enformer_features.exceptions import EnformerFeaturesError, InputError, first_few
from enformer_features.plotting import plot_by_split
from enformer_features.storage.files import check_output

CREDIT = "Data: Human Protein Atlas, proteinatlas.org, CC BY-SA"
STARTS = {"annotated TSS": "tss0", "CAGE TSS": "cage_tss0"}
SPLIT = "leave one region out"
FILES = ("human/genes.tsv", "human/expression_hpa.tsv.gz", "human/regions.fa.gz")


def read_expression(path: Path) -> pd.DataFrame:
    """Return log(NX + 1e-4), genes x tissues; entries may be missing."""
    return np.log(pd.read_csv(path, sep="\t", index_col="gene_id") + 1e-4)


def read_rows(data: Path, tss: str) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return genes with expression, and their expression."""
    expression = read_expression(data / "expression_hpa.tsv.gz")
    genes = read_genes(data / "genes.tsv", tss=tss, missing_tss="gene")
    return align(genes[genes.index.isin(expression.index)], expression)


def compare(
    embedder: EnformerEmbedder, genes: pd.DataFrame, y: pd.DataFrame
) -> Evaluation:
    """Evaluate two heads beside every baseline, on regions that are held out."""
    name = str(embedder.weights)
    ridge = ridge_head()  # penalties chosen on held-out regions, inside training
    trees = xgboost_head(
        n_components=16, n_estimators=40, learning_rate=0.1, max_depth=3
    )
    trees.set_params(xgbregressor__max_bin=16, xgbregressor__n_jobs=1)  # few genes
    return evaluate(
        {
            f"{name}, ridge": make_pipeline(embedder, ridge),
            f"{name}, trees": make_pipeline(embedder, trees),
        },
        genes,
        y,
        splits={SPLIT: ChromosomeSplit()},  # a contig is a region
        baselines=standard_baselines(embedder, ridge),
        fill_missing=True,  # trees take no gaps
        remarks=[CREDIT],
    )


def table_of(found: dict[str, Evaluation]) -> pd.DataFrame:
    """Return medians with their intervals, models x choice of TSS."""
    columns = {}
    for title, evaluation in found.items():
        table = evaluation.table
        genes = table[table["axis"] == "across genes"].set_index("model")
        columns[title] = [
            f"{row['median']:.3f} ({row['low']:.3f} to {row['high']:.3f})"
            for _, row in genes.iterrows()
        ]
        index = genes.index
    return pd.DataFrame(columns, index=index)


def figure_of(found: dict[str, Evaluation], file: Path) -> None:
    """Draw the medians of both choices of TSS."""
    tables = [
        evaluation.table.assign(split=title) for title, evaluation in found.items()
    ]
    note = f"Spearman, {SPLIT}\n{CREDIT}"
    plot_by_split(pd.concat(tables), note=note).savefig(file, dpi=120)


def check_paths(args: argparse.Namespace) -> None:
    """Refuse files that are not there, or must not be written, before any work."""
    missing = [name for name in FILES if not (args.data / name).is_file()]
    if missing:
        msg = f"{args.data} has no {first_few(missing)}; --data is the folder of human/"
        raise InputError(msg)
    for title in STARTS if args.out else ():
        check_files(folder_of(args.out, title), overwrite=args.overwrite)
    for path, suffix in ((args.figure, ".png"), (args.features, ".h5ad")):
        if path:
            check_output(path, overwrite=args.overwrite)
            if path.suffix != suffix:
                msg = f"{path} must end in {suffix}"
                raise InputError(msg)


def folder_of(out: Path, title: str) -> Path:
    """Return the folder of one choice of TSS."""
    return out / title.replace(" ", "_")


def run(args: argparse.Namespace) -> None:
    """Compare, write, print."""
    check_paths(args)
    data = args.data / "human"
    embedder = EnformerEmbedder(
        weights=args.weights,
        genome=data / "regions.fa.gz",
        sequence_length=args.sequence_length,
        strand="average",
        device=args.device,
    )
    found = {}
    for title, tss in STARTS.items():
        print(f"{title} ...", file=sys.stderr)
        genes, y = read_rows(data, tss)
        found[title] = compare(embedder, genes, y)
        if args.out:
            folder = folder_of(args.out, title)
            found[title].write(folder, overwrite=args.overwrite)
    if args.features:  # of the CAGE TSS
        adata = embedder.to_anndata(genes)
        adata.obsm["X_expression"] = y.to_numpy()
        write_h5ad(adata, args.features, overwrite=args.overwrite)
    if args.figure:
        figure_of(found, args.figure)
    print("Spearman across genes of regions that were held out: median over tissues")
    print("(5th to 95th percentile over draws of whole regions)")
    print(table_of(found).to_string())
    print(found["CAGE TSS"])


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {', '.join(FILES)}"
    )
    parser.add_argument("--weights", default="mini", help="(default: mini)")
    parser.add_argument("--sequence-length", type=int, help="(default: the network's)")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--out", type=Path, help="folder for tables and records")
    parser.add_argument("--figure", type=Path, help="write the figure here, .png")
    parser.add_argument("--features", type=Path, help="write features, .h5ad")
    parser.add_argument("--overwrite", action="store_true", help="replace files")
    try:
        run(parser.parse_args())
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
