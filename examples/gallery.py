"""Draw the gallery: every kind of figure, its caption, and the code that draws it.

    python examples/gallery.py --out gallery

writes ``gallery.md`` and a picture for each section. Genome, genes and expression are
invented (``make_toy_genome``): copies of a motif around a TSS raise the expression in
one tissue. The network is ``mini``, the small one that comes with the package; heads
are fitted to the invented expression. So the pictures show what figures look like, and
nothing about real genes.
"""

from __future__ import annotations

import argparse
import inspect
import io
import sys
import tempfile
import textwrap
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.image import imread
from sklearn.linear_model import Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from enformer_features import (
    ChromosomeSplit,
    EnformerEmbedder,
    Evaluation,
    VariantEffect,
    evaluate,
    make_toy_genome,
    read_tracks,
    ridge_head,
    saturation_mutagenesis,
    standard_baselines,
)
from enformer_features.exceptions import EnformerFeaturesError, SmallNetworkWarning
from enformer_features.interpret.attention import attention
from enformer_features.interpret.contributions import Contributions
from enformer_features.interpret.gradients import gradient_x_input
from enformer_features.interpret.targets import Target
from enformer_features.model.registry import BUNDLED
from enformer_features.plotting import (
    plot_attention,
    plot_by_split,
    plot_coefficients,
    plot_contributions,
    plot_ism,
    plot_logo,
    plot_predictions,
    plot_tracks,
    plot_variant_effects,
)
from enformer_features.storage.files import atomic_write, check_output

INTRODUCTION = """\
# Gallery

Made by `examples/gallery.py`, as `make docs` runs it. Genome, genes and expression are
invented: copies of a 16-letter motif within 192 bp of a TSS raise the expression in one
tissue. The network is [`mini`](../mini.md), which is not Enformer. The figures show
what to look for, and nothing about real genes. Functions take arrays, tables and
regions, and return matplotlib's Axes, or a Figure where there are several panels;
colours are those of Okabe and Ito, which colour-blind readers tell apart.
"""
TISSUE = "tissue_1"
UNSEEN = 1e-4  # mean difference of pixels between 0 and 1


@dataclass(frozen=True)
class World:
    """What the figures are of."""

    embedder: EnformerEmbedder  # of tracks
    tracks: pd.DataFrame
    model: Pipeline  # fitted: embedding to expression
    found: Evaluation
    genes: pd.DataFrame
    gene: pd.DataFrame  # the one that is looked at, read forward
    tss: int
    contributions: Contributions

    @property
    def variants(self) -> pd.DataFrame:
        """A substitution at every fifth base around the TSS."""
        positions = np.arange(self.tss - 250, self.tss + 250, 5)
        letters = self.contributions.to_frame(0).set_index("start")["letter"]
        refs = letters.loc[positions].to_numpy()
        return pd.DataFrame(
            {
                "chrom": self.gene["chrom"].iloc[0],
                "pos": positions + 1,
                "ref": refs,
                "alt": [{"A": "G", "G": "A", "C": "T", "T": "C"}[ref] for ref in refs],
                "tss": self.tss,
                "strand": "+",
            }
        )


def make_world(folder: Path) -> World:
    """Invent a genome, fit a head, and explain one gene."""
    toy = make_toy_genome(folder, genes_per_chromosome=25, n_tissues=2)
    y = np.log(toy.expression)
    embedder = EnformerEmbedder("mini", genome=toy.genome, strand="match")
    model = make_pipeline(embedder, StandardScaler(), Ridge(30.0)).fit(toy.genes, y)
    head = ridge_head(cv=3)
    found = evaluate(
        {"ridge": make_pipeline(embedder, head)},
        toy.genes,
        y,
        splits={"chromosomes": ChromosomeSplit()},
        baselines=standard_baselines(
            embedder, head, ["mean", "composition", "permuted"]
        ),
        n_boot=200,
    )
    forward = toy.genes.index[toy.genes["strand"] == "+"]
    gene = toy.genes.loc[[y.loc[forward, TISSUE].idxmax()]]
    return World(
        embedder=EnformerEmbedder("mini", genome=toy.genome, output="tracks"),
        tracks=read_tracks(BUNDLED["mini"] / "tracks.tsv"),
        model=model,
        found=found,
        genes=toy.genes,
        gene=gene,
        tss=int(gene["tss"].iloc[0]),
        contributions=gradient_x_input(model, gene, Target(output=0)),
    )


