"""The table of routes: a name for the failure switches, a method, a path, and who answers."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import unquote

from tests.hub_server import content_routes as content
from tests.hub_server import repository_routes as repositories
from tests.hub_server.messages import HubHTTPError, Request, Response, as_json
from tests.hub_server.state import HubState

_MODEL = r"/api/models/(?P<repo_id>[^/]+/[^/]+)"
_DATASET = r"/api/datasets/(?P<repo_id>[^/]+/[^/]+)"
_REVISION = r"(?P<revision>[^/]+)"


@dataclass(frozen=True)
class Route:
    name: str
    methods: tuple[str, ...]
    pattern: str
    answer: Callable[..., Response]


ROUTES = (
    Route("whoami", ("GET",), r"/api/whoami-v2", repositories.whoami),
    Route("harnesses", ("GET",), r"/api/agent-harnesses", lambda hub, request: as_json({})),
    Route("create", ("POST",), r"/api/repos/create", repositories.create),
    Route("delete", ("DELETE",), r"/api/repos/delete", repositories.delete),
    Route("validate_yaml", ("POST",), r"/api/validate-yaml", content.validate_yaml),
    Route("list_models", ("GET",), r"/api/models", repositories.list_models),
    Route("webhooks", ("GET",), r"/api/settings/webhooks", repositories.list_webhooks),
    Route("webhooks", ("POST",), r"/api/settings/webhooks", repositories.create_webhook),
    Route("webhooks", ("POST",), r"/api/settings/webhooks/(?P<webhook_id>[^/]+)", repositories.update_webhook),
    Route("webhooks", ("DELETE",), r"/api/settings/webhooks/(?P<webhook_id>[^/]+)", repositories.delete_webhook),
    Route(
        "webhooks",
        ("POST",),
        r"/api/settings/webhooks/(?P<webhook_id>[^/]+)/(?P<action>enable|disable)",
        repositories.switch_webhook,
    ),
    Route("settings", ("PUT",), _MODEL + "/settings", repositories.settings),
    Route("auth_check", ("GET",), _MODEL + "/auth-check", repositories.auth_check),
    Route("auth_check_write", ("GET",), _MODEL + "/auth-check/write", repositories.auth_check_write),
    Route("tree", ("GET",), _MODEL + "/tree/" + _REVISION, repositories.tree),
    Route("paths_info", ("POST",), _MODEL + "/paths-info/" + _REVISION, repositories.paths_info),
    Route("refs", ("GET",), _MODEL + "/refs", repositories.refs),
    Route("commits", ("GET",), _MODEL + "/commits/" + _REVISION, repositories.commits),
    Route("branch", ("POST",), _MODEL + "/branch/(?P<name>[^/]+)", repositories.create_branch),
    Route("tag", ("POST",), _MODEL + "/tag/" + _REVISION, repositories.create_tag),
    Route("preupload", ("POST",), _MODEL + "/preupload/" + _REVISION, content.preupload),
    Route("commit", ("POST",), _MODEL + "/commit/" + _REVISION, content.commit),
    Route("xet_token", ("GET",), _MODEL + "/xet-(?P<kind>read|write)-token/" + _REVISION, content.xet_token),
    Route("info", ("GET",), _MODEL, repositories.info),
    Route("info", ("GET",), _MODEL + "/revision/" + _REVISION, repositories.info),
    Route("info", ("GET",), _DATASET, repositories.info),
    Route("info", ("GET",), _DATASET + "/revision/" + _REVISION, repositories.info),
    Route(
        "resolve",
        ("GET", "HEAD"),
        r"/datasets/(?P<repo_id>[^/]+/[^/]+)/resolve/" + _REVISION + r"/(?P<path>.+)",
        content.resolve,
    ),
    Route("lfs_batch", ("POST",), r"/(?P<repo_id>[^/]+/[^/]+)\.git/info/lfs/objects/batch", content.lfs_batch),
    Route("lfs_put", ("PUT",), r"/lfs/(?P<oid>[0-9a-f]{64})", content.lfs_put),
    Route(
        "resolve",
        ("GET", "HEAD"),
        r"/(?P<repo_id>[^/]+/[^/]+)/resolve/" + _REVISION + r"/(?P<path>.+)",
        content.resolve,
    ),
)


def find_route(request: Request) -> tuple[Route, dict[str, str]] | None:
    """Return the route of a request and the named parts of its path."""
    for route in ROUTES:
        match = re.fullmatch(route.pattern, request.path)
        if match is not None and request.method in route.methods:
            return route, {name: unquote(value) for name, value in match.groupdict().items()}
    return None


def answer(hub: HubState, request: Request, route: Route, parts: dict[str, str]) -> Response:
    """Return the answer of a route; a renamed repository is a redirect, as on the Hub."""
    try:
        repository = hub.repositories.get(parts.get("repo_id", ""))
        if repository is not None and repository.renamed_to is not None:
            there = request.path.replace(repository.repo_id, repository.renamed_to, 1)
            return Response(307, headers={"Location": there})
        return route.answer(hub, request, **parts)
    except HubHTTPError as error:
        return error.response
