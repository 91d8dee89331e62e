"""One run: submit, break, heal, wait for the ends, and look whether everything holds."""

import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

from tests.chaos import invariants
from tests.chaos.artifacts import load_error
from tests.chaos.customers import Customer, Customers
from tests.chaos.faults import FAULTS
from tests.chaos.installation import HUB_USER, Installation
from tests.chaos.invariants import KINDS, Findings
from tests.chaos.models import seed_hub
from tests.chaos.patience import Patience
from tests.chaos.plan import Plan, PlannedFault, make_plan
from tests.chaos.records import TERMINAL, JobRecord, Seen, look, read_job
from tests.chaos.scene import Agenda, Scene
from tests.chaos.stores import wait_until

_LOOK_SECONDS = 0.05
_AIM_SECONDS = 4.0
"""A fault whose instant does not come goes ahead after so long."""
_IN_FLIGHT = 8
"""Jobs that wait or run at once: enough for both workers and for messages to lose."""
_STILL_SECONDS = 240.0
"""After so long without any move a job that has not ended is lost."""

Tell = Callable[[str], None]


@dataclass
class Outcome:
    """What a run has shown."""

    plan: Plan
    findings: Findings
    injected: int
    seconds: float
    resumed_after: list[float] = field(default_factory=list)
    """Seconds from the death of a worker to the next attempt of its job."""

    @property
    def holds(self) -> bool:
        """Whether nothing was violated."""
        return not any(self.findings.violations())

    def line(self) -> str:
        """The run in one line."""
        counts = " ".join(f"{kind}={len(getattr(self.findings, kind))}" for kind in KINDS)
        figures = " ".join(f"{name.replace(' ', '_')}={count}" for name, count in sorted(self.findings.figures.items()))
        waits = self.resumed_after
        resumed = f"p50={statistics.median(waits):.1f}s max={max(waits):.1f}s" if waits else "none"
        return (
            f"chaos: seed={self.plan.seed} faults={self.injected} jobs={len(self.plan.jobs)} {counts} {figures} "
            f"resumed {resumed} seconds={self.seconds:.0f}"
        )


def run(directory: Path, *, seed: int, jobs: int, faults: int, seconds: float, tell: Tell) -> Outcome:
    """Carry out the plan of a seed; faults stop after so many seconds, and every accepted job is seen to its end."""
    began = time.monotonic()
    plan = make_plan(seed, jobs=jobs, faults=faults, weights=[(name, row[1]) for name, row in FAULTS.items()])
    installation = Installation(directory / "installation")
    try:
        installation.start()
        seed_hub(installation, directory / "models")
        customers = Customers(installation.urls, plan.jobs, owner=HUB_USER, token=installation.token)
        try:
            return _Run(plan, installation, customers, tell, began, deadline=began + seconds).carry_out()
        finally:
            customers.close()
    finally:
        installation.close()


