"""Every form of training data gives the same rows; what cannot be read is refused with its line."""

import subprocess
import sys

import pytest

from srr_core.errors import TrainingDataError
from srr_core.tuners import rows
from srr_core.tuners.rows import read_rows

EXPECTED = [(1, {"text": 'a "quoted", ü', "label": "1"}), (2, {"text": "b", "label": "0"})]
FILES = {
    "a.jsonl": '{"text": "a \\"quoted\\", ü", "label": "1"}\n{"text": "b", "label": "0"}\n',
    "a.csv": 'text,label\n"a ""quoted"", ü",1\nb,0\n',
    "a.tsv": 'text\tlabel\na "quoted", ü\t1\nb\t0\n',
}


def read(file, **options):
    return [(row.number, dict(row.values)) for row in read_rows(file, **options)]


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "byte-order-mark"])
def test_rows_are_the_same_in_every_form(tmp_path, name, mark):
    (tmp_path / name).write_text(mark + FILES[name], encoding="utf-8")
    assert read(tmp_path / name) == EXPECTED


def test_format_may_be_named_where_the_ending_says_nothing(tmp_path):
    (tmp_path / "a.data").write_text(FILES["a.jsonl"], encoding="utf-8")
    assert read(tmp_path / "a.data", form="jsonl") == EXPECTED
    with pytest.raises(TrainingDataError, match=r"a\.data ends with none of"):
        read(tmp_path / "a.data")


@pytest.mark.parametrize(
    ("unit", "expected"),
    [("file", [(1, "a\nb\n\nc")]), ("paragraph", [(1, "a\nb"), (4, "c")]), ("line", [(1, "a"), (2, "b"), (4, "c")])],
)
def test_text_is_cut_into_the_units_that_were_asked_for(tmp_path, unit, expected):
    (tmp_path / "a.txt").write_text("a\nb\n\nc\n", encoding="utf-8")
    found = [(number, values["text"].rstrip("\n")) for number, values in read(tmp_path / "a.txt", unit=unit)]
    assert found == expected


def test_field_of_a_csv_may_hold_lines_and_be_long(tmp_path):
    (tmp_path / "a.csv").write_text(f'text\n"{"x" * 200_000}\ny"\n', encoding="utf-8")
    ((_, values),) = read(tmp_path / "a.csv")
    assert values["text"] == "x" * 200_000 + "\ny"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", b'{"text": "a"}\n{"text": \n', "row 2: is no JSON"),
        ("a.jsonl", b'{"text": "a"}\n\n[1]\n', "row 3: is a list"),
        ("a.jsonl", b"[" * 100_000, "row 1: is n"),
        ("a.jsonl", b'{"text": "a"}\n{"text": "\xff"}\n', r"line 2: is not UTF-8 text \(byte 10"),
        ("a.txt", b"fine\nfine\n\xc3(\n", "line 3: is not UTF-8"),
        ("a.csv", b"text,label\na,1\nb\n", "row 2: has 1 fields, its first line names 2"),
        ("a.csv", b"text,text\na,1\n", "names a column twice"),
        ("a.csv", b'text\n"a\n', "line"),
        ("a.parquet", b"PAR1", "pyarrow"),
    ],
)
def test_what_cannot_be_read_is_refused_with_its_place(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(TrainingDataError, match=message) as caught:
        read(tmp_path / name)
    assert name in str(caught.value)


def test_missing_file_is_refused(tmp_path):
    with pytest.raises(TrainingDataError, match="cannot be read"):
        read(tmp_path / "a.jsonl")


class PyArrow:
    """As much of pyarrow.parquet as is used."""

    class ParquetFile:
        def __init__(self, file):
            pass

        def iter_batches(self):
            for batch in (EXPECTED[:1], EXPECTED[1:]):
                yield type("Batch", (), {"to_pylist": lambda self, batch=batch: [values for _, values in batch]})()


def test_parquet_is_read_where_pyarrow_is_there(tmp_path, monkeypatch):
    monkeypatch.setattr(rows.importlib, "import_module", lambda name: PyArrow)
    assert read(tmp_path / "a.parquet") == EXPECTED


def test_rows_are_read_without_torch():
    code = "import sys, srr_core.tuners.dataset; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
