"""The poller against a Hub that refuses, limits and breaks off: what it costs, and that nothing is lost or invented."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet

from service.hub.client import HubClient
from service.hub.errors import HubError, HubUnavailableError, InvalidTokenError
from service.hub.metadata import HuggingFaceMetadata
from service.hub.releases import HuggingFaceReleases
from service.jobs.credentials import CredentialVault
from service.jobs.tenancy import Tenancy
from service.platform.database import migrate, open_database
from service.releases.poller import poll_watch, poll_watches, wait_after
from service.releases.preview import preview_watch
from service.releases.rights import WatchRights
from service.releases.schema import ReleaseState, Watch, WatchRules
from service.releases.store import WatchStore
from service.releases.watches import change_watch, create_watch
from srr_core.recipe import named_recipe
from tests.hub_server import Failure, HubServer

FILES = {"config.json": b'{"architectures": ["LlamaForCausalLM"]}', "model.safetensors": b"weights"}


@dataclass
class Lookout:
    """An installation that watches acme on a hub server, with a clock that is moved by hand."""

    server: HubServer
    store: WatchStore
    vault: CredentialVault
    hub: HuggingFaceReleases
    metadata: HuggingFaceMetadata
    tenancy: Tenancy
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def rules(self, **changes: Any) -> WatchRules:
        """Return rules that watch everything of acme."""
        defaults: dict[str, Any] = {
            "name": "acme",
            "pattern": "acme/*",
            "recipes": (named_recipe("srr"),),
            "destination": "ours/{name}",
        }
        return WatchRules(**(defaults | changes))

    def watch(self, **changes: Any) -> Watch:
        """Make a watch, now."""
        self.now = datetime.now(UTC)
        return create_watch(
            self.rules(**changes), owner="alice", store=self.store, vault=self.vault, clock=lambda: self.now
        )

    def rights(self, token: str | None = None) -> WatchRights:
        """What watches may do: alice is lent acme."""
        return WatchRights(self.tenancy, token)

    def round(self, token: str | None = None) -> int:
        """Do the duty of one process once."""
        return poll_watches(self.store, self.hub, self.rights(token), clock=lambda: self.now)

    def asked(self, part: str = "") -> int:
        """Return how many requests the server has had whose path ends so."""
        return len([request for request in self.server.requests if request.path.endswith(part)])

    def found(self, watch: Watch, state: ReleaseState = ReleaseState.PENDING) -> set[str]:
        """Return the models of the releases in a state."""
        return {one.repo_id for one in self.store.releases(watch.id, limit=500) if one.state is state}


@pytest.fixture
def lookout(hub_server: HubServer, tmp_path: Path) -> Iterator[Lookout]:
    engine = open_database(f"sqlite:///{tmp_path / 'jobs.sqlite3'}")
    migrate(engine)
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    client = HubClient(hub_server.url, attempts=1)
    tenancy = Tenancy(engine)
    tenancy.lend("alice", "acme")
    hub, metadata = HuggingFaceReleases(client), HuggingFaceMetadata(client)
    yield Lookout(hub_server, WatchStore(engine), vault, hub, metadata, tenancy)
    engine.dispose()


def test_model_that_cannot_be_read_does_not_stop_its_watch(lookout: Lookout) -> None:
    watch = lookout.watch()
    lookout.server.add_model("acme/disabled", FILES, disabled=True)
    lookout.server.add_model("acme/model", FILES)

    assert lookout.round() == 1

    polled = lookout.store.get(watch.id)
    assert lookout.found(watch) == {"acme/model"}
    assert polled.polled_at is not None
    assert "acme/disabled has been disabled" in str(polled.poll_error)


def test_model_that_cannot_be_read_does_not_stop_the_preview(lookout: Lookout) -> None:
    watch = lookout.watch()
    lookout.server.add_model("acme/disabled", FILES, disabled=True)
    lookout.server.add_model("acme/model", FILES)

    rows = preview_watch(watch, releases=lookout.hub, hub=lambda _: lookout.metadata, rights=lookout.rights())

    assert [row.repo_id for row in rows] == ["acme/model"]


def test_poll_that_fails_waits_as_long_as_the_hub_asks(lookout: Lookout) -> None:
    lookout.server.add_model("acme/model", FILES)
    watch = lookout.watch(pattern="acme/model")
    lookout.server.fail("refs", Failure.rate_limited(seconds=200))
    lookout.round()
    failed = lookout.store.get(watch.id)
    asked = lookout.asked()

    lookout.now += timedelta(seconds=200)
    lookout.round()
    assert lookout.asked() == asked
    lookout.now += timedelta(seconds=2)
    lookout.round()

    assert (failed.polled_at, failed.poll_failures) == (None, 1)
    assert "429" in str(failed.poll_error)
    polled = lookout.store.get(watch.id)
    assert polled.polled_at is not None
    assert (polled.poll_failures, polled.poll_error) == (0, None)


@pytest.mark.parametrize(
    ("error", "failures", "seconds"),
    [
        (HubError("no"), 0, 30),
        (HubError("no"), 3, 240),
        (HubError("no"), 1000, 3600),
        (HubUnavailableError("429", retry_after_seconds=301), 0, 301),
        (HubUnavailableError("429", retry_after_seconds=301), 6, 1920),
        (HubUnavailableError("429", retry_after_seconds=7200), 0, 7200),
        (HubUnavailableError("429", retry_after_seconds=1e9), 0, 86400),
    ],
)
def test_wait_after_a_failure_grows_to_a_bound_and_is_never_shorter_than_asked(
    error: HubError, failures: int, seconds: int
) -> None:
    assert wait_after(error, failures=failures) == timedelta(seconds=seconds)


def test_process_that_died_in_a_poll_leaves_it_to_the_next_turn(lookout: Lookout) -> None:
    watch = lookout.watch()
    assert lookout.store.take_turn(watch.id, now=lookout.now, until=lookout.now + timedelta(minutes=10))

    assert not lookout.store.take_turn(watch.id, now=lookout.now, until=lookout.now + timedelta(minutes=10))
    lookout.round()
    assert lookout.asked() == 0
    lookout.now += timedelta(minutes=10)
    lookout.round()
    assert lookout.store.get(watch.id).polled_at == lookout.now


def test_first_look_costs_one_request_for_a_model_that_has_not_changed(lookout: Lookout) -> None:
    [lookout.server.add_model(f"acme/old-{number}", FILES) for number in range(5)]
    [lookout.server.tag(f"acme/old-{number}", "v1") for number in range(5)]
    watch = lookout.watch(tags=("*",))
    lookout.server.add_model("acme/new", FILES)

    assert lookout.round() == 1

    assert lookout.found(watch) == {"acme/new"}
    assert len(lookout.found(watch, ReleaseState.SKIPPED)) == 5
    assert (lookout.asked("/api/models"), lookout.asked("/refs"), lookout.asked()) == (1, 6, 8)


def test_first_look_that_is_broken_off_goes_on_where_it_stopped(lookout: Lookout) -> None:
    [lookout.server.add_model(f"acme/old-{number}", FILES) for number in range(6)]
    watch = lookout.watch()
    lookout.server.fail("refs", Failure.rate_limited(seconds=10), path_contains="old-3")

    lookout.round()
    assert (lookout.asked("/refs"), lookout.store.get(watch.id).swept_at) == (4, None)
    began_at = lookout.now
    lookout.now += timedelta(minutes=10)
    lookout.round()

    assert lookout.asked("/refs") == 4 + 3
    assert len(lookout.found(watch, ReleaseState.SKIPPED)) == 6
    assert lookout.found(watch) == set()
    # What changes in between is looked for from the beginning of the look, not from its end.
    swept = lookout.store.get(watch.id)
    assert (swept.swept_at, swept.polled_at) == (began_at, began_at)
    assert lookout.store.sweep(watch.id) is None


def test_release_during_a_broken_look_is_found(lookout: Lookout) -> None:
    [lookout.server.add_model(f"acme/old-{number}", FILES) for number in range(2)]
    watch = lookout.watch()
    lookout.server.fail("refs", Failure.rate_limited(seconds=10), path_contains="old-1")
    lookout.round()
    lookout.server.push("acme/old-0", {"config.json": b"{}"})
    lookout.now += timedelta(hours=3)

    lookout.round()
    lookout.now += timedelta(minutes=10)
    lookout.round()

    assert lookout.found(watch) == {"acme/old-0"}


def test_token_that_is_refused_is_no_first_look(lookout: Lookout) -> None:
    lookout.server.add_model("acme/old", FILES)
    watch = lookout.watch()

    lookout.round(token="hf_stolen")
    lookout.now += timedelta(minutes=10)
    lookout.round()

    assert lookout.found(watch, ReleaseState.SKIPPED) == {"acme/old"}
    with pytest.raises(InvalidTokenError):
        poll_watch(watch, lookout.store, lookout.hub, token="hf_stolen")


def test_tag_that_is_put_on_an_old_commit_is_a_release(lookout: Lookout) -> None:
    lookout.server.add_model("acme/old", FILES)
    watch = lookout.watch(tags=("v*",))
    lookout.round()
    lookout.server.tag("acme/old", "v1")
    lookout.now += timedelta(hours=25)

    lookout.round()

    (release,) = [one for one in lookout.store.releases(watch.id) if one.state is ReleaseState.PENDING]
    assert release.ref == "refs/tags/v1"


def test_models_a_changed_pattern_adds_count_as_seen(lookout: Lookout) -> None:
    lookout.server.add_model("acme/one", FILES)
    lookout.server.add_model("acme/two", FILES)
    watch = lookout.watch(pattern="acme/one")
    lookout.round()

    change_watch(watch.id, lookout.rules(pattern="acme/*"), owner="alice", store=lookout.store)
    lookout.round()
    lookout.now += timedelta(hours=25)
    lookout.round()

    assert lookout.found(watch) == set()
    assert lookout.found(watch, ReleaseState.SKIPPED) == {"acme/one", "acme/two"}


def test_poll_by_rules_of_the_past_says_nothing_about_the_new_ones(lookout: Lookout) -> None:
    lookout.server.add_model("acme/one", FILES)
    lookout.server.add_model("acme/two", FILES)
    watch = lookout.watch(pattern="acme/one")
    wider = lookout.rules(pattern="acme/*")
    in_between = Failure.first(lambda: change_watch(watch.id, wider, owner="alice", store=lookout.store))
    lookout.server.fail("refs", in_between)

    lookout.round()
    swept_at = lookout.store.get(watch.id).swept_at
    lookout.round()

    assert swept_at is None
    assert lookout.found(watch) == set()
    assert lookout.found(watch, ReleaseState.SKIPPED) == {"acme/one", "acme/two"}


def test_watch_whose_limits_change_goes_on_as_before(lookout: Lookout) -> None:
    watch = lookout.watch()
    lookout.round()
    polled = lookout.store.get(watch.id)

    changed = change_watch(watch.id, lookout.rules(per_day=3), owner="alice", store=lookout.store)

    assert changed == polled.model_copy(update={"per_day": 3})
