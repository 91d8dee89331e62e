"""The application: every part is built here, once, and handed to the operations."""

import secrets
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path

from anyio.to_thread import run_sync
from fastapi import Depends, FastAPI
from prometheus_client import CollectorRegistry
from prometheus_client.registry import Collector
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.responses import Response
from starlette.staticfiles import StaticFiles
from starlette.types import Scope

from service.accounts import AccountSignIn, Admission, OpenIDProvider, PendingSignIns
from service.api import (
    endpoints,
    events,
    health,
    hooks,
    jobs,
    keys,
    models,
    recipes,
    reports,
    texts,
    trainings,
    usage,
    watches,
    workers,
)
from service.api.openapi import install_openapi
from service.api.outgoing import describe_outgoing
from service.edge.bodies import refuse_broken_text
from service.edge.callers import CallerPolicy, KeyHolders, SingleUser
from service.edge.dependencies import Services
from service.edge.errors import answer_unexpected, install_error_handlers
from service.edge.gate import GateMiddleware
from service.edge.middleware import (
    PlainErrorsMiddleware,
    RateLimitHeadersMiddleware,
    RequestIdMiddleware,
    SecurityHeadersMiddleware,
    UnexpectedErrorsMiddleware,
)
from service.edge.observed import ObservedRequestsMiddleware
from service.edge.sessions import Sessions
from service.hub.chosen import ConfiguredHubs, Hubs
from service.hub.client import DEFAULT_ENDPOINT
from service.hub.settings import HubSettings
from service.jobs.credentials import CredentialVault
from service.jobs.maintenance import Duty, Maintenance
from service.jobs.opening import Jobs, open_jobs
from service.jobs.outbox import BrokerWatch
from service.jobs.ports import JobStore
from service.jobs.settings import JobsSettings
from service.jobs.tenancy import Tenancy
from service.jobs.trainings import Trainings
from service.jobs.uploads import TextUploads
from service.jobs.workers import WorkerRegistry
from service.keys.access import lack_of_room, owner_quota
from service.keys.rate_limit import FallbackRateLimiter, MemoryRateLimiter, RateLimiter, RedisRateLimiter
from service.keys.store import KeyStore
from service.metrics import InstallationCollector
from service.metrics.loop import loop_lag, watched_loop
from service.notifications.delivering import DeliveryContext, send_messages, write_messages
from service.notifications.messages import watch_payload
from service.notifications.sending import Sender
from service.notifications.store import NotificationStore
from service.notifications.telling import tell_owner
from service.platform.clock import utc_now
from service.platform.redis_client import redis_client
from service.releases.act import ReleaseContext, act_on_releases
from service.releases.poller import poll_watches
from service.releases.rights import WatchRights
from service.releases.schema import Watch
from service.releases.store import WatchStore
from service.settings import ServiceSettings
from service.submissions.feed import EventFeed
from service.submissions.fleet import Fleet
from service.web import account_sign_in, automation, sign_in
from service.web import pages as web_pages
from service.web.account_sign_in import CALLBACK_PATH
from service.web.csrf import ForgedFormError, FormGuard
from service.web.rendering import STATIC, Pages

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]
DESCRIPTION = (
    "Compress a Hugging Face model as W ≈ Q + L·R and publish the result with an honest report. "
    "Every error is an RFC 9457 problem document with a stable `code`."
)


def create_app(
    settings: ServiceSettings | None = None,
    jobs_settings: JobsSettings | None = None,
    hub_settings: HubSettings | None = None,
    *,
    bring_model: Callable[[Path, str], object] | None = None,
) -> FastAPI:
    """Return the application over the configured database and broker.

    The database is migrated, and the maintenance thread runs, from startup to shutdown. Without arguments
    the settings come from the environment, as `uvicorn --factory service.app:create_app` needs it.
    `bring_model` copies a folder of this machine into the folder hub, for a service that only its own user reaches.
    """
    settings = settings or ServiceSettings()
    jobs_settings = jobs_settings or JobsSettings()
    hub_settings = hub_settings or HubSettings()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        with open_jobs(jobs_settings) as jobs:
            hubs = ConfiguredHubs(hub_settings, data_dir=jobs_settings.data_dir)
            watches, notifications = WatchStore(jobs.engine), NotificationStore(jobs.engine)
            uploads = TextUploads(jobs.engine)
            broker, lag = BrokerWatch(jobs.queue), loop_lag()
            maintenance = jobs.maintenance(uploads.forget_expired, broker.look)
            # A Hub that limits our rate makes its client sleep for minutes, and receivers may be slow: neither waits
            # for the other, and the messages to the workers wait for none.
            seconds = jobs_settings.maintenance_seconds
            duties = _release_duties(watches, notifications, hubs, jobs, settings, wake=maintenance.wake)
            releases = Maintenance(duties, interval_seconds=seconds)
            deliveries = Maintenance(_notification_duties(notifications, jobs, settings), interval_seconds=seconds)
            context = AppContext(
                store=jobs.store,
                wake=maintenance.wake,
                hubs=hubs,
                workers=WorkerRegistry(jobs.engine),
                keys=KeyStore(jobs.engine),
                watches=watches,
                notifications=notifications,
                broker_answers=broker,
                limiter=rate_limiter(jobs_settings),
                vault=jobs.vault,
                tenancy=jobs.tenancy,
                uploads=uploads,
                bring_model=bring_model,
                hub_url=hub_settings.endpoint,
                collectors=(
                    InstallationCollector(jobs.engine, queue=jobs.queue, deliveries=notifications.counts),
                    lag,
                ),
            )
            app.state.services = _services(app, settings, context)
            threads = (maintenance, releases, deliveries)
            for thread in threads:
                thread.start()
            try:
                async with watched_loop(lag):
                    yield
            finally:
                for thread in reversed(threads):
                    await run_sync(thread.stop)

    return _shell(settings, hub_settings.endpoint, lifespan)


