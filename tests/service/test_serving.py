"""The server as `srr api` and `srr serve` start it: its traces, and the address it tells others."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx2
import pytest

from service.commands.serve import LOOPBACK, embedded_settings, listen

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


def start(tmp_path: Path, **environment: str) -> tuple[subprocess.Popen[str], str]:
    """Start `srr api` on a free port, and return it with its address."""
    with listen(LOOPBACK, 0) as free:
        port = free.getsockname()[1]
    settings = {"SERVICE_DATA_DIR": str(tmp_path), "SERVICE_PORT": str(port), "SERVICE_SOURCE_HUB": "folder"}
    process = subprocess.Popen(
        [sys.executable, "-m", "service.cli", "api"],
        env=os.environ | settings | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    return process, f"http://{LOOPBACK}:{port}"


def wait_until_alive(url: str) -> None:
    """Wait until the service answers."""
    deadline = time.monotonic() + 60
    while True:
        try:
            httpx2.get(f"{url}/livez")
        except httpx2.TransportError:
            assert time.monotonic() < deadline, "waited too long"
            time.sleep(0.1)
        else:
            return


@pytest.mark.slow
def test_spans_of_requests_leave_the_process_before_it_ends(tmp_path: Path) -> None:
    process, url = start(tmp_path, OTEL_TRACES_EXPORTER="console")
    wait_until_alive(url)
    httpx2.get(f"{url}/v1/recipes", headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"})

    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=60)

    span = json.loads(output)
    assert (span["name"], span["context"]["trace_id"]) == ("GET /v1/recipes", f"0x{TRACE}")
    assert span["resource"]["attributes"]["service.name"] == "srr-api"
    assert process.returncode == 128 + signal.SIGTERM


@pytest.mark.slow
def test_an_exporter_that_is_not_installed_is_one_sentence(tmp_path: Path) -> None:
    process, _ = start(tmp_path, OTEL_TRACES_EXPORTER="no-such-exporter")

    _, error = process.communicate(timeout=60)

    assert process.returncode == 2
    assert "no-such-exporter" in error
    assert "Traceback" not in error


def test_links_lead_to_the_port_that_was_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    assert str(embedded_settings("http://127.0.0.1:8765").public_url) == "http://127.0.0.1:8765/"

    monkeypatch.setenv("SERVICE_PUBLIC_URL", "https://srr.example")
    assert str(embedded_settings("http://127.0.0.1:8765").public_url) == "https://srr.example/"
