"""GLUE: metrics equal those of scikit-learn and SciPy, files of every shape are read, classes are found by name."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from sklearn import metrics as sk
from transformers import AutoModelForSequenceClassification, AutoTokenizer, PreTrainedModel

from srr_core.errors import EvaluationError
from srr_core.evaluators.glue.classify import class_order, predict
from srr_core.evaluators.glue.data import Example, examples_from_rows, read_examples
from srr_core.evaluators.glue.metrics import METRICS, standard_error
from srr_core.recipe.glue_tasks import GLUE_TASKS, GlueName
from tests.pico import build_checkpoint, byte_tokenizer

_CLASSES = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40)
_SCORES = st.lists(st.tuples(st.integers(-5, 5), st.integers(-5, 5)), min_size=3, max_size=40)


def _columns(pairs: list[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
    values = np.array(pairs, dtype=np.float64)
    return values[:, 0], values[:, 1]


@given(_CLASSES)
@settings(max_examples=100, deadline=None)
def test_metrics_of_classes_equal_scikit_learn(pairs: list[tuple[int, int]]) -> None:
    predicted, wanted = _columns(pairs)
    assert METRICS["accuracy"](predicted, wanted) == pytest.approx(sk.accuracy_score(wanted, predicted))
    assert METRICS["f1"](predicted, wanted) == pytest.approx(sk.f1_score(wanted, predicted, zero_division=0))
    if len(set(wanted)) > 1 or len(set(predicted)) > 1:  # else scikit-learn warns
        expected = sk.matthews_corrcoef(wanted, predicted)
        assert METRICS["matthews"](predicted, wanted) == pytest.approx(expected, abs=1e-12)


@given(_SCORES)
@settings(max_examples=100, deadline=None)
def test_correlations_equal_scipy(pairs: list[tuple[int, int]]) -> None:
    predicted, wanted = _columns(pairs)
    if len(set(predicted)) == 1 or len(set(wanted)) == 1:
        assert METRICS["pearson"](predicted, wanted) == 0.0
        assert METRICS["spearman"](predicted, wanted) == 0.0
        return
    assert METRICS["pearson"](predicted, wanted) == pytest.approx(stats.pearsonr(predicted, wanted)[0], abs=1e-12)
    assert METRICS["spearman"](predicted, wanted) == pytest.approx(stats.spearmanr(predicted, wanted)[0], abs=1e-12)


def test_the_error_of_an_accuracy_is_the_binomial_one() -> None:
    wanted = np.zeros(400)
    predicted = (np.arange(400) % 4 == 0).astype(np.float64)
    # The spread of 1000 draws is known to 1/sqrt(2000) = 2.2 %; three of these.
    assert standard_error(METRICS["accuracy"], predicted, wanted) == pytest.approx((0.75 * 0.25 / 400) ** 0.5, rel=0.07)


def test_a_model_paired_with_itself_has_no_error() -> None:
    predicted, wanted = np.arange(50.0), np.arange(50.0) ** 2
    assert standard_error(METRICS["spearman"], predicted, wanted, other=predicted) == 0.0


_FILES: dict[GlueName, tuple[str, list[Example]]] = {
    "cola": (
        "gj04\t1\t\tIt rains.\nbc01\t0\t*\tRains it\n",
        [Example("It rains.", None, 1.0), Example("Rains it", None, 0.0)],
    ),
    "sst2": ('sentence\tlabel\na "fine film\t1\n', [Example('a "fine film', None, 1.0)]),
    "mrpc": ("Quality\t#1 ID\t#2 ID\t#1 String\t#2 String\n1\t7\t8\ta\tb\n", [Example("a", "b", 1.0)]),
    "stsb": ("index\tsentence1\tsentence2\tscore\n0\ta\tb\t3.8\n", [Example("a", "b", 3.8)]),
    "qqp": ("id\tqid1\tqid2\tquestion1\tquestion2\tis_duplicate\n0\t1\t2\ta\tb\t0\n", [Example("a", "b", 0.0)]),
    "mnli": ("index\tsentence1\tsentence2\tgold_label\n0\ta\tb\tcontradiction\n", [Example("a", "b", 2.0)]),
    "qnli": ("index\tquestion\tsentence\tlabel\n0\ta\tb\tnot_entailment\n", [Example("a", "b", 1.0)]),
    "rte": ("index\tsentence1\tsentence2\tlabel\r\n0\ta\tb\tentailment\r\n", [Example("a", "b", 0.0)]),
}


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_the_file_that_glue_distributes_is_read(name: GlueName, tmp_path: Path) -> None:
    text, expected = _FILES[name]
    file = tmp_path / "dev.tsv"
    file.write_text(text, newline="")
    assert read_examples(file, GLUE_TASKS[name]) == expected


@pytest.mark.parametrize("name", GLUE_TASKS)
def test_rows_of_the_hub_are_read(name: GlueName) -> None:
    task = GLUE_TASKS[name]
    row: dict[str, Any] = {task.first[0]: "a", "label": 1, "idx": 0}
    if task.second:
        row[task.second[0]] = "b"
    assert examples_from_rows([row], task, called="glue") == [Example("a", "b" if task.second else None, 1.0)]


def test_sentences_without_a_header_are_read(tmp_path: Path) -> None:
    file = tmp_path / "dev.tsv"
    file.write_text("a fine film\t1\na dull one\t0\n")
    assert [example.label for example in read_examples(file, GLUE_TASKS["sst2"])] == [1.0, 0.0]


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("dev.tsv", "sentence\tlabel\nfine\t2\n", "line 2 has the label '2'; sst2 knows negative, positive"),
        (
            "dev.jsonl",
            '{"sentence": "fine", "label": -1}\n',
            "line 1 has the label -1; .*test files of GLUE hide theirs",
        ),
        ("dev.jsonl", '{"sentence": "fine"}\n', "line 1 has the label None"),
        ("dev.jsonl", '{"label": 1}\n', "line 1 has no sentence, which sst2 needs"),
        ("dev.jsonl", "[1]\n", "line 1 is no JSON object"),
        ("dev.jsonl", "{\n", "line 1 is no JSON"),
        ("dev.tsv", "a\tb\tc\td\te\n", "has no column label"),
        ("dev.tsv", "", "there is no example for sst2"),
        ("gone", None, "cannot be read"),
    ],
)
def test_bad_examples_are_refused(name: str, text: str | None, said: str, tmp_path: Path) -> None:
    file = tmp_path / name
    if text is not None:
        file.write_text(text)
    with pytest.raises(EvaluationError, match=said):
        read_examples(file, GLUE_TASKS["sst2"])


def _classifier(directory: Path, *, num_labels: int, **changes: Any) -> PreTrainedModel:
    build_checkpoint(directory, "BertForMaskedLM", dtype=torch.float32, pad_token_id=0)
    config = json.loads((directory / "config.json").read_text())
    config |= {"architectures": ["BertForSequenceClassification"], **changes}
    (directory / "config.json").write_text(json.dumps(config))
    torch.manual_seed(0)
    from transformers import AutoConfig

    kind = AutoConfig.from_pretrained(directory, num_labels=num_labels)
    model: PreTrainedModel = AutoModelForSequenceClassification.from_config(kind)
    return model.eval()


def test_classes_follow_the_names_of_the_model(tmp_path: Path) -> None:
    names = {"0": "CONTRADICTION", "1": "NEUTRAL", "2": "ENTAILMENT"}
    model = _classifier(tmp_path / "m", num_labels=3)
    model.config.id2label = {int(key): value for key, value in names.items()}
    assert class_order(model, GLUE_TASKS["mnli"]) == (2, 1, 0)


def test_numbered_classes_follow_the_task(tmp_path: Path) -> None:
    assert class_order(_classifier(tmp_path / "m", num_labels=2), GLUE_TASKS["qnli"]) == (0, 1)


def test_a_model_of_other_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError, match="has 2 outputs; mnli needs one fine-tuned with 3"):
        class_order(_classifier(tmp_path / "m", num_labels=2), GLUE_TASKS["mnli"])


def test_a_model_that_is_no_classifier_is_refused(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(build_checkpoint(tmp_path / "m"))
    with pytest.raises(EvaluationError, match="LlamaForCausalLM is none"):
        class_order(model, GLUE_TASKS["sst2"])


@torch.no_grad()
def test_predictions_are_those_of_one_example_at_a_time(tmp_path: Path) -> None:
    model = _classifier(tmp_path / "m", num_labels=1)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    texts = ["a", "the river carries the harbour", "no", "a garden holds"]
    examples = [Example(text, text[::-1], 0.0) for text in texts]
    found = predict(model, tokenizer, GLUE_TASKS["stsb"], examples, batch_size=3, max_length=40)
    expected = []
    for example in examples:
        encoded = byte_tokenizer()(example.first, example.second, return_tensors="pt", truncation=True, max_length=40)
        expected.append(float(model(**encoded).logits))
    np.testing.assert_allclose(found, expected, atol=1e-5)
    assert len(set(np.round(found, 6))) == len(texts)
