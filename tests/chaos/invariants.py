"""What must hold when the faults are over, whatever they were: each violation is one line that names its job."""

import hashlib
import json
import re
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.chaos.customers import Customer
from tests.chaos.installation import Installation
from tests.chaos.processes import describe, processes_of
from tests.chaos.records import TERMINAL, JobRecord, computed_layers
from tests.chaos.scene import EVERYWHERE
from tests.hub_server import Repository

_BROKEN_MODEL = frozenset({"non_finite_weight"})
_LEFT_ROWS: Mapping[str, str] = {
    "outbox rows": "SELECT count(*) FROM job_outbox",
    "sealed tokens": "SELECT count(*) FROM job_credentials",
    "leases": "SELECT count(*) FROM jobs WHERE lease_owner IS NOT NULL OR lease_until IS NOT NULL",
    "jobs beside those of the customers": "SELECT count(*) FROM jobs WHERE NOT (id = ANY(%s))",
}
_QUIET_SECONDS = 25.0
_GONE_SECONDS = 10.0


@dataclass
class Findings:
    """Violations by kind, and figures that are no violations."""

    lost: list[str] = field(default_factory=list)
    duplicated: list[str] = field(default_factory=list)
    corrupt: list[str] = field(default_factory=list)
    leaked: list[str] = field(default_factory=list)
    layers_over: list[str] = field(default_factory=list)
    events_missing: list[str] = field(default_factory=list)
    untrue: list[str] = field(default_factory=list)
    figures: Counter[str] = field(default_factory=Counter)

    def violations(self) -> Iterator[str]:
        """Return every violation with its kind."""
        for kind in KINDS:
            for line in getattr(self, kind):
                yield f"{kind}: {line}"


KINDS = ("lost", "duplicated", "corrupt", "leaked", "layers_over", "events_missing", "untrue")


def check_jobs(
    found: Findings,
    customers: Sequence[Customer],
    records: Mapping[str, JobRecord],
    excuses: Mapping[str, set[str]],
) -> None:
    """Check how each accepted job has ended and what was told of it."""
    for customer in customers:
        if len(customer.job_ids) > 1:
            found.duplicated.append(f"one key made {sorted(customer.job_ids)}")
        if customer.job_id is None:
            found.figures["not accepted"] += 1
            if not _excused(customer, str(customer.refusal), excuses):
                found.lost.append(f"submission {customer.plan.index} was answered with {customer.refusal}")
            continue
        record = records[customer.job_id]
        found.figures[record.state] += 1
        found.figures["attempts"] += int(record.job["attempt"])
        _check_end(found, customer, record, excuses)
        _check_events(found, customer.job_id, record)


def _check_end(found: Findings, customer: Customer, record: JobRecord, excuses: Mapping[str, set[str]]) -> None:
    job_id, failure = record.job["id"], record.job["failure"] or {}
    ends = [state for state in record.states if state in TERMINAL]
    if len(ends) > 1:
        found.duplicated.append(f"{job_id} ended as {ends}")
    if ends[-1:] != [record.state] or record.state not in TERMINAL:
        found.lost.append(f"{job_id} is {record.state}, and its events say {record.states}")
    elif record.state == "failed" and not _may_fail(customer, str(failure.get("code")), excuses):
        found.lost.append(f"{job_id} failed with {failure}")
    elif record.state == "canceled" and not customer.is_cancel_sent:
        found.lost.append(f"{job_id} was canceled, and nobody asked for that")
    elif record.state == "succeeded" and customer.plan.is_broken:
        found.corrupt.append(f"{job_id} succeeded with a model that cannot be compressed")


def _may_fail(customer: Customer, code: str, excuses: Mapping[str, set[str]]) -> bool:
    return (customer.plan.is_broken and code in _BROKEN_MODEL) or _excused(customer, code, excuses)


def _excused(customer: Customer, code: str, excuses: Mapping[str, set[str]]) -> bool:
    names = (customer.plan.source_id, customer.destination, EVERYWHERE)
    return any(code in excuses.get(name, ()) for name in names)


def _check_events(found: Findings, job_id: str, record: JobRecord) -> None:
    numbers = [event["sequence"] for event in record.events]
    if numbers != list(range(1, len(numbers) + 1)):
        found.events_missing.append(f"{job_id} has events {numbers}")
    missing = record.layers - record.told_layers
    if missing:
        found.events_missing.append(f"{job_id} has no event of {len(missing)} of {len(record.layers)} layers")


