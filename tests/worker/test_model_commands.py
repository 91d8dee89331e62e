"""`srr inspect`, `srr export` and `srr doctor`, as a user types them."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from service.cli import app
from service.commands.output import CommandError
from service.hub.errors import ModelNotFoundError
from service.hub.metadata import HuggingFaceMetadata
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, override
from tests.pico import build_checkpoint, write_text
from worker.hub import HuggingFaceHub

SMALL = {"rank": 4, "calibration": {"num_sequences": 4, "sequence_length": 16, "batch_size": 2}, "evaluation": None}


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("artifact")
    source = build_checkpoint(folder / "source")
    compress(source, override(PRESETS["srr"], SMALL), folder / "out", calibration_text=write_text(folder / "text.txt"))
    return folder / "out"


def _run(*arguments: str) -> str:
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=True)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.stdout


def test_inspect_reads_no_weights(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    header_only = source / "model.safetensors"
    size = header_only.stat().st_size
    start = 8 + int.from_bytes(header_only.read_bytes()[:8], "little")
    with header_only.open("r+b") as stream:
        stream.truncate(start)
        stream.truncate(size)

    facts = json.loads(_run("inspect", str(source), "--set", "rank=4", "--json"))

    assert facts["num_layers"] == 14
    assert facts["header_bytes"] == start
    assert facts["bits_per_weight_total"] > facts["bits_per_weight_quantized"] == 3.25
    assert {row["verdict"] for row in facts["compatibility"]} <= {"yes", "no", "untested"}


def test_inspect_judges_the_gguf_export_by_the_model(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    config["rope_parameters"] = {"rope_type": "linear", "factor": 2.0, "rope_theta": 10000.0}
    (source / "config.json").write_text(json.dumps(config))

    facts = json.loads(_run("inspect", str(source), "--set", "rank=4", "--json"))

    (llama_cpp,) = [row for row in facts["compatibility"] if row["runtime"].startswith("llama.cpp")]
    assert (facts["architecture"], facts["rope_type"]) == ("LlamaForCausalLM", "linear")
    assert (llama_cpp["verdict"], "type linear" in llama_cpp["reason"]) == ("no", True)


def test_the_estimated_size_is_that_of_the_artifact(artifact: Path) -> None:
    facts = json.loads(_run("inspect", str(artifact.parent / "source"), "--set", "rank=4", "--json"))
    report = json.loads((artifact / "report.json").read_text())
    assert facts["source_bytes"] == report["size_bytes"]["source"]
    assert facts["bits_per_weight_total"] == pytest.approx(report["bits_per_weight"]["total"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--set", "rank=4"), "in the compressed layers (3.25 without L·R of rank 4)\n"),
        (("--set", "rank=0"), "3.25 in the compressed layers\n"),
        (("--target-bits", "3"), "3.00 in the compressed layers (on the mean; a search gives each layer its own)\n"),
        (("--target-kl", "0.1"), "own grid; a search takes what a divergence of 0.1 nats needs)\n"),
    ],
)
def test_inspect_says_what_bits_are_made_of(tmp_path: Path, options: tuple[str, ...], words: str) -> None:
    source = build_checkpoint(tmp_path / "source")

    assert words in _run("inspect", str(source), *options)


def test_inspect_says_why_a_model_is_refused(tmp_path: Path) -> None:
    source = build_checkpoint(tmp_path / "source")
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps({**config, "architectures": ["Y"], "auto_map": {"AutoModel": "x.Y"}})
    )
    with pytest.raises(CommandError, match="cannot be compressed: Y needs code from its repository"):
        _run("inspect", str(source))


@pytest.mark.parametrize("target", ["merged", "adapter"])
def test_export_writes_a_new_folder_once(target: str, artifact: Path, tmp_path: Path) -> None:
    destination = tmp_path / "out"
    assert str(destination) in _run("export", str(artifact), str(destination), "--to", target)
    assert any(destination.rglob("*.safetensors"))
    with pytest.raises(Exception, match="exists"):
        _run("export", str(artifact), str(destination), "--to", target)


def test_compress_leaves_a_card_beside_the_report(tmp_path: Path) -> None:
    source, text = build_checkpoint(tmp_path / "source"), write_text(tmp_path / "text.txt")
    (source / "README.md").write_text("---\nlicense: mit\nlanguage: [de]\ntags: [poetry]\n---\n")
    recipe = tmp_path / "recipe.json"
    recipe.write_text(json.dumps({"name": "srr", **SMALL}))
    srr = [sys.executable, "-m", "service.cli", "compress", str(source), str(tmp_path / "out"), "--recipe", str(recipe)]

    done = subprocess.run([*srr, "--calibration-text", str(text)], check=True, capture_output=True, text=True)

    stages = {"plan", "calibrate", "compress", "assemble", "verify", "evaluate"}
    assert [line for line in done.stderr.split() if line in stages][:4] == ["plan", "compress", "assemble", "verify"]
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model_relation: quantized" in card
    assert "Install `peft`" in card
    assert 'from_pretrained("./out")' in card
    assert "license: mit" in card
    assert "- de" in card
    assert "- poetry" in card


def test_an_unknown_export_names_those_there_are(artifact: Path, tmp_path: Path) -> None:
    with pytest.raises(CommandError, match="choose one of merged, adapter, gptq, gguf"):
        _run("export", str(artifact), str(tmp_path / "out"), "--to", "onnx")


def test_a_model_that_is_found_nowhere_is_said_to_have_been_looked_for_in_both_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def absent(*_: object, **__: object) -> None:
        raise ModelNotFoundError("no model acme/typo")

    monkeypatch.setattr(HuggingFaceMetadata, "resolve", absent)
    monkeypatch.setattr(HuggingFaceHub, "resolve", absent)
    for arguments in (("inspect", "acme/typo"), ("compress", "acme/typo", str(tmp_path / "out"))):
        with pytest.raises(CommandError, match="acme/typo is no folder here, and as a model of the Hub: no model") as e:
            _run(*arguments)
        assert e.value.exit_code == 2
    assert not any(tmp_path.iterdir())


def test_doctor_and_export_speak_json_as_well(artifact: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"

    doctor = json.loads(_run("doctor", "--json"))
    written = json.loads(_run("export", str(artifact), str(out), "--to", "adapter", "--json"))

    assert {path["path"] for path in doctor["dispatch"]} >= {"int4pack", "tiled", "plain"}
    assert doctor["packages"]["torch"] == torch.__version__
    assert (written["destination"], written["format"]) == (str(out), "adapter")


def test_doctor_names_every_path_of_the_dispatch_table() -> None:
    text = _run("doctor")
    assert {"int4pack", "tiled", "lattice", "plain"} <= set(text.replace("│", " ").split())
