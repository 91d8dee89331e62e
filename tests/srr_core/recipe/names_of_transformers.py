"""What the core can take of the installed transformers, asked of the classes; run as a program, it rewrites the tables.

python -m tests.srr_core.recipe.names_of_transformers

No model is built: whether a class reads text is the question that the core asks of it too. Whether its blocks can be
run one at a time is found by trying, so the verdicts of the census say which cannot.
"""

import sys
import textwrap
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedModel
from transformers.models.auto import modeling_auto as auto
from transformers.pytorch_utils import Conv1D

import srr_core.recipe.architectures as table
from srr_core.models.inputs import takes_halves, takes_text
from tests.zoo.sweep import read_table

TEXT_HEADS = (
    "FOR_CAUSAL_LM",
    "FOR_MASKED_LM",
    "FOR_SEQUENCE_CLASSIFICATION",
    "FOR_IMAGE_TEXT_TO_TEXT",
    "FOR_SEQ_TO_SEQ_CAUSAL_LM",
    "FOR_SPEECH_SEQ_2_SEQ",
    "FOR_TEXT_ENCODING",
)
"""A model type that has one of these may read text; others (vision, audio, time series) are left out whole."""
HEADS = (
    *TEXT_HEADS,
    "FOR_TOKEN_CLASSIFICATION",
    "FOR_QUESTION_ANSWERING",
    "FOR_MULTIPLE_CHOICE",
    "FOR_NEXT_SENTENCE_PREDICTION",
    "FOR_PRETRAINING",
    "",
)
"""Tables of transformers, the last of models without a head."""
_OF_SIZES = ("only ", "config.json gives ")
"""How refusals begin that say something of one configuration, and nothing of its class."""


@cache
def supported_names() -> frozenset[str]:
    """Return the names of the classes that read text; their modules are imported, which takes ten seconds."""
    readers = {kind for head in TEXT_HEADS for kind, _ in _rows(head)}
    listed = {name for head in HEADS for kind, name in _rows(head) if kind in readers}
    return frozenset(name for name in listed if takes_text(getattr(transformers, name)))


def in_halves() -> frozenset[str]:
    """Return those that read one text and predict another."""
    return frozenset(name for name in supported_names() if takes_halves(getattr(transformers, name)))


def not_run() -> frozenset[str]:
    """Return those of the kinds that the census has refused for what they are, and finished in no form."""
    rows = [cells for cells in read_table().values() if cells[2] in supported_names()]
    refused = {_kind(cells[2]) for cells in rows if cells[3] == "refused" and not cells[7].startswith(_OF_SIZES)}
    refused -= {_kind(cells[2]) for cells in rows if cells[3] in {"stock", "own"}}
    return frozenset(name for name in supported_names() if _kind(name) in refused)


def transposed() -> frozenset[str]:
    """Return those whose module takes its layers from the class with transposed weights."""
    return frozenset(name for name in supported_names() if getattr(sys.modules[_kind(name)], "Conv1D", None) is Conv1D)


def every_class() -> Iterator[type[PreTrainedModel]]:
    """Yield every class of transformers' automatic tables of models."""
    tables: list[dict[str, Any]] = [
        getattr(auto, name)
        for name in sorted(vars(auto))
        if name.startswith("MODEL_") and name.endswith("MAPPING_NAMES")
    ]
    for name in sorted({name for one in tables for found in one.values() for name in _names(found)}):
        found = getattr(transformers, name, None)  # a table may name what its library has not
        if isinstance(found, type) and issubclass(found, PreTrainedModel):
            yield found


def _kind(name: str) -> str:
    """Return the module of transformers that a class is defined in, which stands for its blocks."""
    kind: type[PreTrainedModel] = getattr(transformers, name)
    return kind.__module__


def _rows(head: str) -> Iterator[tuple[str, str]]:
    mapping = getattr(auto, f"MODEL_{head}_MAPPING_NAMES" if head else "MODEL_MAPPING_NAMES")
    for kind, found in mapping.items():
        yield from ((kind, name) for name in _names(found))


def _names(found: str | tuple[str, ...]) -> tuple[str, ...]:
    return (found,) if isinstance(found, str) else tuple(found)


def rewrite() -> None:
    """Put the names into the module of the tables."""
    path = Path(table.__file__)
    text = path.read_text(encoding="utf-8").replace(table.TRANSFORMERS, transformers.__version__)
    for name, names in (
        ("_NAMES", supported_names()),
        ("_IN_HALVES", in_halves()),
        ("_NOT_RUN", not_run()),
        ("_TRANSPOSED", transposed()),
    ):
        text = _with(text, name, names)
    path.write_text(text, encoding="utf-8")


def _with(text: str, name: str, names: Iterable[str]) -> str:
    before, _, rest = text.partition(f'{name} = """\n')
    _, _, after = rest.partition('"""\n')
    lines = textwrap.fill(" ".join(sorted(names)), 116, initial_indent="    ", subsequent_indent="    ")
    return f'{before}{name} = """\n{lines}\n"""\n{after}'


if __name__ == "__main__":
    rewrite()
