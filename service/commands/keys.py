"""`srr keys`: the operator's way to API keys, without one."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta

from rich.markup import escape
from rich.table import Table
from sqlalchemy import Engine

from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line, print_table
from service.jobs.errors import InvalidJobError
from service.jobs.settings import JobsSettings
from service.jobs.tenancy import Tenancy
from service.keys.access import issue_key
from service.keys.schema import ALL_SCOPES, ApiKey, Quota, Scope
from service.keys.store import KeyStore
from service.platform.database import migrate, open_database


def create(
    name: str,
    *,
    owner: str,
    scopes: Sequence[str] | None,
    days: int | None,
    limits: Mapping[str, float | None],
    as_json: bool,
) -> None:
    """Make a key and print its text, which cannot be shown again.

    Args:
        limits: Fields of `Quota` by name; None leaves the default.
    """
    lifetime = None if days is None else timedelta(days=days)
    quota = Quota.model_validate({name: limit for name, limit in limits.items() if limit is not None})
    with _key_store() as store:
        issued = issue_key(store, name=name, owner=owner, scopes=_known(scopes), quota=quota, lifetime=lifetime)
    if as_json:
        print_json({"key": issued.key.model_dump(mode="json"), "text": issued.text})
    else:
        print_line(issued.text)


def show(*, as_json: bool) -> None:
    """Print every key of every owner."""
    with _key_store() as store:
        keys = store.list(None)
    if as_json:
        print_json({"keys": [key.model_dump(mode="json") for key in keys]})
    else:
        print_table(_table(keys))


def revoke(key_id: str) -> None:
    """End a key."""
    with _key_store() as store:
        key = store.revoke(key_id, owner=None, now=datetime.now(UTC))
    print_line(f"{key.id} revoked")


def lend(owner: str, namespaces: Sequence[str]) -> None:
    """Let an owner's jobs use the worker's Hub token in some namespaces."""
    with _database() as engine:
        tenancy = Tenancy(engine)
        try:
            for namespace in namespaces:
                tenancy.lend(owner, namespace)
        except InvalidJobError as error:
            raise CommandError(str(error), exit_code=EXIT_BAD_INPUT) from error
        print_line(f"{owner} may use the worker's token for: {tenancy.loan(owner)}")


def take_back(owner: str, namespaces: Sequence[str]) -> None:
    """End the loan of some namespaces."""
    with _database() as engine:
        tenancy = Tenancy(engine)
        unknown = [namespace for namespace in namespaces if not tenancy.take_back(owner, namespace)]
        if unknown:
            raise CommandError(f"not lent to {owner}: {', '.join(unknown)}", exit_code=EXIT_BAD_INPUT)
        print_line(f"{owner} may use the worker's token for: {tenancy.loan(owner)}")


def show_loans(*, as_json: bool) -> None:
    """Print what is lent to whom."""
    with _database() as engine:
        loans = Tenancy(engine).loans()
    if as_json:
        print_json({"loans": [{"owner": owner, "namespace": namespace} for owner, namespace in loans]})
    for owner, namespace in () if as_json else loans:
        print_line(f"{owner}  {namespace}")


def _table(keys: Sequence[ApiKey]) -> Table:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for heading in ("Key", "Name", "Owner", "Rights", "Quota", "Expires", "State"):
        table.add_column(heading, no_wrap=heading in ("Key", "Expires", "State"))
    for key in keys:
        expires = key.expires_at.strftime("%Y-%m-%d") if key.expires_at else "never"
        state = "revoked" if key.revoked_at else ""
        rights, quota = ", ".join(key.scopes), _quota(key.quota)
        table.add_row(key.id, escape(key.name), escape(key.owner), rights, quota, expires, state)
    return table


def _quota(quota: Quota) -> str:
    limits = (
        ("queued", quota.max_queued),
        ("running", quota.max_running),
        ("min/day", quota.minutes_per_day),
        ("requests/min", quota.requests_per_minute),
    )
    return ", ".join(f"{limit:g} {what}" for what, limit in limits if limit is not None)


def _known(scopes: Sequence[str] | None) -> tuple[Scope, ...]:
    unknown = sorted(set(scopes or ()) - set(ALL_SCOPES))
    if unknown:
        raise CommandError(
            f"unknown right {unknown[0]!r}; the rights are {', '.join(ALL_SCOPES)}", exit_code=EXIT_BAD_INPUT
        )
    return tuple(scope for scope in ALL_SCOPES if not scopes or scope in scopes)


@contextmanager
def _key_store() -> Iterator[KeyStore]:
    with _database() as engine:
        yield KeyStore(engine)


@contextmanager
def _database() -> Iterator[Engine]:
    engine = open_database(JobsSettings().resolved_database_url)
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
