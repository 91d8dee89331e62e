"""An evaluation outside of a compression: laws of every evaluator, the cache of sources, refusals before any work."""

import itertools
import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertForSequenceClassification

from srr_core.errors import EvaluationError, StopRequested, StorageError
from srr_core.evaluation_report import EvaluationReport
from srr_core.evaluators.subject import Files
from srr_core.pipeline import compress
from srr_core.pipeline.evaluate import EvaluationInputs, evaluate
from srr_core.recipe import named_recipe, override
from srr_core.recipe.evaluations import (
    AnyEvaluationSpec,
    GlueSpec,
    HarnessSpec,
    SamplesSpec,
    SentenceSimilaritySpec,
    SpeedMemorySpec,
    TextDivergenceSpec,
    TokenPerplexitySpec,
    WordPerplexitySpec,
)
from srr_core.report import Measurement, Report
from srr_core.types import Progress
from tests.pico import build_checkpoint, byte_tokenizer, write_text

PERPLEXITY = TokenPerplexitySpec(sequence_length=32, num_sequences=8)
WORDS = WordPerplexitySpec(max_length=48, detokenize="none")
HARNESS = HarnessSpec(tasks=("srr_agreement", "srr_completion"), limit=6)
GLUE = GlueSpec(task="sst2")
SAMPLES = SamplesSpec(prompts=("the river carries", "the letter"), new_tokens=6)
SIMILARITY = SentenceSimilaritySpec(num_sentences=12, max_length=48)


@pytest.fixture(scope="module")
def causal(tmp_path_factory: pytest.TempPathFactory) -> EvaluationInputs:
    folder = tmp_path_factory.mktemp("causal")
    source = build_checkpoint(folder / "source", dtype=torch.float32, max_position_embeddings=256)
    return _compressed(folder, source)


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> EvaluationInputs:
    folder = tmp_path_factory.mktemp("classifier")
    torch.manual_seed(0)
    sizes: dict[str, Any] = {
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
    }
    config = BertConfig(vocab_size=259, max_position_embeddings=64, pad_token_id=0, num_labels=2, **sizes)
    BertForSequenceClassification(config).save_pretrained(folder / "source")
    byte_tokenizer().save_pretrained(folder / "source")
    pairs = folder / "dev.tsv"
    pairs.write_text("sentence\tlabel\n" + "".join(f"the river {i}\t{i % 2}\n" for i in range(12)))
    return _given(_compressed(folder, folder / "source"), pairs=pairs)


def _compressed(folder: Path, source: Path) -> EvaluationInputs:
    text = write_text(folder / "text.txt", words=800)
    lines = [f"The {line.strip()}.\n" for line in text.read_text().split(".") if line.strip()]
    text.write_text("".join(f" = Part {i} = \n{line}" if i % 40 == 0 else line for i, line in enumerate(lines)))
    recipe = override(
        named_recipe("srr"),
        {
            "rank": 4,
            "quantizer.num_bits": 3,
            "calibration": {"num_sequences": 4, "sequence_length": 32},
            "evaluation": None,
        },
    )
    compress(source, recipe, folder / "artifact", calibration_text=text)
    return EvaluationInputs(
        folder / "artifact",
        folder / "source",
        files=Files(text=text, pages=text),
        datasets=folder / "datasets",
        cache=folder / "cache",
        source_results=folder / "results",
    )


def _given(inputs: EvaluationInputs, **files: Path | None) -> EvaluationInputs:
    return replace(inputs, files=replace(inputs.files, **files))


def _of(report: EvaluationReport) -> dict[str, Measurement]:
    return {row.metric: row for row in report.measurements}


