"""Saturation mutagenesis: what every substitution of a region would change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from enformer_features.estimators.embedder import EnformerEmbedder
from enformer_features.estimators.fitted import split_model
from enformer_features.estimators.parameters import window_length
from enformer_features.exceptions import InputError, InputTypeError, check_choice
from enformer_features.genomics.encoding import decode
from enformer_features.genomics.genome import open_genome, rename_contigs
from enformer_features.genomics.regions import (
    check_bounds,
    raise_bad_rows,
    region_table,
)
from enformer_features.variant_effect.estimator import VariantEffect

LETTERS = "ACGT"


@dataclass(frozen=True)
class Mutagenesis:
    """Effects of every substitution; from :func:`saturation_mutagenesis`.

    Parameters
    ----------
    chrom : str
    start : int
        0-based position of the first base.
    ref : str
        The reference's letters, in the genome's direction.
    effects : ndarray of float32, shape (positions, 4, n_outputs)
        In the order A, C, G, T; 0 at the reference's letter, NaN where it is N.
    names : list of str
        Of the outputs.
    """

    chrom: str
    start: int
    ref: str
    effects: npt.NDArray[np.float32]
    names: list[str]

    @property
    def end(self) -> int:
        """One past the last base."""
        return self.start + len(self.ref)

    def contributions(self, output: int | str = 0) -> npt.NDArray[np.float32]:
        """Return what every base adds: the reference's value less the others' mean.

        Parameters
        ----------
        output : int or str, default=0
            Number or name of the output.

        Returns
        -------
        ndarray of float32, shape (positions,)
            ``-mean(effects)`` over the three substitutions, for effects that are
            differences such as ``SAD``; NaN where the reference is N.
        """
        if isinstance(output, str):
            check_choice("output", output, self.names)
            output = self.names.index(output)
        mean: npt.NDArray[np.float32] = self.effects[:, :, output].sum(axis=1) / 3
        return -mean

    def to_frame(self) -> pd.DataFrame:
        """Return one row per substitution: chrom, pos (1-based), ref, alt, outputs."""
        n = len(self.ref)
        table = pd.DataFrame(
            {
                "chrom": self.chrom,
                "pos": np.repeat(np.arange(self.start, self.end) + 1, 4),
                "ref": np.repeat(list(self.ref), 4),
                "alt": list(LETTERS) * n,
            }
        )
        values = self.effects.reshape(4 * n, len(self.names))
        scores = pd.DataFrame(values, columns=self.names)
        is_change = (table["ref"] != table["alt"]) & (table["ref"] != "N")
        out = pd.concat([table, scores], axis=1)[is_change]
        return out.reset_index(drop=True)


def saturation_mutagenesis(
    model: Any,
    region: Any,
    *,
    tss: int | None = None,
    strand: str | None = None,
    **options: Any,
) -> Mutagenesis:
    r"""Substitute every base of a region, in one window.

    Parameters
    ----------
    model : EnformerEmbedder or fitted Pipeline
        As in :class:`~enformer_features.VariantEffect`; it has the genome.
    region : str, or DataFrame of one row
        ``"chr1:101-200"`` (1-based, inclusive), or a table's row.
    tss : int, optional
        0-based position that the window is centred on; the table's own ``tss``, or the
        region's middle by default. With a tss its bins are scored, unless ``bins`` says
        otherwise.
    strand : {"+", "-"}, optional
        Of the gene whose TSS is given; the region's own by default.
    **options
        Parameters of :class:`~enformer_features.VariantEffect`: ``score``,
        ``aggregate``, ``bins``, ``difference_pass``.

    Returns
    -------
    Mutagenesis
        ``effects`` of shape (positions, 4, n_outputs), float32.

    Raises
    ------
    InputError, InputTypeError, GenomeError
        When the region cannot be used, or lies outside the window.

    Examples
    --------
    >>> import pathlib, tempfile, warnings
    >>> from enformer_features import EnformerEmbedder, UntrainedWeightsWarning
    >>> warnings.simplefilter("ignore", UntrainedWeightsWarning)
    >>> folder = tempfile.TemporaryDirectory()
    >>> fasta = pathlib.Path(folder.name, "toy.fa")
    >>> _ = fasta.write_text(">chr1\n" + "GATTACA" * 1_000)
    >>> embedder = EnformerEmbedder(
    ...     "untrained-tiny", genome=fasta, sequence_length=2048
    ... )
    >>> ism = saturation_mutagenesis(embedder, "chr1:3501-3502")
    >>> ism.ref, ism.effects.shape
    ('GA', (2, 4, 192))
    >>> folder.cleanup()
    """
    embedder, _ = split_model(model)
    row, ref = _bases(region, embedder)
    chrom, start = str(row["chrom"]), int(row["start"])
    strand = str(row["strand"]) if strand is None else strand
    if tss is None and int(row["tss"]) >= 0:
        tss = int(row["tss"])
    length = window_length(embedder)
    if len(ref) > length:
        msg = (
            f"{chrom}:{start}-{start + len(ref)} has {len(ref)} bp, its window "
            f"{length} bp; mutate it in parts"
        )
        raise InputError(msg)
    middle = start + len(ref) // 2 if tss is None else int(tss)
    known = np.array([letter in LETTERS for letter in ref])
    n = int(known.sum())
    table = pd.DataFrame(
        {
            "chrom": chrom,
            "pos": np.repeat(start + np.flatnonzero(known) + 1, 3),
            "ref": np.repeat(np.array(list(ref), dtype=object)[known], 3),
            "alt": _others(ref),
            "tss": middle,
            "strand": strand,
        }
    )
    if tss is None:
        options = {"bins": "all", **options} if _is_bare(model) else options
    effect = VariantEffect(model, **options)
    names = [str(name) for name in effect.get_feature_names_out()]
    effects = np.full((len(ref), 4, len(names)), np.nan, dtype=np.float32)
    if n:
        values = effect.transform(table).reshape(n, 3, len(names))
        effects[known] = _with_reference(ref, values)
    return Mutagenesis(chrom, start, ref, effects, names)


def _is_bare(model: Any) -> bool:
    return split_model(model)[1] is None


def _bases(region: Any, embedder: EnformerEmbedder) -> tuple[pd.Series[Any], str]:
    """Return the row and the letters of one region."""
    if embedder.genome is None:
        msg = "mutagenesis needs a genome: give EnformerEmbedder(genome='hg38.fa')"
        raise InputError(msg)
    table = region_table([region] if isinstance(region, str) else region)
    if len(table) != 1:
        msg = (
            f"region holds {len(table)} rows; mutate one at a time: every region has a "
            "window of its own"
        )
        raise InputTypeError(msg)
    genome = open_genome(embedder.genome, ambiguous=embedder.ambiguous)
    chroms = rename_contigs(table["chrom"], embedder.contig_style)
    table = table.assign(chrom=chroms)
    table = check_bounds(table, genome.contigs, str(genome.path))
    raise_bad_rows(table)
    row = table.iloc[0]
    start, end = int(row["start"]), int(row["end"])
    return row, decode(genome.fetch(str(row["chrom"]), start, end))


def _others(ref: str) -> list[str]:
    """Return the three other letters of every known one, in the order A, C, G, T."""
    return [alt for base in ref if base in LETTERS for alt in LETTERS if alt != base]


def _with_reference(
    ref: str, values: npt.NDArray[np.float32]
) -> npt.NDArray[np.float32]:
    """Put a 0 at the reference's letter: (n, 3, outputs) -> (n, 4, outputs)."""
    known = [base for base in ref if base in LETTERS]
    full = np.zeros((len(known), 4, values.shape[-1]), dtype=np.float32)
    is_other: Sequence[Any] = [[alt != base for alt in LETTERS] for base in known]
    full[np.array(is_other)] = values.reshape(-1, values.shape[-1])
    return full
