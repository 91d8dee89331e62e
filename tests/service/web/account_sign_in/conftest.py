"""A service that people sign in to with accounts, and the provider that has them."""

from collections.abc import Iterator
from typing import Any

import pytest

from service.settings import ServiceSettings
from tests.oidc_server.people import CLIENT_ID, CLIENT_SECRET
from tests.oidc_server.server import OIDCServer
from tests.service.web.account_sign_in.steps import CALLBACK, PUBLIC


@pytest.fixture(autouse=True)
def _a_model(org_model: str) -> None:
    """What jobs are submitted for exists."""


@pytest.fixture
def provider() -> Iterator[OIDCServer]:
    """A provider that knows this service and Ann."""
    with OIDCServer(redirect_uri=PUBLIC + CALLBACK) as server:
        yield server


@pytest.fixture
def choices() -> dict[str, Any]:
    """What a test wants otherwise than the fixture `settings` has it."""
    return {}


@pytest.fixture
def hub_url(provider: OIDCServer) -> str:
    """The provider is the Hub."""
    return provider.url


@pytest.fixture
def settings(choices: dict[str, Any]) -> ServiceSettings:
    """A service that people sign in to with the provider's accounts."""
    defaults: dict[str, Any] = {
        "sign_in": "huggingface",
        "oauth_client_id": CLIENT_ID,
        "oauth_client_secret": CLIENT_SECRET,
        "public_url": PUBLIC,
        "form_secret": "a secret that processes share",
        "allowed_hosts": ("localhost", "127.0.0.1"),
    }
    return ServiceSettings(**(defaults | choices))
