"""Submitting, canceling and retrying, as the HTTP edge calls them."""

from datetime import timedelta

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from service.jobs.cancel import cancel
from service.jobs.credentials import CredentialVault
from service.jobs.errors import InvalidJobError, JobNotFoundError
from service.jobs.memory_store import MemoryJobStore
from service.jobs.retry import retry
from service.jobs.schema import JobState, Lease
from service.jobs.submit import check_submission, submit
from service.jobs.work import JobDestination, JobText
from service.platform.errors import InvalidCursorError
from service.platform.ids import new_id
from service.platform.paging import decode_cursor, encode_cursor
from tests.service.submitting import submission, submitted

LEASE = timedelta(seconds=60)


def test_submitted_job_is_queued_and_the_sender_woken() -> None:
    store, woken = MemoryJobStore(), []

    checked = check_submission(submission(tags=("a",)), owner="alice")
    job = submit(checked, store=store, wake=lambda: woken.append(1))

    assert store.get(job.id) == job
    assert (job.state, job.owner, job.attempt, job.tags) == (JobState.QUEUED, "alice", 1, ("a",))
    assert woken == [1]


def test_token_is_stored_sealed() -> None:
    store = MemoryJobStore()
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    job = submitted(store, vault=vault, hub_token="hf_secret12345")
    store.claim(job.id, 1, worker="w", lasts=LEASE)

    sealed = store.credential(Lease(job.id, 1, "w"))

    assert sealed is not None
    assert b"hf_secret" not in sealed.ciphertext
    assert vault.open(sealed) == "hf_secret12345"
    assert "hf_secret" not in job.model_dump_json()


def test_source_cannot_be_its_own_destination() -> None:
    with pytest.raises(InvalidJobError, match="source itself"):
        check_submission(submission(destination=JobDestination(repo_id="ORG/Model")), owner="a")


def test_a_digest_beside_a_text_is_refused() -> None:
    with pytest.raises(InvalidJobError, match="not both"):
        check_submission(submission(calibration=JobText(text="words", sha256="0" * 64)), owner="a")


@pytest.mark.parametrize("tags", [("",), ("x" * 65,), tuple(str(number) for number in range(33))])
def test_unreasonable_tags_are_refused(tags: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError):
        submission(tags=tags)


def test_job_of_somebody_else_does_not_exist() -> None:
    store = MemoryJobStore()
    job = submitted(store, owner="alice")

    with pytest.raises(JobNotFoundError):
        cancel(job.id, owner="bob", store=store)
    with pytest.raises(JobNotFoundError):
        retry(job.id, owner="bob", store=store, wake=lambda: None)
    assert cancel(job.id, owner="alice", store=store).state is JobState.CANCELED


def test_retry_wakes_the_sender_and_may_bring_a_token() -> None:
    store, woken = MemoryJobStore(), []
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    job = submitted(store, owner="alice")
    cancel(job.id, owner=None, store=store)

    again = retry(
        job.id, owner="alice", store=store, wake=lambda: woken.append(1), vault=vault, hub_token="hf_secret12345"
    )

    store.claim(again.id, 2, worker="w", lasts=LEASE)
    assert again.attempt == 2
    assert woken == [1]
    assert store.credential(Lease(again.id, 2, "w")) is not None


def test_ids_are_unique_and_sort_by_time(monkeypatch: pytest.MonkeyPatch) -> None:
    earlier = [new_id("job") for _ in range(100)]
    assert earlier == sorted(earlier)
    monkeypatch.setattr("time.time_ns", lambda: 4_000_000_000_000_000_000)
    later = new_id("job")

    assert len(set(earlier)) == 100
    assert max(earlier) < later
    assert {len(name) for name in earlier} == {30}


@given(st.text(max_size=60))
def test_cursor_is_read_back_or_refused_and_never_breaks(text: str) -> None:
    try:
        assert encode_cursor(decode_cursor(text)).rstrip("=") == text.rstrip("=")
    except InvalidCursorError:
        return


def test_cursor_survives_its_journey() -> None:
    job_id = new_id("job")

    assert decode_cursor(encode_cursor(job_id)) == job_id
