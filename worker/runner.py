"""One run of a job, in the job's own process: look at the kind of work, carry it out, record what came of it.

The supervisor has claimed the job before this process exists, holds its lease, and speaks the last word when
this process ends without having said one. Every write here carries the lease, so that a process that outlived it
changes nothing.
"""

from collections.abc import Mapping
from types import MappingProxyType

from service.jobs.numbers import numbers_of
from service.jobs.work import CompressWork, ConvertWork, EvaluateWork, FinetuneWork, WorkBase
from worker.compression import compress_and_publish
from worker.conversion import convert_and_publish
from worker.evaluation import evaluate_and_publish
from worker.run_context import CarryOut, RunContext
from worker.tuning import tune_and_publish

CARRIED_OUT_BY: Mapping[type[WorkBase], CarryOut] = MappingProxyType(
    {
        CompressWork: compress_and_publish,
        ConvertWork: convert_and_publish,
        EvaluateWork: evaluate_and_publish,
        FinetuneWork: tune_and_publish,
    }
)
"""Every kind of work and the function that carries it out."""


def run(context: RunContext) -> None:
    """Carry out a claimed job and leave it succeeded.

    Raises:
        HubError, SrrError: a hop failed; `failures.failure_of` has the words for it.
        StopRequested: `should_stop` said so; finished layers stay in the workspace.
        LeaseLostError: the job is not ours any more.
    """
    job = context.store.get(context.lease.job_id)
    context.progress.shares = job.work.shares
    finished = CARRIED_OUT_BY[type(job.work)](job, job.work, context)
    report = finished.report.model_dump(mode="json")
    context.progress.settle(should_stop=context.should_stop)
    result = finished.result
    if result is not None:
        result = result.model_copy(update={"numbers": numbers_of(finished.report)})
    context.require_ours(context.store.succeed(context.lease, result=result, report=report))
