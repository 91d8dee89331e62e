"""From a model and rows to a fine-tuned artifact: every task, every form of the result, and interruptions."""

import json
import warnings

import pytest
import torch
import transformers
from safetensors import safe_open
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from srr_core.errors import (
    NumericalError,
    ResumeMismatchError,
    StopRequested,
)
from srr_core.formats.adapter import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from srr_core.formats.artifact import open_artifact
from srr_core.formats.stored_forms import MARKER
from srr_core.pipeline import tuning_cells
from srr_core.pipeline.finetune import finetune
from srr_core.recipe import (
    EvaluationSpec,
    NormalFloatSpec,
    named_recipe,
    override,
)
from srr_core.recipe.tuning import (
    ArtifactStart,
    BatchSpec,
    DataSpec,
    GradientSlowing,
    GridSpec,
    LoRAStart,
    MergedResult,
    OptimizerSpec,
    RecompressedResult,
    ScheduleSpec,
    TuningSpec,
    named_start,
)
from srr_core.recipe.tuning_tasks import (
    ClassificationTask,
    GLUETask,
    GSM8KTask,
    InstructionTask,
    RegressionTask,
    SamplingSpec,
)
from srr_core.runtime import load
from srr_core.tuners.folders import BASE_DIGEST_KEY, base_digest, dense_layers
from srr_core.tuners.report import REPORT_NAME, TuningReport
from srr_core.tuners.training import Training
from tests.pico import build_checkpoint, write_text
from tests.srr_core.tuners.starts import CALIBRATION, write_rows

TOKENS = torch.arange(3, 23).reshape(2, 10)
CHANGES = {f"calibration.{key}": value for key, value in CALIBRATION.items()}
WORDS = ("river", "engine", "letter", "garden", "signal")
RECOMPRESSED = override(named_recipe("srr"), {**CHANGES, "rank": 2})


def start(name="srr", *, quantizer=None, rank=4):
    return named_start(name, quantizer=quantizer, rank=rank, changes=None if name == "lora" else CHANGES)


def spec(**changes):
    fields = {
        "start": start(),
        "data": DataSpec(window=64),
        "batch": BatchSpec(size=4),
        "schedule": ScheduleSpec(epochs=2),
        "optimizer": OptimizerSpec(learning_rate=1e-2),
        "neutral": EvaluationSpec(num_sequences=4, sequence_length=16),
        "rank": 4,
    }
    return TuningSpec(**{**fields, **changes})


@pytest.fixture(scope="module")
def llama(tmp_path_factory):
    return build_checkpoint(tmp_path_factory.mktemp("llama") / "m", dtype=torch.float32)


@pytest.fixture(scope="module")
def bert(tmp_path_factory):
    return build_checkpoint(tmp_path_factory.mktemp("bert") / "m", "BertForMaskedLM", dtype=torch.float32)


@pytest.fixture(scope="module")
def text(tmp_path_factory):
    return write_text(tmp_path_factory.mktemp("text") / "t.txt")


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    file = tmp_path_factory.mktemp("rows") / "a.jsonl"
    return write_rows(file, ({"text": f"the {WORDS[i % 5]} {i}" + "!" * (i % 4)} for i in range(24)))


