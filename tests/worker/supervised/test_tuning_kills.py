"""A fine-tuning whose process is killed in the middle of training, through the real supervisor and the real core."""

from pathlib import Path

import pytest

from service.jobs.schema import JobState
from tests.worker.supervised import mortal
from tests.worker.supervised.conftest import open_bench
from tests.worker.supervised.fine_tunings import SAVE_EVERY, adapter, seed_model, submit_tuning

pytestmark = pytest.mark.slow


def test_a_killed_training_goes_on_at_its_last_checkpoint_and_ends_with_the_same_bits(tmp_path: Path) -> None:
    with open_bench(tmp_path / "data") as bench:
        seed_model(bench)
        undisturbed, killed = (submit_tuning(bench, f"me/{name}") for name in ("undisturbed", "killed"))
        bench.supervisor(mortal.NEVER, module=mortal.__name__).run(undisturbed.id, 1)
        dying = f"step-{2 * SAVE_EVERY:08d}"

        bench.supervisor(dying, module=mortal.__name__).run(killed.id, 1)

        waiting = bench.store.get(killed.id)
        assert (waiting.state, waiting.attempt) == (JobState.QUEUED, 2)
        assert waiting.failure is not None
        assert waiting.failure.code == "worker_crashed"
        assert f"in stage train, with 0 layers finished and step-{SAVE_EVERY:08d} of training 000 kept" in str(
            waiting.failure.message
        )
        bench.supervisor(mortal.NEVER, module=mortal.__name__).run(killed.id, 2)
        assert bench.store.get(killed.id).state is JobState.SUCCEEDED
        assert adapter(bench, "me/killed") == adapter(bench, "me/undisturbed")
        again = [
            int(row["step"])
            for event in bench.store.events(killed.id, kinds=("metrics",), limit=10_000)
            if event.attempt == 2
            for row in event.data["rows"]
            if "loss" in row
        ]
        assert again == list(range(SAVE_EVERY + 1, again[-1] + 1))
