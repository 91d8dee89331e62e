"""Stored jobs and events as this version reads them: older forms are brought up to date, unknown fields passed over."""

from collections.abc import Callable, Mapping
from typing import Any

from pydantic import ValidationError

from service.jobs.schema import EVENT_SCHEMA_VERSION, JOB_SCHEMA_VERSION, Job, JobEvent
from service.platform.stored import read_stored
from srr_core.recipe.stages import Stage
from srr_core.recipe.upgrade import upgraded_recipe, upgraded_tuning

_STAGES = frozenset(Stage)
_FLAT = ("source", "destination", "recipe", "calibration", "evaluation", "acknowledge_license")
_UNREADABLE_EVENT = "Something that this version of the service has no words for."


def _work_of_its_own(stored: dict[str, Any]) -> dict[str, Any]:
    """From 1: a job was a compression, whose fields lay beside the job's own."""
    work = {name: stored.pop(name) for name in _FLAT if name in stored}
    return stored | {"work": {"kind": "compress", **work}}


_UPGRADES: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = {1: _work_of_its_own}
"""By the version they upgrade from, each to the next one."""


def read_job(stored: Mapping[str, Any]) -> Job:
    """Return a job that was stored by this version, an older or a newer one.

    Raises:
        UnreadableError: this version has no word for something it says, for instance for its kind of work.
    """
    job = dict(stored)
    version = job.get("schema_version", 1)
    while version in _UPGRADES:
        job = _UPGRADES[version](job)
        version += 1
    job["schema_version"] = JOB_SCHEMA_VERSION
    if job.get("stage") not in _STAGES:
        job["stage"] = None  # of a version that divides a run in another way; everything else still holds
    work = job.get("work")
    if isinstance(work, Mapping) and isinstance(work.get("recipe"), Mapping):
        job["work"] = {**work, "recipe": upgraded_recipe(work["recipe"])}
    elif isinstance(work, Mapping) and isinstance(work.get("tuning"), Mapping):
        job["work"] = {**work, "tuning": upgraded_tuning(work["tuning"])}
    return read_stored(Job, job, what="job")


def read_event(stored: Mapping[str, Any]) -> JobEvent:
    """Return an event that was stored by this version, an older or a newer one.

    One of an unknown kind becomes a line of the log that says so: its number must not be missing.
    """
    event = {**stored, "schema_version": EVENT_SCHEMA_VERSION}
    try:
        return JobEvent.model_validate(event, extra="ignore")
    except ValidationError:
        data = {"message": _UNREADABLE_EVENT, "kind": stored.get("kind")}
        return JobEvent.model_validate(event | {"kind": "log", "data": data}, extra="ignore")
