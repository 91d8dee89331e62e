"""From a release on a hub to its one job, told by webhooks, by the poller, or by both."""

import json
import random
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select

from service.hub.errors import HubUnavailableError
from service.hub.folder import FolderMetadata
from service.hub.model import RepoFile, ResolvedModel
from service.hub.releases import FolderReleases
from service.hub.webhooks import HubWebhook, Watched
from service.jobs.tables import jobs
from service.releases.act import act_on_releases
from service.releases.errors import HookForbiddenError, HookPayloadError, InvalidWatchError
from service.releases.preview import preview_watch
from service.releases.schema import ReleaseState
from service.releases.watches import sync_watch
from srr_core.recipe import named_recipe
from tests.service.releases.conftest import Town, payload

SHA = "a" * 40


def test_release_told_by_a_webhook_becomes_one_job(town: Town) -> None:
    watch = town.watch()
    sha = town.release("acme/model")

    assert town.deliver(watch, payload("acme/model", sha)) == 1
    assert town.act() == 1

    (job,) = town.submitted()
    assert (job.owner, job.work.source.model_id, job.work.source.revision) == ("alice", "acme/model", sha)
    assert job.work.destination.repo_id == "ours/model-srr-3bit"
    (release,) = town.found(watch)
    assert (release.state, release.job_ids, release.seen_by) == (ReleaseState.SUBMITTED, (job.id,), "webhook")


def test_burst_with_duplicates_out_of_order_and_the_poller_gives_one_job_for_each_release(town: Town) -> None:
    watch = town.watch(per_day=100)
    releases = [
        (f"acme/model{number % 4}", town.release(f"acme/model{number % 4}", str(number))) for number in range(12)
    ]
    bodies = [payload(repo_id, sha) for repo_id, sha in releases]

    for body in (*reversed(bodies), *bodies[::3]):
        town.deliver(watch, body)
        town.act()
    town.poll(watch)
    town.act()

    assert sorted(job.work.source.revision for job in town.submitted()) == sorted(sha for _, sha in releases)


class Endless(FolderMetadata):
    """A hub that has every commit it is asked for."""

    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        files = (RepoFile("config.json", 2), RepoFile("model.safetensors", 8))
        return ResolvedModel(model_id, revision, private=False, gated=False, files=files)


@pytest.mark.slow
def test_thousand_deliveries_with_a_third_repeated_give_one_job_for_each_release(town: Town) -> None:
    watch = town.watch(per_day=10_000)
    unique = [payload(f"acme/model-{number}", f"{number + 1:040x}") for number in range(667)]
    chance = random.Random(0)
    burst = unique + chance.choices(unique, k=333)
    chance.shuffle(burst)

    with ThreadPoolExecutor(4) as senders:
        noted = sum(senders.map(lambda body: town.deliver(watch, body), burst))
    started = sum(town.act(Endless(town.root)) for _ in range(15))

    assert (len(burst), noted, started) == (1000, 667, 667)
    with town.engine.connect() as connection:
        sources = connection.execute(select(jobs.c.model_id)).scalars().all()
    assert sorted(sources) == sorted(body["repo"]["name"] for body in unique)


