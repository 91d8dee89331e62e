"""The table of states, walked at random."""

from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.jobs.errors import InvalidTransitionError, JobError
from service.jobs.schema import TERMINAL_STATES, Job, JobFailure, JobState
from service.jobs.transitions import (
    ALLOWED,
    after_cancel,
    after_claim,
    after_failure,
    after_interruption,
    after_retry,
    move,
)
from service.platform.ids import new_id
from tests.service.submitting import compression

NOW = datetime(2026, 1, 1, tzinfo=UTC)
LOST = JobFailure(code="worker_lost", message="gone", retryable=True)
STEPS = (
    lambda job: after_claim(job, now=NOW),
    lambda job: move(job, JobState.PUBLISHING, now=NOW),
    lambda job: move(job, JobState.SUCCEEDED, now=NOW),
    lambda job: after_failure(job, LOST, now=NOW),
    lambda job: after_interruption(job, now=NOW),
    lambda job: after_cancel(job, now=NOW),
    lambda job: move(job, JobState.CANCELED, now=NOW),
    lambda job: after_retry(job, now=NOW),
)


def queued() -> Job:
    return Job(
        id=new_id("job"),
        state=JobState.QUEUED,
        work=compression(),
        created_at=NOW,
        updated_at=NOW,
    )


@given(st.lists(st.sampled_from(range(len(STEPS))), max_size=30))
def test_attempts_only_grow_and_the_end_is_marked_whatever_happens(choices: list[int]) -> None:
    job = queued()
    for choice in choices:
        before = job
        try:
            job = STEPS[choice](before)
        except JobError:
            continue
        assert job.state is before.state or job.state in ALLOWED[before.state]
        assert job.attempt - before.attempt == (job.state is JobState.QUEUED)
        assert (job.finished_at is not None) == (job.state in TERMINAL_STATES)
        assert before.state is not JobState.SUCCEEDED


@pytest.mark.parametrize("state", JobState)
def test_every_state_has_a_row(state: JobState) -> None:
    assert state in ALLOWED


def test_unknown_step_is_a_bug_in_the_caller() -> None:
    with pytest.raises(InvalidTransitionError, match="queued"):
        move(queued(), JobState.SUCCEEDED, now=NOW)
