"""The hops of one job, in one process: what is done once, what is done again, and what stops them."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from service.hub.errors import DestinationConflictError, HubError, HubUnavailableError, RemoteCodeError
from service.jobs.errors import DestinationTakenError
from service.jobs.memory_store import MemoryJobStore
from service.jobs.policy import RetryPolicy
from service.jobs.schema import Job, JobState, Lease
from service.jobs.tenancy import LOCAL_OWNER, Tenancy
from service.jobs.windows import job_recipe
from service.jobs.work import JobDestination, JobSource, JobText, WorkBase
from service.platform.columns import metadata
from service.platform.database import open_database
from srr_core.errors import ResumeMismatchError, StopRequested, StorageError
from srr_core.recipe import named_recipe
from srr_core.recipe.stages import Stage
from srr_core.recipe.verdicts import CompatibilityRow
from srr_core.report import Report
from tests.service.models import safetensors
from tests.service.submitting import submission, submitted
from tests.worker.artifacts import report, write_artifact
from worker.folder_hub import FolderHub
from worker.hub import PublishedCommit
from worker.hub_access import HubAccess
from worker.progress import ProgressRecorder
from worker.run_context import LeaseLostError, RunContext
from worker.runner import CARRIED_OUT_BY, run
from worker.workspace import Workspace, Workspaces

LEASE = timedelta(minutes=1)


class Unreliable(FolderHub):
    """A folder hub whose next publications fail."""

    failures = 0

    def publish(self, repo_id: str, directory: Path, **rest: Any) -> PublishedCommit:
        if self.failures:
            self.failures -= 1
            raise HubUnavailableError("The Hub does not answer.")
        return super().publish(repo_id, directory, **rest)


@dataclass
class Shop:
    """A job, its hubs, and a stand-in for the core that counts its calls."""

    store: MemoryJobStore
    source: FolderHub
    destination: Unreliable
    workspace: Workspace
    tenancy: Tenancy
    calls: list[dict[str, Any]] = field(default_factory=list)
    during: Callable[[], None] = lambda: None
    free_bytes: int = 1 << 40
    rows: tuple[CompatibilityRow, ...] = ()

    def compress(self, source: Path, recipe: Any, destination: Path, **options: Any) -> Report:
        self.calls.append({"source": source, "recipe": recipe, **options})
        self.during()
        if options["should_stop"]():
            raise StopRequested("stopped")
        made = report()
        facts = {"id": options["model_id"], "sha": options["revision"]}
        made = made.model_copy(update={"recipe": recipe, "source": made.source.model_copy(update=facts)})
        write_artifact(destination, made)
        adapter = {"base_model_name_or_path": options["artifact_id"]}
        (destination / "adapter_config.json").write_text(json.dumps(adapter))
        return made

    def submit(self, *, owner: str = "me", **fields: Any) -> Job:
        defaults = {"source": JobSource(model_id="acme/base"), "destination": JobDestination(repo_id="acme/base-srr")}
        return submitted(self.store, submission(**(defaults | fields)), owner=owner)

    def attempt(self, job: Job, attempt: int = 1) -> Job:
        claim = self.store.claim(job.id, attempt, worker="w", lasts=LEASE)
        assert claim is not None
        run(
            RunContext(
                lease=claim.lease,
                access=HubAccess(),
                tenant=self.tenancy.of(job.owner),
                store=self.store,
                source_hub=lambda model_id: self.source,
                destination_hub=self.destination,
                compress=self.compress,
                device="cpu",
                require_free=self.require_free,
                workspace=self.workspace,
                cache=self.workspace.root / "cache",
                datasets=None,
                progress=ProgressRecorder(self.store, claim.lease),
                asked_to_stop=lambda: False,
                smoke_test=self.smoke_test,
            )
        )
        return self.store.get(job.id)

    def smoke_test(self, artifact: Path) -> tuple[CompatibilityRow, ...]:
        assert self.destination.head("acme/base-srr") is not None
        assert (artifact / "report.json").is_file()
        return self.rows

    def require_free(self, needed: int) -> None:
        if needed > self.free_bytes:
            raise StorageError("full")

    def release(self, folder: Path, rows: int = 4, **config: Any) -> str:
        folder.mkdir(exist_ok=True)
        (folder / "model.safetensors").write_bytes(safetensors({"lm_head.weight": (rows, 4)}))
        (folder / "config.json").write_text(json.dumps({"architectures": ["LlamaForCausalLM"], **config}))
        return self.source.import_model(folder, "acme/base")


@pytest.fixture
def shop(tmp_path: Path) -> Iterator[Shop]:
    workspaces = Workspaces(tmp_path / "scratch", reserve_bytes=0)
    hubs = FolderHub(tmp_path / "source"), Unreliable(tmp_path / "destination")
    job_id = "job_00000000000000000000000000"
    engine = open_database(f"sqlite:///{tmp_path / 'tenancy.sqlite3'}")
    metadata.create_all(engine)
    with workspaces.hold(job_id) as (workspace, _):
        shop = Shop(MemoryJobStore(retries=RetryPolicy(first=timedelta(0))), *hubs, workspace, Tenancy(engine))
        shop.release(tmp_path / "model")
        yield shop
    engine.dispose()


def test_servers_of_the_worker_run_what_was_published_and_the_result_says_so(shop: Shop) -> None:
    row = CompatibilityRow(runtime="vLLM", verdict="yes", reason="the same 8 tokens", evidence="run", versions="vllm 1")
    shop.rows = (row,)

    done = shop.attempt(shop.submit())

    assert done.result is not None
    assert done.result.runtimes == (row,)
    said = [event.data.get("message", "") for event in shop.store.events(done.id)]
    assert any("vLLM: yes, the same 8 tokens (vllm 1)." in str(message) for message in said)


def test_job_goes_through_its_hops(shop: Shop) -> None:
    done = shop.attempt(shop.submit())

    head = shop.destination.head("acme/base-srr")
    assert head is not None
    assert done.result is not None
    assert (done.state, done.result.commit_sha) == (JobState.SUCCEEDED, head.sha)
    assert f"Job: {done.id}" in head.description
    (call,) = shop.calls
    assert (call["model_id"], call["revision"], call["artifact_id"]) == (
        "acme/base",
        done.work.source.sha,
        "acme/base-srr",
    )
    said = [event.data["message"].split()[0] for event in shop.store.events(done.id, kinds=("log",))]
    assert said == ["Resolved", "Downloaded", "Published"]


def test_attempt_after_a_failed_publication_does_not_compress_again(shop: Shop) -> None:
    job = shop.submit()
    shop.destination.failures = 1
    with pytest.raises(HubError):
        shop.attempt(job)
    shop.store.requeue(Lease(job.id, 1, "w"))

    done = shop.attempt(job, 2)

    assert done.state is JobState.SUCCEEDED
    assert len(shop.calls) == 1


@pytest.mark.parametrize("left", ["another recipe", "another commit", "no report of ours"])
def test_a_finished_artifact_of_something_else_is_not_taken_for_this_one(shop: Shop, left: str) -> None:
    job = shop.submit()
    shop.destination.failures = 1
    with pytest.raises(HubError):
        shop.attempt(job)
    shop.store.requeue(Lease(job.id, 1, "w"))
    path = shop.workspace.artifact / "report.json"
    made = Report.model_validate_json(path.read_bytes())
    changed = {
        "another recipe": made.model_copy(update={"recipe": named_recipe("gptq")}).model_dump_json(),
        "another commit": made.model_copy(
            update={"source": made.source.model_copy(update={"sha": "f" * 40})}
        ).model_dump_json(),
        "no report of ours": "{}",
    }
    path.write_text(changed[left])

    done = shop.attempt(job, 2)

    assert done.state is JobState.SUCCEEDED
    assert len(shop.calls) == 2


def test_layers_that_cannot_be_continued_are_done_again(shop: Shop) -> None:
    leftover = shop.workspace.artifact.with_name(f"{shop.workspace.artifact.name}.partial")
    leftover.mkdir(parents=True)

    def refuse_leftover() -> None:
        if leftover.exists():
            raise ResumeMismatchError("unfinished work with another number of threads")

    shop.during = refuse_leftover

    assert shop.attempt(shop.submit()).state is JobState.SUCCEEDED
    assert len(shop.calls) == 2


def test_later_attempt_stays_at_the_commit_of_the_first(shop: Shop, tmp_path: Path) -> None:
    job = shop.submit()
    shop.destination.failures = 1
    with pytest.raises(HubError):
        shop.attempt(job)
    first = shop.store.get(job.id).work.source.sha
    shop.store.requeue(Lease(job.id, 1, "w"))
    moved = shop.release(tmp_path / "model", rows=8)

    done = shop.attempt(job, 2)

    assert done.work.source.sha == first
    assert first != moved


def test_cancel_during_the_run_publishes_nothing(shop: Shop) -> None:
    job = shop.submit()
    shop.during = lambda: shop.store.cancel(job.id) and None

    with pytest.raises(LeaseLostError):
        shop.attempt(job)

    assert shop.destination.head("acme/base-srr") is None
    assert shop.store.get(job.id).state is JobState.CANCELING


def test_lost_lease_stops_the_core_and_publishes_nothing(shop: Shop) -> None:
    job = shop.submit()

    def lose() -> None:
        shop.store.requeue(Lease(job.id, 1, "w"))
        shop.calls[0]["on_progress"](_layer())

    shop.during = lose

    with pytest.raises(StopRequested):
        shop.attempt(job)

    assert shop.destination.head("acme/base-srr") is None


def test_unfit_model_is_refused_before_a_byte_is_fetched(shop: Shop, tmp_path: Path) -> None:
    shop.release(tmp_path / "model", architectures=["Y"], auto_map={"AutoModel": "code.Y"})

    with pytest.raises(RemoteCodeError):
        shop.attempt(shop.submit())

    assert shop.calls == []
    assert not shop.workspace.source.exists()


def test_too_little_disk_is_found_before_the_download(shop: Shop) -> None:
    shop.free_bytes = 1

    with pytest.raises(StorageError):
        shop.attempt(shop.submit())

    assert not shop.workspace.source.exists()


def test_foreign_destination_is_refused_before_hours_of_work(shop: Shop, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "model.safetensors").write_bytes(b"somebody's work")
    shop.destination.import_model(other, "acme/base-srr")

    with pytest.raises(DestinationTakenError):
        shop.attempt(shop.submit())
    with pytest.raises(DestinationConflictError):
        shop.attempt(shop.submit(owner=LOCAL_OWNER))

    assert shop.calls == []


def test_windows_and_texts_of_a_job_reach_the_core(shop: Shop) -> None:
    job = shop.submit(
        calibration=JobText(text="a\r\nb", num_sequences=3, sequence_length=32), evaluation=JobText(num_sequences=5)
    )
    shop.attempt(job)

    (call,) = shop.calls
    assert (call["recipe"].calibration.num_sequences, call["recipe"].calibration.sequence_length) == (3, 32)
    assert call["recipe"].evaluation.num_sequences == 5
    assert call["calibration_text"].read_bytes() == b"a\r\nb"
    assert call["evaluation_text"].name == "wikitext2_evaluation.txt"


def test_recipe_without_windows_of_the_job_stays_as_it_is(shop: Shop) -> None:
    assert job_recipe(shop.submit().work) == named_recipe("srr")


def _layer() -> Any:
    from srr_core.types import Progress

    return Progress(Stage.COMPRESS, 1, 2, layer="q_proj", metrics={"output_error": 0.1})


def test_every_kind_of_work_has_a_function_that_carries_it_out() -> None:
    assert set(CARRIED_OUT_BY) == set(WorkBase.__subclasses__())
