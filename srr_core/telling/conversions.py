"""Into which formats a result can be converted, told from its report alone: the reason where not, and what would do."""

from dataclasses import dataclass

from srr_core.recipe.compatibility import GPTQ
from srr_core.recipe.exporters import ConversionSpec, GGUFSpec, GPTQFormatSpec, MergedSpec
from srr_core.recipe.gguf_types import LLAMA_CPP, PLAIN_ROPE
from srr_core.report import Report
from srr_core.telling.loading import served_rank
from srr_core.telling.runtimes import runtimes

_OTHERWISE = "Convert it to merged instead, which every result has"


@dataclass(frozen=True)
class Conversion:
    """One format that a result may be converted into."""

    target: ConversionSpec
    title: str
    words: str
    """What comes of it."""
    obstacle: str | None
    """Why it cannot be had, and what would do; None where nothing is known against it."""


def conversions(report: Report) -> tuple[Conversion, ...]:
    """Return every format in its usual form."""
    rows = {row.runtime: row for row in runtimes(report)}
    with_adapter = " L·R stays a LoRA beside it." if served_rank(report) else ""
    found: tuple[tuple[ConversionSpec, str, str], ...] = (
        (GGUFSpec(), "GGUF", f"For llama.cpp and what builds on it. {_sentence(rows[LLAMA_CPP].reason)}"),
        (GPTQFormatSpec(), "GPTQ", f"For GPTQ kernels: {rows[GPTQ].reason}.{with_adapter}"),
        (MergedSpec(), "Merged", "One dense matrix per layer: loads everywhere, and is as large as the source."),
    )
    return tuple(Conversion(spec, title, words, obstacle(spec, report)) for spec, title, words in found)


def obstacle(target: ConversionSpec, report: Report, *, rope: str = PLAIN_ROPE) -> str | None:
    """Return why a result certainly cannot be converted, and what would do; None where the files must decide.

    Args:
        rope: Type of the rotary embedding, which the report does not say.
    """
    if isinstance(target, MergedSpec):
        return None
    rows = {row.runtime: row for row in runtimes(report, rope=rope)}
    row = rows[GPTQ if isinstance(target, GPTQFormatSpec) else LLAMA_CPP]
    if row.verdict == "no":
        advice = "" if "merged" in row.reason else f". {_OTHERWISE}"
        return f"{row.reason}{advice}"
    if isinstance(target, GGUFSpec) and target.merged == "none" and not target.allow_inexact:
        return _inexact(row.reason)
    return None


def _inexact(reason: str) -> str | None:
    """Return why Q cannot lie in a file of its own; the matrix says "no block type" where none holds it."""
    if "no block type" not in reason:
        return None
    return "no block type holds these codes exactly. merged=auto writes one rounded file, allow_inexact rounds Q alone"


def _sentence(reason: str) -> str:
    return f"{reason[:1].upper()}{reason[1:]}."
