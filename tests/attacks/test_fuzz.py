"""Files of a model broken in thousands of ways: each is read, or refused in our own words, and nothing else happens.

Seeded, so a failure comes back; the reader, the file and the number of the fault are in its message. What the readings
cost at most is measured by `python -m benchmarks.hostile_files`.
"""

from pathlib import Path

import pytest

from tests.attacks.broken_files import broken_file
from tests.attacks.reading import READERS, end_of

ROUNDS = {"inspect": 400, "plan": 15, "compress": 4, "load": 20, "train": 10}
"""By what a reading costs: the service reads a thousand a second, the core loads its libraries' classes each time."""
EACH = [
    pytest.param(reader, name, id=f"{reader}-{name}") for reader, row in READERS.items() for name in sorted(row.files)
]


@pytest.mark.parametrize(("reader", "name"), EACH)
def test_whatever_a_file_holds_it_is_read_or_refused(tmp_path: Path, reader: str, name: str) -> None:
    folder = tmp_path / "model"
    READERS[reader].build(folder)
    read = READERS[reader].read
    sound = (folder / name).read_bytes()
    assert end_of(read, folder) == "read"

    ends = []
    for number in range(ROUNDS[reader]):
        (folder / name).write_bytes(broken_file(name, sound, number))
        ends.append(end_of(read, folder))

    assert [
        f"{reader} {name} {number}: {end}" for number, end in enumerate(ends) if end not in {"read", "refused"}
    ] == []
    assert ends.count("refused") > 0 or name == "generation_config.json"


def test_a_fault_of_a_reader_would_be_found(tmp_path: Path) -> None:
    def read(folder: Path) -> None:
        raise KeyError("num_hidden_layers")

    assert end_of(read, tmp_path) == "KeyError: 'num_hidden_layers'"
