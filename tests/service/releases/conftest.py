"""A folder hub that models are released on, watches over it, and time that is moved by hand."""

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from service.hub.folder import FolderMetadata
from service.hub.releases import FolderReleases
from service.jobs.credentials import CredentialVault
from service.jobs.schema import Job, JobFilter, SealedSecret
from service.jobs.sql_store import SqlJobStore
from service.jobs.tenancy import Tenancy
from service.jobs.work import JobDestination, JobSource
from service.platform.database import migrate, open_database
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.intake import authentic_watch, take_delivery
from service.releases.poller import poll_watch
from service.releases.rights import WatchRights
from service.releases.schema import Release, Watch, WatchRules
from service.releases.store import WatchStore
from service.releases.watches import SECRET_EXPIRES, create_watch
from srr_core.recipe import named_recipe
from tests.service.submitting import submission, submitted
from worker.folder_hub import FolderHub


@dataclass
class Town:
    """A hub, an installation that watches it, and a clock that starts now."""

    root: Path
    hub: FolderHub
    store: WatchStore
    jobs: SqlJobStore
    engine: Engine
    vault: CredentialVault
    now: datetime = field(default_factory=lambda: datetime.now(UTC))

    def clock(self) -> datetime:
        """Return the time."""
        return self.now

    def advance(self, **delta: float) -> None:
        """Let time pass for the installation; commits of the hub are stamped with the real time."""
        self.now += timedelta(**delta)

    def release(self, repo_id: str, content: str = "1", *, tag: str | None = None, **config: Any) -> str:
        """Commit a model to the hub and return the commit."""
        folder = self.root / "work" / repo_id
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "model.safetensors").write_text(content)
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
        return self.hub.import_model(folder, repo_id, tag=tag)

    def watch(self, **rules: Any) -> Watch:
        """Create a watch of everything of acme, made a day after what there is."""
        defaults: dict[str, Any] = {
            "name": "acme",
            "pattern": "acme/*",
            "recipes": (named_recipe("srr"),),
            "destination": "ours/{name}-{recipe}-{bits}bit",
        }
        merged = WatchRules(**(defaults | rules))
        return create_watch(merged, owner="alice", store=self.store, vault=self.vault, clock=self.clock)

    def job(self, *, owner: str, destination: str) -> Job:
        """Submit a job as somebody would over REST."""
        wanted = submission(source=JobSource(model_id="some/model"), destination=JobDestination(repo_id=destination))
        return submitted(self.jobs, wanted, owner=owner)

    def secret(self, watch: Watch) -> str:
        """Return the secret of a watch."""
        sealed = self.store.secret(watch.id)
        assert sealed is not None
        return self.vault.open(SealedSecret(ciphertext=sealed, expires_at=SECRET_EXPIRES))

    def deliver(self, watch: Watch, body: dict[str, Any] | bytes, *, secret: str | None = None) -> int:
        """Hand over a webhook's body."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        given = self.secret(watch) if secret is None else secret
        found = authentic_watch(watch.id, secret=given, store=self.store, vault=self.vault)
        return take_delivery(raw, found, store=self.store, clock=self.clock)

    def poll(self, watch: Watch) -> int:
        """Poll a watch."""
        return poll_watch(self.store.get(watch.id), self.store, FolderReleases(self.hub), clock=self.clock)

    def act(self, hub: FolderMetadata | None = None) -> int:
        """Decide about what is due."""
        return act_on_releases(self.context(hub))

    def context(self, hub: FolderMetadata | None = None) -> ReleaseContext:
        """Return what decisions are made with."""
        return ReleaseContext(
            watches=self.store,
            jobs=self.jobs,
            hub=lambda _: hub or self.hub,
            wake=lambda: None,
            core_version="0.1.0",
            rights=self.rights,
            clock=self.clock,
        )

    @property
    def rights(self) -> WatchRights:
        """What watches may do where artifacts go to the folder."""
        return WatchRights(Tenancy(self.engine))

    def submitted(self) -> list[Job]:
        """Return the jobs there are, oldest first."""
        return list(reversed(self.jobs.list(JobFilter(), limit=100).jobs))

    def found(self, watch: Watch) -> list[Release]:
        """Return what a watch found, oldest first."""
        return list(reversed(self.store.releases(watch.id)))


def payload(repo_id: str, sha: str | None, *, ref: str = "refs/heads/main", **changes: Any) -> dict[str, Any]:
    """Return a webhook of the Hub about one ref."""
    body: dict[str, Any] = {
        "event": {"action": "update", "scope": "repo.content"},
        "repo": {"type": "model", "name": repo_id, "id": "1", "private": False, "headSha": sha, "owner": {"id": "2"}},
        "webhook": {"id": "3", "version": 3},
        "updatedRefs": [{"ref": ref, "oldSha": None, "newSha": sha}],
    }
    return body | changes


@pytest.fixture(params=["sqlite", "postgresql"])
def town(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Town]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    vault = CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))
    yield Town(tmp_path, FolderHub(tmp_path / "hub"), WatchStore(engine), SqlJobStore(engine), engine, vault)
    engine.dispose()
