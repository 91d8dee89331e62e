"""The files that belong to a model beside its weights, told from names, and from transformers' own classes."""

import ast
import json
from pathlib import Path

import pytest
import transformers.models
import transformers.utils
from hypothesis import given
from hypothesis import strategies as st
from transformers import tokenization_utils_base

from srr_core.checkpoint.carried_files import (
    OTHER_FILES,
    RUNS,
    TEMPLATES_FOLDER,
    TOKENIZER_FILES,
    carried_files,
    carried_in,
    check_carried,
    copy_carried,
)
from srr_core.errors import CheckpointError

MODULES = [
    {"path": "", "type": "sentence_transformers.models.Transformer"},
    {"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"},
    {"path": "2_Dense", "type": "sentence_transformers.models.Dense"},
]


def _declared(file: Path) -> set[str]:
    """Return the file names that a module of tokenizers declares, without importing what it may need."""
    return {
        name.value
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.Assign) and any(getattr(to, "id", "") == "VOCAB_FILES_NAMES" for to in node.targets)
        for name in ast.walk(node.value)
        if isinstance(name, ast.Constant) and isinstance(name.value, str) and "." in name.value
    }


def test_every_file_that_a_tokenizer_of_transformers_reads_is_listed() -> None:
    modules = Path(transformers.models.__path__[0]).glob("*/tokenization_*.py")
    assert set().union(*map(_declared, modules)) == TOKENIZER_FILES


def test_every_name_that_transformers_gives_to_other_files_is_listed() -> None:
    of_processors = {
        getattr(transformers.utils, name)
        for name in ("AUDIO_TOKENIZER", "FEATURE_EXTRACTOR", "GENERATION_CONFIG", "IMAGE_PROCESSOR", "PROCESSOR")
        for name in (f"{name}_NAME",)
        if hasattr(transformers.utils, name)
    }
    of_processors |= {transformers.utils.VIDEO_PROCESSOR_NAME, transformers.utils.LEGACY_PROCESSOR_CHAT_TEMPLATE_FILE}
    of_tokenizers = {
        getattr(tokenization_utils_base, name)
        for name in ("CHAT_TEMPLATE_FILE", "SPECIAL_TOKENS_MAP_FILE", "ADDED_TOKENS_FILE")
    }
    assert of_processors | of_tokenizers == OTHER_FILES
    assert transformers.utils.CHAT_TEMPLATE_DIR == TEMPLATES_FOLDER


def test_weights_code_and_strangers_stay_and_the_parts_of_an_embedding_model_go() -> None:
    names = [
        *("config.json", "model.safetensors", "model.safetensors.index.json", "training_args.bin", "optimizer.pt"),
        *("tokenizer.json", "bpe.codes", "tokenizer_custom.py", "chat_template.jinja", "LICENSE", "README.md"),
        *("additional_chat_templates/tool_use.jinja", "onnx/tokenizer.json", "1_Pooling/config.json", "modules.json"),
        *("2_Dense/model.safetensors", "2_Dense/pytorch_model.bin", "2_Dense/run.py", "sentence_bert_config.json"),
        "config_sentence_transformers.json",
    ]
    assert carried_files(names, MODULES) == (
        "1_Pooling/config.json",
        "2_Dense/model.safetensors",
        "LICENSE",
        "additional_chat_templates/tool_use.jinja",
        "bpe.codes",
        "chat_template.jinja",
        "config_sentence_transformers.json",
        "modules.json",
        "sentence_bert_config.json",
        "tokenizer.json",
    )


def test_a_part_that_has_only_a_pickle_is_refused_by_name() -> None:
    with pytest.raises(CheckpointError, match=r"2_Dense/pytorch_model\.bin.*runs code.*safetensors"):
        carried_files(["modules.json", "2_Dense/config.json", "2_Dense/pytorch_model.bin"], MODULES)


@pytest.mark.parametrize(
    ("modules", "reason"),
    [
        ({}, "no list of modules"),
        ([3], "no list of modules"),
        ([{"path": "../other"}], "names '../other'"),
        ([{"path": "/etc"}], "names '/etc'"),
        ([{"path": 3}], "names 3"),
    ],
)
def test_a_list_of_parts_that_leads_elsewhere_is_refused(modules: object, reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        carried_files(["modules.json"], modules)


@given(st.lists(st.text(max_size=30)), st.text(max_size=12))
def test_what_is_carried_stays_in_its_folder_and_is_no_code(names: list[str], folder: str) -> None:
    try:
        carried = carried_files(names, [{"path": folder}])
    except CheckpointError:
        return
    for name in carried:
        assert name in names
        assert not name.endswith(RUNS)
        assert not Path(name).is_absolute()
        assert not any(part.startswith((".", "-")) for part in name.split("/"))


def test_files_of_a_folder_are_copied_with_their_folders(tmp_path: Path) -> None:
    source = tmp_path / "source"
    for name in ("tokenizer.json", "2_Dense/config.json", "model.safetensors", "weights.bin"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(name)
    (source / "modules.json").write_text(json.dumps(MODULES))
    copy_carried(source, tmp_path / "copy")
    assert carried_in(tmp_path / "copy") == ("2_Dense/config.json", "modules.json", "tokenizer.json")
    assert (tmp_path / "copy/2_Dense/config.json").read_text() == "2_Dense/config.json"
    assert not (tmp_path / "copy/weights.bin").exists()


def test_a_damaged_list_of_parts_is_named(tmp_path: Path) -> None:
    (tmp_path / "modules.json").write_text("[1, ")
    with pytest.raises(CheckpointError, match=r"modules\.json: cannot be read as JSON"):
        carried_in(tmp_path)


def test_a_document_that_no_loader_gets_past_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("[" * 20_000)

    with pytest.raises(CheckpointError, match=r"generation_config\.json: is nested too deeply"):
        check_carried(tmp_path)


def test_what_loaders_pass_over_is_passed_over(tmp_path: Path) -> None:
    (tmp_path / "generation_config.json").write_text("{")
    (tmp_path / "chat_template.jinja").write_text("{{ messages }}")

    check_carried(tmp_path)
