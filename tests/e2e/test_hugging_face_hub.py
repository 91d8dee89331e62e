"""One job against the Hub's own protocol: model id in, published artifact out, in the job's own process hops."""

from datetime import timedelta
from pathlib import Path

import pytest
from huggingface_hub import ModelCard
from transformers import AutoModelForCausalLM

from service.hub.client import HubClient
from service.hub.errors import DestinationConflictError, LicenseUnclearError
from service.jobs.memory_store import MemoryJobStore
from service.jobs.schema import Job, JobState
from service.jobs.tenancy import Tenancy
from service.jobs.work import JobDestination, JobSource, JobText
from service.platform.columns import metadata
from service.platform.database import open_database
from srr_core.pipeline import compress
from srr_core.recipe import named_recipe
from srr_core.report import Report
from tests.hub_server import Failure, HubServer
from tests.pico import build_checkpoint
from tests.service.submitting import submission, submitted
from worker.hub import HuggingFaceHub
from worker.hub_access import HubAccess
from worker.progress import ProgressRecorder
from worker.run_context import RunContext
from worker.runner import run
from worker.workspace import Workspace

# The client's own upload by Git LFS warns about an argument of its HTTP library.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=:DeprecationWarning")

WINDOWS = JobText(num_sequences=4, sequence_length=32)
CARD = b"---\nlicense: apache-2.0\n---\n# Pico\n"


class Bench:
    """A store, a hub server and one job at a time."""

    def __init__(self, server: HubServer, folder: Path) -> None:
        self.server = server
        self.folder = folder
        self.store = MemoryJobStore()
        engine = open_database(f"sqlite:///{folder / 'tenancy.sqlite3'}")
        metadata.create_all(engine)
        self.tenancy = Tenancy(engine)
        self.hub = HuggingFaceHub(client=HubClient(server.url, attempts=1))
        checkpoint = build_checkpoint(folder / "pico")
        files = {path.name: path for path in checkpoint.iterdir()}
        server.add_model("acme/pico", {**files, "README.md": CARD, "LICENSE": b"the licence"})

    def submit(self, *, destination: str = "alice/pico-srr") -> Job:
        """Submit a job for the pico model."""
        wanted = submission(
            source=JobSource(model_id="acme/pico"),
            destination=JobDestination(repo_id=destination),
            recipe=named_recipe("srr").model_copy(update={"rank": 4}),
            calibration=WINDOWS,
            evaluation=WINDOWS,
        )
        return submitted(self.store, wanted)

    def run(self, job: Job) -> Job:
        """Carry a job out as a worker's child does."""
        claim = self.store.claim(job.id, 1, worker="worker_1", lasts=timedelta(minutes=5))
        assert claim is not None
        workspace = Workspace(self.folder / job.id)
        workspace.root.mkdir()
        context = RunContext(
            lease=claim.lease,
            access=HubAccess(own="hf_alice"),
            tenant=self.tenancy.of(job.owner),
            store=self.store,
            source_hub=lambda model_id: self.hub,
            destination_hub=self.hub,
            compress=compress,
            device="cpu",
            require_free=lambda count: None,
            workspace=workspace,
            cache=workspace.root / "cache",
            datasets=None,
            progress=ProgressRecorder(self.store, claim.lease),
            asked_to_stop=lambda: False,
        )
        run(context)
        return self.store.get(job.id)


@pytest.fixture
def bench(hub_server: HubServer, tmp_path: Path) -> Bench:
    return Bench(hub_server, tmp_path)


@pytest.fixture
def xet_bench(xet_hub_server: HubServer, tmp_path: Path) -> Bench:
    return Bench(xet_hub_server, tmp_path)


def test_a_model_of_the_hub_becomes_an_artifact_on_the_hub(xet_bench: Bench, tmp_path: Path) -> None:
    job = xet_bench.run(xet_bench.submit())

    assert job.state is JobState.SUCCEEDED
    assert job.result is not None
    assert job.work.source.sha == xet_bench.server.repository("acme/pico").head.oid
    published = xet_bench.hub.resolve("alice/pico-srr")
    assert published.sha == job.result.commit_sha
    assert {"report.json", "recipe.json", "README.md", "LICENSE", "config.json"} <= {f.path for f in published.files}
    report = Report.model_validate_json(xet_bench.server.read("alice/pico-srr", "report.json"))
    assert report.source.id == "acme/pico"
    assert report.model_dump(mode="json") == xet_bench.store.report(job.id)
    card = ModelCard(xet_bench.server.read("alice/pico-srr", "README.md").decode())
    assert (card.data.base_model, card.data.license) == ("acme/pico", "apache-2.0")


def test_the_published_artifact_loads_with_stock_transformers(xet_bench: Bench, tmp_path: Path) -> None:
    xet_bench.run(xet_bench.submit())
    api = xet_bench.hub._client.api

    folder = api.snapshot_download("alice/pico-srr", cache_dir=tmp_path / "cache", token="hf_alice")

    model = AutoModelForCausalLM.from_pretrained(folder)
    assert any("lora_" in name for name, _ in model.named_parameters())


def test_an_answer_lost_after_the_commit_does_not_publish_twice(bench: Bench) -> None:
    bench.server.fail("commit", Failure.disconnect(after_handling=True))

    job = bench.run(bench.submit())

    assert job.state is JobState.SUCCEEDED
    repository = bench.server.repository("alice/pico-srr")
    assert job.result is not None
    assert job.result.commit_sha == repository.head.oid
    assert len(repository.commits) == 2  # the one of the creation, and ours
    assert f"Job: {job.id}" in repository.head.description


def test_somebody_elses_repository_is_refused_before_the_work(bench: Bench) -> None:
    bench.server.add_model("alice/theirs", {"model.safetensors": b"theirs"})
    job = bench.submit(destination="alice/theirs")

    with pytest.raises(DestinationConflictError, match="alice/theirs"):
        bench.run(job)

    assert not bench.folder.joinpath(job.id, "source").exists()


def test_a_licence_nobody_acknowledged_is_refused_by_the_worker_too(bench: Bench) -> None:
    bench.server.push("acme/pico", {"README.md": b"---\nlicense: other\n---\n"})

    with pytest.raises(LicenseUnclearError, match="acknowledge_license"):
        bench.run(bench.submit())
