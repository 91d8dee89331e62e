"""What a model is measured by outside of a compression: one specification per evaluator."""

import difflib
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter, ValidationError, model_validator

from srr_core.errors import RecipeError
from srr_core.recipe.base import Spec
from srr_core.recipe.byte_sizes import size_words
from srr_core.recipe.glue_tasks import GlueName
from srr_core.recipe.presets import describe_validation, parse_assignments
from srr_core.recipe.task_suites import SUITES

BosSetting = bool | None
"""None: as the published tables have it, which is False but for Gemma; the protocol says what it came to."""


class TokenPerplexitySpec(Spec):
    """Perplexity per token over disjoint windows cut in order from one text."""

    kind: Literal["perplexity"] = "perplexity"
    num_sequences: int = Field(default=128, ge=1, le=100_000)
    sequence_length: int = Field(default=2048, ge=8, le=131_072)
    batch_size: int = Field(default=4, ge=1, le=1024)


class TextDivergenceSpec(Spec):
    """Divergence of the next token's distribution from the source's, over disjoint windows of one text."""

    kind: Literal["divergence"] = "divergence"
    num_sequences: int = Field(default=32, ge=1, le=100_000)
    sequence_length: int = Field(default=2048, ge=8, le=131_072)
    batch_size: int = Field(default=4, ge=1, le=1024)


class WordPerplexitySpec(Spec):
    """Perplexity per word over raw pages, as lm-eval's `wikitext` task and the published tables."""

    kind: Literal["word-perplexity"] = "word-perplexity"
    max_length: int = Field(default=2048, ge=8, le=131_072, description="Tokens of a rolling window.")
    add_bos_token: BosSetting = None
    detokenize: Literal["wikitext", "none"] = Field(
        default="wikitext", description="What pages go through before they are scored; none for ordinary prose."
    )
    max_pages: int | None = Field(default=None, ge=1, le=100_000, description="From the first; None for all.")
    batch_size: int = Field(default=4, ge=1, le=1024)


class HarnessSpec(Spec):
    """Tasks of lm-evaluation-harness on the loaded, packed model."""

    kind: Literal["harness"] = "harness"
    suite: Literal["srr-5", "qera-6", "gsm8k", "quick"] | None = None
    tasks: tuple[str, ...] = Field(default=(), max_length=200)
    num_fewshot: int | None = Field(default=None, ge=0, le=64, description="None: what the suite or the task says.")
    limit: int | None = Field(default=None, ge=1, description="Questions of each task, from the first; None for all.")
    max_length: int = Field(default=2048, ge=64, le=131_072)
    add_bos_token: BosSetting = None
    batch_size: int = Field(default=8, ge=1, le=1024)

    @model_validator(mode="after")
    def _one_of_both(self) -> "HarnessSpec":
        if self.suite is not None and self.tasks:
            raise ValueError("give a suite or tasks, not both")
        return self

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks that are run; our own small ones where nothing is named."""
        return self.tasks or SUITES[self.suite or "quick"].names


class GlueSpec(Spec):
    """One task of GLUE on a classifier that was fine-tuned for it."""

    kind: Literal["glue"] = "glue"
    task: GlueName = "sst2"
    split: str | None = Field(default=None, description="Of the dataset on the Hub; the validation split by default.")
    limit: int | None = Field(default=None, ge=1, description="Examples, from the first; None for all.")
    max_length: int = Field(default=256, ge=8, le=131_072)
    batch_size: int = Field(default=32, ge=1, le=1024)


class SentenceSimilaritySpec(Spec):
    """How far the vectors of an embedding model are from its source's, and what that does to a search."""

    kind: Literal["sentence-similarity"] = "sentence-similarity"
    num_sentences: int = Field(default=512, ge=2, le=100_000, description="Sentences taken from the text.")
    max_length: int = Field(default=256, ge=8, le=131_072)
    batch_size: int = Field(default=32, ge=1, le=1024)


class SpeedMemorySpec(Spec):
    """Load time, resident memory, and tokens per second, against the source on the same device in the same run."""

    kind: Literal["speed-memory"] = "speed-memory"
    batch_sizes: tuple[Annotated[int, Field(ge=1, le=1024)], ...] = Field(default=(1, 16), min_length=1, max_length=8)
    prompt_tokens: int = Field(default=128, ge=1, le=131_072)
    new_tokens: int = Field(default=32, ge=1, le=4096)
    rounds: int = Field(default=3, ge=1, le=99)
    dtype: Literal["float32", "bfloat16", "float16"] | None = Field(
        default=None, description="Of activations, for both models; each one's own by default."
    )


USUAL_PROMPTS = ("The capital of France is", "Once upon a time")
MAX_SAMPLED_BYTES = 8 * 2**30
"""Of the weights of a model that answers prompts: about four billion parameters in 16 bits, minutes on a CPU."""


