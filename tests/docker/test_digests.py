"""Images are pinned to a digest where they are named, and nothing else of a file changes."""

import re

import pytest

from docker.pin_digests import pinned
from tests.docker.files import COMPOSE_FILES, DOCKERFILES

DIGESTS = ("sha256:" + "a" * 64, "sha256:" + "b" * 64)
EACH = [pytest.param(path.read_text(encoding="utf-8"), id=path.name) for path in [*DOCKERFILES, *COMPOSE_FILES]]


@pytest.mark.parametrize("text", EACH)
def test_every_foreign_image_gets_a_digest_and_the_rest_stays(text: str) -> None:
    asked: list[str] = []

    new = pinned(text, lambda image: asked.append(image) or DIGESTS[0])

    foreign = re.findall(r"^(?:FROM |\s+image: )([^\s$@]+:v?\d[^\s$@]*)", text, re.MULTILINE)
    assert asked == foreign
    assert new.count(f"@{DIGESTS[0]}") == len(foreign)
    assert new.replace(f"@{DIGESTS[0]}", "") == re.sub(r"@sha256:\w+", "", text)


@pytest.mark.parametrize("text", EACH)
def test_a_digest_takes_the_place_of_an_older_one(text: str) -> None:
    older = pinned(text, lambda _: DIGESTS[0])

    assert pinned(older, lambda _: DIGESTS[1]) == pinned(text, lambda _: DIGESTS[1])
