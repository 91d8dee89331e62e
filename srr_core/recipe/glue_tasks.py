"""The eight tasks of GLUE as data: their columns, labels and metrics. Source: Wang et al. 2018, arXiv:1804.07461."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

GlueName = Literal["cola", "sst2", "mrpc", "stsb", "qqp", "mnli", "qnli", "rte"]
GlueMetric = Literal["accuracy", "f1", "matthews", "pearson", "spearman"]

GLUE_DATASET = "nyu-mll/glue"
"""Where the Hub has all eight, as configurations of their names."""


@dataclass(frozen=True)
class GlueTask:
    """One task."""

    name: GlueName
    first: tuple[str, ...]
    """What the column of the first sentence is called, in the files of GLUE and on the Hub."""
    second: tuple[str, ...]
    """The same of the second; empty for single sentences."""
    label: tuple[str, ...]
    labels: tuple[str, ...]
    """Classes in the order of their numbers; empty for a score."""
    metrics: tuple[GlueMetric, ...]
    """The first is the one of tables."""
    split: str = "validation"
    """The one with labels that is evaluated; the labels of `test` are not public."""


_PAIR = (("sentence1", "#1 String"), ("sentence2", "#2 String"))
_ENTAILMENT = ("entailment", "not_entailment")

GLUE_TASKS: Mapping[GlueName, GlueTask] = {
    task.name: task
    for task in (
        GlueTask("cola", ("sentence",), (), ("label",), ("unacceptable", "acceptable"), ("matthews", "accuracy")),
        GlueTask("sst2", ("sentence",), (), ("label",), ("negative", "positive"), ("accuracy",)),
        GlueTask("mrpc", *_PAIR, ("label", "Quality"), ("not_equivalent", "equivalent"), ("accuracy", "f1")),
        GlueTask("stsb", *_PAIR, ("label", "score"), (), ("pearson", "spearman")),
        GlueTask(
            "qqp",
            ("question1",),
            ("question2",),
            ("label", "is_duplicate"),
            ("not_duplicate", "duplicate"),
            ("accuracy", "f1"),
        ),
        GlueTask(
            "mnli",
            ("premise", "sentence1"),
            ("hypothesis", "sentence2"),
            ("label", "gold_label"),
            ("entailment", "neutral", "contradiction"),
            ("accuracy",),
            split="validation_matched",
        ),
        GlueTask("qnli", ("question",), ("sentence",), ("label",), _ENTAILMENT, ("accuracy",)),
        GlueTask("rte", ("sentence1",), ("sentence2",), ("label",), _ENTAILMENT, ("accuracy",)),
    )
}
