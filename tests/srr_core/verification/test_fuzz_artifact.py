"""Artifacts with any bytes and values in them: read, or refused with a reason, and nothing else."""

import contextlib
import json
import shutil

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srr_core.errors import CheckpointError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import CONFIG_NAME, open_artifact
from srr_core.recipe import IntegerSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.runtime import PackedLinear, load
from tests.srr_core.exporters.artifacts import INDEX, SHARD, build_artifact, pico_llama
from tests.srr_core.exporters.damage import edit_header, read_everything

UP = "model.layers.0.mlp.up_proj"


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("pristine") / "a", pico_llama(), MXIntSpec(num_bits=3)).directory


@pytest.fixture
def folder(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "a")
    return tmp_path / "a"


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


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.sampled_from(["", "../secret", "/etc/passwd", "LORA", "srr", "float32", "X"]),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=3), inner, max_size=2)),
    max_leaves=4,
)


def places(value, path=()):
    """Paths to every entry of a JSON document."""
    found = [path] if path else []
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return found + [place for key, inner in items for place in places(inner, (*path, key))]


def replaced(value, path, new):
    copy = value.copy()
    copy[path[0]] = new if len(path) == 1 else replaced(value[path[0]], path[1:], new)
    return copy


def with_entry_replaced(folder, name, pick, new, act):
    """Call `act` while one entry of a JSON file holds another value."""
    file = folder / name
    before = file.read_text()
    document = json.loads(before)
    path = sorted(places(document), key=str)[int(pick * len(places(document)))]
    file.write_text(json.dumps(replaced(document, path, new)))
    try:
        return act(folder)
    finally:
        file.write_text(before)


@settings(parent=BOUNDED, max_examples=150)
@given(name=st.sampled_from([INDEX, CONFIG_NAME, ADAPTER_CONFIG]), pick=st.floats(0, 1, exclude_max=True), new=JSON)
def test_any_other_value_in_a_configuration_is_refused_or_read(folder, name, pick, new):
    with contextlib.suppress(CheckpointError):
        with_entry_replaced(folder, name, pick, new, read_everything)


@pytest.mark.slow
@settings(parent=BOUNDED, max_examples=60)
@given(name=st.sampled_from([INDEX, CONFIG_NAME, ADAPTER_CONFIG]), pick=st.floats(0, 1, exclude_max=True), new=JSON)
def test_any_other_value_in_a_configuration_is_refused_or_loaded_whole(folder, name, pick, new):
    with contextlib.suppress(CheckpointError):
        model = with_entry_replaced(folder, name, pick, new, load)
        packed = [module for module in model.modules() if isinstance(module, PackedLinear)]
        assert len(packed) == 14
        assert sum(".lora_" in name for name, _ in model.named_parameters()) == 28


OTHER_CODES = [
    IntegerSpec(num_bits=4, group_size=32, symmetric=False),
    NormalFloatSpec(num_bits=4, block_size=32),
    QuIPSharpSpec(num_bits=2, coordinate_passes=0),
    QuIPSharpSpec(num_bits=3, coordinate_passes=0),
]


@pytest.fixture(scope="module", params=OTHER_CODES, ids=[f"{spec.kind}-{spec.num_bits}" for spec in OTHER_CODES])
def other_artifact(request, tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("other") / "a", pico_llama(), request.param).directory


@settings(parent=BOUNDED, max_examples=40)
@given(position=st.floats(0, 1, exclude_max=True), garbage=st.binary(min_size=1, max_size=64))
def test_garbage_among_codes_of_any_kind_decodes_to_numbers_or_is_refused(other_artifact, position, garbage):
    shard = other_artifact / SHARD
    before = shard.read_bytes()
    data = 8 + int.from_bytes(before[:8], "little")
    start = data + int(position * (len(before) - data - len(garbage)))
    shard.write_bytes(before[:start] + garbage + before[start + len(garbage) :])
    try:
        with contextlib.suppress(CheckpointError):
            artifact = open_artifact(other_artifact)
            for module in artifact.module_names():
                weight = artifact.layout.loaded_weight(artifact.read_layer(module).quantized)
                assert weight.shape == tuple(artifact.weights[f"{module}.weight_shape"].tolist())
    finally:
        shard.write_bytes(before)


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
