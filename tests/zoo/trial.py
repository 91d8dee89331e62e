"""One specimen, from a random checkpoint to a verdict: built, compressed, loaded as its users load it, and measured.

Each step runs in a child of its own, so that a crash or an endless loop costs one row. Children come from a process
that has never imported our runtime, whatever its caller has: in the step that loads a result, transformers must know
nothing of this project unless the layout needs it.
"""

import contextlib
import inspect
import json
import multiprocessing
import os
import resource
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors.torch import save_file
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_FOR_CAUSAL_LM_MAPPING, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from srr_core.models.miniature import miniature
from tests.pico import byte_tokenizer, write_text
from tests.zoo.specimens import CHANGES, STACKED, VARIANTS, Specimen

LENGTH, SEQUENCES, RANK = 64, 4, 4
PERPLEXITY_OFF, WEIGHT_OFF = 1e-3, 2e-3
"""Largest differences, relative and absolute, between what a report says and what its users measure."""
LIMIT_SECONDS = 120
_CLEAN = multiprocessing.get_context("forkserver")
_CLEAN.set_forkserver_preload([__name__])
"""Of processor time for a step, so that a busy machine changes no verdict."""


@dataclass
class Trial:
    """What became of one specimen."""

    specimen: Specimen
    verdict: str = ""
    detail: str = ""
    layout: str = ""
    share: float | None = None
    """Part of the bytes in the blocks that is compressed."""
    off: dict[str, float] = field(default_factory=dict)

    @property
    def is_right(self) -> bool:
        """Whether a result came out, and was what its report says."""
        return self.verdict in {"stock", "own"}


def try_specimen(specimen: Specimen, folder: Path, *, recipe: str = "srr", limit: int = LIMIT_SECONDS) -> Trial:
    """Return what becomes of a specimen; `folder` is used and emptied."""
    trial = Trial(specimen)
    source, artifact = folder / "source", folder / "artifact"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        for step in (
            partial(build, specimen, source),
            partial(_compress, trial, source, artifact, recipe),
            partial(_check, trial, source, artifact),
        ):
            told = _in_child(step, limit)
            if told.get("verdict"):
                trial.verdict, trial.detail = told["verdict"], told.get("detail", "")
                break
            for name in ("layout", "share", "off"):
                if name in told:
                    setattr(trial, name, told[name])
        else:
            trial.verdict = "stock" if trial.layout == "compressed-tensors" else "own"
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return trial


def build(specimen: Specimen, folder: Path) -> dict[str, Any]:
    """Write a random checkpoint of a class, in which every block matters to the output, and a tokenizer."""
    kind: Any = getattr(transformers, specimen.class_name)
    changes = dict(CHANGES.get(specimen.model_type, {}))
    if specimen.variant:
        changes |= VARIANTS[specimen.model_type][specimen.variant]
    torch.manual_seed(0)
    try:
        config = miniature(CONFIG_MAPPING[specimen.model_type](), changes)
        wanted = getattr(kind, "config_class", None)
        if wanted is not None and not isinstance(config, wanted):
            config = miniature(wanted(), CHANGES.get(wanted.model_type))
        model: PreTrainedModel = kind._from_config(config, dtype=torch.float32).eval()
        randomize(model)
        if kind.main_input_name == "input_ids":
            with torch.no_grad():
                model(**_as_trained(model, torch.arange(20, 20 + LENGTH))[0], use_cache=False)
    except Exception as error:  # noqa: BLE001  # the specimen is at fault, not the product, in whatever way
        return {"verdict": "not built", "detail": _told(error)}
    model.to(torch.bfloat16).save_pretrained(folder)
    if specimen.variant == STACKED:
        state = {name: tensor.contiguous().clone() for name, tensor in model.state_dict().items()}
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    byte_tokenizer().save_pretrained(folder)
    return {}


