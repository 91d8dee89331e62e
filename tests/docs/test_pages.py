"""The pages of the documentation: every command in them is run, and the reference is complete."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from service.client import Client
from service.client.errors import UnreachableError
from service.commands.serve import LOOPBACK, listen
from tests.architecture.tree import ROOT

PAGES = sorted((ROOT / "docs").rglob("*.md"))
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SECONDS = 120


def blocks(page: Path, language: str) -> list[str]:
    """Return the fenced blocks of a page in one language."""
    return [body for kind, body in BLOCK.findall(page.read_text("utf-8")) if kind == language]


def commands(page: Path) -> list[str]:
    """Return what a page tells its reader to type."""
    lines = "\n".join(blocks(page, "console")).splitlines()
    return [line.removeprefix("$ ") for line in lines if line.startswith("$ ")]


def needs_service(page: Path) -> bool:
    """Whether a page says in its head that a service runs beside it."""
    return page.read_text("utf-8").startswith("---\nservice: true\n")


def answers(url: str) -> bool:
    """Whether a service is up."""
    try:
        with Client(url) as client:
            return bool(client.recipes())
    except UnreachableError:
        return False


@contextmanager
def running(directory: Path, environment: dict[str, str]) -> Iterator[str]:
    """Run `srr serve` in a directory and yield its address."""
    with listen(LOOPBACK, 0) as free:
        port = str(free.getsockname()[1])
    arguments = [sys.executable, "-m", "service.cli", "serve", "--port", port, "--data-dir", str(directory / "data")]
    process = subprocess.Popen(arguments, env=environment, cwd=directory, stderr=subprocess.DEVNULL)
    url = f"http://{LOOPBACK}:{port}"
    try:
        deadline = time.monotonic() + SECONDS
        while not answers(url):
            assert time.monotonic() < deadline, "the service does not answer"
            time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(60)


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if commands(page)], ids=lambda page: page.stem)
def test_every_command_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "examples", tmp_path / "examples")
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": str(ROOT), "HF_HUB_OFFLINE": "1"}
    script = "set -e\n" + "\n".join(commands(page))

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-c", script],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    if needs_service(page):
        with running(tmp_path, environment) as url:
            environment["SRR_URL"] = url
            done = run()
    else:
        done = run()

    assert done.returncode == 0, done.stdout + done.stderr
    assert '"status":4' not in done.stdout, done.stdout
    assert '"status":5' not in done.stdout, done.stdout


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_block_that_is_not_run_says_what_it_needs(page: Path) -> None:
    assert [body for body in blocks(page, "bash") if not body.startswith("# needs ")] == []


def test_the_site_builds_with_every_page_and_no_broken_link(tmp_path: Path) -> None:
    program = Path(sys.executable).with_name("mkdocs")
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}

    done = subprocess.run(
        [program, "build", "--strict", "--quiet", "--site-dir", str(tmp_path / "site")],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    built = {path.relative_to(tmp_path / "site").as_posix() for path in (tmp_path / "site").rglob("*.html")}
    assert {"index.html", "tutorial.html", "reference/errors.html", "explanation/method.html"} <= built
    errors = (tmp_path / "site" / "reference" / "errors.html").read_text("utf-8")
    assert "job_not_found" in errors
    assert "unsupported_model" in errors
