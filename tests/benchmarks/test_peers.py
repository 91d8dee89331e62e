"""Peers of the frontier: environments made once, rows in the table, and reasons where there is no row."""

import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks import frontier
from benchmarks.peers import PEERS
from benchmarks.peers.environments import PeerError, environment, pinned, ran
from benchmarks.peers.peer import Answer, Peer, quantized
from examples import DEMO_MODEL, EVALUATION_TEXT
from srr_core.checkpoint.reader import CheckpointReader

CUTS_MANTISSAS = """
import json, shutil, sys
from pathlib import Path

task = json.loads(Path(sys.argv[1]).read_text())
output = Path(task["output"])
shutil.copytree(task["model"], output)
file = output / "model.safetensors"
data = bytearray(file.read_bytes())
size = int.from_bytes(data[:8], "little")
header = json.loads(data[8 : 8 + size])
cut = bytes(byte & (256 - 2 ** task["settings"]["cut"]) for byte in range(256))
for layer in task["layers"]:
    begin, end = (8 + size + place for place in header[layer + ".weight"]["data_offsets"])
    data[begin:end:2] = data[begin:end:2].translate(cut)
file.write_bytes(data)
(output / "peer.json").write_text(json.dumps({"bits": 16 - task["settings"]["cut"], "seconds": 7}))
"""
"""A peer that takes bits off the mantissas of bf16 weights; the standard library is all it needs."""


@pytest.fixture
def peer(tmp_path: Path) -> Peer:
    """Rounds with a program on disk, in an environment without packages."""
    program = tmp_path / "cutting_peer.py"
    program.write_text(CUTS_MANTISSAS)
    return Peer(title="Cutting 1.0", pins=(), requirements=(), program=program, classes={4: {"cut": 5}, 3: {"cut": 6}})


@pytest.fixture
def evaluation(tmp_path: Path) -> Path:
    """Return a few windows of the bundled text, so that a row is measured in seconds."""
    text = tmp_path / "evaluation.txt"
    text.write_text(EVALUATION_TEXT.read_text(encoding="utf-8")[:3000], encoding="utf-8")
    return text


def failing(peer: Peer, text: str) -> Peer:
    program = peer.program.with_name("failing_peer.py")
    program.write_text(text)
    return replace(peer, title="Failing 1.0", program=program)


def ask(peer: Peer, bits: int, folder: Path, layers: list[str]) -> Answer:
    places = {"environments": folder / "environments", "output": folder / "dense"}
    return quantized(peer, bits, source=DEMO_MODEL, layers=layers, windows=[[1, 2]], **places)


def table(capsys: pytest.CaptureFixture[str], peers: dict[str, Peer], *arguments: str) -> list[list[str]]:
    frontier.main(["--class", "4", *arguments], peers=peers)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[1:]]


