"""A watch of a newer version is set aside, and the others go on."""

from typing import Any

from sqlalchemy import select, update

from service.hub.releases import FolderReleases
from service.platform.database import writing
from service.releases.poller import poll_watches
from service.releases.schema import Watch
from service.releases.tables import releases, watches
from service.releases.upgrade import read_watch
from tests.service.releases.conftest import Town, payload


def rewrite(town: Town, watch: Watch, **rules: Any) -> None:
    """Change the stored rules of a watch, as a newer version may have written them."""
    with writing(town.engine) as connection:
        row = watches.c.id == watch.id
        stored = connection.execute(select(watches.c.rules).where(row)).scalar_one()
        connection.execute(update(watches).where(row).values(rules={**stored, **rules}))


def test_it_is_shown_apart_and_the_others_are_polled(town: Town) -> None:
    strange, watch = town.watch(), town.watch(pattern="acme/model")
    rewrite(town, strange, recipes=[{"name": "ternary", "quantizer": {"kind": "ternary"}}])
    town.release("acme/model")

    polled = poll_watches(town.store, FolderReleases(town.hub), town.rights, clock=town.clock)

    looked = town.store.look("alice")
    assert polled == 1
    assert ([one.id for one in looked.watches], looked.unreadable) == ([watch.id], (strange.id,))
    assert [one.id for one in town.store.list()] == [watch.id]


def test_its_releases_wait_and_those_of_others_become_jobs(town: Town) -> None:
    strange, watch = town.watch(), town.watch()
    sha = town.release("acme/model")
    for one in (strange, watch):
        town.deliver(one, payload("acme/model", sha))
    rewrite(town, strange, recipes=[{"quantizer": {"kind": "ternary"}}])

    assert town.act() == 1

    assert [str(release.state) for release in town.found(strange)] == ["pending"]
    assert [str(release.state) for release in town.found(watch)] == ["submitted"]


def test_a_release_that_cannot_be_read_stops_no_other(town: Town) -> None:
    watch = town.watch()
    for repo_id in ("acme/one", "acme/two"):
        town.deliver(watch, payload(repo_id, town.release(repo_id)))
    with writing(town.engine) as connection:
        connection.execute(update(releases).where(releases.c.repo_id == "acme/one").values(seen_by="oracle"))

    assert town.act() == 1

    assert [release.repo_id for release in town.found(watch)] == ["acme/two"]


def test_what_a_newer_version_only_added_is_no_obstacle(town: Town) -> None:
    watch = town.watch()
    recipe = watch.recipes[0].model_dump(mode="json")
    rewrite(town, watch, schema_version=2, cadence="slow", recipes=[{**recipe, "speed": "high"}])

    assert town.store.get(watch.id) == watch


def test_rules_without_a_version_are_of_the_first(town: Town) -> None:
    watch = town.watch()
    stored = watch.model_dump(mode="json")
    rules = {name: stored.pop(name) for name in ("name", "pattern", "recipes", "destination")}

    assert read_watch({"rules": rules, **{name: stored[name] for name in ("id", "owner", "created_at")}}) == watch
