"""Text to token windows: the same tokens whatever the number of workers or batches."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from jaxtyping import Int64
from torch import Tensor
from transformers import AutoTokenizer, PreTrainedTokenizerBase

from srr_core.errors import CheckpointError, SrrError
from srr_core.report import TextReport

CHARACTERS_PER_TOKEN = 16
"""More than any common tokenizer's average on prose, so that a prefix of the text is almost always enough."""


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

    def describe(self) -> TextReport:
        """Return counts and a SHA-256 of the token ids as little-endian 64-bit integers."""
        digest = hashlib.sha256(self.ids.contiguous().numpy().astype("<i8").tobytes())
        sequences, length = self.ids.shape
        return TextReport(
            sequences=sequences, sequence_length=length, tokens=self.ids.numel(), token_sha256=digest.hexdigest()
        )


def load_tokenizer(directory: Path) -> PreTrainedTokenizerBase:
    """Return the tokenizer of a checkpoint; code from the checkpoint is never run.

    Raises:
        CheckpointError: the folder has no tokenizer that transformers can read.
    """
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            directory, trust_remote_code=False, local_files_only=True
        )
    except Exception as error:  # the Rust library raises Exception itself for a damaged file
        first = str(error).strip().split("\n")[0]
        raise CheckpointError(f"the tokenizer of {directory.name!r} cannot be loaded: {first}") from error
    return tokenizer


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
