"""A training stopped or killed anywhere ends with the bits of one that was not, and every token weighs the same."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from srr_core.errors import CheckpointError, NumericalError, StopRequested
from srr_core.formats.adapter import ADAPTER_WEIGHTS
from srr_core.recipe.tuning import (
    BatchSpec,
    CheckpointSpec,
    DataSpec,
    LearningRateSlowing,
    OptimizerSpec,
    ScheduleSpec,
    TuningSpec,
)
from srr_core.runtime import load
from srr_core.runtime.training import trained_parameters
from srr_core.tuners.checkpoints import STATE_FILE
from srr_core.tuners.dataset import prepare
from srr_core.tuners.opening import objective_for
from srr_core.tuners.slowing import preserved_ranks
from srr_core.tuners.start import open_start
from srr_core.tuners.training import Cell, Material, Training, learning_rate_factor
from tests.architecture.tree import ROOT
from tests.pico import byte_tokenizer
from tests.srr_core.tuners.starts import begin, source, write_rows

CPU = torch.device("cpu")
BASE = {
    "data": DataSpec(window=32),
    "batch": BatchSpec(size=2, accumulation=2, packing=False),
    "schedule": ScheduleSpec(epochs=2, warmup_share=0.2),
    "checkpoints": CheckpointSpec(evaluate_every=2, keep=2),
    "optimizer": OptimizerSpec(learning_rate=1e-2),
    "dropout": 0.1,
}


@pytest.fixture(scope="module")
def start(tmp_path_factory):
    folder = tmp_path_factory.mktemp("training")
    return begin(source(folder), folder / "work", "srr")[0]


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    words = ("river", "engine", "letter", "garden", "signal")
    folder = tmp_path_factory.mktemp("rows")
    return write_rows(folder / "a.jsonl", ({"text": f"the {words[i % 5]} {i}" + "!" * (i % 4)} for i in range(20)))


def training(start, rows, folder, *, check=lambda: None, on_step=lambda _: None, **changes):
    spec = TuningSpec(**{**BASE, **changes})
    tokenizer = byte_tokenizer()
    dataset = prepare(rows, spec, tokenizer)
    model = open_start(start, device=CPU, dtype=torch.float32, dropout=spec.dropout)
    objective, _ = objective_for(model, dataset, spec, tokenizer, stops=())
    report = dataset.report
    return Training(
        model,
        objective,
        Material(dataset.training, dataset.validation, report.steps_per_epoch, report.steps),
        spec,
        Cell(float(spec.optimizer.learning_rate), spec.seed),
        preserved=preserved_ranks(start),
        folder=folder,
        check=check,
        on_step=on_step,
    )


def history(state):
    document = state.model_dump(mode="json")
    for row in document["rows"]:
        del row["seconds"]
    return document


def adapter(folder, step):
    return load_file(folder / f"step-{step:08d}" / ADAPTER_WEIGHTS)


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Stopper:
    """Asks to stop at the n-th question."""

    def __init__(self, at):
        self.left = at

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            raise StopRequested("stopped")


@pytest.fixture(scope="module")
def undisturbed(start, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("undisturbed")
    state = training(start, rows, folder).run()
    return folder, state


def test_it_learns_and_tells_what_happened(undisturbed):
    folder, state = undisturbed
    losses = [row.loss for row in state.rows]
    assert state.step == 10
    assert losses[-1] < losses[0]
    assert [row.step for row in state.evaluations] == [0, 2, 4, 6, 8, 10]
    scores = {row.step: row.scores["loss"] for row in state.evaluations}
    assert scores[state.best_step] == min(score for step, score in scores.items() if step)
    assert all(row.gradient_norm > 0 and row.tokens > 0 for row in state.rows)
    assert adapter(folder, state.best_step)


@pytest.mark.parametrize("questions", [1, 2, 6, 9, 17, 23])
def test_stopped_anywhere_it_goes_on_to_the_same_bits(start, rows, tmp_path, undisturbed, questions):
    folder, state = undisturbed
    with pytest.raises(StopRequested):
        training(start, rows, tmp_path, check=Stopper(questions)).run()
    again = training(start, rows, tmp_path).run()
    assert history(again) == history(state)
    assert same(adapter(tmp_path, 10), adapter(folder, 10))


def test_stopped_at_every_question_it_still_ends_with_the_same_bits(start, rows, tmp_path, undisturbed):
    folder, state = undisturbed
    for questions in range(3, 40):
        try:
            again = training(start, rows, tmp_path, check=Stopper(questions)).run()
            break
        except StopRequested:
            continue
    assert history(again) == history(state)
    assert same(adapter(tmp_path, 10), adapter(folder, 10))


def test_latest_and_best_checkpoints_are_kept(undisturbed):
    folder, state = undisturbed
    kept = sorted(int(path.name.removeprefix("step-")) for path in folder.iterdir())
    assert kept == sorted({8, 10, state.best_step})


def test_checkpoint_is_an_adapter_that_loads_on_the_start(start, undisturbed):
    folder, state = undisturbed
    checkpoint = folder / f"step-{state.step:08d}"
    model = load(start, adapter=checkpoint, trainable=True, dtype=torch.float32)
    assert same({name: p.detach() for name, p in trained_parameters(model)}, adapter(folder, state.step))
    assert not list(checkpoint.glob("*.bin")) + list(checkpoint.glob("*.pt"))


def test_accumulation_weighs_tokens_and_not_passes(start, rows, tmp_path):
    def losses(**batch):
        state = training(start, rows, tmp_path / str(batch), batch=BatchSpec(packing=False, **batch), dropout=0.0).run()
        return [row.loss for row in state.rows], [row.gradient_norm for row in state.rows]

    whole, parts = losses(size=4, accumulation=1), losses(size=1, accumulation=4)
    assert whole[0] == pytest.approx(parts[0], rel=1e-4)
    assert whole[1] == pytest.approx(parts[1], rel=1e-3)


def test_packed_windows_teach_the_same_as_single_ones_in_one_step(start, rows, tmp_path):
    def first(name, packing):
        batch = BatchSpec(size=64, packing=packing)
        state = training(start, rows, tmp_path / name, batch=batch, dropout=0.0, schedule=ScheduleSpec(epochs=1)).run()
        return state.rows[0]

    packed, single = first("packed", True), first("single", False)
    assert packed.loss == pytest.approx(single.loss, rel=1e-5)
    assert packed.gradient_norm == pytest.approx(single.gradient_norm, rel=1e-4)


def test_order_and_dropout_come_from_the_seed(start, rows, tmp_path):
    def losses(name, seed):
        state = training(start, rows, tmp_path / name, seed=seed, schedule=ScheduleSpec(epochs=1)).run()
        return [row.loss for row in state.rows]

    assert losses("a", 1) == losses("b", 1)
    assert losses("c", 2) != losses("d", 1)


def test_generator_of_the_caller_is_left_as_it_was(start, rows, tmp_path):
    run = training(start, rows, tmp_path, schedule=ScheduleSpec(max_steps=1))
    torch.manual_seed(3)
    expected = torch.rand(2)
    torch.manual_seed(3)
    run.run()
    assert torch.equal(torch.rand(2), expected)


def test_it_ends_early_when_nothing_gets_better(start, rows, tmp_path):
    run = training(
        start,
        rows,
        tmp_path,
        optimizer=OptimizerSpec(learning_rate=0.5, max_gradient_norm=None),
        checkpoints=CheckpointSpec(evaluate_every=1, patience=2),
        schedule=ScheduleSpec(epochs=20, kind="constant"),
    )
    state = run.run()
    assert run.has_run_out
    assert state.step < 100
    assert state.without_better == 2
    assert run.best() is not None


def test_loss_that_is_no_number_ends_the_run(start, rows, tmp_path):
    run = training(start, rows, tmp_path)
    with torch.no_grad():
        next(iter(dict(trained_parameters(run._model)).values())).fill_(float("inf"))
    with pytest.raises(NumericalError, match=r"step 1: the loss is nan .* learning rate 0\.01"):
        run.run()


def test_checkpoint_of_another_model_is_refused(start, rows, tmp_path):
    training(start, rows, tmp_path, schedule=ScheduleSpec(max_steps=1)).run()
    other = begin(source(tmp_path / "o"), tmp_path / "w", "srr", rank=2)[0]
    with pytest.raises(CheckpointError, match="shape"):
        training(other, rows, tmp_path).run()


def test_damaged_state_is_refused(start, rows, tmp_path):
    training(start, rows, tmp_path, schedule=ScheduleSpec(max_steps=1)).run()
    (tmp_path / "step-00000001" / STATE_FILE).write_text(json.dumps({"step": "one"}))
    with pytest.raises(CheckpointError, match=STATE_FILE):
        training(start, rows, tmp_path).run()


def test_preserved_ranks_of_a_start_are_slowed_through_the_whole_run(start, rows, tmp_path):
    def moved(name, **changes):
        run = training(start, rows, tmp_path / name, schedule=ScheduleSpec(max_steps=1), dropout=0.0, **changes)
        before = {key: p.detach().clone() for key, p in trained_parameters(run._model)}
        run.run()
        return {key: p.detach() - before[key] for key, p in trained_parameters(run._model)}

    plain, slowed = moved("plain"), moved("slowed", slowing=LearningRateSlowing(gamma=0.1))
    name = "base_model.model.model.layers.0.mlp.up_proj.lora_A.weight"
    k = preserved_ranks(start)["layers.0.mlp.up_proj"]
    assert 0 < k < 4
    torch.testing.assert_close(slowed[name][:k], 0.1 * plain[name][:k], rtol=1e-3, atol=1e-7)
    assert torch.equal(slowed[name][k:], plain[name][k:])


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (ScheduleSpec(kind="cosine"), [1.0, 0.8535533905932737, 0.5, 0.14644660940672627]),
        (ScheduleSpec(kind="linear"), [1.0, 0.75, 0.5, 0.25]),
        (ScheduleSpec(kind="constant"), [1.0, 1.0, 1.0, 1.0]),
        (ScheduleSpec(kind="linear", warmup_share=0.5), [1 / 3, 2 / 3, 1.0, 0.5]),
    ],
)
def test_learning_rate_goes_up_and_then_down(schedule, expected):
    assert [learning_rate_factor(step, 4, schedule) for step in range(4)] == pytest.approx(expected)


def start_process(start, rows, folder, **environment):
    arguments = [sys.executable, "-m", "tests.srr_core.tuners.training_target", str(start), str(rows), str(folder)]
    return subprocess.Popen(arguments, cwd=ROOT, env={**os.environ, **environment})


@pytest.mark.slow
def test_killed_processes_leave_a_training_that_ends_with_the_same_bits(start, rows, tmp_path, undisturbed):
    folder, state = undisturbed
    for checkpoint in ("step-00000000", "step-00000004", "step-00000008"):
        process = start_process(start, rows, tmp_path / "killed")
        while process.poll() is None and not (tmp_path / "killed" / checkpoint).exists():
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=60)
    process = start_process(start, rows, tmp_path / "killed")
    assert process.wait(timeout=240) == 0
    assert same(adapter(tmp_path / "killed", state.step), adapter(folder, state.step))


def test_two_processes_train_as_one_that_makes_their_passes(start, rows, tmp_path: Path):
    rendezvous = str(tmp_path / "rendezvous")
    both = [start_process(start, rows, tmp_path / "two", RANK=rank, RENDEZVOUS=rendezvous) for rank in "01"]
    assert [process.wait(timeout=240) for process in both] == [0, 0]
    one = training(start, rows, tmp_path / "one", dropout=0.0).run()
    two = json.loads((tmp_path / "two" / "step-00000010" / STATE_FILE).read_text())
    assert [row["loss"] for row in two["rows"]] == pytest.approx([row.loss for row in one.rows], rel=1e-5)
    for name, value in adapter(tmp_path / "one", 10).items():
        torch.testing.assert_close(adapter(tmp_path / "two", 10)[name], value, rtol=1e-3, atol=1e-4)
