"""Watches over REST: standing orders to compress what is released."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, Field

from service.edge.dependencies import ServicesDep, WatchesDep, WatchReader, WatchWriter
from service.edge.problems import problem_responses
from service.releases.bodies import WatchBody, rules_of
from service.releases.preview import preview_watch
from service.releases.schema import Preview, Release, Watch
from service.releases.watches import change_watch, create_watch

router = APIRouter(prefix="/v1/watches", tags=["watches"])
WatchId = Annotated[str, Path(pattern=r"^watch_[0-9a-z]{26}$", examples=["watch_01k9z6h3v2m8q4t7w1x5y0c3d6"])]
_NOT_FOUND = (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
_BODY = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class WatchList(BaseModel):
    """The watches of the caller, newest first."""

    watches: list[Watch]
    unreadable: list[str] = Field(
        default_factory=list, description="Ids of watches that this version of the service cannot read."
    )


class ReleaseList(BaseModel):
    """What a watch found, newest first."""

    releases: list[Release]


class PreviewList(BaseModel):
    """What a watch would have done, newest release first."""

    previews: list[Preview]


@router.post(
    "",
    operation_id="createWatch",
    summary="Watch for releases",
    status_code=status.HTTP_201_CREATED,
    responses=problem_responses(*_BODY),
)
def create(body: WatchBody, caller: WatchWriter, services: ServicesDep, watches: WatchesDep) -> Watch:
    """Store a watch. What is on the Hub already counts as seen; `srr watch sync` makes the Hub report the rest."""
    return create_watch(rules_of(body), owner=caller.owner, store=watches, vault=services.vault)


@router.get("", operation_id="listWatches", summary="List watches", responses=problem_responses())
def list_watches(caller: WatchReader, watches: WatchesDep) -> WatchList:
    """Return every watch of the caller."""
    found = watches.look(caller.owner)
    return WatchList(watches=list(found.watches), unreadable=list(found.unreadable))


@router.get("/{watch_id}", operation_id="getWatch", summary="Look at a watch", responses=problem_responses(*_NOT_FOUND))
def get_watch(watch_id: WatchId, caller: WatchReader, watches: WatchesDep) -> Watch:
    """Return a watch."""
    return watches.get(watch_id, owner=caller.owner)


@router.put(
    "/{watch_id}",
    operation_id="replaceWatch",
    summary="Change a watch",
    responses=problem_responses(HTTPStatus.NOT_FOUND, *_BODY),
)
def replace_watch(watch_id: WatchId, body: WatchBody, caller: WatchWriter, watches: WatchesDep) -> Watch:
    """Replace the rules of a watch; what it has seen stays seen."""
    return change_watch(watch_id, rules_of(body), owner=caller.owner, store=watches)


@router.delete(
    "/{watch_id}",
    operation_id="deleteWatch",
    summary="Stop watching",
    status_code=status.HTTP_204_NO_CONTENT,
    responses=problem_responses(*_NOT_FOUND),
)
def delete_watch(watch_id: WatchId, caller: WatchWriter, watches: WatchesDep) -> None:
    """Delete a watch and what it found; its jobs stay."""
    watches.delete(watch_id, owner=caller.owner)


@router.get(
    "/{watch_id}/releases",
    operation_id="listReleases",
    summary="Read what a watch found",
    responses=problem_responses(*_NOT_FOUND),
)
def list_releases(
    watch_id: WatchId,
    caller: WatchReader,
    watches: WatchesDep,
    limit: Annotated[int, Query(ge=1, le=500)] = 100,
) -> ReleaseList:
    """Return releases with the outcome of each and its reason."""
    watches.get(watch_id, owner=caller.owner)
    return ReleaseList(releases=list(watches.releases(watch_id, limit=limit)))


@router.post(
    "/preview",
    operation_id="previewWatch",
    summary="Find out what a watch would have done",
    responses=problem_responses(
        *_BODY, HTTPStatus.FORBIDDEN, HTTPStatus.NOT_FOUND, HTTPStatus.BAD_GATEWAY, HTTPStatus.SERVICE_UNAVAILABLE
    ),
)
def preview(
    body: WatchBody,
    caller: WatchReader,
    services: ServicesDep,
    days: Annotated[int, Query(ge=1, le=90)] = 30,
) -> PreviewList:
    """Play the rules through over the releases of the last days, and change nothing."""
    watch = Watch(**dict(rules_of(body)), id="preview", owner=caller.owner, created_at=datetime.now(UTC))
    found = preview_watch(
        watch, releases=services.hubs.releases, hub=services.hubs.source, rights=services.watch_rights, days=days
    )
    return PreviewList(previews=list(found))
