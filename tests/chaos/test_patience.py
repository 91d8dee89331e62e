"""A slow job is waited for, one that stands still is not."""

from tests.chaos.patience import Patience
from tests.chaos.records import Seen


def _job(attempt: int) -> dict[str, Seen]:
    return {"job_1": Seen("job_1", "running", None, attempt)}


def test_a_run_waits_while_its_jobs_move() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    assert patience.lasts(_job(1))

    now[0] = 9
    moved = patience.lasts(_job(2))
    now[0] = 18

    assert moved
    assert patience.lasts(_job(2))


def test_a_run_ends_when_its_jobs_stand_still() -> None:
    now = [0.0]
    patience = Patience(10, clock=lambda: now[0])
    assert patience.lasts(_job(1))

    now[0] = 10

    assert not patience.lasts(_job(1))
