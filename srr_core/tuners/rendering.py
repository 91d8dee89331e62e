"""Rows to examples: one renderer per task, each with its own reasons to refuse a row.

A renderer sees the tokenizer as transformers has it, and nothing of torch.
"""

from abc import ABC, abstractmethod
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from typing_extensions import override

from srr_core.errors import TrainingDataError
from srr_core.recipe.tuning_tasks import ClassificationTask, GSM8KTask, InstructionTask, RegressionTask, TextTask
from srr_core.tuners import gsm8k
from srr_core.tuners.chat import Span, Template, messages_of, trained_spans
from srr_core.tuners.examples import Example, example
from srr_core.tuners.rows import Row

TooLong = Literal["refuse", "split", "truncate"]
PlainTask = TextTask | InstructionTask | ClassificationTask | RegressionTask | GSM8KTask


class Renderer(ABC):
    """Makes examples of rows.

    Args:
        tokenizer: Of transformers.
        window: Tokens of the longest example.
        too_long: How a longer one is treated.
    """

    def __init__(self, tokenizer: Any, *, window: int, too_long: TooLong) -> None:
        self.tokenizer = tokenizer
        self.window = window
        self.too_long = too_long

    @abstractmethod
    def examples(self, row: Row) -> Iterator[Example]:
        """Yield the examples of one row.

        Raises:
            TrainingDataError: the row cannot be learned from; the caller adds file and number.
        """

    @abstractmethod
    def content(self, row: Row) -> tuple[object, ...]:
        """Return what makes two rows duplicates."""

    def preview(self, shown: Example) -> tuple[tuple[str, bool], ...]:
        """Return the text of an example in pieces, each with whether the loss is taken over it."""
        pieces: list[tuple[str, bool]] = []
        begin = 0
        for position in range(1, len(shown) + 1):
            if position == len(shown) or shown.trained[position] != shown.trained[begin]:
                text = self.tokenizer.decode(list(shown.ids[begin:position]), skip_special_tokens=False)
                pieces.append((text, bool(shown.trained[begin])))
                begin = position
        return tuple(pieces)

    def fitted(self, row: Row, ids: list[int], trained: list[bool]) -> Example:
        """Return one example within the window.

        Raises:
            TrainingDataError: it is longer and may not be cut, or has nothing left to learn.
        """
        is_long = len(ids) > self.window
        if is_long and self.too_long != "truncate":
            raise TrainingDataError(
                f"has {len(ids)} tokens, the window holds {self.window}; make data.window larger, or set "
                "data.too_long to truncate"
            )
        made = example(row.number, ids[: self.window], trained[: self.window], is_truncated=is_long)
        if not made.num_trained:
            why = "; it was cut before its answer began" if is_long else ""
            raise TrainingDataError(f"has no token the loss would be taken over{why}")
        return made


class TextRenderer(Renderer):
    """Plain text, each document with its end: all tokens are learned."""

    def __init__(self, task: TextTask, tokenizer: Any, *, window: int, too_long: TooLong) -> None:
        super().__init__(tokenizer, window=window, too_long=too_long)
        self.task = task

    @override
    def content(self, row: Row) -> tuple[object, ...]:
        """Return the text."""
        return (text_of(row, self.task.column),)

    @override
    def examples(self, row: Row) -> Iterator[Example]:
        """Yield the document whole, or in windows that follow each other."""
        ids = _with_ends(self.tokenizer, text_of(row, self.task.column))
        if self.too_long != "split":
            yield self.fitted(row, ids, [True] * len(ids))
            return
        for begin in range(0, len(ids), self.window):
            part = ids[begin : begin + self.window]
            if len(part) > 1:  # one token predicts nothing
                yield example(row.number, part, [True] * len(part))


