"""What keeps the owners of an installation apart on the hubs they share: where each may use the worker's Hub token,
and who published what.

A job that brings a Hub token of its own does with it what the Hub allows. One that brings none is read and published
with the worker's token, but only in the namespaces that the operator has lent to its owner; everywhere else it sees
what anybody sees. Nobody overwrites what somebody else published with that token, or in the folder hub.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, Engine, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.jobs import tables
from service.jobs.credentials import brings_own_token
from service.jobs.errors import DestinationTakenError, HubTokenNeededError, InvalidJobError
from service.platform.clock import utc_now
from service.platform.database import reading, writing

LOCAL_OWNER = "local"
"""The one user of a service where nobody signs in: the operator, to whom everything is lent."""
EVERYWHERE = "*"
_NAMESPACE = re.compile(r"\*|[A-Za-z0-9][A-Za-z0-9._-]{0,95}")
_LOANS, _PUBLICATIONS = tables.lent_namespaces.c, tables.publications.c


@dataclass(frozen=True)
class Loan:
    """The namespaces where jobs of an owner may use the worker's own Hub token."""

    namespaces: frozenset[str] = frozenset()
    """In lower case, as hubs do not tell names apart by case; `*` is every one."""

    def covers(self, repo_id: str) -> bool:
        """Whether the worker's token may be used for a repository."""
        namespace = repo_id.split("/", maxsplit=1)[0].lower()
        return EVERYWHERE in self.namespaces or namespace in self.namespaces

    def __str__(self) -> str:
        """Return the namespaces in words."""
        return ", ".join(sorted(self.namespaces)) or "none"


NOTHING_LENT = Loan()


class Tenancy:
    """Loans and publications, in the database."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def of(self, owner: str) -> "Tenant":
        """Return the view of one owner."""
        return Tenant(owner, self)

    def loan(self, owner: str) -> Loan:
        """Return what is lent to an owner. Accounts of the Hub, whom nobody may know, are lent nothing."""
        if owner == LOCAL_OWNER:
            return Loan(frozenset({EVERYWHERE}))
        if brings_own_token(owner):
            return NOTHING_LENT
        query = select(_LOANS.namespace).where(_LOANS.owner == owner)
        with reading(self._engine) as connection:
            return Loan(frozenset(connection.execute(query).scalars()))

    def loans(self) -> Sequence[tuple[str, str]]:
        """Return every owner and namespace lent to them, in order."""
        query = select(_LOANS.owner, _LOANS.namespace).order_by(_LOANS.owner, _LOANS.namespace)
        with reading(self._engine) as connection:
            return [(row.owner, row.namespace) for row in connection.execute(query)]

    def lend(self, owner: str, namespace: str) -> None:
        """Let an owner's jobs use the worker's token in a namespace, or in all of them (`*`).

        Raises:
            InvalidJobError: it is no namespace, or the owner is an account of the Hub.
        """
        if not _NAMESPACE.fullmatch(namespace):
            raise InvalidJobError(f"{namespace!r} is not a namespace; write a user or organization of the Hub, or '*'")
        if brings_own_token(owner):
            raise InvalidJobError(f"{owner} is an account of the Hub, which brings a token of its own")
        values = {"owner": owner, "namespace": namespace.lower()}
        with writing(self._engine) as connection:
            known = select(_LOANS.owner).where(_LOANS.owner == owner, _LOANS.namespace == namespace.lower())
            if connection.execute(known).one_or_none() is None:
                connection.execute(insert(tables.lent_namespaces).values(values))

    def take_back(self, owner: str, namespace: str) -> bool:
        """End a loan and return whether there was one. Jobs that have their token already keep it until they end."""
        ended = delete(tables.lent_namespaces).where(_LOANS.owner == owner, _LOANS.namespace == namespace.lower())
        with writing(self._engine) as connection:
            return connection.execute(ended).rowcount > 0

    def publisher(self, repo_id: str) -> str | None:
        """Return who published a repository through this installation, or None."""
        query = select(_PUBLICATIONS.owner).where(_PUBLICATIONS.repo_id == repo_id.lower())
        with reading(self._engine) as connection:
            found: str | None = connection.execute(query).scalar_one_or_none()
            return found

    def publish(self, repo_id: str, owner: str, *, is_allowed: bool) -> bool:
        """Write an owner down as the publisher of a repository; False, and nothing is, when it is somebody else's.

        Args:
            is_allowed: Whether the Hub itself lets this owner write there, whoever published before.
        """
        mine = {"repo_id": repo_id.lower(), "owner": owner, "published_at": utc_now()}
        with writing(self._engine) as connection:
            if _inserted(connection, mine):
                return True
            known = update(tables.publications).where(_PUBLICATIONS.repo_id == mine["repo_id"])
            known = known if is_allowed else known.where(_PUBLICATIONS.owner == owner)
            return connection.execute(known.values(mine)).rowcount > 0


@dataclass(frozen=True)
class Tenant:
    """One owner among the others."""

    owner: str
    tenancy: Tenancy

    @property
    def loan(self) -> Loan:
        """Where the worker's token is lent."""
        return self.tenancy.loan(self.owner)

    def sees_local(self, repo_id: str) -> bool:
        """Whether a private repository of the folder hub, which knows no tokens, is theirs."""
        is_mine = self.tenancy.publisher(repo_id) == self.owner
        return is_mine or self.loan.covers(repo_id)

    def require_destination(self, repo_id: str, *, is_free: bool) -> None:
        """Refuse a destination where a shared token, or a folder, would let them overwrite what is not theirs.

        Args:
            is_free: Whether nothing is there yet.

        Raises:
            DestinationTakenError: somebody else published there, or nobody known did.
        """
        publisher = self.tenancy.publisher(repo_id)
        if self.owner in (LOCAL_OWNER, publisher) or (publisher is None and is_free):
            return
        raise taken(repo_id)

    def require_loan(self, repo_id: str) -> None:
        """Refuse a destination on a hub with tokens where the worker's is not lent to them.

        Raises:
            HubTokenNeededError: a job there has to bring a token of its own.
        """
        if not self.loan.covers(repo_id):
            raise HubTokenNeededError(
                f"Publishing to {repo_id} needs a Hub token of yours: give hub_token with the job, or ask the operator "
                f"to lend you the service's own there (srr keys lend). Lent to you: {self.loan}."
            )

    def publish(self, repo_id: str, *, with_own_token: bool) -> None:
        """Write them down as the publisher of a destination, once and before anything is there.

        Raises:
            DestinationTakenError: somebody else was faster.
        """
        is_allowed = with_own_token or self.owner == LOCAL_OWNER
        if not self.tenancy.publish(repo_id, self.owner, is_allowed=is_allowed):
            raise taken(repo_id)


def taken(repo_id: str) -> DestinationTakenError:
    """Return the refusal of a destination, which does not say whose it is."""
    return DestinationTakenError(f"{repo_id} is not yours to replace; choose another name, or give a token of your own")


def _inserted(connection: Connection, values: dict[str, object]) -> bool:
    try:
        with connection.begin_nested():
            connection.execute(insert(tables.publications).values(values))
    except IntegrityError:
        return False
    return True
