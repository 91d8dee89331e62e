"""`python -m srr_core SOURCE DESTINATION RECIPE CALIBRATION_TEXT`: the core alone, without service or Hub."""

import argparse
import sys
from pathlib import Path

from srr_core.errors import SrrError
from srr_core.pipeline import compress
from srr_core.recipe import PRESETS, named_recipe


def main(arguments: list[str] | None = None) -> int:
    """Compress a folder and print the report as JSON; return 2 with one line on stderr for bad input."""
    parser = argparse.ArgumentParser(prog="python -m srr_core", description=__doc__)
    parser.add_argument("source", type=Path, help="folder of a Hugging Face checkpoint")
    parser.add_argument("destination", type=Path, help="new folder")
    parser.add_argument("recipe", help=f"one of {', '.join(PRESETS)}")
    parser.add_argument("calibration_text", type=Path, help="UTF-8 text")
    parser.add_argument("--evaluation-text", type=Path, help="UTF-8 text for perplexity before and after")
    given = parser.parse_args(arguments)
    try:
        report = compress(
            given.source,
            named_recipe(given.recipe),
            given.destination,
            calibration_text=given.calibration_text,
            evaluation_text=given.evaluation_text,
        )
    except SrrError as error:
        sys.stderr.write(f"error: {error}\n")
        return 2
    sys.stdout.write(report.model_dump_json(indent=2) + "\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
