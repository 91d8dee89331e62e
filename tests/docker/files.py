"""The compose files and Dockerfiles as data."""

import json
import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
COMPOSE = ROOT / "docker-compose.yml"
DOCKER = ROOT / "docker"
DOCKERFILES = sorted(DOCKER.glob("*.Dockerfile"))
COMPOSE_FILES = [COMPOSE, *sorted(DOCKER.glob("compose.*.yml"))]


def compose(path: Path = COMPOSE) -> dict[str, Any]:
    """Return a compose file, anchors and merges resolved, variables not."""
    return dict(yaml.safe_load(path.read_text(encoding="utf-8")))


def instructions(path: Path) -> list[tuple[str, str]]:
    """Return (word, rest) of each instruction of a Dockerfile, continuation lines joined, comments left out."""
    lines = [line for line in path.read_text(encoding="utf-8").splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n", " ", "\n".join(lines))
    words = [line.split(maxsplit=1) for line in joined.splitlines() if line.strip()]
    return [(word.upper(), rest.strip()) for word, rest in words]


def last(path: Path, word: str) -> str | None:
    """Return what follows the last instruction with this word, which is the one that counts."""
    found = [rest for name, rest in instructions(path) if name == word]
    return found[-1] if found else None


def health_command(path: Path) -> list[str]:
    """Return the command of an image's HEALTHCHECK, which must be in its JSON form."""
    check = last(path, "HEALTHCHECK")
    if check is None:
        raise ValueError(f"{path.name} has no HEALTHCHECK")
    return list(json.loads(check.partition(" CMD ")[2]))


def default_command(path: Path) -> list[str]:
    """Return the CMD of an image, which must be in its JSON form."""
    command = last(path, "CMD")
    if command is None:
        raise ValueError(f"{path.name} has no CMD")
    return list(json.loads(command))