class _Run:
    def __init__(
        self, plan: Plan, installation: Installation, customers: Customers, tell: Tell, began: float, *, deadline: float
    ) -> None:
        self._plan = plan
        self._installation = installation
        self._customers = customers
        self._tell = tell
        self._began = began
        self._deadline = deadline
        self._scene = Scene(installation, customers, Agenda())
        self._unsent = list(customers.all)
        self._faults = list(plan.faults)
        self._injected = 0
        self._due = time.monotonic()
        self._aimed_since: float | None = None

    def carry_out(self) -> Outcome:
        """Do everything and return what came of it."""
        wait_until(lambda: self._customers.ask("GET", "/readyz") is not None, "the API was ready")
        while not self._is_over():
            self._tick()
            self._inject_due()
            time.sleep(_LOOK_SECONDS)
        self._scene.agenda.clear()
        self._installation.hub.state.failures.rows.clear()
        self._installation.heal()
        self._say(f"healed after {self._injected} faults")
        self._wait_for_ends()
        return self._judge()

    def _is_over(self) -> bool:
        return not self._faults or time.monotonic() > self._deadline or self._count_ended() == len(self._plan.jobs)

    def _tick(self) -> None:
        """See what there is, submit and cancel what is due, undo what has lasted long enough."""
        seen = look(self._installation.postgres)
        self._scene.seen = self._scene.seen if seen is None else seen
        self._scene.agenda.run_due()
        open_jobs = len(self._customers.all) - len(self._unsent) - self._count_ended()
        while self._unsent and open_jobs < _IN_FLIGHT:
            customer = self._unsent.pop(0)
            self._customers.send(customer)
            open_jobs += 1
        for customer in self._customers.all:
            self._cancel_if_due(customer)

    def _cancel_if_due(self, customer: Customer) -> None:
        after = customer.plan.cancel_after_seconds
        is_due = after is not None and customer.accepted_at is not None and time.time() - customer.accepted_at > after
        if is_due and not customer.is_cancel_sent:
            self._customers.cancel(customer, turn=random.Random(customer.plan.index).randrange(2))

    def _count_ended(self) -> int:
        ended = sum(1 for seen in self._scene.seen.values() if seen.state in TERMINAL)
        return ended + sum(1 for customer in self._customers.all if customer.refusal is not None)

    def _inject_due(self) -> None:
        if not self._faults or time.monotonic() < self._due or not self._is_turn():
            return
        fault = self._faults[0]
        self._aimed_since = self._aimed_since or time.monotonic()
        target = self._target(fault)
        if fault.stage is not None and target is None and time.monotonic() - self._aimed_since < _AIM_SECONDS:
            return
        self._inject(self._faults.pop(0), target)
        self._aimed_since = None

    def _is_turn(self) -> bool:
        """Faults are spread over the jobs, whatever the speed of the machine."""
        share = (self._count_ended() + _IN_FLIGHT / 2) / len(self._plan.jobs)
        return self._injected < share * len(self._plan.faults)

    def _target(self, fault: PlannedFault) -> Seen | None:
        held = [seen for seen in self._scene.held() if fault.stage is None or seen.stage == fault.stage]
        return random.Random(fault.seed).choice(held) if held else None

    def _inject(self, fault: PlannedFault, target: Seen | None) -> None:
        self._scene.chance, self._scene.target = random.Random(fault.seed), target
        act, _ = FAULTS[fault.name]
        detail = act(self._scene)
        self._injected += 1
        self._due = time.monotonic() + fault.pause_seconds
        aim = f" at {target.stage} of {target.job_id} attempt {target.attempt}" if target is not None else ""
        self._say(f"fault {fault.index} {fault.name}{aim}: {detail}")

    def _wait_for_ends(self) -> None:
        patience = Patience(_STILL_SECONDS)
        while patience.lasts(self._scene.seen):
            self._tick()
            for service in self._installation.services:
                service.start()
            if not self._unsent and self._count_ended() >= len(self._plan.jobs) and not self._customers.waiting:
                return
            time.sleep(4 * _LOOK_SECONDS)
        self._say(
            f"some jobs did not end: {[seen for seen in self._scene.seen.values() if seen.state not in TERMINAL]}"
        )

    def _judge(self) -> Outcome:
        found, everybody = Findings(), self._customers.all
        ids = sorted(customer.job_id for customer in everybody if customer.job_id is not None)
        records = {job_id: read_job(self._customers, job_id) for job_id in ids}
        invariants.check_jobs(found, everybody, records, self._scene.excuses)
        invariants.check_layers(found, records, self._installation.journal)
        invariants.check_commits(found, everybody, records, self._installation)
        self._load_artifacts(found, records)
        invariants.check_nothing_left(found, self._installation, ids)
        found.leaked += [f"{name} did not end when asked to" for name in self._installation.stop_services()]
        invariants.check_processes(found, self._installation)
        invariants.check_logs(found, self._installation)
        found.untrue += [f"500: {error}" for error in self._customers.server_errors]
        seconds = time.monotonic() - self._began
        return Outcome(self._plan, found, self._injected, seconds, _resumed(self._scene, records))

    def _load_artifacts(self, found: Findings, records: dict[str, JobRecord]) -> None:
        """Load one artifact of each content: those of one digest are the same bytes."""
        known: set[str] = set()
        for customer in self._customers.all:
            record = records.get(customer.job_id or "")
            if record is None or record.state != "succeeded":
                continue
            repository = self._installation.hub.repository(customer.destination)
            digest = invariants.weights_digest(self._installation, repository)
            if digest in known:
                continue
            known.add(digest)
            error = load_error(self._installation, repository, self._installation.directory / "loaded" / digest)
            found.figures["loaded"] += 1
            if error is not None:
                found.corrupt.append(f"{customer.destination} does not load: {error}")

    def _say(self, line: str) -> None:
        self._tell(f"{time.monotonic() - self._began:7.1f} {line}")


def _resumed(scene: Scene, records: dict[str, JobRecord]) -> list[float]:
    """Return how long each job waited for its next attempt after its worker had died."""
    found = []
    for killed_at, job_id in scene.kills:
        events = records[job_id].events if job_id in records else []
        runs = [event for event in events if event["kind"] == "state" and event["data"]["state"] == "running"]
        later = [at for event in runs if (at := datetime.fromisoformat(event["created_at"]).timestamp()) > killed_at]
        found += [later[0] - killed_at] if later else []
    return found
