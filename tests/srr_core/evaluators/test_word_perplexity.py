"""Word-level perplexity is that of lm-eval's own `wikitext` task, to 1e-6, with and without BOS."""

import json
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from srr_core.calibration.dataset import load_tokenizer
from srr_core.checkpoint.reader import CheckpointReader
from srr_core.errors import EvaluationError
from srr_core.evaluators.pages import (
    RollingWindow,
    detokenizer,
    prefix_token,
    read_pages,
    rolling_windows,
    tokenize_page,
    word_count,
)
from srr_core.evaluators.word_perplexity import PageScores, page_log_likelihoods
from srr_core.models.architecture import Architecture
from srr_core.models.blockwise import BlockwiseModel
from srr_core.models.layers import plan_layers
from tests.pico import build_checkpoint

PAGES = (
    " = The Harbour = \n\n The harbour ( opened in 1 @,@ 887 ) holds 3 @.@ 5 ships ; it 's old . \n",
    ' = A Letter = \n = = First = = \n She wrote " come " , he said : " no " . \n',
    " = Short = \n No . \n",
)
WINDOW = 24


def _bos_tokenizer(directory: Path) -> None:
    # Llama-like: the tokenizer itself puts <s> before a text.
    file = directory / "tokenizer.json"
    value: dict[str, Any] = json.loads(file.read_text())
    value["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [1], "tokens": ["<s>"]}},
    }
    file.write_text(json.dumps(value))


def _ours(directory: Path, pages: tuple[str, ...], *, add_bos_token: bool, batch_size: int) -> float:
    tokenizer, clean = load_tokenizer(directory), detokenizer("wikitext")
    windows = [
        window
        for index, page in enumerate(pages)
        for window in rolling_windows(
            tokenize_page(tokenizer, clean(page), add_bos_token=add_bos_token),
            page=index,
            prefix=prefix_token(tokenizer),
            max_length=WINDOW,
        )
    ]
    architecture, weights = Architecture(directory), CheckpointReader(directory)
    plan = plan_layers(architecture, weights.entries)
    nll = page_log_likelihoods(
        BlockwiseModel(architecture, weights, plan, torch.device("cpu")),
        windows,
        pages=len(pages),
        batch_size=batch_size,
    )
    return PageScores(nll, tuple(map(word_count, pages))).word_perplexity


def _harness(directory: Path, pages: tuple[str, ...], tmp_path: Path, *, add_bos_token: bool) -> float:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of a foreign library
        import lm_eval.tasks
        from lm_eval import simple_evaluate
        from lm_eval.models.huggingface import HFLM
        from lm_eval.tasks import TaskManager
        from transformers import AutoModelForCausalLM, AutoTokenizer

        stock = Path(lm_eval.tasks.__file__).parent / "wikitext" / "wikitext.yaml"
        data = tmp_path / "pages.jsonl"
        data.write_text("".join(json.dumps({"page": page}) + "\n" for page in pages))
        folder = tmp_path / "tasks"
        folder.mkdir()
        (folder / "local.yaml").write_text(
            f"include: {stock}\ntask: local_pages\ndataset_path: json\ndataset_name: null\n"
            f"dataset_kwargs:\n  data_files:\n    test: {data}\n  cache_dir: {tmp_path / 'cache'}\n"
            "training_split: null\nvalidation_split: null\n"
        )
        model = AutoModelForCausalLM.from_pretrained(directory, dtype=torch.float32)
        language_model = HFLM(
            pretrained=model,
            tokenizer=AutoTokenizer.from_pretrained(directory),
            max_length=WINDOW,
            add_bos_token=add_bos_token,
        )
        result = simple_evaluate(
            language_model,
            tasks=["local_pages"],
            task_manager=TaskManager(include_path=str(folder), include_defaults=False),
            log_samples=False,
        )
    return float(result["results"]["local_pages"]["word_perplexity,none"])


@pytest.mark.parametrize("add_bos_token", [True, False])
def test_it_equals_the_harness(add_bos_token: bool, tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "model", dtype=torch.float32)
    _bos_tokenizer(directory)

    found = _ours(directory, PAGES, add_bos_token=add_bos_token, batch_size=2)

    assert found == pytest.approx(_harness(directory, PAGES, tmp_path, add_bos_token=add_bos_token), rel=1e-6)


def test_the_setting_of_bos_changes_the_number(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "model", dtype=torch.float32)
    _bos_tokenizer(directory)
    scores = [_ours(directory, PAGES, add_bos_token=value, batch_size=2) for value in (True, False)]
    assert abs(math.log(scores[0] / scores[1])) > 1e-3


def test_batches_change_nothing(tmp_path: Path) -> None:
    directory = build_checkpoint(tmp_path / "model", dtype=torch.float32)
    scores = [_ours(directory, PAGES, add_bos_token=False, batch_size=size) for size in (1, 5)]
    assert scores[0] == pytest.approx(scores[1], rel=1e-6)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, []),
        (2, [((9, 10), (10, 11))]),
        (4, [((9, 10, 11, 12), (10, 11, 12, 13))]),
        (8, [((9, 10, 11, 12), (10, 11, 12, 13)), ((13, 14, 15, 16), (14, 15, 16, 17))]),
        # the last window is filled up with context to the full length
        (5, [((9, 10, 11, 12), (10, 11, 12, 13)), ((10, 11, 12, 13), (14,))]),
    ],
)
def test_every_token_is_scored_once(count: int, expected: list[tuple[tuple[int, ...], tuple[int, ...]]]) -> None:
    windows = rolling_windows(range(10, 10 + count), page=3, prefix=9, max_length=4)
    assert list(windows) == [RollingWindow(3, *window) for window in expected]


def test_a_text_is_cut_at_first_level_headings(tmp_path: Path) -> None:
    file = tmp_path / "raw.txt"
    file.write_text("before\n = One = \n = = not a page = = \n text\n= Two =\n text\n")
    assert read_pages(file) == ["before\n", " = One = \n = = not a page = = \n text\n", "= Two =\n text\n"]


def test_a_text_without_headings_is_one_page(tmp_path: Path) -> None:
    file = tmp_path / "plain.txt"
    file.write_text("a text\nof two lines")
    assert read_pages(file) == ["a text\nof two lines"]


@pytest.mark.parametrize(
    ("write", "said"),
    [
        (lambda file: file.write_text("\n \n"), "no page with a word"),
        (lambda file: file.write_text('{"page": 3}\n'), 'line 1 has no text under "page"'),
        (lambda file: file.write_text('{"page": "a"}\n{oops\n'), "line 2 is no JSON"),
        (lambda file: file.write_bytes(b'{"page": "\xff"}'), "not UTF-8"),
        (lambda file: None, "cannot be read"),
    ],
)
def test_bad_pages_are_refused(write: Callable[[Path], object], said: str, tmp_path: Path) -> None:
    file = tmp_path / "pages.jsonl"
    write(file)
    with pytest.raises(EvaluationError, match=said):
        read_pages(file)


def test_a_missing_harness_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(EvaluationError, match=r"srr-compression\[harness\].*detokenize=none"):
        detokenizer("wikitext")
