"""A process that has imported the large libraries and forks for every run of pytest, which saves most of its time.

It reads one JSON object a line, `{"tests": [...], "limit": seconds or null}`, and answers each with an exit status, or
`timeout`. Nothing of the project is imported here, so that every run sees its own version of it.
"""

import contextlib
import importlib
import json
import os
import select
import signal
import sys

LIBRARIES = (
    "torch",
    "transformers.models.auto.modeling_auto",
    "transformers.models.llama.modeling_llama",
    "compressed_tensors",
    "peft",
    "hypothesis",
    "beartype",
    "jaxtyping",
    "sqlalchemy",
    "structlog",
    "pydantic",
    "huggingface_hub",
    "pytest",
)

OUTPUT = ".mutants.log"
"""What the latest run said, in the folder of the project."""
OPTIONS = (
    *("-q", "-x", "-m", "not slow", "-p", "no:cacheprovider", "--basetemp=.scratch"),
    # What this process has imported for all of them is no fault of a run.
    *("-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"),
)


def main() -> None:
    """Answer until the input ends."""
    for name in LIBRARIES:
        with contextlib.suppress(ImportError):
            importlib.import_module(name)
    print("ready", flush=True)
    for line in sys.stdin:
        asked = json.loads(line)
        print(_answer(asked["tests"], asked["limit"]), flush=True)


def _answer(tests: list[str], limit: float | None) -> str:
    child = os.fork()
    if child == 0:
        os.setsid()
        _run(tests)
    with open(os.pidfd_open(child), "rb") as ended:  # noqa: PTH123  # a descriptor, not a path
        poll = select.poll()
        poll.register(ended, select.POLLIN)
        is_over = bool(poll.poll(None if limit is None else limit * 1000))
    if not is_over:
        os.killpg(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    return str(os.waitstatus_to_exitcode(status)) if is_over else "timeout"


def _run(tests: list[str]) -> None:
    code = 1
    try:
        output = os.open(OUTPUT, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(output, 1)
        os.dup2(output, 2)
        code = int(importlib.import_module("pytest").main([*OPTIONS, *tests]))
    finally:
        os._exit(code)


if __name__ == "__main__":
    main()
