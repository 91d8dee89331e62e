"""The dashboard and the alerts ask for numbers that `/metrics` really gives."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from fastapi.testclient import TestClient
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric

from service.app import create_app
from service.jobs.queue import MemoryJobQueue
from service.jobs.settings import JobsSettings
from service.metrics import InstallationCollector, JobMetrics
from service.metrics.collector import job_families
from service.platform.database import migrate, open_database
from service.settings import ServiceSettings
from tests.docker.files import DOCKER, compose

MONITORING = DOCKER / "monitoring"
NAME = re.compile(r"\bsrr_[a-z_]+\b")
BUSY = JobMetrics(
    jobs=dict.fromkeys(("queued", "running", "publishing", "canceling", "succeeded", "failed", "canceled"), 1),
    oldest_queued_seconds=1.0,
    shortest_lease_seconds=1.0,
    unsent_messages=1,
    workers_alive=1,
    workers_unfit=1,
    ended={"failed": 1},
    publish_failures=1,
    wall_seconds=1.0,
    stage_seconds={"compress": 1.0},
)


class _Busy:
    """Gives the families of an installation in which everything happens at once."""

    def collect(self) -> list[Metric]:
        return list(job_families(BUSY))


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> set[str]:
    """The names of every sample `/metrics` can hold."""
    engine = open_database(f"sqlite:///{tmp_path_factory.mktemp('metrics') / 'jobs.sqlite3'}")
    migrate(engine)
    idle, busy = CollectorRegistry(), CollectorRegistry()
    idle.register(InstallationCollector(engine, queue=MemoryJobQueue(), deliveries=lambda: {"failed": 1}))
    busy.register(_Busy())  # type: ignore[arg-type]
    samples = generate_latest(idle).decode() + generate_latest(busy).decode()
    engine.dispose()
    return {name for name in NAME.findall(samples) if not name.endswith("_created")}


def _rules() -> list[dict[str, Any]]:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    return [rule for group in groups for rule in group["rules"]]


def _dashboard() -> dict[str, Any]:
    return dict(json.loads((MONITORING / "grafana" / "dashboards" / "srr.json").read_text(encoding="utf-8")))


def _dashboard_queries() -> list[str]:
    return [target["expr"] for panel in _dashboard()["panels"] for target in panel.get("targets", [])]


def test_the_alerts_ask_for_numbers_that_exist(given: set[str]) -> None:
    asked = set(NAME.findall(" ".join(rule["expr"] for rule in _rules())))

    assert asked != set()
    assert asked - given == set()


def test_the_dashboard_asks_for_numbers_that_exist(given: set[str]) -> None:
    asked = set(NAME.findall(" ".join(_dashboard_queries())))

    assert asked != set()
    assert asked - given == set()


def test_every_number_is_on_the_dashboard(given: set[str]) -> None:
    shown = set(NAME.findall(" ".join(_dashboard_queries())))

    assert given - shown == set()


def test_every_alert_says_what_happened_and_what_to_do() -> None:
    incomplete = [
        rule["alert"]
        for rule in _rules()
        if set(rule["annotations"]) != {"summary", "action"}
        or rule["labels"]["severity"] not in {"warning", "critical"}
    ]

    assert incomplete == []


def test_panels_have_their_own_numbers_and_do_not_overlap() -> None:
    panels = _dashboard()["panels"]
    cells = [
        (x, y)
        for box in (panel["gridPos"] for panel in panels)
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]

    assert len({panel["id"] for panel in panels}) == len(panels)
    assert len(set(cells)) == len(cells)


def test_prometheus_scrapes_the_api_of_the_compose_file() -> None:
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    host, port = scrape["static_configs"][0]["targets"][0].split(":")

    assert host in compose()["services"]
    assert compose()["services"]["api"]["ports"][0].endswith(f":{port}")
    assert scrape["metrics_path"] == "/metrics"


def test_the_api_answers_to_the_host_prometheus_calls_it_by(tmp_path: Path) -> None:
    scrape = yaml.safe_load((MONITORING / "prometheus.yml").read_text(encoding="utf-8"))["scrape_configs"][0]
    target = scrape["static_configs"][0]["targets"][0]
    given = compose()["services"]["api"]["environment"]["SERVICE_ALLOWED_HOSTS"]
    settings = ServiceSettings(allowed_hosts=json.loads(given.removeprefix("${SERVICE_ALLOWED_HOSTS:-")[:-1]))

    with TestClient(create_app(settings, JobsSettings(data_dir=tmp_path))) as client:
        answer = client.get(scrape["metrics_path"], headers={"Host": target})

    assert answer.status_code == 200
    assert "srr_up" in answer.text


def test_the_files_the_containers_mount_exist() -> None:
    services = compose(DOCKER / "compose.monitoring.yml")["services"]
    mounts = [volume.split(":")[0] for service in services.values() for volume in service["volumes"]]
    files = [mount for mount in mounts if mount.startswith("./")]

    assert files != []
    # Compose resolves paths of every file against the folder of the first one, the root of the project.
    assert [path for path in files if not (DOCKER.parent / Path(path)).exists()] == []


def test_the_runbook_has_every_alert() -> None:
    groups = yaml.safe_load((MONITORING / "alerts.yml").read_text(encoding="utf-8"))["groups"]
    runbook = (Path(__file__).parents[2] / "docs" / "how-to" / "runbook.md").read_text(encoding="utf-8")

    assert [rule["alert"] for group in groups for rule in group["rules"] if f"`{rule['alert']}`" not in runbook] == []
