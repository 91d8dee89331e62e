"""A minute of chaos; `make chaos` is the long one."""

import os
from pathlib import Path

import pytest

from tests.chaos.driver import run
from tests.servers import ServerMissingError, find_postgres, find_redis

pytestmark = pytest.mark.slow
SEED = int(os.environ.get("CHAOS_SEED", "20261128"))


@pytest.fixture(autouse=True)
def servers() -> None:
    """Skip on a laptop without servers, fail in CI."""
    try:
        find_redis()
        find_postgres()
    except ServerMissingError as error:
        (pytest.fail if os.environ.get("CI") else pytest.skip)(str(error))


def test_nothing_is_lost_doubled_damaged_or_left_behind(tmp_path: Path) -> None:
    told: list[str] = []

    outcome = run(tmp_path, seed=SEED, jobs=4, faults=25, seconds=45, tell=told.append)

    assert list(outcome.findings.violations()) == [], "\n".join([*told, outcome.line()])
    assert outcome.injected > 0
