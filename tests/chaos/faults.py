"""Faults of processes, servers, messages, the disk and clocks; `FAULTS` is the table of all, with their shares."""

import signal
from collections.abc import Callable, Mapping
from contextlib import suppress

import redis

from tests.chaos import hub_faults, network_faults
from tests.chaos.installation import KEY_PREFIX, LEASE_SECONDS, QUEUE
from tests.chaos.processes import Service, kill_together, send
from tests.chaos.scene import Scene
from tests.chaos.stores import Node

Fault = Callable[[Scene], str]
_QUEUE_KEY = f"{KEY_PREFIX}{QUEUE}"
_KEPT_MESSAGES = 60


def kill_job_process(scene: Scene) -> str:
    """The process of the job dies."""
    worker = scene.worker()
    kill_together(worker.job_processes())
    return worker.name


def kill_supervisor(scene: Scene) -> str:
    """The process above the job's dies; nothing may go on below it."""
    worker = scene.worker()
    scene.note_kill(worker)
    kill_together(worker.supervisors())
    return worker.name


def kill_worker(scene: Scene) -> str:
    """The worker's main process dies alone."""
    worker = scene.worker()
    kill_together(worker.main())
    scene.bring_back(worker)
    return worker.name


def kill_worker_tree(scene: Scene) -> str:
    """The worker dies with all that is below it, as its machine does."""
    worker = scene.worker()
    scene.note_kill(worker)
    kill_together(worker.tree())
    scene.bring_back(worker)
    return worker.name


def stop_worker(scene: Scene) -> str:
    """The worker is asked to end, as for an upgrade."""
    worker = scene.worker()
    send(worker.main(), signal.SIGTERM)
    _return_when_ended(scene, worker)
    return worker.name


def stop_everything_of_worker(scene: Scene) -> str:
    """Every process of the worker gets SIGTERM at once, as some service managers do it."""
    worker = scene.worker()
    send(worker.tree(), signal.SIGTERM)
    _return_when_ended(scene, worker)
    return worker.name


def freeze_worker(scene: Scene) -> str:
    """The worker's machine stands still until its leases have run out, then goes on."""
    worker = scene.worker()
    processes = worker.tree()
    return _freeze(scene, worker, processes, LEASE_SECONDS + scene.chance.uniform(1, 4))


def freeze_supervisor(scene: Scene) -> str:
    """Nobody renews the lease while the job goes on."""
    worker = scene.worker()
    return _freeze(scene, worker, worker.supervisors(), LEASE_SECONDS + scene.chance.uniform(1, 4))


def freeze_job_process(scene: Scene) -> str:
    """The job stands still while its lease is renewed."""
    worker = scene.worker()
    return _freeze(scene, worker, worker.job_processes(), scene.chance.uniform(0.5, LEASE_SECONDS))


def kill_api(scene: Scene) -> str:
    """One of the replicas dies."""
    api = scene.chance.choice(scene.installation.apis)
    kill_together(api.tree())
    scene.bring_back(api)
    return api.name


def stop_api(scene: Scene) -> str:
    """One of the replicas is asked to end."""
    api = scene.chance.choice(scene.installation.apis)
    send(api.main(), signal.SIGTERM)
    _return_when_ended(scene, api)
    return api.name


def freeze_api(scene: Scene) -> str:
    """One of the replicas stands still."""
    api = scene.chance.choice(scene.installation.apis)
    return _freeze(scene, api, api.tree(), scene.chance.uniform(1, 6))


def kill_redis(scene: Scene) -> str:
    """The broker dies and comes back with its append-only file."""
    return _kill_node(scene, scene.installation.redis)


def kill_redis_losing_tail(scene: Scene) -> str:
    """The broker's machine dies, and the last of its append-only file was not on the disk."""
    node = scene.installation.redis
    node.kill()
    count = scene.chance.randrange(1, 4000)
    node.lose_tail(count)
    scene.agenda.later(scene.chance.uniform(0.1, 3.0), node.start)
    return f"{count} bytes lost"


def freeze_redis(scene: Scene) -> str:
    """The broker stands still."""
    return _freeze_node(scene, scene.installation.redis)


def flush_broker(scene: Scene) -> str:
    """Everything in the broker is gone."""
    with suppress(redis.RedisError):
        scene.installation.redis.client.flushall()
    return ""


def kill_postgres(scene: Scene) -> str:
    """The database dies and recovers from its log."""
    return _kill_node(scene, scene.installation.postgres)


