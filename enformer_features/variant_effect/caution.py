"""What every output says about how far its numbers can be trusted."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from enformer_features.model.registry import weights_digest

CAUTION = (
    "Scores are predictions of a network that read one reference genome, not "
    "measurements. Not for diagnosis.",
    "Signs: across individuals the predicted direction of an effect is often wrong, "
    "though predictions across genes correlate well (Sasse et al. 2023, "
    "doi:10.1038/s41588-023-01524-6; Huang et al. 2023, Nature Genetics).",
    "Distance: effects beyond about 20 kb are under-estimated; a score near zero is no "
    "evidence of no effect (Karollus et al. 2023, doi:10.1186/s13059-023-02899-9).",
    "Compare scores within one locus and one track, not across; mean and sum over bins "
    "are different scales.",
)
UNTRAINED = "The weights of this network are untrained: the numbers mean nothing."
SMALL = (
    "The network is the small bundled one, for trying things out: draw no conclusions "
    "from its numbers."
)


def caution_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return what is said beside scores.

    Parameters
    ----------
    provenance : mapping
        Of the scores; ``weights`` and ``weights_digest`` tell whether the network is
        trained, and whether it is the small one, by any name.

    Returns
    -------
    list of str
        Sentences without line ends; for untrained weights that comes first.

    Examples
    --------
    >>> caution_lines({"weights": "untrained-tiny"})[0]
    'The weights of this network are untrained: the numbers mean nothing.'
    >>> caution_lines({"weights": "enformer"}) == list(CAUTION)
    True
    """
    weights = str(provenance.get("weights", ""))
    digest = str(provenance.get("weights_digest", ""))
    if "untrained" in weights or digest.startswith("untrained"):
        return [UNTRAINED, *CAUTION]
    is_small = weights == "mini" or (digest and digest == weights_digest("mini"))
    return [SMALL, *CAUTION] if is_small else [*CAUTION]


def comment_lines(provenance: Mapping[str, Any]) -> list[str]:
    """Return the lines that stand above a table of scores.

    Parameters
    ----------
    provenance : mapping of str to JSON values

    Returns
    -------
    list of str
        Each begins with ``##enformer_features_``; without line ends.

    Examples
    --------
    >>> comment_lines({"weights": "enformer"})[-1]
    '##enformer_features_provenance={"weights": "enformer"}'
    """
    cautions = caution_lines(provenance)
    record = json.dumps(dict(provenance), sort_keys=True)
    return [
        *(f"##enformer_features_caution={text}" for text in cautions),
        f"##enformer_features_provenance={record}",
    ]
