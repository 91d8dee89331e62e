"""The report of a compression as a worker writes it, made up."""

import math

from srr_core.recipe import named_recipe
from srr_core.report import (
    BitsPerWeight,
    Environment,
    KeptTensor,
    LayerReport,
    Measurement,
    Report,
    SizeBytes,
    SourceReport,
    TextReport,
)

SHA = "a" * 40


def report(*, layer_name: str = "model.layers.0.mlp.up_proj", perplexity: float = 38.5) -> Report:
    """Return a complete report of a run with one layer."""
    text = TextReport(sequences=4, sequence_length=32, tokens=128, token_sha256="c" * 64)
    layer = LayerReport(
        name=layer_name,
        shape=(64, 32),
        rank=8,
        preserved_rank=3,
        iterations=1,
        output_error=0.0625,
        output_error_quantized_only=0.5,
        scaled_error=0.07,
        weight_error=0.08,
        correction_ratio=0.6,
        bits_per_weight=9.25,
        calibration_tokens=128,
        seconds=0.1,
    )
    return Report(
        source=SourceReport(id="org/model", sha=SHA, architecture="LlamaForCausalLM", dtype="bfloat16"),
        recipe=named_recipe("srr"),
        bits_per_weight=BitsPerWeight(quantized=3.25, low_rank=6.0, total=9.25, stored=9.5),
        size_bytes=SizeBytes(source=10_485_760, compressed=5_242_880),
        mean_output_error=0.0625,
        measurements=(
            Measurement(
                evaluator="perplexity",
                metric="token_perplexity@32",
                title="Perplexity per token",
                unit="",
                direction="lower",
                protocol="token-level",
                source=37.0,
                compressed=perplexity,
                difference=math.log(perplexity / 37.0),
                difference_unit="nats per token",
                standard_error=0.0021,
                tokens=124,
                text=text,
            ),
        ),
        calibration=text,
        layers=(layer,),
        kept=(KeptTensor(name="lm_head.weight", reason="outside the repeated blocks"),),
        environment=Environment(
            core_version="0.1.0", versions={"torch": "2.13.0"}, device="cpu", threads=1, peak_memory_bytes=1_000_000
        ),
        seconds={"compress": 0.1},
    )
