"""Which names a repository can have, told without asking a hub."""

from huggingface_hub.errors import HFValidationError
from huggingface_hub.utils._validators import validate_repo_id

from service.hub.errors import InvalidRepoIdError


def check_repo_id(repo_id: str) -> None:
    """Refuse a name that no hub can hold.

    Raises:
        InvalidRepoIdError: not owner/name, or against the Hub's rules: `--`, `..` and a final `.git` among them.
    """
    try:
        validate_repo_id(repo_id)
    except HFValidationError:
        raise _invalid(repo_id) from None
    if repo_id.count("/") != 1:
        raise _invalid(repo_id)


def _invalid(repo_id: str) -> InvalidRepoIdError:
    return InvalidRepoIdError(
        f"{repo_id!r} is not a repository id; write it as owner/name, without '--' or '..' and not ending in '.git'."
    )
