"""A small made-up genome whose genes' expression can be read from their sequence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.exceptions import InputError
from enformer_features.genomics.encoding import decode, encode, reverse_complement
from enformer_features.genomics.genome import open_genome
from enformer_features.storage.files import atomic_write, check_output

Codes = npt.NDArray[np.uint8]

PROMOTER_BP = 384  # three bins of 128 bp, centred on the TSS
MOTIF_BP = 16
MAX_COPIES = PROMOTER_BP // MOTIF_BP
_LOG_FOLD_OWN, _LOG_FOLD_OTHER = 3.0, 2.0  # of a promoter that is full of a motif
_MARGIN_BP = 8_192  # half a window of 16,384 bp
_SPACING_BP = 512  # so that promoters cannot overlap
_GC_BLOCK_BP = 2_000
_GC_RANGE = (0.38, 0.62)
_NOISE = 0.2  # of the natural logarithm of expression
_LINE_BP = 60


@dataclass(frozen=True, eq=False)
class ToyData:
    """A toy genome, its genes, and what they express.

    Parameters
    ----------
    genome : Path
        FASTA file, plain, upper case.
    genes : DataFrame, shape (n_genes, 3)
        Indexed by ``gene_id``: ``chrom``, ``tss`` (0-based) and ``strand``.
    expression : DataFrame, shape (n_genes, n_tissues)
        Positive numbers, rows as in ``genes``; take their logarithm.
    motifs : DataFrame, shape (n_tissues, 1 + n_tissues)
        Indexed by ``motif``: the ``sequence`` (16 letters, in the direction of
        transcription), and for each tissue the natural logarithm of the fold change
        that a promoter full of it brings.
    """

    genome: Path
    genes: pd.DataFrame
    expression: pd.DataFrame
    motifs: pd.DataFrame


def make_toy_genome(
    folder: str | PathLike[str],
    *,
    n_chromosomes: int = 4,
    chromosome_length_bp: int = 100_000,
    genes_per_chromosome: int = 60,
    n_tissues: int = 3,
    seed: int = 0,
    overwrite: bool = False,
) -> ToyData:
    """Make a genome, genes and their expression, all invented.

    The chromosomes are random letters of varying GC content. The 384 bp around each
    TSS hold 0 to 24 copies of one of `n_tissues` motifs, in the direction in which
    the gene is read. Copies raise the logarithm of expression linearly, most so in the
    motif's own tissue, plus a little noise; so what is learnt on some chromosomes
    holds on the others. Motifs have the chromosomes' mean GC content and CpG
    frequency, so that composition tells little of them.

    Parameters
    ----------
    folder : path
        Where ``genome.fa`` goes; made if it does not exist.
    n_chromosomes : int, default=4
        Named ``chr1``, ``chr2``, ...
    chromosome_length_bp : int, default=100_000
        Length of each; TSSs keep 8,192 bp away from its ends.
    genes_per_chromosome : int, default=60
        At least 512 bp from one to the next.
    n_tissues : int, default=3
        Also the number of motifs.
    seed : int, default=0
        The same seed and sizes give the same data, to the byte.
    overwrite : bool, default=False
        Whether a ``genome.fa`` of other content may be replaced.

    Returns
    -------
    ToyData
        Genes in the order of the genome.

    Raises
    ------
    InputError
        If sizes are not positive or the genes do not fit on a chromosome, or if
        ``genome.fa`` exists with other content.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     toy = make_toy_genome(folder, n_chromosomes=2, genes_per_chromosome=5)
    >>> toy.genes["chrom"].value_counts().to_dict()
    {'chr1': 5, 'chr2': 5}
    >>> toy.expression.shape
    (10, 3)
    >>> list(toy.motifs.index)
    ['motif_1', 'motif_2', 'motif_3']
    """
    _check_sizes(n_chromosomes, chromosome_length_bp, genes_per_chromosome, n_tissues)
    rng = np.random.default_rng(seed)
    motifs = _make_motifs(n_tissues, rng)
    chroms = [f"chr{number + 1}" for number in range(n_chromosomes)]
    genome = {chrom: _background(chromosome_length_bp, rng) for chrom in chroms}
    genes = _place_genes(chroms, chromosome_length_bp, genes_per_chromosome, rng)
    shares = _plant(genome, genes, motifs["sequence"].tolist(), rng)
    weights = motifs.drop(columns="sequence")
    expression = _express(shares, weights, genes.index, rng)
    path = _write_text(Path(folder) / "genome.fa", _fasta(genome), overwrite)
    return ToyData(path, genes, expression, motifs)


def write_toy_tables(
    toy: ToyData, folder: str | PathLike[str], *, overwrite: bool = False
) -> tuple[Path, Path]:
    r"""Write genes and expression as tab-separated text.

    Parameters
    ----------
    toy : ToyData
        What :func:`make_toy_genome` returns.
    folder : path
        Where ``genes.tsv`` and ``expression.tsv`` go; made if it does not exist.
    overwrite : bool, default=False
        Whether files of other content may be replaced.

    Returns
    -------
    tuple of Path
        The two files. Both have a header line and begin with ``gene_id``.

    Raises
    ------
    InputError
        If a file exists with other content.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     genes, _ = write_toy_tables(make_toy_genome(folder), folder)
    ...     print(genes.read_text().splitlines()[0].split("\t"))
    ['gene_id', 'chrom', 'tss', 'strand']
    """
    tables = {"genes.tsv": toy.genes, "expression.tsv": toy.expression}
    genes, expression = (
        _write_text(
            Path(folder) / name,
            table.to_csv(sep="\t", float_format="%.6g", lineterminator="\n"),
            overwrite,
        )
        for name, table in tables.items()
    )
    return genes, expression


def write_toy_variants(
    toy: ToyData, folder: str | PathLike[str], *, overwrite: bool = False
) -> Path:
    r"""Write a VCF of changes around the starts of some genes.

    At every tenth gene a substitution at the TSS and an insertion of three letters
    40 bp further along the genome; last a deletion that is only named (``<DEL>``).

    Parameters
    ----------
    toy : ToyData
        What :func:`make_toy_genome` returns.
    folder : path
        Where ``variants.vcf`` goes; made if it does not exist.
    overwrite : bool, default=False
        Whether a file of other content may be replaced.

    Returns
    -------
    Path
        The file.

    Raises
    ------
    InputError
        If the file exists with other content.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     variants = write_toy_variants(make_toy_genome(folder), folder)
    ...     print(variants.read_text().splitlines()[2].split("\t")[2:5])
    ['gene_0001_tss', 'T', 'G']
    """
    genome = open_genome(toy.genome)
    records = []
    for name, chrom, tss in toy.genes[["chrom", "tss"]].iloc[::10].itertuples():
        ref = decode(genome.fetch(chrom, tss, tss + 1))
        alt = "ACGT"["ACGT".index(ref) - 1]
        records.append((chrom, tss + 1, f"{name}_tss", ref, alt))
        ref = decode(genome.fetch(chrom, tss + 40, tss + 41))
        records.append((chrom, tss + 41, f"{name}_insertion", ref, f"{ref}GAT"))
    last = (*records[-1][:2], "named", records[-1][3], "<DEL>")
    lines = ["##fileformat=VCFv4.3", "#CHROM\tPOS\tID\tREF\tALT\tQUAL\tFILTER\tINFO"]
    for record in [*records, last]:
        lines.append("\t".join(map(str, record)) + "\t.\tPASS\t.")
    text = "\n".join(lines) + "\n"
    return _write_text(Path(folder) / "variants.vcf", text, overwrite)


def _check_sizes(
    n_chromosomes: int, length_bp: int, genes_per_chromosome: int, n_tissues: int
) -> None:
    sizes = {
        "n_chromosomes": n_chromosomes,
        "genes_per_chromosome": genes_per_chromosome,
        "n_tissues": n_tissues,
    }
    for name, size in sizes.items():
        if size < 1:
            msg = f"{name}={size} must be at least 1"
            raise InputError(msg)
    needed = 2 * _MARGIN_BP + genes_per_chromosome * _SPACING_BP
    if length_bp < needed:
        msg = (
            f"chromosome_length_bp={length_bp} is too short for "
            f"genes_per_chromosome={genes_per_chromosome}; it must be at least {needed}"
        )
        raise InputError(msg)


def _make_motifs(n_tissues: int, rng: np.random.Generator) -> pd.DataFrame:
    numbers = range(1, n_tissues + 1)
    own = np.eye(n_tissues, dtype=bool)
    return pd.DataFrame(
        np.where(own, _LOG_FOLD_OWN, _LOG_FOLD_OTHER),
        index=pd.Index([f"motif_{number}" for number in numbers], name="motif"),
        columns=[f"tissue_{number}" for number in numbers],
    ).assign(sequence=[_motif(rng) for _ in numbers])


def _motif(rng: np.random.Generator) -> str:
    """Draw a motif with the GC content and CpG frequency of the background."""
    letters = list("ACGT" * (MOTIF_BP // 4))
    while True:
        motif = "".join(rng.permutation(letters))
        if (motif + motif[0]).count("CG") == 1:  # 1/16 of 16 pairs
            return motif


def _background(length_bp: int, rng: np.random.Generator) -> Codes:
    n_blocks = -(-length_bp // _GC_BLOCK_BP)
    gc = np.repeat(rng.uniform(*_GC_RANGE, n_blocks), _GC_BLOCK_BP)[:length_bp]
    is_gc = rng.random(length_bp) < gc
    coin = rng.integers(0, 2, length_bp)
    return np.where(is_gc, 1 + coin, 3 * coin).astype(np.uint8)  # C, G or A, T


def _place_genes(
    chroms: list[str], length_bp: int, n_genes: int, rng: np.random.Generator
) -> pd.DataFrame:
    room = (length_bp - 2 * _MARGIN_BP) // n_genes
    first = _MARGIN_BP + _SPACING_BP // 2 + room * np.arange(n_genes)
    tss = [first + rng.integers(0, room - _SPACING_BP + 1, n_genes) for _ in chroms]
    n_total = n_genes * len(chroms)
    return pd.DataFrame(
        {
            "chrom": np.repeat(chroms, n_genes),
            "tss": np.concatenate(tss),
            "strand": rng.choice(["+", "-"], n_total),
        },
        index=pd.Index([f"gene_{i + 1:04d}" for i in range(n_total)], name="gene_id"),
    )


def _plant(
    genome: dict[str, Codes],
    genes: pd.DataFrame,
    sequences: Sequence[str],
    rng: np.random.Generator,
) -> npt.NDArray[np.float64]:
    """Write motifs into the genome.

    Returns how full each gene's promoter is of each motif, from 0 to 1, shape
    (n_genes, n_motifs).
    """
    motifs = [encode(sequence) for sequence in sequences]
    motif_of_gene = rng.permutation(np.arange(len(genes)) % len(motifs))
    copies = rng.integers(0, MAX_COPIES + 1, len(genes))
    places = genes[["chrom", "tss", "strand"]].itertuples(index=False, name=None)
    for (chrom, tss, strand), motif, n in zip(
        places, motif_of_gene, copies, strict=True
    ):
        start = tss - PROMOTER_BP // 2 + (strand == "-")
        promoter = genome[chrom][start : start + PROMOTER_BP]
        as_read = _in_direction(promoter, strand).reshape(MAX_COPIES, MOTIF_BP)
        as_read[rng.permutation(MAX_COPIES)[:n]] = motifs[motif]
        promoter[:] = _in_direction(as_read.ravel(), strand)
    shares = np.zeros((len(genes), len(motifs)))
    shares[np.arange(len(genes)), motif_of_gene] = copies / MAX_COPIES
    return shares


def _in_direction(codes: Codes, strand: str) -> Codes:
    return reverse_complement(codes) if strand == "-" else codes.copy()


def _express(
    shares: npt.NDArray[np.float64],
    weights: pd.DataFrame,
    genes: pd.Index[str],
    rng: np.random.Generator,
) -> pd.DataFrame:
    logarithms = shares @ weights.to_numpy()
    noise = rng.normal(0.0, _NOISE, logarithms.shape)
    return pd.DataFrame(np.exp(logarithms + noise), genes, weights.columns)


def _fasta(genome: dict[str, Codes]) -> str:
    lines = []
    for chrom, codes in genome.items():
        letters = decode(codes)
        lines.append(f">{chrom}")
        lines += [letters[i : i + _LINE_BP] for i in range(0, len(letters), _LINE_BP)]
    return "\n".join(lines) + "\n"


def _write_text(path: Path, text: str, overwrite: bool) -> Path:
    """Write a file, unless it is there already with the same content."""
    content = text.encode()
    path = path.expanduser()
    if path.is_file() and path.read_bytes() == content:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    target = check_output(path, overwrite=overwrite)
    with atomic_write(target, bytes_needed=len(content)) as temporary:
        temporary.write_bytes(content)
    return path
