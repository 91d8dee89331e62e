"""Situations that users report, rebuilt small: each is refused with its reason, or comes out as stock loaders have it.

What needs a hub, an export, a second adapter or a text of its own is tested where those are.
"""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer, LlamaConfig, LlamaForSequenceClassification, LlamaModel

from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import SrrError
from srr_core.pipeline import compress, inspect_model
from srr_core.recipe import PRESETS, Recipe, override
from srr_core.report import Report
from srr_core.runtime import load
from tests.pico import ARCHITECTURES, WINDOW, build_checkpoint, byte_tokenizer, read_config, write_text

WINDOWS = {
    "calibration": {"num_sequences": 8, "sequence_length": WINDOW, "batch_size": 3},
    "evaluation": {"num_sequences": 3, "sequence_length": WINDOW, "batch_size": 2},
}
SINGLE = "model.safetensors"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 134\n"
Build = Callable[[Path], object]


def recipe(name: str = "srr", **changes: Any) -> Recipe:
    found = override(PRESETS[name], WINDOWS)
    return override(found, {"rank": 4, **changes} if found.rank else changes)


def edit(folder: Path, **fields: Any) -> None:
    """Change fields of config.json; None takes one away."""
    config = {**read_config(folder), **fields}
    (folder / "config.json").write_text(
        json.dumps({name: value for name, value in config.items() if value is not None})
    )


def rewrite(folder: Path, change: Callable[[dict[str, Tensor]], dict[str, Tensor]]) -> None:
    """Write the weights anew."""
    save_file(change(load_file(folder / SINGLE)), folder / SINGLE, metadata={"format": "pt"})


def stale_index(folder: Path) -> None:
    old = build_checkpoint(folder.parent / "old", max_shard_size="20KB", seed=1)
    build_checkpoint(folder)
    for file in old.glob("*.safetensors*"):
        file.rename(folder / file.name)


def shards_in_a_folder(folder: Path) -> None:
    build_checkpoint(folder, max_shard_size="20KB")
    (folder / "parts").mkdir()
    for file in folder.glob("*.safetensors"):
        file.rename(folder / "parts" / file.name)
    file = folder / "model.safetensors.index.json"
    index = json.loads(file.read_text())
    index["weight_map"] = {name: f"parts/{part}" for name, part in index["weight_map"].items()}
    file.write_text(json.dumps(index))


def consolidated(folder: Path) -> None:
    build_checkpoint(folder, max_shard_size="20KB")
    save_file({"tok_embeddings.weight": torch.zeros(2, 2)}, folder / "consolidated.safetensors")


def flag_of_a_tie_and_two_matrices(folder: Path) -> None:
    build_checkpoint(folder, tie_word_embeddings=False)
    edit(folder, tie_word_embeddings=True)


def long_rope(folder: Path) -> None:
    factors = {"short_factor": [1.0, 1.1, 1.2, 1.3], "long_factor": [1.0, 2.0, 3.0, 4.0]}
    build_checkpoint(folder, "Phi3ForCausalLM", original_max_position_embeddings=32)
    edit(folder, rope_parameters=None, rope_scaling={"type": "longrope", **factors}, rope_theta=10_000.0)


def words_of_an_old_configuration(folder: Path) -> None:
    build_checkpoint(folder)
    old = {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 10_000.0, "pretraining_tp": 1}
    edit(folder, rope_parameters=None, dtype=None, torch_dtype="bfloat16", **old)


def double_precision(folder: Path) -> None:
    build_checkpoint(folder, dtype=torch.float64)
    edit(folder, dtype=None, torch_dtype=None)


TAKEN: Mapping[str, tuple[Build, Recipe]] = {
    "a stale index beside a single file": (stale_index, recipe()),
    "shards in a folder": (shards_in_a_folder, recipe()),
    "weights of another library beside shards": (consolidated, recipe()),
    "flag of a tie, two matrices": (flag_of_a_tie_and_two_matrices, recipe()),
    "fused layers and long rope": (long_rope, recipe()),
    "words of an old configuration": (words_of_an_old_configuration, recipe()),
    "double precision": (double_precision, recipe()),
    "more rows than tokens": (lambda folder: build_checkpoint(folder, vocab_size=384), recipe()),
    "twelve blocks": (lambda folder: build_checkpoint(folder, num_hidden_layers=12), recipe()),
    "groups that do not divide": (
        lambda folder: build_checkpoint(folder, intermediate_size=200),
        recipe("gptq", **{"quantizer.grid.group_size": 128}),
    ),
    "odd sizes of heads": (
        lambda folder: build_checkpoint(folder, hidden_size=96),
        recipe("gptq", **{"quantizer.grid.group_size": 32}),
    ),
}


@pytest.fixture
def text(tmp_path: Path) -> Path:
    return write_text(tmp_path / "text.txt")


