"""What a file of training data is, before a model is loaded: counts, refusals told by row, and what will be learned."""

from pydantic import BaseModel, ConfigDict


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Piece(_Frozen):
    """A stretch of an example."""

    text: str
    is_trained: bool
    """Whether the loss is taken over predicting it."""


class Preview(_Frozen):
    """One example as the model meets it."""

    row: int
    pieces: tuple[Piece, ...]
    label: str | None = None


class SplitReport(_Frozen):
    """One part of the data: training or validation."""

    rows: int
    examples: int
    tokens: int
    """After the template."""
    trained_tokens: int
    """Tokens the loss is taken over; 0 for classifiers, whose loss is over labels."""
    longest: int
    """Tokens of the longest example."""
    truncated: int
    """Examples that were cut to the window."""
    labels: dict[str, int] = {}
    """Rows of each label, for classifiers."""

    @property
    def trained_share(self) -> float:
        """Trained tokens of all tokens."""
        return self.trained_tokens / self.tokens if self.tokens else 0.0


class DataSketch(_Frozen):
    """What can be said of a file without the model's tokenizer: everything but tokens, windows and steps."""

    rows: int
    columns: tuple[str, ...]
    """Of the first row."""
    characters: int
    """Of all that would be read."""
    trained_characters: int
    """Of these, what the loss would be taken over; 0 for classifiers."""
    longest_characters: int = 0
    """Of the longest example."""
    duplicates: int
    labels: dict[str, int] = {}
    previews: tuple[Preview, ...]


class DataReport(_Frozen):
    """The whole data of a fine-tuning."""

    sha256: str
    """Of the training file; that of the validation file follows after a space, where there is one."""
    training: SplitReport
    validation: SplitReport
    duplicates: int
    """Training rows that repeat an earlier one, kept or dropped as the specification says."""
    leaked: int
    """Validation rows that are training rows too."""
    windows: int
    """Packed windows of one epoch; examples where they are not packed."""
    steps_per_epoch: int
    steps: int
    previews: tuple[Preview, ...]
    notes: tuple[str, ...] = ()


class TuningNeeds(_Frozen):
    """What a fine-tuning would take on this machine, by a plain model."""

    trained_parameters: int
    trainings: int
    """Of the grid."""
    base_bytes: int
    """Of the frozen model in memory."""
    memory_bytes: int
    """Peak while training, where layers are computed."""
    seconds: float
    """Of all trainings with evaluations, and of the compression before them."""
