"""Watches and releases in the database."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Engine, Row, delete, func, insert, select, update
from sqlalchemy.exc import IntegrityError

from service.jobs.database import reading, writing
from service.releases.errors import WatchNotFoundError
from service.releases.schema import Release, ReleaseState, Watch, WatchRules
from service.releases.tables import releases, watches

_WATCHES, _RELEASES = watches.c, releases.c
_VISIBLE = tuple(column for column in _WATCHES if column.name != "secret")
_RULES = tuple(WatchRules.model_fields)


class WatchStore:
    """The watches of an installation and what they found."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def add(self, watch: Watch, *, sealed_secret: bytes) -> None:
        """Insert a watch."""
        values = {"id": watch.id, "owner": watch.owner, "created_at": watch.created_at, "rules": _rules(watch)}
        with writing(self._engine) as connection:
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

    def list(self, owner: str | None = None) -> Sequence[Watch]:
        """Return the watches of an owner, or all, newest first."""
        query = select(*_VISIBLE).order_by(_WATCHES.id.desc())
        with reading(self._engine) as connection:
            rows = connection.execute(query if owner is None else query.where(_WATCHES.owner == owner)).all()
        return [_watch(row) for row in rows]

    def change(self, watch: Watch) -> None:
        """Store the rules of a watch. Raises WatchNotFoundError."""
        with writing(self._engine) as connection:
            changed = connection.execute(
                update(watches)
                .where(_WATCHES.id == watch.id, _WATCHES.owner == watch.owner)
                .values(rules=_rules(watch))
            )
        if changed.rowcount != 1:
            raise WatchNotFoundError(f"no watch has the id {watch.id!r}")

    def delete(self, watch_id: str, *, owner: str | None = None) -> None:
        """Delete a watch and what it found; its jobs stay. Raises WatchNotFoundError."""
        self.get(watch_id, owner=owner)
        with writing(self._engine) as connection:
            connection.execute(delete(watches).where(_WATCHES.id == watch_id))

    def mark_polled(self, watch_id: str, *, now: datetime, swept: bool) -> None:
        """Record that the poller has been through the models of a watch."""
        values = {"polled_at": now, **({"swept_at": now} if swept else {})}
        with writing(self._engine) as connection:
            connection.execute(update(watches).where(_WATCHES.id == watch_id).values(values))

    def record(self, release: Release) -> bool:
        """Insert a release, unless it was seen before; return whether it is new."""
        values = release.model_dump() | {"state": str(release.state), "job_ids": list(release.job_ids)}
        try:
            with writing(self._engine) as connection:
                connection.execute(insert(releases).values(values))
        except IntegrityError:
            return False
        return True

    def pending(self, *, now: datetime, limit: int = 50) -> Sequence[Release]:
        """Return releases that wait for a decision and are due, oldest first."""
        query = (
            select(releases)
            .where(_RELEASES.state == str(ReleaseState.PENDING), _RELEASES.due_at <= now)
            .order_by(_RELEASES.due_at, _RELEASES.id)
            .limit(limit)
        )
        with reading(self._engine) as connection:
            return [_release(row) for row in connection.execute(query)]

    def decide(
        self,
        release: Release,
        state: ReleaseState,
        *,
        now: datetime,
        reason: str | None = None,
        jobs: Sequence[str] = (),
    ) -> None:
        """Record what became of a release."""
        values = {"state": str(state), "reason": reason, "job_ids": [*jobs], "decided_at": now}
        with writing(self._engine) as connection:
            connection.execute(update(releases).where(_RELEASES.id == release.id).values(values))

    def defer(self, release: Release, *, until: datetime, reason: str) -> None:
        """Look at a release again later, and say why."""
        with writing(self._engine) as connection:
            connection.execute(update(releases).where(_RELEASES.id == release.id).values(due_at=until, reason=reason))

    def releases(self, watch_id: str, *, limit: int = 100) -> Sequence[Release]:
        """Return what a watch found, newest first."""
        query = select(releases).where(_RELEASES.watch_id == watch_id).order_by(_RELEASES.id.desc()).limit(limit)
        with reading(self._engine) as connection:
            return [_release(row) for row in connection.execute(query)]

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


def _rules(watch: Watch) -> dict[str, Any]:
    return watch.model_dump(mode="json", include=set(_RULES))


def _watch(row: Row[Any]) -> Watch:
    values = row._asdict()
    return Watch.model_validate(values | values.pop("rules"))


def _release(row: Row[Any]) -> Release:
    return Release.model_validate(row._asdict())
