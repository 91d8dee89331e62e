"""What the job page says about stages, time and layers."""

from datetime import UTC, datetime, timedelta

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job
from service.web.formatting import duration, size
from service.web.views import job_view, layer_points, stage_views
from tests.service import finished

NOW = datetime(2026, 1, 1, 12, 0, tzinfo=UTC)


def at(job: Job, *, progress: float, seconds: float) -> Job:
    """Return the job after so many seconds of its attempt."""
    return job.model_copy(update={"progress": progress, "started_at": NOW - timedelta(seconds=seconds)})


def test_stages_before_the_current_one_are_done(job_store: MemoryJobStore) -> None:
    stages = {stage.label: stage.status for stage in stage_views(finished.running(job_store))}

    assert stages["Plan"] == "done"
    assert stages["Compress"] == "now"
    assert stages["Publish"] == "next"


def test_a_recipe_without_evaluation_has_no_such_stage(job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    without = job.model_copy(update={"recipe": job.recipe.model_copy(update={"evaluation": None})})

    assert "Evaluate" not in [stage.label for stage in stage_views(without)]


def test_every_stage_of_a_succeeded_job_is_done(job_store: MemoryJobStore) -> None:
    assert {stage.status for stage in stage_views(finished.succeeded(job_store))} == {"done"}


def test_the_time_left_is_told_only_when_it_is_known(job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)

    assert job_view(at(job, progress=0.01, seconds=600), [], now=NOW).remaining is None
    assert job_view(at(job, progress=0.5, seconds=2), [], now=NOW).remaining is None
    assert job_view(at(job, progress=0.25, seconds=60), [], now=NOW).remaining == "3 min 0 s"


def test_a_layer_that_was_done_twice_counts_once(job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    finished.finish_layer(job_store, job, "a", error=0.5, preserved_rank=1)
    finished.finish_layer(job_store, job, "b", error=0.4, preserved_rank=1)
    finished.finish_layer(job_store, job, "a", error=0.3, preserved_rank=2)

    points = layer_points(job_store.events(job.id))

    assert [(point.name, point.error, point.preserved_rank) for point in points] == [("a", 0.3, 2), ("b", 0.4, 1)]


def test_the_log_tells_states_attempts_and_reasons(job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, message="the model is gated")

    lines = [line.text for line in job_view(job, job_store.events(job.id)).log]

    assert lines[0] == "Queued"
    assert lines[-1] == "Failed: the model is gated"


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (1023, "1023 B"), (13_002_342, "12.4 MiB"), (2**50, "1024.0 TiB")]
)
def test_sizes_have_binary_units(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
