"""What a poller reads, the same over every hub."""

import pytest

from service.hub.errors import ModelNotFoundError
from tests.hub_server.seeded import Seeded

FILES = {"config.json": b"{}", "model.safetensors": b"x", "README.md": b"---\ntags:\n- tiny\n---\n"}


def test_models_of_an_owner_are_listed_with_the_latest_change_first(seeded: Seeded) -> None:
    seeded.seed("acme/first", FILES)
    seeded.seed("acme/second", FILES)
    seeded.seed("other/third", FILES)
    seeded.seed("acme/first", {**FILES, "config.json": b'{"a": 1}'})

    listed = seeded.releases.models("acme")

    assert [model.model_id for model in listed] == ["acme/first", "acme/second"]
    assert listed[0].changed_at > listed[1].changed_at
    assert listed[0].tags == ("tiny",)


def test_an_owner_without_models_has_none(seeded: Seeded) -> None:
    assert list(seeded.releases.models("nobody")) == []


def test_a_listing_is_as_long_as_asked(seeded: Seeded) -> None:
    for number in range(3):
        seeded.seed(f"acme/model-{number}", FILES)

    assert len(seeded.releases.models("acme", limit=2)) == 2


def test_branches_and_tags_point_to_commits(seeded: Seeded) -> None:
    first = seeded.seed("acme/base", FILES)
    seeded.tag("acme/base", "v1.0")
    second = seeded.seed("acme/base", {**FILES, "config.json": b'{"a": 1}'})

    refs = seeded.releases.refs("acme/base")

    assert dict(refs.branches) == {"main": second}
    assert dict(refs.tags) == {"v1.0": first}


def test_the_history_goes_back_from_the_newest_commit(seeded: Seeded) -> None:
    first = seeded.seed("acme/base", FILES)
    second = seeded.seed("acme/base", {**FILES, "config.json": b'{"a": 1}'})

    history = [commit.sha for commit in seeded.releases.commits("acme/base")]

    assert history[:2] == [second, first]
    assert [commit.sha for commit in seeded.releases.commits("acme/base", limit=1)] == [second]


def test_a_missing_model_has_no_refs_and_no_history(seeded: Seeded) -> None:
    with pytest.raises(ModelNotFoundError):
        seeded.releases.refs("acme/none")
    with pytest.raises(ModelNotFoundError):
        seeded.releases.commits("acme/none")
