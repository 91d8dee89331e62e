"""A small real model and two texts, so that everything can be tried offline; see README.md beside them."""

from pathlib import Path

_HERE = Path(__file__).resolve().parent

DEMO_MODEL = _HERE / "tiny-llama"
"""A Llama of 6.5 M parameters trained on real text: a folder as the Hub would hold it, safetensors, bf16."""

CALIBRATION_TEXT = _HERE / "wikitext2_calibration.txt"
"""A slice of the WikiText-2 validation text: more than 200 windows of 256 tokens of the demo model."""

EVALUATION_TEXT = _HERE / "wikitext2_evaluation.txt"
"""A slice of the WikiText-2 test text: more than 200 windows of 256 tokens of the demo model."""
