"""What speaks against a result is said, and nothing where nothing does."""

from typing import Any

import pytest

from srr_core.report import BitsPerWeight, SizeBytes
from srr_core.telling.cautions import cautions, outliers
from tests.srr_core.telling.reports import LAYERS, layer, report


def test_nothing_is_said_where_nothing_is_wrong() -> None:
    assert cautions(report()) == ()


def layers(**special: Any) -> tuple[Any, ...]:
    names = [f"model.layers.{block}.{kind}" for block in range(6) for kind in LAYERS]
    return tuple(layer(name, **(special if name == "model.layers.3.mlp.up_proj" else {})) for name in names)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"evaluation_seen": 0.5}, "50 % of the windows it was measured on lie in the text it was calibrated on"),
        ({"layers": layers(error=0.4)}, "model.layers.3.mlp.up_proj has an error more than 3 times"),
        ({"layers": layers(calibration_tokens=100)}, "1 of 24 layers were calibrated on fewer tokens"),
        (
            {"layers": layers(correction_ratio=0.99, preserved_rank=0)},
            "L·R of model.layers.3.mlp.up_proj is as long as the whole error",
        ),
        (
            {"bits_per_weight": BitsPerWeight(quantized=3.25, low_rank=2.0, total=5.25, stored=5.25)},
            "L·R takes 38 % of the bits (2.00 of 5.25)",
        ),
        ({"size_bytes": SizeBytes(source=5_100_000, compressed=5_000_000)}, "saves 2.0 % only"),
    ],
    ids=["seen", "outlier", "scarce", "long", "low rank", "size"],
)
def test_each_doubt_is_said_once(changes: dict[str, Any], words: str) -> None:
    (found,) = cautions(report(**changes))

    assert words in found


def test_a_long_correction_that_holds_what_was_preserved_is_no_doubt() -> None:
    assert cautions(report(layers=layers(correction_ratio=0.99, preserved_rank=2))) == ()


def test_a_kind_of_layer_that_is_always_hard_is_no_outlier() -> None:
    hard = tuple(layer(one.name, 0.5) if "down_proj" in one.name else one for one in layers())

    assert outliers(hard) == ()
    assert outliers((layer("model.layers.0.mlp.up_proj", 0.5),)) == ()


def test_outliers_are_the_worst_first() -> None:
    rising = tuple(layer(f"model.layers.{block}.mlp.up_proj", {2: 0.5, 7: 0.9}.get(block, 0.05)) for block in range(10))

    assert [one.name for one in outliers(rising)] == ["model.layers.7.mlp.up_proj", "model.layers.2.mlp.up_proj"]