@pytest.mark.parametrize("situation", TAKEN)
def test_source_and_result_are_measured_as_stock_loaders_have_them(situation: str, tmp_path: Path, text: Path) -> None:
    build, chosen = TAKEN[situation]
    source, out = tmp_path / "source", tmp_path / "out"
    build(source)

    report = compress(source, chosen, out, calibration_text=text, evaluation_text=text)

    measured = next(row for row in report.measurements if row.evaluator == "perplexity")
    kind: Any = getattr(transformers, read_config(source)["architectures"][0])
    assert perplexity(kind.from_pretrained(source, dtype=torch.float32), source, text) == pytest.approx(
        measured.source, rel=1e-4
    )
    is_packed = read_config(out)["quantization_config"]["quant_method"] == "compressed-tensors"
    result = kind.from_pretrained(out, dtype=torch.float32) if is_packed else load(out, dtype=torch.float32)
    assert perplexity(result, source, text) == pytest.approx(measured.compressed, rel=1e-4)


@torch.no_grad()
def perplexity(model: nn.Module, source: Path, text: Path) -> float:
    """Return the perplexity of the windows that a report is about, as any user would compute it."""
    ids = torch.tensor(AutoTokenizer.from_pretrained(source)(text.read_text(), add_special_tokens=False)["input_ids"])
    rows = ids[: 3 * WINDOW].reshape(3, WINDOW)
    logits = model.eval()(input_ids=rows, use_cache=False).logits[:, :-1].double()
    return float(nn.functional.cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten()).exp())


def adapter_beside(folder: Path) -> None:
    build_checkpoint(folder)
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": 4}))


def codes_without_a_word(only: str) -> Build:
    def build(folder: Path) -> None:
        def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
            chosen = [name for name in tensors if only in name and name.endswith("proj.weight")]
            codes = {name: tensors[name].to(torch.float8_e4m3fn) for name in chosen}
            return {**tensors, **codes, **{f"{name}_scale": torch.ones(1) for name in chosen}}

        build_checkpoint(folder)
        rewrite(folder, change)

    return build


