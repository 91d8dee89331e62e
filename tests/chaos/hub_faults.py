"""Faults of the Hub, each aimed at one job: what it answers, what it loses, and who dies at the commit."""

from collections.abc import Callable, Mapping

from tests.chaos.processes import kill_together
from tests.chaos.scene import Scene, jobs_of
from tests.hub_server import Failure

_READING, _WRITING = ("info", "resolve"), ("create", "preupload", "lfs_batch", "lfs_put", "commit")
_NAMED = ("info", "resolve", "preupload", "lfs_batch", "commit")
"""Routes whose path tells the repository, so that nobody else is hit."""
_REFUSALS: Mapping[int, tuple[str, ...]] = {
    401: ("invalid_hub_token",),
    403: ("access_denied", "gated_model", "destination_forbidden"),
    404: ("model_not_found", "revision_not_found", "hub_refused", "destination_forbidden"),
    409: ("destination_conflict", "hub_refused"),
}
"""A status that is meant for good, and the codes a job may fail with because of it."""
PASSING = ("hub_unavailable", "download_corrupted", "stale_parent")
"""Codes of troubles that pass: a job may give up when they meet it at every attempt."""


def refuse(scene: Scene) -> str:
    """The Hub refuses one request of a job for good."""
    status = scene.chance.choice(sorted(_REFUSALS))
    route, repo_id = _aim(scene, _NAMED)
    if repo_id:
        scene.excuses[repo_id].update(_REFUSALS[status])
        scene.installation.hub.fail(route, Failure.status(status), path_contains=_part(route, repo_id))
    return f"{status} on {route} of {repo_id}"


def change_head(scene: Scene) -> str:
    """The Hub says that somebody else has moved the branch."""
    return _fail(scene, Failure.status(412), ("commit",), times=1)


def limit_rate(scene: Scene) -> str:
    """The Hub asks for a pause and says for how long."""
    return _fail(scene, Failure.rate_limited(seconds=scene.chance.randrange(1, 3)), None, times=1)


def limit_rate_silently(scene: Scene) -> str:
    """The Hub asks for a pause of unknown length."""
    return _fail(scene, Failure.status(429), None, times=scene.chance.randrange(1, 3))


def break_down(scene: Scene) -> str:
    """The Hub has an error of its own."""
    failure = Failure.status(scene.chance.choice((500, 502, 503)))
    return _fail(scene, failure, None, times=scene.chance.randrange(1, 6))


def answer_slowly(scene: Scene) -> str:
    """Half of an answer comes late."""
    return _fail(scene, Failure.slow_body(scene.chance.uniform(0.5, 5)), None, times=2)


def truncate(scene: Scene) -> str:
    """A file ends in the middle."""
    return _fail(scene, Failure.truncated_body(), ("resolve",), times=scene.chance.randrange(1, 4))


def corrupt(scene: Scene) -> str:
    """A file has a bit that is wrong."""
    for customer in scene.unfinished():
        # Who looks at a model before it is accepted reads its small files unchecked; only a worker knows their digests.
        scene.excuses[customer.plan.source_id].update(("unsupported_model", "invalid_checkpoint"))
    return _fail(scene, Failure.corrupted_body(), ("resolve",), times=scene.chance.randrange(1, 4))


def disconnect(scene: Scene) -> str:
    """The Hub hangs up instead of answering."""
    return _fail(scene, Failure.disconnect(after_handling=scene.chance.random() < 0.5), None, times=1)


def lose_answer_of_commit(scene: Scene) -> str:
    """The commit is stored, and its answer does not arrive."""
    return _fail(scene, Failure.disconnect(after_handling=True), ("commit",), times=1)


def kill_before_commit(scene: Scene) -> str:
    """The job dies when the Hub has its commit and has not stored it."""
    return _kill_at_commit(scene, Failure.first)


def kill_after_commit(scene: Scene) -> str:
    """The job dies when its commit is stored and it does not know."""
    return _kill_at_commit(scene, Failure.then)


def disable(scene: Scene) -> str:
    """A repository is disabled for a while."""
    customer = scene.customer()
    if customer is None:
        return ""
    repository = scene.installation.hub.repository(customer.plan.source_id)
    repository.disabled = True
    scene.excuses[customer.plan.source_id].update(("disabled_model", "access_denied"))

    def enable() -> None:
        repository.disabled = False

    scene.agenda.later(scene.chance.uniform(0.5, 3), enable)
    return customer.plan.source_id


def rename(scene: Scene) -> str:
    """A model gets another name, and its old one leads there; later it moves back."""
    hub, customer = scene.installation.hub, scene.customer()
    if customer is None or hub.repository(customer.plan.source_id).renamed_to is not None:
        return ""
    old = customer.plan.source_id
    hub.rename(old, f"{old}-moved")

    def move_back() -> None:
        hub.repository(old).renamed_to = None

    scene.agenda.later(scene.chance.uniform(1, 8), move_back)
    return old


def _kill_at_commit(scene: Scene, when: Callable[[Callable[[], object]], Failure]) -> str:
    customer = scene.customer()
    if customer is None:
        return ""
    job_id = customer.job_id or ""

    def kill() -> None:
        for worker in scene.installation.workers:
            if job_id in jobs_of(worker):
                kill_together(worker.job_processes())

    scene.installation.hub.fail("commit", when(kill), path_contains=customer.destination)
    return customer.destination


def _fail(scene: Scene, failure: Failure, routes: tuple[str, ...] | None, *, times: int) -> str:
    route, repo_id = _aim(scene, routes)
    if repo_id:
        scene.excuses[repo_id].update(PASSING)
        scene.installation.hub.fail(route, failure, times=times, path_contains=_part(route, repo_id))
    return f"{route} of {repo_id}, {times} times"


def _aim(scene: Scene, routes: tuple[str, ...] | None) -> tuple[str, str]:
    customer = scene.customer()
    route = scene.chance.choice(routes or (*_READING, *_WRITING))
    if customer is None:
        return route, ""
    return route, customer.plan.source_id if route in _READING else customer.destination


def _part(route: str, repo_id: str) -> str:
    """Some requests do not have the repository in their path; they hit whoever comes first."""
    return "" if route in ("create", "lfs_put") else repo_id


FAULTS: Mapping[str, tuple[Callable[[Scene], str], int]] = {
    "hub_refuse": (refuse, 2),
    "hub_change_head": (change_head, 2),
    "hub_limit_rate": (limit_rate, 2),
    "hub_limit_rate_silently": (limit_rate_silently, 2),
    "hub_break_down": (break_down, 4),
    "hub_answer_slowly": (answer_slowly, 2),
    "hub_truncate": (truncate, 2),
    "hub_corrupt": (corrupt, 2),
    "hub_disconnect": (disconnect, 2),
    "hub_lose_answer_of_commit": (lose_answer_of_commit, 3),
    "hub_kill_before_commit": (kill_before_commit, 2),
    "hub_kill_after_commit": (kill_after_commit, 3),
    "hub_disable": (disable, 1),
    "hub_rename": (rename, 1),
}
