"""Data is checked before anything is computed: what will be learned is shown, what cannot be is refused by row."""

import json

import pytest

from srr_core.errors import TrainingDataError
from srr_core.recipe.tuning import BatchSpec, DataSpec, ScheduleSpec, TuningSpec
from srr_core.recipe.tuning_tasks import (
    ClassificationTask,
    GLUETask,
    GSM8KTask,
    InstructionTask,
    RegressionTask,
    SamplingSpec,
    TextTask,
)
from srr_core.tuners import gsm8k
from srr_core.tuners.dataset import prepare
from tests.pico import byte_tokenizer

MESSAGES = [
    {"role": "user", "content": "one"},
    {"role": "assistant", "content": "two"},
    {"role": "user", "content": "three"},
    {"role": "assistant", "content": "four"},
]
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)
MARKED = (
    "{% for m in messages %}<{{ m.role }}>{% if m.role == 'assistant' %}{% generation %}{{ m.content }}{{ eos_token }}"
    "{% endgeneration %}{% else %}{{ m.content }}{% endif %}{% endfor %}"
)
FORGETFUL = "{% for m in messages[-1:] %}<{{ m.role }}>{{ m.content }}{% endfor %}"


@pytest.fixture
def write(tmp_path):
    def write(*rows, name="a.jsonl"):
        file = tmp_path / name
        file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return file

    return write


def run(file, task, *, tokenizer=None, validation=None, data=None, batch=None, epochs=1, **options):
    spec = TuningSpec(
        task=task, data=data or DataSpec(), batch=batch or BatchSpec(), schedule=ScheduleSpec(epochs=epochs)
    )
    return prepare(file, spec, tokenizer or byte_tokenizer(), validation=validation, **options)


def trained_text(dataset, number=0):
    return "|".join(piece.text for piece in dataset.report.previews[number].pieces if piece.is_trained)


def test_completions_are_learned_with_their_end_and_prompts_are_not(write):
    dataset = run(write(*({"prompt": f"ask {i}", "completion": f"say {i}"} for i in range(20))), InstructionTask())
    assert trained_text(dataset) == "say 0</s>"
    assert dataset.report.training.rows + dataset.report.validation.rows == 20
    assert dataset.report.training.trained_tokens == sum(e.num_trained for window in dataset.training for e in window)


@pytest.mark.parametrize(
    ("template", "train_on", "expected"),
    [
        (TEMPLATE, "answers", "two</s>|four</s>"),
        (MARKED, "answers", "two</s>|four</s>"),
        (TEMPLATE, "last-answer", "four</s>"),
        (MARKED, "last-answer", "four</s>"),
        (TEMPLATE, "everything", "user>one</s><assistant>two</s><user>three</s><assistant>four</s>"),
    ],
)
def test_turns_of_the_assistant_are_learned(write, template, train_on, expected):
    rows = [{"messages": [{"role": "system", "content": str(i)}, *MESSAGES]} for i in range(9)]
    if train_on == "everything":
        rows = [{"messages": MESSAGES}] * 9
    file = write(*rows)
    task = InstructionTask(template=template, train_on=train_on)
    dataset = run(file, task, validation=file)
    assert trained_text(dataset) == expected


def test_templates_of_the_tokenizer_are_used_where_none_is_given(write):
    tokenizer = byte_tokenizer()
    tokenizer.chat_template = TEMPLATE
    file = write({"messages": MESSAGES})
    assert trained_text(run(file, InstructionTask(), tokenizer=tokenizer, validation=file)) == "two</s>|four</s>"


def test_prompts_and_completions_may_be_conversations(write):
    file = write({"prompt": MESSAGES[:3], "completion": MESSAGES[3:]}, {"prompt": "one", "completion": "two"})
    dataset = run(file, InstructionTask(template=TEMPLATE, train_on="last-answer"), validation=file)
    assert trained_text(dataset, 0) == "four</s>"
    assert trained_text(dataset, 1) == "two</s>"


def test_template_without_any_is_refused(write):
    with pytest.raises(TrainingDataError, match="row 1: rows hold messages, but the tokenizer has no chat template"):
        run(write({"messages": MESSAGES}), InstructionTask())


def test_template_that_rewrites_earlier_turns_is_refused(write):
    with pytest.raises(TrainingDataError, match="row 1: the template writes a turn otherwise"):
        run(write({"messages": MESSAGES}), InstructionTask(template=FORGETFUL))


