"""`srr hub` and plain folders dropped into the hub."""

import json
import os
from pathlib import Path

import pytest

from service.commands.output import CommandError
from service.hub.errors import InvalidRepoIdError
from tests.service.models import write_model
from worker import hub_commands
from worker.folder_hub import ADOPTING, QUIET_SECONDS, FolderHub


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small model folder."""
    return write_model(tmp_path / "a-model")


def test_an_added_model_is_listed_and_can_be_removed(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data = tmp_path / "data"

    hub_commands.add(model, "org/name", data_dir=data, as_json=False)
    assert "srr submit org/name" in capsys.readouterr().out
    hub_commands.list_models(data_dir=data, as_json=True)
    assert [row["id"] for row in json.loads(capsys.readouterr().out)["models"]] == ["org/name"]
    hub_commands.remove("org/name", data_dir=data, as_json=False)
    capsys.readouterr()
    hub_commands.list_models(data_dir=data, as_json=False)
    assert "empty" in capsys.readouterr().out


def test_an_unknown_name_gets_the_name_that_was_meant(model: Path, tmp_path: Path) -> None:
    hub_commands.add(model, "org/name", data_dir=tmp_path, as_json=True)

    with pytest.raises(CommandError, match="did you mean org/name"):
        hub_commands.remove("org/nam", data_dir=tmp_path, as_json=False)


def test_a_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()

    with pytest.raises(CommandError, match=r"no config\.json"):
        hub_commands.add(tmp_path / "empty", "org/name", data_dir=tmp_path, as_json=False)


def test_a_name_that_no_hub_can_have_is_refused(model: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidRepoIdError):
        hub_commands.add(model, "../etc", data_dir=tmp_path, as_json=False)


def test_a_data_directory_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")

    with pytest.raises(CommandError, match="cannot be used"):
        hub_commands.seed(tmp_path / "file")


def dropped(root: Path, *, age: float) -> float:
    """Put a plain folder at org/name and return a time at which it is `age` seconds old."""
    folder = write_model(root / "org" / "name")
    for entry in (folder, *folder.rglob("*")):
        os.utime(entry, (1000.0, 1000.0))
    return 1000.0 + age


def test_a_plain_folder_in_the_hub_becomes_a_repository(tmp_path: Path) -> None:
    hub = FolderHub(tmp_path)
    now = dropped(tmp_path, age=QUIET_SECONDS)

    assert hub.adopt(now=now) == ("org/name",)
    assert {file.path for file in hub.resolve("org/name").files} >= {"config.json", "model.safetensors"}
    assert hub.adopt(now=now) == ()


def test_a_folder_that_is_still_being_copied_is_left_alone(tmp_path: Path) -> None:
    hub = FolderHub(tmp_path)

    assert hub.adopt(now=dropped(tmp_path, age=QUIET_SECONDS - 0.1)) == ()
    assert (tmp_path / "org" / "name" / "config.json").is_file()


def test_an_import_that_a_crash_interrupted_is_finished(tmp_path: Path) -> None:
    hub = FolderHub(tmp_path)
    write_model(tmp_path / "org" / f"{ADOPTING}name")

    assert hub.adopt(now=0.0) == ("org/name",)
    assert hub.existing("org/name").exists


def test_a_repository_is_never_taken_for_a_plain_folder(model: Path, tmp_path: Path) -> None:
    hub = FolderHub(tmp_path / "hub")
    hub.import_model(model, "org/name")
    (tmp_path / "hub" / "org" / "name" / "config.json").write_text("{}")

    assert hub.adopt(now=2e9) == ()
