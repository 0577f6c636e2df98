from __future__ import annotations

import dataclasses
import json

import pytest

from enformer_features.exceptions import InputError
from enformer_features.model import EnformerConfig


def test_the_defaults_are_the_published_sizes():
    config = EnformerConfig()
    assert config.output_heads == {"human": 5313, "mouse": 1643}
    assert (config.bin_size, config.target_length) == (128, 896)
    assert (config.value_dim, config.embedding_dim) == (192, 3072)


@pytest.mark.parametrize(
    ("dim", "divisor", "widths"),
    [
        (1536, 128, (768, 896, 1024, 1152, 1280, 1536)),
        (384, 128, (256, 256, 256, 256, 384, 384)),  # the specification's example
    ],
)
def test_tower_widths_grow_geometrically_and_are_rounded(dim, divisor, widths):
    assert EnformerConfig(dim=dim, dim_divisible_by=divisor).tower_widths == widths


def test_a_width_half_way_is_rounded_to_even():
    # 36 / 24 = 1.5 and 60 / 24 = 2.5: both give 2.
    narrow = EnformerConfig(dim=72, heads=2, dim_divisible_by=24)
    assert narrow.tower_widths[0] == 48
    wide = EnformerConfig(dim=120, heads=2, dim_divisible_by=24)
    assert wide.tower_widths[0] == 48


def test_a_config_survives_json_and_ignores_what_it_does_not_know():
    config = EnformerConfig(dim=96, heads=4, dim_divisible_by=16, output_heads={"a": 3})
    text = json.dumps({**config.to_dict(), "use_tf_gamma": True, "dtype": "float32"})
    assert EnformerConfig.from_dict(json.loads(text)) == config


def test_equal_configs_have_equal_json():
    one = EnformerConfig(output_heads={"human": 3, "mouse": 5})
    other = EnformerConfig(output_heads={"mouse": 5, "human": 3})
    assert one.to_json() == other.to_json()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 0}, "dim=0 must be a whole number of at least 1"),
        ({"heads": 2.0}, "heads=2.0 must be a whole number"),
        ({"depth": True}, "depth=True must be a whole number"),
        ({"depth": -1}, "at least 0"),
        ({"target_length": -2}, "target_length=-2"),
        ({"num_downsamples": 2}, "at least 3"),
        ({"heads": 7}, "a multiple of 6"),
        ({"dim": 96}, "choose a smaller dim_divisible_by"),
        ({"dropout_rate": 1.0}, r"dropout_rate=1.0 must be a number in \[0, 1\)"),
        ({"pos_dropout": "0.1"}, "pos_dropout='0.1'"),
        ({"output_heads": [5313]}, "must map organisms to numbers of tracks"),
        ({"output_heads": {"a.b": 3}}, "has the name 'a.b'"),
        ({"output_heads": {"human": 0}}, r"output_heads\['human'\]=0"),
    ],
)
def test_impossible_sizes_are_refused_with_their_name(change, message):
    with pytest.raises(InputError, match=message):
        dataclasses.replace(EnformerConfig(), **change)


def test_a_configuration_must_be_a_mapping():
    with pytest.raises(InputError, match="must be a mapping, not list"):
        EnformerConfig.from_dict([1536])
