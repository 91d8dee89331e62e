"""Watches and releases in the database."""

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from sqlalchemy import Engine, Row, delete, func, insert, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError

from service.platform.database import reading, writing
from service.platform.limits import require_fewer
from service.platform.stored import read_each, read_stored
from service.releases.errors import WatchNotFoundError
from service.releases.schema import Release, ReleaseState, Sweep, Watch, WatchRules
from service.releases.tables import releases, watches
from service.releases.upgrade import RULES_SCHEMA_VERSION, read_rules, read_watch

_WATCHES, _RELEASES = watches.c, releases.c
_VISIBLE = tuple(column for column in _WATCHES if column.name not in ("secret", "sweep_began_at", "swept_to"))
_RULES = tuple(WatchRules.model_fields)


class WatchesFound(NamedTuple):
    """Watches, and the ids of those that this version cannot read."""

    watches: tuple[Watch, ...]
    unreadable: tuple[str, ...]


MAX_WATCHES = 100
"""Of one owner; each is polled, with what the Hub allows us all."""


class WatchStore:
    """The watches of an installation and what they found."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, watch: Watch, *, sealed_secret: bytes) -> None:
        """Insert a watch. Raises LimitReachedError: the owner has MAX_WATCHES."""
        values = {"id": watch.id, "owner": watch.owner, "created_at": watch.created_at, "rules": _rules(watch)}
        with writing(self._engine) as connection:
            require_fewer(connection, watches, watch.owner, than=MAX_WATCHES)
            connection.execute(insert(watches).values(**values, secret=sealed_secret))

    def get(self, watch_id: str, *, owner: str | None = None) -> Watch:
        """Return a watch. Raises WatchNotFoundError, also for a watch of another owner."""
        query = select(*_VISIBLE).where(_WATCHES.id == watch_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        if row is None or (owner is not None and row.owner != owner):
            raise WatchNotFoundError(f"no watch has the id {watch_id!r}")
        return _watch(row)

    def secret(self, watch_id: str) -> bytes | None:
        """Return the sealed secret the Hub sends for a watch, or None when there is no such watch."""
        with reading(self._engine) as connection:
            found = connection.execute(select(_WATCHES.secret).where(_WATCHES.id == watch_id)).scalar_one_or_none()
        return None if found is None else bytes(found)

    def seal_anew(self, seal: Callable[[bytes], bytes]) -> int:
        """Seal the secrets of all watches anew, and return how many."""
        with writing(self._engine) as connection:
            rows = connection.execute(select(_WATCHES.id, _WATCHES.secret).with_for_update()).all()
            for watch_id, secret in rows:
                connection.execute(update(watches).where(_WATCHES.id == watch_id).values(secret=seal(bytes(secret))))
        return len(rows)

    def get_with_secret(self, watch_id: str) -> tuple[Watch, bytes] | None:
        """Return a watch and its sealed secret in one look, or None when there is no such watch."""
        query = select(*(*_VISIBLE, _WATCHES.secret)).where(_WATCHES.id == watch_id)
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else (_watch(row), bytes(row.secret))

    def list(self, owner: str | None = None) -> Sequence[Watch]:
        """Return the watches of an owner, or all, newest first, those that cannot be read left out."""
        return [*self.look(owner).watches]

    def look(self, owner: str | None = None) -> WatchesFound:
        """Return the watches of an owner, or all, newest first, and the ids of those that cannot be read."""
        query = select(*_VISIBLE).order_by(_WATCHES.id.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(query if owner is None else query.where(_WATCHES.owner == owner)).all()
        found, strange = read_each(rows, _watch, what="watch")
        return WatchesFound(tuple(found), tuple(row.id for row in strange))

    def change(self, watch: Watch, *, start_over: bool = False) -> None:
        """Store the rules of a watch. Raises WatchNotFoundError.

        Args:
            start_over: Look at everything anew at the next poll, as for a new watch.
        """
        begin = {"swept_at": None, "sweep_began_at": None, "swept_to": None, "next_poll_at": None}
        values = {"rules": _rules(watch)} | (begin if start_over else {})
        with writing(self._engine) as connection:
            changed = connection.execute(
                update(watches).where(_WATCHES.id == watch.id, _WATCHES.owner == watch.owner).values(values)
            )
        if changed.rowcount != 1:
            raise WatchNotFoundError(f"no watch has the id {watch.id!r}")

    def delete(self, watch_id: str, *, owner: str | None = None) -> None:
        """Delete a watch and what it found; its jobs stay. Raises WatchNotFoundError."""
        self.get(watch_id, owner=owner)
        with writing(self._engine) as connection:
            connection.execute(delete(watches).where(_WATCHES.id == watch_id))

    def take_turn(self, watch_id: str, *, now: datetime, until: datetime) -> bool:
        """Take on the poll of a watch that is due; False when somebody has. Nobody else gets it before `until`."""
        is_due = or_(_WATCHES.next_poll_at.is_(None), _WATCHES.next_poll_at <= now)
        take = update(watches).where(_WATCHES.id == watch_id, is_due).values(next_poll_at=until)
        with writing(self._engine) as connection:
            return connection.execute(take).rowcount == 1

    def mark_polled(self, watch: Watch, *, now: datetime, swept: bool, error: str | None = None) -> None:
        """Record that the poller has been through the models of a watch, unless that looks elsewhere by now.

        Args:
            error: What had to be left out.
        """
        values: dict[str, Any] = {"polled_at": now, "poll_failures": 0, "poll_error": error}
        if swept:
            values |= {"swept_at": now, "sweep_began_at": None, "swept_to": None}
        self._set(watch, values)

    def mark_failed(self, watch: Watch, *, until: datetime, error: str) -> None:
        """Record that a poll failed, and when the next one is due, unless the watch looks elsewhere by now."""
        failures = _WATCHES.poll_failures + 1
        self._set(watch, {"next_poll_at": until, "poll_failures": failures, "poll_error": error})

    def sweep(self, watch_id: str) -> Sweep | None:
        """Return the sweep of a watch that was interrupted, or None."""
        query = select(_WATCHES.sweep_began_at, _WATCHES.swept_to).where(
            _WATCHES.id == watch_id, _WATCHES.sweep_began_at.is_not(None)
        )
        with reading(self._engine) as connection:
            row = connection.execute(query).one_or_none()
        return None if row is None else Sweep(began_at=row.sweep_began_at, done_to=row.swept_to)

    def keep_sweep(self, watch: Watch, sweep: Sweep) -> None:
        """Store how far an interrupted sweep has come, unless the watch looks elsewhere by now."""
        self._set(watch, {"sweep_began_at": sweep.began_at, "swept_to": sweep.done_to})

    def known(self, watch_id: str) -> frozenset[tuple[str, str, str]]:
        """Return repository, ref and commit of every release of a watch."""
        query = select(_RELEASES.repo_id, _RELEASES.ref, _RELEASES.sha).where(_RELEASES.watch_id == watch_id)
        with reading(self._engine) as connection:
            return frozenset((row.repo_id, row.ref, row.sha) for row in connection.execute(query))

    def record(self, found: Sequence[Release]) -> int:
        """Insert releases of a watch in one statement, and return how many of them were not seen before."""
        if not found:
            return 0
        rows = [one.model_dump() | {"state": str(one.state), "job_ids": [*one.job_ids]} for one in found]
        try:
            with writing(self._engine) as connection:
                new = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
                unknown = new(releases).values(rows).on_conflict_do_nothing().returning(_RELEASES.id)
                return len(connection.execute(unknown).all())
        except IntegrityError:
            return 0  # the watch was deleted a moment ago

    def pending(self, *, now: datetime, limit: int = 50) -> Sequence[Release]:
        """Return releases that wait for a decision and are due, oldest first."""
        query = (
            select(releases)
            .where(_RELEASES.state == str(ReleaseState.PENDING), _RELEASES.due_at <= now)
            .order_by(_RELEASES.due_at, _RELEASES.id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return read_each(connection.execute(query), _release, what="release")[0]

    def decide(
        self,
        release: Release,
        state: ReleaseState,
        *,
        now: datetime,
        reason: str | None = None,
        jobs: Sequence[str] | None = None,
    ) -> None:
        """Record the outcome of a release, unless another process has."""
        self._settle(release, {"state": str(state), "reason": reason, "decided_at": now}, jobs)

    def defer(self, release: Release, *, until: datetime, reason: str, jobs: Sequence[str] | None = None) -> None:
        """Look at a release again later, and say why, unless another process has decided about it."""
        self._settle(release, {"due_at": until, "reason": reason}, jobs)

    def _settle(self, release: Release, values: Mapping[str, Any], jobs: Sequence[str] | None) -> None:
        made = {} if jobs is None else {"job_ids": [*jobs]}
        is_open = (_RELEASES.id == release.id, _RELEASES.state == str(ReleaseState.PENDING))
        with writing(self._engine) as connection:
            connection.execute(update(releases).where(*is_open).values({**values, **made}))

    def releases(self, watch_id: str, *, limit: int = 100) -> Sequence[Release]:
        """Return what a watch found, newest first."""
        query = select(releases).where(_RELEASES.watch_id == watch_id).order_by(_RELEASES.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            return read_each(connection.execute(query), _release, what="release")[0]

    def submitted_since(self, watch_id: str, since: datetime) -> int:
        """Return how many releases of a watch became jobs."""
        query = select(func.count()).where(
            _RELEASES.watch_id == watch_id,
            _RELEASES.state == str(ReleaseState.SUBMITTED),
            _RELEASES.decided_at > since,
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one()

    def is_submitted(self, release: Release) -> bool:
        """Whether the same commit became a job of this watch under another branch or tag."""
        query = select(func.count()).where(
            _RELEASES.watch_id == release.watch_id,
            _RELEASES.repo_id == release.repo_id,
            _RELEASES.sha == release.sha,
            _RELEASES.id != release.id,
            _RELEASES.state == str(ReleaseState.SUBMITTED),
        )
        with reading(self._engine) as connection:
            return connection.execute(query).scalar_one() > 0

    def _set(self, watch: Watch, values: Mapping[str, Any]) -> None:
        # What a poll by rules of the past has found out says nothing about where the watch looks now.
        query = select(_WATCHES.rules).where(_WATCHES.id == watch.id).with_for_update()
        with writing(self._engine) as connection:
            rules = connection.execute(query).scalar_one_or_none()
            if rules is not None and read_rules(rules).looks_at == watch.looks_at:
                connection.execute(update(watches).where(_WATCHES.id == watch.id).values(values))


def _rules(watch: Watch) -> dict[str, Any]:
    return watch.model_dump(mode="json", include=set(_RULES)) | {"schema_version": RULES_SCHEMA_VERSION}


def _watch(row: Row[Any]) -> Watch:
    values = row._asdict()
    values.pop("secret", None)
    return read_watch(values)


def _release(row: Row[Any]) -> Release:
    return read_stored(Release, row._asdict(), what="release")