def test_stop_token_that_is_never_learned_is_refused(write):
    endless = TEMPLATE.replace("{{ eos_token }}", "")
    file = write({"messages": MESSAGES})
    with pytest.raises(TrainingDataError, match="would never stop"):
        run(file, InstructionTask(template=endless), validation=file)
    stop = byte_tokenizer()("r").input_ids  # the last byte of what is learned
    assert run(file, InstructionTask(template=endless), validation=file, stops=stop).report.training.rows == 1


@pytest.mark.parametrize(
    ("rows", "task", "message"),
    [
        ([{"prompt": "a", "answer": "b"}], InstructionTask(), r"row 1: has the columns 'prompt', 'answer'; needed"),
        ([{"prompt": "a", "completion": " "}], InstructionTask(), r"row 1: column 'completion' is empty"),
        ([{"prompt": "a", "completion": 3}], InstructionTask(), "row 1: message"),
        ([{"messages": [{"role": "user", "content": "a"}]}], InstructionTask(template=TEMPLATE), "of the assistant"),
        ([{"messages": [{"content": "a"}]}], InstructionTask(template=TEMPLATE), "message 1 has no role"),
        ([{"messages": []}], InstructionTask(template=TEMPLATE), "row 1: messages are not a list"),
        ([{"messages": MESSAGES}], InstructionTask(template="{{ 1 / 0 }}{{ x( }}"), "chat template refuses"),
        ([{"text": "a"}, {"txt": "b"}, {"txt": "c"}], TextTask(), r"row 2: has the columns 'txt'.*1 more rows.*: 3\)"),
        ([{"text": "a", "label": "x"}] * 3, ClassificationTask(), "every row has the label 'x'"),
        (
            [{"text": "a", "label": "x"}, {"text": "b", "label": "z"}],
            ClassificationTask(labels=("x", "y")),
            "row 2: has the label 'z', which is none of 'x', 'y'",
        ),
        ([{"text": "a", "label": []}] * 2, ClassificationTask(), "row 1: column 'label' holds list"),
        ([{"text": "a", "label": "high"}], RegressionTask(), "row 1: has the label 'high', which is not a number"),
        ([{"text": "a", "label": float("nan")}], RegressionTask(), "not a finite number"),
        (
            [{"sentence": "a", "label": -1}, {"sentence": "b", "label": 1}],
            GLUETask(name="sst2"),
            "row 1: has the label",
        ),
        ([{"question": "a", "answer": "no number"}], GSM8KTask(), "row 1: column 'answer' has no number"),
    ],
)
def test_rows_that_cannot_be_learned_are_refused_by_number(write, rows, task, message):
    with pytest.raises(TrainingDataError, match=message):
        run(write(*rows), task)


def test_file_without_rows_and_file_with_one_are_refused(write):
    with pytest.raises(TrainingDataError, match="holds no row"):
        run(write(), TextTask())
    with pytest.raises(TrainingDataError, match="too little"):
        run(write({"text": "only"}), TextTask())


def test_long_rows_are_refused_cut_or_split_as_asked(write):
    file = write({"text": "x" * 40}, {"text": "short"})
    with pytest.raises(TrainingDataError, match="row 1: has 41 tokens, the window holds 16"):
        run(file, TextTask(), data=DataSpec(window=16))
    cut = run(file, TextTask(), data=DataSpec(window=16, too_long="truncate"), validation=file)
    assert (cut.report.training.examples, cut.report.training.truncated) == (2, 1)
    split = run(file, TextTask(), data=DataSpec(window=16, too_long="split"), validation=file)
    assert split.report.training.tokens == 41 + 6
    assert split.report.training.longest == 16


def test_answer_that_is_cut_away_whole_is_refused(write):
    file = write({"prompt": "x" * 40, "completion": "y"})
    with pytest.raises(TrainingDataError, match="row 1: has no token the loss would be taken over; it was cut"):
        run(file, InstructionTask(), data=DataSpec(window=16, too_long="truncate"))


