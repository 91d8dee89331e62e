"""Hub tokens: unreadable where they are stored, and for a limited time."""

import threading
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from service.jobs.credentials import CredentialVault, credential_keys
from service.jobs.errors import CredentialError

TOKEN = "hf_abcdefghijklmnop"


def vault(*keys: str, lifetime: timedelta = timedelta(hours=1)) -> CredentialVault:
    return CredentialVault(keys, lifetime=lifetime)


def test_sealed_token_opens_with_its_key_only() -> None:
    key, other = (Fernet.generate_key().decode() for _ in range(2))
    sealed = vault(key).seal(TOKEN)

    assert TOKEN.encode() not in sealed.ciphertext
    assert vault(key).open(sealed) == TOKEN
    with pytest.raises(CredentialError):
        vault(other).open(sealed)


def test_rotated_key_still_opens_older_tokens() -> None:
    old, new = (Fernet.generate_key().decode() for _ in range(2))
    sealed = vault(old).seal(TOKEN)

    assert vault(new, old).open(sealed) == TOKEN


def test_expired_token_does_not_open() -> None:
    keys = vault(Fernet.generate_key().decode(), lifetime=timedelta(seconds=-1))

    with pytest.raises(CredentialError, match="expired"):
        keys.open(keys.seal(TOKEN))


def test_malformed_key_is_refused() -> None:
    with pytest.raises(CredentialError, match="generate_key"):
        vault("short")


def test_key_in_the_data_directory_is_made_once_and_private(tmp_path: Path) -> None:
    gate = threading.Barrier(4)
    found: list[tuple[str, ...]] = []

    def start() -> None:
        gate.wait()
        found.append(credential_keys((), tmp_path / "data"))

    threads = [threading.Thread(target=start) for _ in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]

    assert len(set(found)) == 1
    assert [path.name for path in (tmp_path / "data").iterdir()] == ["credential.key"]
    assert (tmp_path / "data" / "credential.key").stat().st_mode & 0o077 == 0
    assert vault(*found[0]).open(vault(*found[0]).seal(TOKEN)) == TOKEN
