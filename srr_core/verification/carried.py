"""What travels beside the weights, as users of the artifact meet it: the same files, ids and chat templates."""

import filecmp
from pathlib import Path
from typing import Any

from jaxtyping import Int
from torch import Tensor

from srr_core.calibration.dataset import load_tokenizer
from srr_core.checkpoint.carried_files import carried_in
from srr_core.errors import CheckpointError, VerificationError

_PROBE = "Zażółć gęślą jaźń, 10²³ — naïve\tcode();\n\n  你好,мир 🙂"
"""Letters, digits, spaces and signs that tokenizers with another normalizer or vocabulary cut otherwise."""


def verify_carried(source: Path, artifact: Path, token_ids: Int[Tensor, "tokens"]) -> None:
    """Check that an artifact's tokenizer gives the ids and has the chat templates of its source's.

    Args:
        token_ids: A text that both are given, by its ids in the source.
    Raises:
        VerificationError: a file is missing or differs, or the tokenizer loads otherwise; the message names it.
    """
    for name in carried_in(source):
        if not (artifact / name).is_file() or not filecmp.cmp(source / name, artifact / name, shallow=False):
            raise VerificationError(f"{name} of the source is missing in the artifact, or not the same there")
    wanted = load_tokenizer(source)
    try:
        found = load_tokenizer(artifact)
    except CheckpointError as error:
        raise VerificationError(f"the artifact lacks a file that its tokenizer needs: {error}") from error
    for text in (str(wanted.decode(token_ids.tolist())), _PROBE, " ".join(_names(wanted))):
        if _ids(wanted, text) != _ids(found, text):
            raise VerificationError(
                f"the tokenizer of the artifact gives other ids than the source's for {text[:60]!r}"
            )
    if wanted.chat_template != found.chat_template:
        raise VerificationError("the tokenizer of the artifact has other chat templates than the source's")


def _names(tokenizer: Any) -> list[str]:
    """Return special and added tokens, which are cut by rules of their own."""
    return sorted({*tokenizer.all_special_tokens, *tokenizer.get_added_vocab()})


def _ids(tokenizer: Any, text: str) -> list[int]:
    return list(tokenizer(text, verbose=False)["input_ids"])