class InstructionRenderer(Renderer):
    """Prompts and completions, or conversations: what is answered is learned, its stop token included."""

    def __init__(self, task: InstructionTask, tokenizer: Any, *, window: int, too_long: TooLong) -> None:
        super().__init__(tokenizer, window=window, too_long=too_long)
        self.task = task
        self._template: Template | None = None

    @override
    def content(self, row: Row) -> tuple[object, ...]:
        """Return prompt and completion, or the messages."""
        task = self.task
        if task.messages in row.values:
            return (repr(row.values[task.messages]),)
        return (repr(row.values.get(task.prompt)), repr(row.values.get(task.completion)))

    @override
    def examples(self, row: Row) -> Iterator[Example]:
        """Yield the one example of a row."""
        messages = self._messages(row)
        if messages is None:
            yield self._plain(row)
            return
        if self._template is None:
            self._template = Template(self.tokenizer, self.task.template)
        conversation = self._template.render(messages)
        spans = trained_spans(conversation, self.task.train_on)
        if not spans:
            raise TrainingDataError("no message is of the assistant, so there is nothing to learn")
        # The template writes the special tokens itself.
        encoded = self.tokenizer(conversation.text, add_special_tokens=False, return_offsets_mapping=True)
        trained = [_overlaps(offsets, spans) for offsets in encoded["offset_mapping"]]
        yield self.fitted(row, list(encoded["input_ids"]), trained)

    def _messages(self, row: Row) -> list[Mapping[str, Any]] | None:
        task = self.task
        if task.messages in row.values:
            return messages_of(row.values[task.messages])
        _require_columns(row, (task.prompt, task.completion), other=task.messages)
        prompt, completion = row.values[task.prompt], row.values[task.completion]
        if isinstance(prompt, str) and isinstance(completion, str):
            if task.template is None:
                return None
            return [{"role": "user", "content": prompt}, {"role": "assistant", "content": completion}]
        return [*messages_of(prompt), *messages_of(completion)]

    def _plain(self, row: Row) -> Example:
        prompt, completion = (text_of(row, column) for column in (self.task.prompt, self.task.completion))
        asked = _with_start(self.tokenizer, prompt)
        said = self.tokenizer(completion, add_special_tokens=False)["input_ids"] + _end(self.tokenizer)
        is_all = self.task.train_on == "everything"
        return self.fitted(row, [*asked, *said], [is_all] * len(asked) + [True] * len(said))


class LabelRenderer(Renderer):
    """Texts with a label or a number; the loss is taken over that alone."""

    def __init__(
        self,
        task: ClassificationTask | RegressionTask,
        tokenizer: Any,
        *,
        window: int,
        too_long: TooLong,
        labels: Sequence[str] = (),
    ) -> None:
        super().__init__(tokenizer, window=window, too_long=too_long)
        self.task = task
        self.labels = {name: number for number, name in enumerate(labels)}

    @override
    def content(self, row: Row) -> tuple[object, ...]:
        """Return texts and label."""
        texts = tuple(text_of(row, column) for column in self._columns())
        return (*texts, label_text(row, self.task.label))

    @override
    def examples(self, row: Row) -> Iterator[Example]:
        """Yield the one example of a row."""
        texts = [text_of(row, column) for column in self._columns()]
        encoded = self.tokenizer(*texts, truncation=False)
        ids = list(encoded["input_ids"])
        is_long = len(ids) > self.window
        if is_long and self.too_long != "truncate":
            raise TrainingDataError(
                f"has {len(ids)} tokens, the window holds {self.window}; make data.window larger, or set "
                "data.too_long to truncate"
            )
        if is_long:  # the tokenizer knows which special tokens must stay at the end
            encoded = self.tokenizer(*texts, truncation=True, max_length=self.window)
            ids = list(encoded["input_ids"])
        segments = encoded.get("token_type_ids")
        yield Example(
            row.number,
            array("i", ids),
            bytes(len(ids)),
            label=self._label(row),
            segments=None if segments is None else array("i", segments),
            is_truncated=is_long,
        )

    def _columns(self) -> tuple[str, ...]:
        return (self.task.text,) if self.task.second_text is None else (self.task.text, self.task.second_text)

    def _label(self, row: Row) -> int | float:
        written = label_text(row, self.task.label)
        if isinstance(self.task, RegressionTask):
            return label_number(written)
        try:
            return self.labels[written]
        except KeyError:
            known = ", ".join(repr(name) for name in list(self.labels)[:10])
            raise TrainingDataError(f"has the label {written!r}, which is none of {known}") from None


