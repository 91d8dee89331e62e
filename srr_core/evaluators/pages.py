"""Pages of raw text, as word-level perplexity counts them: read, detokenized, cut into rolling windows."""

import importlib.util
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from transformers import PreTrainedTokenizerBase

from srr_core.errors import EvaluationError

Detokenizer = Literal["wikitext", "none"]

HARNESS_EXTRA = "pip install 'srr-compression[harness]'"
_TITLE = re.compile(r"^ ?= [^=\n](?:[^\n]*[^=\n])? = ?$", re.MULTILINE)
"""A heading of the first level, ` = Title = `, which begins a page of WikiText."""
_SPACE = re.compile(r"\s+")


@dataclass(frozen=True)
class RollingWindow:
    """One forward pass: every input token, and the last ones' successors that are scored."""

    page: int
    inputs: tuple[int, ...]
    targets: tuple[int, ...]
    """Successors of the last `len(targets)` inputs."""


def read_pages(file: Path) -> list[str]:
    """Return the pages of a file, raw.

    A `.jsonl` file has one object with a `page` a line. Any other file is text, in which a line ` = Title = ` begins
    a page; without such lines it is one page.

    Raises:
        EvaluationError: the file cannot be read, is not UTF-8, has a line without a page, or no page with a word.
    """
    try:
        text = file.read_text(encoding="utf-8")
    except UnicodeDecodeError as cause:
        raise EvaluationError(f"{file.name} is not UTF-8 text (byte {cause.start}); save it as UTF-8") from cause
    except OSError as cause:
        raise EvaluationError(f"{file.name} cannot be read: {cause.strerror}") from cause
    pages = list(_json_pages(file.name, text)) if file.suffix == ".jsonl" else _text_pages(text)
    pages = [page for page in pages if page.strip()]
    if not pages:
        raise EvaluationError(f"{file.name} holds no page with a word; give a text or a .jsonl file of pages")
    return pages


def word_count(page: str) -> int:
    """Return how many words a raw page counts for: pieces between runs of white space, empty ends included."""
    return len(_SPACE.split(page))


def detokenizer(kind: Detokenizer) -> Callable[[str], str]:
    """Return what a page goes through before it is scored.

    `wikitext` is lm-eval's own function, taken from the installed package, so that it is theirs to the letter.

    Raises:
        EvaluationError: lm-eval is not installed.
    """
    if kind == "none":
        return lambda page: page
    package = importlib.util.find_spec("lm_eval")
    if package is None or not package.submodule_search_locations:
        raise EvaluationError(
            f"pages are detokenized as lm-eval does it, which is not installed: {HARNESS_EXTRA}; or set detokenize=none"
        )
    # By its file: importing lm_eval.tasks takes ten seconds, and this function needs none of it.
    file = Path(package.submodule_search_locations[0]) / "tasks" / "wikitext" / "preprocess_wikitext.py"
    spec = importlib.util.spec_from_file_location("lm_eval_preprocess_wikitext", file)
    if spec is None or spec.loader is None or not file.is_file():
        raise EvaluationError(
            f"the installed lm-eval has no wikitext detokenizer; set detokenize=none or {HARNESS_EXTRA}"
        )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    function = module.wikitext_detokenizer
    return lambda page: str(function({"page": page}))


def prefix_token(tokenizer: PreTrainedTokenizerBase) -> int:
    """Return the token that the first token of a page is predicted from: BOS, or EOS where there is none.

    Raises:
        EvaluationError: the tokenizer has neither.
    """
    token = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if not isinstance(token, int):
        raise EvaluationError("the tokenizer has neither a BOS nor an EOS token, so the first token has no context")
    return token


def tokenize_page(tokenizer: PreTrainedTokenizerBase, page: str, *, add_bos_token: bool) -> list[int]:
    """Return the tokens of a page, with or without the tokenizer's own special tokens.

    A page that begins with the text of the prefix token gets none, as in lm-eval.
    """
    prefix = str(tokenizer.decode([prefix_token(tokenizer)]))
    special = add_bos_token and not page.startswith(prefix)
    return list(tokenizer(page, add_special_tokens=special, verbose=False)["input_ids"])


def rolling_windows(tokens: Sequence[int], *, page: int, prefix: int, max_length: int) -> Iterator[RollingWindow]:
    """Cut the tokens of a page into windows that score every token once.

    The first window begins with the prefix token. Every later one begins with the last token before what it scores;
    the last one, being short, is filled up with earlier tokens, so that it too has `max_length` inputs.

    Args:
        max_length: Inputs of one window, at least 1.
    """
    if not tokens:
        return
    first = min(max_length, len(tokens))
    yield RollingWindow(page, (prefix, *tokens[: first - 1]), tuple(tokens[:first]))
    for begin in range(first, len(tokens), max_length):
        end = min(begin + max_length, len(tokens))
        yield RollingWindow(page, tuple(tokens[end - max_length - 1 : end - 1]), tuple(tokens[begin:end]))


def _json_pages(name: str, text: str) -> Iterator[str]:
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except json.JSONDecodeError as cause:
            raise EvaluationError(f"{name} line {number} is no JSON: {cause.msg}") from cause
        if not isinstance(row, dict) or not isinstance(row.get("page"), str):
            raise EvaluationError(f'{name} line {number} has no text under "page"')
        yield row["page"]


def _text_pages(text: str) -> list[str]:
    starts = [match.start() for match in _TITLE.finditer(text)]
    if not starts:
        return [text]
    bounds = [0, *starts] if starts[0] > 0 else starts
    return [text[begin:end] for begin, end in zip(bounds, [*bounds[1:], len(text)], strict=True)]
