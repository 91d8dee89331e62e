"""A small tokenizer as transformers has it after converting one of SentencePiece: bytes for what it does not know."""

import re

from tokenizers import Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast

from examples import CALIBRATION_TEXT

SPACE = "▁"


def sentencepiece_tokenizer(*, pieces: int = 400, changed_merges=None) -> PreTrainedTokenizerFast:
    """Pieces are letters and frequent parts of words; every way to join two of them into a third is a merge."""
    words = re.findall(r"[a-z]+", CALIBRATION_TEXT.read_text(encoding="utf-8").lower())[:4000]
    counts: dict[str, int] = {}
    for word in words:
        for length in (2, 3, 4):
            for start in range(len(word) + 2 - length):
                part = f"{SPACE}{word}"[start : start + length]
                counts[part] = counts.get(part, 0) + 1
    letters = sorted({letter for word in words for letter in word} | {SPACE})
    longer = sorted(counts, key=lambda part: (-counts[part], part))[:pieces]
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), *longer, *letters]
    vocabulary = {name: index for index, name in enumerate(names)}
    merges = [
        (part[:place], part[place:])
        for part in longer
        for place in range(1, len(part))
        if part[:place] in vocabulary and part[place:] in vocabulary
    ]
    if changed_merges is not None:
        merges = changed_merges(merges)
    tokenizer = Tokenizer(
        models.BPE(vocab=vocabulary, merges=merges, unk_token="<unk>", byte_fallback=True, fuse_unk=True)
    )
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", unk_token="<unk>", pad_token="</s>"
    )
