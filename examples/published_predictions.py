"""Score published predictions of four models against tissues they were not made for.

Huang et al. 2023 published what Xpresso, Enformer, Basenji2 and ExPecto predict from
the reference genome for 3,259 genes in lymphoblastoid cells. Here they are compared
with the expression of these genes in the Human Protein Atlas: what a good model reaches
across genes, before any head is fitted. The models were trained on most of the genes.

    python examples/published_predictions.py --data DATA --genes gencode.gtf.gz

DATA is a folder with ``enformer_reference/published_ref_preds_3259_genes.csv`` (symbols
and a column per model) and ``human/expression_hpa_allgenes.tsv.gz`` (Ensembl ids and a
column per tissue). Which symbol is which id stands in an annotation, or in a table such
as ``data/gene_list.csv`` of ni-lab/personalized-expression-benchmark. All examples take
the same DATA.

Data: Huang et al. 2023, Nature Genetics (ni-lab/personalized-expression-benchmark,
MIT); Human Protein Atlas, proteinatlas.org, CC BY-SA.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd

from enformer_features import align, read_genes
from enformer_features.estimators.metrics import score_across_genes, summary
from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    check_choice,
    first_few,
)

PREDICTIONS = Path("enformer_reference", "published_ref_preds_3259_genes.csv")
EXPRESSION = Path("human", "expression_hpa_allgenes.tsv.gz")
COLUMNS = ["B-cells", "Daudi", "liver"]
NOTE = "Across genes: says nothing of differences between people, or of variants."
CREDIT = (
    "Data: Huang et al. 2023 (MIT); Human Protein Atlas, proteinatlas.org, CC BY-SA"
)


def read_ids(path: Path) -> pd.Series:
    """Return the Ensembl id of each gene symbol in lower case, where it has one."""
    is_annotation = {".gtf", ".gff", ".gff3"} & {s.lower() for s in path.suffixes}
    if is_annotation:
        genes = read_genes(path).reset_index()[["gene_id", "gene_name"]]
    else:
        separator = "," if ".csv" in path.suffixes else "\t"
        genes = pd.read_csv(path, sep=separator, usecols=["gene_id", "gene_name"])
    genes = genes.dropna().drop_duplicates()
    ids = genes["gene_id"].str.replace(r"\.\d+$", "", regex=True)
    by_name = pd.Series(ids.to_numpy(), genes["gene_name"].str.lower())
    return by_name[~by_name.index.duplicated(keep=False)]


def read_predictions(path: Path, ids: pd.Series) -> pd.DataFrame:
    """Return genes by Ensembl id x models, of the genes whose symbol is known."""
    predictions = pd.read_csv(path, index_col="gene")
    is_id = predictions.index.str.startswith("ensg")
    names = predictions.index.to_series()
    known = names.map(ids.to_dict()).where(~is_id, names.str.upper())
    predictions = predictions.set_axis(pd.Index(known, name="gene_id"), axis=0)
    predictions = predictions[known.notna().to_numpy()]
    return predictions[~predictions.index.duplicated(keep=False)]


def compare(
    predictions: pd.DataFrame, expression: pd.DataFrame, n_boot: int
) -> pd.DataFrame:
    """Return Spearman's r of every model with every tissue, and of the best two."""
    genes = np.arange(len(expression))  # each gene a group of its own
    rows = []
    for model in predictions:
        guess = expression.copy()
        guess[:] = predictions[[model]].to_numpy()
        scores = score_across_genes(expression, guess, genes, n_boot=n_boot)
        rows.append(scores.assign(model=model).rename_axis("tissue").reset_index())
    columns = ["tissue", "model", "axis", "n"]
    columns += ["spearman", "spearman_low", "spearman_high"]
    return pd.concat(rows)[columns].sort_values("tissue", kind="stable")


def gain(
    predictions: pd.DataFrame,
    observed: pd.DataFrame,
    model: str,
    other: str,
    n_boot: int,
) -> str:
    """Say by how much one model is above another, gene by gene drawn together."""
    found = summary(
        observed,
        predictions[[model]].to_numpy(),
        np.arange(len(observed)),
        baseline=predictions[[other]].to_numpy(),
        n_boot=n_boot,
    ).loc["spearman"]
    return (
        f"{observed.columns[0]}: {model} minus {other} {found['median']:+.3f} "
        f"({found['low']:+.3f} to {found['high']:+.3f})"
    )


def run(args: argparse.Namespace) -> None:
    """Compare, print."""
    files = [args.data / PREDICTIONS, args.data / EXPRESSION, args.genes]
    missing = [file for file in files if not file.is_file()]
    if missing:
        msg = f"no such file: {first_few(missing)}"
        raise InputError(msg)
    tissues = args.tissue or COLUMNS
    nx = pd.read_csv(files[1], sep="\t", index_col="gene_id")
    for tissue in tissues:
        check_choice("--tissue", tissue, list(nx))
    n_published = len(pd.read_csv(files[0], usecols=["gene"]))
    predictions = read_predictions(files[0], read_ids(args.genes))
    predictions, nx = align(predictions, nx[tissues])
    print(f"{len(nx):,} of {n_published:,} genes used: those whose id is known")
    expression = np.log(nx + 1e-4)
    table = compare(predictions, expression, args.draws)
    print("Spearman's r with log(NX + 1e-4); 5th to 95th percentile over drawn genes")
    print(table.round(3).to_string(index=False))
    for tissue in tissues:
        observed = expression[[tissue]]
        print(gain(predictions, observed, "Enformer", "Basenji2", args.draws))
    print(NOTE)
    print(CREDIT)


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data",
        type=Path,
        required=True,
        help=f"folder with {PREDICTIONS} and {EXPRESSION}",
    )
    parser.add_argument(
        "--genes",
        type=Path,
        required=True,
        help="GTF, GFF3, or a table with gene_id and gene_name",
    )
    parser.add_argument("--tissue", action="append", help=f"(default: {COLUMNS})")
    parser.add_argument("--draws", type=int, default=1000)
    try:
        run(parser.parse_args())
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
