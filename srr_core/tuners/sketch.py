"""A first look at training data without a model: what is wrong with its rows, and which parts would be learned.

The service takes it before a job is queued. What needs the tokenizer (tokens, windows, steps, the exact mask) is in the
data report, which is made where the tokenizer is run.
"""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from srr_core.errors import TrainingDataError
from srr_core.recipe.tuning import TuningSpec
from srr_core.recipe.tuning_tasks import ClassificationTask, GSM8KTask, InstructionTask, RegressionTask, TextTask
from srr_core.tuners import gsm8k
from srr_core.tuners.chat import ASSISTANT, messages_of
from srr_core.tuners.data_report import DataSketch, Piece, Preview
from srr_core.tuners.dataset import NUM_PREVIEWS, PREVIEW_CHARACTERS, each_row, labels_of, plain_task, rows_of
from srr_core.tuners.rendering import PlainTask, label_number, label_text, text_of
from srr_core.tuners.rows import Row

_MIN_ROWS = 2
"""One to learn from and one to judge by."""


def sketch(file: Path, spec: TuningSpec) -> DataSketch:
    """Return what a file holds, as far as that is known without a tokenizer.

    Raises:
        TrainingDataError: rows that cannot be learned from; the message names the file and the row.
    """
    task = plain_task(spec)
    rows = rows_of(file, spec, task)
    labels_of(file, task, rows)
    shown = each_row(file, rows, lambda row: _preview(row, task))
    if len(rows) < _MIN_ROWS and not isinstance(task, TextTask):
        raise TrainingDataError(f"{file.name} holds one row; give more, so that some can be held out to judge by")
    texts = [(*(piece.text for piece in one.pieces), one.label) for one in shown]
    return DataSketch(
        rows=len(rows),
        columns=tuple(str(name) for name in rows[0].values),
        characters=sum(len(piece.text) for one in shown for piece in one.pieces),
        trained_characters=sum(len(piece.text) for one in shown for piece in one.pieces if piece.is_trained),
        longest_characters=max(sum(len(piece.text) for piece in one.pieces) for one in shown),
        duplicates=len(texts) - len(set(texts)),
        labels=dict(Counter(one.label for one in shown if one.label is not None))
        if isinstance(task, ClassificationTask)
        else {},
        previews=tuple(_cut(one) for one in _spread(shown)),
    )


def _spread(shown: Sequence[Preview]) -> list[Preview]:
    places = sorted({round(part * (len(shown) - 1) / (NUM_PREVIEWS - 1)) for part in range(NUM_PREVIEWS)})
    return [shown[place] for place in places]


def _cut(preview: Preview) -> Preview:
    pieces = tuple(
        piece.model_copy(update={"text": piece.text[:PREVIEW_CHARACTERS]}) for piece in preview.pieces if piece.text
    )
    return preview.model_copy(update={"pieces": pieces})


def _preview(row: Row, task: PlainTask) -> Preview:
    if isinstance(task, ClassificationTask | RegressionTask):
        columns = [task.text, *([] if task.second_text is None else [task.second_text])]
        pieces = tuple(Piece(text=text_of(row, column), is_trained=False) for column in columns)
        return Preview(row=row.number, pieces=pieces, label=_label(row, task))
    return Preview(row=row.number, pieces=_pieces(row, task))


def _label(row: Row, task: ClassificationTask | RegressionTask) -> str:
    written = label_text(row, task.label)
    if isinstance(task, RegressionTask):
        label_number(written)
    elif task.labels is not None and written not in task.labels:
        raise TrainingDataError(f"has the label {written!r}; known are {', '.join(map(repr, task.labels))}")
    return written


def _pieces(row: Row, task: TextTask | InstructionTask | GSM8KTask) -> tuple[Piece, ...]:
    if isinstance(task, TextTask):
        return (Piece(text=text_of(row, task.column), is_trained=True),)
    if isinstance(task, GSM8KTask):
        asked, said = gsm8k.prompt_of(text_of(row, task.question)), gsm8k.target_of(text_of(row, task.answer))
        return (Piece(text=asked, is_trained=False), Piece(text=said, is_trained=True))
    if task.messages in row.values:
        return _turns(row.values[task.messages], task)
    if all(isinstance(row.values.get(column), str | None) for column in (task.prompt, task.completion)):
        is_all = task.train_on == "everything"
        return (
            Piece(text=text_of(row, task.prompt), is_trained=is_all),
            Piece(text=text_of(row, task.completion), is_trained=True),
        )
    return _turns([*messages_of(row.values.get(task.prompt)), *messages_of(row.values.get(task.completion))], task)


def _turns(messages: object, task: InstructionTask) -> tuple[Piece, ...]:
    """Return the turns of a conversation; how a template writes them is for the tokenizer to say."""
    turns = messages_of(messages)
    answers = [number for number, turn in enumerate(turns) if turn.get("role") == ASSISTANT]
    if not answers and task.train_on != "everything":
        raise TrainingDataError("no message is of the assistant, so there is nothing to learn")
    learned = {"answers": answers, "last-answer": answers[-1:], "everything": list(range(len(turns)))}[task.train_on]
    pieces: list[Piece] = []
    for number, turn in enumerate(turns):
        pieces.append(Piece(text=f"{turn.get('role')}: ", is_trained=False))
        pieces.append(Piece(text=f"{turn.get('content') or ''}\n", is_trained=number in learned))
    return tuple(pieces)