def predicted_tracks(world: World) -> Any:
    """Look for peaks at the TSS, the arrow at the bottom.

    Each lane is one track, as high as its own highest value, which the label gives:
    lanes can be compared in shape, not in height. Only the middle of the window is
    predicted; what is left and right of it is read, but has no values. An invented gene
    gives a network that was trained on real ones no reason for a peak, and has none.
    """
    bins = world.embedder.embed_bins(world.gene)[0]  # (64 bins, 74 tracks)
    chosen = [0, 26, 40]
    return plot_tracks(
        bins[:, chosen],
        world.embedder.windows(world.gene).iloc[0],
        names=list(world.tracks.loc[chosen, "description"].str[:24]),
        genes=world.genes,
    )


def contributions_of_a_window(world: World) -> Any:
    """Look for where in the window the prediction comes from.

    Sums of gradient x input over 128 bp, through the network and the head for one
    tissue: red raises the prediction, blue lowers it. In this invented genome only 384
    bp in the middle, around the TSS, set expression: bars elsewhere are what a small
    network and a head of 100 genes mistake for signal. Sums can hide large letters of
    both signs. A part without bars is one to which this network is blind, not one
    without a function.
    """
    return plot_contributions(world.contributions)


def contributions_as_letters(world: World) -> Any:
    """Look for words: neighbouring letters that are high together.

    The same scores, base by base. A letter's height is what it adds to the prediction
    to first order; letters that hang from the line lower it. Here a word comes back
    every 16 letters: copies of the planted motif stand side by side. Tall letters in a
    run are a candidate for a motif; single ones are often noise.
    """
    region = (world.tss - 60, world.tss + 60)
    return plot_contributions(world.contributions, region=region)


def logo_of_any_scores(world: World) -> Any:
    """Look at which letter is wanted where, not only which is there.

    Hypothetical contributions: all four letters of each position, centred so that they
    sum to 0. The letter on top is the one that this network would like best there.
    """
    start = world.tss - 24
    first = start - int(world.contributions.table["window_start"].iloc[0])
    scores = world.contributions.hypothetical[0, first : first + 48]
    centred = scores - scores.mean(axis=1, keepdims=True)
    return plot_logo(centred, start, chrom=str(world.gene["chrom"].iloc[0]))


def every_substitution(world: World) -> Any:
    """Look for columns in which all three changes have one colour.

    The effect of each substitution on the predicted expression (red raises, blue
    lowers); a dot marks the letter that is there. A column that is all blue is a base
    whose letter matters; a single coloured cell is a letter that would make or break
    something. Unlike gradients these are full predictions of the changed sequence.
    """
    chrom = world.gene["chrom"].iloc[0]
    region = f"{chrom}:{world.tss - 29}-{world.tss + 30}"
    tissues = list(world.found.observed)
    found = saturation_mutagenesis(world.model, region, tss=world.tss, targets=tissues)
    return plot_ism(found, TISSUE)


def attention_as_arcs(world: World) -> Any:
    """Look for how far the bins of the TSS look.

    Arcs lead to the thirty bins that the TSS bins attend to most, darker for more, mean
    over layers and heads. Attention says what is looked at, not what it does to the
    prediction; compare it with contributions before believing in an enhancer.
    """
    found = attention(world.model, world.gene)
    return plot_attention(found, tss=world.tss)


def attention_as_a_row(world: World) -> Any:
    """Look for bright bins away from the middle.

    The same weights, of all bins of the window. Attention that falls evenly with
    distance is what position alone gives. This genome is invented and has no enhancers:
    bright bins are what this network looks at, and no more than that.
    """
    return plot_attention(attention(world.model, world.gene), kind="row")


