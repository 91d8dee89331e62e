"""Runs whose blocks learn: on every architecture, stopped anywhere, and only where it helps."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers

from srr_core.errors import RecipeError, StopRequested
from srr_core.formats.artifact import open_artifact
from srr_core.learning import block as learning_block
from srr_core.pipeline import compress
from srr_core.recipe import Recipe, override
from srr_core.report import LearningReport, Report
from srr_core.types import Progress
from srr_core.verification.dense_view import DenseView
from tests.pico import ARCHITECTURES, WINDOW, build_checkpoint, write_text
from tests.srr_core.pipeline.test_compress import small

# PEFT 0.21 says so of every adapter on fused experts, and loads it.
pytestmark = pytest.mark.filterwarnings("ignore:The following (rank|alpha)_pattern keys:RuntimeWarning")
FILES = ("model-00001-of-00001.safetensors", "config.json", "recipe.json")


def learned(**changes: Any) -> Recipe:
    # Without L·R by default: of inputs as narrow as those of these models it leaves almost nothing to learn.
    grid = {"kind": "integer", "num_bits": 2, "group_size": 16}
    quantizer = {"kind": "learned", "grid": grid, "iterations": 12, "batch_size": 8, "arithmetic": "float32"}
    return override(small("srr-naive"), {"quantizer": quantizer, "calibration.batch_size": 2, "rank": 0, **changes})


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return build_checkpoint(tmp_path / "source")


def blocks_of(report: Report) -> dict[str, LearningReport]:
    """Return what each block says of its learning, after seeing that all its layers say the same."""
    found: dict[str, LearningReport] = {}
    for layer in report.layers:
        block = ".".join(
            layer.name.split(".")[: next(i for i, x in enumerate(layer.name.split(".")) if x.isdigit()) + 1]
        )
        assert layer.learning is not None
        assert found.setdefault(block, layer.learning) == layer.learning
    return found


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_architecture_learns_and_loses_less_than_its_start(name: str, tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", name, dtype=torch.float32)

    report = compress(source, learned(), tmp_path / "out", calibration_text=text)

    found = blocks_of(report)
    assert len(found) == 2
    for block in found.values():
        assert block.is_kept
        assert block.steps == 12
        assert 0 < block.loss < block.start_loss
    assert any("reloaded with" in note for note in report.notes)


def test_experts_and_transposed_weights_learn_their_correction_too(tmp_path: Path, text: Path) -> None:
    for name in ("MixtralForCausalLM", "GPT2LMHeadModel"):
        source = build_checkpoint(tmp_path / name, name, dtype=torch.float32)

        report = compress(source, learned(rank=4), tmp_path / f"{name}-out", calibration_text=text)

        assert all(block.is_kept == (block.loss < block.start_loss) for block in blocks_of(report).values())


@pytest.mark.slow
@pytest.mark.parametrize("rank", [0, 4])
@pytest.mark.parametrize("kind", ["integer", "mxint"])
def test_a_trained_model_learns_on_both_grids_with_and_without_a_correction(
    kind: str, rank: int, tmp_path: Path, tiny_llama: Path
) -> None:
    recipe = learned(
        **{
            "quantizer.grid": {"kind": kind, "num_bits": 2},
            "quantizer.iterations": 40,
            "quantizer.arithmetic": "auto",
            "calibration": {"num_sequences": 32, "sequence_length": 64, "batch_size": 8},
            "rank": rank,
        }
    )

    report = compress(
        tiny_llama, recipe, tmp_path / "out", calibration_text=tiny_llama.parent / "wikitext2_calibration.txt"
    )

    assert [block.is_kept for block in blocks_of(report).values()] == [True] * 6
    assert open_artifact(tmp_path / "out").layout.stock_loadable


def _outputs(model: torch.nn.Module, ids: torch.Tensor) -> torch.Tensor:
    """Return what the last block gives, before the final norm."""
    with torch.no_grad():
        seen: list[torch.Tensor] = []
        handle = model.model.layers[-1].register_forward_hook(lambda _m, _a, output: seen.append(output))  # type: ignore[union-attr,index]
        model(input_ids=ids)
        handle.remove()
    found = seen[0]
    return found[0] if isinstance(found, tuple) else found


def test_the_loss_of_the_last_block_is_that_of_the_artifact_against_the_source(
    tmp_path: Path, text: Path, source: Path
) -> None:
    report = compress(source, learned(), tmp_path / "out", calibration_text=text)
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    ids = torch.tensor(tokenizer(text.read_text())["input_ids"][: 8 * WINDOW]).reshape(8, WINDOW)
    dense = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    before = _outputs(dense, ids)
    view = DenseView(open_artifact(tmp_path / "out"))
    dense.load_state_dict({name: view[name].float() for name in view}, strict=False)

    loss = (_outputs(dense, ids) - before).square().mean()

    assert blocks_of(report)["model.layers.1"].loss == pytest.approx(float(loss), rel=1e-4)


def test_the_same_run_gives_the_same_bits_and_another_seed_others(tmp_path: Path, text: Path, source: Path) -> None:
    for name, seed in (("first", 0), ("second", 0), ("third", 1)):
        compress(source, learned(seed=seed, **{"quantizer.batch_size": 4}), tmp_path / name, calibration_text=text)
    first, second, third = ((tmp_path / name / FILES[0]).read_bytes() for name in ("first", "second", "third"))

    assert first == second
    assert first != third


@pytest.mark.parametrize("steps", [0, 3, 12, 15, 24])
def test_a_run_stopped_while_it_learns_ends_with_the_same_bits(
    steps: int, tmp_path: Path, text: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compress(source, learned(), tmp_path / "whole", calibration_text=text)
    taken: list[float] = []
    real = learning_block._Layer.step

    def counted(self: Any, gradient: torch.Tensor, share: float, spec: Any) -> None:
        taken.append(share)
        real(self, gradient, share, spec)

    monkeypatch.setattr(learning_block._Layer, "step", counted)
    with pytest.raises(StopRequested):
        compress(
            source, learned(), tmp_path / "out", calibration_text=text, should_stop=lambda: len(taken) >= 7 * steps
        )
    assert not (tmp_path / "out").exists()
    taken.clear()

    compress(source, learned(), tmp_path / "out", calibration_text=text)

    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in FILES)
    # Of two blocks of twelve steps: one that was finished is run, and not learned again.
    assert len(taken) == 7 * {0: 24, 3: 24, 12: 24, 15: 12, 24: 12}[steps]


@pytest.mark.parametrize("layers", [1, 6, 8])
def test_layers_that_learned_together_are_finished_together_or_done_again(
    layers: int, tmp_path: Path, text: Path, source: Path
) -> None:
    compress(source, learned(), tmp_path / "whole", calibration_text=text)
    finished: list[str] = []

    class Killed(BaseException):
        pass

    def note(progress: Progress) -> None:
        if progress.stage == "compress" and progress.layer:
            finished.append(progress.layer)
            if len(finished) == layers:
                raise Killed

    with pytest.raises(Killed):
        compress(source, learned(), tmp_path / "out", calibration_text=text, on_progress=note)
    seen: list[Progress] = []

    compress(source, learned(), tmp_path / "out", calibration_text=text, on_progress=seen.append)

    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in FILES)
    assert [step.completed for step in seen if step.stage == "compress" and step.layer] == list(range(1, 15))


def test_what_does_not_lower_the_loss_is_not_kept(tmp_path: Path, text: Path, source: Path) -> None:
    diverging = learned(rank=4, **{"quantizer.factor_learning_rate": 1.0, "quantizer.patience": 10_000})
    start = compress(source, learned(rank=4, **{"quantizer.iterations": 0}), tmp_path / "start", calibration_text=text)

    report = compress(source, diverging, tmp_path / "out", calibration_text=text)

    for block in blocks_of(report).values():
        assert (block.is_kept, block.steps) == (False, 12)
        assert block.loss > block.start_loss
    same = [(one.output_error, one.weight_error) for one in report.layers]
    assert same == [(one.output_error, one.weight_error) for one in start.layers]
    for name in (FILES[0], "adapter_model.safetensors"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "start" / name).read_bytes()


def test_a_flat_loss_ends_a_block_early(tmp_path: Path, text: Path, source: Path) -> None:
    # Nothing to gain: at eight bits offsets move codes to and fro.
    recipe = learned(**{"quantizer.grid.num_bits": 8, "quantizer.patience": 3, "quantizer.iterations": 100})

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)

    assert all(9 <= block.steps < 100 for block in blocks_of(report).values())


def test_a_layer_that_is_never_called_is_kept_and_not_learned_again_on_a_resume(tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(
        tmp_path / "source", "MixtralForCausalLM", num_local_experts=3, dtype=torch.float32, num_experts_per_tok=1
    )

    report = compress(source, learned(), tmp_path / "out", calibration_text=text)

    assert {layer.calibration_tokens > 0 for layer in report.layers} <= {True, False}
    assert all(math.isfinite(layer.output_error) for layer in report.layers)


def test_calibration_behind_the_compressed_blocks_measures_what_those_layers_see(
    tmp_path: Path, text: Path, source: Path
) -> None:
    recipe = small("gptq", **{"quantizer.grid.num_bits": 2, "calibration.inputs": "compressed"})

    report = compress(source, recipe, tmp_path / "out", calibration_text=text)
    usual = compress(
        source, override(recipe, {"calibration.inputs": "source"}), tmp_path / "usual", calibration_text=text
    )

    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    ids = torch.tensor(tokenizer(text.read_text())["input_ids"][: 8 * WINDOW]).reshape(8, WINDOW)
    dense = transformers.AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32)
    name = "model.layers.1.self_attn.q_proj"
    weight = dense.get_submodule(name).weight.detach().clone()
    view = DenseView(open_artifact(tmp_path / "out"))
    dense.load_state_dict({key: view[key].float() for key in view}, strict=False)
    seen: list[torch.Tensor] = []
    dense.get_submodule(name).register_forward_pre_hook(lambda _, args: seen.append(args[0].detach()))
    with torch.no_grad():
        dense(input_ids=ids)
    inputs = seen[0].flatten(0, 1)
    error = (inputs @ (weight - view[f"{name}.weight"]).T).norm() / (inputs @ weight.T).norm()
    reported = {layer.name: layer.output_error for layer in report.layers}
    assert reported[name] == pytest.approx(float(error), rel=1e-3)
    assert reported[name] != {layer.name: layer.output_error for layer in usual.layers}[name]


def test_a_run_calibrated_behind_compressed_blocks_resumes_to_the_same_bits(
    tmp_path: Path, text: Path, source: Path
) -> None:
    recipe = small("srr-gptq", **{"calibration.inputs": "compressed"})
    compress(source, recipe, tmp_path / "whole", calibration_text=text)
    finished: list[Progress] = []
    with pytest.raises(StopRequested):
        compress(
            source,
            recipe,
            tmp_path / "out",
            calibration_text=text,
            on_progress=finished.append,
            should_stop=lambda: sum(1 for one in finished if one.layer and one.stage == "compress") >= 9,
        )

    compress(source, recipe, tmp_path / "out", calibration_text=text)

    assert all((tmp_path / "whole" / name).read_bytes() == (tmp_path / "out" / name).read_bytes() for name in FILES)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"quantizer.iterations": -1}, "iterations"),
        ({"quantizer.grid": {"kind": "quip-sharp"}}, "grid"),
        ({"quantizer.patience": 0}, "patience"),
        ({"quantizer.arithmetic": "float8"}, "arithmetic"),
        ({"calibration.inputs": "both"}, "inputs"),
    ],
)
def test_nonsense_is_refused_before_anything_is_read(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        learned(**changes)
