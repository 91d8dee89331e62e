"""The worker's Hub token belongs to the operator: with an API key alone nobody reads or writes what it could."""

import json

import pytest

from service.jobs.schema import JobState
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.intake import take_delivery
from service.releases.poller import poll_watches
from service.releases.rights import WatchRights
from tests.attacks.conftest import WORKERS_TOKEN, Installation
from tests.service.models import model_files
from tests.service.releases.conftest import payload

SECRET = {"config.json": model_files()["config.json"], "model.safetensors": model_files()["model.safetensors"]}


def test_a_key_without_a_loan_publishes_nowhere_with_the_workers_token(installation: Installation) -> None:
    refused = installation.submit(installation.bearer("mallory"), "org/model", "acme/out")

    assert (refused.status_code, refused.json()["code"]) == (403, "hub_token_needed")
    assert refused.json()["errors"][0]["field"] == "body.destination.repo_id"


def test_a_job_that_was_queued_anyhow_does_not_publish_without_a_loan(installation: Installation) -> None:
    installation.tenancy.lend("mallory", "acme")
    job_id = installation.submit(installation.bearer("mallory"), "org/model", "acme/out").json()["id"]
    installation.tenancy.take_back("mallory", "acme")

    job = installation.work(job_id)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "hub_token_needed")
    assert "acme/out" not in installation.hub.state.repositories


def test_within_a_loan_a_job_is_published_and_remembered(installation: Installation) -> None:
    installation.tenancy.lend("ann", "ACME")

    job = installation.work(installation.submit(installation.bearer("ann"), "org/model", "acme/out").json()["id"])

    assert job.state is JobState.SUCCEEDED
    assert installation.tenancy.publisher("Acme/Out") == "ann"


def test_an_artifact_of_another_tenant_is_not_replaced(installation: Installation) -> None:
    for owner in ("ann", "bob"):
        installation.tenancy.lend(owner, "acme")
    ann, bob = installation.bearer("ann"), installation.bearer("bob")
    installation.work(installation.submit(ann, "org/model", "acme/out").json()["id"])
    before = installation.hub.repository("acme/out").head.oid

    refused = installation.submit(bob, "org/model", "ACME/out", recipe="srr")

    assert (refused.status_code, refused.json()["code"]) == (409, "destination_taken")
    assert "ann" not in refused.text
    assert installation.hub.repository("acme/out").head.oid == before


def test_of_two_tenants_who_race_for_a_name_one_gets_it(installation: Installation) -> None:
    for owner in ("ann", "bob"):
        installation.tenancy.lend(owner, "acme")
    jobs = [
        installation.submit(installation.bearer(owner), "org/model", "acme/out").json()["id"]
        for owner in ("ann", "bob")
    ]

    first, second = (installation.work(job_id) for job_id in jobs)

    assert first.state is JobState.SUCCEEDED
    assert (second.state, second.failure and second.failure.code) == (JobState.FAILED, "destination_taken")


def test_what_the_operator_put_there_is_not_replaced(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    installation.hub.add_model("acme/precious", model_files())

    refused = installation.submit(installation.bearer("ann"), "org/model", "acme/precious")

    assert (refused.status_code, refused.json()["code"]) == (409, "destination_taken")


@pytest.mark.parametrize("lent", [(), ("acme",)])
def test_a_private_model_that_a_key_cannot_see_is_never_compressed(
    installation: Installation, lent: tuple[str, ...]
) -> None:
    installation.hub.add_model("alice/secret", SECRET, private=True)
    for namespace in lent:
        installation.tenancy.lend("mallory", namespace)
    header = installation.bearer("mallory")

    answers = [
        installation.http.post("/v1/models:inspect", json={"model_id": "alice/secret"}, headers=header),
        installation.submit(header, "alice/secret", "acme/out"),
    ]

    assert [answer.json()["code"] for answer in answers] == ["model_not_found", "model_not_found"]


def test_a_private_model_is_read_with_the_workers_token_where_that_is_lent(installation: Installation) -> None:
    installation.hub.add_model("acme/secret", SECRET, private=True)
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")

    submitted = installation.submit(header, "acme/secret", "acme/out", acknowledge_license=True)

    assert submitted.status_code == 202
    assert installation.work(submitted.json()["id"]).state is JobState.SUCCEEDED
    assert installation.hub.repository("acme/out").private


def test_a_name_that_leads_to_a_private_model_elsewhere_is_read_as_anybody(installation: Installation) -> None:
    installation.hub.add_model("acme/old", model_files(card="---\nlicense: mit\n---\n"))
    installation.tenancy.lend("ann", "acme")
    job_id = installation.submit(installation.bearer("ann"), "acme/old", "acme/out").json()["id"]
    installation.hub.repository("acme/old").private = True
    installation.hub.rename("acme/old", "alice/now-secret")

    job = installation.work(job_id)

    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, "model_not_found")


def test_a_token_that_has_expired_is_not_replaced_by_the_workers(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")
    answer = installation.submit(installation.bearer("ann"), "org/model", "acme/out", hub_token=WORKERS_TOKEN)
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
