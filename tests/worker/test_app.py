"""The Celery application of the worker."""

import subprocess
import sys
from pathlib import Path

import pytest

from service.jobs.queue import TASK_NAME
from worker.app import create_app

ROOT = Path(__file__).resolve().parents[2]


def test_worker_knows_the_task_the_service_sends(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVICE_DATA_DIR", str(tmp_path))
    app = create_app()
    app.loader.import_default_modules()

    assert TASK_NAME in app.tasks
    app.close()


def test_broker_redelivers_nothing_by_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SERVICE_DATA_DIR", str(tmp_path))
    app = create_app()

    assert app.conf.task_acks_late
    assert app.conf.task_acks_on_failure
    assert not app.conf.task_reject_on_worker_lost
    assert app.conf.accept_content == ["json"]
    assert app.conf.worker_prefetch_multiplier == 1
    app.close()


def test_supervising_process_never_imports_torch(tmp_path: Path) -> None:
    script = "import sys, worker.tasks; sys.exit('torch' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=False).returncode == 0


def test_importing_the_worker_reads_no_settings_and_makes_no_folder(tmp_path: Path) -> None:
    script = "import worker.app, worker.tasks, worker.child"
    environment = {"SERVICE_LEASE_SECONDS": "nonsense", "HOME": str(tmp_path), "PYTHONPATH": str(ROOT)}

    subprocess.run([sys.executable, "-c", script], env=environment, check=True)

    assert list(tmp_path.iterdir()) == []
