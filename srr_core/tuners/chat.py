"""Conversations as text, and which characters of it the assistant said.

A template is asked for every prefix of a conversation, so that any template works whose turns do not depend on later
ones; one that marks what it generates is not even asked.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import jinja2

from srr_core.errors import TrainingDataError

ASSISTANT = "assistant"
_GENERATION = re.compile(r"\{%-?\s*generation\s*-?%\}")

Message = Mapping[str, Any]
Span = tuple[int, int]


@dataclass(frozen=True)
class Conversation:
    """A conversation as its template writes it."""

    text: str
    answers: tuple[Span, ...]
    """Characters [begin, end) of every turn of the assistant, the token that ends the turn included."""


class Template:
    """A tokenizer's way of writing conversations.

    Args:
        tokenizer: Of transformers.
        written: A Jinja template in place of the tokenizer's own.
    Raises:
        TrainingDataError: there is no template, or it is none.
    """

    def __init__(self, tokenizer: Any, written: str | None) -> None:
        self._tokenizer = tokenizer
        self._written = written or tokenizer.chat_template
        if not isinstance(self._written, str):
            raise TrainingDataError(
                "rows hold messages, but the tokenizer has no chat template; give one as task.template, or rows of "
                "prompt and completion"
            )

    def render(self, messages: Sequence[Message]) -> Conversation:
        """Return a conversation and where the assistant speaks.

        Raises:
            TrainingDataError: the template refuses it, or rewrites earlier turns when later ones come.
        """
        whole = self._text(messages)
        if _GENERATION.search(self._written):
            return Conversation(whole, self._marked(messages))
        answers = []
        for index, message in enumerate(messages):
            if message["role"] != ASSISTANT:
                continue
            before = self._text(messages[:index], add_generation_prompt=True)
            after = self._text(messages[: index + 1])
            if not (after.startswith(before) and whole.startswith(after)):
                raise TrainingDataError(
                    "the template writes a turn otherwise when others follow, so the assistant's words cannot be "
                    "found; give a template that marks them with {% generation %} as task.template"
                )
            answers.append((len(before), len(after)))
        return Conversation(whole, tuple(answers))

    def _text(self, messages: Sequence[Message], *, add_generation_prompt: bool = False) -> str:
        if not messages and not add_generation_prompt:
            return ""
        try:
            text: str = self._tokenizer.apply_chat_template(
                list(messages),
                chat_template=self._written,
                tokenize=False,
                add_generation_prompt=add_generation_prompt,
            )
        except (jinja2.TemplateError, TypeError, ValueError, KeyError, IndexError) as error:
            raise TrainingDataError(f"the chat template refuses it: {error}") from error
        return text

    def _marked(self, messages: Sequence[Message]) -> tuple[Span, ...]:
        from transformers.utils.chat_template_utils import render_jinja_template  # noqa: PLC0415  # as late as torch

        try:
            rendered: Any = render_jinja_template(
                conversations=[[dict(message) for message in messages]],
                chat_template=self._written,
                return_assistant_tokens_mask=True,
                **self._tokenizer.special_tokens_map,
            )
        except (jinja2.TemplateError, TypeError, ValueError) as error:
            raise TrainingDataError(f"the chat template refuses it: {error}") from error
        _, spans = rendered
        return tuple((int(begin), int(end)) for begin, end in spans[0])


def messages_of(value: object) -> list[Message]:
    """Return a conversation of a row.

    Raises:
        TrainingDataError: it is no list of messages with a role and a content.
    """
    if not isinstance(value, list) or not value:
        raise TrainingDataError("messages are not a list of objects with role and content")
    for number, message in enumerate(value, start=1):
        if not isinstance(message, dict) or not isinstance(message.get("role"), str):
            raise TrainingDataError(f"message {number} has no role")
        if not isinstance(message.get("content"), str) and not message.get("tool_calls"):
            raise TrainingDataError(f"message {number} has no content")
    return list(value)


def trained_spans(
    conversation: Conversation, train_on: Literal["answers", "last-answer", "everything"]
) -> tuple[Span, ...]:
    """Return the characters the loss is taken over."""
    if train_on == "everything":
        return ((0, len(conversation.text)),)
    return conversation.answers[-1:] if train_on == "last-answer" else conversation.answers
