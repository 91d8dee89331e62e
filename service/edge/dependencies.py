"""What the operations are given: the parts that the composition root built, and who is calling.

Those that only look something up are coroutines: a plain function would cost a trip to a thread each.
"""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path as FilePath
from typing import Annotated, Any, cast

from fastapi import Depends, Path, Request, Security
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from prometheus_client import CollectorRegistry
from starlette.responses import Response

from service.accounts import AccountSignIn
from service.edge.callers import CallerPolicy
from service.edge.gate import identified
from service.hub.chosen import Hubs
from service.jobs.access import owned_job
from service.jobs.credentials import CredentialVault
from service.jobs.ports import JobsOfCallers
from service.jobs.schema import Job, JobId
from service.jobs.tenancy import Tenancy
from service.jobs.trainings import Trainings
from service.jobs.uploads import TextUploads
from service.jobs.workers import WorkerRegistry
from service.keys.schema import Scope
from service.keys.store import KeyStore
from service.notifications.store import NotificationStore
from service.releases.rights import WatchRights
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from service.submissions.caller import Caller
from service.submissions.feed import EventFeed
from service.submissions.fleet import Fleet


@dataclass(frozen=True)
class Services:
    """Everything that both the REST API and the pages stand on."""

    settings: ServiceSettings
    core_version: str
    store: JobsOfCallers
    vault: CredentialVault
    tenancy: Tenancy
    uploads: TextUploads
    wake: Callable[[], None]
    """Sends what the outbox holds, without waiting for it."""
    broker_answers: Callable[[], bool]
    """Whether the broker did when it was asked last; returns at once."""
    feed: EventFeed
    trainings: Trainings
    hubs: Hubs
    hub_url: str
    """Where the Hub is, without a slash at the end."""
    fleet: Fleet
    workers: WorkerRegistry
    callers: CallerPolicy
    accounts: AccountSignIn | None
    """None where nobody signs in with an account of the Hub."""
    keys: KeyStore
    watches: WatchStore
    notifications: NotificationStore
    metrics: CollectorRegistry
    bring_model: Callable[[FilePath, str], object] | None
    """Copies a folder of this machine into the folder hub, under an id. None where callers are not who started it."""
    render_report: Callable[[Request, Job, Mapping[str, Any]], Response]

    @property
    def watch_rights(self) -> WatchRights:
        """What watches may see, the one that is only previewed included."""
        token = self.settings.hub_token.get_secret_value() if self.settings.hub_token else None
        return WatchRights(self.tenancy, token, publishes_to_folder=self.hubs.destination.is_local)


API_KEY = HTTPBearer(
    scheme_name="apiKey",
    description="An API key, `srr_...`, made with `srr keys create` or `POST /v1/api-keys`. "
    "A service on loopback that asks nobody to sign in ignores it.",
    auto_error=False,
)


async def get_services(request: Request) -> Services:
    """Return the parts of the running application."""
    return cast("Services", request.app.state.services)


ServicesDep = Annotated[Services, Depends(get_services)]


async def get_store(services: ServicesDep) -> JobsOfCallers:
    """Return the job store."""
    return services.store


async def get_feed(services: ServicesDep) -> EventFeed:
    """Return the feed of job events."""
    return services.feed


def get_caller(
    request: Request, services: ServicesDep, _key: Annotated[HTTPAuthorizationCredentials | None, Security(API_KEY)]
) -> Caller:
    """Return the caller. The key is declared for the schema; the policy reads it, or the session, by itself."""
    caller = identified(request, services.callers)
    request.state.caller = caller  # so that every page can say who has signed in
    return caller


CallerDep = Annotated[Caller, Depends(get_caller)]


def caller_with(scope: Scope) -> Callable[..., Awaitable[Caller]]:
    """Return a dependency that is the caller, if they may do this."""

    async def require(
        caller: CallerDep,
        _key: Annotated[HTTPAuthorizationCredentials | None, Security(API_KEY, scopes=[scope])],
    ) -> Caller:
        caller.require(scope)
        return caller

    return require


async def get_keys(services: ServicesDep) -> KeyStore:
    """Return the store of API keys."""
    return services.keys


async def get_watches(services: ServicesDep) -> WatchStore:
    """Return the store of watches."""
    return services.watches


async def get_notifications(services: ServicesDep) -> NotificationStore:
    """Return the store of webhook endpoints and deliveries."""
    return services.notifications


StoreDep = Annotated[JobsOfCallers, Depends(get_store)]
KeysDep = Annotated[KeyStore, Depends(get_keys)]
WatchesDep = Annotated[WatchStore, Depends(get_watches)]
NotificationsDep = Annotated[NotificationStore, Depends(get_notifications)]
FeedDep = Annotated[EventFeed, Depends(get_feed)]
JobReader = Annotated[Caller, Depends(caller_with("jobs:read"))]
JobWriter = Annotated[Caller, Depends(caller_with("jobs:write"))]
WatchReader = Annotated[Caller, Depends(caller_with("watches:read"))]
WatchWriter = Annotated[Caller, Depends(caller_with("watches:write"))]
NotificationWriter = Annotated[Caller, Depends(caller_with("notifications:write"))]
KeyWriter = Annotated[Caller, Depends(caller_with("keys:write"))]
JobIdPath = Annotated[JobId, Path(examples=["job_01k9z6h3v2m8q4t7w1x5y0c3d6"])]


def get_owned_job(job_id: JobIdPath, store: StoreDep, caller: JobReader) -> Job:
    """Return a job of the caller.

    Raises:
        JobNotFoundError: there is none, or it belongs to somebody else; the answer is the same.
    """
    return owned_job(store, job_id, caller.owner)


OwnedJob = Annotated[Job, Depends(get_owned_job)]
