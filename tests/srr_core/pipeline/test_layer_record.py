"""Records of layers, as this version and others wrote them."""

import pytest

from srr_core.pipeline.layer_record import LayerRecord, read_layer_record
from tests.srr_core.pipeline.test_work_folder import record


def test_a_record_is_read_as_it_was_written() -> None:
    stored = record("layer").model_dump(mode="json")

    assert stored["schema_version"] == 2
    assert read_layer_record(stored) == record("layer")


def test_a_record_of_the_first_version_is_brought_up_to_date() -> None:
    now = record("layer").model_dump(mode="json")
    first = {
        "name": "layer",
        "digest": "d",
        "tensors": {"base": ["a"], "adapter": ["b", "c"]},
        "report": now["report"],
    }

    assert read_layer_record(first) == record("layer").model_copy(update={"adapter_tensors": ("b", "c")})


def test_what_a_later_version_added_is_passed_over() -> None:
    stored = record("layer").model_dump(mode="json")
    later = {**stored, "schema_version": 7, "energy": 1, "report": {**stored["report"], "mood": "good"}}

    assert read_layer_record(later) == record("layer")


@pytest.mark.parametrize(
    "stored", [{}, {"schema_version": 2}, {"name": "layer", "tensors": []}, {"name": "layer", "tensors": {}}], ids=repr
)
def test_what_is_no_record_is_refused(stored: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"LayerRecord|no record"):
        read_layer_record(stored)


def test_a_record_that_is_written_has_no_unknown_field() -> None:
    with pytest.raises(ValueError, match="energy"):
        LayerRecord.model_validate({**record("layer").model_dump(), "energy": 1})
