"""What a command shows of a job where there is no terminal."""

import pytest

from service.commands.progress import ProgressBar


def test_stages_that_alternate_are_printed_once_an_attempt(capsys: pytest.CaptureFixture[str]) -> None:
    with ProgressBar("title") as progress:
        for _ in range(2):
            progress.show("state", {"state": "running"})
            for stage in ("compress", "calibrate", "compress", "calibrate", "verify"):
                progress.show("progress", {"stage": stage, "progress": 0.5})
    attempt = ["running", "compress", "calibrate", "verify"]
    assert capsys.readouterr().err.split() == ["title", *attempt, *attempt]
