"""The sockets: one thread per connection on a random port of the loopback interface."""

import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from tests.hub_server.failures import Failure
from tests.hub_server.messages import HubHTTPError, Request, Response
from tests.hub_server.repositories import Commit, Repository, User
from tests.hub_server.routes import answer, find_route
from tests.hub_server.state import HubState
from tests.hub_server.webhooks import Delivery, WebhookEvent, deliver
from tests.hub_server.xet import XetStore


class HubServer:
    """A Hub on the loopback interface. `hf_alice` (organization `acme`) and `hf_bob` are its users."""

    def __init__(self, *, xet_directory: Path | None = None) -> None:
        xet = XetStore(xet_directory) if xet_directory is not None else None
        self.state = HubState(users={"hf_alice": User("alice", ("acme",)), "hf_bob": User("bob")}, xet=xet)
        self._http = _HubHTTPServer(self.state)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """The endpoint to give to a client."""
        return f"http://127.0.0.1:{self._http.server_address[1]}"

    @property
    def requests(self) -> list[Request]:
        """Every request so far, in the order of arrival."""
        return self.state.requests

    def __enter__(self) -> "HubServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def add_model(self, repo_id: str, files: Mapping[str, bytes | Path], **properties: Any) -> Commit:
        """Create a repository with these files and return its commit; properties are those of `Repository`."""
        self.state.repositories[repo_id] = Repository(repo_id, **properties)
        return self.state.push(repo_id, files, message="Initial commit")

    def push(
        self, repo_id: str, files: Mapping[str, bytes | Path], *, message: str = "Update", branch: str = "main"
    ) -> Commit:
        """Commit as somebody with a clone would, and queue the webhook events."""
        return self.state.push(repo_id, files, message=message, branch=branch)

    def tag(self, repo_id: str, name: str) -> None:
        """Tag the head, and queue the webhook events."""
        repository = self.repository(repo_id)
        repository.tags[name] = repository.head.oid
        self.state.webhooks.content_changed(repository, f"refs/tags/{name}", None, repository.head.oid)

    def rename(self, old: str, new: str) -> None:
        """Give a repository another id; the old one redirects."""
        repository = self.repository(old)
        self.state.repositories[new] = repository.renamed(new)
        repository.renamed_to = new

    def repository(self, repo_id: str) -> Repository:
        """Return a repository."""
        return self.state.repositories[repo_id]

    def read(self, repo_id: str, path: str) -> bytes:
        """Return the bytes of a file at the head."""
        content = self.state.content(self.repository(repo_id).head.files[path])
        if content is None:
            raise AssertionError(f"{path} lies in the Xet store")
        return content

    def fail(self, route: str, failure: Failure, *, times: int = 1, path_contains: str = "") -> None:
        """Let the next answers of a route fail. Routes are named in `routes.ROUTES`."""
        self.state.failures.add(route, failure, times=times, path_contains=path_contains)

    def webhook_events(self) -> list[WebhookEvent]:
        """Take the events that wait to be delivered: duplicate, reorder, change or lose them."""
        return self.state.webhooks.take()

    def deliver(self, *events: WebhookEvent) -> list[Delivery]:
        """Deliver events in the order given; without any, all that wait."""
        return deliver(events or self.webhook_events())


class _HubHTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, state: HubState) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.state = state

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away is no news: tests provoke it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # or each answer in two writes waits 40 ms for an acknowledgement
    server: _HubHTTPServer

    def log_message(self, *arguments: Any) -> None:
        """Requests are kept in the state instead."""

    def _serve(self) -> None:
        request, state = self._read(), self.server.state
        state.requests.append(request)
        if request.user == "":
            return self._write(HubHTTPError(401, "", "Invalid credentials in Authorization header").response)
        found = find_route(request)
        if found is None:
            return self._write(HubHTTPError(404, "", f"No route for {request.method} {request.path}").response)
        failure = state.failures.take(found[0].name, request)
        if failure is None:
            return self._write(answer(state, request, *found))
        return self._fail(failure, lambda: answer(state, request, *found))

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = _serve  # noqa: N815  # the names http.server calls

    def _fail(self, failure: Failure, respond: Callable[[], Response]) -> None:
        if failure.answer is not None:
            return self._write(failure.answer)
        if failure.kind == "disconnect_before":
            self.close_connection = True
            return None
        if failure.action is not None and failure.kind != "after":
            failure.action()
        response = failure.apply(respond())
        if failure.action is not None and failure.kind == "after":
            failure.action()
        if failure.kind == "disconnect_after":
            self.close_connection = True
            return None
        return self._write(response, cut=failure.kind == "truncate", pause_seconds=failure.seconds)

    def _read(self) -> Request:
        url = urlsplit(self.path)
        headers = {name.lower(): value for name, value in self.headers.items()}
        token = headers.get("authorization", "").removeprefix("Bearer ")
        owner = self.server.state.users.get(token)
        return Request(
            method=self.command,
            path=url.path,
            query=dict(parse_qsl(url.query, keep_blank_values=True)),
            headers=headers,
            body=self._body(headers),
            base_url=f"http://{headers['host']}",
            user=(owner.name if owner else "") if token else None,
        )

    def _body(self, headers: Mapping[str, str]) -> bytes:
        if headers.get("transfer-encoding") != "chunked":
            return self.rfile.read(int(headers.get("content-length") or 0))
        body = b""
        while size := int(self.rfile.readline().strip(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _write(self, response: Response, *, cut: bool = False, pause_seconds: float = 0.0) -> None:
        self.send_response(response.status)
        headers = {"Content-Length": str(len(response.body)), **response.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        half = len(response.body) // 2
        self.wfile.write(response.body[:half])
        self.wfile.flush()
        if cut:
            self.close_connection = True
            return
        if pause_seconds:
            time.sleep(pause_seconds)
        self.wfile.write(response.body[half:])
