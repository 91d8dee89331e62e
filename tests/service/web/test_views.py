"""What the job page says about stages, time and layers."""

from datetime import UTC, datetime, timedelta

import pytest

from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job, Lease
from service.web.formatting import duration
from service.web.views import job_view, layer_points, remaining_after_resume, stage_views
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
    without = job.model_copy(
        update={"work": job.work.model_copy(update={"recipe": job.work.recipe.model_copy(update={"evaluation": None})})}
    )

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


def test_a_job_that_ended_early_shows_where_it_stopped(job_store: MemoryJobStore) -> None:
    stages = {stage.label: stage.status for stage in stage_views(finished.failed(job_store))}

    assert (stages["Plan"], stages["Compress"], stages["Publish"]) == ("done", "stopped", "next")


def second_attempt(store: MemoryJobStore, *, first: int) -> Job:
    """Return a job whose first attempt did two of four layers, and whose second finishes layer `first` and the next."""
    job = finished.running(store)
    finished.finish_layer(store, job, "model.layers.0.a", error=0.5, preserved_rank=1)
    finished.finish_layer(store, job, "model.layers.0.b", error=0.5, preserved_rank=1)
    store.requeue(Lease(job.id, 1, finished.WORKER))
    store.claim(job.id, 2, worker=finished.WORKER, lasts=finished.LEASE)
    for number in (first, first + 1):
        data = {"layer": f"model.layers.1.{number}", "output_error": 0.1, "completed": number, "total": 40}
        store.append_event(Lease(job.id, 2, finished.WORKER), "layer", data)
    return at(store.get(job.id), progress=0.16, seconds=60)


def test_a_resumed_job_says_where_it_continued_and_guesses_nothing_from_work_done_before(
    job_store: MemoryJobStore,
) -> None:
    job = second_attempt(job_store, first=3)

    view = job_view(job, job_store.events(job.id), now=NOW)

    assert view.resumed_layers == 2
    assert len(view.layers) == 4
    assert view.remaining is None


def test_a_worker_that_found_nothing_of_the_earlier_attempt_counts_from_the_beginning(
    job_store: MemoryJobStore,
) -> None:
    job = second_attempt(job_store, first=1)

    view = job_view(job, job_store.events(job.id), now=NOW)

    assert view.resumed_layers == 0
    assert len(view.layers) == 2
    assert view.remaining == "5 min 15 s"


def test_the_pace_of_a_resumed_job_is_that_of_its_own_layers(job_store: MemoryJobStore) -> None:
    job = second_attempt(job_store, first=3)
    events = list(job_store.events(job.id))
    own = [
        events[-1].model_copy(
            update={
                "data": {"layer": str(number), "output_error": 0.1, "completed": number, "total": 40},
                "created_at": NOW + timedelta(seconds=10 * number),
            }
        )
        for number in range(29, 32)
    ]

    assert remaining_after_resume(job, [*events[:-2], *own]) == 90.0


def test_layers_are_listed_as_a_report_lists_them(job_store: MemoryJobStore) -> None:
    job = finished.running(job_store)
    finished.finish_layer(job_store, job, "model.layers.10.a", error=0.5, preserved_rank=1)
    finished.finish_layer(job_store, job, "model.layers.2.b", error=0.4, preserved_rank=1)
    finished.finish_layer(job_store, job, "model.layers.2.a", error=0.3, preserved_rank=2)

    names = [point.name for point in layer_points(job_store.events(job.id))]

    assert names == ["model.layers.2.a", "model.layers.2.b", "model.layers.10.a"]


def test_the_log_tells_states_attempts_and_reasons(job_store: MemoryJobStore) -> None:
    job = finished.failed(job_store, message="the model is gated")

    lines = [line.text for line in job_view(job, job_store.events(job.id)).log]

    assert lines[0] == "Queued"
    assert lines[-1] == "Failed: the model is gated"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59.6, "1 min 0 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")]
)
def test_durations_have_two_units(seconds: float, text: str) -> None:
    assert duration(seconds) == text
