"""Redis behind Sentinels: the same for the messages to the workers and for what the processes count together."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr, ValidationError

from service.app import rate_limiter
from service.jobs.queue import CeleryJobQueue, create_celery
from service.jobs.settings import JobsSettings
from service.keys.rate_limit import MemoryRateLimiter, RedisRateLimiter
from service.platform.redis_client import redis_client
from tests.servers import sentinel_server

MASTER = "srr-master"


@pytest.fixture
def settings(redis_url: str, tmp_path: Path) -> Iterator[JobsSettings]:
    """An installation whose broker is found through two Sentinels, the first of which is down."""
    with sentinel_server(redis_url, master_name=MASTER) as url:
        urls = SecretStr(f"sentinel://127.0.0.1:9/0;{url}")
        yield JobsSettings(
            data_dir=tmp_path, broker_url=urls, broker_master_name=MASTER, key_prefix=f"{tmp_path.name}:"
        )


def test_messages_reach_the_master(settings: JobsSettings) -> None:
    app = create_celery(settings)
    queue = CeleryJobQueue(app, settings.queue_name)

    queue.enqueue("job_01k9z6h3v2m8q4t7w1x5y0c3d6", 1)

    assert queue.depth() == 1
    app.close()


def test_processes_share_the_limit(settings: JobsSettings) -> None:
    clients = [redis_client(settings.resolved_broker_url, master_name=settings.broker_master_name) for _ in range(2)]
    one, other = (RedisRateLimiter(client, prefix=settings.key_prefix) for client in clients)

    decisions = [one.hit("k", per_minute=2), other.hit("k", per_minute=2), one.hit("k", per_minute=2)]

    assert [decision.allowed for decision in decisions] == [True, True, False]
    [client.close() for client in clients]


def test_files_need_no_client(tmp_path: Path) -> None:
    assert isinstance(rate_limiter(JobsSettings(data_dir=tmp_path)), MemoryRateLimiter)


@pytest.mark.parametrize(
    ("url", "named"),
    [("sentinel://:s3cret@127.0.0.1", "SERVICE_BROKER_MASTER_NAME"), ("amqp://:s3cret@127.0.0.1", "redis://, rediss")],
)
def test_a_broker_that_would_only_half_work_is_refused_at_the_start(
    monkeypatch: pytest.MonkeyPatch, url: str, named: str
) -> None:
    monkeypatch.setenv("SERVICE_BROKER_URL", url)

    with pytest.raises(ValidationError, match=named) as refused:
        JobsSettings()

    assert "s3cret" not in str(refused.value)
