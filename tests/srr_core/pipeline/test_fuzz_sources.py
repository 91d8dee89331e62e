"""Sources with any value in their configuration and any id in their tokenizer: planned, or refused in our own words."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import SrrError
from srr_core.pipeline.inspection import inspect_model
from srr_core.pipeline.plan import plan_run
from srr_core.recipe import named_recipe, override
from tests.pico import WINDOW, build_checkpoint, write_text

RECIPE = override(
    named_recipe("srr"),
    {"rank": 2, "calibration": {"num_sequences": 2, "sequence_length": WINDOW}, "evaluation": None},
)
BOUNDED = settings(
    max_examples=25,
    deadline=None,
    derandomize=True,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
"""The same examples every time; the folder is restored after each, so one fixture serves all."""
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**40), 2**40),
    st.integers(-3, 300),
    st.floats(),
    st.sampled_from(["", "auto", "gelu", "../secret", "float16", "LlamaForCausalLM"]),
    st.lists(st.integers(-2, 300), max_size=3),
    st.dictionaries(
        st.sampled_from(["type", "rope_type", "factor"]), st.sampled_from(["linear", 2.0, None]), max_size=3
    ),
)
IDS = st.one_of(
    st.integers(-(2**33), 2**33), st.integers(255, 262), st.lists(st.integers(-1, 300), max_size=2), st.none()
)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = build_checkpoint(tmp_path_factory.mktemp("fuzz") / "source")
    write_text(folder.parent / "text.txt")
    return folder


def _only_our_errors(source: Path) -> None:
    """Inspect and plan; whatever leaves either must be one of our own errors, said in one line."""
    assert "\n" not in _told_by_inspect(source)
    assert "\n" not in _told_by_plan(source)


def _told_by_inspect(source: Path) -> str:
    text = source.parent / "text.txt"
    try:
        entries = CheckpointReader(source).entries
        return inspect_model(source, entries, RECIPE, text_bytes=1000, calibration_text=text).reason
    except SrrError as error:
        return str(error)


def _told_by_plan(source: Path) -> str:
    try:
        plan_run(
            source,
            RECIPE,
            source.parent / "out",
            model_id=None,
            revision=None,
            artifact_id=None,
            calibration_text=source.parent / "text.txt",
            evaluation_text=None,
            device="cpu",
        )
    except SrrError as error:
        return str(error)
    return ""


@BOUNDED
@given(data=st.data(), value=VALUES)
def test_any_value_in_a_configuration_is_taken_or_refused(source: Path, data: st.DataObject, value: Any) -> None:
    file = source / "config.json"
    before = file.read_text()
    config = json.loads(before)
    field = data.draw(st.sampled_from([*sorted(config), "quantization_config", "rope_scaling", "layer_types"]))
    file.write_text(json.dumps({**config, field: value}))
    try:
        _only_our_errors(source)
    finally:
        file.write_text(before)


@BOUNDED
@given(
    special=st.dictionaries(
        st.sampled_from(["bos_token_id", "eos_token_id", "pad_token_id", "decoder_start_token_id"]), IDS, min_size=1
    ),
    rows=st.sampled_from([1, 255, 258, 259, 300]),
    added=st.sampled_from([259, 260, 300, 2**31]),
)
def test_any_special_id_and_size_of_a_vocabulary_is_taken_or_refused(
    source: Path, special: dict[str, Any], rows: int, added: int
) -> None:
    files = {name: (source / name).read_text() for name in ("config.json", "tokenizer.json")}
    config, tokenizer = (json.loads(files[name]) for name in ("config.json", "tokenizer.json"))
    tokenizer["model"]["vocab"]["<added>"] = added
    (source / "config.json").write_text(json.dumps({**config, **special, "vocab_size": rows}))
    (source / "tokenizer.json").write_text(json.dumps(tokenizer))
    try:
        _only_our_errors(source)
    finally:
        for name, text in files.items():
            (source / name).write_text(text)
