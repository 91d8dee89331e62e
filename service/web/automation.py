"""The pages of automation: watches and what they found, endpoints and what they were told."""

from fastapi import APIRouter

from service.web import watches, webhooks

router = APIRouter(include_in_schema=False)
for part in (watches.router, webhooks.router):
    router.include_router(part)
