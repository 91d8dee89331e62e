"""The events of a job as a stream, for progress that is seen as it happens."""

import asyncio
from collections.abc import AsyncIterable
from http import HTTPStatus
from typing import Annotated

from fastapi import APIRouter, Depends, Header, Query
from fastapi.sse import EventSourceResponse, ServerSentEvent

from service.api.schemas import EventData, EventList
from service.edge.dependencies import FeedDep, JobIdPath, JobReader, OwnedJob, StoreDep
from service.edge.problems import problem_responses
from service.jobs.schema import TERMINAL_STATES, JobEvent
from service.submissions.feed import BATCH, EventFeed

router = APIRouter(prefix="/v1/jobs", tags=["jobs"])
END = "end"


async def room_for_a_stream(feed: FeedDep, caller: JobReader) -> EventFeed:
    """Return the feed, or refuse before the response has begun."""
    feed.require_room(caller.owner)
    return feed


@router.get(
    "/{job_id}/events",
    operation_id="streamJobEvents",
    summary="Follow a job",
    response_class=EventSourceResponse,
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY, HTTPStatus.SERVICE_UNAVAILABLE),
)
async def stream_job_events(
    job_id: JobIdPath,
    job: OwnedJob,
    store: StoreDep,
    feed: Annotated[EventFeed, Depends(room_for_a_stream)],
    last_event_id: Annotated[int | None, Header(ge=0, lt=2**31, description="Resume behind this event.")] = None,
    after: Annotated[int, Query(ge=0, lt=2**31, description="The same, for a first connection.")] = 0,
) -> AsyncIterable[ServerSentEvent]:
    """Send every event so far, then each new one, then `end` when the job has ended.

    The `id` of an event is its sequence number; a client that reconnects with it misses and repeats nothing.
    A stream that closes without `end` was interrupted: reconnect.
    """
    position = after if last_event_id is None else last_event_id
    async for event in feed.follow(job_id, owner=job.owner, after=position):
        yield ServerSentEvent(data=_event_data(event), event=event.kind, id=str(event.sequence))
    now = await asyncio.to_thread(store.get, job_id)
    if now.state in TERMINAL_STATES:
        yield ServerSentEvent(data={"state": now.state}, event=END)


@router.get(
    "/{job_id}/logs",
    operation_id="listJobEvents",
    summary="Read what has happened to a job",
    responses=problem_responses(HTTPStatus.NOT_FOUND, HTTPStatus.UNPROCESSABLE_ENTITY),
)
def list_job_events(
    job: OwnedJob,
    store: StoreDep,
    after: Annotated[int, Query(ge=0, lt=2**31, description="Only events behind this one.")] = 0,
    limit: Annotated[int, Query(ge=1, le=BATCH)] = BATCH,
) -> EventList:
    """Return events so far; an empty list means that none has followed yet."""
    return EventList(events=[_event_data(event) for event in store.events(job.id, after=after, limit=limit)])


def _event_data(event: JobEvent) -> EventData:
    return EventData.model_validate(event.model_dump(exclude={"job_id", "schema_version"}))
