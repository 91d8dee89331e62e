"""lm-evaluation-harness as a library: imported when it is needed, and kept quiet."""

import contextlib
import importlib
import io
import logging
import warnings
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

from srr_core.errors import EvaluationError
from srr_core.evaluators.pages import HARNESS_EXTRA

_LOUD = ("lm_eval", "datasets", "evaluate", "fsspec", "transformers")
BUNDLED_TASKS = Path(__file__).parent / "tasks"
"""Our own small task set: YAML files with their data beside them."""


def harness_module(name: str) -> Any:
    """Return a module of lm-eval, or of the libraries that come with it. The first call takes seconds.

    Raises:
        EvaluationError: it is not installed; the message says how to install it.
    """
    try:
        with quiet():
            return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise EvaluationError(
            f"harness tasks are run by lm-eval, and {error.name} is not installed: {HARNESS_EXTRA}"
        ) from error


def harness_version() -> str:
    """Return the version of lm-eval, as protocols name it."""
    harness_module("lm_eval")
    return version("lm_eval")


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Keep the harness's bars, warnings and logs off the terminal: what matters of them is in the result.

    Standard error is replaced for the whole process meanwhile; who shows progress there keeps the stream itself.
    """
    loggers = [logging.getLogger(name) for name in _LOUD]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.CRITICAL)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
