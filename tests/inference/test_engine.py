import gc

import numpy as np
import pytest
import torch

from enformer_features.exceptions import (
    DeviceMemoryError,
    DeviceMemoryWarning,
    InferenceError,
)
from enformer_features.genomics.encoding import encode, one_hot, reverse_complement
from enformer_features.inference.engine import Engine, Work, is_out_of_memory
from enformer_features.inference.pooling import POOLS
from enformer_features.inference.precision import POLICIES
from enformer_features.inference.reads import SequenceReads, shift_codes

LENGTH = 128 * 8
CPU = torch.device("cpu")


def base_counts(codes):
    """A network in small: counts of the four bases per bin."""
    letters = torch.from_numpy(one_hot(codes.numpy()))
    return letters.unflatten(1, (-1, 128)).sum(dim=2)


class Network:
    """Counts of bases, or whatever else is given, as the tower."""

    def __init__(self, tower=base_counts):
        self.tower = tower
        self.stretches = []

    def bins(self, tower):
        return tower

    def share(self, codes):
        self.stretches.append(codes)
        return SharedCounts(codes)


class SharedCounts:
    def __init__(self, codes):
        self.codes = codes

    def window(self, offset, length):
        codes = self.codes[offset : offset + length]
        return base_counts(torch.from_numpy(codes[None]))


def random_codes(n, seed=0):
    return list(np.random.default_rng(seed).integers(0, 4, (n, LENGTH), dtype=np.uint8))


def run(forward, sequences, *, batch_size=1, pool="mean", rows=None, **options):
    reads = SequenceReads(sequences, **options.pop("reads", {}))
    n = len(sequences)
    bins = np.tile([[0, 8]], (n, 1))
    labels = [f"row {i}" for i in range(n)]
    engine = Engine(Network(forward), CPU, batch_size, POLICIES["float32"], **options)
    work = Work(reads, rows or list(range(n)), labels, [POOLS[pool]], [bins])
    return engine, dict(engine.run(work))


def test_rows_come_in_the_order_asked_for_with_their_own_values():
    sequences = random_codes(5)
    _, values = run(base_counts, sequences, batch_size=2, rows=[3, 0, 4])
    assert list(values) == [3, 0, 4]
    for row, vector in values.items():
        assert vector.tolist() == [(sequences[row] == b).sum() / 8 for b in range(4)]


def test_every_batch_has_one_shape_and_the_last_is_filled_up():
    shapes = []

    def forward(codes):
        shapes.append(tuple(codes.shape))
        return base_counts(codes)

    run(forward, random_codes(5), batch_size=3)
    assert shapes == [(3, LENGTH)] * 2


def test_both_strands_are_averaged_with_the_second_turned_around():
    sequences = random_codes(2)
    _, values = run(
        base_counts, sequences, pool="flatten", reads={"both_strands": True}
    )
    for row, codes in enumerate(sequences):
        there = base_counts(torch.from_numpy(codes[None]))[0]
        back = torch.from_numpy(reverse_complement(codes)[None])
        expected = (there + base_counts(back)[0].flip(0)) / 2
        assert values[row].tolist() == expected.flatten().tolist()


def test_shifts_are_averaged_and_fill_up_with_n():
    assert shift_codes(encode("ACGT"), 1).tolist() == [1, 2, 3, 4]
    assert shift_codes(encode("ACGT"), -2).tolist() == [4, 4, 0, 1]
    _, values = run(base_counts, random_codes(1), reads={"shifts": (0, 128)})
    assert values[0].sum() == (8 * 128 + 7 * 128) / 16


@pytest.mark.parametrize("fits", [1, 3, 8])
@pytest.mark.parametrize("error", [torch.OutOfMemoryError, RuntimeError])
def test_out_of_memory_halves_the_batch_and_keeps_the_results(fits, error):
    def forward(codes):
        if len(codes) > fits:
            msg = "DefaultCPUAllocator: can't allocate memory"
            raise error(msg)
        return base_counts(codes)

    sequences = random_codes(11)
    _, expected = run(base_counts, sequences)
    with pytest.warns(DeviceMemoryWarning, match="out of memory at batch_size=16"):
        engine, values = run(forward, sequences, batch_size=16)
    assert engine.batch_size == max(b for b in (1, 2, 4, 8) if b <= fits)
    for row in range(11):
        np.testing.assert_array_equal(values[row], expected[row])


def test_out_of_memory_once_goes_on_smaller_and_frees_what_failed():
    alive, calls = [], []

    class Activation:
        def __init__(self):
            alive.append(1)

        def __del__(self):
            alive.pop()

    def forward(codes):
        activation = Activation()  # noqa: F841
        calls.append(len(codes))
        if len(calls) == 1:
            raise torch.OutOfMemoryError
        gc.collect()
        assert len(alive) == 1
        return base_counts(codes)

    with pytest.warns(DeviceMemoryWarning):
        run(forward, random_codes(4), batch_size=4)
    assert calls == [4, 2, 2]


def test_no_memory_for_a_single_window_is_an_error_that_says_what_to_do():
    def forward(codes):
        raise torch.OutOfMemoryError

    with pytest.raises(DeviceMemoryError, match="memory for a single window"):
        run(forward, random_codes(2), batch_size=2)


def poisoned(sequence):
    """Return a network that fails on one sequence."""
    target = torch.from_numpy(sequence)

    def forward(codes):
        if any(torch.equal(window, target) for window in codes):
            msg = "broken kernel"
            raise ValueError(msg)
        return base_counts(codes)

    return forward


def test_a_failing_window_is_named():
    sequences = random_codes(5)
    with pytest.raises(InferenceError, match=r"row 3: the network failed: ValueError"):
        run(poisoned(sequences[3]), sequences)


@pytest.mark.parametrize("batch_size", [1, 2, 5])
def test_a_failing_window_becomes_nan_alone_when_asked(batch_size):
    sequences = random_codes(5)
    _, expected = run(base_counts, sequences)
    engine, values = run(
        poisoned(sequences[3]), sequences, batch_size=batch_size, on_error="nan"
    )
    assert engine.failures == {3: "the network failed: ValueError: broken kernel"}
    for row in (0, 1, 2, 4):
        np.testing.assert_array_equal(values[row], expected[row])


def test_values_that_are_not_finite_are_never_returned():
    def forward(codes):
        return base_counts(codes) / 0.0

    with pytest.raises(InferenceError, match=r"row 0: .* not finite"):
        run(forward, random_codes(1))


@pytest.mark.parametrize(
    ("error", "answer"),
    [
        (torch.OutOfMemoryError(), True),
        (MemoryError(), True),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory"), True),
        (RuntimeError("shapes differ"), False),
        (ValueError("can't allocate memory"), False),
    ],
)
def test_what_counts_as_out_of_memory(error, answer):
    assert is_out_of_memory(error) is answer
