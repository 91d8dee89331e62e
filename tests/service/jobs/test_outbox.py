"""From a committed job to the broker, over brokers that work and brokers that do not."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path

import pytest
from pydantic import SecretStr

from service.jobs.errors import QueueUnavailableError
from service.jobs.maintenance import Maintenance, flush_duty, job_duties
from service.jobs.memory_store import MemoryJobStore
from service.jobs.outbox import BrokerWatch, flush_outbox
from service.jobs.queue import CeleryJobQueue, MemoryJobQueue, create_celery
from service.jobs.reaper import resend_lost_messages
from service.jobs.schema import Job
from service.jobs.settings import JobsSettings
from tests.service.jobs.conftest import Clock

MakeJob = Callable[..., Job]


@pytest.fixture(params=["filesystem", "redis"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> CeleryJobQueue:
    url = SecretStr(request.getfixturevalue("redis_url")) if request.param == "redis" else None
    settings = JobsSettings(data_dir=tmp_path, broker_url=url, key_prefix=f"{tmp_path.name}:")
    return CeleryJobQueue(create_celery(settings), settings.queue_name)


def test_real_broker_counts_what_was_sent(broker: CeleryJobQueue) -> None:
    assert broker.depth() == 0

    broker.enqueue("job_1", 1)
    broker.enqueue("job_2", 1, traceparent="00-1-2-01")

    assert broker.depth() == 2


def test_redis_that_is_down_is_reported_quickly(tmp_path: Path) -> None:
    settings = JobsSettings(data_dir=tmp_path, broker_url=SecretStr("redis://127.0.0.1:9/0"))
    queue = CeleryJobQueue(create_celery(settings), settings.queue_name)

    with pytest.raises(QueueUnavailableError):
        queue.enqueue("job_1", 1)
    with pytest.raises(QueueUnavailableError):
        queue.ping()


@pytest.fixture
def broken_redis() -> Iterator[str]:
    """The address of a server that greets like Redis and hangs up at the first command that is meant."""
    greetings = {b"PING": b"+PONG\r\n", b"HELLO": b"%1\r\n$5\r\nproto\r\n:3\r\n", b"CLIENT": b"+OK\r\n"}

    def answer(connection: socket.socket) -> None:
        with connection, suppress(OSError):
            while data := connection.recv(65536):
                for command in data.split(b"*")[1:]:
                    greeting = next((said for name, said in greetings.items() if name in command.upper()), None)
                    if greeting is None:
                        return
                    connection.sendall(greeting)

    with socket.create_server(("127.0.0.1", 0)) as listener:

        def listen() -> None:
            with suppress(OSError):
                while True:
                    threading.Thread(target=answer, args=(listener.accept()[0],), daemon=True).start()

        thread = threading.Thread(target=listen)
        thread.start()
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_redis_that_hangs_up_in_the_middle_is_reported_as_away(broken_redis: str, tmp_path: Path) -> None:
    settings = JobsSettings(data_dir=tmp_path, broker_url=SecretStr(broken_redis))
    queue = CeleryJobQueue(create_celery(settings), settings.queue_name)

    with pytest.raises(QueueUnavailableError):
        queue.depth()
    with pytest.raises(QueueUnavailableError):
        queue.enqueue("job_1", 1)


def test_each_committed_job_is_sent_once(make_job: MakeJob) -> None:
    store, queue = MemoryJobStore(), MemoryJobQueue()
    jobs = [store.add(make_job()) for _ in range(3)]

    assert flush_outbox(store, queue) == 3
    assert flush_outbox(store, queue) == 0
    assert queue.messages == [(job.id, 1) for job in jobs]


def test_job_submitted_while_the_broker_is_down_is_sent_when_it_is_up(make_job: MakeJob) -> None:
    store, queue = MemoryJobStore(), MemoryJobQueue()
    job = store.add(make_job())
    queue.is_down = True

    with pytest.raises(QueueUnavailableError):
        flush_outbox(store, queue)
    queue.is_down = False
    flush_outbox(store, queue)

    assert queue.messages == [(job.id, 1)]


def test_watch_says_what_the_broker_said_when_it_was_looked_at_last() -> None:
    queue = MemoryJobQueue()
    watch = BrokerWatch(queue)

    assert watch()  # nobody has reason to think otherwise
    queue.is_down = True
    assert watch()  # not looked at yet
    with pytest.raises(QueueUnavailableError):
        watch.look()
    assert not watch()
    queue.is_down = False
    watch.look()
    assert watch()


def test_message_is_sent_again_when_it_is_lost_and_old(make_job: MakeJob) -> None:
    store, queue = MemoryJobStore(), MemoryJobQueue()
    job = store.add(make_job())
    flush_outbox(store, queue)

    assert resend_lost_messages(store, queue, older_than=timedelta(0)) == 0
    queue.messages.clear()
    assert resend_lost_messages(store, queue, older_than=timedelta(minutes=1)) == 0
    assert resend_lost_messages(store, queue, older_than=timedelta(0)) == 1
    flush_outbox(store, queue)
    assert queue.messages == [(job.id, 1)]


def test_lost_messages_do_not_starve_behind_a_newcomer(make_job: MakeJob) -> None:
    store, queue = MemoryJobStore(), MemoryJobQueue()
    old = [store.add(make_job()) for _ in range(5)]
    flush_outbox(store, queue)
    queue.messages.clear()  # the broker is flushed
    newcomer = store.add(make_job())
    flush_outbox(store, queue)

    assert resend_lost_messages(store, queue, older_than=timedelta(0)) == 5
    flush_outbox(store, queue)

    assert queue.messages == [(newcomer.id, 1), *((job.id, 1) for job in old)]


def test_a_long_queue_does_not_grow_by_itself(make_job: MakeJob) -> None:
    store, queue = MemoryJobStore(), MemoryJobQueue()
    jobs = [store.add(make_job()) for _ in range(5)]
    flush_outbox(store, queue)
    del queue.messages[1]  # one is lost, the others wait their turn

    for _ in range(3):
        resend_lost_messages(store, queue, older_than=timedelta(0))
        flush_outbox(store, queue)

    assert len(queue.messages) == len(jobs)


def test_maintenance_thread_sends_when_it_is_woken(make_job: MakeJob, tmp_path: Path) -> None:
    store, queue, rounds = MemoryJobStore(), MemoryJobQueue(), []
    first_round, sent = threading.Event(), threading.Event()

    def note_round() -> None:
        rounds.append(1)
        first_round.set()

    def flush() -> None:
        if flush_outbox(store, queue):
            sent.set()

    maintenance = Maintenance((note_round,), interval_seconds=3600, urgent=(flush,))
    maintenance.start()
    assert first_round.wait(10)
    job = store.add(make_job())
    maintenance.wake()
    assert sent.wait(10)
    maintenance.stop()

    assert queue.messages == [(job.id, 1)]
    assert rounds == [1]  # waking does not reap, and does not ask the broker how long its queue is


def test_one_round_finds_what_was_lost_and_sends_it(make_job: MakeJob, tmp_path: Path, clock: Clock) -> None:
    store, queue = MemoryJobStore(clock=clock), MemoryJobQueue()
    job = store.add(make_job())
    store.claim(job.id, 1, worker="killed", lasts=timedelta(seconds=60))
    clock.advance(seconds=61)
    duties = job_duties(store, queue, JobsSettings(data_dir=tmp_path))

    Maintenance(duties, interval_seconds=3600, urgent=(flush_duty(store, queue),)).run_once()

    assert queue.messages == [(job.id, 2)]


def test_one_failing_duty_does_not_keep_the_others_from_their_turn() -> None:
    done: list[str] = []

    def broken() -> None:
        raise RuntimeError("bug")

    Maintenance((broken, lambda: done.append("after")), interval_seconds=3600).run_once()

    assert done == ["after"]
