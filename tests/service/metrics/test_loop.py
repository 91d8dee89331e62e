"""The watch over the event loop notices what holds it."""

import asyncio
import time
from pathlib import Path

from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry
from structlog.testing import capture_logs

from service.app import create_app
from service.hub.settings import HubSettings
from service.jobs.settings import JobsSettings
from service.metrics.loop import TOO_LATE_SECONDS, loop_lag, watched_loop
from service.settings import ServiceSettings

HELD_SECONDS = 2 * TOO_LATE_SECONDS


async def _held(registry: CollectorRegistry) -> None:
    lag = loop_lag()
    registry.register(lag)
    async with watched_loop(lag, interval_seconds=0.01):
        await asyncio.sleep(0.02)
        time.sleep(HELD_SECONDS)  # noqa: ASYNC251  # this is what it has to notice
        await asyncio.sleep(0.02)


def test_what_holds_the_loop_is_measured_and_logged() -> None:
    registry = CollectorRegistry()

    with capture_logs() as logs:
        asyncio.run(_held(registry))

    name = "srr_event_loop_lag_seconds"
    count = registry.get_sample_value(f"{name}_count")
    quick = registry.get_sample_value(f"{name}_bucket", {"le": str(TOO_LATE_SECONDS)})
    total = registry.get_sample_value(f"{name}_sum")
    assert count is not None
    assert quick is not None
    assert total is not None
    assert count > quick
    assert total >= HELD_SECONDS - 0.01
    assert [line["log_level"] for line in logs if line["event"] == "event_loop_held"] == ["warning"]


def test_the_service_shows_it(tmp_path: Path) -> None:
    settings = ServiceSettings()
    application = create_app(settings, JobsSettings(data_dir=tmp_path), HubSettings(source_hub="folder"))

    with TestClient(application, base_url="http://localhost") as http:
        text = http.get("/metrics").text

    assert "srr_event_loop_lag_seconds_bucket" in text
