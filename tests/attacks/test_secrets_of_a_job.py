"""The process of a job holds no secret but the one it needs: not in its environment, not on its command line."""

import os
from pathlib import Path

import pytest

from tests.worker.supervised.conftest import Bench
from worker.supervisor import _WITHHELD

PLANTED = {name: f"planted-{name.lower()}" for name in _WITHHELD}


def test_no_secret_is_in_the_environment_of_a_job(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    [monkeypatch.setenv(name, value) for name, value in PLANTED.items()]
    job = bench.submit()

    bench.supervisor("tell_environment").run(job.id, job.attempt)

    told = Path(bench.scratch.parent / "environment").read_bytes()
    assert b"HF_HUB_DISABLE_IMPLICIT_TOKEN" in told
    assert b"planted-" not in told
    assert {name for name in os.environ if name in PLANTED} == set(PLANTED)
