"""The correction as several processes hold it adds up to the correction of the whole layer."""

import pytest
import torch
from torch import Tensor
from torch.nn.functional import linear

from srr_core.checkpoint.artifact_names import factor_names
from srr_core.serving.low_rank import Place, apply_low_rank, read_low_rank

RANK, INPUTS = 3, 16
HEAD = 4


def _adapter(**outputs: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    tensors: dict[str, Tensor] = {}
    for module, rows in outputs.items():
        right, left = factor_names(module)
        tensors[right] = torch.randn(RANK, INPUTS, generator=generator, dtype=torch.float64)
        tensors[left] = torch.randn(rows, RANK, generator=generator, dtype=torch.float64)
    return tensors


def _whole(adapter: dict[str, Tensor], module: str, inputs: Tensor) -> Tensor:
    right, left = (adapter[name] for name in factor_names(module))
    return linear(linear(inputs, right), left)


def _inputs() -> Tensor:
    return torch.randn(5, INPUTS, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def _share(adapter: dict[str, Tensor], modules: list[str], place: Place, inputs: Tensor) -> Tensor:
    factors = read_low_rank(adapter, modules, place)
    return apply_low_rank(inputs, factors.left, factors.right, factors.runs)


@pytest.mark.parametrize("num_processes", [1, 2, 4])
def test_fused_queries_keys_and_values_are_those_of_each_process(num_processes: int) -> None:
    # Four heads of queries, two of keys and values: with four processes two hold the same keys.
    adapter = _adapter(q=4 * HEAD, k=2 * HEAD, v=2 * HEAD)
    inputs = _inputs()
    queries, keys, values = (_whole(adapter, name, inputs) for name in "qkv")
    for process in range(num_processes):
        own_keys = max(2 // num_processes, 1) * HEAD
        own_queries = 4 // num_processes * HEAD
        place = Place((own_queries, own_keys, own_keys), (), INPUTS, process, num_processes)
        first = process * 2 // num_processes * HEAD
        wanted = torch.cat(
            [
                queries[:, process * own_queries : (process + 1) * own_queries],
                keys[:, first : first + own_keys],
                values[:, first : first + own_keys],
            ],
            dim=1,
        )
        torch.testing.assert_close(_share(adapter, ["q", "k", "v"], place, inputs), wanted)


def test_a_layer_cut_along_its_inputs_sums_to_the_whole() -> None:
    adapter = _adapter(down=8)
    inputs = _inputs()
    shares = [
        _share(adapter, ["down"], Place((8,), (8,), 4, process, 4), inputs[:, 4 * process : 4 * process + 4])
        for process in range(4)
    ]
    torch.testing.assert_close(sum(shares), _whole(adapter, "down", inputs))


def test_a_layer_that_is_fused_on_disk_is_cut_by_its_parts() -> None:
    adapter = _adapter(gate_up=24)
    inputs = _inputs()
    whole = _whole(adapter, "gate_up", inputs)
    share = _share(adapter, ["gate_up"], Place((6, 6), (12, 12), INPUTS, 1, 2), inputs)
    torch.testing.assert_close(share, torch.cat([whole[:, 6:12], whole[:, 18:24]], dim=1))


def test_a_layer_that_every_process_holds_is_whole_in_each() -> None:
    adapter = _adapter(router=8)
    inputs = _inputs()
    share = _share(adapter, ["router"], Place((8,), (8,), INPUTS, 2, 3), inputs)
    torch.testing.assert_close(share, _whole(adapter, "router", inputs))


@pytest.mark.parametrize("process", [0, 1])
def test_a_part_without_a_correction_gets_nothing(process: int) -> None:
    adapter = _adapter(q=8, v=4)
    inputs = _inputs()
    place = Place((4, 2, 2), (), INPUTS, process, 2)
    factors = read_low_rank(adapter, ["q", None, "v"], place)
    share = apply_low_rank(inputs, factors.left, factors.right, factors.runs)
    queries = _whole(adapter, "q", inputs)[:, 4 * process :][:, :4]
    values = _whole(adapter, "v", inputs)[:, 2 * process :][:, :2]
    wanted = torch.cat([queries, torch.zeros(5, 2, dtype=torch.float64), values], dim=1)
    torch.testing.assert_close(share, wanted)


def test_parts_of_several_layers_keep_their_own_factors() -> None:
    # Two layers on disk, three parts in the server: the first layer is fused already.
    adapter = _adapter(qk=12, v=4)
    inputs = _inputs()
    share = _share(adapter, ["qk", "v"], Place((8, 4, 4), (8, 4, 4), INPUTS, 0, 1), inputs)
    torch.testing.assert_close(share, torch.cat([_whole(adapter, "qk", inputs), _whole(adapter, "v", inputs)], dim=1))


@pytest.mark.parametrize(
    ("place", "said"),
    [
        (Place((5,), (8,), INPUTS, 0, 2), "held as 5 by 2 processes"),
        (Place((8,), (8,), 5, 0, 3), "16 rows or columns cannot be held as 5"),
        (Place((4, 4), (4, 8), INPUTS, 0, 1), "L has 8 rows, the layer 12"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_by_name(place: Place, said: str) -> None:
    with pytest.raises(ValueError, match=f"o_proj: .*{said}"):
        read_low_rank(_adapter(o_proj=8), ["o_proj"], place)
