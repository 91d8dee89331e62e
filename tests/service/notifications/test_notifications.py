"""From a change of a job to messages: tried again, given up, sent once more by hand."""

import threading
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

from cryptography.fernet import Fernet

from service.api.outgoing import JobMessage
from service.jobs.credentials import CredentialVault
from service.jobs.schema import Lease
from service.notifications.delivering import RETRY_AFTER, send_messages, write_messages
from service.notifications.endpoints import (
    change_endpoint,
    resend_delivery,
    rotate_secret,
)
from service.notifications.judging import DISABLE_AFTER
from service.notifications.messages import body, mail, slack_body
from service.notifications.schema import Delivery, DeliveryState, Endpoint, EndpointRules
from service.notifications.sending import Outcome
from service.notifications.store import NotificationStore
from tests.service.notifications.conftest import LEASE, Office
from tests.service.submitting import submitted


def test_end_of_a_job_is_told_once_to_its_owner(office: Office) -> None:
    mine, other = office.endpoint(), office.endpoint(owner="bob")
    job = office.run_job()

    assert office.deliver() == 1
    assert office.deliver() == 0

    (delivery,) = office.store.deliveries(mine.endpoint.id)
    assert (delivery.type, delivery.state, delivery.attempts) == ("job.succeeded", DeliveryState.DELIVERED, 1)
    assert delivery.payload["data"]["job_id"] == job.id
    assert delivery.payload["data"]["url"] == f"https://srr.example/v1/jobs/{job.id}"
    assert delivery.payload["data"]["commit_url"] == "https://hub/ours/model/b"
    assert office.store.deliveries(other.endpoint.id) == []


def test_every_change_is_told_to_those_who_ask_for_it(office: Office) -> None:
    endpoint = office.endpoint(types=("job.queued", "job.running", "job.publishing", "job.succeeded")).endpoint
    office.run_job()
    office.deliver()

    types = [delivery.type for delivery in reversed(office.store.deliveries(endpoint.id))]
    assert types == ["job.queued", "job.running", "job.publishing", "job.succeeded"]


def test_checkpoints_of_one_round_are_one_message_about_the_latest(office: Office) -> None:
    asked, other = office.endpoint(types=("job.checkpoint",)).endpoint, office.endpoint().endpoint
    job = submitted(office.jobs, owner="alice")
    lease = Lease(job.id, 1, "w")
    office.jobs.claim(job.id, 1, worker="w", lasts=LEASE)
    for step in (10, 20):
        told = {"cell": 0, "step": step, "num_bytes": 5, "scores": {"loss": 1.5}, "is_best": step == 20}
        office.jobs.append_event(lease, "checkpoint", told)
    office.deliver()
    office.jobs.append_event(lease, "checkpoint", {"cell": 0, "step": 30})
    office.deliver()

    second, first = office.store.deliveries(asked.id)
    message = JobMessage.model_validate(first.payload)
    assert (message.type, message.data.state) == ("job.checkpoint", "running")
    assert message.data.checkpoint is not None
    assert (message.data.checkpoint.step, message.data.checkpoint.is_best) == (20, True)
    assert message.data.checkpoint.url == f"https://srr.example/v1/jobs/{job.id}/checkpoints"
    assert second.payload["data"]["checkpoint"]["step"] == 30
    assert "checkpoint at step 20, the best so far." in slack_body(first.payload)
    assert mail(first.payload)[0] == "SRR: org/model checkpoint"
    assert office.store.deliveries(other.id) == []


