"""Time variant scores against two full forwards of enformer-pytorch each.

``python benchmarks/variants.py`` scores real variants in the window of a real gene, at
published size with random weights, and compares differences of alleles with two full
forwards of the plain network, in float32 and in float64.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _measure import (
    Row,
    Seconds,
    machine,
    median,
    ratio_row,
    relative_rms,
    show,
    table,
    timed,
)
from _peer import (
    TINY,
    one_hot_of,
    random_network,
    the_port,
    the_ports_tracks,
    versions,
)
from torch import Tensor

from enformer_features import EnformerEmbedder
from enformer_features.exceptions import EnformerFeaturesWarning
from enformer_features.genomics.gene_pairs import pair_with_genes
from enformer_features.genomics.genes import read_genes
from enformer_features.genomics.variants import prepare_variants
from enformer_features.genomics.vcf import read_vcf
from enformer_features.model import Enformer, EnformerConfig
from enformer_features.model.handle import ModelHandle
from enformer_features.variant_effect.estimator import VariantEffect
from enformer_features.variant_effect.job import VariantJob
from enformer_features.variant_effect.placement import variant_names

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data"
GENE = "ENSG00000154721"
SUBSTITUTIONS, INDELS = "vep_test_chr21", "platinum_na12878_chr21"
FAR_BINS = 300


class Lab:
    """The network, its port, and real pairs of variants with one gene."""

    def __init__(self, data: Path, *, quick: bool) -> None:
        config = TINY if quick else EnformerConfig()
        self.length_bp = 16_384 if quick else config.sequence_length
        self.network = random_network(config)
        self.port = the_port(self.network)
        self.data = data
        self.genome = data / "human" / "regions.fa.gz"
        self.far_bins = 30 if quick else FAR_BINS

    def embedder(self, **parameters: Any) -> EnformerEmbedder:
        """Return an embedder that reads the gene on its strand."""
        settings = {
            "genome": self.genome,
            "sequence_length": self.length_bp,
            "cache": None,
        }
        return EnformerEmbedder(ModelHandle(self.network), **{**settings, **parameters})

    def pairs(self, name: str, kind: str) -> pd.DataFrame:
        """Return variants of one kind, paired with the gene, the nearest first."""
        genes = read_genes(self.data / "human" / "genes.tsv")
        chosen = genes.loc[[GENE]]
        variants = read_vcf(self.data / "variants" / f"{name}.local.vcf")
        variants = prepare_variants(variants, self.genome)
        variants = variants[variants["kind"] == kind]
        pairs = pair_with_genes(variants, chosen, sequence_length=self.length_bp)
        return pairs.sort_values("distance", key=abs).reset_index(drop=True)

    def job(
        self, rows: pd.DataFrame, *, embedding: bool = False, **settings: Any
    ) -> VariantJob:
        """Return a job: scores of tracks at the TSS, or of every bin's embedding."""
        output = {"output": "embedding"} if embedding else {"output": "tracks"}
        if embedding:
            settings = {"bins": "all", **settings}
        return VariantEffect(self.embedder(**output), **settings).job(rows)

    def codes(self, job: VariantJob) -> tuple[np.ndarray, np.ndarray]:
        """Return both alleles' letters of the first row."""
        (view,) = job.reads.reference(0)
        (alternative,) = job.reads.alternatives(0, 0)
        return view.codes, alternative.codes


def forwards(lab: Lab, codes: np.ndarray, rounds: int) -> Seconds:
    """Return the median of the port's forwards, tracks of the human head."""
    one_hot = one_hot_of(torch.from_numpy(codes[None]))
    runs = [timed(lambda: the_ports_tracks(lab.port, one_hot)) for _ in range(rounds)]
    return median([seconds for seconds, _ in runs])


GENE_COLUMNS = ["gene", "tss", "strand", "distance"]
Timing = tuple[str, Seconds, float | None, float | None]


def speed(lab: Lab, numbers: list[int], rounds: int) -> list[Row]:
    """Time variants in a gene's window, and by themselves."""
    near = lab.pairs(SUBSTITUTIONS, "substitution")
    chosen = near.iloc[np.linspace(0, len(near) - 1, max(numbers)).astype(int)]
    codes, _ = lab.codes(lab.job(chosen.iloc[:1]))
    before = forwards(lab, codes, rounds)
    rows = shared_window(lab, chosen, numbers) + lone(lab, near, "substitution")
    indels = lab.pairs(INDELS, "indel").iloc[:3]
    if len(indels) == 3:
        seconds, _ = timed(lambda: lab.job(indels).compute(range(3)))
        name = "3 indels in a gene's window, each, float32"
        rows.append((name, seconds * (1 / 3), None, None))
        rows += lone(lab, indels, "indel")
    after = forwards(lab, codes, rounds)
    port = median([before, after]) * 2
    note = (
        "port: twice the median of its equal forwards, "
        f"{show(before.wall)} before and {show(after.wall)} after"
    )
    return [
        by_cpu(ratio_row(name, port, seconds, must, stretch, "" if i else note))
        for i, (name, seconds, must, stretch) in enumerate(rows)
    ]


def by_cpu(row: Row) -> Row:
    """Compare the goals with the ratio of processor time."""
    return row if row.cpu_gain is None else replace(row, gain=row.cpu_gain)


