"""Every architecture and every recipe on a device that is not the CPU: nothing mixes the two, nothing differs."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from srr_core.recipe import PRESETS
from tests.pico import ARCHITECTURES

pytestmark = pytest.mark.slow

Outcomes = dict[str, dict[str, float | str]]

SAME_RUN = 5e-3
"""Kernels differ in the last bit, and a code at the middle of two may go either way: one such code, and what GPTQ makes
of it in the columns that follow, moves one of fourteen layers by 2.5 %, so the mean by 0.2 %."""
SAME_REPAIR = 0.05
"""A repair takes hundreds of steps of Adam, each a little apart from where the last bit led the one before."""
SAME_MODEL = 1e-5


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    """What became of each case; one process runs them all, because the device cannot be taken out again."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.srr_core.pipeline.device_target", str(tmp_path_factory.mktemp("device"))],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
        cwd=Path(__file__).parents[3],
    )
    assert done.returncode == 0, done.stderr
    found: Outcomes = json.loads(done.stdout.splitlines()[-1])
    return found


def test_the_device_tells_what_mixes_it_with_the_cpu(outcomes: Outcomes) -> None:
    assert str(outcomes["mixed"]["sum"]).startswith("MixedDevicesError")


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_runs_on_a_device(name: str, outcomes: Outcomes) -> None:
    assert outcomes["architecture"][name] == pytest.approx(0, abs=SAME_RUN)


@pytest.mark.parametrize("name", PRESETS)
def test_every_recipe_runs_on_a_device(name: str, outcomes: Outcomes) -> None:
    tolerance = SAME_RUN if PRESETS[name].repair is None else SAME_REPAIR
    assert outcomes["recipe"][name] == pytest.approx(0, abs=tolerance)


@pytest.mark.parametrize("name", [*PRESETS, *ARCHITECTURES])
def test_every_artifact_runs_on_a_device(name: str, outcomes: Outcomes) -> None:
    assert outcomes["loaded"][name] == pytest.approx(0, abs=SAME_MODEL)
