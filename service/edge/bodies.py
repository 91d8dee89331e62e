"""What is said of a body before anybody asks whether it fits: is it JSON, and is its text text?"""

import json
import re
from http import HTTPStatus
from typing import Final

from fastapi import Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from service.edge.problem import Problem
from service.edge.problems import new_problem

_HOOKS: Final = "/v1/hooks/"
_SUSPICIOUS: Final = re.compile(rb"\\u[dD][89a-fA-F]|\xed[\xa0-\xbf]|\0")
"""Where half of a surrogate pair may be: escaped, in bytes, or anywhere in UTF-16 and UTF-32, which Python reads."""


async def refuse_broken_text(request: Request) -> None:
    """Refuse a JSON body with half of a surrogate pair in it, which Python takes for text and nothing else does.

    A dependency of every operation: text is hashed, sealed, sent and stored in too many places to check it in each.

    Raises:
        RequestValidationError: there is one.
    """
    # A hook checks its secret before it reads anything.
    if "json" not in request.headers.get("content-type", "").lower() or request.url.path.startswith(_HOOKS):
        return
    if not _SUSPICIOUS.search(await request.body()):
        return
    try:
        json.dumps(await request.json(), ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        message = "a text holds half of a surrogate pair (\\ud800 to \\udfff), which is not a character; remove it"
        raise RequestValidationError([{"type": "string_unicode", "loc": ("body",), "msg": message}]) from error
    except ValueError:
        return  # An operation that reads no body does not mind.


def unreadable_body_problem(request: Request, error: Exception) -> Problem | None:
    """Return the problem of a body that is no JSON at all; None when an error is about something else."""
    if isinstance(error, HTTPException):
        is_unreadable = isinstance(error.__cause__, UnicodeDecodeError | RecursionError)
        return _malformed(request, "it is not UTF-8, or nested too deeply") if is_unreadable else None
    if not isinstance(error, RequestValidationError):
        return None
    for item in error.errors():
        if item["type"] == "json_invalid":
            return _malformed(request, f"{item['ctx']['error']} at character {item['loc'][-1]}")
    # FastAPI hands on the bytes of a body that does not say it is JSON, and those fit no schema.
    return _not_json(request) if isinstance(error.body, bytes) else None


def _malformed(request: Request, why: str) -> Problem:
    return new_problem(
        request, HTTPStatus.BAD_REQUEST, code="malformed_json", detail=f"The body cannot be read as JSON: {why}."
    )


def _not_json(request: Request) -> Problem:
    given = request.headers.get("content-type")
    sent_as = f"as {given[:100]!r}" if given else "without a Content-Type"
    return new_problem(
        request,
        HTTPStatus.UNSUPPORTED_MEDIA_TYPE,
        code="unsupported_media_type",
        detail=f"The body was sent {sent_as}; send JSON, with `Content-Type: application/json`.",
    )
