"""Structured logs without secrets: one JSON object a line, from structlog and from the standard library alike."""

import logging
import re
import sys
from collections.abc import Mapping
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor

_SECRET = re.compile(
    r"\bhf_(?:(?:oauth|jwt|app)_[\w.-]{8,}|[A-Za-z0-9]{8,})"
    r"|\bapi_org_[A-Za-z0-9]{8,}"
    r"|\bsrr_[A-Za-z0-9]+_[A-Za-z0-9_-]{8,}"
    r"|\bwhsec_[A-Za-z0-9+/=]{8,}"
    r"|\beyJ[\w-]{8,}\.[\w-]{4,}(?:\.[\w-]*)*"
    r"|(?<=://)[^/\s:@]*:[^/\s@]+(?=@)"
)
"""Hub tokens, our API keys, webhook secrets, JSON web tokens, and user:password in a URL."""
_ANNOUNCED = re.compile(
    r"""(?ix) (
        \b (?: bearer | authorization ["']? \s* [=:] \s* ["']? basic ) \s+
      | [?&] (?:token|secret|password|key|api_key|code|sig|signature) =
      | \b (?:access|id|refresh|hub|hf|csrf)_token ["']? \s* [=:] \s* ["']?
      | \b client_secret ["']? \s* [=:] \s* ["']?
    ) [^\s"'&\#,;<>)}]+"""
)
"""What the words before it call a secret: in a header, in a query string, in a printed object. The words stay."""
_SECRET_NAMES = frozenset(
    {"token", "password", "secret", "authorization", "cookie", "set_cookie", "api_key", "credential"}
)
_SECRET_ENDINGS = ("_token", "_secret", "_password", "_api_key")
MASK = "[masked]"
_CHATTY = ("alembic", "kombu.connection", "httpx2", "httpcore2")
"""Libraries whose INFO lines say what our own events say better."""


def mask(text: str) -> str:
    """Return a text with everything that looks like a secret replaced."""
    return _SECRET.sub(MASK, _ANNOUNCED.sub(rf"\g<1>{MASK}", text))


def mask_secrets(_logger: Any, _method: str, event: EventDict) -> EventDict:
    """Mask an event's values, however deep, and every value whose key names a secret. A structlog processor."""
    return {key: _masked(value, key) for key, value in event.items()}


def configure_logging(*, level: str = "INFO", stream: TextIO | None = None) -> None:
    """Send the logs of this process to a stream (standard error) as JSON. Call once, in a composition root."""
    shared: tuple[Processor, ...] = (
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    )
    structlog.configure(
        processors=[structlog.stdlib.filter_by_level, *shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=(*shared, structlog.stdlib.PositionalArgumentsFormatter()),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                mask_secrets,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.WARNING)


def _masked(value: Any, key: str = "") -> Any:
    if value and _names_a_secret(key):
        return MASK
    if isinstance(value, str):
        return mask(value)
    if isinstance(value, Mapping):
        return {name: _masked(item, str(name)) for name, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_masked(item) for item in value]
    return value if value is None or isinstance(value, int | float | bool) else mask(str(value))


def _names_a_secret(key: str) -> bool:
    name = key.lower().replace("-", "_")
    return name in _SECRET_NAMES or name.endswith(_SECRET_ENDINGS)
