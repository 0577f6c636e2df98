"""Predict saturation mutagenesis: every base of 22 reporters changed, and measured.

Kircher et al. 2019 measured what each substitution in an enhancer or promoter does to
a reporter. Here the network scores each, and the scores are compared with the
measurements, data set by data set, in two ways:

* **without training**: the mean change of the DNase tracks over the element,
* **lasso**: trained on the changes of all outputs, in the bins around the variant and
  over the element, and scored on held-out positions: the three changes of a base, in
  all replicas of an element, are held out together.

Beside them stands a lasso on the letters alone (which base becomes which, CpG lost or
gained), on the same folds. What does not beat it has learnt nothing of the element.

    python examples/mpra_saturation.py --data DATA

DATA is a folder with ``mpra/satmut_variants.tsv.gz`` (Chrom, Pos, Ref, Alt, Barcodes,
Coefficient, Element, Release) and ``mpra/element_refseq.GRCh38.fa`` (one sequence per
data set, ``>NAME chrom:start-end ...``, 1-based inclusive); all examples take the same
folder. **There is no genome around the elements here: the window is the element with N
on both sides.** Deletions of one base (``Alt`` is "-") are never trained on; with
``--deletions`` they are predicted, and scored apart.

Data: Kircher et al. 2019, Nature Communications 10:3583
(kircherlab/MPRA_SaturationMutagenesis, GPL-3).
"""

from __future__ import annotations

import argparse
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.model_selection import GroupKFold

from enformer_features import (
    EnformerEmbedder,
    Genome,
    VariantEffect,
    fit_head,
    lasso_head,
    read_tracks,
    select_tracks,
)
from enformer_features.exceptions import (
    EnformerFeaturesError,
    InputError,
    WindowWarning,
    check_choice,
    first_few,
)
from enformer_features.genomics.encoding import decode
from enformer_features.genomics.intervals import clusters
from enformer_features.inference.tracks import assay_ranges
from enformer_features.model.registry import BUNDLED

VARIANTS = Path("mpra", "satmut_variants.tsv.gz")
ELEMENTS = Path("mpra", "element_refseq.GRCh38.fa")
RELEASE = "GRCh38"
MIN_BARCODES = 10
BIN_BP = 128
LETTERS = "ACGT"
CHANGES = [(ref, alt) for ref in LETTERS for alt in LETTERS if ref != alt]
WITHOUT, TRAINED, BASELINE = "without training", "lasso", "lasso, letters"
DELETIONS = "lasso, deletions"

Floats = npt.NDArray[np.floating]
Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Element:
    """What a data set is of; replicas, and elements that overlap, share a locus."""

    name: str
    chrom: str
    start: int  # 0-based
    end: int
    locus: int


def read_elements(path: Path) -> list[Element]:
    """Read the headers of the sequences."""
    rows = []
    for line in path.read_text("ascii").splitlines():
        if line.startswith(">"):
            name, place, *_ = line[1:].split()
            chrom, span = place.split(":")
            start, end = map(int, span.split("-"))
            rows.append((name, chrom, start - 1, end))
    table = pd.DataFrame(rows, columns=["name", "chrom", "start", "end"])
    table["locus"] = clusters(table[["chrom", "start", "end"]])
    return [Element(*row) for row in table.itertuples(index=False)]


def read_measured(path: Path, *, deletions: bool) -> pd.DataFrame:
    """Read the measurements of one release that have enough barcodes."""
    table = pd.read_csv(path, sep="\t", dtype={"Chrom": str})
    is_used = (table["Release"] == RELEASE) & (table["Barcodes"] >= MIN_BARCODES)
    if not deletions:
        is_used &= table["Alt"] != "-"
    return table[is_used]


def variants_of(measured: pd.DataFrame, element: Element, letters: str) -> pd.DataFrame:
    """Write measurements as variants of the element, with the letters of a VCF.

    A deletion takes the base before it along, or the one after it at the start. All
    share one window, which is centred on the middle of the element.
    """
    index = measured["Pos"].to_numpy() - 1 - element.start
    is_deletion = (measured["Alt"] == "-").to_numpy()
    first = index - (is_deletion & (index > 0))
    refs, alts = [], []
    for at, begin, alt in zip(index, first, measured["Alt"], strict=True):
        pair = letters[begin : begin + 2]
        refs.append(pair if alt == "-" else letters[at])
        alts.append(pair[0 if at > 0 else 1] if alt == "-" else alt)
    return pd.DataFrame(
        {
            "chrom": element.name,
            "pos": first + 1,
            "id": ".",
            "ref": refs,
            "alt": alts,
            "gene": element.name,
            "tss": len(letters) // 2,
            "strand": "+",
        }
    )


