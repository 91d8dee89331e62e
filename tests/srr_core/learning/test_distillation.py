"""Learning judged by what is held out: never worse, gone on from any checkpoint, ended by itself."""

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
import torch
from torch import nn

from srr_core.errors import CheckpointError, StopRequested
from srr_core.learning.distillation import Course, Pupil, Transcript, distill


class Line:
    """A line through points, which learns from some of them and is judged by others."""

    def __init__(self, *, rate: float = 0.05, noise: float = 0.0) -> None:
        self.slope = nn.Parameter(torch.tensor([0.5]))
        points = torch.randn(12, 2, generator=torch.Generator().manual_seed(3))
        self.learned, self.held_out = points[:8], points[8:]
        self.noise = noise
        self.pupil = Pupil({"slope": self.slope}, {"slope": rate}, self._learn, self._judge)

    def _learn(self, chosen: Sequence[int]) -> float:
        x = self.learned[list(chosen), 0]
        loss = ((self.slope - 2 + self.noise) * x).square().mean()
        loss.backward()
        return float(loss.detach())

    def _judge(self) -> float:
        with torch.no_grad():
            return float(((self.slope - 2) * self.held_out[:, 0]).square().mean())


def course(**changes: int) -> Course:
    fields = {"num_windows": 8, "epochs": 20, "batch_size": 3, "warm_up_steps": 2, "evaluation_steps": 5}
    return Course(**{**fields, "patience": 3, "seed": 0, **changes})


def stopping_after(count: int) -> Callable[[], None]:
    left = iter(range(count))

    def check() -> None:
        if next(left, None) is None:
            raise StopRequested("enough")

    return check


def run(line: Line, file: Path, *, check: Callable[[], None] = lambda: None, **changes: int) -> Transcript:
    return distill(line.pupil, course(**changes), file, check=check)


def test_what_is_kept_is_the_best_state_that_was_seen(tmp_path: Path) -> None:
    line = Line()

    transcript = run(line, tmp_path / "state")

    assert transcript.loss < transcript.start_loss
    assert line.pupil.judge() == pytest.approx(transcript.loss, abs=0)
    assert transcript.loss == min(loss for _, loss in transcript.losses)


@pytest.mark.parametrize("noise", [30.0, -30.0])
def test_learning_that_only_makes_it_worse_ends_early_and_keeps_a_state_no_worse(tmp_path: Path, noise: float) -> None:
    line = Line(noise=noise, rate=2.0)  # it learns a slope that the held-out points do not have

    transcript = run(line, tmp_path / "state", epochs=100)

    assert line.pupil.judge() <= transcript.start_loss
    assert transcript.end == "no better"
    assert transcript.step < course(epochs=100).steps


@pytest.mark.parametrize("stop", [1, 4, 5, 6, 17, 30])
def test_an_interrupted_run_ends_with_the_same_bits(tmp_path: Path, stop: int) -> None:
    whole, parts = Line(), Line()
    expected = run(whole, tmp_path / "whole")

    with pytest.raises(StopRequested):
        run(parts, tmp_path / "parts", check=stopping_after(stop))
    again = Line()
    transcript = run(again, tmp_path / "parts")

    assert torch.equal(again.slope, whole.slope)
    assert transcript == expected


def test_a_run_that_has_ended_takes_no_further_step(tmp_path: Path) -> None:
    first = run(Line(), tmp_path / "state")

    assert run(Line(), tmp_path / "state", check=stopping_after(0)) == first


def test_a_loss_that_is_not_finite_leaves_the_last_good_state(tmp_path: Path) -> None:
    line = Line()
    good = line.pupil.learn
    steps = iter(range(100))

    def learn(chosen: Sequence[int]) -> float:
        return float("nan") if next(steps) >= 12 else good(chosen)

    pupil = Pupil(line.pupil.parameters, line.pupil.rates, learn, line.pupil.judge)
    transcript = distill(pupil, course(), tmp_path / "state", check=lambda: None)

    assert transcript.end == "diverged"
    assert transcript.best_step == 10
    assert line.pupil.judge() == transcript.loss < transcript.start_loss


def test_a_checkpoint_of_other_parameters_is_refused(tmp_path: Path) -> None:
    run(Line(), tmp_path / "state")
    other = Line()
    pupil = Pupil({"offset": other.slope}, {"offset": 1.0}, other.pupil.learn, other.pupil.judge)

    with pytest.raises(CheckpointError, match="holds no state of offset"):
        distill(pupil, course(), tmp_path / "state", check=lambda: None)


def test_every_window_is_met_once_an_epoch_in_an_order_of_its_own() -> None:
    plan = course()
    epochs = [[w for step in range(3) for w in plan.windows(3 * epoch + step)] for epoch in range(2)]

    assert [sorted(epoch) for epoch in epochs] == [list(range(8))] * 2
    assert epochs[0] != epochs[1]


def test_rates_rise_to_the_full_one_and_fall_to_nothing() -> None:
    plan = course()
    shares = [plan.share(step) for step in range(plan.steps)]

    assert shares[0] == 0.5
    assert max(shares) == 1.0
    assert shares[1:] == sorted(shares[1:], reverse=True)
    assert shares[-1] < 0.01
