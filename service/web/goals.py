"""What people come for, and the recipe with its fields that serves each purpose."""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from srr_core.recipe import DEFAULT_RECIPE


@dataclass(frozen=True)
class Goal:
    """One purpose: the words for it, and what it fills into the form where nothing else was typed."""

    title: str
    hint: str
    fields: Mapping[str, str]


GOALS: Final[Mapping[str, Goal]] = MappingProxyType(
    {
        "everywhere": Goal(
            "To run everywhere",
            "4 bits that transformers, vLLM, SGLang and llama.cpp all take. Minutes for a small model.",
            {"recipe": DEFAULT_RECIPE},
        ),
        "close": Goal(
            "Smallest that stays close",
            "As few bits as a divergence of 0.02 nats per token allows, spent on the layers where they count.",
            {"recipe": "srr-fast", "target_kl": "0.02"},
        ),
        "four-bits": Goal(
            "Best at 4 bits",
            "Rounding, scales and L·R are learned. The slowest: it wants a GPU for more than a small model.",
            {"recipe": "srr-best", "target_bits": "4"},
        ),
        "vllm": Goal(
            "For vLLM",
            "A grid for its fast kernels.",
            {"recipe": "gptq", "target": "vllm"},
        ),
        "llama.cpp": Goal(
            "For llama.cpp",
            "A grid that its block types hold exactly; make the file with srr export --to gguf.",
            {"recipe": "gptq", "target": "llama.cpp"},
        ),
        "finetune": Goal(
            "To fine-tune",
            "4 bits and an L·R of rank 32 that is a LoRA adapter: training goes on from it.",
            {"recipe": "srr-gptq", "target": "transformers"},
        ),
    }
)
"""By the names that stand in an address; the first one is proposed."""
DEFAULT_GOAL: Final = next(iter(GOALS))
_TARGETS_OF_SIZE = ("target_bits", "target_size", "target_kl")


def with_goal(values: Mapping[str, str]) -> Mapping[str, str]:
    """Return the fields of a form with those of its goal where they were left empty; a chosen recipe has no goal.

    A target of size that was typed replaces that of the goal. An unknown goal changes nothing.
    """
    goal = GOALS.get(values.get("goal", "") or DEFAULT_GOAL)
    if values.get("recipe") or goal is None:
        return values
    has_size = any(values.get(name) for name in _TARGETS_OF_SIZE)
    filled = {
        name: text
        for name, text in goal.fields.items()
        if not values.get(name) and not (has_size and name in _TARGETS_OF_SIZE)
    }
    return {**values, **filled}
