"""What a log line must never hold."""

import io
import json
import logging

import pytest
import structlog

from service.platform.logging import mask


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("hf_abcdEFGH12345678", "abcdEFGH"),
        ("hf_oauth_eyJhbGciOi.eyJzdWIi_-x.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ("srr_k3y1d_abcdefgh12345678", "abcdefgh"),
        ("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "MfKQ9r8G"),
        ("Bearer abc.def-ghi", "abc.def"),
        ("BEARER abc.def-ghi", "abc.def"),
        ("Authorization: bearer  abc.def-ghi", "abc.def"),
        ("Authorization: Basic dXNlcjpwYXNz", "dXNlcjpwYXNz"),
        ("hf_oauth_eyJhbGci.eyJzdWIi-x_y", "eyJ"),
        ("hf_oauth_abcdEFGH12345678", "abcdEFGH"),
        ("hf_jwt_abcdEFGH12345678", "abcdEFGH"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhbm4ifQ.c2lnbmF0dXJl", "c2lnbmF0dXJl"),
        ("https://host/path?token=opaque&x=1", "opaque"),
        ("https://host/path?x=1&secret=opaque", "opaque"),
        ("https://host/callback?code=opaque&state=s", "opaque"),
        ("access_token=opaque", "opaque"),
        ("{'access_token': 'opaque', 'id_token': 'opaque'}", "opaque"),
        ('{"refresh_token":"opaque"}', "opaque"),
        ("ID_TOKEN=opaque", "opaque"),
        ("client_secret=opaque", "opaque"),
        ("redis://user:pass@host:6379/0", "pass"),
        ("postgresql+psycopg://srr:s3cret@db/srr", "s3cret"),
    ],
)
def test_secret_in_a_text_is_masked(text: str, secret: str) -> None:
    masked = mask(f"before {text} after")

    assert secret not in masked
    assert masked.startswith("before ")
    assert masked.endswith(" after")


@pytest.mark.parametrize(
    "text",
    [
        "job_01k0000000000000000000000a of org/srr_model",
        "hf_hub_download in huggingface_hub",
        "https://host/v1/jobs?tag=nightly&cursor=abc",
        "code=job_not_found keyed=1 tokens: 128",
        "Basic usage",
        "https://user@host:8000/path",
    ],
)
def test_what_is_no_secret_stays_readable(text: str) -> None:
    assert mask(text) == text


@pytest.mark.parametrize("key", ["hub_token", "Id-Token", "access_token", "Cookie", "client_secret", "X-Api-Key"])
def test_value_under_a_name_of_a_secret_is_masked_whatever_it_is(stream: io.StringIO, key: str) -> None:
    structlog.get_logger("worker").info("request_sent", headers={key: "opaque"})

    assert json.loads(stream.getvalue())["headers"] == {key: "[masked]"}


def test_event_is_one_line_of_json_with_what_was_bound(stream: io.StringIO) -> None:
    with structlog.contextvars.bound_contextvars(job_id="job_1"):
        structlog.get_logger("worker").info("layer_compressed", layer="q_proj", output_error=0.25)

    line = json.loads(stream.getvalue())
    assert line["event"] == "layer_compressed"
    assert (line["job_id"], line["layer"], line["output_error"]) == ("job_1", "q_proj", 0.25)
    assert (line["level"], line["logger"]) == ("info", "worker")


def test_secrets_are_masked_in_values_names_nests_and_traces(stream: io.StringIO) -> None:
    log = structlog.get_logger("worker")
    token = "hf_abcdEFGH12345678"
    try:
        raise RuntimeError(f"401 for {token}")
    except RuntimeError:
        log.exception("request_failed", hub_token="opaque", headers={"authorization": f"Bearer {token}"}, urls=[token])

    assert token not in stream.getvalue()
    assert "opaque" not in stream.getvalue()
    assert "request_failed" in stream.getvalue()


def test_other_libraries_log_through_the_same_mask(stream: io.StringIO) -> None:
    logging.getLogger("kombu").warning("connecting to %s", "redis://u:hunter2@host")

    assert "hunter2" not in stream.getvalue()
    assert json.loads(stream.getvalue())["logger"] == "kombu"