def test_a_causal_model_is_measured_by_text_and_by_tasks(causal: EvaluationInputs) -> None:
    report = evaluate([PERPLEXITY, WORDS, HARNESS], causal)
    rows = _of(report)
    assert list(rows) == ["token_perplexity@32", "word_perplexity@48", "srr_agreement:acc", "srr_completion:acc"]
    token = rows["token_perplexity@32"]
    assert token.source is not None
    assert token.difference == pytest.approx(math.log(token.compressed / token.source))
    assert token.standard_error is not None
    assert (token.difference_unit, token.samples) == ("nats per token", 8)
    assert rows["word_perplexity@48"].compressed > token.compressed
    assert "add_bos_token=False; detokenize=none" in rows["word_perplexity@48"].protocol
    assert (report.model.is_artifact, report.model.id) == (True, "artifact")
    assert EvaluationReport.model_validate_json(report.model_dump_json()) == report


def test_text_is_measured_as_in_a_compression(causal: EvaluationInputs, tmp_path: Path) -> None:
    assert causal.source is not None
    assert causal.files.text is not None
    recipe = override(
        named_recipe("srr"),
        {
            "rank": 4,
            "calibration": {"num_sequences": 4, "sequence_length": 32},
            "evaluation": {"num_sequences": 8, "sequence_length": 32},
        },
    )
    text = causal.files.text
    found: Report = compress(causal.source, recipe, tmp_path / "out", calibration_text=text, evaluation_text=text)
    expected = {row.metric: row for row in found.measurements}
    divergence = TextDivergenceSpec(sequence_length=32, num_sequences=8)
    rows = _of(evaluate([divergence, PERPLEXITY], replace(causal, model=tmp_path / "out")))
    assert list(rows) == ["divergence@32", "top1_agreement@32", "token_perplexity@32"]
    for metric, row in rows.items():
        assert row.compressed == pytest.approx(expected[metric].compressed, rel=1e-5)
        assert row.standard_error == pytest.approx(expected[metric].standard_error, rel=1e-4)
        assert (row.protocol, row.text) == (expected[metric].protocol, expected[metric].text)


def test_a_model_diverges_by_nothing_from_itself(causal: EvaluationInputs) -> None:
    spec = TextDivergenceSpec(sequence_length=32, num_sequences=4)
    rows = _of(evaluate([spec], replace(causal, source=causal.model)))
    assert (rows["divergence@32"].compressed, rows["top1_agreement@32"].compressed) == (0.0, 1.0)


def test_divergence_needs_a_source(causal: EvaluationInputs) -> None:
    with pytest.raises(EvaluationError, match="divergence needs the source to compare with: name it; these would run"):
        evaluate([TextDivergenceSpec(sequence_length=32), PERPLEXITY], replace(causal, source=None))


def test_divergence_needs_one_vocabulary(causal: EvaluationInputs, tmp_path: Path) -> None:
    other = build_checkpoint(tmp_path / "other", vocab_size=300)
    with pytest.raises(EvaluationError, match="one vocabulary; the model has 259, its source 300"):
        evaluate([TextDivergenceSpec(sequence_length=32)], replace(causal, source=other))


@pytest.mark.parametrize("spec", [PERPLEXITY, WORDS, HARNESS])
def test_a_model_against_itself_differs_by_nothing(spec: AnyEvaluationSpec, causal: EvaluationInputs) -> None:
    for row in evaluate([spec], replace(causal, source=causal.model)).measurements:
        assert (row.difference, row.standard_error) == (0.0, 0.0)
        assert row.compressed == row.source


def test_a_classifier_is_measured_on_its_task(classifier: EvaluationInputs) -> None:
    (row,) = evaluate([GLUE], classifier).measurements
    assert (row.metric, row.samples) == ("sst2:accuracy", 12)
    (same,) = evaluate([GLUE], replace(classifier, source=classifier.model)).measurements
    assert (same.compressed, same.difference, same.standard_error) == (row.compressed, 0.0, 0.0)


