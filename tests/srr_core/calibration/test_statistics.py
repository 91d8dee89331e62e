"""Statistics of inputs against their definition, and the grouping of layers by the tensor they share."""

import weakref

import pytest
import torch
from torch import nn

from srr_core.calibration.statistics import InputAccumulator, InputCollector
from srr_core.errors import NumericalError
from srr_core.types import Statistics


def _inputs(sequences: int = 6, length: int = 5, width: int = 7, seed: int = 0) -> torch.Tensor:
    return torch.randn(sequences, length, width, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("width", [1, 3, 4, 9, 64])
@pytest.mark.parametrize("batch_size", [1, 2, 6])
def test_the_statistic_is_that_of_the_definition_whatever_the_batches(width: int, batch_size: int) -> None:
    inputs = _inputs(width=width)
    accumulator = InputAccumulator(width, torch.device("cpu"))
    for batch in torch.split(inputs, batch_size):
        accumulator.add(batch)

    found = accumulator.finish("layer")

    wide = inputs.to(torch.float64)
    tokens = wide.flatten(0, 1)
    torch.testing.assert_close(found.autocorrelation, tokens.mT @ tokens / len(tokens), rtol=1e-5, atol=1e-6)
    assert torch.equal(found.autocorrelation, found.autocorrelation.mT)
    torch.testing.assert_close(found.largest_mean_magnitude, wide.abs().mean(1).amax(0), rtol=1e-6, atol=0)
    assert found.num_tokens == 30


def test_no_tokens_give_a_statistic_of_zeros() -> None:
    accumulator = InputAccumulator(4, torch.device("cpu"))
    accumulator.add(torch.empty(0, 4))
    found = accumulator.finish("layer")
    assert found.num_tokens == 0
    assert found.autocorrelation.abs().sum() == 0


def test_many_small_batches_do_not_lose_digits() -> None:
    accumulator = InputAccumulator(2, torch.device("cpu"))
    accumulator.add(torch.full((1, 1, 2), 4096.0))
    for _ in range(2000):
        accumulator.add(torch.full((1, 1, 2), 0.5))
    expected = (4096.0**2 + 2000 * 0.25) / 2001
    assert float(accumulator.finish("layer").autocorrelation[0, 0]) == pytest.approx(expected, rel=1e-12)


def test_an_activation_that_is_not_finite_is_refused() -> None:
    accumulator = InputAccumulator(2, torch.device("cpu"))
    accumulator.add(torch.tensor([[[1.0, float("inf")]]]))
    with pytest.raises(NumericalError, match="layer down: its input on the calibration text is not finite"):
        accumulator.finish("down")


class _Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.out, self.idle = (nn.Linear(4, 4) for _ in range(4))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        mixed: torch.Tensor = self.query(hidden) * self.key(hidden)
        result: torch.Tensor = self.out(mixed)
        return result


@torch.no_grad()
def test_layers_called_with_one_tensor_share_one_statistic() -> None:
    model = _Attention()
    collector = InputCollector(dict(model.named_children()))
    with collector.watching():
        for seed in range(3):
            model(_inputs(width=4, seed=seed))
            collector.end_batch()

    groups = dict(collector.groups())

    assert set(groups) == {("query", "key"), ("out",)}
    assert all(statistics.num_tokens == 90 for statistics in groups.values())


@torch.no_grad()
def test_a_tensor_changed_in_place_between_two_layers_is_two_inputs() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    collector = InputCollector({"first": first, "second": second})
    with collector.watching():
        hidden = _inputs(width=4)
        first(hidden)
        hidden.mul_(2)
        second(hidden)
    assert [members for members, _ in collector.groups()] == [("first",), ("second",)]


def _means_of(*inputs: torch.Tensor) -> Statistics:
    alone = InputAccumulator(4, torch.device("cpu"))
    for one in inputs:
        alone.add(one)
    return alone.finish("alone")


Calls = list[list[tuple[str, int]]]
"""By batch, which module is called with the input of which seed, in order."""


@pytest.mark.parametrize(
    ("calls", "groups"),
    [
        # The first of a group is called once more than the others.
        ([[("a", 0), ("b", 0), ("a", 1)]], [("a",), ("b",)]),
        ([[("a", 0), ("a", 1), ("b", 0)]], [("a",), ("b",)]),
        ([[("a", 0), ("b", 0), ("c", 0), ("a", 1), ("c", 1)]], [("a", "c"), ("b",)]),
        ([[("a", 0), ("b", 0)], [("a", 1), ("b", 1), ("a", 2), ("a", 3)]], [("a",), ("b",)]),
        # Another than the first is, before it or after it.
        ([[("a", 0), ("b", 0)], [("b", 2), ("a", 1), ("b", 1)]], [("a",), ("b",)]),
        ([[("a", 0), ("b", 0)], [("a", 1), ("b", 2)]], [("a",), ("b",)]),
        # One is left out of a batch, or comes late.
        ([[("a", 0), ("b", 0), ("c", 0)], [("a", 1)], [("a", 2), ("b", 2), ("c", 2)]], [("a",), ("b", "c")]),
        ([[("a", 0)], [("a", 1), ("b", 1)]], [("a",), ("b",)]),
        # All are called with the same again and again.
        ([[("a", 0), ("b", 0), ("a", 1), ("b", 1)], [("a", 2), ("b", 2)]], [("a", "b")]),
        ([[("a", 0), ("b", 0), ("a", 0), ("b", 0)]], [("a", "b")]),
        # The second input of the first is that of another group.
        ([[("c", 1), ("a", 0), ("b", 0), ("a", 1), ("b", 1)]], [("c",), ("a", "b")]),
    ],
)
@torch.no_grad()
def test_every_layer_has_the_statistic_of_its_own_inputs_whoever_it_shares_some_with(
    calls: Calls, groups: list[tuple[str, ...]]
) -> None:
    modules = {name: nn.Linear(4, 4) for name in "abc"}
    inputs = {seed: _inputs(width=4, seed=seed) for seed in range(4)}
    collector = InputCollector(modules)
    with collector.watching():
        for batch in calls:
            for name, seed in batch:
                modules[name](inputs[seed])
            collector.end_batch()

    found = dict(collector.groups())

    assert sorted(map(sorted, found)) == sorted(map(sorted, groups))
    for members, statistics in found.items():
        for member in members:
            own = _means_of(*(inputs[seed] for batch in calls for name, seed in batch if name == member))
            assert statistics.num_tokens == own.num_tokens
            torch.testing.assert_close(statistics.autocorrelation, own.autocorrelation, rtol=1e-12, atol=1e-12)
            assert torch.equal(statistics.largest_mean_magnitude, own.largest_mean_magnitude)


@torch.no_grad()
def test_an_input_that_is_not_shared_and_then_changed_in_place_is_an_error_not_a_guess() -> None:
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    collector = InputCollector({"first": first, "second": second})
    hidden, other = _inputs(width=4), _inputs(width=4, seed=1)

    def run() -> None:
        with collector.watching():
            first(hidden)
            second(hidden)
            first(other)
            other.mul_(2)

    with pytest.raises(NumericalError, match="second shared its input with first until"):
        run()


@torch.no_grad()
def test_layers_without_tokens_share_nothing() -> None:
    first, second, idle = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    collector = InputCollector({"first": first, "second": second, "idle": idle})
    with collector.watching():
        for module in (first, second, idle):
            module(torch.empty(0, 4))
        collector.end_batch()
        first(_inputs(width=4))
        second(_inputs(width=4, seed=1))

    found = dict(collector.groups())

    assert {members: statistics.num_tokens for members, statistics in found.items()} == {
        ("first",): 30,
        ("second",): 30,
        ("idle",): 0,
    }


@torch.no_grad()
def test_a_layer_that_is_called_again_with_zeros_keeps_its_group() -> None:
    query, delayed = nn.Linear(4, 4), nn.Linear(4, 4)
    collector = InputCollector({"query": query, "delayed": delayed})
    with collector.watching():
        hidden = _inputs(width=4)
        query(hidden)
        delayed(hidden)
        delayed(torch.zeros(3, 1, 4))  # the state before the first token, as Zaya has it

    ((members, statistics),) = collector.groups()

    assert members == ("query", "delayed")
    assert statistics.num_tokens == 30


@torch.no_grad()
def test_modules_that_run_after_the_scope_are_not_seen() -> None:
    layer = nn.Linear(4, 4)
    collector = InputCollector({"layer": layer})
    with collector.watching():
        layer(_inputs(width=4))

    layer(_inputs(width=4, seed=1))

    ((_, statistics),) = collector.groups()
    assert statistics.num_tokens == 30


@torch.no_grad()
def test_a_batch_that_has_ended_keeps_none_of_its_tensors() -> None:
    layer, hidden = nn.Linear(4, 4), _inputs(width=4)
    collector = InputCollector({"layer": layer})
    with collector.watching():
        layer(hidden)
        alive = weakref.ref(hidden)
        del hidden

        assert alive() is not None  # or its address could be that of another input of the batch
        collector.end_batch()
        assert alive() is None


@torch.no_grad()
def test_a_layer_that_looks_at_another_input_too_leaves_its_group_with_both() -> None:
    query, key, value = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
    own, others = [_inputs(width=4, seed=seed) for seed in range(2)], [_inputs(width=4, seed=seed) for seed in (5, 6)]
    collector = InputCollector({"query": query, "key": key, "value": value})
    with collector.watching():
        for hidden, encoded in zip(own, others, strict=True):
            for module in (query, key, value):
                module(hidden)
            key(encoded)
            value(encoded)
            collector.end_batch()

    groups = dict(collector.groups())

    both = InputAccumulator(4, torch.device("cpu"))
    for inputs in (*own, *others):
        both.add(inputs)
    expected = both.finish("key").autocorrelation
    assert set(groups) == {("query",), ("key",), ("value",)}
    assert groups["query",].num_tokens == 60
    torch.testing.assert_close(groups["key",].autocorrelation, expected)
    torch.testing.assert_close(groups["value",].autocorrelation, expected)
