"""Hub tokens by reference: sealed before they are stored, opened only by the worker that holds the job."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from service.jobs.errors import CredentialError, InvalidJobError
from service.jobs.schema import SealedSecret

ACCOUNT_OWNER = "hf:"
"""What the owners of jobs and keys begin with that belong to an account of the Hub."""


class CredentialVault:
    """Seals and opens Hub tokens. It stores nothing: the sealed form lives and dies with the job.

    The first key seals; every key opens, so a key is rotated by putting a new one in front and removing
    the old one once the jobs of its time have ended.
    """

    def __init__(self, keys: Sequence[str], *, lifetime: timedelta) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys])
        except ValueError as error:
            raise CredentialError(
                "a credential key is not 32 url-safe base64 bytes; make one with Fernet.generate_key()"
            ) from error
        self._lifetime = lifetime

    def seal(self, token: str, *, expires_at: datetime | None = None) -> SealedSecret:
        """Return the stored form of a token, good until its lifetime is over, or earlier if the token itself ends."""
        until = datetime.now(UTC) + self._lifetime
        return SealedSecret(
            ciphertext=self._fernet.encrypt(token.encode()),
            expires_at=until if expires_at is None else min(until, expires_at),
        )

    def open(self, sealed: SealedSecret) -> str:
        """Return the token.

        Raises:
            CredentialError: it has expired, was changed, or its key is no longer known.
        """
        if sealed.expires_at <= datetime.now(UTC):
            raise CredentialError("the Hub token of this job has expired; retry the job with a token")
        try:
            return self._fernet.decrypt(sealed.ciphertext).decode()
        except InvalidToken as error:
            raise CredentialError("the Hub token of this job cannot be decrypted with the configured keys") from error

    def seal_anew(self, ciphertext: bytes) -> bytes:
        """Return a stored secret sealed with the first key.

        Raises:
            CredentialError: it was changed, or its key is no longer known.
        """
        try:
            return self._fernet.rotate(ciphertext)
        except InvalidToken as error:
            raise CredentialError("a stored secret cannot be decrypted with the configured keys") from error


def brings_own_token(owner: str) -> bool:
    """Whether the jobs of an owner use Hub tokens of their own and never the worker's.

    So it is for accounts of the Hub: whoever signs in with one is not necessarily known to the operator.
    """
    return owner.startswith(ACCOUNT_OWNER)


def require_own_token(owner: str, hub_token: str | None) -> None:
    """Raise InvalidJobError when a job needs a Hub token of its own and has none."""
    if hub_token is None and brings_own_token(owner):
        raise InvalidJobError("this service lends no Hub token to accounts of the Hub; give one of your own")


def credential_keys(configured: Sequence[str], data_dir: Path) -> tuple[str, ...]:
    """Return the configured keys, or the one in the data directory, which is made on first use.

    Two processes that start together agree on one key: the file appears complete, by an exclusive link.
    """
    if configured:
        return tuple(configured)
    path = data_dir / "credential.key"
    if not path.exists():
        _create_key(path)
    return (path.read_text(encoding="ascii").strip(),)


def _create_key(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{Fernet.generate_key()[:12].decode()}")
    draft.touch(mode=0o600)
    draft.write_bytes(Fernet.generate_key())
    try:
        path.hardlink_to(draft)
    except FileExistsError:
        pass
    finally:
        draft.unlink()