def test_vectors_are_compared_and_correlated(classifier: EvaluationInputs, tmp_path: Path) -> None:
    pairs = tmp_path / "sts.jsonl"
    rows = [{"sentence1": f"river {i}", "sentence2": f"harbour {i * i}", "score": i / 2} for i in range(8)]
    pairs.write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = _of(evaluate([SIMILARITY], _given(classifier, pairs=pairs)))
    assert list(found) == ["cosine_fidelity", "retrieval_overlap@10", "sts:spearman"]
    assert 0.5 < found["cosine_fidelity"].compressed < 1
    assert found["sts:spearman"].source is not None
    same = _of(evaluate([SIMILARITY], replace(_given(classifier, pairs=pairs), source=classifier.model)))
    assert same["cosine_fidelity"].compressed == pytest.approx(1.0, abs=1e-6)
    assert same["retrieval_overlap@10"].compressed == 1.0
    assert same["sts:spearman"].difference == 0.0


def test_pairs_alone_need_no_source(classifier: EvaluationInputs, tmp_path: Path) -> None:
    pairs = tmp_path / "sts.tsv"
    pairs.write_text("sentence1\tsentence2\tscore\n" + "".join(f"a {i}\tb {i}\t{i}\n" for i in range(5)))
    (row,) = evaluate([SIMILARITY], replace(_given(classifier, pairs=pairs), source=None)).measurements
    assert (row.metric, row.source, row.samples) == ("sts:spearman", None, 5)


def test_prompts_are_answered_side_by_side(causal: EvaluationInputs) -> None:
    (row,) = evaluate([SAMPLES], causal).measurements
    assert [answer.prompt for answer in row.answers] == list(SAMPLES.prompts)
    assert all(0 < answer.source_tokens <= 6 for answer in row.answers)
    shares = [answer.same_tokens / max(answer.source_tokens, answer.compressed_tokens) for answer in row.answers]
    assert row.compressed == pytest.approx(sum(shares) / 2)
    (same,) = evaluate([SAMPLES], replace(causal, source=causal.model)).measurements
    assert same.compressed == 1.0
    assert all(answer.source == answer.compressed for answer in same.answers)


def test_an_answer_ends_where_its_time_ends(causal: EvaluationInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    hours = itertools.count(step=3600)
    monkeypatch.setattr("srr_core.evaluators.samples.time.monotonic", lambda: float(next(hours)))
    (row,) = evaluate([SAMPLES], causal).measurements
    assert {answer.source_tokens for answer in row.answers} == {1}


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"new_tokens": 256}, "more than the 256 the model was made for"),
        ({"prompts": ("x" * 2000,)}, "shorten it, or lower samples.new_tokens"),
    ],
)
def test_prompts_without_room_for_an_answer_are_refused(
    change: dict[str, Any], words: str, causal: EvaluationInputs
) -> None:
    with pytest.raises(EvaluationError, match=words):
        evaluate([SAMPLES.model_copy(update=change)], causal)


