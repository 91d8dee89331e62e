"""The compose files: valid by the published schema, started with commands and settings that exist, and kept safe."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.architecture.settings import every_environment_name
from tests.docker.cli import commands_of_srr
from tests.docker.files import COMPOSE_FILES, ROOT, compose

EACH_FILE = [pytest.param(path, id=path.name) for path in COMPOSE_FILES]
OURS = ("api", "worker")
PINNED = re.compile(r"^[\w./-]+:v?\d+\.\d+(\.\d+)?[\w.-]*(@sha256:[0-9a-f]{64})?$")


def _service(name: str) -> dict[str, Any]:
    return dict(compose()["services"][name])


@pytest.mark.parametrize("path", EACH_FILE)
def test_the_file_is_valid_by_the_compose_specification(path: Path) -> None:
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]

    result = subprocess.run([*command, str(path)], capture_output=True, text=True, check=False, env=_without_colour())

    assert result.returncode == 0, result.stdout + result.stderr


def test_the_schema_would_notice_a_misspelt_key(tmp_path: Path) -> None:
    broken = tmp_path / "docker-compose.yml"
    broken.write_text("services: {api: {imagee: python}}\n")
    command = [str(Path(sys.executable).with_name("check-jsonschema")), "--builtin-schema", "vendor.compose-spec"]

    result = subprocess.run([*command, str(broken)], capture_output=True, text=True, check=False, env=_without_colour())

    assert result.returncode != 0


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_srr_knows(name: str) -> None:
    program, command, *_ = _service(name)["command"]

    assert program == "srr"
    assert command in commands_of_srr()


@pytest.mark.parametrize("name", OURS)
def test_our_services_set_only_settings_that_exist(name: str) -> None:
    names = {key for key in _service(name)["environment"] if key.startswith(("SERVICE_", "WORKER_"))}

    assert names != set()
    assert names - every_environment_name() == set()


@pytest.mark.parametrize("name", OURS)
def test_our_images_are_built_from_files_that_exist(name: str) -> None:
    assert (ROOT / _service(name)["build"]["dockerfile"]).is_file()


@pytest.mark.parametrize("name", OURS)
def test_our_services_are_confined(name: str) -> None:
    service = _service(name)

    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OURS)
def test_our_services_wait_for_healthy_servers(name: str) -> None:
    waits = _service(name)["depends_on"]

    assert {server: wait["condition"] for server, wait in waits.items()} == {
        "postgres": "service_healthy",
        "redis": "service_healthy",
    }


@pytest.mark.parametrize("path", EACH_FILE)
def test_every_foreign_image_is_pinned(path: Path) -> None:
    images = {name: service["image"] for name, service in compose(path)["services"].items() if name not in OURS}

    assert {name: image for name, image in images.items() if not PINNED.match(image)} == {}


def test_redis_loses_no_message() -> None:
    command = " ".join(_service("redis")["command"])

    assert "--appendonly yes" in command
    assert "--maxmemory-policy noeviction" in command


def test_only_the_api_is_reachable_and_only_from_this_machine() -> None:
    ports = {name: service["ports"] for name, service in compose()["services"].items() if "ports" in service}

    assert ports == {"api": ["${SRR_BIND:-127.0.0.1}:${SRR_PORT:-8000}:8000"]}


def test_both_edges_look_at_the_same_hubs() -> None:
    api, worker = _service("api")["environment"], _service("worker")["environment"]

    assert api["SERVICE_SOURCE_HUB"] == worker["SERVICE_SOURCE_HUB"]
    assert api["SERVICE_DESTINATION_HUB"] == worker["SERVICE_DESTINATION_HUB"]


def test_people_sign_in_where_others_can_reach_the_api() -> None:
    assert _service("api")["environment"]["SERVICE_SIGN_IN"] != "none"


def test_no_secret_is_written_down() -> None:
    values = [
        str(value)
        for service in compose()["services"].values()
        for key, value in service.get("environment", {}).items()
        if re.search(r"PASSWORD|SECRET|KEYS|DATABASE_URL", key)
    ]

    assert values != []
    assert [value for value in values if ":?" not in value] == []


def _without_colour() -> dict[str, str]:
    return {**os.environ, "NO_COLOR": "1"}
