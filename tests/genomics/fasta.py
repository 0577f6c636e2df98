"""FASTA files for tests, and a reader that shares no code with the package."""

import gzip
import random

from Bio import bgzf


def random_contigs(seed=0, lengths=(997, 1, 60, 2003, 0, 121)):
    rng = random.Random(seed)
    return {
        f"chr{number}": "".join(rng.choices("ACGTNacgtn", k=length))
        for number, length in enumerate(lengths, 1)
    }


def fasta_text(contigs, width=60, newline="\n", last_newline=True):
    lines = []
    for name, sequence in contigs.items():
        lines.append(f">{name} some description")
        lines += [sequence[i : i + width] for i in range(0, len(sequence), width)]
    return newline.join(lines) + newline * last_newline


def write_fasta(path, contigs, **layout):
    path.write_bytes(fasta_text(contigs, **layout).encode())
    return path


def write_bgzf(path, text):
    """Write text in blocks of 64 kB."""
    with bgzf.BgzfWriter(str(path)) as file:
        file.write(text)
    return path


def read_plainly(path):
    """Return {name: upper-case sequence} of a FASTA file, line by line."""
    opened = gzip.open if path.suffix == ".gz" else open
    contigs = {}
    with opened(path, "rt") as file:
        for line in file:
            if line.startswith(">"):
                lines = contigs[line[1:].split()[0]] = []
            else:
                lines.append(line.strip().upper())
    return {name: "".join(lines) for name, lines in contigs.items()}