def test_several_writers_at_once_write_each_message_once(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    [office.run_job() for _ in range(5)]
    gate = threading.Barrier(4)

    def write() -> None:
        gate.wait()
        write_messages(office.context)
        send_messages(office.context)

    threads = [threading.Thread(target=write) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    office.deliver()

    assert len(office.store.deliveries(endpoint.id)) == 5
    assert len(office.sent) == 5


def test_burst_is_sent_in_one_round(office: Office) -> None:
    endpoint = office.endpoint(types=("job.queued", "job.running", "job.publishing", "job.succeeded")).endpoint
    [office.run_job() for _ in range(10)]

    assert office.deliver() == 40
    assert office.store.counts() == {"pending": 0, "delivered": 40, "failed": 0}
    assert len(office.store.deliveries(endpoint.id)) == 40


def test_refused_message_is_tried_again_for_days_and_then_given_up(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    office.statuses = [500] * 20
    began = office.now

    office.deliver()
    for wait in RETRY_AFTER:
        office.now += wait - timedelta(seconds=1)
        assert send_messages(office.context) == 0
        assert len(office.sent) < 20
        office.now += timedelta(seconds=1)
        send_messages(office.context)

    (delivery,) = office.store.deliveries(endpoint.id)
    assert (delivery.state, delivery.attempts) == (DeliveryState.FAILED, len(RETRY_AFTER) + 1)
    assert [attempt.status for attempt in office.store.attempts(delivery.id)] == [500] * (len(RETRY_AFTER) + 1)
    assert office.now - began > timedelta(days=3)
    assert len({message for message, _ in office.sent}) == 1


def test_message_that_failed_can_be_sent_again_by_hand(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    office.statuses = [410]
    office.deliver()
    (failed,) = office.store.deliveries(endpoint.id)
    assert failed.state is DeliveryState.FAILED
    office.switch_on(endpoint)

    resend_delivery(endpoint.id, failed.id, owner="alice", store=office.store, clock=lambda: office.now)
    send_messages(office.context)

    assert office.store.delivery(endpoint.id, failed.id).state is DeliveryState.DELIVERED
    assert [attempt.number for attempt in office.store.attempts(failed.id)] == [1, 2]


def test_endpoint_that_is_gone_is_switched_off_until_it_is_switched_on(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    office.statuses = [410]
    office.deliver()

    off = office.store.get(endpoint.id)
    assert (off.enabled, off.disabled_reason) == (False, "it answered 410 Gone")
    office.run_job()
    assert office.deliver() == 0
    rules = EndpointRules(url=endpoint.url)
    on = change_endpoint(
        endpoint.id, rules, owner="alice", store=office.store, resolve=lambda host, port: ["93.184.215.14"]
    )
    assert (on.enabled, on.disabled_reason, on.failing_since) == (True, None, None)


def test_messages_to_an_endpoint_that_is_off_wait_until_it_is_on(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.statuses = [500, 410]
    office.run_job()
    office.deliver()
    office.run_job()
    office.deliver()

    office.now += timedelta(days=1)
    send_messages(office.context)
    assert len(office.sent) == 2
    office.switch_on(endpoint)
    assert send_messages(office.context) == 1
    assert office.sent[2] == office.sent[0]


def test_message_taken_just_before_its_endpoint_went_off_is_put_back(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    write_messages(office.context)

    class Interrupted(NotificationStore):
        def claim_due(self, *, now: datetime, until: datetime, limit: int) -> Sequence[Delivery]:
            taken = super().claim_due(now=now, until=until, limit=limit)
            self.replace_rules(endpoint.id, endpoint.model_copy(update={"enabled": False}), forgive=False)
            return taken

    send_messages(replace(office.context, store=Interrupted(office.store.engine)))

    (waiting,) = office.store.deliveries(endpoint.id)
    assert office.sent == []
    assert (waiting.state, waiting.attempts) == (DeliveryState.PENDING, 0)
    office.switch_on(endpoint)
    assert send_messages(office.context) == 1


def test_switched_off_endpoint_is_told_by_the_other_endpoints_of_its_owner(office: Office) -> None:
    gone = office.endpoint(description="ours & theirs").endpoint
    office.run_job()
    write_messages(office.context)
    others = [office.endpoint(types=("job.queued",)).endpoint, office.endpoint(enabled=False).endpoint]
    stranger = office.endpoint(owner="bob").endpoint
    office.statuses = [410]

    send_messages(office.context)
    send_messages(office.context)

    (notice,) = office.store.deliveries(others[0].id)
    assert (notice.type, notice.state) == ("endpoint.disabled", DeliveryState.DELIVERED)
    assert notice.payload["data"] == {
        "endpoint_id": gone.id,
        "description": "ours & theirs",
        "reason": "it answered 410 Gone",
        "url": f"https://srr.example/v1/webhook-endpoints/{gone.id}",
        "page": "https://srr.example/webhooks",
    }
    assert office.store.deliveries(others[1].id) == office.store.deliveries(stranger.id) == []
    assert "ours &amp; theirs" in slack_body(notice.payload)
    assert "ours & theirs" in mail(notice.payload)[1]
    assert gone.url not in body(notice.payload)


def test_notice_that_is_refused_switches_nothing_off(office: Office) -> None:
    office.endpoint()
    office.run_job()
    write_messages(office.context)
    carriers = [office.endpoint(types=("job.queued",)).endpoint for _ in range(2)]
    office.statuses = [410, 410, 410]

    send_messages(office.context)
    office.now += timedelta(hours=1)
    send_messages(office.context)

    assert [office.store.get(one.id).enabled for one in carriers] == [True, True]
    assert [one.state for one in office.store.deliveries(carriers[0].id)] == [DeliveryState.FAILED]
    assert len(office.sent) == 3


def test_judgement_leaves_alone_what_its_owner_changed_during_the_try(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()

    def moved(url: str) -> Callable[..., Outcome]:
        def send(*_: object) -> Outcome:
            office.switch_on(endpoint, url=url, description="changed")
            return Outcome(410, "answered 410", 0.01)

        return send

    write_messages(office.context)
    send_messages(replace(office.context, send=moved(endpoint.url)))
    same_place = office.store.get(endpoint.id)
    office.switch_on(endpoint)
    office.run_job()
    write_messages(office.context)
    send_messages(replace(office.context, send=moved("https://example.org/elsewhere")))
    elsewhere = office.store.get(endpoint.id)

    assert (same_place.enabled, same_place.description) == (False, "changed")
    assert (elsewhere.enabled, elsewhere.url) == (True, "https://example.org/elsewhere")


def test_another_url_starts_without_the_failures_of_the_old_one(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    office.statuses = [500]
    office.deliver()
    assert office.store.get(endpoint.id).failing_since is not None

    office.switch_on(endpoint, url="https://example.org/new")

    assert office.store.get(endpoint.id).failing_since is None


def test_message_that_breaks_its_sender_does_not_keep_the_others_from_theirs(office: Office) -> None:
    broken, working = office.endpoint().endpoint, office.endpoint().endpoint
    office.run_job()
    write_messages(office.context)

    def send(endpoint: Endpoint, delivery: Delivery, secrets: Sequence[str], now: datetime) -> Outcome:
        if endpoint.id == broken.id:
            raise RuntimeError("a bug")
        return office.send(endpoint, delivery, secrets, now)

    assert send_messages(replace(office.context, send=send)) == 1
    assert office.store.deliveries(working.id)[0].state is DeliveryState.DELIVERED


def test_message_whose_secret_cannot_be_opened_is_a_failed_try(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.run_job()
    write_messages(office.context)
    other_key = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))

    send_messages(replace(office.context, vault=other_key))

    (delivery,) = office.store.deliveries(endpoint.id)
    assert [attempt.status for attempt in office.store.attempts(delivery.id)] == [None]
    assert office.sent == []


def test_endpoint_that_took_nothing_for_days_is_switched_off_and_one_success_forgives(office: Office) -> None:
    endpoint = office.endpoint().endpoint
    office.statuses = [500, 200, 500, 500]
    office.run_job()
    office.deliver()
    assert office.store.get(endpoint.id).failing_since is not None
    office.now += timedelta(minutes=1)
    send_messages(office.context)
    assert office.store.get(endpoint.id).failing_since is None

    office.run_job()
    office.deliver()
    office.now += DISABLE_AFTER
    send_messages(office.context)

    assert office.store.get(endpoint.id).enabled is False


def test_sender_that_dies_leaves_its_message_to_be_taken_again(office: Office) -> None:
    office.endpoint()
    office.run_job()
    write_messages(office.context)
    office.store.claim_due(now=office.now, until=office.now + timedelta(minutes=2), limit=10)

    assert send_messages(office.context) == 0
    office.now += timedelta(minutes=2)
    assert send_messages(office.context) == 1


def test_replaced_secret_signs_for_a_day_beside_the_new_one(office: Office) -> None:
    made = office.endpoint()
    new = rotate_secret(
        made.endpoint.id, owner="alice", store=office.store, vault=office.vault, clock=lambda: office.now
    )

    office.run_job()
    office.deliver()
    office.now += timedelta(hours=25)
    office.run_job()
    office.deliver()

    assert [list(secrets) for _, secrets in office.sent] == [[new, made.secret], [new]]
