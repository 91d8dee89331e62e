"""The score of each module, and what survives.

    python -m benchmarks.mutants [--sample N] [--seed S] [--jobs J] [MODULE ...]

A fault that no test notices is either a missing test or a change that means nothing; BENCHMARKS.md lists the latter
with the reason. Every fault of every module takes hours; a sample takes minutes and is the same for the same seed.
"""

import argparse
import os
import random
import sys
from collections import defaultdict
from contextlib import closing
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.mutants.operators import Mutant, mutants
from benchmarks.mutants.targets import TARGETS
from benchmarks.mutants.trials import (
    LIMIT_FACTOR,
    LIMIT_SECONDS,
    ROOT,
    Project,
    TestsFailError,
    Trial,
    seconds_without_fault,
    try_all,
)


def chosen(modules: list[str], *, sample: int | None, seed: int) -> dict[str, list[Mutant]]:
    """Return the faults to try, of each module at most `sample`."""
    found = {module: mutants((ROOT / module).read_text("utf-8")) for module in modules}
    if sample is None:
        return found
    # A generator for each module, so that a module's sample does not depend on which others are tried.
    return {
        module: sorted(random.Random(f"{seed} {module}").sample(every, min(sample, len(every))), key=lambda m: m.start)  # noqa: S311  # no secret
        for module, every in found.items()
    }


def score_table(trials: list[Trial], totals: dict[str, int]) -> str:
    """Return the score of each module as a Markdown table."""
    by_module: dict[str, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_module[trial.module].append(trial)
    lines = ["| module | faults | tried | killed | score |", "|---|---|---|---|---|"]
    rows = [*sorted(by_module.items()), ("all", trials)]
    for module, some in rows:
        killed = sum(trial.outcome != "survived" for trial in some)
        total = totals.get(module, sum(totals.values()))
        lines.append(f"| `{module}` | {total} | {len(some)} | {killed} | {100 * killed / max(len(some), 1):.0f} % |")
    return "\n".join(lines)


def survivors(trials: list[Trial]) -> list[str]:
    """Return one line for each fault that no test noticed."""
    left = sorted((trial for trial in trials if trial.outcome == "survived"), key=lambda t: (t.module, t.mutant.line))
    return [
        f"{trial.module}:{trial.mutant.line} {trial.mutant.operator}: {_short(trial.mutant.before)} -> "
        f"{_short(trial.mutant.after)}"
        for trial in left
    ]


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 70 else f"{line[:67]}..."


def main() -> int:
    """Run the trials and print the result; 2 when the tests fail without any fault."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.mutants", description=__doc__)
    parser.add_argument("modules", nargs="*", help="parts of the modules' paths; all by default")
    parser.add_argument("--sample", type=int, help="faults of each module at most, drawn by chance")
    parser.add_argument("--seed", type=int, default=0, help="of the sample")
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1) - 1), help="trials at once")
    given = parser.parse_args()
    modules = [module for module in TARGETS if not given.modules or any(part in module for part in given.modules)]
    faults = chosen(modules, sample=given.sample, seed=given.seed)
    totals = {module: len(mutants((ROOT / module).read_text("utf-8"))) for module in modules}
    limits: dict[str, float] = {}
    with TemporaryDirectory(prefix="mutants-") as folder, closing(Project(Path(folder))) as project:
        for tests in dict.fromkeys(TARGETS[module] for module in modules):
            try:
                limit = LIMIT_FACTOR * seconds_without_fault(project, tests) + LIMIT_SECONDS
                limits |= {module: limit for module in modules if TARGETS[module] == tests}
            except TestsFailError as error:
                print(error, file=sys.stderr)
                return 2
    pairs = [(module, mutant) for module, some in faults.items() for mutant in some]
    trials = []
    for number, trial in enumerate(try_all(pairs, dict(TARGETS), limits, jobs=given.jobs), start=1):
        trials.append(trial)
        print(
            f"{number}/{len(pairs)} {trial.outcome:8} {trial.seconds:5.0f} s {trial.module}:{trial.mutant.line}",
            flush=True,
        )
    print(f"\n{score_table(trials, totals)}\n")
    print("\n".join(survivors(trials)) or "Nothing survived.")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
