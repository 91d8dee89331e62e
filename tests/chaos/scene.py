"""What a fault acts upon: the installation, the jobs in it now, the one it is aimed at, and what is to be undone."""

import heapq
import random
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.chaos.customers import Customer, Customers
from tests.chaos.installation import Installation
from tests.chaos.processes import Service, job_of
from tests.chaos.records import Seen

EVERYWHERE = "*"
"""Stands for every repository among the excuses."""
HELD = frozenset({"running", "publishing", "canceling"})


class Agenda:
    """What is still to be done, and when; done in the thread that asks."""

    def __init__(self) -> None:
        self._items: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def later(self, seconds: float, action: Callable[[], None]) -> None:
        """Do something after a while."""
        self._count += 1
        heapq.heappush(self._items, (time.monotonic() + seconds, self._count, action))

    def run_due(self) -> None:
        """Do what is due."""
        while self._items and self._items[0][0] <= time.monotonic():
            heapq.heappop(self._items)[2]()

    def clear(self) -> None:
        """Forget the rest."""
        self._items.clear()


@dataclass
class Scene:
    """The world as a fault finds it."""

    installation: Installation
    customers: Customers
    agenda: Agenda
    seen: dict[str, Seen] = field(default_factory=dict)
    excuses: defaultdict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    """Codes with which jobs of a repository may fail, because the Hub was made to refuse them for good."""
    kept_messages: list[tuple[str, bytes]] = field(default_factory=list)
    """Copies of messages of the broker, to be delivered again."""
    kills: list[tuple[float, str]] = field(default_factory=list)
    """When the worker of which job died."""
    chance: random.Random = field(default_factory=random.Random)
    target: Seen | None = None

    def held(self) -> list[Seen]:
        """Return the jobs that a worker has now."""
        return [seen for seen in self.seen.values() if seen.state in HELD]

    def unfinished(self) -> list[Customer]:
        """Return accepted jobs that have not ended."""
        over = {seen.job_id for seen in self.seen.values() if seen.state in ("succeeded", "failed", "canceled")}
        return [customer for customer in self.customers.all if customer.job_ids and not customer.job_ids & over]

    def worker(self) -> Service:
        """Return the worker that has the job the fault is aimed at, else any."""
        workers = self.installation.workers
        aimed = [worker for worker in workers if self.target is not None and self.target.job_id in jobs_of(worker)]
        busy = [worker for worker in workers if worker.job_processes()]
        return self.chance.choice(aimed or busy or workers)

    def customer(self) -> Customer | None:
        """Return the customer of the job the fault is aimed at, else of one that a worker has or will have."""
        ids = {self.target.job_id} if self.target is not None else {seen.job_id for seen in self.held()}
        unfinished = self.unfinished()
        aimed = [customer for customer in unfinished if customer.job_ids & ids]
        return self.chance.choice(aimed or unfinished) if unfinished else None

    def note_kill(self, worker: Service) -> None:
        """Remember that the worker of these jobs dies now."""
        self.kills += [(time.time(), job_id) for job_id in jobs_of(worker)]

    def bring_back(self, service: Service) -> None:
        """Start a service again after a while, as its manager does."""
        self.agenda.later(self.chance.uniform(0.2, 3.0), service.start)


def jobs_of(worker: Service) -> set[str]:
    """Return the jobs a worker carries out."""
    return {job_id for process in worker.job_processes() if (job_id := job_of(process)) is not None}
