"""Every way the Hub and the road to it can fail, against resolving and downloading with the real client."""

import pickle
import random
import resource
import traceback
from itertools import count
from pathlib import Path

import pytest
from huggingface_hub import CommitOperationAdd, HfApi

from service.hub.client import MAX_JSON_BYTES, MAX_WAIT_SECONDS, HubClient, Timeouts
from service.hub.errors import (
    DisabledModelError,
    DownloadCorruptedError,
    GatedModelError,
    HubError,
    HubRefusedError,
    HubUnavailableError,
    InvalidTokenError,
    ModelNotFoundError,
    UnsafeModelError,
)
from service.hub.model import ResolvedModel
from srr_core.errors import StopRequested
from tests.hub_server import Failure, HubServer
from tests.hub_server.fixtures import Sleeps
from worker.hub import HuggingFaceHub

# The client's own upload by Git LFS warns about an argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

BASE = {"config.json": b'{"model_type": "llama"}', "model.safetensors": bytes(range(256)) * 1024}
WEIGHTS = "model.safetensors"
HEAD_AND_GET = 2
"""Requests of one download; the first has no body that could change."""


@pytest.fixture
def hub(patient_hub: HuggingFaceHub, hub_server: HubServer) -> HuggingFaceHub:
    hub_server.add_model("acme/base", BASE)
    return patient_hub


