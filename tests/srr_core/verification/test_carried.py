"""An artifact whose tokenizer or other files are not those of its source is found before it is published."""

import json
from pathlib import Path

import pytest
import torch

from srr_core.checkpoint.carried_files import copy_carried
from srr_core.errors import VerificationError
from srr_core.verification.carried import verify_carried
from tests.pico import byte_tokenizer

IDS = torch.arange(40, 60)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = {"default": "{{ messages }}", "rag": "{{ documents }}"}
    tokenizer.save_pretrained(tmp_path / "source")
    (tmp_path / "source/1_Pooling").mkdir()
    (tmp_path / "source/1_Pooling/config.json").write_text('{"pooling_mode_lasttoken": true}')
    (tmp_path / "source/modules.json").write_text('[{"path": "1_Pooling", "type": "Pooling"}]')
    return tmp_path / "source"


@pytest.fixture
def artifact(source: Path, tmp_path: Path) -> Path:
    (tmp_path / "artifact").mkdir()
    copy_carried(source, tmp_path / "artifact")
    return tmp_path / "artifact"


def test_a_faithful_copy_passes_with_its_named_templates(source: Path, artifact: Path) -> None:
    assert (artifact / "additional_chat_templates/rag.jinja").is_file()
    verify_carried(source, artifact, IDS)


@pytest.mark.parametrize("name", ["tokenizer.json", "additional_chat_templates/rag.jinja", "1_Pooling/config.json"])
def test_a_file_that_is_missing_or_changed_is_named(name: str, source: Path, artifact: Path) -> None:
    (artifact / name).write_text("{}")
    with pytest.raises(VerificationError, match=name):
        verify_carried(source, artifact, IDS)
    (artifact / name).unlink()
    with pytest.raises(VerificationError, match=name):
        verify_carried(source, artifact, IDS)


def test_a_tokenizer_that_loads_otherwise_beside_the_artifact_is_found(source: Path, artifact: Path) -> None:
    # A file that the source has not, and that loaders prefer to what is in the copied one.
    template = {"chat_template": "{{ other }}"}
    (artifact / "chat_template.json").write_text(json.dumps(template))
    (artifact / "chat_template.jinja").unlink()
    (source / "chat_template.jinja").unlink()
    (artifact / "additional_chat_templates/more.jinja").write_text("{{ more }}")
    with pytest.raises(VerificationError, match="other chat templates"):
        verify_carried(source, artifact, IDS)
