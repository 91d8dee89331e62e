"""The pages of watches."""

import html
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.releases.schema import Watch, WatchRules
from service.releases.store import WatchStore
from service.releases.watches import create_watch
from srr_core.recipe import named_recipe, override
from tests.service.web.visiting import token_of
from worker.folder_hub import FolderHub

FORM = {
    "name": "ours",
    "pattern": "org/*",
    "namespace": "user",
    "branches": "main, release-*",
    "tags": "v*",
    "recipes": ["gptq", "srr-gptq"],
    "destination": "us/{name}-{recipe}",
    "visibility": "private",
    "max_gibibytes": "1.5",
    "per_day": "3",
    "enabled": "on",
}


@pytest.fixture
def watch(watches: WatchStore, vault: CredentialVault) -> Watch:
    """A watch with a recipe of its own."""
    custom = override(named_recipe("gptq"), {"quantizer.damping": 0.5})
    rules = WatchRules(name="ours", pattern="org/*", recipes=(custom,), destination="us/{name}", per_day=7)
    return create_watch(rules, owner="local", store=watches, vault=vault)


def test_a_watch_takes_every_rule_and_leads_to_its_page(http: TestClient, watches: WatchStore) -> None:
    response = http.post("/watches", data={**FORM, "csrf_token": token_of(http)}, follow_redirects=False)

    (watch,) = watches.list("local")
    assert response.headers["location"] == f"/watches/{watch.id}"
    assert (watch.namespace, watch.branches, watch.tags) == ("user", ("main", "release-*"), ("v*",))
    assert [recipe.name for recipe in watch.recipes] == ["gptq", "srr-gptq"]
    assert (watch.private, watch.max_weight_bytes, watch.per_day) == (True, 3 * 2**29, 3)


@pytest.mark.parametrize(
    ("field", "typed", "message"),
    [
        ("pattern", "*/x", "Write it as organization/name"),
        ("max_gibibytes", "much", "is not a number of GiB"),
        ("per_day", "0", "At least 1."),
        ("name", "", "This is needed."),
        ("destination", "us/{nonsense}", "the destination template may use"),
    ],
)
def test_a_wrong_rule_is_explained_and_nothing_typed_is_lost(
    http: TestClient, watches: WatchStore, field: str, typed: str, message: str
) -> None:
    response = http.post("/watches", data={**FORM, field: typed, "csrf_token": token_of(http)})

    page = html.unescape(response.text)
    kept = {name: value for name, value in FORM.items() if isinstance(value, str) and name != field}
    assert response.status_code == 422
    assert message.lower() in page.lower()
    assert all(value in page for value in kept.values())
    assert re.findall(r'name="recipes" value="([^"]+)" checked', page) == ["gptq", "srr-gptq"]
    assert watches.list("local") == []


def test_a_target_is_that_of_every_recipe_and_is_said_on_its_page(http: TestClient, watches: WatchStore) -> None:
    form = {**FORM, "target_bits": "2.56", "csrf_token": token_of(http)}

    page = http.post("/watches", data=form).text

    (watch,) = watches.list("local")
    assert [(one.name, one.budget and one.budget.target_bits) for one in watch.recipes] == [
        ("gptq", 2.56),
        ("srr-gptq", 2.56),
    ]
    assert "gptq at 2.56 bits per weight" in page


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ({"target_bits": "2.5", "target_kl": "0.1"}, "One target of bits, size or KL at most."),
        ({"target_size": "big"}, "big"),
        ({"target_bits": "2.5", "recipes": ["qlora"]}, "uniform grid"),
    ],
)
def test_a_target_that_cannot_be_is_explained(
    http: TestClient, watches: WatchStore, typed: dict[str, str], message: str
) -> None:
    response = http.post("/watches", data={**FORM, **typed, "csrf_token": token_of(http)})

    assert response.status_code == 422
    assert message in html.unescape(response.text)
    assert watches.list("local") == []


def test_no_recipe_is_a_mistake_with_a_sentence(http: TestClient) -> None:
    response = http.post("/watches", data={**FORM, "recipes": [], "csrf_token": token_of(http)})

    assert response.status_code == 422
    assert "Choose one to eight recipes." in response.text


def test_a_watch_is_tried_on_the_past_without_being_stored(
    http: TestClient, watches: WatchStore, hub_dir: Path, tiny_llama: Path
) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")

    page = http.post("/watches", data={**FORM, "preview": "on", "csrf_token": token_of(http)}).text

    assert "What the watch would have done in the last 30 days" in page
    assert "us/model-gptq" in page
    assert 'value="main, release-*"' in page
    assert watches.list("local") == []


def test_changing_a_watch_keeps_a_recipe_that_has_no_name(http: TestClient, watches: WatchStore, watch: Watch) -> None:
    page = http.get(f"/watches/{watch.id}/edit").text
    chosen = re.findall(r'name="recipes" value="([^"]+)" checked', page)
    form = {**FORM, "recipes": [*chosen, "srr"], "per_day": "9", "csrf_token": token_of(http)}

    http.post(f"/watches/{watch.id}", data=form)

    changed = watches.get(watch.id)
    assert chosen == ["stored:0"]
    assert changed.recipes == (watch.recipes[0], named_recipe("srr"))
    assert changed.per_day == 9


def test_a_watch_is_paused_and_resumed_and_nothing_else_changes(
    http: TestClient, watches: WatchStore, watch: Watch
) -> None:
    token = token_of(http)

    http.post(f"/watches/{watch.id}/pause", data={"csrf_token": token})
    paused = watches.get(watch.id)
    http.post(f"/watches/{watch.id}/pause", data={"enabled": "on", "csrf_token": token})

    assert not paused.enabled
    assert paused.model_copy(update={"enabled": True}) == watch
    assert watches.get(watch.id) == watch


@pytest.mark.parametrize("action", ["", "/pause", "/delete"])
def test_nothing_happens_to_a_watch_of_somebody_else(
    http: TestClient, watches: WatchStore, vault: CredentialVault, action: str
) -> None:
    rules = WatchRules(name="theirs", pattern="org/*", recipes=(named_recipe("srr"),), destination="us/{name}")
    theirs = create_watch(rules, owner="somebody", store=watches, vault=vault)

    response = http.post(f"/watches/{theirs.id}{action}", data={**FORM, "csrf_token": token_of(http)})

    assert response.status_code == 404
    assert watches.get(theirs.id) == theirs


@pytest.mark.parametrize("action", ["", "/pause", "/delete"])
def test_changing_a_watch_needs_the_token(http: TestClient, watches: WatchStore, watch: Watch, action: str) -> None:
    token_of(http)

    assert http.post(f"/watches/{watch.id}{action}", data={**FORM, "csrf_token": "0" * 64}).status_code == 403
    assert watches.get(watch.id) == watch
