"""The service under load: one API process, PostgreSQL and Redis on the same machine as the load.

    python -m benchmarks.service [submit] [read] [streams] [hooks]

Times are of whole requests as the client sees them; the load runs in this process and takes its share of the cores.
"""

import asyncio
import json
import random
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Iterable
from datetime import timedelta

import httpx2
import psutil
from sqlalchemy import func, insert, select

from benchmarks._installation import Installation, installation
from examples import DEMO_MODEL
from service.jobs import tables
from service.jobs.schema import JobSubmission, SealedSecret
from service.jobs.submit import check_submission
from service.jobs.submit import submit as submit_job
from service.jobs.work import CompressWork, JobDestination, JobSource
from service.platform.ids import new_id
from service.releases.schema import WatchRules
from service.releases.store import WatchStore
from service.releases.tables import releases
from service.releases.watches import SECRET_EXPIRES, create_watch
from srr_core.recipe import named_recipe
from worker.folder_hub import FolderHub

CLIENTS = 8
MODEL = "demo/tiny-llama"
"""The bundled model, in the folder hub of the installation: what is submitted has to exist."""
SUBMIT_SECONDS = 20.0
READS = 500
STREAMS = 500
STREAM_EVENTS = 40
STREAM_PERIOD_SECONDS = 0.5
"""As often as a worker reports progress."""
RELEASES = 667
DELIVERIES = 1000


