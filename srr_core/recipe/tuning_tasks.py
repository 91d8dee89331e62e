"""What is learned, and from which columns: the task of a fine-tuning."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Annotated, Literal

from pydantic import Field, model_validator

from srr_core.recipe.base import Spec

Column = Annotated[str, Field(min_length=1, max_length=200)]
MetricName = Literal["accuracy", "matthews", "pearson", "spearman", "pearson-spearman"]
GLUEName = Literal["cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte"]


class TextTask(Spec):
    """Predict every next token of plain text."""

    kind: Literal["text"] = "text"
    column: Column = "text"
    unit: Literal["file", "paragraph", "line"] = Field(
        default="paragraph", description="What one document is in a plain text file."
    )


class InstructionTask(Spec):
    """Answer: rows of prompt and completion, or of messages with roles."""

    kind: Literal["instructions"] = "instructions"
    prompt: Column = "prompt"
    completion: Column = "completion"
    messages: Column = "messages"
    template: str | None = Field(
        default=None, max_length=100_000, description="Jinja template of a chat; the tokenizer's own by default."
    )
    train_on: Literal["answers", "last-answer", "everything"] = Field(
        default="answers", description="Tokens the loss is taken over: completions and turns of the assistant, or all."
    )


class ClassificationTask(Spec):
    """Tell which of a few labels a text, or a pair of texts, has."""

    kind: Literal["classification"] = "classification"
    text: Column = "text"
    second_text: Column | None = None
    label: Column = "label"
    labels: tuple[Annotated[str, Field(min_length=1, max_length=200)], ...] | None = Field(
        default=None,
        min_length=2,
        max_length=1000,
        description="Names in the order of their numbers; by default those of the training rows, sorted.",
    )
    metric: Literal["accuracy", "matthews"] = "accuracy"

    @model_validator(mode="after")
    def _names_differ(self) -> "ClassificationTask":
        if self.labels is not None and len(set(self.labels)) < len(self.labels):
            raise ValueError("labels are named twice")
        return self


class RegressionTask(Spec):
    """Give a text, or a pair of texts, a number."""

    kind: Literal["regression"] = "regression"
    text: Column = "text"
    second_text: Column | None = None
    label: Column = "label"
    metric: Literal["pearson", "spearman", "pearson-spearman"] = "pearson"


class GLUETask(Spec):
    """One of the eight tasks of GLUE that the papers of the family report; columns and metric are the task's.

    Source: Wang et al., GLUE, arXiv:1804.07461; the metrics as in QERA, arXiv:2410.06040.
    """

    kind: Literal["glue"] = "glue"
    name: GLUEName
    first_text: Column | None = Field(default=None, description="In place of the task's own column.")
    label: Column = "label"

    def as_plain(self) -> "ClassificationTask | RegressionTask":
        """Return the same task with its columns, labels and metric spelt out."""
        first, second, num_labels, metric = GLUE_TASKS[self.name]
        text = self.first_text or first
        if metric == "pearson-spearman":
            return RegressionTask(text=text, second_text=second, label=self.label, metric=metric)
        return ClassificationTask(
            text=text,
            second_text=second,
            label=self.label,
            labels=tuple(str(number) for number in range(num_labels)),
            metric="matthews" if metric == "matthews" else "accuracy",
        )


class SamplingSpec(Spec):
    """How answers are generated. The defaults are those of the published GSM8K runs (QERA, LoftQ)."""

    temperature: float = Field(default=0.8, ge=0.0, le=10.0, description="0 takes the likeliest token.")
    top_k: int = Field(default=40, ge=0, le=100_000)
    top_p: float = Field(default=0.95, gt=0.0, le=1.0)
    max_new_tokens: int = Field(default=256, ge=1, le=8192)


class GSM8KTask(Spec):
    """Grade-school arithmetic with the prompt of the published runs, scored by generating answers.

    Source: LoftQ, arXiv:2310.08659, whose prompt QERA and SRR use too.
    """

    kind: Literal["gsm8k"] = "gsm8k"
    question: Column = "question"
    answer: Column = "answer"
    sampling: SamplingSpec = SamplingSpec()
    max_scored: int | None = Field(
        default=None, ge=1, description="Questions answered at each evaluation; all by default."
    )


TaskSpec = Annotated[
    TextTask | InstructionTask | ClassificationTask | RegressionTask | GLUETask | GSM8KTask,
    Field(discriminator="kind"),
]


def metric_of(task: TaskSpec) -> tuple[str, bool]:
    """Return the score a task's best checkpoint is chosen by, and whether more of it is better."""
    plain = task.as_plain() if isinstance(task, GLUETask) else task
    if isinstance(plain, ClassificationTask | RegressionTask):
        return plain.metric, True
    return ("flexible_accuracy", True) if isinstance(plain, GSM8KTask) else ("loss", False)


GLUE_TASKS: Mapping[str, tuple[str, str | None, int, MetricName]] = MappingProxyType(
    {
        "cola": ("sentence", None, 2, "matthews"),
        "sst2": ("sentence", None, 2, "accuracy"),
        "mrpc": ("sentence1", "sentence2", 2, "accuracy"),
        "qqp": ("question1", "question2", 2, "accuracy"),
        "stsb": ("sentence1", "sentence2", 1, "pearson-spearman"),
        "mnli": ("premise", "hypothesis", 3, "accuracy"),
        "qnli": ("question", "sentence", 2, "accuracy"),
        "rte": ("sentence1", "sentence2", 2, "accuracy"),
    }
)
"""First column, second column, number of labels (1: a number) and metric."""
