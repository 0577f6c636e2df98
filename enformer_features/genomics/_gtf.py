"""Genes of an annotation file, GTF or GFF3, in one pass over its lines."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote

from enformer_features.exceptions import InputError
from enformer_features.genomics._text import open_text

# Ensembl's GFF3 calls some genes by other names; a "pseudogene" with a parent is a
# transcript.
GENE_FEATURES = frozenset({"gene", "ncRNA_gene", "pseudogene"})
# Parts repeat their transcript's tags, so they are not looked at.
TRANSCRIPT_PARTS = frozenset({"exon", "CDS", "start_codon", "stop_codon", "UTR"})
_CANONICAL = re.compile(r"\b(?:Ensembl_canonical|MANE[_ ]Select)\b")
_GTF_ATTRIBUTE = re.compile(r'(\w+) "([^"]*)"')
_GFF3_ATTRIBUTE = re.compile(r"([^=;\s]+)=([^;]*)")
_GFF3 = re.compile(r"\s*[\w.]+=")
_POSITION = re.compile(r"[0-9]{1,15}")
_ID_PREFIX = re.compile(r"^gene[:-]")
_COLUMNS = 9


class Gene(NamedTuple):
    """A gene line; start and end in bp, 0-based half-open."""

    gene_id: str
    chrom: str
    start: int
    end: int
    strand: str
    gene_name: str
    gene_type: str


@dataclass
class Annotation:
    """The genes of a file, and the 5' ends of their canonical transcripts."""

    genes: list[Gene] = field(default_factory=list)
    lines: list[int] = field(default_factory=list)  # line number of each gene
    keys: list[str] = field(default_factory=list)  # what transcripts call each gene
    canonical: dict[str, int] = field(default_factory=dict)  # key -> tss


def five_prime(start: int, end: int, strand: str) -> int:
    """Give the first transcribed base of ``[start, end)``.

    Examples
    --------
    >>> five_prime(10, 20, "+"), five_prime(10, 20, "-")
    (10, 19)
    """
    return start if strand == "+" else end - 1


def read_annotation(file: Path) -> Annotation:
    """Read the gene lines, and the transcripts tagged as canonical.

    Whether a line is GTF or GFF3 is seen from its attributes, not from the file's
    name. 1-based inclusive positions become 0-based half-open here and nowhere else.

    Raises
    ------
    InputError
        If the file has no gene lines, or a line is malformed (``file:line``).
    """
    annotation = Annotation()
    others: Counter[str] = Counter()
    with open_text(file) as lines:
        for number, line in enumerate(lines, 1):
            if line.startswith("##FASTA"):
                break
            if line.startswith("#") or not line.strip():
                continue
            feature = line.split("\t", 3)[2:3]
            try:
                if not feature:
                    _split(line)
                elif feature[0] in GENE_FEATURES:
                    _add_gene(annotation, line, number)
                else:
                    others[feature[0]] += 1
                    if feature[0] not in TRANSCRIPT_PARTS and _CANONICAL.search(line):
                        _add_canonical(annotation, line)
            except _LineError as error:
                msg = f"{file}:{number}: {error}"
                raise InputError(msg) from None
    if not annotation.genes:
        raise _no_genes(file, others)
    return annotation


class _LineError(Exception):
    """What is wrong with one line, still without its place."""


def _no_genes(file: Path, others: Counter[str]) -> InputError:
    found = ", ".join(f"{count} {name}" for name, count in others.most_common(5))
    return InputError(
        f"{file} has no gene lines (it has {found or 'no lines at all'}); genes "
        'need lines whose third column is "gene", as in the files of GENCODE and '
        "Ensembl; files of transcripts and exons alone lack them"
    )


def _split(line: str) -> list[str]:
    fields = line.rstrip("\n").split("\t")
    if len(fields) != _COLUMNS:
        msg = (
            f"{len(fields)} tab-separated column(s), expected {_COLUMNS} (GTF or GFF3)"
        )
        raise _LineError(msg)
    return fields


def _attributes(text: str) -> dict[str, str]:
    """Parse the last column; of a repeated key the last value stays."""
    if _GFF3.match(text) is None:
        return dict(_GTF_ATTRIBUTE.findall(text))
    return {key: unquote(value) for key, value in _GFF3_ATTRIBUTE.findall(text)}


def _interval(first: str, last: str, strand: str) -> tuple[int, int, str]:
    """Convert 1-based inclusive text to a 0-based half-open interval."""
    if not (_POSITION.fullmatch(first) and _POSITION.fullmatch(last)):
        msg = f"start {first!r} and end {last!r} must be whole numbers"
        raise _LineError(msg)
    start, end = int(first) - 1, int(last)
    if not 0 <= start < end:
        msg = f"start {first} and end {last} must be 1-based, with start <= end"
        raise _LineError(msg)
    if strand not in ("+", "-", "."):
        msg = f'strand {strand!r} is not one of "+", "-" or "."'
        raise _LineError(msg)
    return start, end, "-" if strand == "-" else "+"


def _add_gene(annotation: Annotation, line: str, number: int) -> None:
    chrom, _, _, first, last, _, strand, _, text = _split(line)
    attributes = _attributes(text)
    if "Parent" in attributes:
        return
    if not chrom.strip():
        msg = "the first column, the chromosome, is empty"
        raise _LineError(msg)
    get = attributes.get
    key = get("ID") or get("gene_id") or ""
    gene_id = get("gene_id") or _ID_PREFIX.sub("", key)
    if not gene_id:
        msg = f"a gene without gene_id (GTF) or ID (GFF3): {text.strip()[:60]!r}"
        raise _LineError(msg)
    start, end, strand = _interval(first, last, strand)
    gene_name = get("gene_name") or get("Name") or get("gene") or ""
    gene_type = get("gene_type") or get("gene_biotype") or get("biotype") or ""
    gene = Gene(gene_id, chrom, start, end, strand, gene_name, gene_type)
    annotation.genes.append(gene)
    annotation.lines.append(number)
    annotation.keys.append(key)


def _add_canonical(annotation: Annotation, line: str) -> None:
    _, _, _, first, last, _, strand, _, text = _split(line)
    attributes = _attributes(text)
    key = attributes.get("Parent") or attributes.get("gene_id") or ""
    tss = five_prime(*_interval(first, last, strand))
    annotation.canonical.setdefault(key, tss)