def test_two_processes_that_act_at_once_start_one_job(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    gate = threading.Barrier(4)

    def act() -> None:
        gate.wait()
        act_on_releases(town.context())

    threads = [threading.Thread(target=act) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(town.submitted()) == 1


def test_poller_finds_what_a_lost_webhook_missed(town: Town) -> None:
    town.release("acme/old")
    town.advance(seconds=1)
    watch = town.watch(tags=("v*",))
    town.advance(seconds=-2)  # so that the next commits count as younger than the watch
    town.store.mark_polled(watch, now=town.clock(), swept=False)

    assert town.poll(watch) == 0
    town.release("acme/old", "2")
    town.release("acme/old", "3", tag="v1")
    town.advance(minutes=20)
    assert town.poll(watch) == 2
    assert town.poll(watch) == 0
    town.act()

    assert len(town.submitted()) == 1  # main and v1 point to one commit
    reasons = [release.reason for release in town.found(watch)]
    assert reasons[0] == "it was there before the watch"
    assert "another branch or tag" in str(reasons[2])


@pytest.mark.parametrize(
    "body",
    [
        payload("acme/model", SHA, ref="refs/pr/7"),
        payload("acme/model", SHA, ref="refs/heads/dev"),
        payload("acme/model", SHA, ref="refs/tags/v1"),
        payload("acme/model", None),
        payload("other/model", SHA),
        payload("acme/model", SHA, event={"action": "update", "scope": "discussion.comment"}),
        payload("acme/model", SHA, event={"action": "update", "scope": "repo.config"}),
        payload("acme/model", SHA, event={"action": "delete", "scope": "repo"}),
        payload("acme/model", SHA, repo={"type": "dataset", "name": "acme/model"}),
        payload("acme/model", SHA, updatedRefs=[]),
    ],
    ids=["pull-request", "branch", "tag", "deleted-ref", "model", "comment", "config", "deleted", "dataset", "no-ref"],
)
def test_what_is_no_watched_release_is_ignored(town: Town, body: dict[str, Any]) -> None:
    watch = town.watch()

    assert town.deliver(watch, body) == 0
    assert town.found(watch) == []


def test_unknown_versions_fields_and_narrower_scopes_are_understood(town: Town) -> None:
    watch = town.watch()
    body = payload("acme/model", SHA, webhook={"id": "3", "version": 9}, novelty={"x": 1})
    body["event"]["scope"] = "repo.content.weights"

    assert town.deliver(watch, body) == 1


@pytest.mark.parametrize("secret", ["", "wrong", "sécrèt"])
def test_delivery_without_the_secret_is_refused(town: Town, secret: str) -> None:
    watch = town.watch()

    with pytest.raises(HookForbiddenError):
        town.deliver(watch, payload("acme/model", SHA), secret=secret)
    assert town.found(watch) == []


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"{",
        b'{"event": 1}',
        b"\xff",
        json.dumps(payload("a/b", "short")).encode(),
        json.dumps(payload("acme/model", SHA, ref="refs/heads/a\0b")).encode(),
    ],
)
def test_delivery_that_is_none_is_refused(town: Town, body: bytes) -> None:
    with pytest.raises(HookPayloadError):
        town.deliver(town.watch(), body)


def test_limits_hold_and_what_waits_is_done_the_next_day(town: Town) -> None:
    watch = town.watch(per_day=1, max_weight_bytes=10)
    for name, content in (("one", "1"), ("two", "2"), ("large", "x" * 11)):
        town.deliver(watch, payload(f"acme/{name}", town.release(f"acme/{name}", content)))
    town.act()

    assert [job.work.source.model_id for job in town.submitted()] == ["acme/one"]
    assert "limit of 1" in str(town.found(watch)[1].reason)
    town.advance(hours=25)
    town.act()
    town.advance(hours=25)
    town.act()
    assert [job.work.source.model_id for job in town.submitted()] == ["acme/one", "acme/two"]
    assert "the watch allows 10" in str(town.found(watch)[2].reason)


def test_model_that_may_not_be_compressed_is_skipped_with_the_reason(town: Town) -> None:
    watch = town.watch()
    sha = town.release("acme/model", architectures=["Y"], auto_map={"AutoModel": "modeling.Y"})
    town.deliver(watch, payload("acme/model", sha))

    assert town.act() == 0
    assert town.found(watch)[0].state is ReleaseState.SKIPPED
    assert "code" in str(town.found(watch)[0].reason)


class Outage(FolderMetadata):
    def resolve(self, model_id: str, revision: str = "main", *, token: str | None = None) -> ResolvedModel:
        raise HubUnavailableError("The Hub does not answer.")


