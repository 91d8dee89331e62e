"""`srr watch` and `srr webhook` against a service."""

import json
import sys
from collections.abc import Callable, Iterator

import pytest
from fastapi import FastAPI

from service.cli import main
from tests.service.serving import served

pytestmark = pytest.mark.usefixtures("org_model")
Command = Callable[..., tuple[int, str]]


@pytest.fixture
def srr(application: FastAPI, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """Run the command against the application; its exit code and what it printed."""
    with served(application) as url:
        monkeypatch.setenv("SRR_URL", url)

        def run(*arguments: str) -> tuple[int, str]:
            monkeypatch.setattr(sys, "argv", ["srr", *arguments])
            with pytest.raises(SystemExit) as left:
                main()
            assert isinstance(left.value.code, int)
            return left.value.code, capsys.readouterr().out

        yield run


def test_a_watch_is_added_listed_and_removed(srr: Command) -> None:
    rules = ("org/*", "--destination", "us/{name}-{recipe}", "--recipe", "lqer", "--recipe", "gptq")

    code, text = srr("watch", "add", "ours", *rules)
    watch_id = text.strip()
    _, listed = srr("watch", "list")
    _, document = srr("watch", "list", "--json")
    removed, _ = srr("watch", "remove", watch_id)
    _, after = srr("watch", "list", "--json")

    assert (code, removed) == (0, 0)
    assert all(word in listed for word in (watch_id, "ours", "org/*", "lqer, gptq", "us/{name}-{recipe}"))
    assert [one["id"] for one in json.loads(document)["watches"]] == [watch_id]
    assert json.loads(after)["watches"] == []


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (("--target-bits", "2.56"), ("srr-fast", 2.56)),
        (("--recipe", "srr-gptq", "--target-bits", "3.1"), ("srr-gptq", 3.1)),
    ],
)
def test_a_watch_may_aim_at_a_size(srr: Command, options: tuple[str, ...], expected: tuple[str, float]) -> None:
    code, _ = srr("watch", "add", "ours", "org/*", "--destination", "us/{name}", *options)
    _, document = srr("watch", "list", "--json")

    (recipe,) = json.loads(document)["watches"][0]["recipes"]
    assert code == 0
    assert (recipe["name"], recipe["budget"]["target_bits"]) == expected


def test_a_preview_makes_no_watch(srr: Command) -> None:
    code, text = srr("watch", "preview", "org/*", "--destination", "us/{name}", "--days", "90")
    _, document = srr("watch", "list", "--json")

    assert code == 0
    assert text.startswith("no release of the last 90 days matches") or "org/model" in text
    assert json.loads(document)["watches"] == []


def test_a_wrong_pattern_is_bad_input(srr: Command) -> None:
    assert srr("watch", "add", "ours", "*/*", "--destination", "us/{name}")[0] == 2


def test_a_webhook_is_added_tried_listed_and_removed(srr: Command) -> None:
    code, text = srr("webhook", "add", "https://93.184.216.34/hook", "--description", "pager")
    webhook_id, secret = text.splitlines()
    _, tried = srr("webhook", "test", webhook_id)
    _, listed = srr("webhook", "list")
    removed, _ = srr("webhook", "remove", webhook_id)
    _, after = srr("webhook", "list", "--json")

    assert (code, removed) == (0, 0)
    assert secret.startswith("secret, shown this once: whsec_")
    assert tried.startswith("msg_")
    assert "https://93.184.216.34/hook" in listed
    assert json.loads(after)["endpoints"] == []
