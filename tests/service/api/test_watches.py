"""Watches and the Hub's webhooks over REST."""

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from pydantic import HttpUrl, SecretStr
from starlette.types import Message

from service.hub.chosen import ConfiguredHubs
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.schema import SealedSecret
from service.releases.store import WatchStore
from service.releases.watches import SECRET_EXPIRES
from service.settings import ServiceSettings
from tests.hub_server import HubServer
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
    assert http.get("/v1/watches").json() == {"watches": [], "unreadable": []}


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"recipes": ["nope"]}, "invalid_recipe"),
        ({"destination": "me/{nonsense}"}, "invalid_watch"),
        ({"destination": "me/{name:d}"}, "invalid_watch"),
        ({"destination": "me/{name!x}"}, "invalid_watch"),
        ({"destination": "me/{name:{owner}}"}, "invalid_watch"),
        ({"destination": "me/{name:>99999999999999}"}, "invalid_watch"),
        ({"destination": "me/{name:>9999999}"}, "invalid_watch"),
        ({"destination": "me/static", "pattern": "org/m?"}, "invalid_watch"),
        ({"pattern": "*/model"}, "invalid_request"),
        ({"per_day": 0}, "invalid_request"),
    ],
)
def test_a_watch_that_could_not_work_is_refused(http: TestClient, changes: dict[str, object], code: str) -> None:
    answer = http.post("/v1/watches", json={**WATCH, **changes})
    preview = http.post("/v1/watches/preview", json={**WATCH, **changes})

    assert (answer.status_code, answer.json()["code"]) == (422, code)
    assert (preview.status_code, preview.json()["code"]) == (422, code)
    assert len(answer.content) < 2000


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


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"event": {"action": "novelty"}}', b"\xff\xfe"])
@pytest.mark.parametrize("content_type", ["application/json", "text/plain"])
def test_an_authentic_delivery_that_is_not_understood_is_taken_and_ignored(
    http: TestClient, watch_id: str, secret: dict[str, str], body: bytes, content_type: str
) -> None:
    headers = {**secret, "Content-Type": content_type}

    answer = http.post(f"/v1/hooks/huggingface/{watch_id}", content=body, headers=headers)

    assert (answer.status_code, answer.json()) == (202, {"new_releases": 0})


class TestLongBodies:
    @pytest.fixture
    def settings(self) -> ServiceSettings:
        """Settings with the usual body limit."""
        return ServiceSettings()

    def test_an_authentic_delivery_that_is_too_long_is_taken_and_ignored(
        self, http: TestClient, watch_id: str, secret: dict[str, str]
    ) -> None:
        body = json.dumps(delivery()).encode()
        path = f"/v1/hooks/huggingface/{watch_id}"

        long = http.post(path, content=b" " * 2_000_000 + body, headers=secret)
        short = http.post(path, content=b" " * 1_000_000 + body, headers=secret)

        assert (long.status_code, long.json()) == (202, {"new_releases": 0})
        assert (short.status_code, short.json()) == (202, {"new_releases": 1})


def test_the_body_of_a_stranger_is_not_read(application: FastAPI, watch_id: str) -> None:
    answers: list[int] = []

    async def never_sent() -> Message:
        raise AssertionError("the body was asked for before the secret was checked")

    async def keep(message: Message) -> None:
        answers.append(message.get("status", 0))

    path = f"/v1/hooks/huggingface/{watch_id}"
    headers = [(b"host", b"localhost"), (b"x-webhook-secret", b"guess"), (b"content-type", b"application/json")]
    scope = {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "headers": headers,
    }
    asyncio.run(application({**scope, "query_string": b"", "server": ("localhost", 80)}, never_sent, keep))

    assert answers[0] == 403


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
    assert http.get("/v1/watches").json() == {"watches": [], "unreadable": []}


def test_a_preview_looks_with_the_token_the_watch_will_look_with(
    application: FastAPI, http: TestClient, hub_server: HubServer, tmp_path: Path
) -> None:
    settings = ServiceSettings(hub_token=SecretStr("hf_alice"))
    at_the_hub = HubSettings(source_hub="huggingface", hub_url=HttpUrl(hub_server.url))
    hubs = ConfiguredHubs(at_the_hub, data_dir=tmp_path)
    application.state.services = replace(application.state.services, settings=settings, hubs=hubs)
    files = {"config.json": b"{}", "model.safetensors": b"weights"}
    hub_server.add_model("acme/private", files, private=True)
    hub_server.add_model("acme/disabled", files, disabled=True)

    answer = http.post("/v1/watches/preview", json={**WATCH, "pattern": "acme/*"})

    assert [preview["repo_id"] for preview in answer.json()["previews"]] == ["acme/private"]
