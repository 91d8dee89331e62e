"""How much of a quota is used: a page of its own, and a panel of the page of keys."""

from datetime import timedelta

from fastapi import APIRouter, Request
from starlette.responses import Response

from service.edge.dependencies import JobReader, StoreDep
from service.platform.clock import utc_now
from service.web.dependencies import PagesDep
from service.web.rendering import is_fragment

router = APIRouter(include_in_schema=False, default_response_class=Response)
_DAY = timedelta(hours=24)


@router.get("/usage")
def usage_page(request: Request, pages: PagesDep, caller: JobReader, store: StoreDep) -> Response:
    """Show what the caller uses now and has used in the last day, over all of its keys."""
    used = store.usage(caller.owner, since=utc_now() - _DAY)
    quota = caller.quota
    rows = (
        ("Jobs waiting", used.queued, quota.max_queued if quota else None),
        ("Jobs running", used.running, quota.max_running if quota else None),
        ("Minutes of running jobs in 24 hours", used.running_seconds / 60, quota.minutes_per_day if quota else None),
    )
    template = "usage.html" if is_fragment(request) else "usage_page.html"
    return pages.render(request, template, rows=rows, quota=quota, owner=caller.owner)
