"""The command line: what it prints where, its exit codes, and what it does not import."""

import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from service.commands.output import CommandError
from service.commands.serve import LOOPBACK, is_loopback, listen, require_private
from service.jobs.memory_store import MemoryJobStore
from srr_core.recipe import PRESETS
from srr_core.recipe.exporters import GGUFSpec
from tests.service import finished
from tests.service.api.test_conversions import give
from tests.service.command_line import Command, command_of
from tests.service.serving import served
from tests.srr_core.telling import reports
from worker.folder_hub import FolderHub

pytestmark = pytest.mark.usefixtures("org_model")


@pytest.fixture
def srr(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Run the command in this process, from its entry point to its exit code."""
    return command_of(monkeypatch, capsys)


@pytest.fixture
def url(application: FastAPI) -> Iterator[str]:
    """The address of the application, served for real."""
    with served(application) as url:
        yield url


def test_help_and_recipes_import_neither_torch_nor_the_web_framework() -> None:
    code = (
        "import sys; from service.cli import app; from typer.testing import CliRunner;"
        "runner = CliRunner(); assert runner.invoke(app, ['--help']).exit_code == 0;"
        "result = runner.invoke(app, ['recipes']); assert 'srr-iterative' in result.output, result.output;"
        "print([name for name in ('torch', 'transformers', 'fastapi', 'celery', 'sqlalchemy') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "[]"


def test_recipes_are_printed_as_a_table_and_as_json(srr: Command) -> None:
    table, document, one = srr("recipes"), srr("recipes", "--json"), srr("recipes", "lqer")

    assert all(name in table.stdout for name in PRESETS)
    assert [recipe["name"] for recipe in json.loads(document.stdout)["recipes"]] == list(PRESETS)
    assert json.loads(one.stdout)["scaling"] == {"kind": "lqer"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("compress", "model", "out", "--recipe", "nope"), "unknown recipe 'nope'"),
        (("compress", "model", "out", "--set", "rank"), "'rank' is not PATH=VALUE"),
        (("compress", "model", "out", "--set", "quantizer.num_bits=17"), "num_bits: must be at most 8 (got 17)"),
        (("compress", "./no-such-folder", "out"), "./no-such-folder is neither a folder nor a model"),
        (("compress", "org/model", "."), ". exists already; choose a new folder"),
        (("compress", "org/model", "out", "--calibration-text", "no.txt"), "'no.txt' does not exist"),
        (("compress", "model", "out", "--device", "tpu"), "'tpu' is not one of"),
        (("submit", "org/model"), "Missing option '--destination'"),
        (("frobnicate",), "No such command 'frobnicate'"),
        (("compress", "org/model", "out", "--sett", "rank=4"), "No such option: --sett"),
        (("compress",), "Missing argument 'SOURCE'; see srr compress --help"),
        (("serve", "--port", "70000"), "Invalid value for '--port': must be at most 65535; see srr serve --help"),
        (("serve", "--data-dir", __file__), "test_cli.py cannot be used: File exists; name a directory"),
        (("demo", "--data-dir", __file__), "test_cli.py cannot be used: File exists; name a directory"),
        (("export", "./no-such-folder", "out", "--to", "gguf"), "no-such-folder is not a folder"),
        (("evaluate", "./no-such-folder"), "./no-such-folder is neither a folder nor a model"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(srr: Command, arguments: tuple[str, ...], message: str) -> None:
    done = srr(*arguments)

    assert done.returncode == 2
    assert message in done.stderr
    assert done.stderr.startswith("srr: ")
    assert len(done.stderr.splitlines()) == 1
    assert done.stdout == ""


def test_nothing_asked_for_is_answered_with_the_help(srr: Command) -> None:
    done, asked = srr(), srr("compress", "--help")

    assert (done.returncode, asked.returncode) == (2, 0)
    assert done.stderr.startswith("Usage: srr [OPTIONS] COMMAND")
    assert asked.stdout.startswith("Usage: srr compress")


@pytest.mark.parametrize(
    "arguments",
    [("compress", "./none", "out"), ("inspect", "./none"), ("export", "./none", "out", "--to", "gguf")],
    ids=lambda arguments: arguments[0],
)
def test_a_folder_that_is_not_there_is_said_before_anything_slow_is_imported(arguments: tuple[str, ...]) -> None:
    code = (
        "import sys; from service.cli import main\n"
        f"sys.argv = ['srr', *{arguments!r}]\n"
        "try: main()\n"
        "except SystemExit as left: code = left.code\n"
        "print(code, [name for name in ('torch', 'fastapi', 'sqlalchemy', 'httpx') if name in sys.modules])"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)

    assert done.stdout.strip() == "2 []"


def test_the_installed_command_fails_like_the_one_in_this_process() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "service.cli", "compress", "model", "out", "--recipe", "nope"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("srr: unknown recipe 'nope'")
    assert len(done.stderr.splitlines()) == 1


def test_no_service_is_said_in_one_line(srr: Command) -> None:
    done = srr("status", "--url", "http://127.0.0.1:9")

    assert done.returncode == 1
    assert done.stderr.startswith("srr: no service answers at http://127.0.0.1:9")
    assert "Traceback" not in done.stderr


def test_a_job_is_submitted_looked_at_and_canceled(srr: Command, url: str, job_store: MemoryJobStore) -> None:
    submitted = srr("submit", "org/model", "-d", "org/out", "--set", "rank=4", "--url", url)
    job_id = submitted.stdout.strip()
    status = srr("status", job_id, "--url", url)
    listed = srr("status", "--url", url)
    canceled = srr("cancel", job_id, "--json", "--url", url)
    logs = srr("logs", job_id, "--url", url)

    assert (submitted.returncode, submitted.stderr) == (0, "")
    assert job_store.get(job_id).work.recipe.rank == 4
    assert "rank 4" in status.stdout
    assert job_id in listed.stdout
    assert json.loads(canceled.stdout)["state"] == "canceled"
    assert [line.split()[-1] for line in logs.stdout.splitlines()] == ["Queued", "Canceled"]


def test_a_conversion_is_submitted_and_its_format_checked(
    srr: Command, url: str, job_store: MemoryJobStore, hub: FolderHub, tmp_path: Path
) -> None:
    give(hub, tmp_path / "artifact", reports.report())
    command = ("submit-conversion", "org/model-srr", "-d", "org/out", "--url", url)

    submitted = srr(*command, "--to", "gguf", "--set", "merged=q8_0")
    unknown = srr(*command, "--to", "onnx")
    job_id = submitted.stdout.strip()
    status = srr("status", job_id, "--url", url)

    assert (submitted.returncode, submitted.stderr) == (0, "")
    assert job_store.get(job_id).work.target == GGUFSpec(merged="q8_0")
    assert "to gguf" in status.stdout
    assert (unknown.returncode, "choose one of gguf, gptq, merged" in unknown.stderr) == (2, True)


def test_a_submission_carries_its_options(srr: Command, url: str, job_store: MemoryJobStore) -> None:
    options = ("--tag", "a", "--tag", "b", "--private", "--acknowledge-license", "--idempotency-key", "k")
    submit = ("submit", "org/model", "-d", "org/out", "--url", url)

    first, again = (srr(*submit, *options).stdout.strip() for _ in range(2))
    forced = srr(*submit, "--private", "--force").stdout.strip()

    job = job_store.get(first)
    assert (job.tags, job.work.destination.private, job.work.acknowledge_license) == (("a", "b"), True, True)
    assert again == first
    assert forced != first


def test_a_refused_submission_names_the_field_and_exits_with_2(srr: Command, url: str) -> None:
    done = srr("submit", "not-a-repository", "-d", "org/out", "--url", url)

    assert done.returncode == 2
    assert "body.source.model_id" in done.stderr


def test_waiting_ends_with_the_report(srr: Command, url: str, job_store: MemoryJobStore) -> None:
    def work() -> None:
        while not (page := job_store.unsent()):
            pass
        claim = job_store.claim(page[0].job_id, 1, worker=finished.WORKER, lasts=finished.LEASE)
        assert claim is not None
        finished.finish(job_store, claim.job)

    worker = threading.Thread(target=work)
    worker.start()
    done = srr("submit", "org/model", "-d", "org/out", "--wait", "--url", url)
    worker.join()

    assert done.returncode == 0
    assert "9.25 in the compressed layers" in done.stdout
    assert "https://hub.example/commit/b" in done.stdout


def test_following_a_failed_job_prints_why(srr: Command, url: str, job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, message="the model is gated")

    done = srr("status", job.id, "--url", url)

    assert done.returncode == 0
    assert "the model is gated (gated_model)" in done.stdout


def test_the_operator_makes_lists_and_revokes_keys(
    srr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_DATA_DIR", str(tmp_path))

    text = srr("keys", "create", "first", "--scope", "jobs:read").stdout.strip()
    key_id = text.split("_")[1]
    listed = json.loads(srr("keys", "list", "--json").stdout)["keys"]
    revoked = srr("keys", "revoke", key_id)
    unknown = srr("keys", "create", "second", "--scope", "jobs:destroy")

    assert [(key["id"], key["scopes"]) for key in listed] == [(key_id, ["jobs:read"])]
    assert revoked.stdout.strip() == f"{key_id} revoked"
    assert (unknown.returncode, "jobs:destroy" in unknown.stderr) == (2, True)


def test_the_operator_sets_and_sees_the_quota_of_a_key(
    srr: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SERVICE_DATA_DIR", str(tmp_path))
    limits = ("--max-queued", "3", "--max-running", "2", "--minutes-per-day", "90", "--requests-per-minute", "5")

    made = json.loads(srr("keys", "create", "limited", "--json", *limits).stdout)["key"]
    table = srr("keys", "list").stdout

    assert made["quota"] == {"max_queued": 3, "max_running": 2, "minutes_per_day": 90.0, "requests_per_minute": 5}
    assert "3 queued" in table


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--target-size", "huge"], "'huge' is no size"),
        (["--target-bits", "3", "--target-kl", "0.1"], "give one target"),
        (["--target-bits", "0"], "target_bits"),
        (["--target-bits", "3", "--recipe", "quip-sharp"], "uniform grid; those of quip-sharp do not"),
        (["--target-bits", "3", "--recipe", "srr-fast", "--set", "budget.nothing=1"], "known fields"),
    ],
)
def test_a_target_that_means_nothing_is_refused(srr: Command, tmp_path: Path, arguments: list[str], words: str) -> None:
    done = srr("compress", str(tmp_path), str(tmp_path / "out"), *arguments)

    assert done.returncode == 2
    assert words in done.stderr


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_loopback_addresses_are_known(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_public_address_is_refused_while_nobody_signs_in() -> None:
    with pytest.raises(CommandError, match=r"refusing to listen on 0\.0\.0\.0"):
        require_private("0.0.0.0", trusted=False)

    require_private("0.0.0.0", trusted=True)


@pytest.mark.parametrize(
    ("variables", "complaint"),
    [
        ({"SERVICE_HOST": "0.0.0.0"}, "refusing to listen on 0.0.0.0"),
        ({"SERVICE_SIGN_IN": "huggingface", "SERVICE_OAUTH_CLIENT_SECRET": "hidden"}, "needs SERVICE_OAUTH_CLIENT_ID"),
    ],
)
def test_a_service_that_would_be_open_or_lock_everybody_out_does_not_start(
    srr: Command, monkeypatch: pytest.MonkeyPatch, variables: dict[str, str], complaint: str
) -> None:
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    done = srr("api")

    assert done.returncode == 2
    assert complaint in done.stderr
    assert "hidden" not in done.stderr


def test_a_port_that_is_taken_is_said() -> None:
    with listen(LOOPBACK, 0) as taken, pytest.raises(CommandError, match="cannot listen"):
        listen(LOOPBACK, taken.getsockname()[1])