def test_samples_need_a_source_and_small_models(causal: EvaluationInputs, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(EvaluationError, match="samples needs the source"):
        evaluate([SAMPLES], replace(causal, source=None))
    monkeypatch.setattr("srr_core.evaluators.opened.OpenedModel.weight_bytes", lambda self: 9 * 2**30)
    with pytest.raises(EvaluationError, match=r"samples is for small models: .* has 9.0 GiB"):
        evaluate([SAMPLES], causal)


@pytest.mark.slow  # two starts of torch
def test_speed_and_memory_are_rows(causal: EvaluationInputs) -> None:
    rows = _of(evaluate([SpeedMemorySpec(batch_sizes=(2,), prompt_tokens=8, new_tokens=2, rounds=1)], causal))
    assert list(rows) == ["load_seconds", "resident_bytes", "tokens_per_second:prefill@2", "tokens_per_second:decode@2"]
    assert all(row.source is not None for row in rows.values())


def test_what_a_source_scored_is_not_computed_again(causal: EvaluationInputs, tmp_path: Path) -> None:
    inputs = replace(causal, source_results=tmp_path / "results")
    first = evaluate([PERPLEXITY], inputs)
    (file,) = (tmp_path / "results").iterdir()
    kept = json.loads(file.read_text())
    kept["result"]["nll"] = [value + 1 for value in kept["result"]["nll"]]
    file.write_text(json.dumps(kept))
    again = evaluate([PERPLEXITY], inputs)
    # What is read back is what the file says: the source did not run.
    assert again.measurements[0].difference == pytest.approx((first.measurements[0].difference or 0) - 8 / (8 * 31))
    assert again.measurements[0].compressed == first.measurements[0].compressed


@pytest.mark.parametrize("change", [{"num_sequences": 7}, {"sequence_length": 30}])
def test_another_protocol_is_another_result(change: dict[str, int], causal: EvaluationInputs, tmp_path: Path) -> None:
    inputs = replace(causal, source_results=tmp_path / "results")
    evaluate([PERPLEXITY], inputs)
    evaluate([PERPLEXITY.model_copy(update=change)], inputs)
    assert len(list((tmp_path / "results").iterdir())) == 2


def test_a_damaged_result_is_computed_again(causal: EvaluationInputs, tmp_path: Path) -> None:
    inputs = replace(causal, source_results=tmp_path / "results")
    first = evaluate([PERPLEXITY], inputs)
    (file,) = (tmp_path / "results").iterdir()
    file.write_text('{"key"')
    assert evaluate([PERPLEXITY], inputs).measurements == first.measurements


def test_without_a_source_the_value_stands_alone_and_the_report_says_so(causal: EvaluationInputs) -> None:
    report = evaluate([PERPLEXITY], replace(causal, source=None))
    assert (report.source, report.measurements[0].source, report.measurements[0].difference) == (None, None, None)
    assert report.notes == ("no source was given, so nothing says how much was lost",)


def test_what_does_not_fit_is_refused_with_what_does(causal: EvaluationInputs, classifier: EvaluationInputs) -> None:
    with pytest.raises(EvaluationError) as refusal:
        evaluate([PERPLEXITY, HARNESS, GLUE, SpeedMemorySpec()], classifier)
    assert str(refusal.value) == (
        "perplexity: perplexity needs a model that predicts the next token, and BertForSequenceClassification does "
        "not; harness: harness needs a model that predicts the next token, and BertForSequenceClassification does not; "
        "these would run: glue, speed-memory"
    )
    with pytest.raises(EvaluationError, match=r"LlamaForCausalLM is none; these would run: perplexity"):
        evaluate([GLUE, PERPLEXITY], causal)


def _without_text(inputs: EvaluationInputs, folder: Path) -> EvaluationInputs:
    return _given(inputs, text=None)


def _short_text(inputs: EvaluationInputs, folder: Path) -> EvaluationInputs:
    (folder / "short.txt").write_text("too short")
    return _given(inputs, text=folder / "short.txt")


def _gone_text(inputs: EvaluationInputs, folder: Path) -> EvaluationInputs:
    return _given(inputs, text=folder / "gone.txt")


def _gone_source(inputs: EvaluationInputs, folder: Path) -> EvaluationInputs:
    return replace(inputs, source=folder / "gone")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (_without_text, "perplexity needs a text: name one"),
        (_short_text, "9 tokens, fewer than one window of 32"),
        (_gone_text, "cannot be read"),
        (_gone_source, "is gone; leave it out to measure the model alone"),
    ],
)
def test_bad_inputs_are_refused(
    change: Callable[[EvaluationInputs, Path], EvaluationInputs], said: str, causal: EvaluationInputs, tmp_path: Path
) -> None:
    with pytest.raises(EvaluationError, match=said):
        evaluate([PERPLEXITY], change(causal, tmp_path))


@pytest.mark.parametrize("specs", [[], [PERPLEXITY, PERPLEXITY]])
def test_no_evaluator_and_one_twice_are_refused(specs: list[AnyEvaluationSpec], causal: EvaluationInputs) -> None:
    with pytest.raises(EvaluationError, match=r"no evaluator is named|named twice"):
        evaluate(specs, causal)


