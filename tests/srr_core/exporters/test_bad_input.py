"""A damaged or hostile artifact is refused with the file and the tensor in the sentence; nothing outside is read."""

import json
import shutil
import struct

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from srr_core.errors import CheckpointError
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS, adapter_names
from srr_core.formats.artifact import CONFIG_NAME
from srr_core.recipe import MXIntSpec
from srr_core.runtime import load
from tests.srr_core.exporters.artifacts import INDEX, SHARD, build_artifact, edit_tensors, pico_llama
from tests.srr_core.exporters.damage import edit_header, edit_json, read_everything

UP = "model.layers.0.mlp.up_proj"
RIGHT, LEFT = adapter_names(UP)


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    return build_artifact(tmp_path_factory.mktemp("pristine") / "a", pico_llama(), MXIntSpec(num_bits=3)).directory


@pytest.fixture
def folder(pristine, tmp_path):
    shutil.copytree(pristine, tmp_path / "a")
    return tmp_path / "a"


def refused(folder, pattern):
    with pytest.raises(CheckpointError, match=pattern):
        read_everything(folder)
    with pytest.raises(CheckpointError, match=pattern):
        load(folder)


def test_pristine_artifact_is_read(pristine):
    read_everything(pristine)


def tensors_of(folder, file=SHARD):
    return load_file(folder / file)


def change(folder, file, **tensors):
    edit_tensors(folder / file, **{key.replace(".", "__"): tensor for key, tensor in tensors.items()})
    if file == SHARD:
        names = tensors_of(folder)
        edit_json(folder / INDEX, lambda index: index.update(weight_map=dict.fromkeys(names, SHARD)))


def cut(folder, file, by):
    data = (folder / file).read_bytes()
    (folder / file).write_bytes(data[:-by])


def claim_a_huge_header(folder, file):
    (folder / file).write_bytes(struct.pack("<Q", 2**60) + (folder / file).read_bytes()[8:])


def name_twice(folder, file, name):
    def duplicate(text):
        entry = json.dumps(json.loads(text)[name])
        return text.rstrip()[:-1] + f', "{name}": {entry}}}'

    edit_header(folder / file, duplicate)


def edit_marker(folder, **entries):
    edit_json(folder / CONFIG_NAME, lambda config: config["quantization_config"]["srr"].update(entries))


def edit_adapter(folder, **entries):
    edit_json(folder / ADAPTER_CONFIG, lambda config: config.update(entries))


def without_adapter(folder):
    for name in (ADAPTER_WEIGHTS, ADAPTER_CONFIG):
        (folder / name).unlink()


def with_one_factor_missing(folder):
    change(folder, ADAPTER_WEIGHTS, **{LEFT: None, RIGHT: None})


