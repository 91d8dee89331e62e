"""Every class of transformers' automatic tables, tried one by one; the table of verdicts goes into the repository.

    python -m tests.zoo.sweep [--groups causal,masked] [--only llama,bert] [--limit 50] [--shard 0/2] [--fresh]

A run goes on from the rows that are there; `--fresh` begins again, `--only` tries what is named anew.
"""

import argparse
import os
import sys
from collections import Counter, defaultdict
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.zoo.specimens import GROUPS, Specimen, specimens
from tests.zoo.trial import Trial, try_specimen

TABLE = Path(__file__).with_name("TABLE.tsv")
COLUMNS = ("group", "model", "class", "verdict", "layout", "share_of_blocks", "off", "detail")
ENOUGH = 0.9
"""Part of the bytes in the blocks from which a class counts as compressed."""
DETAIL = 160
"""Characters of a reason in the table."""


def row(trial: Trial) -> tuple[str, ...]:
    """Return the row of a trial."""
    found = trial.specimen
    share = "" if trial.share is None else f"{trial.share:.2f}"
    off = "" if not trial.off else f"{max(trial.off.values()):.0e}"
    detail = " ".join(trial.detail.split())[:DETAIL]
    return (found.group, found.name, found.class_name, trial.verdict, trial.layout, share, off, detail)


def read_table() -> dict[tuple[str, str], tuple[str, ...]]:
    """Return the rows that are there, by group and model."""
    if not TABLE.exists():
        return {}
    rows = [tuple(line.split("\t")) for line in TABLE.read_text().splitlines()[1:]]
    return {(cells[0], cells[1]): cells for cells in rows}


def write_table(rows: dict[tuple[str, str], tuple[str, ...]]) -> None:
    """Write all rows in the order of the groups."""
    order = {name: index for index, name in enumerate((*GROUPS, "variant"))}
    ordered = sorted(rows.values(), key=lambda cells: (order[cells[0]], cells[1]))
    partial = TABLE.with_suffix(f".{os.getpid()}")
    partial.write_text("".join("\t".join(cells) + "\n" for cells in (COLUMNS, *ordered)))
    partial.replace(TABLE)  # another shard may be reading


def summary(rows: dict[tuple[str, str], tuple[str, ...]]) -> str:
    """Return a line for each group: how many of the classes that can be built are compressed as they should be."""
    groups: dict[str, list[tuple[str, ...]]] = defaultdict(list)
    for cells in rows.values():
        if cells[3] != "not built":
            groups[cells[0]].append(cells)
    lines = []
    for group, members in groups.items():
        verdicts = Counter(cells[3] for cells in members)
        enough = sum(cells[3] in {"stock", "own"} and float(cells[5]) >= ENOUGH for cells in members)
        told = ", ".join(f"{count} {verdict}" for verdict, count in verdicts.most_common())
        lines.append(f"{group}: {enough} of {len(members)} ({100 * enough / len(members):.0f} %); {told}")
    return "\n".join(lines)


def main() -> None:
    """Try what was asked for and write the table after every specimen."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--groups", default=",".join((*GROUPS, "variant")))
    parser.add_argument("--only", default="")
    parser.add_argument("--fresh", action="store_true")
    parser.add_argument("--limit", type=int, help="try so many and stop")
    parser.add_argument("--shard", default="0/1", help="every n-th class from the m-th on, as m/n")
    options = parser.parse_args()
    only, groups = set(filter(None, options.only.split(","))), options.groups.split(",")
    rows = read_table()
    first, step = (int(number) for number in options.shard.split("/"))
    wanted = [
        specimen
        for number, specimen in enumerate(specimens())
        if number % step == first
        and specimen.group in groups
        and _is_wanted(specimen, rows, only, is_fresh=options.fresh)
    ]
    with TemporaryDirectory(prefix="zoo-") as folder:
        for specimen in wanted[: options.limit]:
            trial = try_specimen(specimen, Path(folder) / "specimen")
            # Read again, because another shard may have written meanwhile.
            rows = {**read_table(), (specimen.group, specimen.name): row(trial)}
            write_table(rows)
            sys.stdout.write("\t".join(row(trial)) + "\n")
            sys.stdout.flush()
    sys.stdout.write(summary(rows) + "\n")


def _is_wanted(
    specimen: Specimen, rows: dict[tuple[str, str], tuple[str, ...]], only: set[str], *, is_fresh: bool
) -> bool:
    if only:
        return specimen.name in only or specimen.model_type in only
    return is_fresh or (specimen.group, specimen.name) not in rows


if __name__ == "__main__":
    main()