def test_outage_of_the_hub_puts_a_release_off(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/model", town.release("acme/model")))

    assert town.act(Outage(town.root)) == 0
    assert town.act() == 0
    town.advance(minutes=6)
    assert town.act() == 1


def test_model_that_stays_unreadable_is_given_up(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/ghost", SHA))
    town.act()
    town.advance(days=4)
    town.act()

    assert town.found(watch)[0].state is ReleaseState.FAILED


def test_every_recipe_of_a_watch_gets_its_job(town: Town) -> None:
    watch = town.watch(recipes=(named_recipe("srr"), named_recipe("lqer")))
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    town.act()

    assert [job.work.destination.repo_id for job in town.submitted()] == ["ours/model-srr-3bit", "ours/model-lqer-3bit"]
    assert len(town.found(watch)[0].job_ids) == 2


def test_terms_that_a_watch_acknowledged_are_acknowledged_by_its_jobs(town: Town) -> None:
    watch = town.watch(acknowledge_license=True)
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    town.act()

    (job,) = town.submitted()
    assert job.work.acknowledge_license


def test_switched_off_watch_starts_nothing(town: Town) -> None:
    watch = town.watch()
    town.deliver(watch, payload("acme/model", town.release("acme/model")))
    town.store.change(watch.model_copy(update={"enabled": False}))

    assert town.act() == 0
    assert town.deliver(watch, payload("acme/model", SHA)) == 0


def test_preview_says_what_would_have_been_done_and_changes_nothing(town: Town) -> None:
    town.release("acme/model", "1")
    newest = town.release("acme/model", "2")
    town.release("acme/large", "x" * 50)
    watch = town.watch(max_weight_bytes=10)

    rows = preview_watch(watch, releases=FolderReleases(town.hub), hub=lambda _: town.hub, rights=town.rights)

    skipped = [row for row in rows if row.repo_id == "acme/large"]
    wanted = [row for row in rows if row.repo_id == "acme/model"]
    assert "the watch allows 10" in str(skipped[0].skipped)
    assert [row.skipped for row in wanted[:2]] == [None, None]
    assert wanted[0].sha == newest
    assert wanted[0].destinations == ("ours/model-srr-3bit",)
    assert "safetensors" in str(wanted[2].skipped)  # the empty commit that creates a repository
    assert town.submitted() == []
    assert town.found(watch) == []


def test_preview_refuses_the_rules_that_a_watch_would_be_refused_for(town: Town) -> None:
    watch = town.watch().model_copy(update={"destination": "ours/static"})

    with pytest.raises(InvalidWatchError, match="one repository"):
        preview_watch(watch, releases=FolderReleases(town.hub), hub=lambda _: town.hub, rights=town.rights)


class RecordedWebhooks:
    """The webhooks of a Hub, in memory."""

    def __init__(self) -> None:
        self.made: dict[str, tuple[HubWebhook, str]] = {}

    def list(self, *, token: str) -> list[HubWebhook]:
        return [webhook for webhook, _ in self.made.values()]

    def create(self, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        return self.update(f"hook{len(self.made)}", url, watched, secret=secret, token=token)

    def update(self, webhook_id: str, url: str, watched: frozenset[Watched], *, secret: str, token: str) -> HubWebhook:
        self.made[webhook_id] = (HubWebhook(webhook_id, url, watched, False), secret)
        return self.made[webhook_id][0]

    def enable(self, webhook_id: str, *, token: str) -> HubWebhook:
        return self.made[webhook_id][0]


def test_sync_makes_the_hub_send_what_the_intake_accepts(town: Town, tmp_path: Path) -> None:
    watch, hooks = town.watch(), RecordedWebhooks()

    def sync() -> str:
        return sync_watch(
            watch, base_url="https://srr.example/", store=town.store, vault=town.vault, webhooks=hooks, token="t"
        )

    assert sync() == "created"
    assert sync() == "unchanged"
    ((webhook, secret),) = hooks.made.values()
    assert webhook.url == f"https://srr.example/v1/hooks/huggingface/{watch.id}"
    assert webhook.watched == {Watched("org", "acme")}
    assert town.deliver(watch, payload("acme/model", SHA), secret=secret) == 1
