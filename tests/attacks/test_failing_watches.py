"""A watch that fails says so: on its pages, to its owner, and it finds what lies in the folder all the same."""

from datetime import datetime, timedelta
from pathlib import Path

import pytest

from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.notifications.endpoints import create_endpoint
from service.notifications.messages import watch_payload
from service.notifications.schema import EndpointRules
from service.notifications.telling import tell_owner
from service.platform.clock import utc_now
from service.releases.poller import TELL_AFTER, poll_watches
from service.releases.rights import WatchRights
from service.releases.schema import Watch
from tests.attacks.conftest import Installation
from tests.hub_server.failures import Failure
from tests.service.models import write_model
from worker.folder_hub import FolderHub

ADDRESS = "93.184.215.14"
WATCH = {"name": "ours", "pattern": "acme/*", "recipes": ["lqer"], "destination": "acme/{name}-out"}


@pytest.fixture
def told() -> list[str]:
    """What owners were told."""
    return []


def poll_again_and_again(installation: Installation, told: list[str], *, times: int) -> None:
    """Poll over a Hub that fails for every listing, each time when the next try is due."""
    installation.hub.fail("list_models", Failure.status(403, message="<b>Broken</b>"), times=times)
    services = installation.http.app.state.services  # type: ignore[attr-defined]
    now = utc_now()

    def tell(watch: Watch, reason: str, next_try: datetime) -> None:
        told.append(reason)
        payload = watch_payload(watch.id, watch.name, reason=reason, next_try=next_try, at=now, base_url="https://s")
        tell_owner(installation.notifications, watch.owner, payload, now=now)

    for number in range(times):
        later = now + timedelta(hours=2 * number)
        rights = WatchRights(installation.tenancy, None, publishes_to_folder=False)
        poll_watches(installation.watches, services.hubs.releases, rights, tell=tell, clock=lambda later=later: later)


def test_its_pages_say_why_how_often_and_when_next(installation: Installation, told: list[str]) -> None:
    header = installation.bearer("ann")
    watch = installation.http.post("/v1/watches", json=WATCH, headers=header).json()

    poll_again_and_again(installation, told, times=2)
    pages = [installation.http.get(path, headers=header).text for path in ("/watches", f"/watches/{watch['id']}")]

    assert all("Next try" in page and "<b>Broken" not in page for page in pages)
    assert "Failed 2 times in a row" in pages[0]
    assert ">fails<" in pages[0]
    assert "The last 2 polls failed" in pages[1]
    assert told == []


def test_its_owner_is_told_once_and_nobody_else(installation: Installation, told: list[str]) -> None:
    header = installation.bearer("ann")
    installation.http.post("/v1/watches", json=WATCH, headers=header)
    made = [
        create_endpoint(
            EndpointRules(url=f"https://example.org/{owner}"),
            owner=owner,
            store=installation.notifications,
            vault=installation.vault,
            resolve=lambda host, port: [ADDRESS],
        ).endpoint
        for owner in ("ann", "bob")
    ]

    poll_again_and_again(installation, told, times=TELL_AFTER + 2)

    assert len(told) == 1
    hers, his = (installation.notifications.deliveries(endpoint.id) for endpoint in made)
    assert ([message.type for message in hers], list(his)) == (["watch.failing"], [])


def test_releases_of_the_folder_are_found_while_the_hub_is_away(tmp_path: Path) -> None:
    settings = HubSettings.model_validate({"source_hub": "folder-then-huggingface", "hub_url": "http://127.0.0.1:9"})
    FolderHub(tmp_path / "hub").import_model(write_model(tmp_path / "model"), "acme/local", tag="v1")
    hubs = ConfiguredHubs(settings, data_dir=tmp_path)

    listed = hubs.releases.models("acme")

    assert [model.model_id for model in listed] == ["acme/local"]
    assert set(hubs.releases.refs("acme/local").tags) == {"v1"}
    assert hubs.releases.commits("acme/local")
    assert hubs.source("acme/local").is_local


def test_private_models_of_the_folder_are_not_listed_for_others(tmp_path: Path) -> None:
    settings = HubSettings.model_validate({"source_hub": "folder-then-huggingface", "hub_url": "http://127.0.0.1:9"})
    folder = FolderHub(tmp_path / "hub")
    for name in ("open", "secret"):
        folder.import_model(write_model(tmp_path / name), f"acme/{name}", private=name == "secret")
    hubs = ConfiguredHubs(settings, data_dir=tmp_path)

    seen = hubs.releases.seen_by(lambda _: False).models("acme")

    assert [model.model_id for model in seen] == ["acme/open"]
