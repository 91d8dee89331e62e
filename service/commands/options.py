"""Options that several commands of `srr` share."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class Device(StrEnum):
    """Where to compute."""

    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


RecipeOption = Annotated[
    str | None,
    typer.Option(
        "--recipe",
        "-r",
        help="A name from `srr recipes`, or a JSON file.",
        metavar="NAME|FILE",
        show_default="srr; srr-fast with a target of bits, size or KL",
    ),
]
SetOption = Annotated[
    list[str],
    typer.Option("--set", help="Replace a field of the recipe; may be repeated.", metavar="quantizer.num_bits=3"),
]
CalibrationOption = Annotated[
    Path | None,
    typer.Option("--calibration-text", help="UTF-8 text to calibrate on.", metavar="FILE", exists=True, dir_okay=False),
]
EvaluationOption = Annotated[
    Path | None,
    typer.Option(
        "--evaluation-text", help="UTF-8 text to measure the result on.", metavar="FILE", exists=True, dir_okay=False
    ),
]
TargetOption = Annotated[
    str | None,
    typer.Option(
        "--target",
        help="What will run the result: any, transformers, vllm, sglang, llama.cpp, gptq or srr.",
        show_default=False,
    ),
]
TargetBitsOption = Annotated[
    float | None,
    typer.Option("--target-bits", help="Stored bits per compressed weight, spent where they count most."),
]
TargetSizeOption = Annotated[
    str | None, typer.Option("--target-size", help="All weight files together: 4GiB, 800MiB or 4GB.", metavar="SIZE")
]
TargetKLOption = Annotated[
    float | None,
    typer.Option(
        "--target-kl", help="Divergence from the source, in nats per token, that the smallest result may have."
    ),
]
SeedOption = Annotated[int | None, typer.Option("--seed", min=0, help="Seed of the randomized parts.")]
TokenOption = Annotated[
    str | None, typer.Option("--hub-token", envvar="SRR_HUB_TOKEN", help="Hub token for this job.", show_default=False)
]
