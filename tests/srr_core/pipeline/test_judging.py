"""The one vector of an embedding model is compared by the files that lie beside each of the two."""

import json
from pathlib import Path

import pytest
import torch

from srr_core.errors import VerificationError
from srr_core.pipeline.judging import compare_pooled
from srr_core.verification.reload import LogitCheck

STATES = torch.randn(1, 8, 16, generator=torch.Generator().manual_seed(0))
CHECK = LogitCheck(difference=0.0, tolerance=1e-5, found=STATES + 1e-7, wanted=STATES)


def _model(folder: Path, **pooling: object) -> Path:
    (folder / "1_Pooling").mkdir(parents=True)
    (folder / "modules.json").write_text(json.dumps([{"path": "1_Pooling", "type": "models.Pooling"}]))
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def test_vectors_that_are_pooled_alike_are_as_close_as_their_hidden_states(tmp_path: Path) -> None:
    source, artifact = (_model(tmp_path / name, pooling_mode_lasttoken=True) for name in ("source", "artifact"))
    (note,) = compare_pooled(source, artifact, CHECK)
    assert note.startswith("pooled vectors (lasttoken) within ")


def test_an_artifact_that_pools_otherwise_is_refused(tmp_path: Path) -> None:
    source = _model(tmp_path / "source", pooling_mode_lasttoken=True)
    with pytest.raises(VerificationError, match="another vector"):
        compare_pooled(source, _model(tmp_path / "artifact", pooling_mode_cls_token=True), CHECK)


def test_a_pooling_that_is_not_known_is_said_and_ends_no_run(tmp_path: Path) -> None:
    source, artifact = (_model(tmp_path / name, pooling_mode="of a later year") for name in ("source", "artifact"))
    (note,) = compare_pooled(source, artifact, CHECK)
    assert note.startswith("pooled vectors were not compared: ")


def test_a_model_without_such_files_says_nothing(tmp_path: Path) -> None:
    assert compare_pooled(tmp_path, tmp_path, CHECK) == ()
