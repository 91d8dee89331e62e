"""Watches and the Hub's webhooks over REST."""

from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from service.jobs.credentials import CredentialVault
from service.jobs.schema import SealedSecret
from service.releases.store import WatchStore
from service.releases.watches import SECRET_EXPIRES
from worker.folder_hub import FolderHub

WATCH = {
    "name": "ours",
    "pattern": "org/*",
    "recipes": ["srr", {"name": "qera-exact", "rank": 8}],
    "destination": "me/{name}-{recipe}",
}
SHA = "c" * 40


def delivery(repo: str = "org/model", ref: str = "refs/heads/main", sha: str | None = SHA) -> dict[str, object]:
    """Return a webhook as the Hub sends it."""
    return {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": repo, "id": "1", "private": False, "headSha": sha},
        "webhook": {"id": "w", "version": 3},
        "updatedRefs": [{"ref": ref, "oldSha": None, "newSha": sha}],
    }


@pytest.fixture
def watch_id(http: TestClient) -> str:
    """The id of a watch."""
    return str(http.post("/v1/watches", json=WATCH).json()["id"])


@pytest.fixture
def secret(watch_id: str, watches: WatchStore, vault: CredentialVault) -> dict[str, str]:
    """The header the Hub would send for the watch."""
    sealed = SealedSecret(ciphertext=watches.secret(watch_id) or b"", expires_at=SECRET_EXPIRES)
    return {"X-Webhook-Secret": vault.open(sealed)}


def test_a_watch_is_made_changed_and_deleted(http: TestClient) -> None:
    made = http.post("/v1/watches", json=WATCH)
    path = f"/v1/watches/{made.json()['id']}"
    changed = http.put(path, json={**WATCH, "enabled": False})
    deleted = http.delete(path)

    assert made.status_code == 201
    assert [recipe["rank"] for recipe in made.json()["recipes"]] == [32, 8]
    assert (changed.status_code, changed.json()["enabled"]) == (200, False)
    assert (deleted.status_code, http.get(path).status_code) == (204, 404)
    assert http.get("/v1/watches").json() == {"watches": []}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipes": ["nope"]}, "invalid_recipe"),
        ({"destination": "me/{nonsense}"}, "invalid_watch"),
        ({"pattern": "*/model"}, "invalid_request"),
        ({"per_day": 0}, "invalid_request"),
    ],
)
def test_a_watch_that_could_not_work_is_refused(http: TestClient, changes: dict[str, object], code: str) -> None:
    answer = http.post("/v1/watches", json={**WATCH, **changes})

    assert (answer.status_code, answer.json()["code"]) == (422, code)


def test_a_delivery_notes_a_release_once(http: TestClient, watch_id: str, secret: dict[str, str]) -> None:
    path = f"/v1/hooks/huggingface/{watch_id}"

    first = http.post(path, json=delivery(), headers=secret)
    again = http.post(path, json=delivery(), headers=secret)
    (release,) = http.get(f"/v1/watches/{watch_id}/releases").json()["releases"]

    assert (first.status_code, first.json()) == (202, {"new_releases": 1})
    assert (again.status_code, again.json()) == (202, {"new_releases": 0})
    assert (release["repo_id"], release["sha"], release["seen_by"]) == ("org/model", SHA, "webhook")


@pytest.mark.parametrize(
    "payload",
    [delivery(ref="refs/pr/1"), delivery(sha=None), delivery(repo="other/model"), delivery(ref="refs/heads/dev")],
)
def test_a_delivery_about_something_else_is_taken_and_ignored(
    http: TestClient, watch_id: str, secret: dict[str, str], payload: dict[str, object]
) -> None:
    answer = http.post(f"/v1/hooks/huggingface/{watch_id}", json=payload, headers=secret)

    assert (answer.status_code, answer.json()) == (202, {"new_releases": 0})


def test_a_delivery_without_the_secret_is_refused_like_an_unknown_watch(http: TestClient, watch_id: str) -> None:
    wrong = http.post(f"/v1/hooks/huggingface/{watch_id}", json=delivery(), headers={"X-Webhook-Secret": "guess"})
    unknown = http.post("/v1/hooks/huggingface/watch_" + "0" * 26, json=delivery())

    assert (wrong.status_code, wrong.json()["code"]) == (403, "hook_forbidden")
    assert (unknown.status_code, unknown.json()["code"]) == (403, "hook_forbidden")


def test_a_preview_tells_what_would_have_been_done(http: TestClient, hub_dir: Path, tiny_llama: Path) -> None:
    FolderHub(hub_dir).import_model(tiny_llama, "org/model")

    previews = http.post("/v1/watches/preview", json=WATCH).json()["previews"]

    preview = previews[0]
    assert preview["repo_id"] == "org/model"
    assert preview["destinations"] == ["me/model-srr", "me/model-qera-exact"]
    assert preview["skipped"] is None
    assert datetime.fromisoformat(preview["released_at"]) <= datetime.now(UTC)
    assert http.get("/v1/watches").json() == {"watches": []}
