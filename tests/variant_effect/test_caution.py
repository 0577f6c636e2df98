import json

import pytest

from enformer_features.model.registry import weights_digest
from enformer_features.variant_effect.caution import (
    CAUTION,
    caution_lines,
    comment_lines,
)


def test_the_caution_names_signs_distance_individuals_and_diagnosis():
    text = " ".join(CAUTION)
    for word in ("Signs", "individuals", "20 kb", "diagnosis", "13059-023-02899-9"):
        assert word in text
    assert not any("\n" in line or '"' in line for line in CAUTION)


@pytest.mark.parametrize(
    ("provenance", "first"),
    [
        ({"weights": "untrained-tiny"}, "mean nothing"),
        ({"weights": "a.safetensors", "weights_digest": "untrained:1"}, "mean nothing"),
        ({"weights": "ModelHandle('untrained (seed 0)')"}, "mean nothing"),
        ({"weights": "mini"}, "small bundled one"),
        (
            {"weights": "a.safetensors", "weights_digest": weights_digest("mini")},
            "small bundled one",
        ),
        ({"weights": "enformer", "weights_digest": "sha256:1"}, CAUTION[0]),
        ({}, CAUTION[0]),
    ],
)
def test_what_the_network_is_worth_comes_first(provenance, first):
    lines = caution_lines(provenance)
    assert first in lines[0]
    assert lines[-len(CAUTION) :] == list(CAUTION)


def test_comments_hold_the_caution_and_the_provenance():
    provenance = {"weights": "mini", "shifts": [0, 1]}
    *cautions, last = comment_lines(provenance)
    assert len(cautions) == len(caution_lines(provenance))
    assert json.loads(last.partition("=")[2]) == provenance
