"""`--set` means the same in whatever order it is written."""

import itertools

from srr_core.recipe import named_recipe, override


def test_a_kind_does_not_discard_fields_that_were_given_before_it() -> None:
    given = {"quantizer.num_bits": 2, "quantizer.kind": "integer", "quantizer.group_size": 64}
    found = [override(named_recipe("srr"), dict(order)) for order in itertools.permutations(given.items())]
    assert {(one.quantizer.kind, one.quantizer.bits_per_weight) for one in found} == {
        (found[0].quantizer.kind, found[0].quantizer.bits_per_weight)
    }
    assert found[0].model_dump()["quantizer"]["num_bits"] == 2
