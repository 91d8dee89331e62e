"""Texts that people read keep to the house English of CONTRIBUTING.md."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

AVOIDED = {
    r"\b(?:is|are|does|do|can|will) no more\b": "no longer",
    r"\bwhat (?:has |had )?(?:become|becomes|became) of\b": "status or outcome",
    r"\bfor so long\b": "the number, with its unit",
    r"\bstand(?:s)? in the way\b": "Ready to submit, or the obstacle",
    r"\b(?:tell|tells|told) of\b": "notify, report or list",
    r"\btaken up again\b": "requeued",
    r"\blease (?:runs|ran) out\b": "the lease expires",
}
"""Phrases that read like a translation, and what to write instead."""
READ_BY_PEOPLE = ("*.md", ".env.example", "service/**/*.py", "worker/**/*.py", "srr_core/**/*.py", "service/**/*.html")
NOT_OURS = {"LICENSE", "CONTRIBUTING.md"}
"""The page that lists the phrases is not held to them."""


def texts() -> Iterator[Path]:
    for pattern in READ_BY_PEOPLE:
        yield from (path for path in ROOT.glob(pattern) if path.name not in NOT_OURS)


@pytest.mark.parametrize("phrase", AVOIDED)
def test_no_text_uses_a_phrase_that_the_house_avoids(phrase: str) -> None:
    avoided = re.compile(phrase, re.IGNORECASE)

    found = [
        f"{path.relative_to(ROOT)}:{number}"
        for path in texts()
        for number, line in enumerate(path.read_text("utf-8").splitlines(), start=1)
        if avoided.search(line)
    ]

    assert found == [], f"write {AVOIDED[phrase]} instead"
