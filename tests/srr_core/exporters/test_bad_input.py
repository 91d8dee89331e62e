"""A damaged or hostile artifact is refused with the file and the tensor in the sentence; nothing outside is read."""

import contextlib
import json
import shutil
import struct

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srr_core.errors import CheckpointError
from srr_core.exporters.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.exporters.artifact import CONFIG_NAME, open_artifact
from srr_core.recipe import MXIntSpec
from srr_core.runtime import load
from tests.srr_core.exporters.artifacts import INDEX, SHARD, build_artifact, edit_tensors, pico_llama

UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("pristine") / "a", pico_llama(), MXIntSpec(num_bits=3)).directory


@pytest.fixture
def folder(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "a")
    return tmp_path / "a"


def read_everything(directory):
    artifact = open_artifact(directory)
    for name in artifact.plain_names():
        artifact.weights[name]
    for module in artifact.module_names():
        artifact.read_layer(module)


def refused(folder, pattern):
    with pytest.raises(CheckpointError, match=pattern):
        read_everything(folder)
    with pytest.raises(CheckpointError, match=pattern):
        load(folder)


def edit_header(file, change):
    data = file.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    text = change(data[8 : 8 + length].decode())
    file.write_bytes(struct.pack("<Q", len(text.encode())) + text.encode() + data[8 + length :])


def edit_json(file, change):
    value = json.loads(file.read_text())
    change(value)
    file.write_text(json.dumps(value))


def test_pristine_artifact_is_read(pristine):
    read_everything(pristine)


def test_truncated_shard(folder):
    shard = folder / SHARD
    shard.write_bytes(shard.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=rf"{SHARD}: .*truncated"):
        read_everything(folder)


def test_wrong_dtype(folder):
    edit_tensors(folder / SHARD, **{f"{UP.replace('.', '__')}__weight_scale": torch.ones(96, 2)})
    refused(folder, rf"tensor '?{UP}\.weight_scale'? .*float32")


def test_wrong_shape_of_the_scale(folder):
    edit_tensors(folder / SHARD, **{f"{UP.replace('.', '__')}__weight_scale": torch.ones(96, 3, dtype=torch.bfloat16)})
    refused(folder, rf"tensor '?{UP}\.weight_scale'? .*3")


def test_weight_of_no_columns(folder):
    edit_tensors(folder / SHARD, **{f"{UP.replace('.', '__')}__weight_shape": torch.tensor([96, 0])})
    with pytest.raises(CheckpointError, match=rf"{UP}\.weight_shape holds \[96, 0\]"):
        read_everything(folder)


def test_weight_that_claims_to_be_huge(folder):
    edit_tensors(folder / SHARD, **{f"{UP.replace('.', '__')}__weight_shape": torch.tensor([2**40, 2**20])})
    with pytest.raises(CheckpointError, match=rf"tensor {UP}\.weight_packed has shape"):
        read_everything(folder)


def test_missing_adapter(folder):
    (folder / ADAPTER_WEIGHTS).unlink()
    refused(folder, rf"{ADAPTER_WEIGHTS} is missing")


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "sub/model.safetensors", "..", ""])
def test_index_naming_a_file_outside_the_folder(folder, shard):
    (folder.parent / "secret.safetensors").write_bytes((folder / SHARD).read_bytes())
    edit_json(folder / INDEX, lambda index: index["weight_map"].update({f"{UP}.weight_packed": shard}))
    with pytest.raises(CheckpointError, match=rf"{INDEX}: names"):
        read_everything(folder)


def test_header_larger_than_the_cap(folder):
    shard = folder / SHARD
    shard.write_bytes(struct.pack("<Q", 2**60) + shard.read_bytes()[8:])
    with pytest.raises(CheckpointError, match=rf"{SHARD}: .*header claims"):
        read_everything(folder)


def test_tensor_named_twice(folder):
    def duplicate(text):
        entry = json.dumps(json.loads(text)["model.norm.weight"])
        return text.rstrip()[:-1] + f', "model.norm.weight": {entry}}}'

    edit_header(folder / SHARD, duplicate)
    with pytest.raises(CheckpointError, match=rf"{SHARD}: .*'model\.norm\.weight' is named twice"):
        read_everything(folder)


@pytest.mark.parametrize("rank", [-1, "4", None, 1.5])
def test_rank_that_is_no_number(folder, rank):
    edit_json(folder / CONFIG_NAME, lambda config: config["quantization_config"]["srr"].update(rank=rank))
    refused(folder, "rank")


def test_layout_of_a_later_release(folder):
    edit_json(folder / CONFIG_NAME, lambda config: config["quantization_config"]["srr"].update(version=99))
    refused(folder, "layout version 99.*upgrade")


def test_adapter_of_another_rank(folder):
    edit_json(folder / ADAPTER_CONFIG, lambda config: config.update(r=8, lora_alpha=8))
    with pytest.raises(CheckpointError, match=rf"{ADAPTER_CONFIG}: r and lora_alpha are 8 and 8"):
        read_everything(folder)


def test_configuration_that_is_not_json(folder):
    (folder / CONFIG_NAME).write_text("{")
    with pytest.raises(CheckpointError, match=CONFIG_NAME):
        read_everything(folder)


# Same examples every time; the folder is restored after each, so one fixture serves all.
BOUNDED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = st.sampled_from([SHARD, INDEX, CONFIG_NAME, ADAPTER_WEIGHTS, ADAPTER_CONFIG])


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True
)
@given(
    name=FILES,
    position=st.floats(0, 1, exclude_max=True),
    garbage=st.binary(min_size=1, max_size=16),
    cut=st.integers(0, 64),
    from_header=st.booleans(),
)
def test_garbage_anywhere_is_refused_or_read_and_never_crashes(folder, name, position, garbage, cut, from_header):
    file = folder / name
    before = file.read_bytes()
    span = min(len(before), 4096) if from_header else len(before)
    start = int(position * span)
    file.write_bytes(before[:start] + garbage + before[start + cut :])
    try:
        with contextlib.suppress(CheckpointError):
            read_everything(folder)
    finally:
        file.write_bytes(before)


@settings(parent=BOUNDED, max_examples=60)
@given(
    entry=st.dictionaries(
        st.sampled_from(["dtype", "shape", "data_offsets", "other"]),
        st.one_of(
            st.none(),
            st.integers(-(2**70), 2**70),
            st.sampled_from(["F32", "BF16", "I32", "X", ""]),
            st.lists(st.one_of(st.integers(-(2**70), 2**70), st.text(max_size=3)), max_size=5),
        ),
        max_size=4,
    )
)
def test_hostile_entry_of_a_header_is_refused(folder, entry):
    shard = folder / SHARD
    before = shard.read_bytes()
    edit_header(shard, lambda text: json.dumps({**json.loads(text), f"{UP}.weight_packed": entry}))
    try:
        with pytest.raises(CheckpointError, match=SHARD):
            read_everything(folder)
    finally:
        shard.write_bytes(before)
