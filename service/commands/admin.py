"""`srr admin`: the operator's hands, in the database that SERVICE_* names; no service has to run."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict

from rich.markup import escape
from rich.table import Table

from service.commands.output import EXIT_BAD_INPUT, CommandError, print_json, print_line, print_table
from service.jobs.errors import CredentialError
from service.jobs.night import EVERY_WORKER, NightShift
from service.jobs.opening import Jobs, open_jobs
from service.jobs.settings import JobsSettings
from service.notifications.store import NotificationStore
from service.releases.store import WatchStore


def show_leases(*, as_json: bool) -> None:
    """Print who holds what."""
    with _jobs() as jobs:
        held = NightShift(jobs.engine).held()
    if as_json:
        print_json({"held": [asdict(one) | {"until": one.until.isoformat()} for one in held]})
        return
    table = Table("Job", "Owner", "State", "Stage", "Attempt", "Worker", "Lease until")
    for one in held:
        cells = (one.job_id, one.owner, one.state, one.stage or "", str(one.attempt), one.worker)
        table.add_row(*map(escape, cells), f"{one.until:%Y-%m-%d %H:%M:%S}")
    print_table(table)


def requeue(job_id: str) -> None:
    """Take a job from its worker."""
    with _jobs() as jobs:
        if not NightShift(jobs.engine).requeue(job_id, jobs.store):
            raise CommandError(f"no worker holds {job_id}", exit_code=EXIT_BAD_INPUT)
    print_line(f"{job_id} waits again; its attempt does not count")


def quarantine(name: str, *, reason: str) -> None:
    """Keep a worker, or a host, from taking jobs."""
    with _jobs() as jobs:
        NightShift(jobs.engine).set_apart(name, reason)
    print_line(f"{name} takes no more jobs and finishes what it holds; srr admin release {name} ends that")


def release(name: str) -> None:
    """Let a worker, or a host, take jobs again."""
    with _jobs() as jobs:
        if not NightShift(jobs.engine).bring_back(name):
            raise CommandError(f"{name} is not set apart", exit_code=EXIT_BAD_INPUT)
    print_line(f"{name} takes jobs again")


def drain(*, undo: bool) -> None:
    """Keep every worker from taking jobs, or let them again."""
    if undo:
        release(EVERY_WORKER)
        return
    with _jobs() as jobs:
        shift = NightShift(jobs.engine)
        shift.set_apart(EVERY_WORKER, "all are drained")
        held = len(shift.held())
    print_line(f"no worker takes more; {held} jobs are still at work (srr admin leases)")


def rotate_vault() -> None:
    """Seal every stored secret with the first key of SERVICE_CREDENTIAL_KEYS."""
    with _jobs() as jobs:
        try:
            tokens = NightShift(jobs.engine).seal_anew(jobs.vault)
            watches = WatchStore(jobs.engine).seal_anew(jobs.vault.seal_anew)
            endpoints = NotificationStore(jobs.engine).seal_anew(jobs.vault.seal_anew)
        except CredentialError as error:
            raise CommandError(f"{error}; nothing of that kind was changed", exit_code=EXIT_BAD_INPUT) from error
    print_line(f"sealed anew: {tokens} tokens of jobs, {watches} watches, {endpoints} endpoints")
    print_line("Older keys may be removed from SERVICE_CREDENTIAL_KEYS now.")


@contextmanager
def _jobs() -> Iterator[Jobs]:
    with open_jobs(JobsSettings()) as jobs:
        yield jobs