def percentile(values: Iterable[float], share: float) -> float:
    """Return the value that a share of all values does not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def line(what: str, seconds: list[float], spent: float) -> None:
    """Print the median and the 99th percentile of some times, and what each cost the API in processor time."""
    median, tail = (1000 * percentile(seconds, share) for share in (0.5, 0.99))
    cost = 1000 * spent / len(seconds)
    print(f"{what:<44} p50 {median:7.1f} ms   p99 {tail:7.1f} ms   processor {cost:5.1f} ms   n {len(seconds)}")


def fill(installed: Installation, count: int) -> None:
    """Add jobs that ended long ago, as copies of one row, until there are `count`."""
    with installed.jobs.engine.begin() as connection:
        present = connection.scalar(select(func.count()).select_from(tables.jobs)) or 0
        template = dict(connection.execute(select(tables.jobs).limit(1)).one()._mapping)  # noqa: SLF001  # public in SQLAlchemy
        ended = {**template, "state": "succeeded", "content_key": None}
        rows = [{**ended, "id": new_id("job")} for _ in range(count - present)]
        for start in range(0, len(rows), 1000):
            connection.execute(insert(tables.jobs), rows[start : start + 1000])


def one_job(installed: Installation) -> str:
    """Submit a job without the API and return its id."""
    work = CompressWork(
        source=JobSource(model_id="acme/model"),
        destination=JobDestination(repo_id="acme/model-srr"),
        recipe=named_recipe("srr"),
    )
    checked = check_submission(JobSubmission(work=work), owner="local")
    return submit_job(checked, store=installed.jobs.store, wake=lambda: None).id


def processor_seconds(installed: Installation) -> float:
    """Return the processor time the API has used so far; unlike wall time, a busy machine hardly changes it."""
    times = psutil.Process(installed.api.pid).cpu_times()
    return float(times.user + times.system)


async def repeat(clients: int, work: Callable[[int], Awaitable[bool]]) -> list[float]:
    """Call `work` with 0, 1, 2, ... from several clients until it returns False; return the time of each call."""
    seconds: list[float] = []
    numbers = iter(range(10**9))

    async def client() -> None:
        more = True
        while more:
            began = time.perf_counter()
            more = await work(next(numbers))
            seconds.append(time.perf_counter() - began)

    await asyncio.gather(*(client() for _ in range(clients)))
    return seconds


async def submit(installed: Installation) -> None:
    """Print how many jobs are accepted per second with 10,000 jobs in the table."""
    one_job(installed)
    fill(installed, 10_000)
    FolderHub(installed.jobs.settings.data_dir / "hub").import_model(DEMO_MODEL, MODEL)
    end = time.perf_counter() + SUBMIT_SECONDS
    async with httpx2.AsyncClient(base_url=installed.url, timeout=30) as http:

        async def post(number: int) -> bool:
            body = {
                "source": {"model_id": MODEL},
                "recipe": "srr",
                "destination": {"repo_id": f"acme/model-{number}-srr"},
            }
            answer = await http.post("/v1/jobs", json=body)
            answer.raise_for_status()
            return time.perf_counter() < end

        before = processor_seconds(installed)
        seconds = await repeat(CLIENTS, post)
    print(f"{len(seconds) / SUBMIT_SECONDS:.0f} jobs accepted per second by {CLIENTS} clients in a row")
    line("POST /v1/jobs", seconds, processor_seconds(installed) - before)


async def read(installed: Installation) -> None:
    """Print the times of list and get with 10,000 and with 100,000 jobs, one client."""
    job = one_job(installed)
    async with httpx2.AsyncClient(base_url=installed.url, timeout=30) as http:
        for count in (10_000, 100_000):
            fill(installed, count)
            for path in ("/v1/jobs", "/v1/jobs?state=queued&model_id=acme/model", f"/v1/jobs/{job}"):

                async def get(number: int, path: str = path) -> bool:
                    (await http.get(path)).raise_for_status()
                    return number < READS

                before = processor_seconds(installed)
                seconds = await repeat(1, get)
                line(f"{count:>7} jobs  GET {path[:24]}", seconds, processor_seconds(installed) - before)


async def streams(installed: Installation) -> None:
    """Print how late the events of one job reach 500 streams, and what the streams cost in memory."""
    job, store, worker = one_job(installed), installed.jobs.store, "benchmark"
    store.claim(job, 1, worker=worker, lasts=timedelta(hours=1))
    process = psutil.Process(installed.api.pid)
    before = process.memory_info().rss
    sent: dict[int, float] = {}
    late: list[float] = []
    complete = 0

    async def follow(http: httpx2.AsyncClient) -> None:
        nonlocal complete
        seen = []
        async with http.stream("GET", f"/v1/jobs/{job}/events") as answer:
            async for text in answer.aiter_lines():
                if not text.startswith("id: "):
                    continue
                sequence = int(text[4:])
                if sequence in sent:
                    late.append(time.perf_counter() - sent[sequence])
                    seen.append(sequence)
                if len(seen) == STREAM_EVENTS:
                    break
        complete += seen == sorted(sent)

    limits = httpx2.Limits(max_connections=STREAMS + 10, max_keepalive_connections=0)
    async with httpx2.AsyncClient(base_url=installed.url, timeout=60, limits=limits) as http:
        readers = [asyncio.create_task(follow(http)) for _ in range(STREAMS)]
        await asyncio.sleep(10)
        spent = processor_seconds(installed)
        for number in range(STREAM_EVENTS):
            now = time.perf_counter()
            event = await asyncio.to_thread(store.append_event, job, 1, "log", {"message": f"event {number}"})
            sent[event.sequence] = now
            await asyncio.sleep(STREAM_PERIOD_SECONDS)
        await asyncio.gather(*readers)
    grown = (process.memory_info().rss - before) / 2**20
    print(f"{complete} of {STREAMS} streams saw all {STREAM_EVENTS} events in order; memory grew by {grown:.0f} MiB")
    line("from append to the client", late, processor_seconds(installed) - spent)


async def hooks(installed: Installation) -> None:
    """Print the answers to a shuffled burst of webhooks, a third of them repeated, and how many releases they make."""
    watches = WatchStore(installed.jobs.engine)
    rules = WatchRules(
        name="acme", pattern="acme/*", recipes=(named_recipe("srr"),), destination="ours/{name}-{recipe}"
    )
    watch = create_watch(rules, owner="local", store=watches, vault=installed.jobs.vault)
    sealed = SealedSecret(ciphertext=watches.secret(watch.id) or b"", expires_at=SECRET_EXPIRES)
    headers = {"X-Webhook-Secret": installed.jobs.vault.open(sealed), "Content-Type": "application/json"}
    unique = [_delivery(number) for number in range(RELEASES)]
    chance = random.Random(0)  # noqa: S311  # an order, not a secret
    burst = unique + chance.choices(unique, k=DELIVERIES - RELEASES)
    chance.shuffle(burst)
    async with httpx2.AsyncClient(base_url=installed.url, timeout=30) as http:

        async def deliver(number: int) -> bool:
            answer = await http.post(f"/v1/hooks/huggingface/{watch.id}", content=burst[number], headers=headers)
            answer.raise_for_status()
            return number < DELIVERIES - CLIENTS

        before = processor_seconds(installed)
        seconds = await repeat(CLIENTS, deliver)
    with installed.jobs.engine.connect() as connection:
        noted = connection.scalar(select(func.count()).select_from(releases))
    print(f"{noted} releases noted of {RELEASES} released, {len(seconds)} deliveries, all answered 2xx")
    line("POST /v1/hooks/huggingface/{watch}", seconds, processor_seconds(installed) - before)


def _delivery(number: int) -> bytes:
    moved = {"ref": "refs/heads/main", "oldSha": None, "newSha": f"{number + 1:040x}"}
    return json.dumps(
        {
            "event": {"action": "update", "scope": "repo.content"},
            "repo": {"type": "model", "name": f"acme/model-{number}"},
            "updatedRefs": [moved],
        }
    ).encode()


PARTS = {"submit": submit, "read": read, "streams": streams, "hooks": hooks}


def main(names: list[str]) -> None:
    """Run the named parts, or all, each on an installation of its own."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(8192, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
    for name in names or PARTS:
        print(f"-- {name}")
        with installation() as installed:
            asyncio.run(PARTS[name](installed))


if __name__ == "__main__":
    main(sys.argv[1:])
