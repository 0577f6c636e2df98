from __future__ import annotations

import pytest
import torch

from enformer_features.exceptions import InputError
from enformer_features.model import Enformer, EnformerConfig, build, read_checkpoint
from enformer_features.model.untrained import (
    calibrate,
    random_one_hot,
    untrained_network,
)
from tests.model import parity

TINY = EnformerConfig(
    dim=48,
    depth=2,
    heads=2,
    attn_dim_key=5,
    dim_divisible_by=8,
    target_length=3,
    output_heads={"human": 7, "mouse": 5},
)
N_BINS = 11


@pytest.fixture(scope="module")
def network():
    return untrained_network(TINY)


@pytest.fixture
def one_hot():
    torch.manual_seed(5)
    return random_one_hot(2, 128 * N_BINS)


@pytest.fixture(scope="module", params=["small_a", "small_b"])
def reference(request, shared, tmp_path_factory):
    """Fields of the original, and our network with the same weights."""
    fields = parity.read(shared, request.param)
    folder = parity.write_folder(tmp_path_factory.mktemp(request.param), fields)
    return fields, build(read_checkpoint(folder))


@torch.no_grad()
def every_field(network, codes):
    one_hot = torch.eye(5, 4)[torch.from_numpy(codes).long()]
    last = f"block_{network.config.depth - 1}"
    return {
        "after_stem": network.stem(one_hot.mT).mT,
        "after_conv_tower": network(one_hot, "tower"),
        "after_block_0": network(one_hot, "block_0"),
        "after_transformer": network(one_hot, last),
        "embedding": network(one_hot),
        "human": network(one_hot, "tracks", "human"),
        "mouse": network(one_hot, "tracks", "mouse"),
    }


def test_every_field_agrees_with_the_original(reference):
    fields, network = reference
    for name, ours in every_field(network, fields["codes"]).items():
        parity.assert_agrees(name, ours.numpy(), fields[name])


@pytest.mark.parametrize(
    ("output", "shape"),
    [
        ("tower", (2, N_BINS, 48)),
        ("block_0", (2, N_BINS, 48)),
        ("block_1", (2, N_BINS, 48)),
        ("embedding", (2, 3, 96)),
        ("tracks", (2, 3, 7)),
    ],
)
def test_outputs_have_channels_last(network, one_hot, output, shape):
    assert network(one_hot, output).shape == shape


def test_the_second_head_has_its_own_tracks(network, one_hot):
    assert network(one_hot, "tracks", "mouse").shape == (2, 3, 5)


def test_a_sequence_does_not_depend_on_its_neighbours(network, one_hot):
    together, alone = network(one_hot), network(one_hot[1:])
    torch.testing.assert_close(together[1:], alone, rtol=1e-4, atol=1e-5)


def test_the_middle_bins_are_kept(network):
    x = torch.arange(N_BINS)[None, :, None]
    assert network.crop(x).flatten().tolist() == [4, 5, 6]


@pytest.mark.parametrize("kept", [-1, N_BINS, N_BINS + 2])
def test_all_bins_are_kept_when_there_are_no_more(kept):
    sizes = {**TINY.to_dict(), "target_length": kept}
    assert Enformer(EnformerConfig(**sizes)).crop(torch.ones(1, N_BINS, 1)).sum() == 11


def test_an_uneven_crop_names_the_two_nearest_numbers_of_bins(network):
    with pytest.raises(InputError, match="use 11 or 13 bins"):
        network.crop(torch.ones(1, 12, 1))


@pytest.mark.parametrize("shape", [(1, 0, 4), (1, 130, 4), (1, 4, 128), (128, 4)])
def test_input_of_another_shape_is_refused(network, shape):
    with pytest.raises(InputError, match="expected \\(batch, length, 4\\)"):
        network(torch.zeros(shape))


@pytest.mark.parametrize("output", ["block_2", "stem", "block_-1"])
def test_an_unknown_output_is_refused_with_those_there_are(network, one_hot, output):
    with pytest.raises(InputError, match=r"is not among .*'block_1', 'embedding'"):
        network(one_hot, output)


def test_an_organism_without_a_head_is_refused(network, one_hot):
    with pytest.raises(InputError, match=r"there are \['human', 'mouse'\]"):
        network(one_hot, "tracks", "yeast")


def test_training_mode_is_random_and_evaluation_is_not(one_hot):
    network = untrained_network(TINY)
    assert torch.equal(network(one_hot), network(one_hot))
    network.train()
    assert not torch.equal(network(one_hot), network(one_hot))


def test_a_gradient_reaches_the_sequence_and_every_parameter(network, one_hot):
    one_hot.requires_grad_()
    total = sum(network(one_hot, "tracks", name).sum() for name in network.heads)
    parameters = dict(network.named_parameters())
    gradients = torch.autograd.grad(total, [one_hot, *parameters.values()])
    still = [
        name
        for name, gradient in zip(["input", *parameters], gradients, strict=True)
        if not gradient.any()
    ]
    assert still == []


def test_the_untrained_network_is_always_the_same_and_leaves_the_seed(network):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    again = untrained_network(TINY)
    assert torch.equal(torch.rand(3), expected)
    for name, value in network.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]), name


def test_in_the_untrained_network_attention_takes_part(network):
    for block in network.transformer:
        assert block.attention.to_out.weight.std() > 0.1


def test_calibrated_norms_give_activations_of_unit_scale(network):
    inputs = []
    norm = network.conv_tower[3].wide.norm
    hook = norm.register_forward_hook(lambda *call: inputs.append(call[2]))
    torch.manual_seed(11)
    with torch.no_grad():
        network(random_one_hot(4, 4096), "tower")
    hook.remove()
    assert inputs[0].std().item() == pytest.approx(1, abs=0.1)
    assert norm.momentum == 0.1


def test_calibration_ends_in_evaluation_mode():
    network = Enformer(TINY)
    calibrate(network, random_one_hot(2, 1024))
    assert not any(part.training for part in network.modules())
