"""Two dozen classes, one for every kind of difficulty; the whole table is made by `make zoo`."""

from pathlib import Path

import pytest

from tests.zoo.specimens import Specimen, specimens
from tests.zoo.sweep import COLUMNS, ENOUGH, read_table, row
from tests.zoo.trial import Trial, try_specimen

KINDS = {
    ("causal", "llama"): "stock",
    ("causal", "deepseek_v3"): "stock",  # PEFT takes its dense and shared MLPs for experts
    ("causal", "qwen3_next"): "stock",  # shared experts beside linear attention
    ("causal", "laguna"): "stock",  # loaders rename the path of a module once more
    ("causal", "kimi_linear"): "stock",  # names on disk are not those of the modules
    ("causal", "deepseek_v4"): "stock",  # a renaming that is not meant, and a Linear that is none
    ("causal", "bamba"): "stock",  # blocks that return more than hidden states
    ("causal", "hy_v4"): "own",  # a block that asks for what an earlier one returned
    ("causal", "jamba"): "own",  # two classes of blocks in one stack
    ("causal", "recurrent_gemma"): "own",  # no cache for all of its blocks
    ("causal", "nemotron_h"): "stock",  # experts without gates
    ("causal", "mamba2"): "stock",  # a projection that PEFT never touches
    ("causal", "gpt_oss"): "own",  # stacked experts: turned, with biases, gates between ups
    ("causal", "llama4_text"): "own",  # stacked experts in one batched product
    ("image-text", "gemma3"): "stock",  # a tower with blocks of the same names
    ("image-text", "llava"): "stock",
    ("image-text", "lfm3_vl"): "stock",  # a tower as deep as the text's stack
    ("image-text", "unlimited_ocr"): "own",  # stock loaders give up on its packed weights
    ("masked", "deberta-v2"): "stock",
    ("masked", "albert"): "stock",  # one block, called again and again
    ("embedder", "nomic_bert"): "stock",  # queries, keys and values in one matrix on disk
    ("embedder", "gte"): "stock",
    ("embedder", "t5"): "stock",  # position biases handed from block to block
    ("encoder-decoder", "t5gemma2"): "stock",  # two stacks, and keys that look at both of them
    ("masked", "xlm"): "stock",  # lists of attention and feed-forward layers, taken by turns
    ("variant", "qwen3_moe+stacked"): "stock",  # stacked on disk, taken one by one by loaders
}
"""By group and name, who can load the result."""


@pytest.mark.slow
@pytest.mark.parametrize(("group", "name"), KINDS, ids=map("-".join, KINDS))
def test_a_class_is_compressed_and_its_users_measure_what_the_report_says(
    group: str, name: str, tmp_path: Path
) -> None:
    specimen = next(one for one in specimens() if (one.group, one.name) == (group, name))
    trial = try_specimen(specimen, tmp_path / "specimen")
    assert (trial.verdict, trial.detail) == (KINDS[group, name], "")
    assert trial.share is not None
    assert trial.share >= 0.85


def test_the_table_has_a_row_for_every_class_that_transformers_lists() -> None:
    rows = read_table()
    missing = [one for one in specimens() if (one.group, one.name) not in rows]
    assert not missing, f"run `make zoo` for {[one.name for one in missing][:5]}"


def test_no_row_of_the_table_is_wrong_or_late() -> None:
    bad = [cells for cells in read_table().values() if cells[3] in {"WRONG", "CRASH", "refused late"}]
    assert not bad


def test_a_row_tells_what_became_of_a_trial() -> None:
    trial = Trial(Specimen("causal", "x", "XForCausalLM", "y"), "own", "", "srr", ENOUGH, {"source": 2e-7})
    assert dict(zip(COLUMNS, row(trial), strict=True)) == {
        "group": "causal",
        "model": "x+y",
        "class": "XForCausalLM",
        "verdict": "own",
        "layout": "srr",
        "share_of_blocks": "0.90",
        "off": "2e-07",
        "detail": "",
    }
