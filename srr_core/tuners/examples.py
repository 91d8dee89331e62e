"""What a model is shown: tokens, and which of them it is taught to predict."""

from array import array
from dataclasses import dataclass


@dataclass(frozen=True)
class Example:
    """One row after the template and the tokenizer; a long text gives several."""

    row: int
    """Number of the row in its file."""
    ids: "array[int]"
    trained: bytes
    """One byte per token: 1 where the loss is taken over predicting this token."""
    label: int | float | None = None
    """Number of the class, or the value to give, of a row that is classified."""
    segments: "array[int] | None" = None
    """Token types of a pair of texts, for models that have them."""
    prompt: str = ""
    """Of a question that is scored by generating: what the model is given."""
    answer: str = ""
    """Of such a question: the reference."""
    is_truncated: bool = False

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def num_trained(self) -> int:
        """Tokens the loss is taken over."""
        return sum(self.trained)


def example(row: int, ids: list[int], trained: list[bool], *, is_truncated: bool = False) -> Example:
    """Return an example of tokens; the first token is never predicted, so it is never trained."""
    mask = bytearray(trained)
    if mask:
        mask[0] = 0
    return Example(row, array("i", ids), bytes(mask), is_truncated=is_truncated)
