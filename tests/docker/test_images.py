"""The Dockerfiles: pinned, unprivileged, installed under the constraints, and started with commands that exist."""

import re
from pathlib import Path

import pytest

from tests.architecture.settings import every_environment_name
from tests.docker.cli import commands_of_srr
from tests.docker.files import DOCKER, DOCKERFILES, ROOT, default_command, instructions, last

EACH = [pytest.param(path, id=path.name) for path in DOCKERFILES]
PINNED = re.compile(r"^[\w./-]+:\d+\.\d+(\.\d+)?[\w.-]*$")


def _base_images(path: Path) -> list[str]:
    stages = [rest.split() for word, rest in instructions(path) if word == "FROM"]
    names = {stage[2] for stage in stages if len(stage) == 3}
    return [stage[0] for stage in stages if stage[0] not in names]


def test_there_is_an_image_for_each_edge() -> None:
    assert [path.name for path in DOCKERFILES] == ["api.Dockerfile", "worker.Dockerfile"]


@pytest.mark.parametrize("path", EACH)
def test_base_images_are_pinned(path: Path) -> None:
    assert [image for image in _base_images(path) if not PINNED.match(image)] == []


@pytest.mark.parametrize("path", EACH)
def test_the_container_runs_as_an_ordinary_user(path: Path) -> None:
    assert last(path, "USER") == "10001:10001"


@pytest.mark.parametrize("path", EACH)
def test_everything_is_installed_under_the_constraints(path: Path) -> None:
    installs = [rest for word, rest in instructions(path) if word == "RUN" and "pip install" in rest]

    assert installs != []
    assert [rest for rest in installs if "-c constraints.txt" not in rest] == []


@pytest.mark.parametrize("path", EACH)
def test_everything_that_is_copied_is_sent_to_the_builder(path: Path) -> None:
    copied = {
        name
        for word, rest in instructions(path)
        if word == "COPY" and "--from" not in rest
        for name in rest.split()[:-1]
    }
    ignore = (DOCKER / f"{path.name}.dockerignore").read_text(encoding="utf-8").splitlines()

    assert {name for name in copied if f"!{name}" not in ignore} == set()
    assert {name for name in copied if not (ROOT / name).exists()} == set()


@pytest.mark.parametrize("path", EACH)
def test_the_default_command_is_one_srr_knows(path: Path) -> None:
    program, command = default_command(path)

    assert program == "srr"
    assert command in commands_of_srr()


@pytest.mark.parametrize("path", EACH)
def test_settings_in_the_image_exist(path: Path) -> None:
    values = " ".join(rest for word, rest in instructions(path) if word == "ENV")
    names = set(re.findall(r"\b((?:SERVICE|WORKER)_[A-Z_]+)=", values))

    assert names - every_environment_name() == set()


def test_the_api_image_holds_no_torch() -> None:
    installs = " ".join(rest for word, rest in instructions(DOCKER / "api.Dockerfile") if word == "RUN")

    assert "worker" not in installs
    assert '! /venv/bin/python -c "import torch"' in installs


def test_the_api_image_knows_when_it_is_ill() -> None:
    healthcheck = last(DOCKER / "api.Dockerfile", "HEALTHCHECK")

    assert healthcheck is not None
    assert "/livez" in healthcheck
