"""Runs one job in a process group of its own, and has the last word about it.

The parent claims the job, starts the child, renews the lease, and watches for a cancel, the time limit and the
disk budget. To stop, it asks the child (SIGTERM), waits a grace period, and kills the group; a GPU's memory comes
back when its last process is gone. The child reads its assignment from a pipe whose other end only the parent
holds, and kills its own group when that pipe closes: no child outlives its parent, however that one died.
"""

import functools
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from typing import IO

import structlog

from service.jobs.blame import CRASH_CODE
from service.jobs.credentials import CredentialVault
from service.jobs.errors import CredentialError
from service.jobs.ports import JobsOfWorkers
from service.jobs.schema import TERMINAL_STATES, Claim, JobFailure, Lease
from service.jobs.tenancy import NOTHING_LENT, Loan
from service.platform.errors import StoreUnavailableError, UnreadableError
from service.platform.tracing import continued_span, current_traceparent
from srr_core.errors import StorageError
from srr_core.recipe.stages import Stage
from worker.failures import failure_of
from worker.health import Health
from worker.hub_access import HubAccess
from worker.lease_keeper import INTERRUPTED, LeaseKeeper, Limits, Stop
from worker.machine import group_memory_bytes
from worker.workspace import Workspace, WorkspaceBusyError, Workspaces

_log = structlog.get_logger(__name__)

_WITHHELD = frozenset(
    {
        "HF_TOKEN",
        "HUGGING_FACE_HUB_TOKEN",
        "WORKER_HUB_TOKEN",
        "SERVICE_HUB_TOKEN",
        "SERVICE_CREDENTIAL_KEYS",
        "SERVICE_FORM_SECRET",
        "SERVICE_OAUTH_CLIENT_SECRET",
        "SERVICE_DATABASE_URL",
        "SERVICE_BROKER_URL",
        "SRR_API_KEY",
    }
)
"""Variables the child does not get: the database and the one token it needs come through the pipe, and whoever reads
the environment of a process, or makes it print its own, finds nothing."""

STOPPED_STATUS = 75
"""EX_TEMPFAIL: the child was asked to stop, and has said nothing about its job."""

BUSY = JobFailure(
    code="workspace_busy", message="An earlier attempt of this job is still stopping on this machine.", retryable=True
)


