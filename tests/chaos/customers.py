"""Who submits: over REST, to either replica, again and again with the same key until the service has answered."""

import queue
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

from tests.chaos.plan import PlannedJob

RECIPE: Mapping[str, Any] = {"name": "srr", "rank": 4}
WINDOWS: Mapping[str, Any] = {"num_sequences": 4, "sequence_length": 32}
_TRY_AGAIN = frozenset({408, 409, 425, 429, 500, 502, 503, 504})
_TIMEOUT_SECONDS = 8.0


@dataclass
class Customer:
    """One planned job and what the service has said about it."""

    plan: PlannedJob
    destination: str
    job_ids: set[str] = field(default_factory=set)
    """More than one would be a duplicate: the key is always the same."""
    refusal: str | None = None
    accepted_at: float | None = None
    is_cancel_sent: bool = False

    @property
    def job_id(self) -> str | None:
        """The accepted job."""
        return min(self.job_ids, default=None)


class Customers:
    """Sends the planned submissions from a few threads, as fast as the service takes them."""

    def __init__(self, urls: Sequence[str], plans: Sequence[PlannedJob], *, owner: str, token: str) -> None:
        self.all = [Customer(plan, f"{owner}/{plan.name}") for plan in plans]
        self.server_errors: list[str] = []
        self._urls = list(urls)
        self._token = token
        self._todo: queue.Queue[Customer | None] = queue.Queue()
        self._gone = threading.Event()
        self._threads = [threading.Thread(target=self._work, name="customers", daemon=True) for _ in range(3)]
        for thread in self._threads:
            thread.start()

    def send(self, customer: Customer) -> None:
        """Have a job submitted."""
        self._todo.put(customer)

    @property
    def waiting(self) -> int:
        """How many submissions have no answer yet."""
        return sum(1 for customer in self.all if not customer.job_ids and customer.refusal is None)

    def close(self) -> None:
        """End the threads."""
        self._gone.set()
        for _ in self._threads:
            self._todo.put(None)
        for thread in self._threads:
            thread.join()

    def cancel(self, customer: Customer, *, turn: int) -> None:
        """Ask for the end of a job, once the service takes the request; an ended job is left alone."""
        customer.is_cancel_sent = self.ask("POST", f"/v1/jobs/{customer.job_id}/cancel", turn=turn) is not None

    def ask(self, method: str, path: str, *, turn: int = 0, **more: Any) -> httpx2.Response | None:
        """Return the answer of one replica, or None when it gave none or asks to come again."""
        url = self._urls[turn % len(self._urls)]
        try:
            response = httpx2.request(method, url + path, timeout=_TIMEOUT_SECONDS, trust_env=False, **more)
        except (httpx2.TransportError, httpx2.StreamError):
            return None
        if response.status_code == 500:
            self.server_errors.append(f"{method} {path}: {response.text[:300]}")
        is_conflict_of_state = response.status_code == 409 and "finished" in response.text
        return None if response.status_code in _TRY_AGAIN and not is_conflict_of_state else response

    def _work(self) -> None:
        while (customer := self._todo.get()) is not None:
            turn = customer.plan.index
            while not self._gone.is_set() and not self._submit(customer, turn):
                turn += 1
                time.sleep(0.2)
            if customer.plan.is_sent_twice and customer.job_ids:
                self._submit(customer, turn + 1)

    def _submit(self, customer: Customer, turn: int) -> bool:
        body = {
            "source": {"model_id": customer.plan.source_id},
            "recipe": RECIPE,
            "destination": {"repo_id": customer.destination},
            "calibration": WINDOWS,
            "evaluation": WINDOWS,
            "hub_token": self._token,
        }
        key = {"Idempotency-Key": f"chaos-{customer.plan.index}"}
        response = self.ask("POST", "/v1/jobs", turn=turn, json=body, headers=key)
        if response is None:
            return False
        if response.status_code == 202:
            customer.job_ids.add(response.json()["id"])
            customer.accepted_at = customer.accepted_at or time.time()
        elif not customer.job_ids:
            customer.refusal = response.json().get("code", str(response.status_code))
        return True
