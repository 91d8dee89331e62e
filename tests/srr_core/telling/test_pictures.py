"""Pictures are drawn from a report alone, hold every number, and escape every word."""

import csv
import io
from xml.etree import ElementTree as ET

import pytest

from srr_core.recipe import named_recipe, override
from srr_core.report import KeptTensor, Report, read_report
from srr_core.telling.frontier_picture import log_ticks
from srr_core.telling.gallery import pictures
from srr_core.telling.heat_picture import place_of, worst_layers
from srr_core.telling.pictures import NARROW, WIDE, Picture
from srr_core.telling.size_picture import size_parts
from tests.srr_core.telling.reports import LAYERS, baseline, layer, report

EVIL = 'model.layers.0.<script>alert("1")</script>'


def drawn(made: Report) -> dict[str, Picture]:
    return {picture.name: picture for picture in pictures(made)}


@pytest.mark.parametrize("extent", [WIDE, NARROW], ids=["wide", "narrow"])
def test_pictures_of_the_stored_report_are_the_same_byte_for_byte(extent: tuple[int, int]) -> None:
    made = report()
    stored = read_report(made.model_dump(mode="json"))

    assert [picture.svg() for picture in pictures(stored, extent)] == [
        picture.svg() for picture in pictures(made, extent)
    ]
    assert [picture.csv() for picture in pictures(stored, extent)] == [
        picture.csv() for picture in pictures(made, extent)
    ]


@pytest.mark.parametrize("name", ["frontier", "size", "errors"])
def test_a_picture_is_well_formed_and_says_what_is_to_be_seen(name: str) -> None:
    picture = drawn(report())[name]
    root = ET.fromstring(picture.svg())  # our own

    assert root.get("role") == "img"
    assert root.get("aria-label") == picture.alt
    assert len(picture.alt) > 40
    assert "script" not in picture.svg()
    assert "style=" not in picture.inline()


def test_words_of_a_model_are_escaped() -> None:
    made = report(
        layers=(layer(EVIL), layer("model.layers.1.x")),
        kept=(KeptTensor(name="a", reason='<b onload="x">'),),
    )

    for picture in pictures(made):
        assert "<script" not in picture.inline()
        assert "<b " not in picture.inline()
        ET.fromstring(picture.svg())  # our own


def test_the_frontier_holds_every_row_and_its_numbers() -> None:
    rows = list(csv.DictReader(io.StringIO(drawn(report())["frontier"].csv())))

    assert [row["name"] for row in rows] == ["srr", "weight-only", "gptq", "source"]
    assert [row["kind"] for row in rows] == ["artifact", "baseline", "baseline", "source"]
    assert [float(row["divergence"]) for row in rows] == [0.0127, 0.0753, 0.0187, 0.0]
    assert [int(row["bytes"]) for row in rows] == [5_000_000, 5_000_000, 5_000_000, 13_000_000]


def test_less_divergence_lies_further_down() -> None:
    root = ET.fromstring(drawn(report())["frontier"].svg())  # our own
    space = "{http://www.w3.org/2000/svg}"
    ours, (square,), triangle = (
        root.find(f"{space}circle"),
        root.findall(f"{space}rect"),
        root.find(f"{space}polygon"),
    )

    assert ours is not None
    assert triangle is not None
    gptq = float(triangle.attrib["points"].split(",")[1].split(" ")[0])
    assert float(ours.attrib["cy"]) > gptq > float(square.attrib["y"])


def test_without_a_divergence_there_is_no_frontier() -> None:
    assert "frontier" not in drawn(report(measurements=(), baselines=()))
    assert "frontier" in drawn(report(baselines=(baseline("gptq", 0.0, gap=0.0127),)))


def test_the_parts_add_up_to_the_files() -> None:
    made = report()
    parts = {part.name: part.size_bytes for part in size_parts(made)}
    weights = 24 * 256 * 128

    assert sum(parts.values()) == pytest.approx(made.size_bytes.compressed)
    assert parts["codes"] == 3 * weights / 8
    assert parts["scales"] == pytest.approx(0.25 * weights / 8)
    assert parts["L·R"] == 24 * 4 * (256 + 128) * 2


def test_codes_of_a_budget_are_counted_layer_by_layer() -> None:
    recipe = override(
        named_recipe("srr-fast"), {"budget.target_bits": 3.0, "budget.num_bits": [2, 4], "budget.group_sizes": [64]}
    )
    bits = {number: number + (16 + number) / 64 for number in (2, 4)}
    layers = tuple(
        layer(f"model.layers.{number}.mlp.up_proj", rank=0, preserved_rank=0, bits_per_weight=bits[number])
        for number in (2, 4)
    )
    parts = {part.name: part.size_bytes for part in size_parts(report(recipe=recipe, layers=layers))}

    assert parts["codes"] == (2 + 4) * 256 * 128 / 8


def test_the_ten_worst_layers_are_named_and_edged() -> None:
    layers = tuple(
        layer(f"model.layers.{block}.{kind}", 0.01 * (1 + block + 6 * place))
        for block in range(6)
        for place, kind in enumerate(LAYERS)
    )
    made = report(layers=layers)
    picture = drawn(made)["errors"]

    assert [one.output_error for one in worst_layers(made)] == sorted(
        (one.output_error for one in layers), reverse=True
    )[:10]
    assert picture.inline().count('class="worst"') == 10
    assert all(one.name in picture.alt for one in worst_layers(made))
    assert len(list(csv.reader(io.StringIO(picture.csv())))) == 25


def test_experts_of_a_block_share_a_cell() -> None:
    assert place_of("model.layers.3.mlp.experts.17.up_proj") == (3, "mlp.experts.*.up_proj")
    assert place_of("transformer.h.2.attn.c_attn") == (2, "attn.c_attn")
    assert place_of("pooler.dense") == (0, "pooler.dense")


def test_ticks_enclose_and_are_several() -> None:
    assert log_ticks(0.0127, 0.0753) == [0.01, 0.02, 0.05, 0.1]
    assert log_ticks(0.02, 0.02) == [0.01, 0.04]


def test_a_cell_of_the_numbers_is_no_formula() -> None:
    name = "=HYPERLINK(1)"
    assert f"'{name}" in drawn(report(layers=(layer(name),)))["errors"].csv()
