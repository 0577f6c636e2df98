"""Tell fine-mapped eQTL variants from matched others by what the network sees change.

A random forest is fitted on the effect vector of each variant (the change of every
track, SAD), and scored by AUROC on groups of variants that it has not seen: whole
regions or genes, as neighbours share windows and linkage. Beside it stands
1/distance to the nearest TSS, without which an AUROC means little: positives of
eQTL studies lie close to genes.

    python examples/eqtl_classification.py --table eqtls.tsv --genome hg38.fa \
        --gene-table gencode.gtf.gz --weights enformer

The table is tab separated, plain or gzipped, with a header line and the columns

    chrom pos ref alt   as in a VCF: pos is 1-based
    label               1: fine-mapped (PIP > 0.9, say), 0: matched, not causal (< 0.01)
    group               what is held out together: a region or a gene
    tissue              optional: every tissue is a problem of its own
    id                  optional

Avsec et al. 2021 (Fig. 3) classified GTEx variants of SuSiE in this way. Their table is
not at hand here. Instead,

    python examples/eqtl_classification.py --data DATA

takes real variants from ``DATA/variants/*.local.vcf`` and **draws their labels**, to
show that everything runs, and that an AUROC of nothing is about 0.5.
"""

from __future__ import annotations

import argparse
import sys
import warnings
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict

from enformer_features import (
    EnformerEmbedder,
    VariantEffect,
    read_genes,
    read_vcf,
    variant_table,
)
from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    WindowWarning,
    first_few,
)
from enformer_features.model.registry import BUNDLED

COLUMNS = ["chrom", "pos", "ref", "alt", "label", "group"]
FOREST, DISTANCE = "random forest on SAD", "1 / distance to the nearest TSS"
N_DRAWS = 1_000
GENOME, GENES = Path("human", "regions.fa.gz"), Path("human", "genes.tsv")

Floats = npt.NDArray[np.floating]


def read_table(path: Path) -> pd.DataFrame:
    """Read variants with labels and groups; one tissue where none is named."""
    if not path.is_file():
        msg = f"there is no file {path}"
        raise InputError(msg)
    table = pd.read_csv(path, sep="\t", dtype={"chrom": str, "group": str})
    missing = [name for name in COLUMNS if name not in table]
    if missing:
        msg = f"{path} has no column {first_few(missing)}; needed: {', '.join(COLUMNS)}"
        raise InputError(msg)
    bad = table.index[~table["label"].isin([0, 1])]
    if len(bad):
        msg = f"{path}: label is neither 0 nor 1 in rows {first_few(bad + 1)}"
        raise InputError(msg)
    return table.assign(tissue=table.get("tissue", "all"))


def draw_table(folder: Path, n_variants: int, seed: int) -> pd.DataFrame:
    """Take real variants and draw their labels: plumbing, no evidence."""
    files = sorted((folder / "variants").glob("*.local.vcf"))
    if not files:
        msg = f"{folder} has no variants/*.local.vcf; --data is the folder of variants/"
        raise InputError(msg)
    table = pd.concat([read_vcf(file) for file in files], ignore_index=True)
    table = table[table["reason"] == ""].drop_duplicates(["chrom", "pos", "ref", "alt"])
    table = table.sample(min(n_variants, len(table)), random_state=seed).sort_index()
    labels = np.random.default_rng(seed).integers(2, size=len(table))
    table = table[["chrom", "pos", "id", "ref", "alt"]].reset_index(drop=True)
    block = table["chrom"] + ":" + (table["pos"] // 100_000).astype(str)
    return table.assign(label=labels, group=block, tissue="drawn labels")


def closeness(variants: pd.DataFrame, genes: pd.DataFrame) -> Floats:
    """Return 1 / distance in bp to the nearest TSS; 0 on chromosomes without one."""
    out = np.zeros(len(variants))
    for chrom, rows in variants.groupby("chrom").indices.items():
        starts = np.sort(genes.loc[genes["chrom"] == chrom, "tss"].to_numpy())
        if len(starts):
            positions = variants["pos"].to_numpy()[rows] - 1
            after = np.searchsorted(starts, positions)
            left = starts[(after - 1).clip(min=0)]
            right = starts[after.clip(max=len(starts) - 1)]
            distance = np.minimum(abs(positions - left), abs(right - positions))
            out[rows] = 1 / np.maximum(distance, 1)
    return out


def auroc(
    labels: npt.NDArray[np.int64], scores: Floats, groups: npt.NDArray[np.object_]
) -> dict[str, float]:
    """Return the AUROC, and its interval over draws of whole groups."""
    rows = list(pd.Series(groups).groupby(groups).indices.values())
    rng = np.random.default_rng(0)
    draws = []
    for _ in range(N_DRAWS):
        drawn = np.concatenate(
            [rows[i] for i in rng.integers(len(rows), size=len(rows))]
        )
        if np.ptp(labels[drawn]):
            draws.append(roc_auc_score(labels[drawn], scores[drawn]))
    low, high = np.quantile(draws, [0.05, 0.95])
    return {
        "AUROC": roc_auc_score(labels, scores),
        "5th": low,
        "95th percentile": high,
    }


def split(
    labels: npt.NDArray[np.int64], groups: npt.NDArray[np.object_], n_folds: int
) -> list[tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]]:
    """Return folds of whole groups; none when some could not be fitted or tested."""
    of_label = [groups[labels == label] for label in (0, 1)]
    most = min(n_folds, *(len(of_this) for of_this in of_label))
    most = min(most, len(np.unique(groups)))
    if most < 2 or min(len(np.unique(of_this)) for of_this in of_label) < 2:
        return []
    folds = list(StratifiedGroupKFold(most).split(labels, labels, groups))
    is_fine = all(np.ptp(labels[train]) and len(test) for train, test in folds)
    return folds if is_fine else []


