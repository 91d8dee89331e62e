"""The tokenizer of a model as GGUF metadata, refused where llama.cpp would split text differently."""

import json
from pathlib import Path
from typing import Any

import gguf
from gguf.vocab import LlamaHfVocab

from srr_core.checkpoint.index import read_json
from srr_core.errors import ExportError

TOKENIZER_FILE = "tokenizer.json"
_CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_PRE_TOKENIZERS = {
    _CONTRACTIONS + r"\p{N}{1,3}" + _REST: "llama-bpe",
    _CONTRACTIONS + r"\p{N}" + _REST: "qwen2",
}
"""Splitting patterns, by the name llama.cpp gives them."""


def add_tokenizer(writer: gguf.GGUFWriter, directory: Path, vocab_size: int) -> None:
    """Write vocabulary, merges, special tokens and chat template.

    Raises:
        ExportError: no tokenizer.json, or one that llama.cpp has no name for.
    """
    if not (directory / TOKENIZER_FILE).exists():
        raise ExportError(f"{TOKENIZER_FILE} is missing; llama.cpp needs the tokenizer inside the file")
    tokenizer = read_json(directory / TOKENIZER_FILE)
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise ExportError(f"{TOKENIZER_FILE}: the GGUF export takes BPE tokenizers, not {model.get('type')}")
    if model.get("byte_fallback"):
        _add_sentencepiece(writer, directory)
    else:
        _add_byte_level(writer, tokenizer, vocab_size)
    special = gguf.SpecialVocab(directory, load_merges=not model.get("byte_fallback"), n_vocab=vocab_size)
    special.add_to_gguf(writer, quiet=True)


def _add_byte_level(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], vocab_size: int) -> None:
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens", [])}
    by_id = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    by_id |= {index: entry["content"] for index, entry in added.items()}
    if by_id and max(by_id) >= vocab_size:
        raise ExportError(f"{TOKENIZER_FILE}: holds token {max(by_id)}, the model has {vocab_size} embeddings")
    types = []
    for index in range(vocab_size):
        if index in added:
            types.append(gguf.TokenType.CONTROL if added[index]["special"] else gguf.TokenType.USER_DEFINED)
        else:
            types.append(gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_pre_tokenizer(tokenizer.get("pre_tokenizer") or {}))
    writer.add_token_list([by_id.get(index, f"[PAD{index}]") for index in range(vocab_size)])
    writer.add_token_types(types)


def _pre_tokenizer(entry: dict[str, Any]) -> str:
    steps = entry.get("pretokenizers", [entry])
    patterns = [step.get("pattern", {}).get("Regex", "") for step in steps if step.get("type") == "Split"]
    levels = [step for step in steps if step.get("type") == "ByteLevel"]
    if not patterns and len(levels) == len(steps) == 1 and levels[0].get("use_regex", True):
        return "gpt-2"
    if len(patterns) == 1 and patterns[0] in _PRE_TOKENIZERS:
        return _PRE_TOKENIZERS[patterns[0]]
    raise ExportError(
        f"{TOKENIZER_FILE}: llama.cpp has no name known to us for this way of splitting text: {json.dumps(entry)[:200]}"
    )


def _add_sentencepiece(writer: gguf.GGUFWriter, directory: Path) -> None:
    vocabulary = LlamaHfVocab(directory)
    tokens = list(vocabulary.all_tokens())
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([text for text, _, _ in tokens])
    writer.add_token_scores([score for _, score, _ in tokens])
    writer.add_token_types([kind for _, _, kind in tokens])
