"""The access to the Hub that comes with a sign-in: how long a job may be given it, and who can read it."""

from datetime import UTC, datetime, timedelta

import pytest
from cryptography.fernet import Fernet

from service.accounts import HubAccess, open_access, seal_access
from service.jobs.credentials import CredentialVault

NOW = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN = "hf_oauth_0123456789"


def vault() -> CredentialVault:
    return CredentialVault([Fernet.generate_key().decode()], lifetime=timedelta(hours=1))


@pytest.mark.parametrize(("hours", "usable"), [(8.0, 6.0), (3.0, 1.5), (0.5, 0.25), (0.0, 0.0)])
def test_a_job_is_given_an_access_only_while_it_lasts_long_enough(hours: float, usable: float) -> None:
    access = HubAccess.granted(TOKEN, owner="hf:a", lifetime=timedelta(hours=hours), now=NOW)

    assert access.expires_at == NOW + timedelta(hours=hours)
    assert access.renew_at == NOW + timedelta(hours=usable)


def test_a_sealed_access_is_read_by_its_installation_and_for_its_owner_only() -> None:
    ours, access = vault(), HubAccess.granted(TOKEN, owner="hf:a", lifetime=timedelta(hours=8), now=NOW)

    sealed = seal_access(access, ours)

    assert TOKEN not in sealed
    assert open_access(sealed, ours, owner="hf:a") == access
    assert open_access(sealed, ours, owner="hf:b") is None
    assert open_access(sealed, vault(), owner="hf:a") is None
    assert open_access("", ours, owner="hf:a") is None


def test_an_access_is_not_shown_where_it_is_printed() -> None:
    access = HubAccess.granted(TOKEN, owner="hf:a", lifetime=timedelta(hours=8), now=NOW)

    assert TOKEN not in repr(access)
