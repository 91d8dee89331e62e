"""The worker's Hub token belongs to the operator: with an API key alone nobody reads or writes what it could, by
whatever kind of work."""

import json
from typing import Any

import pytest

from service.jobs.schema import JobState
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.intake import take_delivery
from service.releases.poller import poll_watches
from service.releases.rights import WatchRights
from tests.attacks.conftest import WORKERS_TOKEN, Installation
from tests.attacks.kinds import KINDS
from tests.service.models import artifact_files, model_files
from tests.service.releases.conftest import payload

SECRET = {"config.json": model_files()["config.json"], "model.safetensors": model_files()["model.safetensors"]}


ROWS = {"train.jsonl": b'{"prompt": "say", "completion": "well"}\n'}
each_kind = pytest.mark.parametrize("kind", KINDS)


@each_kind
def test_a_key_without_a_loan_publishes_nowhere_with_the_workers_token(installation: Installation, kind: str) -> None:
    refused = installation.submit(installation.bearer("mallory"), "org/model", "acme/out", kind=kind)

    assert (refused.status_code, refused.json()["code"]) == (403, "hub_token_needed")
    assert refused.json()["errors"][0]["field"] == "body.destination.repo_id"


@each_kind
def test_a_job_that_was_queued_anyhow_does_not_publish_without_a_loan(installation: Installation, kind: str) -> None:
    installation.tenancy.lend("mallory", "acme")
    job_id = installation.submit(installation.bearer("mallory"), "org/model", "acme/out", kind=kind).json()["id"]
    installation.tenancy.take_back("mallory", "acme")

    job = installation.work(job_id)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "hub_token_needed")
    assert "acme/out" not in installation.hub.state.repositories


def test_within_a_loan_a_job_is_published_and_remembered(installation: Installation) -> None:
    installation.tenancy.lend("ann", "ACME")

    job = installation.work(installation.submit(installation.bearer("ann"), "org/model", "acme/out").json()["id"])

    assert job.state is JobState.SUCCEEDED
    assert installation.tenancy.publisher("Acme/Out") == "ann"


@each_kind
def test_an_artifact_of_another_tenant_is_not_replaced(installation: Installation, kind: str) -> None:
    for owner in ("ann", "bob"):
        installation.tenancy.lend(owner, "acme")
    installation.hub.add_model("acme/out", model_files())
    installation.tenancy.publish("acme/out", "ann", is_allowed=True)

    refused = installation.submit(installation.bearer("bob"), "org/model", "ACME/out", kind=kind)

    assert (refused.status_code, refused.json()["code"]) == (409, "destination_taken")
    assert "ann" not in refused.text


@each_kind
def test_of_two_tenants_who_race_for_a_name_one_gets_it(installation: Installation, kind: str) -> None:
    for owner in ("ann", "bob"):
        installation.tenancy.lend(owner, "acme")
    late = installation.submit(installation.bearer("bob"), "org/model", "acme/out", kind=kind).json()["id"]
    installation.work(installation.submit(installation.bearer("ann"), "org/model", "acme/out").json()["id"])
    before = installation.hub.repository("acme/out").head.oid

    job = installation.work(late)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "destination_taken")
    assert installation.hub.repository("acme/out").head.oid == before


@each_kind
def test_what_the_operator_put_there_is_not_replaced(installation: Installation, kind: str) -> None:
    installation.tenancy.lend("ann", "acme")
    installation.hub.add_model("acme/precious", model_files())

    refused = installation.submit(installation.bearer("ann"), "org/model", "acme/precious", kind=kind)

    assert (refused.status_code, refused.json()["code"]) == (409, "destination_taken")


@each_kind
@pytest.mark.parametrize("lent", [(), ("acme",)])
def test_a_private_model_that_a_key_cannot_see_is_never_read(
    installation: Installation, lent: tuple[str, ...], kind: str
) -> None:
    installation.hub.add_model("alice/secret", SECRET, private=True)
    for namespace in lent:
        installation.tenancy.lend("mallory", namespace)
    header = installation.bearer("mallory")

    answers = [
        installation.http.post("/v1/models:inspect", json={"model_id": "alice/secret"}, headers=header),
        installation.submit(header, "alice/secret", "acme/out", kind=kind),
    ]

    assert [answer.json()["code"] for answer in answers] == ["model_not_found", "model_not_found"]


@pytest.mark.parametrize("destination", [None, "acme/out"])
def test_a_private_model_is_no_reference_for_whoever_cannot_see_it(
    installation: Installation, destination: str | None
) -> None:
    installation.hub.add_model("alice/secret", SECRET, private=True)
    installation.tenancy.lend("mallory", "acme")
    reference = {"model_id": "alice/secret"}

    header = installation.bearer("mallory")
    refused = installation.submit(header, "org/model", destination, kind="evaluate", reference=reference)

    assert (refused.status_code, refused.json()["code"]) == (422, "model_not_found")
    assert refused.json()["errors"][0]["field"] == "body.reference.model_id"


