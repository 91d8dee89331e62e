"""Embeddings: pooling as sentence-transformers files say, and measures that are exact where they must be."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy import stats
from transformers import AutoModel, AutoTokenizer

from srr_core.errors import EvaluationError
from srr_core.evaluators.similarity.embed import embed, read_sentences
from srr_core.evaluators.similarity.measures import fidelity, human_correlation, retrieval_agreement
from srr_core.evaluators.similarity.pooling import Pooling, PoolingMode, pool, read_pooling
from tests.pico import build_checkpoint

HIDDEN = torch.tensor([[[1.0, 4.0], [3.0, 0.0], [9.0, 9.0]], [[9.0, 9.0], [1.0, 2.0], [5.0, -2.0]]])
MASK = torch.tensor([[1, 1, 0], [0, 1, 1]])


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("cls", [[1.0, 4.0], [1.0, 2.0]]),
        ("lasttoken", [[3.0, 0.0], [5.0, -2.0]]),
        ("mean", [[2.0, 2.0], [3.0, 0.0]]),
        ("max", [[3.0, 4.0], [5.0, 2.0]]),
        ("mean_sqrt_len_tokens", [[4 / 2**0.5, 4 / 2**0.5], [6 / 2**0.5, 0.0]]),
        ("weightedmean", [[7 / 3, 4 / 3], [11 / 3, -2 / 3]]),
    ],
)
def test_padding_on_either_side_is_not_pooled(mode: PoolingMode, expected: list[list[float]]) -> None:
    torch.testing.assert_close(pool(HIDDEN, MASK, Pooling((mode,), None)), torch.tensor(expected))


def test_several_ways_of_pooling_are_joined() -> None:
    found = pool(HIDDEN, MASK, Pooling(("cls", "max"), None))
    assert found[0].tolist() == [1.0, 4.0, 3.0, 4.0]


def _files(folder: Path, config: Any, *, modules: list[str] | None = None) -> Path:
    kinds = modules or ["Transformer", "Pooling", "Normalize"]
    paths = {"Transformer": "", "Pooling": "1_Pooling"}
    rows = [
        {"idx": i, "path": paths.get(kind, kind), "type": f"sentence_transformers.models.{kind}"}
        for i, kind in enumerate(kinds)
    ]
    (folder / "modules.json").write_text(json.dumps(rows))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(config))
    (folder / "sentence_bert_config.json").write_text(json.dumps({"max_seq_length": 12}))
    return folder


@pytest.mark.parametrize(
    ("config", "modes"),
    [
        ({"pooling_mode_cls_token": False, "pooling_mode_lasttoken": True, "include_prompt": True}, ("lasttoken",)),
        ({"pooling_mode_cls_token": True, "pooling_mode_max_tokens": True}, ("cls", "max")),
        ({"pooling_mode": "cls"}, ("cls",)),
        ({"word_embedding_dimension": 32}, ("mean",)),
    ],
)
def test_pooling_is_what_the_files_say(config: dict[str, Any], modes: tuple[str, ...], tmp_path: Path) -> None:
    assert read_pooling(_files(tmp_path, config)) == Pooling(modes, 12)  # type: ignore[arg-type]


def test_without_files_it_is_the_mean(tmp_path: Path) -> None:
    assert read_pooling(tmp_path) == Pooling(("mean",), None)


def test_a_module_that_is_left_out_is_named(tmp_path: Path) -> None:
    files = _files(tmp_path, {"pooling_mode": "mean"}, modules=["Transformer", "Pooling", "Dense"])
    assert read_pooling(files).notes == ("the module Dense behind the pooling is left out, for the source as well",)


@pytest.mark.parametrize(
    ("file", "text", "said"),
    [
        ("modules.json", "{", "cannot be read"),
        ("modules.json", "3", "no list of modules"),
        ("modules.json", '[{"type": "a.Pooling", "path": "../.."}]', "outside of the model"),
        ("1_Pooling/config.json", '{"pooling_mode": "magic"}', "'magic', which is unknown"),
        ("1_Pooling/config.json", '{"pooling_mode_magic_tokens": true}', "'pooling_mode_magic_tokens', which is"),
        ("1_Pooling/config.json", None, "is missing"),
    ],
)
def test_damaged_files_are_refused(file: str, text: str | None, said: str, tmp_path: Path) -> None:
    _files(tmp_path, {})
    if text is None:
        (tmp_path / file).unlink()
    else:
        (tmp_path / file).write_text(text)
    with pytest.raises(EvaluationError, match=said):
        read_pooling(tmp_path)


@torch.no_grad()
def test_embeddings_are_those_of_one_sentence_at_a_time(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "m", "BertForMaskedLM", dtype=torch.float32)
    model, tokenizer = AutoModel.from_pretrained(directory).eval(), AutoTokenizer.from_pretrained(directory)
    sentences = ["a river", "the harbour holds", "no"]
    found = embed(model, tokenizer, sentences, Pooling(("mean",), None), batch_size=3, max_length=32)
    for sentence, vector in zip(sentences, found, strict=True):
        mean = model(**tokenizer(sentence, return_tensors="pt")).last_hidden_state[0].mean(0)
        torch.testing.assert_close(vector, mean / mean.norm(), rtol=1e-4, atol=1e-5)


def test_a_model_with_a_head_is_embedded_by_its_body(tmp_path: Path) -> None:
    from transformers import AutoModelForMaskedLM

    directory = build_checkpoint(tmp_path / "m", "BertForMaskedLM", dtype=torch.float32)
    tokenizer, pooling = AutoTokenizer.from_pretrained(directory), Pooling(("cls",), None)
    body, whole = AutoModel.from_pretrained(directory), AutoModelForMaskedLM.from_pretrained(directory)
    vectors = [embed(m.eval(), tokenizer, ["a", "b c"], pooling, batch_size=2, max_length=8) for m in (body, whole)]
    torch.testing.assert_close(*vectors)


def _vectors(seed: int, count: int = 30) -> torch.Tensor:
    return torch.nn.functional.normalize(torch.randn(count, 8, generator=torch.Generator().manual_seed(seed)), dim=-1)


def test_a_model_is_faithful_to_itself() -> None:
    vectors = _vectors(0)
    found, agreement = fidelity(vectors, vectors), retrieval_agreement(vectors, vectors)
    assert (found.mean, found.minimum) == pytest.approx((1.0, 1.0), abs=1e-6)
    assert (agreement.top_overlap, agreement.first_agreement, agreement.neighbours) == (1.0, 1.0, 10)


def test_models_without_relation_agree_by_chance_only() -> None:
    found = retrieval_agreement(_vectors(0, 200), _vectors(1, 200))
    # Ten of 199 others by chance: 5 %; 2000 draws know it to half a point.
    assert found.top_overlap == pytest.approx(10 / 199, abs=0.02)


def test_cosines_are_between_the_same_sentences() -> None:
    source = torch.eye(3)
    compressed = torch.tensor([[1.0, 0, 0], [0, 0.6, 0.8], [0, 1.0, 0]])
    found = fidelity(source, compressed)
    assert found.mean == pytest.approx(1.6 / 3)
    assert found.minimum == 0.0


def test_correlation_with_people_is_spearmans() -> None:
    first, second, other = _vectors(0), _vectors(1), _vectors(2)
    scores = np.linspace(0, 5, 30)
    found = human_correlation((first, second), (first, other), scores)
    assert found.source == pytest.approx(stats.spearmanr((first * second).sum(-1).numpy(), scores)[0], abs=1e-6)
    assert found.compressed == pytest.approx(stats.spearmanr((first * other).sum(-1).numpy(), scores)[0], abs=1e-6)
    assert 0.1 < found.standard_error < 0.5


def test_sentences_are_cut_from_prose(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("= Title =\nThe ship left the port. It came back in 1887! No.\nThe ship left the port.\n")
    assert read_sentences(file, 5) == ["The ship left the port.", "It came back in 1887!"]


def test_a_text_without_sentences_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "text.txt"
    file.write_text("one two\n")
    with pytest.raises(EvaluationError, match="fewer than two sentences"):
        read_sentences(file, 5)
