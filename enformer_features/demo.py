"""The whole way on invented data: genome, features, heads, scores, files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import Ridge
from sklearn.model_selection import LeaveOneGroupOut, cross_val_predict
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features.datasets import ToyData, make_toy_genome, write_toy_tables
from enformer_features.estimators.baselines import SequenceCompositionBaseline
from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.metrics import score_across_genes
from enformer_features.exceptions import InputError, MissingDependencyError, first_few
from enformer_features.genomics.windows import Strand
from enformer_features.plotting import plot_predictions
from enformer_features.storage.export import write_h5ad
from enformer_features.storage.files import atomic_write

FOLDER = Path("enformer-features-demo")
WEIGHTS = "mini"
STRAND: Strand = "average"  # the network was trained on both directions
MARKER = ".made-by-enformer-features-demo"
BASELINE = "GC/CpG baseline"
CACHE = "cache"


@dataclass(frozen=True)
class DemoResult:
    """What the demonstration found and wrote.

    Parameters
    ----------
    summary : str
        Text for a reader: scores, files, and what to run next.
    scores : dict of str to dict of str to float
        Spearman correlation across held-out genes, by model and tissue.
    weights : str
        The network's weights.
    n_windows : int
        Different windows of the genes.
    n_computed : int
        Windows that the network read; the others are known from an earlier run.
    files : list of str
        What was written.
    """

    summary: str
    scores: dict[str, dict[str, float]]
    weights: str
    n_windows: int
    n_computed: int
    files: list[str]


def run_demo(
    folder: str | Path = FOLDER, *, seed: int = 0, verbose: bool | None = None
) -> DemoResult:
    """Invent a genome, embed its genes, fit heads, score them on held-out chromosomes.

    Each chromosome is held out in turn, so every gene is predicted by heads that have
    not seen its chromosome. Needs neither network nor data. Features are kept in the
    folder, so that running it again computes none.

    Parameters
    ----------
    folder : path, default="enformer-features-demo"
        Where the files go. A folder that the demonstration did not make is left
        alone.
    seed : int, default=0
        Of the invented data.
    verbose : bool or None, default=None
        Show a progress bar; None shows one on a terminal.

    Returns
    -------
    DemoResult

    Raises
    ------
    InputError
        When the folder holds files of somebody else's.
    """
    folder = Path(folder).expanduser()
    _claim(folder)
    toy = make_toy_genome(folder, seed=seed, overwrite=True)
    write_toy_tables(toy, folder, overwrite=True)
    embedder = EnformerEmbedder(
        WEIGHTS,
        genome=toy.genome,
        strand=STRAND,
        cache=folder / CACHE,
        verbose=verbose,
    )
    n_windows = embedder.plan(toy.genes).n_unique
    n_computed = embedder.warm(toy.genes)
    y = toy.expression.apply(np.log)
    predicted = {
        name: _predict_held_out(model, toy, y)
        for name, model in _models(embedder, toy.genome).items()
    }
    scores = pd.DataFrame(
        {
            name: score_across_genes(y, values)["spearman"]
            for name, values in predicted.items()
        }
    )
    files = _write(folder, embedder, toy, y, predicted, scores)
    embedded = _embedded(n_windows, n_computed, folder / CACHE)
    return DemoResult(
        summary=_summary(folder, toy, embedded, scores, files),
        scores={str(name): dict(of) for name, of in scores.items()},
        weights=WEIGHTS,
        n_windows=n_windows,
        n_computed=n_computed,
        files=[str(path) for path in files],
    )


def _claim(folder: Path) -> None:
    """Make the folder ours, or refuse one that holds files of somebody else's."""
    if folder.exists() and not folder.is_dir():
        msg = f"{folder} is a file; name a folder for the demonstration"
        raise InputError(msg)
    marker = folder / MARKER
    if folder.is_dir() and any(folder.iterdir()) and not marker.exists():
        found = first_few(sorted(path.name for path in folder.iterdir()))
        msg = (
            f"{folder} holds files that the demonstration did not make ({found}); "
            "name another folder"
        )
        raise InputError(msg)
    folder.mkdir(parents=True, exist_ok=True)
    marker.write_text("The demonstration may replace its own files in this folder.\n")