@dataclass(frozen=True)
class AppContext:
    """What the application stands on."""

    store: JobStore
    wake: Callable[[], None]
    """Called after every submission; sends what the outbox holds and must not wait for the broker."""
    hubs: Hubs
    workers: WorkerRegistry
    keys: KeyStore
    watches: WatchStore
    notifications: NotificationStore
    vault: CredentialVault
    tenancy: Tenancy
    uploads: TextUploads
    bring_model: Callable[[Path, str], object] | None = None
    hub_url: str = DEFAULT_ENDPOINT
    """Where the Hub is, for links and for signing in."""
    broker_answers: Callable[[], bool] = lambda: True
    limiter: RateLimiter = field(default_factory=MemoryRateLimiter)
    collectors: tuple[Collector, ...] = ()
    """What `/metrics` shows."""


def build_app(settings: ServiceSettings, context: AppContext) -> FastAPI:
    """Return the application over given context, for tests and for embedding."""
    app = _shell(settings, context.hub_url)
    app.state.services = _services(app, settings, context)
    return app


def _services(app: FastAPI, settings: ServiceSettings, context: AppContext) -> Services:
    secret = _secret(settings) or secrets.token_bytes(32)
    admission = Admission(settings.oauth_allowed) if settings.sign_in == "huggingface" else None
    return Services(
        settings=settings,
        core_version=version("srr-compression"),
        store=context.store,
        vault=context.vault,
        tenancy=context.tenancy,
        uploads=context.uploads,
        wake=context.wake,
        broker_answers=context.broker_answers,
        feed=EventFeed(
            context.store,
            poll_seconds=settings.event_poll_seconds,
            max_streams=settings.max_streams,
            max_streams_of_one=None if settings.sign_in == "none" else settings.max_streams_of_one,
        ),
        trainings=Trainings(context.store),
        hubs=context.hubs,
        hub_url=context.hub_url,
        fleet=Fleet(context.workers),
        workers=context.workers,
        keys=context.keys,
        watches=context.watches,
        notifications=context.notifications,
        metrics=_registry(context.collectors),
        callers=_callers(settings, context, secret, admission),
        accounts=_account_sign_in(settings, context.hub_url, secret, admission) if admission is not None else None,
        bring_model=context.bring_model,
        render_report=app.state.pages.report,
    )


def _callers(
    settings: ServiceSettings, context: AppContext, secret: str | bytes, admission: Admission | None
) -> CallerPolicy:
    if settings.sign_in == "none":
        return SingleUser()
    return KeyHolders(context.keys, context.limiter, Sessions(secret), admission)


def _account_sign_in(
    settings: ServiceSettings, hub_url: str, secret: str | bytes, admission: Admission
) -> AccountSignIn:
    client_secret = settings.oauth_client_secret
    provider = OpenIDProvider(
        hub_url,
        client_id=settings.oauth_client_id or "",
        client_secret=client_secret.get_secret_value() if client_secret is not None else None,
        scope=settings.oauth_scopes,
        # Never from the Host header, which the visitor writes.
        redirect_uri=settings.public_address + CALLBACK_PATH,
    )
    return AccountSignIn(provider, PendingSignIns(secret), admission)


def _registry(collectors: tuple[Collector, ...]) -> CollectorRegistry:
    registry = CollectorRegistry()
    for collector in collectors:
        registry.register(collector)
    return registry


