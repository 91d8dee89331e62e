"""What can be known of a model without its weights, the same over every hub."""

import json
import struct

import pytest

from service.hub.errors import InvalidWeightsError
from service.hub.weights import StoredTensor
from tests.hub_server.seeded import Seeded

CONFIG = {"config.json": b"{}"}


def _safetensors(**tensors: tuple[str, list[int]]) -> bytes:
    """Return a file of zeros with these tensors: name to (dtype, shape)."""
    sizes = {"F32": 4, "BF16": 2, "U8": 1}
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, (dtype, shape) in tensors.items():
        begin, end = end, end + sizes[dtype] * _product(shape)
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + bytes(end)


def _index(**weight_map: str) -> dict[str, bytes]:
    return {"model.safetensors.index.json": json.dumps({"weight_map": weight_map}).encode()}


def _product(shape: list[int]) -> int:
    return shape[0] * _product(shape[1:]) if shape else 1


def test_tensors_are_listed_with_type_and_shape(seeded: Seeded) -> None:
    content = _safetensors(**{"a.weight": ("BF16", [8, 4]), "a.bias": ("F32", [8])})
    seeded.seed("acme/base", {**CONFIG, "model.safetensors": content})

    weights = seeded.hub.inspect(seeded.hub.resolve("acme/base"))

    assert weights.tensors == {
        "a.weight": StoredTensor("BF16", (8, 4), "model.safetensors"),
        "a.bias": StoredTensor("F32", (8,), "model.safetensors"),
    }
    assert weights.parameters == 40
    assert dict(weights.dtypes) == {"BF16": 32, "F32": 8}


def test_shards_are_read_together(seeded: Seeded) -> None:
    shards = {
        f"model-0000{number}-of-00003.safetensors": _safetensors(**{f"layer.{number}": ("U8", [number, 10])})
        for number in (1, 2, 3)
    }
    seeded.seed("acme/base", {**CONFIG, **shards, **_index(**{f"layer.{n}": name for n, name in enumerate(shards, 1)})})

    weights = seeded.hub.inspect(seeded.hub.resolve("acme/base"))

    assert weights.parameters == 60
    assert weights.tensors["layer.2"].file == "model-00002-of-00003.safetensors"


def test_a_header_larger_than_the_first_request_is_read_whole(seeded: Seeded) -> None:
    many: dict[str, tuple[str, list[int]]] = {f"layer.{number}.weight": ("U8", [1]) for number in range(2000)}
    content = _safetensors(**many)
    assert struct.unpack("<Q", content[:8])[0] > 100_001
    seeded.seed("acme/base", {**CONFIG, "model.safetensors": content})

    assert seeded.hub.inspect(seeded.hub.resolve("acme/base")).parameters == 2000


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"short",
        struct.pack("<Q", 2**62) + b"{}",
        struct.pack("<Q", 4) + b"{{{{",
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 13) + b'{"w":{"a":1}}',
        struct.pack("<Q", 7) + b'{"w":1}',
    ],
    ids=["empty", "short", "huge", "not-json", "list", "no-dtype", "number"],
)
def test_a_damaged_header_is_named(seeded: Seeded, content: bytes) -> None:
    seeded.seed("acme/base", {**CONFIG, "model.safetensors": content})

    with pytest.raises(InvalidWeightsError, match="acme/base"):
        seeded.hub.inspect(seeded.hub.resolve("acme/base"))


def test_of_a_tensor_in_two_files_the_later_counts_as_for_stock_loaders(seeded: Seeded) -> None:
    files = {"a.safetensors": _safetensors(w=("U8", [1])), "b.safetensors": _safetensors(w=("U8", [2]), x=("U8", [1]))}
    seeded.seed("acme/base", {**CONFIG, **files, **_index(w="a.safetensors", x="b.safetensors")})

    assert seeded.hub.inspect(seeded.hub.resolve("acme/base")).tensors["w"].shape == (2,)


def test_a_tensor_that_the_index_names_and_no_file_holds_is_named(seeded: Seeded) -> None:
    files = {"a.safetensors": _safetensors(w=("U8", [1]))}
    seeded.seed("acme/base", {**CONFIG, **files, **_index(w="a.safetensors", x="a.safetensors")})

    with pytest.raises(InvalidWeightsError, match=r"places x in a\.safetensors"):
        seeded.hub.inspect(seeded.hub.resolve("acme/base"))


def test_the_parts_of_an_embedding_model_are_known(seeded: Seeded) -> None:
    modules = [{"path": "1_Pooling", "type": "sentence_transformers.models.Pooling"}]
    files = {"model.safetensors": b"x", "modules.json": json.dumps(modules).encode(), "1_Pooling/config.json": b"{}"}
    seeded.seed("acme/base", {**CONFIG, **files})

    model = seeded.hub.resolve("acme/base")

    assert model.modules == modules
    assert "1_Pooling/config.json" in {file.path for file in model.downloads}


def test_an_artifact_of_ours_is_told_from_other_models(seeded: Seeded) -> None:
    report = {"schema_version": 1, "environment": {"core_version": "1.0"}, "source": {"id": "acme/base"}}
    seeded.seed("acme/ours", {**CONFIG, "model.safetensors": b"x", "report.json": json.dumps(report).encode()})
    seeded.seed("acme/theirs", {**CONFIG, "model.safetensors": b"x", "report.json": b'{"source": "acme/base"}'})
    seeded.seed("acme/plain", {**CONFIG, "model.safetensors": b"x"})

    sources = {
        name: seeded.hub.artifact_source(seeded.hub.resolve(name))
        for name in ("acme/ours", "acme/theirs", "acme/plain")
    }

    assert sources == {"acme/ours": "acme/base", "acme/theirs": None, "acme/plain": None}


def test_a_configuration_that_is_no_object_counts_as_none(seeded: Seeded) -> None:
    seeded.seed("acme/base", {"config.json": b"[1, 2", "model.safetensors": b"x"})
    seeded.seed("acme/other", {"config.json": b"[1, 2]", "model.safetensors": b"x"})

    assert seeded.hub.resolve("acme/base").config is None
    assert seeded.hub.resolve("acme/other").config is None


@pytest.mark.parametrize(
    "card", [b"---\n: : :\n---\n", b"---\nlicense: [1, 2]\nlanguage: 3\ntags: x\n---\n", b"\xff\xfe", b"# hi"]
)
def test_a_strange_card_does_not_stop_a_model(seeded: Seeded, card: bytes) -> None:
    seeded.seed("acme/base", {**CONFIG, "model.safetensors": b"x", "README.md": card})

    model = seeded.hub.resolve("acme/base")

    assert model.license is None
    assert model.languages == ()
