"""Time the package against enformer-pytorch: ``python benchmarks/run.py``.

Both run in one process, in turn, with the same random weights at published size, and
each workload gives the ratio, the error and the goal. ``--quick`` tries the harness
itself on a small network in seconds; its figures mean nothing.
"""

from __future__ import annotations

import argparse
import datetime
import functools
import importlib
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from _measure import (
    Row,
    Seconds,
    error,
    interleaved,
    machine,
    median,
    memory_of,
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
    the_ports_embedding,
    versions,
)
from torch import Tensor

from enformer_features.genomics.encoding import decode, encode
from enformer_features.genomics.genome import Genome
from enformer_features.genomics.windows import Stretch, plan_stretches
from enformer_features.inference.precision import POLICIES
from enformer_features.inference.prepared import Prepared, prepare
from enformer_features.inference.reuse import (
    Edit,
    ReferenceWindow,
    SharedTower,
)
from enformer_features.model import EnformerConfig

HERE = Path(__file__).resolve().parent
DATA = HERE.parents[1] / "shared" / "data" / "human"
CONTIG = "chr5_124M"
BIN = 128


@dataclass(frozen=True)
class Size:
    """How large a network and its windows are.

    Parameters
    ----------
    config : EnformerConfig
    length_bp : int
        Of a window.
    far_bins : int
        Bins further than this from the variant are far.
    n_mutated : int
        Positions mutated to three letters each, of 100.
    lengths : tuple of int
        Windows for the growth with length.
    """

    config: EnformerConfig
    length_bp: int
    far_bins: int
    n_mutated: int
    lengths: tuple[int, ...]


PUBLISHED = Size(
    EnformerConfig(), 196_608, 300, 10, (24_576, 49_152, 98_304, 196_608, 393_216)
)
QUICK = Size(TINY, 16_384, 30, 2, (4_096, 16_384))


