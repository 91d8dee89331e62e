"""Whatever bytes a checkpoint is made of, the reader returns what the official one does or refuses; it stays inside."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from srr_core.checkpoint.header import DTYPES
from srr_core.checkpoint.index import INDEX_NAME, SINGLE_NAME
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import CheckpointError

# The same examples every time, so that CI does not fail by luck.
BOUNDED = settings(deadline=None, derandomize=True, suppress_health_check=[HealthCheck.function_scoped_fixture])
SHARDS = ("one.safetensors", "two.safetensors")
OUTSIDE = (
    "../secret.safetensors",
    "/etc/passwd",
    "sub/one.safetensors",
    "..",
    ".",
    "",
    "one.safetensors/..",
    "\0",
    "~",
)
FUZZ_RUNS = 100_000
FUZZ_SECONDS = 30

_watched: list[list[str]] = []


def _note(event: str, values: tuple[Any, ...]) -> None:
    if _watched and event == "open" and isinstance(values[0], str | os.PathLike):
        _watched[-1].append(os.path.normpath(os.fspath(values[0])))


sys.addaudithook(_note)  # cannot be removed again; it notes nothing outside of `opened_files`


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Note every file that Python opens inside the block."""
    _watched.append([])
    try:
        yield _watched[-1]
    finally:
        _watched.pop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two shards, and a secret beside the folder that must never be read."""
    inside = tmp_path / "checkpoint"
    inside.mkdir()
    for number, shard in enumerate(SHARDS):
        save_file({f"t{number}": torch.arange(4.0) + number}, inside / shard)
    save_file({"t0": torch.zeros(4)}, tmp_path / "secret.safetensors")
    return inside


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**70), 2**70),
        st.floats(),
        st.text(max_size=8),
        st.sampled_from(OUTSIDE),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=5), inner, max_size=3)),
    max_leaves=8,
)
WEIGHT_MAP = st.one_of(
    JSON,
    st.dictionaries(
        st.sampled_from(["t0", "t1", "t2"]), st.one_of(st.sampled_from([*SHARDS, *OUTSIDE]), JSON), max_size=3
    ),
)


@settings(parent=BOUNDED, max_examples=150)
@given(weight_map=WEIGHT_MAP, rest=st.dictionaries(st.sampled_from(["metadata", "x"]), JSON, max_size=2))
def test_no_index_leads_out_of_the_folder(weight_map: Any, rest: Any, folder: Path) -> None:
    (folder / INDEX_NAME).write_text(json.dumps({"weight_map": weight_map, **rest}))
    found = {}
    with opened_files() as opened, suppress(CheckpointError):
        reader = CheckpointReader(folder)
        found = {name: reader[name] for name in reader}
    assert all(torch.equal(tensor, torch.arange(4.0) + int(name[1:])) for name, tensor in found.items())
    assert [path for path in opened if not path.startswith(f"{folder}{os.sep}")] == []


@settings(parent=BOUNDED, max_examples=100)
@given(text=st.one_of(st.binary(max_size=64), st.text(max_size=64).map(str.encode)))
def test_an_index_of_any_bytes_is_refused(text: bytes, folder: Path) -> None:
    (folder / INDEX_NAME).write_bytes(text)
    with pytest.raises(CheckpointError, match=INDEX_NAME):
        CheckpointReader(folder)


NUMBERS = st.one_of(st.integers(0, 12), st.sampled_from([-1, 2**31, 2**62, 2**64, 2**70]))
ENTRY = st.one_of(
    st.fixed_dictionaries(
        {
            "dtype": st.one_of(st.sampled_from([*DTYPES, "F4", ""]), JSON),
            "shape": st.one_of(st.lists(NUMBERS, max_size=3), JSON),
            "data_offsets": st.one_of(st.lists(NUMBERS, min_size=2, max_size=2), st.lists(NUMBERS, max_size=3), JSON),
        }
    ),
    JSON,
)
PLAUSIBLE = st.lists(
    st.tuples(st.sampled_from(sorted(DTYPES)), st.lists(st.integers(0, 3), max_size=3)), min_size=1, max_size=3
)


@settings(parent=BOUNDED, max_examples=200)
@given(header=st.dictionaries(st.sampled_from(["a", "b", "c"]), ENTRY, max_size=3), data=st.binary(max_size=16))
def test_a_hostile_header_is_refused_or_read_like_the_official_reader_does(
    header: Any, data: bytes, tmp_path: Path
) -> None:
    _same_as_official(tmp_path, json.dumps(header).encode(), data)


@settings(parent=BOUNDED, max_examples=200)
@given(tensors=PLAUSIBLE, move=st.integers(-2, 2), extra=st.integers(-2, 2), which=st.integers(0, 5))
def test_a_header_that_is_off_by_little_is_refused_or_read_like_the_official_reader_does(
    tensors: list[tuple[str, list[int]]], move: int, extra: int, which: int, tmp_path: Path
) -> None:
    header, offsets, position = {}, [], 0
    for number, (dtype, shape) in enumerate(tensors):
        size = DTYPES[dtype].itemsize * int(torch.Size(shape).numel())
        offsets += [position, position + size]
        position += size
        header[f"t{number}"] = {"dtype": dtype, "shape": shape, "data_offsets": offsets[-2:]}
    offsets[which % len(offsets)] += move
    for number, entry in enumerate(header.values()):
        entry["data_offsets"] = offsets[2 * number : 2 * number + 2]
    _same_as_official(tmp_path, json.dumps(header).encode(), bytes(range(256))[: max(0, position + extra)])


def _same_as_official(folder: Path, header: bytes, data: bytes) -> None:
    file = folder / SINGLE_NAME
    file.write_bytes(len(header).to_bytes(8, "little") + header + data)
    try:
        reader = CheckpointReader(folder)
    except CheckpointError:
        return
    official = load_file(file)
    assert official.keys() == set(reader)
    for name, tensor in official.items():
        found = reader[name]
        assert (found.dtype, found.shape) == (tensor.dtype, tensor.shape)
        assert found.flatten().view(torch.uint8).tolist() == tensor.flatten().view(torch.uint8).tolist()


SEEDS = {
    "single": b"\x00" + (VALID := b"\x38" + bytes(7) + b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}   \0'),
    "shard": b"\x40" + VALID,
    "framed": b"\x80" + VALID[8:-1] + b"\0\0",
    "index": b'\xc0{"weight_map": {"a": "shard.safetensors"}}',
    "outside": b'\xc0{"weight_map": {"a": "../secret.safetensors"}}',
}
WORDS = (
    '"dtype"',
    '"shape"',
    '"data_offsets"',
    '"weight_map"',
    '"BF16"',
    '"I64"',
    "../",
    ".safetensors",
    "[0,0]",
    "null",
)


@pytest.mark.slow
@pytest.mark.skipif(find_spec("atheris") is None, reason="atheris publishes no wheel for this Python or machine")
def test_fuzzing_guided_by_coverage_finds_nothing(tmp_path: Path) -> None:
    """Bounded by runs and by time, whichever ends first; the seed is fixed."""
    checkpoint, corpus, words = tmp_path / "checkpoint", tmp_path / "corpus", tmp_path / "words"
    checkpoint.mkdir()
    corpus.mkdir()
    for name, seed in SEEDS.items():
        (corpus / name).write_bytes(seed)
    words.write_text("".join(json.dumps(word) + "\n" for word in WORDS))
    bounds = [f"-runs={FUZZ_RUNS}", f"-max_total_time={FUZZ_SECONDS}", "-timeout=10", "-seed=1", "-max_len=512"]
    command = [sys.executable, str(Path(__file__).with_name("fuzz_target.py")), str(checkpoint), str(corpus)]
    root = Path(__file__).parents[3]
    outcome = subprocess.run(
        [*command, *bounds, f"-dict={words}", f"-artifact_prefix={tmp_path}/"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(root), *sys.path])},
    )
    assert outcome.returncode == 0, outcome.stderr[-3000:]
    assert "Done " in outcome.stderr
