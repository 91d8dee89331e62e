"""Files of a model broken in thousands of ways: each is read, or refused in our own words, and nothing else happens.

Seeded, so a failure comes back; the seed and the number of the file are in its message.
"""

import copy
import json
import random
import struct
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

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

Files = Mapping[str, bytes]
ROUNDS = 400
CORE_ROUNDS = 15
"""Of each file with the real loaders, which take a tenth of a second each."""
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63, 10**30, 1e300, -0.0, float("nan"), float("inf"), 0.5),
    *("", "A\0", "\ud800", "../up", "x" * 5000, "model.safetensors", "1", "[1]", [], {}, [[]], [None], {"": None}),
    *([1] * 3000, {"a": {"a": {"a": {}}}}, json.loads("[" * 90 + "]" * 90), {str(n): n for n in range(500)}),
)
MODULES = [{"idx": 0, "name": "0", "path": "", "type": "sentence_transformers.models.Transformer"}]


def files() -> dict[str, bytes]:
    """Return a sound model whose weights an index names."""
    weights = safetensors()
    header = json.loads(weights[8 : 8 + struct.unpack("<Q", weights[:8])[0]])
    index = {"metadata": {"total_size": len(weights)}, "weight_map": dict.fromkeys(header, "model-00001.safetensors")}
    more = {"num_hidden_layers": 2, "vocab_size": 64, "rope_scaling": {"rope_type": "linear", "factor": 2.0}}
    more |= {"num_attention_heads": 4, "intermediate_size": 64, "max_position_embeddings": 64}
    return {
        "config.json": json.dumps({**CONFIG, **more}).encode(),
        "model.safetensors.index.json": json.dumps(index).encode(),
        "model-00001.safetensors": weights,
        "modules.json": json.dumps(MODULES).encode(),
    }


def broken(content: bytes, chance: random.Random) -> bytes:
    """Return a file with one to three faults, of its document where it is one, or of its bytes."""
    try:
        document = json.loads(content)
    except ValueError:
        document = None
    if document is None or chance.random() < 0.2:
        return _broken_bytes(content, chance)
    for _ in range(chance.randint(1, 3)):
        document = _broken_document(document, chance)
    return json.dumps(document).encode()


def broken_weights(content: bytes, chance: random.Random) -> bytes:
    """Return weights whose header has faults, under a length that fits or not."""
    (length,) = struct.unpack("<Q", content[:8])
    header, rest = broken(content[8 : 8 + length], chance), content[8 + length :]
    said = chance.choice([len(header)] * 4 + [0, 1, 2**62, 2**64 - 1, len(header) + 1])
    return struct.pack("<Q", said) + header + chance.choice([rest, rest, rest[:-1], b"", rest * 2])


def look(model_files: Files) -> None:
    """Do all that the service does with the words of a model before it queues a job."""
    config = read_config(model_files["config.json"], "org/model")
    listed = tuple(RepoFile(name, len(content)) for name, content in model_files.items())
    index = index_file(model_files, config)
    model = ResolvedModel(
        model_id="org/model",
        sha="a" * 40,
        private=False,
        gated=False,
        files=listed,
        config=config,
        index=json_object(model_files[index]) if index in model_files else None,
        modules=json_value(model_files["modules.json"]),
    )
    check_compressible(model)
    check_config(model.config)
    weights = read_weights(
        model, lambda wanted: (read_header(file, _part_of(model_files[file.path])) for file in wanted)
    )
    check_stored({name: tensor.dtype for name, tensor in weights.tensors.items()}, model.config or {})
    assert memory_bytes(named_recipe("srr"), model, weights) >= 0
    assert scratch_bytes(model) >= 0
    cost.share_note(weights.compressed_share)


@pytest.mark.parametrize("name", sorted(files()))
def test_whatever_a_file_holds_the_service_reads_or_refuses_it(name: str) -> None:
    sound = files()
    change = broken_weights if name.endswith(".safetensors") else broken
    look(sound)

    ends = [_end(look, {**sound, name: change(sound[name], random.Random(f"{name} {n}"))}) for n in range(ROUNDS)]

    assert [f"{name} {number}: {end}" for number, end in enumerate(ends) if end not in {"read", "refused"}] == []
    assert ends.count("refused") > ROUNDS / 20


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A sound model with a tokenizer, in a folder."""
    from tests.pico import build_checkpoint

    return build_checkpoint(tmp_path_factory.mktemp("sound") / "model")


@pytest.mark.parametrize("name", ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"])
def test_whatever_a_file_holds_the_core_plans_or_refuses_it(checkpoint: Path, tmp_path: Path, name: str) -> None:
    change = broken_weights if name.endswith(".safetensors") else broken
    sound = (checkpoint / name).read_bytes()
    for file in checkpoint.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())

    def try_it(content: bytes) -> None:
        (tmp_path / name).write_bytes(content)
        _plan(tmp_path)

    try_it(sound)
    ends = [_end(try_it, change(sound, random.Random(f"core {name} {n}"))) for n in range(CORE_ROUNDS)]

    assert [f"{name} {number}: {end}" for number, end in enumerate(ends) if end not in {"read", "refused"}] == []


def _plan(folder: Path) -> None:
    from srr_core.calibration.dataset import load_tokenizer
    from srr_core.checkpoint.reader import CheckpointReader
    from srr_core.pipeline.inspection import inspect_model

    load_tokenizer(folder)
    inspect_model(folder, CheckpointReader(folder).entries, named_recipe("srr"), text_bytes=1000)


def _end(act: Callable[[Any], None], given: Any) -> str:
    """Return how an attempt ended: read, refused, or the fault that it should not have."""
    try:
        act(given)
    except (HubError, SrrError):
        return "refused"
    except Exception as error:  # noqa: BLE001  # every other one is a finding
        return f"{type(error).__name__}: {error}"[:200]
    return "read"


def _broken_bytes(content: bytes, chance: random.Random) -> bytes:
    place = chance.randrange(len(content) or 1)
    return chance.choice(
        [
            content[:place],
            content[:place] + bytes([chance.randrange(256)]) + content[place + 1 :],
            content[:place] + b"[" * 20_000 + content[place:],
            content[:place] + content,
            b"",
            b"\xff\xfe" + content,
        ]
    )


def _broken_document(document: Any, chance: random.Random) -> Any:
    changed = copy.deepcopy(document)
    paths = list(_paths(changed))
    if not paths:
        return chance.choice(VALUES)
    path = chance.choice(paths)
    parent = changed
    for step in path[:-1]:
        parent = parent[step]
    what = chance.random()
    if what < 0.15:
        del parent[path[-1]]
    elif what < 0.25 and isinstance(parent, dict):
        parent[chance.choice(["", "A\0", "\ud800", "../up", "auto_map", "__class__"])] = parent.pop(path[-1])
    else:
        parent[path[-1]] = copy.deepcopy(chance.choice(VALUES))
    return changed


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Any:
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        if len(path) < 6:
            yield (*path, key)
            yield from _paths(inner, (*path, key))


def _part_of(content: bytes) -> Callable[[int, int], bytes]:
    return lambda begin, end: content[begin:end]
