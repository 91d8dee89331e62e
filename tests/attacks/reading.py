"""Who reads the files of a stranger's model: the service, the plan of a run, a run, the loader of results."""

import json
import shutil
import struct
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from service.hub.documents import json_object, json_value, read_config
from service.hub.errors import HubError
from service.hub.headers import read_header
from service.hub.model import RepoFile, ResolvedModel, check_compressible, index_file
from service.hub.weights import read_weights
from service.submissions.estimate import memory_bytes, scratch_bytes
from srr_core.errors import SrrError
from srr_core.recipe import cost, named_recipe
from srr_core.recipe.architectures import check_config
from srr_core.recipe.stored_schemes import check_stored
from tests.service.models import CONFIG, safetensors

ARTIFACT = Path(__file__).parents[1] / "golden" / "v0.1" / "artifact"
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]
_TOKENIZER = ("tokenizer.json", "tokenizer_config.json")


@dataclass(frozen=True)
class Reader:
    """One who reads a model."""

    build: Callable[[Path], object]
    """Makes a sound model in a folder."""
    read: Callable[[Path], None]
    files: tuple[str, ...]


def end_of(read: Callable[[Path], None], folder: Path) -> str:
    """Return how a reading ended: read, refused, or the fault that it should not have."""
    try:
        read(folder)
    except (HubError, SrrError):
        return "refused"
    except Exception as error:  # noqa: BLE001  # every other one is a finding
        return f"{type(error).__name__}: {error}"[:200]
    return "read"


def _write_listed(folder: Path) -> None:
    """Write a sound model whose weights an index names, as the service sees one."""
    weights = safetensors()
    header = json.loads(weights[8 : 8 + struct.unpack("<Q", weights[:8])[0]])
    index = {"metadata": {"total_size": len(weights)}, "weight_map": dict.fromkeys(header, "model-00001.safetensors")}
    more = {"num_hidden_layers": 2, "vocab_size": 64, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    more |= {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps({**CONFIG, **more}))
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "model-00001.safetensors").write_bytes(weights)
    (folder / "modules.json").write_text(json.dumps(MODULES))


def _inspect(folder: Path) -> None:
    """Do all that the service does with the words of a model before it queues a job."""
    files: Mapping[str, bytes] = {path.name: path.read_bytes() for path in folder.iterdir()}
    config = read_config(files["config.json"], "org/model")
    index = index_file(files, config)
    model = ResolvedModel(
        model_id="org/model",
        sha="a" * 40,
        private=False,
        gated=False,
        files=tuple(RepoFile(name, len(content)) for name, content in files.items()),
        config=config,
        index=json_object(files[index]) if index in files else None,
        modules=json_value(files["modules.json"]),
    )
    check_compressible(model)
    check_config(model.config)
    weights = read_weights(model, lambda wanted: (read_header(file, _part_of(files[file.path])) for file in wanted))
    check_stored({name: tensor.dtype for name, tensor in weights.tensors.items()}, model.config or {})
    assert memory_bytes(named_recipe("srr"), model, weights) >= 0
    assert scratch_bytes(model) >= 0
    cost.share_note(weights.compressed_share)


def _part_of(content: bytes) -> Callable[[int, int], bytes]:
    return lambda begin, end: content[begin:end]


def _build_pico(folder: Path) -> object:
    from tests.pico import build_checkpoint

    return build_checkpoint(folder)


def _plan(folder: Path) -> None:
    from srr_core.calibration.dataset import load_tokenizer
    from srr_core.checkpoint.reader import CheckpointReader
    from srr_core.pipeline.inspection import inspect_model

    load_tokenizer(folder)
    inspect_model(folder, CheckpointReader(folder).entries, named_recipe("srr"), text_bytes=1000)


class AcceptedAndLostError(Exception):
    """A source was compressed, and what came of it does not load."""


def _compress(folder: Path) -> None:
    from examples import CALIBRATION_TEXT
    from srr_core.pipeline import compress
    from srr_core.runtime import load

    recipe = named_recipe("srr")
    windows = recipe.calibration.model_copy(update={"num_sequences": 2, "sequence_length": 16})
    recipe = recipe.model_copy(update={"calibration": windows, "rank": 4})
    with tempfile.TemporaryDirectory() as directory:
        artifact = Path(directory) / "artifact"
        compress(folder, recipe, artifact, calibration_text=CALIBRATION_TEXT, device="cpu")
        try:
            load(artifact)
        except SrrError as error:
            raise AcceptedAndLostError(str(error)) from error


def _load(folder: Path) -> None:
    from srr_core.runtime import load

    load(folder)


def _train(folder: Path) -> None:
    from srr_core.runtime import load

    load(folder, trainable=True)


def _copy_artifact(folder: Path) -> object:
    return shutil.copytree(ARTIFACT, folder)


_WEIGHTS = ("model.safetensors.index.json", "model-00001-of-00001.safetensors")
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")

READERS: Mapping[str, Reader] = {
    "inspect": Reader(
        _write_listed,
        _inspect,
        ("config.json", "model.safetensors.index.json", "model-00001.safetensors", "modules.json"),
    ),
    "plan": Reader(_build_pico, _plan, ("config.json", "model.safetensors", *_TOKENIZER)),
    "compress": Reader(
        _build_pico, _compress, ("config.json", "generation_config.json", "model.safetensors", *_TOKENIZER)
    ),
    "load": Reader(_copy_artifact, _load, ("config.json", "generation_config.json", *_WEIGHTS, *_ADAPTER)),
    "train": Reader(_copy_artifact, _train, ("config.json", *_ADAPTER)),
}
