"""The one way to call the Hugging Face Hub: explicit tokens, time limits, and errors that hold no secret."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import quote

import httpx2
from huggingface_hub import HfApi, constants, get_session, set_client_factory
from huggingface_hub.utils._headers import build_hf_headers
from huggingface_hub.utils._http import default_client_factory, hf_raise_for_status
from huggingface_hub.utils.tqdm import disable_progress_bars

from service.hub import errors
from service.hub.translation import Subject, translate

T = TypeVar("T")

DEFAULT_ENDPOINT = constants.ENDPOINT
MAX_WAIT_SECONDS = 330.0
"""The Hub counts requests in windows of five minutes; whoever asks for a longer pause gets another try later."""
MAX_JSON_BYTES = 5_000_000
"""Cap for a JSON file read into memory; the largest config.json seen in the wild is under 200 kB."""


@dataclass(frozen=True)
class Timeouts:
    """Seconds until a silent peer counts as gone. The client library's own default is for ever."""

    connect_seconds: float = 10.0
    read_seconds: float = 120.0
    """A commit of many shards is answered only when the hub has checked them all."""


class HubClient:
    """A connection to one endpoint. Holds no token: each call names the one to use, or none.

    Creating one sets the process-wide HTTP client of huggingface_hub, which has no other place for time limits.
    """

    def __init__(
        self,
        endpoint: str = DEFAULT_ENDPOINT,
        *,
        timeouts: Timeouts | None = None,
        attempts: int = 4,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.endpoint = endpoint.rstrip("/")
        self.api = HfApi(endpoint=self.endpoint, token=False)
        self._attempts = attempts
        self._sleep = sleep
        _limit_time(timeouts or Timeouts())
        disable_progress_bars()  # they would be drawn into the log; progress reaches callers as numbers

    def ask(self, call: Callable[[], T], subject: Subject) -> T:
        """Run a call that may be repeated, waiting and trying again while the hub is unavailable.

        Raises:
            HubError: never with the library's own error as cause, because that holds the request's headers.
        """
        for attempt in range(self._attempts - 1):
            try:
                return self.ask_once(call, subject)
            except errors.HubUnavailableError as error:
                self.wait(error, attempt)
        return self.ask_once(call, subject)

    def wait(self, error: errors.HubError, attempt: int) -> None:
        """Sleep as long as the hub asked for, within reason, or 1, 2, 4 ... seconds."""
        asked = error.retry_after_seconds if isinstance(error, errors.HubUnavailableError) else None
        self._sleep(min(asked, MAX_WAIT_SECONDS) if asked is not None else 2.0**attempt)

    def ask_once(self, call: Callable[[], T], subject: Subject) -> T:
        """Run a call that must not be repeated blindly. Raises HubError."""
        try:
            return call()
        except Exception as error:  # every failure of the library is sorted in one place
            failure = translate(error, subject)
            if failure is None:
                raise
        # Raised outside the except block: no __context__ keeps the request, and its token, alive.
        raise failure

    def read_bytes(
        self, repo_id: str, revision: str, path: str, *, token: str | None, limit_bytes: int = MAX_JSON_BYTES
    ) -> bytes:
        """Return a small file of a commit. Raises HubRefusedError above `limit_bytes`, ModelNotFoundError if absent."""
        content = self._read(repo_id, revision, path, token, {}, limit_bytes + 1)
        if len(content) > limit_bytes:
            raise errors.HubRefusedError(f"{path} is larger than {limit_bytes} bytes; such a file is not read.")
        return content

    def read_span(self, repo_id: str, revision: str, path: str, begin: int, end: int, *, token: str | None) -> bytes:
        """Return the bytes of a file from `begin` up to `end`; fewer where it ends before. Raises HubError."""
        content = self._read(repo_id, revision, path, token, {"range": f"bytes={begin}-{end - 1}"}, end)
        # A server that knows no ranges sends the file from its beginning.
        return content[begin:end] if len(content) > end - begin else content

    def _read(
        self, repo_id: str, revision: str, path: str, token: str | None, headers: Mapping[str, str], limit_bytes: int
    ) -> bytes:
        url = f"{self.endpoint}/{repo_id}/resolve/{quote(revision, safe='')}/{quote(path)}"

        def fetch() -> bytes:
            sent = {**build_hf_headers(token=token or False), **headers}
            with get_session().stream("GET", url, headers=sent) as response:
                if response.is_error:
                    response.read()
                hf_raise_for_status(response)
                return _read_up_to(response, limit_bytes)

        return self.ask(fetch, Subject(repo_id, revision))


def _read_up_to(response: httpx2.Response, limit_bytes: int) -> bytes:
    content = bytearray()
    for chunk in response.iter_bytes():
        content += chunk
        if len(content) >= limit_bytes:
            break
    return bytes(content[:limit_bytes])


def _limit_time(timeouts: Timeouts) -> None:
    limit = httpx2.Timeout(timeouts.read_seconds, connect=timeouts.connect_seconds)

    def never_for_ever(request: httpx2.Request) -> None:
        # Several calls of the library, model_info among them, pass timeout=None, which overrules the client's own.
        asked = request.extensions.get("timeout") or {}
        request.extensions["timeout"] = {
            name: seconds if asked.get(name) is None else asked[name] for name, seconds in limit.as_dict().items()
        }

    def factory() -> httpx2.Client:
        client = default_client_factory()
        client.event_hooks["request"].append(never_for_ever)
        return client

    set_client_factory(factory)