def test_duplicates_are_counted_and_dropped_and_never_fall_on_both_sides(write):
    rows = [{"text": f"text {i % 10}"} for i in range(30)]
    kept = run(write(*rows), TextTask(), data=DataSpec(validation_share=0.3))
    assert kept.report.duplicates == 20
    sides = [{bytes(e.ids) for w in kept.training for e in w}, {bytes(e.ids) for e in kept.validation}]
    assert sides[0] & sides[1] == set()
    assert kept.report.validation.rows == 9
    dropped = run(write(*rows), TextTask(), data=DataSpec(validation_share=0.3, duplicates="drop"))
    assert (dropped.report.duplicates, dropped.report.training.rows, dropped.report.validation.rows) == (20, 7, 3)


def test_validation_rows_that_are_training_rows_are_told(write):
    training = write(*({"text": f"t {i}"} for i in range(5)))
    report = run(training, TextTask(), validation=write({"text": "t 1"}, {"text": "new"}, name="v.jsonl")).report
    assert report.leaked == 1
    assert "will flatter" in report.notes[0]
    assert len(report.sha256.split()) == 2


def test_one_long_text_is_judged_by_its_end(write, tmp_path):
    (tmp_path / "a.txt").write_text("".join(chr(97 + i % 26) for i in range(405)), encoding="utf-8")
    data = DataSpec(window=20, too_long="split")
    dataset = run(tmp_path / "a.txt", TextTask(unit="file"), data=data)
    assert len(dataset.validation) == 2
    assert dataset.validation[-1].ids[-1] == byte_tokenizer().eos_token_id


def test_labels_are_those_of_the_rows_in_order_and_counted(write):
    rows = [{"text": f"t {i}", "label": ("10", "9", "2")[i % 3]} for i in range(30)]
    dataset = run(write(*rows), ClassificationTask())
    assert dataset.labels == ("2", "9", "10")
    assert sum(dataset.report.training.labels.values()) == dataset.report.training.rows
    assert {example.label for (example,) in dataset.training} == {0, 1, 2}
    assert not dataset.is_packed


def test_pairs_and_numbers_are_read_as_the_task_says(write):
    rows = [{"sentence1": f"a {i}", "sentence2": "b", "label": i / 2} for i in range(10)]
    dataset = run(write(*rows), GLUETask(name="stsb"))
    assert isinstance(dataset.task, RegressionTask)
    assert {example.label for (example,) in dataset.training} <= {i / 2 for i in range(10)}


def test_label_that_no_row_has_is_told(write):
    rows = [{"text": f"t {i}", "label": "ab"[i % 2]} for i in range(20)]
    report = run(write(*rows), ClassificationTask(labels=("a", "b", "c"))).report
    assert report.notes == ("no training row has the label 'c'",)


def test_arithmetic_is_prompted_and_answered_in_the_published_words(write):
    rows = [{"question": f"What is {i} + 1?", "answer": f"Add.\n#### {i + 1}"} for i in range(10)]
    dataset = run(write(*rows), GSM8KTask(sampling=SamplingSpec(max_new_tokens=64)))
    assert trained_text(dataset) == "Add.\nThe final answer is: 1</s>"
    assert dataset.validation[0].prompt.endswith(gsm8k.QUESTION_ENDING)


def test_steps_follow_from_windows_batches_and_epochs(write):
    file = write(*({"text": "x" * 9} for _ in range(20)))
    data = DataSpec(window=20)
    packed = run(file, TextTask(), data=data, validation=file, batch=BatchSpec(size=2, accumulation=2), epochs=3)
    assert (packed.report.windows, packed.report.steps_per_epoch, packed.report.steps) == (10, 3, 9)
    plain = run(file, TextTask(), data=data, validation=file, batch=BatchSpec(size=8, packing=False))
    assert (plain.report.windows, plain.report.steps) == (20, 3)


@pytest.mark.parametrize(
    ("text", "strict", "flexible"),
    [
        ("so 3 + 4\nThe final answer is: 7", 7, 7),
        ("The final answer is: $1,234.50. Or 9?", 1234.5, 1234.5),
        ("we get 5 then 6.", None, 6),
        ("The final answer is: unknown, maybe -2", -2, -2),
        ("nothing", None, None),
    ],
)
def test_numbers_of_answers_are_found_by_both_scorings(text, strict, flexible):
    assert gsm8k.strict_number(text) == strict
    assert gsm8k.flexible_number(text) == flexible
    reference = gsm8k.reference_number("reasons 1 2 3\n#### 7")
    assert gsm8k.is_right(gsm8k.flexible_number(text), reference) == (flexible == 7)
