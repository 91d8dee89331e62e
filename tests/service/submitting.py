"""Work to do and jobs that do it, for tests of every room."""

from typing import Any

from service.jobs.ports import JobSubmissions
from service.jobs.schema import Job, JobSubmission
from service.jobs.submit import check_submission, submit
from service.jobs.work import CompressWork, JobDestination, JobSource
from srr_core.recipe import named_recipe

_OF_THE_JOB = frozenset(JobSubmission.model_fields) - {"work"}


def compression(**fields: Any) -> CompressWork:
    """Return a compression of org/model; keyword arguments replace its fields."""
    defaults: dict[str, Any] = {
        "source": JobSource(model_id="org/model"),
        "destination": JobDestination(repo_id="org/model-srr"),
        "recipe": named_recipe("srr"),
    }
    return CompressWork(**(defaults | fields))


def submission(**fields: Any) -> JobSubmission:
    """Return a request for a compression; keyword arguments replace fields of the work or of the request."""
    of_the_job = {name: fields.pop(name) for name in _OF_THE_JOB & fields.keys()}
    return JobSubmission(work=compression(**fields), **of_the_job)


def submitted(store: JobSubmissions, wanted: JobSubmission | None = None, *, owner: str = "me", **choices: Any) -> Job:
    """Submit a request as it stands, without asking a hub; keyword arguments are those of `check_submission`."""
    return submit(check_submission(wanted or submission(), owner=owner, **choices), store=store, wake=lambda: None)
