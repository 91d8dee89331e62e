"""Speed and memory: what is measured is there and plausible; no test judges how fast this machine is."""

from pathlib import Path

import pytest
import torch

from srr_core.errors import EvaluationError, StopRequested
from srr_core.evaluators.speed.compare import compare_speed, describe_protocol
from srr_core.evaluators.speed.probe import ProbeOptions, probe
from tests.pico import build_checkpoint

CPU = torch.device("cpu")
SMALL = ProbeOptions(batch_sizes=(1, 3), prompt_tokens=8, new_tokens=4)


@pytest.mark.parametrize("architecture", ["LlamaForCausalLM", "GPT2LMHeadModel"])
def test_a_causal_model_has_prefill_and_decode(architecture: str, tmp_path: Path) -> None:
    facts = probe(build_checkpoint(tmp_path / "m", architecture), CPU, SMALL)
    assert set(facts.tokens_per_second) == {"prefill@1", "decode@1", "prefill@3", "decode@3"}
    assert min(facts.tokens_per_second.values()) > 0
    assert facts.load_seconds > 0


def test_an_encoder_has_one_rate(tmp_path: Path) -> None:
    facts = probe(build_checkpoint(tmp_path / "m", "BertForMaskedLM"), CPU, SMALL)
    assert set(facts.tokens_per_second) == {"encode@1", "encode@3"}


@pytest.mark.slow  # four starts of torch
def test_two_models_are_measured_by_turns_in_processes_of_their_own(tmp_path: Path) -> None:
    small = build_checkpoint(tmp_path / "small")
    # 64 MB in float32, so that it stands out of what importing and the first forward pass leave behind.
    large = build_checkpoint(tmp_path / "large", dtype=torch.float32, hidden_size=512, intermediate_size=4096)
    found = compare_speed(small, large, CPU, SMALL, rounds=1)
    weights = (large / "model.safetensors").stat().st_size
    assert found.compressed["resident_bytes"] - found.source["resident_bytes"] == pytest.approx(weights, rel=0.3)
    assert found.source.keys() == found.compressed.keys() == found.spread.keys()


@pytest.mark.slow  # a start of torch
def test_a_model_that_cannot_be_run_is_named_with_its_reason(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "broken")
    (directory / "model.safetensors").write_bytes(b"no header")
    with pytest.raises(EvaluationError, match=r"the speed of broken cannot be measured: .*model"):
        compare_speed(directory, directory, CPU, SMALL, rounds=1)


def test_a_stop_ends_the_turn(tmp_path: Path) -> None:
    def stop() -> None:
        raise StopRequested("stopped")

    directory = build_checkpoint(tmp_path / "m")
    with pytest.raises(StopRequested):
        compare_speed(directory, directory, CPU, SMALL, rounds=1, after_turn=stop)


def test_the_protocol_says_how_it_was_measured() -> None:
    said = describe_protocol(CPU, SMALL, rounds=3)
    assert said.startswith("3 rounds, the models by turns, each alone in a process; medians.")
    assert "8 tokens a sequence; decode: 4 tokens after them" in said
    assert f"{torch.get_num_threads()} threads on the CPU" in said