def _models(embedder: EnformerEmbedder, genome: Path) -> dict[str, Pipeline]:
    from xgboost import XGBRegressor

    baseline = SequenceCompositionBaseline(genome)
    trees = XGBRegressor(n_estimators=40, max_depth=2, max_bin=32, n_jobs=1)
    return {
        BASELINE: make_pipeline(baseline, StandardScaler(), Ridge(10.0)),
        f"Ridge on {WEIGHTS}": make_pipeline(embedder, StandardScaler(), Ridge(100.0)),
        f"XGBoost on {WEIGHTS}": make_pipeline(embedder, trees),
    }


def _predict_held_out(model: Pipeline, toy: ToyData, y: pd.DataFrame) -> pd.DataFrame:
    chroms = toy.genes["chrom"]
    values = cross_val_predict(
        model, toy.genes, y, groups=chroms, cv=LeaveOneGroupOut()
    )
    return pd.DataFrame(values, index=y.index, columns=y.columns)


def _write(
    folder: Path,
    embedder: EnformerEmbedder,
    toy: ToyData,
    y: pd.DataFrame,
    predicted: dict[str, pd.DataFrame],
    scores: pd.DataFrame,
) -> list[Path]:
    adata = embedder.to_anndata(toy.genes)
    adata.obsm["X_log_expression"] = y
    write_h5ad(adata, folder / "features.h5ad", overwrite=True)
    table = pd.concat({"observed": y, **predicted}, axis=1)
    _write_table(folder / "predictions.tsv", table)
    _write_table(folder / "scores.tsv", scores)
    written = ["features.h5ad", "predictions.tsv", "scores.tsv"]
    written += _draw(folder / "predictions.png", y, predicted)
    made = ["genome.fa", "genes.tsv", "expression.tsv"]
    return [folder / name for name in made + written]


def _write_table(path: Path, table: pd.DataFrame) -> None:
    with atomic_write(path) as temporary:
        table.to_csv(temporary, sep="\t", float_format="%.4f")


def _draw(path: Path, y: pd.DataFrame, predicted: dict[str, pd.DataFrame]) -> list[str]:
    """Draw the last model's predictions, if matplotlib is there."""
    name = list(predicted)[-1]
    try:
        figure = plot_predictions(y, predicted[name], note=f"{name}, held out")
    except MissingDependencyError:
        return []
    with atomic_write(path) as temporary:
        figure.savefig(temporary, format="png", dpi=120)
    return [path.name]


def _embedded(n_windows: int, n_computed: int, cache: Path) -> str:
    """Say what the network had to read."""
    if not n_computed:
        return (
            f"Nothing was embedded: all {n_windows} windows are known from an earlier "
            f"run ({cache})."
        )
    known = n_windows - n_computed
    others = f", {known} were known" if known else ""
    return (
        f"{n_computed} windows were embedded{others}; their features are kept in "
        f"{cache}."
    )


def _summary(
    folder: Path,
    toy: ToyData,
    embedded: str,
    scores: pd.DataFrame,
    files: list[Path],
) -> str:
    options = f"--weights {WEIGHTS} --strand {STRAND}"
    n_genes, n_chroms = len(toy.genes), toy.genes["chrom"].nunique()
    table = scores.T.round(2).to_string()
    drawn = any(path.suffix == ".png" for path in files)
    hint = "" if drawn else "\n(a figure needs: pip install 'enformer-features[plot]')"
    listed = "\n".join(f"  {path}" for path in files)
    return f"""\
{n_genes} invented genes on {n_chroms} chromosomes, expression set by planted motifs.
{embedded}
Spearman correlation across genes, each chromosome held out in turn:

{table}

The network here is {WEIGHTS}, a small one that was trained on three megabases of real
tracks and comes with the package; it is not Enformer. The baseline is what GC and CpG
content alone give; features are worth having when they beat it.

Written:
{listed}{hint}

Next, the same steps by hand, in {folder}:
  enformer-features embed --genes genes.tsv --genome genome.fa \\
      {options} -o features.tsv
  enformer-features fit --genes genes.tsv --targets expression.tsv \\
      --genome genome.fa {options} \\
      --holdout chr4 -o model.zip
On your own genome, genes and measurements, with the official weights (1 GB, fetched
once): --weights enformer"""
