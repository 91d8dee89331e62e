"""The rules of watches: what they match, where they publish, and which are refused."""

from typing import Any

import pytest
from pydantic import ValidationError

from service.releases.errors import InvalidWatchError, WatchNotFoundError
from service.releases.matching import check_rules, destination_of, matches_model, matches_ref
from service.releases.schema import WatchRules
from service.releases.watches import change_watch
from srr_core.recipe import named_recipe
from tests.service.releases.conftest import Town

RECIPES = (named_recipe("srr"),)


def rules(**changes: Any) -> WatchRules:
    defaults: dict[str, Any] = {
        "name": "w",
        "pattern": "acme/*",
        "recipes": RECIPES,
        "destination": "ours/{name}-{recipe}",
    }
    return WatchRules(**(defaults | changes))


@pytest.mark.parametrize(
    ("pattern", "repo_id", "expected"),
    [
        ("acme/*", "acme/model", True),
        ("acme/*", "acme2/model", False),
        ("acme/llama-*", "acme/llama-7b", True),
        ("acme/llama-*", "acme/Llama-7b", False),
        ("acme/model", "acme/model2", False),
    ],
)
def test_pattern_matches_models(pattern: str, repo_id: str, expected: bool) -> None:
    assert matches_model(rules(pattern=pattern), repo_id) is expected


@pytest.mark.parametrize(
    ("ref", "expected"),
    [
        ("refs/heads/main", True),
        ("refs/heads/release/1", True),
        ("refs/heads/dev", False),
        ("refs/tags/v1.0", True),
        ("refs/tags/nightly", False),
        ("refs/pr/1", False),
        ("main", False),
    ],
)
def test_refs_match_branches_and_tags_apart(ref: str, expected: bool) -> None:
    assert matches_ref(rules(branches=("main", "release/*"), tags=("v*",)), ref) is expected


def test_template_is_filled_from_the_release() -> None:
    filled = destination_of(
        rules(destination="ours/{owner}-{name}-{recipe}-{bits}-{ref}"), "acme/m", "refs/heads/release/1", RECIPES[0]
    )

    assert filled == "ours/acme-m-srr-3-release-1"


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"destination": "ours/{model}"}, "{model}"),
        ({"destination": "ours/{name"}, "malformed"),
        ({"destination": "ours/{name.__class__}"}, "name.__class__"),
        ({"destination": "ours/{name[0]}"}, "{name[0]}"),
        ({"destination": "ours/{name!x}"}, "{name!x}"),
        ({"destination": "ours/{name!r}"}, "{name!r}"),
        ({"destination": "ours/{name:d}"}, "{name:d}"),
        ({"destination": "ours/{name:{owner}}"}, "{name:{owner}}"),
        ({"destination": "ours/{name:>99999999999999}"}, "{bits}, {name}, {owner}, {recipe}, {ref}, {total_bits}"),
        ({"destination": "ours/{name:>9999999}"}, "as they stand"),
        ({"destination": "ours/{}{name}"}, "{}"),
        ({"destination": "ours/{{name}}"}, "not a repository id"),
        ({"destination": "ours/{name}}"}, "malformed"),
        ({"destination": "ours/{name!}"}, "malformed"),
        ({"destination": "{owner}/{name}"}, "source itself"),
        ({"destination": "no-slash-{name}"}, "not a repository id"),
        ({"destination": "ours/fixed"}, "one repository"),
        ({"destination": "ours/fixed", "pattern": "acme/m?"}, "one repository"),
        ({"destination": "ours/{name}", "recipes": (named_recipe("srr"), named_recipe("lqer"))}, "two recipes"),
        ({"branches": ()}, "branch or a tag"),
    ],
)
def test_rules_that_could_not_work_are_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InvalidWatchError) as raised:
        check_rules(rules(**changes))
    assert words in str(raised.value)
    assert len(str(raised.value)) < 400


def test_template_stored_before_it_was_refused_fills_no_memory() -> None:
    with pytest.raises(InvalidWatchError):
        destination_of(rules(destination="ours/{name:>9999999}"), "acme/m", "refs/heads/main", RECIPES[0])


@pytest.mark.parametrize("pattern", ["*/model", "acme", "acme/../x", "/x", "acme/a b"])
def test_pattern_that_names_no_owner_is_refused(pattern: str) -> None:
    with pytest.raises(ValidationError):
        rules(pattern=pattern)


def test_watch_is_changed_listed_and_deleted_by_its_owner_only(town: Town) -> None:
    watch = town.watch()
    changed = change_watch(watch.id, rules(per_day=3, name="new"), owner="alice", store=town.store)

    assert town.store.get(watch.id) == changed
    assert [one.id for one in town.store.list("alice")] == [watch.id]
    assert town.store.list("bob") == []
    with pytest.raises(WatchNotFoundError):
        town.store.delete(watch.id, owner="bob")
    town.store.delete(watch.id, owner="alice")
    with pytest.raises(WatchNotFoundError):
        town.store.get(watch.id)


def test_secret_is_stored_sealed(town: Town) -> None:
    watch = town.watch()

    sealed = town.store.secret(watch.id)

    assert sealed is not None
    assert town.secret(watch).encode() not in sealed
    assert town.secret(watch) not in town.store.get(watch.id).model_dump_json()


def test_a_template_names_results_by_the_bits_of_the_whole_model() -> None:
    named = rules(destination="ours/{name}-{total_bits}bit")

    known = destination_of(named, "acme/m", "refs/heads/main", RECIPES[0], total_bits=7.26)
    plain = destination_of(named, "acme/m", "refs/heads/main", RECIPES[0])

    assert (known, plain) == ("ours/m-7.3bit", "ours/m-3.5bit")
