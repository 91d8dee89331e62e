"""Fine-tunings of a pico model through the whole worker, for the tests and the benchmark that kill them."""

import json
from pathlib import Path
from typing import Any

import torch

from service.jobs.schema import Job, JobSubmission
from service.jobs.uploads import TextUploads
from service.jobs.work import FinetuneWork, JobDestination, JobSource, StoredText, TrainingData
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_options import with_fields, with_rank, with_start, with_task
from tests.pico import build_checkpoint, write_text
from tests.service.submitting import submitted
from tests.worker.supervised.conftest import Bench

ROWS = "".join(json.dumps({"prompt": f"say {i}", "completion": f"well {i}"}) + "\n" for i in range(24))
SAVE_EVERY = 3
_OWNER = "me"
_FIELDS: dict[str, Any] = {
    "start.recipe.calibration.num_sequences": 4,
    "start.recipe.calibration.sequence_length": 16,
    "data.window": 64,
    "schedule.epochs": 2,
    "batch.size": 1,
    "batch.packing": False,
    "checkpoints.save_every": SAVE_EVERY,
}


def seed_model(bench: Bench) -> None:
    """Put the model into the hub."""
    folder = build_checkpoint(bench.data_dir / "pico", dtype=torch.float32)
    bench.hub.import_model(folder, "acme/pico")


def submit_tuning(bench: Bench, repo_id: str, **fields: Any) -> Job:
    """Submit a fine-tuning whose rows were uploaded before; keyword arguments replace fields of its specification."""
    text = StoredText(text=write_text(bench.data_dir / "text.txt").read_text())
    spec = with_task(with_rank(with_start(TuningSpec(), "srr"), 4), "instructions")
    work = FinetuneWork(
        source=JobSource(model_id="acme/pico"),
        destination=JobDestination(repo_id=repo_id),
        tuning=with_fields(spec, _FIELDS | fields).resolved(),
        data=TrainingData(sha256=TextUploads(bench.engine).keep(_OWNER, ROWS.encode()).sha256),
        calibration=text,
        neutral=text,
    )
    return submitted(bench.store, JobSubmission(work=work), owner=_OWNER)


def adapter(bench: Bench, repo_id: str) -> bytes:
    """Return the bytes of the adapter that was published."""
    head = bench.hub.head(repo_id)
    assert head is not None
    snapshot: Path = bench.hub.existing(repo_id).snapshot(head.sha)
    return (snapshot / "adapter_model.safetensors").read_bytes()
