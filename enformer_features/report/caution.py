"""What every page says about how far its numbers can be trusted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from enformer_features.variant_effect.caution import (
    SMALL,
    UNTRAINED,
    caution_lines,
)

EVALUATION_CAUTION = (
    "A correlation across genes says which genes are high, and nothing about people or "
    "alleles: across individuals predicted directions are often wrong (Sasse et al. "
    "2023, doi:10.1038/s41588-023-01524-6; Huang et al. 2023, Nature Genetics). Not "
    "for diagnosis.",
    "The network was trained on most of the genome: regions that a head has not seen "
    "may be known to the network. Compare with the rows that neither has seen.",
    "A model is worth having when it beats letters counted around the TSS, not when it "
    "beats 0.",
)
EXPLANATION_CAUTION = (
    "What is shown is what this prediction rests on, which is not what the cell's "
    "expression rests on: nothing on this page is a measurement. Not for diagnosis.",
    "Effects beyond about 20 kb are under-estimated: a part of the window without "
    "scores is one to which the network is blind, no evidence of no function. Compare "
    "within one locus, not across (Karollus et al. 2023, "
    "doi:10.1186/s13059-023-02899-9).",
    "Signs: across individuals the predicted direction of an effect is often wrong, "
    "though predictions across genes correlate well (Sasse et al. 2023, "
    "doi:10.1038/s41588-023-01524-6; Huang et al. 2023, Nature Genetics).",
    "Gradients are true for small changes only, and attention says where information "
    "may come from, not what it does. To test an element, replace it.",
)


def cautions_of(
    networks: Iterable[Mapping[str, Any]], always: Sequence[str]
) -> tuple[list[str], int]:
    """Return what a reader must know, and how many lines of it are loud.

    Parameters
    ----------
    networks : iterable of mapping
        Provenance of each network: ``weights`` and ``weights_digest``.
    always : sequence of str
        What is said of any network.

    Returns
    -------
    list of str
        Sentences; those about untrained and small networks come first.
    int

    Examples
    --------
    >>> cautions_of([{"weights": "mini"}], ["Beware."])[1]
    1
    """
    said = {line for network in networks for line in caution_lines(network)}
    loud = [line for line in (UNTRAINED, SMALL) if line in said]
    return [*loud, *always], len(loud)