def shared_window(lab: Lab, chosen: pd.DataFrame, numbers: list[int]) -> list[Timing]:
    """Time substitutions of one window; the reference is among them."""
    rows: list[Timing] = []
    for policy, must, stretch in ((None, 12.0, 14.0), ("bfloat16", 16.0, 20.0)):
        what = "bfloat16 difference pass" if policy else "float32"
        # Weights laid out and position keys, made once in a process.
        lab.job(chosen.iloc[:1], difference_pass=policy).compute([0])
        for n in numbers:
            job = lab.job(chosen.iloc[:n], difference_pass=policy)
            seconds, _ = timed(lambda job=job, n=n: job.compute(range(n)))
            name = f"{n} substitutions in a gene's window, each, {what}"
            rows.append((name, seconds * (1 / n), must, stretch))
    return rows


def lone(lab: Lab, pairs: pd.DataFrame, kind: str) -> list[Timing]:
    """Time one variant in a window of its own."""
    variant = pairs.drop(columns=GENE_COLUMNS).iloc[:1]
    seconds, _ = timed(lambda: lab.job(variant).compute([0]))
    must, stretch = (3.5, 3.8) if kind == "substitution" else (None, None)
    return [(f"a lone {kind}, all 896 bins, float32", seconds, must, stretch)]


@torch.inference_mode()
def plain(network: Enformer, codes: np.ndarray) -> Tensor:
    """Run the plain network on one window: every kept bin's embedding."""
    dtype = network.stem.conv.weight.dtype
    one_hot = one_hot_of(torch.from_numpy(codes[None])).to(dtype)
    return network.embed(network.transform(network.tower(one_hot)))[0]


def equality(lab: Lab, n: int) -> list[str]:
    """Compare differences of alleles with two full forwards of the plain network."""
    near = lab.pairs(SUBSTITUTIONS, "substitution")
    rows = near.iloc[np.linspace(0, len(near) - 1, n).astype(int)]
    double = copy.deepcopy(lab.network).double()
    lines = [
        "| variant | bins | ours, float32 | ours, float32-exact | ours, difference "
        "pass in float32 | in bfloat16 | plain float32, two forwards |",
        f"|{' --- |' * 7}",
    ]
    for row in range(len(rows)):
        variant = rows.iloc[[row]]
        job = lab.job(variant, embedding=True)
        ref, alt = lab.codes(job)
        truth = plain(double, alt) - plain(double, ref)
        found = {
            "float32": difference(job),
            "exact": difference(_exact(lab, variant)),
            "float32 differences": difference(
                lab.job(variant, embedding=True, difference_pass="float32")
            ),
            "bfloat16": difference(
                lab.job(variant, embedding=True, difference_pass="bfloat16")
            ),
            "plain": plain(lab.network, alt) - plain(lab.network, ref),
        }
        distance = torch.arange(len(truth)) - int(job.table["bin"].iloc[0])
        far = distance.abs() > lab.far_bins
        name = variant_names(variant)[0]
        for where, mask in (("near", ~far), ("far", far)):
            if mask.any():
                errors = [
                    f"{relative_rms(d[mask], truth[mask]):.1e}" for d in found.values()
                ]
                lines.append(f"| {name} | {where} | {' | '.join(errors)} |")
    return lines


def _exact(lab: Lab, variant: pd.DataFrame) -> VariantJob:
    embedder = lab.embedder(output="embedding", precision="float32-exact")
    return VariantEffect(embedder, bins="all").job(variant)


def difference(job: VariantJob) -> Tensor:
    """Return what the first row changes in every kept bin."""
    ((_, _, d),) = job.alleles([0])
    return d


def report(lab: Lab, rows: list[Row], lines: list[str], rounds: int) -> str:
    """Write the results as Markdown."""
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    size = "published size" if lab.length_bp > 100_000 else "**a tiny network**"
    parts = [
        "# Variants",
        "",
        "Written by `make bench-variants`; see [README](README.md).",
        "",
        f"- {datetime.date.today().isoformat()}",
        f"- {machine()}",
        f"- {known}; {size}, random weights, {lab.length_bp:,} bp",
        f"- variants of Ensembl VEP's test set and of NA12878 near {GENE} on hg38's "
        "chromosome 21; scores of 5,313 tracks, at the TSS bins unless it says so",
        f"- port: enformer-pytorch with its human head, {rounds} forwards before, as "
        "many after; goals are compared with the CPU gain, which other programs do not "
        "change",
    ]
    if rows:
        parts += ["", table(rows)]
    if lines:
        parts += [
            "",
            "## Against two full forwards of the plain network in float64",
            "",
            "Root mean square of the error of `alt - ref` in the embedding, over that "
            f"of `alt - ref` itself; far is more than {lab.far_bins} bins away.",
            "",
            *lines,
        ]
    return "\n".join([*parts, ""])


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, default=DATA)
    parser.add_argument("--only", choices=("speed", "equality"))
    parser.add_argument("--numbers", type=int, nargs="+", default=[10, 30])
    parser.add_argument("--compare", type=int, default=2, help="variants compared")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    warnings.simplefilter("ignore", EnformerFeaturesWarning)
    lab = Lab(options.data, quick=options.quick)
    rows, lines = [], []
    if options.only != "equality":
        rows = speed(lab, options.numbers, options.rounds)
    if options.only != "speed":
        lines = equality(lab, options.compare)
    text = report(lab, rows, lines, options.rounds)
    print(text)
    if options.out is not None:
        options.out.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
