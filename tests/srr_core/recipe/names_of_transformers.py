"""The architectures of the installed transformers that the core can take; run as a program, it rewrites the table.

python -m tests.srr_core.recipe.names_of_transformers
"""

import textwrap
from pathlib import Path

import srr_core.recipe.architectures as table

HEADS = (
    "CAUSAL_LM",
    "MASKED_LM",
    "SEQUENCE_CLASSIFICATION",
    "TOKEN_CLASSIFICATION",
    "QUESTION_ANSWERING",
    "MULTIPLE_CHOICE",
    "NEXT_SENTENCE_PREDICTION",
    "PRETRAINING",
    "IMAGE_TEXT_TO_TEXT",
    "SEQ_TO_SEQ_CAUSAL_LM",
)
TEXT_HEADS = ("CAUSAL_LM", "MASKED_LM", "SEQUENCE_CLASSIFICATION", "IMAGE_TEXT_TO_TEXT", "SEQ_TO_SEQ_CAUSAL_LM")
"""A model type that has one of these reads text; others (vision, speech, time series) are left out whole."""

STATE_SPACE = (
    "falcon_mamba",
    "jamba",
    "mamba",
    "mamba2",
    "recurrent_gemma",
    "rwkv",
    "xlstm",
    "zamba",
    "zamba2",
)
"""State-space and recurrent models: their mixers are not matrices that hidden states alone go through."""


def supported_names() -> set[str]:
    """Return the class names of models with text in and stacks of blocks."""
    from transformers.models.auto import modeling_auto as auto

    def names(head: str) -> dict[str, tuple[str, ...]]:
        mapping = getattr(auto, f"MODEL_{head}MAPPING_NAMES")
        return {kind: (found,) if isinstance(found, str) else tuple(found) for kind, found in mapping.items()}

    readers = {kind for head in TEXT_HEADS for kind in names(f"FOR_{head}_")}
    kinds = readers - set(STATE_SPACE)
    tables = [names(f"FOR_{head}_") for head in HEADS] + [names("")]
    listed = {name for one in tables for kind, found in one.items() if kind in kinds for name in found}
    # The text half of a model with two towers, which can be compressed though the whole cannot.
    towers = {name for found in names("FOR_TEXT_ENCODING_").values() for name in found if name.endswith("TextModel")}
    return listed | towers


def rewrite() -> None:
    """Put the names into the module of the table."""
    import transformers

    path = Path(table.__file__)
    before, _, rest = path.read_text(encoding="utf-8").partition('_NAMES = """\n')
    _, _, after = rest.partition('"""\n')
    lines = textwrap.fill(" ".join(sorted(supported_names())), 116, initial_indent="    ", subsequent_indent="    ")
    before = before.replace(table.TRANSFORMERS, transformers.__version__)
    path.write_text(f'{before}_NAMES = """\n{lines}\n"""\n{after}', encoding="utf-8")


if __name__ == "__main__":
    rewrite()
