"""Words of a model that no store and no encoder keeps: refused where they come in, harmless where they are."""

import json
import struct
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from sqlalchemy import text

from service.jobs.schema import Job, JobFailure, JobState
from service.platform.clock import utc_now
from service.platform.database import writing
from service.platform.text import REPLACEMENT, clean, is_text, storable_document
from srr_core.errors import CheckpointError
from tests.attacks.conftest import Installation
from tests.service.models import model_files
from worker.failures import failure_of

LEASE = timedelta(minutes=1)
HOSTILE = ("A\0", "A\ud800", "\udfff\ud800", "A\0\ud800")


def _named(name: str) -> bytes:
    header = json.dumps({name: {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2]}}).encode()
    return struct.pack("<Q", len(header)) + header + bytes(2)


def _config(name: str) -> dict[str, bytes]:
    return model_files(architectures=[name], card="---\nlicense: mit\n---\n")


def _weights(name: str) -> dict[str, bytes]:
    return {**_config("LlamaForCausalLM"), "model.safetensors": _named(name)}


@pytest.mark.parametrize("hostile", HOSTILE)
@pytest.mark.parametrize(("files", "code"), [(_config, "invalid_config"), (_weights, "invalid_checkpoint")])
def test_a_model_that_speaks_no_text_is_refused_at_every_door(
    installation: Installation, hostile: str, files: Callable[[str], dict[str, bytes]], code: str
) -> None:
    installation.hub.add_model("org/hostile", files(hostile))
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    body = {"source": {"model_id": "org/hostile"}, "destination": {"repo_id": "acme/out"}, "recipe": "lqer"}

    inspected = installation.http.post("/v1/models:inspect", json={"model_id": "org/hostile"}, headers=header)
    validated = installation.http.post("/v1/jobs:validate", json=body, headers=header)
    submitted = installation.submit(header, "org/hostile", "acme/out")

    # A model that can be found but not compressed is described, with what is wrong with it.
    told = inspected.json()
    assert code in [told.get("code"), *(problem["code"] for problem in told.get("problems", ()))]
    assert code in [problem["code"] for problem in validated.json()["problems"]]
    assert (submitted.status_code, submitted.json()["code"]) == (422, code)


@pytest.fixture(params=["sqlite", "postgresql"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Both databases: PostgreSQL alone refuses NUL, SQLite alone keeps half a pair."""
    if request.param == "postgresql":
        return str(request.getfixturevalue("postgres_url"))
    return f"sqlite:///{tmp_path / 'data' / 'jobs.sqlite3'}"


@pytest.mark.parametrize("hostile", HOSTILE)
def test_a_failure_in_a_strangers_words_can_be_stored_and_read(installation: Installation, hostile: str) -> None:
    header, job = _submitted(installation)
    claim = installation.store.claim(job.id, job.attempt, worker="w", lasts=LEASE)
    assert claim is not None

    failure = failure_of(CheckpointError(f"tensor {hostile!s} is damaged"))
    installation.store.append_event(claim.lease, "log", {"message": hostile, hostile: [hostile]})
    installation.store.fail(claim.lease, failure)

    answers = [
        installation.http.get(path, headers=header)
        for path in ("/v1/jobs", f"/v1/jobs/{job.id}", f"/v1/jobs/{job.id}/logs", f"/jobs/{job.id}")
    ]
    assert [answer.status_code for answer in answers] == [200] * 4
    assert all(is_text(answer.text) for answer in answers)
    assert installation.store.get(job.id).state is JobState.FAILED


def test_a_failure_that_came_past_every_door_is_cleaned_by_the_store(installation: Installation) -> None:
    header, job = _submitted(installation)
    claim = installation.store.claim(job.id, job.attempt, worker="w", lasts=LEASE)
    assert claim is not None

    installation.store.fail(claim.lease, JobFailure(code="internal", message="a\0b\ud800c", retryable=False))

    told = installation.http.get(f"/v1/jobs/{job.id}", headers=header).json()["failure"]["message"]
    assert told == f"a{REPLACEMENT}b{REPLACEMENT}c"


def test_what_an_earlier_version_stored_unclean_is_read_clean(installation: Installation) -> None:
    header, job = _submitted(installation)
    stored = json.dumps({"code": "internal", "message": "half \ud800 a pair", "retryable": False})
    with writing(installation.engine) as connection:
        unclean = {"failure": stored, "id": job.id, "now": utc_now()}
        change = "UPDATE jobs SET failure = :failure, state = 'failed', finished_at = :now WHERE id = :id"
        connection.execute(text(change), unclean)

    answer = installation.http.get("/v1/jobs", headers=header)

    assert answer.status_code == 200
    assert answer.json()["jobs"][0]["failure"]["message"] == f"half {REPLACEMENT} a pair"


@pytest.mark.parametrize("control", ["\x1b[31m", "\x9b31m", "\u202e", "\x07", "\r\x0b"])
def test_a_sentence_does_not_move_the_cursor_of_whoever_reads_it(control: str) -> None:
    assert control not in clean(f"tensor {control} is damaged")


def test_whole_characters_beyond_the_basic_plane_are_left_alone() -> None:
    document = {"\U0001f600": ["\U0001f600", 1, None, True, 1.5]}

    assert storable_document(document) == document


def _submitted(installation: Installation) -> tuple[dict[str, str], Job]:
    installation.tenancy.lend("ann", "acme")
    header = installation.bearer("ann")
    answer = installation.submit(header, "org/model", "acme/out")
    return header, installation.store.get(answer.json()["id"])
