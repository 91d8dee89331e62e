"""The tokenizer of a model as GGUF metadata, refused where llama.cpp would split text differently."""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf

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
_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_SPACE = "▁"
_UNREACHABLE_SCORE = -1e6
"""Below every rank: of tokens that no merge makes, such as bytes."""


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
        _add_sentencepiece(writer, tokenizer, vocab_size)
    else:
        _add_byte_level(writer, tokenizer, vocab_size)
    special = gguf.SpecialVocab(directory, load_merges=not model.get("byte_fallback"), n_vocab=vocab_size)
    special.add_to_gguf(writer, quiet=True)


def _add_byte_level(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], vocab_size: int) -> None:
    if not tokenizer["model"].get("merges"):
        raise ExportError(f"{TOKENIZER_FILE}: has no merges, without which llama.cpp does not load a vocabulary")
    added, by_id = _tokens(tokenizer, vocab_size)
    types = [_kind(index, added, by_id) for index in range(vocab_size)]
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


def _add_sentencepiece(writer: gguf.GGUFWriter, tokenizer: dict[str, Any], vocab_size: int) -> None:
    added, by_id = _tokens(tokenizer, vocab_size)
    scores = _scores(tokenizer["model"])
    unknown = tokenizer["model"].get("unk_token")
    types = [_kind(index, added, by_id) for index in range(vocab_size)]
    for index, token in by_id.items():
        if token == unknown:
            types[index] = gguf.TokenType.UNKNOWN
        elif _BYTE.fullmatch(token):
            types[index] = gguf.TokenType.BYTE
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_add_space_prefix(_has_space_prefix(tokenizer))
    writer.add_token_list([by_id.get(index, f"[PAD{index}]") for index in range(vocab_size)])
    writer.add_token_scores([scores.get(by_id.get(index, ""), _UNREACHABLE_SCORE) for index in range(vocab_size)])
    writer.add_token_types(types)


def _tokens(tokenizer: Mapping[str, Any], vocab_size: int) -> tuple[dict[int, dict[str, Any]], dict[int, str]]:
    """Return the added tokens and the text of every token, by number."""
    added = {entry["id"]: entry for entry in tokenizer.get("added_tokens", [])}
    by_id = {index: token for token, index in tokenizer["model"]["vocab"].items()}
    by_id |= {index: entry["content"] for index, entry in added.items()}
    if by_id and max(by_id) >= vocab_size:
        raise ExportError(f"{TOKENIZER_FILE}: holds token {max(by_id)}, the model has {vocab_size} embeddings")
    return added, by_id


def _kind(index: int, added: Mapping[int, Mapping[str, Any]], by_id: Mapping[int, str]) -> gguf.TokenType:
    if index in added:
        return gguf.TokenType.CONTROL if added[index]["special"] else gguf.TokenType.USER_DEFINED
    return gguf.TokenType.NORMAL if index in by_id else gguf.TokenType.UNUSED


def _scores(model: Mapping[str, Any]) -> dict[str, float]:
    """Return the score of every merged token: minus the rank of its merges.

    llama.cpp joins the two neighbours whose joint token scores highest, whichever way that token is cut. Merges say
    the same only if those of one token stand together and name every way to cut it, as in files converted from
    SentencePiece.

    Raises:
        ExportError: they do not.
    """
    ranks: dict[str, float] = {}
    cuts: dict[str, set[tuple[str, str]]] = {}
    previous = None
    for rank, merge in enumerate(model.get("merges", [])):
        left, right = merge.split(" ") if isinstance(merge, str) else merge
        token = left + right
        if token in ranks and token != previous:
            raise ExportError(
                f"{TOKENIZER_FILE}: llama.cpp would split text otherwise: {token!r} is merged at two ranks"
            )
        ranks.setdefault(token, -float(rank))
        cuts.setdefault(token, set()).add((left, right))
        previous = token
    vocabulary = model["vocab"]
    for token, named in cuts.items():
        ways = {(token[:place], token[place:]) for place in range(1, len(token))}
        if named != {(left, right) for left, right in ways if left in vocabulary and right in vocabulary}:
            raise ExportError(
                f"{TOKENIZER_FILE}: llama.cpp would split text otherwise: the merges leave out a way to make {token!r}"
            )
    return ranks


def _has_space_prefix(tokenizer: Mapping[str, Any]) -> bool:
    """Return whether a space is put before a text. Raises ExportError for any other change of the text."""
    normalizer = tokenizer.get("normalizer") or {}
    steps = normalizer.get("normalizers", [normalizer] if normalizer else [])
    splitter = tokenizer.get("pre_tokenizer") or {"type": "Metaspace", "prepend_scheme": "never", "split": False}
    known = [step.get("type") == "Prepend" and step.get("prepend") == _SPACE for step in steps]
    replaces = [step.get("type") == "Replace" and step.get("content") == _SPACE for step in steps]
    is_plain = splitter.get("type") == "Metaspace" and splitter.get("split") is False
    if not is_plain or not all(one or other for one, other in zip(known, replaces, strict=True)):
        raise ExportError(
            f"{TOKENIZER_FILE}: llama.cpp has no counterpart of this way of preparing text: "
            f"{json.dumps([steps, tokenizer.get('pre_tokenizer')])[:200]}"
        )
    return any(known) or splitter.get("prepend_scheme") != "never"
