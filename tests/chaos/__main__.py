"""`python -m tests.chaos`: a run from the command line. The last line is its result; status 1: it does not hold."""

import argparse
import os
import random
import sys
import tempfile
from pathlib import Path

from tests.chaos.driver import run
from tests.chaos.installation import remove


def main() -> int:
    """Run, print, and keep what is needed to find out more when something does not hold."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 31))
    parser.add_argument("--faults", type=int, default=300)
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument(
        "--minutes", type=float, default=15.0, help="When the faults end; the jobs are seen to their end."
    )
    parser.add_argument("--directory", type=Path, help="Where everything is kept; default: a temporary directory.")
    parser.add_argument("--quiet", action="store_true", help="Print the result only.")
    chosen = parser.parse_args()
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    directory = Path(tempfile.mkdtemp(prefix="srr-chaos-", dir=chosen.directory))
    sys.stdout.write(f"seed {chosen.seed}, in {directory}\n")

    def tell(line: str) -> None:
        if not chosen.quiet:
            sys.stdout.write(f"{line}\n")
            sys.stdout.flush()

    outcome = run(
        directory, seed=chosen.seed, jobs=chosen.jobs, faults=chosen.faults, seconds=chosen.minutes * 60, tell=tell
    )
    for violation in outcome.findings.violations():
        sys.stdout.write(f"{violation}\n")
    sys.stdout.write(f"{outcome.line()}\n")
    if outcome.holds:
        remove(directory)
    return 0 if outcome.holds else 1


if __name__ == "__main__":
    sys.exit(main())