class SamplesSpec(Spec):
    """A few prompts continued by the model and by its source, greedily, to be read side by side."""

    kind: Literal["samples"] = "samples"
    prompts: tuple[Annotated[str, Field(min_length=1, max_length=2000)], ...] = Field(
        default=(), max_length=8, description="Taken as they are, no chat template around them; none: two usual ones."
    )
    new_tokens: int = Field(default=64, ge=1, le=256, description="Of one answer at most.")
    max_seconds: int = Field(
        default=120, ge=1, le=600, description="For all answers of one model; one that is not finished ends there."
    )

    @property
    def texts(self) -> tuple[str, ...]:
        """The prompts that are answered."""
        return self.prompts or USUAL_PROMPTS


EvaluationKind = Literal[
    "divergence", "perplexity", "word-perplexity", "harness", "glue", "sentence-similarity", "speed-memory", "samples"
]
AnyEvaluationSpec = Annotated[
    TextDivergenceSpec
    | TokenPerplexitySpec
    | WordPerplexitySpec
    | HarnessSpec
    | GlueSpec
    | SentenceSimilaritySpec
    | SpeedMemorySpec
    | SamplesSpec,
    Field(discriminator="kind"),
]
EVALUATION_KINDS: tuple[EvaluationKind, ...] = (
    "divergence",
    "perplexity",
    "word-perplexity",
    "harness",
    "glue",
    "sentence-similarity",
    "speed-memory",
    "samples",
)

_OF_NEXT_TOKENS = frozenset({"divergence", "perplexity", "word-perplexity", "harness", "samples"})
_COMPARES = ("divergence", "samples")
_WITHOUT_NEXT_TOKEN = ("MaskedLM", "Classification", "QuestionAnswering", "MultipleChoice")
_CLASSIFIER = "ForSequenceClassification"


def misfit(kind: EvaluationKind, architecture: str, *, has_reference: bool, has_pairs: bool) -> str | None:
    """Return why an evaluator certainly does not fit a model, as far as the name of its class tells; None otherwise.

    Args:
        architecture: The class in config.json.
        has_reference: Whether there is a model to compare with.
        has_pairs: Whether scored or labelled pairs are given.
    """
    if kind in _OF_NEXT_TOKENS and architecture.endswith(_WITHOUT_NEXT_TOKEN):
        return f"{kind} needs a model that predicts the next token, and {architecture} does not"
    if kind == "glue" and not architecture.endswith(_CLASSIFIER):
        return f"glue needs a classifier, and {architecture} is none"
    if kind in _COMPARES and not has_reference:
        return f"{kind} needs a model to compare with"
    if kind == "sentence-similarity" and not (has_reference or has_pairs):
        return "sentence-similarity needs a model to compare with, or scored pairs of sentences"
    return None


def too_large(kind: EvaluationKind, weight_bytes: int, model_id: str) -> str | None:
    """Return why a model is too large for an evaluator that is bounded, or None."""
    if kind != "samples" or weight_bytes <= MAX_SAMPLED_BYTES:
        return None
    return (
        f"samples is for small models: {model_id} has {size_words(weight_bytes)} of weights, and "
        f"{size_words(MAX_SAMPLED_BYTES)} are the most"
    )


def parse_evaluations(kinds: Sequence[str], assignments: Sequence[str] = ()) -> tuple[AnyEvaluationSpec, ...]:
    """Return the specifications behind names, single fields replaced.

    Args:
        kinds: Names of evaluators, in the order they are to run.
        assignments: `KIND.FIELD=VALUE` each, such as `harness.limit=100`; the kind must be among the names.
    Raises:
        RecipeError: a name or a field is unknown, or a value is out of its range.
    """
    for kind in kinds:
        if kind not in EVALUATION_KINDS:
            near = difflib.get_close_matches(kind, EVALUATION_KINDS, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]}? " if near else ""
            raise RecipeError(f"there is no evaluator {kind!r}; {hint}there are {', '.join(EVALUATION_KINDS)}")
    fields: dict[str, dict[str, Any]] = {kind: {} for kind in kinds}
    for path, value in parse_assignments(assignments).items():
        kind, _, name = path.partition(".")
        if kind not in fields or not name:
            raise RecipeError(f"--set {path} is no field of an evaluator that runs; write KIND.FIELD, as harness.limit")
        fields[kind][name] = value
    adapter: TypeAdapter[AnyEvaluationSpec] = TypeAdapter(AnyEvaluationSpec)
    try:
        return tuple(adapter.validate_python({**given, "kind": kind}) for kind, given in fields.items())
    except ValidationError as error:
        raise RecipeError(f"invalid evaluator: {describe_validation(error)}") from error
