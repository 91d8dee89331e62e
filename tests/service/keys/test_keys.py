"""Keys: issued once, found by their text, limited, and ended."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Usage
from service.keys.access import authenticate, issue_key, lack_of_room, require_quota, require_scope
from service.keys.errors import InvalidKeyError, KeyNotFoundError, MissingScopeError, QuotaExceededError
from service.keys.rate_limit import MemoryRateLimiter, RateLimiter, RedisRateLimiter
from service.keys.schema import ALL_SCOPES, Quota
from service.keys.secret import parse_secret
from service.keys.store import KeyStore
from service.keys.tables import api_keys
from service.platform.database import migrate, open_database, reading
from service.platform.logging import mask
from tests.service.submitting import submitted

NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.fixture(params=["sqlite", "postgresql"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[KeyStore]:
    url = f"sqlite:///{tmp_path / 'jobs.sqlite3'}"
    engine = open_database(request.getfixturevalue("postgres_url") if request.param == "postgresql" else url)
    migrate(engine)
    yield KeyStore(engine)
    engine.dispose()


def test_issued_key_authenticates_with_what_it_was_given(store: KeyStore) -> None:
    issued = issue_key(
        store,
        name="ci",
        owner="alice",
        scopes=("jobs:read", "jobs:write"),
        quota=Quota(max_queued=3),
        clock=lambda: NOW,
    )

    found = authenticate(issued.text, store=store, clock=lambda: NOW)

    assert found == issued.key
    assert [key.last_used_at for key in store.list("alice")] == [NOW]
    assert store.list("bob") == []


def test_text_is_stored_nowhere_and_masked_in_logs(store: KeyStore) -> None:
    issued = issue_key(store, name="ci", owner="alice", scopes=ALL_SCOPES)
    secret = issued.text.split("_", 2)[2]

    with reading(store._engine) as connection:  # what is stored is the point
        stored = str(connection.execute(api_keys.select()).all())

    assert secret not in stored
    assert secret not in repr(issued)
    assert secret not in mask(f"Authorization: {issued.text}")


@pytest.mark.parametrize("break_it", [lambda text: text[:-1] + ("a" if text[-1] != "a" else "b"), lambda _: "srr_x_y"])
def test_wrong_text_is_refused(store: KeyStore, break_it: object) -> None:
    issued = issue_key(store, name="ci", owner="alice", scopes=ALL_SCOPES)

    with pytest.raises(InvalidKeyError):
        authenticate(break_it(issued.text), store=store)  # type: ignore[operator]


def test_expired_and_revoked_keys_look_alike(store: KeyStore) -> None:
    short = issue_key(store, name="a", owner="alice", scopes=ALL_SCOPES, lifetime=timedelta(hours=1), clock=lambda: NOW)
    gone = issue_key(store, name="b", owner="alice", scopes=ALL_SCOPES, clock=lambda: NOW)
    store.revoke(gone.key.id, owner="alice", now=NOW)

    with pytest.raises(InvalidKeyError) as expired:
        authenticate(short.text, store=store, clock=lambda: NOW + timedelta(hours=1))
    with pytest.raises(InvalidKeyError) as revoked:
        authenticate(gone.text, store=store, clock=lambda: NOW)
    assert str(expired.value) == str(revoked.value)


def test_key_is_revoked_once_and_only_by_its_owner(store: KeyStore) -> None:
    issued = issue_key(store, name="a", owner="alice", scopes=ALL_SCOPES)

    with pytest.raises(KeyNotFoundError):
        store.revoke(issued.key.id, owner="bob", now=NOW)
    assert store.revoke(issued.key.id, owner="alice", now=NOW).revoked_at == NOW
    assert store.revoke(issued.key.id, owner=None, now=NOW + timedelta(days=1)).revoked_at == NOW


def test_scope_is_required(store: KeyStore) -> None:
    key = issue_key(store, name="a", owner="alice", scopes=("jobs:read",)).key

    require_scope(key, "jobs:read")
    with pytest.raises(MissingScopeError, match="jobs:write"):
        require_scope(key, "jobs:write")


@pytest.mark.parametrize(
    ("quota", "usage"),
    [
        (Quota(max_queued=2), Usage(queued=2, running=0, running_seconds=0)),
        (Quota(minutes_per_day=1.5), Usage(queued=0, running=0, running_seconds=90)),
    ],
)
def test_used_up_quota_is_refused(quota: Quota, usage: Usage) -> None:
    with pytest.raises(QuotaExceededError):
        require_quota(quota, usage)
    require_quota(Quota(max_queued=None, max_running=None), usage)


def test_jobs_at_work_keep_no_other_from_waiting() -> None:
    require_quota(Quota(max_running=1), Usage(queued=0, running=1, running_seconds=0))


@given(st.text(max_size=80))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    assert parse_secret(text) is None


class Hand:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_burst_of_the_limit_is_allowed_and_then_one_per_step() -> None:
    clock = Hand()
    limiter = MemoryRateLimiter(clock=clock)

    burst = [limiter.hit("k", per_minute=6) for _ in range(7)]

    assert [decision.allowed for decision in burst] == [True] * 6 + [False]
    assert [decision.remaining for decision in burst] == [5, 4, 3, 2, 1, 0, 0]
    assert burst[-1].reset_seconds == pytest.approx(10)
    clock.now += 9.9
    assert not limiter.hit("k", per_minute=6).allowed
    clock.now += 0.2
    assert limiter.hit("k", per_minute=6).allowed
    assert limiter.hit("other", per_minute=6).allowed


def test_processes_that_share_a_redis_share_the_limit(redis_url: str, tmp_path: Path) -> None:
    clients = [redis.Redis.from_url(redis_url) for _ in range(2)]
    limiters: list[RateLimiter] = [RedisRateLimiter(client, prefix=f"{tmp_path.name}:") for client in clients]

    decisions = [limiters[number % 2].hit("k", per_minute=3) for number in range(4)]

    assert [decision.allowed for decision in decisions] == [True, True, True, False]
    assert [decision.remaining for decision in decisions[:3]] == [2, 1, 0]
    assert 18 < decisions[3].reset_seconds <= 20
    [client.close() for client in clients]


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], None),
        ([None], None),
        ([1], "the quota of 1 jobs waiting is used up (1); wait, or ask for more"),
        ([1, 2], None),
        ([1, None], None),
        ([0, 1], "the quota of 1 jobs waiting is used up (1); wait, or ask for more"),
    ],
)
def test_owner_whose_jobs_start_by_themselves_has_the_room_of_the_widest_key(
    store: KeyStore, limits: list[int | None], expected: str | None
) -> None:
    jobs = MemoryJobStore()
    [issue_key(store, name="k", owner="alice", scopes=(), quota=Quota(max_queued=limit)) for limit in limits]
    issue_key(store, name="k", owner="bob", scopes=(), quota=Quota(max_queued=0))
    submitted(jobs, owner="alice")

    assert lack_of_room("alice", keys=store, jobs=jobs) == expected


def test_revoked_key_widens_nothing_and_is_no_way_out_of_its_quota(store: KeyStore) -> None:
    wide = issue_key(store, name="wide", owner="alice", scopes=(), quota=Quota(max_queued=None)).key
    narrow = issue_key(store, name="narrow", owner="alice", scopes=(), quota=Quota(max_queued=0)).key
    jobs = MemoryJobStore()
    before = lack_of_room("alice", keys=store, jobs=jobs)

    store.revoke(wide.id, owner="alice", now=NOW)
    with_one = lack_of_room("alice", keys=store, jobs=jobs)
    store.revoke(narrow.id, owner="alice", now=NOW)
    issue_key(store, name="k", owner="bob", scopes=(), quota=Quota(max_queued=0), lifetime=timedelta(0))

    assert before is None
    assert with_one is not None
    assert lack_of_room("bob", keys=store, jobs=jobs) is not None