@dataclass
class Lab:
    """Both networks, one window of random DNA, and one substituted allele of it."""

    size: Size
    rounds: int
    data: Path
    taken: dict[str, list[Seconds]] = field(default_factory=dict)
    results: dict[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        length = self.size.length_bp
        random = np.random.default_rng(31)
        self.codes = random.integers(0, 4, length, dtype=np.uint8)
        self.position = length // 2 + 17
        self.edit = self.substitution(self.position, 1)
        self.edited = self.codes.copy()
        self.edited[self.position] = (self.codes[self.position] + 1) % 4

    def substitution(self, position: int, step: int) -> Edit:
        """Return one of the three substitutions of a base, step 1 to 3."""
        code = int(self.codes[position])
        return Edit(position, "ACGT"[code], "ACGT"[(code + step) % 4])

    @functools.cached_property
    def network(self) -> Any:
        """Our network, plain."""
        return random_network(self.size.config)

    @functools.cached_property
    def port(self) -> Any:
        """The peer."""
        return the_port(self.network)

    @functools.cached_property
    def float32(self) -> Prepared:
        """Our network laid out in float32."""
        return self._prepared("float32")

    @functools.cached_property
    def bfloat16(self) -> Prepared:
        """Our network laid out with bfloat16 operands."""
        return self._prepared("bfloat16")

    def _prepared(self, name: str) -> Prepared:
        prepared = prepare(self.network, POLICIES[name])
        self.warm(prepared, self.size.length_bp)
        return prepared

    def warm(self, prepared: Prepared, length_bp: int) -> None:
        """Make the position keys of a length, which depend on no window."""
        with torch.inference_mode():
            prepared.position_keys(length_bp // BIN)

    # Jobs

    def ports(self, codes: np.ndarray) -> Tensor:
        """Embed a window with the port."""
        return the_ports_embedding(self.port, one_hot_of(_letters(codes)))

    def ports_autocast(self) -> Tensor:
        """Embed the window with the port, under autocast to bfloat16."""
        with torch.autocast("cpu", dtype=torch.bfloat16):
            return self.ports(self.codes).float()

    @torch.inference_mode()
    def embed(self, prepared: Prepared, codes: np.ndarray) -> Tensor:
        """Embed a window with ours."""
        return self.embed_tower(prepared, prepared.tower(_letters(codes)))

    @torch.inference_mode()
    def embed_tower(self, prepared: Prepared, tower: Tensor) -> Tensor:
        """Embed the kept bins of a window whose tower is there."""
        bins = prepared.kept_bins(tower.shape[1])
        return prepared.embed(prepared.transform(tower, bins=bins))

    @functools.cached_property
    def window(self) -> ReferenceWindow:
        """The reference, cached, in float32."""
        return self._window(None)

    @functools.cached_property
    def low_window(self) -> ReferenceWindow:
        """The reference, cached, with a difference pass in bfloat16."""
        return self._window(self.bfloat16)

    def _window(self, low: Prepared | None) -> ReferenceWindow:
        window = ReferenceWindow(self.float32, self.codes, low=low)
        window.effect([[self.edit]])  # keeps what depends on the reference alone
        return window

    def cold(self, alleles: list[list[Edit]]) -> Tensor:
        """Embed the reference and what alleles change, with nothing cached."""
        window = ReferenceWindow(self.float32, self.codes)
        window.embedding()
        return window.effect(alleles)

    def time(self, names: list[str]) -> dict[str, Seconds]:
        """Return the medians of jobs, which take turns; those timed before are kept."""
        missing = [name for name in names if name not in self.taken]
        if missing:
            jobs = {name: self._job(name) for name in missing}
            taken, results = interleaved(jobs, self.rounds)
            self.taken |= taken
            self.results |= results
        return {name: median(self.taken[name]) for name in names}

    def _job(self, name: str) -> Callable[[], Tensor]:
        """Build a job; what it needs beforehand is made here and not timed."""
        if name.startswith("port"):
            codes = self.edited if name == "port, alternative" else self.codes
            _ = self.port
            if name == "port, autocast":
                return self.ports_autocast
            return functools.partial(self.ports, codes)
        if name.startswith("allele"):
            window = self.window if name == "allele, float32" else self.low_window
            return functools.partial(window.effect, [[self.edit]])
        if name == "reference and allele, float32":
            _ = self.float32
            return functools.partial(self.cold, [[self.edit]])
        prepared = self.float32 if name == "float32" else self.bfloat16
        return functools.partial(self.embed, prepared, self.codes)


def _letters(codes: np.ndarray) -> Tensor:
    return torch.from_numpy(codes[None])


# Workloads


def embedding_float32(lab: Lab) -> list[Row]:
    """Embed one window in float32."""
    times = lab.time(["port", "float32"])
    rms, largest = error(lab.results["float32"], lab.results["port"])
    good = rms <= 3e-5 and largest <= 3e-4
    note = f"rms {rms:.1e}, max {largest:.1e}{'' if good else ' (**over 3e-5, 3e-4**)'}"
    row = ratio_row(
        "embedding, float32", times["port"], times["float32"], 2.2, 2.6, note
    )
    return [row]


def embedding_bfloat16(lab: Lab) -> list[Row]:
    """Embed one window with bfloat16 operands."""
    times = lab.time(["port", "port, autocast", "bfloat16"])
    truth = lab.results["port"]
    ours, _ = error(lab.results["bfloat16"], truth)
    theirs, _ = error(lab.results["port, autocast"], truth)
    worse = "" if ours < theirs else " (**not below**)"
    note = f"rms {ours:.1e}; the port under autocast {theirs:.1e}{worse}"
    ports, autocast, mine = times.values()
    return [
        ratio_row("embedding, bfloat16 operands", ports, mine, 3.4, 3.8, note),
        ratio_row("the same, over the port under autocast", autocast, mine),
    ]


def memory(lab: Lab) -> list[Row]:
    """Measure the added peak of one forward, each in a process of its own."""
    grown = {name: _memory_in_child(lab, name) for name in ("port", "float32")}
    row = Row(
        name="added peak memory of one forward, float32, GB",
        port=f"{grown['port']:.2f} GB",
        ours=f"{grown['float32']:.2f} GB",
        gain=grown["float32"],
        cpu_gain=None,
        must=0.6,
        stretch=0.5,
        note=f"{grown['port'] / max(grown['float32'], 1e-9):.1f} times less",
        fewer=True,
    )
    return [row]


def _memory_in_child(lab: Lab, name: str) -> float:
    command = [sys.executable, __file__, "--child", name]
    if lab.size is QUICK:
        command.append("--quick")
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        msg = f"measuring the memory of {name} failed: {done.stderr}"
        raise SystemExit(msg)
    before, grown = json.loads(done.stdout.splitlines()[-1])
    print(f"  {name}: {before:.2f} GB before, {grown:.2f} GB more", flush=True)
    return float(grown)


def memory_child(lab: Lab, name: str) -> None:
    """Print the memory before one forward and its added peak, as JSON."""
    if name == "port":
        job = functools.partial(lab.ports, lab.codes)
        _ = lab.port
    else:
        job = functools.partial(lab.embed, getattr(lab, name), lab.codes)
    print(json.dumps(memory_of(job)))


def allele_float32(lab: Lab) -> list[Row]:
    """Substitute one letter, the reference cached, in float32."""
    times = lab.time(["port, alternative", "allele, float32"])
    ours = lab.window.embedding() + lab.results["allele, float32"]
    rms, largest = error(ours, lab.results["port, alternative"])
    row = ratio_row(
        "one substituted allele, reference cached, float32",
        *times.values(),
        8.0,
        9.0,
        f"alternative's embedding: rms {rms:.1e}, max {largest:.1e}",
    )
    return [row]


def allele_bfloat16(lab: Lab) -> list[Row]:
    """Substitute one letter, the reference cached, by the bfloat16 difference pass."""
    times = lab.time(["port, alternative", "allele, bfloat16"])
    truth = lab.window.effect([[lab.edit]])
    change = lab.results["allele, bfloat16"]
    first, _ = lab.float32.kept_bins(lab.size.length_bp // BIN)
    distance = torch.arange(truth.shape[1]) + first - lab.position // BIN
    far = distance.abs() > lab.size.far_bins
    far_error = relative_rms(change[:, far], truth[:, far])
    near_error = relative_rms(change[:, ~far], truth[:, ~far])
    worse = "" if far_error < 0.01 else " (**not below 1 %**)"
    note = (
        f"error of the change, against float32: {far_error:.2%}{worse} more than "
        f"{lab.size.far_bins} bins away, {near_error:.2%} nearer"
    )
    row = ratio_row(
        "one substituted allele, reference cached, bfloat16 difference pass",
        *times.values(),
        10.0,
        13.0,
        note,
    )
    return [row]


def pair(lab: Lab) -> list[Row]:
    """Embed a reference and one allele, with nothing cached."""
    times = lab.time(["port", "port, alternative", "reference and allele, float32"])
    ports = times["port"] + times["port, alternative"]
    ours = times["reference and allele, float32"]
    return [
        ratio_row("reference and alternative, cold, float32", ports, ours, 3.5, 3.8)
    ]


def mutagenesis(lab: Lab) -> list[Row]:
    """Mutate 100 positions of one window to the three other letters."""
    ports = lab.time(["port"])["port"]
    _ = lab.float32
    mutants = [
        [lab.substitution(lab.position + i, step)]
        for i in range(lab.size.n_mutated)
        for step in (1, 2, 3)
    ]
    began, window = timed(lambda: ReferenceWindow(lab.float32, lab.codes))
    middle = window.tower.shape[1] // 2
    tss = middle - 1, middle + 2
    reference, _ = timed(lambda: window.embedding(tss))
    run, _ = timed(lambda: [window.effect([mutant], tss) for mutant in mutants])
    row = ratio_row(
        "mutagenesis of 100 positions, one window, float32",
        ports * 301,
        began + reference + run * (300 / len(mutants)),
        8.0,
        9.0,
        "read at the three TSS bins; port: 301 times the median of its equal forwards; "
        f"ours: {len(mutants)} mutants were run, {show(run.wall / len(mutants))} each, "
        "scaled to 300",
    )
    return [row]


def gene_set(lab: Lab) -> list[Row]:
    """Embed windows of real genes that share towers on the 128-bp grid."""
    length, genome_path = lab.size.length_bp, lab.data / "regions.fa.gz"
    if not genome_path.exists():
        print(f"  skipped: {genome_path} is absent")
        return []
    starts = grid_starts(lab.data / "genes.tsv", length)
    if lab.size is QUICK:
        starts = [*starts[:2], starts[1] + 20 * BIN]
    stretches = plan_stretches(starts, length)
    union, total = sum(s.end - s.start for s in stretches), len(starts) * length
    _ = lab.float32, lab.port
    with Genome(genome_path) as genome:
        chosen = np.linspace(0, len(starts) - 1, min(lab.rounds, len(starts)))
        every = dict.fromkeys(chosen.astype(int).tolist())
        half = len(every) // 2  # of the port's windows before ours, the others after
        ports = [_ports_gene(lab, genome, starts[i]) for i in list(every)[:half]]
        ours, embeddings = timed(lambda: _our_genes(lab, genome, starts, stretches))
        ports += [_ports_gene(lab, genome, starts[i]) for i in list(every)[half:]]
    errors = [
        error(embeddings[i], theirs)[0]
        for i, (_, theirs) in zip(every, ports, strict=True)
    ]
    note = (
        f"{len(starts)} windows of {CONTIG} (strand ignored), union / sum = "
        f"{union / total:.2f}, {len(stretches)} stretches; port: median of "
        f"{len(ports)} of these windows; rms at most {max(errors):.1e}"
    )
    row = ratio_row(
        "gene set on the 128-bp grid, float32, per gene",
        median([seconds for seconds, _ in ports]),
        ours * (1 / len(starts)),
        3.3,
        4.0,
        note,
    )
    return [row]


def grid_starts(table_path: Path, length_bp: int) -> list[int]:
    """Return where the genes' windows begin, on the grid, one per distinct bin."""
    genes = pd.read_csv(table_path, sep="\t")
    genes = genes[(genes["contig"] == CONTIG) & (genes["fits_196608"] == 1)]
    first = genes["tss0"].to_numpy() - length_bp // 2
    return sorted({int(start) // BIN * BIN for start in first})


def _ports_gene(lab: Lab, genome: Genome, start: int) -> tuple[Seconds, Tensor]:
    codes = genome.fetch(CONTIG, start, start + lab.size.length_bp)
    return timed(functools.partial(lab.ports, codes))


def _our_genes(
    lab: Lab, genome: Genome, starts: list[int], stretches: list[Stretch]
) -> dict[int, Tensor]:
    embeddings = {}
    for stretch in stretches:
        codes = genome.fetch(CONTIG, stretch.start, stretch.end)
        shared = SharedTower(lab.float32, codes)
        for i in stretch.members:
            tower = shared.window(starts[i] - stretch.start, lab.size.length_bp)
            embeddings[i] = lab.embed_tower(lab.float32, tower)
    return embeddings


def letters(lab: Lab) -> list[Row]:
    """Turn the letters of a window into codes on the device."""
    _ = lab.port
    module = importlib.import_module("enformer_pytorch.data")
    text = decode(lab.codes)
    samples: dict[str, list[Seconds]] = {"port": [], "ours": []}
    for _ in range(50):
        samples["port"].append(timed(lambda: module.str_to_one_hot(text))[0])
        samples["ours"].append(timed(lambda: _letters(encode(text)))[0])
    ports, ours = median(samples["port"]), median(samples["ours"])
    row = Row(
        name="letters to codes on the device, ms per window",
        port=f"{1e3 * ports.wall:.2f} ms",
        ours=f"{1e3 * ours.wall:.2f} ms",
        gain=1e3 * ours.wall,
        cpu_gain=None,
        must=1.0,
        stretch=0.3,
        note="port: str_to_one_hot, 16 times as many bytes; median of 50",
        fewer=True,
    )
    return [row]


def growth(lab: Lab) -> list[Row]:
    """Grow the window; then the number of alleles of one window."""
    return [*_growth_with_length(lab), *_growth_with_alleles(lab)]


def _growth_with_length(lab: Lab) -> list[Row]:
    rows = []
    random = np.random.default_rng(37)
    for length in lab.size.lengths:
        codes = random.integers(0, 4, length, dtype=np.uint8)
        lab.warm(lab.float32, length)
        _ = lab.port
        ports, theirs = timed(functools.partial(lab.ports, codes))
        ours, mine = timed(functools.partial(lab.embed, lab.float32, codes))
        rms, _ = error(mine, theirs)
        rows.append(
            ratio_row(f"window of {length:,} bp", ports, ours, note=f"rms {rms:.1e}")
        )
    lab.warm(lab.float32, lab.size.length_bp)
    return rows


def _growth_with_alleles(lab: Lab) -> list[Row]:
    ports = lab.time(["port"])["port"]
    _ = lab.float32
    ours, window = timed(lambda: ReferenceWindow(lab.float32, lab.codes))
    ours = ours + timed(window.embedding)[0]
    rows = []
    for n in range(1, 11):
        edit = lab.substitution(lab.position + 40 * n, 1)
        ours = ours + timed(functools.partial(window.effect, [[edit]]))[0]
        if n in (1, 3, 10):
            rows.append(
                ratio_row(
                    f"reference and {n} allele{'s'[: n - 1]}, cold, float32",
                    ports * (n + 1),
                    ours,
                    note=f"port: {n + 1} times the median of its equal forwards",
                )
            )
    return rows


WORKLOADS: dict[str, Callable[[Lab], list[Row]]] = {
    "embedding-float32": embedding_float32,
    "embedding-bfloat16": embedding_bfloat16,
    "memory": memory,
    "allele-float32": allele_float32,
    "allele-bfloat16": allele_bfloat16,
    "pair": pair,
    "mutagenesis": mutagenesis,
    "gene-set": gene_set,
    "letters": letters,
    "growth": growth,
}
# What takes turns with the port, so that one round serves all of them.
TAKES_TURNS = {
    "embedding-float32": ["port", "float32"],
    "embedding-bfloat16": ["port", "port, autocast", "bfloat16"],
    "allele-float32": ["port, alternative", "allele, float32"],
    "allele-bfloat16": ["port, alternative", "allele, bfloat16"],
    "pair": ["port", "port, alternative", "reference and allele, float32"],
}


def report(lab: Lab, rows: list[Row], chosen: list[str]) -> str:
    """Write the results as Markdown."""
    known = ", ".join(f"{name} {version}" for name, version in versions().items())
    network = "published size" if lab.size is PUBLISHED else "**a tiny network**"
    return "\n".join(
        (
            "# Results",
            "",
            "Written by `python benchmarks/run.py`; see [README](README.md).",
            "",
            f"- {datetime.date.today().isoformat()}: {', '.join(chosen)}",
            f"- {machine()}",
            f"- {known}; {network}, random weights, {lab.size.length_bp:,} bp",
            f"- medians of {lab.rounds} rounds in turn; gain is by the clock, "
            "CPU gain by processor time",
            "",
            table(rows),
            "",
        )
    )


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=WORKLOADS, metavar="NAME")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="a tiny network")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--data", type=Path, default=HERE.parents[1] / "shared/data/human"
    )
    parser.add_argument("--out", type=Path, help="default: RESULTS.md beside this file")
    parser.add_argument("--child", choices=("port", "float32"), help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    """Run the workloads, print the table and write it."""
    options = arguments()
    torch.set_num_threads(options.threads)
    size = QUICK if options.quick else PUBLISHED
    lab = Lab(size, 1 if options.quick else options.rounds, options.data)
    if options.child:
        memory_child(lab, options.child)
        return
    chosen = options.only or list(WORKLOADS)
    if "memory" in chosen:  # while this process holds nothing
        chosen.sort(key=lambda name: name != "memory")
    rows: dict[str, list[Row]] = {}
    turns = [job for name in chosen for job in TAKES_TURNS.get(name, [])]
    for name in chosen:
        print(f"{name}:", flush=True)
        if name in TAKES_TURNS:
            lab.time(list(dict.fromkeys(turns)))
        rows[name] = WORKLOADS[name](lab)
    ordered = [row for name in WORKLOADS for row in rows.get(name, [])]
    if options.quick:  # the goals are the published size's
        ordered = [replace(row, must=None, stretch=None) for row in ordered]
    text = report(lab, ordered, [name for name in WORKLOADS if name in rows])
    print(f"\n{text}")
    out = options.out or (None if options.quick or options.only else "RESULTS.md")
    if out is not None:
        (HERE / out).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
