"""How much of its quota a caller has used."""

from datetime import UTC, datetime, timedelta

from fastapi import APIRouter

from service.api.key_schemas import UsageResource
from service.edge.dependencies import JobReader, StoreDep
from service.edge.problems import problem_responses

router = APIRouter(prefix="/v1/usage", tags=["usage"])
_DAY = timedelta(hours=24)


@router.get("", operation_id="getUsage", summary="Look at usage and quota", responses=problem_responses())
def get_usage(caller: JobReader, store: StoreDep) -> UsageResource:
    """Return the usage of the caller, over all of its keys."""
    usage = store.usage(caller.owner, since=datetime.now(UTC) - _DAY)
    return UsageResource(
        queued=usage.queued,
        running=usage.running,
        minutes_last_day=usage.running_seconds / 60,
        quota=caller.quota,
    )