DAMAGE = {
    "truncated shard": (lambda f: cut(f, SHARD, 1), rf"{SHARD}: .*truncated"),
    "half a shard": (lambda f: cut(f, SHARD, 30_000), rf"{SHARD}: .*truncated"),
    "empty shard": (lambda f: (f / SHARD).write_bytes(b""), rf"{SHARD}: is empty"),
    "missing shard": (lambda f: (f / SHARD).unlink(), rf"{INDEX}: names {SHARD}, which is missing"),
    "missing index": (lambda f: (f / INDEX).unlink(), rf"no model\.safetensors or {INDEX}"),
    "truncated adapter": (lambda f: cut(f, ADAPTER_WEIGHTS, 1), rf"{ADAPTER_WEIGHTS}: .*truncated"),
    "wrong dtype of a scale": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_scale": torch.ones(96, 2)}),
        rf"{SHARD}: tensor '{UP}\.weight_scale' is torch\.float32",
    ),
    "wrong dtype of the codes": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_packed": torch.ones(96, 6, dtype=torch.int64)}),
        rf"{SHARD}: tensor '{UP}\.weight_packed' is torch\.int64",
    ),
    "wrong dtype of the shape": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_shape": torch.tensor([96, 64], dtype=torch.int32)}),
        rf"{SHARD}: tensor '{UP}\.weight_shape' is torch\.int32",
    ),
    "wrong dtype of a factor": (
        lambda f: change(f, ADAPTER_WEIGHTS, **{RIGHT: torch.ones(4, 64)}),
        rf"{ADAPTER_WEIGHTS}: tensor '{RIGHT}' has dtype torch\.float32",
    ),
    "wrong dtype of a norm": (
        lambda f: change(f, SHARD, **{"model.norm.weight": torch.ones(64, dtype=torch.int32)}),
        rf"{SHARD}: tensor 'model\.norm\.weight' has dtype torch\.int32",
    ),
    "wrong shape of a scale": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_scale": torch.ones(96, 3, dtype=torch.bfloat16)}),
        rf"{SHARD}: tensor '{UP}\.weight_scale' is torch\.bfloat16 \[96, 3\]",
    ),
    "wrong shape of a factor": (
        lambda f: change(f, ADAPTER_WEIGHTS, **{RIGHT: torch.ones(4, 63, dtype=torch.bfloat16)}),
        rf"{ADAPTER_WEIGHTS}: tensor '{RIGHT}' has shape \[4, 63\]",
    ),
    "wrong shape of a norm": (
        lambda f: change(f, SHARD, **{"model.norm.weight": torch.ones(63)}),
        rf"{SHARD}: tensor 'model\.norm\.weight' has shape \[63\]",
    ),
    "weight of no columns": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_shape": torch.tensor([96, 0])}),
        rf"tensor {UP}\.weight_shape holds \[96, 0\]",
    ),
    "weight that claims to be huge": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_shape": torch.tensor([2**40, 2**20])}),
        rf"{SHARD}: tensor '{UP}\.weight_packed' is torch\.int32",
    ),
    "missing codes": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_packed": None}),
        rf"tensor '{UP}\.weight_packed' is in no file",
    ),
    "missing shape": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_shape": None}),
        rf"{SHARD}: tensor '{UP}\.weight_shape' is missing",
    ),
    "missing norm": (
        lambda f: change(f, SHARD, **{"model.norm.weight": None}),
        r"no file of the checkpoint holds tensor 'model\.norm\.weight'",
    ),
    "dense weight beside the packed one": (
        lambda f: change(f, SHARD, **{f"{UP}.weight": torch.zeros(96, 64)}),
        rf"{SHARD}: dense tensor '{UP}\.weight' lies beside",
    ),
    "scale that is no number": (
        lambda f: change(f, SHARD, **{f"{UP}.weight_scale": torch.full((96, 2), torch.nan, dtype=torch.bfloat16)}),
        rf"tensor {UP}\.weight_scale holds NaN or infinity",
    ),
    "factor that is no number": (
        lambda f: change(f, ADAPTER_WEIGHTS, **{RIGHT: torch.full((4, 64), torch.inf, dtype=torch.bfloat16)}),
        rf"tensor {RIGHT} .*holds NaN or infinity",
    ),
    "missing adapter": (lambda f: (f / ADAPTER_WEIGHTS).unlink(), rf"{ADAPTER_WEIGHTS} is missing"),
    "missing adapter configuration": (lambda f: (f / ADAPTER_CONFIG).unlink(), rf"{ADAPTER_CONFIG} is missing"),
    "no trace of an adapter": (without_adapter, rf"{ADAPTER_WEIGHTS} is missing"),
    "missing factors of one layer": (with_one_factor_missing, rf"{ADAPTER_WEIGHTS}: tensor '{RIGHT}' is missing"),
    "unwanted adapter": (lambda f: edit_marker(f, rank=0), rf"{ADAPTER_WEIGHTS}: {CONFIG_NAME} says there is no"),
    "adapter of another rank": (
        lambda f: edit_adapter(f, r=8, lora_alpha=8),
        rf"{ADAPTER_CONFIG}: r and lora_alpha are 8 and 8",
    ),
    "adapter that is scaled": (
        lambda f: edit_adapter(f, lora_alpha=8),
        rf"{ADAPTER_CONFIG}: r and lora_alpha are 4 and 8",
    ),
    "adapter that is scaled otherwise": (
        lambda f: edit_adapter(f, use_rslora=True),
        rf"{ADAPTER_CONFIG}: use_rslora is True",
    ),
    "adapter scaled by a pattern": (
        lambda f: edit_adapter(f, alpha_pattern={"up_proj": 8}),
        rf"{ADAPTER_CONFIG}: rank_pattern and alpha_pattern differ",
    ),
    "adapter of another kind": (lambda f: edit_adapter(f, peft_type="IA3"), rf"{ADAPTER_CONFIG}: peft_type is 'IA3'"),
    "adapter that leaves a layer out": (
        lambda f: edit_adapter(f, target_modules=["layers.0.mlp.up_proj"]),
        rf"{ADAPTER_CONFIG}: target_modules leaves model\.layers",
    ),
    "header larger than the cap": (lambda f: claim_a_huge_header(f, SHARD), rf"{SHARD}: .*header claims"),
    "header of the adapter larger than the cap": (
        lambda f: claim_a_huge_header(f, ADAPTER_WEIGHTS),
        rf"{ADAPTER_WEIGHTS}: .*header claims",
    ),
    "tensor named twice": (
        lambda f: name_twice(f, SHARD, "model.norm.weight"),
        rf"{SHARD}: .*'model\.norm\.weight' is named twice",
    ),
    "factor named twice": (lambda f: name_twice(f, ADAPTER_WEIGHTS, RIGHT), rf"{ADAPTER_WEIGHTS}: .*is named twice"),
    "layout of a later release": (lambda f: edit_marker(f, version=99), "layout version 99.*upgrade"),
    "bits of another grid": (
        lambda f: edit_marker(f, quantizer=MXIntSpec(num_bits=4).model_dump(mode="json")),
        rf"{SHARD}: tensor '.*weight_packed' is torch\.int32",
    ),
    "configuration that is not JSON": (lambda f: (f / CONFIG_NAME).write_text("{"), rf"{CONFIG_NAME}: cannot be read"),
    "configuration that is a list": (
        lambda f: (f / CONFIG_NAME).write_text("[]"),
        rf"{CONFIG_NAME}: holds no JSON obj",
    ),
    "configuration nested too deep": (
        lambda f: (f / CONFIG_NAME).write_text("[" * 100_000),
        rf"{CONFIG_NAME}: cannot be read as JSON",
    ),
    "unknown class": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(architectures=["Nope"])),
        rf"{CONFIG_NAME}: names the architecture 'Nope'",
    ),
    "class that is no model": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(architectures=["AutoConfig"])),
        rf"{CONFIG_NAME}: names the architecture 'AutoConfig'",
    ),
    "class that is no name": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(architectures=5)),
        rf"{CONFIG_NAME}: names the architecture None",
    ),
    "unknown model type": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(model_type="nope")),
        rf"{CONFIG_NAME}: transformers cannot use it",
    ),
    "code of its own": (
        lambda f: edit_json(
            f / CONFIG_NAME, lambda config: config.update(model_type="nope", auto_map={"AutoConfig": "x.Y"})
        ),
        rf"{CONFIG_NAME}: transformers cannot use it",
    ),
    "one block more": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(num_hidden_layers=3)),
        r"no file of the checkpoint holds tensor 'model\.layers\.2",
    ),
    "one block fewer": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(num_hidden_layers=1)),
        r"no module for the packed weight of model\.layers\.1",
    ),
    "a billion blocks": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(num_hidden_layers=10**9)),
        rf"{CONFIG_NAME}: num_hidden_layers is 1000000000",
    ),
    "numbers no model has": (
        lambda f: edit_json(f / CONFIG_NAME, lambda config: config.update(hidden_act="nope")),
        rf"{CONFIG_NAME}: LlamaForCausalLM cannot be built from it",
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_refused_by_export_and_load_with_its_place(folder, kind):
    damage, message = DAMAGE[kind]
    damage(folder)
    refused(folder, message)


@pytest.mark.parametrize("shard", ["../secret.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", "{abs}"])
@pytest.mark.parametrize("whole", [False, True], ids=["one tensor", "every tensor"])
def test_index_naming_a_file_outside_the_folder(folder, shard, whole):
    secret = folder.parent / "secret.safetensors"
    secret.write_bytes((folder / SHARD).read_bytes())
    names = tensors_of(folder) if whole else [f"{UP}.weight_packed"]
    changed = dict.fromkeys(names, shard.format(abs=secret))
    edit_json(folder / INDEX, lambda index: index["weight_map"].update(changed))
    refused(folder, rf"{INDEX}: names")


@pytest.mark.parametrize("shard", ["../secret.safetensors", "{abs}"])
def test_plain_from_pretrained_reads_nothing_outside_the_folder_either(folder, shard):
    secret = folder.parent / "secret.safetensors"
    (folder / SHARD).rename(secret)
    changed = dict.fromkeys(load_file(secret), shard.format(abs=secret))
    edit_json(folder / INDEX, lambda index: index.update(weight_map=changed))
    with pytest.raises(CheckpointError, match=rf"{INDEX}: names .*secret"):
        AutoModelForCausalLM.from_pretrained(folder)


def test_configuration_naming_other_weights_than_the_index(folder):
    (folder.parent / "secret.safetensors").write_bytes((folder / SHARD).read_bytes())
    edit_json(folder / CONFIG_NAME, lambda config: config.update(transformers_weights="../secret.safetensors"))
    with pytest.raises(CheckpointError, match=rf"{CONFIG_NAME}: transformers_weights"):
        load(folder)


def test_plain_from_pretrained_refuses_an_artifact_that_lost_its_adapter(folder):
    without_adapter(folder)
    with pytest.raises(CheckpointError, match=rf"{ADAPTER_CONFIG} is missing"):
        AutoModelForCausalLM.from_pretrained(folder)


@pytest.mark.parametrize("rank", [-1, "4", None, 1.5])
def test_rank_that_is_no_number(folder, rank):
    edit_marker(folder, rank=rank)
    refused(folder, "rank")
