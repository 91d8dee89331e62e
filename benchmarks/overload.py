"""The service when too many ask at once: where it bends, whether it sheds, and whether it comes back.

    python -m benchmarks.overload [--clients 10,50,200] [--jobs 100000] [--seconds 20]

One API process, PostgreSQL and Redis on the same machine as the load. Every client lists, looks at and submits jobs as
fast as it is answered, while one more uploads texts of two megabytes. An overload is no failure as long as who is not
served is told so (429 or 503) and a single client is served as before when the others have left.
"""

import argparse
import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import httpx2

from benchmarks._installation import Installation, installation
from benchmarks.service import MODEL, fill, one_job, percentile
from examples import DEMO_MODEL
from worker.folder_hub import FolderHub

TEXT_BYTES = 2_000_000
SHED = frozenset({429, 503})
TIMEOUT_SECONDS = 60.0
LAG, TOO_LATE = "srr_event_loop_lag_seconds", "0.25"


@dataclass
class Answers:
    """What a crowd of clients was told, and how long that took, by what was asked."""

    seconds: defaultdict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    statuses: Counter[int] = field(default_factory=Counter)
    broken: Counter[str] = field(default_factory=Counter)
    """Connections that ended without an answer."""

    @property
    def wrong(self) -> int:
        """Answers that are neither service nor a refusal of more."""
        return sum(count for status, count in self.statuses.items() if status >= 500 and status not in SHED)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the load and print a table."""
    parser = argparse.ArgumentParser(description="The service when too many ask at once.")
    parser.add_argument("--clients", default="10,50,200", help="how many at a time, one load after the other")
    parser.add_argument("--jobs", type=int, default=100_000, help="jobs in the table before it begins")
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load")
    chosen = parser.parse_args(arguments)
    crowds = [int(count) for count in chosen.clients.split(",")]
    with installation() as installed:
        job = one_job(installed)
        fill(installed, chosen.jobs)
        FolderHub(installed.jobs.settings.data_dir / "hub").import_model(DEMO_MODEL, MODEL)
        for clients in [*crowds, 1]:
            answers = asyncio.run(_load(installed, job, clients=clients, seconds=chosen.seconds))
            _print(clients, answers, chosen.seconds)
        print(_lag(httpx2.get(f"{installed.url}/metrics", timeout=TIMEOUT_SECONDS).text))


async def _load(installed: Installation, job: str, *, clients: int, seconds: float) -> Answers:
    answers, end = Answers(), time.perf_counter() + seconds
    limits = httpx2.Limits(max_connections=clients + 1, max_keepalive_connections=clients + 1)
    async with httpx2.AsyncClient(base_url=installed.url, timeout=TIMEOUT_SECONDS, limits=limits) as http:

        async def ask(what: str, method: str, path: str, **body: Any) -> None:
            began = time.perf_counter()
            try:
                answer = await http.request(method, path, **body)
            except httpx2.TransportError as error:
                answers.broken[type(error).__name__] += 1
                return
            answers.seconds[what].append(time.perf_counter() - began)
            answers.statuses[answer.status_code] += 1

        async def client(number: int) -> None:
            turn = 0
            while time.perf_counter() < end:
                destination = {"repo_id": f"acme/out-{clients}-{number}-{turn}"}
                wanted = {"source": {"model_id": MODEL}, "recipe": "srr", "destination": destination}
                await ask("list", "GET", "/v1/jobs")
                await ask("get", "GET", f"/v1/jobs/{job}")
                await ask("submit", "POST", "/v1/jobs", json=wanted)
                turn += 1

        async def upload() -> None:
            turn = 0
            while time.perf_counter() < end:
                text = f"{clients} {turn} ".encode() + b"word " * (TEXT_BYTES // 5)
                await ask("upload", "POST", "/v1/texts", content=text, headers={"Content-Type": "text/plain"})
                turn += 1

        await asyncio.gather(upload(), *(client(number) for number in range(clients)))
    return answers


def _print(clients: int, answers: Answers, seconds: float) -> None:
    served = sum(count for status, count in answers.statuses.items() if status < 400)
    shed = sum(answers.statuses[status] for status in SHED)
    print(
        f"{clients:>4} clients: {served / seconds:7.1f} served a second, {shed} shed, {answers.wrong} wrong, "
        f"{dict(answers.broken)} without an answer; statuses {dict(sorted(answers.statuses.items()))}"
    )
    for what, times in sorted(answers.seconds.items()):
        median, tail = (1000 * percentile(times, share) for share in (0.5, 0.99))
        print(f"     {what:<8} p50 {median:8.1f} ms   p99 {tail:8.1f} ms   n {len(times)}")


def _lag(metrics: str) -> str:
    """Return, in words, how often the event loop was held for longer than it may be."""
    values: Mapping[str, float] = {
        name: float(value)
        for name, _, value in (line.rpartition(" ") for line in metrics.splitlines() if line.startswith(LAG))
    }
    count, quick = values[f"{LAG}_count"], values[f'{LAG}_bucket{{le="{TOO_LATE}"}}']
    return f"event loop: {count - quick:.0f} of {count:.0f} looks came more than {TOO_LATE} s late"


if __name__ == "__main__":
    main()
