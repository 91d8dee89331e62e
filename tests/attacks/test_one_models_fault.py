"""What one repository makes the Hub or its reader do is that model's problem, and nobody else's."""

import json
import struct
from collections.abc import Mapping
from typing import Any

import pytest

from service.jobs.schema import JobState
from tests.attacks.conftest import CARD, Installation
from tests.hub_server.failures import Failure
from tests.service.models import SHAPES, model_files, safetensors


def _framed(text: bytes, data: bytes = b"") -> bytes:
    return struct.pack("<Q", len(text)) + text + data


def _entry(**changed: Any) -> bytes:
    return _framed(
        json.dumps({"a": {"dtype": "BF16", "shape": [1], "data_offsets": [0, 2], **changed}}).encode(), b"00"
    )


DAMAGED: Mapping[str, bytes] = {
    "nested": _framed(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
    "nested lists": _framed(b'{"a":{"shape":' + b"[" * 20_000 + b"]" * 20_000 + b"}}"),
    "no json": _framed(b"{" * 10),
    "a list": _framed(b"[]" * 5),
    "named twice": _framed(b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"0"),
    "no shape": _framed(b'{"a":{"dtype":"BF16","data_offsets":[0,2]}}', b"00"),
    "huge shape": _entry(shape=[10**300]),
    "infinite shape": _framed(b'{"a":{"dtype":"BF16","shape":[1e999],"data_offsets":[0,2]}}', b"00"),
    "negative": _entry(shape=[-1, -1]),
    "bool shape": _entry(shape=[True]),
    "unknown type": _entry(dtype="Q9"),
    "beyond its file": _entry(shape=[100], data_offsets=[0, 200]),
    "cut off": safetensors(SHAPES)[:-1],
    "longer than it says": safetensors(SHAPES) + b"0",
    "claims a header of 2^63 bytes": (2**63).to_bytes(8, "little") + b"{}",
    "120,000 tensors": _framed(
        json.dumps({f"t{n}": {"dtype": "U8", "shape": [0], "data_offsets": [0, 0]} for n in range(120_000)}).encode()
    ),
}


@pytest.mark.parametrize("kind", DAMAGED)
def test_a_damaged_header_is_its_models_problem(installation: Installation, kind: str) -> None:
    installation.hub.add_model("org/damaged", {**model_files(card=CARD), "model.safetensors": DAMAGED[kind]})
    header = installation.bearer("mallory")

    answer = installation.http.post("/v1/models:inspect", json={"model_id": "org/damaged"}, headers=header)
    other = installation.http.post("/v1/models:inspect", json={"model_id": "org/model"}, headers=header)

    assert [problem["code"] for problem in answer.json()["problems"]] == ["invalid_checkpoint"]
    assert len(answer.content) < 2_000
    assert other.status_code == 200


CONFIGS: Mapping[str, bytes] = {
    "nested": b'{"a":' * 20_000 + b"1" + b"}" * 20_000,
    "nested lists": b'{"a":' + b"[" * 5_000 + b"]" * 5_000 + b"}",
}


@pytest.mark.parametrize("kind", CONFIGS)
def test_a_config_nested_without_end_is_its_models_problem(installation: Installation, kind: str) -> None:
    installation.hub.add_model("org/nested", {**model_files(card=CARD), "config.json": CONFIGS[kind]})
    header = installation.bearer("mallory")

    answer = installation.http.post("/v1/models:inspect", json={"model_id": "org/nested"}, headers=header)
    other = installation.http.post("/v1/models:inspect", json={"model_id": "org/model"}, headers=header)

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_config")
    assert other.status_code == 200


@pytest.mark.parametrize("status", [500, 502, 503, 504])
def test_a_hub_that_fails_for_one_model_is_asked_about_the_next(installation: Installation, status: int) -> None:
    installation.hub.fail("info", Failure.status(status), path_contains="org/broken", times=5)
    header = installation.bearer("mallory")

    broken = installation.http.post("/v1/models:inspect", json={"model_id": "org/broken"}, headers=header)
    other = installation.http.post("/v1/models:inspect", json={"model_id": "org/model"}, headers=header)

    assert broken.status_code == 503
    assert other.status_code == 200


NEEDS_CODE = model_files(
    card=CARD, auto_map={"AutoModelForCausalLM": "modeling.Evil"}, model_type="evil", architectures=["Evil"]
)
ONLY_PICKLES = {"config.json": model_files()["config.json"], "pytorch_model.bin": b"\x80\x04."}


@pytest.mark.parametrize(("files", "code"), [(NEEDS_CODE, "needs_remote_code"), (ONLY_PICKLES, "no_safetensors")])
def test_what_could_not_be_checked_is_said_and_is_checked_before_anything_is_downloaded(
    installation: Installation, files: dict[str, bytes], code: str
) -> None:
    installation.tenancy.lend("mallory", "acme")
    installation.hub.add_model("org/unsafe", files)
    installation.hub.fail("info", Failure.status(503), path_contains="org/unsafe", times=1)
    header = installation.bearer("mallory")

    submitted = installation.submit(header, "org/unsafe", "acme/out")
    asked_before = len(installation.hub.requests)
    job = installation.work(submitted.json()["id"])

    assert submitted.status_code == 202
    assert any("org/unsafe" in sentence for sentence in submitted.json()["unchecked"])
    assert (job.state, job.failure and job.failure.code) == (JobState.FAILED, code)
    downloaded = [one.path for one in installation.hub.requests[asked_before:] if "/resolve/" in one.path]
    assert all(path.endswith("config.json") for path in downloaded)


def test_a_job_that_was_checked_says_nothing(installation: Installation) -> None:
    installation.tenancy.lend("ann", "acme")

    answer = installation.submit(installation.bearer("ann"), "org/model", "acme/out")

    assert answer.json()["unchecked"] == []