def test_a_private_model_does_not_exist_for_strangers(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("acme/secret", BASE, private=True)

    for token in (None, "hf_bob"):
        with pytest.raises(ModelNotFoundError, match="private"):
            hub.resolve("acme/secret", token=token)

    assert hub.resolve("acme/secret", token="hf_alice").private


def test_a_gated_model_tells_to_accept_its_terms(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("acme/gated", BASE, gated=True, granted={"bob"})

    with pytest.raises(GatedModelError, match="accept its terms"):
        hub.resolve("acme/gated", token=None)

    assert hub.resolve("acme/gated", token="hf_bob").gated


def test_a_disabled_model_is_refused(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("acme/gone", BASE, disabled=True)

    with pytest.raises(DisabledModelError, match="acme/gone"):
        hub.resolve("acme/gone")


def test_a_renamed_model_is_resolved_under_its_new_name(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.rename("acme/base", "acme/renamed")

    model = hub.resolve("acme/base")

    assert model.model_id == "acme/renamed"
    assert (hub.download(model, tmp_path / "download") / WEIGHTS).read_bytes() == BASE[WEIGHTS]


def test_a_file_the_hub_calls_unsafe_is_not_fetched(hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path) -> None:
    hub_server.add_model("acme/bad", BASE, unsafe_files=(WEIGHTS,))

    with pytest.raises(UnsafeModelError, match="malware scan"):
        hub.download(hub.resolve("acme/bad"), tmp_path / "download")

    assert not (tmp_path / "download").exists()


def test_a_configuration_of_megabytes_is_not_read(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.add_model("acme/huge", {**BASE, "config.json": b'{"a": "' + b"x" * MAX_JSON_BYTES + b'"}'})

    with pytest.raises(HubRefusedError, match=r"config\.json is larger"):
        hub.resolve("acme/huge")


def test_an_unsafe_file_that_stays_on_the_hub_does_no_harm(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    hub_server.add_model("acme/mixed", {**BASE, "pytorch_model.bin": b"x"}, unsafe_files=("pytorch_model.bin",))

    folder = hub.download(hub.resolve("acme/mixed"), tmp_path / "download")

    assert {path.name for path in folder.iterdir()} == set(BASE)


def test_an_unknown_token_is_not_taken_for_a_missing_model(hub: HuggingFaceHub) -> None:
    with pytest.raises(InvalidTokenError, match="token"):
        hub.resolve("acme/base", token="hf_stolen")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_short_outage_is_waited_out(hub: HuggingFaceHub, hub_server: HubServer, sleeps: Sleeps, status: int) -> None:
    hub_server.fail("info", Failure.status(status), times=2)

    assert hub.resolve("acme/base").model_id == "acme/base"
    assert sleeps == [1.0, 2.0]


def test_a_long_outage_is_reported_as_retryable(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.fail("info", Failure.status(503), times=100)

    with pytest.raises(HubUnavailableError, match="503") as caught:
        hub.resolve("acme/base")

    assert caught.value.retryable


def test_a_rate_limit_is_waited_for_as_long_as_the_hub_asks(
    hub: HuggingFaceHub, hub_server: HubServer, sleeps: Sleeps
) -> None:
    hub_server.fail("info", Failure.rate_limited(seconds=55))

    hub.resolve("acme/base")

    assert sleeps == [56.0]


def test_an_unreasonable_pause_is_cut_short(hub: HuggingFaceHub, hub_server: HubServer, sleeps: Sleeps) -> None:
    hub_server.fail("info", Failure.rate_limited(seconds=10**9))

    hub.resolve("acme/base")

    assert sleeps == [MAX_WAIT_SECONDS]


def test_a_hub_that_is_not_there_is_reported_as_retryable(sleeps: Sleeps) -> None:
    nowhere = HuggingFaceHub(client=HubClient("http://127.0.0.1:9", attempts=2, sleep=sleeps))

    with pytest.raises(HubUnavailableError, match="could not be reached"):
        nowhere.resolve("acme/base")


def test_a_closed_connection_is_tried_again(hub: HuggingFaceHub, hub_server: HubServer) -> None:
    hub_server.fail("info", Failure.disconnect(after_handling=False))

    assert hub.resolve("acme/base").model_id == "acme/base"


def test_a_silent_connection_is_given_up_and_tried_again(
    hub: HuggingFaceHub, hub_server: HubServer, sleeps: Sleeps
) -> None:
    impatient = Timeouts(connect_seconds=5.0, read_seconds=1.0)
    client = HubClient(hub_server.url, timeouts=impatient, attempts=3, sleep=sleeps)
    hub_server.fail("info", Failure.slow_body(1.5))

    assert HuggingFaceHub(client=client).resolve("acme/base").model_id == "acme/base"
    assert sleeps == [1.0]


def _model(hub: HuggingFaceHub) -> ResolvedModel:
    return hub.resolve("acme/base")


@pytest.mark.parametrize(
    "failure",
    [
        Failure.status(503),
        Failure.rate_limited(seconds=3),
        Failure.disconnect(after_handling=False),
        Failure.truncated_body(),
    ],
)
def test_a_download_survives_a_passing_failure(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path, failure: Failure
) -> None:
    model = _model(hub)
    hub_server.fail("resolve", failure, path_contains=WEIGHTS)

    folder = hub.download(model, tmp_path / "download")

    assert {path.name for path in folder.iterdir()} == set(BASE)
    assert (folder / WEIGHTS).read_bytes() == BASE[WEIGHTS]


def test_a_bit_that_changed_once_costs_one_file_again(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    hub_server.fail("resolve", Failure.corrupted_body(), times=HEAD_AND_GET, path_contains=WEIGHTS)
    seen: list[int] = []

    folder = hub.download(model, tmp_path / "download", on_progress=lambda done, total: seen.append(done))

    assert (folder / WEIGHTS).read_bytes() == BASE[WEIGHTS]
    assert seen[-1] == model.download_bytes


def test_a_changed_bit_is_noticed_and_the_file_discarded(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    hub_server.fail("resolve", Failure.corrupted_body(), times=2 * HEAD_AND_GET, path_contains=WEIGHTS)

    with pytest.raises(DownloadCorruptedError, match="SHA-256") as caught:
        hub.download(model, tmp_path / "download")

    assert caught.value.retryable
    assert not (tmp_path / "download" / WEIGHTS).exists()
    assert (hub.download(model, tmp_path / "download") / WEIGHTS).read_bytes() == BASE[WEIGHTS]


def test_a_changed_bit_in_a_small_file_is_noticed_too(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    hub_server.fail("resolve", Failure.corrupted_body(), times=2 * HEAD_AND_GET, path_contains="config.json")

    with pytest.raises(DownloadCorruptedError, match="git blob id"):
        hub.download(model, tmp_path / "download")


def test_a_lasting_outage_during_the_download_is_reported_as_retryable(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    hub_server.fail("resolve", Failure.status(503), times=1000, path_contains=WEIGHTS)

    with pytest.raises(HubUnavailableError):
        hub.download(model, tmp_path / "download")


def test_access_withdrawn_before_the_download_is_named(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    hub_server.repository("acme/base").gated = True

    with pytest.raises(GatedModelError, match="acme/base"):
        hub.download(model, tmp_path / "download")


def test_a_model_deleted_before_the_download_is_named(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path
) -> None:
    model = _model(hub)
    del hub_server.state.repositories["acme/base"]

    with pytest.raises(ModelNotFoundError, match="acme/base"):
        hub.download(model, tmp_path / "download")


def test_a_full_disk_is_not_blamed_on_the_hub(hub: HuggingFaceHub, tmp_path: Path) -> None:
    model = _model(hub)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, hard))  # no file may grow beyond it: the disk's refusal, nearly

    try:
        with pytest.raises(OSError, match="File too large") as caught:
            hub.download(model, tmp_path / "download")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert not isinstance(caught.value, HubError)


def test_a_download_by_xet_stops_in_the_middle_of_a_file_and_resumes(xet_hub_server: HubServer, tmp_path: Path) -> None:
    content = random.Random(0).randbytes(20_000_000)
    hub = HuggingFaceHub(client=HubClient(xet_hub_server.url, attempts=1))
    api = HfApi(endpoint=xet_hub_server.url, token="hf_alice")
    api.create_repo("alice/large")
    api.create_commit("alice/large", [CommitOperationAdd(WEIGHTS, content)], commit_message="first")
    model = hub.resolve("alice/large")
    asked = count()

    with pytest.raises(StopRequested):
        hub.download(model, tmp_path / "download", should_stop=lambda: next(asked) > 0)

    seen: list[int] = []
    folder = hub.download(model, tmp_path / "download", on_progress=lambda done, total: seen.append(done))
    assert (folder / WEIGHTS).read_bytes() == content
    assert seen == sorted(seen)
    assert seen[-1] == len(content)


def test_no_error_carries_the_token(hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path) -> None:
    model = hub.resolve("acme/base", token="hf_alice")
    hub_server.fail("info", Failure.status(500), times=1000)
    hub_server.fail("resolve", Failure.status(403), times=1000)

    for call in (
        lambda: hub.resolve("acme/base", token="hf_alice"),
        lambda: hub.download(model, tmp_path / "download", token="hf_alice"),
    ):
        with pytest.raises(HubError) as caught:
            call()

        error = caught.value
        assert error.__cause__ is None
        assert error.__context__ is None
        assert b"hf_alice" not in pickle.dumps(error)
        assert "hf_alice" not in "".join(traceback.format_exception_only(error))
        assert type(pickle.loads(pickle.dumps(error))) is type(error)


def test_a_call_without_token_sends_none_even_when_the_machine_has_one(
    hub: HuggingFaceHub, hub_server: HubServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_TOKEN", "hf_alice")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_IMPLICIT_TOKEN", False)

    hub.download(hub.resolve("acme/base"), tmp_path / "download")

    assert {request.user for request in hub_server.requests} == {None}
