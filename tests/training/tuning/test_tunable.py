"""training/tuning/tunable.py."""

import numpy as np
import pytest
import torch

from enformer_features.genomics.windows import Geometry
from enformer_features.inference.pooling import POOLS
from enformer_features.inference.precision import POLICIES
from enformer_features.inference.prepared import prepare
from enformer_features.inference.reads import SequenceReads
from enformer_features.inference.recipe import PreparedForward, make_recipe
from enformer_features.model.recompute import one_hot
from enformer_features.training.tuning.freezing import (
    TUNES,
    copy_above,
    last_frozen_output,
)
from enformer_features.training.tuning.rows import FrozenPart, Views
from enformer_features.training.tuning.tunable import (
    TargetHead,
    Tunable,
    Units,
    mean_of_bins,
    predict_rows,
)
from tests.training.tuning.tiny import CONFIG, LENGTH, codes, network

GEOMETRY = Geometry(LENGTH, CONFIG.target_length)


def tunable(tune="last", *, n_targets=2, **options):
    torch.manual_seed(0)
    head = TargetHead(CONFIG.embedding_dim, n_targets, "softplus")
    torch.nn.init.normal_(head.linear.weight, std=0.1)
    defaults = {"freeze_statistics": True, "checkpointing": False, "per_bin": False}
    return Tunable(
        copy_above(network(), tune),
        head,
        geometry=GEOMETRY,
        value_dim=CONFIG.value_dim,
        **{**defaults, **options},
    ).eval()


def frozen_output(letters, tune):
    recipe = make_recipe(
        CONFIG,
        sequence_length=LENGTH,
        output="embedding",
        organism="human",
        tracks=None,
        pools=(POOLS["mean"],),
    )
    prepared = prepare(network(), POLICIES["float32"])
    forward = PreparedForward(recipe, prepared, (0, GEOMETRY.n_bins))
    frozen = FrozenPart(forward, last_frozen_output(tune, CONFIG.depth))
    views = Views(lambda shift: SequenceReads(list(letters)))
    return torch.stack([frozen(views.plain(row)[0]) for row in range(len(letters))])


@pytest.mark.parametrize("tune", TUNES)
def test_frozen_and_tuned_part_together_are_the_network(tune):
    letters = codes(2)
    whole = network()(one_hot(torch.from_numpy(letters)))
    with torch.no_grad():
        parts = tunable(tune).embed(frozen_output(letters, tune))
    torch.testing.assert_close(parts, whole.detach(), rtol=1e-4, atol=1e-4)


def rows(n_rows=3, n_views=1, *, low=1, high=3):
    letters = codes(n_rows * n_views)
    return {
        "windows": torch.from_numpy(letters).unflatten(0, (n_rows, n_views)),
        "flips": torch.zeros(n_rows, n_views, dtype=torch.bool),
        "bins": torch.tensor([[low, high]] * n_rows),
    }


def test_a_target_is_the_mean_of_its_bins():
    inputs = rows()
    with torch.no_grad():
        pooled = tunable("full")(**inputs)
        bins = tunable("full", per_bin=True)(**inputs)
    assert bins.shape == (3, 2, 2)
    torch.testing.assert_close(bins.mean(dim=1), pooled)


def test_views_that_are_turned_around_are_turned_back_before_pooling():
    both = rows(n_rows=1, n_views=2)
    both["flips"][0, 1] = True
    forward, backward = (
        {**rows(n_rows=1), "windows": both["windows"][:, view : view + 1]}
        for view in (0, 1)
    )
    backward["bins"] = torch.tensor([[1, 3]])  # 4 bins: the mirror image of 1 and 2
    model = tunable("full", per_bin=True)
    with torch.no_grad():
        expected = (model(**forward) + model(**backward).flip(1)) / 2
        torch.testing.assert_close(model(**both), expected)


def after_a_step(*, checkpointing):
    model = tunable("full", checkpointing=checkpointing, freeze_statistics=False)
    torch.manual_seed(5)  # dropout
    model.train()(**rows()).square().mean().backward()
    gradients = {name: value.grad for name, value in model.named_parameters()}
    moved = {k: v for k, v in model.named_buffers() if "running" in k}
    return gradients, moved


def test_checkpointing_changes_neither_gradients_nor_statistics():
    plain, again = (after_a_step(checkpointing=choice) for choice in (False, True))
    original = network().state_dict()
    torch.testing.assert_close(again[0], plain[0])
    for name, value in plain[1].items():
        assert torch.equal(again[1][name], value)
        assert not torch.equal(value, original[name.removeprefix("above.")])


def test_what_does_not_train_stays_in_evaluation_mode():
    model = tunable("lora").train()  # without adapters nothing above trains
    modes = {name: part.training for name, part in model.named_modules()}
    assert modes.pop("")
    assert not any(modes.values())


def test_a_folded_head_is_the_same_head():
    head = TargetHead(5, 2, "identity")
    torch.nn.init.normal_(head.linear.weight)
    torch.nn.init.normal_(head.linear.bias)
    features = 3.0 + 2.0 * torch.randn(7, 5, generator=torch.manual_seed(3))
    head.standardise(features)
    head.start_at(torch.tensor([2.0, 9.0]), torch.tensor([3.0, 0.1]))
    weight, bias = head.folded()
    torch.testing.assert_close(features @ weight.T + bias, head(features))


@pytest.mark.parametrize("link", ["softplus", "identity"])
def test_a_folded_head_predicts_rows_as_it_was_trained_to(link):
    torch.manual_seed(3)
    head = TargetHead(5, 2, link)
    torch.nn.init.normal_(head.linear.weight)
    bins = torch.randn(7, 3, 5)
    embedded, trained = bins.flatten(1).numpy(), head(bins).detach()
    by_bin = predict_rows(head.folded(), link, embedded, per_bin=True)
    by_row = predict_rows(head.folded(), link, embedded, per_bin=False)
    np.testing.assert_allclose(by_bin, trained.flatten(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(by_row, trained.mean(dim=1), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mean", [1e-3, 0.5, 80.0])
def test_a_head_starts_at_the_mean_count(mean):
    head = TargetHead(3, 1, "softplus")
    head.start_at(torch.tensor([mean]), torch.tensor([2.0]))
    assert head(torch.randn(4, 3)).flatten().tolist() == pytest.approx([mean] * 4)


def test_features_that_hardly_vary_are_not_blown_up():
    head = TargetHead(3, 1, "identity")
    head.standardise(torch.tensor([[1.0, 5.0, 2.0], [3.0, 5.0, 2.25]]))
    assert head.feature_deviation.tolist() == pytest.approx([1.0, 0.0125, 0.125])
    head.standardise(torch.ones(4, 3))
    assert head.feature_deviation.tolist() == [1.0, 1.0, 1.0]


def test_linear_heads_train_on_standardised_targets_and_are_put_back():
    values = np.array([[1.0, 7.0], [3.0, 7.0]], dtype=np.float32)
    units = Units.of(values, "identity")
    assert units.in_units(values).tolist() == [[-1.0, 0.0], [1.0, 0.0]]
    head = TargetHead(1, 2, "identity")
    torch.nn.init.ones_(head.linear.weight)
    weight, bias = units.restored(head.folded())
    assert (weight[:, 0].tolist(), bias.tolist()) == ([1.0, 1.0], [2.0, 7.0])


def test_bins_are_averaged_row_by_row():
    values = torch.arange(10.0).reshape(2, 5, 1)
    means = mean_of_bins(values, torch.tensor([[0, 5], [3, 4]]))
    assert means.tolist() == [[2.0], [8.0]]
