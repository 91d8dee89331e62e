"""The provider over HTTP: metadata, authorize, token, keys, userinfo. Whoever comes to authorize agrees at once."""

import base64
import hashlib
import json
import threading
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from tests.oidc_server.people import CLIENT_ID, Grant, Person, ProviderState

ANN = Person(
    "5f3c0ffee0ddba11deadbeef",
    "ann",
    (
        {"sub": "6a", "name": "Acme", "preferred_username": "acme", "roleInOrg": "write"},
        {"sub": "6b", "name": "Locked", "preferred_username": "locked", "securityRestrictions": ["mfa"]},
    ),
)


class OIDCServer:
    """A provider that runs while it is entered. `host` is a name of loopback; it is part of the issuer."""

    def __init__(self, *, redirect_uri: str, host: str = "127.0.0.1", person: Person = ANN) -> None:
        self.state = ProviderState(person=person, redirect_uri=redirect_uri)
        self._host = host
        self._http = _ProviderHTTPServer(self)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        """The issuer."""
        return f"http://{self._host}:{self._http.server_address[1]}"

    def __enter__(self) -> "OIDCServer":
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()


class _ProviderHTTPServer(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, provider: OIDCServer) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that did not wait is no news: a test provokes it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _ProviderHTTPServer

    def log_message(self, *arguments: Any) -> None:
        """Requests are kept in the state instead."""

    @property
    def _state(self) -> ProviderState:
        return self.server.provider.state

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        url = urlsplit(self.path)
        self._state.requests.append(url.path)
        time.sleep(self._state.slow_seconds)
        if url.path in self._state.down:
            return self._answer(503, b"down for maintenance", "text/plain")
        if url.path in self._state.garbage:
            return self._answer(200, b"<!doctype html>", "text/html")
        match self.command, url.path:
            case "GET", "/.well-known/openid-configuration":
                return self._json(self._metadata())
            case "GET", "/oauth/authorize":
                return self._authorize(_fields(url.query))
            case "POST", "/oauth/token":
                return self._token(_fields(body))
            case "GET", "/oauth/jwks":
                return self._json(self._state.jwks())
            case "GET", "/oauth/userinfo":
                return self._userinfo()
            case _:
                return self._answer(404, b"", "text/plain")

    do_GET = do_POST = _serve  # noqa: N815  # the names http.server calls

    def _metadata(self) -> Mapping[str, Any]:
        url = self.server.provider.url
        return {
            "issuer": self._state.issuer or url,
            "authorization_endpoint": f"{url}/oauth/authorize",
            "token_endpoint": f"{url}/oauth/token",
            "userinfo_endpoint": f"{url}/oauth/userinfo",
            "jwks_uri": f"{url}/oauth/jwks",
            "code_challenge_methods_supported": ["S256"],
        }

    def _authorize(self, query: Mapping[str, str]) -> None:
        asked = (query.get("client_id"), query.get("redirect_uri"), query.get("response_type"))
        is_known = asked == (CLIENT_ID, self._state.redirect_uri, "code")
        has_pkce = query.get("code_challenge_method") == "S256" and query.get("code_challenge")
        if not is_known or not has_pkce or "openid" not in query.get("scope", "").split():
            return self._answer(400, b"not an application of ours, or not how it should ask", "text/plain")
        answer = {"state": query["state"]}
        if self._state.error:
            answer["error"] = self._state.error
        else:
            answer["code"] = self._state.add(
                Grant(
                    person=self._state.person,
                    redirect_uri=query["redirect_uri"],
                    challenge=query["code_challenge"],
                    nonce=query.get("nonce", ""),
                    scope=query["scope"],
                )
            )
        return self._redirect(f"{query['redirect_uri']}?{urlencode(answer)}")

    def _token(self, form: Mapping[str, str]) -> None:
        if not self._is_our_client(form):
            return self._json({"error": "invalid_client"}, 401)
        grant = self._state.grants.pop(form.get("code", ""), None)  # a code is good once
        if grant is None or form.get("redirect_uri") != grant.redirect_uri:
            return self._json({"error": "invalid_grant"}, 400)
        digest = hashlib.sha256(form.get("code_verifier", "").encode()).digest()
        if base64.urlsafe_b64encode(digest).rstrip(b"=").decode() != grant.challenge:
            return self._json({"error": "invalid_grant"}, 400)
        token = {
            "access_token": self._state.access_token,
            "token_type": "bearer",
            "scope": grant.scope,
            "id_token": self._state.id_token(grant, self.server.provider.url),
        }
        if self._state.expires_in is not None:
            token["expires_in"] = self._state.expires_in
        return self._json(token)

    def _is_our_client(self, form: Mapping[str, str]) -> bool:
        if self._state.client_secret is None:
            return form.get("client_id") == CLIENT_ID and "Authorization" not in self.headers
        expected = base64.b64encode(f"{CLIENT_ID}:{self._state.client_secret}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {expected}"

    def _userinfo(self) -> None:
        if self.headers.get("Authorization") != f"Bearer {self._state.access_token}":
            return self._json({"error": "invalid_token"}, 401)
        return self._json(self._state.userinfo(self._state.person))

    def _json(self, content: Mapping[str, Any], status: int = 200) -> None:
        self._answer(status, json.dumps(content).encode(), "application/json")

    def _redirect(self, url: str) -> None:
        self._answer(303, b"", "text/plain", {"Location": url})

    def _answer(self, status: int, body: bytes, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(body)), **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def _fields(text: str) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(text).items()}
