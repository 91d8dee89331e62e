"""What a Hub token looks like: nothing is known of it but that a header can carry it."""

from service.jobs.errors import InvalidJobError

NOT_SENDABLE = "a Hub token is printable ASCII without spaces; copy it again from the Hub's settings"
"""What is said of a text that cannot be a token: no HTTP header could carry it."""
MAX_TOKEN_CHARACTERS = 512


def is_hub_token(text: str) -> bool:
    """Whether a text can be sent to a Hub as a token."""
    return len(text) <= MAX_TOKEN_CHARACTERS and all("!" <= character <= "~" for character in text)


def require_hub_token(text: str | None) -> None:
    """Raise InvalidJobError unless a text, if there is one, can be sent to a Hub as a token."""
    if text is not None and not is_hub_token(text):
        raise InvalidJobError(NOT_SENDABLE)
