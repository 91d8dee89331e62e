"""Fields that both edges take from callers."""

from typing import Annotated

from pydantic import AfterValidator, Field, SecretStr

from service.jobs.hub_tokens import MAX_TOKEN_CHARACTERS, NOT_SENDABLE, is_hub_token

MAX_TAGS = 20
Tag = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9._:-]*$")]


def _check_token(token: SecretStr) -> SecretStr:
    if not is_hub_token(token.get_secret_value()):
        raise ValueError(NOT_SENDABLE)
    return token


HubToken = Annotated[
    SecretStr,
    AfterValidator(_check_token),
    Field(max_length=MAX_TOKEN_CHARACTERS, json_schema_extra={"pattern": "^[!-~]*$"}),
]