def test_a_reference_that_became_private_under_way_is_read_as_anybody(installation: Installation) -> None:
    installation.hub.add_model("alice/base", model_files())
    reference = {"model_id": "alice/base"}
    header = installation.bearer("mallory")
    submitted = installation.submit(header, "org/model", None, kind="evaluate", reference=reference)
    installation.hub.repository("alice/base").private = True

    job = installation.work(submitted.json()["id"])

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "model_not_found")
    assert not _asked_by_the_worker(installation, "alice/base")


def test_a_private_dataset_that_a_key_cannot_see_is_never_learned_from(installation: Installation) -> None:
    installation.tenancy.lend("mallory", "acme")
    rows = installation.hub.add_model("alice/rows", ROWS, private=True).oid

    job = installation.work(_learning(installation, "mallory", "alice/rows", rows))

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "model_not_found")
    assert not _asked_by_the_worker(installation, "alice/rows")


def test_a_private_dataset_is_read_with_the_workers_token_where_that_is_lent(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    rows = installation.hub.add_model("acme/rows", ROWS, private=True).oid

    job = installation.work(_learning(installation, "ann", "acme/rows", rows, path="absent.jsonl"))

    assert job.failure is not None
    assert "has no file absent.jsonl" in job.failure.message  # so it was seen


def test_a_name_that_leads_to_a_private_dataset_elsewhere_is_read_as_anybody(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    rows = installation.hub.add_model("acme/rows", ROWS).oid
    job_id = _learning(installation, "ann", "acme/rows", rows)
    installation.hub.repository("acme/rows").private = True
    installation.hub.rename("acme/rows", "alice/now-secret")

    job = installation.work(job_id)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "model_not_found")


def test_a_private_model_is_read_with_the_workers_token_where_that_is_lent(installation: Installation) -> None:
    installation.hub.add_model("acme/secret", SECRET, private=True)
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")

    submitted = installation.submit(header, "acme/secret", "acme/out", acknowledge_license=True)

    assert submitted.status_code == 202
    assert installation.work(submitted.json()["id"]).state is JobState.SUCCEEDED
    assert installation.hub.repository("acme/out").private


@each_kind
def test_a_name_that_leads_to_a_private_model_elsewhere_is_read_as_anybody(
    installation: Installation, kind: str
) -> None:
    files = artifact_files if kind == "convert" else model_files
    installation.hub.add_model("acme/old", files(card="---\nlicense: mit\n---\n"))
    installation.tenancy.lend("ann", "acme")
    job_id = installation.submit(installation.bearer("ann"), "acme/old", "acme/out", kind=kind).json()["id"]
    installation.hub.repository("acme/old").private = True
    installation.hub.rename("acme/old", "alice/now-secret")

    job = installation.work(job_id)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "model_not_found")


@each_kind
def test_a_token_that_has_expired_is_not_replaced_by_the_workers(installation: Installation, kind: str) -> None:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    answer = installation.submit(header, "org/model", "acme/out", kind=kind, hub_token=WORKERS_TOKEN)
    installation.store.forget_expired(now=installation.store.get(answer.json()["id"]).created_at.replace(year=2999))

    job = installation.work(answer.json()["id"])

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "credential_unreadable")


def test_a_watch_sees_what_its_owner_sees_and_publishes_where_they_may(installation: Installation) -> None:
    installation.hub.add_model("acme/secret", SECRET, private=True)
    body = {"name": "n", "pattern": "acme/*", "recipes": ["lqer"], "destination": "acme/{name}-out"}
    header = installation.bearer("mallory")
    watch = installation.http.post("/v1/watches", json=body, headers=header).json()
    services = installation.http.app.state.services  # type: ignore[attr-defined]
    rights = WatchRights(installation.tenancy, WORKERS_TOKEN, publishes_to_folder=False)
    context = ReleaseContext(installation.watches, installation.store, services.hubs.source, lambda: None, "1", rights)

    poll_watches(installation.watches, services.hubs.releases, rights)
    seen = installation.http.get(f"/v1/watches/{watch['id']}/releases", headers=header).json()["releases"]
    public = installation.hub.add_model("acme/public", model_files())
    told = payload("acme/public", public.oid)
    take_delivery(json.dumps(told).encode(), installation.watches.get(watch["id"]), store=installation.watches)
    act_on_releases(context)
    (release,) = installation.http.get(f"/v1/watches/{watch['id']}/releases", headers=header).json()["releases"]

    assert seen == []
    assert (release["state"], release["job_ids"]) == ("failed", [])
    assert "needs a Hub token of yours" in release["reason"]


def _learning(installation: Installation, owner: str, dataset: str, revision: str, path: str = "train.jsonl") -> str:
    """Submit a fine-tuning on a dataset and return its id."""
    data = {"dataset": dataset, "revision": revision, "path": path}
    answer = installation.submit(installation.bearer(owner), "org/model", "acme/out", kind="finetune", data=data)
    assert answer.status_code == 202, answer.text
    found: Any = answer.json()["id"]
    return str(found)


def _asked_by_the_worker(installation: Installation, repo_id: str) -> bool:
    """Whether any question about a repository came with the operator's token."""
    asked = [request for request in installation.hub.requests if repo_id in request.path]
    assert asked
    return any(WORKERS_TOKEN in request.headers.get("authorization", "") for request in asked)
