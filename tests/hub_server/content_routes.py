"""Routes that carry content: staging, large files, commits and downloads. Numbers refer to the same table."""

import base64
import json
import re
from hashlib import sha256
from typing import Any

from tests.hub_server.messages import HubHTTPError, Request, Response, as_json
from tests.hub_server.repositories import StoredFile, is_large
from tests.hub_server.state import HubState


def validate_yaml(hub: HubState, request: Request) -> Response:
    """Row 12."""
    content = request.json()["content"]
    if content.startswith("---") and content.count("---") < 2:
        return as_json({"errors": [{"message": "metadata block is not closed"}], "warnings": []}, status=400)
    return as_json({"errors": [], "warnings": []})


def preupload(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 13."""
    known = hub.writable(repo_id, request).find(revision).files

    def answer(path: str, size: int) -> dict[str, Any]:
        stored = known.get(path)
        mode = "lfs" if is_large(path) and size else "regular"
        return {
            "path": path,
            "uploadMode": mode,
            "shouldIgnore": False,
            "oid": (stored.sha256 or stored.git_oid) if stored else None,
        }

    return as_json({"files": [answer(file["path"], file["size"]) for file in request.json()["files"]]})


def lfs_batch(hub: HubState, request: Request, repo_id: str) -> Response:
    """Row 14."""
    hub.writable(repo_id, request)

    def answer(oid: str, size: int) -> dict[str, Any]:
        upload = {"upload": {"href": f"{request.base_url}/lfs/{oid}", "header": {}}}
        return {"oid": oid, "size": size, **({} if oid in hub.blobs else {"actions": upload})}

    objects = [answer(wanted["oid"], wanted["size"]) for wanted in request.json()["objects"]]
    return as_json({"transfer": "basic", "objects": objects})


def lfs_put(hub: HubState, request: Request, oid: str) -> Response:
    """Row 15."""
    if sha256(request.body).hexdigest() != oid:
        raise HubHTTPError(400, "", "The content does not have the announced SHA-256")
    hub.blobs[oid] = request.body
    return Response(headers={"ETag": f'"{oid}"'})


def commit(hub: HubState, request: Request, repo_id: str, revision: str) -> Response:
    """Row 17."""
    repository = hub.writable(repo_id, request)
    head = repository.find(revision)
    lines = [json.loads(line) for line in request.body.splitlines()]
    header = next(line["value"] for line in lines if line["key"] == "header")
    expected = header.get("parentCommit")
    if expected and not head.oid.startswith(expected):
        raise HubHTTPError(412, "", "The expected parent commit does not match the current head")
    files = dict(head.files)
    for line in lines:
        _change(hub, files, line["key"], line["value"])
    made = repository.commit(
        files,
        title=header["summary"],
        description=header.get("description", ""),
        author=request.user or "",
        branch=revision,
    )
    hub.webhooks.content_changed(repository, f"refs/heads/{revision}", head.oid, made.oid)
    return as_json(
        {"success": True, "commitUrl": f"{request.base_url}/{repo_id}/commit/{made.oid}", "commitOid": made.oid}
    )


def _change(hub: HubState, files: dict[str, StoredFile], key: str, value: dict[str, Any]) -> None:
    match key:
        case "file":
            files[value["path"]] = StoredFile.small(base64.b64decode(value["content"]))
        case "lfsFile":
            stored = value["oid"] in hub.blobs or (hub.xet is not None and hub.xet.hash_of(value["oid"]))
            if not stored:
                raise HubHTTPError(400, "", f"{value['path']}: the content was never uploaded")
            size = len(hub.blobs[value["oid"]]) if value["oid"] in hub.blobs else value["size"]
            files[value["path"]] = StoredFile.large(value["oid"], size)
        case "deletedFile":
            if files.pop(value["path"], None) is None:
                raise HubHTTPError(404, "EntryNotFound", "A file with this name doesn't exist")
        case "deletedFolder":
            for path in [path for path in files if path.startswith(value["path"])]:
                del files[path]


def xet_token(hub: HubState, request: Request, repo_id: str, kind: str, revision: str) -> Response:
    """Row 19."""
    repository = hub.writable(repo_id, request) if kind == "write" else hub.readable(repo_id, request)
    repository.find(revision)
    if hub.xet is None:
        raise HubHTTPError(404, "EntryNotFound", "This hub has no Xet store")
    connection = hub.xet.connection()
    headers = {
        "X-Xet-Access-Token": str(connection["accessToken"]),
        "X-Xet-Token-Expiration": str(connection["exp"]),
        "X-Xet-Cas-Url": str(connection["casUrl"]),
    }
    return as_json(connection, **headers)


def resolve(hub: HubState, request: Request, repo_id: str, revision: str, path: str) -> Response:
    """Rows 18 and 20. A large file is answered directly: the client follows redirects to the same origin wrongly."""
    found = hub.readable(repo_id, request).find(revision)
    named = {"X-Repo-Commit": found.oid}
    file = found.files.get(path)
    if file is None:
        raise HubHTTPError(404, "EntryNotFound", "Entry not found", X_Repo_Commit=found.oid)
    headers = {**named, "ETag": f'"{file.sha256 or file.git_oid}"', "Accept-Ranges": "bytes"}
    content = hub.content(file)
    if content is None:
        return _from_xet(hub, request, repo_id, file, headers)
    return _ranged(content, request.headers.get("range"), headers)


def _from_xet(hub: HubState, request: Request, repo_id: str, file: StoredFile, headers: dict[str, str]) -> Response:
    xet_hash = hub.xet.hash_of(file.sha256 or "") if hub.xet is not None else None
    if xet_hash is None:
        raise HubHTTPError(404, "EntryNotFound", "The content of this file is nowhere")
    token_url = f"{request.base_url}/api/models/{repo_id}/xet-read-token/{headers['X-Repo-Commit']}"
    xet = {"X-Xet-Hash": xet_hash, "Link": f'<{token_url}>; rel="xet-auth"'}
    linked = {"X-Linked-Size": str(file.size), "X-Linked-Etag": headers["ETag"]}
    return Response(headers={**headers, **xet, **linked, "Content-Length": str(file.size)})


def _ranged(content: bytes, wanted: str | None, headers: dict[str, str]) -> Response:
    match = re.fullmatch(r"bytes=(\d+)-(\d*)", wanted or "")
    if match is None:
        return Response(200, content, headers)
    first, last = int(match[1]), min(int(match[2] or len(content) - 1), len(content) - 1)
    if first > last:
        return Response(416, b"", {**headers, "Content-Range": f"bytes */{len(content)}"})
    span = {"Content-Range": f"bytes {first}-{last}/{len(content)}"}
    return Response(206, content[first : last + 1], {**headers, **span})
