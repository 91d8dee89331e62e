"""A minute of chaos; `make chaos` is the long one."""

import os
from pathlib import Path

import pytest

from tests.chaos.driver import run

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("CHAOS_SEED", "20261128"))


def test_nothing_is_lost_doubled_damaged_or_left_behind(tmp_path: Path) -> None:
    told: list[str] = []

    outcome = run(tmp_path, seed=SEED, jobs=4, faults=25, seconds=45, tell=told.append)

    assert list(outcome.findings.violations()) == [], "\n".join([*told, outcome.line()])
    assert outcome.injected > 0
