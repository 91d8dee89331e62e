"""Watches over REST: standing orders to compress what is released."""

from datetime import UTC, datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, ConfigDict, Field

from service.api.dependencies import ServicesDep, WatchesDep, WatchReader, WatchWriter
from service.api.problems import problem_responses
from service.releases.preview import preview_watch
from service.releases.schema import Glob, Preview, Release, Watch, WatchRules
from service.releases.watches import change_watch, create_watch
from srr_core.recipe import DEFAULT_RECIPE, parse_recipe

router = APIRouter(prefix="/v1/watches", tags=["watches"])
WatchId = Annotated[str, Path(pattern=r"^watch_[0-9a-z]{26}$", examples=["watch_01k9z6h3v2m8q4t7w1x5y0c3d6"])]
_NOT_FOUND = (HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY)
_BODY = (HTTPStatus.BAD_REQUEST, HTTPStatus.REQUEST_ENTITY_TOO_LARGE, HTTPStatus.UNPROCESSABLE_ENTITY)


class WatchBody(BaseModel):
    """What to look for, and what to do about it."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"name": "our models", "pattern": "org/*", "destination": "org/{name}-{recipe}-{bits}bit"}]
        },
    )

    name: str = Field(min_length=1, max_length=100)
    pattern: str = Field(
        max_length=96,
        pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*/[A-Za-z0-9*?][A-Za-z0-9*?._-]*$",
        description="owner/model, where the model may hold * and ?; the owner may not.",
    )
    namespace: Annotated[str, Field(pattern="^(org|user)$", description="What the owner is on the Hub.")] = "org"
    branches: tuple[Glob, ...] = Field(default=("main",), max_length=16)
    tags: tuple[Glob, ...] = Field(default=(), max_length=16)
    recipes: tuple[str | dict[str, Any], ...] = Field(
        default=(DEFAULT_RECIPE,), min_length=1, max_length=8, description="Names or objects, as in a job."
    )
    destination: str = Field(
        max_length=200,
        description="Template of the repository, of {owner}, {name}, {recipe}, {bits} and {ref}, as they stand.",
    )
    private: bool | None = Field(default=None, description="Null: as private as the source.")
    acknowledge_license: bool = Field(
        default=False, description="The terms of these models were read and allow this, whatever their cards state."
    )
    max_weight_bytes: int | None = Field(default=None, gt=0, lt=2**53, description="Larger models are skipped.")
    per_day: int = Field(default=10, ge=1, le=10_000, description="Releases acted on in 24 hours; the rest waits.")
    enabled: bool = True


class WatchList(BaseModel):
    """The watches of the caller, newest first."""

    watches: list[Watch]


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
    """Store a watch. What is on the Hub already counts as seen; `srr watch sync` makes the Hub tell of the rest."""
    return create_watch(rules_of(body), owner=caller.owner, store=watches, vault=services.vault)


@router.get("", operation_id="listWatches", summary="List watches", responses=problem_responses())
def list_watches(caller: WatchReader, watches: WatchesDep) -> WatchList:
    """Return every watch of the caller."""
    return WatchList(watches=list(watches.list(caller.owner)))


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
    """Return releases with what became of each, and why."""
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
    # What the watch itself will look with.
    token = services.settings.hub_token.get_secret_value() if services.settings.hub_token else None
    found = preview_watch(watch, releases=services.hubs.releases, hub=services.hubs.watched, days=days, token=token)
    return PreviewList(previews=list(found))


def rules_of(body: WatchBody) -> WatchRules:
    """Return the rules a body stands for.

    Raises:
        RecipeError: a recipe is unknown or out of range.
    """
    recipes = tuple(parse_recipe(recipe) for recipe in body.recipes)
    return WatchRules.model_validate({**body.model_dump(exclude={"recipes"}), "recipes": recipes})