def check_layers(found: Findings, records: Mapping[str, JobRecord], journal: Path) -> None:
    """Check how many layers the core has computed: all once, and one more for each attempt that was cut off."""
    computed = computed_layers(journal)
    sizes = [len(record.layers) for record in records.values() if record.layers]
    for job_id, record in records.items():
        most = (len(record.layers) or max(sizes, default=0)) + int(record.job["attempt"]) - 1
        found.figures["layers"] += computed[job_id]
        if computed[job_id] > most:
            found.layers_over.append(f"{job_id} computed {computed[job_id]} layers in {record.job['attempt']} attempts")


def check_commits(
    found: Findings, customers: Sequence[Customer], records: Mapping[str, JobRecord], hub: Installation
) -> None:
    """Check what was published: once, as the job says, and the same bits for the same work."""
    repositories = hub.hub.state.repositories
    weights: defaultdict[str, set[str]] = defaultdict(set)
    for customer in customers:
        if customer.job_id is None:
            continue
        record = records[customer.job_id]
        repository = repositories.get(customer.destination)
        commits = _commits_of(repository, customer.job_id)
        if len(commits) > 1:
            found.duplicated.append(f"{customer.job_id} made commits {commits}")
        if record.state == "succeeded" and repository is not None:
            _check_published(found, customer.job_id, record, repository, commits)
            weights[customer.plan.source_id].add(weights_digest(hub, repository))
        elif commits:
            found.untrue.append(f"{customer.job_id} is {record.state} and has commit {commits[0][:12]}")
    for source, digests in weights.items():
        if len(digests) > 1:
            found.corrupt.append(f"{len(digests)} different artifacts of {source}")


def _commits_of(repository: Repository | None, job_id: str) -> list[str]:
    commits = repository.commits.values() if repository is not None else ()
    return [commit.oid for commit in commits if job_id in commit.description.split()]


def _check_published(
    found: Findings, job_id: str, record: JobRecord, repository: Repository, commits: list[str]
) -> None:
    said = (record.job["result"] or {}).get("commit_sha")
    if commits != [said] or repository.head.oid != said:
        found.corrupt.append(f"{job_id} says {said}, the Hub has {commits} and {repository.head.oid}")


def weights_digest(installation: Installation, repository: Repository) -> str:
    """Return a digest of everything in an artifact that does not tell when, where or as what it was made."""
    digest = hashlib.sha256()
    for path, file in sorted(repository.head.files.items()):
        content = installation.hub.state.content(file) or b""
        if path.endswith(".safetensors") or path in ("config.json", "recipe.json", "tokenizer.json"):
            digest.update(path.encode() + content)
        elif path == "report.json":
            layers = [{k: v for k, v in layer.items() if k != "seconds"} for layer in json.loads(content)["layers"]]
            digest.update(json.dumps(layers, sort_keys=True).encode())
    return digest.hexdigest()


def check_nothing_left(found: Findings, installation: Installation, job_ids: Sequence[str]) -> None:
    """Check that neither the database nor the disk nor a log keeps what should be gone; waits a little for it."""
    deadline = time.monotonic() + _QUIET_SECONDS
    while (left := list(_left(installation, job_ids))) and time.monotonic() < deadline:
        time.sleep(0.5)
    found.leaked += left
    secret = installation.token.encode()
    files = [path for path in installation.directory.rglob("*") if path.is_file()]
    found.leaked += [f"the Hub token stands in {path.name}" for path in files if secret in path.read_bytes()]


def _left(installation: Installation, job_ids: Sequence[str]) -> Iterator[str]:
    for what, statement in _LEFT_ROWS.items():
        parameters = (list(job_ids),) if "%s" in statement else ()
        count = installation.postgres.query(statement, *parameters)[0][0]
        if count:
            yield f"{count} {what}"
    if scratch := installation.disk.left():
        yield f"scratch of {scratch}"
    if jobs := [process for worker in installation.workers for process in worker.job_processes()]:
        yield f"processes of jobs: {list(describe(jobs))}"


def check_processes(found: Findings, installation: Installation) -> None:
    """Check, after every service was asked to end, that no process of the run is left."""
    deadline = time.monotonic() + _GONE_SECONDS
    while (left := processes_of(installation.run)) and time.monotonic() < deadline:
        time.sleep(0.2)
    found.leaked += [f"process {line}" for line in describe(left)]


def check_logs(found: Findings, installation: Installation) -> None:
    """Count traces of bugs: exceptions nobody expected."""
    for text in installation.logs().values():
        found.figures["tracebacks"] += len(re.findall(r"Traceback \(most recent call last\)", text))
