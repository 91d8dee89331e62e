"""GSM8K as the published runs prompt and score it.

Source: the training script of LoftQ (arXiv:2310.08659, MIT), whose wording QERA and SRR share: numbers are comparable
only under these words.
"""

import math
import re

QUESTION_ENDING = "\nAnswer the above question. First think step by step and then answer the final number.\n"
ANSWER_PHRASE = "The final answer is: "
REFERENCE_MARK = "####"
_NUMBER = re.compile(r"-?\d[\d,]*(?:\.\d+)?|-?\.\d+")


def prompt_of(question: str) -> str:
    """Return what the model is given."""
    return f"{question}{QUESTION_ENDING}"


def target_of(answer: str) -> str:
    """Return what the model is taught to say: the reference, its mark replaced by the phrase."""
    return answer.replace(f"{REFERENCE_MARK} ", ANSWER_PHRASE).replace(REFERENCE_MARK, ANSWER_PHRASE)


def reference_number(answer: str) -> float | None:
    """Return the number behind the mark of a reference, or None where there is none."""
    _, mark, behind = answer.rpartition(REFERENCE_MARK)
    return _first_number(behind) if mark else None


def strict_number(text: str) -> float | None:
    """Return the number right behind the answer phrase; None where the phrase or the number is missing."""
    _, phrase, behind = text.partition(ANSWER_PHRASE.strip())
    return _first_number(behind) if phrase else None


def flexible_number(text: str) -> float | None:
    """Return the number behind the answer phrase, else the last number of the text: the published scoring."""
    found = strict_number(text)
    if found is not None:
        return found
    numbers = _NUMBER.findall(text)
    return _value(numbers[-1]) if numbers else None


def is_right(found: float | None, reference: float | None) -> bool:
    """Whether two numbers are the same."""
    return found is not None and reference is not None and math.isclose(found, reference, rel_tol=1e-6, abs_tol=1e-6)


def _first_number(text: str) -> float | None:
    match = _NUMBER.search(text)
    return _value(match.group()) if match else None


def _value(text: str) -> float:
    return float(text.replace(",", ""))
