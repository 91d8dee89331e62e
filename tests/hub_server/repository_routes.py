"""Routes about accounts, repositories and their listings. Numbers refer to the table of the Hub's HTTP surface."""

from typing import Any
from urllib.parse import parse_qs

from yaml import YAMLError

from tests.hub_server.messages import HubHTTPError, Request, Response, as_json
from tests.hub_server.repositories import Commit, Repository, StoredFile
from tests.hub_server.state import HubState


def whoami(hub: HubState, request: Request) -> Response:
    """Row 1."""
    user = hub.user(request)
    if user is None:
        raise HubHTTPError(401, "", "Invalid username or password.")
    return as_json(
        {
            "type": "user",
            "id": user.name,
            "name": user.name,
            "fullname": user.name.title(),
            "orgs": [{"name": name} for name in user.organizations],
            "auth": {"accessToken": {"displayName": "test", "role": user.role}},
        }
    )


def create(hub: HubState, request: Request) -> Response:
    """Row 3. A new repository has one commit with the file the Hub puts there."""
    user, wish = hub.user(request), request.json()
    if user is None:
        raise HubHTTPError(401, "", "Invalid username or password.")
    repo_id = f"{wish.get('organization') or user.name}/{wish['name']}"
    repository = Repository(repo_id, private=wish.get("visibility") == "private")
    if not repository.may_write(user):
        raise HubHTTPError(403, "", "You don't have the rights to create a model under this namespace")
    url = f"{request.base_url}/{repo_id}"
    if repo_id in hub.repositories:
        return as_json({"error": "You already created this model repo", "url": url}, status=409)
    repository.commit({".gitattributes": StoredFile.small(b"*.safetensors filter=lfs\n")}, title="initial commit")
    hub.repositories[repo_id] = repository
    return as_json({"url": url, "name": repo_id, "id": repo_id})


def info(hub: HubState, request: Request, repo_id: str, revision: str = "main") -> Response:
    """Row 5."""
    repository = hub.visible(repo_id, request)
    commit = repository.find(revision)
    described = _description(hub, repository, commit, blobs="blobs" in request.query)
    if "securityStatus" in request.query:
        issues = [{"path": path, "level": "unsafe"} for path in repository.unsafe_files]
        described["securityRepoStatus"] = {"scansDone": True, "filesWithIssues": issues}
    return as_json(described)


def _description(hub: HubState, repository: Repository, commit: Commit, *, blobs: bool) -> dict[str, Any]:
    card = _card_data(hub, commit)
    return {
        "id": repository.repo_id,
        "modelId": repository.repo_id,
        "author": repository.owner,
        "sha": commit.oid,
        "private": repository.private,
        "gated": "manual" if repository.gated else False,
        "disabled": repository.disabled,
        "tags": list(card.get("tags", [])),
        "lastModified": commit.date.isoformat().replace("+00:00", "Z"),
        "cardData": card,
        "siblings": [_sibling(path, file, blobs=blobs) for path, file in sorted(commit.files.items())],
    }


def _card_data(hub: HubState, commit: Commit) -> dict[str, Any]:
    """The metadata block as the Hub parsed it; a block that is none counts as empty."""
    from huggingface_hub import ModelCard

    readme = commit.files.get("README.md")
    if readme is None:
        return {}
    try:
        return ModelCard((hub.content(readme) or b"").decode(), ignore_metadata_errors=True).data.to_dict()
    except (ValueError, YAMLError):
        return {}


def _sibling(path: str, file: StoredFile, *, blobs: bool) -> dict[str, Any]:
    if not blobs:
        return {"rfilename": path}
    large = {"lfs": {"sha256": file.sha256, "size": file.size, "pointerSize": 134}} if file.sha256 else {}
    return {"rfilename": path, "size": file.size, "blobId": file.git_oid, **large}


def auth_check(hub: HubState, request: Request, repo_id: str) -> Response:
    """Row 6, reading."""
    hub.readable(repo_id, request)
    return as_json({})


def auth_check_write(hub: HubState, request: Request, repo_id: str) -> Response:
    """Row 6, writing."""
    hub.writable(repo_id, request)
    return as_json({})


