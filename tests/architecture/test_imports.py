"""Who may import whom: the contracts of pyproject.toml, and what an import really loads."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.architecture.tree import ROOT

HEAVY = ("torch", "transformers", "safetensors", "peft", "compressed_tensors", "numpy", "scipy")
ENTRY_POINTS = ("service.app", "service.cli", "service.jobs.submit", "srr_core.recipe", "srr_core.report")


def _loaded_by(statement: str) -> set[str]:
    """Return the top-level modules a fresh interpreter has loaded after a statement."""
    program = f"import json, sys\n{statement}\nprint(json.dumps(sorted({{m.split('.')[0] for m in sys.modules}})))"
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(json.loads(result.stdout.splitlines()[-1]))


@pytest.mark.parametrize("module", ENTRY_POINTS)
def test_the_service_and_the_recipes_load_no_torch(module: str) -> None:
    # import-linter reads import statements; only running them shows what a package's __init__ drags in.
    loaded = _loaded_by(f"import {module}")

    assert loaded.isdisjoint(HEAVY)


def test_a_thin_client_loads_no_server() -> None:
    loaded = _loaded_by("from service.client import Client")

    assert loaded.isdisjoint({"fastapi", "starlette", "uvicorn", "jinja2", "celery", "kombu", "redis", "sqlalchemy"})
    assert "httpx2" in loaded


def test_the_probe_for_torch_would_notice_it() -> None:
    loaded = _loaded_by("import srr_core.types")

    assert "torch" in loaded


def test_the_core_loads_no_web_queue_or_database() -> None:
    loaded = _loaded_by("import srr_core.pipeline")

    assert loaded.isdisjoint({"fastapi", "starlette", "celery", "kombu", "redis", "sqlalchemy", "structlog", "service"})


def test_every_import_contract_is_kept() -> None:
    command = [str(Path(sys.executable).with_name("lint-imports")), "--no-logo", "--no-cache"]

    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stdout[-4000:] + result.stderr[-2000:]
