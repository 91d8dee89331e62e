"""The quantizers, one row per specification."""

from typing import Any

from srr_core.quantizers.base import Quantizer
from srr_core.quantizers.gptq import GPTQQuantizer
from srr_core.quantizers.integer import IntegerQuantizer
from srr_core.quantizers.learned import LearnedQuantizer
from srr_core.quantizers.mxint import MXIntQuantizer
from srr_core.quantizers.normal_float import NormalFloatQuantizer
from srr_core.quantizers.quip_sharp import QuIPSharpQuantizer
from srr_core.recipe import GPTQSpec, IntegerSpec, LearnedSpec, MXIntSpec, NormalFloatSpec, QuIPSharpSpec
from srr_core.registry import Registry

QUANTIZERS: Registry[Quantizer[Any]] = Registry(
    "quantizer",
    {
        MXIntSpec: MXIntQuantizer,
        IntegerSpec: IntegerQuantizer,
        NormalFloatSpec: NormalFloatQuantizer,
        GPTQSpec: GPTQQuantizer,
        LearnedSpec: LearnedQuantizer,
        QuIPSharpSpec: QuIPSharpQuantizer,
    },
)

__all__ = ["QUANTIZERS", "Quantizer"]
