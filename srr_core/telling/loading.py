"""How a result is loaded, runtime by runtime: what to type, and what to know first. For the card and the pages.

Whether a runtime takes a result is the matrix' to say (`runtimes`); what is typed stands here, once.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from srr_core.recipe.architectures import ENCODER_DECODERS
from srr_core.recipe.compatibility import OURS, TRANSFORMERS
from srr_core.recipe.servers import HUMMING, MARLIN, PLAIN_WORD_BITS, VLLM_LORA, VLLM_PLUGIN, lora_flag
from srr_core.recipe.verdicts import CompatibilityRow, Verdict
from srr_core.report import Report
from srr_core.telling.runtimes import has_experts, runtimes

STOCK_PACKAGES = '"transformers>=5" "compressed-tensors>=0.18"'
_AUTO_CLASSES = {
    "ForCausalLM": "AutoModelForCausalLM",
    "LMHeadModel": "AutoModelForCausalLM",
    "ForMaskedLM": "AutoModelForMaskedLM",
    "Model": "AutoModel",
}
_MISSING_PEFT = (
    "Without peft, transformers loads Q alone, silently: the model runs, and is worse than every number of its report."
)


@dataclass(frozen=True)
class Step:
    """Something to type."""

    language: Literal["sh", "python"]
    text: str


@dataclass(frozen=True)
class Loading:
    """One way to load a result."""

    name: str
    """For addresses and ids."""
    title: str
    verdict: Verdict
    """Of the matrix."""
    reason: str
    """Of the verdict, as the matrix has it."""
    steps: tuple[Step, ...]
    """Empty where the verdict is no."""
    warning: str = ""
    """What goes wrong without a word where it is done otherwise."""


def loadings(report: Report, repo_id: str, *, folder: str | None = None) -> tuple[Loading, ...]:
    """Return every way to load a result, those that work first in the order people ask for them.

    Args:
        repo_id: The repository it lies in.
        folder: A folder it lies in as well, which our own runtime takes. transformers would look for the adapter's
            base in the repository all the same.
    """
    rows = {row.runtime: row for row in runtimes(report)}
    rank = served_rank(report)
    found = [
        _loading(
            rows[TRANSFORMERS],
            "transformers",
            "transformers",
            transformers_steps(report, repo_id),
            warning=_MISSING_PEFT if rank else "",
        ),
        *_servers(report, repo_id, rows),
        _loading(rows[OURS], "srr", "Our own runtime, packed in memory", (our_step(folder or repo_id),)),
    ]
    return tuple(sorted(found, key=lambda way: (way.verdict == "no", folder is not None and way.name != "srr")))


def served_rank(report: Report) -> int:
    """Return the rank of L·R, as the budget chose it or the recipe says."""
    return report.recipe.rank if report.budget is None else report.budget.rank


def auto_class(architecture: str) -> str:
    """Return the class of transformers that loads a model of this architecture with its head: its own, if need be."""
    if architecture in ENCODER_DECODERS:
        return architecture
    found = (name for suffix, name in _AUTO_CLASSES.items() if architecture.endswith(suffix))
    # A name that a stranger wrote is not told unless it can be one.
    return next(found, architecture if architecture.isidentifier() else "AutoModel")


def transformers_steps(report: Report, repo_id: str) -> tuple[Step, Step]:
    """Return what to install for transformers, and what to run."""
    name = auto_class(report.source.architecture)
    packages = STOCK_PACKAGES + (" peft" if served_rank(report) else "")
    code = (
        f"from transformers import {name}, AutoTokenizer\n\n"
        f'model = {name}.from_pretrained("{repo_id}")\n'
        f'tokenizer = AutoTokenizer.from_pretrained("{repo_id}")'
    )
    return Step("sh", f"pip install {packages}"), Step("python", code)


def our_step(repo_id: str) -> Step:
    """Return what to run for our own runtime."""
    return Step("python", f'from srr_core.runtime import load\n\nmodel = load("{repo_id}")')


def plugin_step(repo_id: str) -> Step:
    """Return how vLLM serves Q + L·R with our plugin."""
    return Step("sh", f"pip install srr-compression\nvllm serve {repo_id}")


def plain_step(repo_id: str) -> Step:
    """Return how vLLM serves a result without L·R."""
    return Step("sh", f"vllm serve {repo_id}")


def lora_step(report: Report, repo_id: str) -> Step | None:
    """Return how vLLM serves Q with L·R as a LoRA, or None where it takes no adapter of this rank."""
    rank = served_rank(report)
    flag = lora_flag(rank * (2 if has_experts(report) else 1))
    if flag is None:
        return None
    return Step(
        "sh",
        f"vllm serve {repo_id} --quantization compressed-tensors --enable-lora --max-lora-rank {flag} "
        f"--lora-modules corrected={repo_id}",
    )


def needs_newest_words(report: Report) -> bool:
    """Whether only recent versions of compressed-tensors unpack the codes."""
    return report.recipe.quantization_bits not in PLAIN_WORD_BITS


def _servers(report: Report, repo_id: str, rows: Mapping[str, CompatibilityRow]) -> list[Loading]:
    kernel = rows[MARLIN] if rows[MARLIN].verdict != "no" else rows[HUMMING]
    if not served_rank(report):
        return [_loading(kernel, "vllm", "vLLM", (plain_step(repo_id),))]
    lora = lora_step(report, repo_id)
    return [
        _loading(_worse(rows[VLLM_PLUGIN], kernel), "vllm", "vLLM with our plugin", (plugin_step(repo_id),)),
        _loading(
            _worse(rows[VLLM_LORA], kernel),
            "vllm-lora",
            "vLLM, L·R as a LoRA",
            () if lora is None else (lora,),
            warning=f"Ask for the model corrected; {repo_id} is Q alone.",
        ),
    ]


def _worse(one: CompatibilityRow, other: CompatibilityRow) -> CompatibilityRow:
    return other if one.verdict != "no" and other.verdict == "no" else one


def _loading(row: CompatibilityRow, name: str, title: str, steps: tuple[Step, ...], *, warning: str = "") -> Loading:
    is_refused = row.verdict == "no"
    return Loading(name, title, row.verdict, row.reason, () if is_refused else steps, "" if is_refused else warning)
