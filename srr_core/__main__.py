"""`python -m srr_core SOURCE DESTINATION RECIPE CALIBRATION_TEXT`: the core alone, without service or Hub."""

import argparse
import sys
from pathlib import Path

from srr_core.errors import SrrError
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, named_recipe, override, parse_assignments

_EXIT_BAD_INPUT, _EXIT_INTERRUPTED = 2, 130


def main(arguments: list[str] | None = None) -> int:
    """Compress a folder and print the report as JSON; return 2 with one line on stderr for bad input, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(prog="python -m srr_core", description=__doc__)
    parser.add_argument("source", type=Path, help="folder of a Hugging Face checkpoint")
    parser.add_argument("destination", type=Path, help="new folder")
    parser.add_argument("recipe", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("calibration_text", type=Path, help="UTF-8 text")
    parser.add_argument("--evaluation-text", type=Path, help="UTF-8 text to measure the result on")
    parser.add_argument("--set", action="append", default=[], metavar="PATH=VALUE", help="replace a recipe's field")
    parser.add_argument("--seed", type=int, help="seed of the randomized parts")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    given = parser.parse_args(arguments)
    try:
        changes = parse_assignments(given.set) | ({} if given.seed is None else {"seed": given.seed})
        report = compress(
            given.source,
            override(named_recipe(given.recipe), changes),
            given.destination,
            calibration_text=given.calibration_text,
            evaluation_text=given.evaluation_text,
            device=given.device,
        )
    except SrrError as error:
        sys.stderr.write(f"error: {error}\n")
        return _EXIT_BAD_INPUT
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the first unfinished layer\n")
        return _EXIT_INTERRUPTED
    sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