def _release_duties(
    watches: WatchStore,
    notifications: NotificationStore,
    hubs: ConfiguredHubs,
    jobs: Jobs,
    settings: ServiceSettings,
    *,
    wake: Callable[[], None],
) -> tuple[Duty, ...]:
    token = settings.hub_token.get_secret_value() if settings.hub_token else None
    rights = WatchRights(jobs.tenancy, token, publishes_to_folder=hubs.destination.is_local)
    keys = KeyStore(jobs.engine)

    def no_room(owner: str) -> str | None:
        # The local user, who shares this machine with nobody, has no quota.
        return lack_of_room(owner, keys=keys, jobs=jobs.store) if settings.sign_in == "keys" else None

    def max_running(owner: str) -> int | None:
        quota = owner_quota(keys.list(owner), now=utc_now()) if settings.sign_in == "keys" else None
        return quota.max_running if quota is not None else None

    def tell(watch: Watch, reason: str, next_try: datetime) -> None:
        payload = watch_payload(
            watch.id, watch.name, reason=reason, next_try=next_try, at=utc_now(), base_url=settings.public_address
        )
        tell_owner(notifications, watch.owner, payload, now=utc_now())

    def poll() -> None:
        poll_watches(watches, hubs.releases, rights, tell=tell)

    def act() -> None:
        act_on_releases(
            ReleaseContext(
                watches=watches,
                jobs=jobs.store,
                hub=hubs.source,
                wake=wake,
                core_version=version("srr-compression"),
                rights=rights,
                no_room=no_room,
                max_running=max_running,
            )
        )

    return poll, act


def _notification_duties(store: NotificationStore, jobs: Jobs, settings: ServiceSettings) -> tuple[Duty, ...]:
    sender = Sender(
        allow_private=settings.allow_private_webhooks,
        mail_server=settings.mail_server,
        mail_from=settings.mail_from,
    )
    context = DeliveryContext(store=store, vault=jobs.vault, send=sender, base_url=settings.public_address)

    def write() -> None:
        write_messages(context)

    def send() -> None:
        send_messages(context)

    return write, send


def rate_limiter(settings: JobsSettings) -> RateLimiter:
    """Return what counts requests: shared through Redis where the broker is one."""
    if settings.broker_url is None:
        return MemoryRateLimiter()  # the broker is made of files, and one process serves everybody
    client = redis_client(settings.resolved_broker_url, master_name=settings.broker_master_name)
    return FallbackRateLimiter(RedisRateLimiter(client, prefix=settings.key_prefix))


def _secret(settings: ServiceSettings) -> str | None:
    return settings.form_secret.get_secret_value() if settings.form_secret else None


def _shell(settings: ServiceSettings, hub_url: str, lifespan: Lifespan | None = None) -> FastAPI:
    pages = Pages(FormGuard(_secret(settings)), hub_url=hub_url, has_sign_in=settings.sign_in != "none")
    app = FastAPI(
        title="SRR compression service",
        description=DESCRIPTION,
        version=version("srr-compression"),
        docs_url=None,
        redoc_url=None,
        lifespan=lifespan,
        strict_content_type=True,
        dependencies=[Depends(refuse_broken_text)],
        telemetry={"tracing": False, "metrics": False, "logs": False},  # ObservedRequestsMiddleware says why
        middleware=[
            Middleware(RequestIdMiddleware),
            Middleware(SecurityHeadersMiddleware),
            Middleware(ObservedRequestsMiddleware),
            Middleware(RateLimitHeadersMiddleware),
            Middleware(PlainErrorsMiddleware),
            Middleware(UnexpectedErrorsMiddleware, answer=answer_unexpected(pages.error)),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(settings.allowed_hosts)),
            # Not FastAPI's own `max_body_size`: that one sits outside of ours and answers in plain text.
            Middleware(GateMiddleware, max_body_bytes=settings.max_body_bytes),
        ],
    )
    app.state.pages = pages
    install_error_handlers(app, page=pages.error, of_pages={ForgedFormError: HTTPStatus.FORBIDDEN})
    for module in (
        jobs,
        texts,
        trainings,
        events,
        reports,
        models,
        keys,
        watches,
        hooks,
        endpoints,
        usage,
        recipes,
        workers,
        health,
    ):
        app.include_router(module.router)
    for pages_router in (web_pages.router, automation.router, sign_in.router, account_sign_in.router):
        app.include_router(pages_router)
    describe_outgoing(app)
    install_openapi(app)
    app.mount("/static", _CachedFiles(directory=STATIC), name="static")
    return app


class _CachedFiles(StaticFiles):
    """Static files that a browser asks about again: they are small, and a stale script is worse than a 304."""

    async def get_response(self, path: str, scope: Scope) -> Response:
        response = await super().get_response(path, scope)
        response.headers["Cache-Control"] = "no-cache"
        return response