@torch.no_grad()
def randomize(model: nn.Module) -> None:
    """Give every weight of a model such a size that signals neither fade nor grow."""
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            if isinstance(module, nn.Linear | Conv1D) and name == "weight":
                parameter.normal_(0, parameter.shape[isinstance(module, nn.Linear)] ** -0.5)
            elif isinstance(module, nn.Embedding):
                parameter.normal_()
            elif "Expert" in type(module).__name__ and parameter.dim() == 3:
                parameter.normal_(0, min(parameter.shape[1:]) ** -0.5)
            elif parameter.dim() == 1 and name in {"weight", "bias"}:
                parameter.add_(0.1 * torch.randn_like(parameter))


def _compress(trial: Trial, source: Path, artifact: Path, recipe_name: str) -> dict[str, Any]:
    # Here and not above: the runtime registers itself with transformers when it is imported.
    from srr_core.checkpoint.reader import CheckpointReader
    from srr_core.errors import SrrError
    from srr_core.models.architecture import Architecture
    from srr_core.models.layers import plan_layers
    from srr_core.pipeline import compress, inspect_model
    from srr_core.pipeline.rehearsal import rehearse
    from srr_core.pipeline.source import open_source
    from srr_core.recipe import named_recipe, override

    windows = {"num_sequences": SEQUENCES, "sequence_length": LENGTH, "batch_size": 2}
    settings: dict[str, Any] = {"calibration": windows, "evaluation": windows}
    settings |= {"rank": RANK} if named_recipe(recipe_name).rank else {}
    recipe = override(named_recipe(recipe_name), settings)
    text = write_text(artifact.parent / "text.txt")
    inspected = inspect_model(source, CheckpointReader(source).entries, recipe, text_bytes=text.stat().st_size)
    stages: list[str] = []
    # A published model of the class is rehearsed; this one would be too small for it. We are in a child of our own.
    sys.modules["srr_core.pipeline.compress"].rehearse = partial(rehearse, smallest=0)  # type: ignore[attr-defined]
    try:
        report = compress(
            source,
            recipe,
            artifact,
            calibration_text=text,
            evaluation_text=text,
            device="cpu",
            on_progress=lambda progress: stages.append(str(progress.stage)),
        )
    except SrrError as error:
        is_late = inspected.is_supported and set(stages) - {"plan"}
        return {"verdict": "refused late" if is_late else "refused", "detail": " ".join(str(error).split())}
    architecture = Architecture(source)
    reader, _ = open_source(source, architecture)
    share = plan_layers(architecture, reader.entries).compressed_share(reader.entries, of_blocks=True)
    config = json.loads((artifact / "config.json").read_text())
    (artifact.parent / "report.json").write_text(report.model_dump_json())
    return {"layout": config["quantization_config"]["quant_method"], "share": share}


def _check(trial: Trial, source: Path, artifact: Path) -> dict[str, Any]:
    """Load source and artifact as a user does, and measure what the report claims."""
    report = json.loads((artifact.parent / "report.json").read_text())
    kind: Any = getattr(transformers, trial.specimen.class_name)
    stock = kind.from_pretrained(source, dtype=torch.float32).eval()
    if type(stock.config) in MODEL_FOR_CAUSAL_LM_MAPPING and MODEL_FOR_CAUSAL_LM_MAPPING[type(stock.config)] is kind:
        kind = transformers.AutoModelForCausalLM
    if trial.layout == "compressed-tensors":
        loaded = kind.from_pretrained(artifact, dtype=torch.float32).eval().float()
    else:
        with contextlib.suppress(Exception):
            kind.from_pretrained(artifact, dtype=torch.float32)
            return {"verdict": "WRONG", "detail": "stock loaders take our own layout without an error"}
        from srr_core.runtime import load

        loaded = load(artifact, dtype=torch.float32)
    off: dict[str, float] = {}
    measured = next((row for row in report["measurements"] if row["evaluator"] == "perplexity"), None)
    if measured is not None:
        ids = _windows(source, artifact.parent / "text.txt")
        for name, model in (("source", stock), ("compressed", loaded)):
            off[name] = abs(_perplexity(model, ids) / measured[name] - 1)
    claimed = {layer["name"]: layer["weight_error"] for layer in report["layers"]}
    errors = dict(_weight_errors(stock, loaded, claimed))
    off["weight"] = max((abs(error - claimed[name]) for name, error in errors.items()), default=0.0)
    wrong = {
        name: value for name, value in off.items() if not value < (WEIGHT_OFF if name == "weight" else PERPLEXITY_OFF)
    }
    verdict = {"verdict": "WRONG", "detail": f"{wrong}"} if wrong else {}
    return {"off": off, **verdict}