def coefficients_by_assay(world: World) -> Any:
    """Look at the shares of the lanes, not at single dots.

    A ridge on standardised tracks: one dot per track. Tracks of one assay are
    correlated, so that weight is spread over them by chance; what a lane has in sum is
    more stable than which of its tracks has most.
    """
    X = world.embedder.transform(world.genes)
    y = world.found.observed[TISSUE]
    head = make_pipeline(StandardScaler(), Ridge(100.0)).fit(X, y)
    return plot_coefficients(head, world.tracks)


def effects_of_variants(world: World) -> Any:
    """Look for clusters of tall stems; up raises the prediction, down lowers it.

    Invented substitutions around a TSS, scored through the fitted head; the five
    largest are named. Heights can be compared within a locus, not across loci, and say
    nothing of who carries the allele.
    """
    effects = VariantEffect(world.model, targets=list(world.found.observed))
    return plot_variant_effects(effects.table(world.variants), TISSUE)


def observed_and_predicted(world: World) -> Any:
    """Look at the spread around the diagonal, of genes that were held out.

    One dot per gene, one panel per tissue, each gene predicted by a head that has not
    seen its chromosome. A correlation across genes says which genes are high, and
    nothing about alleles or people.
    """
    predicted = world.found.predictions["chromosomes"]["ridge"]
    return plot_predictions(world.found.observed, predicted, note="held out")


def models_and_baselines(world: World) -> Any:
    """Look whether the model's interval lies above those of the hollow baselines.

    Medians over tissues with the 5th to 95th percentile over draws of whole
    chromosomes. A model is worth having when it beats nine numbers of GC and CpG around
    the TSS, which say nothing in this invented genome. The mean of the training genes
    and permuted targets stand at 0 or below, as they should.
    """
    return plot_by_split(world.found.table)


FIGURES: list[Callable[[World], Any]] = [
    predicted_tracks,
    contributions_of_a_window,
    contributions_as_letters,
    logo_of_any_scores,
    every_substitution,
    attention_as_arcs,
    attention_as_a_row,
    effects_of_variants,
    coefficients_by_assay,
    observed_and_predicted,
    models_and_baselines,
]


def section_of(function: Callable[[World], Any]) -> str:
    """Return a section of the page: title, picture, caption, code."""
    name = function.__name__
    title = name.replace("_", " ").capitalize()
    caption = inspect.getdoc(function) or ""
    first = caption.split("\n", 1)[0]
    source = inspect.getsource(function)
    body = textwrap.dedent(source.split('"""')[2]).strip()
    return f"""
## {title}

![{first}]({name}.png)

{caption}

```python
{body.replace("world.", "").replace("return ", "ax = ")}
```
"""


def save(figure: Figure, path: Path) -> None:
    """Write a picture, unless the one that is there looks the same.

    The last digits of a network depend on the machine, and with them shades of pixels.
    """
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=90, metadata={"Software": None})
    picture.seek(0)
    if path.exists():
        old, new = (imread(file, format="png") for file in (path, picture))
        if old.shape == new.shape and np.abs(old - new).mean() < UNSEEN:
            return
    with atomic_write(path) as file:
        file.write_bytes(picture.getvalue())


def draw(folder: Path, *, overwrite: bool) -> None:
    """Draw all figures, and write the page."""
    names = [*(f"{function.__name__}.png" for function in FIGURES), "gallery.md"]
    for name in names:
        check_output(folder / name, overwrite=overwrite)
    with tempfile.TemporaryDirectory() as temporary:
        world = make_world(Path(temporary))
        for function in FIGURES:
            drawn = function(world)
            figure = drawn if isinstance(drawn, Figure) else drawn.figure
            save(figure, folder / f"{function.__name__}.png")
    page = INTRODUCTION + "".join(section_of(function) for function in FIGURES)
    with atomic_write(folder / "gallery.md") as file:
        file.write_text(page, encoding="utf-8")


def main() -> None:
    """Parse and draw; an error is one line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="a folder that exists")
    parser.add_argument("--overwrite", action="store_true", help="replace files")
    args = parser.parse_args()
    warnings.simplefilter("ignore", SmallNetworkWarning)  # the page says so
    try:
        draw(args.out, overwrite=args.overwrite)
    except EnformerFeaturesError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