def classify(
    table: pd.DataFrame, effects: Floats, near: Floats, args: argparse.Namespace
) -> pd.DataFrame:
    """Return the scores of one tissue: out of fold, and of the distance."""
    labels = table["label"].to_numpy(np.int64)
    groups = table["group"].to_numpy(object)
    folds = split(labels, groups, args.folds)
    n_groups = len(np.unique(groups))
    if not folds:
        msg = (
            f"{table['tissue'].iloc[0]}: {labels.sum()} of {len(labels)} labels are 1, "
            f"in {n_groups} groups: too few for {args.folds} folds; both labels are "
            "needed, each in at least two groups, and two folds"
        )
        raise InputError(msg)
    forest = RandomForestClassifier(
        args.trees, min_samples_leaf=2, class_weight="balanced", random_state=0
    )
    guessed = cross_val_predict(
        forest, effects, labels, cv=folds, method="predict_proba"
    )[:, 1]
    rows = {FOREST: guessed, DISTANCE: near}
    found = {name: auroc(labels, scores, groups) for name, scores in rows.items()}
    counts = {"n": len(labels), "positive": int(labels.sum()), "groups": n_groups}
    return pd.DataFrame(found).T.assign(**counts)


def run(args: argparse.Namespace) -> None:
    """Score, classify and print."""
    if args.table is not None:
        if args.genome is None or args.gene_table is None:
            msg = "--table needs --genome and --gene-table"
            raise InputError(msg)
        table, genome, genes_file = read_table(args.table), args.genome, args.gene_table
    else:
        table = draw_table(args.data, args.n_variants, args.seed)
        genome, genes_file = args.data / GENOME, args.data / GENES
    chrom = None if args.table is not None else "contig"
    genes = read_genes(genes_file, chrom=chrom)
    embedder = EnformerEmbedder(
        args.weights,
        genome=genome,
        output="tracks",
        sequence_length=args.sequence_length,
        device=args.device,
    )
    effect = VariantEffect(embedder, on_mismatch="skip", on_error="nan")
    scored = effect.table(variant_table(table))
    effects = scored[list(effect.get_feature_names_out())].to_numpy()
    is_good = np.isfinite(effects).all(axis=1)
    print(f"{len(table)} variants, {int((~is_good).sum())} of them not scored")
    for reason, n in scored.loc[~is_good, "reason"].value_counts().items():
        print(f"  {n}: {reason}")
    near = closeness(table, genes)
    for tissue, rows in table[is_good].groupby("tissue"):
        at = rows.index.to_numpy()
        print(f"\n{tissue}, weights {args.weights}, groups held out:")
        print(classify(rows, effects[at], near[at], args).round(3).to_string())
    if args.table is None:
        print(
            "The labels are drawn: this shows that it runs, and is no evidence for or "
            "against anything."
        )
    elif args.weights in BUNDLED:
        print(f"{args.weights} is a small network: this says nothing of Enformer.")


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    source = parser.add_mutually_exclusive_group(required=True)
    source.add_argument("--table", type=Path, help="variants, labels, groups")
    source.add_argument(
        "--data", type=Path, help="folder with variants/ and human/, for drawn labels"
    )
    parser.add_argument("--genome", type=Path, metavar="FASTA", help="with --table")
    parser.add_argument("--gene-table", type=Path, metavar="FILE", help="with --table")
    parser.add_argument("--weights", default="mini", help="(default: mini)")
    parser.add_argument("--sequence-length", type=int, metavar="BP")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--n-variants", type=int, default=1_000, help="of --data (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the drawn labels")
    parser.add_argument("--folds", type=int, default=8)
    parser.add_argument("--trees", type=int, default=500)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", WindowWarning)
        try:
            run(parser.parse_args())
        except EnformerFeaturesError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
