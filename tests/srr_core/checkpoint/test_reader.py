"""Checkpoints read from strangers: right ones exactly, wrong ones refused with the file and the tensor."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from srr_core.checkpoint.header import read_header
from srr_core.checkpoint.header_text import Bounds, header_length, parse_header
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.checkpoint.writer import ShardPlan, copy_tensors, write_tensors
from srr_core.errors import CheckpointError, DamagedHeaderError

TENSORS = {
    "a.weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
    "b.weight": torch.arange(8, dtype=torch.bfloat16),
    "empty": torch.empty(0, 4),
    "scalar": torch.tensor(7, dtype=torch.int64),
}


def _raw(file: Path, header: Any, data: bytes = b"", *, length: int | None = None) -> Path:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    file.write_bytes((len(text) if length is None else length).to_bytes(8, "little") + text + data)
    return file


def _entry(dtype: str, shape: Any, begin: int, end: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [begin, end]}


def test_a_file_of_the_official_writer_is_read_exactly(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors", metadata={"format": "pt"})
    reader = CheckpointReader(tmp_path)
    assert set(reader) == set(TENSORS)
    for name, tensor in TENSORS.items():
        assert reader[name].dtype == tensor.dtype
        assert torch.equal(reader[name], tensor)


def test_our_writer_is_read_by_the_official_reader(tmp_path: Path) -> None:
    tensors = {**TENSORS, "strided": torch.arange(12.0).reshape(3, 4).mT}
    write_tensors(tmp_path / "x.safetensors", tensors, metadata={"format": "pt"})
    found = load_file(tmp_path / "x.safetensors")
    assert all(torch.equal(found[name], tensor) for name, tensor in tensors.items())


def test_shards_are_cut_by_size_and_read_through_their_index(tmp_path: Path) -> None:
    write_tensors(tmp_path / "all.safetensors", TENSORS)
    plan = ShardPlan(max_shard_bytes=24)
    for name, entry in read_header(tmp_path / "all.safetensors").items():
        plan.add(name, entry)
    (tmp_path / "out").mkdir()

    total = plan.write(tmp_path / "out")

    reader = CheckpointReader(tmp_path / "out")
    assert total == reader.total_bytes() == 24 + 16 + 8
    assert len(list((tmp_path / "out").glob("*.safetensors"))) == 2
    assert all(torch.equal(reader[name], tensor) for name, tensor in TENSORS.items())


def test_copied_tensors_keep_their_bytes(tmp_path: Path) -> None:
    write_tensors(tmp_path / "from.safetensors", TENSORS)
    entries = read_header(tmp_path / "from.safetensors")
    copy_tensors(tmp_path / "to.safetensors", {"renamed": entries["b.weight"]})
    assert torch.equal(load_file(tmp_path / "to.safetensors")["renamed"], TENSORS["b.weight"])


def _truncated(file: Path) -> None:
    save_file(TENSORS, file)
    file.write_bytes(file.read_bytes()[:-3])


def _extended(file: Path) -> None:
    save_file(TENSORS, file)
    file.write_bytes(file.read_bytes() + b"x")


DAMAGE: dict[str, tuple[Callable[[Path], object], str]] = {
    "empty file": (lambda file: file.write_bytes(b""), "is empty"),
    "huge header": (lambda file: _raw(file, {}, length=2**63), "its header claims"),
    "header beyond the file": (lambda file: _raw(file, {}, length=1000), "its header claims"),
    "no JSON": (lambda file: _raw(file, b"{nope"), "header is damaged"),
    "not UTF-8": (lambda file: _raw(file, b"\xff\xfe"), "header is damaged"),
    "a list": (lambda file: _raw(file, []), "not an object"),
    "nested too deep": (lambda file: _raw(file, b"[" * 100_000), "nested too deeply"),
    "a name that no store keeps": (lambda file: _raw(file, {"a\0": _entry("U8", [1], 0, 1)}, b"\0"), "a NUL character"),
    "a name that is no text": (lambda file: _raw(file, {"\ud800": _entry("U8", [1], 0, 1)}, b"\0"), "surrogate pair"),
    "a number beyond the file": (lambda file: _raw(file, {"a": _entry("U8", [2**80, 0], 0, 0)}), "impossible shape"),
    "a shape that is text": (lambda file: _raw(file, {"a": _entry("U8", "12", 0, 1)}, b"\0"), "damaged entry"),
    "three offsets": (
        lambda file: _raw(file, {"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 1]}}, b"\0"),
        "damaged entry",
    ),
    "named twice": (
        lambda file: _raw(file, b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{}}', b"\0"),
        "'a' is named twice",
    ),
    "unknown dtype": (lambda file: _raw(file, {"a": _entry("F7", [1], 0, 1)}, b"\0"), "tensor 'a'"),
    "missing field": (lambda file: _raw(file, {"a": {"dtype": "U8"}}), "tensor 'a'"),
    "negative shape": (lambda file: _raw(file, {"a": _entry("U8", [-1], 0, 1)}, b"\0"), "impossible shape"),
    "boolean shape": (lambda file: _raw(file, {"a": _entry("U8", [True], 0, 1)}, b"\0"), "impossible shape"),
    "shape and bytes differ": (lambda file: _raw(file, {"a": _entry("F32", [2], 0, 4)}, b"\0" * 4), "needs 8"),
    "overlap": (
        lambda file: _raw(file, {"a": _entry("U8", [2], 0, 2), "b": _entry("U8", [2], 1, 3)}, b"\0" * 3),
        "tensor 'b' overlaps",
    ),
    "gap": (lambda file: _raw(file, {"a": _entry("U8", [1], 1, 2)}, b"\0\0"), "leaves a gap"),
    "truncated": (_truncated, "truncated"),
    "trailing bytes": (_extended, "trailing bytes"),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_a_damaged_file_is_refused_with_its_name(kind: str, tmp_path: Path) -> None:
    make, message = DAMAGE[kind]
    file = tmp_path / "model.safetensors"
    make(file)
    with pytest.raises(CheckpointError, match=message) as caught:
        CheckpointReader(tmp_path)
    assert "model.safetensors" in str(caught.value)


def test_a_header_is_read_up_to_the_bounds_of_the_reader() -> None:
    text = json.dumps({name: _entry("U8", [0], 0, 0) for name in "abc"}).encode()
    with pytest.raises(DamagedHeaderError, match="declares 3 tensors; 2 are the most"):
        parse_header(text, 8 + len(text), file="x", bounds=Bounds(tensors=2))
    with pytest.raises(DamagedHeaderError, match="20 are the most that are read"):
        header_length((21).to_bytes(8, "little"), 100, file="x", bounds=Bounds(header_bytes=20))
    assert len(parse_header(text, 8 + len(text), file="x", bounds=Bounds(tensors=3))) == 3


BAD_INDEX = {
    "outside the folder": ({"a": "../secret.safetensors"}, "not a safetensors file of this folder"),
    "absolute": ({"a": "/etc/passwd"}, "not a safetensors file of this folder"),
    "pickle": ({"a": "pytorch_model.bin"}, "not a safetensors file of this folder"),
    "missing shard": ({"a": "gone.safetensors"}, "which is missing"),
    "tensor elsewhere": ({"zzz": "one.safetensors"}, "does not hold it"),
    "not a map": (["a"], "no weight_map"),
    "not a name": ({"a": 3}, "no weight_map"),
}


@pytest.mark.parametrize("kind", BAD_INDEX)
def test_a_bad_index_is_refused(kind: str, tmp_path: Path) -> None:
    weight_map, message = BAD_INDEX[kind]
    save_file(TENSORS, tmp_path / "one.safetensors")
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=message):
        CheckpointReader(tmp_path)


def test_a_folder_with_pickles_only_is_refused(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(CheckpointError, match="only safetensors checkpoints are read"):
        CheckpointReader(tmp_path)


def test_an_unknown_tensor_is_a_clear_error(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="'nope' is not in the checkpoint"):
        CheckpointReader(tmp_path)["nope"]


def test_a_file_cut_after_it_was_opened_is_a_clear_error(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file({"a": torch.zeros(100)}, file)
    reader = CheckpointReader(tmp_path)
    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(CheckpointError, match="'a' is cut off"):
        reader["a"]


@settings(
    max_examples=150, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_no_change_of_bytes_crashes_the_reader(data: st.DataObject, tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(TENSORS, file)
    content = bytearray(file.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    file.write_bytes(bytes(content[: data.draw(st.integers(0, len(content)))]))
    try:
        reader = CheckpointReader(tmp_path)
        sizes = {name: reader[name].nbytes for name in reader}
    except CheckpointError:
        return
    assert sum(sizes.values()) <= len(content)