def freeze_postgres(scene: Scene) -> str:
    """The database stands still."""
    return _freeze_node(scene, scene.installation.postgres)


def end_sessions(scene: Scene) -> str:
    """Every connection to the database is broken at once."""
    scene.installation.postgres.end_sessions()
    return ""


def send_twice(scene: Scene) -> str:
    """Messages that wait are there twice; copies are kept to come again much later."""
    client = scene.installation.redis.client
    count = 0
    with suppress(redis.RedisError):
        for key in client.keys(f"{_QUEUE_KEY}*"):
            if client.type(key) == b"list":
                messages = client.lrange(key, -4, -1)
                scene.kept_messages += [(key.decode(), message) for message in messages]
                client.lpush(key, *messages)
                count += len(messages)
    del scene.kept_messages[:-_KEPT_MESSAGES]
    return f"{count} messages"


def send_late(scene: Scene) -> str:
    """Messages of long ago are delivered, whatever has become of their jobs."""
    again = scene.chance.sample(scene.kept_messages, min(5, len(scene.kept_messages)))
    with suppress(redis.RedisError):
        for key, message in again:
            scene.installation.redis.client.rpush(key, message)
    return f"{len(again)} messages"


def fill_disk(scene: Scene) -> str:
    """The disk of the workers is full for a while."""
    disk = scene.installation.disk
    disk.fill()
    scene.agenda.later(scene.chance.uniform(1, 8), disk.free)
    return "" if disk.can_fill else "not possible here"


def move_clock(scene: Scene) -> str:
    """The wall clock of one worker or API is off for a while."""
    name = scene.chance.choice(sorted(scene.installation.clocks))
    seconds = scene.chance.choice((-60, -10, 4, 10, 60))
    clock = scene.installation.clocks[name]
    clock.set(seconds)
    scene.agenda.later(scene.chance.uniform(2, 10), lambda: clock.set(0))
    return f"{name} {seconds:+d} s" if scene.installation.has_clocks else "not possible here"


def _return_when_ended(scene: Scene, service: Service) -> None:
    def look() -> None:
        if service.is_running:
            scene.agenda.later(0.3, look)
        else:
            service.start()

    scene.agenda.later(0.3, look)


def _freeze(scene: Scene, service: Service, processes: list, seconds: float) -> str:
    send(processes, signal.SIGSTOP)
    scene.agenda.later(seconds, lambda: send(processes, signal.SIGCONT))
    return f"{service.name}, {len(processes)} processes for {seconds:.1f} s"


def _kill_node(scene: Scene, node: Node) -> str:
    node.kill()
    seconds = scene.chance.uniform(0.1, 4.0)
    scene.agenda.later(seconds, node.start)
    return f"for {seconds:.1f} s"


def _freeze_node(scene: Scene, node: Node) -> str:
    seconds = scene.chance.uniform(0.5, LEASE_SECONDS / 2)
    node.freeze()
    scene.agenda.later(seconds, node.thaw)
    return f"for {seconds:.1f} s"


FAULTS: Mapping[str, tuple[Fault, int]] = {
    "kill_job_process": (kill_job_process, 4),
    "kill_supervisor": (kill_supervisor, 3),
    "kill_worker": (kill_worker, 1),
    "kill_worker_tree": (kill_worker_tree, 3),
    "stop_worker": (stop_worker, 1),
    "stop_everything_of_worker": (stop_everything_of_worker, 1),
    "freeze_worker": (freeze_worker, 1),
    "freeze_supervisor": (freeze_supervisor, 1),
    "freeze_job_process": (freeze_job_process, 2),
    "kill_api": (kill_api, 2),
    "stop_api": (stop_api, 1),
    "freeze_api": (freeze_api, 1),
    "kill_redis": (kill_redis, 2),
    "kill_redis_losing_tail": (kill_redis_losing_tail, 1),
    "freeze_redis": (freeze_redis, 1),
    "flush_broker": (flush_broker, 3),
    "kill_postgres": (kill_postgres, 2),
    "freeze_postgres": (freeze_postgres, 1),
    "end_sessions": (end_sessions, 2),
    "send_twice": (send_twice, 5),
    "send_late": (send_late, 3),
    "fill_disk": (fill_disk, 2),
    "move_clock": (move_clock, 2),
    **network_faults.FAULTS,
    **hub_faults.FAULTS,
}
