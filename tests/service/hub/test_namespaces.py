"""Whose namespaces a token may write to is asked once in a while, not each time."""

import pytest

from service.hub.client import HubClient
from service.hub.errors import InvalidTokenError
from service.hub.namespaces import REMEMBER_SECONDS, Namespaces
from tests.hub_server import HubServer


class Clock:
    """A clock that is set by hand."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


def _questions(hub_server: HubServer) -> int:
    return sum(request.path == "/api/whoami-v2" for request in hub_server.requests)


def test_a_token_is_asked_about_once(hub_server: HubServer) -> None:
    namespaces = Namespaces(HubClient(hub_server.url, attempts=1))

    assert [namespaces.of("hf_alice") for _ in range(3)] == [frozenset({"alice", "acme"})] * 3
    assert namespaces.of("hf_bob") == {"bob"}
    assert _questions(hub_server) == 2


def test_a_token_is_asked_about_again_after_a_while(hub_server: HubServer) -> None:
    clock = Clock()
    namespaces = Namespaces(HubClient(hub_server.url, attempts=1), clock=clock)
    namespaces.of("hf_alice")

    clock.now = REMEMBER_SECONDS
    namespaces.of("hf_alice")

    assert _questions(hub_server) == 2


def test_a_refused_token_is_not_remembered(hub_server: HubServer) -> None:
    namespaces = Namespaces(HubClient(hub_server.url, attempts=1))

    for _ in range(2):
        with pytest.raises(InvalidTokenError):
            namespaces.of("hf_stolen")

    assert _questions(hub_server) == 2


def test_no_token_is_kept(hub_server: HubServer) -> None:
    namespaces = Namespaces(HubClient(hub_server.url, attempts=1))
    namespaces.of("hf_alice")

    assert "hf_alice" not in repr(vars(namespaces))
