"""A first look at training data: refusals by row, and what would be learned, without any tokenizer."""

import json
from pathlib import Path
from typing import Any

import pytest

from srr_core.errors import TrainingDataError
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_options import with_task
from srr_core.tuners.sketch import sketch

TURNS = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "hello"}]


def written(folder: Path, *rows: dict[str, Any]) -> Path:
    file = folder / "rows.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


def test_a_completion_is_learned_and_a_prompt_is_not(tmp_path: Path) -> None:
    rows = [{"prompt": f"say {number} ", "completion": "well"} for number in range(5)]

    found = sketch(written(tmp_path, *rows, rows[0]), with_task(TuningSpec(), "instructions"))

    assert (found.rows, found.columns, found.duplicates) == (6, ("prompt", "completion"), 1)
    assert [(piece.text, piece.is_trained) for piece in found.previews[0].pieces] == [("say 0 ", False), ("well", True)]
    assert [preview.row for preview in found.previews] == [1, 3, 6]
    assert found.trained_characters == 6 * len("well")


def test_turns_of_the_assistant_are_learned(tmp_path: Path) -> None:
    found = sketch(written(tmp_path, {"messages": TURNS}, {"messages": TURNS}), with_task(TuningSpec(), "instructions"))

    learned = [piece.text for piece in found.previews[0].pieces if piece.is_trained]
    assert learned == ["hello\n"]


def test_labels_are_counted(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text("text,label\ngood,1\nbad,0\nfine,1\n")

    found = sketch(file, with_task(TuningSpec(), "classification"))

    assert found.labels == {"1": 2, "0": 1}
    assert found.trained_characters == 0


@pytest.mark.parametrize(
    ("task", "rows", "said"),
    [
        ("instructions", [{"prompt": "a", "completion": "b"}, {"prompt": "a"}], "row 2: has the columns 'prompt'"),
        ("instructions", [{"messages": TURNS}, {"messages": TURNS[:1]}], "row 2: no message is of the assistant"),
        ("classification", [{"text": "a", "label": 1}, {"text": "b", "label": 1}], "every row has the label '1'"),
        ("regression", [{"text": "a", "label": 1}, {"text": "b", "label": "x"}], "row 2: has the label 'x'"),
        ("gsm8k", [{"question": "1+1?", "answer": ""}, {"question": "", "answer": "2"}], "row 1: column 'answer'"),
        ("instructions", [{"prompt": "a", "completion": "b"}], "holds one row"),
    ],
)
def test_what_cannot_be_learned_is_refused_with_its_row(
    tmp_path: Path, task: str, rows: list[dict[str, Any]], said: str
) -> None:
    with pytest.raises(TrainingDataError, match=said):
        sketch(written(tmp_path, *rows), with_task(TuningSpec(), task))
