"""What a run would take: how the estimates grow, and that the service's and the core's are one."""

from pathlib import Path

import pytest

from service.hub.folder import FolderMetadata
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.pipeline import inspect_model
from srr_core.recipe import cost, named_recipe, override
from worker.folder_hub import FolderHub

RECIPE = named_recipe("srr")


def test_operations_add_up_over_layers_and_grow_with_the_rank() -> None:
    one = cost.operations(RECIPE, [(64, 32)])

    assert cost.operations(RECIPE, [(64, 32)] * 3) == pytest.approx(3 * one)
    assert cost.operations(override(RECIPE, {"rank": RECIPE.rank * 2}), [(64, 32)]) > one
    assert cost.operations(RECIPE, []) == 0


def test_memory_grows_with_the_block_the_inputs_and_the_tokens() -> None:
    base = cost.memory_bytes(RECIPE, largest_block=1000, input_widths=[32], hidden_size=32)
    longer = override(RECIPE, {"calibration.num_sequences": RECIPE.calibration.num_sequences * 2})

    assert cost.memory_bytes(RECIPE, largest_block=1001, input_widths=[32], hidden_size=32) == base + 12
    assert cost.memory_bytes(RECIPE, largest_block=1000, input_widths=[32, 8], hidden_size=32) == base + 8 * 64
    assert cost.memory_bytes(longer, largest_block=1000, input_widths=[32], hidden_size=32) > base


LLAMA = {"attn.q": 8, "attn.k": 8, "attn.v": 8, "attn.o": 8, "mlp.gate": 8, "mlp.up": 8, "mlp.down": 32}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (LLAMA, (8, 8, 8, 32)),
        (dict(sorted(LLAMA.items(), reverse=True)), (8, 8, 8, 32)),
        (LLAMA | {"attn.o": 16}, (8, 8, 16, 32)),
        ({"attn.c_attn": 8, "attn.c_proj": 8, "mlp.c_fc": 8, "mlp.c_proj": 32}, (8, 8, 8, 32)),
        ({"dense": 8}, (8,)),
        ({}, ()),
    ],
)
def test_layers_of_one_module_share_an_input_but_the_one_that_reads_the_others(
    layers: dict[str, int], expected: tuple[int, ...]
) -> None:
    assert cost.input_widths(layers.items()) == expected


def test_names_and_shapes_give_what_the_model_class_gives(tiny_llama: Path, tmp_path: Path) -> None:
    FolderHub(tmp_path).import_model(tiny_llama, "org/model")
    hub = FolderMetadata(tmp_path)
    anatomy = hub.inspect(hub.resolve("org/model")).anatomy

    inspection = inspect_model(tiny_llama, CheckpointReader(tiny_llama).entries, RECIPE, text_bytes=4 * 512 * 200)
    run = cost.fitted(RECIPE, text_bytes=4 * 512 * 200, longest_window=512)

    assert sorted(anatomy.shapes) == sorted(inspection.shapes)
    assert cost.operations(run, anatomy.shapes) == pytest.approx(inspection.operations)
    assert inspection.memory_bytes == cost.memory_bytes(
        run, largest_block=anatomy.largest_block, input_widths=anatomy.input_widths, hidden_size=256
    )


@pytest.mark.parametrize(
    ("text_bytes", "longest_window", "windows"),
    [
        (10**9, None, (128, 2048)),
        (10**9, 512, (128, 512)),
        (4 * 512 * 10, 512, (10, 512)),
        (4 * 2048 * 3 + 5, 8192, (3, 2048)),
        (7, None, (1, 2048)),
    ],
)
def test_a_run_calibrates_on_no_more_than_the_text_and_the_model_hold(
    text_bytes: int, longest_window: int | None, windows: tuple[int, int]
) -> None:
    spec = cost.fitted(RECIPE, text_bytes=text_bytes, longest_window=longest_window).calibration

    assert (spec.num_sequences, spec.sequence_length) == windows


@pytest.mark.parametrize(
    ("result", "kept", "said"),
    [
        (1_470_000, 200_000, "is larger than the source (1.4 MiB against 1.1 MiB): the rank is too large"),
        (1_190_000, 1_150_000, "saves 0.8 % only (1.1 MiB against 1.1 MiB): 96 % of the source lies in embeddings"),
        (1_080_001, 0, "saves 10.0 % only"),
        (1_079_999, 0, None),
    ],
)
def test_a_result_that_is_hardly_smaller_says_so(result: int, kept: int, said: str | None) -> None:
    note = cost.size_note(source_bytes=1_200_000, result_bytes=result, kept_bytes=kept)
    assert (note is None) if said is None else (note is not None and said in note)
