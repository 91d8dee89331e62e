"""The task lists of the literature by name: which tasks, which metric of each, how many examples in the prompt."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class SuiteTask:
    """A task of lm-evaluation-harness, or a group of tasks, and the number taken from it."""

    name: str
    metric: str
    filter: str = "none"
    """Which of the harness's readings of an answer counts; `none` where there is one only."""


@dataclass(frozen=True)
class Suite:
    """Tasks whose plain mean is one number of a table."""

    title: str
    tasks: tuple[SuiteTask, ...]
    num_fewshot: int | None
    """Examples before each question; None leaves what each task says."""
    reference: str = ""

    @property
    def names(self) -> tuple[str, ...]:
        """The tasks by name."""
        return tuple(task.name for task in self.tasks)


_MMLU = SuiteTask("mmlu", "acc")
_BBH = SuiteTask("leaderboard_bbh", "acc_norm")
_BOOLQ = SuiteTask("boolq", "acc")
_WINOGRANDE = SuiteTask("winogrande", "acc")

SUITES: Mapping[str, Suite] = {
    "srr-5": Suite(
        "the five zero-shot tasks of SRR",
        (SuiteTask("hellaswag", "acc_norm"), _WINOGRANDE, _BOOLQ, _MMLU, _BBH),
        num_fewshot=0,
        reference="arXiv:2602.02001",
    ),
    "qera-6": Suite(
        "the six zero-shot tasks of QERA",
        (
            SuiteTask("arc_challenge", "acc_norm"),
            _BOOLQ,
            SuiteTask("commonsense_qa", "acc"),
            _BBH,
            _MMLU,
            _WINOGRANDE,
        ),
        num_fewshot=0,
        reference="arXiv:2410.06040",
    ),
    "gsm8k": Suite(
        "grade-school arithmetic, answers written out",
        (SuiteTask("gsm8k", "exact_match", "strict-match"),),
        num_fewshot=5,
    ),
    "quick": Suite(
        "our own three small tasks, which come with the package and need no network",
        (
            SuiteTask("srr_agreement", "acc"),
            SuiteTask("srr_completion", "acc"),
            SuiteTask("srr_arithmetic", "exact_match"),
        ),
        num_fewshot=None,
    ),
}
"""Zero-shot where the papers are, although some tasks say otherwise; the groups BBH and MMLU count as one task each."""

UNWEIGHTED_GROUPS = frozenset({"leaderboard_bbh"})
"""Groups whose mean is over tasks, as both papers take it; the harness weighs them by questions."""