def test_a_peer_is_a_row_of_its_class(
    peer: Peer, evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--only-peers", "--environments", str(tmp_path / "environments"), "--evaluation-text", str(evaluation)]
    [[name, bits, divergence, perplexity, seconds]] = table(capsys, {"cutting": peer}, *options, "--with-peers")
    assert (name, bits, seconds) == ("Cutting 1.0", "11.00", "7")
    assert 0.0001 < float(divergence) < 0.05
    assert 20 < float(perplexity) < 80


def test_a_peer_that_fails_is_one_line_and_the_next_one_runs(
    peer: Peer, evaluation: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = failing(peer, "print('much')\nraise RuntimeError('no kernel | for this machine')\n")
    options = ["--only-peers", "--environments", str(tmp_path / "environments"), "--evaluation-text", str(evaluation)]
    first, second = table(capsys, {"failing": broken, "cutting": peer}, *options, "--with-peers", "failing", "cutting")
    reason = "did not run: RuntimeError: no kernel / for this machine"
    assert first == ["Failing 1.0", "–", "–", reason, "–"]
    assert second[0] == "Cutting 1.0"


def test_a_peer_whose_model_cannot_be_read_is_one_line(peer: Peer, evaluation: Path, tmp_path: Path) -> None:
    hollow = failing(peer, CUTS_MANTISSAS + "\nfile.write_bytes(data[:100])\n")
    row = frontier.peer_line(hollow, 4, [EVALUATION_TEXT], evaluation, tmp_path / "environments")
    assert row.startswith("| Failing 1.0 | – | – | did not run: ")
    assert "model.safetensors" in row
    assert row.count("|") == 6


def test_only_the_layers_of_the_task_change(peer: Peer, tmp_path: Path) -> None:
    layer = "model.layers.0.mlp.up_proj"
    answer = ask(peer, 4, tmp_path, [layer])
    source, dense = CheckpointReader(DEMO_MODEL), CheckpointReader(answer.folder)
    assert [name for name in source if not source[name].equal(dense[name])] == [f"{layer}.weight"]


def test_an_environment_is_made_once_and_anew_after_an_interruption(tmp_path: Path) -> None:
    python = environment(tmp_path, "none", [])
    place = python.parents[1]
    (place / "mark").touch()
    assert environment(tmp_path, "none", []) == python
    assert (place / "mark").exists()
    (place / ".ready").unlink()
    assert environment(tmp_path, "none", []) == python
    assert not (place / "mark").exists()
    ran([str(python), "-c", "import sys; assert sys.prefix != sys.base_prefix"], seconds=60)


@pytest.mark.slow  # an environment with pip
def test_packages_that_cannot_be_installed_are_a_reason_and_leave_no_environment(tmp_path: Path) -> None:
    place = environment(tmp_path, "none", []).parents[1]
    with pytest.raises(
        PeerError, match=r"Could not find a version that satisfies the requirement no-such-package==1\.0"
    ):
        environment(tmp_path, "none", ["--no-index", "no-such-package==1.0"])
    assert [ready.parent for ready in tmp_path.glob("*/.ready")] == [place]


def test_an_environment_sees_neither_our_packages_nor_our_modules(tmp_path: Path) -> None:
    python = str(environment(tmp_path, "none", []))
    with pytest.raises(PeerError, match="No module named 'torch'"):
        ran([python, "-c", "import torch"], seconds=60)
    with pytest.raises(PeerError, match="No module named 'srr_core'"):
        ran([python, "-c", "import srr_core"], seconds=60)


def test_a_class_that_a_peer_has_no_integers_for_is_said_before_anything_is_made(peer: Peer, tmp_path: Path) -> None:
    with pytest.raises(PeerError, match="it has no 2-bit integers"):
        ask(peer, 2, tmp_path, [])
    assert not (tmp_path / "environments").exists()


@pytest.mark.parametrize("answer", ["", "[]", '{"bits": "many", "seconds": 1}', '{"bits": 3}'])
def test_an_answer_that_says_nothing_is_a_reason(peer: Peer, tmp_path: Path, answer: str) -> None:
    silent = failing(peer, CUTS_MANTISSAS + f"\n(output / 'peer.json').write_text({answer!r})\n")
    with pytest.raises(PeerError, match="its answer cannot be read"):
        ask(silent, 4, tmp_path, [])


def test_a_peer_that_hangs_is_ended() -> None:
    with pytest.raises(PeerError, match="it took longer than 0 s"):
        ran([sys.executable, "-c", "while True: pass"], seconds=0.01)


@pytest.mark.parametrize("name", PEERS)
def test_every_peer_has_a_program_that_imports_nothing_of_ours(name: str) -> None:
    peer = PEERS[name]
    text = peer.program.read_text()
    assert "from peer_task import" in text
    assert not [
        line for line in text.splitlines() if line.startswith(("from srr_core", "from benchmarks", "import srr"))
    ]
    assert all(settings["bits"] == bits for bits, settings in peer.classes.items())
    assert all(pin.startswith(f"{wanted}==") for pin, wanted in zip(pinned(peer.pins), peer.pins, strict=True))