def _windows(source: Path, text: Path) -> Tensor:
    tokenizer = transformers.AutoTokenizer.from_pretrained(source)
    ids = torch.tensor(tokenizer(text.read_text(), add_special_tokens=False)["input_ids"])
    return ids[: SEQUENCES * LENGTH].reshape(SEQUENCES, LENGTH)


@torch.no_grad()
def _perplexity(model: nn.Module, ids: Tensor) -> float:
    losses = []
    for row in ids:
        inputs, wanted = _as_trained(model, row)
        logits = model(**inputs, use_cache=False).logits[0, -len(wanted) - 1 : -1].float()
        losses.append(nn.functional.cross_entropy(logits, wanted).double())
    return float(torch.stack(losses).mean().exp())


def _as_trained(model: Any, row: Tensor) -> tuple[dict[str, Tensor], Tensor]:
    """Return what a model is called with to predict a text, and the tokens that it predicts.

    The decoder of an encoder-decoder is asked for the second half of the text. What it starts with the class says by
    the way it shifts labels, or else the fields do in which configurations keep it.
    """
    if not (model.config.is_encoder_decoder and "decoder_input_ids" in inspect.signature(model.forward).parameters):
        return {"input_ids": row[None]}, row[1:]
    source, wanted = row[: len(row) // 2], row[len(row) // 2 :]
    fields = ("decoder_start_token_id", "bos_token_id", "pad_token_id", "eos_token_id")
    owners = (model.config, model.config.get_text_config(decoder=True))
    known = [getattr(owner, field, None) for owner in owners for field in fields]
    start = next((value for value in known if isinstance(value, int)), 0)
    heard = torch.cat([torch.tensor([start]), wanted])
    with contextlib.suppress(AttributeError, ValueError):  # no such method, or no field for it
        # Labels end where the decoder starts, which is what classes ask for that move their last one to the front.
        heard = model.prepare_decoder_input_ids_from_labels(labels=torch.cat([wanted, heard[:1]])[None])[0]
    return {"input_ids": source[None], "decoder_input_ids": heard[None]}, wanted


@torch.no_grad()
def _weight_errors(stock: nn.Module, loaded: nn.Module, names: dict[str, float]) -> Iterator[tuple[str, float]]:
    """Yield, of every plain layer, how far what the loaded module computes is from the source's weight."""
    found = {name.removeprefix("base_model.model."): module for name, module in loaded.named_modules()}
    for name, module in stock.named_modules():
        if name not in names or name not in found or not isinstance(module, nn.Linear | Conv1D):
            continue
        weight = module.weight.T if isinstance(module, Conv1D) else module.weight
        layer = found[name]
        bias = getattr(getattr(layer, "base_layer", layer), "bias", None)
        product = layer(torch.eye(weight.shape[1])) - (0 if bias is None else bias)
        yield name, float((weight - product.T).norm() / weight.norm())


def _in_child(work: Callable[[], dict[str, Any]], limit: int) -> dict[str, Any]:
    """Run a step in a child; return what it tells, or what ended it."""
    reading, writing = _CLEAN.Pipe(duplex=False)
    child = _CLEAN.Process(target=_tell, args=(writing, work, limit))
    child.start()
    writing.close()
    try:
        told: dict[str, Any] | None = reading.recv()
    except EOFError:
        told = None
    child.join()
    return told if told is not None else {"verdict": "CRASH", "detail": f"ended with status {child.exitcode}"}


def _tell(writing: Connection, work: Callable[[], dict[str, Any]], limit: int) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1), os.dup2(null, 2)
    warnings.simplefilter("ignore")
    try:
        told = work()
    except BaseException as error:  # noqa: BLE001  # nothing may leave the child but what it tells
        told = {"verdict": "CRASH", "detail": _told(error) + "".join(traceback.format_tb(error.__traceback__)[-1:])}
    writing.send(told)


def _told(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]
