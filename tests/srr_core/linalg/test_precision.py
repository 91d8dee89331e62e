"""The scope without TF32, whichever interface of torch the caller chose TF32 by."""

from collections.abc import Callable, Iterator

import pytest
import torch

from srr_core.linalg.precision import exact_matmul
from srr_core.quantizers import QUANTIZERS
from srr_core.recipe import PRESETS, MXIntSpec, override
from srr_core.srr import decompose
from srr_core.types import QuantizedTensor
from tests.srr_core.problems import build_method, random_problem

MATMULS = (torch.backends.cuda.matmul, torch.backends.mkldnn.matmul)


def _set(owner: object, attribute: str, value: object) -> Callable[[], None]:
    return lambda: setattr(owner, attribute, value)


CHOICES: dict[str, Callable[[], None]] = {
    "nothing": lambda: None,
    "older, high": lambda: torch.set_float32_matmul_precision("high"),
    "older, medium": lambda: torch.set_float32_matmul_precision("medium"),
    "older, allow_tf32": _set(torch.backends.cuda.matmul, "allow_tf32", True),
    "newer, everywhere": _set(torch.backends, "fp32_precision", "tf32"),
    "newer, on CUDA": _set(torch.backends.cuda.matmul, "fp32_precision", "tf32"),
    "newer, on the CPU": _set(torch.backends.mkldnn.matmul, "fp32_precision", "bf16"),
}


@pytest.fixture(autouse=True)
def as_before() -> Iterator[None]:
    """Leave torch as it starts."""
    yield
    torch.backends.fp32_precision = "none"
    torch.set_float32_matmul_precision("highest")
    for matmul in MATMULS:
        matmul.fp32_precision = "none"


def _state() -> list[str]:
    found = [matmul.fp32_precision for matmul in MATMULS]
    try:
        return [*found, torch.get_float32_matmul_precision()]
    except RuntimeError:  # the two interfaces disagree
        return [*found, "unreadable"]


@pytest.mark.parametrize("choice", CHOICES)
def test_the_scope_is_exact_and_restores_what_the_caller_chose(choice: str) -> None:
    CHOICES[choice]()
    before = _state()
    with exact_matmul(), exact_matmul():
        inside = _state()
    assert inside == ["ieee", "ieee", "highest"]
    assert _state() == before


def test_the_choice_is_restored_after_an_error() -> None:
    torch.set_float32_matmul_precision("high")
    with pytest.raises(KeyError), exact_matmul():
        raise KeyError
    assert torch.get_float32_matmul_precision() == "high"


def test_a_scope_inside_a_general_choice_does_not_pin_it() -> None:
    torch.backends.fp32_precision = "tf32"
    with exact_matmul():
        pass
    torch.backends.fp32_precision = "ieee"
    assert [matmul.fp32_precision for matmul in MATMULS] == ["ieee", "ieee"]


def test_a_decomposition_is_exact_from_end_to_end() -> None:
    torch.set_float32_matmul_precision("high")
    problem = random_problem()
    recipe = override(PRESETS["qera-approx"], {"rank": 8, "quantizer.block_size": 16})
    method, quantizer = build_method(recipe, problem.statistics), QUANTIZERS.build(recipe.quantizer)
    seen = []

    def quantize(weight: torch.Tensor) -> QuantizedTensor:
        seen.append(_state())
        return quantizer.quantize(weight)

    decompose(problem.weight, method, quantize)

    assert seen == [["ieee", "ieee", "highest"]]
    assert torch.get_float32_matmul_precision() == "high"


def test_a_quantizer_is_exact_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.set_float32_matmul_precision("high")
    quantizer = QUANTIZERS.build(MXIntSpec())
    rounding, seen = quantizer._quantize, []

    def watched(*args: object, **options: object) -> QuantizedTensor:
        seen.append(_state())
        result: QuantizedTensor = rounding(*args, **options)  # type: ignore[arg-type]
        return result

    monkeypatch.setattr(quantizer, "_quantize", watched)
    quantizer.quantize(torch.ones(2, 32))
    assert seen == [["ieee", "ieee", "highest"]]