class Supervisor:
    """Carries out claimed jobs one after the other, each in a fresh process group."""

    def __init__(
        self,
        store: JobsOfWorkers,
        workspaces: Workspaces,
        limits: Limits,
        *,
        worker: str,
        command: Sequence[str],
        vault: CredentialVault | None = None,
        database_url: str | None = None,
        own_token: str | None = None,
        loan_of: Callable[[str], Loan] = lambda _: NOTHING_LENT,
        environment: Mapping[str, str] | None = None,
        health: Health | None = None,
        on_crash: Callable[[], None] = lambda: None,
    ) -> None:
        """Build a supervisor.

        Args:
            worker: Name under which leases are held; unique for this process.
            command: What to start for a job; it reads one JSON object from its standard input, see `worker.child`.
            database_url: Where the child writes; None: where its own settings say.
            own_token: Hub token of this worker, for jobs that bring none.
            loan_of: Where it may be used for the jobs of an owner.
            environment: Environment of the child, `os.environ` by default.
            health: Nothing is claimed while it complains.
            on_crash: Called when the process of a job has died without a word.
        """
        self._store = store
        self._workspaces = workspaces
        self._limits = limits
        self._worker = worker
        self._command = tuple(command)
        self._vault = vault
        self._own_token = own_token
        self._database_url = database_url
        self._loan_of = loan_of
        self._environment = environment
        self._health = health or Health(())
        self._on_crash = on_crash

    def run(self, job_id: str, attempt: int) -> None:
        """Claim a job and see it through. Returns at once when it is not there to be claimed: a second delivery.

        A worker that is not fit waits here. Its message counts as lost after a while and is sent again, to another.
        """
        self._health.wait_until_fit()
        try:
            claim = self._store.claim(job_id, attempt, worker=self._worker, lasts=self._limits.lease)
        except UnreadableError as error:
            # A newer version wrote it, and a worker of that version will take it up: the message is sent again.
            _log.error("job_unreadable", job_id=job_id, attempt=attempt, reason=str(error))
            return
        if claim is None:
            _log.info("delivery_ignored", job_id=job_id, attempt=attempt)
            return
        job = claim.job
        with structlog.contextvars.bound_contextvars(job_id=job_id, attempt=attempt):
            _log.info("job_claimed", worker=self._worker)
            facts: dict[str, str | int] = {
                "job.id": job_id,
                "job.attempt": attempt,
                "job.model": job.work.source.model_id,
            }
            try:
                with continued_span("supervise job", job.traceparent, facts):
                    self._run_claimed(claim)
            finally:
                self._tidy(job_id)

    def _run_claimed(self, claim: Claim) -> None:
        lease = claim.lease
        try:
            access = self._access(claim)
            with self._workspaces.hold(lease.job_id) as (workspace, lock):
                self._run_child(claim, workspace, lock, access)
        except WorkspaceBusyError:
            self._store.fail(lease, BUSY)
        except (CredentialError, StorageError, OSError) as error:
            self._store.fail(lease, failure_of(error))

    def _run_child(self, claim: Claim, workspace: Workspace, lock: int, access: HubAccess) -> None:
        lease, child = claim.lease, self._start(workspace, lock)
        memory = functools.partial(group_memory_bytes, child.pid)
        keeper = LeaseKeeper(self._store, lease, workspace, self._limits, memory_bytes=memory)
        stop: Stop | None = INTERRUPTED
        try:
            self._assign(child, claim, workspace, access)
            stop = self._wait(child, keeper)
        finally:
            # Also on the SystemExit by which Celery ends its processes: the job is then interrupted.
            self._end(child, keeper)
            self._conclude(lease, child.returncode, stop, workspace)

    def _start(self, workspace: Workspace, lock: int) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            self._command,
            stdin=subprocess.PIPE,
            env=_child_environment(self._environment, workspace),
            start_new_session=True,
            pass_fds=(lock,),
        )

    def _assign(self, child: subprocess.Popen[bytes], claim: Claim, workspace: Workspace, access: HubAccess) -> None:
        line = json.dumps(
            {
                **claim.lease._asdict(),
                "owner": claim.job.owner,
                "access": access.to_message(),
                "database_url": self._database_url,
                "workspace": str(workspace.root),
                "traceparent": current_traceparent(),
            }
        )
        try:
            _pipe(child).write(line.encode() + b"\n")
            _pipe(child).flush()
        except BrokenPipeError:
            _log.warning("child_ended_before_its_assignment")

    def _wait(self, child: subprocess.Popen[bytes], keeper: LeaseKeeper) -> Stop | None:
        """Wait for the child. Returns why it has to be stopped, or None when it has ended by itself."""
        stop: Stop | None = None
        while stop is None:
            try:
                child.wait(self._limits.look_seconds)
            except subprocess.TimeoutExpired:
                stop = keeper.look()
            else:
                return None
        return stop

    def _end(self, child: subprocess.Popen[bytes], keeper: LeaseKeeper) -> None:
        if child.poll() is None:
            _signal_group(child, signal.SIGTERM)
            if not self._ends_in_time(child, keeper):
                _log.warning("child_killed", grace_seconds=self._limits.grace_seconds)
        _signal_group(child, signal.SIGKILL)  # grandchildren too, even after a child that ended well
        child.wait()
        _pipe(child).close()

    def _ends_in_time(self, child: subprocess.Popen[bytes], keeper: LeaseKeeper) -> bool:
        deadline = time.monotonic() + self._limits.grace_seconds
        while time.monotonic() < deadline:
            try:
                child.wait(self._limits.look_seconds)
            except subprocess.TimeoutExpired:
                keeper.look()  # a child that finishes its layer still holds its lease
            else:
                return True
        return False

    def _conclude(self, lease: Lease, status: int, stop: Stop | None, workspace: Workspace) -> None:
        """Write how the attempt ended, unless the child has done so: then this attempt is no longer held."""
        try:
            if stop is None:
                concluded = self._conclude_ended(lease, status, workspace)
            elif stop.failure is not None:
                concluded = self._store.fail(lease, stop.failure)
            elif stop.outcome == "canceled":
                concluded = self._store.canceled(lease)
            elif stop.outcome == "interrupted":
                concluded = self._store.requeue(lease)
            else:
                concluded = False
        except StoreUnavailableError as error:
            # The lease expires, and the reaper ends or repeats the attempt.
            _log.error("conclusion_not_recorded", code=error.code, status=status)
            return
        outcome = "ended" if stop is None else stop.outcome
        _log.info("job_left", outcome=outcome, status=status, concluded_by_parent=concluded)

    def _conclude_ended(self, lease: Lease, status: int, workspace: Workspace) -> bool:
        # A child that said how it ended holds nothing any more, and these writes change nothing.
        if status == STOPPED_STATUS:  # somebody else asked it to stop: a service manager ends every process at once
            return self._store.requeue(lease)
        self._on_crash()
        return self._store.fail(lease, _crash(status, self._store.get(lease.job_id).stage, workspace))

    def _access(self, claim: Claim) -> HubAccess:
        job = claim.job
        if self._vault is not None:
            sealed = self._store.credential(claim.lease)
            if sealed is not None:
                return HubAccess(own=self._vault.open(sealed))
        if job.brought_token:
            # Never with the worker's instead: it might read, or publish as, somebody the caller never meant.
            raise CredentialError("the Hub token of this job has expired; sign in again, or retry with a token")
        loan = self._loan_of(job.owner)
        named = [*(source.model_id for source in job.work.models), *job.work.datasets]
        named += [] if job.work.published_to is None else [job.work.published_to.repo_id]
        return HubAccess.lending(self._own_token, [repo_id for repo_id in named if loan.covers(repo_id)])

    def _tidy(self, job_id: str) -> None:
        """Remove the scratch space of a job that has ended; keep it for the next attempt of one that has not."""
        try:
            if self._store.get(job_id).state in TERMINAL_STATES:
                self._workspaces.remove(job_id)
        except (StoreUnavailableError, UnreadableError) as error:
            _log.warning("workspace_kept", code=error.code)