@pytest.fixture(scope="module")
def tuned(llama, text, rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned") / "out"
    return folder, finetune(llama, rows, spec(), folder, calibration_text=text, neutral_text=text)


def outputs(model):
    with torch.inference_mode():
        return model.eval()(TOKENS)[0].float()


def stock(folder, kind=AutoModelForCausalLM):
    """The artifact as transformers loads it without this package."""
    config = transformers.AutoConfig.from_pretrained(folder)
    if hasattr(config, "quantization_config"):
        config.quantization_config = {k: v for k, v in config.quantization_config.items() if k != MARKER}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return kind.from_pretrained(folder, config=config, dtype=torch.float32)


def test_report_says_what_was_learned_and_travels_with_the_artifact(tuned):
    folder, report = tuned
    assert TuningReport.model_validate_json((folder / REPORT_NAME).read_bytes()) == report
    assert report.scores["loss"] < report.start_scores["loss"]
    assert report.scores["loss"] == pytest.approx(report.cells[0].best_score, rel=1e-2)
    assert (report.metric, report.is_higher_better) == ("loss", False)
    assert report.start.mean_preserved_rank > 0
    assert 0 < report.start.mean_preserved_overlap < 1
    assert report.neutral.divergence > 0
    assert report.chosen == (1e-2, 0)
    assert set(report.seconds) >= {"validate", "compress", "train", "evaluate", "verify"}


def test_adapter_is_what_servers_take_and_names_its_base(tuned):
    folder, report = tuned
    config = json.loads((folder / ADAPTER_CONFIG).read_text())
    assert config["init_lora_weights"] is True
    assert config["lora_alpha"] == config["r"] == 4
    assert not config["use_rslora"]
    assert not config["use_dora"]
    assert config["modules_to_save"] is None
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        assert file.metadata()[BASE_DIGEST_KEY] == report.start.base_sha256 == base_digest(folder)


def test_stock_tools_and_our_runtime_compute_the_same(tuned):
    folder, _ = tuned
    torch.testing.assert_close(outputs(stock(folder)), outputs(load(folder, dtype=torch.float32)), rtol=1e-4, atol=1e-4)


def test_published_score_is_that_of_the_files(tuned, llama, text, rows, tmp_path):
    folder, report = tuned
    again = finetune(folder, rows, spec(start=ArtifactStart(), schedule=ScheduleSpec(max_steps=1)), tmp_path / "again")
    assert again.start_scores["loss"] == pytest.approx(report.scores["loss"], rel=1e-6)
    assert again.start.base_sha256 == report.start.base_sha256
    assert again.start.kind == "artifact"


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_merged_result_is_a_plain_model(llama, text, rows, tuned, tmp_path, dtype):
    report = finetune(llama, rows, spec(result=MergedResult(dtype=dtype)), tmp_path / "out", calibration_text=text)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == dtype
    plain = AutoModelForCausalLM.from_pretrained(tmp_path / "out")
    assert plain.dtype == getattr(torch, dtype)
    if dtype == "float32":
        torch.testing.assert_close(outputs(plain), outputs(load(tuned[0], dtype=torch.float32)), rtol=1e-4, atol=1e-4)
        assert report.scores["loss"] == pytest.approx(tuned[1].scores["loss"], rel=1e-5)


def test_recompressed_result_is_an_artifact_of_the_recipe(llama, text, rows, tmp_path):
    wanted = RecompressedResult(recipe=RECOMPRESSED)
    report = finetune(llama, rows, spec(result=wanted), tmp_path / "out", calibration_text=text)
    assert open_artifact(tmp_path / "out").rank == 2
    assert report.scores["loss"] < report.start_scores["loss"]
    torch.testing.assert_close(
        outputs(stock(tmp_path / "out")), outputs(load(tmp_path / "out", dtype=torch.float32)), rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("result", [None, MergedResult(dtype="float32")], ids=["adapter", "merged"])
def test_sixteen_bit_model_is_tuned_and_published_the_same_way(llama, rows, tmp_path, result):
    changes = {} if result is None else {"result": result}
    report = finetune(llama, rows, spec(start=LoRAStart(), **changes), tmp_path / "out")
    layers = dense_layers(llama)
    assert report.start.base_sha256 == base_digest(llama, layers)
    assert report.scores["loss"] < report.start_scores["loss"]
    model = stock(tmp_path / "out")
    if result is None:
        assert base_digest(tmp_path / "out", layers) == report.start.base_sha256
        assert any(".lora_" in name for name, _ in model.named_parameters())
    assert not torch.equal(outputs(model), outputs(AutoModelForCausalLM.from_pretrained(llama)))


def test_codes_no_stock_tool_reads_are_tuned_too(llama, text, rows, tmp_path):
    chosen = start("loftq", quantizer=NormalFloatSpec(num_bits=3, block_size=32))
    report = finetune(llama, rows, spec(start=chosen), tmp_path / "out", calibration_text=text)
    assert report.scores["loss"] < report.start_scores["loss"]
    assert load(tmp_path / "out", dtype=torch.float32)


LABELLED = [{"text": f"{('bad', 'good')[i % 2]} {WORDS[i % 5]} {i}", "label": ("no", "yes")[i % 2]} for i in range(40)]
VALUES = [{"text": "!" * (i % 7 + 1), "label": float(i % 7)} for i in range(42)]
SENTENCES = [{"sentence": row["text"], "label": int(row["label"] == "yes")} for row in LABELLED]
PAIRS = [{"sentence1": "a" * (i % 5 + 1), "sentence2": "b", "label": i % 5} for i in range(40)]
SUMS = [{"question": f"{i} + 1?", "answer": f"Add.\n#### {i + 1}"} for i in range(8)]
ANSWERS = [{"prompt": f"say {WORDS[i % 5]}", "completion": WORDS[i % 5]} for i in range(20)]
FEW = SamplingSpec(max_new_tokens=4)


@pytest.mark.parametrize(
    ("model", "name", "data", "task", "metrics"),
    [
        ("bert", "srr", LABELLED, ClassificationTask(), {"loss", "accuracy"}),
        ("llama", "srr", LABELLED, ClassificationTask(metric="matthews"), {"loss", "matthews"}),
        ("bert", "qlora", VALUES, RegressionTask(), {"loss", "pearson"}),
        ("bert", "qera-exact", SENTENCES, GLUETask(name="sst2"), {"loss", "accuracy"}),
        ("bert", "lora", PAIRS, GLUETask(name="stsb"), {"loss", "pearson-spearman"}),
        ("llama", "srr", ANSWERS, InstructionTask(), {"loss", "perplexity"}),
        (
            "llama",
            "srr",
            SUMS,
            GSM8KTask(sampling=FEW),
            {"loss", "perplexity", "strict_accuracy", "flexible_accuracy"},
        ),
    ],
    ids=["classes", "classes-of-a-decoder", "values", "sst2", "stsb", "instructions", "gsm8k"],
)
def test_every_task_is_learned_and_scored(request, text, tmp_path, model, name, data, task, metrics):
    source = request.getfixturevalue(model)
    window = 64
    if isinstance(task, GSM8KTask):
        window = 256  # its prompt alone is longer than 64 bytes
        source = build_checkpoint(tmp_path / "wide", dtype=torch.float32, max_position_embeddings=window)
    file = write_rows(tmp_path / "a.jsonl", data)
    changes = {"data": DataSpec(window=window, validation_share=0.3), "schedule": ScheduleSpec(epochs=3)}
    chosen = spec(start=start(name), task=task, **changes)
    report = finetune(source, file, chosen, tmp_path / "out", calibration_text=text, neutral_text=text)
    assert set(report.scores) == metrics
    assert report.cells[0].rows[-1].loss < report.cells[0].rows[0].loss
    assert report.metric in metrics
    if task.kind in {"classification", "regression", "glue"}:
        found = outputs(stock(tmp_path / "out", AutoModelForSequenceClassification))
        assert found.shape == (2, len(report.data.training.labels) or 1)
        if name != "lora":
            torch.testing.assert_close(
                found, outputs(load(tmp_path / "out", dtype=torch.float32)), rtol=1e-4, atol=1e-4
            )
        assert report.neutral is None
    else:
        assert report.neutral is not None


def test_grid_publishes_the_rate_whose_mean_is_best(llama, text, rows, tmp_path):
    grid = GridSpec(learning_rates=(1e-5, 1e-2), seeds=(1, 2))
    report = finetune(llama, rows, spec(grid=grid), tmp_path / "out", calibration_text=text)
    assert [(cell.learning_rate, cell.seed) for cell in report.cells] == [(1e-5, 1), (1e-5, 2), (1e-2, 1), (1e-2, 2)]
    slow, fast = report.rates
    assert fast.mean < slow.mean
    assert fast.deviation > 0
    assert report.chosen == (1e-2, 1)
    assert any("chosen on the validation examples" in note for note in report.notes)


class Breaking(Training):
    """A training whose first rate ends in numbers that are none, as too high a rate does."""

    def run(self):
        if self._cell.learning_rate == 0.5:
            next(iter(self._parameters.values())).data.fill_(float("inf"))
        return super().run()


def test_rate_that_breaks_the_model_is_told_and_the_others_count(llama, text, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_cells, "Training", Breaking)
    grid = GridSpec(learning_rates=(0.5, 1e-2))
    report = finetune(llama, rows, spec(grid=grid), tmp_path / "out", calibration_text=text)
    assert [cell.end for cell in report.cells] == ["diverged", "finished"]
    assert [rate.mean is None for rate in report.rates] == [True, False]
    assert report.chosen == (1e-2, 0)
    assert "training diverged at learning rate 0.5 with seed 0" in report.notes
    alone = spec(optimizer=OptimizerSpec(learning_rate=0.5))
    with pytest.raises(NumericalError, match=r"learning rate 0\.5"):
        finetune(llama, rows, alone, tmp_path / "other", calibration_text=text)


class Stopper:
    def __init__(self, stage, completed):
        self._at = (stage, completed)
        self.is_due = False

    def see(self, progress):
        self.is_due |= (progress.stage, progress.completed) == self._at


@pytest.mark.parametrize(
    ("stage", "completed"), [("compress", 5), ("train", 1), ("train", 3), ("train", 4), ("evaluate", 0)]
)
def test_interrupted_run_ends_with_the_same_files(llama, text, rows, tuned, tmp_path, stage, completed):
    stopper = Stopper(stage, completed)
    options = {"calibration_text": text, "neutral_text": text}
    with pytest.raises(StopRequested):
        finetune(
            llama,
            rows,
            spec(),
            tmp_path / "out",
            on_progress=stopper.see,
            should_stop=lambda: stopper.is_due,
            **options,
        )
    assert not (tmp_path / "out").exists()
    finetune(llama, rows, spec(), tmp_path / "out", **options)
    assert not (tmp_path / "out.partial").exists()
    for file in tuned[0].glob("*.safetensors"):
        assert (tmp_path / "out" / file.name).read_bytes() == file.read_bytes()


def test_work_of_another_specification_is_refused(llama, text, rows, tmp_path):
    stopper = Stopper("train", 1)
    with pytest.raises(StopRequested):
        finetune(
            llama,
            rows,
            spec(),
            tmp_path / "out",
            calibration_text=text,
            on_progress=stopper.see,
            should_stop=lambda: stopper.is_due,
        )
    with pytest.raises(ResumeMismatchError, match="specification"):
        finetune(llama, rows, spec(seed=1), tmp_path / "out", calibration_text=text)


def test_slowing_by_gradients_is_reported_as_what_it_is(llama, text, rows, tmp_path):
    report = finetune(llama, rows, spec(slowing=GradientSlowing()), tmp_path / "out", calibration_text=text)
    assert any("changes nothing that can be measured" in note for note in report.notes)
    assert any(f"span {report.start.mean_preserved_overlap:.2f} of the preserved" in note for note in report.notes)


def test_files_may_be_added_before_the_destination_appears(llama, rows, tmp_path):
    def add(folder, report):
        (folder / "README.md").write_text(report.metric)

    finetune(llama, rows, spec(start=LoRAStart()), tmp_path / "out", artifact_id="org/name", before_publish=add)
    assert (tmp_path / "out" / "README.md").read_text() == "loss"
    config = json.loads((tmp_path / "out" / ADAPTER_CONFIG).read_text())
    assert config["base_model_name_or_path"] == "org/name"
