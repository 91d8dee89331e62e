"""Tokenizers are written as llama.cpp needs them to split text the same way, or refused."""

import json

import gguf
import pytest

from srr_core.errors import ExportError
from srr_core.exporters.export import export
from srr_core.recipe import GGUFSpec, MXIntSpec
from tests.pico import byte_tokenizer
from tests.srr_core.exporters.artifacts import build_artifact, pico_llama
from tests.srr_core.exporters.sentencepiece import sentencepiece_tokenizer


def exported(folder, tokenizer, *, vocab=None):
    model = pico_llama(biases=False, vocab=vocab or len(tokenizer))
    built = build_artifact(folder / "a", model, MXIntSpec(num_bits=4))
    tokenizer.save_pretrained(built.directory)
    export(built.directory, folder / "g", GGUFSpec())
    return gguf.GGUFReader(folder / "g" / "model.gguf").fields


def test_pieces_score_by_the_rank_of_their_merges(tmp_path):
    tokenizer = sentencepiece_tokenizer()
    fields = exported(tmp_path, tokenizer, vocab=len(tokenizer) + 5)
    tokens, scores, types = (fields[f"tokenizer.ggml.{name}"].contents() for name in ("tokens", "scores", "token_type"))
    first, second = (tokens.index(piece) for piece in ("th", "the"))
    assert scores[first] > scores[second] > scores[tokens.index("<0x41>")]
    kinds = [types[tokens.index(name)] for name in ("<unk>", "<s>", "<0x41>", "th")]
    assert kinds == [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.BYTE, gguf.TokenType.NORMAL]
    assert types[-5:] == [gguf.TokenType.UNUSED] * 5
    assert fields["tokenizer.ggml.add_space_prefix"].contents()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda merges: [merge for merge in merges if merge != ("t", "he")], "leave out a way to make 'the'"),
        (lambda merges: [*(merge for merge in merges if merge != ("t", "he")), ("t", "he")], "'the' is merged at two"),
    ],
    ids=["a way is missing", "two ranks"],
)
def test_merges_that_scores_cannot_tell_are_refused(tmp_path, change, reason):
    with pytest.raises(ExportError, match=reason):
        exported(tmp_path, sentencepiece_tokenizer(changed_merges=change))
    assert not (tmp_path / "g").exists()


def test_vocabulary_without_merges_is_refused(tmp_path):
    with pytest.raises(ExportError, match="has no merges"):
        exported(tmp_path, byte_tokenizer())


def test_text_that_is_changed_first_is_refused(tmp_path):
    tokenizer = sentencepiece_tokenizer()
    built = build_artifact(tmp_path / "a", pico_llama(biases=False, vocab=len(tokenizer)), MXIntSpec(num_bits=4))
    tokenizer.save_pretrained(built.directory)
    file = built.directory / "tokenizer.json"
    written = json.loads(file.read_text("utf-8"))
    written["normalizer"]["normalizers"].append({"type": "Lowercase"})
    file.write_text(json.dumps(written), encoding="utf-8")
    with pytest.raises(ExportError, match="no counterpart of this way of preparing text"):
        export(built.directory, tmp_path / "g", GGUFSpec())
