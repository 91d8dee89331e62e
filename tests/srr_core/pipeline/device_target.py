"""Whole runs on a device that is not the CPU, for test_device.py, in a process of their own.

    python -m tests.srr_core.pipeline.device_target FOLDER

Prints a JSON object of what became of each case: how far it is from the same on the CPU, or what went wrong.
"""

import json
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

import torch

from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.runtime import load
from tests import pretend_device
from tests.pico import ARCHITECTURES, WINDOW, build_checkpoint, write_text

WINDOWS = {
    "calibration": {"num_sequences": 4, "sequence_length": WINDOW, "batch_size": 2},
    "evaluation": {"num_sequences": 2, "sequence_length": WINDOW},
}


def main(folder: Path) -> None:
    """Run every case and print what became of it."""
    text = write_text(folder / "text.txt")
    source = build_checkpoint(folder / "llama", seed=1)
    recipes = {name: override(recipe, {**WINDOWS, "rank": min(recipe.rank, 4)}) for name, recipe in PRESETS.items()}
    pretend_device.install()

    def error_of(checkpoint: Path, recipe: Recipe, destination: Path, device: torch.device) -> float:
        sys.modules["srr_core.pipeline.plan"].choose_device = lambda _: device  # type: ignore[attr-defined]
        report = compress(checkpoint, recipe, destination, calibration_text=text, evaluation_text=text, model_id="m")
        return report.mean_output_error

    def compare(checkpoint: Path, recipe: Recipe, destination: Path) -> float:
        here = error_of(checkpoint, recipe, destination / "cpu", torch.device("cpu"))
        there = error_of(checkpoint, recipe, destination / "device", pretend_device.device())
        return abs(there - here) / here

    def architecture(name: str) -> float:
        return compare(build_checkpoint(folder / f"{name}-source", name), recipes["srr"], folder / name)

    def recipe(name: str) -> float:
        return compare(source, recipes[name], folder / name)

    def loaded(name: str) -> float:
        model = load(folder / name / "device", dtype=torch.float32)
        ids = torch.arange(2 * WINDOW).reshape(2, WINDOW)
        with torch.no_grad():
            here = model(ids).logits
            there = model.to(pretend_device.device())(ids.to(pretend_device.device())).logits
        return float((there.cpu() - here).abs().max() / here.abs().max())

    def mixed(_: str) -> float:
        return float((torch.ones(2, device=pretend_device.device()) + torch.ones(2)).sum())

    cases = {
        "mixed": _outcomes(mixed, ["sum"]),
        "architecture": _outcomes(architecture, ARCHITECTURES),
        "recipe": _outcomes(recipe, PRESETS),
        "loaded": _outcomes(loaded, [*PRESETS, *ARCHITECTURES]),
    }
    sys.stdout.write(json.dumps(cases))


def _outcomes(case: Callable[[str], float], names: Iterable[str]) -> dict[str, float | str]:
    outcomes: dict[str, float | str] = {}
    for name in names:
        try:
            outcomes[name] = case(name)
        except Exception as error:  # noqa: BLE001  # every case is told, whatever became of another
            outcomes[name] = f"{type(error).__name__}: {error}"
    return outcomes


if __name__ == "__main__":
    main(Path(sys.argv[1]))
