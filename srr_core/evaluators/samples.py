"""A few prompts answered by the source and by the result, side by side: what a person looks at, and one honest number.

Greedy and without any penalty, so that what differs is the weights. The first token on which both disagree sends them
apart for good: the share of leading tokens they agree on says how soon, not how bad what follows is. Divergence does.
"""

import time
from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Any, ClassVar, cast

import torch
from transformers import GenerationConfig, PreTrainedModel, StoppingCriteria, StoppingCriteriaList
from typing_extensions import override

from srr_core.errors import EvaluationError
from srr_core.evaluators.opened import OpenedModel
from srr_core.evaluators.subject import Evaluator, Subject, require_next_token_model
from srr_core.recipe.evaluations import SamplesSpec, too_large
from srr_core.report import Answer, Measurement

PROTOCOL = (
    "{prompts} prompts continued greedily by at most {new_tokens} tokens, without penalties or a chat template; the "
    "share of leading tokens that both answered alike, mean over prompts"
)


class SamplesEvaluator(Evaluator):
    """What both models make of the same prompts; one model is in memory at a time."""

    kind: ClassVar[str] = "samples"

    def __init__(self, spec: SamplesSpec) -> None:
        self._spec = spec

    def check(self, subject: Subject) -> None:
        """Refuse models that predict no next token, have no source or are large, and prompts that leave no room."""
        require_next_token_model(subject, self.kind)
        for opened in (subject.model, _source(subject)):
            reason = too_large("samples", opened.weight_bytes(), opened.directory.name)
            if reason is not None:
                raise EvaluationError(reason)
            self._prompts(opened)

    def measure(self, subject: Subject) -> tuple[Measurement, ...]:
        """Return the share of tokens answered alike, with the answers."""
        source = _source(subject)
        before, after = self._answers(subject, source), self._answers(subject, subject.model)
        tokenizers = (source.tokenizer, subject.model.tokenizer)
        answers = tuple(
            Answer(
                prompt=prompt,
                source=_text(tokenizers[0], theirs),
                compressed=_text(tokenizers[1], ours),
                same_tokens=_same(theirs, ours),
                source_tokens=len(theirs),
                compressed_tokens=len(ours),
            )
            for prompt, theirs, ours in zip(self._spec.texts, before, after, strict=True)
        )
        shares = [
            answer.same_tokens / max(answer.source_tokens, answer.compressed_tokens)
            if answer.source_tokens or answer.compressed_tokens
            else 1.0
            for answer in answers
        ]
        return (
            Measurement(
                evaluator=self.kind,
                metric=f"same_tokens@{self._spec.new_tokens}",
                title="Leading tokens answered alike",
                unit="",
                direction="higher",
                source=1.0,
                compressed=fmean(shares),
                protocol=PROTOCOL.format(prompts=len(answers), new_tokens=self._spec.new_tokens),
                samples=len(answers),
                answers=answers,
            ),
        )

    def _prompts(self, opened: OpenedModel) -> list[list[int]]:
        """Return the tokens of each prompt. Raises EvaluationError where one leaves no room for an answer."""
        longest = opened.architecture().max_sequence_length
        encoded = [cast("list[int]", opened.tokenizer(text)["input_ids"]) for text in self._spec.texts]
        for text, tokens in zip(self._spec.texts, encoded, strict=True):
            if not tokens:
                raise EvaluationError(f"the prompt {text[:40]!r} has no token")
            if longest is not None and len(tokens) + self._spec.new_tokens > longest:
                raise EvaluationError(
                    f"the prompt {text[:40]!r} has {len(tokens)} tokens, and with {self._spec.new_tokens} new ones "
                    f"that is more than the {longest} the model was made for; shorten it, or lower samples.new_tokens"
                )
        return encoded

    def _answers(self, subject: Subject, opened: OpenedModel) -> list[list[int]]:
        prompts = self._prompts(opened)
        with subject.loaded(opened) as model:
            watch = _Watch(subject.check_stop, time.monotonic() + self._spec.max_seconds)
            return [_continued(model, tokens, self._spec.new_tokens, watch) for tokens in prompts]


class _Watch(StoppingCriteria):
    """Asked after every token: ends an answer that takes too long, and the whole run where it is to stop."""

    def __init__(self, check_stop: Callable[[], None], deadline: float) -> None:
        self._check_stop = check_stop
        self._deadline = deadline

    @override
    def __call__(self, input_ids: torch.Tensor, scores: Any, **kwargs: Any) -> torch.Tensor:
        self._check_stop()
        is_over = time.monotonic() > self._deadline
        return torch.full((input_ids.shape[0],), is_over, dtype=torch.bool, device=input_ids.device)


def _continued(model: PreTrainedModel, prompt: list[int], new_tokens: int, watch: _Watch) -> list[int]:
    own: Any = model.generation_config
    ends = own.eos_token_id
    first_end = ends[0] if isinstance(ends, list) else ends
    # Nothing but what is needed of the model's own: sampling and penalties there would be about something else.
    plain = GenerationConfig(  # type: ignore[no-untyped-call]  # transformers leaves it untyped
        max_new_tokens=new_tokens, do_sample=False, num_beams=1, eos_token_id=ends, pad_token_id=first_end
    )
    given = torch.tensor([prompt], device=model.device)
    with torch.inference_mode():
        generate: Any = model.generate
        written = generate(
            given,
            attention_mask=torch.ones_like(given),
            generation_config=plain,
            stopping_criteria=StoppingCriteriaList([watch]),
        )
    tokens: list[int] = written[0, len(prompt) :].tolist()
    return tokens


def _same(one: Sequence[int], other: Sequence[int]) -> int:
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _text(tokenizer: Any, tokens: Sequence[int]) -> str:
    return str(tokenizer.decode(tokens, skip_special_tokens=True))


def _source(subject: Subject) -> OpenedModel:
    if subject.source is None:
        raise EvaluationError("samples needs the source to compare with: name it")
    return subject.source