def tree(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 7."""
    commit = hub.visible(repo_id, request).find(revision)
    return as_json([_entry(hub, path, file) for path, file in sorted(commit.files.items())])


def paths_info(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 8."""
    files = hub.visible(repo_id, request).find(revision).files
    wanted = parse_qs(request.body.decode()).get("paths", [])
    return as_json([_entry(hub, path, files[path]) for path in wanted if path in files])


def _entry(hub: HubState, path: str, file: StoredFile) -> dict[str, Any]:
    entry: dict[str, Any] = {"type": "file", "path": path, "size": file.size, "oid": file.git_oid}
    if file.sha256:
        entry["lfs"] = {"oid": file.sha256, "size": file.size, "pointerSize": 134}
    return entry


def refs(hub: HubState, request: Request, repo_id: str) -> Response:
    """Row 9."""
    repository = hub.visible(repo_id, request)

    def named(kind: str, found: dict[str, str]) -> list[dict[str, str]]:
        return [{"name": n, "ref": f"refs/{kind}/{n}", "targetCommit": oid} for n, oid in sorted(found.items())]

    return as_json(
        {"branches": named("heads", repository.branches), "tags": named("tags", repository.tags), "converts": []}
    )


def commits(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 10."""
    history = hub.visible(repo_id, request).history(revision)
    return as_json(
        [
            {
                "id": commit.oid,
                "title": commit.title,
                "message": commit.description,
                "date": commit.date.isoformat().replace("+00:00", "Z"),
                "authors": [{"user": commit.author}],
            }
            for commit in history
        ]
    )


def create_branch(hub: HubState, request: Request, repo_id: str, name: str) -> Response:
    """Row 11, branches."""
    repository = hub.writable(repo_id, request)
    if name in repository.branches:
        raise HubHTTPError(409, "", f"Reference refs/heads/{name} already exists")
    repository.branches[name] = repository.find(request.json().get("startingPoint", "main")).oid
    return as_json({})


def create_tag(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 11, tags."""
    repository, name = hub.writable(repo_id, request), request.json()["tag"]
    if name in repository.tags:
        raise HubHTTPError(409, "", f"Reference refs/tags/{name} already exists")
    repository.tags[name] = repository.find(revision).oid
    return as_json({})


def delete(hub: HubState, request: Request) -> Response:
    """Row 4, deleting."""
    wish = request.json()
    repo_id = f"{wish.get('organization') or request.user}/{wish['name']}"
    hub.writable(repo_id, request)
    del hub.repositories[repo_id]
    return as_json({})


def settings(hub: HubState, request: Request, repo_id: str) -> Response:
    """Row 4, settings."""
    repository, wish = hub.writable(repo_id, request), request.json()
    if "visibility" in wish:
        repository.private = wish["visibility"] == "private"
    if "gated" in wish:
        repository.gated = bool(wish["gated"])
    return as_json({"private": repository.private})


def list_models(hub: HubState, request: Request) -> Response:
    """The listing a poller reads: newest change first."""
    author = request.query.get("author")
    shown = [
        repository
        for repository in hub.repositories.values()
        if repository.may_see(hub.user(request)) and author in (None, repository.owner)
    ]
    newest_first = sorted(shown, key=lambda repository: repository.head.date, reverse=True)
    limit = int(request.query.get("limit", "1000"))
    return as_json([_description(hub, shown, shown.head, blobs=False) for shown in newest_first[:limit]])


def list_webhooks(hub: HubState, request: Request) -> Response:
    _known(hub, request)
    return as_json(list(hub.webhooks.registered.values()))


def create_webhook(hub: HubState, request: Request) -> Response:
    _known(hub, request)
    return as_json({"webhook": hub.webhooks.register(request.json())})


def update_webhook(hub: HubState, request: Request, webhook_id: str) -> Response:
    _known(hub, request)
    if webhook_id not in hub.webhooks.registered:
        raise HubHTTPError(404, "", "Webhook not found")
    webhook = hub.webhooks.registered[webhook_id]
    webhook.update(request.json())
    return as_json({"webhook": webhook})


def switch_webhook(hub: HubState, request: Request, webhook_id: str, action: str) -> Response:
    _known(hub, request)
    webhook = hub.webhooks.registered[webhook_id]
    webhook["disabled"] = action == "disable"
    return as_json({"webhook": webhook})


def delete_webhook(hub: HubState, request: Request, webhook_id: str) -> Response:
    _known(hub, request)
    del hub.webhooks.registered[webhook_id]
    return as_json({})


def _known(hub: HubState, request: Request) -> None:
    if hub.user(request) is None:
        raise HubHTTPError(401, "", "Invalid username or password.")
