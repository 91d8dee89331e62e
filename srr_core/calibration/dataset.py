"""Text to token windows: the same tokens whatever the number of workers or batches."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from srr_core.checkpoint.carried_files import carried_in
from srr_core.checkpoint.header_text import LFS_PREFIX, POINTER
from srr_core.errors import CheckpointError, SrrError
from srr_core.report import TextReport

CHARACTERS_PER_TOKEN = 16
"""More than any common tokenizer's average on prose, so that a prefix of the text is almost always enough."""

RUN_TOKENS = 32
_FIRST_WORD = "a"
_TOKEN_BYTES = 8


@dataclass(frozen=True)
class TokenWindows:
    """Consecutive windows of equal length, cut from one text in order; the remainder is dropped."""

    ids: Int64[Tensor, "sequences length"]

    def batches(self, batch_size: int) -> Iterator[Int64[Tensor, "_ length"]]:
        """Yield the windows in order, `batch_size` at a time."""
        yield from torch.split(self.ids, batch_size)

    def first(self, count: int) -> "TokenWindows":
        """Return the first windows, or all where there are not so many."""
        return TokenWindows(self.ids[:count])

    def share_within(self, other: "TokenWindows") -> float:
        """Return the share of these windows whose text lies in the text of other ones, whatever their length.

        A window is known by a run of tokens from its middle, long enough to stand in no two texts by chance.
        """
        text, length = _bytes(other.ids), self.ids.shape[1]
        start = max((length - RUN_TOKENS) // 2, 0)
        runs = self.ids[:, start : start + RUN_TOKENS]
        return sum(_lies_in(_bytes(run), text) for run in runs) / len(runs)

    def describe(self) -> TextReport:
        """Return counts and a SHA-256 of the token ids as little-endian 64-bit integers."""
        digest = hashlib.sha256(_bytes(self.ids))
        sequences, length = self.ids.shape
        return TextReport(
            sequences=sequences, sequence_length=length, tokens=self.ids.numel(), token_sha256=digest.hexdigest()
        )


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint; code from the checkpoint is never run.

    Raises:
        CheckpointError: the folder has no tokenizer that transformers can read, or one that fails at its first word.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
        # Some values of tokenizer_config.json are not looked at before a text comes, model_max_length for one.
        tokenizer(_FIRST_WORD, verbose=False)
    except Exception as error:  # the Rust library raises Exception itself for a damaged file
        reason = _pointer(directory) or str(error).strip().split("\n")[0]
        raise CheckpointError(f"the tokenizer of {directory.name!r} cannot be loaded: {reason}") from error
    return tokenizer


def _pointer(directory: Path) -> str:
    """Return which file of a tokenizer stands for another, as in a clone without git-lfs, or an empty string."""
    for name in carried_in(directory):
        with (directory / name).open("rb") as file:
            if file.read(len(LFS_PREFIX)) == LFS_PREFIX:
                return f"{name} {POINTER}"
    return ""


def cut_windows(
    text_file: Path,
    tokenizer: PreTrainedTokenizerBase,
    *,
    num_sequences: int,
    sequence_length: int,
    error: type[SrrError],
) -> TokenWindows:
    """Tokenize a text as one document and cut its first windows.

    The text is tokenized whole, with the special tokens the tokenizer puts around a document; of a long text
    only a prefix is read, ended at a line break. Fewer windows than asked for are no error.

    Raises:
        SrrError: of the type `error`, when the text cannot be read, is not UTF-8, or is shorter than one window.
    """
    wanted = num_sequences * sequence_length
    try:
        with text_file.open(encoding="utf-8") as stream:
            text = stream.read(wanted * CHARACTERS_PER_TOKEN)
            text += stream.readline(wanted * CHARACTERS_PER_TOKEN) if text else ""
            ids = _tokenize(tokenizer, text)
            if len(ids) < wanted and (rest := stream.read()):
                ids = _tokenize(tokenizer, text + rest)
    except UnicodeDecodeError as cause:
        raise error(f"{text_file.name} is not UTF-8 text (byte {cause.start}); save it as UTF-8") from cause
    except OSError as cause:
        raise error(f"{text_file.name} cannot be read: {cause.strerror}") from cause
    count = min(num_sequences, len(ids) // sequence_length)
    if count == 0:
        raise error(
            f"{text_file.name} has {len(ids)} tokens, fewer than one window of {sequence_length}; "
            "give more text or a smaller sequence_length"
        )
    return TokenWindows(torch.tensor(ids[: count * sequence_length], dtype=torch.int64).reshape(count, sequence_length))


def _tokenize(tokenizer: PreTrainedTokenizerBase, text: str) -> list[int]:
    return list(tokenizer(text, verbose=False)["input_ids"])


def _bytes(ids: Int64[Tensor, "..."]) -> bytes:
    return ids.contiguous().numpy().astype("<i8").tobytes()


def _lies_in(run: bytes, text: bytes) -> bool:
    place = text.find(run)
    while place >= 0 and place % _TOKEN_BYTES:
        place = text.find(run, place + 1)
    return place >= 0
