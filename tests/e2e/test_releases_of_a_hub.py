"""Releases on the Hub, told by webhooks that come twice, late, out of order or never: one job each."""

import json
import random
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from service.hub.client import HubClient
from service.hub.metadata import HuggingFaceMetadata
from service.hub.releases import HuggingFaceReleases
from service.hub.webhooks import HuggingFaceWebhooks
from service.jobs.credentials import CredentialVault
from service.jobs.schema import Job, JobFilter
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.platform.database import migrate, open_database
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.errors import HookForbiddenError
from service.releases.intake import authentic_watch, take_delivery
from service.releases.poller import poll_watch
from service.releases.rights import WatchRights
from service.releases.schema import Watch, WatchRules
from service.releases.store import WatchStore
from service.releases.watches import create_watch, sync_watch
from srr_core.recipe import named_recipe
from tests.hub_server import Failure, HubServer, WebhookEvent

BASE_URL = "https://compress.example"
FILES = {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "model.safetensors": b"weights"}


@dataclass
class Watcher:
    """An installation that watches everything of acme on a hub server."""

    server: HubServer
    client: HubClient
    store: WatchStore
    jobs: SqlJobStore
    vault: CredentialVault
    tenancy: Tenancy
    watch: Watch

    def receive(self, event: WebhookEvent) -> int:
        """Take a delivery as the API does, with the id its URL ends in."""
        body = json.dumps(event.payload).encode()
        watch_id = event.url.rsplit("/", maxsplit=1)[1]
        watch = authentic_watch(watch_id, secret=event.secret, store=self.store, vault=self.vault)
        return take_delivery(body, watch, store=self.store)

    def poll(self) -> int:
        """Look for releases no webhook told of."""
        return poll_watch(self.store.get(self.watch.id), self.store, HuggingFaceReleases(self.client))

    def act(self) -> list[Job]:
        """Decide about releases, twice as two processes would, and return every job there is."""
        hub = HuggingFaceMetadata(self.client)
        context = ReleaseContext(self.store, self.jobs, lambda _: hub, lambda: None, "1.0", WatchRights(self.tenancy))
        for _ in range(2):
            act_on_releases(context)
        return list(self.jobs.list(JobFilter(), limit=200).jobs)


@pytest.fixture
def watcher(hub_server: HubServer, tmp_path: Path) -> Iterator[Watcher]:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite3'}")
    migrate(engine)
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    store, client = WatchStore(engine), HubClient(hub_server.url, attempts=1)
    rules = WatchRules(
        name="acme",
        pattern="acme/*",
        tags=("v*",),
        recipes=(named_recipe("srr"),),
        destination="ours/{name}-{recipe}-{ref}",
        per_day=1000,
    )
    watch = create_watch(rules, owner="alice", store=store, vault=vault)
    made = Watcher(hub_server, client, store, SqlJobStore(engine), vault, Tenancy(engine), watch)
    made.poll()
    webhooks = HuggingFaceWebhooks(client)
    assert (
        sync_watch(watch, base_url=BASE_URL, store=store, vault=vault, webhooks=webhooks, token="hf_alice") == "created"
    )
    yield made
    engine.dispose()


def test_a_release_told_by_webhook_becomes_one_job(watcher: Watcher) -> None:
    pushed = watcher.server.add_model("acme/base", FILES)

    for event in watcher.server.webhook_events():
        watcher.receive(event)

    (job,) = watcher.act()
    assert (job.work.source.model_id, job.work.source.revision) == ("acme/base", pushed.oid)


def test_a_release_no_webhook_told_of_is_found_by_polling(watcher: Watcher) -> None:
    pushed = watcher.server.add_model("acme/base", FILES)
    lost = watcher.server.webhook_events()

    assert watcher.poll() == 1

    (job,) = watcher.act()
    assert len(lost) == 1
    assert job.work.source.revision == pushed.oid


@pytest.mark.parametrize("seed", range(3))
def test_any_mixture_of_lost_doubled_and_shuffled_deliveries_starts_one_job_per_release(
    watcher: Watcher, seed: int
) -> None:
    chance = random.Random(seed)
    released: set[str] = set()
    for number in range(5):
        watcher.server.add_model(f"acme/model-{number}", FILES)
        watcher.server.push(f"acme/model-{number}", {"config.json": json.dumps({"number": number}).encode()})
        released.add(watcher.server.repository(f"acme/model-{number}").head.oid)
    newest = [e for e in watcher.server.webhook_events() if e.payload["updatedRefs"][0]["oldSha"] is not None]
    delivered = [event for event in newest if chance.random() > 0.3]
    deliveries = delivered + chance.sample(delivered, len(delivered) // 2)
    chance.shuffle(deliveries)

    for event in deliveries:
        watcher.receive(event)
        if chance.random() > 0.5:
            watcher.poll()
    watcher.poll()
    for event in deliveries:
        watcher.receive(event)

    jobs = watcher.act()
    assert sorted(job.work.source.revision for job in jobs) == sorted(released)


def test_a_tag_on_a_released_commit_is_no_second_release(watcher: Watcher) -> None:
    watcher.server.add_model("acme/base", FILES)
    watcher.server.tag("acme/base", "v1.0")

    for event in watcher.server.webhook_events():
        watcher.receive(event)

    assert len(watcher.act()) == 1


def test_what_we_publish_ourselves_is_no_release(watcher: Watcher) -> None:
    artifact = {**FILES, "report.json": b"{}", "recipe.json": b"{}"}
    watcher.server.add_model("acme/base-srr", artifact)

    for event in watcher.server.webhook_events():
        watcher.receive(event)
    watcher.poll()

    assert watcher.act() == []


@pytest.mark.parametrize("secret", [None, "", "wrong"])
def test_a_delivery_with_a_wrong_secret_is_refused(watcher: Watcher, secret: str | None) -> None:
    watcher.server.add_model("acme/base", FILES)
    (event,) = watcher.server.webhook_events()

    with pytest.raises(HookForbiddenError):
        watcher.receive(event.with_secret(secret))

    assert watcher.act() == []


def test_a_forged_sha_starts_nothing(watcher: Watcher) -> None:
    watcher.server.add_model("acme/base", FILES)
    (event,) = watcher.server.webhook_events()
    event.payload["updatedRefs"][0]["newSha"] = "f" * 40

    watcher.receive(event)

    assert watcher.act() == []


def test_a_hub_that_is_down_delays_a_release_and_does_not_lose_it(watcher: Watcher) -> None:
    watcher.server.add_model("acme/base", FILES)
    for event in watcher.server.webhook_events():
        watcher.receive(event)
    watcher.server.fail("info", Failure.status(503), times=1)

    assert watcher.act() == []

    (release,) = watcher.store.releases(watcher.watch.id)
    assert release.due_at > release.seen_at