def changes_of(
    embedder: EnformerEmbedder, variants: pd.DataFrame, n_bases: int
) -> tuple[Floats, Floats]:
    """Return the changes of all outputs around the variant, and over the element."""
    half = -(-n_bases // (2 * BIN_BP))
    near, wide = (
        VariantEffect(embedder, bins=bins, indels="center").transform(variants)
        for bins in ("variant", (-half, half))
    )
    return near, wide


def letters_of(measured: pd.DataFrame, element: Element, letters: str) -> Floats:
    """Return what the letters alone tell: the change, and CpG gained or lost."""
    rows = []
    for pos, ref, alt in measured[["Pos", "Ref", "Alt"]].itertuples(index=False):
        index = pos - 1 - element.start
        changed = letters[:index] + alt.strip("-") + letters[index + 1 :]
        row = [float((ref, alt) == change) for change in CHANGES]
        rows.append([*row, changed.count("CG") - letters.count("CG")])
    return np.array(rows)


def folds_of(blocks: Integers, locus: int, n_folds: int) -> Integers:
    """Draw the fold of every block of positions, the same in all of a locus."""
    drawn = {
        block: np.random.default_rng((locus, int(block))).integers(n_folds)
        for block in np.unique(blocks)
    }
    return np.array([drawn[block] for block in blocks])


def held_out(
    features: Floats,
    effects: Floats,
    is_trained: npt.NDArray[np.bool_],
    blocks: Integers,
    folds: Integers,
) -> Floats:
    """Predict every fold by a lasso on the others, its penalty chosen within these."""
    predicted = np.full(len(effects), np.nan)
    for fold in np.unique(folds):
        train, test = (folds != fold) & is_trained, folds == fold
        n_blocks = len(np.unique(blocks[train]))
        if n_blocks < 5:
            msg = (
                f"{n_blocks} blocks of positions are left to train on, fewer than 5; "
                "raise --limit, or lower --block-bp"
            )
            raise InputError(msg)
        lasso = lasso_head(cv=GroupKFold(5))
        fit_head(lasso, features[train], effects[train], blocks[train])
        predicted[test] = np.ravel(lasso.predict(features[test]))
    return predicted


def pearson(predicted: Floats, effects: Floats) -> float:
    """Return Pearson's r; NaN for fewer than three rows or constant predictions."""
    if len(effects) < 3 or np.ptp(predicted) == 0:
        return float("nan")
    return float(np.corrcoef(predicted, effects)[0, 1])


def score(
    element: Element,
    letters: str,
    measured: pd.DataFrame,
    embedder: EnformerEmbedder,
    args: argparse.Namespace,
) -> dict[str, object]:
    """Return the correlations of one data set."""
    variants = variants_of(measured, element, letters)
    near, wide = changes_of(embedder, variants, len(letters))
    effects = measured["Coefficient"].to_numpy()
    blocks = measured["Pos"].to_numpy() // args.block_bp
    folds = folds_of(blocks, element.locus, args.folds)
    is_snv = (measured["Alt"] != "-").to_numpy()
    both = np.hstack([near, wide])
    predicted = held_out(both, effects, is_snv, blocks, folds)
    bare = letters_of(measured, element, letters)
    found: dict[str, object] = {
        "locus": element.locus,
        "n": int(is_snv.sum()),
        BASELINE: pearson(
            held_out(bare, effects, is_snv, blocks, folds)[is_snv], effects[is_snv]
        ),
        WITHOUT: pearson(
            wide[:, dnase_tracks(args)].mean(axis=1)[is_snv], effects[is_snv]
        ),
        TRAINED: pearson(predicted[is_snv], effects[is_snv]),
    }
    if args.deletions:
        found["n deleted"] = int((~is_snv).sum())
        found[DELETIONS] = pearson(predicted[~is_snv], effects[~is_snv])
    return found


def dnase_tracks(args: argparse.Namespace) -> list[int]:
    """Return the indices of the DNase tracks."""
    table = args.track_table
    if table is None and args.weights in BUNDLED:
        table = BUNDLED[args.weights] / "tracks.tsv"
    if table is None:
        return list(assay_ranges("human")["DNASE"])
    return list(select_tracks(read_tracks(table), assay="DNASE").indices)


def summary(scores: pd.DataFrame, n_draws: int = 1_000) -> pd.DataFrame:
    """Return the mean over loci, replicas averaged first, with its interval."""
    by_locus = scores.groupby("locus")[[BASELINE, WITHOUT, TRAINED]].mean()
    gain = by_locus[TRAINED] - by_locus[BASELINE]
    by_locus[f"{TRAINED} above letters"] = gain
    rng = np.random.default_rng(0)
    draws = rng.integers(len(by_locus), size=(n_draws, len(by_locus)))
    means = by_locus.to_numpy()[draws].mean(axis=1)
    low, high = np.quantile(means, [0.05, 0.95], axis=0)
    mean = by_locus.mean()
    return pd.DataFrame({"mean of loci": mean, "5th": low, "95th percentile": high})


def chosen_elements(args: argparse.Namespace) -> list[Element]:
    """Check the folder, and return the data sets that are asked for."""
    missing = [str(f) for f in (VARIANTS, ELEMENTS) if not (args.data / f).is_file()]
    if missing:
        msg = f"{args.data} has no {first_few(missing)}; --data is the folder of mpra/"
        raise InputError(msg)
    elements = read_elements(args.data / ELEMENTS)
    names = [element.name for element in elements]
    wanted = args.elements.split(",") if args.elements else names
    for name in wanted:
        check_choice("--elements", name, names)
    return [element for element in elements if element.name in wanted]


def run(args: argparse.Namespace) -> None:
    """Score every data set and print the tables."""
    elements = chosen_elements(args)
    fasta = args.data / ELEMENTS
    embedder = EnformerEmbedder(
        args.weights,
        genome=fasta,
        output="tracks",
        sequence_length=args.sequence_length,
        strand="average",
        max_n_fraction=1.0,
        device=args.device,
    )
    measured = read_measured(args.data / VARIANTS, deletions=args.deletions)
    rows = {}
    for element in elements:
        codes = Genome(fasta).fetch(element.name, 0, element.end - element.start)
        letters = decode(codes)
        of_element = measured[measured["Element"] == element.name]
        if args.limit:
            first = of_element["Pos"].min() + args.limit
            of_element = of_element[of_element["Pos"] < first]
        print(f"{element.name}: {len(of_element)} variants", file=sys.stderr)
        rows[element.name] = score(element, letters, of_element, embedder, args)
    scores = pd.DataFrame.from_dict(rows, orient="index")
    print(f"Pearson's r with the measured log2 effect; weights: {args.weights}")
    print(scores.drop(columns="locus").round(3).to_string())
    print(f"\nover {scores['locus'].nunique()} loci, intervals from drawn loci:")
    print(summary(scores).round(3).to_string())
    print("Folds are scored together: what predicts the mean comes out below 0.")
    print("Windows are the element and N: no flanking genome was read.")
    if args.weights in BUNDLED:
        print(f"{args.weights} is a small network: this says nothing of Enformer.")


def main() -> None:
    """Parse and run; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--data", type=Path, required=True, help=f"folder with {VARIANTS}, {ELEMENTS}"
    )
    parser.add_argument("--weights", default="mini", help="(default: mini)")
    parser.add_argument("--sequence-length", type=int, metavar="BP")
    parser.add_argument("--device", default="auto")
    parser.add_argument(
        "--track-table", type=Path, help="of weights that are neither mini nor Enformer"
    )
    parser.add_argument("--elements", help="names with commas between (default: all)")
    parser.add_argument(
        "--limit", type=int, metavar="BP", help="only the first positions of each"
    )
    parser.add_argument(
        "--deletions", action="store_true", help="full passes: as slow as all the rest"
    )
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument(
        "--block-bp",
        type=int,
        default=1,
        metavar="BP",
        help="hold out so many neighbouring positions together (default: 1)",
    )
    with warnings.catch_warnings():  # every window is mostly N, by design
        warnings.simplefilter("ignore", WindowWarning)
        try:
            run(parser.parse_args())
        except EnformerFeaturesError as error:
            sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
