"""Whoever sends to a hook: without the secret, with an old one, with somebody else's, or with the right one again."""

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest

from service.jobs.schema import JobFilter, SealedSecret
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.rights import WatchRights
from service.releases.watches import SECRET_EXPIRES
from tests.attacks.conftest import WORKERS_TOKEN, Installation
from tests.service.models import model_files
from tests.service.releases.conftest import payload

AT_ONCE = 30
SHA = "a" * 40


def watch(installation: Installation, owner: str) -> tuple[str, str]:
    """Return the id and the secret of a new watch of everything of acme."""
    rules = {"name": owner, "pattern": "acme/*", "recipes": ["lqer"], "destination": "acme/{name}-{recipe}"}
    made = installation.http.post("/v1/watches", json=rules, headers=installation.bearer(owner)).json()
    return made["id"], _secret(installation, made["id"])


def deliver(installation: Installation, watch_id: str, secret: str | None, body: Any, **headers: str) -> Any:
    """Send a delivery as the Hub does."""
    given = headers if secret is None else headers | {"X-Webhook-Secret": secret}
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return installation.http.post(
        f"/v1/hooks/huggingface/{watch_id}", content=content, headers=given | {"Content-Type": "application/json"}
    )


def test_no_other_word_is_the_secret(installation: Installation) -> None:
    watch_id, secret = watch(installation, "ann")
    _, mallorys = watch(installation, "mallory")
    key = installation.bearer("ann")
    words = (None, "", " ", secret[:-1], f"{secret}x", secret.swapcase(), f" {secret[1:]}", mallorys, "null", "None")

    answers = [deliver(installation, watch_id, word, payload("acme/new", SHA)) for word in words]
    # A key is no secret of a watch, nor is the secret in an address, which ends up in logs.
    answers.append(deliver(installation, watch_id, None, payload("acme/new", SHA), **key))
    answers.append(deliver(installation, f"{watch_id}?secret={secret}", None, payload("acme/new", SHA)))

    assert {(answer.status_code, answer.json()["code"]) for answer in answers} == {(403, "hook_forbidden")}
    assert list(installation.watches.releases(watch_id)) == []


def test_a_watch_that_is_not_there_and_a_wrong_secret_are_told_alike(installation: Installation) -> None:
    watch_id, secret = watch(installation, "ann")
    absent = f"{watch_id[:-4]}0000"

    wrong, none = (deliver(installation, one, secret[:-1], {}) for one in (watch_id, absent))

    differing = {"instance", "request_id"}
    assert wrong.status_code == none.status_code == 403
    assert {k: v for k, v in wrong.json().items() if k not in differing} == {
        k: v for k, v in none.json().items() if k not in differing
    }


def test_the_secret_of_a_watch_that_was_deleted_opens_nothing(installation: Installation) -> None:
    watch_id, secret = watch(installation, "ann")
    installation.http.delete(f"/v1/watches/{watch_id}", headers=installation.bearer("ann"))

    assert deliver(installation, watch_id, secret, payload("acme/new", SHA)).status_code == 403


def test_one_delivery_sent_thirty_times_at_once_is_one_release(installation: Installation) -> None:
    watch_id, secret = watch(installation, "ann")
    ready = Barrier(AT_ONCE)

    def send(_: int) -> Any:
        ready.wait()
        return deliver(installation, watch_id, secret, payload("acme/new", SHA))

    with ThreadPoolExecutor(AT_ONCE) as pool:
        answers = list(pool.map(send, range(AT_ONCE)))

    assert {answer.status_code for answer in answers} == {202}
    assert sum(answer.json()["new_releases"] for answer in answers) == 1
    assert len(installation.watches.releases(watch_id)) == 1


def test_a_delivery_replayed_after_its_job_makes_no_second(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    watch_id, secret = watch(installation, "ann")
    released = payload(
        "acme/new", installation.hub.add_model("acme/new", model_files(card="---\nlicense: mit\n---\n")).oid
    )
    for _ in range(3):
        deliver(installation, watch_id, secret, released)
        _act(installation)

    assert len(installation.store.list(JobFilter(owner="ann"), limit=10).jobs) == 1


@pytest.mark.parametrize("told", ["acme/secret", "alice/secret", "acme/absent", "acme/../alice/secret", "acme/new"])
def test_the_right_secret_makes_nobody_believe_what_is_said(installation: Installation, told: str) -> None:
    installation.hub.add_model("acme/secret", model_files(), private=True)
    installation.hub.add_model("alice/secret", model_files(), private=True)
    installation.hub.add_model("acme/new", model_files())
    watch_id, secret = watch(installation, "mallory")

    known = installation.hub.state.repositories.get(told)

    deliver(installation, watch_id, secret, payload(told, SHA if known is None else known.head.oid))
    _act(installation)

    # What is not there, or seen by the operator's token alone, or goes where nothing is lent, becomes no job.
    assert list(installation.store.list(JobFilter(), limit=10).jobs) == []
    asked = [request for request in installation.hub.requests if told in request.path]
    assert not any(WORKERS_TOKEN in request.headers.get("authorization", "") for request in asked)


@pytest.mark.parametrize(
    "body", [b"", b"[" * 100_000, b'{"a":' * 50_000, b"\xff\xfe", b"0" * 2_000_000, b'{"event":"\\ud800"}']
)
def test_nonsense_with_the_right_secret_is_answered_and_forgotten(installation: Installation, body: bytes) -> None:
    watch_id, secret = watch(installation, "ann")

    answer = deliver(installation, watch_id, secret, body)

    assert (answer.status_code, answer.json()) == (202, {"new_releases": 0})


def _secret(installation: Installation, watch_id: str) -> str:
    sealed = installation.watches.secret(watch_id)
    assert sealed is not None
    return installation.vault.open(SealedSecret(ciphertext=sealed, expires_at=SECRET_EXPIRES))


def _act(installation: Installation) -> None:
    services = installation.http.app.state.services  # type: ignore[attr-defined]
    rights = WatchRights(installation.tenancy, WORKERS_TOKEN, publishes_to_folder=False)
    act_on_releases(
        ReleaseContext(installation.watches, installation.store, services.hubs.source, lambda: None, "1", rights)
    )