class GSM8KRenderer(Renderer):
    """Questions and worked answers; the answer is learned, and the question is what answers are generated from."""

    def __init__(self, task: GSM8KTask, tokenizer: Any, *, window: int, too_long: TooLong) -> None:
        super().__init__(tokenizer, window=window, too_long=too_long)
        self.task = task

    @override
    def content(self, row: Row) -> tuple[object, ...]:
        """Return question and answer."""
        return (text_of(row, self.task.question), text_of(row, self.task.answer))

    @override
    def examples(self, row: Row) -> Iterator[Example]:
        """Yield the one example of a row."""
        question, answer = text_of(row, self.task.question), text_of(row, self.task.answer)
        if gsm8k.reference_number(answer) is None:
            raise TrainingDataError(f"column {self.task.answer!r} has no number behind {gsm8k.REFERENCE_MARK!r}")
        prompt = gsm8k.prompt_of(question)
        asked = _with_start(self.tokenizer, prompt)
        said = self.tokenizer(gsm8k.target_of(answer), add_special_tokens=False)["input_ids"] + _end(self.tokenizer)
        made = self.fitted(row, [*asked, *said], [False] * len(asked) + [True] * len(said))
        yield Example(made.row, made.ids, made.trained, prompt=prompt, answer=answer, is_truncated=made.is_truncated)


def renderer_of(
    task: PlainTask, tokenizer: Any, *, window: int, too_long: TooLong, labels: Sequence[str] = ()
) -> Renderer:
    """Return what makes examples for a task.

    Args:
        labels: Names of the classes in the order of their numbers, where there are any.
    """
    if isinstance(task, TextTask):
        return TextRenderer(task, tokenizer, window=window, too_long=too_long)
    if isinstance(task, InstructionTask):
        return InstructionRenderer(task, tokenizer, window=window, too_long=too_long)
    if isinstance(task, GSM8KTask):
        return GSM8KRenderer(task, tokenizer, window=window, too_long=too_long)
    return LabelRenderer(task, tokenizer, window=window, too_long=too_long, labels=labels)


def text_of(row: Row, column: str) -> str:
    """Return the text of a column.

    Raises:
        TrainingDataError: there is no such column, or it holds no text.
    """
    _require_columns(row, (column,))
    value = row.values[column]
    if not isinstance(value, str):
        raise TrainingDataError(f"column {column!r} holds {type(value).__name__}, not text")
    if not value.strip():
        raise TrainingDataError(f"column {column!r} is empty")
    return value


def label_text(row: Row, column: str) -> str:
    """Return a label as it is written; numbers are written without a fraction where they have none.

    Raises:
        TrainingDataError: there is no such column, or it holds neither text nor number.
    """
    _require_columns(row, (column,))
    value = row.values[column]
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if isinstance(value, str | int | float):
        return str(value).strip()
    raise TrainingDataError(f"column {column!r} holds {type(value).__name__}, not a label")


def _require_columns(row: Row, columns: Sequence[str], *, other: str | None = None) -> None:
    missing = [column for column in columns if column not in row.values]
    if missing:
        found = ", ".join(repr(name) for name in list(row.values)[:20]) or "none"
        wanted = " and ".join(repr(column) for column in columns) + (f", or {other!r}" if other else "")
        raise TrainingDataError(f"has the columns {found}; needed: {wanted}")


def label_number(written: str) -> float:
    """Return the number a label is. Raises TrainingDataError."""
    try:
        value = float(written)
    except ValueError:
        raise TrainingDataError(f"has the label {written!r}, which is not a number") from None
    if value != value or value in (float("inf"), float("-inf")):  # noqa: PLR0124  # NaN alone differs from itself
        raise TrainingDataError(f"has the label {written!r}, which is not a finite number")
    return value


def _with_start(tokenizer: Any, text: str) -> list[int]:
    """Return the tokens of a text with what the tokenizer puts in front of one, and without what it puts behind."""
    ids = list(tokenizer(text)["input_ids"])
    end = tokenizer.eos_token_id
    while ids and end is not None and ids[-1] == end:
        ids.pop()
    return ids


def _with_ends(tokenizer: Any, text: str) -> list[int]:
    return _with_start(tokenizer, text) + _end(tokenizer)


def _end(tokenizer: Any) -> list[int]:
    return [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]


def _overlaps(offsets: tuple[int, int], spans: Sequence[Span]) -> bool:
    begin, end = offsets
    return begin < end and any(begin < stop and start < end for start, stop in spans)
