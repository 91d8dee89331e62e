"""The Dockerfiles: pinned, unprivileged, installed from locks with hashes, and started with commands that exist."""

import re
from pathlib import Path

import pytest

from docker.write_locks import images, pins
from tests.architecture.settings import every_environment_name
from tests.docker.cli import commands_of_srr
from tests.docker.files import DOCKER, DOCKERFILES, ROOT, default_command, instructions, last

EACH = [pytest.param(path, id=path.name) for path in DOCKERFILES]
PINNED = re.compile(r"^[\w./-]+:\d+\.\d+(\.\d+)?[\w.-]*(@sha256:[0-9a-f]{64})?$")


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


def _installations(path: Path) -> list[str]:
    runs = [rest for word, rest in instructions(path) if word == "RUN"]
    return [command for rest in runs for command in rest.split("&&") if "pip install" in command]


def _is_checked(command: str) -> bool:
    """Whether every file of an installation is one that a lock has the hash of, or none is fetched at all."""
    return "--no-deps" in command and ("--require-hashes" in command or "--no-index" in command)


def test_the_api_image_fetches_nothing_without_its_hash() -> None:
    installations = _installations(DOCKER / "api.Dockerfile")

    assert len(installations) == 3
    assert [command for command in installations if not _is_checked(command)] == []


def test_the_worker_image_fetches_only_what_torch_needs_without_its_hash() -> None:
    installations = _installations(DOCKER / "worker.Dockerfile")

    unchecked = [command.split()[-3:] for command in installations if not _is_checked(command)]

    assert len(installations) == 4
    assert unchecked == [["-c", "constraints.txt", "torch"]]


@pytest.mark.parametrize("path", EACH)
def test_an_image_installs_its_own_lock_and_looks_whether_anything_is_missing(path: Path) -> None:
    runs = " ".join(rest for word, rest in instructions(path) if word == "RUN")

    assert re.findall(r"-r (\S+)", runs) == ["docker/build.lock", f"docker/{path.stem}.lock"]
    assert "/venv/bin/pip check" in runs


@pytest.mark.parametrize("path", EACH)
def test_the_python_of_an_image_is_the_one_its_lock_is_for(path: Path) -> None:
    version = images()[path.stem].python

    assert _base_images(path)[0].startswith((f"python:{version}-slim-bookworm", "nvidia/cuda:13.0.0-base-ubuntu24.04"))


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

    assert "torch" not in pins((DOCKER / "api.lock").read_text(encoding="utf-8"))
    assert '! /venv/bin/python -c "import torch"' in installs


def test_the_api_image_knows_when_it_is_ill() -> None:
    healthcheck = last(DOCKER / "api.Dockerfile", "HEALTHCHECK")

    assert healthcheck is not None
    assert "/livez" in healthcheck