@pytest.mark.parametrize(("spec", "field"), [(PERPLEXITY, "source_results"), (HARNESS, "cache")])
def test_an_unwritable_cache_is_one_line(
    spec: AnyEvaluationSpec, field: str, causal: EvaluationInputs, tmp_path: Path
) -> None:
    blocked = tmp_path / "blocked"
    blocked.write_text("a file")
    inputs = EvaluationInputs(**{**causal.__dict__, field: blocked})
    with pytest.raises(StorageError, match=r"^cache folder .* cannot be written \(.*\); name another$"):
        evaluate([spec], inputs)


@pytest.mark.parametrize("spec", [PERPLEXITY, WORDS, HARNESS, SAMPLES])
def test_a_run_stops_between_units(spec: AnyEvaluationSpec, causal: EvaluationInputs, tmp_path: Path) -> None:
    asked = iter([False, True])
    with pytest.raises(StopRequested):
        evaluate([spec], replace(causal, source_results=None), should_stop=lambda: next(asked))


def test_progress_names_the_evaluator(causal: EvaluationInputs) -> None:
    seen: list[Progress] = []
    evaluate([PERPLEXITY, WORDS], causal, on_progress=seen.append)
    assert [(step.completed, step.total, step.layer) for step in seen] == [
        (0, 2, "perplexity"),
        (1, 2, "word-perplexity"),
        (2, 2, None),
    ]


def test_glue_reads_a_prefetched_folder(classifier: EvaluationInputs, tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "nyu-mll--glue"
    folder.mkdir(parents=True)
    (folder / "sst2.jsonl").write_text('{"sentence": "fine", "label": 1}\n' * 5)
    files = [{"split": "validation", "path": "sst2.jsonl"}]
    readme = {"configs": [{"config_name": "sst2", "data_files": files}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(readme)}\n---\n")
    lock = {"datasets": {"nyu-mll/glue": {"revision": "a" * 40, "path": folder.name}}}
    (folder.parent / "datasets.json").write_text(json.dumps(lock))
    inputs = replace(
        _given(classifier, pairs=None), datasets=folder.parent, cache=tmp_path / "cache", source_results=None
    )
    report = evaluate([GLUE.model_copy(update={"limit": 3})], inputs)
    assert (report.measurements[0].samples, report.datasets) == (3, {"nyu-mll/glue": "a" * 40})
    with pytest.raises(EvaluationError, match="has no split 'dev'"):
        evaluate([GLUE.model_copy(update={"split": "dev"})], inputs)


def test_word_perplexity_reads_wikitext_from_a_prefetched_folder(causal: EvaluationInputs, tmp_path: Path) -> None:
    folder = tmp_path / "datasets" / "wikitext"
    folder.mkdir(parents=True)
    pages = [" = River = \n The river @-@ side . \n", " = Harbour = \n Ships . \n"]
    (folder / "test.jsonl").write_text("".join(json.dumps({"page": page}) + "\n" for page in pages))
    files = [{"split": "test", "path": "test.jsonl"}]
    readme = {"configs": [{"config_name": "wikitext-2-raw-v1", "data_files": files}]}
    (folder / "README.md").write_text(f"---\n{json.dumps(readme)}\n---\n")
    lock = {"datasets": {"EleutherAI/wikitext_document_level": {"revision": "b" * 40, "path": folder.name}}}
    (folder.parent / "datasets.json").write_text(json.dumps(lock))
    inputs = replace(_given(causal, pages=None), datasets=folder.parent, cache=tmp_path / "cache")
    (fetched,) = evaluate([WordPerplexitySpec()], inputs).measurements
    local = tmp_path / "pages.jsonl"
    local.write_text((folder / "test.jsonl").read_text())
    (read,) = evaluate([WordPerplexitySpec()], _given(causal, pages=local)).measurements
    assert fetched == read
    assert "detokenize=wikitext of lm-eval 0.4.13" in fetched.protocol