def _child_environment(environment: Mapping[str, str] | None, workspace: Workspace) -> dict[str, str]:
    inherited = os.environ if environment is None else environment
    kept = {name: value for name, value in inherited.items() if name not in _WITHHELD}
    return kept | {
        "HF_HOME": str(workspace.hub_home),
        "TMPDIR": str(workspace.temporary),
        "HF_HUB_DISABLE_IMPLICIT_TOKEN": "1",
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "HF_HUB_DISABLE_PROGRESS_BARS": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }


def _crash(status: int, stage: Stage | None, workspace: Workspace) -> JobFailure:
    """Return the failure of a crash. Its message is its fingerprint: crashes at another place are other failures."""
    if status == -signal.SIGKILL:
        ended = "was killed; the machine may have run out of memory"
    elif status < 0:
        ended = f"was ended by signal {signal.Signals(-status).name}"
    else:
        ended = f"ended with status {status} and no result"
    checkpoint = workspace.latest_checkpoint()
    kept = f" and {checkpoint} kept" if checkpoint else ""
    place = f"in stage {stage or 'start'}, with {workspace.finished_layers()} layers finished{kept}"
    return JobFailure(code=CRASH_CODE, message=f"The process of the job {ended}; it was {place}.", retryable=True)


def _signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)  # the child leads its own session, so its pid names the group
    except ProcessLookupError:
        return


def _pipe(child: subprocess.Popen[bytes]) -> IO[bytes]:
    if child.stdin is None:
        raise RuntimeError("the child was started without a pipe")
    return child.stdin
