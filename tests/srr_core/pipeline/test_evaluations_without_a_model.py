"""What is known of evaluations before there is a model."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from srr_core.evaluators.subject import Files
from srr_core.evaluators.table import EVALUATIONS
from srr_core.pipeline.evaluate import needed_datasets
from srr_core.recipe.evaluations import (
    EVALUATION_KINDS,
    AnyEvaluationSpec,
    GlueSpec,
    HarnessSpec,
    TokenPerplexitySpec,
    WordPerplexitySpec,
)


def test_what_must_be_fetched_is_known_without_a_model() -> None:
    specs = [
        TokenPerplexitySpec(),
        WordPerplexitySpec(),
        HarnessSpec(tasks=("gsm8k", "srr_agreement")),
        GlueSpec(task="rte"),
    ]
    glue_and_tasks = {"harness": ("openai/gsm8k",), "glue": ("nyu-mll/glue",)}
    assert needed_datasets(specs, Files(pages=Path("pages.jsonl"))) == glue_and_tasks
    wikitext = {"word-perplexity": ("EleutherAI/wikitext_document_level",)}
    assert needed_datasets(specs, Files()) == {**wikitext, **glue_and_tasks}


def test_the_table_has_every_kind() -> None:
    adapter: TypeAdapter[AnyEvaluationSpec] = TypeAdapter(AnyEvaluationSpec)
    specs = [adapter.validate_python({"kind": kind}) for kind in EVALUATION_KINDS]
    assert {type(spec) for spec in specs} == set(EVALUATIONS)
    assert [EVALUATIONS.build(spec).kind for spec in specs] == list(EVALUATION_KINDS)


def test_a_suite_and_tasks_exclude_each_other() -> None:
    with pytest.raises(ValidationError, match="not both"):
        HarnessSpec(suite="quick", tasks=("boolq",))