def integer_codes(folder: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        name = "model.layers.0.mlp.up_proj"
        scales = {f"{name}.SCB": torch.ones(64)}
        return {**tensors, f"{name}.weight": tensors[f"{name}.weight"].to(torch.int8), **scales}

    build_checkpoint(folder)
    rewrite(folder, change)


def pointer(folder: Path) -> None:
    build_checkpoint(folder)
    (folder / SINGLE).write_text(POINTER)


def pointer_in_place_of(name: str) -> Build:
    def build(folder: Path) -> None:
        build_checkpoint(folder)
        (folder / name).write_text(POINTER)

    return build


def scale_that_is_left_over(folder: Path) -> None:
    build_checkpoint(folder)
    rewrite(folder, lambda tensors: {**tensors, "lm_head.weight_scale": torch.ones(1)})


def whole_numbers(folder: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        name = "model.layers.0.mlp.up_proj.weight"
        return {**tensors, name: tensors[name].to(torch.int8)}

    build_checkpoint(folder)
    rewrite(folder, change)


def unmerged_adapter(folder: Path) -> None:
    def change(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
        return {name.replace("q_proj.", "q_proj.base_layer."): tensor for name, tensor in tensors.items()}

    build_checkpoint(folder)
    rewrite(folder, change)


def prefix_of_a_wrapper(folder: Path) -> None:
    build_checkpoint(folder)
    rewrite(folder, lambda tensors: {f"_orig_mod.{name}": tensor for name, tensor in tensors.items()})


def variant_alone(folder: Path) -> None:
    build_checkpoint(folder)
    (folder / SINGLE).rename(folder / "model.fp16.safetensors")


def infinite_norm(folder: Path) -> None:
    def change(model: Any) -> None:
        model.model.layers[0].post_attention_layernorm.weight[3] = torch.inf

    build_checkpoint(folder, dtype=torch.float16, change=change)


REFUSED: Mapping[str, tuple[Build, str]] = {
    "an adapter beside the weights": (adapter_beside, "adapter_config.json lies beside the weights"),
    "codes of one byte everywhere": (codes_without_a_word(""), r"quantized already \(FP8"),
    "codes of one byte in some layers": (codes_without_a_word("mlp"), r"quantized already \(FP8"),
    "integer codes": (integer_codes, r"quantized already \(bitsandbytes 8-bit"),
    "a pointer of git-lfs": (pointer, "pointer of git-lfs"),
    "a pointer for the tokenizer": (pointer_in_place_of("tokenizer.json"), r"tokenizer\.json is a pointer of git-lfs"),
    "a scale without codes": (
        scale_that_is_left_over,
        r"quantized already \(parts of codes beside a plain weight: lm_head\.weight_scale\)",
    ),
    "whole numbers": (whole_numbers, r"quantized already \(whole numbers without a scale: .*up_proj\.weight\)"),
    "a LoRA inside the model": (unmerged_adapter, "a LoRA was saved inside the model; merge it"),
    "tokens without a row": (
        lambda folder: build_checkpoint(folder, vocab_size=100),
        "the embedding of the model has 100 rows",
    ),
    "the prefix of a wrapper": (prefix_of_a_wrapper, "left the prefix '_orig_mod.'"),
    "a variant alone": (variant_alone, r"model\.fp16\.safetensors"),
    "a norm that is infinite": (infinite_norm, r"layers\.0\.post_attention_layernorm\.weight holds 1 values"),
}


@pytest.mark.parametrize("situation", REFUSED)
def test_what_cannot_be_compressed_is_refused_in_one_line_with_its_reason(
    situation: str, tmp_path: Path, text: Path
) -> None:
    build, reason = REFUSED[situation]
    build(tmp_path / "source")
    with pytest.raises(SrrError, match=reason) as caught:
        compress(tmp_path / "source", recipe(), tmp_path / "out", calibration_text=text, evaluation_text=text)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_token_without_a_row_is_said_before_the_run_as_in_it(tmp_path: Path, text: Path) -> None:
    for rows, is_fit in ((100, False), (259, True)):
        source = build_checkpoint(tmp_path / str(rows), vocab_size=rows)
        found = inspect_model(
            source,
            CheckpointReader(source).entries,
            recipe(),
            text_bytes=text.stat().st_size,
            calibration_text=text,
        )
        assert found.is_supported == is_fit
        assert ("the embedding of the model has 100 rows" in found.reason) == (not is_fit)


def _run(source: Path, out: Path, text: Path, **changes: Any) -> Report:
    chosen = recipe(**{"evaluation": None, **changes})
    return compress(source, chosen, out, calibration_text=text)


def _classifier() -> LlamaForSequenceClassification:
    config = LlamaConfig(**ARCHITECTURES["LlamaForCausalLM"][1], num_labels=1, pad_token_id=0)
    return LlamaForSequenceClassification(config)


def test_the_head_of_a_reward_model_is_kept_as_it_is(tmp_path: Path, text: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    _classifier().save_pretrained(source)
    byte_tokenizer().save_pretrained(source)
    _run(source, out, text)
    kept = {name: tensor for file in out.glob("model-*.safetensors") for name, tensor in load_file(file).items()}
    assert torch.equal(kept["score.weight"], load_file(source / SINGLE)["score.weight"])
    assert read_config(out)["architectures"] == ["LlamaForSequenceClassification"]


def test_settings_of_generation_that_contradict_each_other_travel_as_they_are(tmp_path: Path, text: Path) -> None:
    source, out = build_checkpoint(tmp_path / "source"), tmp_path / "out"
    (source / "generation_config.json").write_text('{"do_sample": false, "temperature": 0.5}')
    _run(source, out, text)
    assert (out / "generation_config.json").read_bytes() == (source / "generation_config.json").read_bytes()


def test_the_parts_of_an_embedding_model_travel_with_it(tmp_path: Path, text: Path) -> None:
    source, out = tmp_path / "source", tmp_path / "out"
    LlamaModel(LlamaConfig(**ARCHITECTURES["LlamaForCausalLM"][1])).save_pretrained(source)
    byte_tokenizer().save_pretrained(source)
    (source / "1_Pooling").mkdir()
    (source / "1_Pooling" / "config.json").write_text('{"pooling_mode_lasttoken": true}')
    (source / "modules.json").write_text(
        json.dumps([{"path": "", "type": "st.models.Transformer"}, {"path": "1_Pooling", "type": "st.models.Pooling"}])
    )
    (source / "config_sentence_transformers.json").write_text('{"prompts": {"query": "find: "}}')
    report = _run(source, out, text)
    assert any(note.startswith("pooled vectors (lasttoken) within ") for note in report.notes)
    names = ("1_Pooling/config.json", "modules.json", "config_sentence_transformers.json")
    assert [(out / name).read_bytes() for name in names] == [(source / name).read_bytes() for name in names]


def test_a_rank_beyond_every_layer_is_cut_and_a_larger_result_says_so(tmp_path: Path, text: Path) -> None:
    report = _run(build_checkpoint(tmp_path / "source"), tmp_path / "out", text, rank=96)
    assert max(layer.rank for layer in report.layers) == 32
    assert any("larger than the source" in note for note in report.notes)


def test_a_vocabulary_that_dwarfs_the_blocks_is_named(tmp_path: Path, text: Path) -> None:
    source = build_checkpoint(tmp_path / "source", vocab_size=20_000, tie_word_embeddings=True)
    report = _run(source, tmp_path / "out", text)
    assert any("saves" in note and "embeddings" in note for note in report.notes)
